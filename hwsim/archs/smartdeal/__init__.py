"""`smartdeal`: decomposed weights rebuilt beside bit-serial Booth multipliers; zero rows are skipped."""

from hwsim.archs.smartdeal.spec import DEFAULT, PRESETS
from hwsim.archs.smartdeal.spec import SmartDeal as ARCH

__all__ = ["ARCH", "DEFAULT", "PRESETS"]
