"""`simulate`: objects or names in, a Report out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from accel_rtl.fpga_results import FpgaRecord, find_clock
from accel_rtl.parts import find_part
from hwsim.core.arch import Arch
from hwsim.core.datapath import Datapath, LayerData, Workload
from hwsim.core.errors import HwsimError
from hwsim.core.layer import Layer
from hwsim.core.mapping import Mapping as MappedTo
from hwsim.core.network import Network
from hwsim.core.policy import LayerFormat, Policy
from hwsim.core.program import LayerTrace
from hwsim.core.report import AreaItem, Report
from hwsim.core.shell import Memory
from hwsim.core.stats import STALLS, LayerCost, LayerStats
from hwsim.core.tensors import Tensors
from hwsim.pipeline.layer import run_layer
from hwsim.pipeline.prices import Prices, choose_prices
from hwsim.pipeline.provenance import Sources, write_provenance
from hwsim.pipeline.tensors import check_finite, check_sizes, fit_inputs, prepare_tensors, stream_data
from hwsim.pipeline.widen import widen_by_policy
from hwsim.pipeline.workloads import list_stored_bits, list_workloads, peak_activation_bits
from mappers.cache import MappingCache, open_cache
from mappers.objective import Objective

Progress = Callable[[str, int, int], None]
"""Called with a layer's name, its index and the number of layers."""
FindMapping = Callable[[Datapath, Arch, Objective], MappedTo]
"""How the mapping of a layer is found: by search (`mappers.search.find_mapping`) or by a cache in front of it."""


