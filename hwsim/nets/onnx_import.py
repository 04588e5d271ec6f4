"""Imports an ONNX file: a CNN or MLP, float or quantized, as a ``Network`` with its ``Tensors``.

Layouts: activations are ``[N, C, H, W]``; a vector ``[N, C]`` gets H = W = 1 and ``[N, C, L]`` stands as ``[N, C, 1, L]``.
Not modelled: control flow, products of two activations, recurrent operators; each becomes an ``unpriced`` layer with a
note, or an error where the shape cannot be known.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hwsim.core.errors import InputError, SpecError
from hwsim.core.tensors import Origin
from hwsim.nets.draft import Sketch, finish_sketch, fold_shape
from hwsim.nets.draft_passes import check_arrays, simplify_sketch
from hwsim.nets.imported import Imported
from hwsim.nets.onnx_const import Const, fold_constants
from hwsim.nets.onnx_elementwise import (
    convert_activation,
    convert_batchnorm,
    convert_binary,
    convert_clip,
    convert_lrn,
    convert_minmax,
    convert_prelu,
    convert_softmax,
)
from hwsim.nets.onnx_layout import (
    convert_concat,
    convert_gather,
    convert_identity,
    convert_pad,
    convert_reshape,
    convert_shape,
    convert_slice,
    convert_split,
    convert_transpose,
)
from hwsim.nets.onnx_mac import (
    convert_conv,
    convert_gemm,
    convert_global_pool,
    convert_matmul,
    convert_pool,
    convert_reduce,
)
from hwsim.nets.onnx_qdq import (
    PASSING,
    convert_dequantize,
    convert_integer_clip,
    convert_quantize,
    expand_integer_ops,
    list_dynamic_quantizers,
)
from hwsim.nets.onnx_qonnx import QONNX_DOMAINS, QONNX_QUANTIZERS, convert_bipolar_quant, convert_int_quant
from hwsim.nets.onnx_read import STANDARD_DOMAINS, Model, Node, Problem, read_onnx
from hwsim.nets.onnx_safety import quote, raise_problems
from hwsim.nets.onnx_walk import Act, Unpriced, Value, Walk, check_shape, infer_shapes

_RULES: dict[str, Callable[[Walk, Node, list[Value | None]], Any]] = {
    "Conv": convert_conv,
    "Gemm": convert_gemm,
    "MatMul": convert_matmul,
    **dict.fromkeys(("MaxPool", "AveragePool"), convert_pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), convert_global_pool),
    **dict.fromkeys(("ReduceMean", "ReduceMax"), convert_reduce),
    **dict.fromkeys(("Add", "Sum", "Sub", "Mul", "Div"), convert_binary),
    **dict.fromkeys(("Min", "Max"), convert_minmax),
    **dict.fromkeys(
        ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Swish", "Gelu"), convert_activation
    ),
    "PRelu": convert_prelu,
    "Clip": convert_clip,
    "Softmax": convert_softmax,
    "LRN": convert_lrn,
    "BatchNormalization": convert_batchnorm,
    **dict.fromkeys(("Identity", "Dropout", "Cast"), convert_identity),
    **dict.fromkeys(("Shape", "Size"), convert_shape),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), convert_reshape),
    "Transpose": convert_transpose,
    "Concat": convert_concat,
    "Slice": convert_slice,
    "Split": convert_split,
    "Gather": convert_gather,
    "Pad": convert_pad,
    "QuantizeLinear": convert_quantize,
    "DequantizeLinear": convert_dequantize,
    **dict.fromkeys(("Quant", "IntQuant"), convert_int_quant),
    "BipolarQuant": convert_bipolar_quant,
}
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear", *QONNX_QUANTIZERS)
_BORROWED = ("Gelu",)
"""Standard operators that exporters also write in the domain com.microsoft, with the same meaning."""


def import_onnx(
    path: str | os.PathLike[str],
    *,
    batch: int | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> Imported:
    """Import an ONNX file.

    Parameters
    ----------
    path : path
        The file; external data must lie in its folder.
    batch : int, optional
        Batch size; a symbolic one is 1 unless this is given, a fixed one is changed.
    input_shapes : mapping, optional
        Shapes of inputs whose symbolic dimensions (other than the batch) must be known.

    Raises
    ------
    InputError
        The file is malformed, or holds what cannot be a network; every problem found is named.
    """
    model = read_onnx(path)
    sketch = Sketch(source=model.source)
    walk = Walk(model=model, sketch=sketch)
    _add_inputs(walk, batch, dict(input_shapes or {}))
    raise_problems(model.source, walk.problems)
    for name, held in model.constants.items():
        walk.values[name] = Const(array=held.array, bits=held.bits, name=name)
    nodes = expand_integer_ops(model.nodes)
    raise_problems(model.source, list_dynamic_quantizers(nodes, model.inputs, _QUANTIZERS))
    for node in nodes:
        for name in node.inputs:
            walk.readers.setdefault(name, []).append(node.op)
        walk.makers.update((name, node) for name in node.outputs if name)
    for node in nodes:
        _visit(walk, node)
    _add_outputs(walk)
    raise_problems(model.source, walk.problems)
    simplify_sketch(sketch)
    raise_problems(model.source, check_arrays(sketch))
    imported = _finish(walk, model)
    fixed = next(iter(imported.network.inputs)).shape[0]
    return imported if batch in (None, fixed) else _change_batch(imported, batch or 1)


def _finish(walk: Walk, model: Model) -> Imported:
    described = f"{model.source} (sha256 {model.sha256[:16]})"
    origin = Origin(kind="file", description=f"{model.source}, sha256 {model.sha256}")
    try:
        return finish_sketch(walk.sketch, model.source.removesuffix(".onnx") or "model", described, origin)
    except SpecError as error:
        raise InputError(model.source, [str(error)]) from None


def _change_batch(imported: Imported, batch: int) -> Imported:
    return replace(imported, network=imported.network.with_batch(batch))


def _add_inputs(walk: Walk, batch: int | None, given: dict[str, Sequence[int]]) -> None:
    for name in given:
        if name not in walk.model.inputs:
            walk.problems.append(
                f"has no input {quote(name)}; its inputs are {', '.join(map(quote, walk.model.inputs))}"
            )
    for name, dims in walk.model.inputs.items():
        shape = _fix_shape(walk, name, dims, batch, given.get(name))
        if shape is None:
            continue
        try:
            check_shape(shape)
        except Problem as problem:
            walk.problems.append(f"input {quote(name)} {problem}")
            continue
        free = walk.sketch.free_name(name)
        walk.sketch.inputs[free] = fold_shape(shape)
        walk.values[name] = Act(tensor=free, shape=shape)
    if not walk.model.inputs:
        walk.problems.append("the graph has no input")


def _fix_shape(
    walk: Walk, name: str, dims: tuple[int | str | None, ...] | None, batch: int | None, given: Sequence[int] | None
) -> tuple[int, ...] | None:
    if given is not None:
        shape = tuple(int(n) for n in given)
        if dims is not None and len(dims) != len(shape):
            walk.problems.append(f"input {quote(name)} has the rank {len(dims)}, the given shape {list(shape)} has not")
        return shape
    if dims is None:
        walk.problems.append(f"input {quote(name)} has no shape; give it by input_shapes")
        return None
    fixed = [(batch or 1) if axis == 0 and not isinstance(n, int) else n for axis, n in enumerate(dims)]
    unknown = [quote(n or "?") for n in fixed if not isinstance(n, int)]
    if unknown:
        walk.problems.append(
            f"input {quote(name)} has the symbolic dimensions {', '.join(unknown)}; give its shape by input_shapes"
        )
        return None
    return tuple(n for n in fixed if isinstance(n, int))


def _visit(walk: Walk, node: Node) -> None:
    """Find the values of a node's outputs, or note the problem and poison them."""
    if any(name in walk.poisoned for name in node.inputs):
        walk.poisoned.update(filter(None, node.outputs))
        return
    ins = [walk.values[name] if name else None for name in node.inputs]
    try:
        results = _convert(walk, node, ins)
    except Problem as problem:
        walk.problems.append(f"{node.where} {problem}")
        walk.poisoned.update(filter(None, node.outputs))
        return
    for name, value in zip(node.outputs, results, strict=False):
        if name:
            walk.values[name] = value
    missing = [name for name in node.outputs[len(results) :] if name]
    walk.poisoned.update(missing)


