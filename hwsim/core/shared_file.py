"""SQLite files that processes share."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

RETRY_S = 0.002
"""Pause before the journal's mode is asked for again."""


def open_shared(path: Path, timeout_s: float, synchronous: str) -> sqlite3.Connection:
    """Return a connection to a file, made with its folder where it is not there; readers and a writer do not wait for each other.

    While another process gives a new file its write-ahead log, SQLite answers "locked" at once, whatever time-out a connection
    has: two that each hold the file to read it cannot both wait for the other (sqlite.org, ``sqlite3_busy_handler``). So it is
    asked again.

    Parameters
    ----------
    path : Path
    timeout_s : float
        How long to wait for another's transaction.
    synchronous : str
        ``off`` or ``normal``: whether what is written survives a power failure.

    Raises
    ------
    OSError, sqlite3.Error
        The folder or file cannot be made or read, or stays locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    disk = sqlite3.connect(path, timeout=timeout_s, isolation_level=None, check_same_thread=False)
    try:
        end = time.monotonic() + timeout_s
        while not _keep_log(disk, time.monotonic() >= end):
            time.sleep(RETRY_S)
        disk.execute(f"pragma synchronous={synchronous}")
    except BaseException:
        disk.close()
        raise
    return disk


def _keep_log(disk: sqlite3.Connection, last: bool) -> bool:
    """Return whether the file has a write-ahead log now; where it is locked that is an error in the ``last`` attempt alone."""
    try:
        disk.execute("pragma journal_mode=wal")
    except sqlite3.OperationalError as error:
        if last or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True
