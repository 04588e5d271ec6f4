"""Codebook weights: an index a weight, a table of centroids a layer, fitted by a Gaussian mixture or by k-means.

Source: DGMS (CVPR 2022; modeling/DGMS/GMM.py of github.com/RunpeiDong/DGMS): a mixture of K components of which one has its mean
at zero, started from k-means, each weight replaced by the mean of its most responsible component. K-means alone is
HAQ's weight-only mode. DGMS trains the mixture with the network; here it is fitted to trained weights by expectation maximization,
which describes their density: components of equal means and unequal widths are likely, so the squared error is above that of
k-means, far above at two bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwsim.core.check import require_choice, require_int
from hwsim.core.tensors import Array
from hwsim.quant.rows import check_weights
from hwsim.quant.uniform import choose_dtype

CENTROID_BITS = 32
"""Bits of a stored centroid (float32)."""
MOST_POINTS = 2048
"""Where there are more different weights they stand in so many bins of equal width, each at the mean of its weights."""
VARIANCE_FLOOR = 1e-6
"""Added to every variance, relative to that of the weights: a component on equal weights keeps a width."""
MOST_ROUNDS = 200
TOLERANCE = 1e-7
"""Change of the mean log likelihood at which the fit ends."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mixture:
    """Gaussian mixture of one dimension: float64 ``[K]`` each, means ascending."""

    share: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    variance: npt.NDArray[np.float64]

    def assign(self, values: Array) -> npt.NDArray[np.intp]:
        """Return the most responsible component of each value."""
        points, back = np.unique(np.asarray(values, np.float64).ravel(), return_inverse=True)
        best = np.empty(points.size, np.intp)
        for start in range(0, points.size, MOST_POINTS):
            part = slice(start, start + MOST_POINTS)
            best[part] = np.argmax(_log_density(points[part], self), axis=1)
        return best[back].reshape(np.shape(values))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CodebookWeights:
    """Weights as indices into a table.

    Parameters
    ----------
    index : ndarray of uint8
        Shape of the float weights.
    centroid : ndarray of float32
        ``[K]``, K at most ``2**bits``.
    bits : int
        Of an index.
    """

    index: npt.NDArray[np.uint8]
    centroid: npt.NDArray[np.float32]
    bits: int

    @property
    def storage_bits(self) -> int:
        """Exact size: an index a weight, the table once."""
        return self.index.size * self.bits + self.centroid.size * CENTROID_BITS

    @property
    def zero_share(self) -> float:
        """Share of the weights that are exactly zero: DGMS counts them as pruned."""
        return float(np.mean(self.centroid[self.index] == 0))

    def dequantize(self) -> npt.NDArray[np.float32]:
        """Return the real weights, float32."""
        return self.centroid[self.index]

    def to_integers(self, bits: int = 8) -> tuple[Array, npt.NDArray[np.float32]]:
        """Return the weights with the table rounded to integers of ``bits`` (2 to 16), and its scale ``[1]``.

        What a look-up datapath of integers computes with; the table's rounding is the only loss.
        """
        require_int("bits", bits, 2, 16)
        levels = (1 << (bits - 1)) - 1
        top = float(np.abs(self.centroid).max())
        scale = np.array([top / levels if top else 1.0], np.float32)
        table = np.clip(np.rint(self.centroid / scale), -levels, levels).astype(choose_dtype(bits, signed=True))
        return table[self.index], scale


def quantize_codebook(weight: Array, bits: int, method: str = "mixture") -> CodebookWeights:
    """Fit a table of ``2**bits`` centroids to a layer's weights and index it.

    Parameters
    ----------
    weight : ndarray
        ``[channels, ...]``, finite floats.
    bits : int
        1 to 8.
    method : str
        ``mixture``: Gaussian mixture, one centre at zero (where there are at least three); ``kmeans``: least squares.
    """
    require_int("bits", bits, 1, 8)
    require_choice("method", method, ("mixture", "kmeans"))
    values = check_weights(weight)
    if method == "kmeans":
        points, counts = _bin(values)
        centroid = cluster_values(points, counts, 1 << bits).astype(np.float32)
        edges = (centroid[1:] + centroid[:-1]) / 2
        index = np.searchsorted(edges, values)
    else:
        found = fit_mixture(values, 1 << bits, zero=bits >= 2)
        centroid = found.mean.astype(np.float32)
        index = found.assign(values)
    return CodebookWeights(index=index.astype(np.uint8), centroid=centroid, bits=bits)


