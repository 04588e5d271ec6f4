"""A memory behind an AXI4 interface, cycle by cycle, that answers with the cycle engine's own timing.

The model is a Moore machine: `AxiMemory.drives` is what it drives in the present cycle, `AxiMemory.step` takes what the master
drove in that cycle and returns what the memory drives in the next. A bench samples the master before the clock edge, calls
`step`, and drives the result behind the edge; so the same object serves Amaranth's simulator, cocotb and plain Python.

Timing: ``flat`` is point 4 of `hwsim.engine.kernel_shell`; ``dram`` (`cosim.memory_dram`) runs the kernels of
`hwsim.engine.kernel_dram` by the rules of `hwsim.engine.kernel_port`. ``flat`` knows which cycles lie in the accelerator's own
pipeline (`accel_rtl.blocks.read_dma`, `write_dma`): a DMA started `REQUEST_CYCLES` before its first address was seen, its last beat
counts `RETURN_CYCLES` behind R or B.
`Stress` holds back every channel at random instead; bits must not change.

The model also watches the master: broken AXI rules and transfers of other lengths than announced raise `ProtocolError`.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from accel_rtl.blocks.axi import MOST_BEATS, PAGE_BYTES
from accel_rtl.blocks.read_dma import LEAST_LATENCY_CYCLES, REQUEST_CYCLES, RETURN_CYCLES
from accel_rtl.blocks.write_dma import ANSWER_CYCLES, LEAST_STORE_CYCLES
from hwsim.core.check import require_choice, require_int

if TYPE_CHECKING:
    from hwsim.core.arch import Arch


class ProtocolError(RuntimeError):
    """The master broke a rule of AXI4 or of this project's use of it."""


class Request(NamedTuple):
    """An address: first byte, beats of the burst, AxUSER (beats of the transfer on its first burst), bufferable or not."""

    address: int
    beats: int
    user: int
    posted: bool = True


class WriteBeat(NamedTuple):
    """A beat of W."""

    data: int
    strobe: int
    last: bool


class ReadBeat(NamedTuple):
    """A beat of R."""

    data: int
    last: bool


class Master(NamedTuple):
    """What a master drives in one cycle; None: valid is low."""

    ar: Request | None = None
    rready: bool = True
    aw: Request | None = None
    w: WriteBeat | None = None
    bready: bool = True


class Slave(NamedTuple):
    """What the memory drives in one cycle; None or False: valid is low."""

    arready: bool = True
    r: ReadBeat | None = None
    awready: bool = True
    wready: bool = False
    b: bool = False


class Timing(Protocol):
    """When a memory gives and takes. Transfers, bursts and beats are told in the order in which they come."""

    def request_read(self, cycle: int, request: Request) -> None:
        """An address of AR was taken in ``cycle``."""

    def request_write(self, cycle: int, request: Request) -> None:
        """An address of AW was taken in ``cycle``, behind an AR of the same cycle."""

    def take_data(self, cycle: int) -> None:
        """A beat of W was taken in ``cycle``."""

    def gives_read(self, cycle: int) -> bool:
        """Whether the next beat of R may be shown in ``cycle``; called once for each cycle until it may."""

    def takes_write(self, cycle: int) -> bool:
        """Whether the next beat of W may be taken in ``cycle``."""

    def answers_write(self, cycle: int) -> bool:
        """Whether the next B, all of whose beats have come, may be shown in ``cycle``."""


