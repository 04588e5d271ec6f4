"""Multiply-accumulate cells: every sum, flags that travel with the data."""

from __future__ import annotations

import numpy as np
import pytest

from tests.extras import require

require("amaranth")

from amaranth.sim import Simulator

from accel_rtl.blocks.mac import HeldMac, Mac, wrap_signed
from hwsim.core.errors import SpecError


def extremes(rng: np.random.Generator, bits: int, count: int) -> np.ndarray:
    """Return integers of ``bits`` bits, two's complement, many of them extreme."""
    low = -(1 << (bits - 1))
    return np.where(rng.random(count) < 0.4, rng.choice([low, -low - 1], count), rng.integers(low, -low, count))


def simulate(unit, bench) -> None:
    sim = Simulator(unit)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()


@pytest.mark.parametrize(
    ("x_bits", "y_bits", "psum_bits"), [(1, 1, 8), (2, 2, 4), (9, 8, 32), (17, 16, 40), (9, 8, 18)]
)
def test_sums_of_any_lengths_with_pauses(x_bits, y_bits, psum_bits):
    spec = Mac(x_bits=x_bits, y_bits=y_bits, psum_bits=psum_bits)
    unit, rng = spec.create(), np.random.default_rng(x_bits * 100 + y_bits)
    lengths = [1, 1, 2, *rng.integers(1, 12, 30)]
    operands = [(extremes(rng, x_bits, n), extremes(rng, y_bits, n)) for n in lengths]
    found = []

    async def bench(ctx):
        def watch():
            if ctx.get(unit.finish):
                found.append(ctx.get(unit.total))

        for x, y in operands:
            for i in range(len(x)):
                while rng.random() < 0.3:
                    ctx.set(unit.valid, 0)
                    ctx.set(unit.x, int(rng.integers(0, 2)) - 1)
                    await ctx.tick()
                    watch()
                ctx.set(unit.valid, 1)
                ctx.set(unit.x, int(x[i]))
                ctx.set(unit.y, int(y[i]))
                ctx.set(unit.clear, i == 0)
                ctx.set(unit.last, i == len(x) - 1)
                await ctx.tick()
                assert ctx.get(unit.valid_out)
                assert ctx.get(unit.x_out) == x[i]
                assert ctx.get(unit.y_out) == y[i]
                watch()

    simulate(unit, bench)
    assert found == [int(spec.compute(x, y)) for x, y in operands]


@pytest.mark.parametrize("sets", [1, 2])
def test_a_kept_operand_stays_in_its_row_and_others_pass(sets):
    spec = HeldMac(x_bits=9, y_bits=8, psum_bits=20, row=1, tag_bits=2, sets=sets)
    unit, rng = spec.create(), np.random.default_rng(sets)

    async def bench(ctx):
        ctx.set(unit.y_valid, 1)
        passed = []
        for row, value in ((3, -128), (2, 127), (1, -77)):
            ctx.set(unit.y, value)
            ctx.set(unit.y_row, row)
            await ctx.tick()
            if ctx.get(unit.y_valid_out):
                passed.append((ctx.get(unit.y_row_out), ctx.get(unit.y_out)))
        assert passed == [(3, -128), (2, 127)]
        if sets == 2:  # the other register is filled while this one is used
            ctx.set(unit.y_set, 1)
            ctx.set(unit.y, 5)
        else:
            ctx.set(unit.y_valid, 0)
        x, psum = extremes(rng, 9, 20), extremes(rng, 20, 20)
        found = []
        for i in range(22):
            ctx.set(unit.x, int(x[i]) if i < 20 else 0)
            ctx.set(unit.x_valid, i < 20)
            ctx.set(unit.psum, int(psum[min(i, 20) - 1]))
            await ctx.tick()
            if ctx.get(unit.psum_valid):
                found.append(ctx.get(unit.psum_out))
        assert found == spec.compute(x, -77, psum).tolist()

    simulate(unit, bench)


def test_wrapping_is_that_of_twos_complement():
    assert wrap_signed([127, 128, -128, -129, 256], 8).tolist() == [127, -128, -128, 127, 0]
    assert wrap_signed((1 << 63) - 1, 64) == (1 << 63) - 1


def test_widths_out_of_range_are_refused():
    with pytest.raises(SpecError, match=r"mac\.x_bits"):
        Mac(x_bits=0, y_bits=8)
    with pytest.raises(SpecError, match=r"held_mac\.row"):
        HeldMac(x_bits=8, y_bits=8, row=4, tag_bits=2)
