"""Numbers for people: SI prefixes, shares, thousands separators."""

from __future__ import annotations

import math

_PREFIXES = (
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
    (1e-9, "n"),
    (1e-12, "p"),
)


def format_si(value: float, unit: str = "", digits: int = 3) -> str:
    """Return a value with an SI prefix and ``digits`` significant digits: 0.00123 s is ``1.23 ms``."""
    if value == 0:
        return f"0 {unit}".strip()
    scale, prefix = next((item for item in _PREFIXES if abs(value) >= item[0] * 0.9995), _PREFIXES[-1])
    return f"{format_digits(value / scale, digits)} {prefix}{unit}".strip()


def format_digits(value: float, digits: int = 3) -> str:
    """Return a number with ``digits`` significant digits and no exponent between 1e-4 and 1e6."""
    size = abs(value)
    if size == 0:
        return "0"
    if 10 ** (digits - 1) <= size < 1e6:
        return f"{value:,.0f}"
    if 1e-4 <= size < 10 ** (digits - 1):
        # Digits in front of the point, or (negative) zeros behind it.
        whole = math.floor(math.log10(float(f"{size:.{digits - 1}e}"))) + 1
        return f"{value:.{max(0, digits - whole)}f}"
    return f"{value:.{digits - 1}e}"


def format_bits(bits: float) -> str:
    """Return a number of bits as bytes with a binary prefix: 8192 bits are ``1.00 KiB``."""
    size = bits / 8
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" and size == int(size) else f"{format_digits(size)} {unit}"
        size /= 1024
    raise AssertionError("unreachable")


def format_share(part: float, whole: float) -> str:
    """Return ``part / whole`` in percent with one digit; ``-`` where the whole is zero."""
    return f"{100 * part / whole:.1f}" if whole else "-"


def format_count(value: float) -> str:
    """Return a count with thousands separators; a fraction keeps three digits."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.3f}"
