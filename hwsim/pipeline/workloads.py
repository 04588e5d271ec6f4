"""Number formats of every tensor, and with them the workload of every layer."""

from __future__ import annotations

from dataclasses import replace

from hwsim.core.arch import Arch
from hwsim.core.datapath import Workload
from hwsim.core.layer import Layer
from hwsim.core.network import Network
from hwsim.core.policy import LayerFormat, Policy
from hwsim.quant.calibrate import choose_tensor_bits


def list_workloads(network: Network, policy: Policy) -> dict[str, Workload]:
    """Return the workload of every layer with arithmetic, by name, in order.

    Raises
    ------
    UnknownName
        The policy names a layer that the network has not.
    """
    policy.check(network)
    bits = choose_tensor_bits(network, policy)
    return {
        layer.name: _make_workload(network, layer, policy.of(layer.name), bits)
        for layer in network.layers
        if layer.kind in ("mac", "vector")
    }


def _make_workload(network: Network, layer: Layer, fmt: LayerFormat, bits: dict[str, int]) -> Workload:
    return Workload(
        layer=layer,
        fmt=replace(fmt, operator=layer.operator) if fmt.operator == "native" else fmt,
        out_bits=bits[layer.name],
        operand_bits=tuple(bits[name] for name in layer.inputs),
        operand_shapes=tuple(network.shape_of(name) for name in layer.inputs),
    )


def list_stored_bits(network: Network, policy: Policy, arch: Arch) -> dict[str, int]:
    """Return the bits of an element of every tensor as the accelerator stores it, by name."""
    return {name: arch.choose_stored_bits(bits) for name, bits in choose_tensor_bits(network, policy).items()}


def find_lifetimes(network: Network) -> tuple[dict[str, str], dict[str, int]]:
    """Return whose memory each layer's output lies in, and the last step at which each tensor that takes memory is read.

    Layers without arithmetic make no copy: their output lies in the memory of their input. Steps count layers; outputs of the
    network are read behind the last one, a tensor that is not named is read by nobody.
    """
    owner: dict[str, str] = {}
    last: dict[str, int] = {}
    for step, layer in enumerate(network.layers):
        moves = layer.kind == "address" and layer.op != "concat"
        owner[layer.name] = owner.get(layer.inputs[0], layer.inputs[0]) if moves else layer.name
        for name in layer.inputs:
            last[owner.get(name, name)] = step
    for name in network.outputs:
        last[owner.get(name, name)] = len(network.layers)
    return owner, last


def peak_activation_bits(network: Network, bits: dict[str, int]) -> int:
    """Return the largest sum of live activation tensors, bits, while the layers run in order.

    A tensor lives from the layer that writes it to the last that reads it (`find_lifetimes`).
    """
    owner, last = find_lifetimes(network)

    def size(name: str) -> int:
        n, c, h, w = network.shape_of(name)
        return n * c * h * w * bits[name]

    live = {spec.name: size(spec.name) for spec in network.inputs}
    peak = sum(live.values())
    for step, layer in enumerate(network.layers):
        if owner[layer.name] == layer.name:
            live[layer.name] = size(layer.name)
        peak = max(peak, sum(live.values()))
        live = {name: bits_ for name, bits_ in live.items() if last.get(name, -1) > step}
    return peak
