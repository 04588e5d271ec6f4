"""What a stored price depends on besides its layer: a digest of the model's sources, constants, prices and accelerator."""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hwsim.core.arch import Arch
from hwsim.core.jsonio import to_json
from hwsim.pipeline.prices import Prices

ROOT = Path(__file__).resolve().parents[2]
ROOTS = ("hwsim.pipeline.layer", "hwsim.pipeline.prices", "hwsim.pipeline.workloads", "mappers.search")
"""Modules that make a price, besides the architecture's own package; what they import belongs to them."""
FILES = ("hwsim/pipeline/simulate.py", "hwsim/search/book.py", "hwsim/core/jit.py")
"""Files that count by themselves: most of what they import makes no price."""
DATA = ("energy_models",)
"""Packages whose data files count."""
DATA_SUFFIXES = (".csv", ".toml")
IMPORT = re.compile(r"^[ \t]*(?:from\s+([\w.]+)\s+import\s+(\([^)]*\)|[^\n]+)|import\s+([\w.]+))", re.MULTILINE)
CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*")
PACKAGES = ("hwsim", "mappers", "energy_models")


def hash_price(arch: Arch, prices: Prices, objective: str) -> str:
    """Return a digest of all that a price depends on besides the layer and its formats.

    Sources and data files of the modules that make a price; the values that their constants have now, whatever the files say;
    the accelerator's fields without names and remarks; the energy table's and the DRAM part's figures; the mapper's objective.
    """
    digest = hashlib.blake2b(digest_size=20)
    neutral = replace(arch, preset="", source="", unverified=())
    kind = type(arch).__module__
    for part in (
        hash_sources(kind), arch.name, to_json(neutral), repr(prices.table), repr(prices.dram), objective,
        *list_constants(kind),
    ):  # fmt: skip
        digest.update(part.encode())
        digest.update(b"\0")
    return digest.hexdigest()


@cache
def hash_sources(arch_module: str) -> str:
    """Return a digest of the files that decide a price on the architecture whose class ``arch_module`` holds."""
    files = {path for path in map(_locate, list_modules(arch_module)) if path is not None}
    files.update(ROOT / name for name in FILES)
    files.update(path for name in DATA for path in (ROOT / name).rglob("*") if path.suffix in DATA_SUFFIXES)
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(files):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def list_modules(arch_module: str) -> tuple[str, ...]:
    """Return the modules that make a price, sorted: those of ``ROOTS`` and of the architecture, and all of ours that they import.

    Imports are read from the sources, those inside of functions included.
    """
    package = arch_module.rpartition(".")[0] if arch_module.startswith("hwsim.archs.") else ""
    found: set[str] = set()
    open_ends = [*ROOTS, arch_module]
    if package:
        folder = _locate(package)
        assert folder is not None
        open_ends += [f"{package}.{path.stem}" for path in folder.parent.glob("*.py") if path.stem != "__init__"]
    while open_ends:
        name = open_ends.pop()
        path = _locate(name)
        if name in found or path is None:
            continue
        found.add(name)
        for module, names, plain in IMPORT.findall(path.read_text(encoding="utf-8")):
            base = module or plain
            if base.split(".")[0] in PACKAGES:
                inner = [f"{base}.{word}" for word in re.findall(r"\w+", names)]
                open_ends += [base, *(one for one in inner if _locate(one) is not None)]
    return tuple(sorted(found))


def _locate(module: str) -> Path | None:
    """Return the file of a module: by its name within this project, else of one that is imported."""
    if module.split(".")[0] in PACKAGES:
        place = ROOT.joinpath(*module.split("."))
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                return path
        return None
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file) if file else None


def list_constants(arch_module: str) -> list[str]:
    """Return the constants of these modules as text, in a fixed order."""
    found = []
    for name in list_modules(arch_module):
        module = sys.modules.get(name) or importlib.import_module(name)
        for key, value in sorted(vars(module).items()):
            text = _describe(value) if CONSTANT.fullmatch(key) else ""
            if text:
                found.append(f"{name}.{key}={text}")
    return found


def _describe(value: Any) -> str:
    """Return a constant as text, empty where it holds no plain values (types, functions)."""
    if value is None or isinstance(value, bool | int | float | str | bytes | Fraction | range):
        return repr(value)
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}{value.tobytes().hex()}"
    if isinstance(value, tuple | list):
        return "[" + ",".join(_describe(item) for item in value) + "]"
    if isinstance(value, set | frozenset):
        return "{" + ",".join(sorted(_describe(item) for item in value)) + "}"
    if isinstance(value, dict):
        return "{" + ",".join(f"{_describe(key)}:{_describe(item)}" for key, item in value.items()) + "}"
    return ""
