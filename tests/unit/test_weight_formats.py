"""Formats of weights: exact round trips, exact sizes, the rules of their sources, and what they cost a real network."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.core.errors import HwsimError, InputError, SpecError
from hwsim.quant.bit_planes import quantize_planes, split_planes
from hwsim.quant.codebook import Mixture, fit_mixture, quantize_codebook
from hwsim.quant.fixed_point import choose_fraction_bits, quantize_fixed, shift_words
from hwsim.quant.groups import join_digits, quantize_groups, split_digits
from hwsim.quant.mixed_channels import quantize_channels
from hwsim.quant.power_of_two import quantize_shift
from hwsim.quant.rows import measure_sqnr_db
from hwsim.quant.uniform import quantize_weights
from tests.extras import load_optional


def draw(shape=(6, 4, 3, 3), seed=3):
    rng = np.random.default_rng(seed)
    return (rng.standard_t(5, shape) * rng.uniform(0.02, 0.3, (shape[0], *(1,) * (len(shape) - 1)))).astype(np.float32)


ALL = {
    "shift": lambda w: quantize_shift(w, 4),
    "shift per channel": lambda w: quantize_shift(w, 5, per_channel=True),
    "mixture": lambda w: quantize_codebook(w, 3),
    "kmeans": lambda w: quantize_codebook(w, 4, "kmeans"),
    "fixed": lambda w: quantize_fixed(w),
    "planes": lambda w: quantize_planes(w, 8),
    "channels": lambda w: quantize_channels(w, [8, 4, 2, 0, 8, 4]),
    "groups": lambda w: quantize_groups(w, 4, 2),
}


@pytest.mark.parametrize("name", ALL)
def test_quantizing_again_changes_nothing(name):
    once = ALL[name](draw()).dequantize()
    np.testing.assert_allclose(ALL[name](once).dequantize(), once, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("name", ALL)
def test_bad_weights_are_named(name):
    weight = draw()
    weight[0, 0, 0, :2] = np.nan, np.inf
    with pytest.raises(InputError, match="2 of 216 are NaN or infinite"):
        ALL[name](weight)


@pytest.mark.parametrize("name", ["shift", "shift per channel", "fixed", "channels", "groups"])
def test_integers_stand_for_the_same_numbers(name):
    found = ALL[name](draw())
    integers, scale = found.to_integers()
    np.testing.assert_allclose(integers * scale.reshape(-1, 1, 1, 1), found.dequantize(), rtol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_zeros_stay_zeros(name):
    if name in ("kmeans",):
        weight = draw()
        weight[0] = 0
        assert quantize_codebook(weight * 0, 4, "kmeans").dequantize().any() == np.False_
        return
    assert not ALL[name](np.zeros((6, 4, 3, 3), np.float32)).dequantize().any()


def test_sizes_are_exact():
    """216 weights in 6 channels, counted by hand."""
    sizes = {name: quantize(draw()).storage_bits for name, quantize in ALL.items()}
    assert sizes == {
        "shift": 216 * 4 + 8,
        "shift per channel": 216 * 5 + 6 * 8,
        "mixture": 216 * 3 + 8 * 32,
        "kmeans": 216 * 4 + 16 * 32,
        "fixed": 216 * 8 + 4,
        "planes": 216 * 8 + 6 * 32,
        "channels": 36 * (8 + 4 + 2 + 8 + 4) + 5 * 32 + 3 * 16,
        "groups": 216 * 4 + 2 * 32,
    }


# Power of two.


def test_powers_are_the_nearest():
    """Naive: the nearest of all numbers that the format has, by value and by exponent."""
    weight = draw((200,), 4)
    for bits, rounding in ((3, "value"), (4, "value"), (4, "log")):
        found = quantize_shift(weight, bits, rounding=rounding)
        top = int(found.top[0])
        powers = [2.0 ** (top - code) for code in range(2 ** (bits - 1) - 1)]
        for w, q in zip(weight.astype(float), found.dequantize(), strict=True):
            if rounding == "value":
                wanted = min([0.0, *powers], key=lambda p, w=w: abs(abs(w) - p))
            else:
                wanted = min([*powers, powers[-1] / 2], key=lambda p, w=w: abs(np.log2(abs(w)) - np.log2(p)))
                wanted = 0.0 if wanted == powers[-1] / 2 else wanted
            assert q == np.copysign(wanted, w) or (q == 0 and wanted == 0)


def test_deepshift_has_sixteen_shifts_and_no_zero():
    """Five bits: a sign and shifts from 0 to 15, no code for zero."""
    found = quantize_shift(np.array([[1.0, -0.3, 0.0, 3.0, 2.0**-20]]), 5, zero=False, rounding="log", top=0)
    np.testing.assert_array_equal(found.dequantize()[0], [1.0, -0.25, 2.0**-15, 1.0, 2.0**-15])


def test_wide_spans_have_no_integers_of_16_bits():
    weight = np.ldexp(1.0, -np.arange(20)).reshape(1, -1)
    with pytest.raises(HwsimError, match="span 20 exponents, integers of 16 bits hold 15: use fewer bits"):
        quantize_shift(weight, 6).to_integers()
    integers, scale = quantize_shift(weight, 5).to_integers()
    np.testing.assert_array_equal(integers[0, :15] * scale[0], weight[0, :15])


# Codebook.


def test_mixture_is_that_of_scikit_learn():
    """The same start, the same floor of variances: scikit-learn's GaussianMixture, to a millionth of the spread."""
    mixture = load_optional("sklearn.mixture")
    rng = np.random.default_rng(5)
    values = np.concatenate([rng.normal(m, s, n) for m, s, n in ((-0.5, 0.1, 300), (0.0, 0.05, 500), (0.4, 0.1, 200))])
    values = values.astype(np.float32)
    start = Mixture(share=np.full(4, 0.25), mean=np.array([-0.6, -0.1, 0.2, 0.5]), variance=np.full(4, 0.02))
    found = fit_mixture(values, 4, zero=False, start=start)
    wide = values.astype(np.float64).reshape(-1, 1)
    theirs = mixture.GaussianMixture(
        4,
        means_init=start.mean[:, None],
        weights_init=start.share,
        precisions_init=1 / start.variance[:, None, None],
        reg_covar=1e-6 * wide.var(),
        tol=1e-7,
        max_iter=200,
    ).fit(wide)
    order = np.argsort(theirs.means_.ravel())
    np.testing.assert_allclose(found.mean, theirs.means_.ravel()[order], atol=1e-6)
    np.testing.assert_allclose(found.variance, theirs.covariances_.ravel()[order], rtol=1e-4)
    np.testing.assert_array_equal(np.argsort(order)[theirs.predict(wide)], found.assign(values))


