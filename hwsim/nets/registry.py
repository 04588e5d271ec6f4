"""The registry of networks: every ``NETWORKS`` tuple of a module in ``hwsim.nets.zoo``.

A network is added by a new file there; nothing else changes. Listing builds no network and imports no array library.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from hwsim.core.errors import UnknownName
from hwsim.core.network import Network
from hwsim.core.policy import LayerFormat, Policy
from hwsim.nets import zoo
from hwsim.nets.builder import NetBuilder


@dataclass(frozen=True, slots=True, kw_only=True)
class NetEntry:
    """A network that can be built by name.

    Parameters
    ----------
    name : str
        Canonical name; torchvision's where torchvision has the network.
    title : str
        What it is, with its input size.
    source : str
        Where its shapes come from.
    lay : callable
        Lays its layers with a builder.
    aliases : tuple of str
        Other names it answers to (spelling with or without separators is the same name anyway).
    formats : tuple of (str, LayerFormat)
        Number formats that its source gives layers, by operator (``multiply``, ``shift``, ``add``); its policy where none is given.
    """

    name: str
    title: str
    source: str
    lay: Callable[[NetBuilder], None] = field(repr=False)
    aliases: tuple[str, ...] = ()
    formats: tuple[tuple[str, LayerFormat], ...] = ()

    def build(self) -> Network:
        """Return the network at batch size 1."""
        builder = NetBuilder(self.name, self.source)
        self.lay(builder)
        return builder.finish()


def find_policy(name: str) -> Policy | None:
    """Return the number formats that a network of the zoo comes with, or None."""
    entry = _index_names().get(normalize_name(name))
    if entry is None or not entry.formats:
        return None
    formats = dict(entry.formats)
    layers = ((layer.name, formats.get(layer.operator)) for layer in _build(entry).mac_layers)
    own = tuple((layer, fmt) for layer, fmt in layers if fmt is not None)
    return Policy(default=formats.get("multiply", LayerFormat()), layers=own)


def list_networks() -> tuple[NetEntry, ...]:
    """Return all networks, by family and then in the order their file gives."""
    return tuple(entry for module in _find_modules() for entry in module)


def find_network(name: str) -> Network:
    """Return a network by name; case and the separators ``-_. /`` do not matter.

    Raises
    ------
    UnknownName
        With the nearest names.
    """
    found = _index_names().get(normalize_name(name))
    if found is None:
        raise UnknownName("net", name, [entry.name for entry in list_networks()])
    return _build(found)


def normalize_name(name: str) -> str:
    """Return a name's letters and digits in lower case."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


@cache
def _find_modules() -> tuple[tuple[NetEntry, ...], ...]:
    names = sorted(info.name for info in pkgutil.iter_modules(zoo.__path__) if not info.name.startswith("_"))
    return tuple(importlib.import_module(f"{zoo.__name__}.{name}").NETWORKS for name in names)


@cache
def _index_names() -> dict[str, NetEntry]:
    index: dict[str, NetEntry] = {}
    for entry in list_networks():
        for name in (entry.name, *entry.aliases):
            key = normalize_name(name)
            if index.setdefault(key, entry) is not entry:
                raise ValueError(f"networks {index[key].name} and {entry.name} share the name {name!r}")
    return index


@cache
def _build(entry: NetEntry) -> Network:
    return entry.build()
