"""The four dataflows in closed form: what a tile takes on a chunk of R_a rows and C_a columns of elements.

Ports of a chunk, for every dataflow: ``wbuf`` and ``ibuf`` hand over ``lanes = max(R_a, C_a)`` elements each in a cycle, over buses
that carry an element to any set of processing elements at once; ``obuf`` takes a word of C_a sums a cycle and adds them to
what stands there (all but the first sums of a tile at channel 0). A tile of m pixels, depth d = c R S and k filters is, group
by group, cut into folds, which fill the array once; ``ceil`` in all of them, a ragged fold takes as long as its own sizes say:

====  =================  =================  ===========================  ==========================================
      rows               columns            a cycle                      folds of a group
====  =================  =================  ===========================  ==========================================
os    pixels             filters            an element of the depth      (m / R_a) (k / C_a), each max(d, R_a) cycles
ws    depth              filters            a pixel                      (d / R_a) (k / C_a), each m cycles
is    depth              pixels             a filter                     (d / R_a) (m / C_a), each k cycles
rs    rows of a filter,  output rows (e),   a tap of a filter's row for  (c / v) (k / h), each the strips of e output rows
      of v channels      of h filters       every element                one after the other, q S cycles at least
====  =================  =================  ===========================  ==========================================

- ``os``: elements keep sums, read and written at each operation. A row takes its pixel's input and a column its filter's weight.
  Done sums move to shadow registers and leave row by row, R_a cycles, while the next fold runs; no fold is shorter than that, the
  last one's R_a cycles are the tail.
- ``ws``: elements keep a weight each; a row's input goes to all its elements, columns add up their rows and write C_a sums a cycle.
- ``is``: elements keep an input each; a row's weight goes to all its elements, columns add up their rows.
- ``ws``, ``is``: no element keeps a sum. A column's rows are added up in a tree of ceil(log2 R_a) levels, each node of which is a
  register: ceil(t / 2), ceil(t / 4) ... 1 of them take a sum each time where t rows work (`count_tree`).
- ``rs``: an element keeps a row of a filter, slides over a row of the input and adds up S products in its sum. Sets of R rows of
  elements stand one above the other for v = floor(R_a / R) channels, whose sums run up the columns, through the tree; e columns
  are output rows, h = floor(C_a / e) such blocks are filters. Filters of more than R_a rows go in parts of R_a. An output column
  takes S cycles, a tap each, in which the inputs that the next one sees anew are loaded beside: v * (rows that e output rows see)
  * (new columns) over the lanes, and the column takes as long as that where it is longer. The first column of a strip sees S
  columns anew; their load has a slot of F cycles, those of the tile's largest strip, in the last column of the strip before. Each
  input is read once a strip. Depthwise layers put channels in place of filters and, as far as S sums of a column can leave in S
  cycles, one above the other too. ``e`` is that which runs the whole layer as one tile with the fewest input reads, of those
  within half a percent of the fewest cycles.

What stays (weights of ``ws`` and ``rs``, inputs of ``is``) is loaded over the lanes into a second set of registers while the fold
before runs. A load has a slot of L cycles, those of the tile's largest fold; the first loads of a tile have nothing to hide behind:

    busy = fill + sum of max(run(fold), L) over all folds but the last + run(last)
    fill = L; for rs the longer of L and the first strip's first columns

Buffer reads are elements that buses carry: a weight or input that several elements take at once is read once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hwsim.archs.nasa.spec import Chunk
from hwsim.core.layer import Layer
from hwsim.core.mapping import CYCLES_TIE, C, G, Int64, K, N, P, Q
from hwsim.core.tile_sums import list_extents


class Counts(NamedTuple):
    """What tiles take, int64 [tiles] each.

    Cycles, and of these the first loads; elements read from ``wbuf`` and ``ibuf``; elements written to registers in which weights
    and inputs stay; sums written to ``obuf``, and to registers of the columns' trees.
    """

    cycles: Int64
    fill: Int64
    w_reads: Int64
    i_reads: Int64
    w_writes: Int64
    i_writes: Int64
    o_writes: Int64
    tree: Int64


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """How a layer lies on a row-stationary chunk.

    Parameters
    ----------
    rows : int
        Output rows at once, e.
    across : int
        Filters (depthwise: channels) side by side, h.
    above : int
        Channels one above the other, v.
    parts : int
        Parts that a filter of more rows than the array has goes in.
    depthwise : bool
        Whether sets hold channels that are not added up.
    """

    rows: int
    across: int
    above: int
    parts: int
    depthwise: bool


def list_new(stride: int, dilation: int, window: int) -> Int64:
    """Return how many positions each of neighbouring outputs sees that none before it saw; all later ones as many as the last."""
    steps = (window - 1) * dilation // stride + 1
    seen: set[int] = set()
    found = []
    for i in range(steps + 1):
        taps = {i * stride + tap * dilation for tap in range(window)}
        found.append(len(taps - seen))
        seen |= taps
    return np.array(found, np.int64)


def sum_new(count: Int64, new: Int64) -> Int64:
    """Return how many different positions ``count`` neighbouring outputs see (``new``: of `list_new`)."""
    known = np.append(0, new.cumsum())
    small = np.minimum(count, len(new))
    return np.asarray(known[small] + (count - small) * new[-1], np.int64)


def count_tree(rows: int | Int64, chunk: Chunk) -> Int64:
    """Return the registers of a column's tree that take a sum of ``rows`` neighbouring rows, from the first on, on its way."""
    levels = range(1, (chunk.rows - 1).bit_length() + 1)
    return np.asarray(sum((-(-rows >> level) for level in levels), 0 * np.asarray(rows, np.int64)))


