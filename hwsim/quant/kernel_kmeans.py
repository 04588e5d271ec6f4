"""Kernel of k-means in one dimension: the cheapest cut of ascending points where every cluster costs a price besides its error."""

from __future__ import annotations

import numpy as np

from hwsim.core.jit import kernel


@kernel
def _measure_scatter(total: np.ndarray, first: np.ndarray, second: np.ndarray, low: int, high: int) -> float:
    """Return the squared distance of points ``low .. high - 1`` to their mean; exactly zero for one point."""
    if high - low < 2:
        return 0.0
    moment = first[high] - first[low]
    return max(second[high] - second[low] - moment * moment / (total[high] - total[low]), 0.0)


@kernel
def cut_points(
    total: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    price: float,
    best: np.ndarray,
    queue: np.ndarray,
    begin: np.ndarray,
    back: np.ndarray,
) -> int:
    """Fill the last cut of the cheapest partition of every prefix, and return the clusters of the whole.

    The scatter of intervals is Monge, so that of two places for the last cut the later one, once better, stays so: a queue
    holds the places that are best somewhere ahead and from where on. That point is sought by doubling from the one before it:
    the time is about linear in the points.

    Parameters
    ----------
    total, first, second : float64 [points + 1]
        Sums of weight, weight times value and weight times its square over what is in front of each place.
    price : float
        Of a cluster.
    best : float64 [points + 1], filled
        Least error and prices of each prefix.
    queue, begin : int64 [points + 1], filled
        Scratch.
    back : int64 [points + 1], filled
        Where the last cluster of each prefix begins.
    """
    points = total.shape[0] - 1
    best[0], back[0] = 0.0, 0
    queue[0], begin[0] = 0, 1
    head, tail = 0, 1
    for at in range(1, points + 1):
        while head + 1 < tail and begin[head + 1] <= at:
            head += 1
        back[at] = queue[head]
        best[at] = best[queue[head]] + _measure_scatter(total, first, second, queue[head], at) + price
        if at == points:
            break
        while tail - 1 > head:
            rival, place = queue[tail - 1], begin[tail - 1]
            if best[at] + _measure_scatter(total, first, second, at, place) < best[rival] + _measure_scatter(
                total, first, second, rival, place
            ):
                tail -= 1
            else:
                break
        rival = queue[tail - 1]
        # `at` is worse up to the first, better from the second on.
        worse, better, step = max(begin[tail - 1], at), points + 1, 1
        while worse + 1 < better:
            place = min(worse + step, points) if better > points else (worse + better) // 2
            if best[at] + _measure_scatter(total, first, second, at, place) < best[rival] + _measure_scatter(
                total, first, second, rival, place
            ):
                better = place
            else:
                worse = place
                step *= 2
        if better <= points:
            queue[tail], begin[tail] = at, better
            tail += 1
    clusters, at = 0, points
    while at > 0:
        at = back[at]
        clusters += 1
    return clusters
