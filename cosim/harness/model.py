"""The harness in Python: one compiled accelerator that runs layer after layer."""

from __future__ import annotations

import ctypes
import time
from ctypes import POINTER, Structure, c_char, c_int32, c_int64, c_uint8, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path

import numpy as np

from accel_rtl.blocks.control_registers import RegisterMap
from accel_rtl.blocks.counters import COUNTERS
from accel_rtl.blocks.read_dma import REQUEST_CYCLES, RETURN_CYCLES
from accel_rtl.blocks.write_dma import ANSWER_CYCLES, LEAST_STORE_CYCLES
from cosim.compile import LayerJob
from cosim.emitted import create_top, emit_accelerator, naming_folder
from cosim.harness.library import build_accelerator
from cosim.memory_model import Master, ProtocolError, ReadBeat, Request, Slave, WriteBeat, create_memory
from cosim.outcome import EVENTS, UNITS, Outcome, collect_outcome
from hwsim.core.arch import Arch

PROGRAM_LATENCY_CYCLES = 8
"""Of the ideal program memory, from an address to its first word."""
OVERHEAD_CYCLES = 20_000
"""Cycles that a run may take beyond the simulator's, for parameters, queues and registers."""
STRESS_FACTOR = 40
"""A run under random back-pressure may take as many times longer: waits of 4.5 cycles on the mean, on several channels."""
BEAT_BYTES = 128
DONE, LIMIT, PROTOCOL, OVERFLOWN = range(4)


class _Request(Structure):
    _fields_ = [(name, c_uint64) for name in ("address", "beats", "user", "posted")]


