"""Scratchpads: against their own model under random traffic, the promise about collisions, and what synthesis makes of it."""

from __future__ import annotations

import json
import random

import pytest

from tests.extras import require

require("amaranth")

from amaranth.sim import Simulator

from accel_rtl.blocks.scratchpad import YOSYS_NO_COLLISION, Scratchpad
from accel_rtl.emit import emit_rtlil, run_yosys
from hwsim.core.errors import SpecError


def run_traffic(spec: Scratchpad, cycles) -> list[int]:
    """Return ``read_data`` of each cycle of a component."""
    dut, seen = spec.create(), []

    async def bench(ctx):
        for write, read in cycles:
            ctx.set(dut.write_valid, write is not None)
            ctx.set(dut.read_valid, read is not None)
            for names, values in ((("bank", "offset", "data"), write), (("bank", "offset"), read)):
                for name, value in zip(names, values or (), strict=False):
                    ctx.set(getattr(dut, f"{'write' if len(names) == 3 else 'read'}_{name}"), value)
            seen.append(ctx.get(dut.read_data))
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()
    return seen


@pytest.mark.parametrize(("words", "word_beats"), [(1, 1), (13, 1), (8, 4), (5, 2)])
def test_random_traffic_reads_what_the_model_reads(words, word_beats):
    spec = Scratchpad(beat_bits=24, words=words, word_beats=word_beats, checked=True)
    rng = random.Random(words)
    cycles = []
    for _ in range(400):
        bank = rng.randrange(2)  # the bank that is filled; the other is read
        write = (bank, rng.randrange(words * word_beats), rng.randrange(1 << 24)) if rng.random() < 0.7 else None
        read = (1 - bank, rng.randrange(words)) if rng.random() < 0.7 else None
        cycles.append((write, read))
    got = run_traffic(spec, cycles)
    assert got == spec.compute(cycles)
    assert len(set(got)) > words


def test_bank_written_and_then_read_whole_holds_every_beat_in_order():
    spec = Scratchpad(beat_bits=8, words=6, word_beats=2)
    cycles = [((1, i, 0xA0 + i), None) for i in range(12)] + [(None, (1, i)) for i in range(6)] + [(None, None)]
    assert run_traffic(spec, cycles)[-6:] == [0xA1A0 + 0x202 * i for i in range(6)]


@pytest.mark.parametrize(("write", "read", "fails"), [((0, 5, 1), (0, 2), True), ((0, 5, 1), (0, 1), False),
                                                      ((0, 5, 1), (1, 2), False)])  # fmt: skip
def test_word_read_and_written_in_one_cycle_fails_in_simulation(write, read, fails):
    spec = Scratchpad(beat_bits=8, words=4, word_beats=2, checked=True)
    cycles = [(write, read), (None, None)]
    if fails:
        with pytest.raises(AssertionError, match="read and written in the same cycle"):
            run_traffic(spec, cycles)
    else:
        run_traffic(spec, cycles)


def test_synthesis_leaves_the_collision_logic_out_and_keeps_the_block_ram(tmp_path):
    require("pyosys")
    spec = Scratchpad(beat_bits=64, words=512, block_ram=True)
    (tmp_path / "top.il").write_text(emit_rtlil(spec.create()).text)
    counts = []
    for extra in ([YOSYS_NO_COLLISION], []):
        passes = [
            "read_rtlil top.il",
            "hierarchy -check -top top",
            "proc -norom",
            "opt_clean",
            "memory_collect",
            *extra,
        ]
        run_yosys([*passes, "splitnets", "synth_ecp5 -top top", "tee -q -o s.json stat -json"], tmp_path)
        counts.append(json.loads((tmp_path / "s.json").read_text())["design"]["num_cells_by_type"])
    assert counts[0] == {"DP16KD": 4}
    assert counts[1]["DP16KD"] == 4
    assert counts[1]["TRELLIS_FF"] > 64


def test_shapes_that_cannot_be_addressed_are_refused():
    with pytest.raises(SpecError, match="a power of two"):
        Scratchpad(beat_bits=8, words=4, word_beats=3)
