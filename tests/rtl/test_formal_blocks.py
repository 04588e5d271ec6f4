"""What is proved of the control blocks, for every input within a bounded number of cycles from reset.

Each proof stands beside a design with one bug that it finds: a property that nothing can break says nothing.
"""

import inspect
import os
import sys
import textwrap

import pytest

if not os.environ.get("CI"):
    pytest.importorskip("amaranth", reason="needs amaranth: pip install 'hwsim[rtl]'")
    pytest.importorskip("pyosys", reason="needs pyosys: pip install 'hwsim[rtl]'")
from amaranth.hdl import Assert, Assume, Const, Module, Mux, Signal
from amaranth.lib import fifo
from amaranth.lib.wiring import Component, In

from accel_rtl.blocks.control_registers import (
    ControlRegisters,
    ControlRegistersComponent,
    Register,
    RegisterField,
    RegisterMap,
)
from accel_rtl.blocks.semaphores import Semaphores, SemaphoresComponent
from accel_rtl.blocks.skid import SkidBuffer, SkidBufferComponent
from accel_rtl.blocks.unit_control import UnitControl, UnitControlComponent
from accel_rtl.formal import prove
from hwsim.core.program import INITIAL_TOKENS, O_FREE, O_READY, W_FREE, W_READY

ITEMS = 5  # bits of the counters of items


def break_class(cls, old: str, new: str):
    """Return a class with one place of its source replaced."""
    source = textwrap.dedent(inspect.getsource(cls))
    assert source.count(old) == 1, f"{source.count(old)} places hold {old!r}"
    names = dict(vars(sys.modules[cls.__module__]))
    exec(source.replace(old, new), names)
    return names[cls.__name__]


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
        with m.Else():
            m.d.comb += Assert(sem.error)
        return m


class UnitsProperty(Component):
    """Three units on rings of tokens, works of any length up to ``MOST_WORK``, tails of any up to ``MOST_TAIL``.

    load waits for W_FREE and gives W_READY; exec waits for W_READY and O_FREE, gives W_FREE and O_READY; store waits for
    O_READY and gives O_FREE. No semaphore over- or underflows, the tokens of a ring stay two, and something ends in any
    ``PATIENCE`` cycles.
    """

    MOST_WORK, MOST_TAIL, PATIENCE, ISSUE = 2, 2, 9, 1
    RINGS = (
        (1 << W_FREE, 1 << W_READY),
        (1 << W_READY | 1 << O_FREE, 1 << W_FREE | 1 << O_READY),
        (1 << O_READY, 1 << O_FREE),
    )

    done: In(3)
    empty: In(3)
    tail: In(2)

    def __init__(self, cls=UnitControlComponent):
        self.units = [
            cls(UnitControl(issue_cycles=self.ISSUE, most_tail_cycles=self.MOST_TAIL if q == 1 else 0))
            for q in range(3)
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
            Assert(quiet < self.PATIENCE),
        ]
        ends = self.units[1]
        m.d.sync += [
            quiet.eq(Mux(finishes, 0, quiet + 1)),
            on_the_way.eq(on_the_way + ends.finish - ends.give[O_READY]),
        ]
        return m


SMALL_MAP = RegisterMap(
    name="small",
    registers=(
        Register(name="a", offset=0, fields=(RegisterField(name="kept", width_bits=16, access="rw"),)),
        Register(name="b", offset=4, fields=(RegisterField(name="given", width_bits=8),)),
        Register(name="c", offset=8, fields=(RegisterField(name="go", width_bits=1, access="pulse"),)),
    ),
)


