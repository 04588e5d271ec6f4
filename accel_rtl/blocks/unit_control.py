"""Control of one unit: takes tokens, counts the issue cost, starts the work, gives tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from amaranth.hdl import Array, Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.instruction_word import describe_layout, read_field
from hwsim.core.check import require_int
from hwsim.core.program import O_READY, SEMAPHORES

COUNT = len(SEMAPHORES)
MOST_TAIL = (1 << 24) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlInput:
    """What a unit's control sees in one cycle: the head of its queue (a word, or None), tokens, the work's last cycle."""

    head: int | None
    available: int
    done: int = 0
    enable: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlOutput:
    """What it answers in the same cycle; ``start`` and ``done`` are of the work, ``finish`` is of the instruction."""

    take: int = 0
    give: int = 0
    taken: int = 0
    start: int = 0
    finish: int = 0
    waiting: int = 0
    issuing: int = 0
    working: int = 0
    results: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitControl:
    """Runs the instructions of one queue, one after the other, in the cycles of `hwsim.engine.kernel_shell`.

    Ports
        ``i``: stream of instruction words, the head of the queue. It is accepted in the last cycle of the instruction, so
        that the payload stands while the unit works on it. ``available`` [8] in, ``take``, ``give`` [8] out: tokens.
        ``start`` out: pulse in the first cycle of the work. ``done`` in: high in its last cycle (that may be the same one).
        ``enable`` in: instructions may be taken. Watched by counters: ``taken``, ``finish``: pulses in the first and the last
        cycle of an instruction; ``waiting``: idle and enabled, nothing taken; ``issuing``, ``working``; ``results``: results of
        earlier instructions are still on their way.
    Latency
        *ready* is the cycle of ``take``; ``start`` comes ``issue_cycles`` later; tokens are given in the last cycle of the work:
        they are there in the next, which is *end*. An empty instruction has no start pulse and ends where it would start.
        ``O_READY`` is given ``tail`` cycles later, and one cycle behind the result before it at least, results of instructions
        that give no ``O_READY`` included.
    Throughput
        An instruction in ``issue_cycles`` + work; the next may be taken in the cycle after the last.
    Reset
        Idle, no results on their way, all pulses low.
    Stall
        Waits for tokens, for ``done`` and for room among the results; it holds nothing up but its queue.

    Parameters
    ----------
    issue_cycles : int
        From the tokens to the start; at least 1: an empty instruction has to last one cycle.
    most_tail_cycles : int
        Largest ``tail`` of an instruction (0: results are there with the end).
    least_work_cycles : int
        Shortest work of an instruction: with the longest tail it bounds how many results are on their way. Where it is
        shorter after all the unit waits for room.
    """

    issue_cycles: int = 2
    most_tail_cycles: int = 0
    least_work_cycles: int = 0

    def __post_init__(self) -> None:
        require_int("shell.issue_cycles", self.issue_cycles, 1, 1 << 10)
        require_int("unit_control.most_tail_cycles", self.most_tail_cycles, 0, MOST_TAIL)
        require_int("unit_control.least_work_cycles", self.least_work_cycles, 0)

    @property
    def result_places(self) -> int:
        """Results that can be on their way at once: those of one tail, one that ends and one that leaves."""
        least = self.issue_cycles + self.least_work_cycles
        return -(-self.most_tail_cycles // least) + 2 if self.most_tail_cycles else 0

    @property
    def timer_bits(self) -> int:
        """Width of the times at which results are due: twice the longest way into future or past, and the sign."""
        return (self.most_tail_cycles + self.result_places + 1).bit_length() + 1

    def compute(self, cycles: Iterable[ControlInput]) -> list[ControlOutput]:
        """Return what the control answers in each cycle."""
        state = _Model(self)
        return [state.step(now) for now in cycles]

    def create(self) -> wiring.Component:
        """Return the component."""
        return UnitControlComponent(self)


class _Model:
    # One cycle after the other; `left` counts issue cycles, None while idle; `work` is true from the start on.
    def __init__(self, spec: UnitControl) -> None:
        self.spec = spec
        self.left: int | None = None
        self.work = False
        self.fresh = False
        self.results: deque[tuple[int, int]] = deque()
        self.time = 0

    def step(self, now: ControlInput) -> ControlOutput:
        found: dict[str, int] = {"results": int(bool(self.results))}
        finish = False
        if self.work:
            found |= {"working": 1, "start": int(self.fresh)}
            self.fresh = False
            finish = bool(now.done)
        else:
            if self.left is None and now.enable:
                self._try_to_take(now, found)
            if self.left is not None:
                found["issuing"] = 1
                self.left -= 1
                if not self.left and now.head is not None:
                    finish = bool(read_field(now.head, "empty"))
                    self.work = self.fresh = not finish
        found["give"] = 0
        if finish and now.head is not None:
            found["finish"] = 1
            found["give"] = read_field(now.head, "signal")
            self.left, self.work = None, False
        self._give_results(now, found)
        self.time += 1
        return ControlOutput(**found)

    def _try_to_take(self, now: ControlInput, found: dict[str, int]) -> None:
        wait = 0 if now.head is None else read_field(now.head, "wait")
        places = self.spec.result_places
        if now.head is None or wait & ~now.available or (places and len(self.results) == places):
            found["waiting"] = 1
            return
        found |= {"take": wait, "taken": 1}
        self.left = self.spec.issue_cycles

    def _give_results(self, now: ControlInput, found: dict[str, int]) -> None:
        if not self.spec.result_places:
            return
        mask = 1 << O_READY
        if found.get("finish") and now.head is not None:
            self.results.append((self.time + read_field(now.head, "tail"), found["give"] & mask))
            found["give"] &= ~mask
        if self.results and self.results[0][0] <= self.time:
            found["give"] |= self.results.popleft()[1]


class UnitControlComponent(wiring.Component):
    """See `UnitControl`."""

    def __init__(self, spec: UnitControl) -> None:
        self.spec = spec
        pulses = ("taken", "start", "finish", "waiting", "issuing", "working", "results")
        super().__init__(
            {
                "i": In(stream.Signature(describe_layout())),
                "available": In(COUNT),
                "enable": In(1),
                "done": In(1),
                "take": Out(COUNT),
                "give": Out(COUNT),
                **{name: Out(1) for name in pulses},
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        issue = self.spec.issue_cycles
        head = self.i.payload
        left = Signal(range(issue + 1))  # issue cycles still to come, 0 while idle or at work
        room = Signal(init=1)
        idle, last_issue = Signal(), Signal()
        m.d.comb += [
            idle.eq(~self.working & (left == 0)),
            self.taken.eq(idle & self.enable & self.i.valid & ~(head.wait & ~self.available).any() & room),
            self.take.eq(Mux(self.taken, head.wait, 0)),
            self.waiting.eq(idle & self.enable & ~self.taken),
            self.issuing.eq(self.taken | (left != 0)),
            last_issue.eq(self.taken if issue == 1 else left == 1),
            self.finish.eq((self.working & self.done) | (last_issue & head.empty)),
            self.i.ready.eq(self.finish),
        ]
        with m.If(self.taken):
            m.d.sync += left.eq(issue - 1)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        m.d.sync += self.start.eq(last_issue & ~head.empty)
        with m.If(last_issue & ~head.empty):
            m.d.sync += self.working.eq(1)
        with m.Elif(self.working & self.done):
            m.d.sync += self.working.eq(0)
        if self.spec.result_places:
            self._give_results(m, room)
        else:
            m.d.comb += self.give.eq(Mux(self.finish, head.signal, 0))
        return m

    def _give_results(self, m: Module, room: Signal) -> None:
        # A ring of (time due, gives O_READY), in order; the time is modulo its width. A result that is due at once and has
        # none before it passes by.
        places, bits = self.spec.result_places, self.spec.timer_bits
        head = self.i.payload
        time, level = Signal(bits), Signal(range(places + 1))
        first, last = Signal(range(places)), Signal(range(places))
        due = Array(Signal(bits, name=f"due_{k}") for k in range(places))
        gives = Array(Signal(name=f"gives_{k}") for k in range(places))
        late, leaves, passes, enters = Signal(bits), Signal(), Signal(), Signal()
        m.d.sync += time.eq(time + 1)
        m.d.comb += [
            self.results.eq(level != 0),
            room.eq(level != places),
            late.eq(time - due[first]),
            leaves.eq(self.results & ~late[-1]),
            passes.eq(self.finish & ~self.results & (head.tail == 0)),
            enters.eq(self.finish & ~passes),
        ]
        result = Signal()
        m.d.comb += result.eq((leaves & gives[first]) | (passes & head.signal[O_READY]))
        others = Mux(self.finish, head.signal, 0)
        m.d.comb += self.give.eq(Cat(*(result if s == O_READY else others[s] for s in range(COUNT))))
        m.d.sync += level.eq(level + enters - leaves)
        with m.If(leaves):
            m.d.sync += first.eq(Mux(first == places - 1, 0, first + 1))
        with m.If(enters):
            m.d.sync += [
                due[last].eq(time + head.tail),
                gives[last].eq(head.signal[O_READY]),
                last.eq(Mux(last == places - 1, 0, last + 1)),
            ]
