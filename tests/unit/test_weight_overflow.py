"""Weights beyond float32, and weights that rounding takes beyond it, are refused in one line; large ones stay finite."""

from __future__ import annotations

import numpy as np
import pytest

from hwsim.core.errors import InputError, SpecError
from hwsim.quant.bit_planes import quantize_planes
from hwsim.quant.codebook import fit_mixture, quantize_codebook
from hwsim.quant.fixed_point import quantize_fixed
from hwsim.quant.mixed_channels import choose_channel_bits, quantize_channels
from hwsim.quant.power_of_two import quantize_shift
from hwsim.quant.uniform import quantize_weights
from tests.unit.test_weight_formats import ALL, draw

HUGE = {
    **{
        f"{scheme} {clipping}": lambda w, scheme=scheme, clipping=clipping: quantize_weights(w, 8, True, scheme, clipping)
        for scheme in ("symmetric", "asymmetric")
        for clipping in ("max", "percentile", "mse", "kl")
    },
    "per tensor": lambda w: quantize_weights(w, 8, per_channel=False),
    "one bit": lambda w: quantize_weights(w, 1),
    **{name: ALL[name] for name in ("shift", "shift per channel", "mixture", "kmeans", "planes")},
    "floored planes": lambda w: quantize_planes(w, 8, middle=True),
    "channels": lambda w: quantize_channels(w, [8, 4]),
    "chosen channels": lambda w: quantize_channels(w, choose_channel_bits(w, 4.0)),
}  # fmt: skip


BEYOND = HUGE | {"fixed point": lambda w: quantize_fixed(w, 8), "fitted mixture": lambda w: fit_mixture(w, 2)}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", BEYOND)
def test_weights_beyond_float32_take_one_line(name):
    with pytest.raises(InputError) as caught:
        BEYOND[name](np.array([[1.0, -2.0, 0.5], [3.0, -1e300, 1e200]]))
    assert str(caught.value) == "weights: reach 1e+300: float32 holds no more than 3.4e+38"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", HUGE)
def test_large_weights_that_float32_holds_stay_finite(name):
    """1.5e38 has a power of two beside it, and twice it is still within float32."""
    found = HUGE[name](np.array([[1.5e38, -1e38, 0.6e38, 0.5e38], [1.0, -2.0, 0.5, 0.0]])).dequantize()
    assert np.isfinite(found).all()
    assert found.max() > 0.7e38


LARGEST = float(np.finfo(np.float32).max)


@pytest.mark.filterwarnings("error")
def test_the_mean_of_large_weights_is_a_scale_though_their_sum_is_beyond_float32():
    found = quantize_weights(np.array([[LARGEST, -LARGEST, LARGEST], [3e38, 1e38, -2e38]]), 1)
    np.testing.assert_allclose(found.scale, [LARGEST, 2e38], rtol=1e-6)
    np.testing.assert_array_equal(found.stored, [[1, -1, 1], [1, 1, -1]])


ROUNDED = {
    "integers": (lambda w: quantize_weights(w, 8), [LARGEST, 0.0, 0.0], "8-bit integers"),
    "scale of a range": (lambda w: quantize_weights(w, 1, scheme="asymmetric"), [3e38, -3e38, 0.0], "1-bit integers"),
    "percentiles": (
        lambda w: quantize_weights(w, 8, scheme="asymmetric", clipping="percentile"), [3e38, -3e38, 0.0], "8-bit integers"
    ),
    "channels": (lambda w: quantize_channels(w, [8]), [LARGEST, 0.0, 0.0], "8-bit integers"),
    "sign plane": (lambda w: quantize_planes(w, 4), [3.2e38, 0.0, 1e38], "bit planes"),
    "powers": (lambda w: quantize_shift(w, 4), [3e38, 1e38, 0.0], "powers of two"),
    "powers by exponent": (lambda w: quantize_shift(w, 4, rounding="log"), [2.5e38, 1e38, 0.0], "powers of two"),
}  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ROUNDED)
def test_rounding_beyond_float32_takes_one_line(name):
    quantize, weight, what = ROUNDED[name]
    with pytest.raises(InputError) as caught:
        quantize(np.array([weight]))
    reach = f"{max(weight):.3g}"
    assert str(caught.value) == f"weights: reach {reach}, which {what} round beyond float32"


@pytest.mark.filterwarnings("error")
def test_the_edge_of_two_large_centroids_lies_between_them():
    """Their sum is beyond float32, half of it is not."""
    weight = np.array([[3.3e38, 3.1e38, 3e38, 2.9e38, 1e38, -1e38]], np.float32)
    for method in ("kmeans", "mixture"):
        found = quantize_codebook(weight, 2, method)
        nearest = np.abs(found.centroid.astype(np.float64) - weight.reshape(-1, 1)).argmin(axis=1)
        if method == "kmeans":
            np.testing.assert_array_equal(found.index[0], nearest)
        assert np.isfinite(found.dequantize()).all()


def test_a_largest_exponent_is_one_of_float32():
    assert quantize_shift(draw(), 4, top=127).dequantize().max() == 0
    with pytest.raises(SpecError, match="top: got 128, expected an integer from -32768 to 127"):
        quantize_shift(draw(), 4, top=128)
