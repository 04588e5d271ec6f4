"""Convolutions, matrix products and pooling of ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.nets.draft import Draft, StoredWeight
from hwsim.nets.onnx_const import Const, check_axis, read_axes
from hwsim.nets.onnx_read import Node, Problem
from hwsim.nets.onnx_walk import Act, Unpriced, Value, Walk, need_act

Ins = list[Value | None]


def read_window(node: Node, size: tuple[int, ...], window: tuple[int, ...]) -> dict[str, Any]:
    """Read strides, dilations and padding of a convolution or pooling over one or two spatial axes.

    Returns the fields of ``Layer`` and under ``out`` the spatial output shape. A pooling that rounds up gets the missing
    rows below and columns to the right as padding.
    """
    rank = len(size)
    strides, dilations = node.integers("strides", (1,) * rank), node.integers("dilations", (1,) * rank)
    pads = node.integers("pads", (0,) * (2 * rank))
    mode = node.text("auto_pad", "NOTSET")
    if len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank or len(window) != rank:
        raise Problem(f"has strides, dilations or pads that do not fit {rank} spatial axes")
    if (
        min((*strides, *dilations, *window)) < 1
        or min(pads) < 0
        or max((*strides, *dilations, *pads, *window)) > 1 << 16
    ):
        raise Problem("has a stride, dilation or window below 1, a negative padding, or one beyond 65,536")
    out, begin, end = [], [], []
    for axis in range(rank):
        reach = dilations[axis] * (window[axis] - 1) + 1
        before, after = pads[axis], pads[axis + rank]
        if mode in ("SAME_UPPER", "SAME_LOWER"):
            wanted = -(-size[axis] // strides[axis])
            total = max(0, (wanted - 1) * strides[axis] + reach - size[axis])
            before, after = (
                (total // 2, total - total // 2) if mode == "SAME_UPPER" else (total - total // 2, total // 2)
            )
        elif mode == "VALID":
            before = after = 0
        elif mode != "NOTSET":
            raise Problem(f"has the auto_pad {mode[:20]!r}")
        room = size[axis] + before + after - reach
        if room < 0:
            raise Problem(f"has a window of {reach} over {size[axis] + before + after} padded elements")
        count = room // strides[axis] + 1
        if node.integer("ceil_mode", 0) and room % strides[axis] and count * strides[axis] < size[axis] + before:
            after += strides[axis] - room % strides[axis]
            count += 1
        out.append(count)
        begin.append(before)
        end.append(after)
    if rank == 1:  # [N, C, L] stands as [N, C, 1, L]
        strides, dilations, begin, end, window, size = (
            (1, *strides),
            (1, *dilations),
            [0, *begin],
            [0, *end],
            (1, *window),
            (1, *size),
        )
    return {
        "dims": {
            "stride": tuple(strides),
            "dilation": tuple(dilations),
            "padding": (begin[0], begin[1], end[0], end[1]),
            "R": window[0],
            "S": window[1],
            "H": size[0],
            "W": size[1],
        },
        "out": tuple(out),
    }


def attach_weight(walk: Walk, draft: Draft, const: Const, order: tuple[int, ...], factor: float = 1.0) -> None:
    """Give a draft its weight: the constant's axes permuted by ``order`` and reshaped to ``[G*K, C, R, S]``."""
    dims = draft.dims
    shape = (dims["G"] * dims["K"], dims["C"], dims.get("R", 1), dims.get("S", 1))
    draft.parameter, draft.filled = const.name, const.filled
    if const.filled:
        return
    if const.array.dtype.kind != "f":
        raise Problem(f"has weights of the type {const.array.dtype}")
    held = const.stored
    if held is not None and (held.scale.size == 1 or order[0] == held.axis):
        scale = held.scale * factor
        stored = np.ascontiguousarray(held.stored.transpose(order)).reshape(shape)
        draft.stored = StoredWeight(stored=stored, scale=scale, zero=held.zero, axis=0, bits=held.bits)
        return
    if held is not None:
        walk.sketch.note(
            f"weights quantized along axis {held.axis}, expected {order[0]} (output channels), taken as float",
            draft.name,
        )
    weight = const.array.transpose(order).reshape(shape)
    draft.weight = weight if factor == 1.0 else weight * np.float64(factor)


