"""Nested weights in bit planes: one set of integers, any lower precision by leaving planes out.

Source: vertical-layered representation (arXiv 2212.05326): the most significant plane is the base, each further one enhances it,
and a network at fewer bits reads fewer planes. Planes are two's complement; without the low planes a weight is floored, and
the middle of what it then stands for is half a step higher (``centred``).

Rounded to the nearest integer, the weights that share their leading planes lie half a step of the full precision below that middle:
the same small error in every weight, which adds up over a sum of activations that are not negative. ``middle`` integers are
floored instead, and stand for the middle of their step at every precision, the full one included; no number of them is zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hwsim.core.bits import integers_to_bits
from hwsim.core.check import require_int
from hwsim.core.tensors import Array
from hwsim.quant.overflow import refuse_rounding
from hwsim.quant.rows import spread
from hwsim.quant.uniform import SCALE_BITS, QuantizedWeights, choose_dtype, quantize_weights


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlaneWeights:
    """Weights by bit planes.

    Parameters
    ----------
    planes : ndarray of uint8
        ``[bits, ceil(size / 8)]``, the sign plane first, eight weights a byte, the first in the lowest bit.
    shape : tuple of int
        Of the float weights.
    scale : ndarray of float32
        Of the full precision, ``[channels]`` or ``[1]``.
    middle : bool
        Integers are floored: v stands for ``(v + 1/2) * scale``.
    """

    planes: npt.NDArray[np.uint8]
    shape: tuple[int, ...]
    scale: npt.NDArray[np.float32]
    middle: bool = False

    @property
    def bits(self) -> int:
        """Planes that are stored."""
        return len(self.planes)

    @property
    def size(self) -> int:
        """Number of weights."""
        return int(np.prod(self.shape))

    @property
    def storage_bits(self) -> int:
        """Exact size: a bit a plane and weight, and the scales (one set serves every precision)."""
        return self.size * self.bits + self.scale.size * SCALE_BITS

    def count_moved_bits(self, bits: int, held: int = 0) -> int:
        """Return the bits that are read to compute at ``bits`` where ``held`` planes are on chip already."""
        require_int("bits", bits, 1, self.bits)
        require_int("held", held, 0, self.bits)
        return self.size * max(bits - held, 0)

    def read(self, bits: int, centred: bool = False) -> tuple[Array, npt.NDArray[np.float32]]:
        """Return the integers of the first ``bits`` planes, and their scales.

        ``centred`` integers are ``2 * floored + 1`` at half the scale (one bit wider, always odd) where planes are missing: they
        stand in the middle of the weights that share the planes. Where weights are floored (``middle``) they always are.
        """
        require_int("bits", bits, 1, self.bits)
        count = self.size
        rows = np.unpackbits(self.planes[:bits], axis=1, count=count, bitorder="little").astype(np.int32)
        value = -rows[0]
        for row in rows[1:]:
            value = 2 * value + row
        gone = self.bits - bits
        scale = self.scale * np.float32(1 << gone)
        if self.middle or (centred and gone):
            # A rounded weight w of the full width lies in [v * 2**gone, (v + 1) * 2**gone - 1]: middle v + 1/2 - 2**-(gone+1).
            value, scale, bits = 2 * value + 1, scale / np.float32(2), bits + 1
        return value.reshape(self.shape).astype(choose_dtype(bits, signed=True)), scale.astype(np.float32)

    def dequantize(self, bits: int | None = None, centred: bool = False) -> npt.NDArray[np.float32]:
        """Return the real weights at ``bits`` (by default all), float32."""
        value, scale = self.read(self.bits if bits is None else bits, centred)
        return value.astype(np.float32) * spread(scale, len(self.shape))


def split_planes(weight: QuantizedWeights) -> PlaneWeights:
    """Return symmetric integer weights by planes; exact.

    Raises
    ------
    InputError
        The scale of the sign plane alone, half the range, is beyond float32.
    """
    with np.errstate(over="ignore"):
        if not np.isfinite(weight.scale * np.float32(1 << (weight.bits - 1))).all():
            refuse_rounding(weight.dequantize(), "bit planes")
    flat = weight.stored.reshape(-1)
    planes = integers_to_bits(flat, weight.bits).T[::-1]
    packed = np.packbits(np.ascontiguousarray(planes), axis=1, bitorder="little")
    return PlaneWeights(planes=packed, shape=weight.stored.shape, scale=weight.scale)


def quantize_planes(
    weight: Array, bits: int = 8, per_channel: bool = True, clipping: str = "max", middle: bool = False
) -> PlaneWeights:
    """Quantize float weights symmetrically at the full precision (2 to 16 bits) and split them; see `quantize_weights`.

    ``middle``: steps of the same range, ``2**bits`` of them, floored; a channel of zeros takes the smallest scale of the others.
    The middle of a step takes a bit more, so ``bits`` are 15 at most then.
    """
    require_int("bits", bits, 2, 15 if middle else 16)
    found = quantize_weights(weight, bits, per_channel, clipping=clipping)
    if not middle:
        return split_planes(found)
    rows = np.asarray(weight, np.float32).reshape(len(found.scale), -1)
    half = 1 << (bits - 1)
    used = rows.any(axis=1)
    scale = found.scale * np.float32((half - 1) / half)
    scale = np.where(used, scale, scale[used].min() if used.any() else np.finfo(np.float32).tiny).astype(np.float32)
    stored = np.clip(np.floor(rows / scale[:, None]), -half, half - 1).astype(found.stored.dtype)
    floored = replace(found, stored=stored.reshape(found.stored.shape), scale=scale)
    return replace(split_planes(floored), middle=True)
