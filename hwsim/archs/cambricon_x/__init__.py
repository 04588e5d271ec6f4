"""`cambricon-x`: pruned weights with step indexes, dense activations selected for them."""

from hwsim.archs.cambricon_x.spec import DEFAULT, PRESETS
from hwsim.archs.cambricon_x.spec import CambriconX as ARCH

__all__ = ["ARCH", "DEFAULT", "PRESETS"]
