"""Reads a ``.tflite`` file into plain tensors and operators (extra ``[tflite]``: the schema that ai-edge-litert ships)."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwsim.core.errors import InputError, MissingExtra
from hwsim.nets.onnx_safety import LARGEST_FILE_BYTES, count_elements, quote, read_model_bytes

_DAMAGE = (struct.error, ValueError, IndexError, TypeError, OverflowError)
"""What the flatbuffers reader raises on offsets that lead out of the file."""
# TensorType -> numpy dtype, bits (tensorflow/lite/schema/schema.fbs)
_KINDS = {0: ("<f4", 32), 1: ("<f2", 16), 2: ("<i4", 32), 3: ("u1", 8), 4: ("<i8", 64), 7: ("<i2", 16), 9: ("i1", 8)}
# operator -> the fields of its options that matter here
_OPTIONS: dict[str, tuple[str, ...]] = {
    "Conv2DOptions": ("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor", "FusedActivationFunction"),
    "DepthwiseConv2DOptions": (
        "Padding",
        "StrideH",
        "StrideW",
        "DilationHFactor",
        "DilationWFactor",
        "DepthMultiplier",
        "FusedActivationFunction",
    ),
    "Pool2DOptions": ("Padding", "StrideH", "StrideW", "FilterHeight", "FilterWidth", "FusedActivationFunction"),
    "FullyConnectedOptions": ("FusedActivationFunction", "WeightsFormat"),
    "AddOptions": ("FusedActivationFunction",),
    "MulOptions": ("FusedActivationFunction",),
    "SubOptions": ("FusedActivationFunction",),
    "ConcatenationOptions": ("Axis", "FusedActivationFunction"),
    "SoftmaxOptions": ("Beta",),
    "LeakyReluOptions": ("Alpha",),
    "ReducerOptions": ("KeepDims",),
}


@dataclass(slots=True, kw_only=True)
class TfTensor:
    """A tensor: true shape (channels last), constant data or None, quantization (empty arrays: none)."""

    name: str
    shape: tuple[int, ...]
    kind: int
    bits: int
    data: Any
    scale: Any
    zero: Any
    axis: int


@dataclass(slots=True, kw_only=True)
class TfOp:
    """An operator by its name in the schema; ``inputs`` may hold -1 for one left out."""

    op: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class TfModel:
    """The one subgraph of a file."""

    source: str
    sha256: str
    tensors: list[TfTensor]
    ops: list[TfOp]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_tflite(path: str | os.PathLike[str]) -> TfModel:
    """Read a ``.tflite`` file.

    Raises
    ------
    MissingExtra
        ai-edge-litert is not installed.
    InputError
        The file is absent, not TFLite, damaged, or has several subgraphs.
    """
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError:
        raise MissingExtra("ai-edge-litert", "tflite", "reading a .tflite file") from None
    source = Path(path).name
    data = read_model_bytes(path)
    if len(data) < 8 or data[4:8] != b"TFL3":
        raise InputError(source, ["is not a TFLite file (its identifier is not TFL3)"])
    try:
        return _read_model(schema, data, source)
    except _DAMAGE as error:
        raise InputError(source, [f"is damaged or truncated ({type(error).__name__})"]) from None


def _read_model(schema: Any, data: bytes, source: str) -> TfModel:
    model = schema.Model.GetRootAsModel(data, 0)
    if model.SubgraphsLength() != 1:
        raise InputError(source, [f"holds {model.SubgraphsLength()} subgraphs; only one can be priced"])
    graph = model.Subgraphs(0)
    for count in (graph.TensorsLength(), graph.OperatorsLength(), model.BuffersLength(), model.OperatorCodesLength()):
        if count > len(data):
            raise InputError(source, ["is damaged: it declares more entries than it has bytes"])
    problems: list[str] = []
    tensors = [_read_tensor(model, graph.Tensors(index), problems) for index in range(graph.TensorsLength())]
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    union = {value: name for name, value in vars(schema.BuiltinOptions).items() if isinstance(value, int)}
    ops = [_read_op(schema, model, graph.Operators(i), names, union) for i in range(graph.OperatorsLength())]
    inputs = tuple(int(i) for i in _indices(graph.InputsLength(), graph.InputsAsNumpy()))
    outputs = tuple(int(i) for i in _indices(graph.OutputsLength(), graph.OutputsAsNumpy()))
    used = [*inputs, *outputs, *(i for op in ops for i in (*op.inputs, *op.outputs) if i != -1)]
    if any(not 0 <= index < len(tensors) for index in used):
        problems.append("an operator names a tensor that is not there")
    if problems:
        raise InputError(source, problems[:12])
    sha256 = hashlib.sha256(data).hexdigest()
    return TfModel(source=source, sha256=sha256, tensors=tensors, ops=ops, inputs=inputs, outputs=outputs)


def _indices(count: int, array: Any) -> Iterator[int]:
    return iter(array) if count else iter(())


def _read_tensor(model: Any, tensor: Any, problems: list[str]) -> TfTensor:
    import numpy as np

    name = (tensor.Name() or b"").decode("utf-8", "replace")
    shape = tuple(int(n) for n in _indices(tensor.ShapeLength(), tensor.ShapeAsNumpy()))
    kind, bits = _KINDS.get(tensor.Type(), ("", 0))
    if any(n < 0 for n in shape):
        problems.append(f"tensor {quote(name)} has the negative shape {list(shape)[:8]}")
        shape = ()
    scale, zero, axis = np.zeros(0), np.zeros(0, dtype=np.int64), 0
    quant = tensor.Quantization()
    if quant is not None and quant.ScaleLength():
        scale = np.asarray(quant.ScaleAsNumpy(), dtype=np.float64)
        zero = (
            np.asarray(quant.ZeroPointAsNumpy(), dtype=np.int64)
            if quant.ZeroPointLength()
            else np.zeros(scale.size, np.int64)
        )
        axis = quant.QuantizedDimension()
        if scale.size != zero.size or not np.isfinite(scale).all() or (scale < 0).any():
            problems.append(f"tensor {quote(name)} has a quantization that is not finite and positive")
    buffer = model.Buffers(tensor.Buffer())
    data = None
    if tensor.Buffer() and buffer is not None and buffer.DataLength():
        raw = buffer.DataAsNumpy().tobytes()
        need = count_elements(shape) * bits // 8
        if kind and (need > LARGEST_FILE_BYTES or len(raw) != need):
            problems.append(
                f"tensor {quote(name)} of shape {list(shape)[:8]} needs {need:,} bytes, {len(raw):,} are there"
            )
        elif kind:
            data = np.frombuffer(raw, dtype=kind).reshape(shape)
    return TfTensor(name=name, shape=shape, kind=tensor.Type(), bits=bits, data=data, scale=scale, zero=zero, axis=axis)


def _read_op(schema: Any, model: Any, op: Any, names: dict[int, str], union: dict[int, str]) -> TfOp:
    code = model.OperatorCodes(op.OpcodeIndex())
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    options: dict[str, Any] = {}
    kind = union.get(op.BuiltinOptionsType(), "")
    table = op.BuiltinOptions()
    if kind in _OPTIONS and table is not None:
        holder = getattr(schema, kind)()
        holder.Init(table.Bytes, table.Pos)
        options = {key: getattr(holder, key)() for key in _OPTIONS[kind]}
    return TfOp(
        op=names.get(number, f"operator {number}"),
        inputs=tuple(int(i) for i in _indices(op.InputsLength(), op.InputsAsNumpy())),
        outputs=tuple(int(i) for i in _indices(op.OutputsLength(), op.OutputsAsNumpy())),
        options=options,
    )