def fit_mixture(values: Array, components: int, zero: bool = True, start: Mixture | None = None) -> Mixture:
    """Fit a Gaussian mixture of one dimension by expectation maximization.

    Parameters
    ----------
    values : ndarray
        Finite floats, any shape.
    components : int
        1 to 256.
    zero : bool
        The component that starts nearest to zero keeps its mean there.
    start : Mixture, optional
        By default the clusters of k-means.
    """
    require_int("components", components, 1, 256)
    points, counts = _bin(check_weights(np.asarray(values).reshape(-1)))
    now = _start_mixture(points, counts, components) if start is None else start
    held = int(np.argmin(np.abs(now.mean))) if zero else -1
    if zero:
        mean = now.mean.copy()
        mean[held] = 0.0
        now = Mixture(share=now.share, mean=mean, variance=now.variance)
    weight = counts / counts.sum()
    floor = VARIANCE_FLOOR * max(_variance(points, weight), np.finfo(np.float64).tiny)
    before = -np.inf
    for _ in range(MOST_ROUNDS):
        now, likelihood = _improve(points, weight, now, held, floor)
        if abs(likelihood - before) < TOLERANCE:
            break
        before = likelihood
    order = np.argsort(now.mean, kind="stable")
    return Mixture(share=now.share[order], mean=now.mean[order], variance=now.variance[order])


def cluster_values(
    points: npt.NDArray[np.float64], counts: npt.NDArray[np.float64], clusters: int
) -> npt.NDArray[np.float64]:
    """Return the ascending centres of k-means in one dimension, started at equal shares of the weights (Lloyd)."""
    if len(points) <= clusters:
        return np.pad(points, (0, clusters - len(points)), mode="edge")
    total = np.concatenate([[0.0], np.cumsum(counts)])
    first = np.concatenate([[0.0], np.cumsum(counts * points)])
    places = (np.arange(clusters) + 0.5) / clusters * total[-1]
    centre = points[np.minimum(np.searchsorted(total[1:], places), len(points) - 1)].astype(np.float64)
    for _ in range(MOST_ROUNDS):
        cuts = np.searchsorted(points, (centre[1:] + centre[:-1]) / 2)
        ends = np.concatenate([[0], cuts, [len(points)]])
        mass = np.diff(total[ends])
        moved = np.where(mass > 0, np.diff(first[ends]) / np.where(mass > 0, mass, 1), centre)
        if np.array_equal(moved, centre):
            break
        centre = np.sort(moved)
    return centre


def _bin(values: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return ascending points and their counts: the values themselves, or the means of bins of equal counts."""
    points, counts = np.unique(values.ravel(), return_counts=True)
    exact, weight = points.astype(np.float64), counts.astype(np.float64)
    if exact.size <= MOST_POINTS:
        return exact, weight
    width = (exact[-1] - exact[0]) / MOST_POINTS
    place = np.minimum(((exact - exact[0]) / width).astype(np.intp), MOST_POINTS - 1)
    mass = np.bincount(place, weight, MOST_POINTS)
    used = mass > 0
    first = np.bincount(place, weight * exact, MOST_POINTS)
    return first[used] / mass[used], mass[used].astype(np.float64)


def _start_mixture(points: npt.NDArray[np.float64], counts: npt.NDArray[np.float64], components: int) -> Mixture:
    centre = cluster_values(points, counts, components)
    cuts = np.concatenate([[0], np.searchsorted(points, (centre[1:] + centre[:-1]) / 2), [len(points)]])
    owner = np.repeat(np.arange(components), np.diff(cuts))
    mass = np.bincount(owner, counts, components)
    second = np.bincount(owner, counts * np.square(points - centre[owner]), components)
    spread_all = max(_variance(points, counts / counts.sum()), np.finfo(np.float64).tiny)
    safe = np.where(mass > 0, mass, 1)
    variance = np.where(mass > 0, second / safe, spread_all) + VARIANCE_FLOOR * spread_all
    return Mixture(share=np.maximum(mass, 1e-12) / mass.sum(), mean=centre, variance=variance)


def _improve(
    points: npt.NDArray[np.float64], weight: npt.NDArray[np.float64], now: Mixture, held: int, floor: float
) -> tuple[Mixture, float]:
    """Return the mixture after one round, and the mean log likelihood before it."""
    log = _log_density(points, now)
    top = log.max(axis=1, keepdims=True)
    share = np.exp(log - top)
    total = share.sum(axis=1, keepdims=True)
    likelihood = float((weight * (np.log(total[:, 0]) + top[:, 0])).sum())
    share *= weight[:, None] / total
    mass = share.sum(axis=0) + 10 * np.finfo(np.float64).eps
    mean = share.T @ points / mass
    if held >= 0:
        mean[held] = 0.0
    # The second moment about the mean, written so that it cannot fall below zero.
    variance = np.array([(share[:, k] * np.square(points - mean[k])).sum() for k in range(len(mass))]) / mass + floor
    return Mixture(share=mass / mass.sum(), mean=mean, variance=variance), likelihood


def _log_density(points: npt.NDArray[np.float64], held: Mixture) -> npt.NDArray[np.float64]:
    """Return the logarithm of share times density, ``[points, K]``."""
    gap = points[:, None] - held.mean
    return np.log(held.share) - 0.5 * (np.log(2 * np.pi * held.variance) + np.square(gap) / held.variance)


def _variance(points: npt.NDArray[np.float64], weight: npt.NDArray[np.float64]) -> float:
    mean = float((weight * points).sum())
    return float((weight * np.square(points - mean)).sum())
