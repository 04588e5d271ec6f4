"""Mappings already found, in memory and on disk, under a hash of all that a mapping depends on.

The key holds the workload, the architecture, the objective, a digest of the data where times depend on data, and a digest of the
source of engine, architectures and mappers: a changed model never returns a stale mapping. An unreadable cache is not an
error: mappings are searched again.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

from hwsim.core.arch import Arch
from hwsim.core.datapath import Datapath
from hwsim.core.errors import HwsimError
from hwsim.core.jsonio import from_json, to_json
from hwsim.core.mapping import Mapping
from mappers.objective import Objective
from mappers.search import find_mapping

ROOT = Path(__file__).resolve().parents[1]
MODEL_FOLDERS = ("hwsim/core", "hwsim/engine", "hwsim/archs", "hwsim/quant", "mappers")


@cache
def hash_model() -> str:
    """Return a digest of the sources that decide what a mapping costs."""
    digest = hashlib.blake2b(digest_size=16)
    for folder in MODEL_FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
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
        self._disk: sqlite3.Connection | None = None
        if path is not None:
            with suppress(OSError, sqlite3.Error):
                path.parent.mkdir(parents=True, exist_ok=True)
                disk = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
                disk.execute("pragma journal_mode=wal")
                disk.execute("pragma synchronous=off")
                disk.execute("create table if not exists mappings (key text primary key, mapping text not null)")
                self._disk = disk

    def find(self, datapath: Datapath, arch: Arch, objective: Objective) -> Mapping:
        """Return the best mapping of a layer, from the cache or by search."""
        key = make_key(datapath, arch, objective)
        known = self._memory.get(key) or self._read(key)
        if known is None:
            known = find_mapping(datapath, arch, objective)
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


def make_key(datapath: Datapath, arch: Arch, objective: Objective) -> str:
    """Return the key of a mapping."""
    digest = hashlib.blake2b(digest_size=20)
    neutral = replace(arch, preset="", source="", unverified=())
    for part in (arch.name, to_json(neutral), to_json(datapath.workload.key()), to_json(objective)):
        digest.update(part.encode())
        digest.update(b"\0")
    digest.update(datapath.fingerprint().encode())
    digest.update(hash_model().encode())
    return digest.hexdigest()


@cache
def open_cache() -> MappingCache:
    """Return the process's cache, on disk unless ``HWSIM_CACHE_DIR`` is set to nothing."""
    if os.environ.get("HWSIM_CACHE_DIR") == "":
        return MappingCache(None)
    return MappingCache(cache_path())
