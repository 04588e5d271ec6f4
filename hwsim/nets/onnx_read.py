"""Reads an ONNX file into plain nodes and constants, refusing what is malformed."""

from __future__ import annotations

import hashlib
import heapq
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwsim.core.errors import InputError
from hwsim.nets.onnx_safety import STORED_BITS, decode_tensor, make_printable, quote, raise_problems, read_model_bytes

_FLOAT, _INT, _STRING, _TENSOR, _GRAPH, _FLOATS, _INTS, _STRINGS = 1, 2, 3, 4, 5, 6, 7, 8
_GRAPHS = 10
STANDARD_DOMAINS = ("", "ai.onnx")


class Problem(Exception):
    """What is wrong with a node; whoever walks the graph adds where and collects."""


def read_text(value: str | bytes) -> str:
    """Return a name of the file; protobuf hands over bytes where it is not UTF-8, which raises UnicodeDecodeError."""
    return value.decode() if isinstance(value, bytes) else value


@dataclass(slots=True, kw_only=True)
class Stored:
    """A constant of the file: its array and, for an integer, the bits of an element."""

    array: Any
    bits: int = 0


@dataclass(slots=True, kw_only=True)
class Node:
    """An operator: ``attrs`` holds ints, floats, strings, tuples of them and ``Stored`` tensors."""

    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: dict[str, Any] = field(default_factory=dict)
    proto: Any = None

    @property
    def where(self) -> str:
        """How a message calls it."""
        return f"node {quote(self.name or (self.outputs[0] if self.outputs else '?'))} ({self.op})"

    def integer(self, key: str, default: int) -> int:
        """Return an integer attribute; Problem when it is of another type."""
        value = self.attrs.get(key, default)
        if not isinstance(value, int):
            raise Problem(f"has an attribute {key} that is no integer")
        return value

    def integers(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """Return a list of integers; Problem when it is of another type or longer than 64."""
        value = self.attrs.get(key, default)
        if not isinstance(value, tuple) or len(value) > 64 or not all(isinstance(v, int) for v in value):
            raise Problem(f"has an attribute {key} that is no list of integers")
        return value

    def number(self, key: str, default: float) -> float:
        """Return a float attribute; Problem when it is of another type."""
        value = self.attrs.get(key, default)
        if not isinstance(value, int | float):
            raise Problem(f"has an attribute {key} that is no number")
        return float(value)

    def text(self, key: str, default: str) -> str:
        """Return a string attribute; Problem when it is of another type."""
        value = self.attrs.get(key, default)
        if not isinstance(value, str):
            raise Problem(f"has an attribute {key} that is no string")
        return value


@dataclass(slots=True, kw_only=True)
class Model:
    """A checked ONNX graph, its nodes in topological order.

    ``inputs`` maps a name to its dimensions (int, name of a symbol, or None where the file says nothing; the whole is
    None without a shape). ``shapes`` holds what the file itself says of intermediate tensors.
    """

    source: str
    sha256: str
    opset: int
    nodes: list[Node]
    constants: dict[str, Stored]
    inputs: dict[str, tuple[int | str | None, ...] | None]
    outputs: tuple[str, ...]
    shapes: dict[str, tuple[int | str | None, ...]]


def read_onnx(path: str | os.PathLike[str]) -> Model:
    """Read and check an ONNX file.

    Raises
    ------
    InputError
        With every problem found: not ONNX, truncated, cyclic, names missing or used twice, tensors whose bytes do not
        fit their shape, external data outside of the folder, subgraphs.
    """
    source = Path(path).name
    data = read_model_bytes(path)
    try:
        return _read_graph(data, source, Path(path).parent)
    except UnicodeDecodeError:
        raise InputError(source, ["is not an ONNX file, or damaged: a name is not text"]) from None


def _read_graph(data: bytes, source: str, folder: Path) -> Model:
    proto = _parse(data, source)
    graph = proto.graph
    problems: list[str] = []
    if any(init.data_location != 1 and not init.name for init in graph.initializer):
        problems.append("an initializer has no name")
    if len(graph.sparse_initializer):
        problems.append("it holds sparse initializers, which are not supported")
    if len(proto.functions):
        problems.append("it defines functions of its own: inline them first (onnx.inliner.inline_local_functions)")
    constants: dict[str, Stored] = {}
    for init in graph.initializer:
        name = read_text(init.name)
        where = f"initializer {quote(name)}"
        if name in constants:
            problems.append(f"the name {quote(name)} of an initializer is used twice")
        array = decode_tensor(init, folder, where, problems)
        constants[name] = Stored(array=array, bits=STORED_BITS.get(init.data_type, 0))
    nodes = [_read_node(node, folder, problems) for node in graph.node]
    inputs = {name: _read_shape(info) for info in graph.input if (name := read_text(info.name)) not in constants}
    outputs = tuple(read_text(info.name) for info in graph.output)
    if not outputs:
        problems.append("the graph has no output")
    ordered = _order_nodes(nodes, {*constants, *inputs}, outputs, problems)
    raise_problems(source, problems)
    shapes = {
        read_text(info.name): shape
        for info in (*graph.value_info, *graph.output)
        if (shape := _read_shape(info)) is not None
    }
    versions = [entry.version for entry in proto.opset_import if entry.domain in STANDARD_DOMAINS]
    return Model(
        source=source,
        sha256=hashlib.sha256(data).hexdigest(),
        opset=max(versions, default=13),
        nodes=ordered,
        constants=constants,
        inputs=inputs,
        outputs=outputs,
        shapes=shapes,
    )


def _parse(data: bytes, source: str) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except (DecodeError, RuntimeError, ValueError):
        raise InputError(source, ["is not an ONNX file, or it is truncated"]) from None
    if not proto.HasField("graph") or not len(proto.graph.node):
        raise InputError(source, ["is not an ONNX file, or it is truncated: it holds no graph with nodes"])
    return proto


def _read_node(proto: Any, folder: Path, problems: list[str]) -> Node:
    node = Node(
        name=read_text(proto.name),
        op=make_printable(read_text(proto.op_type)),
        domain=make_printable(read_text(proto.domain)),
        inputs=tuple(read_text(name) for name in proto.input),
        outputs=tuple(read_text(name) for name in proto.output),
        proto=proto,
    )
    if not any(node.outputs):
        problems.append(f"{node.where} has no output")
    for attr in proto.attribute:
        key = read_text(attr.name)
        where = f"{node.where}: attribute {quote(key)}"
        if attr.type in (_GRAPH, _GRAPHS):
            problems.append(f"{node.where} holds a subgraph; only static graphs can be priced")
        elif attr.type == _FLOAT:
            node.attrs[key] = float(attr.f)
        elif attr.type == _INT:
            node.attrs[key] = int(attr.i)
        elif attr.type == _STRING:
            node.attrs[key] = attr.s.decode("utf-8", "replace")
        elif attr.type == _FLOATS:
            node.attrs[key] = tuple(float(v) for v in attr.floats)
        elif attr.type == _INTS:
            node.attrs[key] = tuple(int(v) for v in attr.ints)
        elif attr.type == _STRINGS:
            node.attrs[key] = tuple(v.decode("utf-8", "replace") for v in attr.strings)
        elif attr.type == _TENSOR:
            array = decode_tensor(attr.t, folder, where, problems)
            node.attrs[key] = Stored(array=array, bits=STORED_BITS.get(attr.t.data_type, 0))
        else:
            problems.append(f"{where} has the type {attr.type}, which is not supported")
    return node


def _read_shape(info: Any) -> tuple[int | str | None, ...] | None:
    if not info.type.HasField("tensor_type") or not info.type.tensor_type.HasField("shape"):
        return None
    dims: list[int | str | None] = []
    for dim in info.type.tensor_type.shape.dim:
        if dim.HasField("dim_value"):
            dims.append(int(dim.dim_value))
        else:
            dims.append(read_text(dim.dim_param) or None)
    return tuple(dims)


def _order_nodes(nodes: list[Node], known: set[str], outputs: tuple[str, ...], problems: list[str]) -> list[Node]:
    """Sort the nodes behind their producers, keeping the file's order where it is free."""
    producer: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in filter(None, node.outputs):
            if name in producer or name in known:
                problems.append(f"the tensor {quote(name)} is produced twice, the second time by {node.where}")
            producer[name] = index
    for node in nodes:
        missing = [name for name in node.inputs if name and name not in producer and name not in known]
        problems.extend(f"{node.where} reads {quote(name)}, which nothing produces" for name in missing)
    problems.extend(
        f"the output {quote(name)} is produced by nothing"
        for name in outputs
        if name not in producer and name not in known
    )
    waits = [len({producer[name] for name in node.inputs if name in producer}) for node in nodes]
    users: list[list[int]] = [[] for _ in nodes]
    for index, node in enumerate(nodes):
        for source in {producer[name] for name in node.inputs if name in producer}:
            users[source].append(index)
    ready = [index for index, count in enumerate(waits) if count == 0]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for user in users[index]:
            waits[user] -= 1
            if waits[user] == 0:
                heapq.heappush(ready, user)
    if len(order) < len(nodes):
        stuck = next(index for index, count in enumerate(waits) if count > 0)
        problems.append(f"the graph is cyclic: {nodes[stuck].where} depends on its own output")
    return [nodes[index] for index in order]
