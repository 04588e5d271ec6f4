"""What is proved of the control blocks, for every input within a bounded number of cycles from reset.

Each proof stands beside a design with one bug that it finds: a property that nothing can break says nothing.
"""

import pytest

from tests.extras import require

require("amaranth", "pyosys")

from amaranth.hdl import Assert, Assume, Cat, Const, Module, Mux, Signal
from amaranth.lib import fifo
from amaranth.lib.wiring import Component, In

from accel_rtl.blocks.dispatch import Dispatch, DispatchComponent
from accel_rtl.blocks.ram_fifo import RamFifo
from accel_rtl.blocks.semaphores import Semaphores, SemaphoresComponent
from accel_rtl.blocks.skid import SkidBuffer, SkidBufferComponent
from accel_rtl.blocks.unit_control import UnitControl, UnitControlComponent
from accel_rtl.formal import break_class, prove
from hwsim.core.program import INITIAL_TOKENS, O_FREE, O_READY, W_FREE, W_READY

ITEMS = 5  # bits of the counters of items


class QueueProperty(Component):
    """A stream through a queue: items come out once, in order, unchanged, and stand until they are accepted.

    ``watched`` is any one item by its number. An item shows at the output ``latency`` cycles behind its arrival at the
    latest, once those before it are gone; the queue takes at least ``room`` items and holds at most ``most``.
    """

    valid: In(1)
    payload: In(2)
    accept: In(1)
    watched: In(ITEMS)

    def __init__(self, queue, i, o, *, latency, room, most):
        self.queue, self.i, self.o = queue, i, o
        self.latency, self.room, self.most = latency, room, most
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = self.queue
        (i_valid, i_payload, i_ready), (o_valid, o_payload, o_ready) = self.i, self.o
        m.d.comb += [i_valid.eq(self.valid), i_payload.eq(self.payload), o_ready.eq(self.accept)]
        came, went, begun, watched = Signal(ITEMS), Signal(ITEMS), Signal(), Signal(ITEMS)
        enters, leaves = i_valid & i_ready, o_valid & o_ready
        m.d.sync += [came.eq(came + enters), went.eq(went + leaves), begun.eq(1), watched.eq(self.watched)]
        m.d.comb += [Assume(~begun | (watched == self.watched)), Assume(~came.all())]
        kept, seen = Signal(2), Signal()
        with m.If(enters & (came == self.watched)):
            m.d.sync += [kept.eq(i_payload), seen.eq(1)]
        with m.If(leaves & (went == self.watched)):
            m.d.comb += Assert(seen & (o_payload == kept))
        held = Signal(ITEMS)
        m.d.comb += [held.eq(came - went), Assert(held <= self.most)]
        with m.If(held < self.room):
            m.d.comb += Assert(i_ready)
        with m.If(held == 0):
            m.d.comb += Assert(~o_valid)
        idle = Signal(4)
        m.d.sync += idle.eq(Mux((held != 0) & ~o_valid, idle + 1, 0))
        m.d.comb += Assert((held == 0) | o_valid | (idle < self.latency - 1))
        stalled, before = Signal(), Signal(2)
        m.d.sync += [stalled.eq(o_valid & ~o_ready), before.eq(o_payload)]
        with m.If(stalled):
            m.d.comb += Assert(o_valid & (o_payload == before))
        return m


def watch_skid(cls=SkidBufferComponent):
    skid = cls(SkidBuffer(width_bits=2))
    ports = [(s.valid, s.payload, s.ready) for s in (skid.i, skid.o)]
    return QueueProperty(skid, *ports, latency=1, room=2, most=2)


def watch_fifo(cls=fifo.SyncFIFOBuffered, depth=4):
    queue = cls(width=2, depth=depth)
    ports = ((queue.w_en, queue.w_data, queue.w_rdy), (queue.r_rdy, queue.r_data, queue.r_en))
    return QueueProperty(queue, *ports, latency=2, room=depth - 1, most=depth)