@dataclass(slots=True)
class FlatTiming:
    """A port of a flat memory: one transfer at a time, in the order in which they ask (DMAs start), a beat a cycle.

    Parameters
    ----------
    latency_cycles : int
        From the request of a load to its first beat, `LEAST_LATENCY_CYCLES` at least.
    store_cycles : int
        From the request of a store to its first beat, `LEAST_STORE_CYCLES` at least.
    """

    latency_cycles: int
    store_cycles: int = LEAST_STORE_CYCLES
    free: int = 0
    next_read: int = 0
    next_write: int = 0
    last_taken: int = -1

    def __post_init__(self) -> None:
        require_int("memory.latency_cycles", self.latency_cycles, LEAST_LATENCY_CYCLES)
        require_int("memory.store_cycles", self.store_cycles, LEAST_STORE_CYCLES)

    def _reserve(self, asks: int, beats: int) -> int:
        slot = max(asks, self.free)
        self.free = slot + beats
        return slot

    def request_read(self, cycle: int, request: Request) -> None:
        if request.user:
            begin = cycle - REQUEST_CYCLES
            self.next_read = self._reserve(begin + self.latency_cycles, request.user) - RETURN_CYCLES

    def request_write(self, cycle: int, request: Request) -> None:
        if request.user:
            begin = cycle - REQUEST_CYCLES
            self.next_write = self._reserve(begin + self.store_cycles, request.user) - RETURN_CYCLES - ANSWER_CYCLES

    def take_data(self, cycle: int) -> None:
        self.next_write += 1
        self.last_taken = cycle

    def gives_read(self, cycle: int) -> bool:
        given = cycle >= self.next_read
        self.next_read += given
        return given

    def takes_write(self, cycle: int) -> bool:
        return cycle >= self.next_write

    def answers_write(self, cycle: int) -> bool:
        return cycle >= self.last_taken + ANSWER_CYCLES


@dataclass(slots=True)
class Stress:
    """Random waits on every channel; a delay of each channel is drawn anew, most of them short.

    Parameters
    ----------
    seed : int
        Of all that is random. It also decides how the memory behaves as a whole: whether it takes data before addresses, and
        whether it waits for data before it takes their address (both are allowed, IHI 0022 section A3.3.1).
    """

    seed: int
    source: random.Random = None  # type: ignore[assignment]
    most_waits: int = 0
    early_beats: int = 0
    waits_for_data: bool = False

    def __post_init__(self) -> None:
        self.source = random.Random(self.seed)
        self.most_waits = self.source.choice((1, 3, 9))
        self.early_beats = self.source.choice((0, 1, 8))
        self.waits_for_data = self.early_beats > 0 and self.source.random() < 0.5

    def grants(self) -> bool:
        """Return whether something may happen in a cycle."""
        return self.source.randrange(self.most_waits + 1) == 0


