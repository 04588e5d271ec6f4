"""Policies of quantized ONNX files: QONNX, QDQ and QCDQ graphs, integer operators."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from hwsim.core.errors import InputError
from hwsim.core.layer import Layer
from hwsim.core.network import Network
from hwsim.core.tensors import ActQuant, LayerTensors
from hwsim.nets.imported import Imported, find_activation
from hwsim.policies.names import join_some, suggest_name
from hwsim.policies.onnx_widths import find_wide_formats, list_channel_activations
from hwsim.policies.schemes import LayerScheme, PolicyFile, TensorScheme, assemble_policy, require_layers

_CHANNEL_NOTE = "an activation quantized per channel"
"""What the importer notes of a quantizer that it leaves unpriced."""


def read_onnx_policy(path: str | os.PathLike[str], network: Network) -> PolicyFile:
    """Return the formats of a quantized ONNX file for a network: the same one, or one with the same layers.

    Layers are matched by name, else by the name of their weights, both of the same shape, else in order where every shape is
    the same.

    Tensors wider than the importer keeps as integers have the bits of their quantizer.

    Raises
    ------
    InputError
        The file is malformed, quantizes at run time or an activation per channel, quantizes nothing, or holds another model.
    """
    source = Path(path).name
    imported = _import_per_tensor(path, source)
    schemes = {layer.name: _describe(imported, layer.name) for layer in imported.network.mac_layers}
    if any(scheme.weight is None or scheme.activation is None for scheme in schemes.values()):
        for (name, what), bits in find_wide_formats(path, imported.network).items():
            if getattr(schemes[name], what) is None:
                schemes[name] = replace(schemes[name], **{what: TensorScheme(bits=bits)})
    if all(scheme.weight is None for scheme in schemes.values()):
        reasons = [note for note in imported.notes if note.startswith("weights quantized along axis")]
        raise InputError(source, reasons or ["quantizes no weights, so it implies no policy"])
    matched, note = _match_layers(imported, network, source)
    found = {name: schemes[other] for name, other in matched.items()}
    notes = (note,) if note else ()
    return assemble_policy(network, found, "quantized ONNX", source, notes)


def _import_per_tensor(path: str | os.PathLike[str], source: str) -> Imported:
    """Return the imported file, or raise InputError that names the activations that are quantized per channel."""
    from hwsim.nets.onnx_import import import_onnx

    try:
        imported, failure = import_onnx(path), None
    except InputError as error:
        imported, failure = None, error
    if imported is None or any(_CHANNEL_NOTE in note for note in imported.notes):
        found = list_channel_activations(path)
        if found:
            raise InputError(source, [f"quantizes activations per channel, which is not read: {join_some(found)}"])
    if imported is None:
        assert failure is not None
        raise failure
    return imported


def _describe(imported: Imported, name: str) -> LayerScheme:
    tensors = imported.tensors
    if tensors is None:
        return LayerScheme()
    held = tensors.layers.get(name)
    act = find_activation(imported.network, tensors.activations, imported.network.layer(name).inputs[0])
    return LayerScheme(
        weight=None if held is None or held.w_scale is None else _describe_weight(held),
        activation=None if act is None else _describe_activation(act),
    )


def _describe_weight(held: LayerTensors) -> TensorScheme:
    scale = np.asarray(held.w_scale, np.float64)
    unsigned = held.weight.dtype.kind == "u"
    middle = 1 << (held.w_bits - 1) if unsigned else 0
    zero = 0 if held.w_zero is None else held.w_zero
    return TensorScheme(
        bits=held.w_bits,
        symmetric=bool(np.all(zero == middle)),
        per_channel=scale.size > 1,
        power_of_two=bool(np.all(np.frexp(scale)[0] == 0.5)),
    )


def _describe_activation(act: ActQuant) -> TensorScheme:
    middle = 0 if act.signed else 1 << (act.bits - 1)
    return TensorScheme(
        bits=act.bits,
        symmetric=act.zero_point in (0, middle),  # unsigned codes from zero on are the upper half of a symmetric range
        per_channel=False,
        power_of_two=bool(np.frexp(act.scale)[0] == 0.5),
    )


def _match_layers(imported: Imported, network: Network, source: str) -> tuple[dict[str, str], str]:
    """Return (layer of the network -> layer of the file, note)."""
    known = {layer.name for layer in imported.network.mac_layers}
    by_weight = {key.removesuffix(".weight"): layer for layer, key in imported.parameters.items()}
    layers = require_layers(network)
    for table, how in (
        ({name: name for name in known}, ""),
        (by_weight, "layers matched by the names of their weights"),
    ):
        if all(layer.name in table for layer in layers):
            matched = {layer.name: table[layer.name] for layer in layers}
            _require_shapes(imported, network, matched, source)
            return matched, how
    others = imported.network.mac_layers
    wanted = [_shape(layer_shape) for layer_shape in layers]
    if [_shape(layer_shape) for layer_shape in others] == wanted:
        pairs = {layer.name: other.name for layer, other in zip(layers, others, strict=True)}
        return pairs, "layers matched in order: every shape is the same, no name is"
    raise InputError(source, [_tell_difference(network, known, by_weight)])


def _require_shapes(imported: Imported, network: Network, matched: Mapping[str, str], source: str) -> None:
    """Raise InputError where layers of the same name differ in shape."""
    problems = []
    for name, other in matched.items():
        expected, found = (_describe_shape(layer) for layer in (network.layer(name), imported.network.layer(other)))
        if expected != found:
            problems.append(f"layer {name} has weights {found}, expected {expected}")
    if problems:
        told = join_some(problems, what="more layers")
        raise InputError(source, [f"holds another model than {network.name}: {told}"])


def _describe_shape(layer: Layer) -> str:
    groups = f" in {layer.G} groups" if layer.G > 1 else ""
    return f"{layer.G * layer.K}x{layer.C}x{layer.R}x{layer.S}{groups}"


def _tell_difference(network: Network, known: set[str], by_weight: Mapping[str, str]) -> str:
    missing = [layer.name for layer in network.mac_layers if layer.name not in known and layer.name not in by_weight]
    first = missing[0] if missing else network.mac_layers[0].name
    return (
        f"holds another model: {len(missing)} of the {len(network.mac_layers)} layers of {network.name} are not in it, "
        f"the first is {first!r}{suggest_name(first, known)}, and the shapes in order differ"
    )


def _shape(layer: object) -> tuple[object, ...]:
    return tuple(getattr(layer, field) for field in ("op", "G", "K", "C", "R", "S"))
