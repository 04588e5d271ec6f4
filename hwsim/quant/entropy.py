"""Clipping points of least Kullback-Leibler divergence between a tensor's magnitudes and what is left of them.

Source: S. Migacz, 8-bit inference with TensorRT (GTC 2017): the histogram cut at a candidate, its tail added to the last bin,
against the same histogram merged into the quantizer's levels and spread over its used bins. HAQ takes it below five bits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BINS = 2048
"""Bins of a histogram, as TensorRT has them."""
CANDIDATES = 64
"""Cuts that are tried, at equal distances from the number of levels (at least a sixteenth of the bins) to all bins."""


def choose_entropy_limits(magnitudes: npt.NDArray[np.float32], levels: int) -> npt.NDArray[np.float64]:
    """Return a clipping point for every row.

    Parameters
    ----------
    magnitudes : ndarray of float32
        ``[rows, elements]``, at least zero.
    levels : int
        Steps from zero to the clipping point.
    """
    top = magnitudes.max(axis=1).astype(np.float64)
    rows = len(magnitudes)
    if levels >= BINS:
        return top
    width = np.where(top > 0, top, 1.0) / BINS
    place = np.minimum((magnitudes / width[:, None]).astype(np.int64), BINS - 1)
    flat = (place + BINS * np.arange(rows)[:, None]).ravel()
    histogram = np.bincount(flat, minlength=rows * BINS).reshape(rows, BINS).astype(np.float64)
    beyond = histogram.sum(axis=1, keepdims=True) - np.cumsum(histogram, axis=1)
    best, least = top.copy(), np.full(rows, np.inf)
    for cut in np.unique(np.linspace(max(levels, BINS // 16), BINS, CANDIDATES).astype(int)):
        divergence = _measure_divergence(histogram[:, :cut], beyond[:, cut - 1], levels)
        better = divergence <= least
        best, least = np.where(better, cut * width, best), np.where(better, divergence, least)
    return np.where(top > 0, best, top)


def _measure_divergence(
    kept: npt.NDArray[np.float64], beyond: npt.NDArray[np.float64], levels: int
) -> npt.NDArray[np.float64]:
    """Return the divergence of each row; infinite where the cut has weights in a bin that the merged histogram leaves empty."""
    cut = kept.shape[1]
    target = kept.copy()
    target[:, -1] += beyond
    starts = (np.arange(levels) * cut) // levels
    used = (
        target > 0
    )  # the last bin of what is kept counts where the tail was added to it, as MXNet's calibration has it
    mass = np.add.reduceat(kept, starts, axis=1)
    count = np.add.reduceat(used, starts, axis=1)
    owner = np.repeat(np.arange(levels), np.diff(np.append(starts, cut)))
    merged = np.where(used, (mass / np.maximum(count, 1))[:, owner], 0.0)
    p = target / target.sum(axis=1, keepdims=True)
    q = merged / np.maximum(merged.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * (np.log(p) - np.log(q)), 0.0)
    return terms.sum(axis=1)
