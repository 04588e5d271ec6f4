"""`bit-pragmatic`: activations in series, only by their nonzero bits."""

from hwsim.archs.bit_pragmatic.spec import DEFAULT, PRESETS
from hwsim.archs.bit_pragmatic.spec import BitPragmatic as ARCH

__all__ = ["ARCH", "DEFAULT", "PRESETS"]
