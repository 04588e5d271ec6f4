"""What a stored price depends on besides its layer: a digest of the model's sources, constants, prices and accelerator."""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
import re
import sys
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from hwsim.core.arch import Arch
from hwsim.core.jsonio import to_json
from hwsim.pipeline.prices import Prices

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("hwsim/core", "hwsim/engine", "hwsim/archs", "hwsim/pipeline", "hwsim/quant", "mappers", "energy_models")
"""Sources and data that decide a price."""
SUFFIXES = (".py", ".csv", ".toml")
PACKAGES = ("hwsim.core", "mappers", "energy_models")
"""Packages all of whose constants count, besides the architecture's own package."""
MODULES = (
    *(
        f"hwsim.engine.{name}"
        for name in ("run", "lower", "dram", "kernel_shell", "kernel_lower", "kernel_port", "kernel_dram")
    ),
    *(f"hwsim.pipeline.{name}" for name in ("layer", "prices", "workloads")),
    "hwsim.quant.calibrate",
)
"""Further modules whose constants count."""
CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*")


@cache
def hash_sources() -> str:
    """Return a digest of the files that decide a price."""
    digest = hashlib.blake2b(digest_size=16)
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SUFFIXES:
                digest.update(f"{path.relative_to(ROOT)}\0{path.stat().st_size}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def hash_price(arch: Arch, prices: Prices, objective: str) -> str:
    """Return a digest of all that a price depends on besides the layer and its formats.

    Sources and data files of the model; the values that its constants have now, whatever the files say; the accelerator's fields
    without names and remarks; the energy table's and the DRAM part's figures; the mapper's objective.
    """
    digest = hashlib.blake2b(digest_size=20)
    neutral = replace(arch, preset="", source="", unverified=())
    parts = (
        hash_sources(),
        _hash_outside(type(arch)),
        arch.name,
        to_json(neutral),
        repr(prices.table),
        repr(prices.dram),
        objective,
    )
    for part in (*parts, *_list_constants(type(arch).__module__)):
        digest.update(part.encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _hash_outside(kind: type) -> str:
    """Return a digest of the file of an architecture that stands outside this project, empty for its own."""
    path = Path(getattr(sys.modules.get(kind.__module__), "__file__", None) or ROOT / "hwsim/core/arch.py")
    if path.is_relative_to(ROOT / "hwsim"):
        return ""
    files = sorted(path.parent.glob("*.py")) if path.name in ("__init__.py", "spec.py") else [path]
    return hashlib.blake2b(b"".join(file.read_bytes() for file in files)).hexdigest()


def _list_constants(arch_module: str) -> list[str]:
    """Return the constants of the model's modules as text, in a fixed order."""
    found = []
    ours = arch_module.startswith("hwsim.archs.")
    packages = (*PACKAGES, ".".join(arch_module.split(".")[:3])) if ours else PACKAGES
    names = [
        *MODULES,
        *(name for package in packages for name in _list_modules(package)),
        *(() if ours else (arch_module,)),
    ]
    for name in names:
        module: ModuleType = sys.modules.get(name) or importlib.import_module(name)
        for key, value in sorted(vars(module).items()):
            if CONSTANT.fullmatch(key):
                text = _describe(value)
                if text:
                    found.append(f"{name}.{key}={text}")
    return found


@cache
def _list_modules(package: str) -> tuple[str, ...]:
    found = importlib.import_module(package)
    return (package, *sorted(item.name for item in pkgutil.walk_packages(found.__path__, f"{package}.")))


def _describe(value: Any) -> str:
    """Return a constant as text, empty where it holds no plain values (types, functions, loggers)."""
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
