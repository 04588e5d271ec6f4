"""Fields of an architecture by name: overridden from text (``rows=16``), read from TOML, written to TOML."""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
import types
import typing
from collections.abc import Mapping as Map
from pathlib import Path
from typing import Any

from hwsim.archs.registry import find_arch
from hwsim.core.arch import Arch
from hwsim.core.errors import HwsimError, InputError, SpecError
from hwsim.core.shell import Memory

GROUPS = ("shell", "memory")
"""Fields of an architecture that hold fields of their own."""
FIXED = ("preset", "unverified", "source")
"""Fields that describe the preset itself; they cannot be set."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field that can be set: its dotted path (``rows``, ``shell.wbuf_bits``) and its type."""

    path: str
    kind: Any

    @property
    def bare(self) -> str:
        """The name without its group."""
        return self.path.rpartition(".")[2]


def list_fields(arch: Arch) -> tuple[Field, ...]:
    """Return the fields of an architecture that can be set, its own first."""
    own = [item for item in _fields_of(type(arch), "") if item.path not in (*FIXED, *GROUPS)]
    return (*own, *(item for group in GROUPS for item in _fields_of(type(getattr(arch, group)), f"{group}.")))


def override(arch: Arch, changes: Map[str, object]) -> Arch:
    """Return an architecture with some fields changed; ``+`` behind its preset's name says so.

    Parameters
    ----------
    arch : Arch
        Where it starts from.
    changes : mapping of str to value
        Field (dotted path, or a bare name that only one group has) to its new value, as text or of its type.

    Raises
    ------
    SpecError
        An unknown or ambiguous field, with the nearest ones; a value of the wrong type or out of range.
    """
    fields = list_fields(arch)
    parsed: dict[str, object] = {}
    for name, value in changes.items():
        field = _find_field(arch, fields, name)
        if field.path in parsed:
            raise SpecError(f"{arch.name}.{field.path}", value, "each field set once")
        parsed[field.path] = _parse(f"{arch.name}.{field.path}", value, field.kind)
    own = {path: value for path, value in parsed.items() if "." not in path}
    for group in GROUPS:
        inner = {path.partition(".")[2]: value for path, value in parsed.items() if path.startswith(f"{group}.")}
        if inner:
            own[group] = dataclasses.replace(getattr(arch, group), **inner)
    return _mark(arch, dataclasses.replace(arch, **own), tuple(parsed))  # type: ignore[arg-type]


def parse_settings(texts: typing.Iterable[str]) -> dict[str, str]:
    """Read ``name=value`` texts into a dictionary.

    Raises
    ------
    SpecError
        A text without ``=``, or a name given twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, sep, value = text.partition("=")
        if not sep or not name.strip() or not value.strip():
            raise SpecError("--set", text, "name=value", "for example --set rows=16")
        if name.strip() in found:
            raise SpecError("--set", text, f"{name.strip()} once")
        found[name.strip()] = value.strip()
    return found


def list_memories() -> tuple[str, ...]:
    """Return what `choose_memory` takes: ``flat`` and the names of the DRAM parts."""
    from hwsim.core.dram_parts import PARTS

    return ("flat", *(part.name for part in PARTS))


def choose_memory(arch: Arch, name: str) -> Arch:
    """Return an architecture with another memory behind the same port.

    Parameters
    ----------
    arch : Arch
        Where it starts from; port width and channels stay, an on-chip memory gives way to DRAM.
    name : str
        ``flat`` or the name of a DRAM part.

    Raises
    ------
    SpecError
        Unknown name, or a port that the memory cannot have.
    """
    known = list_memories()
    if name not in known:
        raise SpecError("--memory", name, "one of " + ", ".join(known), _suggest(name, known))
    kind, part = ("flat", "") if name == "flat" else ("dram", name)
    on_chip_bits = 0 if kind == "dram" else arch.memory.on_chip_bits
    memory: Memory = dataclasses.replace(arch.memory, kind=kind, part=part, on_chip_bits=on_chip_bits)
    return _mark(arch, dataclasses.replace(arch, memory=memory), ("memory.kind", "memory.part", "memory.on_chip_bits"))


def arch_from_toml(path: str | Path) -> Arch:
    """Read an architecture from a TOML file: ``arch``, ``preset``, then fields and tables ``[shell]``, ``[memory]``.

    Raises
    ------
    InputError
        The file cannot be read or is no TOML, or names no architecture.
    SpecError, UnknownName
        As `override` and `find_arch`, with the file's name in front.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise InputError(str(path), [error.strerror or str(error)]) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(str(path), [f"no TOML: {error}"]) from None
    name, preset = data.pop("arch", None), data.pop("preset", None)
    if not isinstance(name, str) or not isinstance(preset, str | None):
        raise InputError(str(path), ['the first line should be arch = "NAME", then preset = "NAME" if wanted'])
    changes: dict[str, object] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            changes.update({f"{key}.{inner}": item for inner, item in value.items()})
        else:
            changes[key] = value
    try:
        return override(find_arch(name, preset), changes)
    except HwsimError as error:
        raise InputError(str(path), [str(error)]) from error


