"""How the tests run the command line: in this process for results, in a process of its own for imports, signals and pipes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from hwsim.cli import main


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def hwsim(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Return a function that runs ``hwsim`` with arguments in this process."""
    monkeypatch.delenv("HWSIM_DEBUG", raising=False)

    def run(*args: str) -> Outcome:
        capsys.readouterr()
        code = main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a piece of Python in a process of its own."""

    def run(code: str, **options: object) -> subprocess.CompletedProcess[str]:
        env = {key: value for key, value in os.environ.items() if key != "HWSIM_DEBUG"}
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=env, **options
        )

    return run