def _convert(walk: Walk, node: Node, ins: list[Value | None]) -> list[Value]:
    standard = node.domain in STANDARD_DOMAINS or node.op in _QUANTIZERS or node.op in _BORROWED
    if node.op in QONNX_QUANTIZERS and node.domain not in QONNX_DOMAINS:
        standard = False
    acts = [value for value in ins if isinstance(value, Act)]
    if not acts and (node.op not in _QUANTIZERS or not standard):
        return _convert_constant(walk, node, [value for value in ins if not isinstance(value, Act)])
    try:
        if not standard or node.op not in _RULES:
            raise Unpriced("no rule for this operator")
        if any(act.quant is not None for act in acts) and node.op not in _QUANTIZERS:
            if node.op == "Clip":
                return [convert_integer_clip(walk, node, ins)]
            if node.op not in PASSING:
                raise Unpriced("it computes on integers")
        result = _RULES[node.op](walk, node, ins)
    except Unpriced as reason:
        return _emit_unpriced(walk, node, ins, str(reason))
    return result if isinstance(result, list) else [result]


def _convert_constant(walk: Walk, node: Node, ins: list[Const | None]) -> list[Value]:
    first = ins[0] if ins else None
    if node.op == "Clip" and first is not None and first.array.dtype.kind in "iu" and len(ins) == 3 and None not in ins:
        return [convert_integer_clip(walk, node, list(ins))]
    if node.op == "Transpose" and first is not None and first.stored is not None:
        return [_transpose_stored(node, first, walk)]
    folded = fold_constants(node, ins, walk.opset)
    if folded is None:
        raise Problem("is applied to constants, where it is not supported")
    return list(folded)