def simulate(
    network: Network | str,
    arch: Arch | str = "systolic",
    *,
    preset: str | None = None,
    policy: Policy | str | None = None,
    batch: int = 1,
    tensors: Tensors | None = None,
    image: Mapping[str, Any] | None = None,
    objective: str = "cycles",
    energy_table: str | None = None,
    fpga: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Report:
    """Simulate a network on an accelerator.

    Parameters
    ----------
    network : Network or str
        A network, a name of the zoo, or a path to an ``.onnx`` or ``.tflite`` file.
    arch : Arch or str
        An accelerator, or the name of an architecture.
    preset : str, optional
        Preset of a named architecture.
    policy : Policy or str, optional
        Number formats, e.g. ``w4a8``, or the path of a policy file (`hwsim.policies.read`); by default those of a quantized
        network, else ``w8a8``.
    batch : int
        Images of one pass.
    tensors : Tensors, optional
        Weights; synthetic ones (declared in the report) where none are given and the architecture's time depends on data.
    image : mapping, optional
        Input arrays by name, ``[N, C, H, W]`` float; a declared random field otherwise.
    objective : str
        What the mapper minimizes: ``cycles``, ``energy`` or ``edp``.
    energy_table : str, optional
        Name of an energy table; the architecture's own by default.
    fpga : str, optional
        An FPGA part (`accel_rtl.parts`): the clock is the one that this design met there after place and route
        (`accel_rtl.fpga_results`), the area what it takes of the part. Energies stay those of the table.
    seed : int
        Seed of everything that is drawn.
    progress : callable, optional
        Called with (layer name, index, count) before each layer.

    Returns
    -------
    Report

    Raises
    ------
    HwsimError
        Unknown names, formats that the architecture cannot run, tiles that do not fit, broken files, an FPGA on which no clock
        of this design is recorded.
    """
    return simulate_traced(
        network, arch, preset=preset, policy=policy, batch=batch, tensors=tensors, image=image, objective=objective,
        energy_table=energy_table, fpga=fpga, seed=seed, progress=progress,
    )[0]  # fmt: skip


def simulate_traced(
    network: Network | str,
    arch: Arch | str = "systolic",
    *,
    preset: str | None = None,
    policy: Policy | str | None = None,
    batch: int = 1,
    tensors: Tensors | None = None,
    image: Mapping[str, Any] | None = None,
    objective: str = "cycles",
    energy_table: str | None = None,
    fpga: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Report, tuple[LayerTrace, ...]]:
    """Do what `simulate` does and also return every layer's Program with the time of each instruction."""
    network, tensors, policy = resolve_network(network, batch, tensors, policy)
    arch, record = resolve_arch(arch, preset, fpga)
    prices = choose_prices(arch, energy_table)
    workloads = list_workloads(network, policy)
    for load in workloads.values():
        if load.layer.kind == "mac":
            arch.check(load)
    run = _Run(
        arch=arch,
        prices=prices,
        objective=objective,
        cache=open_cache().renew(),
        progress=progress,
        count=len(workloads),
    )
    if tensors is not None:
        check_finite(network, tensors)
    sources = Sources(seed=seed, weights=tensors.origin.description if tensors else "", needs_data=arch.needs_data)
    if arch.needs_data:
        sources = _run_on_data(run, network, arch, policy, workloads, tensors, image, seed)
    for name, load in workloads.items():
        if name not in run.done:
            run.take(load, None)
    rows, traces = [], []
    for layer in network.layers:
        if layer.name in run.done:
            cost, trace = run.done[layer.name]
            traces.append(trace)
        else:
            cost = _make_empty_row(layer)
        rows.append(cost)
    report = Report(
        network=network,
        batch=network.inputs[0].shape[0],
        clock_hz=arch.clock_hz,
        layers=tuple(rows),
        area=prices.price_area(),
        peak_activation_bits=peak_activation_bits(network, list_stored_bits(network, policy, arch)),
        provenance=write_provenance(network, arch, policy, prices, objective, rows, sources, sorted(run.unknowns)),
        port_cycles=count_port_cycles(arch.memory, [row.stats for row in rows]),
    )
    return (report if record is None else _report_fpga(report, record)), tuple(traces)


def count_port_cycles(memory: Memory, stats: Sequence[LayerStats]) -> int:
    """Return the cycles that the memory's busiest port is busy at least, all layers one after the other."""
    moved = {"W": 0, "I": 0, "O": 0}
    for item in (item for layer in stats for item in layer.traffic if item.level == "dram"):
        moved[item.operand if item.operand in moved else "O"] += item.read_bits + item.write_bits
    busiest = max(moved.values()) if memory.channels == "per-operand" else sum(moved.values())
    return -(-busiest // memory.bits_per_cycle)


def _report_fpga(report: Report, record: FpgaRecord) -> Report:
    """Return a report whose clock and area are those measured on an FPGA."""
    area = tuple(
        AreaItem(
            name=f"{record.target}: {getattr(record, name):,} of {bound:,} {name.upper()}",
            area_um2=None,
            source=record.source,
        )
        for name, bound in record.capacity.items()
    )
    origin = report.provenance
    note = f"energies are those of {origin.energy_table}, a chip's: an FPGA takes more"
    clock = f"{record.fmax_hz / 1e6:g} MHz, met after place and route ({record.source})"
    unverified = tuple(item for item in origin.unverified if not item.endswith(": clock_hz"))
    origin = replace(origin, clock_source=clock, unverified=unverified, notes=(*origin.notes, note))
    return replace(report, area=area, provenance=origin)


@dataclass(slots=True)
class _Run:
    """Layers simulated so far; identical layers are simulated once where no data matters."""

    arch: Arch
    prices: Prices
    objective: str
    cache: MappingCache
    progress: Progress | None
    count: int
    done: dict[str, tuple[LayerCost, LayerTrace]] = field(default_factory=dict)
    seen: dict[Workload, tuple[LayerCost, LayerTrace]] = field(default_factory=dict)
    unknowns: set[str] = field(default_factory=set)

    def take(self, load: Workload, data: LayerData | None) -> None:
        """Simulate one layer, or repeat the result of an identical one."""
        name = load.layer.name
        if self.progress:
            self.progress(name, len(self.done), self.count)
        known = self.seen.get(load.key()) if data is None else None
        if known is None:
            known = self._simulate(load, data)
            if data is None:
                self.seen[load.key()] = known
        cost, trace = known
        self.done[name] = replace(cost, name=name), LayerTrace(name, trace.program, trace.timeline, trace.cycles)

    def _simulate(self, load: Workload, data: LayerData | None) -> tuple[LayerCost, LayerTrace]:
        cost, trace, unknowns = price_workload(load, data, self.prices, self.objective, self.cache.find)
        self.unknowns.update(unknowns)
        return cost, trace


def price_workload(
    load: Workload, data: LayerData | None, prices: Prices, objective: str, find: FindMapping
) -> tuple[LayerCost, LayerTrace, tuple[str, ...]]:
    """Simulate one layer on the accelerator of ``prices``.

    Returns
    -------
    LayerCost, LayerTrace, tuple of str
        Its row, its Program with the time of every instruction, and what could not be priced.

    Raises
    ------
    SpecError, Infeasible
        Formats that the engine has not; no tiling fits the buffers.
    """
    arch = prices.arch.part_for(load)
    datapath = arch.bind(load, data)
    mapping = find(datapath, arch, prices.make_objective(objective, datapath))
    stats, trace = run_layer(datapath, arch, mapping)
    energy, unknowns = prices.price_layer(stats)
    layer, is_mac = load.layer, load.layer.kind == "mac"
    stored = datapath.workload  # as the machine stores it: a core of float32 stores more bits than a policy names
    inputs = sum(
        shape[0] * shape[1] * shape[2] * shape[3] * bits
        for shape, bits in zip(stored.operand_shapes, stored.operand_bits, strict=True)
    )
    cost = LayerCost(
        name=layer.name,
        op=layer.op,
        w_bits=load.fmt.w_bits if is_mac else 0,
        a_bits=load.fmt.a_bits if is_mac else stored.operand_bits[0],
        out_bits=stored.out_bits,
        weight_bits=datapath.weight_storage_bits() if is_mac else 0,
        act_bits=inputs + layer.out_elements * stored.out_bits,
        stats=stats,
        energy=energy,
        mapping=mapping,
        notes=(*datapath.notes(), *note_widths(load, arch)),
        engine=arch.engine_of(load),
    )
    return cost, trace, unknowns


def note_widths(load: Workload, arch: Arch) -> tuple[str, ...]:
    """Return the note of a layer whose bits the engine rounds up: the narrower format saves traffic, not the engine's cycles."""
    fmt = load.fmt
    if load.layer.kind != "mac" or (widths := arch.choose_widths(load)) == (fmt.w_bits, fmt.a_bits):
        return ()
    return (f"the engine computes w{fmt.w_bits}a{fmt.a_bits} at its next widths, w{widths[0]}a{widths[1]}",)


def resolve_network(
    network: Network | str, batch: int, tensors: Tensors | None, policy: Policy | str | None
) -> tuple[Network, Tensors | None, Policy]:
    """Return network, tensors and policy of what `simulate` was given."""
    model = None
    if isinstance(network, str):
        from hwsim.nets.load import load_network

        model = network
        loaded = load_network(network, batch=batch)
        network, tensors = loaded.network, tensors or loaded.tensors
        if policy is None and tensors is not None and tensors.activations:
            from hwsim.nets.imported import quantized_policy

            policy = quantized_policy(network, tensors)
        policy = loaded.policy if policy is None else policy
    elif batch != 1:
        network = network.with_batch(batch)
    if policy is None:
        policy = Policy()
    if isinstance(policy, str):
        from hwsim.policies.read import resolve_policy

        policy = resolve_policy(policy, network, model).policy
    return widen_by_policy(network, tensors, policy)


def resolve_arch(arch: Arch | str, preset: str | None, fpga: str | None) -> tuple[Arch, FpgaRecord | None]:
    """Return the accelerator of what `simulate` was given, at the clock of the FPGA's record where one is named."""
    if not isinstance(arch, Arch):
        from hwsim.archs.registry import find_arch

        arch = find_arch(arch, preset)
    record = find_clock(arch, find_part(fpga).name) if fpga else None
    return (arch if record is None else replace(arch, clock_hz=record.fmax_hz)), record


def _run_on_data(
    run: _Run, network: Network, arch: Arch, policy: Policy, workloads: Mapping[str, Workload], tensors: Tensors | None,
    image: Mapping[str, Any] | None, seed: int,
) -> Sources:  # fmt: skip
    """Simulate every MAC layer on its real tensors; synthetic ones where none are given."""
    from hwsim.nets.synthetic import INPUT_DISTRIBUTION, VECTOR_DISTRIBUTION, synthesize_input, synthesize_tensors

    unpriced = [layer.name for layer in network.layers if layer.kind == "unpriced"]
    if unpriced:
        raise HwsimError(
            f"{arch.name} needs every layer's activations, and the network cannot be run: no model of {', '.join(unpriced)}"
        )
    check_sizes(network)
    tensors = tensors or synthesize_tensors(network, seed)
    given = image is not None
    inputs = image if image is not None else fit_inputs(synthesize_input(network, seed), tensors)
    prepared = prepare_tensors(network, arch, policy, workloads, tensors, inputs)
    stream_data(network, prepared, inputs, lambda name, data: run.take(workloads[name], data))
    drawn = INPUT_DISTRIBUTION if network.inputs[0].shape[2:] != (1, 1) else VECTOR_DISTRIBUTION
    fitted = ", scaled to the range of the file's input format" if tensors.activations else ""
    shown = (
        "captured from the given input" if given else f"captured from a synthetic input: {drawn}{fitted}, seed {seed}"
    )
    return Sources(seed=seed, weights=tensors.origin.description, activations=shown, needs_data=True)


def _make_empty_row(layer: Layer) -> LayerCost:
    """Return the row of a layer without cycles: address generation, or an operator without a price."""
    note = "address generation, no cycles of its own"
    if layer.kind == "unpriced":
        note = f"operator {layer.attr('source_op', '?')} has no price: not in any total"
    stats = LayerStats(
        cycles=0, compute_cycles=0, stall_cycles=tuple((name, 0) for name in STALLS), macs=0, peak_macs_per_cycle=0.0,
        traffic=(), actions=(),
    )  # fmt: skip
    return LayerCost(
        name=layer.name, op=layer.op, w_bits=0, a_bits=0, out_bits=0, weight_bits=0, act_bits=0, stats=stats, energy=(),
        notes=(note,),
    )  # fmt: skip


__all__ = ["LayerFormat", "simulate", "simulate_traced"]
