"""`fixed8`: 8-bit fixed point, requantized by shifts alone."""

from hwsim.archs.fixed8.spec import DEFAULT, PRESETS
from hwsim.archs.fixed8.spec import Fixed8 as ARCH

__all__ = ["ARCH", "DEFAULT", "PRESETS"]
