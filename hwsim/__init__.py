"""hwsim: what a quantization or architecture choice costs on real accelerator designs.

>>> from hwsim import simulate
>>> report = simulate("resnet18", "systolic", policy="w8a8")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwsim.pipeline.simulate import simulate as simulate
    from hwsim.search.model import CostModel as CostModel

__all__ = ["CostModel", "simulate"]


def __getattr__(name: str) -> Any:
    if name == "simulate":
        from hwsim.pipeline import simulate

        return simulate
    if name == "CostModel":
        from hwsim.search import CostModel

        return CostModel
    raise AttributeError(f"module 'hwsim' has no attribute {name!r}")