def count_flat(layer: Layer, chunk: Chunk, size: Int64) -> Counts:
    """Return what tiles of ``size[tiles, 6]`` take with outputs, weights or inputs stationary."""
    pixels = size[:, N] * size[:, P] * size[:, Q]
    depth, filters, groups = size[:, C] * layer.R * layer.S, size[:, K], size[:, G]
    zero = np.zeros(len(size), np.int64)
    if chunk.dataflow == "os":
        tall, wide = -(-pixels // chunk.rows), -(-filters // chunk.cols)
        cycles = groups * tall * wide * np.maximum(depth, chunk.rows)
        w_reads, i_reads = groups * filters * depth * tall, groups * pixels * depth * wide
        return Counts(cycles, zero, w_reads, i_reads, zero, zero, groups * filters * pixels, zero)
    kept, run = (filters, pixels) if chunk.dataflow == "ws" else (pixels, filters)
    tall, wide = -(-depth // chunk.rows), -(-kept // chunk.cols)
    load = -(-np.minimum(depth, chunk.rows) * np.minimum(kept, chunk.cols) // chunk.lanes)
    cycles = load + (groups * tall * wide - 1) * np.maximum(run, load) + run
    stays, streams = groups * kept * depth, groups * run * depth * wide
    outputs = groups * filters * pixels
    tree = outputs * (depth // chunk.rows * count_tree(chunk.rows, chunk) + count_tree(depth % chunk.rows, chunk))
    if chunk.dataflow == "ws":
        return Counts(cycles, load, stays, streams, stays, zero, outputs * tall, tree)
    return Counts(cycles, load, streams, stays, zero, stays, outputs * tall, tree)


def count_rows(layer: Layer, chunk: Chunk, rows: Rows, size: Int64) -> Counts:
    """Return what tiles of ``size[tiles, 6]`` take row stationary."""
    height, cols, taps, one = size[:, P], size[:, Q], layer.S, np.ones(len(size), np.int64)
    columns = list_new(layer.stride[1], layer.dilation[1], taps)
    if rows.depthwise:
        sets, inner, outer, across = rows.above * rows.across, size[:, G], one, one
    else:
        sets, inner = rows.above, size[:, C]
        outer, across = size[:, G] * -(-size[:, K] // rows.across), np.minimum(size[:, K], rows.across)
    tall = min(layer.R, chunk.rows)
    seen = sum_new(np.minimum(height, rows.rows), list_new(layer.stride[0], layer.dilation[0], tall))
    first = -(-np.minimum(inner, sets) * seen * columns[0] // chunk.lanes)
    load = -(-np.minimum(inner, sets) * tall * taps * across // chunk.lanes)
    slot = np.maximum(first, taps)
    cycles, i_reads, last, passed = 0 * one, 0 * one, 0 * one, 0 * one
    for part, parts in ((tall, layer.R // tall), (layer.R % tall, int(layer.R % tall > 0))):
        if not parts:
            continue
        new = list_new(layer.stride[0], layer.dilation[0], part)
        for stacked, many in ((sets * one, inner // sets), (inner % sets, (inner % sets > 0).astype(np.int64))):
            run, read = 0 * one, 0 * one
            for strip, strips in ((rows.rows * one, height // rows.rows), (height % rows.rows, one)):
                inputs, there = stacked * sum_new(strip, new), size[:, N] * strips * (strip > 0)
                run += there * (slot + _run_columns(inputs, columns, cols, taps, chunk.lanes))
                read += there * inputs * sum_new(cols, columns)
            cycles += outer * many * parts * np.maximum(run, load)
            i_reads += outer * many * parts * read
            last = np.where(many > 0, run, last)
        if rows.depthwise:  # sets that stand one above the other send their sums one after the other
            passed += parts * count_tree(part, chunk)
        else:
            passed += parts * (inner // sets * count_tree(sets * part, chunk) + count_tree(inner % sets * part, chunk))
    cycles += np.maximum(first, load) + last - slot + taps - np.maximum(last, load)
    weights = size[:, G] * size[:, K] * size[:, C] * layer.R
    outputs = size[:, N] * size[:, G] * size[:, K] * height * cols
    folds = rows.parts * (one if rows.depthwise else -(-size[:, C] // rows.above))
    return Counts(
        cycles, np.maximum(first, load), weights * taps, i_reads, weights * taps * np.minimum(height, rows.rows),
        weights * size[:, N] * height * sum_new(cols, columns), outputs * folds, outputs * passed,
    )  # fmt: skip


def _run_columns(inputs: Int64, columns: Int64, cols: Int64, taps: int, lanes: int) -> Int64:
    """Return the cycles of all output columns of a strip but the last, each beside the load for the next one."""
    total = np.zeros_like(inputs)
    for j in range(1, len(columns)):
        many = (cols > j).astype(np.int64) if j < len(columns) - 1 else np.maximum(cols - j, 0)
        total += many * np.maximum(taps, -(-inputs * columns[j] // lanes))
    return total


def arrange_rows(layer: Layer, chunk: Chunk) -> Rows:
    """Return how a layer lies on a row-stationary chunk: output rows at once by cycles, then reads."""
    depthwise = layer.C == layer.K == 1
    above = max(1, chunk.rows // layer.R)
    if depthwise:
        above = min(above, layer.S)
    whole = list_extents(layer)[None]
    found = []
    for e in range(1, min(layer.P, chunk.cols) + 1):
        rows = Rows(rows=e, across=chunk.cols // e, above=above, parts=-(-layer.R // chunk.rows), depthwise=depthwise)
        counts = count_rows(layer, chunk, rows, whole)
        found.append((int(counts.cycles[0]), int(counts.i_reads[0]), -e, rows))
    most = min(one[0] for one in found) * (1 + CYCLES_TIE)
    return min((one for one in found if one[0] <= most), key=lambda one: one[1:3])[3]
