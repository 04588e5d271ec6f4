"""The array alone, fed by hand with skewed operands; the order of folds."""

from __future__ import annotations

import numpy as np
import pytest

from tests.extras import require

require("amaranth")

from amaranth.sim import Simulator

from accel_rtl.blocks.fold_sequencer import FOLD_CONTROL, FoldSequencer
from accel_rtl.blocks.systolic_array import SystolicArray

SIZES = [(1, 1), (2, 3), (4, 4), (3, 1), (1, 4)]


def run_array(spec: SystolicArray, events: dict[int, list], cycles: int) -> list[list[tuple[int, int]]]:
    """Apply ``(port, lane, value)`` in their cycles (0 otherwise); return (cycle, result) by column."""
    unit, found = spec.create(), [[] for _ in range(spec.cols)]

    async def bench(ctx):
        before = []
        for t in range(cycles):
            for port, lane, _ in before:
                ctx.set(getattr(unit, port)[lane], 0)
            before = events.get(t, [])
            for port, lane, value in before:
                ctx.set(getattr(unit, port)[lane], int(value))
            for j in range(spec.cols):
                if ctx.get(unit.result_valid[j]):
                    found[j].append((t, ctx.get(unit.result[j])))
            await ctx.tick()

    sim = Simulator(unit)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    return found


@pytest.mark.parametrize(("rows", "cols"), SIZES)
@pytest.mark.parametrize("length", [1, 2, 7])
def test_sums_leave_while_the_next_ones_begin(rows, cols, length):
    """Four folds as close as can be: every max(T, rows) cycles."""
    spec = SystolicArray(rows=rows, cols=cols, x_bits=9, y_bits=8, psum_bits=18)
    rng = np.random.default_rng(rows * 100 + cols * 10 + length)
    every, events, wanted = max(length, rows), {}, [[] for _ in range(cols)]
    for fold in range(4):
        x, y = rng.integers(-256, 256, (rows, length)), rng.integers(-128, 128, (length, cols))
        start, result = fold * every, spec.compute(x, y)
        for k in range(length):
            for i in range(rows):
                flags = (("x", x[i, k]), ("valid", 1), ("clear", k == 0), ("last", k == length - 1))
                events.setdefault(start + k + i, []).extend((port, i, value) for port, value in flags)
            for j in range(cols):
                events.setdefault(start + k + j, []).append(("y", j, y[k, j]))
        for j in range(cols):
            first = start + length - 1 + spec.latency_cycles + j
            wanted[j] += [(first + i, int(result[i, j])) for i in range(rows)]
    assert run_array(spec, events, 4 * every + length + 2 * rows + cols + 4) == wanted


@pytest.mark.parametrize(("rows", "cols"), SIZES)
@pytest.mark.parametrize("length", [1, 2, 7])
@pytest.mark.parametrize("sets", [1, 2])
def test_operands_stay_while_the_next_ones_enter(rows, cols, length, sets):
    spec = SystolicArray(rows=rows, cols=cols, stationary="operand", x_bits=9, y_bits=8, psum_bits=20, sets=sets)
    rng = np.random.default_rng(rows * 100 + cols * 10 + length)
    every = max(length, rows) if sets == 2 else length + 2 * rows + cols - 2
    events, wanted = {}, [[] for _ in range(cols)]
    for fold in range(5):
        x, y = rng.integers(-256, 256, (rows, length)), rng.integers(-128, 128, (rows, cols))
        start, result = fold * every, spec.compute(x, y)
        for j in range(cols):
            for i in range(rows):
                flags = (("y", y[i, j]), ("y_valid", 1), ("y_row", i), ("y_set", fold % 2))
                events.setdefault(start + rows - 1 - i + j, []).extend((port, j, value) for port, value in flags)
            first = start + rows + spec.latency_cycles + j
            wanted[j] += [(first + k, int(result[k, j])) for k in range(length)]
        for k in range(length):
            for i in range(rows):
                flags = (("x", x[i, k]), ("x_valid", 1), ("x_set", fold % 2))
                events.setdefault(start + rows + k + i, []).extend((port, i, value) for port, value in flags)
    assert run_array(spec, events, 5 * every + length + 3 * rows + cols + 4) == wanted


@pytest.mark.parametrize("overlap", ["none", "skewed"])
@pytest.mark.parametrize(("rows", "cols", "stays"), [(1, 1, False), (2, 3, False), (2, 3, True), (4, 4, True)])
def test_folds_follow_in_order_and_a_tile_starts_in_the_cycle_after_done(rows, cols, stays, overlap):
    spec = FoldSequencer(rows=rows, cols=cols, stays=stays, overlap=overlap, count_bits=8)
    unit, rng = spec.create(), np.random.default_rng(rows)
    tiles = [(1, 1, 1, 1), (1, 1, 1, 1), *(tuple(int(v) for v in rng.integers(1, 5, 4)) for _ in range(12))]
    names = list(FOLD_CONTROL.members)

    async def bench(ctx):
        parity, due = 0, None
        for groups, col_folds, row_folds, stream in tiles:
            tile = {
                "group_end": groups - 1,
                "col_end": col_folds - 1,
                "row_end": row_folds - 1,
                "stream_end": stream - 1,
            }
            steps = list(spec.compute(groups, col_folds, row_folds, stream))
            ctx.set(unit.tile, tile)
            for cycle, step in enumerate(steps):
                ctx.set(unit.start, cycle == 0)
                assert ctx.get(unit.done) == (cycle == len(steps) - 1)
                if due is not None:
                    assert {name: ctx.get(unit.control[name]) for name in names} == due
                due = step | {"set": (step["set"] + parity) % 2}
                await ctx.tick()
            parity = (parity + groups * col_folds * row_folds) % 2
        ctx.set(unit.start, 0)
        assert {name: ctx.get(unit.control[name]) for name in names} == due
        for _ in range(5):
            await ctx.tick()
            assert not ctx.get(unit.done)
            assert not any(ctx.get(unit.control[name]) for name in ("begin", "stream", "stream_end", "fill"))

    sim = Simulator(unit)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
