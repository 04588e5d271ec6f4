"""The functional model on whole small networks: float and integer, what it keeps, what it refuses."""

from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np
import pytest

from hwsim.core.errors import HwsimError, InputError, SpecError, UnknownName
from hwsim.core.layer import Layer
from hwsim.core.network import Network, TensorSpec
from hwsim.core.policy import Policy, parse_policy
from hwsim.core.tensors import ActQuant, LayerTensors, Origin, Tensors
from hwsim.engine.functional import (
    calibrate_network,
    capture_inputs,
    measure_ranges,
    quantize_inputs,
    run_float,
    run_integer,
    visit_inputs,
)
from hwsim.engine.functional_ops import apply_activation
from hwsim.nets.builder import NetBuilder
from hwsim.quant.requant import shift_right

ORIGIN = Origin(kind="synthetic", description="test")
ONE_STEP = 1.001
"""A rounding step, and the float32 error of the reference beside it."""


def draw_tensors(net: Network, seed: int = 0) -> Tensors:
    rng = np.random.default_rng(seed)
    layers = {}
    for layer in net.layers:
        channels = layer.out_shape[1]
        if layer.kind == "mac":
            spread = np.sqrt(2 / (layer.C * layer.R * layer.S))
            weight = rng.standard_normal((channels, layer.C, layer.R, layer.S)) * spread
        elif layer.op == "scale":
            weight = rng.standard_normal(channels)
        else:
            continue
        bias = rng.standard_normal(channels) * 0.1
        layers[layer.name] = LayerTensors(weight=weight.astype(np.float32), bias=bias.astype(np.float32))
    return Tensors(layers=layers, origin=ORIGIN)


def build_everything() -> Network:
    """A network with every operator that the functional model executes, transposition and padding apart."""
    net = NetBuilder("everything", "test")
    x = net.input((3, 9, 8))
    x = net.conv(x, "conv", 8, 3, padding=(0, 1, 2, 1), activation="relu6")
    y = net.depthwise(x, "dw", 3, padding=1, stride=2, activation="hard_swish")
    y = net.scale(y, "bn", activation="relu")
    s = net.fc(net.flatten(net.global_avgpool(y, "squeeze"), "vector"), "excite", 8)
    y = net.mul((y, net.activate(s, "gate", "sigmoid")), "gated")
    z = net.maxpool(x, "pool", 3, stride=2, padding=1)
    z = net.slice_channels(z, "half", 2, 6)
    z = net.conv(z, "grouped", 8, 1, groups=2)
    z = net.lrn(z, "lrn", size=5, alpha=0.1, beta=0.75, bias=1.0)
    z = net.conv(z, "match", 8, 2, padding=(0, 0, 1, 1), activation="silu")
    both = net.shuffle(net.concat((net.add((y, z), "sum", activation="relu"), z), "join"), "mix", 4)
    both = net.avgpool(both, "average", 2, stride=2, padding=(0, 0, 1, 0))
    return _finish(net, both)


def _finish(net: NetBuilder, x: str) -> Network:
    return Network(**_fields(net.finish(outputs=(net.softmax(net.fc(net.flatten(x), "fc", 5), "softmax"),))))


def _fields(network: Network) -> dict:
    return {name: getattr(network, name) for name in ("name", "inputs", "layers", "outputs", "source", "notes")}


NET = build_everything()
TENSORS = draw_tensors(NET)
IMAGE = np.random.default_rng(9).standard_normal((2, 3, 9, 8)).astype(np.float32)


@pytest.mark.parametrize("options", [{}, {"activation_scheme": "asymmetric"}, {"unsigned_relu": True}])
@pytest.mark.parametrize("requant", ["mulshift", "float", "tflite"])
def test_twelve_bits_follow_the_float_network(options, requant):
    """At 12 bits every layer's result is within 1 % of the float network's largest value: no operator is wrong."""
    if requant == "tflite" and options:
        pytest.skip("TensorFlow Lite's addition is one of 8-bit tensors")
    quantized = calibrate_network(NET, TENSORS, parse_policy("w12a12"), IMAGE, **options)
    real, stored = run_float(NET, TENSORS, IMAGE), run_integer(NET, quantized, IMAGE, requant)
    assert set(real) == set(stored) == {layer.name for layer in NET.layers}
    for name, array in stored.items():
        quant = quantized.activations.get(name)
        value = array if quant is None else (array.astype(np.int64) - quant.zero_point) * quant.scale
        assert array.shape == real[name].shape
        assert np.abs(value - real[name]).max() <= 0.01 * np.abs(real[name]).max(), name


