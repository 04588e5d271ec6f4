"""The runner of bounded proofs: what it says, and what it refuses to say."""

import pytest

from tests.extras import require

require("amaranth", "pyosys")

from amaranth.hdl import Assert, Assume, Module, Signal
from amaranth.lib.wiring import Component, In

from accel_rtl import formal
from accel_rtl.blocks.skid import SkidBuffer
from accel_rtl.formal import break_class, prove, read_verdict
from hwsim.core.errors import HwsimError, MissingExtra, SpecError


class CountsTo(Component):
    """A counter that reaches ``limit`` in cycle ``limit`` at the earliest."""

    step: In(2)

    def __init__(self, limit, most_step):
        self.limit, self.most_step = limit, most_step
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        count = Signal(8)
        m.d.sync += count.eq(count + self.step)
        m.d.comb += [Assume(self.step <= self.most_step), Assert(count != self.limit)]
        return m


@pytest.mark.parametrize(("depth", "holds"), [(9, True), (10, True), (11, False), (12, False)])
def test_depth_counts_cycles_from_reset(depth, holds):
    # the counter is 0 in the first cycle and 10 in the eleventh
    assert prove(CountsTo(10, 1), depth).holds == holds


def test_an_assumption_binds_the_inputs():
    assert prove(CountsTo(10, 1), 6).holds
    verdict = prove(CountsTo(10, 2), 6)
    assert not verdict.holds
    assert "count" in verdict.trace


def test_a_design_without_assertions_proves_nothing():
    with pytest.raises(HwsimError, match="nothing to prove: the design has no assertion"):
        prove(SkidBuffer(width_bits=1).create(), 5)


def test_wrong_depth_is_refused():
    with pytest.raises(SpecError, match="depth: got 0, expected an integer from 1 to 10000"):
        prove(None, 0)


def test_absent_yosys_is_named(monkeypatch):
    monkeypatch.setattr(formal, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"a formal proof needs pyosys: pip install 'hwsim\[rtl\]'"):
        prove(None, 3)


@pytest.mark.parametrize(
    ("log", "code", "text"),
    [
        ("ERROR: Called with -verify and proof did time out!\n", 1, "did time out"),
        ("x\nERROR: Parser error in line 7\n", 1, "no verdict on 4 cycles: ERROR: Parser error in line 7"),
        ("", -9, "no verdict on 4 cycles: Yosys ended without one"),
        ("nothing was said\n", 0, "no verdict on 4 cycles: Yosys ended without one"),
    ],
)
def test_without_a_verdict_there_is_an_error(log, code, text):
    with pytest.raises(HwsimError, match=text):
        read_verdict(log, code, 4)


@pytest.mark.parametrize("old", ["limit", "nowhere"])
def test_a_bug_has_one_place(old):
    with pytest.raises(ValueError, match=f"places of CountsTo hold '{old}'"):
        break_class(CountsTo, old, "x")
