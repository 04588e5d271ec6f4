"""Names under which a layer's tensors stand in the files of other tools: those of the ONNX graph, else the layer's own."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hwsim.core.network import Network

_SHOWN, _LONGEST = 4, 80
"""How many names a message has, and how many characters of each unknown one."""
_MAC_NODES = ("Conv", "Gemm", "MatMul", "QLinearConv", "QLinearMatMul", "QGemm")
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear", "Quant", "IntQuant", "BipolarQuant")
_WEIGHT_MOVES = (*_QUANTIZERS, "Clip", "Transpose", "Identity", "Reshape", "Cast")
_MOVES = (*_QUANTIZERS, "Identity", "Dropout", "Cast", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose")
_KEEPING = (*_MOVES, "MaxPool", "Slice", "Pad")
"""Operators that give back values which they were given: the format of their input is that of their output."""
_PARAMETERS = (".weight", ".bias")
_KEEPING_LAYERS = ("flatten", "reshape", "transpose", "identity", "slice", "shuffle", "pad", "maxpool")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorNames:
    """Names of the tensors of one MAC layer, the nearest to the layer first."""

    weight: tuple[str, ...]
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NameTable:
    """Names of every MAC layer's tensors.

    Parameters
    ----------
    layers : tuple of (str, TensorNames)
        By layer.
    tensors : frozenset of str
        Every tensor and constant of the graph; empty where there is no graph (a network of the zoo).
    nodes : frozenset of str
        Every layer of the network and every node of the graph.
    sources : frozenset of str
        The inputs of the network.
    activations : frozenset of str
        Tensors that are computed from the inputs, and the inputs; without a graph the layers stand for what they give.
    """

    layers: tuple[tuple[str, TensorNames], ...]
    tensors: frozenset[str] = frozenset()
    nodes: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    activations: frozenset[str] = frozenset()

    @property
    def known(self) -> frozenset[str]:
        """Every name that a tensor can have: those of the graph, else the layers' own and those of a PyTorch state."""
        if self.tensors:
            return self.tensors
        return self.sources | self.nodes | {f"{name}{suffix}" for name in self.nodes for suffix in _PARAMETERS}

    def list_unknown(self, parameters: Iterable[str], activations: Collection[str], any_graph: bool) -> tuple[str, ...]:
        """Return the names that belong to no tensor of the network.

        With ``any_graph``, activations that are named by another graph (`follow_a_graph`) are none of them.
        """
        known = self.known
        foreign = any_graph and self.follow_a_graph(activations)
        return (
            *(name for name in parameters if name not in known),
            *(name for name in activations if name not in known and (not foreign or name.endswith(_PARAMETERS))),
        )

    def follow_a_graph(self, activations: Iterable[str]) -> bool:
        """Whether activations are named by the export of a graph that is not at hand: none is a layer, some are unknown."""
        names = set(activations)
        return not self.tensors and not names & self.nodes and not names <= self.sources

    def read_one_section(self, for_weights: Collection[str]) -> NameTable:
        """Return the names in a file that holds weights and activations side by side.

        A name that an activation has is no weight's (a layer's own name is that of its output where nodes have no names), except
        those of ``for_weights``, which the file gives to weights.
        """
        activations = self.activations - set(for_weights)
        layers = [
            (name, replace(held, weight=tuple(n for n in held.weight if n not in activations) or held.weight[:1]))
            for name, held in self.layers
        ]
        return replace(self, layers=tuple(layers), activations=activations)

    def find_weight(self, layer: str, known: Collection[str]) -> str | None:
        """Return the name under which a collection holds a layer's weights."""
        return _first(dict(self.layers)[layer].weight, known)

    def find_input(self, layer: str, known: Collection[str]) -> str | None:
        """Return the name under which a collection holds a layer's input."""
        return _first(dict(self.layers)[layer].inputs, known)


def list_names(network: Network, model: str | os.PathLike[str] | None = None) -> NameTable:
    """Return the names of the tensors of a network.

    Parameters
    ----------
    network : Network
        Names are listed for its MAC layers.
    model : path, optional
        The ONNX file that it was read from. Without it weights stand as ``layer`` and ``layer.weight`` (the names of a PyTorch
        state), inputs as the layer that produces them.

    Raises
    ------
    InputError
        The file is no ONNX file.
    """
    found = {layer.name: _name_layer(network, layer.name) for layer in network.mac_layers}
    nodes = frozenset(layer.name for layer in network.layers)
    sources = frozenset(spec.name for spec in network.inputs)
    if model is None:
        return NameTable(layers=tuple(found.items()), nodes=nodes, sources=sources, activations=nodes | sources)
    from hwsim.nets.onnx_read import read_onnx

    graph = read_onnx(model)
    producers = {name: node for node in graph.nodes for name in node.outputs if name}
    tensors = {*producers, *graph.constants, *graph.inputs}
    weights: set[str] = set()
    for node in graph.nodes:
        name = node.name or node.outputs[0]
        if node.op not in _MAC_NODES or name not in found:
            continue
        data, weight = (0, 3) if node.op.startswith("Q") else (0, 1)
        if node.op == "MatMul" and _reaches_constant(node.inputs[0], producers, graph.constants):
            data, weight = weight, data
        walked = _walk_up(node.inputs[weight], producers, _WEIGHT_MOVES)
        found[name] = TensorNames(
            weight=(*walked, *found[name].weight),
            inputs=tuple(_walk_up(node.inputs[data], producers, _KEEPING)),
        )
        weights.update(walked)
    nodes |= {node.name or node.outputs[0] for node in graph.nodes}
    return NameTable(
        layers=tuple(found.items()),
        tensors=frozenset(tensors),
        nodes=nodes,
        sources=sources,
        activations=frozenset({*producers, *graph.inputs} - weights),
    )


def describe_unknown(unknown: Sequence[str], known: Collection[str]) -> str:
    """Return the first unknown names, each with the nearest known one, and how many more there are."""
    cut = [name[:_LONGEST] for name in unknown]
    return join_some([f"{name!r}{suggest_name(name, known)}" for name in cut[:_SHOWN]], len(cut))


def join_some(texts: Sequence[str], count: int | None = None, what: str = "more") -> str:
    """Return the first texts of ``count`` (by default of all that are given), and how many more there are."""
    left = (len(texts) if count is None else count) - _SHOWN
    return ", ".join(texts[:_SHOWN]) + (f" and {left} {what}" if left > 0 else "")


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return ``(did you mean x?)`` for the nearest known name, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _first(names: tuple[str, ...], known: Collection[str]) -> str | None:
    return next((name for name in names if name in known), None)


def _name_layer(network: Network, name: str) -> TensorNames:
    source, inputs = network.layer(name).inputs[0], []
    spec_names = {spec.name for spec in network.inputs}
    while True:
        inputs.append(source)
        if source in spec_names or network.layer(source).op not in _KEEPING_LAYERS:
            return TensorNames(weight=(f"{name}.weight", name), inputs=tuple(inputs))
        source = network.layer(source).inputs[0]


def _walk_up(name: str, producers: Mapping[str, Any], through: tuple[str, ...]) -> list[str]:
    """Return a tensor and those that it repeats, up to the first operator that computes."""
    found = [name]
    while name in producers and producers[name].op in through and producers[name].inputs:
        name = producers[name].inputs[0]
        found.append(name)
    return found


def _reaches_constant(name: str, producers: Mapping[str, Any], constants: Collection[str]) -> bool:
    top = _walk_up(name, producers, _WEIGHT_MOVES)[-1]
    return top in constants or (top in producers and producers[top].op == "Constant")
