"""Networks on SmartDeal: the integer network runs with exactly the rebuilt weights, quantized ones and trained ones included."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hwsim import simulate
from hwsim.archs.registry import find_arch
from hwsim.archs.smartdeal.spec import PRESETS
from hwsim.core.datapath import StoredWeights
from hwsim.core.errors import SpecError
from hwsim.core.mapping import Boxes
from hwsim.core.policy import Policy
from hwsim.core.tensors import LayerTensors
from hwsim.engine.functional import run_float, run_integer
from hwsim.engine.functional_float import real_weights
from hwsim.nets.load import load_network
from hwsim.nets.synthetic import synthesize_input, synthesize_tensors
from hwsim.pipeline.tensors import _replace_weights, prepare_tensors, stream_data
from hwsim.pipeline.workloads import list_workloads
from tests.extras import load_optional, skip_without_extra
from tests.naive_smartdeal import Machine, convolve
from tests.reference import reference

RESNET8 = ("mlperf_tiny", "pretrainedResnet_quant.tflite")


def prepare(network, tensors, image, arch=None):
    """Return the prepared network and the data of every MAC layer by name."""
    arch = arch or find_arch("smartdeal", "small")
    workloads = list_workloads(network, Policy())
    prepared = prepare_tensors(network, arch, Policy(), workloads, tensors, image)
    captured = {}
    stream_data(network, prepared, image, lambda name, data: captured.update({name: data}))
    return prepared, captured


@pytest.fixture(scope="module")
def float_network():
    network = load_network("resnet20").network
    tensors, image = synthesize_tensors(network, 1), synthesize_input(network, 1)
    rng = np.random.default_rng(5)
    biased = {
        name: replace(held, bias=rng.normal(size=held.bias.shape).astype(np.float32) * 0.1)
        if held.bias is not None
        else held
        for name, held in tensors.layers.items()
    }
    return network, replace(tensors, layers=biased), image


@pytest.fixture(scope="module")
def quantized_network():
    load_optional("ai_edge_litert")
    loaded = load_network(str(reference(*RESNET8)))
    spec = loaded.network.inputs[0]
    image = np.random.default_rng(0).integers(-128, 128, spec.shape).astype(np.int8)
    return loaded.network, loaded.tensors, {spec.name: image}


def check_weights(network, tensors, prepared, captured) -> None:
    """Every layer multiplies by what the rebuild engines make, at the codec's scale."""
    for layer in network.mac_layers:
        held, codec = prepared.tensors.layers[layer.name], captured[layer.name].codec
        assert codec is prepared.stored[layer.name].codec
        assert np.array_equal(held.weight, codec.rebuilt_int8)
        assert held.w_bits == 8
        assert held.w_zero is None
        used = held.weight.reshape(len(held.weight), -1).any(axis=1)
        np.testing.assert_allclose(held.w_scale[used], codec.scale[used], rtol=1e-6)
        real = real_weights(tensors.layers[layer.name])
        error = np.linalg.norm(real - held.weight * held.w_scale.reshape(-1, 1, 1, 1)) / np.linalg.norm(real)
        assert error == pytest.approx(codec.integer_error, abs=1e-5)


def test_float_network_runs_with_the_rebuilt_weights(float_network):
    network, tensors, image = float_network
    prepared, captured = prepare(network, tensors, image)
    check_weights(network, tensors, prepared, captured)
    for layer in network.mac_layers:
        held, bias = prepared.tensors.layers[layer.name], tensors.layers[layer.name].bias
        if bias is None:
            continue
        source = prepared.tensors.activations[layer.inputs[0]]
        np.testing.assert_allclose(held.bias * held.w_scale.astype(np.float64) * source.scale, bias,
                                   atol=1.5 * float(held.w_scale.max()) * source.scale)  # fmt: skip


def test_integer_network_is_near_the_float_network_of_the_rebuilt_weights(float_network):
    network, tensors, image = float_network
    prepared, _ = prepare(network, tensors, image)
    real = {
        name: replace(tensors.layers[name], weight=(held.weight * held.w_scale.reshape(-1, 1, 1, 1)).astype(np.float32))
        for name, held in prepared.tensors.layers.items()
        if held.w_scale is not None
    }
    exact = run_float(network, replace(tensors, layers={**tensors.layers, **real}), image, keep=())
    found = run_integer(network, prepared.tensors, image, keep=())
    for name in network.outputs:
        quant = prepared.tensors.activations.get(name)
        values = found[name] if quant is None else (found[name].astype(np.float64) - quant.zero_point) * quant.scale
        norm = np.linalg.norm(exact[name])
        assert np.linalg.norm(values - exact[name]) < 0.15 * norm


