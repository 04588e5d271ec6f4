"""What a pass of the bit-serial array takes, in closed form, and how a product is cut into passes.

A pass is a product of ``rows`` x ``columns`` vectors of ``slices`` words, each word once for every bit plane. Its operands have to
fit the operand memories, which are empty at its start. Two feeders fill them, one word a cycle each, at the same time, in the
order tile of vectors, slice, plane, vector of the tile. The array waits for the words of a step, then makes one step a cycle,
in the order

    outer tile > inner tile > slice > plane of the outer operand > plane of the inner operand

so that a unit's sum of one result stays in it from its first step to its last. Pixels are the outer operand or filters are,
whichever ends sooner: the controller knows it from the sizes. No more than this is needed to explain the latency table that HAQ
released (`hwsim.published.haq`): a pass per image and per memory's fill, operands fed anew for each.

The closed form: a step is late by what its operands' words are late. Words of the outer operand are first asked for at inner tile
0, those of the inner one at outer tile 0. Step number x of S, its words in at cycle t: the pass ends no earlier than t + S - x, and
ends at the largest of these. Both t and x are linear in tile, slice and plane, apart from a ragged last tile: the largest stands at
a corner, first or last of each.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

from hwsim.core.mapping import Int64


class Operand(NamedTuple):
    """One operand of a product: vectors, vectors of a tile (units along it), bit planes."""

    vectors: Int64
    tile: int
    planes: int


class Passes(NamedTuple):
    """A product's cost, int64 [products] each: cycles, steps, passes along the slices, times that rows and columns are fed."""

    cycles: Int64
    steps: Int64
    slice_passes: Int64
    row_feeds: Int64
    column_feeds: Int64


def count_pass(rows: Operand, columns: Operand, slices: Int64) -> Int64:
    """Return the cycles of a pass from its first word to its last step, int64 [passes]."""
    return np.minimum(_count_ordered(rows, columns, slices), _count_ordered(columns, rows, slices))


def _count_ordered(outer: Operand, inner: Operand, slices: Int64) -> Int64:
    """Return the cycles of a pass with the first operand in the outer loop."""
    outer_tiles, inner_tiles = -(-outer.vectors // outer.tile), -(-inner.vectors // inner.tile)
    planes = outer.planes * inner.planes
    of_tile = slices * planes
    steps = outer_tiles * inner_tiles * of_tile
    ends = steps
    for operand, tiles, stride, step in (
        (outer, outer_tiles, inner_tiles * of_tile, inner.planes),
        (inner, inner_tiles, of_tile, 1),
    ):
        last = tiles - 1
        ragged = operand.vectors - last * operand.tile
        whole = np.full_like(ragged, operand.tile)
        # the first tile is ragged where it is the only one; the last but one is the last that is certainly whole
        places = ((0 * last, np.minimum(operand.vectors, operand.tile)), (np.maximum(last - 1, 0), whole), (last, ragged))
        places = (places[0], (places[1][0], np.where(last > 0, whole, ragged)), places[2])
        for (tile, vectors), slice_end, plane in product(places, (0, 1), (0, operand.planes - 1)):
            at_slice = slice_end * (slices - 1)
            arrival = tile * operand.tile * slices * operand.planes + vectors * (at_slice * operand.planes + plane + 1)
            ends = np.maximum(ends, arrival + steps - (tile * stride + at_slice * planes + plane * step))
    return ends


def split_evenly(count: Int64, most: Int64 | int) -> tuple[tuple[Int64, Int64], tuple[Int64, Int64]]:
    """Return how ``count`` is cut into the fewest parts of at most ``most``, as alike as can be.

    Returns
    -------
    (size, parts) of the larger parts and of the smaller ones, int64 arrays; there is always a smaller one.
    """
    parts = -(-count // most)
    size, larger = count // parts, count % parts
    return (size + 1, larger), (size, parts - larger)


def count_passes(rows: Operand, columns: Operand, slices: Int64, depth: int) -> Passes:
    """Return what products take that are cut into passes whose operands fit memories of ``depth`` words."""
    most_slices = max(1, depth // max(rows.planes, columns.planes))
    cycles = np.zeros_like(slices)
    row_feeds, column_feeds = np.zeros_like(slices), np.zeros_like(slices)
    depths = split_evenly(slices, most_slices)
    for size, parts in depths:
        held = np.maximum(size, 1)
        along = _cut(rows, held, depth)
        across = _cut(columns, held, depth)
        for (r, many_r), (c, many_c) in product(along, across):
            many = parts * many_r * many_c
            if (many > 0).any():
                one = count_pass(rows._replace(vectors=np.maximum(r, 1)), columns._replace(vectors=np.maximum(c, 1)), held)
                cycles = cycles + many * one
        # words of a vector are fed once for every part of the other operand
        row_feeds = row_feeds + parts * size * sum(many for _, many in across)
        column_feeds = column_feeds + parts * size * sum(many for _, many in along)
    tiles = -(-rows.vectors // rows.tile) * -(-columns.vectors // columns.tile)
    steps = tiles * slices * (rows.planes * columns.planes)
    return Passes(cycles, steps, depths[0][1] + depths[1][1], row_feeds, column_feeds)


def _cut(operand: Operand, slices: Int64, depth: int) -> tuple[tuple[Int64, Int64], ...]:
    """Return (vectors, passes) of the kinds of passes along one operand: larger, smaller, and the last, which may be ragged."""
    tiles = -(-operand.vectors // operand.tile)
    (more, larger), (size, smaller) = split_evenly(tiles, np.maximum(depth // (slices * operand.planes), 1))
    last = operand.vectors - (tiles - size) * operand.tile
    return (more * operand.tile, larger), (size * operand.tile, smaller - 1), (last, np.ones_like(last))
