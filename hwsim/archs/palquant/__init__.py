"""`palquant`: native 2, 3 or 4-bit multipliers; groups side by side, wider operands in passes."""

from hwsim.archs.palquant.spec import DEFAULT, PRESETS
from hwsim.archs.palquant.spec import PalQuant as ARCH

__all__ = ["ARCH", "DEFAULT", "PRESETS"]
