"""How the weights of a tile are stored, codec by codec, and which integers the engine multiplies by.

============  ==========================================================  =============================================
codec         bits of a tile                                              integers
============  ==========================================================  =============================================
dense         ``w_bits`` an element                                       the elements; one signed bit is -1 or +1
power-of-two  ``w_bits`` an element: exponent, then the sign; the          0, +-2**e, e from 0 to `find_largest_exponent`
              largest exponent's code (all ones) is zero
codebook      the table, 2**w_bits entries of ``TABLE_ENTRY_BITS``, then  the table's entries, signed
              an index of ``w_bits`` an element
bit-planes    ``w_bits`` planes, the sign's first, a bit an element each  ``2 v + 1``: v is floored, and stands for the middle
                                                                          of its step, however many planes are read
============  ==========================================================  =============================================

Elements lie in the order g, k, c, r, s, each least significant bit first; an architecture may take them in another order. Where
output channels differ in bits (`hwsim.core.policy.LayerFormat.channel_bits`, dense alone), each filter takes its own, the widest
first; pruned ones take none.

The table of a codebook is loaded with every weight tile, at its head: a look-up memory of one table is all that the engine holds. A
layer's stored size counts it once. Scales (and the largest exponent of power-of-two weights, which is one) stand in the parameter
table by channel, like biases. Bit planes are nested: the host keeps ``find_master_bits`` planes of a layer, a policy of fewer
``w_bits`` reads the first ones, and these alone are counted and moved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hwsim.core.bits import Bits, bits_to_integers, integers_to_bits
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.policy import LayerFormat

if TYPE_CHECKING:
    from hwsim.core.datapath import Workload

Int64 = npt.NDArray[np.int64]
TABLE_ENTRY_BITS = 8
"""Bits of an entry of a codebook's table: integers that an 8-bit engine multiplies by."""
MASTER_BITS = (8, 16)
"""Planes that nested weights are kept in; the least that holds a policy's."""
MOST_EXPONENT = 14
"""Largest left shift of an activation by a power-of-two weight: products of 8 bits stay within 32-bit accumulators, and the weights
within integers of 16 bits. Weights below 2**-14 of a filter's largest round to zero or to the smallest."""
CODE_BITS = {"power-of-two": (2, 8), "codebook": (1, 8), "bit-planes": (1, 15)}
"""Least and most ``w_bits`` of a codec; dense has 1 to 16."""


def find_codec(fmt: LayerFormat) -> str:
    """Return the codec that ``native`` stands for: powers of two for shifts, dense otherwise; any other codec itself."""
    if fmt.codec != "native":
        return fmt.codec
    return "power-of-two" if fmt.operator == "shift" else "dense"


def find_master_bits(w_bits: int) -> int:
    """Return the planes that nested weights are kept in."""
    return next(bits for bits in MASTER_BITS if w_bits <= bits)


def find_largest_exponent(w_bits: int) -> int:
    """Return the largest exponent of a power-of-two weight: one code is zero, and shifts are limited."""
    return min((1 << (w_bits - 1)) - 2, MOST_EXPONENT)


def count_engine_bits(fmt: LayerFormat) -> int:
    """Return the bits of the signed integers that the engine multiplies by."""
    codec = find_codec(fmt)
    if codec == "power-of-two":
        return find_largest_exponent(fmt.w_bits) + 2
    if codec == "codebook":
        return TABLE_ENTRY_BITS
    return fmt.w_bits + (codec == "bit-planes")


def count_table_bits(fmt: LayerFormat) -> int:
    """Return the bits of a codebook's table; 0 for other codecs."""
    return TABLE_ENTRY_BITS << fmt.w_bits if find_codec(fmt) == "codebook" else 0