class ApartProperty(Component):
    """A FIFO never reads and writes one place of its memory in a cycle, whoever drives it: `RamFifo` marks the memory so."""

    write: In(1)
    read: In(1)

    def __init__(self, cls=RamFifo, depth=4):
        class Watched(cls):
            def elaborate(self, platform):
                m = super().elaborate(platform)
                storage = m.submodules.storage
                (write,), (read,) = storage.write_ports, storage.read_ports
                m.d.comb += Assert(~(write.en & read.en & (write.addr == read.addr)))
                return m

        self.queue = Watched(width=1, depth=depth)
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = self.queue
        m.d.comb += [self.queue.w_en.eq(self.write), self.queue.r_en.eq(self.read)]
        return m


class DispatchProperty(Component):
    """Words come out of the queue they name, once, in order and unchanged; no more than ``length`` of them are taken.

    ``watched`` is any one word by its number among those for ``queue``, which is any one queue. ``complete`` says that all have
    come and gone; ``released`` comes, and stays. Units take heads when they like; the fetch offers words when it likes.
    """

    valid: In(1)
    name: In(2)
    payload: In(2)
    accept: In(3)
    watched: In(ITEMS)
    queue: In(2)
    length: In(3)

    def __init__(self, cls=DispatchComponent):
        self.dispatch = cls(Dispatch(places=2))
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.dispatch = dispatch = self.dispatch
        begun, steady = Signal(), Signal(ITEMS + 5)
        m.d.sync += [begun.eq(1), steady.eq(Cat(self.watched, self.queue, self.length))]
        m.d.comb += [
            dispatch.clear.eq(~begun),
            dispatch.length.eq(self.length),
            dispatch.i.valid.eq(self.valid),
            dispatch.i.payload.queue.eq(self.name),
            dispatch.i.payload.tile.eq(self.payload),
            *(dispatch.o[q].ready.eq(self.accept[q]) for q in range(3)),
            Assume(~begun | (steady == Cat(self.watched, self.queue, self.length))),
            Assume((self.queue < 3) & (self.name < 3)),
            Assert(~dispatch.error),
        ]
        enters = dispatch.i.valid & dispatch.i.ready
        leaves = [dispatch.o[q].valid & self.accept[q] for q in range(3)]
        all_came, all_went, came, went = (Signal(ITEMS, name=name) for name in ("all_came", "all_went", "came", "went"))
        kept, seen, mine = Signal(2), Signal(), Signal()
        m.d.comb += mine.eq(enters & (self.name == self.queue))
        m.d.sync += [all_came.eq(all_came + enters), all_went.eq(all_went + sum(leaves)), came.eq(came + mine)]
        with m.If(mine & (came == self.watched)):
            m.d.sync += [kept.eq(self.payload), seen.eq(1)]
        for q in range(3):
            with m.If(leaves[q] & (self.queue == q)):
                m.d.sync += went.eq(went + 1)
                with m.If(went == self.watched):
                    m.d.comb += Assert(seen & (dispatch.o[q].payload.tile == kept))
            with m.If(dispatch.o[q].valid):
                m.d.comb += Assert(dispatch.o[q].payload.queue == q)
        waits, released = Signal(3), Signal()
        primed = begun & ((all_came == self.length) | (self.valid & ~enters))
        m.d.sync += [waits.eq(waits + (primed & ~dispatch.released)), released.eq(dispatch.released)]
        m.d.comb += [
            Assert(~begun | (all_came <= self.length)),
            Assert(~begun | (dispatch.complete == ((all_came == self.length) & (all_went == self.length)))),
            Assert(~released | dispatch.released),
            Assert(waits <= 2),
        ]
        return m


