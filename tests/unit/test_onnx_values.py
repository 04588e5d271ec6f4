"""What is imported computes what ONNX Runtime computes."""

from __future__ import annotations

import numpy as np

from hwsim.nets.onnx_import import import_onnx
from tests.extras import load_optional
from tests.float_run import run_float

onnx = load_optional("onnx")
ort = load_optional("onnxruntime")
helper, numpy_helper, TensorProto = onnx.helper, onnx.numpy_helper, onnx.TensorProto


class Graph:
    """Writes a small ONNX file node by node; weights come from a fixed generator."""

    def __init__(self, opset=17, **inputs):
        self.rng, self.opset = np.random.default_rng(7), opset
        self.nodes, self.inits = [], []
        self.inputs = {name: tuple(shape) for name, shape in inputs.items()}

    def const(self, array, name=None):
        array = np.asarray(array)
        name = name or f"c{len(self.inits)}"
        self.inits.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, *shape, scale=0.5):
        return self.const((self.rng.standard_normal(shape) * scale).astype(np.float32))

    def node(self, op, *ins, outputs=1, name=None, domain="", **attrs):
        outs = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(
            helper.make_node(op, list(ins), outs, name=name or f"{op}{len(self.nodes)}", domain=domain, **attrs)
        )
        return outs[0] if outputs == 1 else outs

    def save(self, path, *outputs):
        infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in self.inputs.items()]
        outs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs]
        graph = helper.make_graph(self.nodes, "g", infos, outs, self.inits)
        domains = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=10), path)
        return path

    def batchnorm(self, x, channels):
        positive = self.const(self.rng.uniform(0.3, 2, channels).astype(np.float32))
        return self.node(
            "BatchNormalization", x, self.weight(channels), self.weight(channels), self.weight(channels), positive
        )


def compare(graph, path, *outputs, tolerance=2e-5):
    """Import the graph, run both, and return the import."""
    graph.save(path, *outputs)
    imported = import_onnx(path)
    rng = np.random.default_rng(3)
    feeds = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in graph.inputs.items()}
    wanted = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feeds)
    values = run_float(imported.network, imported.tensors, feeds)
    for name, want in zip(imported.network.outputs, wanted, strict=True):
        got = values[name].reshape(-1)
        assert got.size == want.size
        np.testing.assert_allclose(got, want.reshape(-1), rtol=0, atol=tolerance * max(1, np.abs(want).max()))
    return imported


def ops_of(imported):
    return [layer.op for layer in imported.network.layers]


def test_convolutions_of_every_kind_with_folded_normalization(tmp_path):
    g = Graph(x=(1, 6, 15, 13))
    a = g.node("Relu", g.batchnorm(g.node("Conv", "x", g.weight(8, 6, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2]), 8))
    b = g.node("Conv", a, g.weight(8, 1, 3, 3), g.weight(8), group=8, pads=[2, 2, 2, 2], dilations=[2, 2])
    b = g.node("Clip", g.batchnorm(b, 8), g.const(np.float32(0)), g.const(np.float32(6)))
    c = g.node("Conv", b, g.weight(12, 2, 2, 3), group=4, auto_pad="SAME_UPPER", strides=[2, 1])
    d = g.node("LeakyRelu", g.node("Conv", c, g.weight(5, 12, 1, 1), auto_pad="VALID"), alpha=0.2)
    e = g.node("Conv", d, g.weight(4, 5, 4, 2), auto_pad="SAME_LOWER")
    imported = compare(g, tmp_path / "m.onnx", e)
    assert ops_of(imported) == ["conv"] * 5
    assert [layer.activation for layer in imported.network.layers] == ["relu", "relu6", "none", "leaky_relu", "none"]
    assert imported.network.layers[1].is_depthwise
    assert any("BatchNormalization" in note for note in imported.notes)


