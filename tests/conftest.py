"""What holds for every test: no cache of the user's is touched, property tests are repeatable, no window opens."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Set before anything imports the project: subprocesses of tests inherit both.
_CACHE = tempfile.TemporaryDirectory(prefix="hwsim-tests-")
os.environ["HWSIM_CACHE_DIR"] = _CACHE.name
os.environ["MPLBACKEND"] = "Agg"

settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "ci", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "local"))

TESTS = Path(__file__).parent
KERNEL_TESTS = (
    "equivalence/test_*.py",
    "unit/test_decompose*.py",
    "unit/test_dram_kernel.py",
    "unit/test_*kernel*.py",
    "unit/test_smartdeal*.py",
    "property/test_decompose*.py",
)
"""Files whose tests run again with bounds checked (``-m kernel``)."""
UNJITTED_TESTS = ("unit/test_dram_kernel.py", "unit/test_decompose.py", "equivalence/test_lower_naive.py")
"""Files whose tests run again without compilation (``-m unjitted``), but for those marked slow."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark kernel tests by their file; a single test may carry the marks itself."""
    for item in items:
        name = item.path.relative_to(TESTS).as_posix() if item.path.is_relative_to(TESTS) else ""
        if any(fnmatch(name, pattern) for pattern in KERNEL_TESTS):
            item.add_marker("kernel")
        if any(fnmatch(name, pattern) for pattern in UNJITTED_TESTS) and not item.get_closest_marker("slow"):
            item.add_marker("unjitted")


def pytest_unconfigure() -> None:
    """Remove the session's cache."""
    _CACHE.cleanup()


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the test a mapping cache of its own, empty, and forget the process's open one before and after."""
    from mappers.cache import open_cache

    monkeypatch.setenv("HWSIM_CACHE_DIR", str(tmp_path / "cache"))
    open_cache.cache_clear()
    yield tmp_path / "cache"
    open_cache.cache_clear()
