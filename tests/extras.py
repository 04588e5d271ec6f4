"""What tests need beyond the core: skipped with the reason where it is absent, failed in CI."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import NoReturn

import pytest

from hwsim.core.errors import MissingExtra

PROGRAMS = ("g++", "iverilog")


def give_up(reason: str) -> NoReturn:
    """Skip the test, or the module where none runs yet; in CI fail it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)


def require(*names: str) -> None:
    """Give up unless Python packages, or programs where a name is one of these, are installed."""
    for name in names:
        if not (shutil.which(name) if name in PROGRAMS else importlib.util.find_spec(name)):
            give_up(f"{name} is not installed")


def load_optional(name: str) -> ModuleType:
    """Return a module of an optional package, or give up."""
    require(name.partition(".")[0])
    return importlib.import_module(name)


@contextmanager
def skip_without_extra() -> Iterator[None]:
    """Give up where what runs inside lacks an optional package; any other error is one."""
    try:
        yield
    except MissingExtra as error:
        give_up(str(error))
