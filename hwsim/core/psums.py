"""Where partial sums stand in ``obuf``: words with a column for each of so many filters, or pixels, of a group.

The words of most arrays: by group, by block of ``columns`` filters, by pixel. Where an array has pixels in its columns: by group,
by block of ``columns`` pixels, by filter. The last word of a block is filled up: its other columns hold nothing.
"""

from __future__ import annotations

import numpy as np

from hwsim.core.mapping import G, Int64, K, N, P, Q


def list_outputs(size: Int64) -> tuple[Int64, Int64, Int64, Int64, Int64]:
    """Return the indices n, g, k, p, q of all outputs of a tile of ``size[6]``, int64 [outputs] each, q the fastest."""
    n, g, k, p, q = np.indices([size[dim] for dim in (N, G, K, P, Q)]).reshape(5, -1)
    return n, g, k, p, q


def count_word_slots(size: Int64, columns: int, of_pixels: bool = False) -> Int64:
    """Return the accumulators that tiles of ``size[tiles, 6]`` take, those of whole words, int64 [tiles]."""
    pixels = size[:, N] * size[:, P] * size[:, Q]
    across, along = (pixels, size[:, K]) if of_pixels else (size[:, K], pixels)
    return np.asarray(size[:, G] * -(-across // columns) * columns * along, np.int64)


def list_word_places(size: Int64, columns: int, of_pixels: bool = False) -> Int64:
    """Return which accumulator each output of a tile of ``size[6]`` takes, in the order of `list_outputs`, int64 [outputs]."""
    n, g, k, p, q = list_outputs(size)
    pixel, pixels = (n * size[P] + p) * size[Q] + q, size[N] * size[P] * size[Q]
    across, along = (pixel, k) if of_pixels else (k, pixel)
    wide, deep = (pixels, size[K]) if of_pixels else (size[K], pixels)
    word = (g * -(-wide // columns) + across // columns) * deep + along
    return np.asarray(word * columns + across % columns, np.int64)
