"""Entry of the package: the engine of an `Arch`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accel_rtl.smartdeal.spec import SmartDealEngine

if TYPE_CHECKING:
    from hwsim.archs.smartdeal.spec import SmartDeal


def build_engine(arch: SmartDeal) -> SmartDealEngine:
    """Return the engine, or raise SpecError naming the field that cannot be built."""
    return SmartDealEngine.from_arch(arch)