class _Master(Structure):
    _fields_ = [
        *((name, c_uint8) for name in ("ar_valid", "rready", "aw_valid", "w_valid", "w_last", "bready")),
        ("spare", c_uint8 * 2),
        ("ar", _Request),
        ("aw", _Request),
        ("w_data", c_uint8 * BEAT_BYTES),
        ("w_strobe", c_uint8 * (BEAT_BYTES // 8)),
    ]


class _Slave(Structure):
    _fields_ = [
        *((name, c_uint8) for name in ("arready", "r_valid", "r_last", "awready", "wready", "b_valid")),
        ("spare", c_uint8 * 2),
        ("r_data", c_uint8 * BEAT_BYTES),
    ]


_Step = ctypes.CFUNCTYPE(ctypes.c_int, POINTER(_Master), POINTER(_Slave))


class _Job(Structure):
    # As `Job` of harness.cpp.
    _fields_ = [
        ("image", c_void_p), ("image_bytes", c_uint64),
        ("program", c_void_p), ("program_bytes", c_uint64), ("program_latency", c_uint64),
        ("timing", c_int64 * 5), ("stress_seed", c_int64), ("reset", c_uint64), ("limit_cycles", c_uint64),
        ("setup", c_void_p), ("setups", c_uint64),
        *((name, c_uint32) for name in ("status_address", "busy_mask", "done_mask", "error_mask")),
        ("reads", c_void_p), ("read_count", c_uint64), ("read_values", c_void_p),
        ("capacity", c_uint64), ("events", c_void_p), ("step", _Step),
        ("vcd_path", ctypes.c_char_p), ("vcd_from", c_int64), ("vcd_to", c_int64),
        ("counts", (c_uint64 * len(EVENTS)) * len(UNITS)),
        *((name, c_int64) for name in ("first_cycle", "running_cycles", "host_cycles")),
        ("units_state", c_uint64 * len(UNITS)), ("status", c_uint32), ("outcome", c_int32), ("message", c_char * 256),
    ]  # fmt: skip


def list_setup(job: LayerJob, registers: RegisterMap, program_base: int = 0) -> list[tuple[int, int]]:
    """Return the register writes (byte offset, value) that run a job; the last one starts it."""
    values = {
        "program_address_low": program_base & 0xFFFF_FFFF,
        "program_address_high": program_base >> 32,
        "program_words": job.program_words,
        "parameter_words": job.parameter_words,
        "control": 1,
    }
    return [(registers.find_offset(name), value) for name, value in values.items()]


def list_status(registers: RegisterMap) -> dict[str, int]:
    """Return the masks of the status register's fields by name."""
    offset = registers.find_offset("status")
    fields = next(register for register in registers.registers if register.offset == offset).fields
    return {one.name: one.mask for one in fields}


def list_counter_offsets(registers: RegisterMap) -> list[int]:
    """Return the offsets of all counters' words: low and high half of each, in the order of ``COUNTERS``."""
    return [registers.find_offset(f"cycles_{name}_{half}") for name in COUNTERS for half in ("low", "high")]


def join_counters(words: list[int]) -> dict[str, int]:
    """Return counters by name from their words."""
    return {name: words[2 * k] | words[2 * k + 1] << 32 for k, name in enumerate(COUNTERS)}


def limit_cycles(job: LayerJob, stressed: bool) -> int:
    """Return after how many cycles a run is given up."""
    factor = STRESS_FACTOR if stressed else 4
    return factor * (job.run.cycles + len(job.program) // 64) + OVERHEAD_CYCLES


class Harness:
    """A compiled accelerator.

    Layers run one behind the other on the same hardware, without a reset between them unless asked for.

    Parameters
    ----------
    arch : Arch
    waves : bool
        Builds a slower model that can write a VCD.

    Attributes
    ----------
    seconds : float
        CPU time spent in the model.
    cycles : int
        Cycles simulated, register accesses included.
    """

    def __init__(self, arch: Arch, waves: bool = False) -> None:
        self.arch = arch
        self.registers = create_top(arch).register_map
        with naming_folder():
            path = build_accelerator(emit_accelerator(arch), arch.memory.bits_per_cycle, waves)
        library = ctypes.CDLL(str(path))
        library.accelerator_create.restype = c_void_p
        library.accelerator_run.argtypes = [c_void_p, POINTER(_Job)]
        library.accelerator_destroy.argtypes = [c_void_p]
        library.accelerator_job_bytes.restype = c_uint64
        assert library.accelerator_job_bytes() == ctypes.sizeof(_Job)
        self._library, self._handle = library, library.accelerator_create()
        self.seconds, self.cycles = 0.0, 0

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._library.accelerator_destroy(self._handle)
            self._handle = None

    def run(
        self,
        job: LayerJob,
        *,
        stress: int | None = None,
        reset: bool = False,
        vcd: Path | None = None,
        window: tuple[int, int] = (0, 1 << 40),
    ) -> Outcome:
        """Run a layer.

        Parameters
        ----------
        job : LayerJob
        stress : int, optional
            Seed of random waits on every channel; the memory's own timing else.
        reset : bool
            Reset the hardware first.
        vcd : Path, optional
            Where the waves of the cycles ``window`` go; only of a harness with waves.
        window : tuple of int
            First cycle, and one past the last.
        """
        image = job.image.copy()
        program = np.frombuffer(job.program, np.uint8)
        setup = np.array(list_setup(job, self.registers), np.uint32)
        reads = np.array(list_counter_offsets(self.registers), np.uint32)
        values = np.zeros(len(reads), np.uint32)
        capacity = len(job.table) + 1
        events = np.zeros((len(UNITS), len(EVENTS), capacity), np.int64)
        memory = self.arch.memory
        errors: list[str] = []
        content = bytearray(image.tobytes()) if memory.kind != "flat" and stress is None else None
        step = _Step()
        if content is not None:
            step = _Step(_follow(create_memory(self.arch, content), memory.bits_per_cycle // 8, errors))
        masks = list_status(self.registers)
        request = _Job(
            image=image.ctypes.data, image_bytes=len(image), program=program.ctypes.data, program_bytes=len(program),
            program_latency=PROGRAM_LATENCY_CYCLES,
            timing=(memory.latency_cycles, LEAST_STORE_CYCLES, REQUEST_CYCLES, RETURN_CYCLES, ANSWER_CYCLES),
            stress_seed=-1 if stress is None else stress, reset=reset, limit_cycles=limit_cycles(job, stress is not None),
            setup=setup.ctypes.data, setups=len(setup), status_address=self.registers.find_offset("status"),
            busy_mask=masks["busy"], done_mask=masks["done"], error_mask=masks["error"], reads=reads.ctypes.data,
            read_count=len(reads), read_values=values.ctypes.data, capacity=capacity, events=events.ctypes.data, step=step,
            vcd_path=str(vcd).encode() if vcd else None, vcd_from=window[0], vcd_to=window[1],
        )  # fmt: skip
        began = time.process_time()
        self._library.accelerator_run(self._handle, ctypes.byref(request))
        seconds = time.process_time() - began
        self.seconds += seconds
        self.cycles += int(request.host_cycles)
        counts = np.array(request.counts)
        return collect_outcome(
            job,
            {(u, e): events[i, k, : counts[i, k]] for i, u in enumerate(UNITS) for k, e in enumerate(EVENTS)},
            image=image if content is None else np.frombuffer(bytes(content), np.uint8),
            cycles=int(request.running_cycles),
            host_cycles=int(request.host_cycles),
            counters=join_counters(values.tolist()),
            problem=_name_problem(request, errors, masks["error"]),
            seconds=seconds,
        )


def _name_problem(request: _Job, errors: list[str], error_mask: int) -> str:
    if errors:
        return errors[0]
    if request.outcome == LIMIT:
        return f"it hangs: not done within {request.limit_cycles} cycles"
    if request.outcome == PROTOCOL:
        return bytes(request.message).decode()
    if request.outcome == OVERFLOWN:
        return "a unit runs more instructions than the program has"
    return "the status register says error" if request.status & error_mask else ""


def _follow(memory: object, size: int, errors: list[str]):  # type: ignore[no-untyped-def]
    """Return a function that steps a memory model in Python, as the harness calls it."""

    def take(request: _Request) -> Request:
        return Request(request.address, request.beats, request.user, bool(request.posted))

    def step(master: object, slave: object) -> int:
        m, s = master.contents, slave.contents  # type: ignore[attr-defined]
        try:
            beat = None
            if m.w_valid:
                data, strobe = (int.from_bytes(bytes(x[:n]), "little") for x, n in ((m.w_data, size), (m.w_strobe, 16)))
                beat = WriteBeat(data, strobe & ((1 << size) - 1), bool(m.w_last))
            ar, aw = (take(m.ar) if m.ar_valid else None), (take(m.aw) if m.aw_valid else None)
            now: Slave = memory.step(Master(ar, bool(m.rready), aw, beat, bool(m.bready)))  # type: ignore[attr-defined]
        except ProtocolError as error:
            errors.append(str(error))
            return 1
        except Exception as error:  # must not pass through C++
            errors.append(f"memory model: {type(error).__name__}: {error}")
            return 1
        s.arready, s.awready, s.wready, s.b_valid = now.arready, now.awready, now.wready, now.b
        read: ReadBeat | None = now.r
        s.r_valid = read is not None
        if read is not None:
            s.r_last = read.last
            ctypes.memmove(s.r_data, read.data.to_bytes(size, "little"), size)
        return 0

    return step


@cache
def open_harness(arch: Arch, waves: bool = False) -> Harness:
    """Return the process's harness of an accelerator.

    Raises
    ------
    HwsimError
        No RTL for it, no compiler.
    """
    return Harness(arch, waves)
