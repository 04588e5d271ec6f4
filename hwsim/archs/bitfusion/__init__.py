"""`bitfusion`: an array of fusion units whose lanes grow as bits shrink."""

from hwsim.archs.bitfusion.spec import DEFAULT, PRESETS
from hwsim.archs.bitfusion.spec import BitFusion as ARCH

__all__ = ["ARCH", "DEFAULT", "PRESETS"]
