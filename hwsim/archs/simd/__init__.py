"""`simd`: a core with vector instructions, int8 dot products, float32, codebook look-up."""

from hwsim.archs.simd.spec import DEFAULT, PRESETS
from hwsim.archs.simd.spec import Simd as ARCH

__all__ = ["ARCH", "DEFAULT", "PRESETS"]
