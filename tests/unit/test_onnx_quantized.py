"""Quantized ONNX files: integers, scales and widths arrive as they stand in the file, and give the runtime's values."""

from __future__ import annotations

import numpy as np
import pytest

from hwsim.core.errors import InputError
from hwsim.core.tensors import ActQuant
from hwsim.nets.imported import quantized_policy
from hwsim.nets.onnx_import import import_onnx
from tests.extras import load_optional
from tests.float_run import run_float

onnx = load_optional("onnx")
ort = load_optional("onnxruntime")
helper, numpy_helper, TensorProto = onnx.helper, onnx.numpy_helper, onnx.TensorProto


class QuantizedGraph:
    """A two-convolution, one-gemm network with quantize/dequantize pairs."""

    def __init__(self, opset=21):
        self.rng, self.opset, self.nodes, self.inits = np.random.default_rng(11), opset, [], []

    def const(self, array, name=None, kind=None):
        name = name or f"c{len(self.inits)}"
        array = np.asarray(array)
        if kind is not None:
            self.inits.append(helper.make_tensor(name, kind, array.shape, array.reshape(-1).tolist()))
        else:
            self.inits.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op, *ins, name=None, **attrs):
        out = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(ins), [out], name=name or f"{op}{len(self.nodes)}", **attrs))
        return out

    def pair(self, x, scale, zero, kind=TensorProto.INT8, clip=None):
        s, z = self.const(np.float32(scale)), self.const(np.array(zero), kind=kind)
        q = self.node("QuantizeLinear", x, s, z)
        if clip:
            q = self.node("Clip", q, *(self.const(np.array(v), kind=kind) for v in clip))
        return self.node("DequantizeLinear", q, s, z)

    def weight(self, shape, scales, kind=TensorProto.INT8, low=-127, high=127, zero=None, axis=0):
        q = self.const(self.rng.integers(low, high + 1, shape), kind=kind)
        s = self.const(np.asarray(scales, np.float32))
        z = [self.const(np.broadcast_to(zero, np.shape(scales)).copy(), kind=kind)] if zero is not None else []
        return self.node("DequantizeLinear", q, s, *z, axis=axis)

    def bias(self, scale):
        scale = np.asarray(scale, np.float32)
        q = self.const(self.rng.integers(-3000, 3000, scale.shape).astype(np.int32))
        return self.node("DequantizeLinear", q, self.const(scale), axis=0)

    def save(self, path, output, shape=(1, 3, 8, 8)):
        info = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        out = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "q", [info], [out], self.inits)
        opsets = [helper.make_opsetid("", self.opset)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
        return import_onnx(path)


def run_reference(path, x):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def build_example(g, kind=TensorProto.INT8, zero=0, low=-127, high=127):
    per_channel = g.rng.uniform(0.002, 0.01, 6).astype(np.float32)
    x = g.pair("x", 0.05, 3)
    a = g.node(
        "Conv",
        x,
        g.weight((6, 3, 3, 3), per_channel, kind, low, high, zero),
        g.bias(per_channel * np.float32(0.05)),
        name="stem",
    )
    a = g.pair(g.node("Relu", a), 0.04, -128)
    b = g.node("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2])
    c = g.node("Conv", b, g.weight((6, 1, 3, 3), np.float32(0.01)), group=6, pads=[1, 1, 1, 1], name="dw")
    c = g.pair(c, 0.03, 100, TensorProto.UINT8)
    d = g.pair(g.node("Add", b, c, name="join"), 0.06, 0, TensorProto.INT8)
    e = g.node("Flatten", d)
    f = g.node("Gemm", e, g.weight((10, 54), np.float32(0.01)), g.bias([0.06 * 0.01]), transB=1, name="fc")
    return g.pair(f, 0.2, 0)


def test_integers_scales_and_widths_arrive_unchanged(tmp_path):
    g = QuantizedGraph()
    imported = g.save(tmp_path / "q.onnx", build_example(g))
    held = imported.tensors.layers
    stored = numpy_helper.to_array(next(t for t in g.inits if list(t.dims) == [6, 3, 3, 3]))
    assert [layer.op for layer in imported.network.layers] == ["conv", "maxpool", "conv", "add", "flatten", "gemm"]
    np.testing.assert_array_equal(held["stem"].weight, stored)
    assert held["stem"].weight.dtype == np.int8
    assert (held["stem"].w_scale.shape, held["dw"].w_scale.shape) == ((6,), (1,))
    assert held["stem"].bias.dtype == np.int32
    assert imported.tensors.activations["x"] == ActQuant(scale=float(np.float32(0.05)), zero_point=3)
    assert imported.tensors.activations["dw"].signed is False
    assert imported.network.layer("stem").activation == "relu"
    assert quantized_policy(imported.network, imported.tensors).short == "w8a8"


def test_values_equal_the_runtime(tmp_path):
    g = QuantizedGraph()
    imported = g.save(tmp_path / "q.onnx", build_example(g))
    x = np.random.default_rng(2).standard_normal((1, 3, 8, 8)).astype(np.float32) * 2
    want = run_reference(tmp_path / "q.onnx", x).reshape(-1)
    values = run_float(imported.network, imported.tensors, {"x": x})
    np.testing.assert_allclose(values["fc"].reshape(-1), want, atol=0.2 * 1.01)  # at most one step of the last scale
    assert (np.abs(values["fc"].reshape(-1) - want) < 1e-4).mean() >= 0.9


@pytest.mark.parametrize(
    ("kind", "bits", "low", "high"), [(TensorProto.INT4, 4, -8, 7), (TensorProto.UINT8, 8, 0, 255)]
)
def test_weight_types_give_their_bits(tmp_path, kind, bits, low, high):
    g = QuantizedGraph()
    zero = 120 if kind == TensorProto.UINT8 else 0
    imported = g.save(tmp_path / "q.onnx", build_example(g, kind, zero, low, high))
    held = imported.tensors.layers["stem"]
    assert held.w_bits == bits
    assert held.weight.min() >= low
    assert held.weight.max() <= high
    assert (held.w_zero is None) == (zero == 0)
    assert quantized_policy(imported.network, imported.tensors).of("stem").w_bits == bits
    assert quantized_policy(imported.network, imported.tensors).of("fc").w_bits == 8
    x = np.random.default_rng(2).standard_normal((1, 3, 8, 8)).astype(np.float32)
    want = run_reference(tmp_path / "q.onnx", x).reshape(-1)
    values = run_float(imported.network, imported.tensors, {"x": x})
    np.testing.assert_allclose(values["fc"].reshape(-1), want, atol=0.2 * 1.01)


def test_clip_between_the_halves_narrows_the_format(tmp_path):
    g = QuantizedGraph()
    x = g.pair("x", 0.1, 0, clip=(-8, 7))
    raw = g.const((g.rng.standard_normal((4, 3, 1, 1))).astype(np.float32))
    s, z = g.const(np.float32(0.5)), g.const(np.array(0), kind=TensorProto.INT8)
    q = g.node("QuantizeLinear", raw, s, z)
    q = g.node("Clip", q, g.const(np.array(-2), kind=TensorProto.INT8), g.const(np.array(1), kind=TensorProto.INT8))
    w = g.node("DequantizeLinear", q, s, z)
    imported = g.save(tmp_path / "q.onnx", g.node("Conv", x, w, name="c"))
    assert quantized_policy(imported.network, imported.tensors).short == "w2a4"
    assert set(np.unique(imported.tensors.layers["c"].weight)) <= {-2, -1, 0, 1}


def test_transposed_weight_and_added_bias_of_a_matmul(tmp_path):
    g = QuantizedGraph()
    x = g.pair("x", 0.05, 0)
    w = g.node("Transpose", g.weight((5, 12), np.linspace(0.01, 0.02, 5)), perm=[1, 0])
    y = g.node("Add", g.node("MatMul", x, w, name="fc"), g.const(np.arange(5, dtype=np.float32)))
    imported = g.save(tmp_path / "q.onnx", g.pair(y, 0.1, 0), (1, 12))
    held = imported.tensors.layers["fc"]
    assert [layer.op for layer in imported.network.layers] == ["gemm"]
    np.testing.assert_array_equal(held.bias, np.rint(np.arange(5) / (held.w_scale.astype(float) * np.float32(0.05))))
    data = np.random.default_rng(5).standard_normal((1, 12)).astype(np.float32)
    want = run_reference(tmp_path / "q.onnx", data)
    got = run_float(imported.network, imported.tensors, {"x": data})["fc"].reshape(want.shape)
    np.testing.assert_allclose(got, want, atol=0.101)


def test_two_formats_of_one_tensor_are_kept_apart(tmp_path):
    g = QuantizedGraph()
    a = g.node("Conv", g.pair("x", 0.05, 0), g.weight((4, 3, 1, 1), np.float32(0.01)), name="c")
    y = g.node("Add", g.pair(a, 0.1, 0), g.pair(a, 0.01, 0), name="sum")
    imported = g.save(tmp_path / "q.onnx", y)
    assert [layer.op for layer in imported.network.layers] == ["conv", "identity", "add"]
    assert imported.tensors.activations["c"].scale == pytest.approx(0.1)


def test_activation_behind_a_pair_is_not_fused(tmp_path):
    g = QuantizedGraph()
    a = g.pair(g.node("Conv", g.pair("x", 0.05, 0), g.weight((4, 3, 1, 1), np.float32(0.01))), 0.1, 0)
    imported = g.save(tmp_path / "q.onnx", g.node("Relu", a))
    assert [layer.op for layer in imported.network.layers] == ["conv", "activation"]


def test_float_network_implies_no_policy(tmp_path):
    g = QuantizedGraph()
    imported = g.save(tmp_path / "q.onnx", g.node("Conv", "x", g.const(np.ones((2, 3, 1, 1), np.float32))))
    with pytest.raises(InputError, match="no layer is quantized"):
        quantized_policy(imported.network, imported.tensors)


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_files_of_the_runtime_quantizer(tmp_path, form):
    quantization = load_optional("onnxruntime.quantization")
    g = QuantizedGraph(opset=17)
    w = lambda *shape: g.const(g.rng.standard_normal(shape).astype(np.float32) * 0.3)  # noqa: E731
    a = g.node("Relu", g.node("Conv", "x", w(8, 3, 3, 3), w(8), pads=[1, 1, 1, 1], name="stem"))
    b = g.node("Conv", a, w(8, 1, 3, 3), w(8), group=8, pads=[1, 1, 1, 1], name="dw")
    c = g.node("GlobalAveragePool", g.node("Add", a, b, name="join"))
    d = g.node("Gemm", g.node("Flatten", c), w(10, 8), w(10), transB=1, name="fc")
    g.save(tmp_path / "f.onnx", d)
    rng = np.random.default_rng(4)
    samples = [{"x": rng.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(4)]

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.left = iter(samples)

        def get_next(self):
            return next(self.left, None)

    quantization.quantize_static(
        str(tmp_path / "f.onnx"),
        str(tmp_path / "q.onnx"),
        Reader(),
        quant_format=getattr(quantization.QuantFormat, form),
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )
    imported = import_onnx(tmp_path / "q.onnx")
    assert [layer.kind for layer in imported.network.layers].count("unpriced") == 0
    assert {held.w_bits for held in imported.tensors.layers.values()} == {8}
    assert quantized_policy(imported.network, imported.tensors).short == "w8a8"
    want = run_reference(tmp_path / "q.onnx", samples[0]["x"]).reshape(-1)
    got = run_float(imported.network, imported.tensors, samples[0])[imported.network.outputs[0]].reshape(-1)
    step = imported.tensors.activations[imported.network.outputs[0]].scale
    np.testing.assert_allclose(got, want, atol=1.01 * step)
