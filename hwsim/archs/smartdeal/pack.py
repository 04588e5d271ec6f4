"""The bits of SmartDeal's weights, tile by tile: how they stand in memory and how the rebuild engine reads them.

A tile holds whole *steps* of channels (a basis slice, see `hwsim.quant.decompose_plan`) of its filters. Its bits, first to last:

- filters in order; within a filter its steps in order. Filter i of the tile belongs to slice ``i % slices`` of the engine: a
  loader hands its bits to that slice's bank of ``wbuf``.
- a step of a decomposed layer, rows numbered as in the plan, those of padding alone left out:

  ===========  =========================  ========================================================================================
  part         bits                       content
  ===========  =========================  ========================================================================================
  index        1 a row                    bit i: row i has coefficients
  basis        72, or none                only where an index bit is set: ``B[j, k]``, j outermost, 8 bits two's complement each
  coefficient  12 a set index bit         rows in order; a row's ``c_0, c_1, c_2``, 4 bits each: bits 0 to 2 are |c|, bit 3 the sign
                                          (1: negative; 0 with |c| = 0)
  ===========  =========================  ========================================================================================

- a step of a dense layer: its weights in the order c, r, s, 8 bits two's complement each.

The number of rows of a step follows from the layer, everything else from the bits before it: a reader that streams the tile
counts the index bits as they pass and knows where the step ends. Rows stand in the order in which the passes take them.

The rebuild engine makes of a row ``c`` the weights (`hwsim.quant.decompose`)::

    w[k] = saturate_int8((sum_j sign(c_j) (B[j, k] << (|c_j| - 1)) + 32) >> 6)

one coefficient a cycle: three accumulators of 16 bits, each adding or subtracting one shifted basis element, the rounding
constant as their initial value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwsim.core.bits import Bits, bits_to_integers, integers_to_bits
from hwsim.core.layer import Layer
from hwsim.core.mapping import C, G, Int64, K
from hwsim.quant.decompose import Decomposed
from hwsim.quant.decompose_plan import BASIS_BITS, BASIS_SIZE, COEFFICIENT_BITS

MAGNITUDE_BITS = COEFFICIENT_BITS - 1
"""Bits of |c|; the bit above them is the sign."""
FRACTION_BITS = 6
"""Right shift that ends the sum of a rebuilt weight (`hwsim.quant.decompose`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileCut:
    """What a weight tile covers.

    Parameters
    ----------
    filters : range
        Of all groups.
    steps : range
        Steps of channels, whole.
    step : int
        Channels of a step; the last one of a layer may have fewer.
    channels : range
        Those that the tile's box asks for, inside its steps.
    """

    filters: range
    steps: range
    step: int
    channels: range


def cut_tile(layer: Layer, step: int, lo: Int64, hi: Int64) -> TileCut:
    """Return the filters and steps of a tile's box; several groups come with all of their filters."""
    first, last = int(lo[G] * layer.K + lo[K]), int((hi[G] - 1) * layer.K + hi[K])
    return TileCut(
        filters=range(first, last), steps=range(int(lo[C]) // step, -(-int(hi[C]) // step)), step=step,
        channels=range(int(lo[C]), int(hi[C])),
    )  # fmt: skip


def pack_tile(codec: Decomposed, cut: TileCut) -> Bits:
    """Return the bits of a tile of a decomposed layer."""
    parts = [pack_step(codec, f, s) for f in cut.filters for s in cut.steps]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint8)


def pack_step(codec: Decomposed, filter_index: int, step: int) -> Bits:
    """Return the bits of one filter's step: index, basis, coefficients."""
    rows = codec.plan.count_rows(step)
    codes = codec.codes[filter_index, step, :rows].astype(np.int64)
    stored = codes.any(axis=1)
    index: Bits = np.asarray(stored, np.uint8)
    if not stored.any():
        return index
    nibbles = np.abs(codes[stored]) | (codes[stored] < 0) << MAGNITUDE_BITS
    basis = integers_to_bits(codec.basis[filter_index, step], BASIS_BITS)
    return np.concatenate([index, basis.ravel(), integers_to_bits(nibbles, COEFFICIENT_BITS).ravel()])


def unpack_tile(bits: Bits, layer: Layer, rows_of_step: list[int], cut: TileCut) -> Int64:
    """Return the rebuilt weights of a tile, int64 ``[filters, channels, R, S]``, reading its bits once from first to last.

    Parameters
    ----------
    bits : ndarray uint8
        The tile.
    layer : Layer
        Kernel size, channels.
    rows_of_step : list of int
        Rows of each step of the layer.
    cut : TileCut
        What the tile covers.

    Raises
    ------
    ValueError
        The bits do not end where the last step does.
    """
    window = layer.R * layer.S
    first = cut.steps.start * cut.step
    held = min(cut.steps.stop * cut.step, layer.C) - first
    weights = np.zeros((len(cut.filters), held * window), np.int64)
    at = 0
    for f in range(len(cut.filters)):
        place = 0
        for step in cut.steps:
            rows, at = read_step(bits, at, rows_of_step[step])
            flat = rows.ravel()[: held * window - place]
            weights[f, place : place + flat.size] = flat
            place += flat.size
    if at != bits.size:
        raise ValueError(f"layer {layer.name}: a weight tile of {bits.size} bits ends at bit {at}")
    blocks = weights.reshape(len(cut.filters), held, layer.R, layer.S)
    return blocks[:, cut.channels.start - first : cut.channels.stop - first]


def read_step(bits: Bits, at: int, rows: int) -> tuple[Int64, int]:
    """Return one step's rebuilt rows, int64 ``[rows, 3]``, and the place of the first bit behind it."""
    rebuilt = np.zeros((rows, BASIS_SIZE), np.int64)
    stored = np.flatnonzero(bits[at : at + rows])
    at += rows
    if not stored.size:
        return rebuilt, at
    size = BASIS_SIZE**2 * BASIS_BITS
    basis = bits_to_integers(bits[at : at + size].reshape(BASIS_SIZE, BASIS_SIZE, BASIS_BITS), True)
    at += size
    size = stored.size * BASIS_SIZE * COEFFICIENT_BITS
    nibbles = bits_to_integers(bits[at : at + size].reshape(-1, BASIS_SIZE, COEFFICIENT_BITS), False)
    rebuilt[stored] = rebuild_rows(nibbles, basis)
    return rebuilt, at + size


def rebuild_rows(nibbles: npt.NDArray[np.int64], basis: Int64) -> Int64:
    """Return weights ``[rows, 3]`` from coefficient nibbles ``[rows, 3]`` and a basis ``[3, 3]``, one coefficient after another."""
    total = np.full(nibbles.shape, 1 << (FRACTION_BITS - 1), np.int64)
    for j in range(BASIS_SIZE):
        magnitude = nibbles[:, j, None] & ((1 << MAGNITUDE_BITS) - 1)
        term = np.where(magnitude > 0, basis[j] << np.maximum(magnitude - 1, 0), 0)
        total += np.where(nibbles[:, j, None] >> MAGNITUDE_BITS, -term, term)
    return np.clip(total >> FRACTION_BITS, -128, 127)


def pack_dense(weight: npt.NDArray[np.generic], layer: Layer, cut: TileCut) -> Bits:
    """Return the bits of a tile of plain 8-bit weights ``[G*K, C, R, S]``."""
    blocks = np.asarray(weight).reshape(-1, layer.C, layer.R, layer.S)
    channels = slice(cut.steps.start * cut.step, min(cut.steps.stop * cut.step, layer.C))
    tile = blocks[cut.filters.start : cut.filters.stop, channels].astype(np.int64)
    if tile.min() < -128 or tile.max() > 127:
        raise ValueError(f"layer {layer.name}: weights from {tile.min()} to {tile.max()} do not fit {BASIS_BITS} bits")
    return integers_to_bits(tile, BASIS_BITS).ravel()


def unpack_dense(bits: Bits, layer: Layer, cut: TileCut) -> Int64:
    """Return the weights of a dense tile, int64 ``[filters, channels, R, S]``."""
    first = cut.steps.start * cut.step
    values = bits_to_integers(bits.reshape(-1, BASIS_BITS), True).reshape(len(cut.filters), -1, layer.R, layer.S)
    return values[:, cut.channels.start - first : cut.channels.stop - first]
