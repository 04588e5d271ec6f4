"""Which columns of a policy each layer's price depends on.

A policy has two columns a MAC layer, weight bits and activation bits, and the default of activations. A MAC layer depends on its
own two, on the bits at which its input is stored (the widest of all its readers) and on those of its output; a layer of the vector
unit on the bits of what it reads and writes. `hwsim.quant.calibrate.find_readers` says whose bits those are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hwsim.core.layer import Layer
from hwsim.core.network import Network
from hwsim.pipeline.workloads import find_lifetimes
from hwsim.quant.calibrate import find_readers

MOST_AXES = 4
"""Slots that a layer's table may depend on; a layer of more (an operator of many inputs) is priced without a table."""
Formats = tuple[int, ...]
"""Weight bits (0 for a vector layer), activation bits (0), bits of each stored operand, bits of the stored output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedLayer:
    """A layer with a price, and the slots of its bits (see `hwsim.search.kernel_lookup`).

    Parameters
    ----------
    layer : Layer
        The layer.
    slots : tuple of int
        Of its ``Formats`` in order; -1 for the two that a vector layer has not.
    axes : tuple of int
        The different ones of them, as the layer's table has them.
    """

    layer: Layer
    slots: tuple[int, ...]
    axes: tuple[int, ...]

    def formats(self, values: tuple[int, ...]) -> Formats:
        """Return the formats at the values of the axes."""
        bits = dict(zip(self.axes, values, strict=True))
        return tuple(bits.get(slot, 0) for slot in self.slots)


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """How the price of a network hangs together.

    Parameters
    ----------
    macs : tuple of str
        MAC layers, in order: the columns of a policy.
    widest : tuple of tuple of int
        For each slot behind the default: the slots that it is the most of.
    layers : tuple of PricedLayer
        In order.
    tensors : tuple of (int, int)
        Elements and slot of every tensor that takes memory.
    events : tuple of int
        Births (t + 1) and deaths (-t - 1) of these tensors while the layers run.
    """

    macs: tuple[str, ...]
    widest: tuple[tuple[int, ...], ...]
    layers: tuple[PricedLayer, ...]
    tensors: tuple[tuple[int, int], ...]
    events: tuple[int, ...]

    @property
    def default_slot(self) -> int:
        """Slot of the policy's default of activations."""
        return 2 * len(self.macs)

    @property
    def zero_slot(self) -> int:
        """Slot that is always zero."""
        return self.default_slot + 1 + len(self.widest)


def describe_structure(network: Network) -> Structure:
    """Return how a network's price depends on the columns of a policy."""
    macs = tuple(layer.name for layer in network.mac_layers)
    columns: dict[str | None, int] = {name: 2 * i + 1 for i, name in enumerate(macs)}
    columns[None] = 2 * len(macs)
    widest: dict[tuple[int, ...], int] = {}

    def find_slot(readers: frozenset[str | None]) -> int:
        parts = tuple(sorted(columns[reader] for reader in readers))
        return parts[0] if len(parts) == 1 else widest.setdefault(parts, columns[None] + 1 + len(widest))

    slots = {name: find_slot(readers) for name, readers in find_readers(network).items()}
    layers = []
    for layer in network.layers:
        if layer.kind not in ("mac", "vector"):
            continue
        own = (columns[layer.name] - 1, columns[layer.name]) if layer.kind == "mac" else (-1, -1)
        of_formats = (*own, *(slots[name] for name in layer.inputs), slots[layer.name])
        axes = tuple(dict.fromkeys(slot for slot in of_formats if slot >= 0))
        layers.append(PricedLayer(layer=layer, slots=of_formats, axes=axes))
    names, events = _list_events(network)
    tensors = tuple((_count_elements(network, name), slots[name]) for name in names)
    return Structure(macs=macs, widest=tuple(widest), layers=tuple(layers), tensors=tensors, events=events)


def _count_elements(network: Network, name: str) -> int:
    n, c, h, w = network.shape_of(name)
    return n * c * h * w


def _list_events(network: Network) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the tensors that take memory and when they come and go: the rule of `peak_activation_bits`."""
    owner, last = find_lifetimes(network)
    born = [spec.name for spec in network.inputs]
    names = tuple(born + [layer.name for layer in network.layers if owner[layer.name] == layer.name])
    place = {name: index + 1 for index, name in enumerate(names)}

    def walk() -> Iterator[int]:
        live = dict.fromkeys(born)
        yield from (place[name] for name in live)
        for step, layer in enumerate(network.layers):
            if owner[layer.name] == layer.name:
                live[layer.name] = None
                yield place[layer.name]
            for name in [name for name in live if last.get(name, -1) <= step]:
                del live[name]
                yield -place[name]

    return names, tuple(walk())
