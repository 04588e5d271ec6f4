"""Computes the constant parts of an ONNX graph: shape arithmetic and small weight transformations.

Every result's size is bounded before it is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwsim.nets.draft import StoredWeight
from hwsim.nets.onnx_read import Node, Problem, Stored
from hwsim.nets.onnx_safety import LARGEST_ELEMENTS, LARGEST_FOLDED, count_elements


@dataclass(slots=True, kw_only=True)
class Const:
    """A constant: its array (a filled one is a view on one number), bits of its integers, where it comes from."""

    array: Any
    bits: int = 0
    filled: bool = False
    stored: StoredWeight | None = None
    name: str = ""


def read_ints(const: Const) -> tuple[int, ...]:
    """Return a constant as a tuple of integers (a shape, axes ...)."""
    if const.array.size > 64 or const.array.dtype.kind not in "iu":
        raise Problem("has a shape or axes input that is no short list of integers")
    return tuple(int(v) for v in const.array.reshape(-1))


def bound_elements(shape: tuple[int, ...], limit: int = LARGEST_FOLDED) -> None:
    """Raise Problem when a shape is negative or larger than ``limit`` elements."""
    if any(n < 0 for n in shape):
        raise Problem(f"asks for the negative shape {list(shape)[:8]}")
    if count_elements(shape) > limit:
        raise Problem(f"asks for a constant of shape {list(shape)[:8]}, more than {limit:,} elements")


def resolve_reshape(shape: tuple[int, ...], target: tuple[int, ...], allow_zero: bool) -> tuple[int, ...]:
    """Return the shape that ONNX Reshape gives: 0 keeps a dimension, -1 takes what is left."""
    if len(target) > 16 or any(n < -1 for n in target) or sum(n == -1 for n in target) > 1:
        raise Problem(f"cannot reshape to {list(target)[:8]}")
    out = []
    for axis, size in enumerate(target):
        if size == 0 and not allow_zero:
            if axis >= len(shape):
                raise Problem(f"cannot reshape {list(shape)} to {list(target)}: there is no dimension {axis} to keep")
            size = shape[axis]
        out.append(size)
    total = count_elements(shape)
    if -1 in out:
        known = count_elements(tuple(n for n in out if n != -1))
        if known == 0 or total % known:
            raise Problem(f"cannot reshape {list(shape)} to {list(target)}")
        out[out.index(-1)] = total // known
    if count_elements(tuple(out)) != total:
        raise Problem(f"cannot reshape {list(shape)} ({total:,} elements) to {list(target)}")
    return tuple(out)


def check_axis(axis: int, rank: int) -> int:
    """Return an axis counted from the front."""
    if not -rank <= axis < max(rank, 1):
        raise Problem(f"has the axis {axis} for a tensor of rank {rank}")
    return axis % rank if rank else 0


def fold_constants(node: Node, ins: list[Const | None], opset: int) -> list[Const] | None:
    """Compute a node whose inputs are all constant, or return None when the operator is not known here."""
    if node.op == "Constant":
        return [_read_constant(node)]
    if node.op == "ConstantOfShape":
        return [_fill_shape(node, ins)]
    rule = _RULES.get(node.op)
    if rule is None or node.domain not in ("", "ai.onnx"):
        return None
    if not ins or ins[0] is None:
        raise Problem("lacks its first input")
    first = ins[0]
    if node.op in ("Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose", "Identity", "Expand") and first.filled:
        return [_refill(node, first, ins)]
    bound_elements(first.array.shape)
    try:
        with np.errstate(all="ignore"):
            result = rule(node, ins, opset)
    except (ValueError, IndexError, TypeError, OverflowError, ZeroDivisionError, AttributeError, MemoryError) as error:
        raise Problem(f"cannot be computed on its constant inputs ({type(error).__name__})") from None
    kept = first.stored if node.op in ("Identity",) else None
    bits = first.bits if np.asarray(result).dtype == first.array.dtype else 0
    return [Const(array=np.asarray(result), bits=bits, stored=kept, name=first.name)]


def _read_constant(node: Node) -> Const:
    for key in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        if key in node.attrs:
            value = node.attrs[key]
            if isinstance(value, Stored):
                return Const(array=value.array, bits=value.bits, name=node.outputs[0])
            if isinstance(value, str):
                break
            kind = np.float32 if "float" in key else np.int64
            return Const(array=np.asarray(value, dtype=kind), name=node.outputs[0])
    raise Problem("has no numeric value")


def _fill_shape(node: Node, ins: list[Const | None]) -> Const:
    if not ins or ins[0] is None:
        raise Problem("lacks its shape")
    shape = read_ints(ins[0])
    bound_elements(shape, LARGEST_ELEMENTS)
    value = node.attrs.get("value")
    number = np.zeros((), np.float32) if value is None else np.asarray(getattr(value, "array", None))
    if number.size != 1 or number.dtype == object:
        raise Problem("has a value that is not one number")
    return Const(
        array=np.broadcast_to(number.reshape(()), shape), filled=number.dtype.kind == "f", name=node.outputs[0]
    )


def _refill(node: Node, const: Const, ins: list[Const | None]) -> Const:
    """Reshape a filled constant without copying it."""
    shape = const.array.shape
    small = np.broadcast_to(np.int8(0), shape)
    if node.op == "Reshape":
        shape = resolve_reshape(shape, read_ints(need_const(ins, 1)), bool(node.integer("allowzero", 0)))
    elif node.op == "Flatten":
        axis = node.integer("axis", 1)
        shape = (count_elements(shape[:axis]), count_elements(shape[axis:]))
    elif node.op in ("Unsqueeze", "Squeeze"):
        shape = change_rank(node, shape, ins)
    elif node.op == "Transpose":
        shape = np.transpose(small, read_perm(node, small.ndim)).shape
    elif node.op == "Expand":
        shape = np.broadcast_shapes(shape, read_ints(need_const(ins, 1)))
        bound_elements(shape, LARGEST_ELEMENTS)
    number = const.array.reshape(-1)[:1] if const.array.size == 1 else const.array[(0,) * const.array.ndim]
    return Const(array=np.broadcast_to(np.asarray(number).reshape(()), shape), filled=True, name=const.name)


def read_perm(node: Node, rank: int) -> tuple[int, ...]:
    """Return the permutation of a Transpose."""
    perm = node.integers("perm", tuple(range(rank))[::-1])
    if sorted(perm) != list(range(rank)):
        raise Problem(f"has the permutation {list(perm)[:8]} for a tensor of rank {rank}")
    return perm


def need_const(ins: list[Any], index: int) -> Const:
    """Return a constant input, or raise Problem."""
    if len(ins) <= index or not isinstance(ins[index], Const):
        raise Problem(f"lacks its constant input {index}")
    return ins[index]


def read_axes(node: Node, ins: list[Any], index: int) -> tuple[int, ...] | None:
    """Return the axes of a node: an attribute in older operator sets, an input in newer ones."""
    if len(ins) > index and ins[index] is not None:
        return read_ints(need_const(ins, index))
    return node.integers("axes", ()) if "axes" in node.attrs else None


def change_rank(node: Node, shape: tuple[int, ...], ins: list[Any]) -> tuple[int, ...]:
    """Return the shape behind Squeeze or Unsqueeze."""
    axes = read_axes(node, ins, 1)
    if node.op == "Unsqueeze":
        if not axes:
            raise Problem("has no axes")
        rank = len(shape) + len(axes)
        places = {check_axis(a, rank) for a in axes}
        if len(places) != len(axes) or rank > 16:
            raise Problem(f"has the axes {list(axes)[:8]}")
        rest = iter(shape)
        return tuple(1 if axis in places else next(rest) for axis in range(rank))
    gone = (
        {axis for axis, n in enumerate(shape) if n == 1} if axes is None else {check_axis(a, len(shape)) for a in axes}
    )
    if any(shape[axis] != 1 for axis in gone):
        raise Problem(f"squeezes a dimension of {list(shape)} that is not 1")
    return tuple(n for axis, n in enumerate(shape) if axis not in gone)


def read_slices(node: Node, shape: tuple[int, ...], ins: list[Any]) -> list[tuple[int, int, int, int]]:
    """Return (axis, start, stop, step) of a Slice, starts and stops clipped to the dimension; steps are positive."""
    if len(ins) > 2:
        starts, ends = read_ints(need_const(ins, 1)), read_ints(need_const(ins, 2))
        axes = read_ints(need_const(ins, 3)) if len(ins) > 3 and ins[3] is not None else tuple(range(len(starts)))
        steps = read_ints(need_const(ins, 4)) if len(ins) > 4 and ins[4] is not None else (1,) * len(starts)
    else:
        starts, ends = node.integers("starts", ()), node.integers("ends", ())
        axes, steps = node.integers("axes", tuple(range(len(starts)))), (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise Problem("has starts, ends, axes and steps of different lengths")
    found = []
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = check_axis(axis, len(shape))
        if step < 1:
            raise Problem(f"slices with the step {step}")
        low, high, step = slice(start, end, step).indices(shape[axis])
        found.append((axis, low, max(low, high), step))
    return found


def _slice(node: Node, ins: list[Any], opset: int) -> Any:
    array = ins[0].array
    for axis, start, stop, step in read_slices(node, array.shape, ins):
        array = array[(slice(None),) * axis + (slice(start, stop, step),)]
    return array


def _gather(node: Node, ins: list[Any], opset: int) -> Any:
    axis = check_axis(node.integer("axis", 0), ins[0].array.ndim)
    index = need_const(ins, 1).array
    bound_elements((ins[0].array.size, max(index.size, 1)))
    return np.take(ins[0].array, index, axis=axis)


def _concat(node: Node, ins: list[Any], opset: int) -> Any:
    for const in ins:
        bound_elements(const.array.shape)
    return np.concatenate([const.array for const in ins], axis=node.integer("axis", 0))


def _binary(compute: Callable[[Any, Any], Any]) -> Callable[[Node, list[Any], int], Any]:
    def rule(node: Node, ins: list[Any], opset: int) -> Any:
        a, b = ins[0].array, need_const(ins, 1).array
        bound_elements(np.broadcast_shapes(a.shape, b.shape))
        result = compute(a, b)
        return result if result.dtype.kind == "b" else result.astype(a.dtype)

    return rule


def _divide(a: Any, b: Any) -> Any:
    if a.dtype.kind in "iu":
        return np.where(b == 0, 0, np.trunc(a / np.where(b == 0, 1, b)))
    return a / b


def _unary(compute: Callable[[Any], Any]) -> Callable[[Node, list[Any], int], Any]:
    return lambda node, ins, opset: compute(ins[0].array)


def _reshape(node: Node, ins: list[Any], opset: int) -> Any:
    target = read_ints(need_const(ins, 1)) if len(ins) > 1 else node.attrs.get("shape", ())
    return ins[0].array.reshape(resolve_reshape(ins[0].array.shape, target, bool(node.integer("allowzero", 0))))


def _cast(node: Node, ins: list[Any], opset: int) -> Any:
    kinds: dict[int, Any] = {
        1: np.float32, 2: np.uint8, 3: np.int8, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float32, 11: np.float64,
    }  # fmt: skip
    to = node.attrs.get("to")
    if to not in kinds:
        raise Problem(f"casts to the element type {to}")
    return ins[0].array.astype(kinds[to])


def _range(node: Node, ins: list[Any], opset: int) -> Any:
    start, limit, step = (need_const(ins, i).array.item() for i in range(3))
    if step == 0 or abs((limit - start) / step) > LARGEST_FOLDED:
        raise Problem("asks for too long a range")
    return np.arange(start, limit, step, dtype=ins[0].array.dtype)


def _expand(node: Node, ins: list[Any], opset: int) -> Any:
    shape = np.broadcast_shapes(ins[0].array.shape, read_ints(need_const(ins, 1)))
    bound_elements(shape)
    return np.broadcast_to(ins[0].array, shape)


def _where(node: Node, ins: list[Any], opset: int) -> Any:
    a, b = need_const(ins, 1).array, need_const(ins, 2).array
    bound_elements(np.broadcast_shapes(ins[0].array.shape, a.shape, b.shape))
    return np.where(ins[0].array, a, b)


def _flatten(node: Node, ins: list[Any], opset: int) -> Any:
    axis = node.integer("axis", 1)
    return ins[0].array.reshape(count_elements(ins[0].array.shape[:axis]), -1)


def _clip(node: Node, ins: list[Any], opset: int) -> Any:
    low = ins[1].array if len(ins) > 1 and ins[1] is not None else node.attrs.get("min")
    high = ins[2].array if len(ins) > 2 and ins[2] is not None else node.attrs.get("max")
    return np.clip(ins[0].array, low, high).astype(ins[0].array.dtype)


_RULES: dict[str, Callable[[Node, list[Any], int], Any]] = {
    "Identity": _unary(lambda a: a),
    "Dropout": _unary(lambda a: a),
    "Shape": lambda node, ins, opset: np.array(
        ins[0].array.shape[slice(node.attrs.get("start"), node.attrs.get("end"))], np.int64
    ),
    "Size": _unary(lambda a: np.int64(a.size)),
    "Gather": _gather,
    "Concat": _concat,
    "Slice": _slice,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": lambda node, ins, opset: np.transpose(ins[0].array, read_perm(node, ins[0].array.ndim)),
    "Squeeze": lambda node, ins, opset: ins[0].array.reshape(change_rank(node, ins[0].array.shape, ins)),
    "Unsqueeze": lambda node, ins, opset: ins[0].array.reshape(change_rank(node, ins[0].array.shape, ins)),
    "Cast": _cast,
    "Range": _range,
    "Expand": _expand,
    "Where": _where,
    "Clip": _clip,
    "Add": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "Div": _binary(_divide),
    "Pow": _binary(np.power),
    "Min": _binary(np.minimum),
    "Max": _binary(np.maximum),
    "Mod": _binary(np.mod),
    "Equal": _binary(np.equal),
    "Less": _binary(np.less),
    "Greater": _binary(np.greater),
    "Sqrt": _unary(np.sqrt),
    "Neg": _unary(np.negative),
    "Floor": _unary(np.floor),
    "Ceil": _unary(np.ceil),
    "Abs": _unary(np.abs),
    "Reciprocal": _unary(np.reciprocal),
    "Not": _unary(np.logical_not),
    "ReduceProd": _unary(lambda a: np.prod(a, keepdims=True)),
}
