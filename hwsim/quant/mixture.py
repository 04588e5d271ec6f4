"""Gaussian mixtures of one dimension, fitted to weights by expectation maximization.

The likelihood has many maxima. Rounds of expectation maximization start at the clusters of k-means (the best ones, and those that
Lloyd's algorithm reaches from drawn centres), and at equal shares of the weights; from the likeliest mixture found, components
that are hardly missed are moved to where weights stand closer than it says, as long as that helps (after N. Ueda et al., SMEM
algorithm for mixture models, Neural Computation 12, 2000: one is merged away, one is split off). The likeliest mixture is not
the best table: it spends components on widths and on weights that happen to stand close.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwsim.core.check import require_int
from hwsim.core.tensors import Array
from hwsim.quant.kmeans import bin_points, cluster_values, count_values
from hwsim.quant.rows import check_weights

MOST_POINTS = 2048
"""More different weights than these stand in so many bins, each at the mean of its weights."""
VARIANCE_FLOOR = 1e-6
"""Added to every variance, relative to that of the weights: a component on equal weights keeps a width."""
MOST_ROUNDS = 200
TOLERANCE = 1e-7
"""Change of the mean log likelihood at which rounds end."""
DRAWN_STARTS = 4
"""Starts from drawn centres; always the same draws."""
MOVES = 24
"""Components that are tried elsewhere."""
WINDOWS = (2, 3, 4, 6, 8, 12, 16, 32)
"""Neighbouring points on which a component is tried."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mixture:
    """Gaussian mixture of one dimension: float64 ``[K]`` each, means ascending."""

    share: Floats
    mean: Floats
    variance: Floats

    def assign(self, values: Array) -> npt.NDArray[np.intp]:
        """Return the most responsible component of each value."""
        points, back = np.unique(np.asarray(values, np.float64).ravel(), return_inverse=True)
        best = np.empty(points.size, np.intp)
        for start in range(0, points.size, MOST_POINTS):
            part = slice(start, start + MOST_POINTS)
            best[part] = np.argmax(_log_density(points[part], self), axis=1)
        return best[back].reshape(np.shape(values))

    def measure_likelihood(self, values: Array) -> float:
        """Return the mean logarithm of the density over all values."""
        points, counts = count_values(np.asarray(values, np.float64))
        total = 0.0
        for start in range(0, points.size, MOST_POINTS):
            part = slice(start, start + MOST_POINTS)
            total += float((counts[part] * _add_logs(_log_density(points[part], self))).sum())
        return total / float(counts.sum())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Sample:
    """Points of shares that sum to one, what is added to each variance, and whether one mean stays at zero."""

    points: Floats
    weight: Floats
    floor: float
    zero: bool

    def improve(self, start: Mixture) -> tuple[float, Mixture]:
        """Return the mixture that rounds of expectation maximization reach, and its mean log likelihood (before the last round)."""
        from hwsim.quant.kernel_mixture import improve_mixture

        share, mean, variance = start.share.copy(), start.mean.copy(), start.variance.copy()
        held = int(np.argmin(np.abs(mean))) if self.zero else -1
        if self.zero:
            mean[held] = 0.0
        likelihood = improve_mixture(
            self.points, self.weight, held, self.floor, MOST_ROUNDS, TOLERANCE, share, mean, variance, np.empty((5, len(mean)))
        )  # fmt: skip
        order = np.argsort(mean, kind="stable")
        return float(likelihood), Mixture(share=share[order], mean=mean[order], variance=variance[order])


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
        The only start (`start_mixture`, for one); by default those of the module, of which the likeliest result is returned.
    """
    sample = _make_sample(values, zero)
    require_int("components", components, 1, 256)
    if start is not None:
        return sample.improve(start)[1]
    best = max((sample.improve(held) for held in _list_starts(sample, components)), key=lambda pair: pair[0])
    return _move_components(sample, *best) if len(sample.points) > components > 1 else best[1]


def start_mixture(values: Array, components: int) -> Mixture:
    """Return the clusters of least squared error as a mixture: shares, means, variances."""
    require_int("components", components, 1, 256)
    sample = _make_sample(values, False)
    return _start_at(sample, cluster_values(sample.points, sample.weight, components))


def _make_sample(values: Array, zero: bool) -> _Sample:
    points, counts = count_values(check_weights(np.asarray(values).reshape(-1)))
    if points.size > MOST_POINTS:
        points, counts = bin_points(points, counts, MOST_POINTS)
    weight = counts / counts.sum()
    return _Sample(points=points, weight=weight, floor=VARIANCE_FLOOR * _measure_variance(points, weight), zero=zero)


def _list_starts(sample: _Sample, components: int) -> Iterator[Mixture]:
    points, weight = sample.points, sample.weight
    best = cluster_values(points, weight, components)
    yield _start_at(sample, best)
    if len(points) <= components or components == 1:
        return
    place = (np.cumsum(weight) - weight / 2) * components
    yield _describe(sample, np.clip(place.astype(np.intp), 0, components - 1), components)
    rng = np.random.default_rng(0)
    for _ in range(DRAWN_STARTS):
        yield _start_at(sample, _settle(sample, _draw_centres(sample, components, rng)))


def _draw_centres(sample: _Sample, components: int, rng: np.random.Generator) -> Floats:
    """Draw centres, each by the squared distance to those before it (D. Arthur, S. Vassilvitskii, k-means++, SODA 2007)."""
    points = sample.points
    centre = np.empty(components)
    far = np.ones(len(points))
    for k in range(components):
        chance = np.cumsum(far * sample.weight)
        centre[k] = points[min(int(np.searchsorted(chance, rng.random() * chance[-1], side="right")), len(points) - 1)]
        gap = np.square(points - centre[k])
        far = np.minimum(far, gap) if k else gap
    return np.sort(centre)


def _settle(sample: _Sample, centre: Floats) -> Floats:
    """Return where Lloyd's algorithm ends from these centres; one without points stays."""
    total = np.concatenate([[0.0], np.cumsum(sample.weight)])
    first = np.concatenate([[0.0], np.cumsum(sample.weight * sample.points)])
    for _ in range(MOST_ROUNDS):
        cuts = np.searchsorted(sample.points, (centre[1:] + centre[:-1]) / 2)
        ends = np.concatenate([[0], cuts, [len(sample.points)]])
        mass = np.diff(total[ends])
        moved = np.sort(np.where(mass > 0, np.diff(first[ends]) / np.where(mass > 0, mass, 1), centre))
        if np.array_equal(moved, centre):
            break
        centre = moved
    return centre


