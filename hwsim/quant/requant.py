"""Requantization: from an integer accumulator to the integer that is stored.

Every layer computes ``stored = saturate(round(acc * r) + zero_point)`` where ``acc`` is the exact sum of products and
``r`` the real ratio of scales (input scale x weight scale / output scale). Four exact definitions of it:

``float``
    What ONNX Runtime computes for a QDQ graph (MLAS, ``MlasRequantizeOutput``): ``acc`` is converted to float32, multiplied
    by the float32 ratio with one float32 rounding, clamped, rounded half to even. The oracle; not hardware.
``mulshift``
    What the hardware computes: ``(acc * m) >> s`` with an integer multiplier ``m`` of 31 (or 32) bits and one rounding,
    half to even (the default) or half away from zero. ``m * 2**-s`` *equals* the float32 ratio: a float32 has 24
    significant bits, so 24 or more multiplier bits lose nothing.
``shift``
    ``acc >> s`` with one rounding: the ratio must be a power of two.
``tflite``
    What TensorFlow Lite's reference kernels compute (gemmlowp fixed point): a 32-bit multiplier from the ratio in float64,
    a doubling high multiply rounded half up, then a right shift rounded half away from zero: two roundings.

Where ``float`` and ``mulshift`` (half to even) differ
------------------------------------------------------
Both round half to even; they differ only in what they round: ``float`` the value ``fl(p)`` (``fl`` rounds to
float32), ``mulshift`` the exact product ``p = acc * r``. Let ``|acc| < 2**24``, so that the conversion of ``acc`` is
exact. ``fl`` is monotone and half-integers below 2**23 are float32 numbers, so ``fl(p)`` never passes a half-integer
that ``p`` has not reached. The results therefore differ only when ``fl(p)`` *is* a half-integer and ``p`` is not;
then ``p`` lies within half a unit in the last place of it, ``2**-18`` for ``|p| < 128``, and the results differ by
exactly one. A larger ``acc`` adds a second relative error of ``2**-24``: the difference stays at most one and ``p``
within ``|p| * 2**-22`` of a half-integer. ``half_away`` differs from ``half_even`` only where ``p`` is exactly a
half-integer, by one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hwsim.core.check import require_choice, require_int
from hwsim.core.errors import SpecError

REQUANT_MODES = ("mulshift", "float", "shift", "tflite")
"""Definitions of requantization that the functional model can run."""
ROUNDINGS = ("half_even", "half_away")
"""Rounding of a right shift."""
LARGEST_SHIFT = 62
"""A shift of more would leave the 64-bit product."""

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


def combine_scales(*factors: npt.ArrayLike, divisor: npt.ArrayLike) -> FloatArray:
    """Return the ratio of scales as ONNX Runtime computes it: float32 products from left to right, then one division.

    Raises
    ------
    SpecError
        A scale is not finite and positive, or the ratio leaves float32.
    """
    with np.errstate(all="ignore"):
        ratio = np.asarray(factors[0], np.float32)
        for factor in factors[1:]:
            ratio = np.asarray(ratio * np.asarray(factor, np.float32), np.float32)
        ratio = np.asarray(ratio / np.asarray(divisor, np.float32), np.float32)
    if not np.all(np.isfinite(ratio) & (ratio > 0)):
        raise SpecError("scale", ratio.ravel()[:4].tolist(), "finite scales above zero whose ratio fits a float32")
    return ratio


def quantize_multiplier(real: npt.ArrayLike, bits: int = 31) -> tuple[IntArray, IntArray]:
    """Turn a positive real into an integer multiplier and a right shift: ``real = multiplier * 2**-shift``.

    Parameters
    ----------
    real : array_like
        Positive reals below ``2**(bits - 1)``, any shape.
    bits : int
        Width of the multiplier, 2 to 32; exact for float32 reals from 24 on, else rounded half to even.

    Returns
    -------
    multiplier, shift : ndarray of int64
        Same shape; ``2**(bits-1) <= multiplier < 2**bits`` and ``0 <= shift <= 62`` (a real below ``2**(bits-63)`` loses
        multiplier bits instead of shifting further).
    """
    require_int("requant.bits", bits, 2, 32)
    values = np.asarray(real, np.float64)
    if not np.all(np.isfinite(values) & (values > 0) & (values < 2.0 ** (bits - 1))):
        raise SpecError("requant.real", values.ravel()[:4].tolist(), f"reals above 0 and below 2**{bits - 1}")
    mantissa, exponent = np.frexp(values)
    multiplier = np.rint(np.ldexp(mantissa, bits)).astype(np.int64)
    shift = bits - exponent.astype(np.int64)
    carried = multiplier == 1 << bits
    multiplier, shift = np.where(carried, multiplier >> 1, multiplier), np.where(carried, shift - 1, shift)
    excess = np.maximum(shift - LARGEST_SHIFT, 0)
    multiplier = np.where(excess > 0, shift_right(multiplier, np.minimum(excess, LARGEST_SHIFT)), multiplier)
    return multiplier, shift - excess


def quantize_shift(real: npt.ArrayLike) -> IntArray:
    """Return the right shifts ``s`` with ``2**-s == real`` (negative: to the left), or raise SpecError for no power of two."""
    mantissa, exponent = np.frexp(np.asarray(real, np.float64))
    shift = 1 - exponent.astype(np.int64)
    if np.any(mantissa != 0.5) or np.any(np.abs(shift) > LARGEST_SHIFT):
        shown = np.asarray(real).ravel()[:4].tolist()
        raise SpecError("requant.real", shown, "powers of two from 2**-62 to 2**62", "calibrate with power_of_two=True")
    return shift


def shift_right(value: npt.ArrayLike, shift: npt.ArrayLike, rounding: str = "half_even") -> IntArray:
    """Return ``value / 2**shift`` rounded to an integer.

    Parameters
    ----------
    value : array_like of int64
        Below ``2**62`` in magnitude, so that adding half cannot wrap.
    shift : array_like of int64
        0 to 62, broadcast against ``value``.
    rounding : str
        ``half_even`` or ``half_away`` (from zero).
    """
    require_choice("requant.rounding", rounding, ROUNDINGS)
    number, by = np.asarray(value, np.int64), np.asarray(shift, np.int64)
    half = (np.int64(1) << by) >> 1
    moves = (by > 0).astype(np.int64)
    # What is added before the shift: half, less one where the result must go down. In place: the arrays are large.
    if rounding == "half_even":
        result = np.asarray(number >> by)
        result &= moves
        result += half - moves
    else:
        result = np.asarray((number < 0) * -moves)
        result += half
    result += number
    result >>= by
    return result


def saturate(value: IntArray, zero_point: int, low: int, high: int) -> IntArray:
    """Add the zero point and clamp to ``low..high``."""
    return np.clip(value, low - zero_point, high - zero_point) + zero_point


def requantize_float(acc: IntArray, ratio: npt.ArrayLike, zero_point: int, low: int, high: int) -> IntArray:
    """Requantize by ONNX Runtime's definition (mode ``float``).

    Parameters
    ----------
    acc : ndarray of int64
        Exact accumulators.
    ratio : array_like of float32
        Broadcast against ``acc``.
    zero_point, low, high : int
        Of the output.
    """
    product = np.asarray(acc, np.int64).astype(np.float32) * np.asarray(ratio, np.float32)
    bounded = np.clip(product, np.float32(low - zero_point), np.float32(high - zero_point))
    return np.rint(bounded).astype(np.int64) + zero_point


def requantize_mulshift(
    acc: IntArray,
    multiplier: npt.ArrayLike,
    shift: npt.ArrayLike,
    zero_point: int,
    low: int,
    high: int,
    rounding: str = "half_even",
) -> IntArray:
    """Requantize by a multiplier and one rounding right shift (mode ``mulshift``).

    ``|acc| * multiplier`` must stay below ``2**62``: accumulators of 31 bits with 31-bit multipliers.
    """
    product = np.asarray(acc, np.int64) * np.asarray(multiplier, np.int64)
    return saturate(shift_right(product, shift, rounding), zero_point, low, high)


def requantize_shift(
    acc: IntArray, shift: npt.ArrayLike, zero_point: int, low: int, high: int, rounding: str = "half_even"
) -> IntArray:
    """Requantize by a rounding right shift alone (mode ``shift``); a negative shift goes to the left."""
    by = np.asarray(shift, np.int64)
    moved = np.asarray(acc, np.int64) << np.maximum(-by, 0)
    return saturate(shift_right(moved, np.maximum(by, 0), rounding), zero_point, low, high)


def quantize_multiplier_tflite(real: npt.ArrayLike) -> tuple[IntArray, IntArray]:
    """Return TensorFlow Lite's multiplier and *left* shift: ``real = multiplier * 2**(shift - 31)``.

    ``multiplier`` is in ``[2**30, 2**31)``, rounded half away from zero (``std::round`` in ``QuantizeMultiplier`` of
    tensorflow/lite/kernels/internal/quantization_util.cc); a ratio below ``2**-32`` gives zero.
    """
    mantissa, exponent = np.frexp(np.asarray(real, np.float64))
    multiplier = np.floor(np.ldexp(mantissa, 31) + 0.5).astype(np.int64)
    shift = exponent.astype(np.int64)
    carried = multiplier == 1 << 31
    multiplier, shift = np.where(carried, multiplier >> 1, multiplier), np.where(carried, shift + 1, shift)
    tiny = shift < -31
    return np.where(tiny, 0, multiplier), np.where(tiny, 0, shift)


def multiply_tflite(value: IntArray, multiplier: npt.ArrayLike, shift: npt.ArrayLike) -> IntArray:
    """Multiply by a real in TensorFlow Lite's fixed point (``MultiplyByQuantizedMultiplier``, double rounding).

    ``value`` is an int32 in int64; a positive ``shift`` goes to the left before the multiply. First
    ``SaturatingRoundingDoublingHighMul`` (rounds half towards plus infinity), then ``RoundingDivideByPOT`` (half away).
    """
    by = np.asarray(shift, np.int64)
    product = (np.asarray(value, np.int64) << np.maximum(by, 0)) * np.asarray(multiplier, np.int64)
    # The nudge is 2**30 or 1 - 2**30 before a division that truncates towards zero: half away would need -2**30.
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    high = np.where(nudged >= 0, nudged >> 31, -((-nudged) >> 31))
    return shift_right(high, np.maximum(-by, 0), "half_away")


def requantize_tflite(
    acc: IntArray, multiplier: npt.ArrayLike, shift: npt.ArrayLike, zero_point: int, low: int, high: int
) -> IntArray:
    """Requantize as TensorFlow Lite's reference kernels do (mode ``tflite``)."""
    return saturate(multiply_tflite(acc, multiplier, shift), zero_point, low, high)


def requantize_tflite_gemm(
    acc: IntArray, multiplier: npt.ArrayLike, shift: npt.ArrayLike, zero_point: int, low: int, high: int
) -> IntArray:
    """Requantize as LiteRT's fully connected layer does, whose matrix product rounds once, half up.

    ``(acc * multiplier + 2**(30 - shift)) >> (31 - shift)``, as in ruy (ruy/apply_multiplier.cc). LiteRT 2.3's reference
    kernels give it on 400 inputs of ResNet-8 where two roundings fail; that ties go up is unverified, for no tie was among
    them.
    """
    by = 31 - np.asarray(shift, np.int64)
    product = np.asarray(acc, np.int64) * np.asarray(multiplier, np.int64)
    return saturate((product + (np.int64(1) << (by - 1))) >> by, zero_point, low, high)
