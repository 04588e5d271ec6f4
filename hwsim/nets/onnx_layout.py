"""Operators of ONNX that move values without arithmetic: reshaping, transposing, joining, cutting, padding."""

from __future__ import annotations

import itertools

import numpy as np

from hwsim.core.layer import Attr
from hwsim.nets.draft import fold_shape
from hwsim.nets.onnx_const import (
    Const,
    change_rank,
    check_axis,
    need_const,
    read_axes,
    read_ints,
    read_perm,
    read_slices,
    resolve_reshape,
)
from hwsim.nets.onnx_read import Node, Problem
from hwsim.nets.onnx_safety import count_elements
from hwsim.nets.onnx_walk import Act, Unpriced, Value, Walk, fold_axis, need_act

Ins = list[Value | None]


def convert_identity(walk: Walk, node: Node, ins: Ins) -> Act:
    """Dropout, Identity, Cast between floats: no effect at inference."""
    x = need_act(ins)
    if node.op == "Dropout" and any(name and walk.readers.get(name) for name in node.outputs[1:]):
        raise Unpriced("its mask is read")
    walk.sketch.note(f"{node.op} ignored (no effect at inference)", node.name or node.outputs[0])
    return x


def convert_shape(walk: Walk, node: Node, ins: Ins) -> Const:
    """Shape and Size of an activation: a constant."""
    shape = need_act(ins).shape
    if node.op == "Size":
        return Const(array=np.int64(count_elements(shape)))
    stop = node.integer("end", len(shape))
    return Const(array=np.array(shape[slice(node.integer("start", 0), stop)], dtype=np.int64))


def convert_reshape(walk: Walk, node: Node, ins: Ins) -> Act:
    """Reshape, Flatten, Squeeze, Unsqueeze; nothing where ``[N, C, H, W]`` stays the same."""
    x = need_act(ins)
    if node.op == "Flatten":
        axis = node.integer("axis", 1)
        axis = axis + len(x.shape) if axis < 0 else axis
        if not 0 <= axis <= len(x.shape):
            raise Problem(f"has the axis {axis} for a tensor of rank {len(x.shape)}")
        shape: tuple[int, ...] = (count_elements(x.shape[:axis]), count_elements(x.shape[axis:]))
    elif node.op == "Reshape":
        if len(ins) > 1 and not isinstance(ins[1], Const):
            raise Unpriced("its shape is computed at run time")
        target = read_ints(need_const(ins, 1)) if len(ins) > 1 else node.integers("shape", ())
        shape = resolve_reshape(x.shape, target, bool(node.integer("allowzero", 0)))
    else:
        shape = change_rank(node, x.shape, ins)
    if fold_shape(shape) == fold_shape(x.shape) and len(shape) <= 4 and len(x.shape) <= 4:
        return Act(tensor=x.tensor, shape=shape, quant=x.quant)
    flat = len(shape) == 2 and shape[0] == x.shape[0] and len(x.shape) > 2
    attrs: dict[str, Attr] = {} if flat else {"shape": shape[1:]}
    return walk.emit(node, "flatten" if flat else "reshape", [x], shape, attrs=attrs)


def convert_transpose(walk: Walk, node: Node, ins: Ins) -> Act:
    """Transpose; one that undoes the one before it gives back what was transposed."""
    x = need_act(ins)
    return walk.transpose(node, x, read_perm(node, len(x.shape)))


def convert_concat(walk: Walk, node: Node, ins: Ins) -> Act:
    """Concat; along another axis than the channels between two transpositions."""
    if not all(isinstance(value, Act) for value in ins):
        raise Unpriced("it joins activations and constants")
    acts = [value for value in ins if isinstance(value, Act)]
    rank = len(acts[0].shape)
    axis = check_axis(node.integer("axis", 1), rank)
    if any(len(a.shape) != rank or a.shape[:axis] != acts[0].shape[:axis] for a in acts) or any(
        a.shape[axis + 1 :] != acts[0].shape[axis + 1 :] for a in acts
    ):
        raise Problem(f"joins the shapes {[list(act.shape) for act in acts][:4]} along axis {axis}")
    if len(acts) == 1:
        return acts[0]
    if axis == 0 or rank > 4:
        raise Unpriced(f"it joins along axis {axis} of rank {rank}")
    shape = list(acts[0].shape)
    shape[axis] = sum(act.shape[axis] for act in acts)
    if axis == 1:
        return walk.emit(node, "concat", acts, tuple(shape))
    perm = tuple({1: axis, axis: 1}.get(a, a) for a in range(rank))
    moved = [walk.transpose(node, act, perm) for act in acts]
    joined = walk.emit(node, "concat", moved, tuple(shape[a] for a in perm))
    return walk.transpose(node, joined, perm)


