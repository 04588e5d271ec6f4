"""Imports a ``.tflite`` file, float or int8, as a ``Network`` with its ``Tensors``.

TFLite is channels last; here everything becomes ``[N, C, H, W]``: weights are permuted, SAME padding becomes explicit,
and a reshape that sees the order of elements gets transpositions around it. Scales and zero points stay those of the file.
"""

from __future__ import annotations

import os

import numpy as np

from hwsim.core.errors import InputError, SpecError
from hwsim.core.tensors import ActQuant, Origin
from hwsim.nets.draft import Sketch, finish_sketch
from hwsim.nets.draft_passes import check_arrays, simplify_sketch
from hwsim.nets.imported import Imported
from hwsim.nets.onnx_safety import LARGEST_DIM, quote, raise_problems
from hwsim.nets.tflite_read import TfOp, TfTensor, read_tflite
from hwsim.nets.tflite_rules import RULES
from hwsim.nets.tflite_walk import Problem, Unpriced, Walk, make_real, put_channels_first


def import_tflite(path: str | os.PathLike[str]) -> Imported:
    """Import a ``.tflite`` file.

    Raises
    ------
    MissingExtra
        ai-edge-litert is not installed.
    InputError
        The file is malformed or holds what cannot be a network; every problem found is named.
    """
    model = read_tflite(path)
    sketch = Sketch(source=model.source)
    walk = Walk(model=model, sketch=sketch)
    problems: list[str] = []
    for index in model.inputs:
        tensor = walk.tensor(index)
        name = sketch.free_name(tensor.name or f"input{index}")
        shape = put_channels_first(tensor.shape)
        if len(tensor.shape) > 4 or any(not 1 <= n <= LARGEST_DIM for n in shape):
            problems.append(f"input {quote(tensor.name)} has the shape {list(tensor.shape)[:8]}")
        sketch.inputs[name] = shape
        walk.held[index] = name
        _record(walk, tensor, name)
    raise_problems(model.source, problems)
    for op in model.ops:
        try:
            _visit(walk, op)
        except Problem as problem:
            problems.append(f"operator {op.op} {problem}")
            break
    raise_problems(model.source, problems)
    sketch.outputs = [walk.held[index] for index in model.outputs if walk.held.get(index) in sketch.drafts]
    if not sketch.outputs:
        raise InputError(model.source, ["no output is computed"])
    simplify_sketch(sketch)
    raise_problems(model.source, check_arrays(sketch))
    origin = Origin(kind="file", description=f"{model.source}, sha256 {model.sha256}")
    try:
        return finish_sketch(
            sketch, model.source.removesuffix(".tflite"), f"{model.source} (sha256 {model.sha256[:16]})", origin
        )
    except SpecError as error:
        raise InputError(model.source, [str(error)]) from None


def _record(walk: Walk, tensor: TfTensor, name: str) -> None:
    """Record the quantization of an integer activation."""
    if tensor.scale.size == 1 and tensor.bits in (8, 16):
        signed = tensor.kind != 3
        quant = ActQuant(scale=float(tensor.scale[0]), zero_point=int(tensor.zero[0]), bits=tensor.bits, signed=signed)
        walk.sketch.set_quant(name, quant)


def _visit(walk: Walk, op: TfOp) -> None:
    outs = [walk.tensor(index) for index in op.outputs]
    if not outs:
        raise Problem("has no output")
    if op.op == "DEQUANTIZE" and op.inputs and op.inputs[0] not in walk.held:
        const = walk.const(op, 0)
        assert const is not None
        walk.constants[op.outputs[0]] = const.data.astype(np.float32) if const.kind == 1 else make_real(const)
        return
    try:
        rule = RULES.get(op.op)
        if rule is None or any(len(t.shape) > 4 for t in outs):
            raise Unpriced("no rule for this operator")
        names = [rule(walk, op)]
    except Unpriced as reason:
        names = _emit_unpriced(walk, op, str(reason))
    for index, name in zip(op.outputs, names, strict=False):
        walk.held[index] = name
        if name in walk.sketch.drafts and walk.sketch.drafts[name].quant is None:
            _record(walk, walk.tensor(index), name)


def _emit_unpriced(walk: Walk, op: TfOp, reason: str) -> list[str]:
    inputs = [walk.held[index] for index in op.inputs if index in walk.held]
    if not inputs:
        raise Problem(f"cannot be priced ({reason}) and reads no activation")
    names = []
    for index in op.outputs:
        out = put_channels_first(walk.tensor(index).shape[:4])
        draft = walk.emit(op, "unpriced", inputs, out, attrs={"source_op": op.op})
        walk.sketch.note(
            f"operator {op.op} cannot be priced ({reason}): it stands as an unpriced layer without cost", draft.name
        )
        names.append(draft.name)
    return names
