"""`fixed8`: the engine of `systolic` on its array; store and vector unit are built without multipliers (`Machine.requantizer`).

Nothing of the engine is built anew: cells of 8-bit weights by 8-bit activations, signed or not, less their zero point (0 in fixed
point, the subtraction is the shell's rule and stays). Latency, throughput, reset, stall: see `accel_rtl.systolic`.
"""

from __future__ import annotations

from accel_rtl.machine import Machine
from accel_rtl.systolic.build import SystolicEngineSpec
from accel_rtl.systolic.spec import SystolicEngine
from hwsim.archs.fixed8.spec import WORD_BITS, Fixed8


def build_engine(arch: Fixed8) -> SystolicEngineSpec:
    """Return the engine of an accelerator.

    Raises
    ------
    SpecError
        A field of the architecture that cannot be built.
    """
    machine = Machine.from_arch(arch, arch.cols, WORD_BITS)
    return SystolicEngineSpec(arch=arch.array, engine=SystolicEngine.from_arch(arch.array), machine=machine)
