"""The choice of an arrangement: branch and bound over arrangements and the tiles that go with them.

Which tiles are tried, and what a tile is held to take, depends on layer, array and memory alone; buffers only say which of them
fit. What a larger buffer may choose from therefore holds all that a smaller one may.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from hwsim.archs.eyeriss.schedule import Arrangement, Filter, count_tile, describe_filter, list_arrangements
from hwsim.archs.eyeriss.spec import WORD_BITS
from hwsim.core.layer import Layer
from hwsim.core.mapping import TILE_DIMS, C, G, Int64, K, N, P
from hwsim.core.tile_sums import list_extents

if TYPE_CHECKING:
    from hwsim.archs.eyeriss.spec import Eyeriss

CHUNK = 128
"""Arrangements that are compared at once."""


def choose_arrangement(layer: Layer, arch: Eyeriss) -> Arrangement:
    """Return the arrangement of fewest estimated cycles over tiles that fit; of equals the one that moves least on chip.

    Tried with each arrangement: tiles of t blocks of filters, and the cuts of rows, channels, groups and images that a mapper
    tries, at 16 bits an element: the choice depends on layer and accelerator, not on bits. Tiles are the mapper's to choose;
    this says which are worth it. Arrangements come in the order of a lower bound of their cycles until none left can be
    better. Where nothing fits, whole layers are compared.
    """
    window = describe_filter(layer, arch)
    found, t = list_arrangements(layer, window, arch)
    floor = bound_arrangements(layer, window, arch, found, t)
    cuts = np.array(list_cuts(layer), np.int64)
    order = np.argsort(floor, kind="stable")
    best: tuple[int, int, int] | None = None
    for start in range(0, len(order), CHUNK):
        some = order[start : start + CHUNK]
        if best is not None and floor[some[0]] > best[0]:
            break
        how, which, tile = list_tiles(layer, arch, found, t, some, cuts)
        if len(which):
            cycles, moved = estimate_tiles(layer, window, arch, how, tile)
            first = np.lexsort((moved, cycles))[0]
            one = int(cycles[first]), int(moved[first]), int(which[first])
            best = one if best is None else min(best, one)
    if best is None:
        whole = [np.full(len(t), extent) for extent in list_extents(layer)]
        cycles, moved = estimate_tiles(layer, window, arch, found, whole)
        return _pick(found, int(np.lexsort((moved, cycles))[0]))
    return _pick(found, best[2])


def _pick(found: Arrangement, at: int) -> Arrangement:
    return Arrangement(*(int(axis[at]) for axis in found))


def bound_arrangements(layer: Layer, window: Filter, arch: Eyeriss, how: Arrangement, t: Int64) -> Int64:
    """Return cycles that no tiling goes below, int64 [arrangements].

    Weights and first windows, then the longest of products, inputs of later columns and sums written.
    """
    above = arch.rows // window.rows
    batches = -(-layer.C // (how.q * how.r))
    most_channels = -(-layer.C // batches)
    even = -(-most_channels // how.q)  # a tile of all channels chains as many
    sets = np.maximum(above // how.r * how.r, above // even * even) * (arch.cols // how.e)
    most = np.maximum(how.r, even) * t * layer.G * layer.N * -(-layer.P // how.e)
    elements = np.minimum(sets, most) * window.rows * how.e
    rows = layer.N * layer.G * layer.P
    sums = rows * layer.Q * -(-layer.K // arch.o_port_words) * batches * window.folds
    column = rows * layer.C * (window.row_step or window.rows) * window.folds * -(-layer.K // (t * how.p))
    later = column * (layer.Q - 1) * window.new_columns // arch.i_port_words
    fill = column * window.S // arch.i_port_words + layer.weights // arch.w_port_words
    return np.asarray(fill + np.maximum(np.maximum(layer.macs // elements, later), sums), np.int64)


def _cut_evenly(extent: int) -> list[int]:
    """Return 1, 2, 3, 4, 6, 8, 12 ... parts up to ``extent``, and that many."""
    parts = {1, extent}
    step = 1
    while step <= extent:
        parts |= {step, min(extent, step * 3 // 2)}
        step *= 2
    return sorted(parts - {0})


def list_cuts(layer: Layer) -> list[tuple[int, int, int, int]]:
    """Return parts along N, G, C, P: of several images all rows, of several groups all channels."""
    pixels = [(n, 1) for n in _cut_evenly(layer.N)] + [(layer.N, p) for p in _cut_evenly(layer.P)[1:]]
    channels = [(g, 1) for g in _cut_evenly(layer.G)] + [(layer.G, c) for c in _cut_evenly(layer.C)[1:]]
    return [(n, g, c, p) for (n, p), (g, c) in product(pixels, channels)]


def list_tiles(
    layer: Layer, arch: Eyeriss, found: Arrangement, t: Int64, some: Int64, cuts: Int64
) -> tuple[Arrangement, Int64, list[Int64]]:
    """Return the tiles that fit a bank each, int64 [tiles]: arrangement, its place in the list, extents along N G K C P Q."""
    shell = arch.shell
    e, p, q, r, blocks = (axis[some][:, None] for axis in (*found, t))
    parts_n, parts_g, parts_c, parts_p = cuts.T
    least = q * r
    c, rows = -(-layer.C // parts_c), -(-layer.P // parts_p)
    c, rows = np.minimum(-(-c // least) * least, layer.C), np.minimum(-(-rows // e) * e, layer.P)
    k = np.minimum(blocks * p, layer.K)
    g, n = -(-layer.G // parts_g), -(-layer.N // parts_n)
    psums = n * g * -(-k // arch.o_port_words) * arch.o_port_words * rows * layer.Q
    fits = psums * shell.psum_bits <= shell.bank_bits("obuf")
    fits &= g * k * c * (layer.R * layer.S * WORD_BITS) <= shell.bank_bits("wbuf")
    fits &= n * g * c * _reach(layer, rows) * (layer.W * WORD_BITS) <= shell.bank_bits("ibuf")
    fits &= n * g * k * rows * (layer.Q * WORD_BITS) <= shell.bank_bits("sbuf")
    fits &= (g == 1) | ((k == layer.K) & (c == layer.C))
    at, cut = np.nonzero(fits)
    sizes = (n, g, k, c, rows, np.int64(layer.Q))
    tile = [np.broadcast_to(size, fits.shape)[at, cut] for size in sizes]
    which = some[at]
    return Arrangement(*(axis[which] for axis in found)), which, tile


def _reach(layer: Layer, rows: Int64) -> Int64:
    """Return the input rows that output rows take."""
    return np.minimum((rows - 1) * layer.stride[0] + layer.dilation[0] * (layer.R - 1) + 1, layer.H)


def estimate_tiles(
    layer: Layer, window: Filter, arch: Eyeriss, how: Arrangement, tile: list[Int64]
) -> tuple[Int64, Int64]:
    """Return cycles of a layer cut into tiles, and bits moved in ``ibuf`` and ``obuf``, int64 [tiles] each.

    The longer one of: first loads, all tiles (each as long as a full one), the last store; all that goes through the memory's
    port in the better of two orders, elements of 16 bits.
    """
    counts, memory = count_tile(tuple(tile), window, arch, how), arch.memory
    parts = [-(-getattr(layer, dim) // size) for dim, size in zip(TILE_DIMS, tile, strict=True)]
    m, k, c = parts[N] * parts[P], parts[K], parts[C]
    tiles = m * parts[G] * k * c
    inputs = tile[N] * tile[G] * tile[C] * _reach(layer, tile[P]) * layer.W
    weights = tile[G] * tile[K] * tile[C] * (layer.R * layer.S)
    outputs = tile[N] * tile[G] * tile[K] * tile[P] * layer.Q
    all_inputs, all_weights = inputs * m * parts[G] * c, layer.weights
    again = np.where(c > 1, m, 1)
    pixels_outside = all_inputs * np.where(c > 1, k, 1) + all_weights * np.where(parts[G] * k * c > 1, m, 1)
    filters_outside = all_inputs * k + all_weights * again
    moved = np.minimum(pixels_outside, filters_outside) + layer.out_elements
    port = memory.bits_per_cycle
    first = memory.latency_cycles + -(-(inputs + weights) * WORD_BITS // port)
    last = counts.drain + -(-outputs // arch.shell.store_lanes) + -(-outputs * WORD_BITS // port)
    cycles = np.maximum(first + tiles * (counts.cycles + arch.shell.issue_cycles) + last, -(-moved * WORD_BITS // port))
    on_chip = tiles * (counts.i_reads * WORD_BITS + 2 * counts.o_writes * arch.shell.psum_bits)
    return np.asarray(cycles, np.int64), np.asarray(on_chip, np.int64)
