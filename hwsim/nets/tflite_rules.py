"""Rules by which TFLite's operators become layers: shapes to channels first, windows with explicit padding, weights permuted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hwsim.core.layer import Attr
from hwsim.nets.draft import Draft, Shape4, StoredWeight
from hwsim.nets.tflite_read import TfOp, TfTensor
from hwsim.nets.tflite_walk import Problem, Unpriced, Walk, make_real, put_channels_first

_FUSED = {0: "none", 1: "relu", 3: "relu6", 4: "tanh"}
"""ActivationFunctionType of the schema; 2 is a clip to -1..1."""
_UNARY = {
    "RELU": "relu",
    "RELU6": "relu6",
    "LOGISTIC": "sigmoid",
    "TANH": "tanh",
    "HARD_SWISH": "hard_swish",
    "LEAKY_RELU": "leaky_relu",
    "GELU": "gelu",
}


def _fused(op: TfOp) -> tuple[str, dict[str, Attr]]:
    kind = op.options.get("FusedActivationFunction", 0)
    if kind == 2:
        return "clip", {"low": -1.0, "high": 1.0}
    if kind not in _FUSED:
        raise Unpriced(f"the fused activation {kind}")
    return _FUSED[kind], {}


def _window(op: TfOp, size: tuple[int, int], window: tuple[int, int]) -> tuple[dict[str, Any], tuple[int, int]]:
    """Return the fields of the layer, with SAME padding made explicit (the odd element at the end), and the output size."""
    stride = (op.options.get("StrideH", 1), op.options.get("StrideW", 1))
    dilation = (op.options.get("DilationHFactor", 1), op.options.get("DilationWFactor", 1))
    begin, end, out = [], [], []
    for axis in range(2):
        reach = dilation[axis] * (window[axis] - 1) + 1
        if stride[axis] < 1 or reach < 1:
            raise Problem("has a stride, dilation or window below 1")
        if op.options.get("Padding", 0) == 0:  # SAME
            count = -(-size[axis] // stride[axis])
            total = max(0, (count - 1) * stride[axis] + reach - size[axis])
        else:
            total = 0
            count = (size[axis] - reach) // stride[axis] + 1
        begin.append(total // 2)
        end.append(total - total // 2)
        out.append(count)
    dims = {
        "stride": stride,
        "dilation": dilation,
        "padding": (*begin, *end),
        "R": window[0],
        "S": window[1],
        "H": size[0],
        "W": size[1],
    }
    return dims, (out[0], out[1])


def _attach(draft: Draft, weight: TfTensor, bias: TfTensor | None, order: tuple[int, ...], out_axis: int) -> None:
    """Give a MAC draft its weight, axes permuted to ``[G*K, C, R, S]``, and its bias."""
    dims = draft.dims
    shape = (dims["G"] * dims["K"], dims["C"], dims.get("R", 1), dims.get("S", 1))
    draft.parameter = weight.name
    moved = np.ascontiguousarray(weight.data.transpose(order).reshape(shape))
    if weight.data.dtype.kind == "f":
        draft.weight = moved.astype(np.float32)
    elif weight.scale.size not in (1, shape[0]) or (weight.scale.size > 1 and weight.axis != out_axis):
        raise Problem(f"has {weight.scale.size} weight scales along axis {weight.axis} for {shape[0]} output channels")
    else:
        draft.stored = StoredWeight(stored=moved, scale=weight.scale, zero=weight.zero, axis=0, bits=weight.bits)
    if bias is None:
        return
    if bias.data.size != shape[0]:
        raise Problem(f"has {bias.data.size} biases for {shape[0]} output channels")
    if draft.stored is not None and bias.data.dtype == np.int32 and bias.scale.size:
        draft.stored_bias = (bias.data.reshape(-1), bias.scale)
    else:
        draft.bias = make_real(bias).reshape(-1).astype(np.float64)


def _convert_conv(walk: Walk, op: TfOp) -> str:
    x, weight = walk.act(op, 0), walk.const(op, 1)
    n, channels, height, width = walk.sketch.shape4(x)
    if weight is None or weight.data.ndim != 4:
        raise Problem("lacks a weight of rank 4")
    depthwise = op.op == "DEPTHWISE_CONV_2D"
    if depthwise:  # [1, R, S, C * multiplier]
        outputs, inputs, order, out_axis = weight.shape[3], 1, (3, 0, 1, 2), 3
        groups = channels
    else:  # [K, R, S, C]
        outputs, inputs, order, out_axis = weight.shape[0], weight.shape[3], (0, 3, 1, 2), 0
        groups = channels // inputs if inputs else 0
    if groups < 1 or groups * inputs != channels or outputs % groups:
        raise Problem(f"has weights of shape {list(weight.shape)} for {channels} input channels")
    dims, out = _window(op, (height, width), (weight.shape[1], weight.shape[2]))
    activation, attrs = _fused(op)
    dims |= {"G": groups, "K": outputs // groups, "C": inputs}
    draft = walk.emit(op, "conv", [x], (n, outputs, *out), dims=dims, activation=activation, attrs=attrs)
    _attach(draft, weight, walk.const(op, 2), order, out_axis)
    return draft.name


def _convert_dense(walk: Walk, op: TfOp) -> str:
    x, weight = walk.act(op, 0), walk.const(op, 1)
    if weight is None or weight.data.ndim != 2 or op.options.get("WeightsFormat", 0):
        raise Problem("lacks a plain weight of rank 2")
    outputs, inputs = weight.shape
    shape = walk.tensor(op.inputs[0]).shape
    if len(shape) != 2 and inputs != int(np.prod(shape[1:])):
        raise Unpriced(f"an input of shape {list(shape)}")
    if len(shape) > 2:
        x = _reorder(walk, op, x, (shape[0], inputs))
    n, channels = walk.sketch.shape4(x)[:2]
    if channels != inputs:
        raise Problem(f"has weights of {inputs} inputs for an input of {channels}")
    activation, attrs = _fused(op)
    dims = {"G": 1, "K": outputs, "C": inputs, "H": 1, "W": 1}
    draft = walk.emit(op, "gemm", [x], (n, outputs, 1, 1), dims=dims, activation=activation, attrs=attrs)
    _attach(draft, weight, walk.const(op, 2), (0, 1), 0)
    return draft.name


def _convert_pool(walk: Walk, op: TfOp) -> str:
    x = walk.act(op, 0)
    n, channels, height, width = walk.sketch.shape4(x)
    dims, out = _window(op, (height, width), (op.options.get("FilterHeight", 1), op.options.get("FilterWidth", 1)))
    activation, attrs = _fused(op)
    kind = "maxpool" if op.op == "MAX_POOL_2D" else "avgpool"
    if kind == "avgpool":
        attrs["count_include_pad"] = 0
    return walk.emit(op, kind, [x], (n, channels, *out), dims=dims, activation=activation, attrs=attrs).name


def _convert_mean(walk: Walk, op: TfOp) -> str:
    x, axes = walk.act(op, 0), walk.const(op, 1)
    shape = walk.tensor(op.inputs[0]).shape
    if axes is None or len(shape) != 4 or sorted(int(a) % 4 for a in axes.data.reshape(-1)) != [1, 2]:
        raise Unpriced("a mean over other axes than height and width")
    n, channels, height, width = walk.sketch.shape4(x)
    dims = {"R": height, "S": width, "H": height, "W": width}
    return walk.emit(op, "avgpool", [x], (n, channels, 1, 1), dims=dims, attrs={"count_include_pad": 0}).name


def _convert_combine(walk: Walk, op: TfOp) -> str:
    acts = [walk.act(op, place) for place in range(len(op.inputs))]
    if len({len(walk.tensor(index).shape) for index in op.inputs}) != 1:
        raise Unpriced("operands of different ranks")
    activation, attrs = _fused(op)
    out = put_channels_first(walk.tensor(op.outputs[0]).shape)
    if op.op == "SUB":
        attrs["negate_second"] = 1
    return walk.emit(op, "mul" if op.op == "MUL" else "add", acts, out, activation=activation, attrs=attrs).name


def _convert_concat(walk: Walk, op: TfOp) -> str:
    rank = len(walk.tensor(op.outputs[0]).shape)
    if op.options.get("Axis", -1) % rank != rank - 1 or op.options.get("FusedActivationFunction", 0):
        raise Unpriced("a concatenation along another axis than the channels")
    acts = [walk.act(op, place) for place in range(len(op.inputs))]
    return walk.emit(op, "concat", acts, put_channels_first(walk.tensor(op.outputs[0]).shape)).name


def _reorder(walk: Walk, op: TfOp, x: str, shape: tuple[int, ...]) -> str:
    """Reshape in channels-last order: the values are put into that order, reshaped, and back where that matters."""
    quant = walk.sketch.quant_of(x)
    first, out = walk.sketch.shape4(x), put_channels_first(shape)
    if first == out:
        return x

    def move(kind: str, source: str, to: Shape4, **attrs: Attr) -> str:
        draft = walk.emit(op, kind, [source], to, attrs=attrs)
        draft.quant = quant
        return draft.name

    if first[1] > 1 and first[2] * first[3] > 1:
        first = (first[0], first[2], first[3], first[1])
        x = move("transpose", x, first, perm=(0, 2, 3, 1))
    if out[1] > 1 and out[2] * out[3] > 1:
        last = (out[0], out[2], out[3], out[1])
        return move("transpose", move("reshape", x, last, shape=last[1:]), out, perm=(0, 3, 1, 2))
    return move("flatten", x, out) if len(shape) == 2 else move("reshape", x, out, shape=out[1:])


def _convert_reshape(walk: Walk, op: TfOp) -> str:
    x, shape = walk.act(op, 0), walk.tensor(op.outputs[0]).shape
    if int(np.prod(shape)) != int(np.prod(walk.tensor(op.inputs[0]).shape)):
        raise Problem(f"reshapes {list(walk.tensor(op.inputs[0]).shape)} to {list(shape)}")
    return _reorder(walk, op, x, shape)


def _convert_softmax(walk: Walk, op: TfOp) -> str:
    x = walk.act(op, 0)
    if op.options.get("Beta", 1.0) != 1.0:
        raise Unpriced(f"a softmax with beta {op.options['Beta']}")
    return walk.emit(op, "softmax", [x], walk.sketch.shape4(x)).name


def _convert_unary(walk: Walk, op: TfOp) -> str:
    x = walk.act(op, 0)
    attrs: dict[str, Attr] = {"alpha": float(op.options.get("Alpha", 0.0))} if op.op == "LEAKY_RELU" else {}
    return walk.emit(op, "activation", [x], walk.sketch.shape4(x), activation=_UNARY[op.op], attrs=attrs).name


def _convert_requantize(walk: Walk, op: TfOp) -> str:
    """QUANTIZE and DEQUANTIZE of an activation: an identity layer, whose output has its own format."""
    x = walk.act(op, 0)
    return walk.emit(op, "identity", [x], walk.sketch.shape4(x)).name


def _convert_pad(walk: Walk, op: TfOp) -> str:
    x, pads = walk.act(op, 0), walk.const(op, 1)
    if (
        pads is None
        or pads.data.shape != (4, 2)
        or (pads.data < 0).any()
        or pads.data[0].any()
        or pads.data.max() > 1 << 16
    ):
        raise Unpriced("pads of another form than height, width and channels")
    (top, bottom), (left, right), (before, after) = pads.data[1:].tolist()
    attrs: dict[str, Attr] = {"channels_before": before, "channels_after": after} if before or after else {}
    out = put_channels_first(walk.tensor(op.outputs[0]).shape)
    draft = walk.emit(op, "pad", [x], out, dims={"padding": (top, left, bottom, right)}, attrs=attrs)
    return draft.name


RULES: dict[str, Callable[[Walk, TfOp], str]] = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), _convert_conv),
    "FULLY_CONNECTED": _convert_dense,
    **dict.fromkeys(("MAX_POOL_2D", "AVERAGE_POOL_2D"), _convert_pool),
    "MEAN": _convert_mean,
    **dict.fromkeys(("ADD", "SUB", "MUL"), _convert_combine),
    "CONCATENATION": _convert_concat,
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS"), _convert_reshape),
    "SOFTMAX": _convert_softmax,
    **dict.fromkeys(_UNARY, _convert_unary),
    **dict.fromkeys(("QUANTIZE", "DEQUANTIZE"), _convert_requantize),
    "PAD": _convert_pad,
}
"""By operator: what adds its layer and returns its name."""
