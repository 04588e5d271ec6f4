"""Checks that the frozen types run on construction."""

from __future__ import annotations

from hwsim.core.errors import SpecError

LARGEST = 1 << 40
"""Upper bound of any size, count or capacity: products of a few stay inside int64."""


def require_int(path: str, value: object, low: int, high: int = LARGEST) -> int:
    """Return ``value`` if it is an integer in ``low..high``, else raise SpecError."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        span = f"an integer from {low} to {high}" if high != LARGEST else f"an integer of at least {low}"
        raise SpecError(path, value, span)
    return value


def require_positive(path: str, value: object) -> float:
    """Return ``value`` if it is a finite number above zero, else raise SpecError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise SpecError(path, value, "a finite number above zero")
    return float(value)


def require_choice(path: str, value: object, choices: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of ``choices``, else raise SpecError."""
    if not isinstance(value, str) or value not in choices:
        raise SpecError(path, value, "one of " + ", ".join(choices))
    return value
