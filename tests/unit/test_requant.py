"""Requantization against scalar Python with exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from hwsim.core.errors import SpecError
from hwsim.quant.requant import (
    combine_scales,
    multiply_tflite,
    quantize_multiplier,
    quantize_multiplier_tflite,
    quantize_shift,
    requantize_float,
    requantize_mulshift,
    requantize_shift,
    requantize_tflite,
    requantize_tflite_gemm,
    shift_right,
)

HALF = Fraction(1, 2)


def round_even(value: Fraction) -> int:
    return round(value)  # Python rounds a Fraction half to even


def round_away(value: Fraction) -> int:
    return math.floor(value + HALF) if value >= 0 else math.ceil(value - HALF)


def clamp(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def draw_ratios(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.exp2(rng.uniform(-14, 2, count)).astype(np.float32)


@pytest.mark.parametrize("rounding", ["half_even", "half_away"])
def test_right_shift_rounds_every_small_value_like_exact_fractions(rounding):
    naive = {"half_even": round_even, "half_away": round_away}[rounding]
    values = np.arange(-300, 301)
    for shift in range(9):
        expected = [naive(Fraction(int(v), 1 << shift)) for v in values]
        assert shift_right(values, shift, rounding).tolist() == expected


def test_right_shift_of_62_bits_does_not_wrap():
    values = np.array([(1 << 62) - 1, -(1 << 62) + 1, 1 << 61, -(1 << 61), 0])
    assert shift_right(values, 62).tolist() == [round_even(Fraction(int(v), 1 << 62)) for v in values]
    assert shift_right(values, 62, "half_away").tolist() == [round_away(Fraction(int(v), 1 << 62)) for v in values]


@pytest.mark.parametrize("bits", [24, 31, 32])
def test_multiplier_and_shift_equal_a_float32_ratio_exactly(bits):
    ratios = draw_ratios(np.random.default_rng(1), 500)
    multiplier, shift = quantize_multiplier(ratios, bits)
    for m, s, real in zip(multiplier.tolist(), shift.tolist(), ratios.tolist(), strict=True):
        assert Fraction(m, 1 << s) == Fraction(real)
        assert 1 << (bits - 1) <= m < 1 << bits


def test_narrow_multiplier_is_the_nearest_and_carries_into_the_next_power():
    multiplier, shift = quantize_multiplier([0.5, 0.999999, 0.6], 8)
    assert (multiplier.tolist(), shift.tolist()) == ([128, 128, 154], [8, 7, 8])


def test_tiny_ratio_loses_multiplier_bits_instead_of_shifting_out_of_the_product():
    multiplier, shift = quantize_multiplier(2.0**-40 * 1.5)
    assert shift == 62
    assert multiplier / 2.0**62 == 2.0**-40 * 1.5


def test_mulshift_equals_exact_fractions():
    rng = np.random.default_rng(2)
    ratios = draw_ratios(rng, 400)
    acc = rng.integers(-(1 << 24), 1 << 24, 400)
    multiplier, shift = quantize_multiplier(ratios)
    for rounding, naive in (("half_even", round_even), ("half_away", round_away)):
        got = requantize_mulshift(acc, multiplier, shift, 3, -128, 127, rounding)
        expected = [clamp(naive(int(a) * Fraction(float(r))) + 3, -128, 127) for a, r in zip(acc, ratios, strict=True)]
        assert got.tolist() == expected


def test_float_mode_equals_scalar_float32_arithmetic():
    rng = np.random.default_rng(3)
    ratios = draw_ratios(rng, 400)
    acc = np.concatenate([rng.integers(-5000, 5000, 200), rng.integers(-(1 << 31), 1 << 31, 200)])
    got = requantize_float(acc, ratios, -7, -128, 127)
    for value, a, ratio in zip(got.tolist(), acc, ratios, strict=True):
        product = np.float32(np.float32(a) * ratio)  # int32 to float32 rounds half to even, as does the product
        assert value == clamp(round_even(Fraction(float(product))) - 7, -128, 127)


def test_shift_mode_equals_exact_fractions_and_moves_left_on_a_negative_shift():
    acc = np.arange(-50, 51)
    shifts = quantize_shift(np.array([0.25, 1.0, 4.0]))
    assert shifts.tolist() == [2, 0, -2]
    for shift in shifts:
        expected = [clamp(round_even(Fraction(int(a)) / Fraction(2) ** int(shift)), -100, 100) for a in acc]
        assert requantize_shift(acc, shift, 0, -100, 100).tolist() == expected


def test_a_ratio_that_is_no_power_of_two_cannot_be_shifted():
    with pytest.raises(SpecError, match=r"expected powers of two .* \(calibrate with power_of_two=True\)"):
        quantize_shift([0.25, 0.3])


@pytest.mark.parametrize("real", [0.0, -1.0, math.nan, math.inf, 2.0**30])
def test_impossible_multiplier_is_refused(real):
    with pytest.raises(SpecError, match=r"requant\.real"):
        quantize_multiplier(real)


def test_scales_combine_in_the_order_of_float32_roundings():
    a, b, c = np.float32(0.1), np.float32(0.3), np.float32(0.7)
    assert combine_scales(a, b, divisor=c) == np.float32(np.float32(a * b) / c)
    with pytest.raises(SpecError, match="finite scales above zero"):
        combine_scales(1e-30, 1e-30, divisor=1.0)


def test_float_and_mulshift_differ_exactly_where_the_float_product_falls_on_a_tie():
    """The docstring's proof, on every accumulator of 18 bits and ratios whose products come near ties."""
    rng = np.random.default_rng(4)
    acc = np.arange(-(1 << 17), 1 << 17)
    differences = 0
    for ratio in np.exp2(rng.uniform(-11, -10, 64)).astype(np.float32):
        by_float = requantize_float(acc, ratio, 0, -128, 127)
        by_shift = requantize_mulshift(acc, *quantize_multiplier(ratio), 0, -128, 127)
        differ = np.flatnonzero(by_float != by_shift)
        differences += len(differ)
        for index in differ.tolist():
            exact = int(acc[index]) * Fraction(float(ratio))
            rounded = Fraction(float(np.float32(np.float32(acc[index]) * ratio)))
            assert (2 * rounded).denominator == 1, "the float product is no tie"
            assert rounded.denominator == 2
            assert exact != rounded
            assert abs(exact - rounded) <= Fraction(1, 1 << 18)
            assert abs(int(by_float[index] - by_shift[index])) == 1
    assert differences > 0, "nothing was tested"


