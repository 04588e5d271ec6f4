"""`diannao`: the dense neural functional unit, outputs by inputs, with adder trees."""

from hwsim.archs.diannao.spec import DEFAULT, PRESETS
from hwsim.archs.diannao.spec import DianNao as ARCH

__all__ = ["ARCH", "DEFAULT", "PRESETS"]
