"""Ranges of asymmetric quantizers: zero is one of the levels, and both ends are chosen.

- ``max``: from the least to the largest weight, zero included.
- ``percentile``: from the 0.1 to the 99.9 percentile, zero included.
- ``mse``: least squared error over 81 scales, 0.2 to 1 of that of ``max`` in steps of 0.01, at each scale over every zero
  point (above 8 bits over 256 of them, in equal steps), and over ``max`` itself: never worse than that.
- ``kl``: least divergence (`hwsim.quant.entropy`'s, of both tails) over 33 lower and 33 upper ends, in equal steps of the
  histogram from its ends to zero, where a sixteenth of the bins and a bin for each step of the quantizer are left; ``max`` is one
  of them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hwsim.quant.entropy import BINS
from hwsim.quant.rows import make_scale

FRACTIONS = np.linspace(1.0, 0.2, 81)
"""Scales of ``mse``, as shares of that of ``max``."""
ZERO_POINT_BITS = 8
"""Zero points of ``mse`` at one scale are at most two to this power."""
CUTS = 33
"""Lower and upper ends of ``kl``."""
Scales = npt.NDArray[np.float32]
Points = npt.NDArray[np.int64]


def choose_asymmetric(rows: npt.NDArray[np.float32], clipping: str, bits: int) -> tuple[Scales, Points]:
    """Return scales, float32 ``[rows]``, and zero points from 0 to ``2**bits - 1``, int64 ``[rows]``.

    Parameters
    ----------
    rows : ndarray of float32
        ``[rows, elements]``, finite.
    clipping : str
        ``max``, ``percentile``, ``mse`` or ``kl``.
    bits : int
        1 to 16.
    """
    low = np.minimum(rows.min(axis=1), 0).astype(np.float64)
    high = np.maximum(rows.max(axis=1), 0).astype(np.float64)
    if clipping == "percentile":
        low = np.minimum(np.percentile(rows, 0.1, axis=1), 0)
        high = np.maximum(np.percentile(rows, 99.9, axis=1), 0)
    elif clipping == "kl":
        low, high = _search_entropy(rows, low, high, bits)
    scale, zero = _fit_range(low, high, bits)
    return _search_error(rows, high - low, scale, zero, bits) if clipping == "mse" else (scale, zero)


def _fit_range(low: npt.NDArray[np.float64], high: npt.NDArray[np.float64], bits: int) -> tuple[Scales, Points]:
    scale = make_scale((high - low) / ((1 << bits) - 1))
    return scale, np.clip(np.rint(-low / scale), 0, (1 << bits) - 1).astype(np.int64)


def _search_error(
    rows: npt.NDArray[np.float32], span: npt.NDArray[np.float64], scale: Scales, zero: Points, bits: int
) -> tuple[Scales, Points]:
    from hwsim.quant.kernel_limits import search_zero_points

    levels = 1 << bits
    shift = max(bits - ZERO_POINT_BITS, 0)
    scales = make_scale(span[:, None] * FRACTIONS / (levels - 1))
    scales[:, 0] = scale
    # A range of zeros alone has the scale 1; no other row spans more steps than this, rounding of both ends included.
    cells = np.empty(((int(levels / FRACTIONS.min()) >> shift) + 8, 4))
    chosen, place = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    search_zero_points(np.ascontiguousarray(rows), scales, zero, levels, shift, cells, chosen, place)
    return scales[np.arange(len(rows)), chosen], place


def _search_entropy(
    rows: npt.NDArray[np.float32], low: npt.NDArray[np.float64], high: npt.NDArray[np.float64], bits: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    from hwsim.quant.kernel_limits import search_divergence

    levels = (1 << bits) - 1
    if levels >= BINS:
        return low, high
    many = len(rows)
    width = np.where(high > low, high - low, 1.0) / BINS
    place = np.clip(((rows - low[:, None]) / width[:, None]).astype(np.int64), 0, BINS - 1)
    histogram = np.bincount((place + BINS * np.arange(many)[:, None]).ravel(), minlength=many * BINS)
    middle = np.clip(np.rint(-low / width), 0, BINS)  # the edge next to zero
    part = np.linspace(1.0, 0.0, CUTS)
    cuts = np.stack([middle[:, None] * part, BINS - (BINS - middle)[:, None] * part], axis=1).astype(np.int64)
    best = np.empty((many, 2), np.int64)
    search_divergence(
        histogram.reshape(many, BINS).astype(np.float64), cuts, levels, max(levels, BINS // 16), np.empty((3, BINS + 1)), best
    )  # fmt: skip
    lower = np.where(best[:, 0] > 0, low + best[:, 0] * width, low)
    upper = np.where(best[:, 1] < BINS, low + best[:, 1] * width, high)
    return np.minimum(lower, 0), np.maximum(upper, 0)
