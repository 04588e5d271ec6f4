"""`systolic`: a dense integer array, output, weight or input stationary; the 8-bit baseline."""

from hwsim.archs.systolic.spec import DEFAULT, PRESETS
from hwsim.archs.systolic.spec import Systolic as ARCH

__all__ = ["ARCH", "DEFAULT", "PRESETS"]
