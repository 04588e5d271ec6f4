"""Kernels that choose the range of asymmetric quantizers, row by row."""

from __future__ import annotations

import numpy as np

from hwsim.core.jit import kernel


@kernel
def search_zero_points(
    rows: np.ndarray,
    scales: np.ndarray,
    zero: np.ndarray,
    levels: int,
    shift: int,
    cells: np.ndarray,
    chosen: np.ndarray,
    place: np.ndarray,
) -> None:
    """Fill the scale and the zero point of least squared error of every row.

    What is within the range is rounded to a multiple of the scale, wherever the zero point is: for one scale, the sums over
    the weights of each multiple give the error of every zero point.

    Parameters
    ----------
    rows : float32 [rows, elements]
    scales : float32 [rows, candidates]
        Tried in this order; a later one has to be better by a billionth.
    zero : int64 [rows]
        Zero point at the first scale that is tried before all others.
    levels : int
        Of the quantizer; 0 to ``levels - 1`` are stored.
    shift : int
        Zero points are tried in multiples of ``2**shift``, a divisor of ``levels``, up to ``levels - 1``.
    cells : float64 [many, 4], filled
        Scratch; the widest row spans less than ``many - 4`` cells of ``2**shift`` multiples of its least scale.
    chosen : int64 [rows], filled
        Index of the scale.
    place : int64 [rows], filled
        Zero point.
    """
    for row in range(rows.shape[0]):
        least, bottom, top = np.inf, rows[row].min(), rows[row].max()
        for candidate in range(scales.shape[1]):
            scale = scales[row, candidate]
            base = int(np.rint(bottom / scale)) >> shift
            used = (int(np.rint(top / scale)) >> shift) - base + 1
            cells[: used + 1] = 0.0
            for i in range(rows.shape[1]):
                value = np.float64(rows[row, i])  # float() leaves a compiled float32 as it is
                multiple = np.rint(rows[row, i] / scale)
                cell = (int(multiple) >> shift) - base
                gap = np.float64(multiple * scale) - value
                cells[cell, 0] += 1.0
                cells[cell, 1] += value
                cells[cell, 2] += value * value
                cells[cell, 3] += gap * gap
            if candidate == 0:
                least = _measure_error(rows[row], scale, zero[row], levels)
                chosen[row], place[row] = 0, zero[row]
            for kind in range(4):  # sums over all cells in front of each
                before = 0.0
                for cell in range(used + 1):
                    now = cells[cell, kind]
                    cells[cell, kind] = before
                    before += now
            for point in range(0, levels, 1 << shift):
                first = min(max((-point >> shift) - base, 0), used)  # the first cell that is not below the range
                last = min(max(((levels - point) >> shift) - base, 0), used)
                # the ends of the range, in float32 as they are computed with
                least_level, largest = (
                    np.float64(np.float32(-point) * scale),
                    np.float64(np.float32(levels - 1 - point) * scale),
                )
                error = cells[last, 3] - cells[first, 3]
                error += cells[first, 2] - least_level * (2 * cells[first, 1] - least_level * cells[first, 0])
                error += cells[used, 2] - cells[last, 2] - 2 * largest * (cells[used, 1] - cells[last, 1])
                error += largest * largest * (cells[used, 0] - cells[last, 0])
                if error < least * (1 - 1e-9):
                    least = error
                    chosen[row], place[row] = candidate, point


@kernel
def _measure_error(row: np.ndarray, scale: float, zero: int, levels: int) -> float:
    """Return the squared error of one row."""
    error = 0.0
    for i in range(row.shape[0]):
        multiple = min(max(np.rint(row[i] / scale), np.float32(-zero)), np.float32(levels - 1 - zero))
        gap = np.float64(multiple * scale) - np.float64(row[i])
        error += gap * gap
    return error


@kernel
def search_divergence(
    histogram: np.ndarray, cuts: np.ndarray, levels: int, narrowest: int, sums: np.ndarray, best: np.ndarray
) -> None:
    """Fill the part of every row's histogram that diverges least from itself merged into levels.

    Parameters
    ----------
    histogram : float64 [rows, bins]
        Counts.
    cuts : int64 [rows, 2, candidates]
        First bins that are kept, and first bins that are not any more.
    levels : int
        Merged bins.
    narrowest : int
        Fewest bins that are kept, at least ``levels``.
    sums : float64 [3, bins + 1], filled
        Scratch: counts, used bins and counts times their logarithm in front of each bin.
    best : int64 [rows, 2], filled
        The cuts; of two that diverge alike the later in order. All bins where every divergence is infinite.
    """
    bins = histogram.shape[1]
    for row in range(histogram.shape[0]):
        sums[:, 0] = 0.0
        for i in range(bins):
            count = histogram[row, i]
            sums[0, i + 1] = sums[0, i] + count
            sums[1, i + 1] = sums[1, i] + (1.0 if count > 0 else 0.0)
            sums[2, i + 1] = sums[2, i] + (count * np.log(count) if count > 0 else 0.0)
        best[row, 0], best[row, 1] = 0, bins
        least = np.inf
        for a in range(cuts.shape[2]):
            for b in range(cuts.shape[2]):
                first, last = cuts[row, 0, a], cuts[row, 1, b]
                if last - first >= narrowest:
                    found = _measure_divergence(histogram[row], sums, first, last, levels)
                    if found <= least and found < np.inf:
                        least = found
                        best[row, 0], best[row, 1] = first, last


@kernel
def _measure_divergence(row: np.ndarray, sums: np.ndarray, first: int, last: int, levels: int) -> float:
    """Return the divergence of bins ``first .. last - 1``, the tails added to the first and the last of them."""
    bins = row.shape[0]
    total, kept = sums[0, bins], sums[0, last] - sums[0, first]
    below, above = sums[0, first], total - sums[0, last]
    if kept <= 0:
        return np.inf
    ends = 0.0  # what the tails add to the sum of counts times their logarithm
    for place, tail in ((first, below), (last - 1, above)):
        count = row[place]
        if tail > 0:
            ends += (count + tail) * np.log(count + tail) - (count * np.log(count) if count > 0 else 0.0)
    found = (sums[2, last] - sums[2, first] + ends) / total - np.log(total)
    whole, rest = (last - first) // levels, (last - first) % levels
    end, part = first, 0
    for level in range(levels):
        start, end, part = end, end + whole, part + rest  # level * (last - first) // levels, without dividing
        if part >= levels:
            end, part = end + 1, part - levels
        mass, used = sums[0, end] - sums[0, start], sums[1, end] - sums[1, start]
        target = mass
        if level == 0 and below > 0:
            target += below
            used += 1.0 if row[first] == 0 else 0.0
        if level == levels - 1 and above > 0:
            target += above
            used += 1.0 if row[last - 1] == 0 else 0.0
        if target > 0:
            if mass <= 0:
                return np.inf
            found -= target / total * np.log(mass / used / kept)
    return found
