"""Post-training quantization of a network: which formats it chooses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hwsim.core.errors import HwsimError, InputError, UnknownName
from hwsim.core.policy import LayerFormat, Policy, parse_policy
from hwsim.core.tensors import LayerTensors, Origin, Tensors
from hwsim.engine.functional import (
    calibrate_network,
    capture_inputs,
    measure_deviations,
    measure_ranges,
    run_float,
    run_integer,
)
from hwsim.nets.builder import NetBuilder
from hwsim.nets.synthetic import synthesize_tensors
from hwsim.quant.calibrate import LARGEST_BIAS, choose_tensor_bits, quantize_network


def build_network():
    net = NetBuilder("branches", "test")
    x = net.conv(net.input((2, 8, 8)), "stem", 4, 3, padding=1, activation="relu")
    pooled = net.maxpool(x, "pool", 2, stride=2)
    a = net.conv(pooled, "a", 4, 3, padding=1)
    b = net.conv(pooled, "b", 4, 1)
    joined = net.concat((net.add((a, b), "sum"), pooled), "join")
    net.fc(net.flatten(joined), "fc", 3)
    return net.finish()


NET = build_network()
RNG = np.random.default_rng(0)
TENSORS = Tensors(
    layers={
        layer.name: LayerTensors(
            weight=RNG.standard_normal((layer.K, layer.C, layer.R, layer.S)).astype(np.float32),
            bias=RNG.standard_normal(layer.K).astype(np.float32),
        )
        for layer in NET.mac_layers
    },
    origin=Origin(kind="synthetic", description="test weights", licence="none"),
)
IMAGE = RNG.standard_normal((3, 2, 8, 8)).astype(np.float32)


def test_default_scheme_is_signed_symmetric_with_zero_point_zero():
    found = calibrate_network(NET, TENSORS, Policy(), IMAGE)
    assert all(q.signed and q.zero_point == 0 and q.bits == 8 for q in found.activations.values())
    top = np.abs(run_float(NET, TENSORS, IMAGE)["a"]).max()
    assert found.activations["a"].scale == float(np.float32(float(top) / 127))
    for name, held in found.layers.items():
        assert held.weight.dtype == np.int8
        assert held.bias.dtype == np.int32
        assert held.w_scale.shape == (NET.layer(name).K,)
    assert found.origin.licence == "none"
    assert found.origin.description == "test weights; quantized post-training to w8a8, symmetric activations"


def test_bias_is_stored_at_weight_scale_times_input_scale():
    found = calibrate_network(NET, TENSORS, Policy(), IMAGE)
    step = found.layers["a"].w_scale.astype(np.float64) * found.activations["stem"].scale
    assert np.abs(found.layers["a"].bias * step - TENSORS.layers["a"].bias).max() <= 0.5 * step.max()


def test_what_moves_elements_and_pools_shares_its_input_s_format():
    found = calibrate_network(NET, TENSORS, Policy(), IMAGE).activations
    assert found["stem"] is found["pool"]
    assert found["join"] is found["flatten"]
    assert len({found[name].scale for name in ("a", "b", "sum", "stem")}) == 4


def test_unsigned_codes_are_an_option_for_tensors_without_negative_values():
    found = calibrate_network(NET, TENSORS, Policy(), IMAGE, unsigned_relu=True).activations
    assert not found["stem"].signed
    assert found["a"].signed
    asymmetric = calibrate_network(NET, TENSORS, Policy(), IMAGE, activation_scheme="asymmetric").activations
    assert not any(q.signed for q in asymmetric.values())
    assert asymmetric["a"].zero_point > 0


def test_tensor_has_the_widest_bits_that_a_layer_reads_and_a_narrower_reader_requantizes():
    policy = parse_policy("w4a6,a=w3a4,b=w8a8,fc=w2a5")
    bits = choose_tensor_bits(NET, policy)
    assert bits == {"input": 6, "stem": 8, "pool": 8, "a": 6, "b": 6, "sum": 5, "join": 5, "flatten": 5, "fc": 6}
    found = calibrate_network(NET, TENSORS, policy, IMAGE)
    assert {name: held.w_bits for name, held in found.layers.items()} == {"stem": 4, "a": 3, "b": 8, "fc": 2}
    assert np.abs(found.layers["a"].weight).max() == 3
    assert found.activations["a:in"].bits == 4
    assert "b:in" not in found.activations
    captured = capture_inputs(NET, found, IMAGE)
    assert np.abs(captured["a"]).max() <= 7 < np.abs(captured["b"]).max()
    wide, narrow = found.activations["pool"], found.activations["a:in"]
    expected = np.rint(captured["b"] * (wide.scale / narrow.scale))
    assert np.array_equal(captured["a"], expected)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8, 12, 16])
def test_every_width_runs_and_stays_inside_its_codes(bits):
    found = calibrate_network(NET, TENSORS, parse_policy(f"w{bits}a{bits}"), IMAGE)
    for name, array in run_integer(NET, found, IMAGE).items():
        quant = found.activations[name]
        assert quant.low <= array.min() <= array.max() <= quant.high


def test_more_bits_never_lose_accuracy():
    real = run_float(NET, TENSORS, IMAGE)["fc"]
    errors = []
    for bits in (3, 5, 8, 12):
        found = calibrate_network(NET, TENSORS, parse_policy(f"w{bits}a{bits}"), IMAGE)
        out = run_integer(NET, found, IMAGE)["fc"] * found.activations["fc"].scale
        errors.append(float(np.square(out - real).mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-4 * errors[0]


def test_channel_of_zeros_keeps_its_bias_and_a_huge_bias_raises_the_weight_scale():
    weight, bias = TENSORS.layers["fc"].weight.copy(), TENSORS.layers["fc"].bias.copy()
    weight[0], bias[0] = 0, 0.75
    weight[1], bias[1] = 1e-12, 500.0
    tensors = replace(TENSORS, layers={**TENSORS.layers, "fc": LayerTensors(weight=weight, bias=bias)})
    found = calibrate_network(NET, tensors, Policy(), IMAGE)
    held = found.layers["fc"]
    assert np.abs(held.bias.astype(np.int64)).max() <= LARGEST_BIAS
    real = held.bias * held.w_scale.astype(np.float64) * found.activations["flatten"].scale
    assert np.allclose(real[:2], [0.75, 500.0], rtol=1e-5)
    assert not held.weight[:2].any()
    out = run_integer(NET, found, IMAGE)["fc"][:, :2, 0, 0] * found.activations["fc"].scale
    assert np.abs(out - [0.75, 500]).max() <= found.activations["fc"].scale


def test_bad_networks_are_refused():
    ranges = measure_ranges(NET, TENSORS, IMAGE)
    fewer = replace(TENSORS, layers={name: held for name, held in TENSORS.layers.items() if name != "a"})
    with pytest.raises(HwsimError, match=r"^layer a: it has no weights$"):
        quantize_network(NET, fewer, Policy(), ranges)
    with pytest.raises(HwsimError, match=r"^the tensor sum has no measured range$"):
        quantize_network(NET, TENSORS, Policy(), {name: pair for name, pair in ranges.items() if name != "sum"})
    with pytest.raises(InputError, match=r"^tensor sum: its range"):
        quantize_network(NET, TENSORS, Policy(), ranges | {"sum": (0.0, float("inf"))})
    with pytest.raises(UnknownName, match="nowhere"):
        quantize_network(NET, TENSORS, parse_policy("w8a8,nowhere=w4a4"), ranges)
    with pytest.raises(HwsimError, match=r"^layer stem: its weights are quantized already$"):
        quantize_network(NET, quantize_network(NET, TENSORS, Policy(), ranges), Policy(), ranges)
    broken = TENSORS.layers["b"].weight.copy()
    broken[0, 0, 0, 0] = np.nan
    held = LayerTensors(weight=broken, bias=TENSORS.layers["b"].bias)
    odd = replace(TENSORS, layers={**TENSORS.layers, "b": held})
    with pytest.raises(InputError, match=r"^layer b: 1 of 16 are NaN or infinite$"):
        quantize_network(NET, odd, Policy(), ranges)


def test_a_tensor_without_a_deviation_is_named():
    ranges = measure_ranges(NET, TENSORS, IMAGE)
    deviations = dict.fromkeys(ranges, 1.0)
    shifts = Policy(default=LayerFormat(scale="shift"))
    found = quantize_network(NET, TENSORS, shifts, ranges, deviations=deviations)
    assert all(np.frexp(quant.scale)[0] == 0.5 for quant in found.activations.values())
    del deviations["sum"]
    with pytest.raises(HwsimError, match="the tensor sum has no measured deviation"):
        quantize_network(NET, TENSORS, shifts, ranges, deviations=deviations)


@pytest.mark.parametrize("deviations", [False, True])
def test_shifts_round_the_argument_of_a_fused_activation_too(deviations):
    net = NetBuilder("swish", "test")
    net.fc(net.flatten(net.conv(net.input((2, 8, 8)), "stem", 4, 3, activation="hard_swish")), "fc", 3)
    network = net.finish()
    tensors = synthesize_tensors(network, 1)
    ranges = measure_ranges(network, tensors, IMAGE)
    measured = measure_deviations(network, tensors, IMAGE) if deviations else None
    for names, shifted in (((), set()), (("stem",), {"stem", "stem:pre", "input"})):
        policy = Policy(layers=tuple((name, LayerFormat(scale="shift")) for name in names))
        found = quantize_network(network, tensors, policy, ranges, deviations=measured).activations
        assert {name for name, quant in found.items() if np.frexp(quant.scale)[0] == 0.5} & {*ranges} == shifted | (
            {"flatten"} if names else set()
        )
