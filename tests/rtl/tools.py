"""What tests of the hardware need: skipped with the reason where it is absent, failed in CI."""

from __future__ import annotations

import importlib.util
import os
import shutil

import pytest


def require(*names: str) -> None:
    """Skip (in CI: fail) unless Python packages, or programs where a name is no package, are installed."""
    for name in names:
        program = name in ("g++", "iverilog")
        if shutil.which(name) if program else importlib.util.find_spec(name):
            continue
        message = f"{name} is not installed" + ("" if program else " (pip install 'hwsim[rtl]')")
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message, allow_module_level=True)
