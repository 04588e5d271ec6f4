"""What stored results depend on: the sources of the modules that make them, and the values that their constants have now."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import re
import sys
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import hwsim.core as core

ROOT = Path(__file__).resolve().parents[2]
IMPORT = re.compile(r"^[ \t]*(?:from\s+([\w.]+)\s+import\s+(\([^)]*\)|[^\n]+)|import\s+([\w.]+))", re.MULTILINE)
CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*")
PACKAGES = ("hwsim", "mappers", "energy_models")


@cache
def list_modules(roots: tuple[str, ...], arch_module: str) -> tuple[str, ...]:
    """Return the modules of a result, sorted: ``roots``, those of the architecture's package, and all of ours that they import.

    Imports are read from the sources, those inside of functions included.

    Parameters
    ----------
    roots : tuple of str
    arch_module : str
        Module that holds the architecture's class.
    """
    package = arch_module.rpartition(".")[0] if arch_module.startswith("hwsim.archs.") else ""
    found: set[str] = set()
    open_ends = [*roots, arch_module]
    if package:
        folder = locate(package)
        assert folder is not None
        open_ends += [f"{package}.{path.stem}" for path in folder.parent.glob("*.py") if path.stem != "__init__"]
    while open_ends:
        name = open_ends.pop()
        path = locate(name)
        if name in found or path is None:
            continue
        found.add(name)
        for module, names, plain in IMPORT.findall(path.read_text(encoding="utf-8")):
            base = module or plain
            if base.split(".")[0] in PACKAGES:
                inner = [f"{base}.{word}" for word in re.findall(r"\w+", names)]
                open_ends += [base, *(one for one in inner if locate(one) is not None)]
    return tuple(sorted(found))


def locate(module: str) -> Path | None:
    """Return the file of a module: by its name within this project, else of one that is imported."""
    if module.split(".")[0] in PACKAGES:
        place = ROOT.joinpath(*module.split("."))
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                return path
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file) if file else None


def list_files(modules: Iterable[str]) -> set[Path]:
    """Return the files of modules."""
    return {path for path in map(locate, modules) if path is not None}


def hash_files(files: Iterable[Path]) -> str:
    """Return a digest of the names and contents of files."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(files):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def are_as_loaded(files: Iterable[Path]) -> bool:
    """Return whether no file was written since this process began to import: else what runs may not be what the files say."""
    return all(path.stat().st_mtime <= core.began_s for path in files)


def list_constants(modules: Iterable[str]) -> list[str]:
    """Return the constants of modules as they are now, as text, in a fixed order; modules are imported."""
    found = []
    for name in modules:
        module = sys.modules.get(name) or importlib.import_module(name)
        for key, value in sorted(vars(module).items()):
            text = _describe(value) if CONSTANT.fullmatch(key) else ""
            if text:
                found.append(f"{name}.{key}={text}")
    return found


def _describe(value: Any) -> str:
    """Return a constant as text; empty for what holds no values, but comes from the sources (types, functions, modules)."""
    if value is None or isinstance(value, bool | int | float | str | bytes | Fraction | range | np.generic):
        return repr(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _describe({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}{value.tobytes().hex()}"
    if isinstance(value, tuple | list):
        return "[" + ",".join(_describe(item) for item in value) + "]"
    if isinstance(value, set | frozenset):
        return "{" + ",".join(sorted(_describe(item) for item in value)) + "}"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_describe(key)}:{_describe(item)}" for key, item in value.items()) + "}"
    return ""
