"""`mpic`: a RISC-V core with a mixed-precision SIMD dot product."""

from hwsim.archs.mpic.spec import DEFAULT, PRESETS
from hwsim.archs.mpic.spec import Mpic as ARCH

__all__ = ["ARCH", "DEFAULT", "PRESETS"]
