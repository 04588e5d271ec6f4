"""Generated hardware kept under a hash of what it is made from. Nothing heavy is imported here: reports read it too."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def hash_content(*parts: str) -> str:
    """Return a digest of strings, each kept apart from the next."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()


def locate_cache() -> Path:
    """Return the folder that keeps generated hardware: ``hwsim/rtl`` in the user's cache, in the temporary folder if that is
    read-only."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hwsim" / "rtl"
    try:
        base.mkdir(parents=True, exist_ok=True)
        if os.access(base, os.W_OK):
            return base
    except OSError:
        pass
    base = Path(tempfile.gettempdir()) / f"hwsim-rtl-{os.getuid()}"
    base.mkdir(parents=True, exist_ok=True)
    return base


def cached_folder(key: str, build: Callable[[Path], None]) -> Path:
    """Return the folder of a key, filled by ``build`` if it is not there.

    It is filled under another name and then renamed: whoever finds it finds all of it, and processes that build the same
    at once do no harm.
    """
    base = locate_cache()
    folder = base / key
    if folder.is_dir():
        return folder
    scratch = Path(tempfile.mkdtemp(prefix=f"{key}-", dir=base))
    try:
        build(scratch)
        try:
            scratch.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        if scratch.exists():
            shutil.rmtree(scratch, ignore_errors=True)
    return folder
