"""K-means in one dimension, exactly: the table of least squared error.

In one dimension the clusters are intervals of the sorted values, so that the best partition is a shortest path (H. Wang and
M. Song, Ckmeans.1d.dp, The R Journal 3/2, 2011). The error of an interval is Monge, so the least error falls ever more slowly with
the clusters, and the best path of k edges is the best of any number of edges where each has a suitable price besides
(A. Aggarwal, B. Schieber and T. Tokuyama, Finding a minimum-weight k-link path in graphs with the concave Monge property, Discrete
and Computational Geometry 12, 1994). The price is found on a few thousand bins, then on the values themselves.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MOST_BINS = 4096
"""Bins on which the price of a cluster is sought before it is tried on the values."""
PRICE_TOLERANCE = 1e-9
"""Prices this close, with too many clusters at one and too few at the other, are taken as one; the error is within about this share
of the least, as what clusters cost is no more than a few times what they leave."""
MOST_PRICES = 200
"""Prices that are tried; bisection from the widest bracket of floats takes fewer."""
GUESSED_PRICES, WIDENING = 4, 1000
"""Prices that are guessed from the last before bisection, and the factor beyond an end of the bracket: of speed alone, the best cut
is found whatever they are."""
Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


def cluster_values(points: Floats, counts: Floats, clusters: int) -> Floats:
    """Return the ascending centres of the partition of least squared error.

    Parameters
    ----------
    points, counts : ndarray of float64
        ``[n]``: different values, ascending, and how often each stands there (above zero).
    clusters : int
        At least 1. Where there are no more points than that, they are the centres, the last one repeated.

    Returns
    -------
    ndarray of float64
        ``[clusters]``. The squared error is the least one, up to the rounding of sums of squares (some 1e-15 of the
        values' own).
    """
    if len(points) <= clusters:
        return np.pad(points, (0, clusters - len(points)), mode="edge")
    ends = cut_values(points, counts, clusters)
    return np.add.reduceat(counts * points, ends[:-1]) / np.add.reduceat(counts, ends[:-1])


def count_values(values: npt.NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Return the different values of an array, ascending, and how often each stands there."""
    points, counts = np.unique(values, return_counts=True)
    return points.astype(np.float64), counts.astype(np.float64)


def cut_values(points: Floats, counts: Floats, clusters: int) -> Places:
    """Return where the clusters of least squared error begin and end, int64 ``[clusters + 1]``; there are more points than that."""
    middle = float((counts * points).sum() / counts.sum())
    spread = float((counts * np.square(points - middle)).sum())
    price = 2 * spread / clusters**3
    if len(points) > MOST_BINS:
        few, mass = bin_points(points, counts, MOST_BINS)
        if len(few) > clusters:
            price, _ = _find_price(few - middle, mass, clusters, price)
    return _find_price(points - middle, counts, clusters, price)[1]


def bin_points(points: Floats, counts: Floats, bins: int) -> tuple[Floats, Floats]:
    """Return the means and counts of at most ``bins`` bins.

    None is wider than 2 / (bins - 1) of the range nor has more than that share of the counts, unless one point has it by
    itself. ``points`` ascend, two different ones at least.
    """
    part = np.cumsum(counts) / counts.sum() + (points - points[0]) / (points[-1] - points[0])
    place = np.minimum((part / 2 * (bins - 1)).astype(np.intp), bins - 1)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(place)) + 1])
    mass = np.add.reduceat(counts, starts)
    return np.add.reduceat(counts * points, starts) / mass, mass


def _find_price(points: Floats, counts: Floats, clusters: int, price: float) -> tuple[float, Places]:
    """Return a price at which the cheapest partition has so many clusters, and its ends."""
    from hwsim.quant.kernel_kmeans import cut_points

    total, first, second = (
        np.concatenate([[0.0], np.cumsum(part)]) for part in (counts, counts * points, counts * np.square(points))
    )
    best, (queue, begin, back) = np.empty(len(total)), (np.empty(len(total), np.int64) for _ in range(3))
    low, high = 0.0, np.inf
    many, few = np.arange(len(total)), np.array([0, len(points)])
    for attempt in range(MOST_PRICES):
        found = int(cut_points(total, first, second, price, best, queue, begin, back))
        ends = _trace(back, found)
        if found == clusters:
            return price, ends
        if found > clusters:
            low, many = price, ends
        else:
            high, few = price, ends
        if high <= low * (1 + PRICE_TOLERANCE):
            break
        # The error falls as the square of the clusters where they are many, the gain of one more as the cube.
        step = price * (found / clusters) ** 3
        if attempt < GUESSED_PRICES and low < step < high:
            price = step
        elif low == 0:
            price = high / WIDENING
        else:
            price = float(np.sqrt(low * high)) if np.isfinite(high) else low * WIDENING
        if not 0 < price < np.inf:
            break
    return price, _join_paths(few, many, clusters)


def _trace(back: Places, clusters: int) -> Places:
    ends = np.empty(clusters + 1, np.int64)
    at = len(back) - 1
    for place in range(clusters, 0, -1):
        ends[place] = at
        at = int(back[at])
    ends[0] = 0
    return ends


def _join_paths(few: Places, many: Places, clusters: int) -> Places:
    """Return a partition of so many clusters from two that are cheapest at the same price, one with fewer and one with more.

    Some cluster of ``few`` holds one of ``many`` that has ``len(many) - 1 - clusters`` more in front of it; begun as the one and
    gone on as the other, both exchanges together cost no more than the two did.
    """
    skipped = len(many) - 1 - clusters
    for at in range(len(few) - 1):
        inner = at + skipped
        if few[at] <= many[inner] and many[inner + 1] <= few[at + 1]:
            return np.concatenate([few[: at + 1], many[inner + 1 :]])
    raise AssertionError("two partitions of the same points cross")
