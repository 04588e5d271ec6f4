"""QONNX graphs: integers, formats and values as the operators' definition gives them."""

from __future__ import annotations

import numpy as np
import pytest

from hwsim.core.errors import InputError
from hwsim.nets.imported import quantized_policy
from hwsim.nets.load import load_network
from hwsim.policies.read import read_policy
from tests.extras import load_optional
from tests.float_run import run_float
from tests.policy_models import QonnxGraph, quantize_naively

load_optional("onnx")


def test_formats_of_weights_and_inputs_become_the_policy(tmp_path):
    imported = QonnxGraph().build(tmp_path / "q.onnx")
    policy = quantized_policy(imported.network, imported.tensors)
    assert {layer.name: policy.of(layer.name).short for layer in imported.network.mac_layers} == {
        "stem": "w3a8",
        "dw": "w2a4",
        "fc": "w1a6",
    }
    assert [layer.op for layer in imported.network.layers] == ["conv", "conv", "flatten", "gemm"]


def test_integers_and_scales_are_those_of_the_definition(tmp_path):
    graph = QonnxGraph()
    imported = graph.build(tmp_path / "q.onnx")
    for name, (weight, scale, bits, narrow) in graph.weights.items():
        held = imported.tensors.layers[name]
        wanted = quantize_naively(weight, scale, 0.0, bits, True, narrow)
        real = held.weight.reshape(len(held.weight), -1) * np.asarray(held.w_scale, np.float64).reshape(-1, 1)
        wanted = wanted.T if name == "fc" else wanted
        np.testing.assert_allclose(real.ravel(), wanted.reshape(len(held.weight), -1).ravel(), rtol=1e-6)
        assert held.w_bits == bits
        assert held.weight.dtype == np.int8


def test_activation_formats_stand_at_their_producers(tmp_path):
    imported = QonnxGraph().build(tmp_path / "q.onnx")
    found = imported.tensors.activations
    assert {name: (q.bits, q.signed, q.zero_point) for name, q in found.items()} == {
        "x": (8, True, 0),
        "stem": (4, False, 0),
        "dw": (6, True, 0),
    }
    assert found["stem"].scale == np.float32(0.07)


def test_run_equals_a_naive_run_of_the_quantizers(tmp_path):
    """Input, weights and result of the stem, each through the definition of its quantizer."""
    graph = QonnxGraph()
    imported = graph.build(tmp_path / "q.onnx")
    x = np.random.default_rng(3).normal(size=(1, 3, 6, 6)).astype(np.float32)
    found = run_float(imported.network, imported.tensors, {"x": x})
    weight, scale, bits, narrow = graph.weights["stem"]
    kernel = quantize_naively(weight, scale, 0.0, bits, True, narrow)
    padded = np.pad(quantize_naively(x[0], 0.05, 0.0, 8, True, False), ((0, 0), (1, 1), (1, 1)))
    naive = np.zeros((4, 6, 6))
    for k in range(4):
        for p in range(6):
            for q in range(6):
                naive[k, p, q] = (padded[:, p : p + 3, q : q + 3] * kernel[k]).sum()
    wanted = quantize_naively(np.maximum(naive, 0), 0.07, 0.0, 4, False, False)
    np.testing.assert_allclose(found["stem"][0], wanted, atol=1e-5)


def test_a_narrow_range_is_a_clip_of_the_layer_before(tmp_path):
    """Six bits, narrow: -31 to 31 steps of 0.03; the whole range would reach -32."""
    imported = QonnxGraph(narrow=True).build(tmp_path / "q.onnx")
    layer = imported.network.layer("dw")
    assert layer.activation == "clip"
    assert (layer.attr("low"), layer.attr("high")) == pytest.approx((-0.93, 0.93))
    assert [layer.op for layer in imported.network.layers] == ["conv", "conv", "flatten", "gemm"]
    x = np.random.default_rng(3).normal(0, 4, (1, 3, 6, 6)).astype(np.float32)
    found = run_float(imported.network, imported.tensors, {"x": x})["dw"]
    assert (found.min(), found.max()) == pytest.approx((-0.93, 0.93))
    wide = QonnxGraph().build(tmp_path / "w.onnx")
    assert run_float(wide.network, wide.tensors, {"x": x})["dw"].min() == pytest.approx(-0.96)


@pytest.mark.parametrize("mode", ["ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN", "half_even"])
def test_rounding_modes_equal_the_reference(tmp_path, mode):
    """The table of rounding modes of intquant_v1.md."""
    reference = pytest.importorskip(
        "qonnx.custom_op.general.quant", reason="qonnx (Apache-2.0) is in none of the extras"
    )
    graph = QonnxGraph(mode=mode)
    imported = graph.build(tmp_path / "q.onnx")
    weight, scale, bits, narrow = graph.weights["stem"]
    one = np.asarray(scale, np.float32)
    wanted = reference.quant(weight, one, np.float32(0), np.array(float(bits)), 1, int(narrow), mode)
    held = imported.tensors.layers["stem"]
    real = held.weight * np.asarray(held.w_scale).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(real, wanted, rtol=1e-6, atol=1e-7)


