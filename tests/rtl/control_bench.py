"""What tests of the control blocks share: one testbench on a clock, and instructions of any bits."""

from __future__ import annotations

import numpy as np
from amaranth.sim import Simulator

from accel_rtl.instruction_word import NAMED
from hwsim.core.program import INSTRUCTION


def simulate(component, drive) -> None:
    """Run one testbench."""
    sim = Simulator(component)
    sim.add_clock(1e-8)
    sim.add_testbench(drive)
    sim.run()


def draw_table(rng, count: int):
    """Return random instructions that use every bit of every field."""
    table = np.zeros(count, INSTRUCTION)
    for field in NAMED:
        if field.name != "empty":
            low, high = field.range
            table[field.name] = rng.integers(low, high, count, endpoint=True)
    for name in ("cycles", "bits"):
        table[name][rng.random(count) < 0.4] = 0
    return table
