"""Mappings already found, in memory and on disk, under a hash of all that a mapping depends on.

The key holds the workload, the architecture, the objective, a digest of the data where times depend on data, and a digest of the
model: the sources of mapper, engine and architecture, and the values that their constants have. A changed model never returns a
stale mapping; where sources were written since the process began, nothing is kept on disk. An unreadable cache is not an error:
mappings are searched again.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

from hwsim.core import sources
from hwsim.core.arch import Arch
from hwsim.core.datapath import Datapath
from hwsim.core.errors import HwsimError
from hwsim.core.jsonio import from_json, to_json
from hwsim.core.mapping import Mapping
from hwsim.core.shared_file import open_shared
from mappers.objective import Objective
from mappers.search import find_mapping

ROOTS = ("mappers.search", "hwsim.core.jit")
"""Modules that make a mapping, besides the architecture's own; what they import belongs to them."""
TIMEOUT_S = 5.0
"""How long a process waits for another's transaction."""


@cache
def hash_sources(arch_module: str) -> tuple[str, bool]:
    """Return a digest of the files that decide a mapping on an architecture, and whether they are those that this process runs."""
    files = sources.list_files(sources.list_modules(ROOTS, arch_module))
    return sources.hash_files(files), sources.are_as_loaded(files)


def hash_model(arch_module: str) -> str:
    """Return a digest of the model of the architecture whose class ``arch_module`` holds: sources, and constants as they are."""
    digest = hashlib.blake2b(hash_sources(arch_module)[0].encode(), digest_size=16)
    for text in sources.list_constants(sources.list_modules(ROOTS, arch_module)):
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def cache_path() -> Path:
    """Return the file of the cache: ``$HWSIM_CACHE_DIR``, else the user's cache folder."""
    base = os.environ.get("HWSIM_CACHE_DIR")
    folder = Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hwsim"
    return folder / "mappings.sqlite"


class MappingCache:
    """Finds mappings, each one once.

    Parameters
    ----------
    path : Path or None
        File of the cache; None keeps mappings in memory only.
    """

    def __init__(self, path: Path | None) -> None:
        self._memory: dict[str, Mapping] = {}
        self._models: dict[str, str] = {}
        self._disk: sqlite3.Connection | None = None
        if path is not None:
            with suppress(OSError, sqlite3.Error):
                disk = open_shared(path, TIMEOUT_S, "off")
                disk.execute("create table if not exists mappings (key text primary key, mapping text not null)")
                self._disk = disk

    def renew(self) -> MappingCache:
        """Look at the model's constants again from here on; return the cache itself."""
        self._models.clear()
        return self

    def find(self, datapath: Datapath, arch: Arch, objective: Objective) -> Mapping:
        """Return the best mapping of a layer, from the cache or by search."""
        kind = type(arch).__module__
        model = self._models.get(kind)
        if model is None:  # another thread may renew the cache meanwhile
            model = self._models[kind] = hash_model(kind)
        kept = hash_sources(kind)[1]
        key = make_key(datapath, arch, objective, model)
        known = self._memory.get(key) or (self._read(key) if kept else None)
        if known is None:
            known = find_mapping(datapath, arch, objective)
            if kept:
                self._write(key, known)
        self._memory[key] = known
        return known

    def _read(self, key: str) -> Mapping | None:
        if self._disk is None:
            return None
        with suppress(sqlite3.Error, HwsimError):
            row = self._disk.execute("select mapping from mappings where key = ?", (key,)).fetchone()
            return from_json(row[0], Mapping) if row else None
        return None

    def _write(self, key: str, mapping: Mapping) -> None:
        if self._disk is not None:
            with suppress(sqlite3.Error):
                self._disk.execute("insert or replace into mappings values (?, ?)", (key, to_json(mapping)))


def make_key(datapath: Datapath, arch: Arch, objective: Objective, model: str) -> str:
    """Return the key of a mapping; ``model`` is the digest of `hash_model`."""
    digest = hashlib.blake2b(digest_size=20)
    neutral = replace(arch, preset="", source="", unverified=())
    for part in (arch.name, to_json(neutral), to_json(datapath.workload.key()), to_json(objective)):
        digest.update(part.encode())
        digest.update(b"\0")
    digest.update(datapath.fingerprint().encode())
    digest.update(model.encode())
    return digest.hexdigest()


@cache
def open_cache() -> MappingCache:
    """Return the process's cache, on disk unless ``HWSIM_CACHE_DIR`` is set to nothing."""
    if os.environ.get("HWSIM_CACHE_DIR") == "":
        return MappingCache(None)
    return MappingCache(cache_path())