def check_codec(workload: Workload) -> None:
    """Raise SpecError for bits that a codec has not, and for codecs, scales and bits by channel that do not go together."""
    fmt, where = workload.fmt, f"policy for layer {workload.layer.name}"
    codec = find_codec(fmt)
    low, high = CODE_BITS.get(codec, (1, 16))
    if not low <= fmt.w_bits <= high:
        raise SpecError(f"{where}: w_bits", fmt.w_bits, f"{low} to {high} bits with the codec {codec}")
    if fmt.operator == "shift" and codec != "power-of-two":
        raise SpecError(f"{where}: codec", fmt.codec, "power-of-two with the operator shift")
    if fmt.channel_bits and codec != "dense":
        raise SpecError(
            f"{where}: channel_bits", fmt.channel_bits, f"one width for all channels with the codec {codec}"
        )
    if fmt.scale == "shift" and (fmt.channel_bits or codec in ("codebook", "bit-planes")):
        raise SpecError(
            f"{where}: scale", fmt.scale, "multiplier where weights are of a codebook, bit planes or mixed bits"
        )


def list_filter_bits(layer: Layer, fmt: LayerFormat) -> Int64:
    """Return the bits of each filter as stored, int64 [G, K]."""
    if not fmt.channel_bits:
        return np.full((layer.G, layer.K), fmt.w_bits, np.int64)
    bits, counts = np.array(fmt.channel_bits, np.int64).T
    return np.repeat(bits, counts).reshape(layer.G, layer.K)


def sum_filter_bits(layer: Layer, fmt: LayerFormat) -> Int64:
    """Return the bits of an element of all filters before (g, k), int64 [G + 1, K + 1]: sums over blocks are four differences."""
    total = np.zeros((layer.G + 1, layer.K + 1), np.int64)
    total[1:, 1:] = list_filter_bits(layer, fmt).cumsum(axis=0).cumsum(axis=1)
    return total


