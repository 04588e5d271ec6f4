"""Bounded proofs of hardware: an Amaranth design with assertions goes through the `sat` command of Yosys.

A *property* is a component whose inputs are free in every cycle, but for what ``Assume`` says; every ``Assert`` in it must
hold in the first ``depth`` cycles behind reset. Nothing is said about later ones. A property should be shown to fail for
a design with a bug: assumptions that contradict each other prove anything.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hwsim.core.check import require_int
from hwsim.core.errors import HwsimError, MissingExtra

if TYPE_CHECKING:
    from amaranth.lib.wiring import Component

T = TypeVar("T")
PREPARE = (
    "read_rtlil design.il",
    "hierarchy -top top",
    "proc",
    "flatten",
    "memory_map",
    "opt -full",
    "chformal -lower",
    "async2sync",
    "dffunmap",
    "opt_clean",
)
SAT = (
    "sat -verify -tempinduct -tempinduct-baseonly -prove-asserts -set-assumes -set-init-def -set-def-inputs -set rst 0 "
    "-seq 0 -maxsteps {depth} -show-public -timeout {timeout}"
)
RUN = "import sys; from pyosys import libyosys as ys; d = ys.Design(); [ys.run_pass(s, d) for s in open(sys.argv[1])]"
"""An error inside Yosys ends its process: it runs in one of its own."""
REFUTED = "model found for base case: FAIL!"
PROVED = "proved base case"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Outcome of a bounded proof.

    Attributes
    ----------
    holds : bool
        No assertion fails within ``depth`` cycles.
    depth : int
        Cycles behind reset that were looked at.
    trace : str
        Where it does not hold: the table of signals by cycle that shows it, as Yosys prints it.
    """

    holds: bool
    depth: int
    trace: str = ""


def prove(component: Component, depth: int, *, timeout_seconds: int = 120) -> Verdict:
    """Return whether every assertion of a component holds for ``depth`` cycles from reset, whatever its inputs do.

    Parameters
    ----------
    component : Component
        With assertions and at least one register; its ports are the free inputs.
    depth : int
        Cycles.
    timeout_seconds : int
        Of the whole proof.

    Raises
    ------
    MissingExtra
        Yosys is not installed.
    HwsimError
        No verdict: time ran out, or Yosys does not accept the design.
    """
    require_int("depth", depth, 1, 10_000)
    if find_spec("pyosys") is None:
        raise MissingExtra("pyosys", "rtl", "a formal proof")
    from amaranth.back import rtlil

    with tempfile.TemporaryDirectory(prefix="hwsim-formal-") as folder:
        text = rtlil.convert(component, name="top")
        if "$check" not in text:
            raise HwsimError("nothing to prove: the design has no assertion")
        (Path(folder) / "design.il").write_text(text)
        script = "\n".join((*PREPARE, SAT.format(depth=depth, timeout=timeout_seconds)))
        (Path(folder) / "script").write_text(script)
        try:
            done = subprocess.run(
                [sys.executable, "-c", RUN, "script"],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=timeout_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise HwsimError(f"no verdict on {depth} cycles within {timeout_seconds} s") from None
    return read_verdict(done.stdout + done.stderr, done.returncode, depth)


def break_class(cls: type[T], old: str, new: str) -> type[T]:
    """Return a class with one place of its source replaced: a design with a bug that a property should find.

    Raises
    ------
    ValueError
        ``old`` is not in the source of the class, or more than once.
    """
    source = textwrap.dedent(inspect.getsource(cls))
    if source.count(old) != 1:
        raise ValueError(f"{source.count(old)} places of {cls.__name__} hold {old!r}")
    names = dict(vars(sys.modules[cls.__module__]))
    exec(source.replace(old, new), names)
    broken: type[T] = names[cls.__name__]
    return broken


def read_verdict(log: str, code: int, depth: int) -> Verdict:
    """Return the verdict that the output of Yosys states.

    Raises
    ------
    HwsimError
        There is none.
    """
    if code == 0 and PROVED in log:
        return Verdict(holds=True, depth=depth)
    if code != 0 and REFUTED in log:
        return Verdict(holds=False, depth=depth, trace=log[log.index(REFUTED) + len(REFUTED) :].strip())
    errors = [line for line in log.splitlines() if "ERROR" in line]
    raise HwsimError(f"no verdict on {depth} cycles: {errors[-1] if errors else 'Yosys ended without one'}")
