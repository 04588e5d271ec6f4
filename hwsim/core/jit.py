"""Every Numba option stands here, and so does the place of the compiled kernels.

The cache folder is named by a hash of the kernel sources, so that a kernel is compiled anew when any kernel
file changes: Numba itself looks only at the file of the outermost function and would keep a stale callee.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_ROOT = Path(__file__).resolve().parents[2]


def kernel_sources() -> list[Path]:
    """Return the files that hold kernels: by convention ``kernel*.py`` in the shipped packages."""
    packages = ("hwsim", "mappers", "energy_models", "accel_rtl", "cosim")
    return sorted(p for name in packages for p in (_ROOT / name).rglob("kernel*.py"))


def choose_cache_dir() -> Path:
    """Return the folder of compiled kernels, named by a hash of all kernel sources."""
    digest = hashlib.blake2b(digest_size=8)
    for path in kernel_sources():
        digest.update(path.read_bytes())
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "hwsim" / f"numba-{digest.hexdigest()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.gettempdir()) / f"hwsim-numba-{digest.hexdigest()}"


os.environ.setdefault("NUMBA_CACHE_DIR", str(choose_cache_dir()))

import numba  # noqa: E402  (the cache folder has to be named before numba reads its configuration)


def kernel(function: F) -> F:
    """Compile ``function``: nopython, Python's division errors, cached on disk, no fast-math."""
    compiled: F = numba.njit(function, error_model="python", cache=True, fastmath=False)  # type: ignore[assignment]
    return compiled
