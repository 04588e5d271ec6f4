"""Adder and shift layers of the functional model against element by element Python; formats that do not go together."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.core.errors import HwsimError, InputError
from hwsim.core.layer import Layer
from hwsim.core.network import Network, TensorSpec
from hwsim.core.policy import LayerFormat, Policy, name_operators, parse_policy
from hwsim.core.tensors import ActQuant, LayerTensors, Origin, Tensors
from hwsim.engine.functional import calibrate_network, run_float, run_integer
from hwsim.engine.functional_ops import sum_distances
from hwsim.quant.adder import quantize_adder
from tests.naive_nasa import refer
from tests.naive_windows import small_layers, windows

ORIGIN = Origin(kind="synthetic", description="drawn by a test")


def network_of(layer: Layer) -> Network:
    return Network(
        name="one",
        inputs=(TensorSpec(name="x", shape=layer.in_shape),),
        layers=(layer,),
        outputs=(layer.name,),
        source="",
    )


def as_array(layer: Layer, found) -> np.ndarray:
    out = np.zeros(layer.out_shape, np.int64)
    for place, value in found.items():
        out[place] = value
    return out


@settings(max_examples=60, deadline=None, derandomize=True)
@given(windows(small_layers(4000)))
def test_distances_are_those_of_python(window):
    wanted = as_array(window.layer, refer(window, "add"))
    np.testing.assert_array_equal(sum_distances(window.x, window.w, window.layer), wanted)
    real = sum_distances(window.x.astype(np.float32), window.w.astype(np.float32), window.layer)
    np.testing.assert_array_equal(real, wanted)  # integers below 2**24 are exact in float32


def test_padding_is_a_zero_activation():
    layer = Layer(name="a", op="conv", inputs=("x",), P=3, Q=3, R=3, S=3, H=3, W=3, padding=(1, 1, 1, 1))
    x, w = np.zeros((1, 1, 3, 3), np.int64), np.arange(-4, 5).reshape(1, 1, 3, 3)
    assert (sum_distances(x, w, layer) == -np.abs(w).sum()).all()
    middle = sum_distances(x + 5, w, layer)[0, 0]
    assert middle[1, 1] == -np.abs(5 - w).sum()
    assert middle[0, 0] == -np.abs(5 - w[0, 0, 1:, 1:]).sum() - np.abs(w[0, 0, 0]).sum() - np.abs(w[0, 0, 1:, 0]).sum()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(windows(small_layers(2000), bits=6), st.integers(0, 99), st.booleans())
def test_integer_adder_layer(window, seed, factored):
    """out = round(-(sum |x - w| - bias) s factor / s_y), by exact arithmetic of each element."""
    rng = np.random.default_rng(seed)
    layer = replace(window.layer, attrs=(("operator", "add"),))
    filters = layer.out_shape[1]
    factor = rng.uniform(0.2, 2, filters).astype(np.float32) if factored else None
    bias = rng.integers(-300, 300, filters).astype(np.int32)
    held = LayerTensors(
        weight=window.w.astype(np.int8), bias=bias, w_scale=np.array([0.25], np.float32), w_bits=6, factor=factor
    )
    quants = {"x": ActQuant(scale=0.25, bits=6), "layer": ActQuant(scale=0.5, bits=16)}
    tensors = Tensors(layers={"layer": held}, activations=quants, origin=ORIGIN)
    found = run_integer(network_of(layer), tensors, window.x)["layer"]
    sums = as_array(layer, refer(window, "add")) + bias.reshape(1, -1, 1, 1)
    ones = np.ones(filters) if factor is None else factor.astype(np.float64)
    wanted = np.clip(sums * ones.reshape(1, -1, 1, 1) * 0.5, -(1 << 15), (1 << 15) - 1)
    assert np.abs(found - wanted).max() <= 0.5 + 1e-3
    real = run_float(network_of(layer), tensors, window.x * np.float32(0.25))["layer"]
    np.testing.assert_allclose(real, 0.5 * sums * ones.reshape(1, -1, 1, 1) * 0.5, rtol=1e-4, atol=1e-3)


def adder(k=4, c=5) -> Layer:
    return Layer(name="layer", op="gemm", inputs=("x",), K=k, C=c, attrs=(("operator", "add"),))


def test_one_scale_for_weights_and_inputs():
    rng = np.random.default_rng(3)
    weight = rng.normal(0, 4, (4, 5, 1, 1)).astype(np.float32)
    found = LayerTensors(weight=weight, bias=np.ones(4, np.float32), factor=np.full(4, 0.5, np.float32))
    quant, stored = quantize_adder(adder(), found, (-1.0, 1.0), 6, 6)
    assert quant.scale == stored.w_scale[0] == np.float32(np.abs(weight).max() / 31)
    assert np.abs(stored.weight).max() == 31
    np.testing.assert_allclose(stored.bias * quant.scale * 0.5, 1, atol=quant.scale / 2)
    wide, _ = quantize_adder(adder(), found, (0.0, 1000.0), 6, 6)
    assert wide.scale == np.float32(1000 / 31)
    assert math.log2(quantize_adder(adder(), found, (-1.0, 1.0), 6, 6, power_of_two=True)[0].scale).is_integer()


def test_a_calibrated_adder_network_follows_the_float_one():
    rng = np.random.default_rng(4)
    first = Layer(name="first", op="conv", inputs=("x",), K=8, C=3, P=8, Q=8, R=3, S=3, H=8, W=8, padding=(1, 1, 1, 1),
                  activation="relu")  # fmt: skip
    second = Layer(name="second", op="conv", inputs=("first",), K=8, C=8, P=8, Q=8, R=3, S=3, H=8, W=8, padding=(1, 1, 1, 1),
                   attrs=(("operator", "add"),))  # fmt: skip
    net = Network(
        name="two",
        inputs=(TensorSpec(name="x", shape=(1, 3, 8, 8)),),
        layers=(first, second),
        outputs=("second",),
        source="",
    )
    weights = {
        "first": LayerTensors(weight=rng.normal(0, 0.2, (8, 3, 3, 3)).astype(np.float32)),
        "second": LayerTensors(
            weight=rng.normal(0, 1, (8, 8, 3, 3)).astype(np.float32), bias=np.full(8, 8, np.float32),
            factor=np.full(8, 0.1, np.float32),
        ),
    }  # fmt: skip
    x = rng.normal(0, 1, (4, 3, 8, 8)).astype(np.float32)
    tensors = Tensors(layers=weights, origin=ORIGIN)
    real = run_float(net, tensors, x)["second"]
    noise = []
    for text in ("w8a8", "w8a8,second=w6a6", "w8a8,second=w4a4"):
        quantized = calibrate_network(net, tensors, parse_policy(text), x)
        got = run_integer(net, quantized, x)["second"] * quantized.activations["second"].scale
        noise.append(float(np.square(got - real).mean() / real.var()))
    assert noise[0] < 1e-3
    assert noise[0] < noise[1] < noise[2] < 0.5


def test_what_does_not_fit_is_told():
    held = LayerTensors(weight=np.ones((4, 5, 1, 1), np.int8), w_scale=np.array([0.5], np.float32), w_bits=6)
    quants = {"x": ActQuant(scale=0.25, bits=6), "layer": ActQuant(scale=1.0)}
    tensors = Tensors(layers={"layer": held}, activations=quants, origin=ORIGIN)
    with pytest.raises(HwsimError, match=r"its weights have the scale 0\.5, its inputs 0\.25: they need one"):
        run_integer(network_of(adder()), tensors, np.ones((1, 5, 1, 1), np.int64))
    found = LayerTensors(weight=np.ones((4, 5, 1, 1), np.float32), factor=-np.ones(4, np.float32))
    with pytest.raises(InputError, match="a factor is not positive"):
        quantize_adder(adder(), found, (-1.0, 1.0), 6, 6)
    plain = replace(adder(), attrs=())
    policy = Policy(default=LayerFormat(w_bits=6, a_bits=6, operator="add"))
    floats = Tensors(layers={"layer": replace(found, factor=None)}, origin=ORIGIN)
    with pytest.raises(HwsimError, match="name it in the network first"):
        calibrate_network(network_of(plain), floats, policy, np.ones((1, 5, 1, 1), np.float32))
    named = name_operators(network_of(plain), policy)
    assert named.layer("layer").operator == "add"
    calibrate_network(named, floats, policy, np.ones((1, 5, 1, 1), np.float32))
    back = name_operators(named, Policy(default=LayerFormat(operator="multiply")))
    assert back == network_of(plain)
