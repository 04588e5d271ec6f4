"""A whole accelerator on Amaranth's simulator, memories and host in Python: assertions hold, any answer can be given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from amaranth.sim import Simulator

from accel_rtl.accelerator import create_accelerator
from accel_rtl.blocks.axi import INCR
from cosim.bench.pins import ProgramMemory, RegisterMaster
from cosim.compile import LayerJob
from cosim.harness.model import (
    PROGRAM_LATENCY_CYCLES,
    join_counters,
    limit_cycles,
    list_counter_offsets,
    list_setup,
    list_status,
)
from cosim.memory_model import AxiMemory, Master, Request, WriteBeat, create_memory
from hwsim.core.arch import Arch

FAULT_CHANNELS = ("mem_r", "mem_b", "prog_r")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ran:
    """What a run left: the memory, the fields of the status register by name, counters by name, cycles of the program.

    ``answers``: how many answers each channel of `FAULT_CHANNELS` gave.
    """

    image: np.ndarray = field(repr=False)
    status: dict[str, int]
    counters: dict[str, int]
    cycles: int
    answers: dict[str, int]


class SimulatedPins:
    """As `cosim.bench.pins.Pins`, of a simulator: what is written is driven from `drive` on."""

    def __init__(self, ctx: Any, dut: Any, prefix: str) -> None:
        self._ctx, self._dut, self._prefix = ctx, dut, prefix
        self._last: dict[str, int] = {}
        self._waiting: dict[str, int] = {}

    def read(self, name: str) -> int:
        """Return a port."""
        return int(self._ctx.get(getattr(self._dut, self._prefix + name)))

    def write(self, name: str, value: int) -> None:
        """Drive an input."""
        if self._last.get(name) != value:
            self._last[name] = self._waiting[name] = value

    def drive(self) -> None:
        """Drive what was written."""
        for name, value in self._waiting.items():
            self._ctx.set(getattr(self._dut, self._prefix + name), value)
        self._waiting.clear()


class PlacedProgram(ProgramMemory):
    """A program image that lies at a place of its own; its answers are counted."""

    base = 0
    answers = 0

    def _take(self, address: int, words: int) -> None:
        super()._take(address - self.base, words)


class PatientMaster(RegisterMaster):
    """Goes on polling where the status says error: the program ends all the same."""

    def _take(self, data: int) -> None:
        super()._take(data if self.busy == "read" else data & ~self.masks["error"])


class SimulatedAccelerator:
    """One accelerator that runs job after job without a reset between them.

    Parameters
    ----------
    arch : Arch
    checked : bool
        With the assertions of `create_accelerator`: `run` raises AssertionError where one fails.
    """

    def __init__(self, arch: Arch, checked: bool = False) -> None:
        self.arch = arch
        self.dut = create_accelerator(arch, checked=checked)
        self.registers = self.dut.register_map
        self._sim = Simulator(self.dut)
        self._sim.add_clock(1e-8)
        self._sim.add_testbench(self._drive)
        self._asked: tuple[Any, ...] = ()
        self._found: list[Ran] = []

    def run(
        self,
        job: LayerJob,
        base: int = 0,
        faults: Mapping[tuple[str, int], int] | None = None,
        at_first: Callable[[Any], None] | None = None,
    ) -> Ran:
        """Run a job from reset; see `run_all`."""
        return self.run_all([job], base, faults, at_first)[0]

    def run_all(
        self,
        jobs: list[LayerJob],
        base: int = 0,
        faults: Mapping[tuple[str, int], int] | None = None,
        at_first: Callable[[Any], None] | None = None,
    ) -> list[Ran]:
        """Run jobs one behind the other, from reset.

        Parameters
        ----------
        jobs : list of LayerJob
        base : int
            Byte address of their program images.
        faults : mapping
            Response to answer ``n`` of a channel of `FAULT_CHANNELS` in the first job, by (channel, n); others are OKAY.
        at_first : callable, optional
            Called with the simulator's context in the first cycle of each program.
        """
        if self._asked:
            self._sim.reset()
        self._asked, self._found = (jobs, base, dict(faults or {}), at_first), []
        self._sim.run()
        return self._found

    async def _drive(self, ctx: Any) -> None:
        jobs, base, faults, at_first = self._asked
        for job in jobs:
            self._found.append(await self._run_one(ctx, job, base, faults, at_first))
            faults = {}

    async def _run_one(self, ctx: Any, job: LayerJob, base: int, faults: dict, at_first: Any) -> Ran:
        mem, prog, lite, trace = (
            SimulatedPins(ctx, self.dut, name) for name in ("m_axi_mem_", "m_axi_prog_", "s_axi_ctrl_", "trace_")
        )
        image = bytearray(job.image.tobytes())
        memory = create_memory(self.arch, image)
        program: Any = PlacedProgram(prog, job.program, PROGRAM_LATENCY_CYCLES, None)
        program.base = base
        counters, masks = list_counter_offsets(self.registers), list_status(self.registers)
        status = self.registers.find_offset("status")
        master = PatientMaster(
            lite, list_setup(job, self.registers, base), status, masks, [*counters, status], None
        )  # fmt: skip
        answers = dict.fromkeys(FAULT_CHANNELS, 0)
        cycle = cycles = 0
        while not master.through:
            now = memory.drives
            for name, value in (("arready", now.arready), ("awready", now.awready), ("wready", now.wready)):
                mem.write(name, int(value))
            mem.write("rvalid", int(now.r is not None))
            mem.write("bvalid", int(now.b))
            if now.r is not None:
                mem.write("rdata", now.r.data)
                mem.write("rlast", int(now.r.last))
            for pins, channel, valid in (
                (mem, "mem_r", now.r is not None),
                (mem, "mem_b", now.b),
                (prog, "prog_r", program.shown),
            ):
                pins.write(f"{channel[-1]}resp", faults.get((channel, answers[channel]), 0) if valid else 0)
                answers[channel] += valid
            for pins in (mem, prog, lite):
                pins.drive()
            if trace.read("running"):
                if not cycles and at_first is not None:
                    at_first(ctx)
                cycles += 1
                master.seen_running = True
            sampled = _sample(mem, memory)
            if cycles:  # the memory's cycle 0 is that of the program
                memory.step(sampled)
            program.step()
            master.step()
            await ctx.tick()
            cycle += 1
            assert cycle < limit_cycles(job, False), "it hangs"
        assert memory.idle
        word = master.values.pop()
        return Ran(
            image=np.frombuffer(bytes(image), np.uint8), status={name: int(bool(word & mask)) for name, mask in masks.items()},
            counters=join_counters(master.values), cycles=cycles, answers=answers,
        )  # fmt: skip


def _sample(pins: SimulatedPins, memory: AxiMemory) -> Master:
    beat = None
    if pins.read("wvalid"):
        beat = WriteBeat(pins.read("wdata"), pins.read("wstrb"), bool(pins.read("wlast")))
    assert pins.read("rready")
    assert pins.read("bready")
    return Master(_sample_request(pins, "ar", memory.size), True, _sample_request(pins, "aw", memory.size), beat, True)


def _sample_request(pins: SimulatedPins, channel: str, size: int) -> Request | None:
    if not pins.read(f"{channel}valid"):
        return None
    address, length, burst, each, user, cache = (
        pins.read(channel + name) for name in ("addr", "len", "burst", "size", "user", "cache")
    )
    assert (burst, 1 << each) == (INCR, size)
    return Request(address, length + 1, user, bool(cache & 1))


def assert_ran(job: LayerJob, ran: Ran) -> None:
    """Compare a run with the simulator: its memory, its length."""
    assert (ran.image[: job.compared_bytes] == job.wanted[: job.compared_bytes]).all()
    assert ran.cycles == job.run.cycles
    assert ran.counters["total"] == job.run.cycles
    assert (ran.status["busy"], ran.status["done"]) == (0, 1)


__all__ = ["Ran", "SimulatedAccelerator", "assert_ran"]