class SemaphoreProperty(Component):
    """Whatever is taken, given and cleared: tokens are initial + given - taken, and what is illegal is an error."""

    take: In(8)
    give: In(8)
    clear: In(1)

    def __init__(self, cls, watched):
        self.semaphores = cls(Semaphores())
        self.watched = watched
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.semaphores = sem = self.semaphores
        m.d.comb += [sem.take.eq(self.take), sem.give.eq(self.give), sem.clear.eq(self.clear)]
        s = self.watched
        given, taken, wrong = Signal(6), Signal(6), Signal()
        tokens = Signal(8)
        most = (1 << sem.spec.width_bits[s]) - 1
        m.d.comb += tokens.eq(INITIAL_TOKENS[s] + given - taken)
        m.d.sync += [given.eq(given + self.give[s]), taken.eq(taken + self.take[s])]
        with m.If(self.take[s] & (tokens == 0)):
            m.d.sync += wrong.eq(1)
        with m.If(self.give[s] & ~self.take[s] & (tokens == most)):
            m.d.sync += wrong.eq(1)
        with m.If(self.clear):
            m.d.sync += [given.eq(0), taken.eq(0), wrong.eq(0)]
        with m.If(~wrong):
            m.d.comb += [Assert(sem.counts[s] == tokens), Assert(sem.available[s] == (tokens != 0))]
        told = Signal()
        m.d.sync += told.eq(wrong & ~self.clear)
        with m.If(told):
            m.d.comb += Assert(sem.error)
        return m


class UnitsProperty(Component):
    """Three units on rings of tokens, works of any length up to ``MOST_WORK``, tails of any up to ``MOST_TAIL``.

    load waits for W_FREE and gives W_READY; exec waits for W_READY and O_FREE, gives W_FREE and O_READY; store waits for
    O_READY and gives O_FREE. No semaphore over- or underflows, the tokens of a ring stay two, and in any ``patience``
    cycles something ends.
    """

    MOST_WORK, MOST_TAIL = 2, 2
    RINGS = (
        (1 << W_FREE, 1 << W_READY),
        (1 << W_READY | 1 << O_FREE, 1 << W_FREE | 1 << O_READY),
        (1 << O_READY, 1 << O_FREE),
    )

    done: In(3)
    empty: In(3)
    tail: In(2)

    def __init__(self, cls=UnitControlComponent, issue=1, patience=9):
        self.patience = patience
        self.units = [
            cls(UnitControl(issue_cycles=issue, most_tail_cycles=self.MOST_TAIL if q == 1 else 0)) for q in range(3)
        ]
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.semaphores = sem = Semaphores().create()
        m.submodules += self.units
        begun, quiet, on_the_way = Signal(), Signal(5), Signal(4)
        holds, finishes = [], Const(0, 1)
        m.d.sync += begun.eq(1)
        for q, (unit, (wait, signal)) in enumerate(zip(self.units, self.RINGS, strict=True)):
            head = unit.i.payload
            m.d.comb += [
                unit.i.valid.eq(1),
                unit.enable.eq(1),
                unit.available.eq(sem.available),
                head.wait.eq(wait),
                head.signal.eq(signal),
                unit.done.eq(self.done[q]),
                head.empty.eq(self.empty[q]),
                head.tail.eq(self.tail),
                Assert(~unit.start | unit.working),
            ]
            hold, empty, worked = Signal(name=f"hold_{q}"), Signal(name=f"empty_{q}"), Signal(4, name=f"worked_{q}")
            m.d.sync += [empty.eq(self.empty[q]), worked.eq(Mux(unit.working & ~unit.done, worked + 1, 0))]
            m.d.comb += [
                Assume(~hold | (empty == self.empty[q])),  # the head stands
                Assume(~unit.working | unit.done | (worked < self.MOST_WORK - 1)),
            ]
            with m.If(unit.finish):
                m.d.sync += hold.eq(0)
            with m.Elif(unit.taken):
                m.d.sync += hold.eq(1)
            holds.append(hold)
            finishes |= unit.finish
        m.d.comb += Assume(self.tail <= self.MOST_TAIL)
        m.d.comb += [
            sem.take.eq(self.units[0].take | self.units[1].take | self.units[2].take),
            sem.give.eq(self.units[0].give | self.units[1].give | self.units[2].give),
            Assert(~sem.error),
            Assert(sem.counts[W_FREE] + sem.counts[W_READY] + holds[0] + holds[1] == 2),
            Assert(sem.counts[O_FREE] + sem.counts[O_READY] + holds[1] + on_the_way + holds[2] == 2),
            Assert(quiet < self.patience),
        ]
        ends = self.units[1]
        m.d.sync += [
            quiet.eq(Mux(finishes, 0, quiet + 1)),
            on_the_way.eq(on_the_way + ends.finish - ends.give[O_READY]),
        ]
        return m