def _cut(walk: Walk, node: Node, x: Act, axis: int, span: tuple[int, int, int]) -> Act:
    start, stop, step = span
    size = -(-(stop - start) // step)
    if (start, size) == (0, x.shape[axis]):
        return x
    if axis == 0:
        raise Unpriced("it cuts the batch")
    place = fold_axis(axis, len(x.shape))
    attrs: dict[str, Attr] = {"start": start, "stop": stop}
    if place != 1:
        attrs["axis"] = place
    if step != 1:
        attrs["step"] = step
    return walk.emit(node, "slice", [x], (*x.shape[:axis], size, *x.shape[axis + 1 :]), attrs=attrs)


def convert_slice(walk: Walk, node: Node, ins: Ins) -> Act:
    """Slice with constant bounds: one ``slice`` layer for each axis that is cut."""
    x = need_act(ins)
    if any(isinstance(value, Act) for value in ins[1:]):
        raise Unpriced("its bounds are computed at run time")
    for axis, start, stop, step in read_slices(node, x.shape, ins):
        x = _cut(walk, node, x, axis, (start, stop, step))
    return x


def convert_split(walk: Walk, node: Node, ins: Ins) -> list[Act]:
    """Split: one ``slice`` layer for each part."""
    x = need_act(ins)
    axis = check_axis(node.integer("axis", 0), len(x.shape))
    if len(ins) > 1 and ins[1] is not None:
        parts = read_ints(need_const(ins, 1))
    elif "split" in node.attrs:
        parts = node.integers("split", ())
    else:
        each = -(-x.shape[axis] // len(node.outputs))
        parts = (each,) * (len(node.outputs) - 1) + (x.shape[axis] - each * (len(node.outputs) - 1),)
    if len(parts) != len(node.outputs) or sum(parts) != x.shape[axis] or min(parts, default=0) < 1:
        raise Problem(f"splits {x.shape[axis]} elements into {list(parts)[:8]}")
    starts = np.cumsum((0, *parts)).tolist()
    return [_cut(walk, node, x, axis, (a, b, 1)) for a, b in itertools.pairwise(starts)]


def convert_gather(walk: Walk, node: Node, ins: Ins) -> Act:
    """Gather of neighbouring indices: a slice."""
    x = need_act(ins)
    axis = check_axis(node.integer("axis", 0), len(x.shape))
    index = need_const(ins, 1).array
    if index.dtype.kind not in "iu" or index.size == 0 or index.ndim > 1:
        raise Unpriced("its indices are no list of integers")
    flat = np.where(index.reshape(-1) < 0, index.reshape(-1) + x.shape[axis], index.reshape(-1))
    if flat.min() < 0 or flat.max() >= x.shape[axis]:
        raise Problem(f"gathers beyond the {x.shape[axis]} elements of axis {axis}")
    if (np.diff(flat) != 1).any():
        raise Unpriced("its indices are not neighbours")
    cut = _cut(walk, node, x, axis, (int(flat[0]), int(flat[-1]) + 1, 1))
    if index.ndim == 1:
        return cut
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    if fold_shape(shape) == fold_shape(cut.shape):
        return Act(tensor=cut.tensor, shape=shape, quant=cut.quant)
    return walk.emit(node, "reshape", [cut], shape, attrs={"shape": shape[1:]})


def convert_pad(walk: Walk, node: Node, ins: Ins) -> Act:
    """Pad: channels in the attributes ``channels_before`` and ``channels_after``, height and width in ``padding``."""
    x = need_act(ins)
    rank = len(x.shape)
    pads = read_ints(need_const(ins, 1)) if len(ins) > 1 else node.integers("pads", node.integers("paddings", ()))
    value = (
        float(need_const(ins, 2).array.reshape(-1)[0])
        if len(ins) > 2 and ins[2] is not None
        else node.number("value", 0.0)
    )
    axes = read_axes(node, ins, 3)
    if axes is not None:
        full = [0] * (2 * rank)
        if len(pads) != 2 * len(axes):
            raise Problem("has pads and axes of different lengths")
        for place, axis in enumerate(axes):
            axis = check_axis(axis, rank)
            full[axis], full[axis + rank] = pads[place], pads[place + len(axes)]
        pads = tuple(full)
    if len(pads) != 2 * rank or rank not in (3, 4):
        raise Unpriced(f"{len(pads)} pads for a tensor of rank {rank}")
    if min(pads) < 0 or pads[0] or pads[rank]:
        raise Unpriced("negative pads, or pads along the batch")
    if max(pads) > 1 << 16:
        raise Problem("has a padding beyond 65,536")
    if not any(pads):
        return x
    spatial = (pads[2], pads[3], pads[6], pads[7]) if rank == 4 else (0, pads[2], 0, pads[5])
    attrs: dict[str, Attr] = {}
    if pads[1] or pads[1 + rank]:
        attrs |= {"channels_before": pads[1], "channels_after": pads[1 + rank]}
    mode = node.text("mode", "constant")
    if mode != "constant":
        attrs["mode"] = mode
    elif value != 0.0:
        attrs["value"] = value
    shape = tuple(n + pads[axis] + pads[axis + rank] for axis, n in enumerate(x.shape))
    return walk.emit(node, "pad", [x], shape, dims={"padding": spatial}, attrs=attrs)
