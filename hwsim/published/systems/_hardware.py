"""Rows on generated hardware: a layer on the RTL of an architecture, its cycles and bits against the simulator's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwsim.core.errors import HwsimError
from hwsim.published.claims import Row

if TYPE_CHECKING:
    from cosim.plan import LayerResult
    from hwsim.core.arch import Arch

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
    from accel_rtl.accelerator import list_built_archs

    if arch not in list_built_archs():
        return ()
    claim = f"cycles of ResNet-8's {LAYER} on the generated Verilog of {arch} {PRESET} equal the simulator's"
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
    return (
        Row(
            claim=claim, source=SOURCE, unit="cycles", claimed=result.expected_cycles, simulated=result.expected_cycles,
            rtl=result.cycles, why=f"{equal} outputs are equal",
        ),
    )  # fmt: skip


def run_layer_on_hardware(name: str) -> LayerResult:
    """Compile the accelerator and run one layer, weights and image drawn."""
    from cosim.harness.model import open_harness
    from cosim.plan import NetworkRun
    from cosim.run import drive
    from hwsim.archs.registry import find_arch
    from hwsim.core.policy import Policy
    from hwsim.nets.load import load_network
    from hwsim.nets.synthetic import synthesize_input, synthesize_tensors
    from hwsim.pipeline.tensors import fit_inputs

    arch: Arch = find_arch(name, PRESET)
    network = load_network(NETWORK).network
    tensors = synthesize_tensors(network, 0)
    image = fit_inputs(synthesize_input(network, 0), tensors)
    source = NetworkRun(
        network=network, arch=arch, policy=Policy(), tensors=tensors, image=dict(image), layer=LAYER, stress=None
    )
    return drive(source.plan(), open_harness(arch))[0]