class AxiMemory:
    """One AXI4 interface of a memory.

    Parameters
    ----------
    image : bytearray
        Content, changed by writes; may be shared with other interfaces.
    beat_bits : int
        Width of the data bus.
    timing : Timing
        When it gives and takes.
    stress : Stress, optional
        Holds channels back; ``timing`` then is a lower bound alone.
    """

    def __init__(self, image: bytearray, beat_bits: int, timing: Timing, stress: Stress | None = None) -> None:
        self.image, self.size, self.timing, self.stress = image, beat_bits // 8, timing, stress
        self.cycle = 0
        self.drives = Slave(wready=False)
        self.reads: deque[tuple[int, bool]] = deque()
        self.writes: deque[Request] = deque()
        self.early: deque[WriteBeat] = deque()
        self.answers = 0
        self.place = 0
        self.left = {"ar": 0, "aw": 0}
        self.refused = Master()

    def step(self, master: Master) -> Slave:
        """Take what the master drove in this cycle; return, and keep in ``drives``, what the memory drives in the next."""
        old = self.drives
        self._check_stable(master)
        if master.ar and old.arready:
            self._take_read(master.ar)
        if master.aw and old.awready:
            self._check_request("aw", master.aw)
            self.timing.request_write(self.cycle, master.aw)
            self.writes.append(master.aw)
        if master.w and old.wready:
            self.timing.take_data(self.cycle)
            self.early.append(master.w)
        while self.early and self.writes:
            self._write_beat(self.early.popleft())
        read = None if old.r and master.rready else old.r
        answer = old.b and not master.bready
        self.refused = Master(
            ar=None if old.arready else master.ar,
            aw=None if old.awready else master.aw,
            w=None if old.wready else master.w,
        )
        self.cycle += 1
        self.drives = Slave(
            arready=self._grants(),
            r=read or self._show_read(),
            awready=self._grants() and not self._waits(master),
            wready=self._takes_data(),
            b=answer or self._show_answer(),
        )
        return self.drives

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        busy = self.reads or self.writes or self.early or self.answers or self.drives.r or self.drives.b
        return not busy and not self.left["ar"] and not self.left["aw"]

    def _grants(self) -> bool:
        return self.stress is None or self.stress.grants()

    def _waits(self, master: Master) -> bool:
        if self.stress is None or not self.stress.waits_for_data:
            return False
        return master.w is None and not self.early

    def _takes_data(self) -> bool:
        if self.stress is None:
            return bool(self.writes) and self.timing.takes_write(self.cycle)
        return self.stress.grants() and (bool(self.writes) or len(self.early) < self.stress.early_beats)

    def _show_read(self) -> ReadBeat | None:
        if not self.reads or not self._grants() or not self.timing.gives_read(self.cycle):
            return None
        address, last = self.reads.popleft()
        return ReadBeat(int.from_bytes(self.image[address : address + self.size], "little"), last)

    def _show_answer(self) -> bool:
        if not self.answers or not self._grants() or not self.timing.answers_write(self.cycle):
            return False
        self.answers -= 1
        return True

    def _take_read(self, request: Request) -> None:
        self._check_request("ar", request)
        self.timing.request_read(self.cycle, request)
        for i in range(request.beats):
            self.reads.append((request.address + i * self.size, i == request.beats - 1))

    def _write_beat(self, beat: WriteBeat) -> None:
        request = self.writes[0]
        at = request.address + self.place * self.size
        for i, byte in enumerate(beat.data.to_bytes(self.size, "little")):
            if beat.strobe >> i & 1:
                self.image[at + i] = byte
        self.place += 1
        if beat.last != (self.place == request.beats):
            raise ProtocolError(f"cycle {self.cycle}: wlast is {beat.last} on beat {self.place} of {request.beats}")
        if beat.last:
            self.writes.popleft()
            self.answers += 1
            self.place = 0

    def _check_request(self, name: str, request: Request) -> None:
        where = f"cycle {self.cycle}: {name} {request}"
        end = request.address + request.beats * self.size
        if not 1 <= request.beats <= MOST_BEATS or request.address // PAGE_BYTES != (end - 1) // PAGE_BYTES:
            raise ProtocolError(f"{where} is too long or crosses {PAGE_BYTES} bytes")
        if request.address % self.size:
            raise ProtocolError(f"{where} is no multiple of a beat, {self.size} bytes")
        if end > len(self.image):
            raise ProtocolError(f"{where} lies outside a memory of {len(self.image)} bytes")
        if bool(request.user) == bool(self.left[name]):
            raise ProtocolError(f"{where}: {self.left[name]} beats are left of the transfer before it")
        self.left[name] += (request.user or 0) - request.beats
        if self.left[name] < 0:
            raise ProtocolError(f"{where} goes beyond the beats announced for the transfer")

    def _check_stable(self, master: Master) -> None:
        for name in ("ar", "aw", "w"):
            was = getattr(self.refused, name)
            if was is not None and getattr(master, name) != was:
                raise ProtocolError(f"cycle {self.cycle}: {name} changed from {was} before it was taken")


def create_memory(
    arch: Arch, image: bytearray, store_cycles: int = LEAST_STORE_CYCLES, stress: Stress | None = None
) -> AxiMemory:
    """Return the memory of an accelerator with one port.

    Parameters
    ----------
    arch : Arch
        Its memory and clock.
    image : bytearray
        Content, changed by writes.
    store_cycles : int
        From the request of a store to its first beat (flat memory).
    stress : Stress, optional

    Raises
    ------
    SpecError
        A port per operand; a latency shorter than the pipeline.
    """
    memory = arch.memory
    require_choice("memory.channels", memory.channels, ("shared",))
    timing: Timing
    if memory.kind == "flat":
        timing = FlatTiming(memory.latency_cycles, store_cycles)
    else:
        from cosim.memory_dram import Controller, DramTiming
        from hwsim.core.dram_parts import find_part
        from hwsim.engine.run import clock_ratio

        ratio = clock_ratio(find_part(memory.part).tck_ps, arch.clock_hz)
        timing = DramTiming(Controller(memory.part, ratio), memory.bits_per_cycle)
    return AxiMemory(image, memory.bits_per_cycle, timing, stress)