def test_residual_block_with_gemm_head(tmp_path):
    g = Graph(x=(2, 4, 9, 9))
    a = g.node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    b = g.node("Conv", a, g.weight(4, 4, 3, 3), pads=[1, 1, 1, 1])
    c = g.node("Relu", g.node("Add", b, a))
    d = g.node("Flatten", g.node("GlobalAveragePool", c))
    e = g.node("Gemm", d, g.weight(10, 4), g.weight(10), transB=1, alpha=0.5, beta=2.0)
    f = g.node("Softmax", e, axis=1)
    imported = compare(g, tmp_path / "m.onnx", f)
    assert ops_of(imported) == ["maxpool", "conv", "add", "avgpool", "gemm", "softmax"]
    assert imported.network.layers[2].activation == "relu"


def test_mlp_with_matmul_and_bias_additions(tmp_path):
    g = Graph(x=(3, 20))
    a = g.node("Relu", g.node("Add", g.node("MatMul", "x", g.weight(20, 16)), g.weight(16)))
    b = g.node("Tanh", g.node("Add", g.weight(8), g.node("MatMul", a, g.weight(16, 8))))
    imported = compare(g, tmp_path / "m.onnx", b)
    assert ops_of(imported) == ["gemm", "gemm"]
    assert all(held.bias is not None for held in imported.tensors.layers.values())
    assert imported.network.macs == 3 * (20 * 16 + 16 * 8)


def test_matmul_over_positions_is_a_pointwise_convolution(tmp_path):
    g = Graph(x=(2, 7, 12))
    a = g.node("Gelu", g.node("Add", g.node("MatMul", "x", g.weight(12, 9)), g.weight(9)), domain="com.microsoft")
    b = g.node("Add", g.node("MatMul", a, g.weight(9, 12)), g.weight(12))
    imported = compare(g, tmp_path / "m.onnx", b)
    assert ops_of(imported) == ["transpose", "conv", "conv", "transpose"]
    assert imported.network.macs == 2 * 7 * 12 * 9 * 2


def test_shuffle_split_concat_and_slices(tmp_path):
    g = Graph(x=(1, 8, 6, 4))
    shape = g.node("Shape", "x")
    n = g.node("Gather", shape, g.const(np.int64(0)))
    target = g.node("Concat", g.node("Unsqueeze", n, g.const(np.array([0]))), g.const(np.array([2, 4, 6, 4])), axis=0)
    a = g.node("Transpose", g.node("Reshape", "x", target), perm=[0, 2, 1, 3, 4])
    b = g.node("Reshape", a, g.const(np.array([0, -1, 6, 4])))
    left, right = g.node("Split", b, g.const(np.array([3, 5])), outputs=2, axis=1)
    c = g.node("Concat", right, left, axis=1)
    d = g.node(
        "Slice",
        c,
        g.const(np.array([1, 0])),
        g.const(np.array([99, 4])),
        g.const(np.array([2, 3])),
        g.const(np.array([2, 1])),
    )
    e = g.node("Concat", d, d, axis=2)
    f = g.node("Gather", e, g.const(np.array([2, 3, 4])), axis=1)
    imported = compare(g, tmp_path / "m.onnx", f)
    assert ops_of(imported)[:4] == ["shuffle", "slice", "slice", "concat"]
    assert imported.network.layers[0].attr("groups") == 2


def test_elementwise_forms_and_gates(tmp_path):
    g = Graph(x=(1, 6, 5, 5))
    a = g.node("Sub", "x", g.weight(1, 6, 1, 1))
    a = g.node("Div", a, g.const(np.full((6, 1, 1), 1.7, np.float32)))
    b = g.node("Mul", a, g.node("Sigmoid", a))
    s = g.node("Conv", g.node("GlobalAveragePool", b), g.weight(6, 6, 1, 1))
    c = g.node("Mul", b, g.node("HardSigmoid", s, alpha=1 / 6, beta=0.5))
    d = g.node("HardSwish", g.node("Sub", c, b))
    e = g.node("PRelu", d, g.weight(6, 1, 1))
    f = g.node("Add", e, g.const(np.arange(5, dtype=np.float32)))
    h = g.node("LRN", g.node("Max", f, g.const(np.float32(-0.25))), size=3, alpha=0.3)
    imported = compare(g, tmp_path / "m.onnx", g.node("ReduceMean", h, axes=[2, 3], keepdims=0))
    assert "silu" in [layer.activation for layer in imported.network.layers]
    assert not [layer for layer in imported.network.layers if layer.op == "unpriced"]


