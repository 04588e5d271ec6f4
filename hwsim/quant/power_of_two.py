"""Power-of-two weights: a sign and an exponent, so that a product is a shift.

``w = sign * 2**(top - code)`` with code from 0. Source: DeepShift (CVPR Workshops 2021): sign and shift, five bits hold a sign and
sixteen shifts; NASA (ICCAD 2022) stores six bits. A code for zero is added here (an option): a post-trained layer
has weights far below its smallest step, which no shift stands for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwsim.core.check import require_choice, require_int
from hwsim.core.errors import HwsimError
from hwsim.core.tensors import Array
from hwsim.quant.overflow import refuse_rounding
from hwsim.quant.rows import check_weights, spread

TOP_BITS = 8
"""Bits of a stored ``top``: the exponents of float32 fit."""
LARGEST_TOP = 127
"""Exponent of the largest power of two that float32 holds."""
WIDEST_SPAN = 14
"""Exponents below the top that still make integers of 16 bits."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShiftWeights:
    """Weights as signs and exponents.

    Parameters
    ----------
    sign : ndarray of int8
        -1 or +1, shape of the float weights; 0 where the weight is zero.
    code : ndarray of uint8
        How far the exponent lies below ``top``; all ones stands for zero where there is a code for it.
    top : ndarray of int16
        Largest exponent, ``[channels]`` or ``[1]``.
    bits : int
        Of a weight: one for the sign, the others for the code.
    """

    sign: npt.NDArray[np.int8]
    code: npt.NDArray[np.uint8]
    top: npt.NDArray[np.int16]
    bits: int

    @property
    def storage_bits(self) -> int:
        """Exact size: ``bits`` a weight and a ``top`` a channel (or one)."""
        return self.code.size * self.bits + self.top.size * TOP_BITS

    def dequantize(self) -> npt.NDArray[np.float32]:
        """Return the real weights, float32."""
        exponent = spread(self.top, self.code.ndim).astype(np.int64) - self.code
        return np.ldexp(self.sign.astype(np.float32), exponent.astype(np.int32))

    def to_integers(self) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float32]]:
        """Return the same weights as integers and scales ``[channels]`` (or ``[1]``), exactly.

        Raises
        ------
        HwsimError
            The exponents span more than ``WIDEST_SPAN``: no integer of 16 bits holds them.
        """
        span = int(self.code[self.sign != 0].max(initial=0))
        if span > WIDEST_SPAN:
            raise HwsimError(
                f"power-of-two weights span {span + 1} exponents, integers of 16 bits hold {WIDEST_SPAN + 1}: use fewer bits"
            )
        shift = np.where(self.sign != 0, span - self.code.astype(np.int64), 0)
        integers = (self.sign.astype(np.int64) << shift).astype(np.int16)
        return integers, np.ldexp(np.float32(1), self.top.astype(np.int32) - span).astype(np.float32)


def quantize_shift(
    weight: Array,
    bits: int,
    per_channel: bool = False,
    zero: bool = True,
    rounding: str = "value",
    top: int | None = None,
    span: int | None = None,
) -> ShiftWeights:
    """Round weights to powers of two.

    Parameters
    ----------
    weight : ndarray
        ``[channels, ...]``, finite floats.
    bits : int
        2 to 8: one for the sign.
    per_channel : bool
        A top exponent for each channel, or one for all.
    zero : bool
        The smallest code stands for zero; without it every weight is a power of two.
    rounding : str
        ``value``: the nearest power (the change lies at 1.5 times the smaller one); ``log``: the nearest exponent, as DeepShift
        (it lies at the square root of two times).
    top : int, optional
        Largest exponent, up to 127; by default that of the largest magnitude. DeepShift has 0.
    span : int, optional
        Exponents below the top that are used, where a shifter has fewer than ``bits`` name.

    Raises
    ------
    InputError
        A weight is NaN or infinite, beyond float32, or its nearest power is.
    """
    require_int("bits", bits, 2, 8)
    require_choice("rounding", rounding, ("value", "log"))
    values = check_weights(weight)
    magnitude = np.abs(values.astype(np.float64))
    exponent = _round_exponent(magnitude, rounding)
    if top is not None:
        tops = np.array([require_int("top", int(top), -(1 << 15), LARGEST_TOP)], np.int64)
    else:
        rows = exponent.reshape(len(values) if per_channel else 1, -1)
        used = np.where(magnitude.reshape(rows.shape) > 0, rows, -(1 << 14))
        tops = np.maximum(used.max(axis=1), -126).astype(np.int64)
        if tops.max() > LARGEST_TOP:
            refuse_rounding(values, "powers of two")
    every = (1 << (bits - 1)) - 1
    largest = every - int(zero) if span is None else min(every - int(zero), span)
    code = np.maximum(spread(tops, values.ndim) - exponent, 0)
    gone = magnitude == 0
    if zero:
        smallest = np.ldexp(1.0, (spread(tops, values.ndim) - largest).astype(np.int32))
        gone = (magnitude == 0) | (magnitude < smallest * (0.5 if rounding == "value" else np.sqrt(0.5)))
    code = np.minimum(code, largest)
    code = np.where(gone, every if zero else largest, code)
    sign = np.where(values < 0, -1, 1)
    if zero:
        sign = np.where(gone, 0, sign)
    return ShiftWeights(sign=sign.astype(np.int8), code=code.astype(np.uint8), top=tops.astype(np.int16), bits=bits)


def _round_exponent(magnitude: npt.NDArray[np.float64], rounding: str) -> npt.NDArray[np.int64]:
    fraction, exponent = np.frexp(magnitude)  # magnitude = fraction * 2**exponent, fraction in [0.5, 1)
    limit = 0.75 if rounding == "value" else np.sqrt(0.5)
    return exponent.astype(np.int64) - 1 + (fraction >= limit)