@pytest.mark.parametrize("rounding", ["half_even", "half_away"])
def test_a_layer_computed_by_hand(rounding):
    """conv 1x1 of two channels, integer by integer, with zero points, bias and a relu6 that clamps."""
    layer = Layer(name="c", op="conv", inputs=("x",), K=1, C=2, P=1, Q=4, H=1, W=4, activation="relu6")
    net = Network(
        name="n", inputs=(TensorSpec(name="x", shape=(1, 2, 1, 4)),), layers=(layer,), outputs=("c",), source="t"
    )
    weights = LayerTensors(
        weight=np.array([3, -2], np.int8).reshape(1, 2, 1, 1),
        bias=np.array([5], np.int32),
        w_scale=np.array([0.5], np.float32),
        w_bits=8,
    )
    quants = {"x": ActQuant(scale=0.25, zero_point=-3), "c": ActQuant(scale=0.0625, zero_point=10)}
    stored = np.array([[-3, 0, 40, -128], [-3, 4, -90, 127]], np.int8).reshape(1, 2, 1, 4)
    out = run_integer(net, Tensors(layers={"c": weights}, activations=quants, origin=ORIGIN), stored, rounding=rounding)
    acc = [3 * (a + 3) - 2 * (b + 3) + 5 for a, b in zip([-3, 0, 40, -128], [-3, 4, -90, 127], strict=True)]
    assert acc == [5, 0, 308, -630]
    assert out["c"].ravel().tolist() == [20, 10, 10 + 96, 10]  # times 0.125 / 0.0625 = 2, then 0..6 is 10..106
    assert out["c"].dtype == np.int8


def test_addition_by_mulshift_rounds_once():
    layer = Layer(name="s", op="add", inputs=("a", "b"), P=256, Q=256, H=256, W=256)
    specs = tuple(TensorSpec(name=n, shape=(1, 1, 256, 256)) for n in "ab")
    net = Network(name="n", inputs=specs, layers=(layer,), outputs=("s",), source="t")
    quants = {
        "a": ActQuant(scale=0.5),
        "b": ActQuant(scale=0.125, zero_point=7),
        "s": ActQuant(scale=1.0, zero_point=1),
    }
    codes = np.arange(-128, 128).astype(np.int8)
    a, b = (m.reshape(1, 1, 256, 256) for m in np.meshgrid(codes, codes))
    out = run_integer(net, Tensors(layers={}, activations=quants, origin=ORIGIN), {"a": a, "b": b})["s"]
    exact = 4 * a.astype(int) + (b.astype(int) - 7)  # in eighths
    assert np.array_equal(out, np.clip(shift_right(exact, 3) + 1, -128, 127))
    minus = replace(net, layers=(replace(layer, attrs=(("negate_second", 1),)),))
    out = run_integer(minus, Tensors(layers={}, activations=quants, origin=ORIGIN), {"a": a, "b": b})["s"]
    assert np.array_equal(out, np.clip(shift_right(4 * a.astype(int) - (b.astype(int) - 7), 3) + 1, -128, 127))


def test_power_of_two_scales_give_the_same_integers_by_shift_as_by_multiplier():
    net = NetBuilder("plain", "test")
    x = net.conv(net.input((3, 8, 8)), "c1", 4, 3, padding=1, activation="relu")
    y = net.conv(x, "c2", 4, 3, padding=1)
    z = net.avgpool(net.add((x, y), "sum"), "pool", 2, stride=2)
    net.fc(net.flatten(z), "fc", 3)
    network = net.finish()
    image = np.random.default_rng(2).standard_normal((4, 3, 8, 8)).astype(np.float32)
    tensors = draw_tensors(network)
    quantized = calibrate_network(network, tensors, Policy(), image, power_of_two=True)
    assert all(np.log2(q.scale) % 1 == 0 for q in quantized.activations.values())
    by_shift = run_integer(network, quantized, image, "shift")
    by_multiplier = run_integer(network, quantized, image, "mulshift")
    assert all(np.array_equal(by_shift[name], by_multiplier[name]) for name in by_shift)
    with pytest.raises(SpecError, match="powers of two"):
        run_integer(network, calibrate_network(network, tensors, Policy(), image), image, "shift")


@pytest.mark.parametrize("activation", ["sigmoid", "hard_swish", "leaky_relu", "tanh", "gelu"])
def test_activation_table_equals_its_formula_for_every_stored_value(activation):
    layer = Layer(name="a", op="activation", inputs=("x",), P=16, Q=16, H=16, W=16, activation=activation)
    net = Network(
        name="n", inputs=(TensorSpec(name="x", shape=(1, 1, 16, 16)),), layers=(layer,), outputs=("a",), source="t"
    )
    source, target = ActQuant(scale=0.05, zero_point=3), ActQuant(scale=0.011, zero_point=-20)
    stored = np.arange(-128, 128).astype(np.int8).reshape(1, 1, 16, 16)
    out = run_integer(net, Tensors(layers={}, activations={"x": source, "a": target}, origin=ORIGIN), stored)["a"]
    reals = apply_activation((stored.astype(float) - 3) * 0.05, layer)
    assert np.array_equal(out, np.clip(np.rint(reals / 0.011) - 20, -128, 127))


