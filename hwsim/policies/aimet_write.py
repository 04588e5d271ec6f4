"""Writes AIMET encodings, version 1.0.0.

Source: as `hwsim.policies.aimet`. A scale is ``real = scale * (q + offset)`` with q from 0: a symmetric signed tensor of b bits
has the offset ``-2**(b-1)``, another one minus its zero point. One signed bit is bipolar, -scale and +scale, which lie two scales
apart: no offset gives both.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from hwsim.core.errors import InputError
from hwsim.core.network import Network
from hwsim.core.policy import Policy
from hwsim.core.tensors import ActQuant, LayerTensors, Tensors
from hwsim.nets.imported import find_activation
from hwsim.policies.names import NameTable, join_some
from hwsim.quant.calibrate import INPUT

NARROWEST_BITS = 4
"""Narrowest width that AIMET's specification names (bitwidth >= 4); narrower ones are written and noted."""


def format_aimet(network: Network, tensors: Tensors, names: NameTable) -> tuple[str, tuple[str, ...]]:
    """Return the encodings of a quantized network as JSON text, and what a reader should know.

    Parameters
    ----------
    network : Network
        Weights and inputs of its MAC layers are written.
    tensors : Tensors
        Quantized (`hwsim.engine.functional.calibrate_network`, or a quantized file's own).
    names : NameTable
        Names of the tensors, of `hwsim.policies.names.list_names`.

    Raises
    ------
    InputError
        A layer is not quantized, or its weights or its input are bipolar.
    """
    parameters: list[dict[str, Any]] = []
    activations: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    clashes: list[str] = []
    narrow, bipolar = [], []
    for layer in network.mac_layers:
        held = tensors.layers.get(layer.name)
        act = tensors.activations.get(layer.name + INPUT)
        act = act or find_activation(network, tensors.activations, layer.inputs[0])
        if held is None or held.w_scale is None or act is None:
            problems.append(f"layer {layer.name} is not quantized")
            continue
        bipolar += [
            f"{layer.name} ({what})"
            for what, bits, signed in (
                ("weights", held.w_bits, held.weight.dtype.kind == "i"),
                ("input", act.bits, act.signed),
            )
            if bits == 1 and signed
        ]
        known = dict(names.layers)[layer.name]
        parameters.append(_encode_weight(_choose_weight_name(known.weight), held))
        encoded = _encode_activation(known.inputs[0], act)
        before = activations.get(known.inputs[0])
        if before is not None and before != encoded:
            clashes.append(layer.name)
        if before is None or encoded["bw"] > before["bw"]:
            activations[known.inputs[0]] = encoded
        if min(held.w_bits, act.bits) < NARROWEST_BITS:
            narrow.append(layer.name)
    if bipolar:
        problems.append(
            f"AIMET encodings cannot say -scale and +scale, which one signed bit means: {join_some(bipolar)}"
        )
    if problems:
        raise InputError(network.name, problems)
    data = {
        "version": "1.0.0",
        "activation_encodings": list(activations.values()),
        "param_encodings": parameters,
        "excluded_layers": [],
    }
    notes = []
    if clashes:
        notes.append(
            f"a tensor that several layers read in different formats has the widest one: {', '.join(clashes[:4])}"
        )
    if narrow:
        notes.append(
            f"AIMET names widths from {NARROWEST_BITS} bits on; narrower ones are written: {', '.join(narrow[:4])}"
        )
    return json.dumps(data, indent=2, sort_keys=True) + "\n", tuple(notes)


def list_losses(network: Network, policy: Policy) -> tuple[str, ...]:
    """Return what of a policy encodings cannot say, one line a field: bits, scales and zero points are all that they hold."""
    found = []
    for field, plain in (("operator", "multiply"), ("codec", "dense"), ("channel_bits", ()), ("groups", 1)):
        names = [
            layer.name for layer in network.mac_layers if getattr(policy.of(layer.name), field) not in ("native", plain)
        ]
        if names:
            found.append(f"AIMET encodings have no {field}, it is left out: {join_some(names)}")
    return tuple(found)


def _choose_weight_name(names: tuple[str, ...]) -> str:
    """Return the name of the parameter: the last of the graph's, before those made of the layer's name."""
    return names[-3] if len(names) > 2 else names[0]


def _encode_weight(name: str, held: LayerTensors) -> dict[str, Any]:
    scale = np.asarray(held.w_scale, np.float64).reshape(-1)
    signed = held.weight.dtype.kind == "i"
    zero = np.zeros(len(scale)) if held.w_zero is None else np.broadcast_to(held.w_zero, scale.shape)
    shift = 1 << (held.w_bits - 1) if signed else 0
    return {
        "name": name,
        "enc_type": "PER_CHANNEL" if len(scale) > 1 else "PER_TENSOR",
        "dtype": "INT",
        "bw": held.w_bits,
        "is_sym": bool(np.all(zero == 0) if signed else np.all(zero == 1 << (held.w_bits - 1))),
        "scale": [float(value) for value in scale],
        "offset": [-int(value) - shift for value in zero],
    }


def _encode_activation(name: str, act: ActQuant) -> dict[str, Any]:
    return {
        "name": name,
        "enc_type": "PER_TENSOR",
        "dtype": "INT",
        "bw": act.bits,
        "is_sym": act.zero_point == 0,
        "scale": [act.scale],
        "offset": [act.low - act.zero_point],
    }
