"""Published systems, one file each: claims beside equations, simulation and hardware.

A file with a value ``SYSTEM`` is a system; files that begin with an underscore are what several share. These files stand above the
model, unlike the equations beside them: they run it.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from hwsim.core.errors import UnknownName
from hwsim.published.claims import System


@cache
def list_systems() -> tuple[System, ...]:
    """Return all systems in their order."""
    names = sorted(item.name for item in pkgutil.iter_modules(__path__) if not item.name.startswith("_"))
    found = [importlib.import_module(f"{__name__}.{name}").SYSTEM for name in names]
    return tuple(sorted(found, key=lambda system: (system.order, system.name)))


def find_system(name: str) -> System:
    """Return a system by name, or raise UnknownName with the nearest ones."""
    known = {system.name: system for system in list_systems()}
    if name.lower() not in known:
        raise UnknownName("system", name, [*known, "all"])
    return known[name.lower()]
