"""The output buffer and the load unit, each alone against its model."""

from __future__ import annotations

import numpy as np

from tests.extras import require

require("amaranth")

from amaranth.sim import Simulator

from accel_rtl.instruction_word import pack_table, split_words
from accel_rtl.machine import Machine
from accel_rtl.shell.load import LoadUnit
from accel_rtl.shell.obuf import Obuf, ObufInput
from cosim.memory_model import AxiMemory, FlatTiming, Master, Request
from hwsim.core.program import INSTRUCTION, LOAD_I, LOAD_P, LOAD_W

MACHINE = Machine(
    beat_bits=64, a_bits=8, psum_bits=32, columns=6, wbuf_beats=20, ibuf_beats=40, obuf_words=11, stage_beats=8,
    issue_cycles=1,
)  # fmt: skip


def draw_accesses(rng) -> ObufInput:
    """Return accesses of one cycle: the exec unit and the others on banks of their own, no word read and written at once."""
    bank = int(rng.integers(2))
    reads, writes = {}, {}
    for column in range(MACHINE.columns):
        first, second = (int(v) for v in rng.choice(MACHINE.obuf_words, 2, replace=False))
        if rng.random() < 0.5:
            reads[column] = (bank, first)
        if rng.random() < 0.5:
            writes[column] = (bank, second, int(rng.integers(-(1 << 31), 1 << 31)))
    row = (1 - bank, int(rng.integers(MACHINE.obuf_words))) if rng.random() < 0.5 else None
    fill = None
    if row is None and rng.random() < 0.6:
        chosen = [c for c in range(MACHINE.columns) if rng.random() < 0.5]
        values = {c: int(rng.integers(-(1 << 31), 1 << 31)) for c in chosen}
        fill = (1 - bank, int(rng.integers(MACHINE.obuf_words)), values)
    return ObufInput(reads=reads, writes=writes, row=row, fill=fill)


def test_units_read_and_write_banks_of_their_own():
    spec = Obuf(machine=MACHINE, checked=True)
    obuf = spec.create()
    rng = np.random.default_rng(4)
    cycles = [draw_accesses(rng) for _ in range(600)]
    wanted = spec.compute(cycles)
    sim = Simulator(obuf)
    sim.add_clock(1e-8)

    async def drive(ctx):
        for now, (read, row) in zip(cycles, wanted, strict=True):
            for column, value in read.items():
                assert ctx.get(obuf.o_read_data[column]) == value
            if row is not None:
                assert [ctx.get(obuf.d_data[column]) for column in range(MACHINE.columns)] == row
            for column in range(MACHINE.columns):
                ctx.set(obuf.o_read_enable[column], column in now.reads)
                ctx.set(obuf.o_write_enable[column], column in now.writes)
                if column in now.reads:
                    ctx.set(obuf.o_read_bank[column], now.reads[column][0])
                    ctx.set(obuf.o_read_address[column], now.reads[column][1])
                if column in now.writes:
                    bank, word, value = now.writes[column]
                    ctx.set(obuf.o_write_bank[column], bank)
                    ctx.set(obuf.o_write_address[column], word)
                    ctx.set(obuf.o_write_data[column], value)
                filled = now.fill is not None and column in now.fill[2]
                ctx.set(obuf.p_enable[column], filled)
                if filled:
                    ctx.set(obuf.p_data[column], now.fill[2][column])
            ctx.set(obuf.d_enable, now.row is not None)
            for name, place in (("d", now.row), ("p", now.fill)):
                if place is not None:
                    ctx.set(getattr(obuf, f"{name}_bank"), place[0])
                    ctx.set(getattr(obuf, f"{name}_word"), place[1])
            await ctx.tick()

    sim.add_testbench(drive)
    sim.run()


def draw_loads(rng, count: int):
    """Return records of loads: sets of LOAD_I of one to three, some that move nothing, from anywhere."""
    table = np.zeros(count, INSTRUCTION)
    left = 0
    for record in table:
        for name in ("count0", "count1", "count2"):
            record[name] = 1
        op = LOAD_I if left else int(rng.choice([LOAD_W, LOAD_I, LOAD_P]))
        record["op"], record["bank"] = op, int(rng.integers(2))
        if op == LOAD_I:
            record["wait"] = 0 if left else 8
            left = int(rng.integers(3)) if not left else left - 1
        beats = int(rng.integers(1, 11)) if op != LOAD_P else 3 * int(rng.integers(1, 12))
        if rng.random() < 0.2 and not (op == LOAD_I and not record["wait"]):
            continue
        runs = int(rng.choice([n for n in (1, 2, 3) if beats % n == 0]))
        record["bits"], record["run_bits"], record["count0"] = 64 * beats, 64 * beats // runs, runs
        record["address"], record["stride0"] = 64 * int(rng.integers(200)), 64 * 40
    return table


def list_beats(record, image: bytearray) -> list[int]:
    """Return the beats of a load."""
    found = []
    for run in range(int(record["count0"])):
        first = (int(record["address"]) + run * int(record["stride0"])) // 8
        places = range(first, first + int(record["run_bits"]) // 8, 8)
        found += [int.from_bytes(image[at : at + 8], "little") for at in places]
    return found


def test_loads_reach_their_buffer_bank_and_place():
    spec = LoadUnit(machine=MACHINE)
    unit = spec.create()
    rng = np.random.default_rng(5)
    table = draw_loads(rng, 60)
    words, image = split_words(pack_table(table)), bytearray(rng.bytes(1 << 13))
    found = []

    def watch(ctx):
        for name, buffer in (("w", "wbuf"), ("i", "ibuf")):
            if ctx.get(getattr(unit, f"{name}_write_valid")):
                parts = (ctx.get(getattr(unit, f"{name}_write_{part}")) for part in ("bank", "offset", "data"))
                found.append((buffer, *parts))
        for column in range(MACHINE.columns):
            if ctx.get(unit.p_enable[column]):
                place = ctx.get(unit.p_word) * MACHINE.columns + column
                found.append(("obuf", ctx.get(unit.p_bank), place, ctx.get(unit.p_data[column]) % (1 << 32)))

    async def drive(ctx):
        memory = AxiMemory(image, 64, FlatTiming(4))
        for record, word in zip(table, words, strict=True):
            ctx.set(unit.instruction.as_value(), word)
            ctx.set(unit.taken, 1)
            await ctx.tick()
            ctx.set(unit.taken, 0)
            if not record["bits"]:
                continue
            ctx.set(unit.start, 1)
            cycles = 0
            for _ in range(100):
                now = memory.drives
                ctx.set(unit.axi.arready, now.arready)
                ctx.set(unit.axi.rvalid, now.r is not None)
                ctx.set(unit.axi.rdata, now.r.data if now.r else 0)
                request = None
                if ctx.get(unit.axi.arvalid):
                    parts = (ctx.get(getattr(unit.axi, name)) for name in ("araddr", "arlen", "aruser"))
                    address, length, user = parts
                    request = Request(address, length + 1, user)
                memory.step(Master(ar=request))
                watch(ctx)
                done = ctx.get(unit.done)
                await ctx.tick()
                ctx.set(unit.start, 0)
                cycles += 1
                if done:
                    break
            else:
                raise AssertionError(f"{record} does not end")
            assert cycles == 4 + int(record["bits"]) // 64
            assert memory.idle

    sim = Simulator(unit)
    sim.add_clock(1e-8)
    sim.add_testbench(drive)
    sim.run()
    assert found == spec.compute((record, list_beats(record, image)) for record in table)
    assert {buffer for buffer, *_ in found} == {"wbuf", "ibuf", "obuf"}
