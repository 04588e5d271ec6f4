"""Elementwise operators of ONNX: sums, products, normalization, activations."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwsim.core.layer import Attr
from hwsim.nets.onnx_const import Const, check_axis
from hwsim.nets.onnx_read import Node, Problem
from hwsim.nets.onnx_walk import Act, Unpriced, Value, Walk, fold_axis, need_act

Ins = list[Value | None]


def convert_unary(walk: Walk, node: Node, x: Act, activation: str, attrs: dict[str, Attr] | None = None) -> Act:
    """Append an activation, in front of the transposition that made ``x`` if there is one."""
    if x.before is not None:
        return walk.transpose(node, convert_unary(walk, node, x.before[0], activation, attrs), x.before[1])
    return walk.emit(node, "activation", [x], x.shape, activation=activation, attrs=dict(attrs or {}))


def convert_activation(walk: Walk, node: Node, ins: Ins) -> Act:
    """Relu and its kin."""
    x = need_act(ins)
    if node.op == "LeakyRelu":
        return convert_unary(walk, node, x, "leaky_relu", {"alpha": node.number("alpha", 0.01)})
    if node.op == "HardSigmoid":
        attrs: dict[str, Attr] = {"alpha": node.number("alpha", 0.2), "beta": node.number("beta", 0.5)}
        return convert_unary(walk, node, x, "hard_sigmoid", attrs)
    if node.op == "Swish" and node.number("alpha", 1.0) != 1.0:
        raise Unpriced("a swish with an alpha other than 1")
    if node.op == "Gelu":
        return convert_unary(walk, node, x, "gelu", {"approximate": node.text("approximate", "none")})
    names = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "HardSwish": "hard_swish", "Swish": "silu"}
    return convert_unary(walk, node, x, names[node.op])


def convert_prelu(walk: Walk, node: Node, ins: Ins) -> Act:
    """PRelu: a leaky_relu, whose slopes are per channel in the layer's weight where they differ."""
    x = need_act(ins)
    slope = ins[1] if len(ins) > 1 else None
    if not isinstance(slope, Const):
        raise Unpriced("its slopes are computed at run time")
    flat = slope.array.reshape(-1)
    if flat.size == 1 or (flat.size > 0 and (flat == flat[0]).all()):
        return convert_unary(walk, node, x, "leaky_relu", {"alpha": float(flat[0])})
    if flat.size != x.shape[1]:
        raise Unpriced(f"slopes of shape {list(slope.array.shape)}")
    act = walk.emit(node, "activation", [x], x.shape, activation="leaky_relu", weight=flat.reshape(-1, 1, 1, 1))
    walk.sketch.note("slopes per channel of a leaky_relu are in the layer's weight", act.tensor)
    return act


def _read_bound(node: Node, ins: Ins, index: int, key: str, default: float) -> float:
    value = ins[index] if len(ins) > index else None
    if isinstance(value, Act):
        raise Unpriced("its bounds are computed at run time")
    if value is None:
        return node.number(key, default)
    if value.array.size != 1:
        raise Problem("has a bound that is not one number")
    return float(value.array.reshape(-1)[0])


def convert_clip(walk: Walk, node: Node, ins: Ins) -> Act:
    """Clip: relu, relu6 or a general clip."""
    low, high = _read_bound(node, ins, 1, "min", -np.inf), _read_bound(node, ins, 2, "max", np.inf)
    return _clip(walk, node, need_act(ins), low, high)


def _clip(walk: Walk, node: Node, x: Act, low: float, high: float) -> Act:
    if np.isnan(low) or np.isnan(high):
        raise Problem("clips at NaN")
    largest = float(np.finfo(np.float32).max)
    low, high = max(low, -largest), min(high, largest)
    if low == 0 and high in (6.0, largest):
        return convert_unary(walk, node, x, "relu6" if high == 6.0 else "relu")
    return convert_unary(walk, node, x, "clip", {"low": low, "high": high})


def convert_softmax(walk: Walk, node: Node, ins: Ins) -> Act:
    """Softmax; over another axis than the channels the attribute ``axis`` says which of ``[N, C, H, W]``."""
    x = need_act(ins)
    axis = check_axis(node.integer("axis", 1 if walk.opset < 13 else -1), len(x.shape))
    place = fold_axis(axis, len(x.shape))
    if walk.opset < 13 and any(n != 1 for n in x.shape[axis + 1 :]):
        raise Unpriced("a softmax over several axes at once")
    return walk.emit(node, "softmax", [x], x.shape, attrs={} if place == 1 else {"axis": place})


def convert_lrn(walk: Walk, node: Node, ins: Ins) -> Act:
    """Local response normalization across channels."""
    x = need_act(ins)
    attrs: dict[str, Attr] = {
        key: node.number(key, value) for key, value in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    }
    return walk.emit(node, "lrn", [x], x.shape, attrs=attrs | {"size": node.integer("size", 1)})


def convert_batchnorm(walk: Walk, node: Node, ins: Ins) -> Act:
    """BatchNormalization with its stored statistics: an affine map per channel, computed in float64."""
    x = need_act(ins)
    if len(ins) < 5 or not all(isinstance(value, Const) for value in ins[1:5]):
        raise Unpriced("its statistics are not constant")
    channels = x.shape[1] if len(x.shape) > 1 else 1
    arrays = [value.array for value in ins[1:5] if isinstance(value, Const)]
    if any(array.size != channels or array.dtype.kind != "f" for array in arrays):
        raise Problem(f"has parameters of the sizes {[a.size for a in arrays]} for {channels} channels")
    gamma, beta, mean, var = (array.reshape(-1).astype(np.float64) for array in arrays)
    spread = var + node.number("epsilon", 1e-5)
    if (spread <= 0).any():
        raise Problem("has a variance that is not positive")
    factor = gamma / np.sqrt(spread)
    return _scale(walk, node, x, factor, beta - mean * factor, None)


