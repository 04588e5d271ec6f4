"""Kernels of the Bit-Pragmatic engine: terms of activations, bricks, pallets, counted on real tensors.

The machine and its points of waiting are defined in `hwsim.archs.bit_pragmatic.datapath`.
"""

from __future__ import annotations

import numpy as np

from hwsim.core.jit import kernel


@kernel
def measure_bricks(
    x: np.ndarray, lanes: int, reach: int, signed_digits: int, cycles: np.ndarray, terms: np.ndarray
) -> None:
    """Fill the cycles and the terms of every brick of a column.

    Parameters
    ----------
    x : int32 [N, G, C, H, W]
        Centred input activations (stored minus zero point).
    lanes : int
        Channels of a brick; the last one of a group is narrower.
    reach : int
        Positions that the first shifters span: a lane moves on when its lowest term is less than ``reach`` above the lowest of
        all lanes.
    signed_digits : int
        1: terms are the nonzero digits of the non-adjacent form; 0: the ones of the magnitude.
    cycles : int32 [N, G, bricks, H, W], filled
        At least 1.
    terms : int32, same shape, filled
        Nonzero terms of all lanes.
    """
    images, groups, channels, height, width = x.shape
    left = np.zeros(lanes, np.int64)
    for n in range(images):
        for g in range(groups):
            for b in range(cycles.shape[2]):
                first = b * lanes
                used = min(lanes, channels - first)
                for y in range(height):
                    for col in range(width):
                        any_left = 0
                        count = 0
                        for lane in range(used):
                            m = abs(int(x[n, g, first + lane, y, col]))
                            if signed_digits:
                                m = (m >> 1) ^ (m + (m >> 1))
                            left[lane] = m
                            any_left |= m
                            while m:
                                m &= m - 1
                                count += 1
                        steps = 0
                        while any_left:
                            steps += 1
                            window = (any_left & -any_left) * ((1 << reach) - 1)
                            any_left = 0
                            for lane in range(used):
                                m = left[lane]
                                low = m & -m
                                if low & window:
                                    m ^= low
                                    left[lane] = m
                                any_left |= m
                        cycles[n, g, b, y, col] = max(1, steps)
                        terms[n, g, b, y, col] = count


@kernel
def measure_pallets(
    cycles: np.ndarray,
    terms: np.ndarray,
    geometry: np.ndarray,
    prefix: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Fill the cycles of every pallet: at each place of the window the slowest of its columns, brick by brick.

    Parameters
    ----------
    cycles, terms : int32 [N, G, bricks, H, W]
        From `measure_bricks`.
    geometry : int64 [11]
        P, Q, R, S, stride y x, padding top left, dilation y x, columns of a pallet.
    prefix : int64 [N, G, P, pallets of a row, bricks + 1], filled
        Cycles of the bricks before.
    sums : int64 [2], added to
        Terms of all windows; cycles in which a column has terms left (or takes its one cycle).
    """
    p_size, q_size, r_size, s_size = geometry[0], geometry[1], geometry[2], geometry[3]
    stride_y, stride_x, pad_y, pad_x = geometry[4], geometry[5], geometry[6], geometry[7]
    dil_y, dil_x, columns = geometry[8], geometry[9], geometry[10]
    images, groups, bricks, height, width = cycles.shape
    for n in range(images):
        for g in range(groups):
            for p in range(p_size):
                for pallet in range(prefix.shape[3]):
                    q0 = pallet * columns
                    q1 = min(q0 + columns, q_size)
                    total = 0
                    prefix[n, g, p, pallet, 0] = 0
                    for b in range(bricks):
                        for r in range(r_size):
                            y = p * stride_y - pad_y + r * dil_y
                            for s in range(s_size):
                                slowest = 1
                                for q in range(q0, q1):
                                    col = q * stride_x - pad_x + s * dil_x
                                    own = 1
                                    if 0 <= y < height and 0 <= col < width:
                                        own = int(cycles[n, g, b, y, col])
                                        sums[0] += terms[n, g, b, y, col]
                                    sums[1] += own
                                    slowest = max(slowest, own)
                                total += slowest
                        prefix[n, g, p, pallet, b + 1] = total


@kernel
def time_tiles(prefix: np.ndarray, boxes: np.ndarray, blocks: np.ndarray, least: int, busy: np.ndarray) -> None:
    """Fill the busy cycles of tiles.

    Parameters
    ----------
    prefix : int64 [N, G, P, pallets of a row, bricks + 1]
        From `measure_pallets`.
    boxes : int64 [tiles, 10]
        First and one past the last of: image, group, output row, pallet, brick.
    blocks : int64 [tiles]
        Blocks of filters, each of which takes all of it again.
    least : int
        Cycles that the results of a pallet take to leave, the least of the next one.
    busy : int64 [tiles], filled
    """
    for t in range(boxes.shape[0]):
        total = 0
        first, last = boxes[t, 8], boxes[t, 9]
        for n in range(boxes[t, 0], boxes[t, 1]):
            for g in range(boxes[t, 2], boxes[t, 3]):
                for p in range(boxes[t, 4], boxes[t, 5]):
                    for pallet in range(boxes[t, 6], boxes[t, 7]):
                        total += max(least, prefix[n, g, p, pallet, last] - prefix[n, g, p, pallet, first])
        busy[t] = total * blocks[t]


@kernel
def sum_cuts(prefix: np.ndarray, bricks: np.ndarray, least: int, busy: np.ndarray) -> None:
    """Fill the cycles of a whole layer for one block of filters, cut along C every ``bricks[i]`` bricks, int64 [cuts]."""
    images, groups, rows, pallets, ends = prefix.shape
    for i in range(bricks.shape[0]):
        total = 0
        for n in range(images):
            for g in range(groups):
                for p in range(rows):
                    for pallet in range(pallets):
                        for first in range(0, ends - 1, bricks[i]):
                            last = min(first + bricks[i], ends - 1)
                            total += max(least, prefix[n, g, p, pallet, last] - prefix[n, g, p, pallet, first])
        busy[i] = total
