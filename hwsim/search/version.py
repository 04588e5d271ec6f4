"""What a stored price depends on besides its layer: a digest of the model's sources, constants, prices and accelerator."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache

from hwsim.core import sources
from hwsim.core.arch import Arch
from hwsim.core.jsonio import to_json
from hwsim.pipeline.prices import Prices

ROOTS = ("hwsim.pipeline.layer", "hwsim.pipeline.prices", "hwsim.pipeline.workloads", "mappers.search")
"""Modules that make a price, besides the architecture's own package; what they import belongs to them."""
FILES = ("hwsim/pipeline/simulate.py", "hwsim/search/book.py", "hwsim/core/jit.py")
"""Files that count by themselves: most of what they import makes no price."""
DATA = ("energy_models",)
"""Packages whose data files count."""
DATA_SUFFIXES = (".csv", ".toml")


def hash_price(arch: Arch, prices: Prices, objective: str) -> str:
    """Return a digest of all that a price depends on besides the layer and its formats.

    Sources and data files of the modules that make a price; the values that their constants have now, whatever the files say;
    the accelerator's fields without names and remarks; the energy table's and the DRAM part's figures; the mapper's objective.
    """
    digest = hashlib.blake2b(digest_size=20)
    neutral = replace(arch, preset="", source="", unverified=())
    kind = type(arch).__module__
    for part in (
        hash_sources(kind)[0], arch.name, to_json(neutral), repr(prices.table), repr(prices.dram), objective,
        *sources.list_constants(list_modules(kind)),
    ):  # fmt: skip
        digest.update(part.encode())
        digest.update(b"\0")
    return digest.hexdigest()


@cache
def hash_sources(arch_module: str) -> tuple[str, bool]:
    """Return a digest of the files that decide a price on an architecture, and whether they are those that this process runs."""
    files = sources.list_files(list_modules(arch_module))
    files.update(sources.ROOT / name for name in FILES)
    files.update(path for name in DATA for path in (sources.ROOT / name).rglob("*") if path.suffix in DATA_SUFFIXES)
    return sources.hash_files(files), sources.are_as_loaded(files)


def list_modules(arch_module: str) -> tuple[str, ...]:
    """Return the modules that make a price on the architecture whose class ``arch_module`` holds."""
    return sources.list_modules(ROOTS, arch_module)
