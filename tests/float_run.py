"""A plain numpy interpreter of ``Network`` in float64: slow, obvious, used to compare importers with a runtime.

A tensor with a recorded quantization is rounded to its grid and turned back into reals, as a QDQ pair does.
"""

from __future__ import annotations

import math

import numpy as np

from hwsim.core.layer import Layer
from hwsim.core.network import Network
from hwsim.core.tensors import ActQuant, LayerTensors, Tensors


def round_to_grid(x, quant: ActQuant):
    q = np.clip(np.rint(x / quant.scale) + quant.zero_point, quant.low, quant.high)
    return (q - quant.zero_point) * quant.scale


def real_weight(held: LayerTensors):
    w = held.weight.astype(np.float64)
    if held.w_scale is None:
        return w
    zero = 0 if held.w_zero is None else held.w_zero.reshape(-1, 1, 1, 1)
    return (w - zero) * held.w_scale.astype(np.float64).reshape(-1, 1, 1, 1)


def windows(x, layer: Layer, fill: float):
    t, l, b, r = layer.padding
    x = np.pad(x, ((0, 0), (0, 0), (t, b), (l, r)), constant_values=fill)
    out = []
    for i in range(layer.R):
        for j in range(layer.S):
            y0, x0 = i * layer.dilation[0], j * layer.dilation[1]
            rows = slice(y0, y0 + (layer.P - 1) * layer.stride[0] + 1, layer.stride[0])
            cols = slice(x0, x0 + (layer.Q - 1) * layer.stride[1] + 1, layer.stride[1])
            out.append(x[:, :, rows, cols])
    return np.stack(out)  # [R*S, N, channels, P, Q]


def run_mac(layer: Layer, x, held: LayerTensors, in_scale: float | None):
    patches = windows(x, layer, 0.0).reshape(layer.R * layer.S, layer.N, layer.G, layer.C, layer.P, layer.Q)
    w = real_weight(held).reshape(layer.G, layer.K, layer.C, layer.R * layer.S)
    y = np.einsum("tngcpq,gkct->ngkpq", patches, w).reshape(layer.out_shape)
    if held.bias is not None:
        bias = held.bias.astype(np.float64)
        if held.bias.dtype == np.int32:
            bias = bias * held.w_scale.astype(np.float64) * in_scale
        y = y + bias.reshape(1, -1, 1, 1)
    return y


def activate(x, layer: Layer, held: LayerTensors | None):
    kind, attr = layer.activation, layer.attr
    if kind == "none":
        return x
    if kind == "leaky_relu":
        slope = attr("alpha") if attr("alpha") is not None else held.weight.reshape(1, -1, 1, 1)
        return np.where(x < 0, x * slope, x)
    if kind == "gelu":
        return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    table = {
        "relu": lambda: np.maximum(x, 0),
        "relu6": lambda: np.clip(x, 0, 6),
        "sigmoid": lambda: 1 / (1 + np.exp(-x)),
        "silu": lambda: x / (1 + np.exp(-x)),
        "tanh": lambda: np.tanh(x),
        "hard_sigmoid": lambda: np.clip(attr("alpha") * x + attr("beta"), 0, 1),
        "hard_swish": lambda: x * np.clip(x / 6 + 0.5, 0, 1),
        "clip": lambda: np.clip(x, attr("low"), attr("high")),
    }
    return table[kind]()


def run_layer(layer: Layer, ins, held, in_scale):
    x = ins[0]
    op = layer.op
    if op in ("conv", "gemm"):
        return run_mac(layer, x, held, in_scale)
    if op == "add":
        return x - ins[1] if layer.attr("negate_second") else sum(ins[1:], x)
    if op == "mul":
        return math.prod(ins[1:], start=x)
    if op == "maxpool":
        return windows(x, layer, -np.inf).max(axis=0)
    if op == "avgpool":
        ones = windows(np.ones_like(x), layer, float(layer.attr("count_include_pad", 0)))
        return windows(x, layer, 0.0).sum(axis=0) / ones.sum(axis=0)
    if op == "scale":
        return x * held.weight.reshape(1, -1, 1, 1) + held.bias.reshape(1, -1, 1, 1)
    if op == "softmax":
        axis = layer.attr("axis", 1)
        e = np.exp(x - x.max(axis=axis, keepdims=True))
        return e / e.sum(axis=axis, keepdims=True)
    if op == "lrn":
        size, half = layer.attr("size"), (layer.attr("size") - 1) // 2
        sq = np.stack([(x[:, max(0, c - half) : c - half + size] ** 2).sum(axis=1) for c in range(x.shape[1])], axis=1)
        return x / (layer.attr("bias") + layer.attr("alpha") / size * sq) ** layer.attr("beta")
    if op == "concat":
        return np.concatenate(ins, axis=1)
    if op == "slice":
        cut = [slice(None)] * 4
        cut[layer.attr("axis", 1)] = slice(layer.attr("start"), layer.attr("stop"), layer.attr("step", 1))
        return x[tuple(cut)]
    if op == "pad":
        t, l, b, r = layer.padding
        channels = (layer.attr("channels_before", 0), layer.attr("channels_after", 0))
        return np.pad(x, ((0, 0), channels, (t, b), (l, r)), constant_values=layer.attr("value", 0.0))
    if op == "transpose":
        perm = layer.attr("perm")
        return x.reshape(layer.attr("shape_in", x.shape)).transpose(perm).reshape(layer.out_shape)
    if op == "shuffle":
        g = layer.attr("groups")
        return x.reshape(layer.N, g, -1, layer.P, layer.Q).swapaxes(1, 2).reshape(layer.out_shape)
    assert op in ("flatten", "reshape", "identity", "activation"), op
    return x.reshape(layer.out_shape)


def run_float(network: Network, tensors: Tensors, inputs: dict) -> dict:
    """Return every tensor of the network as float64 arrays ``[N, C, H, W]``."""
    values: dict = {}
    scales: dict = {}

    def keep(name, x, sources):
        quant = tensors.activations.get(name)
        values[name] = x if quant is None else round_to_grid(x, quant)
        scales[name] = quant.scale if quant is not None else next((scales[s] for s in sources), None)

    for spec in network.inputs:
        keep(spec.name, np.asarray(inputs[spec.name], dtype=np.float64).reshape(spec.shape), ())
    for layer in network.layers:
        held = tensors.layers.get(layer.name)
        y = run_layer(layer, [values[name] for name in layer.inputs], held, scales[layer.inputs[0]])
        keep(layer.name, activate(y, layer, held).reshape(layer.out_shape), layer.inputs)
    return values
