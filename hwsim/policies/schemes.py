"""What a policy file says beside the bits, and how formats of tensors become formats of layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hwsim.core.check import require_int
from hwsim.core.errors import InputError, SpecError
from hwsim.core.layer import Layer
from hwsim.core.network import Network
from hwsim.core.policy import LayerFormat, Policy
from hwsim.nets.imported import FLOAT_BITS, collect_policy
from hwsim.policies.names import join_some

WIDEST_BITS = 16
"""Widest format that a policy names (`hwsim.core.policy.LayerFormat`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorScheme:
    """How one tensor is quantized; None is what the file leaves open.

    Parameters
    ----------
    bits : int
        Bits of an element.
    symmetric : bool or None
        Zero point in the middle of the range.
    per_channel : bool or None
        A scale for each output channel.
    power_of_two : bool or None
        Every scale is a power of two.
    """

    bits: int
    symmetric: bool | None = None
    per_channel: bool | None = None
    power_of_two: bool | None = None

    def __post_init__(self) -> None:
        require_int("scheme.bits", self.bits, 1, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerScheme:
    """Schemes of a layer's weights and of its input; None where the tensor is not quantized."""

    weight: TensorScheme | None = None
    activation: TensorScheme | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFile:
    """A policy that was read from a file.

    Parameters
    ----------
    policy : Policy
        Formats by layer of the network that it was read for.
    kind : str
        The file's format, as a reader would call it.
    source : str
        Name of the file.
    schemes : tuple of (str, LayerScheme)
        By layer, where the file says more than bits.
    notes : tuple of str
        What was assumed; one line each.
    """

    policy: Policy
    kind: str
    source: str
    schemes: tuple[tuple[str, LayerScheme], ...] = ()
    notes: tuple[str, ...] = ()

    def scheme_of(self, layer: str) -> LayerScheme:
        """Return what is known of a layer: the file's scheme, else the policy's bits."""
        known = dict(self.schemes).get(layer)
        if known is not None:
            return known
        fmt = self.policy.of(layer)
        return LayerScheme(weight=TensorScheme(bits=fmt.w_bits), activation=TensorScheme(bits=fmt.a_bits))


def assemble_policy(
    network: Network,
    schemes: Mapping[str, LayerScheme],
    kind: str,
    source: str,
    notes: tuple[str, ...] = (),
    codec: str = "native",
) -> PolicyFile:
    """Return the policy of schemes by layer, weights in one codec.

    A tensor without a scheme is not quantized and counts as ``FLOAT_BITS`` wide, as does one that is wider; a note says so.
    """
    formats, floats, wide = [], [], []
    for layer in network.mac_layers:
        scheme = schemes.get(layer.name, LayerScheme())
        for what, tensor in (("weights", scheme.weight), ("input", scheme.activation)):
            if tensor is None:
                floats.append(f"{layer.name} ({what})")
            elif tensor.bits > WIDEST_BITS:
                wide.append(f"{layer.name} ({what}, {tensor.bits} bits)")
        w_bits, a_bits = read_scheme_bits(scheme.weight), read_scheme_bits(scheme.activation)
        formats.append((layer.name, LayerFormat(w_bits=w_bits, a_bits=a_bits, codec=codec)))
    notes = (*notes, *_note(f"not quantized, counted as {FLOAT_BITS} bits", floats))
    notes = (*notes, *_note(f"wider than a policy names, counted as {WIDEST_BITS} bits", wide))
    known = tuple((layer.name, schemes[layer.name]) for layer in network.mac_layers if layer.name in schemes)
    return PolicyFile(policy=collect_policy(formats), kind=kind, source=source, schemes=known, notes=notes)


def require_channels(where: str, count: int, layer: Layer, problems: list[str]) -> None:
    """Note the problem when a number of per-channel entries is neither one nor the layer's output channels."""
    channels = layer.G * layer.K
    if count not in (1, channels):
        problems.append(f"{where} has {count} per-channel entries, layer {layer.name} has {channels} output channels")


def require_filters(policy: Policy, network: Network) -> None:
    """Raise SpecError where bits by channel are for another number of filters than a layer has.

    A policy with groups is for the widened network, which is checked when it is widened.
    """
    if policy.default.groups > 1:
        return
    for layer in network.mac_layers:
        held = count_filters(policy.of(layer.name))
        if held not in (0, layer.G * layer.K):
            where = f"policy for layer {layer.name}: channel_bits"
            raise SpecError(where, f"{held} filters", f"{layer.G * layer.K}, those of the layer")


def count_filters(fmt: LayerFormat) -> int:
    """Return how many filters a format's bits by channel are for; 0 where it has none."""
    return sum(count for _, count in fmt.channel_bits)


def require_layers(network: Network) -> tuple[Layer, ...]:
    """Return the MAC layers, or raise InputError when there are none to give formats to."""
    if not network.mac_layers:
        raise InputError(network.name, ["has no convolution and no gemm: a policy has nothing to speak of"])
    return network.mac_layers


def read_scheme_bits(scheme: TensorScheme | None) -> int:
    """Return the bits that a tensor has in a policy: those of floats where it is not quantized, at most ``WIDEST_BITS``."""
    return FLOAT_BITS if scheme is None else min(scheme.bits, WIDEST_BITS)


def _note(what: str, names: list[str]) -> tuple[str, ...]:
    return (f"{what}: {join_some(names)}",) if names else ()
