"""Prices on disk: SQLite in the user's cache, shared by processes.

One row a price: the digest of its layer (with all that `hwsim.search.version.hash_price` covers), its formats, cycles, energy, bits
of weights, and a checksum. Rows are written in one transaction for each batch; a row that is there already has the same content,
as its key says all that it depends on. A cache that cannot be used is a warning, never an error: prices are computed again.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from hwsim.core.shared_file import open_shared
from hwsim.search.structure import Formats

TIMEOUT_S = 10.0
"""How long a process waits for another's transaction."""
COLUMNS = "layer, formats, cycles, energy_pj, weight_bits, checksum"
TABLE = (
    "create table if not exists prices (layer blob, formats blob, cycles integer, energy_pj real, weight_bits integer, "
    "checksum integer, primary key (layer, formats)) without rowid"
)


class Entry(NamedTuple):
    """The price of a layer at its formats."""

    cycles: int
    energy_pj: float
    weight_bits: int


def choose_path() -> Path | None:
    """Return the file of the prices: beside the mappings (`mappers.cache.cache_path`), None where ``HWSIM_CACHE_DIR`` is empty."""
    from mappers.cache import cache_path

    return None if os.environ.get("HWSIM_CACHE_DIR") == "" else cache_path().with_name("prices.sqlite")


class Store:
    """Prices in a file.

    Parameters
    ----------
    path : Path or None
        The file; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._disk: sqlite3.Connection | None = None
        self._writes = True
        if path is None:
            return
        try:
            self._disk = open_shared(path, TIMEOUT_S, "normal")
            self._disk.execute(TABLE)
        except (OSError, sqlite3.Error) as error:
            self.close()
            self._disk, self._writes = self._open_to_read(path), False
            self._warn(error, "is not written to" if self._disk else "is not used")

    def _open_to_read(self, path: Path) -> sqlite3.Connection | None:
        """Return a connection that only reads, None where the file holds no prices."""
        address = f"{path.absolute().as_uri()}?mode=ro"
        disk = None
        try:
            disk = sqlite3.connect(address, uri=True, timeout=TIMEOUT_S, check_same_thread=False)
            disk.execute(f"select {COLUMNS} from prices limit 1").fetchone()
        except (OSError, sqlite3.Error):
            if disk is not None:
                disk.close()
            return None
        return disk

    def _warn(self, error: Exception, what: str) -> None:
        warnings.warn(f"the cache of prices {self.path} {what}: {error}", RuntimeWarning, stacklevel=2)

    def read(self, layer: bytes) -> dict[Formats, Entry]:
        """Return all prices of a layer; rows whose checksum is wrong are left out."""
        if self._disk is None:
            return {}
        found: dict[Formats, Entry] = {}
        try:
            rows = self._disk.execute(
                "select formats, cycles, energy_pj, weight_bits, checksum from prices where layer = ?", (layer,)
            )
            for formats, cycles, energy, weights, checksum in rows:
                entry = Entry(cycles, energy, weights)
                if _sum_up(layer, formats, entry) == checksum:
                    found[tuple(formats)] = entry
        except (sqlite3.Error, struct.error, TypeError) as error:
            self.close()
            self._warn(error, "is not used")
            return {}
        return found

    def write(self, prices: Iterable[tuple[bytes, Formats, Entry]]) -> None:
        """Keep prices, all or none of them."""
        if self._disk is None or not self._writes:
            return
        rows = [
            (layer, bytes(formats), *entry, _sum_up(layer, bytes(formats), entry)) for layer, formats, entry in prices
        ]
        try:
            self._disk.execute("begin immediate")
            try:
                self._disk.executemany("insert or replace into prices values (?, ?, ?, ?, ?, ?)", rows)
            except BaseException:
                self._disk.execute("rollback")
                raise
            self._disk.execute("commit")
        except sqlite3.Error as error:
            self._writes = False
            self._warn(error, "is not written to")

    def close(self) -> None:
        """Let go of the file."""
        if self._disk is not None:
            self._disk.close()
        self._disk = None


def _sum_up(layer: bytes, formats: bytes, entry: Entry) -> int:
    return zlib.crc32(struct.pack("<qdq", *entry), zlib.crc32(formats, zlib.crc32(layer)))
