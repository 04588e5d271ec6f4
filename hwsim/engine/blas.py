"""One thread for NumPy's matrix products.

A layer's products take milliseconds; threads of OpenBLAS spin between them, which costs several times as much processor time as
the products themselves when cores are shared. Where NumPy carries no OpenBLAS of its own nothing is changed.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

_GET, _SET = "scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_"
"""Names in the OpenBLAS of NumPy's wheels (suffix of the interface with 64-bit integers)."""


class _Users:
    """How many callers want one thread now, and the threads there were before the first."""

    lock = threading.Lock()
    count = 0
    before = 1


@contextmanager
def use_one_thread() -> Iterator[None]:
    """Let NumPy's OpenBLAS compute on the calling thread alone; the number of threads comes back behind the last caller."""
    found = _find_controls()
    if found is None:
        yield
        return
    get_threads, set_threads = found
    with _Users.lock:
        if _Users.count == 0:
            _Users.before = get_threads()
            set_threads(1)
        _Users.count += 1
    try:
        yield
    finally:
        with _Users.lock:
            _Users.count -= 1
            if _Users.count == 0:
                set_threads(_Users.before)


@cache
def _find_controls() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """Return what reads and what sets the number of threads of the library that NumPy has loaded, or None."""
    for path in sorted((Path(np.__file__).parents[1] / "numpy.libs").glob("libscipy_openblas64_*.so")):
        try:
            library = ctypes.CDLL(str(path))
            get_threads, set_threads = getattr(library, _GET), getattr(library, _SET)
        except (OSError, AttributeError):
            continue
        get_threads.restype, get_threads.argtypes = ctypes.c_int, ()
        set_threads.restype, set_threads.argtypes = None, (ctypes.c_int,)
        return get_threads, set_threads
    return None
