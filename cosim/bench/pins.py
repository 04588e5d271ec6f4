"""The host's side of an accelerator's ports in plain Python: registers, program memory, pins that are written when they change.

Each is a Moore machine like `cosim.memory_model.AxiMemory`: it drives values known before the cycle, and takes what the accelerator
drove in it.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from accel_rtl.instruction_word import WORD_BYTES
from cosim.memory_model import ProtocolError, Stress

POLL_CYCLES = 8


class Pins:
    """Ports of a cocotb handle under one prefix; a value that stands is not written again."""

    def __init__(self, dut: Any, prefix: str) -> None:
        self._dut, self._prefix = dut, prefix
        self._handles: dict[str, Any] = {}
        self._last: dict[str, int] = {}

    def _find(self, name: str) -> Any:
        if name not in self._handles:
            self._handles[name] = getattr(self._dut, self._prefix + name)
        return self._handles[name]

    def read(self, name: str) -> int:
        """Return an output of the accelerator."""
        return int(self._find(name).value)

    def write(self, name: str, value: int) -> None:
        """Drive an input of the accelerator."""
        if self._last.get(name) != value:
            self._last[name] = value
            self._find(name).value = value


class ProgramMemory:
    """A read-only memory: the first word some cycles behind its address, then one a cycle."""

    def __init__(self, pins: Pins, image: bytes, latency: int, stress: Stress | None) -> None:
        self.pins, self.image, self.latency, self.stress = pins, image, latency, stress
        self.cycle = 0
        self.reads: deque[tuple[int, int, bool]] = deque()
        self.ready, self.shown = True, False
        pins.write("arready", 1)
        pins.write("rvalid", 0)
        pins.write("rresp", 0)

    def step(self) -> None:
        """Take this cycle, drive the next."""
        pins = self.pins
        if self.ready and pins.read("arvalid"):
            self._take(pins.read("araddr"), pins.read("arlen") + 1)
        keeps = self.shown and not pins.read("rready")
        self.cycle += 1
        self.ready = self.stress is None or self.stress.grants()
        pins.write("arready", int(self.ready))
        if keeps:
            return
        self.shown = (
            bool(self.reads) and self.cycle >= self.reads[0][1] and (self.stress is None or self.stress.grants())
        )
        pins.write("rvalid", int(self.shown))
        if self.shown:
            at, _, last = self.reads.popleft()
            pins.write("rdata", int.from_bytes(self.image[at : at + WORD_BYTES], "little"))
            pins.write("rlast", int(last))

    def _take(self, address: int, words: int) -> None:
        if address % WORD_BYTES or address + words * WORD_BYTES > len(self.image):
            raise ProtocolError(f"program read of {words} words at byte {address} outside of {len(self.image)} bytes")
        due = self.cycle + self.latency
        self.reads.extend((address + i * WORD_BYTES, due, i == words - 1) for i in range(words))


class RegisterMaster:
    """Writes registers, polls the status until the program is through, reads counters: one access at a time."""

    def __init__(
        self, pins: Pins, setup: list[tuple[int, int]], status: int, masks: dict[str, int], reads: list[int],
        stress: Stress | None,
    ) -> None:  # fmt: skip
        self.pins, self.stress, self.status, self.masks = pins, stress, status, masks
        self.setup, self.reads = deque(setup), deque(reads)
        self.values: list[int] = []
        self.seen_running = self.finished = self.error = False
        self.busy = ""
        self.wait = 0
        self.valid = {"aw": False, "w": False, "ar": False}
        for name, value in (("bready", 1), ("rready", 1), ("wstrb", 15), ("awprot", 0), ("arprot", 0)):
            pins.write(name, value)
        self._drive()

    @property
    def through(self) -> bool:
        """Whether the program has ended and all counters were read."""
        return self.finished and not self.reads and not self.busy

    def step(self) -> None:
        """Take this cycle, drive the next."""
        pins = self.pins
        for channel, valid in self.valid.items():
            if valid and pins.read(f"{channel}ready"):
                self.valid[channel] = False
        if self.busy == "write" and pins.read("bvalid"):
            self.busy = ""
        elif self.busy and self.busy != "write" and pins.read("rvalid"):
            self._take(pins.read("rdata"))
        if not self.busy and (self.stress is None or self.stress.grants()):
            self._begin()
        self._drive()

    def _take(self, data: int) -> None:
        if self.busy == "read":
            self.values.append(data)
        else:
            self.error = bool(data & self.masks["error"])
            ended = self.seen_running and data & self.masks["done"] and not data & self.masks["busy"]
            self.finished = self.error or bool(ended)
            self.wait = POLL_CYCLES
        self.busy = ""

    def _begin(self) -> None:
        if self.setup:
            address, value = self.setup.popleft()
            self.busy = "write"
            self.valid.update(aw=True, w=True)
            self.pins.write("awaddr", address)
            self.pins.write("wdata", value)
        elif not self.finished and self.wait:
            self.wait -= 1
        elif not self.finished or self.reads:
            self.busy = "poll" if not self.finished else "read"
            self.valid["ar"] = True
            self.pins.write("araddr", self.status if not self.finished else self.reads.popleft())

    def _drive(self) -> None:
        for channel, valid in self.valid.items():
            self.pins.write(f"{channel}valid", int(valid))