def arch_to_toml(arch: Arch) -> str:
    """Return a TOML text with every field of an architecture, from which `arch_from_toml` gives it back."""
    lines = [f'arch = "{arch.name}"', f'preset = "{arch.preset.rstrip("+")}"', ""]
    group = ""
    for field in list_fields(arch):
        owner, _, bare = field.path.rpartition(".")
        if owner != group:
            group = owner
            lines += ["", f"[{group}]"]
        value = getattr(getattr(arch, owner) if owner else arch, bare)
        if value is not None:
            lines.append(f"{bare} = {_write_value(value)}")
    return "\n".join(lines) + "\n"


def _fields_of(kind: type, prefix: str) -> list[Field]:
    hints = typing.get_type_hints(kind)
    return [Field(path=prefix + item.name, kind=hints[item.name]) for item in dataclasses.fields(kind) if item.init]  # type: ignore[arg-type]


def _find_field(arch: Arch, fields: tuple[Field, ...], name: str) -> Field:
    """Return a field by its dotted path or its bare name."""
    path = name.removeprefix("arch.")
    exact = [field for field in fields if field.path == path]
    if exact:
        return exact[0]
    bare = [field for field in fields if field.bare == path]
    if len(bare) == 1:
        return bare[0]
    if bare:
        raise SpecError(f"field of {arch.name}", name, "one of " + ", ".join(field.path for field in bare))
    if path in FIXED:
        raise SpecError(f"field of {arch.name}", name, "a field that can be set", f"{path} describes the preset itself")
    known = sorted({field.path for field in fields} | {field.bare for field in fields})
    near = _suggest(path, known)
    if near:
        raise SpecError(f"field of {arch.name}", name, "one of its fields", near)
    raise SpecError(f"field of {arch.name}", name, "one of " + ", ".join(field.path for field in fields))


def _suggest(name: str, known: typing.Iterable[str]) -> str:
    near = difflib.get_close_matches(name.lower(), list(known), n=2, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else ""


def _parse(path: str, value: object, kind: Any) -> object:
    """Return ``value`` as type ``kind``: from text, or checked where it already has a type."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if isinstance(value, str) and value.lower() in ("", "none") and type(None) in inner:
            return None
        rest = [item for item in inner if item is not type(None)]
        return _parse(path, value, rest[0])
    if origin is typing.Literal:
        if value not in inner:
            names = ", ".join(map(str, inner))
            hint = _suggest(str(value), [str(item) for item in inner])
            raise SpecError(path, value, f"one of {names}", hint)
        return value
    if origin is tuple:
        return _parse_tuple(path, value, inner)
    parser = {bool: _parse_bool, int: _parse_int, float: _parse_float, str: _parse_str}.get(kind)
    if parser is None:
        raise SpecError(path, value, "a field of a plain type, which this one is not")
    return parser(path, value)


def _parse_tuple(path: str, value: object, inner: tuple[Any, ...]) -> tuple[object, ...]:
    parts = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise SpecError(path, value, "values joined by commas")
    kinds = [inner[0]] * len(parts) if inner[-1] is Ellipsis else list(inner)
    if len(kinds) != len(parts):
        raise SpecError(path, value, f"{len(kinds)} values joined by commas")
    return tuple(_parse(path, part, kind) for part, kind in zip(parts, kinds, strict=True))


def _parse_bool(path: str, value: object) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    found = value if isinstance(value, bool) else words.get(str(value).lower())
    if found is None:
        raise SpecError(path, value, "true or false")
    return found


def _parse_int(path: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            return int(value, 0)
        except ValueError:
            pass
    raise SpecError(path, value, "an integer")


def _parse_float(path: str, value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            pass
    raise SpecError(path, value, "a number")


def _parse_str(path: str, value: object) -> str:
    if not isinstance(value, str):
        raise SpecError(path, value, "a text")
    return value


def _mark(before: Arch, after: Arch, paths: tuple[str, ...]) -> Arch:
    """Put ``+`` behind the preset's name where something changed, and drop changed fields from ``unverified``."""
    if after == before:
        return before
    changed = {path for path in paths if _value_at(before, path) != _value_at(after, path)}
    changed |= {path.rpartition(".")[2] for path in changed}
    kept = tuple(item for item in before.unverified if item not in changed)
    return dataclasses.replace(after, preset=before.preset.rstrip("+") + "+", unverified=kept)


def _value_at(arch: Arch, path: str) -> object:
    value: object = arch
    for part in path.split("."):
        value = getattr(value, part)
    return value


def _write_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_write_value(item) for item in value) + "]"
    return repr(value)
