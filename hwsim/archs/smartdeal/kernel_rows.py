"""Kernels of the SmartDeal engine: Booth digits and zero rows, counted on real tensors.

The machine and its points of waiting are defined in `hwsim.archs.smartdeal.datapath`.
"""

from __future__ import annotations

import numpy as np

from hwsim.core.jit import kernel


@kernel
def count_digits(table: np.ndarray) -> None:
    """Fill ``table[v + 512]`` with the nonzero radix-4 Booth digits of v, -512 <= v < 512, uint8 [1024].

    Digit i of v is -2 b[2i+1] + b[2i] + b[2i-1] in two's complement; sign extension adds only zero digits.
    """
    for index in range(1024):
        v = index - 512
        digits = 0
        below = 0
        for _ in range(6):
            low, high = v & 1, v >> 1 & 1
            if -2 * high + low + below != 0:
                digits += 1
            below = high
            v >>= 2
        table[index] = digits


@kernel
def measure_rows(
    x: np.ndarray,
    digits: np.ndarray,
    row_channel: np.ndarray,
    row_count: np.ndarray,
    row_kernel: np.ndarray,
    geometry: np.ndarray,
    time: np.ndarray,
    work: np.ndarray,
) -> None:
    """Fill the time and the Booth digits of every row at every pixel group.

    Parameters
    ----------
    x : int16 [N, C, H, W]
        Centred input activations (stored minus zero point) of one group.
    digits : uint8 [1024]
        From `count_digits`.
    row_channel, row_count, row_kernel : int64 [rows]
        First channel, channels (1 for a kernel row) and kernel row of each row.
    geometry : int64 [11]
        P, Q, stride y x, padding top left, dilation y x, elements of a kernel row (1 for channel rows), MACs of a line, weights
        of a row (a row with fewer channels is padded with zero weights, which take their cycle).
    time : int32 [rows, N * P * groups of a row], filled
        Cycles that a line takes for the row: sum over its elements of the slowest MAC; 0 where every activation is zero.
    work : int32, same shape, filled
        Booth cycles of all MACs with a pixel.
    """
    p_size, q_size, stride_y, stride_x = geometry[0], geometry[1], geometry[2], geometry[3]
    pad_y, pad_x, dil_y, dil_x, width, macs = (
        geometry[4],
        geometry[5],
        geometry[6],
        geometry[7],
        geometry[8],
        geometry[9],
    )
    elements = geometry[10]
    images, height, columns = x.shape[0], x.shape[2], x.shape[3]
    per_row = -(-q_size // macs)
    for r in range(row_channel.shape[0]):
        for n in range(images):
            for p in range(p_size):
                y = p * stride_y - pad_y + row_kernel[r] * dil_y
                for group in range(per_row):
                    q0 = group * macs
                    q1 = min(q0 + macs, q_size)
                    slowest_sum, any_nonzero = elements - row_count[r] * width, False
                    total = slowest_sum * (q1 - q0)
                    for c in range(row_channel[r], row_channel[r] + row_count[r]):
                        for s in range(width):
                            slowest = 1
                            for q in range(q0, q1):
                                column = q * stride_x - pad_x + s * dil_x
                                count = 0
                                if 0 <= y < height and 0 <= column < columns:
                                    count = int(digits[x[n, c, y, column] + 512])
                                if count > 0:
                                    any_nonzero = True
                                else:
                                    count = 1
                                total += count
                                slowest = max(slowest, count)
                            slowest_sum += slowest
                    at = (n * p_size + p) * per_row + group
                    time[r, at] = slowest_sum if any_nonzero else 0
                    work[r, at] = total if any_nonzero else 0


@kernel
def measure_passes(
    time: np.ndarray,
    work: np.ndarray,
    active: np.ndarray,
    pass_start: np.ndarray,
    slices: int,
    lines: int,
    extra: int,
    compute: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Fill the cycles in which a pass multiplies: the slowest line of the slowest slice; and what the engine did.

    Parameters
    ----------
    time, work : int32 [rows, groups]
        From `measure_rows`.
    active : bool [filters, rows]
        Coefficient rows that are not zero.
    pass_start : int64 [passes + 1]
        First row of each pass; row i of a pass runs on line i modulo ``lines``.
    slices, lines, extra : int
        Filters at once; lines (or clusters of lines); cycles that each row takes beyond its multiplications.
    compute : int32 [filter blocks, groups, passes], filled
        0 where no line of any slice has a row.
    sums : int64 [2], added to
        Booth cycles, rows multiplied.
    """
    filters, groups = active.shape[0], time.shape[1]
    blocks = -(-filters // slices)
    spent = np.empty_like(time)
    for r in range(time.shape[0]):
        users, done, runs = np.int64(0), np.int64(0), np.int64(0)
        for f in range(filters):
            users += active[f, r]
        for g in range(groups):
            spent[r, g] = time[r, g] + extra if time[r, g] > 0 else 0
            done += work[r, g]
            runs += time[r, g] > 0
        sums[0] += users * done
        sums[1] += users * runs
    line_time = np.zeros(groups, np.int32)
    compute[:] = 0
    for k in range(pass_start.shape[0] - 1):
        last = pass_start[k + 1]
        for line in range(min(lines, last - pass_start[k])):
            first = pass_start[k] + line
            for block in range(blocks):
                f0, f1 = block * slices, min((block + 1) * slices, filters)
                for f in range(f0, f1):
                    whole = True
                    for r in range(first, last, lines):
                        whole = whole and active[f, r]
                    if whole:  # no other filter's line takes longer: less or all of the same rows
                        f0, f1 = f, f + 1
                        break
                for f in range(f0, f1):
                    line_time[:] = 0
                    for r in range(first, last, lines):
                        if active[f, r]:
                            for g in range(groups):
                                line_time[g] += spent[r, g]
                    for g in range(groups):
                        compute[block, g, k] = max(compute[block, g, k], line_time[g])


@kernel
def measure_spread(
    time: np.ndarray,
    work: np.ndarray,
    pass_start: np.ndarray,
    per_row: int,
    slices: int,
    lines: int,
    copies: int,
    compute: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Fill the cycles of every pass of a spread depthwise layer: one channel a slice, its kernel rows on neighbouring lines.

    Parameters
    ----------
    time, work : int32 [channels * rows, output rows * per_row]
    pass_start : int64 [passes + 1]
        First kernel row of each pass; row i of a pass of copy j runs on line ``j * rows + i`` modulo ``lines``.
    per_row, slices, lines, copies : int
        Pixel groups of an output row; channels at once; lines; neighbouring pixel groups at once.
    compute : int32 [channel blocks, output rows * ceil(per_row / copies), passes], filled
    sums : int64 [2], added to
        As in `measure_passes`.
    """
    passes = pass_start.shape[0] - 1
    rows = pass_start[passes]
    channels = time.shape[0] // rows
    wide_row = -(-per_row // copies)
    out_rows = time.shape[1] // per_row
    line_time = np.zeros(lines, np.int64)
    for block in range(-(-channels // slices)):
        for y in range(out_rows):
            for wide in range(wide_row):
                g0 = y * per_row + wide * copies
                g1 = min(g0 + copies, (y + 1) * per_row)
                for k in range(passes):
                    slowest = 0
                    for c in range(block * slices, min((block + 1) * slices, channels)):
                        line_time[:] = 0
                        for g in range(g0, g1):
                            for r in range(pass_start[k], pass_start[k + 1]):
                                t = time[c * rows + r, g]
                                if t > 0:
                                    line_time[((g - g0) * rows + r - pass_start[k]) % lines] += t
                                    sums[0] += work[c * rows + r, g]
                                    sums[1] += 1
                        for line in range(lines):
                            slowest = max(slowest, int(line_time[line]))
                    compute[block, y * wide_row + wide, k] = slowest


@kernel
def time_tiles(
    compute: np.ndarray,
    prepare: np.ndarray,
    blocks: np.ndarray,
    groups: np.ndarray,
    passes: np.ndarray,
    least: int,
    pipeline: int,
    busy: np.ndarray,
    fill: np.ndarray,
) -> None:
    """Fill the busy cycles of tiles: passes in order, the next one prepared while one runs.

    Parameters
    ----------
    compute : int32 [filter blocks, groups, passes]
    prepare : int64 [filter blocks or 1, passes]
    blocks, passes : int64 [tiles, 2]
        First and one past the last filter block and pass of each tile.
    groups : int64 [tiles, 8]
        First and one past the last of: image, output row, pixel group of a row; then output rows and pixel groups of a row
        in the whole layer.
    least : int
        Cycles that the results of a pixel group take to leave, the least time of the next one.
    pipeline : int
        Cycles that a pass takes beyond ``compute``.
    busy, fill : int64 [tiles], filled
    """
    for t in range(blocks.shape[0]):
        total, first = 0, -1
        pending = 0  # cycles of the pass that runs while the next one is prepared
        since = least  # cycles of this pixel group so far
        for b in range(blocks[t, 0], blocks[t, 1]):
            row = b if prepare.shape[0] > 1 else 0
            for n in range(groups[t, 0], groups[t, 1]):
                for p in range(groups[t, 2], groups[t, 3]):
                    for q in range(groups[t, 4], groups[t, 5]):
                        g = (n * groups[t, 6] + p) * groups[t, 7] + q
                        for k in range(passes[t, 0], passes[t, 1]):
                            need = prepare[row, k]
                            if first < 0:
                                first = need
                            else:
                                step = max(pending, need)
                                total += step
                                since += step
                            if k == passes[t, 0]:
                                if since < least:
                                    total += least - since
                                since = 0
                            pending = compute[b, g, k] + pipeline
        total += max(pending, least - since)
        fill[t] = first
        busy[t] = total + first