def _transpose_stored(node: Node, const: Const, walk: Walk) -> Const:
    """Transpose a dequantized constant together with its integers."""
    folded = fold_constants(node, [const], walk.opset)
    assert folded is not None
    held = const.stored
    assert held is not None
    perm = node.integers("perm", tuple(range(const.array.ndim))[::-1])
    axis = perm.index(held.axis) if held.scale.size > 1 else 0
    return replace(folded[0], stored=replace(held, stored=held.stored.transpose(perm), axis=axis))


def _emit_unpriced(walk: Walk, node: Node, ins: list[Value | None], reason: str) -> list[Value]:
    acts = [value for value in ins if isinstance(value, Act)]
    if not acts:
        raise Problem(f"cannot be priced ({reason})")
    shapes = infer_shapes(walk, node, ins)
    found: list[Value] = []
    for name, shape in zip(node.outputs, shapes, strict=True):
        if not name:
            continue
        act = walk.emit(node, "unpriced", acts, shape, attrs={"source_op": node.op})
        walk.sketch.note(
            f"operator {node.op} cannot be priced ({reason}): it stands as an unpriced layer without cost", act.tensor
        )
        found.append(replace(act, quant=None))
    return found


def _add_outputs(walk: Walk) -> None:
    for name in walk.model.outputs:
        value = walk.values.get(name)
        if isinstance(value, Act) and value.tensor in walk.sketch.drafts:
            walk.sketch.outputs.append(value.tensor)
        elif isinstance(value, Act):
            walk.problems.append(f"the output {quote(name)} is an input of the network")
        elif value is not None:
            walk.sketch.note("output left out, because it is constant", str(quote(name)))
    if not walk.sketch.outputs and not walk.problems:
        walk.problems.append("no output depends on an input")


__all__ = ["import_onnx"]
