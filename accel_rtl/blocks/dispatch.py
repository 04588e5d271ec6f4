"""Instruction queues: one word a cycle from the fetch port into the queue of its unit."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from amaranth.hdl import Cat, Elaboratable, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.blocks.ram_fifo import RamFifo
from accel_rtl.instruction_word import NAMED, WORD_BITS, describe_layout, read_field
from hwsim.core.check import require_int
from hwsim.core.errors import SpecError

QUEUES = 3
"""Load, exec, store."""
PRIME_CYCLES = 2
"""From a word's way into an empty queue until it stands at its head (`RamFifo`)."""
_CONTROL = ("op", "bank", "wait", "signal", "empty")
_RUNS = ("bits", "address", "run_bits", *(f"{name}{level}" for level in range(3) for name in ("count", "stride")))
USED_FIELDS = ((*_CONTROL, *_RUNS), (*_CONTROL, "fill", "tail"), (*_CONTROL, *_RUNS, "cycles"))
"""What each unit reads of its instructions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """Splits a Program into the queues of the three units.

    Ports
        ``clear`` in: a Program begins (all before it has ended). ``length`` [32] in: its words, steady from ``clear`` on.
        ``i``: stream of words in program order, an instruction before its descriptor. ``prefetched`` in: what brings the words has
        as many as it can hold, or all. ``o[3]``: streams, the heads of the load, exec and store queue; ``extra`` [3] out: their
        descriptors, first word lowest, as long as ``valid``. ``released`` out: the queues are primed and units may start.
        ``complete`` out: all instructions have left their queues. ``error`` out: a word names a queue that is not there; it
        stalls the fetch for good.
    Latency
        2 cycles from an instruction's last word to an empty queue's head. ``released`` comes 2 cycles after the last word is in
        its queue, or one finds its queue full while ``prefetched``; its first cycle is cycle 0 of the Program.
    Throughput
        One word a cycle in, one instruction a cycle out of each queue.
    Reset
        Empty, nothing to fetch, not released.
    Stall
        A full queue stalls the fetch, whichever queue the words behind it are for. A step of a lowered Program has a load that
        moves bits or a store, and two banks a buffer let loads run three steps ahead of the engine at most. With 8 places a
        queue, a word offered in every cycle, descriptors of two words (EXEC) and one (STORE), and flat latencies of 4 and more no
        unit ever waits for its queue: `tests.rtl.test_control_queues` tries Programs made to break it. ``i.ready`` is a
        function of registers and of the queue that the word names.

    Parameters
    ----------
    places : int
        Depth of each queue.
    descriptor_words : tuple of int
        Words that follow an instruction of each queue.
    descriptor_bits : tuple of int
        Bits of them that a unit reads, from the lowest on; others are not stored. 0: all.
    used_only : bool
        Queues keep the fields of ``USED_FIELDS`` alone; all others are 0 at their heads.
    """

    places: int = 8
    descriptor_words: tuple[int, int, int] = (0, 0, 0)
    descriptor_bits: tuple[int, int, int] = (0, 0, 0)
    used_only: bool = False

    def __post_init__(self) -> None:
        require_int("dispatch.places", self.places, 2, 1 << 10)
        for q, (words, bits) in enumerate(zip(self.descriptor_words, self.descriptor_bits, strict=True)):
            require_int(f"dispatch.descriptor_words[{q}]", words, 0, 15)
            if bits and -(-bits // WORD_BITS) != words:
                raise SpecError(f"dispatch.descriptor_bits[{q}]", bits, f"0, or bits that take {words} words")

    def list_parts(self, queue: int) -> tuple[int, ...]:
        """Return the stored bits of each word of a queue's descriptors."""
        bits = self.descriptor_bits[queue] or self.descriptor_words[queue] * WORD_BITS
        return tuple(min(WORD_BITS, bits - first) for first in range(0, bits, WORD_BITS))

    def extra_bits(self, queue: int) -> int:
        """Return the width of a queue's ``extra``."""
        return sum(self.list_parts(queue))

    def compute(self, words: Iterable[int], accepts: Iterable[tuple[int, int, int]]) -> list[tuple[int | None, ...]]:
        """Return the heads of the three queues in each cycle: None, or the instruction with all descriptor words above it.

        Parameters
        ----------
        words : iterable of int
            The Program; the fetch port always has the next word from the cycle behind ``clear`` on.
        accepts : iterable of (int, int, int)
            Whether each unit accepts its head, cycle by cycle from the one of ``clear``.
        """
        todo = deque(words)
        parts = [1 + count for count in self.descriptor_words]
        inner: list[list[deque[int]]] = [[deque() for _ in range(count)] for count in parts]
        heads: list[list[int | None]] = [[None] * count for count in parts]
        trace, queue, part = [], 0, 0
        for t, ready in enumerate(accepts):
            shown = [None if None in head else _join_words(head) for head in heads]
            trace.append(tuple(shown))
            before = [len(entries[0]) for entries in inner]
            for q in range(QUEUES):
                leaves = ready[q] and shown[q] is not None
                for k in range(parts[q]):
                    if heads[q][k] is None or leaves:
                        heads[q][k] = inner[q][k].popleft() if inner[q][k] else None
            if t > 0 and todo:
                if part == 0:
                    queue = read_field(todo[0], "queue")
                if part or before[queue] < self.places - 1:  # one place is the head's
                    inner[queue][part].append(todo.popleft())
                    part = (part + 1) % parts[queue]
        return trace

    def create(self) -> wiring.Component:
        """Return the component."""
        return DispatchComponent(self)


