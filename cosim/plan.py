"""What a co-simulation runs: generators that yield jobs, take their outcomes and return what was found.

The same plans run on the compiled model and under cocotb: whoever drives one runs each job that it yields and sends the outcome
back.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cosim.compare import Mismatch, compare_run, expected_length
from cosim.compile import LayerJob, compile_layer
from cosim.outcome import Outcome
from cosim.random_layers import draw_job
from hwsim.core.arch import Arch
from hwsim.core.datapath import Datapath, LayerData, Workload
from hwsim.core.errors import HwsimError, SpecError, UnknownName
from hwsim.core.layer import Layer
from hwsim.core.network import Network
from hwsim.core.policy import Policy
from hwsim.core.tensors import Array, Tensors
from hwsim.quant.uniform import choose_dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerResult:
    """One layer's comparison.

    Parameters
    ----------
    name, text : str
        The layer; what is worth saying about it.
    cycles, expected_cycles : int
        Of the hardware, of the simulator.
    elements, equal_elements : int
        Of the output tensor.
    instructions : int
    host_cycles : int
        Simulated cycles of the hardware, parameters and register accesses included.
    rtl_seconds, simulator_seconds : float
        CPU time of the run; of lowering and timing the same layer.
    mismatches : tuple of Mismatch
        Empty if all is equal.
    skipped : str
        Why the layer did not run on the hardware; empty if it did.
    """

    name: str
    text: str = ""
    cycles: int = 0
    expected_cycles: int = 0
    elements: int = 0
    equal_elements: int = 0
    instructions: int = 0
    host_cycles: int = 0
    rtl_seconds: float = 0.0
    simulator_seconds: float = 0.0
    mismatches: tuple[Mismatch, ...] = ()
    skipped: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ask:
    """What a plan asks for: a job to run, and whether the hardware is reset before it."""

    job: LayerJob
    stress: int | None = None
    reset: bool = False


Plan = Generator[Ask, Outcome, tuple[LayerResult, ...]]


def judge(ask: Ask, outcome: Outcome, name: str, text: str = "") -> LayerResult:
    """Return the comparison of one run; under random back-pressure cycles are reported, not compared."""
    job = ask.job
    wanted, found = job.output.read(job.wanted), job.output.read(outcome.image)
    return LayerResult(
        name=name, text=text, cycles=outcome.cycles, expected_cycles=expected_length(job), elements=wanted.size,
        equal_elements=int((wanted == found).sum()), instructions=len(job.table), host_cycles=outcome.host_cycles,
        rtl_seconds=outcome.seconds, simulator_seconds=job.simulator_seconds,
        mismatches=compare_run(job, outcome, exact_cycles=ask.stress is None),
    )  # fmt: skip


def plan_random(arch: Arch, seed: int, numbers: Iterable[int], stress: int | None = None) -> Plan:
    """Return the plan of random layers: each behind the one before on the same hardware.

    A layer that differs runs once more from reset: what is said of it tells whether the layer before mattered.
    """
    results = []
    for number in numbers:
        drawn = draw_job(arch, seed, number)
        ask = Ask(job=drawn.job, stress=None if stress is None else stress + number)
        name = f"seed {seed} number {number}"
        result = judge(ask, (yield ask), name, drawn.text)
        if result.mismatches:
            again = Ask(job=ask.job, stress=ask.stress, reset=True)
            fresh = judge(again, (yield again), name, drawn.text)
            text = drawn.text + ("" if fresh.mismatches else "; from reset it is equal")
            result = replace(fresh if fresh.mismatches else result, text=text)
        results.append(result)
    return tuple(results)


@dataclass(slots=True, kw_only=True, eq=False)
class NetworkRun:
    """A network that runs layer by layer, the hardware's own output being the next layer's input.

    Parameters
    ----------
    network : Network
    arch : Arch
    policy : Policy
    tensors : Tensors
        Float or quantized.
    image : mapping
        Input arrays by name.
    layer : str
        Only this one runs on the hardware; empty: all that can.
    stress : int, optional
        Seed of random back-pressure.
    outputs : dict
        Filled: stored output of every layer that was computed.
    """

    network: Network
    arch: Arch
    policy: Policy
    tensors: Tensors
    image: Mapping[str, Any]
    layer: str = ""
    stress: int | None = None
    outputs: dict[str, Array] = field(default_factory=dict)

    def plan(self) -> Plan:
        """Return the plan.

        Raises
        ------
        UnknownName
            No such layer.
        SpecError
            The named layer cannot run on the hardware; or none of the network can.
        """
        from hwsim.engine.execute_parameters import is_executable
        from hwsim.engine.functional import quantize_inputs
        from hwsim.engine.functional_integer import IntegerModel, complete_quants
        from hwsim.pipeline.tensors import prepare_tensors
        from hwsim.pipeline.workloads import list_workloads

        network = self.network
        if self.layer and self.layer not in {layer.name for layer in network.layers}:
            raise UnknownName("layer", self.layer, [layer.name for layer in network.layers])
        loads = list_workloads(network, self.policy)
        prepared = prepare_tensors(network, self.arch, self.policy, loads, self.tensors, self.image)
        tensors = prepared.tensors
        model, quants = IntegerModel(network, tensors), complete_quants(network, tensors)
        self.outputs |= quantize_inputs(network, tensors, dict(self.image))
        results = []
        for layer in network.layers:
            operands = [self.outputs[name] for name in layer.inputs]
            wanted = model.execute(layer, operands)
            self.outputs[layer.name] = wanted
            if self.layer and layer.name != self.layer:
                continue
            skipped = ""
            if layer.kind not in ("mac", "vector"):
                skipped = "address generation"
            elif not is_executable(layer, tensors, quants) or any(x.dtype.kind == "f" for x in operands):
                skipped = "no Program computes it in integers"
            else:
                codec = prepared.stored[layer.name].codec if layer.name in prepared.stored else None
                try:
                    ask = Ask(
                        job=self._compile(loads[layer.name], tensors, quants, codec, operands), stress=self.stress
                    )
                except SpecError as error:
                    skipped = str(error)
            if skipped:
                if self.layer:
                    raise SpecError(f"layer {layer.name}", layer.op, "a layer that the hardware runs", skipped)
                results.append(LayerResult(name=layer.name, skipped=skipped))
                continue
            outcome = yield ask
            result = judge(ask, outcome, layer.name, _describe(layer))
            found = ask.job.output.read(outcome.image)
            if not result.mismatches and not np.array_equal(found, wanted):
                raise AssertionError(f"layer {layer.name}: executed Program and functional model differ")
            out = quants[layer.name]
            self.outputs[layer.name] = found.astype(choose_dtype(out.bits, out.signed))
            results.append(result)
            if self.layer or result.mismatches:  # what follows would run on wrong inputs
                break
        if all(result.skipped for result in results):
            raise HwsimError(f"no layer of {network.name} runs on the hardware: {results[0].skipped}")
        return tuple(results)

    def _compile(
        self, load: Workload, tensors: Tensors, quants: Mapping[str, Any], codec: Any, operands: list[Array]
    ) -> LayerJob:
        from hwsim.engine.execute_parameters import derive_parameters
        from hwsim.pipeline.prices import choose_prices
        from mappers.cache import open_cache

        layer, arch, weight = load.layer, self.arch, None
        if layer.kind == "mac":
            arch.check(load)
            weight = np.asarray(tensors.layers[layer.name].weight).reshape(-1, layer.C, layer.R, layer.S)
        data = None
        if arch.needs_data and layer.kind == "mac":
            data = LayerData(activation=operands[0], zero_point=quants[layer.inputs[0]].zero_point, codec=codec)
        datapath: Datapath = arch.bind(load, data)
        mapping = (
            open_cache().renew().find(datapath, arch, choose_prices(arch, None).make_objective("cycles", datapath))
        )
        return compile_layer(datapath, arch, mapping, derive_parameters(layer, tensors, quants), weight, operands)


def _describe(layer: Layer) -> str:
    from cosim.random_layers import describe_layer

    return describe_layer(layer)