class AxiLiteProperty(Component):
    """A slave under any master: every request is answered once, a read in the next cycle, a write in the one behind that.

    Responses stand until they are accepted. A channel of which no request is open accepts one. A register reads back what
    was written to it last, byte by byte; a pulse is given once for each one that was written; other addresses give errors.
    """

    aw: In(1)
    w: In(1)
    ar: In(1)
    address: In(4)
    data: In(32)
    strobes: In(4)
    read_address: In(4)
    bready: In(1)
    rready: In(1)
    given: In(8)

    def __init__(self, cls=ControlRegistersComponent):
        self.slave = cls(ControlRegisters(map=SMALL_MAP))
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.slave = slave = self.slave
        axi = slave.s_axi
        m.d.comb += [
            axi.awvalid.eq(self.aw), axi.awaddr.eq(self.address), axi.wvalid.eq(self.w), axi.wdata.eq(self.data),
            axi.wstrb.eq(self.strobes), axi.bready.eq(self.bready), axi.arvalid.eq(self.ar),
            axi.araddr.eq(self.read_address), axi.rready.eq(self.rready), slave.given.eq(self.given),
        ]  # fmt: skip
        self.count(m, axi)
        for valid, ready, answers in (
            (axi.bvalid, axi.bready, axi.bresp),
            (axi.rvalid, axi.rready, axi.rdata ^ (axi.rresp << 30)),
        ):
            stalled, before = Signal(), Signal(32)
            m.d.sync += [stalled.eq(valid & ~ready), before.eq(answers)]
            with m.If(stalled):
                m.d.comb += Assert(valid & (answers == before))
        self.check_data(m, axi)
        return m

    def count(self, m, axi):
        aw, w, b, ar, r, owed = (Signal(5) for _ in range(6))
        m.d.sync += [
            aw.eq(aw + (axi.awvalid & axi.awready)), w.eq(w + (axi.wvalid & axi.wready)),
            b.eq(b + (axi.bvalid & axi.bready)), ar.eq(ar + (axi.arvalid & axi.arready)),
            r.eq(r + (axi.rvalid & axi.rready)),
        ]  # fmt: skip
        m.d.comb += [Assume(~aw.all() & ~w.all() & ~ar.all())]
        whole = Mux(aw < w, aw, w)
        pending = (whole != b) & ~axi.bvalid
        m.d.sync += owed.eq(Mux(pending, owed + 1, 0))
        m.d.comb += [
            Assert(b <= whole), Assert(r <= ar), Assert(~axi.bvalid | (b < whole)), Assert(axi.rvalid == (r < ar)),
            Assert(aw - b <= 2), Assert(w - b <= 2), Assert(~pending | (owed < 1)),
            Assert((aw != b) | axi.awready), Assert((w != b) | axi.wready), Assert((ar != r) | axi.arready),
        ]  # fmt: skip

    def check_data(self, m, axi):
        # what the fields should be, from requests paired in order
        address, data, strobes = Signal(4), Signal(32), Signal(4)
        kept = Signal(16)
        with m.If(axi.awvalid & axi.awready):
            m.d.sync += address.eq(axi.awaddr)
        with m.If(axi.wvalid & axi.wready):
            m.d.sync += [data.eq(axi.wdata), strobes.eq(axi.wstrb)]
        before = Signal()
        m.d.sync += before.eq(axi.bvalid & ~axi.bready)
        new = Signal()  # the first cycle of a response: the write has just been done
        m.d.comb += new.eq(axi.bvalid & ~before)
        expected, legal = Signal(16), Signal()
        m.d.comb += [expected.eq(kept), legal.eq(address[2:] != 3)]
        with m.If(new & (address[2:] == 0)):
            for lane in range(2):
                with m.If(strobes[lane]):
                    m.d.comb += expected.word_select(lane, 8).eq(data.word_select(lane, 8))
        m.d.sync += kept.eq(expected)
        m.d.comb += Assert(self.slave.kept == expected)
        with m.If(new):
            m.d.comb += Assert(axi.bresp == Mux(legal, 0, 2))
        m.d.comb += Assert(self.slave.go == (new & (address[2:] == 2) & data[0] & strobes[0]))
        wanted, asked_error = Signal(32), Signal()
        with m.If(axi.arvalid & axi.arready):
            m.d.sync += asked_error.eq(self.read_address[2:] == 3)
            with m.Switch(self.read_address[2:]):
                with m.Case(0):
                    m.d.sync += wanted.eq(expected)
                with m.Case(1):
                    m.d.sync += wanted.eq(self.given)
                with m.Default():
                    m.d.sync += wanted.eq(0)
        with m.If(axi.rvalid):
            m.d.comb += Assert((axi.rdata == wanted) & (axi.rresp == Mux(asked_error, 2, 0)))


def break_skid():
    return watch_skid(break_class(SkidBufferComponent, "self.full.eq(1), ", ""))


def break_fifo():
    return watch_fifo(break_class(fifo.SyncFIFOBuffered, "inner_level != inner_depth", "1"))


def break_semaphores():
    # a token given and one taken in one cycle: the former is lost
    return SemaphoreProperty(break_class(SemaphoresComponent, "self.take[s] & ~self.give[s]", "self.take[s]"), W_FREE)


def forget_results():
    return UnitsProperty(break_class(UnitControlComponent, "(passes & head.signal[O_READY])", "0"))


def take_too_early():
    return UnitsProperty(break_class(UnitControlComponent, "~(head.wait & ~self.available).any()", "1"))


def drop_response():
    return AxiLiteProperty(break_class(ControlRegistersComponent, "axi.bvalid & axi.bready", "axi.bvalid"))


def ignore_strobes():
    return AxiLiteProperty(
        break_class(ControlRegistersComponent, "port & ~lanes[bits] | data[bits] & lanes[bits]", "data[bits]")
    )


PROOFS = {
    "skid buffer": (watch_skid, 20, break_skid),
    "queue of 4": (watch_fifo, 12, break_fifo),
    "semaphore W_FREE": (lambda: SemaphoreProperty(SemaphoresComponent, W_FREE), 20, break_semaphores),
    "semaphore O_READY": (lambda: SemaphoreProperty(SemaphoresComponent, O_READY), 20, None),
    "units do not hang": (UnitsProperty, 24, forget_results),
    "units take tokens that are there": (None, 24, take_too_early),
    "axi4-lite": (AxiLiteProperty, 14, drop_response),
    "axi4-lite strobes": (None, 14, ignore_strobes),
}


@pytest.mark.parametrize("name", [name for name, (design, _, _) in PROOFS.items() if design])
def test_property_holds_for_every_input(name):
    design, depth, _ = PROOFS[name]
    verdict = prove(design(), depth)
    assert verdict.holds, verdict.trace


@pytest.mark.parametrize("name", [name for name, (_, _, bug) in PROOFS.items() if bug])
def test_the_proof_finds_a_bug(name):
    _, depth, bug = PROOFS[name]
    verdict = prove(bug(), depth)
    assert not verdict.holds
    assert "Time" in verdict.trace
