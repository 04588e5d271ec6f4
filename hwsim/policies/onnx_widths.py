"""What a QONNX graph says of tensors that the importer keeps as floats: formats wider than its integers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from hwsim.core.network import Network
from hwsim.nets.onnx_qonnx import WIDEST_INTEGER
from hwsim.nets.onnx_read import Model, Node, Stored, read_onnx
from hwsim.policies.names import list_names

_INT_QUANT = ("Quant", "IntQuant")
_SCALED = (*_INT_QUANT, "BipolarQuant")


def find_wide_formats(path: str | os.PathLike[str], network: Network) -> dict[tuple[str, str], int]:
    """Return the bits of weights and inputs that are quantized wider than the importer's integers.

    Parameters
    ----------
    path : path
        A QONNX file.
    network : Network
        As it was imported from that file.

    Returns
    -------
    dict
        (MAC layer, ``weight`` or ``activation``) to the bits of the nearest quantizer before it.
    """
    model = read_onnx(path)
    producers = {name: node for node in model.nodes for name in node.outputs if name}
    found = {}
    for layer, held in list_names(network, path).layers:
        for what, tensors in (("weight", held.weight), ("activation", held.inputs)):
            bits = _read_first_width(tensors, producers, model)
            if bits is not None and bits > WIDEST_INTEGER:
                found[layer, what] = bits
    return found


def list_channel_activations(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the QONNX quantizers with several scales or zero points that no constant reaches, as messages call them."""
    model = read_onnx(path)
    producers = {name: node for node in model.nodes for name in node.outputs if name}
    computed = set(model.inputs)
    for node in model.nodes:  # in topological order
        if computed & set(node.inputs):
            computed.update(node.outputs)
    found = []
    for node in model.nodes:
        if node.op in _SCALED and node.inputs and node.inputs[0] in computed:
            sizes = [_read_constant(name, producers, model) for name in node.inputs[1:3]]
            if any(array is not None and array.size > 1 for array in sizes):
                found.append(node.where)
    return tuple(found)


def _read_first_width(tensors: Iterable[str], producers: dict[str, Node], model: Model) -> int | None:
    for name in tensors:
        node = producers.get(name)
        if node is not None and node.op in _INT_QUANT and len(node.inputs) == 4:
            array = _read_constant(node.inputs[3], producers, model)
            return int(array.reshape(-1)[0]) if array is not None and array.size == 1 else None
    return None


def _read_constant(name: str, producers: dict[str, Node], model: Model) -> Any:
    """Return a constant's array, None where it is computed."""
    held = model.constants.get(name)
    if held is None and name in producers and producers[name].op == "Constant":
        held = producers[name].attrs.get("value")
    return held.array if isinstance(held, Stored) else None