def test_binned_fit_is_near_the_exact_one():
    values = np.random.default_rng(6).standard_t(6, 60_000).astype(np.float32)
    start = Mixture(share=np.full(3, 1 / 3), mean=np.array([-1.5, 0.0, 1.5]), variance=np.full(3, 1.0))
    binned = fit_mixture(values, 3, start=start)
    # Naive rounds on every weight, one component held at zero.
    x = values.astype(np.float64)
    share, mean, variance = start.share.copy(), start.mean.copy(), start.variance.copy()
    for _ in range(200):
        density = share * np.exp(-((x[:, None] - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
        r = density / density.sum(axis=1, keepdims=True)
        mass = r.sum(axis=0)
        mean = r.T @ x / mass
        mean[1] = 0.0
        variance = (r * (x[:, None] - mean) ** 2).sum(axis=0) / mass + 1e-6 * x.var()
        share = mass / mass.sum()
    order = np.argsort(mean)
    np.testing.assert_allclose(binned.mean, mean[order], atol=2e-3)
    np.testing.assert_allclose(binned.variance, variance[order], rtol=5e-3)


def test_kmeans_finds_separate_clusters_and_mixture_keeps_a_zero():
    rng = np.random.default_rng(7)
    values = np.concatenate([rng.normal(c, 0.01, 100) for c in (-1.0, -0.4, 0.02, 0.7)]).reshape(4, 100)
    found = quantize_codebook(values, 2, "kmeans")
    np.testing.assert_allclose(found.centroid, values.mean(axis=1), atol=1e-6)
    mixture = quantize_codebook(values, 2)
    np.testing.assert_allclose(mixture.centroid[[0, 1, 3]], values.mean(axis=1)[[0, 1, 3]], atol=1e-6)
    assert mixture.centroid[2] == 0
    assert mixture.zero_share == 0.25


# Fixed point.


def test_fraction_bits_follow_the_published_rule():
    """floor(log2(40 / sigma)) signed, floor(log2(70 / sigma)) unsigned, from 0 to 8 less the sign."""
    wanted = {0.2: (7, 8), 0.5: (6, 7), 1.0: (5, 6), 3.0: (3, 4), 40.0: (0, 0), 100.0: (0, 0), 0.0: (7, 8)}
    assert {s: (choose_fraction_bits(s, True), choose_fraction_bits(s, False)) for s in wanted} == wanted


@given(st.integers(-(1 << 30), 1 << 30), st.integers(-4, 20))
@settings(max_examples=300, deadline=None)
def test_shift_requantization_rounds_half_to_even(total, shift):
    wanted = round(total / 2**shift) if shift >= 0 else total << -shift
    assert int(shift_words(np.array([total]), shift)[0]) == min(max(wanted, -127), 127)


def test_fixed_words_are_symmetric_and_search_is_no_worse():
    weight = draw()
    rule, search = quantize_fixed(weight), quantize_fixed(weight, method="search")
    assert abs(rule.stored).max() <= 127
    assert measure_sqnr_db(weight, search.dequantize()) >= measure_sqnr_db(weight, rule.dequantize())
    naive = min(np.square(np.clip(np.rint(weight * 2.0**f), -127, 127) / 2.0**f - weight).sum() for f in range(-8, 20))
    assert np.square(search.dequantize() - weight).sum() == pytest.approx(naive, rel=1e-5)


@pytest.mark.parametrize("span", [0, 1, 3, 6, 30])
def test_a_shifter_of_few_places_takes_the_nearest_power_that_it_has(span):
    """By trying every number that it has: zero, and powers of two from the filter's largest down to ``span`` below."""
    weight = draw((5, 40))
    found = quantize_shift(weight, 4, per_channel=True, span=span).dequantize()
    for row, stored in zip(weight.astype(np.float64), found, strict=True):
        top = np.log2(np.abs(stored).max())
        assert top == round(top)
        powers = 2.0 ** (top - np.arange(min(span, 6) + 1))
        grid = np.array([0.0, *powers, *-powers])
        np.testing.assert_allclose(np.abs(stored - row), np.abs(grid[:, None] - row).min(axis=0), rtol=1e-5)


# Bit planes.


@given(st.integers(2, 16), st.integers(1, 16), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_planes_are_floored_integers(bits, kept, seed):
    kept = min(kept, bits)
    whole = quantize_weights(draw((3, 7), seed), bits)
    found = split_planes(whole)
    value, scale = found.read(kept)
    np.testing.assert_array_equal(value, whole.stored.astype(np.int64) >> (bits - kept))
    np.testing.assert_allclose(scale, whole.scale * 2 ** (bits - kept))
    if kept == bits:
        np.testing.assert_array_equal(found.dequantize(), whole.dequantize())


@pytest.mark.parametrize("bits", [2, 5, 8, 15])
def test_floored_planes_cut_the_range_into_equal_steps_and_stand_for_their_middle(bits):
    """From the definition: 2**bits steps from -m to m, m the largest magnitude of a channel; what is at m has the last step."""
    weight = draw()
    weight[2] = 0
    found = quantize_planes(weight, bits, middle=True)
    largest = np.abs(weight.reshape(6, -1)).max(axis=1).astype(np.float64)
    step = 2 * largest / 2**bits
    used = largest > 0
    np.testing.assert_allclose(found.scale[used], step[used], rtol=1e-6)
    assert found.scale[2] == found.scale[used].min()
    for kept in range(1, bits + 1):
        integers, scale = found.read(kept)
        assert (integers % 2 == 1).all()
        real = integers * scale.reshape(-1, 1, 1, 1).astype(np.float64)
        error = np.abs(real - weight).reshape(6, -1).max(axis=1)
        assert (error[used] <= (0.5 + 1e-3) * step[used] * 2.0 ** (bits - kept)).all()
    with pytest.raises(SpecError, match="bits: got 16, expected an integer from 2 to 15"):
        quantize_planes(weight, 16, middle=True)


def test_centred_planes_halve_the_error_and_bits_move_on_demand():
    weight = draw((8, 64), 1)
    found = quantize_planes(weight, 8)
    for bits in (2, 4, 6):
        assert measure_sqnr_db(weight, found.dequantize(bits, centred=True)) > measure_sqnr_db(
            weight, found.dequantize(bits)
        )
    value, _ = found.read(4, centred=True)
    assert np.all(value % 2 == 1)
    assert [found.count_moved_bits(b, held) for b, held in ((8, 0), (8, 4), (4, 8), (1, 0))] == [4096, 2048, 0, 512]
    with pytest.raises(SpecError, match="bits: got 9, expected an integer from 1 to 8"):
        found.read(9)


# Groups.


def test_groups_have_a_scale_each_and_must_divide():
    weight = draw()
    found = quantize_groups(weight, 4, 2)
    for group in range(2):
        part = weight[3 * group : 3 * group + 3]
        np.testing.assert_allclose(
            found.dequantize()[3 * group : 3 * group + 3], quantize_weights(part, 4, per_channel=False).dequantize()
        )
    with pytest.raises(SpecError, match="groups: got 4, expected a divisor of the 6 output channels"):
        quantize_groups(weight, 4, 4)


@given(st.integers(2, 16), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_digits_make_the_products_of_the_whole(bits, native):
    """Products of digits, shifted and summed, are the products of the integers: what passes in time compute."""
    rng = np.random.default_rng(bits * 31 + native)
    a, b = (rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), 50).astype(np.int16) for _ in range(2))
    left, right = split_digits(a, bits, native), split_digits(b, bits, native)
    np.testing.assert_array_equal(join_digits(left, native), a)
    total = sum(
        (x.astype(np.int64) * y.astype(np.int64)) << (native * (i + j))
        for i, x in enumerate(left)
        for j, y in enumerate(right)
    )
    np.testing.assert_array_equal(total, a.astype(np.int64) * b)
    for place, digit in enumerate(left):
        top = place == len(left) - 1
        assert digit.min() >= (-(1 << (native - 1)) if top else 0)
        assert digit.max() < 1 << native


# Clipping by entropy.


def test_entropy_cuts_outliers_and_keeps_what_is_flat():
    rng = np.random.default_rng(9)
    normal = np.append(rng.normal(0, 1, 50_000), [40.0]).astype(np.float32).reshape(1, -1)
    clipped = quantize_weights(normal, 4, clipping="kl")
    assert 2.0 < clipped.scale[0] * 7 < 8.0
    assert measure_sqnr_db(normal, clipped.dequantize()) > measure_sqnr_db(
        normal, quantize_weights(normal, 4).dequantize()
    )
    flat = rng.uniform(-1, 1, (1, 50_000)).astype(np.float32)
    assert quantize_weights(flat, 4, clipping="kl").scale[0] * 7 == pytest.approx(1.0, abs=0.02)


def test_entropy_limits_are_those_of_a_naive_search():
    from hwsim.quant.entropy import BINS, CANDIDATES, choose_entropy_limits

    rows = np.abs(np.random.default_rng(10).standard_t(4, (3, 5000))).astype(np.float32)
    levels, wanted = 7, []
    for row in rows:
        counts, _ = np.histogram(row, BINS, (0, float(row.max())))
        scores = []
        for cut in np.unique(np.linspace(BINS // 16, BINS, CANDIDATES).astype(int)):
            p = counts[:cut].astype(float)
            p[-1] += counts[cut:].sum()
            q = np.zeros(cut)
            edges = [(i * cut) // levels for i in range(levels)] + [cut]
            for a, b in itertools.pairwise(edges):
                used = p[a:b] > 0
                if used.any():
                    q[a:b][used] = counts[a:b].sum() / used.sum()
            p, q = p / p.sum(), q / q.sum()
            keep = p > 0
            score = np.inf if (q[keep] == 0).any() else float((p[keep] * np.log(p[keep] / q[keep])).sum())
            scores.append((score, -cut))
        wanted.append(-min(scores)[1] * float(row.max()) / BINS)
    np.testing.assert_allclose(choose_entropy_limits(rows, levels), wanted, rtol=1e-9)


@pytest.mark.parametrize(
    ("largest", "method", "said"),
    [
        (1e37, "rule", "values: reach 1e+37: their standard deviation is beyond float32"),
        (3.4e38, "search", "values: reach 3.4e+38, which words of 8 bits round beyond float32"),
    ],
)
def test_fixed_point_of_huge_values_takes_one_line(largest, method, said):
    with pytest.raises(InputError) as caught:
        quantize_fixed(np.array([largest, -largest / 3]), method=method)
    assert str(caught.value) == said