def break_skid():
    return watch_skid(break_class(SkidBufferComponent, "self.full.eq(1), ", ""))


def break_fifo():
    return watch_fifo(break_class(fifo.SyncFIFOBuffered, "inner_level != inner_depth", "1"))


def overwrite_place():
    return ApartProperty(break_class(fifo.SyncFIFOBuffered, "inner_level != inner_depth", "1"))


def read_ahead():
    return ApartProperty(break_class(fifo.SyncFIFOBuffered, "inner_level != 0", "(inner_level != 0) | self.w_en"))


def break_semaphores():
    # a token given and one taken in one cycle: the former is lost
    return SemaphoreProperty(break_class(SemaphoresComponent, "take & ~give & some", "take & some"), W_FREE)


def forget_results():
    return UnitsProperty(break_class(UnitControlComponent, "(passes & head.signal[O_READY])", "0"))


def never_issue():
    return UnitsProperty(break_class(UnitControlComponent, "left.eq(left - 1)", "left.eq(left)"), issue=2)


def take_too_early():
    return UnitsProperty(break_class(UnitControlComponent, "~(head.wait & ~self.available).any()", "1"))


def complete_too_early():
    return DispatchProperty(break_class(DispatchComponent, "(left == 0) & empty.all()", "(left == 0)"))


def overrun_queue():
    return DispatchProperty(break_class(DispatchComponent, "room[q].eq(queue.w_rdy)", "room[q].eq(1)"))


def never_release():
    return DispatchProperty(break_class(DispatchComponent, "blocked | (left == 0)", "left == 0"))


PROOFS = {
    "skid buffer": (watch_skid, 25),
    "queue of 4": (watch_fifo, 12),
    "places of a queue of 3": (lambda: ApartProperty(depth=3), 20),
    "places of a queue of 4": (ApartProperty, 20),
    "places of a queue of 6": (lambda: ApartProperty(depth=6), 16),
    "dispatch": (DispatchProperty, 8),
    "semaphore W_FREE": (lambda: SemaphoreProperty(SemaphoresComponent, W_FREE), 20),
    "semaphore O_READY": (lambda: SemaphoreProperty(SemaphoresComponent, O_READY), 20),
    "something ends in any 3 cycles": (lambda: UnitsProperty(issue=1, patience=3), 16),
    "something ends in any 4 cycles": (lambda: UnitsProperty(issue=2, patience=4), 16),
}
"""What is proved, and for how many cycles from reset."""
BUGS = {
    "skid buffer forgets that it is full": (break_skid, 25),
    "queue is written when full": (break_fifo, 12),
    "queue is read and written in one place when full": (overwrite_place, 12),
    "queue is read and written in one place when empty": (read_ahead, 12),
    "dispatch writes to a full queue": (overrun_queue, 8),
    "dispatch completes before its queues are empty": (complete_too_early, 8),
    "dispatch waits for a whole program that its queues cannot hold": (never_release, 8),
    "semaphore loses a token given while one is taken": (break_semaphores, 20),
    "unit control never gives a result": (forget_results, 16),
    "unit control never ends to issue": (never_issue, 16),
    "unit control takes tokens that are not there": (take_too_early, 16),
    "patience of 2": (lambda: UnitsProperty(issue=1, patience=2), 20),
}
"""Designs with one bug, under the same properties and depths."""


@pytest.mark.parametrize("name", PROOFS)
def test_property_holds_for_every_input(name):
    design, depth = PROOFS[name]
    verdict = prove(design(), depth)
    assert verdict.holds, verdict.trace


@pytest.mark.parametrize("name", BUGS)
def test_the_proof_finds_a_bug(name):
    design, depth = BUGS[name]
    verdict = prove(design(), depth)
    assert not verdict.holds
    assert "Time" in verdict.trace