def attach_bias(draft: Draft, const: Const | None, channels: int, factor: float = 1.0) -> None:
    """Give a draft its bias (one number or one per output channel)."""
    if const is None or draft.filled:
        return
    if const.array.size not in (1, channels) or const.array.dtype.kind != "f":
        raise Problem(f"has a bias of shape {list(const.array.shape)} for {channels} output channels")
    if const.stored is not None and const.stored.bits == 32 and not const.stored.zero.any() and factor == 1.0:
        draft.stored_bias = (np.broadcast_to(const.stored.stored.reshape(-1), channels), const.stored.scale)
    else:
        draft.bias = np.broadcast_to(const.array.reshape(-1).astype(np.float64) * factor, channels)


def _optional_const(ins: Ins, index: int, what: str) -> Const | None:
    value = ins[index] if len(ins) > index else None
    if isinstance(value, Act):
        raise Unpriced(f"its {what} are computed at run time")
    return value


def convert_conv(walk: Walk, node: Node, ins: Ins) -> Act:
    """Conv: one or two spatial axes, groups, dilation, padding."""
    x, weight = need_act(ins), _optional_const(ins, 1, "weights")
    if weight is None:
        raise Problem("lacks its weights")
    rank = len(x.shape) - 2
    if rank not in (1, 2):
        raise Unpriced(f"a convolution over {rank} spatial axes")
    w_shape = weight.array.shape
    groups = node.integer("group", 1)
    if (
        len(w_shape) != rank + 2
        or groups < 1
        or w_shape[1] * groups != x.shape[1]
        or w_shape[0] % groups
        or not w_shape[0]
    ):
        raise Problem(f"has weights of shape {list(w_shape)} and {groups} groups for an input of shape {list(x.shape)}")
    kernel = node.integers("kernel_shape", tuple(w_shape[2:]))
    if kernel != tuple(w_shape[2:]):
        raise Problem(f"has the kernel_shape {list(kernel)} for weights of shape {list(w_shape)}")
    window = read_window(node, x.shape[2:], kernel)
    dims = window["dims"] | {"G": groups, "K": w_shape[0] // groups, "C": w_shape[1]}
    draft_act = walk.emit(node, "conv", [x], (x.shape[0], w_shape[0], *window["out"]), dims=dims)
    draft = walk.sketch.drafts[draft_act.tensor]
    attach_weight(walk, draft, weight, tuple(range(rank + 2)))
    attach_bias(draft, _optional_const(ins, 2, "biases"), w_shape[0])
    return draft_act


def convert_gemm(walk: Walk, node: Node, ins: Ins) -> Act:
    """Gemm with a constant second operand: alpha and beta go into weight and bias."""
    if not isinstance(ins[0], Act) or node.integer("transA", 0):
        raise Unpriced("its first operand is constant or transposed")
    x, weight = need_act(ins), _optional_const(ins, 1, "weights")
    if weight is None or len(x.shape) != 2 or weight.array.ndim != 2:
        raise Problem("does not multiply an activation of rank 2 by a constant of rank 2")
    order = (0, 1) if node.integer("transB", 0) else (1, 0)
    outputs, inputs = (weight.array.shape[axis] for axis in order)
    if inputs != x.shape[1]:
        raise Problem(f"has weights of {inputs} inputs for an input of shape {list(x.shape)}")
    act = walk.emit(node, "gemm", [x], (x.shape[0], outputs), dims={"G": 1, "K": outputs, "C": inputs, "H": 1, "W": 1})
    draft = walk.sketch.drafts[act.tensor]
    attach_weight(walk, draft, weight, order, node.number("alpha", 1.0))
    attach_bias(draft, _optional_const(ins, 2, "biases"), outputs, node.number("beta", 1.0))
    return act


def convert_matmul(walk: Walk, node: Node, ins: Ins) -> Act:
    """MatMul by a constant matrix: a gemm for vectors, a 1x1 convolution over the other positions of rank 3 and 4."""
    if len(ins) != 2 or not isinstance(ins[0], Act) or not isinstance(ins[1], Const):
        raise Unpriced("it does not multiply an activation by a constant")
    x, weight = ins[0], ins[1]
    if weight.array.ndim != 2 or len(x.shape) not in (2, 3, 4):
        raise Unpriced(f"shapes {list(x.shape)} and {list(weight.array.shape)}")
    inputs, outputs = weight.array.shape
    if x.shape[-1] != inputs:
        raise Problem(f"multiplies {list(x.shape)} by {list(weight.array.shape)}")
    dims: dict[str, Any] = {"G": 1, "K": outputs, "C": inputs}
    if len(x.shape) == 2:
        act = walk.emit(node, "gemm", [x], (x.shape[0], outputs), dims=dims | {"H": 1, "W": 1})
        attach_weight(walk, walk.sketch.drafts[act.tensor], weight, (1, 0))
        return act
    rank = len(x.shape)
    first = walk.transpose(node, x, (0, rank - 1, *range(1, rank - 1)))
    spatial = walk.sketch.shape4(first.tensor)[2:]
    act = walk.emit(
        node,
        "conv",
        [first],
        (x.shape[0], outputs, *x.shape[1:-1]),
        dims=dims | {"R": 1, "S": 1, "H": spatial[0], "W": spatial[1]},
    )
    attach_weight(walk, walk.sketch.drafts[act.tensor], weight, (1, 0))
    return walk.transpose(node, act, (0, *range(2, rank), 1))


def convert_pool(walk: Walk, node: Node, ins: Ins) -> Act:
    """MaxPool and AveragePool over one or two spatial axes."""
    x = need_act(ins)
    if len(x.shape) not in (3, 4):
        raise Unpriced(f"a pooling over {len(x.shape) - 2} spatial axes")
    if (
        len(node.outputs) > 1
        and node.outputs[1]
        and (walk.readers.get(node.outputs[1]) or node.outputs[1] in walk.model.outputs)
    ):
        raise Unpriced("the places of its maxima are read")
    window = read_window(node, x.shape[2:], node.integers("kernel_shape", ()))
    attrs = {}
    if node.op == "AveragePool":
        attrs["count_include_pad"] = node.integer("count_include_pad", 0)
    op = "maxpool" if node.op == "MaxPool" else "avgpool"
    return walk.emit(node, op, [x], (*x.shape[:2], *window["out"]), dims=window["dims"], attrs=attrs)


def _pool_all(walk: Walk, node: Node, x: Act, op: str, keep: bool) -> Act:
    size = (1, *x.shape[2:])[-2:]
    dims = {"R": size[0], "S": size[1], "H": size[0], "W": size[1], "stride": (1, 1)}
    shape = (*x.shape[:2], *((1,) * (len(x.shape) - 2) if keep else ()))
    return walk.emit(node, op, [x], shape, dims=dims)


def convert_global_pool(walk: Walk, node: Node, ins: Ins) -> Act:
    """GlobalAveragePool and GlobalMaxPool."""
    x = need_act(ins)
    if len(x.shape) not in (3, 4):
        raise Unpriced(f"a pooling of a tensor of rank {len(x.shape)}")
    return _pool_all(walk, node, x, "avgpool" if "Average" in node.op else "maxpool", keep=True)


def convert_reduce(walk: Walk, node: Node, ins: Ins) -> Act:
    """ReduceMean and ReduceMax over all spatial axes: a global pooling."""
    x = need_act(ins)
    given = read_axes(node, ins, 1)
    rank, source = len(x.shape), x
    axes = tuple(sorted(check_axis(axis, rank) for axis in given)) if given else tuple(range(rank))
    if (
        rank == 4
        and axes == (1, 2)
        and x.before is not None
        and x.before[1] == (0, 2, 3, 1)
        and not node.integer("keepdims", 1)
    ):
        axes, source = (2, 3), x.before[0]  # channels last: the mean over height and width all the same
    if rank not in (3, 4) or axes != tuple(range(2, rank)):
        raise Unpriced(f"a reduction over the axes {list(axes)} of {list(x.shape)}")
    op = "avgpool" if node.op == "ReduceMean" else "maxpool"
    return _pool_all(walk, node, source, op, keep=bool(node.integer("keepdims", 1)))