def _scale(walk: Walk, node: Node, x: Act, factor: Any, offset: Any, stored: Any) -> Act:
    act = walk.emit(node, "scale", [x], x.shape)
    draft = walk.sketch.drafts[act.tensor]
    draft.weight = np.ascontiguousarray(factor, dtype=np.float64)
    draft.bias = np.ascontiguousarray(offset, dtype=np.float64)
    draft.stored_bias = stored
    return act


def convert_binary(walk: Walk, node: Node, ins: Ins) -> Act:
    """Add, Sum, Sub, Mul, Div: of activations, or an affine map where one operand is constant."""
    if len(ins) == 1:
        return need_act(ins)
    acts = [value for value in ins if isinstance(value, Act)]
    consts = [value for value in ins if isinstance(value, Const)]
    if len(acts) + len(consts) != len(ins):
        raise Problem("lacks an input")
    if consts:
        if len(ins) != 2:
            raise Unpriced("more than one constant or activation in a sum with constants")
        return _affine(walk, node, acts[0], consts[0], const_first=isinstance(ins[0], Const))
    if node.op not in ("Add", "Sum", "Mul", "Sub"):
        raise Unpriced("both operands are activations")
    if len({len(act.shape) for act in acts}) != 1:
        raise Unpriced(f"operands of the ranks {[len(act.shape) for act in acts]}")
    if all(act.before is not None for act in acts):
        befores = [act.before for act in acts if act.before is not None]
        if len({perm for _, perm in befores}) == 1 and len({act.shape for act, _ in befores}) == 1:
            joined = _combine(walk, node, [act for act, _ in befores])
            return walk.transpose(node, joined, befores[0][1])
    return _combine(walk, node, acts)


def _combine(walk: Walk, node: Node, acts: list[Act]) -> Act:
    try:
        shape = np.broadcast_shapes(*(act.shape for act in acts))
    except ValueError:
        raise Problem(f"combines the shapes {[list(act.shape) for act in acts][:4]}") from None
    attrs: dict[str, Attr] = {"negate_second": 1} if node.op == "Sub" else {}
    return walk.emit(node, "mul" if node.op == "Mul" else "add", acts, tuple(shape), attrs=attrs)


def _affine(walk: Walk, node: Node, x: Act, const: Const, const_first: bool) -> Act:
    """A constant per channel (or one number) is added or multiplied."""
    array = const.array
    if array.dtype.kind not in "fiu":
        raise Problem(f"has a constant operand of the type {array.dtype}")
    shape = (1,) * (len(x.shape) - array.ndim) + array.shape
    wide = [axis for axis, n in enumerate(shape) if n != 1]
    if len(shape) != len(x.shape) or any(shape[axis] != x.shape[axis] for axis in wide):
        raise Unpriced(f"a constant of shape {list(array.shape)} with an activation of shape {list(x.shape)}")
    if len(wide) > 1:
        raise Unpriced(f"a constant of shape {list(array.shape)} that differs within a channel")
    channel_axis = 1 if len(x.shape) > 1 else 0
    if wide and wide[0] != channel_axis:
        return _affine_elsewhere(walk, node, x, const, wide[0], const_first)
    channels = x.shape[channel_axis] if x.shape else 1
    values = np.broadcast_to(array.reshape(-1).astype(np.float64), channels)
    one, zero = np.ones(channels), np.zeros(channels)
    if node.op in ("Add", "Sum"):
        held = const.stored
        stored = None
        if held is not None and held.bits == 32 and not held.zero.any() and held.stored.size == channels:
            stored = (held.stored.reshape(-1), held.scale)
        return _scale(walk, node, x, one, values, stored)
    if node.op == "Sub":
        return _scale(walk, node, x, -one if const_first else one, values if const_first else -values, None)
    if node.op == "Mul":
        return _scale(walk, node, x, values, zero, None)
    if const_first:
        raise Unpriced("a constant divided by an activation")
    if (values == 0).any():
        raise Problem("divides by zero")
    return _scale(walk, node, x, 1 / values, zero, None)


def _affine_elsewhere(walk: Walk, node: Node, x: Act, const: Const, axis: int, const_first: bool) -> Act:
    """The constant runs along another axis than the channels: transpose, map, transpose back."""
    rank = len(x.shape)
    if axis == 0:
        raise Unpriced("a constant that differs along the batch")
    perm = (0, axis, *(a for a in range(1, rank) if a != axis))
    back = tuple(int(a) for a in np.argsort(perm))
    moved = walk.transpose(node, x, perm)
    flat = Const(array=const.array.reshape(-1, *((1,) * (rank - 2))), stored=const.stored)
    return walk.transpose(node, _affine(walk, node, moved, flat, const_first), back)


def convert_minmax(walk: Walk, node: Node, ins: Ins) -> Act:
    """Min or Max with one number: a clip."""
    acts = [value for value in ins if isinstance(value, Act)]
    consts = [value for value in ins if isinstance(value, Const)]
    if len(acts) != 1 or len(consts) != 1 or consts[0].array.size != 1:
        raise Unpriced("it does not compare an activation with one number")
    bound = float(consts[0].array.reshape(-1)[0])
    return _clip(walk, node, acts[0], *((-np.inf, bound) if node.op == "Min" else (bound, np.inf)))
