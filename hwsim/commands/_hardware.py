"""What the commands that generate hardware share."""

from __future__ import annotations

import importlib.util


def require_rtl(purpose: str) -> None:
    """Raise MissingExtra unless Amaranth and pyosys are installed."""
    from hwsim.core.errors import MissingExtra

    for package in ("amaranth", "pyosys"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "rtl", purpose)
