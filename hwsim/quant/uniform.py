"""Uniform quantizers: equally spaced levels, symmetric or with a zero point, per tensor or per channel.

``real = scale * (stored - zero_point)``; scales are float32 values, ``stored`` is rounded half to even and saturated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwsim.core.check import require_choice, require_int
from hwsim.core.errors import InputError, SpecError
from hwsim.core.tensors import ActQuant, Array
from hwsim.quant.asymmetric import choose_asymmetric
from hwsim.quant.entropy import choose_entropy_limits
from hwsim.quant.overflow import LARGEST, refuse_rounding
from hwsim.quant.rows import check_weights, make_scale

CLIPPINGS = ("max", "percentile", "mse", "kl")
"""How the range of a tensor is chosen."""
LARGEST_BIAS = 1 << 30
"""Largest magnitude of a stored bias: half of an int32, the sum of products has the other half."""
SCALE_BITS = 32
"""Bits of a stored scale (float32; multiplier and shift take no more)."""
BLOCK_ELEMENTS = 1 << 22
"""Weights that are quantized at once, per channel: bounds the memory of the intermediate floats."""
_FRACTIONS = np.linspace(0.2, 1.0, 81)
# Candidate clipping points of "mse", as fractions of the largest magnitude.


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuantizedWeights:
    """Integer weights with their scales.

    Parameters
    ----------
    stored : ndarray
        Integers, shape of the float weights; int8 or int16, unsigned where there are zero points. One bit symmetric
        stores -1 and +1.
    scale : ndarray of float32
        ``[channels]``, or ``[1]`` per tensor.
    zero_point : ndarray of int32 or None
        Same shape as ``scale``; None is zero.
    bits : int
        Bits of a stored weight.
    """

    stored: Array
    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int32] | None
    bits: int

    @property
    def storage_bits(self) -> int:
        """Exact size: every weight, a 32-bit scale per channel and a zero point of ``bits`` where there is one."""
        zeros = 0 if self.zero_point is None else self.zero_point.size
        return self.stored.size * self.bits + self.scale.size * SCALE_BITS + zeros * self.bits

    def dequantize(self) -> npt.NDArray[np.float32]:
        """Return the real weights, float32."""
        tail = (1,) * (self.stored.ndim - 1)
        centred = self.stored.astype(np.float32)
        if self.zero_point is not None:
            centred = centred - self.zero_point.astype(np.float32).reshape(-1, *tail)
        return centred * self.scale.reshape(-1, *tail)


def choose_dtype(bits: int, signed: bool) -> np.dtype[np.generic]:
    """Return the smallest numpy integer that holds ``bits`` (1 to 16)."""
    size = 8 if require_int("bits", bits, 1, 16) <= 8 else 16
    return np.dtype(f"{'' if signed else 'u'}int{size}")


def quantize_weights(
    weight: Array, bits: int, per_channel: bool = True, scheme: str = "symmetric", clipping: str = "max"
) -> QuantizedWeights:
    """Quantize float weights post-training.

    Parameters
    ----------
    weight : ndarray
        ``[channels, ...]``, finite floats.
    bits : int
        1 to 16. Symmetric weights use ``-(2**(bits-1) - 1) .. 2**(bits-1) - 1``; at one bit ``{-1, +1}`` with the mean
        magnitude as the scale, the least squares solution (XNOR-Net, ECCV 2016, eq. 6).
    per_channel : bool
        A scale for each index of the first axis, or one for all.
    scheme : str
        ``symmetric``, or ``asymmetric``: unsigned with a zero point, real zero exactly representable.
    clipping : str
        ``max``; ``percentile`` (99.9 of the magnitudes); ``mse``: the one of 81 clipping points, 0.2 to 1 of the largest
        magnitude, with the least squared error, never above that of ``max``; ``kl``: the one of least divergence
        (`hwsim.quant.entropy`), made for tensors of many elements. Asymmetric weights have two ends, chosen for their own
        quantizer: `hwsim.quant.asymmetric` has the search spaces.

    Raises
    ------
    InputError
        A weight is NaN or infinite, or so large that float32 overflows: the weight, the scale, or what an integer stands for.
    """
    require_int("bits", bits, 1, 16)
    require_choice("scheme", scheme, ("symmetric", "asymmetric"))
    require_choice("clipping", clipping, CLIPPINGS)
    values = np.asarray(weight)
    if per_channel and values.size > BLOCK_ELEMENTS and len(values) > 1:
        step = max(1, BLOCK_ELEMENTS // (values.size // len(values)))
        return _join(
            [quantize_weights(values[i : i + step], bits, True, scheme, clipping) for i in range(0, len(values), step)]
        )
    rows = check_weights(values).reshape(len(values) if per_channel else 1, -1)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
        quantize = _quantize_symmetric if scheme == "symmetric" else _quantize_asymmetric
        stored, scale, zero = quantize(rows, bits, clipping)
        found = QuantizedWeights(stored=stored.reshape(values.shape), scale=scale, zero_point=zero, bits=bits)
        # Below this product no integer of these bits stands for more than float32 holds.
        if float(scale.max()) * (1 << bits) > LARGEST and not np.isfinite(found.dequantize()).all():
            refuse_rounding(rows, f"{bits}-bit integers")
    return found


def choose_activation_quant(
    low: float,
    high: float,
    bits: int,
    scheme: str = "symmetric",
    unsigned: bool = False,
    power_of_two: bool = False,
) -> ActQuant:
    """Choose scale and zero point of an activation tensor from its range.

    Parameters
    ----------
    low, high : float
        Range that must be representable; it is widened to hold zero.
    bits : int
        1 to 16. One bit is 0 or 1: negative values become 0.
    scheme : str
        ``symmetric``: zero point 0, so that a zero activation is all zero bits. ``asymmetric``: the whole unsigned code range
        covers ``low..high``.
    unsigned : bool
        Let a symmetric tensor without negative values use unsigned codes (twice the resolution).
    power_of_two : bool
        Round the scale up to a power of two (requantization by shift alone).
    """
    require_int("bits", bits, 1, 16)
    require_choice("activation_scheme", scheme, ("symmetric", "asymmetric"))
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise SpecError("activation range", (low, high), "two finite numbers, low not above high")
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    if scheme == "asymmetric":
        scale = _round_scale((high - low) / ((1 << bits) - 1), power_of_two)
        zero = int(np.clip(np.rint(-low / scale), 0, (1 << bits) - 1))
        return ActQuant(scale=scale, zero_point=zero, bits=bits, signed=False)
    signed = (low < 0 or not unsigned) and bits > 1
    levels = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1
    return ActQuant(scale=_round_scale(max(-low, high) / max(levels, 1), power_of_two), bits=bits, signed=signed)


def quantize_activation(values: Array, quant: ActQuant) -> Array:
    """Quantize real activations as ONNX's QuantizeLinear does: float32 division, half to even, zero point, saturation.

    NaN is an InputError; infinities saturate.
    """
    reals = np.asarray(values, np.float32)
    if np.isnan(reals).any():
        raise InputError("activations", [f"{int(np.isnan(reals).sum())} of {reals.size} are NaN"])
    scaled = np.rint(reals / np.float32(quant.scale))
    stored = np.clip(scaled, quant.low - quant.zero_point, quant.high - quant.zero_point) + np.float32(quant.zero_point)
    return stored.astype(choose_dtype(quant.bits, quant.signed))


def dequantize_activation(stored: Array, quant: ActQuant) -> npt.NDArray[np.float32]:
    """Return the real activations, float32: ``(stored - zero_point) * scale``."""
    return (stored.astype(np.int32) - quant.zero_point).astype(np.float32) * np.float32(quant.scale)


def _join(parts: list[QuantizedWeights]) -> QuantizedWeights:
    """Join blocks of channels."""
    zeros = [part.zero_point for part in parts if part.zero_point is not None]
    return QuantizedWeights(
        stored=np.concatenate([part.stored for part in parts]),
        scale=np.concatenate([part.scale for part in parts]),
        zero_point=np.concatenate(zeros) if zeros else None,
        bits=parts[0].bits,
    )


def _quantize_symmetric(
    rows: npt.NDArray[np.float32], bits: int, clipping: str
) -> tuple[Array, npt.NDArray[np.float32], None]:
    if bits == 1:
        mean = np.abs(rows).mean(axis=1)
        if not np.isfinite(mean).all():  # their sum is beyond float32, the mean is not
            mean = np.abs(rows).mean(axis=1, dtype=np.float64)
        return np.where(rows < 0, -1, 1).astype(np.int8), make_scale(mean), None
    levels = (1 << (bits - 1)) - 1
    magnitudes = np.abs(rows)
    if clipping == "mse":
        limit = _search_limits(magnitudes, levels)
    elif clipping == "percentile":
        limit = np.percentile(magnitudes, 99.9, axis=1)
    elif clipping == "kl":
        limit = choose_entropy_limits(magnitudes, levels)
    else:
        limit = magnitudes.max(axis=1)
    scale = make_scale(limit / levels)
    stored = np.clip(np.rint(rows / scale[:, None]), -levels, levels)
    return stored.astype(choose_dtype(bits, signed=True)), scale, None


def _quantize_asymmetric(
    rows: npt.NDArray[np.float32], bits: int, clipping: str
) -> tuple[Array, npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    scale, zero = choose_asymmetric(rows, clipping, bits)
    stored = np.clip(np.rint(rows / scale[:, None]) + zero[:, None], 0, (1 << bits) - 1)
    return stored.astype(choose_dtype(bits, signed=False)), scale, zero.astype(np.int32)


def _search_limits(magnitudes: npt.NDArray[np.float32], levels: int) -> npt.NDArray[np.float64]:
    """Return, per row, the candidate limit with the least squared error of symmetric quantization."""
    top = magnitudes.max(axis=1).astype(np.float64)
    best, error = top.copy(), np.full(len(top), np.inf)
    for fraction in _FRACTIONS:
        scale = make_scale(top * fraction / levels)[:, None]
        rounded = np.minimum(np.rint(magnitudes / scale), levels) * scale
        now = np.square(rounded - magnitudes, dtype=np.float64).sum(axis=1)
        better = now <= error
        best, error = np.where(better, top * fraction, best), np.where(better, now, error)
    return best


def _round_scale(value: float, power_of_two: bool) -> float:
    scale = float(make_scale(value))
    return float(np.float32(2.0 ** np.ceil(np.log2(scale)))) if power_of_two else scale
