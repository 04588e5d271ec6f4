"""Which architectures have RTL; asked without the packages that make it."""

from __future__ import annotations

import importlib.util

from hwsim.archs.registry import list_archs


def list_built_archs() -> tuple[str, ...]:
    """Return the names of architectures that have RTL: those with ``accel_rtl/<name>/build.py``."""
    return tuple(entry.name for entry in list_archs() if find_build(entry.name))


def find_build(name: str) -> str:
    """Return the module that builds an architecture, empty where there is none."""
    package = f"accel_rtl.{name.replace('-', '_')}"
    module = f"{package}.build"
    found = importlib.util.find_spec(package) is not None and importlib.util.find_spec(module) is not None
    return module if found else ""
