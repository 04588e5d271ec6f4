"""Launches a plan under cocotb in a simulator process and brings its results back."""

from __future__ import annotations

import contextlib
import pickle
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from accel_rtl.blocks.control_registers import RegisterMap
from cosim.bench.build import build_simulation, find_tools
from cosim.emitted import create_top, emit_accelerator_verilog, naming_folder
from cosim.plan import Ask, LayerResult, Plan, plan_random
from hwsim.core.arch import Arch
from hwsim.core.errors import HwsimError

REQUEST_VARIABLE = "HWSIM_COSIM_REQUEST"
RESULT = "result.pickle"
LOG_LINES = 3


class Source(Protocol):
    """What makes a plan; it is sent to the simulator's process, and so are its results back."""

    def plan(self) -> Plan:
        """Return the plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomLayers:
    """A `Source` of random layers; see `cosim.plan.plan_random`."""

    arch: Arch
    seed: int
    numbers: tuple[int, ...]
    stress: int | None = None

    def plan(self) -> Plan:
        """Return the plan."""
        return plan_random(self.arch, self.seed, self.numbers, self.stress)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """What the process is asked for."""

    arch: Arch
    registers: RegisterMap
    source: Source


@dataclass(slots=True, kw_only=True, eq=False)
class Reply:
    """What came back: results, or an error, and the last job."""

    results: tuple[LayerResult, ...] = ()
    error: str = ""
    last: Ask | None = None


def run_cocotb(arch: Arch, source: Source, last: list[Ask] | None = None) -> tuple[LayerResult, ...]:
    """Run a plan under cocotb on Verilator.

    Parameters
    ----------
    arch : Arch
    source : Source
    last : list, optional
        Gets the last job.

    Raises
    ------
    MissingExtra, HwsimError
        What is not installed; what the plan raised; a simulator that stopped.
    """
    find_tools()
    top = create_top(arch)
    with naming_folder():
        build = build_simulation(emit_accelerator_verilog(arch))
    with tempfile.TemporaryDirectory(prefix="hwsim-cosim-") as folder:
        path = Path(folder) / "request.pickle"
        path.write_bytes(pickle.dumps(Request(arch=arch, registers=top.register_map, source=source)))
        _simulate(build, path)
        answer = path.with_name(RESULT)
        if not answer.exists():
            raise HwsimError(f"the simulation under cocotb stopped: {_read_log(path.parent)}")
        reply: Reply = pickle.loads(answer.read_bytes())
    if last is not None and reply.last is not None:
        last[:] = [reply.last]
    if reply.error:
        raise HwsimError(reply.error)
    return reply.results


def _simulate(build: Path, path: Path) -> None:
    from cocotb_tools.runner import get_runner

    with contextlib.suppress(SystemExit):  # the reply, or its absence, says more
        get_runner("verilator").test(
            test_module="cosim.bench.layers", hdl_toplevel="top", hdl_toplevel_lang="verilog", build_dir=build,
            test_dir=path.parent, log_file=path.parent / "log.txt",
            extra_env={REQUEST_VARIABLE: str(path), "COCOTB_ANSI_OUTPUT": "0"},
        )  # fmt: skip


def _read_log(folder: Path) -> str:
    log = folder / "log.txt"
    lines: Iterable[str] = log.read_text(errors="replace").splitlines() if log.exists() else ()
    telling = [line.strip() for line in lines if "Error" in line or "ERROR" in line or "CRITICAL" in line]
    return "; ".join(telling[-LOG_LINES:]) or "no message"