def test_half_values_of_every_mode_are_those_of_the_table(tmp_path):
    """The rows of the table in intquant_v1.md, at scale 1."""
    values = [5.5, 2.5, 1.6, 1.1, 1.0, -1.0, -1.1, -1.6, -2.5, -5.5]
    table = {
        "ROUND": [6, 2, 2, 1, 1, -1, -1, -2, -2, -6],
        "CEIL": [6, 3, 2, 2, 1, -1, -1, -1, -2, -5],
        "FLOOR": [5, 2, 1, 1, 1, -1, -2, -2, -3, -6],
        "UP": [6, 3, 2, 2, 1, -1, -2, -2, -3, -6],
        "DOWN": [5, 2, 1, 1, 1, -1, -1, -1, -2, -5],
        "HALF_UP": [6, 3, 2, 1, 1, -1, -1, -2, -3, -6],
        "HALF_DOWN": [5, 2, 2, 1, 1, -1, -1, -2, -2, -5],
    }
    for mode, wanted in table.items():
        graph = QonnxGraph(
            mode=mode, stem=np.resize(np.array(values, np.float32), (4, 3, 3, 3)), stem_bits=8, scale=1.0
        )
        held = graph.build(tmp_path / f"{mode}.onnx").tensors.layers["stem"]
        assert held.weight.ravel()[:10].tolist() == wanted, mode


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dynamic": True}, "has a scale that is computed while the network runs"),
        ({"stem_bits": 2.5}, "has the bit width [2.5], expected one integer from 1 to 64"),
        ({"stem_bits": 0}, "has the bit width [0.0], expected one integer from 1 to 64"),
        ({"mode": "NEAREST"}, "has the rounding mode 'NEAREST', expected one of"),
        ({"scale": -1.0}, "has a scale that is not finite and above zero"),
        ({"scale": np.ones((3, 1, 1, 1))}, "has a scale or zero point of shape [3, 1, 1, 1]"),
    ],
)
def test_bad_quantizers_are_named(tmp_path, change, message):
    with pytest.raises(InputError) as caught:
        QonnxGraph(**change).build(tmp_path / "q.onnx")
    assert message in str(caught.value)
    assert "(Quant)" in str(caught.value)


def test_another_domain_is_not_taken_for_qonnx(tmp_path):
    with pytest.raises(InputError, match="Quant"):
        QonnxGraph(domain="somebody.else").build(tmp_path / "q.onnx")


def test_a_quantizer_without_inputs_is_told_in_one_line(tmp_path):
    graph = QonnxGraph()
    graph.node("Quant", [], "nothing", domain=graph.domain)
    with pytest.raises(InputError):
        graph.build(tmp_path / "q.onnx")
    with pytest.raises(InputError) as caught:
        read_policy(tmp_path / "q.onnx", load_network("resnet8").network)
    assert "node 'n_nothing' (Quant)" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def save_weighted(path, weight_bits, input_scale, input_bits=8, shaped=False):
    """Write one convolution of quantized weights and input; return the network of the same shapes, not quantized."""
    import onnx

    networks = []
    for quantized in (False, True):
        graph = QonnxGraph()
        weight = np.random.default_rng(3).normal(0, 0.3, (4, 3, 1, 1)).astype(np.float32)
        x, w = "x", graph.constant(weight, "conv.weight")
        if quantized:
            x, w = graph.quant("x", input_scale, input_bits, "xq"), graph.quant(w, np.float32(0.1), weight_bits, "wq")
        graph.node("Conv", [x, w], "y", name="conv", kernel_shape=[1, 1])
        shapes = [[1, 3, 2, 2], [1, 4, 2, 2], [1, 3, 2, 2]]
        x_info, y_info, q_info = (
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
            for name, shape in zip(("x", "y", "xq"), shapes, strict=True)
        )
        held = [q_info] if quantized and shaped else []
        built = onnx.helper.make_graph(graph.nodes, "q", [x_info], [y_info], graph.constants, value_info=held)
        opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(graph.domain, 1)]
        onnx.save(onnx.helper.make_model(built, opset_imports=opsets, ir_version=10), str(path))
        if not quantized:
            networks.append(load_network(path).network)
    return networks[0]


@pytest.mark.parametrize(
    ("bits", "short", "note"),
    [
        ((24, 8), "w16a8", "conv (weights, 24 bits)"),
        ((8, 24), "w8a16", "conv (input, 24 bits)"),
        ((17, 32), "w16a16", "conv (weights, 17 bits), conv (input, 32 bits)"),
    ],
)
def test_formats_wider_than_a_policy_are_told_as_such(tmp_path, bits, short, note):
    """As AIMET encodings of the same widths."""
    network = save_weighted(tmp_path / "q.onnx", bits[0], np.float32(0.1), bits[1])
    found = read_policy(tmp_path / "q.onnx", network)
    assert found.policy.of("conv").short == short
    assert found.notes == (f"wider than a policy names, counted as 16 bits: {note}",)


@pytest.mark.parametrize("shaped", [True, False])
def test_activations_per_channel_are_refused_as_such(tmp_path, shaped):
    scales = np.full((1, 3, 1, 1), 0.1, np.float32)
    network = save_weighted(tmp_path / "q.onnx", 8, scales, shaped=shaped)
    with pytest.raises(InputError) as caught:
        read_policy(tmp_path / "q.onnx", network)
    assert str(caught.value) == ("q.onnx: quantizes activations per channel, which is not read: node 'n_xq' (Quant)")