def test_large_accumulators_keep_the_difference_at_one():
    rng = np.random.default_rng(5)
    acc = rng.integers(-(1 << 31), 1 << 31, 200_000)
    ratio = np.float32(3.1e-8)
    by_float = requantize_float(acc, ratio, 0, -128, 127)
    by_shift = requantize_mulshift(acc, *quantize_multiplier(ratio), 0, -128, 127)
    assert np.abs(by_float - by_shift).max() <= 1
    for index in np.flatnonzero(by_float != by_shift).tolist():
        exact = int(acc[index]) * Fraction(float(ratio))
        tie = Fraction(math.floor(exact)) + HALF
        assert abs(exact - tie) <= abs(exact) / (1 << 22)


def test_half_away_differs_from_half_even_at_exact_ties_alone():
    acc = np.arange(-1000, 1000)
    even = requantize_mulshift(acc, *quantize_multiplier(0.125), 0, -128, 127)
    away = requantize_mulshift(acc, *quantize_multiplier(0.125), 0, -128, 127, "half_away")
    ties = acc % 8 == 4
    assert np.array_equal(even[~ties], away[~ties])
    inside = ties & (np.abs(acc) < 1000)
    assert set(np.abs(even - away)[inside].tolist()) == {0, 1}


def naive_tflite(x: int, multiplier: int, shift: int) -> int:
    """gemmlowp's scalar functions, written with Python integers."""
    product = (x << max(shift, 0)) * multiplier
    nudge = (1 << 30) if product >= 0 else 1 - (1 << 30)
    high = int(Fraction(product + nudge, 1 << 31))  # int() truncates towards zero
    right = max(-shift, 0)
    mask = (1 << right) - 1
    threshold = (mask >> 1) + (high < 0)
    return (high >> right) + ((high & mask) > threshold)


def test_tflite_mode_equals_gemmlowp_in_scalar_python():
    rng = np.random.default_rng(6)
    acc = rng.integers(-(1 << 24), 1 << 24, 2000)
    reals = np.exp2(rng.uniform(-12, 3, 2000))
    multiplier, shift = quantize_multiplier_tflite(reals)
    for m, s, real in zip(multiplier.tolist(), shift.tolist(), reals.tolist(), strict=True):
        assert abs(Fraction(m) * Fraction(2) ** (s - 31) - Fraction(real)) <= Fraction(2) ** (s - 32)
    expected = [naive_tflite(*row) for row in zip(acc.tolist(), multiplier.tolist(), shift.tolist(), strict=True)]
    assert multiply_tflite(acc, multiplier, shift).tolist() == expected
    stored = requantize_tflite(acc, multiplier, shift, -5, -128, 127)
    assert stored.tolist() == [clamp(value - 5, -128, 127) for value in expected]


def test_tflite_rounds_twice_where_mulshift_rounds_once():
    # 1 / 4: the high multiply makes 1 of 1 / 2, the shift makes 1 of 1 / 2 again.
    real = 2.0**-2
    multiplier, shift = quantize_multiplier_tflite(real)
    assert (multiplier, shift) == (1 << 30, -1)
    acc = np.array([3, 1, 2, 6, -2, -6])
    assert multiply_tflite(acc, multiplier, shift).tolist() == [1, 1, 1, 2, -1, -2]
    assert shift_right(acc, 2).tolist() == [1, 0, 0, 2, 0, -2]


def test_tflite_fully_connected_rounds_once_and_ties_up():
    rng = np.random.default_rng(7)
    acc, real = rng.integers(-(1 << 20), 1 << 20, 500), 2.0**-12 * 1.3
    multiplier, shift = quantize_multiplier_tflite(real)
    ratio = Fraction(int(multiplier)) * Fraction(2) ** (int(shift) - 31)
    expected = [clamp(math.floor(int(a) * ratio + HALF), -128, 127) for a in acc]
    assert requantize_tflite_gemm(acc, multiplier, shift, 0, -128, 127).tolist() == expected
    ties = requantize_tflite_gemm(np.array([-3, -1, 1, 3]), *quantize_multiplier_tflite(0.5), 0, -128, 127)
    assert ties.tolist() == [-1, 0, 1, 2]
