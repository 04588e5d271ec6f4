"""`bismo`: a bit-serial dot-product array; cycles grow with weight bits times activation bits."""

from hwsim.archs.bismo.spec import DEFAULT, PRESETS
from hwsim.archs.bismo.spec import Bismo as ARCH

__all__ = ["ARCH", "DEFAULT", "PRESETS"]
