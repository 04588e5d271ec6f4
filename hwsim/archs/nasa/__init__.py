"""`nasa`: three chunks, for multiplying, shifting and adding layers, each an array with a dataflow of its own."""

from hwsim.archs.nasa.spec import DEFAULT, PRESETS
from hwsim.archs.nasa.spec import Nasa as ARCH

__all__ = ["ARCH", "DEFAULT", "PRESETS"]
