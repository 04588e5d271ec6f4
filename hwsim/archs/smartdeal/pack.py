"""The bits of SmartDeal's weights, tile by tile: how they stand in memory and how the slices read them.

A tile holds whole *steps* of channels (a basis slice, see `hwsim.quant.decompose_plan`; whole channels of dense weights) of its
filters, as a stream for each slice of the engine. Its bits, first to last:

=======================  ===============================================================================================
part                     bits
=======================  ===============================================================================================
header                   16 a slice: beats of its stream; then zeros to whole beats
streams                  in the order of slices, each followed by zeros to whole beats
=======================  ===============================================================================================

Filter i of a group of the tile belongs to slice ``i % slices`` (of a depthwise layer that is spread over the slices: channel i
of the tile). A slice's stream holds groups in order, in each its filters in order, in each its steps in order. A step of a
decomposed layer, rows numbered as in the plan, those of padding alone left out:

===========  =========================  ========================================================================================
part         bits                       content
===========  =========================  ========================================================================================
flag         1                          1: some row of the step has coefficients; 0: the step ends here
basis        72                         ``B[j, k]``, j outermost, 8 bits two's complement each
for each pass of the step:
-------------------------------------------------------------------------------------------------------------------------------
index        1 a row                    bit i: row i of the pass has coefficients
coefficient  12 a set index bit         rows in order; a row's ``c_0, c_1, c_2``, 4 bits each: bits 0 to 2 are |c|, bit 3 the sign
                                        (1: negative; 0 with |c| = 0)
===========  =========================  ========================================================================================

A step of a dense layer: the weights of its rows in order (c, r, s), 8 bits two's complement each; a row of three channels
with fewer is filled with zero weights.

Steps, passes and rows follow from the layer and the accelerator, everything else from the bits before it. Rows stand in the
order in which the passes take them.

The rebuild engine makes of a row ``c`` the weights (`hwsim.quant.decompose`)::

    w[k] = saturate_int8((sum_j sign(c_j) (B[j, k] << (|c_j| - 1)) + 32) >> 6)

one coefficient a cycle: three accumulators of 16 bits, each adding or subtracting one shifted basis element, the rounding
constant as their initial value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwsim.archs.smartdeal.rows import RowTable
from hwsim.core.bits import Bits, bits_to_integers, integers_to_bits
from hwsim.core.layer import Layer
from hwsim.core.mapping import C, G, Int64, K
from hwsim.quant.decompose import Decomposed
from hwsim.quant.decompose_plan import BASIS_BITS, BASIS_SIZE, COEFFICIENT_BITS

LENGTH_BITS = 16
"""Bits of a stream's length in the header."""
FLAG_BITS = 1
"""Bits that say whether a step has coefficients."""
MAGNITUDE_BITS = COEFFICIENT_BITS - 1
"""Bits of |c|; the bit above them is the sign."""
FRACTION_BITS = 6
"""Right shift that ends the sum of a rebuilt weight (`hwsim.quant.decompose`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileCut:
    """What a weight tile covers.

    Parameters
    ----------
    streams : tuple of tuple of int
        Filters of each slice, of all groups, in the order of its stream.
    first : int
        First filter of the tile.
    count : int
        Filters of the tile, which are neighbours.
    steps : range
        Steps of channels, whole.
    step : int
        Channels of a step; the last one of a layer may have fewer.
    channels : range
        Those that the tile's box asks for, inside its steps.
    beat_bits : int
        Header and streams are whole beats.
    """

    streams: tuple[tuple[int, ...], ...]
    first: int
    count: int
    steps: range
    step: int
    channels: range
    beat_bits: int


def count_header_bits(slices: int, beat_bits: int) -> int:
    """Return the bits of a tile's header, whole beats."""
    return -(-slices * LENGTH_BITS // beat_bits) * beat_bits


def cut_tile(layer: Layer, step: int, lo: Int64, hi: Int64, slices: int, beat_bits: int, spread: bool) -> TileCut:
    """Return the filters and steps of a tile's box; several groups come with all of their filters."""
    streams: list[list[int]] = [[] for _ in range(slices)]
    for g in range(int(lo[G]), int(hi[G])):
        for k in range(int(lo[K]), int(hi[K])):
            streams[(g - int(lo[G]) if spread else k - int(lo[K])) % slices].append(g * layer.K + k)
    return TileCut(
        streams=tuple(tuple(filters) for filters in streams), first=int(lo[G] * layer.K + lo[K]),
        count=sum(map(len, streams)), steps=range(int(lo[C]) // step, -(-int(hi[C]) // step)), step=step,
        channels=range(int(lo[C]), int(hi[C])), beat_bits=beat_bits,
    )  # fmt: skip


def list_step_passes(rows: RowTable, step: int) -> list[int]:
    """Return the rows of each pass of a step."""
    first = step * rows.passes_per_step
    return [int(count) for count in np.diff(rows.pass_start[first : first + rows.passes_per_step + 1])]


def pack_tile(
    layer: Layer, rows: RowTable, codec: Decomposed | None, weight: npt.NDArray[np.generic], cut: TileCut
) -> Bits:
    """Return the bits of a tile: of the codec where the weights are decomposed, else of ``weight`` ``[G*K, C, R, S]``.

    Raises
    ------
    ValueError
        A weight does not fit 8 bits, or a stream the header.
    """
    streams = []
    for filters in cut.streams:
        if rows.decomposed:
            assert codec is not None
            parts = [pack_step(codec, f, step, list_step_passes(rows, step)) for f in filters for step in cut.steps]
        else:
            parts = [pack_dense(weight, layer, rows, f, cut) for f in filters]
        stream = np.concatenate(parts) if parts else np.zeros(0, np.uint8)
        streams.append(_fill_beats(stream, cut.beat_bits))
    lengths = np.array([stream.size // cut.beat_bits for stream in streams], np.int64)
    if lengths.max() >= 1 << LENGTH_BITS:
        raise ValueError(f"layer {layer.name}: a stream of {lengths.max()} beats does not fit the header")
    header = _fill_beats(integers_to_bits(lengths, LENGTH_BITS).ravel(), cut.beat_bits)
    return np.concatenate([header, *streams])


def _fill_beats(bits: Bits, beat_bits: int) -> Bits:
    return np.append(bits, np.zeros(-bits.size % beat_bits, np.uint8)).astype(np.uint8)


def pack_step(codec: Decomposed, filter_index: int, step: int, passes: list[int]) -> Bits:
    """Return the bits of one filter's step of passes of so many rows: flag, basis, then index and coefficients of each pass."""
    codes = codec.codes[filter_index, step, : codec.plan.count_rows(step)].astype(np.int64)
    stored = np.asarray(codes.any(axis=1), np.bool_)
    if not stored.any():
        return np.zeros(FLAG_BITS, np.uint8)
    parts = [np.ones(FLAG_BITS, np.uint8), integers_to_bits(codec.basis[filter_index, step], BASIS_BITS).ravel()]
    first = 0
    for count in passes:
        held, rows = stored[first : first + count], codes[first : first + count]
        nibbles = np.abs(rows[held]) | (rows[held] < 0) << MAGNITUDE_BITS
        parts += [held.astype(np.uint8), integers_to_bits(nibbles, COEFFICIENT_BITS).ravel()]
        first += count
    return np.concatenate(parts)


def pack_dense(weight: npt.NDArray[np.generic], layer: Layer, rows: RowTable, filter_index: int, cut: TileCut) -> Bits:
    """Return the bits of one filter's plain 8-bit weights in the steps of a tile, whole rows."""
    channels = slice(cut.steps.start * cut.step, min(cut.steps.stop * cut.step, layer.C))
    held = np.asarray(weight).reshape(-1, layer.C, layer.R, layer.S)[filter_index, channels].astype(np.int64).ravel()
    if held.min() < -128 or held.max() > 127:
        raise ValueError(f"layer {layer.name}: weights from {held.min()} to {held.max()} do not fit {BASIS_BITS} bits")
    return integers_to_bits(np.append(held, np.zeros(-held.size % rows.width_elements, np.int64)), BASIS_BITS).ravel()


def unpack_tile(bits: Bits, layer: Layer, rows: RowTable, cut: TileCut) -> Int64:
    """Return the rebuilt weights of a tile, int64 ``[filters, channels, R, S]``, reading each stream once from first to last.

    Parameters
    ----------
    bits : ndarray uint8
        The tile.
    layer : Layer
        Kernel size, channels.
    rows : RowTable
        Rows of the layer's filters and their passes.
    cut : TileCut
        What the tile covers.

    Raises
    ------
    ValueError
        The header does not add up to the tile, or a stream does not end within its last beat.
    """
    first = cut.steps.start * cut.step
    held = min(cut.steps.stop * cut.step, layer.C) - first
    at = count_header_bits(len(cut.streams), cut.beat_bits)
    lengths = bits_to_integers(bits[: len(cut.streams) * LENGTH_BITS].reshape(-1, LENGTH_BITS), False) * cut.beat_bits
    if at + int(lengths.sum()) != bits.size:
        raise ValueError(f"layer {layer.name}: a weight tile of {bits.size} bits, its header says {at + lengths.sum()}")
    weights = np.zeros((cut.count, held * layer.R * layer.S), np.int64)
    for filters, length in zip(cut.streams, lengths.tolist(), strict=True):
        stream, place = bits[at : at + length], 0
        for f in filters:
            flat, place = _read_filter(stream, place, rows, cut.steps)
            weights[f - cut.first] = flat[: weights.shape[1]]
        if -(-place // cut.beat_bits) * cut.beat_bits != length:
            raise ValueError(f"layer {layer.name}: a stream of {length} bits ends at bit {place}")
        at += length
    blocks = weights.reshape(cut.count, held, layer.R, layer.S)
    return blocks[:, cut.channels.start - first : cut.channels.stop - first]


def _read_filter(stream: Bits, at: int, rows: RowTable, steps: range) -> tuple[Int64, int]:
    """Return the weights of a filter's rows one behind the other, and the place behind them."""
    found = []
    for step in steps:
        passes = list_step_passes(rows, step)
        if rows.decomposed:
            part, at = read_step(stream, at, passes)
        else:
            size = sum(passes) * rows.width_elements * BASIS_BITS
            part, at = bits_to_integers(stream[at : at + size].reshape(-1, BASIS_BITS), True), at + size
        found.append(part.ravel())
    return np.concatenate(found), at


def read_step(bits: Bits, at: int, passes: list[int]) -> tuple[Int64, int]:
    """Return one step's rebuilt rows, int64 ``[rows, 3]``, and the place of the first bit behind it."""
    rebuilt = np.zeros((sum(passes), BASIS_SIZE), np.int64)
    at += FLAG_BITS
    if not bits[at - FLAG_BITS]:
        return rebuilt, at
    size = BASIS_SIZE**2 * BASIS_BITS
    basis = bits_to_integers(bits[at : at + size].reshape(BASIS_SIZE, BASIS_SIZE, BASIS_BITS), True)
    at += size
    first = 0
    for count in passes:
        stored = first + np.flatnonzero(bits[at : at + count])
        at, first = at + count, first + count
        size = stored.size * BASIS_SIZE * COEFFICIENT_BITS
        nibbles = bits_to_integers(bits[at : at + size].reshape(-1, BASIS_SIZE, COEFFICIENT_BITS), False)
        rebuilt[stored], at = rebuild_rows(nibbles, basis), at + size
    return rebuilt, at


def rebuild_rows(nibbles: npt.NDArray[np.int64], basis: Int64) -> Int64:
    """Return weights ``[rows, 3]`` from coefficient nibbles ``[rows, 3]`` and a basis ``[3, 3]``, one coefficient after another."""
    total = np.full(nibbles.shape, 1 << (FRACTION_BITS - 1), np.int64)
    for j in range(BASIS_SIZE):
        magnitude = nibbles[:, j, None] & ((1 << MAGNITUDE_BITS) - 1)
        term = np.where(magnitude > 0, basis[j] << np.maximum(magnitude - 1, 0), 0)
        total += np.where(nibbles[:, j, None] >> MAGNITUDE_BITS, -term, term)
    return np.clip(total >> FRACTION_BITS, -128, 127)