def test_slopes_by_channel_are_applied():
    layer = Layer(name="a", op="activation", inputs=("x",), G=2, activation="leaky_relu")
    net = Network(
        name="n", inputs=(TensorSpec(name="x", shape=(1, 2, 1, 1)),), layers=(layer,), outputs=("a",), source="t"
    )
    slopes = {"a": LayerTensors(weight=np.array([0.5, 0.25], np.float32).reshape(2, 1, 1, 1))}
    quants = {"x": ActQuant(scale=1.0), "a": ActQuant(scale=0.25)}
    x = np.full((1, 2, 1, 1), -8, np.int8)
    assert run_float(net, Tensors(layers=slopes, origin=ORIGIN), x)["a"].ravel().tolist() == [-4, -2]
    out = run_integer(net, Tensors(layers=slopes, activations=quants, origin=ORIGIN), x)["a"]
    assert out.ravel().tolist() == [-16, -8]


def test_fused_activation_without_a_format_for_its_argument_gets_sixteen_bits():
    quantized = calibrate_network(NET, TENSORS, Policy(), IMAGE)
    without = replace(quantized, activations={k: v for k, v in quantized.activations.items() if not k.endswith(":pre")})
    real = run_float(NET, TENSORS, IMAGE)["dw"]
    for tensors in (quantized, without):
        stored = run_integer(NET, tensors, IMAGE, keep=("dw",))["dw"]
        assert np.abs(stored * tensors.activations["dw"].scale - real).max() <= 0.05 * np.abs(real).max()


def test_output_without_a_format_is_real():
    quantized = calibrate_network(NET, TENSORS, Policy(), IMAGE)
    formats = {name: quant for name, quant in quantized.activations.items() if name != "fc"}
    whole, open_ended = (
        run_integer(NET, quantized, IMAGE),
        run_integer(NET, replace(quantized, activations=formats), IMAGE),
    )
    assert open_ended["fc"].dtype == np.float32
    step = quantized.activations["fc"].scale
    assert np.abs(open_ended["fc"] - whole["fc"] * step).max() <= 0.5 * step * ONE_STEP
    assert np.allclose(open_ended["softmax"].sum(axis=1), 1)


def test_keep_returns_what_is_asked_and_the_outputs():
    assert set(run_float(NET, TENSORS, IMAGE, keep=("dw", "sum"))) == {"dw", "sum", "softmax"}
    quantized = calibrate_network(NET, TENSORS, Policy(), IMAGE)
    assert set(run_integer(NET, quantized, IMAGE, keep=())) == {"softmax"}
    with pytest.raises(UnknownName, match="dww"):
        run_float(NET, TENSORS, IMAGE, keep=("dww",))


def test_kept_and_unkept_runs_agree_and_batches_are_independent():
    quantized = calibrate_network(NET, TENSORS, Policy(), IMAGE)
    whole = run_integer(NET, quantized, IMAGE)
    second = run_integer(NET, quantized, IMAGE[1:])
    for name in whole:
        assert np.array_equal(whole[name][1:], second[name])
    assert np.array_equal(run_integer(NET, quantized, IMAGE, keep=())["softmax"], whole["softmax"])


def test_visited_inputs_are_the_stored_ones_and_are_freed():
    quantized = calibrate_network(NET, TENSORS, Policy(), IMAGE)
    stored = run_integer(NET, quantized, IMAGE) | quantize_inputs(NET, quantized, IMAGE)
    captured = capture_inputs(NET, quantized, IMAGE)
    assert list(captured) == [layer.name for layer in NET.mac_layers]
    for layer in NET.mac_layers:
        assert np.array_equal(captured[layer.name], stored[layer.inputs[0]])
        assert captured[layer.name].dtype == np.int8
        assert captured[layer.name].shape == (2, *layer.in_shape[1:])
    alive = []
    visit_inputs(NET, quantized, IMAGE, lambda layer, array: alive.append(weakref.ref(array)))
    assert [ref() for ref in alive] == [None] * len(alive)


