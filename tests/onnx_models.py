"""Makers of ONNX models: a network and its tensors, written as a float or a QDQ graph, and run by ONNX Runtime.

A QDQ graph quantizes, dequantizes, computes in float and quantizes again; ONNX Runtime fuses each such group into an
integer kernel.
Every layer's stored integers are an output of the graph, named as the layer.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hwsim.core.layer import Layer
from hwsim.core.network import Network
from hwsim.core.tensors import ActQuant, LayerTensors, Tensors
from hwsim.engine.functional_integer import complete_quants
from hwsim.engine.functional_ops import clamp_limits
from hwsim.quant.calibrate import INPUT, PRE
from hwsim.quant.uniform import choose_dtype, quantize_activation

IR_VERSION, OPSET = 10, 21
_ELEMENTS = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}
_ACTIVATIONS = {
    "relu": "Relu",
    "leaky_relu": "LeakyRelu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "hard_sigmoid": "HardSigmoid",
    "hard_swish": "HardSwish",
}
_MOVES = ("concat", "flatten", "reshape", "transpose", "shuffle", "slice", "pad", "identity")


class Writer:
    """Collects nodes, constants and outputs of one graph; float when ``quants`` is None."""

    def __init__(self, network: Network, tensors: Tensors, quantized: bool, batch: int) -> None:
        self.network, self.tensors, self.batch = network, tensors, batch
        self.quants = complete_quants(network, tensors) if quantized else None
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.count = 0

    def constant(self, array: np.ndarray, name: str = "") -> str:
        self.count += 1
        name = name or f"constant{self.count}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op: str, inputs: list[str], output: str = "", **attrs: object) -> str:
        self.count += 1
        output = output or f"{op.lower()}{self.count}"
        attrs = {key: value for key, value in attrs.items() if value is not None}
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"node{self.count}", **attrs))
        return output

    def expose(self, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        self.outputs.append(helper.make_tensor_value_info(name, _ELEMENTS[str(dtype)], [self.batch, *shape[1:]]))

    # Quantization.

    def format(self, quant: ActQuant) -> list[str]:
        dtype = choose_dtype(quant.bits, quant.signed)
        return [self.constant(np.float32(quant.scale)), self.constant(np.array(quant.zero_point, dtype))]

    def quantize(self, real: str, quant: ActQuant, output: str = "") -> str:
        return self.node("QuantizeLinear", [real, *self.format(quant)], output)

    def dequantize(self, stored: str, quant: ActQuant) -> str:
        return self.node("DequantizeLinear", [stored, *self.format(quant)])

    def real(self, name: str) -> str:
        """Return the real value of a tensor: each reader gets a DequantizeLinear of its own, as exporters write it."""
        return name if self.quants is None else self.dequantize(name, self.quants[name])

    def store(self, layer: Layer, real: str, shape: tuple[int, ...] | None = None) -> None:
        """Write activation and quantization behind an operator; the stored tensor is named as the layer."""
        if self.quants is None:
            out = self.reshape(real, shape)
            self.activate(layer, out, layer.name)
            return
        final, limits = self.quants[layer.name], clamp_limits(layer)
        if limits is None:
            before = self.quants[layer.name + PRE]
            stored = self.clip(self.quantize(real, before), before, (-math.inf, math.inf))
            real, limits = self.activate(layer, self.dequantize(stored, before), ""), (-math.inf, math.inf)
        stored = self.clip(self.quantize(real, final), final, limits)
        self.node("Identity", [self.reshape(stored, shape)], layer.name)

    def clip(self, stored: str, quant: ActQuant, limits: tuple[float, float]) -> str:
        """Clamp stored integers where the activation or the bits are narrower than the stored type."""
        dtype = choose_dtype(quant.bits, quant.signed)
        low, high = (int(quantize_activation(np.array(limit), quant)) for limit in limits)
        info = np.iinfo(dtype)
        if (low, high) == (info.min, info.max):
            return stored
        return self.node("Clip", [stored, self.constant(np.array(low, dtype)), self.constant(np.array(high, dtype))])

    def activate(self, layer: Layer, real: str, output: str) -> str:
        limits = clamp_limits(layer)
        if layer.activation == "none":
            return self.node("Identity", [real], output) if output else real
        if limits is not None and layer.activation != "relu":
            bounds = [self.constant(np.float32(limit)) if math.isfinite(limit) else "" for limit in limits]
            return self.node("Clip", [real, *bounds], output)
        if layer.activation == "silu":
            return self.node("Mul", [real, self.node("Sigmoid", [real])], output)
        alpha = layer.attr("alpha", 0.01) if layer.activation == "leaky_relu" else layer.attr("alpha")
        beta = layer.attr("beta") if layer.activation == "hard_sigmoid" else None
        return self.node(_ACTIVATIONS[layer.activation], [real], output, alpha=alpha, beta=beta)

    def reshape(self, name: str, shape: tuple[int, ...] | None) -> str:
        if shape is None:
            return name
        return self.node("Reshape", [name, self.constant(np.array([self.batch, *shape[1:]], np.int64))])

    # Operators.

    def write(self, layer: Layer) -> None:
        if layer.kind == "mac" or layer.op == "scale":
            self.write_mac(layer)
        elif layer.op in ("add", "mul"):
            self.store(layer, self.node(layer.op.capitalize(), [self.real(name) for name in layer.inputs]))
        elif layer.op in ("maxpool", "avgpool"):
            self.write_pool(layer)
        elif layer.op == "activation" and self.quants is None:
            self.activate(layer, layer.inputs[0], layer.name)
        elif layer.op == "activation":
            real = self.activate(layer, self.real(layer.inputs[0]), "")
            final = self.quants[layer.name]
            stored = self.clip(self.quantize(real, final), final, (-math.inf, math.inf))
            self.node("Identity", [stored], layer.name)
        elif layer.op == "softmax":
            real, final = self.real(layer.inputs[0]), (self.quants or {}).get(layer.name)
            out = self.node("Softmax", [real], "" if final else layer.name, axis=1)
            if final is not None:
                self.quantize(out, final, layer.name)
        elif layer.op == "lrn":
            attrs = {key: layer.attr(key) for key in ("alpha", "beta", "bias", "size")}
            self.store(layer, self.node("LRN", [self.real(layer.inputs[0])], **attrs))
        else:
            self.write_move(layer)

    def write_mac(self, layer: Layer) -> None:
        found, source = self.tensors.layers[layer.name], layer.inputs[0]
        # ONNX Runtime has no QGemm of signed activations: such a gemm is written as the 1x1 convolution that it is.
        as_gemm = layer.op == "gemm" and (self.quants is None or not self.quants[layer.inputs[0]].signed)
        if as_gemm:
            source = self.reshape(source, (layer.N, layer.C))
        shape = (layer.G * layer.K, layer.C, layer.R, layer.S) if layer.kind == "mac" else (layer.G, 1, 1, 1)
        real = source if self.quants is None else self.read(layer, source)
        parameters = self.write_weights(layer, found, shape[:2] if as_gemm else shape)
        if as_gemm:
            self.store(layer, self.node("Gemm", [real, *parameters], transB=1), layer.out_shape)
            return
        attrs = {
            "group": layer.G,
            "strides": list(layer.stride),
            "pads": list(layer.padding),
            "dilations": list(layer.dilation),
            "kernel_shape": list(shape[2:]),
        }
        self.store(layer, self.node("Conv", [real, *parameters], **attrs))

    def read(self, layer: Layer, source: str) -> str:
        """Return the real input of a MAC layer, quantized again where the layer reads fewer bits than are stored."""
        assert self.quants is not None
        quant = self.quants[layer.inputs[0]]
        real, narrow = self.dequantize(source, quant), self.quants.get(layer.name + INPUT)
        if narrow is None:
            return real
        stored = self.clip(self.quantize(real, narrow), narrow, (-math.inf, math.inf))
        return self.dequantize(stored, narrow)

    def write_weights(self, layer: Layer, found: LayerTensors, shape: tuple[int, ...]) -> list[str]:
        weight = found.weight.reshape(shape)
        if self.quants is None:
            bias = [] if found.bias is None else [self.constant(found.bias.astype(np.float32))]
            return [self.constant(weight.astype(np.float32)), *bias]
        assert found.w_scale is not None
        channels = np.broadcast_to(found.w_scale.astype(np.float32), shape[:1]).copy()
        zeros = np.zeros(shape[0], weight.dtype) if found.w_zero is None else found.w_zero.astype(weight.dtype)
        zeros = np.broadcast_to(zeros, shape[:1]).copy()
        inputs = [self.constant(weight), self.constant(channels), self.constant(zeros)]
        names = [self.node("DequantizeLinear", inputs, axis=0)]
        if found.bias is not None:
            quant = self.quants.get(layer.name + INPUT, self.quants[layer.inputs[0]])
            scale = (np.float32(quant.scale) * channels).astype(np.float32)
            inputs = [self.constant(found.bias.astype(np.int32)), self.constant(scale)]
            inputs.append(self.constant(np.zeros(len(scale), np.int32)))
            names.append(self.node("DequantizeLinear", inputs, axis=0))
        return names

    def write_pool(self, layer: Layer) -> None:
        real = self.real(layer.inputs[0])
        if layer.op == "avgpool" and (layer.R, layer.S) == (layer.H, layer.W):
            self.store(layer, self.node("GlobalAveragePool", [real]))
            return
        attrs: dict[str, object] = {
            "kernel_shape": [layer.R, layer.S],
            "strides": list(layer.stride),
            "pads": list(layer.padding),
        }
        if layer.op == "avgpool":
            attrs["count_include_pad"] = layer.attr("count_include_pad", 0)
        self.store(layer, self.node("MaxPool" if layer.op == "maxpool" else "AveragePool", [real], **attrs))

    def write_move(self, layer: Layer) -> None:
        """Write what moves elements on the stored integers themselves; a concatenation dequantizes and quantizes."""
        source, shape = layer.inputs[0], self.network.shape_of(layer.inputs[0])
        if layer.op == "concat" and self.quants is not None:
            self.store(layer, self.node("Concat", [self.real(name) for name in layer.inputs], axis=1))
        elif layer.op == "concat":
            self.node("Concat", list(layer.inputs), layer.name, axis=1)
        elif layer.op in ("flatten", "reshape"):
            self.node("Identity", [self.reshape(source, layer.out_shape)], layer.name)
        elif layer.op == "transpose":
            self.node("Transpose", [source], layer.name, perm=list(layer.attr("perm")))  # type: ignore[arg-type]
        elif layer.op == "shuffle":
            groups = int(layer.attr("groups"))  # type: ignore[arg-type]
            split = self.reshape(source, (1, groups, shape[1] // groups, *shape[2:]))
            swapped = self.node("Transpose", [split], perm=[0, 2, 1, 3, 4])
            self.node("Identity", [self.reshape(swapped, layer.out_shape)], layer.name)
        elif layer.op == "slice":
            bounds = [self.constant(np.array([layer.attr(key)], np.int64)) for key in ("start", "stop")]
            self.node("Slice", [source, *bounds, self.constant(np.array([1], np.int64))], layer.name)
        elif layer.op == "pad":
            top, left, bottom, right = layer.padding
            pads = self.constant(np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
            zero: np.ndarray = np.array(0, np.float32)
            if self.quants is not None:
                quant = self.quants[layer.name]
                zero = np.array(quant.zero_point, choose_dtype(quant.bits, quant.signed))
            self.node("Pad", [source, pads, self.constant(zero)], layer.name)
        else:
            self.node("Identity", [source], layer.name)

    def finish(self) -> onnx.ModelProto:
        inputs = []
        for spec in self.network.inputs:
            name = spec.name if self.quants is None else f"{spec.name}.real"
            inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [self.batch, *spec.shape[1:]]))
            if self.quants is not None:
                quant = self.quants[spec.name]
                stored = self.clip(self.quantize(name, quant), quant, (-math.inf, math.inf))
                self.node("Identity", [stored], spec.name)
        for layer in self.network.layers:
            self.write(layer)
            quant = None if self.quants is None else self.quants.get(layer.name)
            dtype = np.dtype(np.float32) if quant is None else choose_dtype(quant.bits, quant.signed)
            self.expose(layer.name, dtype, layer.out_shape)
        graph = helper.make_graph(self.nodes, "network", inputs, self.outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        return model


def write_qdq(network: Network, tensors: Tensors, batch: int = 1) -> onnx.ModelProto:
    """Return the QDQ graph of a quantized network of at most 8 bits; inputs are named ``<input>.real`` and float."""
    return Writer(network, tensors, quantized=True, batch=batch).finish()


def write_float(network: Network, tensors: Tensors, batch: int = 1) -> onnx.ModelProto:
    """Return the float graph of a network."""
    return Writer(network, tensors, quantized=False, batch=batch).finish()


def run_onnx(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Run a model in ONNX Runtime on the CPU; return every output and the operators of the optimized graph.

    Signed activations need ``session.qdqisint8allowed`` to be fused; unsigned ones ``session.x64quantprecision``, which keeps
    u8 x s8 products exact on machines without VNNI, where they would saturate at 16 bits. A graph that mixes signed and
    unsigned activations is not fused whole: ONNX Runtime has no convolution from one to the other.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    signed = all(output.type.tensor_type.elem_type != TensorProto.UINT8 for output in model.graph.output)
    options.add_session_config_entry("session.qdqisint8allowed" if signed else "session.x64quantprecision", "1")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(path)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        operators = [node.op_type for node in onnx.load(str(path), load_external_data=False).graph.node]
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True)), operators