def test_quantized_network_keeps_its_activations_and_their_zero_points(quantized_network):
    network, tensors, image = quantized_network
    prepared, captured = prepare(network, tensors, image)
    check_weights(network, tensors, prepared, captured)
    assert prepared.tensors.activations == tensors.activations
    assert {data.zero_point for data in captured.values()} >= {-128}
    for layer in network.mac_layers:
        old, new = tensors.layers[layer.name], prepared.tensors.layers[layer.name]
        before = old.bias * np.broadcast_to(old.w_scale, old.bias.shape).astype(np.float64)
        assert (
            np.abs(new.bias * new.w_scale.astype(np.float64) - before) <= new.w_scale * 0.51 + np.abs(before) * 1e-6
        ).all()


def test_machine_multiplies_what_the_functional_model_multiplies(quantized_network):
    """A layer of ResNet-8 with a zero point of -128: centred activations need nine bits."""
    network, tensors, image = quantized_network
    _, captured = prepare(network, tensors, image)
    layer = network.mac_layers[0]
    data = captured[layer.name]
    centred = data.activation.astype(np.int64) - data.zero_point
    assert centred.max() > 127, "nine bits with the sign"
    datapath = PRESETS["small"].bind(list_workloads(network, Policy())[layer.name], data)
    lo, hi = np.zeros(6, np.int64), np.array([1, 1, 4, layer.C, 1, layer.Q], np.int64)
    found = Machine(
        layer, PRESETS["small"], data.activation, data.zero_point, data.codec.rebuilt_int8, data.codec
    ).run_tile(lo, hi)
    assert datapath.exec_times(Boxes(lo[None], hi[None])).busy[0] == found.busy
    exact = convolve(layer, data.activation, data.zero_point, data.codec.rebuilt_int8)
    assert all(exact[n, f, p, q] == value for (f, (n, p, q)), value in found.sums.items())
    assert len(found.sums) == 4 * layer.Q


@pytest.mark.parametrize("name", ["pretrainedResnet_quant.tflite", "kws_ref_model.tflite"])
@pytest.mark.parametrize("preset", ["paper", "small"])
def test_quantized_files_simulate_and_repeat(name, preset, empty_cache):
    load_optional("ai_edge_litert")
    path = str(reference("mlperf_tiny", name))
    first, second = (simulate(path, "smartdeal", preset=preset) for _ in range(2))
    assert [cost.stats for cost in first.layers] == [cost.stats for cost in second.layers]
    for cost in first.layers:
        assert cost.stats.cycles == cost.stats.compute_cycles + sum(cycles for _, cycles in cost.stats.stall_cycles)


def test_trained_mobilenetv2_simulates(empty_cache):
    from hwsim.nets.pretrained import load_pretrained

    with skip_without_extra():
        tensors = load_pretrained("mobilenetv2")
    report = simulate("mobilenetv2", "smartdeal", tensors=tensors)
    assert report.provenance.weights == tensors.origin.description
    stored = sum(cost.weight_bits for cost in report.layers)
    assert 0 < stored < 8 * sum(layer.weights for layer in report.network.mac_layers)


def test_filter_of_zeros_keeps_its_bias():
    bias, scale = np.array([700, -900], np.int32), np.array([1e-4, 2e-4], np.float32)
    old = LayerTensors(weight=np.zeros((2, 3, 1, 1), np.int8), bias=bias, w_scale=scale, w_bits=8)
    codes = np.array([[[[0]]] * 3, [[[5]]] * 3], np.int8).reshape(2, 3, 1, 1)
    found = _replace_weights(old, StoredWeights(integers=codes, scale=np.array([1.0, 4e-4]), codec=None))
    np.testing.assert_allclose(found.bias * found.w_scale, old.bias * old.w_scale, rtol=1e-6)
    assert np.array_equal(found.weight, codes)


def test_bias_beyond_32_bits_coarsens_its_filter_and_stays():
    bias, scale = np.array([1 << 20, 50], np.int32), np.array([1e-3, 1e-3], np.float32)
    old = LayerTensors(weight=np.zeros((2, 1, 1, 1), np.int8), bias=bias, w_scale=scale, w_bits=8)
    integers = np.array([127, 100], np.int8).reshape(2, 1, 1, 1)
    found = _replace_weights(old, StoredWeights(integers=integers, scale=np.array([1e-9, 1e-3]), codec=None))
    np.testing.assert_allclose(
        found.bias * found.w_scale.astype(np.float64), old.bias * old.w_scale.astype(np.float64), rtol=1e-6
    )
    assert np.abs(found.bias).max() <= 1 << 30
    assert found.weight.ravel().tolist() == [0, 100]


def test_formats_that_the_engine_has_not_are_refused():
    for policy, expected in (("w4a8", "w_bits"), ("w8a16", "1 to 8 bits")):
        with pytest.raises(SpecError, match=expected):
            simulate("resnet20", "smartdeal", policy=policy)