def sum_block_tiles(layer: Layer, total: Int64, tile: tuple[int, int, int], align: int) -> tuple[int, int]:
    """Return the moved bits of all weight tiles of a tiling, each aligned, and of the first, where filters differ in bits.

    Parameters
    ----------
    total : ndarray int64
        Of `sum_filter_bits`.
    tile : tuple of int
        Sizes along G, K, C.
    """
    edges = [np.append(np.arange(0, size - 1, step), size - 1) for size, step in zip(total.shape, tile, strict=False)]
    corner = total[np.ix_(*edges)]
    block = np.diff(np.diff(corner, axis=0), axis=1).ravel()
    full, rest = divmod(layer.C, tile[2])
    window = layer.R * layer.S
    moved = full * (-(-block * tile[2] * window // align) * align).sum()
    if rest:
        moved += (-(-block * rest * window // align) * align).sum()
    return int(moved), int(-(-block[0] * min(tile[2], layer.C) * window // align) * align)


def pack_tile(name: str, fmt: LayerFormat, weight: npt.NDArray[Any], tile: Int64, filter_bits: Int64) -> Bits:
    """Return the stored bits of a weight tile.

    Parameters
    ----------
    name : str
        Of the layer, for errors.
    weight : ndarray
        All integers of the layer: a codebook's table is made of them.
    tile : ndarray int64 [filters, elements]
        Those of the tile.
    filter_bits : ndarray int64 [filters]
        Bits of each filter; used where they differ.

    Raises
    ------
    ValueError
        Integers that the codec does not hold.
    """
    codec, bits = find_codec(fmt), fmt.w_bits
    if codec == "power-of-two":
        return _pack_powers(name, tile, bits)
    if codec == "codebook":
        return _pack_indices(name, weight, tile, bits)
    if codec == "bit-planes":
        return list_planes(name, fmt, tile)[::-1].ravel()
    if fmt.channel_bits:
        parts = [pack_dense(name, row, int(width)) for row, width in zip(tile, filter_bits, strict=True)]
        return np.concatenate(parts) if parts else np.zeros(0, np.uint8)
    return pack_dense(name, tile, bits)


def unpack_tile(fmt: LayerFormat, bits: Bits, filter_bits: Int64, signed: bool) -> Int64:
    """Return the integers of a weight tile from its stored bits, int64 [filters * elements]."""
    codec, width = find_codec(fmt), fmt.w_bits
    if codec == "power-of-two":
        cells = bits.reshape(-1, width)
        exponent = bits_to_integers(cells[:, :-1], signed=False)
        value = np.where(exponent == (1 << (width - 1)) - 1, 0, np.int64(1) << np.minimum(exponent, MOST_EXPONENT))
        return np.where(cells[:, -1] == 1, -value, value)
    if codec == "codebook":
        head = count_table_bits(fmt)
        table = bits_to_integers(bits[:head].reshape(-1, TABLE_ENTRY_BITS), signed=True)
        return table[bits_to_integers(bits[head:].reshape(-1, width), signed=False)]
    if codec == "bit-planes":
        return 2 * bits_to_integers(np.ascontiguousarray(bits.reshape(width, -1)[::-1].T), signed=True) + 1
    if fmt.channel_bits:
        each, at, parts = int(filter_bits.sum()), 0, []
        elements = bits.size // each if each else 0
        for one in filter_bits.tolist():
            if one == 0:
                parts.append(np.zeros(elements, np.int64))
                continue
            parts.append(unpack_dense(bits[at : at + elements * one], one, signed))
            at += elements * one
        return np.concatenate(parts)
    return unpack_dense(bits, width, signed)


def pack_dense(name: str, tile: Int64, bits: int) -> Bits:
    """Return integers of ``bits`` bits one after the other, least significant bit first; -1 and +1 of one bit as 0 and 1.

    Zero bits hold nothing but zeros.
    """
    low, high = (int(tile.min()), int(tile.max())) if tile.size else (0, 0)
    if bits == 0 and low == high == 0:
        return np.zeros(0, np.uint8)
    if bits == 1 and low == -1 and tile.all():
        return integers_to_bits((tile + 1) >> 1, 1).ravel()
    if bits == 0 or low < (-(1 << (bits - 1)) if bits > 1 else 0) or high >= 1 << (bits if low >= 0 else bits - 1):
        raise ValueError(f"layer {name}: weights from {low} to {high} do not fit {bits} bits")
    return integers_to_bits(tile, bits).ravel()


def unpack_dense(bits: Bits, width: int, signed: bool) -> Int64:
    """Return the integers that `pack_dense` stored, int64 [elements]."""
    values = bits_to_integers(bits.reshape(-1, width), signed)
    return 2 * (values & 1) - 1 if signed and width == 1 else values


def list_planes(name: str, fmt: LayerFormat, tile: Int64) -> Bits:
    """Return the stored planes of bit-plane weights, the least significant first, uint8 [w_bits, elements]."""
    if not (tile & 1).all():
        raise ValueError(f"layer {name}: weights of {fmt.w_bits} leading planes are odd, twice the middle of a step")
    value = tile.ravel() >> 1
    low, high = int(value.min(initial=0)), int(value.max(initial=0))
    if low < -(1 << (fmt.w_bits - 1)) or high >= 1 << (fmt.w_bits - 1):
        raise ValueError(f"layer {name}: weights from {low} to {high} do not fit {fmt.w_bits} planes")
    return np.ascontiguousarray(integers_to_bits(value, fmt.w_bits).T)


def _pack_powers(name: str, tile: Int64, bits: int) -> Bits:
    size = np.abs(tile)
    exponent = np.frexp(size.astype(np.float64))[1].astype(np.int64) - 1
    if (size & (size - 1)).any() or exponent.max(initial=0) > find_largest_exponent(bits):
        raise ValueError(f"layer {name}: weights are no powers of two up to 2**{find_largest_exponent(bits)}")
    code = np.where(size == 0, (1 << (bits - 1)) - 1, exponent)
    return integers_to_bits(code | (tile < 0).astype(np.int64) << (bits - 1), bits).ravel()


def _pack_indices(name: str, weight: npt.NDArray[Any], tile: Int64, bits: int) -> Bits:
    table = np.unique(np.asarray(weight)).astype(np.int64)
    if len(table) > 1 << bits:
        raise ValueError(f"layer {name}: {len(table)} different weights, a codebook of {bits} bits holds {1 << bits}")
    entries = np.append(table, np.zeros((1 << bits) - len(table), np.int64))
    head = pack_dense(name, entries, TABLE_ENTRY_BITS)
    return np.concatenate([head, integers_to_bits(np.searchsorted(table, tile), bits).ravel()])