def test_padding_is_folded_into_a_convolution_and_kept_before_a_pooling(tmp_path):
    g = Graph(x=(1, 3, 8, 8))
    a = g.node("Pad", "x", g.const(np.array([0, 0, 0, 1, 0, 0, 1, 2])))
    b = g.node("Conv", a, g.weight(4, 3, 3, 3), strides=[2, 2])
    c = g.node("Pad", b, g.const(np.array([0, 2, 1, 0, 0, 2, 0, 1])), g.const(np.float32(0.5)))
    d = g.node("AveragePool", c, kernel_shape=[2, 2], pads=[1, 1, 0, 0])
    e = g.node("AveragePool", d, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    imported = compare(g, tmp_path / "m.onnx", e)
    assert ops_of(imported) == ["conv", "pad", "avgpool", "avgpool"]
    assert imported.network.layers[0].padding == (0, 1, 1, 2)


def test_channels_last_graph_keeps_its_values(tmp_path):
    g = Graph(x=(1, 6, 5, 3))  # N, H, W, C
    a = g.node("Conv", g.node("Transpose", "x", perm=[0, 3, 1, 2]), g.weight(7, 3, 3, 3))
    b = g.node("Relu", g.node("Add", g.node("Transpose", a, perm=[0, 2, 3, 1]), g.weight(7)))
    c = g.node("ReduceMean", b, axes=[1, 2], keepdims=0)
    imported = compare(g, tmp_path / "m.onnx", g.node("MatMul", c, g.weight(7, 2)))
    assert ops_of(imported)[0] == "transpose"
    assert "unpriced" not in ops_of(imported)


def test_one_dimensional_convolution_stands_as_a_row(tmp_path):
    g = Graph(x=(1, 4, 30))
    a = g.node("Relu", g.batchnorm(g.node("Conv", "x", g.weight(6, 4, 5), pads=[2, 2], strides=[2]), 6))
    imported = compare(g, tmp_path / "m.onnx", g.node("MaxPool", a, kernel_shape=[3], strides=[2]))
    assert imported.network.layers[0].S == 5
    assert imported.network.layers[0].R == 1


def test_normalization_behind_an_activation_is_a_scale(tmp_path):
    g = Graph(x=(1, 4, 5, 5))
    a = g.node("Relu", g.batchnorm("x", 4))
    b = g.node("Conv", g.batchnorm(a, 4), g.weight(3, 4, 1, 1))
    assert ops_of(compare(g, tmp_path / "m.onnx", b)) == ["scale", "scale", "conv"]


def test_a_tensor_that_is_also_an_output_is_not_fused(tmp_path):
    g = Graph(x=(1, 4, 5, 5))
    a = g.node("Conv", "x", g.weight(4, 4, 3, 3))
    imported = compare(g, tmp_path / "m.onnx", a, g.node("Relu", a))
    assert ops_of(imported) == ["conv", "activation"]


def test_unpriced_operator_is_a_layer_with_a_note(tmp_path):
    g = Graph(x=(1, 4, 5, 5))
    a = g.node("ConvTranspose", "x", g.weight(4, 2, 2, 2), strides=[2, 2], name="up")
    b = g.node("Conv", a, g.weight(3, 2, 3, 3))
    g.save(tmp_path / "m.onnx", b)
    imported = import_onnx(tmp_path / "m.onnx")
    up, conv = imported.network.layers
    assert (up.op, up.attr("source_op"), up.out_shape) == ("unpriced", "ConvTranspose", (1, 2, 10, 10))
    assert conv.H == 10
    assert any("ConvTranspose" in note and "up" in note and "unpriced" in note for note in imported.notes)


def test_product_of_activations_is_unpriced(tmp_path):
    g = Graph(a=(2, 3, 4), b=(2, 4, 5))
    g.save(tmp_path / "m.onnx", g.node("MatMul", "a", "b", name="scores"))
    layer = import_onnx(tmp_path / "m.onnx").network.layers[0]
    assert (layer.op, layer.out_shape) == ("unpriced", (2, 3, 1, 5))