def _start_at(sample: _Sample, centre: Floats) -> Mixture:
    owner = np.searchsorted((centre[1:] + centre[:-1]) / 2, sample.points)
    found = _describe(sample, owner, len(centre))
    used = np.bincount(owner, minlength=len(centre)) > 0
    return Mixture(share=found.share, mean=np.where(used, found.mean, centre), variance=found.variance)


def _describe(sample: _Sample, owner: npt.NDArray[np.intp], components: int) -> Mixture:
    """Return shares, means and variances of the points of each owner; without points, the variance of all."""
    mass = np.bincount(owner, sample.weight, components)
    safe = np.where(mass > 0, mass, 1)
    mean = np.bincount(owner, sample.weight * sample.points, components) / safe
    second = np.bincount(owner, sample.weight * np.square(sample.points - mean[owner]), components)
    variance = np.where(mass > 0, second / safe, sample.floor / VARIANCE_FLOOR) + sample.floor
    # an empty component keeps a share of which the logarithm is finite
    return Mixture(share=np.maximum(mass, 1e-12) / mass.sum(), mean=mean, variance=variance)


def _move_components(sample: _Sample, likelihood: float, now: Mixture) -> Mixture:
    """Return the mixture with components moved to where they raise the likelihood."""
    tried: set[tuple[int, int]] = set()
    for _ in range(MOVES):
        log = _log_density(sample.points, now)
        density = _add_logs(log)
        kept = 1 - np.exp(log - density[:, None])
        missed = -(sample.weight[:, None] * np.log(np.maximum(kept, 1e-17))).sum(axis=0)
        if sample.zero:
            missed[now.mean == 0] = np.inf
        proposal = _find_window(sample, density, tried)
        if proposal is None or not np.isfinite(missed).any():
            break
        share, mean, variance = now.share.copy(), now.mean.copy(), now.variance.copy()
        least = int(np.argmin(missed))
        share[least], mean[least], variance[least] = proposal
        found, moved = sample.improve(Mixture(share=share / share.sum(), mean=mean, variance=variance))
        if found > likelihood:
            likelihood, now = found, moved
            tried.clear()
    return now


def _find_window(sample: _Sample, density: Floats, tried: set[tuple[int, int]]) -> tuple[float, float, float] | None:
    """Return share, mean and variance of the neighbours that gain most from a component of their own, and note them as tried."""
    sums = [
        np.concatenate([[0.0], np.cumsum(sample.weight * part)])
        for part in (np.ones_like(density), sample.points, np.square(sample.points), density)
    ]
    best: tuple[float, int, int] | None = None
    for width in WINDOWS:
        if width > len(density):
            break
        mass, first, second, held = (part[width:] - part[:-width] for part in sums)
        variance = np.maximum(second / mass - np.square(first / mass), 0) + sample.floor
        gain = mass * (np.log(mass) - 0.5 * np.log(2 * np.pi * np.e * variance)) - held
        for at in np.argsort(-gain, kind="stable")[: len(tried) + 1]:
            if (int(at), width) not in tried:
                if best is None or gain[at] > best[0]:
                    best = float(gain[at]), int(at), width
                break
    if best is None or best[0] <= 0:
        return None
    _, at, width = best
    tried.add((at, width))
    part = slice(at, at + width)
    mass = float(sample.weight[part].sum())
    mean = float((sample.weight[part] * sample.points[part]).sum()) / mass
    return mass, mean, float((sample.weight[part] * np.square(sample.points[part] - mean)).sum()) / mass + sample.floor


def _log_density(points: Floats, held: Mixture) -> Floats:
    """Return the logarithm of share times density, ``[points, K]``."""
    gap = points[:, None] - held.mean
    return np.log(held.share) - 0.5 * (np.log(2 * np.pi * held.variance) + np.square(gap) / held.variance)


def _add_logs(log: Floats) -> Floats:
    """Return the logarithm of the sum along the last axis."""
    top = log.max(axis=1)
    return top + np.log(np.exp(log - top[:, None]).sum(axis=1))


def _measure_variance(points: Floats, weight: Floats) -> float:
    mean = float((weight * points).sum())
    return max(float((weight * np.square(points - mean)).sum()), float(np.finfo(np.float64).tiny))
