"""Performance counters: every cycle of the exec unit once, as the simulator accounts for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from amaranth.hdl import Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from hwsim.core.check import require_int
from hwsim.core.program import I_READY, O_FREE, SEMAPHORES, W_READY

COUNTERS = ("compute", "fill", "drain", "weights", "inputs", "output_buffer", "memory", "issue", "total", "fetch")
"""``compute`` to ``issue`` as in `hwsim.core.stats.STALLS`, but for ``refresh``: only the memory knows of it, and the wait that it
causes stays with its cause. ``fetch``: the unit had no instruction to wait with (none in the simulator)."""
COUNT = len(SEMAPHORES)


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterInput:
    """What the counters see in one cycle; see the ports of `Counters`."""

    running: int = 1
    clear: int = 0
    finished: int = 0
    waiting: int = 0
    has_head: int = 0
    missing: int = 0
    taken: int = 0
    issuing: int = 0
    working: int = 0
    start: int = 0
    fill: int = 0
    results: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Counts cycles of the exec unit by what it does.

    Ports
        ``clear`` in: all to zero. ``running`` in: from cycle 0 of a Program to its last. ``finished`` in: pulse in the cycle
        behind the last. Of the exec unit's control: ``waiting``, ``taken``, ``issuing``, ``working``, ``start``, ``results``; of
        the head of its queue: ``has_head``, ``missing`` [8] (tokens it waits for that are not there), ``fill`` [32].
        ``counts`` out: a struct with a field for each of ``COUNTERS``.
    Attribution
        A wait belongs, whole, to the token that came last; of several that came in one cycle to the first of ``SEMAPHORES``; to
        memory where no token is missing but room for results. What follows the last instruction is drain while
        ``results``, then memory.
    Latency
        A cycle is counted in the next one; a wait when it is over. Throughput: every cycle. Reset: zero. Nothing stalls.

    Parameters
    ----------
    width_bits : int
        Width of every counter; they wrap.
    """

    width_bits: int = 48

    def __post_init__(self) -> None:
        require_int("counters.width_bits", self.width_bits, 1, 64)

    def compute(self, cycles: Iterable[CounterInput]) -> dict[str, int]:
        """Return all counters behind the last cycle."""
        found = dict.fromkeys(COUNTERS, 0)
        waits: list[tuple[str, bool]] = []
        left = 0
        for now in cycles:
            if now.clear:
                found, waits = dict.fromkeys(COUNTERS, 0), []
                continue
            if now.finished:
                for _, results in waits:
                    found["drain" if results else "memory"] += 1
                waits = []
            if not now.running:
                continue
            found["total"] += 1
            if now.waiting:
                waits.append((name_cause(now.missing) if now.has_head else "fetch", bool(now.results)))
            if now.taken and waits:
                found[waits[-1][0]] += len(waits)
                waits = []
            if now.issuing:
                found["issue"] += 1
            if now.working:
                left = now.fill if now.start else left
                found["fill" if left else "compute"] += 1
                left = max(left - 1, 0)
        return {name: value % (1 << self.width_bits) for name, value in found.items()}

    def create(self) -> wiring.Component:
        """Return the component."""
        return CountersComponent(self)


def name_cause(missing: int) -> str:
    """Return the counter of a wait for the semaphores of a mask: the first of them names it."""
    first = (missing & -missing).bit_length() - 1
    return {W_READY: "weights", I_READY: "inputs", O_FREE: "output_buffer"}.get(first, "memory")


class CountersComponent(wiring.Component):
    """See `Counters`."""

    def __init__(self, spec: Counters) -> None:
        self.spec = spec
        pulses = (
            "clear",
            "running",
            "finished",
            "waiting",
            "has_head",
            "taken",
            "issuing",
            "working",
            "start",
            "results",
        )
        super().__init__(
            {
                **{name: In(1) for name in pulses},
                "missing": In(COUNT),
                "fill": In(32),
                "counts": Out(StructLayout(dict.fromkeys(COUNTERS, spec.width_bits))),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        counts = self.counts
        waited, drained = Signal(self.spec.width_bits), Signal(self.spec.width_bits)
        cause = Signal(range(len(COUNTERS)))
        left, now = Signal(32), Signal(32)
        m.d.comb += now.eq(Mux(self.start, self.fill, left))
        with m.If(self.running):
            m.d.sync += counts.total.eq(counts.total + 1)
            with m.If(self.waiting):
                m.d.sync += [waited.eq(waited + 1), drained.eq(drained + self.results)]
                with m.If(~self.has_head):
                    m.d.sync += cause.eq(COUNTERS.index("fetch"))
                with m.Else():
                    self._name_cause(m, cause)
            with m.If(self.taken):
                m.d.sync += [waited.eq(0), drained.eq(0)]
                with m.Switch(cause):
                    for name in ("weights", "inputs", "output_buffer", "memory", "fetch"):
                        counter = counts[name]
                        with m.Case(COUNTERS.index(name)):
                            m.d.sync += counter.eq(counter + waited)
            with m.If(self.issuing):
                m.d.sync += counts.issue.eq(counts.issue + 1)
            with m.If(self.working):
                m.d.sync += left.eq(now - (now != 0))
                with m.If(now != 0):
                    m.d.sync += counts.fill.eq(counts.fill + 1)
                with m.Else():
                    m.d.sync += counts.compute.eq(counts.compute + 1)
        with m.If(self.finished):
            m.d.sync += [
                counts.drain.eq(counts.drain + drained),
                counts.memory.eq(counts.memory + (waited - drained)),
                waited.eq(0),
                drained.eq(0),
            ]
        with m.If(self.clear):
            m.d.sync += [waited.eq(0), drained.eq(0), cause.eq(0)]
            m.d.sync += counts.as_value().eq(0)
        return m

    def _name_cause(self, m: Module, cause: Signal) -> None:
        m.d.sync += cause.eq(COUNTERS.index(name_cause(0)))
        for s in reversed(range(COUNT)):  # the last one that holds is the first semaphore
            with m.If(self.missing[s]):
                m.d.sync += cause.eq(COUNTERS.index(name_cause(1 << s)))
