"""Accelerators with their assertions in force: no word is read and written in one cycle, units keep to banks of their own.

Synthesis relies on it: memories marked `accel_rtl.blocks.scratchpad.NO_COLLISION` are inferred without logic for collisions.
"""

from __future__ import annotations

import pytest

from tests.extras import require

require("amaranth")

import accel_rtl.shell.obuf
import accel_rtl.smartdeal.engine
import accel_rtl.systolic.build
from accel_rtl.formal import break_class
from cosim.random_layers import draw_job
from tests.cosim.accelerators import make_accelerator
from tests.rtl.simulated_accelerator import SimulatedAccelerator, assert_ran

SETTINGS = {"systolic": ("rows=2", "cols=2"), "smartdeal": ("slices=2", "lines=1", "macs=1")}
MOST_CYCLES = 3000
BUGS = {
    "activations, systolic": (
        "systolic", accel_rtl.systolic.build, "SystolicEngineComponent",
        "copy.write_bank.eq(self.i_write_bank),\n                copy.write_offset.eq(self.i_write_offset)",
        "copy.write_bank.eq(copy.read_bank), copy.write_offset.eq(copy.read_offset)",
    ),
    "weights, systolic": (
        "systolic", accel_rtl.systolic.build, "SystolicEngineComponent",
        "part.write_bank.eq(self.w_write_bank),\n                part.write_offset.eq(self.w_write_offset[shift:])",
        "part.write_bank.eq(part.read_bank), part.write_offset.eq(part.read_offset)",
    ),
    "sums, systolic": (
        "systolic", accel_rtl.shell.obuf, "ObufComponent",
        "drains.eq(self.d_enable & (self.d_bank == bank))", "drains.eq(self.d_enable)",
    ),
    "activations, smartdeal": (
        "smartdeal", accel_rtl.smartdeal.engine, "InputCopies",
        "write.addr.eq(Cat(round_, self.write_bank))", "write.addr.eq(read.addr)",
    ),
    "weights, smartdeal": (
        "smartdeal", accel_rtl.smartdeal.engine, "SliceStreams",
        "write.addr.eq(Cat(place[: spec.stream_place_bits], self.write_bank))", "write.addr.eq(read.addr)",
    ),
}  # fmt: skip
"""Accelerator, module, class, and a line of it: what is written goes to where something is read; a store drains both banks."""


def draw_layers(arch, wanted):
    """Return the first layers of these operators that take `MOST_CYCLES` at most; convolutions and gemms of some tiles."""
    wanted, found = list(wanted), []
    for number in range(400):
        drawn = draw_job(arch, 41, number)
        operator = drawn.text.split()[0]
        tiles = int((drawn.job.table["op"] == 3).sum())
        if operator in wanted and tiles > 3 and drawn.job.run.cycles <= MOST_CYCLES:
            wanted.remove(operator)
            found.append(drawn.job)
        if not wanted:
            return found
    raise AssertionError(f"no layer for {wanted}")


@pytest.mark.parametrize("name", SETTINGS)
def test_no_assertion_fails(name):
    arch = make_accelerator(name, SETTINGS[name])
    jobs = draw_layers(arch, ("conv", "conv", "gemm", "maxpool", "add"))
    for job, ran in zip(jobs, SimulatedAccelerator(arch, checked=True).run_all(jobs), strict=True):
        assert_ran(job, ran)


@pytest.mark.parametrize("bug", BUGS)
def test_an_assertion_finds_a_collision(bug, monkeypatch):
    name, module, cls, old, new = BUGS[bug]
    arch = make_accelerator(name, SETTINGS[name])
    monkeypatch.setattr(module, cls, break_class(getattr(module, cls), old, new))
    accelerator = SimulatedAccelerator(arch, checked=True)
    with pytest.raises(AssertionError, match=r"read and written in the same cycle|two units use one bank"):
        accelerator.run_all(draw_layers(arch, ("conv", "gemm")))
