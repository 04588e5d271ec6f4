"""The walk over an ONNX graph: which value every tensor has, and the drafts that grow from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hwsim.core.layer import Attr
from hwsim.core.tensors import ActQuant
from hwsim.nets.draft import Draft, Sketch, fold_shape
from hwsim.nets.onnx_const import Const
from hwsim.nets.onnx_read import Model, Node, Problem
from hwsim.nets.onnx_safety import LARGEST_DIM, LARGEST_ELEMENTS, count_elements


class Unpriced(Exception):
    """Why an operator becomes an ``unpriced`` layer."""


@dataclass(slots=True, kw_only=True)
class Act:
    """An activation: the input or draft that holds it and its true ONNX shape.

    ``quant`` is set between QuantizeLinear and DequantizeLinear, where the tensor is integers. ``before`` is set on a
    transposed activation: the one that was transposed, and how; what does not depend on the layout is applied to it.
    """

    tensor: str
    shape: tuple[int, ...]
    quant: ActQuant | None = None
    before: tuple[Act, tuple[int, ...]] | None = None


Value = Act | Const


@dataclass(slots=True, kw_only=True)
class Walk:
    """State of the walk. A name in ``poisoned`` depends on a node with a problem: its readers are skipped.

    ``readers`` has the operators that read each tensor, ``makers`` the node that makes it.
    """

    model: Model
    sketch: Sketch
    values: dict[str, Value] = field(default_factory=dict)
    poisoned: set[str] = field(default_factory=set)
    readers: dict[str, list[str]] = field(default_factory=dict)
    makers: dict[str, Node] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def opset(self) -> int:
        """Version of the standard operators."""
        return self.model.opset

    def emit(self, node: Node, op: str, inputs: list[Act], shape: tuple[int, ...], **fields: Any) -> Act:
        """Append a draft whose true output shape is ``shape`` and return its activation."""
        check_shape(shape)
        integers = next((act.quant for act in inputs if act.quant is not None), None)
        draft = Draft(
            name=node.name or node.outputs[0],
            op=op,
            inputs=[act.tensor for act in inputs],
            out=fold_shape(shape),
            shape=shape,
            origin=node.op,
            **fields,
        )
        self.sketch.add(draft)
        if integers is not None:
            draft.quant = integers
        return Act(tensor=draft.name, shape=shape, quant=integers)

    def transpose(self, node: Node, x: Act, perm: tuple[int, ...]) -> Act:
        """Append a transposition (nothing when it undoes the one that made ``x``)."""
        if perm == tuple(range(len(perm))):
            return x
        if x.before is not None and tuple(x.before[1][axis] for axis in perm) == tuple(range(len(perm))):
            return x.before[0]
        shape = tuple(x.shape[axis] for axis in perm)
        attrs: dict[str, Attr] = {"perm": fold_perm(perm)}
        if len(perm) > 4:
            attrs["shape_in"] = x.shape
        act = self.emit(node, "transpose", [x], shape, attrs=attrs, perm=perm)
        act.before = (x, perm)
        return act


def check_shape(shape: tuple[int, ...]) -> None:
    """Raise Problem when an activation's shape cannot be a layer's."""
    if len(shape) > 8 or any(not 1 <= n <= LARGEST_DIM for n in shape) or count_elements(shape) > LARGEST_ELEMENTS:
        raise Problem(f"gives a tensor of shape {list(shape)[:8]}; dimensions run from 1 to {LARGEST_DIM:,}")


def fold_perm(perm: tuple[int, ...]) -> tuple[int, ...]:
    """Return a permutation for ``[N, C, H, W]`` (of higher rank as it is)."""
    if len(perm) == 3:  # [N, C, L] stands as [N, C, 1, L]
        axes = (0, 1, 3)
        return tuple(np.insert([axes[p] for p in perm], 2, 2).tolist())
    return perm + tuple(range(len(perm), 4))


def fold_axis(axis: int, rank: int) -> int:
    """Return where an axis of a tensor of some rank stands in ``[N, C, H, W]``."""
    if rank > 4 or rank == 0:
        raise Unpriced(f"axis {axis} of a tensor of rank {rank}")
    return {1: (1,), 2: (0, 1), 3: (0, 1, 3), 4: (0, 1, 2, 3)}[rank][axis]


def need_act(ins: list[Any], index: int = 0) -> Act:
    """Return an activation input, or raise Problem."""
    if len(ins) <= index or not isinstance(ins[index], Act):
        raise Problem(f"lacks its activation input {index}")
    return ins[index]


def infer_shapes(walk: Walk, node: Node, ins: list[Value | None]) -> list[tuple[int, ...]]:
    """Return output shapes of an operator without a rule: by its ONNX schema, else as the file says."""
    import onnx

    known = _infer_by_schema(walk, node, ins, onnx)
    shapes = []
    for name in node.outputs:
        shape = known.get(name) or walk.model.shapes.get(name)
        if name and (shape is None or not all(isinstance(n, int) for n in shape)):
            raise Problem(
                "cannot be priced, and the shape of its output is unknown (run onnx.shape_inference on the file)"
            )
        shapes.append(tuple(int(n) for n in shape) if shape is not None else ())  # type: ignore[arg-type]
    return shapes


def _infer_by_schema(walk: Walk, node: Node, ins: list[Value | None], onnx: Any) -> dict[str, tuple[int, ...]]:
    types, data = {}, {}
    for name, value in zip(node.inputs, ins, strict=True):
        if isinstance(value, Act):
            types[name] = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, value.shape)
        elif value is not None and value.array.size <= 1024:
            kind = onnx.helper.np_dtype_to_tensor_dtype(value.array.dtype)
            types[name] = onnx.helper.make_tensor_type_proto(kind, value.array.shape)
            data[name] = onnx.numpy_helper.from_array(np.ascontiguousarray(value.array), name)
        elif value is not None:
            types[name] = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, value.array.shape)
    try:
        schema = onnx.defs.get_schema(node.op, walk.opset, node.domain)
        found = onnx.shape_inference.infer_node_outputs(
            schema, node.proto, types, data, opset_imports=[onnx.helper.make_opsetid("", walk.opset)]
        )
    except Exception:  # the schema's own checks: whatever they refuse has no known shape
        return {}
    shapes = {}
    for name, kind in found.items():
        dims = kind.tensor_type.shape.dim
        if kind.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes[name] = tuple(dim.dim_value for dim in dims)
    return shapes