def test_inputs_given_as_integers_are_taken_as_stored():
    quantized = calibrate_network(NET, TENSORS, Policy(), IMAGE)
    stored = quantize_inputs(NET, quantized, IMAGE)["input"]
    assert np.array_equal(run_integer(NET, quantized, stored)["softmax"], run_integer(NET, quantized, IMAGE)["softmax"])
    with pytest.raises(InputError, match=r"^input input: integers outside -128..127$"):
        run_integer(NET, quantized, stored.astype(np.int32) + 200)


def test_ranges_cover_every_tensor_and_hold_its_extremes():
    ranges, real = measure_ranges(NET, TENSORS, IMAGE), run_float(NET, TENSORS, IMAGE)
    assert set(ranges) == {"input", *real, "dw:pre", "match:pre"}
    assert all(ranges[name] == (array.min(), array.max()) for name, array in real.items())
    assert ranges["dw:pre"][0] < ranges["dw"][0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "input input is missing"),
        (np.zeros((1, 3, 9, 9)), r"input input has the shape \(1, 3, 9, 9\), expected \(N, 3, 9, 8\)"),
        (np.full((1, 3, 9, 8), np.nan), "input input holds NaN"),
        ({"input": IMAGE, "other": IMAGE}, "'other' is no input of the network"),
    ],
)
def test_bad_inputs_are_refused(given, message):
    with pytest.raises(InputError, match=f"^network everything: {message}$"):
        run_float(NET, TENSORS, given)


def test_operator_that_cannot_be_executed_is_named():
    layer = Layer(name="odd", op="unpriced", inputs=("x",), attrs=(("source_op", "NonMaxSuppression"),))
    net = Network(
        name="n", inputs=(TensorSpec(name="x", shape=(1, 1, 1, 1)),), layers=(layer,), outputs=("odd",), source="t"
    )
    with pytest.raises(HwsimError, match=r"^layer odd: the operator NonMaxSuppression cannot be executed$"):
        run_float(net, Tensors(layers={}, origin=ORIGIN), np.zeros((1, 1, 1, 1)))


def test_missing_or_unquantized_tensors_are_named():
    quantized = calibrate_network(NET, TENSORS, Policy(), IMAGE)
    with pytest.raises(HwsimError, match=r"^layer conv: it has no weights$"):
        run_float(NET, replace(TENSORS, layers={}), IMAGE)
    with pytest.raises(HwsimError, match=r"^layer conv: its weights are float: quantize the network first$"):
        run_integer(NET, replace(quantized, layers=TENSORS.layers), IMAGE)
    with pytest.raises(HwsimError, match=r"^input input has no quantization"):
        run_integer(NET, TENSORS, IMAGE)
    formats = {name: quant for name, quant in quantized.activations.items() if name != "conv"}
    with pytest.raises(HwsimError, match=r"^layer dw: it reads conv, which has no integer format"):
        run_integer(NET, replace(quantized, activations=formats), IMAGE)
    short = replace(TENSORS, layers={**TENSORS.layers, "fc": LayerTensors(weight=np.zeros((5, 3, 1, 1), np.float32))})
    with pytest.raises(HwsimError, match=r"^layer fc: 15 weights, its shape needs"):
        run_float(NET, short, IMAGE)
    with pytest.raises(SpecError, match="requant"):
        run_integer(NET, quantized, IMAGE, "magic")


def test_accumulator_beyond_32_bits_is_refused_and_sixteen_bit_formats_are_wider():
    layer = Layer(name="c", op="gemm", inputs=("x",), K=1, C=2)
    net = Network(
        name="n", inputs=(TensorSpec(name="x", shape=(1, 2, 1, 1)),), layers=(layer,), outputs=("c",), source="t"
    )
    quants = {"x": ActQuant(scale=1.0), "c": ActQuant(scale=1.0)}
    held = LayerTensors(
        weight=np.array([127, 127], np.int8).reshape(1, 2, 1, 1),
        bias=np.array([2**31 - 1], np.int32),
        w_scale=np.ones(1, np.float32),
        w_bits=8,
    )
    x = np.full((1, 2, 1, 1), 127, np.int8)
    with pytest.raises(HwsimError, match=r"^layer c: an accumulator exceeds 32 bits$"):
        run_integer(net, Tensors(layers={"c": held}, activations=quants, origin=ORIGIN), x)
    wide = ActQuant(scale=1.0, bits=16)
    held = LayerTensors(
        weight=np.full((1, 2, 1, 1), 32767, np.int16), w_scale=np.full(1, 2.0**-17, np.float32), w_bits=16
    )
    out = run_integer(
        net,
        Tensors(layers={"c": held}, activations={"x": wide, "c": wide}, origin=ORIGIN),
        np.full((1, 2, 1, 1), 32767, np.int16),
    )
    assert out["c"].item() == round(2 * 32767**2 / 2**17)
