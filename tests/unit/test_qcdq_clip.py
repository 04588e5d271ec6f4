"""Clips of integers between QuantizeLinear and DequantizeLinear: every integer as ONNX Runtime has it."""

import numpy as np
import pytest

from hwsim.core.errors import InputError
from hwsim.engine.functional import run_integer
from hwsim.nets.imported import find_activation
from hwsim.nets.onnx_import import import_onnx
from hwsim.policies.read import read_policy
from tests.extras import load_optional

onnx = load_optional("onnx")
ort = load_optional("onnxruntime")
STEP = np.float32(0.05)


class ClipGraph:
    """One or two convolutions around clipped pairs."""

    def __init__(self):
        self.nodes, self.consts = [], {}
        self.rng = np.random.default_rng(4)

    def const(self, value):
        name = f"k{len(self.consts)}"
        self.consts[name] = np.asarray(value)
        return name

    def node(self, op, *ins, name="", **attrs):
        out = f"t{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(op, list(ins), [out], name=name, **attrs))
        return out

    def quantize(self, x, scale, kind=np.int8, zero=0):
        self.format = self.const(np.float32(scale)), self.const(kind(zero))
        return self.node("QuantizeLinear", x, *self.format)

    def clip(self, x, bounds, kind=np.int8):
        return self.node("Clip", x, *(self.const(kind(bound)) for bound in bounds))

    def dequantize(self, x):
        return self.node("DequantizeLinear", x, *self.format)

    def pair(self, x, scale, bounds=None, kind=np.int8, zero=0):
        q = self.quantize(x, scale, kind, zero)
        return self.dequantize(q if bounds is None else self.clip(q, bounds, kind))

    def conv(self, x, name, inputs=3, bounds=None):
        weight = self.const(self.rng.integers(-12, 13, (4, inputs, 3, 3)).astype(np.int8))
        if bounds:
            weight = self.clip(weight, bounds)
        weight = self.node("DequantizeLinear", weight, self.const(np.float32(0.0213)), self.const(np.int8(0)))
        return self.node("Conv", x, weight, name=name, pads=[1] * 4)

    def save(self, path, *outputs):
        infos = [onnx.helper.make_tensor_value_info(out, 1, None) for out in outputs]
        inits = [onnx.numpy_helper.from_array(value, name) for name, value in self.consts.items()]
        inputs = [onnx.helper.make_tensor_value_info("x", 1, [1, 3, 8, 8])]
        graph = onnx.helper.make_graph(self.nodes, "g", inputs, infos, inits)
        opset = [onnx.helper.make_opsetid("", 17)]
        onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), path)

    def compare(self, path, *outputs):
        """Run both; the outputs are pairs of scale ``STEP``."""
        self.save(path, *outputs)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        data = (self.rng.standard_normal((1, 3, 8, 8)) * 4).astype(np.float32)
        wanted = ort.InferenceSession(str(path), options).run(None, {"x": data})
        imported = import_onnx(path)
        found = run_integer(imported.network, imported.tensors, {"x": data})
        assert len(imported.network.outputs) == len(outputs)
        for name, want in zip(imported.network.outputs, wanted, strict=True):
            quant = find_activation(imported.network, imported.tensors.activations, name)
            stored = found[name].astype(np.int64).reshape(want.shape) - quant.zero_point
            np.testing.assert_array_equal(stored, np.rint(want / STEP).astype(np.int64))
        return imported


BOUNDS = [(-7, 7), (-8, 7), (0, 15), (-5, 9), (-127, 127), (0, 100), (3, 9), (-9, -2)]


