"""Kernel of Gaussian mixtures of one dimension: rounds of expectation maximization."""

from __future__ import annotations

import numpy as np

from hwsim.core.jit import kernel


@kernel
def improve_mixture(
    points: np.ndarray,
    weight: np.ndarray,
    held: int,
    floor: float,
    rounds: int,
    tolerance: float,
    share: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    sums: np.ndarray,
) -> float:
    """Improve a mixture until its mean log likelihood gains less than a tolerance, and return the likelihood before the last round.

    Parameters
    ----------
    points, weight : float64 [n]
        Values and their shares, which sum to one.
    held : int
        The component whose mean stays where it is; -1 for none.
    floor : float
        Added to every variance.
    rounds : int
        The most that there are.
    tolerance : float
        Least gain of a round that is followed by another.
    share, mean, variance : float64 [K], changed
    sums : float64 [5, K], filled
        Scratch.
    """
    many = share.shape[0]
    before = -np.inf
    for _ in range(rounds):
        for k in range(many):
            sums[0, k] = np.log(share[k]) - 0.5 * np.log(2 * np.pi * variance[k])
            sums[1, k] = 0.0  # mass, and moments about the mean as it was
            sums[2, k] = 0.0
            sums[3, k] = 0.0
        likelihood = 0.0
        for i in range(points.shape[0]):
            top = -np.inf
            for k in range(many):
                gap = points[i] - mean[k]
                sums[4, k] = sums[0, k] - 0.5 * gap * gap / variance[k]
                top = max(top, sums[4, k])
            total = 0.0
            for k in range(many):
                # what is below exp(-40) of the largest is lost in the sum
                sums[4, k] = np.exp(sums[4, k] - top) if sums[4, k] - top > -40.0 else 0.0
                total += sums[4, k]
            likelihood += weight[i] * (np.log(total) + top)
            for k in range(many):
                if sums[4, k] > 0.0:
                    part, gap = weight[i] * sums[4, k] / total, points[i] - mean[k]
                    sums[1, k] += part
                    sums[2, k] += part * gap
                    sums[3, k] += part * gap * gap
        mass = 0.0
        for k in range(many):
            sums[1, k] += 10 * 2.220446049250313e-16  # ten times float64's epsilon: an empty component keeps a share
            mass += sums[1, k]
        for k in range(many):
            moved = sums[2, k] / sums[1, k] if k != held else 0.0
            variance[k] = max(sums[3, k] / sums[1, k] - moved * moved, 0.0) + floor
            mean[k] += moved
            share[k] = sums[1, k] / mass
        if abs(likelihood - before) < tolerance:
            return likelihood
        before = likelihood
    return before
