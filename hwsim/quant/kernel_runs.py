"""Kernels of run-length indexed weights: entries of a row are its nonzero weights and the zeros that bridge long gaps."""

from __future__ import annotations

import numpy as np

from hwsim.core.jit import kernel


@kernel
def count_entries(rows: np.ndarray, segment: int, longest: int, entries: np.ndarray) -> None:
    """Fill the stored entries of every segment of every row.

    Parameters
    ----------
    rows : int8 or int16 [rows, elements]
        Weights; runs of zeros begin anew with each segment.
    segment : int
        Elements of a segment; a row's last one may be shorter.
    longest : int
        Longest run of zeros that an index tells; behind each such run a zero weight is stored where the gap goes on.
    entries : int32 [rows, segments], filled
    """
    for row in range(rows.shape[0]):
        for part in range(entries.shape[1]):
            count, run = 0, 0
            for i in range(part * segment, min((part + 1) * segment, rows.shape[1])):
                if rows[row, i] != 0:
                    count += 1 + run // (longest + 1)
                    run = 0
                else:
                    run += 1
            entries[row, part] = count


@kernel
def list_entries(row: np.ndarray, longest: int, runs: np.ndarray, weights: np.ndarray) -> int:
    """Fill the entries of one segment, int64 each: zeros in front of it, weight; return how many there are."""
    count, run = 0, 0
    for i in range(row.shape[0]):
        if row[i] == 0 and run < longest:
            run += 1
            continue
        runs[count], weights[count] = run, row[i]
        count += 1
        run = 0
    while count > 0 and weights[count - 1] == 0:  # nothing follows: these bridge no gap
        count -= 1
    return count
