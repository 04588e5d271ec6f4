"""Runs jobs on an accelerator under cocotb."""

from __future__ import annotations

import time
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from accel_rtl.blocks.axi import INCR
from accel_rtl.blocks.control_registers import RegisterMap
from cosim.bench.pins import Pins, ProgramMemory, RegisterMaster
from cosim.harness.model import (
    PROGRAM_LATENCY_CYCLES,
    join_counters,
    limit_cycles,
    list_counter_offsets,
    list_setup,
    list_status,
)
from cosim.memory_model import AxiMemory, Master, ProtocolError, Request, Slave, Stress, WriteBeat, create_memory
from cosim.outcome import EVENTS, UNITS, Outcome, collect_outcome
from cosim.plan import Ask
from hwsim.core.arch import Arch

RESET_CYCLES = 3


class Bench:
    """An accelerator with its clock.

    Parameters
    ----------
    dut : cocotb handle
        The top.
    arch : Arch
    registers : RegisterMap
    """

    def __init__(self, dut: Any, arch: Arch, registers: RegisterMap) -> None:
        self.dut, self.arch, self.registers = dut, arch, registers
        self.memory_pins, self.program_pins = Pins(dut, "m_axi_mem_"), Pins(dut, "m_axi_prog_")
        self.lite_pins, self.trace_pins = Pins(dut, "s_axi_ctrl_"), Pins(dut, "trace_")
        self.edge = RisingEdge(dut.clk)
        self.fresh = True

    async def start(self) -> None:
        """Start the clock and reset."""
        Clock(self.dut.clk, 10, unit="ns").start()
        await self.reset()

    async def reset(self) -> None:
        """Hold the reset for some cycles."""
        self.dut.rst.value = 1
        for _ in range(RESET_CYCLES):
            await self.edge
        self.dut.rst.value = 0

    async def run(self, ask: Ask) -> Outcome:
        """Run a job."""
        job, seed = ask.job, ask.stress
        image = bytearray(job.image.tobytes())
        stresses = [None if seed is None else Stress(3 * seed + k) for k in range(3)]
        memory = create_memory(self.arch, image, stress=stresses[0])
        program = ProgramMemory(self.program_pins, job.program, PROGRAM_LATENCY_CYCLES, stresses[1])
        master = RegisterMaster(
            self.lite_pins, list_setup(job, self.registers), self.registers.find_offset("status"),
            list_status(self.registers), list_counter_offsets(self.registers), stresses[2],
        )  # fmt: skip
        self._drive_memory(memory.drives)
        if ask.reset:
            await self.reset()
        events: dict[tuple[str, str], list[int]] = {(unit, event): [] for unit in UNITS for event in EVENTS}
        began, first, cycles, cycle, problem = time.process_time(), -1, 0, 0, ""
        limit = limit_cycles(job, seed is not None)
        trace = self.trace_pins
        while not master.through:
            await self.edge
            if trace.read("running"):
                first = cycle if first < 0 else first
                cycles += 1
                master.seen_running = True
            if first >= 0:
                for event in EVENTS:
                    pulses = trace.read(event)
                    for u, unit in enumerate(UNITS) if pulses else ():
                        if pulses >> u & 1:
                            events[unit, event].append(cycle - first)
            try:
                if first >= 0:  # the memory's cycle 0 is that of the program
                    self._drive_memory(memory.step(self._sample_memory(memory)))
                program.step()
            except ProtocolError as error:
                problem = str(error)
                break
            master.step()
            cycle += 1
            if cycle >= limit:
                problem = f"it hangs: not done within {limit} cycles"
                break
        if not problem:
            problem = "the status register says error" if master.error else ""
            problem = problem or ("" if memory.idle else "done while the memory still works")
        values = master.values if len(master.values) == len(list_counter_offsets(self.registers)) else []
        return collect_outcome(
            job, events, image=np.frombuffer(bytes(image), np.uint8), cycles=cycles, host_cycles=cycle,
            counters=join_counters(values) if values else {}, problem=problem, seconds=time.process_time() - began,
        )  # fmt: skip

    def _drive_memory(self, now: Slave) -> None:
        pins = self.memory_pins
        pins.write("arready", int(now.arready))
        pins.write("rvalid", int(now.r is not None))
        if now.r is not None:
            pins.write("rdata", now.r.data)
            pins.write("rlast", int(now.r.last))
        pins.write("awready", int(now.awready))
        pins.write("wready", int(now.wready))
        pins.write("bvalid", int(now.b))

    def _sample_memory(self, memory: AxiMemory) -> Master:
        pins = self.memory_pins
        beat = None
        if pins.read("wvalid"):
            beat = WriteBeat(pins.read("wdata"), pins.read("wstrb"), bool(pins.read("wlast")))
        return Master(
            self._sample_request("ar", memory.size), bool(pins.read("rready")), self._sample_request("aw", memory.size),
            beat, bool(pins.read("bready")),
        )  # fmt: skip

    def _sample_request(self, channel: str, size: int) -> Request | None:
        pins = self.memory_pins
        if not pins.read(f"{channel}valid"):
            return None
        if pins.read(f"{channel}burst") != INCR or 1 << pins.read(f"{channel}size") != size:
            raise ProtocolError(f"{channel}: a burst that is not INCR, or not of whole beats")
        address, length, user, cache = (pins.read(channel + name) for name in ("addr", "len", "user", "cache"))
        return Request(address, length + 1, user, bool(cache & 1))


__all__ = ["Bench", "cocotb"]