@pytest.mark.parametrize("bounds", BOUNDS)
def test_clipped_inputs(tmp_path, bounds):
    g = ClipGraph()
    imported = g.compare(tmp_path / "m.onnx", g.pair(g.conv(g.pair("x", 0.1, bounds), "c"), STEP))
    read = imported.tensors.activations[imported.network.layer("c").inputs[0]]
    assert read.low <= bounds[0]
    assert bounds[1] <= read.high
    assert read.bits == {(-7, 7): 4, (-8, 7): 4, (0, 15): 4, (-5, 9): 5, (-127, 127): 8}.get(bounds, read.bits)


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("before", ["", "Relu", "Sigmoid", "MaxPool", "Transpose", "Flatten"])
def test_clipped_results(tmp_path, bounds, before):
    """Of a convolution, with the activation before it, read by the next and by the output."""
    g = ClipGraph()
    y = g.conv(g.pair("x", 0.1), "c")
    if before == "Sigmoid":
        y = g.pair(y, 0.02)
    if before:
        attrs = {"MaxPool": {"kernel_shape": [2, 2]}, "Transpose": {"perm": [0, 1, 3, 2]}}
        y = g.node(before, y, **attrs.get(before, {}))
    g.compare(tmp_path / "m.onnx", g.pair(y, STEP, bounds))


@pytest.mark.parametrize("bounds", [(0, 15), (8, 15), (3, 20)])
def test_zero_points(tmp_path, bounds):
    g = ClipGraph()
    y = g.conv(g.pair("x", 0.1, bounds, np.uint8, 8), "c")
    g.compare(tmp_path / "m.onnx", g.pair(y, STEP, (96, 160), np.uint8, 128))


@pytest.mark.parametrize("bounds", [(-7, 7), (-8, 7), (-5, 9), (0, 15)])
def test_two_readers_of_one_tensor_keep_their_own_bounds(tmp_path, bounds):
    g = ClipGraph()
    q = g.quantize(g.conv(g.pair("x", 0.1), "c"), STEP)
    narrow, wide = g.dequantize(g.clip(q, bounds)), g.dequantize(q)
    g.compare(tmp_path / "m.onnx", g.pair(g.conv(narrow, "d", 4), STEP), g.pair(g.conv(wide, "e", 4), STEP))


def test_integers_that_pass_a_pool_before_the_clip(tmp_path):
    g = ClipGraph()
    q = g.node("MaxPool", g.quantize(g.conv(g.pair("x", 0.1), "c"), STEP), kernel_shape=[2, 2])
    g.compare(tmp_path / "m.onnx", g.dequantize(g.clip(q, (-7, 7))))


@pytest.mark.parametrize(("bounds", "bits"), [((-5, 9), 5), ((-7, 7), 4), ((-8, 7), 4), ((0, 15), 5), ((-9, 3), 5)])
def test_weights_fit_the_bits_that_their_bounds_imply(tmp_path, bounds, bits):
    g = ClipGraph()
    y = g.conv(g.pair("x", 0.1), "c", bounds=bounds)
    held = g.compare(tmp_path / "m.onnx", g.pair(y, STEP)).tensors.layers["c"]
    assert held.w_bits == bits
    assert held.weight.min() >= -(1 << (bits - 1))
    assert held.weight.max() < 1 << (bits - 1)


def test_scales_along_the_inputs_are_named(tmp_path):
    """As many scales as a filter has inputs, along axis 1: no integer datapath multiplies by them after its sum."""
    g = ClipGraph()
    x = g.pair("x", 0.1)
    ints, scales = g.const(g.rng.integers(-7, 8, (4, 3, 3, 3)).astype(np.int8)), g.const(np.float32([0.01, 0.02, 0.03]))
    weight = g.node("DequantizeLinear", ints, scales, axis=1)
    g.save(tmp_path / "m.onnx", g.pair(g.node("Conv", x, weight, name="c", pads=[1] * 4), STEP))
    network = import_onnx(tmp_path / "m.onnx").network
    said = r"weights quantized along axis 1, expected 0 \(output channels\), taken as float"
    with pytest.raises(InputError, match=said):
        read_policy(tmp_path / "m.onnx", network)
