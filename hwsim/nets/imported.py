"""What an importer returns, and the policy that a quantized file implies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from hwsim.core.errors import InputError
from hwsim.core.network import Network
from hwsim.core.policy import LayerFormat, Policy
from hwsim.core.tensors import ActQuant, Tensors

FLOAT_BITS = 16
"""Width that a layer without quantization gets in an implied policy: the widest that a policy can name."""
_SAME_VALUES = ("maxpool", "concat", "flatten", "reshape", "transpose", "shuffle", "slice", "pad", "identity")


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A network read from a file.

    Parameters
    ----------
    network : Network
        Its graph; ``network.notes`` equals ``notes``.
    tensors : Tensors or None
        Weights, biases and activation quantization; None where the file holds no real weights.
    notes : tuple of str
        Operators that were folded, ignored or cannot be priced, each with its node.
    parameters : dict
        MAC layer name to the name of its weight in the file (where it has one).
    """

    network: Network
    tensors: Tensors | None
    notes: tuple[str, ...] = ()
    parameters: dict[str, str] = field(default_factory=dict)


def find_activation(network: Network, activations: dict[str, ActQuant], tensor: str) -> ActQuant | None:
    """Return the quantization of a tensor, its own or that of the tensor whose values it repeats (a pooled maximum ...)."""
    layers = {layer.name: layer for layer in network.layers}
    while tensor not in activations:
        layer = layers.get(tensor)
        if layer is None or layer.op not in _SAME_VALUES:
            return None
        tensor = layer.inputs[0]
    return activations[tensor]


def quantized_policy(network: Network, tensors: Tensors | None) -> Policy:
    """Return the policy whose bit widths are those of the file.

    The most frequent format is the default, the others are exceptions. A weight or activation without quantization
    counts as ``FLOAT_BITS`` wide.

    Raises
    ------
    InputError
        Nothing in the file is quantized.
    """
    if tensors is None or not any(held.w_scale is not None for held in tensors.layers.values()):
        raise InputError(network.name, ["no layer is quantized, so it implies no policy"])
    formats: list[tuple[str, LayerFormat]] = []
    for layer in network.mac_layers:
        held = tensors.layers.get(layer.name)
        act = find_activation(network, tensors.activations, layer.inputs[0])
        formats.append(
            (
                layer.name,
                LayerFormat(
                    w_bits=held.w_bits if held is not None and held.w_scale is not None else FLOAT_BITS,
                    a_bits=min(act.bits, FLOAT_BITS) if act is not None else FLOAT_BITS,
                ),
            )
        )
    return collect_policy(formats)


def collect_policy(formats: Sequence[tuple[str, LayerFormat]]) -> Policy:
    """Return a policy of formats by layer: the most frequent one is the default, the others are exceptions."""
    default = Counter(form for _, form in formats).most_common(1)[0][0]
    return Policy(default=default, layers=tuple((name, form) for name, form in formats if form != default))
