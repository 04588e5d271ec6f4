"""Checks that the frozen types run on construction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwsim.core.errors import SpecError

if TYPE_CHECKING:
    from hwsim.core.policy import LayerFormat

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


def require_power_of_two(path: str, value: int) -> int:
    """Return ``value``, an integer above zero, if it is a power of two, else raise SpecError."""
    if value & (value - 1):
        raise SpecError(path, value, "a power of two")
    return value


def require_share(path: str, value: object) -> float:
    """Return ``value`` if it is a number from 0 to 1, else raise SpecError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise SpecError(path, value, "a number from 0 to 1")
    return float(value)


def require_widths(
    layer: str, fmt: LayerFormat, w_bits: tuple[int, int], a_bits: tuple[int, int], condition: str = ""
) -> None:
    """Raise SpecError unless weights and activations of a layer's format have from so many bits to so many.

    Parameters
    ----------
    layer : str
        Name of the layer, for the error.
    fmt : LayerFormat
        Its format.
    w_bits, a_bits : tuple of int
        The least and the most bits that an engine takes.
    condition : str
        What the error says behind the bits that are taken.
    """
    for field, bits, (low, high) in (("w_bits", fmt.w_bits, w_bits), ("a_bits", fmt.a_bits, a_bits)):
        if not low <= bits <= high:
            raise SpecError(f"policy for layer {layer}: {field}", bits, f"{low} to {high} bits{condition}")
