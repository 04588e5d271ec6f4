"""Kernels of SCNN before and behind its products: the entries of its weights, the cycles of its tiles."""

from __future__ import annotations

import numpy as np

from hwsim.core.jit import kernel


@kernel
def list_weights(
    weight: np.ndarray, group_filters: int, longest: int, start: np.ndarray, place: np.ndarray, filters: np.ndarray
) -> None:
    """List the entries of every segment.

    Parameters
    ----------
    weight : int8 or int16 [G, C, window, K]
    group_filters, longest : int
        Filters of an output-channel group; longest run of zeros that an index tells.
    start : int64 [G * groups of filters * C + 1], filled
        First entry of each segment.
    place : int16 [entries or more], filled
        Place in the window.
    filters : int16 [entries or more], filled
        Filter of the group; -1 for a zero that bridges a gap.
    """
    groups, channels, window, total = weight.shape
    segment, at = 0, 0
    for g in range(groups):
        for first in range(0, total, group_filters):
            last = min(first + group_filters, total)
            for c in range(channels):
                start[segment] = at
                run = 0
                for w in range(window):
                    for k in range(first, last):
                        if weight[g, c, w, k] == 0:
                            run += 1
                            continue
                        while run > longest:
                            place[at], filters[at] = 0, -1
                            at += 1
                            run -= longest + 1
                        place[at], filters[at] = w, k - first
                        at += 1
                        run = 0
                segment += 1
    start[segment] = at


@kernel
def time_tiles(cycles: np.ndarray, boxes: np.ndarray, least: int, busy: np.ndarray) -> None:
    """Fill the busy cycles of tiles: groups of filters one after the other, each as long as its slowest element.

    Parameters
    ----------
    cycles : int64 [images, rows of blocks, columns of blocks, G, groups of filters, elements, blocks of channels + 1]
        Cycles of the blocks of channels before.
    boxes : int64 [tiles, 12]
        First and one past the last along the axes of ``cycles``, elements left out.
    least : int
        Cycles in which the accumulators of a group leave.
    busy : int64 [tiles], filled
    """
    for t in range(boxes.shape[0]):
        total = 0
        first, last = boxes[t, 10], boxes[t, 11]
        for n in range(boxes[t, 0], boxes[t, 1]):
            for row in range(boxes[t, 2], boxes[t, 3]):
                for col in range(boxes[t, 4], boxes[t, 5]):
                    for g in range(boxes[t, 6], boxes[t, 7]):
                        for k in range(boxes[t, 8], boxes[t, 9]):
                            slowest = least
                            for pe in range(cycles.shape[5]):
                                ends = cycles[n, row, col, g, k, pe]
                                slowest = max(slowest, ends[last] - ends[first])
                            total += slowest
        busy[t] = total
