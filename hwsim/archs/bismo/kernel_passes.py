"""What a pass of the bit-serial array takes, in closed form, and how a product is cut into passes.

A pass is a product of ``rows`` x ``columns`` vectors of ``slices`` words, each word once for every bit plane. Its operands have to
fit the operand memories, which are empty at its start. Two feeders fill them, one word a cycle each, at the same time, in the
order tile of vectors, slice, plane, vector of the tile. The array waits for the words of a step, then makes one step a cycle,
in the order

    outer tile > inner tile > slice > plane of the outer operand > plane of the inner operand

so that a unit's sum of one result stays in it from its first step to its last. Pixels are the outer operand or filters are,
whichever ends sooner: the controller knows it from the sizes. A step may follow its last word without a cycle between them: steps
read the memories a constant time behind the feeders' writes, in every pass the same, so that it counts once, in the tail.

A larger product is cut into the fewest passes that fit, as alike as can be: first along the slices, then rows and columns. Each
feeds its operands anew. This schedule explains the latency table that HAQ released (`hwsim.published.haq`): a pass for each image
and each fill of the memories.

The closed form: words of the outer operand are first asked for at inner tile 0, those of the inner one at outer tile 0 and plane 0.
Where the words of step x of S are there from cycle t on, the pass takes at least t + S - x cycles, and it takes the most of these.
Both t and x are linear in tile, slice and plane but for a ragged last tile, so the most stands at a corner: first or last of each.
"""

from __future__ import annotations

import numpy as np

from hwsim.core.jit import kernel

CYCLES, STEPS, SLICE_PASSES, ROW_FEEDS, COLUMN_FEEDS = range(5)
"""Places of a product's counts."""


@kernel
def find_latest(
    vectors: int, tile: int, planes: int, slices: int, of_tile: int, stride: int, of_slice: int, step: int, steps: int
) -> int:
    """Return the cycles that a pass takes at least for the words of one operand.

    Parameters
    ----------
    vectors, tile, planes : int
        Of the operand: vectors, vectors of a tile, bit planes.
    slices : int
        Words of a vector.
    of_tile : int
        Words of a whole tile in all planes.
    stride, of_slice, step : int
        Steps from the first use of a word to that of the same one of the next tile, of the next slice, of the next plane.
    steps : int
        Steps of the pass.
    """
    last = (vectors - 1) // tile
    most = 0
    for corner in range(3):  # the first tile, the last but one, the last
        at = 0 if corner == 0 else max(0, last - 2 + corner)
        size = min(tile, vectors - at * tile)
        for end in range(2):
            s = end * (slices - 1)
            for top in range(2):
                b = top * (planes - 1)
                arrival = at * of_tile + size * (s * planes + b + 1) - 1
                most = max(most, arrival + steps - (at * stride + s * of_slice + b * step))
    return most


@kernel
def count_ordered(
    outer: int, outer_tile: int, outer_planes: int, inner: int, inner_tile: int, inner_planes: int, slices: int
) -> int:
    """Return the cycles of a pass, first word to last step, both counted, with the first operand in the outer loop."""
    planes = outer_planes * inner_planes
    block = slices * planes
    inner_tiles = -(-inner // inner_tile)
    steps = -(-outer // outer_tile) * inner_tiles * block
    first = find_latest(outer, outer_tile, outer_planes, slices, outer_tile * slices * outer_planes,
                        inner_tiles * block, planes, inner_planes, steps)  # fmt: skip
    second = find_latest(inner, inner_tile, inner_planes, slices, inner_tile * slices * inner_planes,
                         block, planes, 1, steps)  # fmt: skip
    return max(steps, first, second)


@kernel
def count_pass(
    rows: int, row_tile: int, row_planes: int, columns: int, column_tile: int, column_planes: int, slices: int
) -> int:
    """Return the cycles of a pass in the better order."""
    return min(
        count_ordered(rows, row_tile, row_planes, columns, column_tile, column_planes, slices),
        count_ordered(columns, column_tile, column_planes, rows, row_tile, row_planes, slices),
    )


@kernel
def list_parts(vectors: int, tile: int, most: int, parts: np.ndarray) -> int:
    """Fill (vectors, how many) of larger parts, smaller ones and the last, which may be ragged; return the number of all parts."""
    tiles = -(-vectors // tile)
    count = -(-tiles // most)
    size, larger = tiles // count, tiles % count
    parts[0, 0], parts[0, 1] = (size + 1) * tile, larger
    parts[1, 0], parts[1, 1] = size * tile, count - larger - 1
    parts[2, 0], parts[2, 1] = vectors - (tiles - size) * tile, 1
    return count


@kernel
def count_passes(products: np.ndarray, array: np.ndarray, found: np.ndarray) -> None:
    """Count what products take that are cut into passes.

    Parameters
    ----------
    products : int64 [products, 3]
        Rows, columns, slices.
    array : int64 [5]
        Rows and columns of units, planes of the rows' operand and of the columns', words of an operand memory.
    found : int64 [products, 5], filled
        Cycles; steps; passes along the slices; words of a row and of a column that are fed, one plane's.
    """
    row_tile, column_tile, row_planes, column_planes, depth = array[0], array[1], array[2], array[3], array[4]
    most_slices = max(1, depth // max(row_planes, column_planes))
    tall = np.zeros((3, 2), np.int64)
    wide = np.zeros((3, 2), np.int64)
    for i in range(products.shape[0]):
        rows, columns, slices = products[i, 0], products[i, 1], products[i, 2]
        cuts = -(-slices // most_slices)
        cycles, row_feeds, column_feeds = 0, 0, 0
        for kind in range(2):
            size = slices // cuts + 1 - kind
            many = slices % cuts if kind == 0 else cuts - slices % cuts
            if many == 0:
                continue
            along = list_parts(rows, row_tile, max(1, depth // (size * row_planes)), tall)
            across = list_parts(columns, column_tile, max(1, depth // (size * column_planes)), wide)
            row_feeds += many * size * across
            column_feeds += many * size * along
            for r in range(3):
                for c in range(3):
                    times = many * tall[r, 1] * wide[c, 1]
                    if times > 0:
                        cycles += times * count_pass(
                            tall[r, 0], row_tile, row_planes, wide[c, 0], column_tile, column_planes, size
                        )
        found[i, CYCLES] = cycles
        found[i, STEPS] = -(-rows // row_tile) * -(-columns // column_tile) * slices * row_planes * column_planes
        found[i, SLICE_PASSES] = cuts
        found[i, ROW_FEEDS] = row_feeds
        found[i, COLUMN_FEEDS] = column_feeds
