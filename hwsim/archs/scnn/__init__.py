"""`scnn`: Cartesian products of nonzero weights and nonzero activations, scattered to accumulator banks."""

from hwsim.archs.scnn.spec import DEFAULT, PRESETS
from hwsim.archs.scnn.spec import Scnn as ARCH

__all__ = ["ARCH", "DEFAULT", "PRESETS"]
