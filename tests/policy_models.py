"""Small models and files of other tools, as those tools write them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from hwsim.nets.imported import Imported
from hwsim.nets.onnx_import import import_onnx


def quantize_naively(x, scale, zero, bits, signed, narrow):
    """IntQuant with half-to-even rounding, element by element, from its definition (intquant_v1.md)."""
    low = -(2 ** (bits - 1)) + int(narrow) if signed else 0
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - int(narrow)
    scales = np.broadcast_to(np.asarray(scale, np.float64), x.shape)
    out = np.zeros(x.shape)
    for place, value in np.ndenumerate(x):
        scaled = float(value) / float(scales[place]) + zero
        level = (1 if scaled >= 0 else -1) if bits == 1 and signed else round(min(max(scaled, low), high))
        out[place] = (level - zero) * float(scales[place])
    return out


class QonnxGraph:
    """Quant -> conv (w3) -> relu -> Quant (u4) -> depthwise (w2, per channel) -> Quant (6) -> flatten -> gemm (bipolar)."""

    def __init__(
        self,
        mode: str = "ROUND",
        stem: np.ndarray | None = None,
        stem_bits: float = 3,
        scale: Any = 0.2,
        dynamic: bool = False,
        domain: str = "qonnx.custom_op.general",
        narrow: bool = False,
    ) -> None:
        rng = np.random.default_rng(7)
        self.mode, self.dynamic, self.domain, self.narrow = mode, dynamic, domain, narrow
        weight = rng.normal(0, 0.4, (4, 3, 3, 3)).astype(np.float32) if stem is None else stem
        per_channel = np.array([0.1, 0.2, 0.3, 0.4], np.float32).reshape(4, 1, 1, 1)
        self.stem_bits = stem_bits
        self.weights: dict[str, tuple[np.ndarray, Any, int, bool]] = {
            "stem": (weight, scale, int(stem_bits), True),
            "dw": (rng.normal(0, 0.4, (4, 1, 3, 3)).astype(np.float32), per_channel, 2, False),
            "fc": (rng.normal(0, 0.4, (4 * 36, 5)).astype(np.float32), 0.05, 1, False),
        }
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, array: Any, name: str = "") -> str:
        from onnx import numpy_helper

        name = name or f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, name: str = "", domain: str = "", **attrs: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [output], name=name or f"n_{output}", domain=domain, **attrs))
        return output

    def quant(self, x: str, scale: Any, bits: float, output: str, signed: int = 1, narrow: int = 0, op: str = "Quant"):
        scale_name = scale if isinstance(scale, str) else self.constant(np.asarray(scale, np.float32))
        inputs = [x, scale_name, self.constant(np.float32(0)), self.constant(np.float32(bits))]
        return self.node(op, inputs, output, domain=self.domain, signed=signed, narrow=narrow, rounding_mode=self.mode)

    def build(self, path: Any) -> Imported:
        """Write the model and import it."""
        from onnx import TensorProto, helper, save

        scale: Any = np.float32(0.05)
        if self.dynamic:
            scale = self.node("ReduceMax", ["x"], "dynamic", keepdims=0)
        x = self.quant("x", scale, 8, "xq")
        weight, factor, _, narrow = self.weights["stem"]
        w = self.quant(self.constant(weight, "stem.weight"), factor, self.stem_bits, "stem_w", narrow=int(narrow))
        t = self.node("Conv", [x, w], "stem_out", name="stem", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        t = self.node("Relu", [t], "stem_relu")
        t = self.quant(t, 0.07, 4, "stem_q", signed=0, op="IntQuant")
        weight, factor, bits, _ = self.weights["dw"]
        w = self.quant(self.constant(weight, "dw.weight"), factor, bits, "dw_w")
        t = self.node("Conv", [t, w], "dw_out", name="dw", kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=4)
        t = self.quant(t, 0.03, 6, "dw_q", narrow=int(self.narrow))
        t = self.node("Flatten", [t], "flat")
        weight, factor, _, _ = self.weights["fc"]
        inputs = [self.constant(weight, "fc.weight"), self.constant(np.float32(factor))]
        w = self.node("BipolarQuant", inputs, "fc_w", domain=self.domain)
        self.node("MatMul", [t, w], "y", name="fc")
        info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 6, 6])
        out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "q", [info], [out], self.constants)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(self.domain, 1)]
        save(helper.make_model(graph, opset_imports=opsets, ir_version=10), str(path))
        return import_onnx(path)


def save_float_model(path: Any) -> None:
    """Write a float model: conv1 -> relu -> pool -> conv2 -> relu -> flatten -> fc; tensors named as torch exports them."""
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(5)
    arrays = {
        "conv1.weight": rng.normal(0, 0.3, (6, 3, 3, 3)),
        "conv2.weight": rng.normal(0, 0.3, (8, 6, 1, 1)),
        "fc.weight": rng.normal(0, 0.3, (5, 8 * 16)),
        "fc.bias": rng.normal(0, 0.3, 5),
    }
    nodes = [
        helper.make_node("Conv", ["input", "conv1.weight"], ["c1"], name="conv1", kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("MaxPool", ["r1"], ["p1"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "conv2.weight"], ["c2"], name="conv2", kernel_shape=[1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("Flatten", ["r2"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "fc.weight", "fc.bias"], ["out"], name="fc", transB=1),
    ]
    info = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 8, 8])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 5])
    inits = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "g", [info], [out], inits)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), str(path))


def save_json(path, data):
    """Write JSON and return where."""
    path.write_text(json.dumps(data))
    return path


def read_bits(found, network):
    """Return the bits of every MAC layer as short strings."""
    return {layer.name: found.policy.of(layer.name).short for layer in network.mac_layers}


def encode_old(bits, count=1, symmetric="True", **more):
    """Return an encoding as AIMET wrote it before 1.0."""
    entry = {"bitwidth": bits, "is_symmetric": symmetric, "max": 1.0, "min": -1.0, "offset": -128, "scale": 0.01}
    return [entry | more for _ in range(count)]


def encode_new(name, bits, count=1, **more):
    """Return an encoding of AIMET 1.0."""
    kind = "PER_CHANNEL" if count > 1 else "PER_TENSOR"
    entry = {"name": name, "enc_type": kind, "dtype": "INT", "bw": bits, "is_sym": True}
    return entry | {"scale": [0.01] * count, "offset": [-(1 << (bits - 1))] * count} | more


def make_encodings(version):
    """Weights 4, 5 and 8 bits; the pooled tensor stands before its pooling, as AIMET exports it."""
    acts, params = {"input": 8, "r1": 6, "r2": 7}, {"conv1.weight": (4, 6), "conv2.weight": (5, 1), "fc.weight": (8, 1)}
    if version == "1.0.0":
        return {
            "version": version,
            "activation_encodings": [encode_new(name, bits) for name, bits in acts.items()],
            "param_encodings": [encode_new(name, bits, count) for name, (bits, count) in params.items()],
            "excluded_layers": [],
        }
    more = {} if version in (None, "0.4.0") else {"dtype": "int"}
    data = {
        "activation_encodings": {name: encode_old(bits, **more) for name, bits in acts.items()},
        "param_encodings": {name: encode_old(bits, count, **more) for name, (bits, count) in params.items()},
    }
    if version == "0.6.1":
        data["quantizer_args"] = {"activation_bitwidth": 8, "dtype": "int", "per_channel_quantization": "True"}
    return data | ({"version": version} if version else {})
