"""Feedback to searches: what a policy costs, from exact tables of every layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwsim.search.model import CostModel as CostModel
    from hwsim.search.whole import Costs as Costs

__all__ = ["CostModel", "Costs"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from hwsim.search import model

        return getattr(model, name)
    raise AttributeError(f"module 'hwsim.search' has no attribute {name!r}")
