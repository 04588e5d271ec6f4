"""Architectures, found by walking the packages beside this file.

A package ``hwsim/archs/<name>/`` whose ``__init__`` holds ``ARCH`` (the class), ``PRESETS`` (name to value) and ``DEFAULT`` (a
preset's name) is an architecture; nothing else names it. Its ``__init__`` stays light: no numba, no pandas. A name that
begins with ``_`` is skipped. One that cannot be imported stays listed, with the reason.
"""

from __future__ import annotations

import difflib
import importlib
import json
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass

import hwsim.archs
from hwsim.core.arch import Arch
from hwsim.core.errors import InputError, UnknownName


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchEntry:
    """What the list of architectures shows of one.

    Parameters
    ----------
    name, title : str
        Its name, and what it is in a few words.
    presets : tuple of str
        Names of its presets.
    default : str
        The preset that is taken where none is named.
    error : str
        Why it cannot be used; empty where it can.
    """

    name: str
    title: str = ""
    presets: tuple[str, ...] = ()
    default: str = ""
    error: str = ""


def list_archs() -> tuple[ArchEntry, ...]:
    """Return every architecture, sorted by name, the broken ones with the reason."""
    return tuple(sorted((_describe(module) for module in _walk()), key=lambda entry: entry.name))


def find_arch(name: str, preset: str | None = None) -> Arch:
    """Return an architecture at a preset.

    Parameters
    ----------
    name : str
        Name, ``name:preset``, or ``name-preset`` where no architecture is called so (``bismo-cloud``).
    preset : str, optional
        Name of a preset; the architecture's default where neither names one.

    Raises
    ------
    UnknownName
        No such architecture or preset, with the nearest ones, presets joined as they were asked for.
    InputError
        The architecture is there but cannot be imported.
    """
    base, _, named = _split_alias(name).partition(":")
    module = base.replace("-", "_")
    if module not in _walk() or base != module.replace("_", "-"):
        near = _list_near_presets(name)
        raise UnknownName("architecture", name if near else base, [*(entry.name for entry in list_archs()), *near])
    _, presets, default = _load(module)
    wanted = preset or named or default
    if wanted not in presets:
        raise UnknownName(f"preset of {base}", wanted, presets)
    return presets[wanted]


def _split_alias(name: str) -> str:
    """Return ``bismo:cloud`` for ``bismo-cloud``: architecture and preset joined by a hyphen, unless all of it is a name."""
    names = {module.replace("_", "-") for module in _walk()}
    if name in names or ":" in name:
        return name
    for at in (place for place, char in enumerate(name) if char == "-"):
        base, preset = name[:at], name[at + 1 :]
        if base in names and preset in _load(base.replace("-", "_"))[1]:
            return f"{base}:{preset}"
    return name


def _list_near_presets(name: str) -> list[str]:
    """Return ``bismo-cloud`` for ``bismo-clud``: presets of which both parts are near what was asked, joined by the same mark."""
    presets = {entry.name: entry.presets for entry in list_archs()}
    cuts = [(name[:at], mark, name[at + 1 :]) for at, mark in enumerate(name) if mark in "-:"]
    return [
        f"{base}{mark}{preset}"
        for asked, mark, rest in cuts
        for base in _find_near(asked, presets)
        for preset in _find_near(rest, presets[base])
    ]


def _find_near(asked: str, known: Iterable[str]) -> list[str]:
    """Return the nearest of some names, upper or lower case alike."""
    lowered = {one.lower(): one for one in known}
    return [lowered[near] for near in difflib.get_close_matches(asked.lower(), lowered)]


def list_presets(name: str) -> dict[str, Arch]:
    """Return the presets of an architecture by name."""
    find_arch(name)
    return dict(_load(name.replace("-", "_"))[1])


def encode_arch(arch: Arch) -> str:
    """Return an architecture as JSON: ``arch`` (its name) and its fields."""
    import msgspec

    return msgspec.json.encode({"arch": arch.name, **msgspec.to_builtins(arch)}).decode()


def decode_arch(text: str | bytes, source: str = "architecture") -> Arch:
    """Read what `encode_arch` wrote; the class is found by its name.

    Raises
    ------
    InputError
        Malformed JSON, a missing or ill-typed field, an unknown field.
    UnknownName
        No such architecture.
    """
    import msgspec

    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(source, [str(error)]) from None
    if not isinstance(fields, dict) or not isinstance(fields.get("arch"), str):
        raise InputError(source, ["an object with the field 'arch' is expected"])
    name = fields.pop("arch")
    find_arch(name)
    kind = _load(name.replace("-", "_"))[0]
    unknown = sorted(set(fields) - set(kind.__dataclass_fields__))
    if unknown:
        raise InputError(source, [f"{name} has no field {field!r}" for field in unknown])
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise InputError(source, [str(error)]) from None


def _walk() -> list[str]:
    return [item.name for item in pkgutil.iter_modules(hwsim.archs.__path__) if item.ispkg and item.name[0] != "_"]


def _describe(module: str) -> ArchEntry:
    try:
        kind, presets, default = _load(module)
    except InputError as error:
        return ArchEntry(name=module.replace("_", "-"), error="; ".join(error.problems))
    return ArchEntry(name=kind.name, title=kind.title, presets=tuple(presets), default=default)


def _load(module: str) -> tuple[type[Arch], dict[str, Arch], str]:
    """Import one architecture and check what it exports."""
    name = module.replace("_", "-")
    try:
        found = importlib.import_module(f"hwsim.archs.{module}")
        kind, presets, default = found.ARCH, dict(found.PRESETS), found.DEFAULT
    except Exception as error:  # whatever a plug-in does wrong, the others stay usable
        reason = " ".join(str(error).split()) or "no text"
        raise InputError(f"architecture {name}", [f"cannot be used, {type(error).__name__}: {reason}"]) from error
    problems = []
    if not (isinstance(kind, type) and issubclass(kind, Arch)):
        problems.append("ARCH is no subclass of Arch")
    elif kind.name != name:
        problems.append(f"ARCH.name is {kind.name!r}, its package is called {module!r}")
    problems += [f"preset {key!r} is no {name}" for key, value in presets.items() if not isinstance(value, Arch)]
    if default not in presets:
        problems.append(f"DEFAULT is {default!r}, which is no preset")
    if problems:
        raise InputError(f"architecture {name}", problems)
    return kind, presets, default
