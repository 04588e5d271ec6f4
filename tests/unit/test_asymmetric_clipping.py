"""Ends of asymmetric quantizers: by brute force over the same points, and never worse than those of the largest weights."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hwsim.nets.pretrained import load_pretrained
from hwsim.quant.asymmetric import CUTS, FRACTIONS, choose_asymmetric
from hwsim.quant.entropy import BINS
from hwsim.quant.uniform import quantize_weights
from tests.extras import skip_without_extra

ROWS = {
    "normal": lambda rng: rng.standard_normal((3, 60)),
    "shifted": lambda rng: rng.standard_normal((3, 60)) + 1.5,
    "one sign": lambda rng: rng.exponential(1, (3, 60)),
    "below zero": lambda rng: -rng.exponential(1, (3, 60)),
    "outlier": lambda rng: np.append(rng.standard_normal((3, 59)), np.array([[9.0], [-20.0], [0.0]]), axis=1),
    "short": lambda rng: rng.standard_normal((3, 2)) * 1e-3,
    "zeros": lambda rng: np.zeros((3, 9)),
}


def draw(name):
    return np.ascontiguousarray(ROWS[name](np.random.default_rng(11)), np.float32)


def measure(row, scale, zero, bits):
    """Squared error of the quantizer as it is defined: rounded, saturated, read back in float32."""
    stored = np.clip(np.rint(row / scale) + zero, 0, (1 << bits) - 1)
    real = (stored - zero).astype(np.float32) * scale
    return float(np.square(real.astype(np.float64) - row).sum())


def find_ends(row, bits):
    """Scale and zero point of the least and the largest weight."""
    low, high = min(float(row.min()), 0.0), max(float(row.max()), 0.0)
    scale = np.float32((high - low) / ((1 << bits) - 1))
    scale = scale if scale > 0 else np.float32(1)
    return scale, int(np.clip(np.rint(-low / scale), 0, (1 << bits) - 1))


@pytest.mark.parametrize("bits", [1, 2, 4, 6])
@pytest.mark.parametrize("name", ROWS)
def test_least_squares_is_the_best_of_all_scales_and_zero_points(name, bits):
    rows = draw(name)
    scale, zero = choose_asymmetric(rows, "mse", bits)
    for row, s, z in zip(rows, scale, zero, strict=True):
        ends = find_ends(row, bits)
        span = max(float(row.max()), 0.0) - min(float(row.min()), 0.0)
        tried = [np.float32(span * share / ((1 << bits) - 1)) for share in FRACTIONS] if span else [np.float32(1)]
        best = min(measure(row, t, point, bits) for t in tried for point in range(1 << bits))
        found = measure(row, s, int(z), bits)
        assert found == pytest.approx(min(best, measure(row, *ends, bits)), rel=1e-6, abs=1e-20)
        assert found <= measure(row, *ends, bits)


@pytest.mark.parametrize("bits", [10, 16])
def test_wide_words_have_256_zero_points(bits):
    row = draw("outlier")[:1, :20]
    scale, zero = choose_asymmetric(row, "mse", bits)
    span, step = float(row.max() - row.min()), 1 << (bits - 8)
    best = min(
        measure(row[0], np.float32(span * share / ((1 << bits) - 1)), point, bits)
        for share in FRACTIONS
        for point in range(0, 1 << bits, step)
    )
    assert measure(row[0], scale[0], int(zero[0]), bits) == pytest.approx(
        min(best, measure(row[0], *find_ends(row[0], bits), bits)), rel=1e-6
    )


@pytest.mark.parametrize("clipping", ["max", "percentile", "mse", "kl"])
@pytest.mark.parametrize("bits", [1, 3, 8, 12, 16])
@pytest.mark.parametrize("name", ROWS)
def test_zero_stays_zero_and_weights_read_back_as_chosen(name, bits, clipping):
    rows = draw(name)
    rows[:, 0] = 0
    found = quantize_weights(rows, bits, scheme="asymmetric", clipping=clipping)
    assert found.stored.min() >= 0
    assert found.stored.max() < 1 << bits
    assert not found.dequantize()[:, 0].any()
    scale, zero = choose_asymmetric(rows, clipping, bits)
    np.testing.assert_array_equal(found.scale, scale)
    np.testing.assert_array_equal(found.zero_point, zero)
    error = np.square(found.dequantize().astype(np.float64) - rows).sum(axis=1)
    np.testing.assert_allclose(
        error, [measure(r, s, int(z), bits) for r, s, z in zip(rows, scale, zero, strict=True)], rtol=1e-9
    )


def test_percentiles_have_two_ends():
    row = np.linspace(-1, 3, 40_001, dtype=np.float32).reshape(1, -1)
    scale, zero = choose_asymmetric(row, "percentile", 8)
    assert scale[0] == pytest.approx((3 - 0.004 + 1 - 0.004) / 255, rel=1e-5)
    assert zero[0] == round(0.996 / 3.992 * 255)


def diverge(counts, first, last, levels):
    """Migacz: what is kept, tails at its ends, against itself merged into levels and spread over its used bins."""
    p = counts[first:last].astype(float)
    p[0] += counts[:first].sum()
    p[-1] += counts[last:].sum()
    q = np.zeros(len(p))
    edges = [(level * len(p)) // levels for level in range(levels + 1)]
    for a, b in itertools.pairwise(edges):
        used = p[a:b] > 0
        if used.any():
            q[a:b][used] = counts[first + a : first + b].sum() / used.sum()
    if q.sum() == 0:
        return np.inf
    p, q = p / p.sum(), q / q.sum()
    keep = p > 0
    return np.inf if (q[keep] == 0).any() else float((p[keep] * np.log(p[keep] / q[keep])).sum())


@pytest.mark.parametrize("bits", [3, 5])
def test_entropy_takes_the_ends_of_least_divergence(bits):
    rng = np.random.default_rng(12)
    rows = np.stack([rng.standard_t(3, 4000), rng.exponential(1, 4000) - 0.5, rng.exponential(1, 4000)]).astype(
        np.float32
    )
    levels = (1 << bits) - 1
    scale, zero = choose_asymmetric(rows, "kl", bits)
    for row, s, z in zip(rows, scale, zero, strict=True):
        low, high = min(float(row.min()), 0.0), float(row.max())
        width = (high - low) / BINS
        counts = np.bincount(np.minimum(((row - low) / width).astype(int), BINS - 1), minlength=BINS)
        middle = int(np.rint(-low / width))
        pairs = [
            (int(middle * a), int(BINS - (BINS - middle) * b))
            for a in np.linspace(1, 0, CUTS)
            for b in np.linspace(1, 0, CUTS)
        ]
        pairs = [pair for pair in pairs if pair[1] - pair[0] >= max(levels, BINS // 16)]
        scores = {pair: diverge(counts, *pair, levels) for pair in pairs}
        first, last = min(scores, key=scores.get)
        wanted_low, wanted_high = min(low + first * width, 0), low + last * width
        assert s == pytest.approx((wanted_high - wanted_low) / levels, rel=1e-6)
        assert z == np.clip(np.rint(-wanted_low / s), 0, levels)
        assert scores[first, last] <= scores[0, BINS]


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_least_squares_is_never_worse_than_the_ends_on_trained_layers(bits, per_channel):
    with skip_without_extra():
        layers = load_pretrained("mobilenet_v2").layers
    ratios = []
    for name, held in layers.items():
        if held.weight.ndim != 4:
            continue
        error = {
            clipping: np.square(
                quantize_weights(held.weight, bits, per_channel, "asymmetric", clipping).dequantize() - held.weight,
                dtype=np.float64,
            ).sum()
            for clipping in ("max", "mse")
        }
        assert error["mse"] <= error["max"], name
        ratios.append(error["mse"] / error["max"])
    assert len(ratios) >= 52
    assert np.mean(ratios) < {(4, False): 0.5, (4, True): 0.9, (8, False): 0.95, (8, True): 1.0}[bits, per_channel]
