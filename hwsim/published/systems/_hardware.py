"""Rows on generated hardware: a layer on the RTL of an architecture, its cycles and bits against the simulator's."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from hwsim.core.errors import HwsimError
from hwsim.published.claims import Row

if TYPE_CHECKING:
    from cosim.plan import LayerResult, NetworkRun

NETWORK, LAYER, PRESET = "resnet8", "conv2d_4", "small"
SOURCE = "this project: the simulator is the RTL"


def list_hardware(arch: str, rtl: bool) -> tuple[Row, ...]:
    """Return the row of an architecture's hardware, none where it has no RTL.

    Parameters
    ----------
    arch : str
        Architecture.
    rtl : bool
        Compile and run it; without, the row says how.
    """
    from accel_rtl.built import list_built_archs

    if arch not in list_built_archs():
        return ()
    claim = name_claim(arch)
    if not rtl:
        why = "compiled and run with --rtl; every layer, bit and cycle: hwsim cosim"
        return (Row(claim=claim, source=SOURCE, unit="cycles", status="skipped", why=why),)
    try:
        result = run_layer_on_hardware(arch)
    except ModuleNotFoundError as error:
        why = f"needs {error.name}: pip install 'hwsim[rtl]'"
        return (Row(claim=claim, source=SOURCE, unit="cycles", status="skipped", why=why),)
    except HwsimError as error:
        return (Row(claim=claim, source=SOURCE, unit="cycles", status="skipped", why=str(error)),)
    equal = "all" if not result.mismatches else f"{result.equal_elements:,} of {result.elements:,}"
    return (write_row(arch, result.expected_cycles, result.cycles, f"{equal} outputs are equal"),)


def name_claim(arch: str) -> str:
    """Return what the row of an architecture's hardware claims."""
    return f"cycles of ResNet-8's {LAYER} on the generated Verilog of {arch} {PRESET} equal the simulator's"


def write_row(arch: str, expected: int, cycles: int, why: str = "all outputs are equal") -> Row:
    """Return the row of hardware that ran: cycles of the simulator and its own."""
    return Row(
        claim=name_claim(arch), source=SOURCE, unit="cycles", claimed=expected, simulated=expected, rtl=cycles, why=why
    )  # fmt: skip


@cache
def describe_run(name: str) -> NetworkRun:
    """Return the run of one layer, weights and image drawn."""
    from cosim.plan import NetworkRun
    from hwsim.archs.registry import find_arch
    from hwsim.core.policy import Policy
    from hwsim.nets.load import load_network
    from hwsim.nets.synthetic import synthesize_input, synthesize_tensors
    from hwsim.pipeline.tensors import fit_inputs

    network = load_network(NETWORK).network
    tensors = synthesize_tensors(network, 0)
    image = fit_inputs(synthesize_input(network, 0), tensors)
    return NetworkRun(
        network=network, arch=find_arch(name, PRESET), policy=Policy(), tensors=tensors, image=dict(image), layer=LAYER, stress=None
    )  # fmt: skip


@cache
def run_layer_on_hardware(name: str) -> LayerResult:
    """Compile the accelerator and run the layer."""
    from cosim.harness.model import open_harness
    from cosim.run import drive

    run = describe_run(name)
    return drive(run.plan(), open_harness(run.arch))[0]


@cache
def count_expected(name: str) -> int:
    """Return the simulator's cycles of the layer; nothing is compiled."""
    from cosim.compare import expected_length

    plan = describe_run(name).plan()
    ask = next(plan)
    plan.close()
    return expected_length(ask.job)
