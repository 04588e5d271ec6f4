"""The row-stationary schedule in closed form: what a tile takes under an arrangement.

Sizes are arrays that broadcast: one entry a tile, or one an arrangement where the best one is looked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hwsim.core.layer import Layer
from hwsim.core.mapping import C, G, Int64, K, N, P, Q

if TYPE_CHECKING:
    from hwsim.archs.eyeriss.spec import Eyeriss

PIPELINE_CYCLES = 8
"""Registers between ``ibuf`` and ``obuf`` besides the chain of a column: two of the buffer's read, bus, multiplier (2), sum, adder above
the array, ``obuf`` write (no RTL: unverified)."""


class Arrangement(NamedTuple):
    """How a layer lies on the array, all int or int64 arrays.

    Output rows of a set (``e``), filters that share an element (``p``), channels that share an element (``q``), channels one above
    the other in a column, their sums chained (``r``): names of the paper.
    """

    e: Int64 | int
    p: Int64 | int
    q: Int64 | int
    r: Int64 | int


class Counts(NamedTuple):
    """What tiles take, int64 each.

    Cycles, of these fill; cycles behind the last; elements read from ``wbuf`` and ``ibuf``; elements written to registers of weights and
    inputs; sums written to ``obuf``; additions up the columns.
    """

    cycles: Int64
    fill: Int64
    drain: Int64
    w_reads: Int64
    i_reads: Int64
    w_writes: Int64
    i_writes: Int64
    o_writes: Int64
    hops: Int64


@dataclass(frozen=True, slots=True)
class Filter:
    """What of a layer's window the schedule needs.

    Attributes
    ----------
    R, S : int
        Rows and columns.
    folds, rows : int
        Parts that the filter's rows are cut into where the array has fewer, and rows of a part.
    row_step : int
        Input rows by which neighbouring output rows differ; 0 where they share none.
    new_columns : int
        Columns that the next output column takes anew.
    """

    R: int
    S: int
    folds: int
    rows: int
    row_step: int
    new_columns: int


def describe_filter(layer: Layer, arch: Eyeriss) -> Filter:
    """Return the window of a layer as it lies on the array; a dilated one shares no rows and no columns."""
    folds = -(-layer.R // arch.rows)
    rows = -(-layer.R // folds)
    shared_rows = layer.dilation[0] == 1 and layer.stride[0] < rows
    shared_columns = layer.dilation[1] == 1 and layer.stride[1] < layer.S
    return Filter(
        R=layer.R,
        S=layer.S,
        folds=folds,
        rows=rows,
        row_step=layer.stride[0] if shared_rows else 0,
        new_columns=layer.stride[1] if shared_columns else layer.S,
    )


def _cut(extent: Int64, most: Int64 | int) -> tuple[Int64, Int64]:
    """Return the fewest parts of at most ``most``, and the size of the largest where they are as equal as can be."""
    parts = -(-extent // most)
    return np.asarray(parts), np.asarray(-(-extent // parts))


def count_tile(size: tuple[Int64, ...], window: Filter, arch: Eyeriss, how: Arrangement) -> Counts:
    """Return what tiles of ``size`` (extents along N G K C P Q) take; see `hwsim.archs.eyeriss.datapath`."""
    n, g, k, c, p_rows, q_columns = (size[dim] for dim in (N, G, K, C, P, Q))
    word, s = arch.o_port_words, window.S
    strips, e = _cut(p_rows, how.e)
    blocks, p = _cut(k, how.p)
    p = np.where(blocks > 1, -(-p // word) * word, p)
    channel_batches, chained = _cut(c, np.asarray(how.q) * how.r)
    r = -(-chained // how.q)
    q = -(-chained // r)
    sets = arch.rows // window.rows // r * (arch.cols // e)
    filter_batches, filter_sets = _cut(blocks, np.minimum(blocks, sets))
    group_batches, group_sets = _cut(g, np.maximum(1, np.minimum(g, sets // filter_sets)))
    strip_batches, strip_sets = _cut(n * strips, np.maximum(1, sets // (filter_sets * group_sets)))

    rounds = group_batches * filter_batches * channel_batches * window.folds
    weights = filter_sets * group_sets * p * r * q * (window.rows * s)
    in_rows = (e - 1) * window.row_step + window.rows if window.row_step else e * window.rows
    inputs = group_sets * strip_sets * r * q * in_rows
    compute = p * q * s
    first, later = -(-inputs * s // arch.i_port_words), -(-inputs * window.new_columns // arch.i_port_words)
    sums = e * strip_sets * group_sets * filter_sets * -(-p // word)
    drain = sums + window.rows * r + PIPELINE_CYCLES
    gap = np.maximum(-(-weights // arch.w_port_words), drain)
    step, last = np.maximum(np.maximum(compute, later), sums), np.maximum(compute, sums)
    run = first + (q_columns - 1) * step + last
    fill = rounds * (gap + strip_batches * first)

    columns = s + (q_columns - 1) * window.new_columns
    rows_all = (
        window.folds * (p_rows - strips) * window.row_step + strips * window.R if window.row_step else p_rows * window.R
    )
    pixels = n * g * p_rows * q_columns
    writes = pixels * k * channel_batches * window.folds
    elements = g * k * c * (window.R * s)
    return Counts(
        cycles=rounds * (gap + strip_batches * run),
        fill=fill,
        drain=drain,
        w_reads=elements,
        i_reads=n * g * c * rows_all * columns * filter_batches,
        w_writes=elements * e * strip_sets,
        i_writes=n * g * c * (p_rows * window.R) * columns * blocks,
        o_writes=writes,
        hops=writes * (window.rows * r - 1),
    )


def list_arrangements(layer: Layer, window: Filter, arch: Eyeriss) -> Arrangement:
    """Return every arrangement that fits registers and array, int64 [arrangements] each; p whole words of sums unless it is K."""
    deepest = max(1, arch.ifmap_words // window.S)
    e = _choose_sizes(layer.P, arch.cols)
    q = _choose_sizes(layer.C, deepest)
    r = np.arange(1, min(arch.rows // window.rows, layer.C) + 1)
    words = np.arange(arch.o_port_words, arch.psum_words + 1, arch.o_port_words)
    p = np.unique(np.append(words[words < layer.K], min(layer.K, max(words[-1:], default=1))))
    if layer.K <= arch.psum_words:
        p = np.append(p, layer.K)
    p = np.unique(np.maximum(1, np.minimum(p, arch.psum_words)))
    grid = [axis.ravel() for axis in np.meshgrid(e, p, q, r, indexing="ij")]
    keep = (grid[1] * grid[2] * window.S <= arch.filter_words) & (grid[3] <= -(-layer.C // grid[2]))
    return Arrangement(*(axis[keep].astype(np.int64) for axis in grid))


def _choose_sizes(extent: int, most: int) -> Int64:
    """Return the part sizes up to ``most`` that cut an extent evenly: one for each number of parts."""
    sizes = {-(-extent // parts) for parts in range(1, extent + 1)}
    return np.array(sorted(size for size in sizes if size <= most), np.int64)


def choose_arrangement(layer: Layer, arch: Eyeriss) -> Arrangement:
    """Return the arrangement of fewest cycles; of equals the one that reads least from ``ibuf`` and writes least to ``obuf``.

    It depends on the layer and the array alone, not on bits and tiles. A batch of one pass has to fit a bank of each buffer at
    16 bits, so that no arrangement is chosen that no tile can use; cycles are those of tiles as large as fit then.
    """
    window = describe_filter(layer, arch)
    found = list_arrangements(layer, window, arch)
    dims = tuple(np.int64(getattr(layer, dim)) for dim in "NGKCPQ")
    counts = count_tile(dims, window, arch, found)
    traffic = counts.i_reads * 16 + (2 * counts.o_writes) * arch.shell.psum_bits
    best = np.lexsort((traffic, counts.cycles))[0]
    return Arrangement(*(int(axis[best]) for axis in found))
