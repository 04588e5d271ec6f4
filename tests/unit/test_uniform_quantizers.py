"""Uniform quantizers: levels, exact storage, error bounds."""

from __future__ import annotations

import numpy as np
import pytest

from hwsim.core.errors import InputError, SpecError
from hwsim.core.tensors import ActQuant
from hwsim.quant import uniform
from hwsim.quant.uniform import (
    choose_activation_quant,
    choose_dtype,
    dequantize_activation,
    quantize_activation,
    quantize_weights,
)

WEIGHT = np.random.default_rng(0).standard_normal((6, 4, 3, 3)).astype(np.float32) * np.geomspace(
    0.01, 10, 6, dtype=np.float32
).reshape(6, 1, 1, 1)


@pytest.mark.parametrize("bits", range(2, 17))
@pytest.mark.parametrize("per_channel", [True, False])
def test_symmetric_error_is_at_most_half_a_step_and_the_largest_weight_is_the_last_level(bits, per_channel):
    found = quantize_weights(WEIGHT, bits, per_channel)
    levels = (1 << (bits - 1)) - 1
    scale = found.scale.reshape(-1, 1, 1, 1)
    assert np.abs(found.stored).max() == levels
    assert found.stored.dtype == (np.int8 if bits <= 8 else np.int16)
    assert np.all(np.abs(found.dequantize() - WEIGHT) <= 0.5 * scale * (1 + 1e-3))
    assert len(found.scale) == (6 if per_channel else 1)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_asymmetric_covers_the_range_and_holds_zero_exactly(bits):
    weight = np.abs(WEIGHT) - np.float32(0.001)
    weight[:, 0, 0, 0] = 0
    found = quantize_weights(weight, bits, scheme="asymmetric")
    assert found.stored.min() >= 0
    assert found.stored.max() <= (1 << bits) - 1
    real = found.dequantize()
    assert np.all(real[:, 0, 0, 0] == 0)
    assert np.all(np.abs(real - weight) <= found.scale.reshape(-1, 1, 1, 1) * 1.01)


@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
def test_blocks_of_channels_change_nothing(scheme, monkeypatch):
    whole = quantize_weights(WEIGHT, 5, scheme=scheme)
    monkeypatch.setattr(uniform, "BLOCK_ELEMENTS", 80)
    blocks = quantize_weights(WEIGHT, 5, scheme=scheme)
    assert np.array_equal(blocks.stored, whole.stored)
    assert np.array_equal(blocks.scale, whole.scale)
    assert np.array_equal(blocks.dequantize(), whole.dequantize())


def test_storage_counts_weights_scales_and_zero_points():
    assert quantize_weights(WEIGHT, 3).storage_bits == WEIGHT.size * 3 + 6 * 32
    assert quantize_weights(WEIGHT, 3, per_channel=False).storage_bits == WEIGHT.size * 3 + 32
    assert quantize_weights(WEIGHT, 3, scheme="asymmetric").storage_bits == WEIGHT.size * 3 + 6 * 32 + 6 * 3


def test_one_bit_stores_signs_with_the_mean_magnitude():
    found = quantize_weights(WEIGHT, 1)
    assert set(np.unique(found.stored)) == {-1, 1}
    assert np.allclose(found.scale, np.abs(WEIGHT).reshape(6, -1).mean(axis=1), rtol=1e-6)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_least_squares_clipping_is_never_worse_than_the_maximum(bits):
    def error(clipping):
        real = quantize_weights(WEIGHT, bits, clipping=clipping).dequantize()
        return np.square(real - WEIGHT).reshape(6, -1).sum(axis=1)

    assert np.all(error("mse") <= error("max"))
    assert error("mse").sum() < error("max").sum()


def test_percentile_clipping_saturates_an_outlier():
    row = np.random.default_rng(1).standard_normal((1, 10_000)).astype(np.float32)
    row[0, 0] = 1000
    found = quantize_weights(row, 8, clipping="percentile")
    assert found.scale[0] < 0.1
    assert found.stored[0, 0] == 127


def test_channel_of_zeros_stays_zero():
    found = quantize_weights(np.zeros((2, 3), np.float32), 8)
    assert not found.stored.any()
    assert found.scale.tolist() == [1, 1]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value):
    weight = WEIGHT.copy()
    weight[1, 0, 0, 0] = value
    with pytest.raises(InputError, match=r"^weights: 1 of 216 are NaN or infinite$"):
        quantize_weights(weight, 8)


def test_bad_parameters_are_refused():
    with pytest.raises(SpecError, match="bits"):
        quantize_weights(WEIGHT, 17)
    with pytest.raises(SpecError, match="scheme"):
        quantize_weights(WEIGHT, 8, scheme="log")
    with pytest.raises(SpecError, match="non-empty"):
        quantize_weights(np.zeros((0, 3)), 8)
    with pytest.raises(SpecError, match="activation range"):
        choose_activation_quant(0.0, float("nan"), 8)
    with pytest.raises(SpecError, match="bits"):
        choose_dtype(0, True)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ActQuant(scale=float(np.float32(6 / 127)))),
        ({"unsigned": True}, ActQuant(scale=float(np.float32(6 / 255)), signed=False)),
        ({"scheme": "asymmetric"}, ActQuant(scale=float(np.float32(6 / 255)), signed=False)),
        ({"power_of_two": True}, ActQuant(scale=2.0**-4)),
    ],
)
def test_format_of_a_tensor_from_zero_to_six(options, expected):
    assert choose_activation_quant(0.0, 6.0, 8, **options) == expected


def test_asymmetric_format_holds_both_ends_and_zero():
    quant = choose_activation_quant(-1.0, 3.0, 8, scheme="asymmetric")
    assert quant.zero_point == 64
    ends = dequantize_activation(quantize_activation(np.array([-1.0, 0.0, 3.0]), quant), quant)
    assert np.abs(ends - [-1, 0, 3]).max() <= quant.scale / 2 * 1.01
    assert ends[1] == 0


def test_one_bit_tells_zero_from_what_is_positive():
    quant = choose_activation_quant(-2.0, 3.0, 1)
    assert (quant.low, quant.high, quant.signed, quant.scale) == (0, 1, False, 3.0)
    assert quantize_activation(np.array([-2.0, 1.0, 2.0, 3.0]), quant).tolist() == [0, 0, 1, 1]


def test_activation_is_rounded_half_to_even_before_the_zero_point_and_saturates():
    quant = ActQuant(scale=0.5, zero_point=1)
    stored = quantize_activation(np.array([0.25, 0.75, -0.25, 1e9, -np.inf]), quant)
    assert stored.tolist() == [1, 3, 1, 127, -128]
    assert stored.dtype == np.int8
    with pytest.raises(InputError, match="NaN"):
        quantize_activation(np.array([np.nan]), quant)


@pytest.mark.parametrize(("bits", "signed"), [(1, True), (4, False), (8, True), (9, False), (16, True), (16, False)])
def test_every_stored_value_survives_a_round_trip(bits, signed):
    quant = ActQuant(
        scale=float(np.float32(0.037)), zero_point=0 if signed else 3 % (1 << bits), bits=bits, signed=signed
    )
    stored = np.arange(quant.low, quant.high + 1).astype(choose_dtype(bits, signed))
    assert np.array_equal(quantize_activation(dequantize_activation(stored, quant), quant), stored)
