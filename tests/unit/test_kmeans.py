"""Codebooks: k-means is the least squared error that there is, mixtures are at least as likely as scikit-learn's."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.nets.pretrained import load_pretrained
from hwsim.quant.codebook import fit_mixture, quantize_codebook, start_mixture
from hwsim.quant.kmeans import MOST_BINS, bin_points, cluster_values, count_values, cut_values
from hwsim.quant.uniform import quantize_weights
from tests.extras import load_optional, skip_without_extra

LAYERS = ("features.0.0", "features.4.conv.1.0", "features.7.conv.0.0")


@pytest.fixture(scope="module")
def trained():
    with skip_without_extra():
        layers = load_pretrained("mobilenet_v2").layers
    return {name: held.weight for name, held in layers.items() if held.weight.ndim == 4}


def measure(weight, real):
    return float(np.square(real - weight, dtype=np.float64).sum())


def measure_nearest(points, counts, centre):
    return float((counts * np.square(points[:, None] - centre).min(axis=1)).sum())


def split_exhaustively(points, counts, clusters):
    """Every partition into intervals: the least squared error to their means."""
    least = np.inf
    for cuts in itertools.combinations(range(1, len(points)), clusters - 1):
        error = 0.0
        for a, b in itertools.pairwise((0, *cuts, len(points))):
            mean = np.average(points[a:b], weights=counts[a:b])
            error += float((counts[a:b] * np.square(points[a:b] - mean)).sum())
        least = min(least, error)
    return least


@given(
    st.lists(st.one_of(st.integers(-9, 9), st.floats(-3, 3, width=32)), min_size=1, max_size=11),
    st.integers(1, 8),
)
@settings(max_examples=120, deadline=None)
def test_kmeans_is_the_best_of_all_partitions(values, clusters):
    points, counts = count_values(np.array(values, np.float64))
    found = measure_nearest(points, counts, cluster_values(points, counts, clusters))
    wanted = split_exhaustively(points, counts, clusters) if clusters < len(points) else 0.0
    assert found <= wanted * (1 + 1e-9) + 1e-13 * float((counts * np.square(points)).sum())


@pytest.mark.parametrize("count", [12, 60, 61, 64])
@pytest.mark.parametrize("clusters", [2, 5, 7, 11])
def test_equal_gains_end_in_as_many_clusters_as_asked(count, clusters):
    """Equal steps: several numbers of clusters are best at one price. Sizes differ by one, s points leave (s**3 - s) / 12."""
    points = np.arange(float(count))
    ends = cut_values(points, np.ones(count), clusters)
    assert len(ends) == clusters + 1
    assert (np.diff(ends) > 0).all()
    whole, more = divmod(count, clusters)
    wanted = sum((size**3 - size) / 12 for size in [whole + 1] * more + [whole] * (clusters - more))
    centre = cluster_values(points, np.ones(count), clusters)
    assert measure_nearest(points, np.ones(count), centre) == pytest.approx(wanted, rel=1e-9)


def test_a_large_layer_is_clustered_by_its_values_not_by_bins():
    """The plain dynamic program on every cut of 5,000 values, more than there are bins; heavy tails, and one far outlier."""
    rng = np.random.default_rng(2)
    points, counts = count_values(np.append(rng.standard_t(3, 5000), 300.0).astype(np.float32))
    assert len(points) > MOST_BINS
    clusters = 6
    total, first, second = (
        np.concatenate([[0.0], np.cumsum(part)]) for part in (counts, counts * points, counts * points**2)
    )
    best = np.append(0.0, np.full(len(points), np.inf))
    for _ in range(clusters):
        now = np.full(len(best), np.inf)
        for end in range(1, len(best)):
            mass, moment = total[end] - total[:end], first[end] - first[:end]
            now[end] = (best[:end] + second[end] - second[:end] - moment**2 / mass).min()
        best = now
    found = measure_nearest(points, counts, cluster_values(points, counts, clusters))
    assert found == pytest.approx(best[-1], rel=1e-9)


def test_bins_are_narrow_and_keep_the_moments():
    rng = np.random.default_rng(4)
    points, counts = count_values(rng.standard_t(3, 30_000).astype(np.float32))
    means, mass = bin_points(points, counts, 512)
    assert len(means) <= 512
    assert mass.sum() == counts.sum()
    assert (mass * means).sum() == pytest.approx((counts * points).sum())
    assert np.all(np.diff(means) > 0)
    assert mass.max() <= 2 / 511 * counts.sum() + counts.max()


@pytest.mark.parametrize("bits", [4, 6])
@pytest.mark.parametrize("layer", LAYERS)
def test_kmeans_is_no_worse_than_that_of_scikit_learn(trained, layer, bits):
    cluster = load_optional("sklearn.cluster")
    weight = trained[layer]
    theirs = cluster.KMeans(1 << bits, n_init=3, random_state=0).fit(weight.reshape(-1, 1))
    found = quantize_codebook(weight, bits, "kmeans")
    assert found.centroid.size == 1 << bits
    assert measure(weight, found.dequantize()) <= theirs.inertia_ * 1.001


@pytest.mark.parametrize("bits", [4, 6])
def test_kmeans_is_never_worse_than_as_many_equal_steps(trained, bits):
    assert len(trained) >= 52
    for name, weight in trained.items():
        found = measure(weight, quantize_codebook(weight, bits, "kmeans").dequantize())
        for scheme, clipping in (("symmetric", "max"), ("asymmetric", "mse")):
            plain = quantize_weights(weight, bits, per_channel=False, scheme=scheme, clipping=clipping).dequantize()
            assert found <= measure(weight, plain), (name, scheme)


@pytest.mark.parametrize(
    ("layer", "bits"), [*itertools.product(LAYERS, (2, 4)), ("features.0.0", 6), ("features.1.conv.0.0", 6)]
)
def test_mixture_is_at_least_as_likely_as_that_of_scikit_learn(trained, layer, bits):
    """Its own start (k-means), the same floor of variances and the same end of rounds; by itself ours takes several starts."""
    mixture = load_optional("sklearn.mixture")
    wide = trained[layer].reshape(-1, 1).astype(np.float64)
    theirs = mixture.GaussianMixture(1 << bits, random_state=0, reg_covar=1e-6 * wide.var(), tol=1e-7, max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its rounds end before it has converged
        theirs.fit(wide)
    found = fit_mixture(trained[layer], 1 << bits, zero=False)
    assert found.measure_likelihood(wide) >= theirs.score(wide)
    own = (
        np.exp(-np.square(wide - found.mean) / (2 * found.variance)) / np.sqrt(2 * np.pi * found.variance) @ found.share
    )
    assert found.measure_likelihood(wide) == pytest.approx(float(np.log(own).mean()), abs=1e-9)


def test_mixtures_start_at_the_best_clusters():
    """A table of one start is less likely and has less error than the likeliest."""
    values = np.random.default_rng(8).standard_t(4, 3000).astype(np.float32) * 0.1
    start = start_mixture(values, 16)
    np.testing.assert_allclose(start.mean, cluster_values(*_bin_as_mixtures_do(values), 16))
    assert start.share.sum() == pytest.approx(1)
    table = fit_mixture(values, 16, start=start)
    likeliest = fit_mixture(values, 16)
    assert likeliest.measure_likelihood(values) > table.measure_likelihood(values)
    assert 0 in table.mean
    assert 0 in likeliest.mean
    found = quantize_codebook(values, 4)
    np.testing.assert_array_equal(found.centroid, table.mean.astype(np.float32))


def _bin_as_mixtures_do(values):
    points, counts = count_values(values)
    return bin_points(points, counts, 2048)
