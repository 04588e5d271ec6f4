"""`eyeriss`: the row-stationary array."""

from hwsim.archs.eyeriss.spec import DEFAULT, PRESETS
from hwsim.archs.eyeriss.spec import Eyeriss as ARCH

__all__ = ["ARCH", "DEFAULT", "PRESETS"]
