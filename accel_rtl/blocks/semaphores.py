"""The eight counting semaphores through which the units meet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.core.check import require_int
from hwsim.core.errors import SpecError
from hwsim.core.program import INITIAL_TOKENS, SEMAPHORES

COUNT = len(SEMAPHORES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Semaphores:
    """Eight counters, one producer and one consumer each.

    Ports: ``take``, ``give`` [8] in: pulses, a bit for each semaphore, the units' masks or-ed; ``clear`` in: back to the
    initial tokens; ``available`` [8] out: there is a token; ``error`` out: a token was taken where none was, or given beyond
    what the counter holds (two cycles later, held until ``clear``). Latency: a token given in one cycle is there in the next,
    throughput a take and a give of each semaphore a cycle. Reset: the initial tokens. Nothing stalls.

    Parameters
    ----------
    initial : tuple of int
        Tokens at start.
    width_bits : tuple of int
        Width of each counter. Banks bound all but ``SPILLED``, of which as many may be out as there are output tiles.
    """

    initial: tuple[int, ...] = INITIAL_TOKENS
    width_bits: tuple[int, ...] = (2, 2, 2, 2, 2, 2, 2, 20)

    def __post_init__(self) -> None:
        for name in ("initial", "width_bits"):
            if len(getattr(self, name)) != COUNT:
                raise SpecError(f"semaphores.{name}", getattr(self, name), f"{COUNT} values")
        for s, (tokens, width) in enumerate(zip(self.initial, self.width_bits, strict=True)):
            require_int(f"semaphores.width_bits[{s}]", width, 1, 32)
            require_int(f"semaphores.initial[{s}]", tokens, 0, (1 << width) - 1)

    def compute(self, cycles: Iterable[tuple[int, int, int]]) -> list[tuple[int, int]]:
        """Return (``available``, ``error``) of each cycle, given (``take``, ``give``, ``clear``)."""
        tokens, error, wrong = list(self.initial), 0, 0
        trace = []
        for take, give, clear in cycles:
            trace.append((sum((count > 0) << s for s, count in enumerate(tokens)), error))
            if clear:
                tokens, error, wrong = list(self.initial), 0, 0
                continue
            error |= wrong
            for s, width in enumerate(self.width_bits):
                if take >> s & 1 and not tokens[s]:
                    wrong = 1
                after = tokens[s] + (give >> s & 1) - (take >> s & 1)
                if after == 1 << width:
                    wrong = 1
                tokens[s] = min(max(after, 0), (1 << width) - 1)
        return trace

    def create(self) -> wiring.Component:
        """Return the component."""
        return SemaphoresComponent(self)


class SemaphoresComponent(wiring.Component):
    """See `Semaphores`; ``counts`` are its counters."""

    def __init__(self, spec: Semaphores) -> None:
        self.spec = spec
        self.counts = [
            Signal(width, init=tokens, name=f"count_{name}")
            for name, width, tokens in zip(SEMAPHORES, spec.width_bits, spec.initial, strict=True)
        ]
        super().__init__(
            {"take": In(COUNT), "give": In(COUNT), "clear": In(1), "available": Out(COUNT), "error": Out(1)}
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """Build the counters; whether one is empty or full is kept beside it, so that takes and gives come to a choice at once."""
        m = Module()
        wrong = Signal(2 * COUNT)
        for s, count in enumerate(self.counts):
            most = (1 << len(count)) - 1
            some, full = Signal(init=int(count.init > 0)), Signal(init=int(count.init == most))
            take, give = self.take[s], self.give[s]
            m.d.comb += self.available[s].eq(some)
            m.d.sync += [wrong[2 * s].eq(take & ~some), wrong[2 * s + 1].eq(give & ~take & full)]
            with m.If(self.clear):
                m.d.sync += [count.eq(count.init), some.eq(some.init), full.eq(full.init)]
            with m.Elif(give & ~take & ~full):
                m.d.sync += [count.eq(count + 1), some.eq(1), full.eq(count == most - 1)]
            with m.Elif(take & ~give & some):
                m.d.sync += [count.eq(count - 1), some.eq(count != 1), full.eq(0)]
        with m.If(wrong.any()):
            m.d.sync += self.error.eq(1)
        with m.If(self.clear):
            m.d.sync += [self.error.eq(0), wrong.eq(0)]
        return m
