"""What is proved of the AXI4-Lite slave, for every input within a bounded number of cycles from reset; see also the bugs."""

import pytest

from tests.extras import require

require("amaranth", "pyosys")

from amaranth.hdl import Assert, Assume, Module, Mux, Signal
from amaranth.lib.wiring import Component, In

from accel_rtl.blocks.control_registers import (
    ControlRegisters,
    ControlRegistersComponent,
    Register,
    RegisterField,
    RegisterMap,
)
from accel_rtl.formal import break_class, prove

DEPTH = 14
"""Cycles from reset."""
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


def drop_response():
    return AxiLiteProperty(break_class(ControlRegistersComponent, "axi.bvalid & axi.bready", "axi.bvalid"))


def ignore_strobes():
    return AxiLiteProperty(
        break_class(ControlRegistersComponent, "port & ~lanes[bits] | data[bits] & lanes[bits]", "data[bits]")
    )


def accept_blindly():
    return AxiLiteProperty(break_class(ControlRegistersComponent, "arready.eq(0), ", ""))


def test_property_holds_for_every_master():
    verdict = prove(AxiLiteProperty(), DEPTH)
    assert verdict.holds, verdict.trace


@pytest.mark.parametrize("build", [drop_response, ignore_strobes, accept_blindly])
def test_the_proof_finds_a_bug(build):
    verdict = prove(build(), DEPTH)
    assert not verdict.holds
    assert "Time" in verdict.trace