def _join_words(words: list[int | None]) -> int:
    return sum((word or 0) << k * WORD_BITS for k, word in enumerate(words))


class DispatchComponent(wiring.Component):
    """See `Dispatch`."""

    def __init__(self, spec: Dispatch) -> None:
        self.spec = spec
        word = stream.Signature(describe_layout())
        super().__init__(
            {
                "clear": In(1),
                "length": In(32),
                "i": In(word),
                "prefetched": In(1, init=1),
                "o": Out(word).array(QUEUES),
                **{f"extra_{q}": Out(spec.extra_bits(q)) for q in range(QUEUES) if spec.extra_bits(q)},
                "released": Out(1),
                "complete": Out(1),
                "error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        word = self.i.payload
        left, room = Signal(32), Signal(QUEUES)
        accepted, blocked = Signal(), Signal()
        is_first, expected, owner = Signal(), Signal(4), Signal(2)  # descriptor words still to come, and whose
        m.d.comb += [
            is_first.eq(expected == 0),
            self.i.ready.eq((left != 0) & (~is_first | room.bit_select(word.queue, 1))),
            accepted.eq(self.i.valid & self.i.ready),
            blocked.eq(self.i.valid & (left != 0) & ~accepted & self.prefetched),
            self.error.eq(self.i.valid & (left != 0) & is_first & (word.queue >= QUEUES)),
        ]
        self._count_words(m, accepted, is_first, expected, owner)
        empty = Signal(QUEUES)
        for q in range(QUEUES):
            queue = self._queue(m, q, accepted, is_first, expected, owner)
            m.d.comb += [room[q].eq(queue.w_rdy), empty[q].eq(queue.level == 0)]
        begun = Signal()
        waited = Signal(range(PRIME_CYCLES + 1))
        primed = Signal()
        m.d.comb += [
            primed.eq(begun & (blocked | (left == 0))),
            self.complete.eq(begun & (left == 0) & empty.all()),
        ]
        with m.If(self.clear):
            m.d.sync += [left.eq(self.length), begun.eq(1), self.released.eq(0), waited.eq(0)]
        with m.Else():
            m.d.sync += left.eq(left - accepted)
            with m.If(primed & ~self.released):
                m.d.sync += [waited.eq(waited + 1), self.released.eq(waited == PRIME_CYCLES - 1)]
        return m

    def _count_words(self, m: Module, accepted: Value, is_first: Value, expected: Signal, owner: Signal) -> None:
        if not any(self.spec.descriptor_words):
            return
        queue = self.i.payload.queue
        with m.If(accepted & ~is_first):
            m.d.sync += expected.eq(expected - 1)
        with m.Elif(accepted):
            m.d.sync += owner.eq(queue)
            with m.Switch(queue):
                for q, words in enumerate(self.spec.descriptor_words):
                    with m.Case(q):
                        m.d.sync += expected.eq(words)

    def _queue(self, m: Module, q: int, accepted: Value, is_first: Value, expected: Value, owner: Value) -> RamFifo:
        """Build a queue, a FIFO for each word of an entry: the last word makes it valid. Return that of instructions."""
        word, out = self.i.payload, self.o[q]
        names = [field.name for field in NAMED if not self.spec.used_only or field.name in USED_FIELDS[q]]
        first = Cat(word[name] for name in names) if self.spec.used_only else word.as_value()
        instructions = RamFifo(width=len(first), depth=self.spec.places)
        m.submodules[f"queue_{q}"] = instructions
        m.d.comb += [
            instructions.w_data.eq(first),
            instructions.w_en.eq(accepted & is_first & (word.queue == q)),
            instructions.r_en.eq(out.valid & out.ready),
        ]
        m.d.comb += (Cat(out.payload[name] for name in names) if self.spec.used_only else out.payload.as_value()).eq(
            instructions.r_data
        )
        valid: Value = instructions.r_rdy
        words = self.spec.descriptor_words[q]
        extra = []
        for k, bits in enumerate(self.spec.list_parts(q)):
            part = RamFifo(width=bits, depth=self.spec.places)
            m.submodules[f"queue_{q}_word_{k}"] = part
            m.d.comb += [
                part.w_data.eq(word.as_value()),
                part.w_en.eq(accepted & ~is_first & (owner == q) & (expected == words - k)),
                part.r_en.eq(out.valid & out.ready),
            ]
            valid = valid & part.r_rdy
            extra.append(part.r_data)
        m.d.comb += out.valid.eq(valid)
        if self.spec.extra_bits(q):
            m.d.comb += getattr(self, f"extra_{q}").eq(Cat(extra))
        return instructions
