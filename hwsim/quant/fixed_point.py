"""Fixed point by F8Net's rule: 8-bit words whose fractional length follows from the spread of the tensor.

Source: F8Net (ICLR 2022), models/fix_quant_ops.py of github.com/snap-research/F8Net: ``metric2fraclen``, ``fix_quant``,
``int_op_only_fix_quant``. Rounding is half to even, signed words are symmetric. The rule was made for training, where weights are
scaled to suit it; on trained weights it may clamp, and ``search`` takes the fractional length of least error instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwsim.core.check import require_choice, require_int
from hwsim.core.errors import InputError
from hwsim.core.tensors import Array
from hwsim.quant.rows import check_weights
from hwsim.quant.uniform import choose_dtype

WORD_BITS = 8
SIGNED_FACTOR, UNSIGNED_FACTOR = 40, 70
"""Fractional length = floor(log2(factor / standard deviation)), of ``metric2fraclen`` at the metric ``std``."""
FRACTION_FIELD_BITS = 4
"""Bits of a stored fractional length (0 to 8)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FixedTensor:
    """A tensor in fixed point: real = stored * 2**-fraction_bits.

    Parameters
    ----------
    stored : ndarray
        int8 or int16, unsigned where not ``signed``.
    fraction_bits : int
        Fractional length.
    bits : int
        Word length.
    signed : bool
        Two's complement, symmetric range.
    """

    stored: Array
    fraction_bits: int
    bits: int
    signed: bool

    @property
    def storage_bits(self) -> int:
        """Exact size: a word an element, one fractional length."""
        return self.stored.size * self.bits + FRACTION_FIELD_BITS

    def dequantize(self) -> npt.NDArray[np.float32]:
        """Return the real values, float32."""
        return np.ldexp(self.stored.astype(np.float32), -self.fraction_bits)

    def to_integers(self) -> tuple[Array, npt.NDArray[np.float32]]:
        """Return the words and their scale ``[1]``, a power of two."""
        return self.stored, np.array([np.ldexp(1.0, -self.fraction_bits)], np.float32)


def choose_fraction_bits(deviation: float, signed: bool, bounded: bool = True) -> int:
    """Return the fractional length of a tensor of some standard deviation by F8Net's rule.

    0 to 8 (7 signed) as in its code, whose networks are trained to suit it; any where not ``bounded``.

    Raises
    ------
    InputError
        The deviation is not finite.
    """
    largest = WORD_BITS - int(signed)
    if not np.isfinite(deviation):
        raise InputError("values", [f"have a standard deviation of {deviation}: float32 holds no more than 3.4e+38"])
    if not deviation > 0:
        return largest
    factor = SIGNED_FACTOR if signed else UNSIGNED_FACTOR
    found = int(np.floor(np.log2(np.float32(factor) / np.float32(deviation))))
    return min(max(found, 0), largest) if bounded else found


def quantize_fixed(
    values: Array,
    bits: int = WORD_BITS,
    signed: bool = True,
    method: str = "rule",
    fraction_bits: int | None = None,
) -> FixedTensor:
    """Round a tensor to fixed point.

    Parameters
    ----------
    values : ndarray
        Finite floats.
    bits : int
        Word length, 2 to 16; the rule is made for 8.
    signed : bool
        Whether there are negative values.
    method : str
        ``rule``: `choose_fraction_bits` of the standard deviation, for words of 8 bits (others shift it with the word);
        ``search``: the one of least squared error, without bounds (a hardware shifter has none either).
    fraction_bits : int, optional
        Instead of either.

    Raises
    ------
    InputError
        Values are NaN or infinite, or so large that float32 overflows: in their standard deviation or in what the words stand for.
    """
    require_int("bits", bits, 2, 16)
    require_choice("method", method, ("rule", "search"))
    reals = check_weights(values)
    if fraction_bits is None and method == "rule":
        fraction_bits = choose_fraction_bits(_measure_deviation(reals), signed) + bits - WORD_BITS
    elif fraction_bits is None:
        fraction_bits = _search_fraction(reals, bits, signed)
    stored = _round(reals, bits, signed, fraction_bits)
    if np.ldexp(np.abs(stored).max(), -fraction_bits) > np.finfo(np.float32).max:
        largest = float(np.abs(reals).max())
        raise InputError("values", [f"reach {largest:g}, which words of {bits} bits round beyond float32"])
    return FixedTensor(
        stored=stored.astype(choose_dtype(bits, signed)), fraction_bits=fraction_bits, bits=bits, signed=signed
    )


def _measure_deviation(reals: npt.NDArray[np.float32]) -> float:
    """Return the standard deviation as float32 has it, the rule's own arithmetic."""
    with np.errstate(over="ignore", invalid="ignore"):
        deviation = float(np.std(reals))
    if not np.isfinite(deviation):
        largest = float(np.abs(reals).max())
        raise InputError("values", [f"reach {largest:g}: their standard deviation is beyond float32"])
    return deviation


def shift_words(
    sums: npt.NDArray[np.int64], shift: int, bits: int = WORD_BITS, signed: bool = True
) -> npt.NDArray[np.int64]:
    """Return sums with ``shift`` fractional bits fewer (more where negative), half to even, saturated: F8Net's requantization."""
    if shift > 0:
        half = 1 << (shift - 1)
        raised = sums + half
        tie = (sums & ((1 << shift) - 1)) == half
        sums = np.where(tie, (raised >> (shift + 1)) << 1, raised >> shift)
    else:
        sums = sums << -shift
    low, high = _limits(bits, signed)
    return np.clip(sums, low, high)


def _round(reals: npt.NDArray[np.float32], bits: int, signed: bool, fraction_bits: int) -> npt.NDArray[np.float64]:
    low, high = _limits(bits, signed)
    return np.clip(np.rint(np.ldexp(reals.astype(np.float64), fraction_bits)), low, high)


def _limits(bits: int, signed: bool) -> tuple[int, int]:
    high = (1 << (bits - int(signed))) - 1
    return (-high if signed else 0), high


def _search_fraction(reals: npt.NDArray[np.float32], bits: int, signed: bool) -> int:
    top = float(np.abs(reals).max())
    if top == 0:
        return bits - int(signed)
    widest = bits - int(signed) - int(np.ceil(np.log2(top)))  # nothing saturates
    errors = {}
    for fraction in range(widest - 1, widest + 6):
        found = np.ldexp(_round(reals, bits, signed, fraction), -fraction)
        errors[fraction] = float(np.square(found - reals, dtype=np.float64).sum())
    return min(errors, key=lambda fraction: (errors[fraction], fraction))
