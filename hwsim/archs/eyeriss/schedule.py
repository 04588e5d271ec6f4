"""The row-stationary schedule in closed form: what a tile takes under an arrangement.

Sizes are arrays that broadcast: one entry a tile, or one an arrangement where the best one is looked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hwsim.core.layer import Layer
from hwsim.core.mapping import C, G, Int64, K, N, P, Q

if TYPE_CHECKING:
    from hwsim.archs.eyeriss.spec import Eyeriss

PIPELINE_CYCLES = 8
"""Registers between ``ibuf`` and ``obuf`` besides the chain of a column: two of the buffer's read, bus, multiplier (2), sum, adder
above the array, ``obuf`` write (no RTL: unverified)."""
MOST_SIZES = 16
"""Sizes of each kind that are tried; Eyeriss' own array has fewer."""
SETS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 21, 24, 28, 32, 42, 48, 56, 64, 84, 96, 112, 128, 168)
"""How many sets may take filters when an arrangement is chosen."""


class Arrangement(NamedTuple):
    """How a layer lies on the array, all int or int64 arrays.

    Output rows of a set (``e``), filters that share an element (``p``), channels that share an element (``q``), channels one above
    the other in a column, their sums chained (``r``): names of the paper.
    """

    e: Any
    p: Any
    q: Any
    r: Any


class Counts(NamedTuple):
    """What tiles take, int64 each.

    Cycles, of these fill; cycles behind the last; elements read from ``wbuf`` and ``ibuf``; elements written to registers of
    weights and inputs; sums written to ``obuf``; additions up the columns.
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


def _cut(extent: Int64, most: Any) -> tuple[Int64, Int64]:
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


def list_arrangements(layer: Layer, window: Filter, arch: Eyeriss) -> tuple[Arrangement, Int64]:
    """Return every arrangement that fits registers and array, int64 [arrangements] each, with 1 to all its sets on filters.

    Of sizes that cut an extent into as many parts the most even one is listed; p is a multiple of ``o_port_words`` or K.
    """
    word, sets = arch.o_port_words, arch.rows // window.rows * arch.cols
    blocks = {min(-(-size // word) * word, layer.K) for size in _choose_sizes(layer.K, arch.psum_words)}
    axes = (
        _choose_sizes(layer.P, arch.cols),
        sorted(size for size in blocks if size <= arch.psum_words),
        _choose_sizes(layer.C, max(1, arch.ifmap_words // window.S)),
        _thin(list(range(1, min(arch.rows // window.rows, layer.C) + 1))),
        [t for t in SETS if t <= sets],
    )
    grid = np.meshgrid(*(np.array(axis, np.int64) for axis in axes), indexing="ij")
    e, p, q, r, t = (axis.ravel() for axis in grid)
    keep = (p * q * window.S <= arch.filter_words) & (r <= -(-layer.C // q)) & (t <= -(-layer.K // p))
    keep &= t * r * window.rows * e <= arch.rows * arch.cols
    return Arrangement(e[keep], p[keep], q[keep], r[keep]), t[keep]


def _choose_sizes(extent: int, most: int) -> list[int]:
    """Return part sizes up to ``most`` that cut an extent evenly: one for each number of parts, of many every so many-th."""
    sizes = sorted({-(-extent // -(-extent // size)) for size in range(1, min(extent, most) + 1)})
    return _thin(sizes)


def _thin(sizes: list[int]) -> list[int]:
    """Return at most ``MOST_SIZES`` sizes, spaced by ratio, the first and the last among them."""
    if len(sizes) <= MOST_SIZES:
        return sizes
    ratio = (sizes[-1] / sizes[0]) ** (1 / (MOST_SIZES - 1))
    wanted = (sizes[0] * ratio**step for step in range(MOST_SIZES))
    return sorted({min(sizes, key=lambda size: abs(size - want)) for want in wanted})
