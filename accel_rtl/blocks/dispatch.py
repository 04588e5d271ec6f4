"""Instruction queues: one word a cycle from the fetch port into the queue of its unit."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.instruction_word import WORD_BITS, describe_layout, read_field
from hwsim.core.check import require_int

QUEUES = 3
"""Load, exec, store."""
PRIME_CYCLES = 2
"""From a word's way into an empty queue until it stands at its head (`amaranth.lib.fifo.SyncFIFOBuffered`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """Splits a Program into the queues of the three units.

    Ports
        ``clear`` in: a Program begins (all before it has ended). ``length`` [32] in: its instructions, steady from ``clear`` on.
        ``i``: stream of words in program order. ``o[3]``: streams, the heads of the load, exec and store queue. ``released``
        out: the queues are primed and units may start. ``complete`` out: all instructions have left their queues. ``error``
        out: a word names a queue that is not there; it stalls the fetch for good.
    Latency
        2 cycles from ``i`` to an empty queue's head. ``released`` comes 2 cycles after the last word is in its queue or one
        finds its queue full; its first cycle is cycle 0 of the Program.
    Throughput
        One word a cycle in, one a cycle out of each queue.
    Reset
        Empty, nothing to fetch, not released.
    Stall
        A full queue stalls the fetch, whichever queue the words behind it are for. Every step of a lowered Program begins with
        a load, and two banks a buffer let loads run three steps ahead of the engine at most: with 8 places a queue, a word
        offered in every cycle and ``issue_cycles`` of 2 or more no unit ever waits for its queue. ``i.ready`` is a function of
        registers and of the queue that the word names.

    Parameters
    ----------
    places : int
        Depth of each queue.
    """

    places: int = 8

    def __post_init__(self) -> None:
        require_int("dispatch.places", self.places, 2, 1 << 10)

    def compute(self, words: Iterable[int], accepts: Iterable[tuple[int, int, int]]) -> list[tuple[int | None, ...]]:
        """Return the heads (a word or None) of the three queues in each cycle.

        Parameters
        ----------
        words : iterable of int
            The Program; the fetch port always has the next word from the cycle behind ``clear`` on.
        accepts : iterable of (int, int, int)
            Whether each unit accepts its head, cycle by cycle from the one of ``clear``.
        """
        todo = deque(words)
        inner: list[deque[int]] = [deque() for _ in range(QUEUES)]
        heads: list[int | None] = [None] * QUEUES
        trace = []
        for t, ready in enumerate(accepts):
            trace.append(tuple(heads))
            before = [len(queue) for queue in inner]
            for q in range(QUEUES):
                if heads[q] is None or ready[q]:
                    heads[q] = inner[q].popleft() if inner[q] else None
            if t > 0 and todo:
                q = read_field(todo[0], "queue")
                if before[q] < self.places - 1:  # one place is the head's
                    inner[q].append(todo.popleft())
        return trace

    def create(self) -> wiring.Component:
        """Return the component."""
        return DispatchComponent(self)


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
                "o": Out(word).array(QUEUES),
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
        m.d.comb += [
            self.i.ready.eq((left != 0) & room.bit_select(word.queue, 1)),
            accepted.eq(self.i.valid & self.i.ready),
            blocked.eq(self.i.valid & (left != 0) & ~accepted),
            self.error.eq(self.i.valid & (left != 0) & (word.queue >= QUEUES)),
        ]
        empty = Signal(QUEUES)
        for q in range(QUEUES):
            queue = fifo.SyncFIFOBuffered(width=WORD_BITS, depth=self.spec.places)
            m.submodules[f"queue_{q}"] = queue
            m.d.comb += [
                queue.w_data.eq(word),
                queue.w_en.eq(accepted & (word.queue == q)),
                room[q].eq(queue.w_rdy),
                self.o[q].payload.as_value().eq(queue.r_data),
                self.o[q].valid.eq(queue.r_rdy),
                queue.r_en.eq(self.o[q].ready),
                empty[q].eq(queue.level == 0),
            ]
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
