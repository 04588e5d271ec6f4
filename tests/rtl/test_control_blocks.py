"""Control blocks against their models, output by output and cycle by cycle, under random inputs."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from tests.extras import require

require("amaranth")

from amaranth.hdl import Cat

from accel_rtl.blocks.counters import COUNTERS, CounterInput, Counters
from accel_rtl.blocks.semaphores import Semaphores
from accel_rtl.blocks.skid import SkidBuffer
from accel_rtl.blocks.unit_control import ControlInput, ControlOutput, UnitControl
from accel_rtl.instruction_word import (
    NAMED,
    WORD_BITS,
    WORD_BYTES,
    find_empty,
    pack_table,
    read_field,
    split_words,
    unpack_table,
)
from hwsim.core.errors import SpecError
from hwsim.core.program import EXEC, INITIAL_TOKENS, INSTRUCTION, LOAD, STORE
from tests.rtl.control_bench import draw_table, simulate


def test_word_holds_every_bit_of_every_field():
    table = draw_table(np.random.default_rng(1), 500)
    words = pack_table(table)
    assert len(words) == 500 * WORD_BYTES
    np.testing.assert_array_equal(unpack_table(words), table)
    numbers = split_words(words)
    for name in INSTRUCTION.names:
        assert [read_field(word, name) for word in numbers] == table[name].tolist()
    assert [read_field(word, "empty") for word in numbers] == find_empty(table).tolist()
    claimed = sum(((1 << f.width_bits) - 1) << f.first_bit for f in NAMED)
    assert claimed.bit_count() == sum(f.width_bits for f in NAMED)
    assert not any(word & ~claimed for word in numbers)
    assert all(f.first_bit // 64 == (f.first_bit + f.width_bits - 1) // 64 for f in NAMED)
    assert WORD_BITS == 512


@pytest.mark.parametrize(
    ("queue", "bits", "cycles", "empty"),
    [(LOAD, 0, 9, 1), (LOAD, 8, 0, 0), (EXEC, 8, 0, 1), (EXEC, 0, 1, 0), (STORE, 0, 0, 1), (STORE, 0, 1, 0), (STORE, 8, 0, 0)],
)  # fmt: skip
def test_an_instruction_without_work_is_marked_empty(queue, bits, cycles, empty):
    table = np.zeros(1, INSTRUCTION)
    table["queue"], table["bits"], table["cycles"] = queue, bits, cycles
    assert read_field(split_words(pack_table(table))[0], "empty") == empty


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        (
            "queue",
            3,
            "program[1].queue: got 3, expected 0 to 2 (the hardware has one memory port: memory.channels = shared)",
        ),
        ("op", 6, "program[1].op: got 6, expected 0 to 5"),
        ("wait", 256, "program[1].wait: got 256, expected 0 to 255"),
        ("address", 1 << 40, "program[1].address: got 1099511627776, expected 0 to 1099511627775"),
        ("stride2", -1, "program[1].stride2: got -1, expected 0 to 1099511627775"),
    ],
)
def test_a_value_beyond_its_field_is_refused(name, value, text):
    table = np.zeros(3, INSTRUCTION)
    table[name][1] = value
    with pytest.raises(SpecError) as error:
        pack_table(table)
    assert str(error.value) == text


def test_half_a_word_is_refused():
    with pytest.raises(SpecError, match="words: got 65, expected a multiple of 64 bytes"):
        unpack_table(bytes(65))


@pytest.mark.parametrize(("come", "leave"), [(1.0, 1.0), (0.5, 0.5), (0.9, 0.3), (0.3, 0.9)])
def test_skid_buffer(come, leave):
    spec = SkidBuffer(width_bits=9)
    skid = spec.create()
    rng = np.random.default_rng(int(10 * come + leave))
    cycles = [(int(rng.random() < come), int(rng.integers(512)), int(rng.random() < leave)) for _ in range(400)]
    found = []

    async def drive(ctx):
        for valid, payload, ready in cycles:
            ctx.set(skid.i.valid, valid)
            ctx.set(skid.i.payload, payload)
            ctx.set(skid.o.ready, ready)
            found.append((*(await ctx.tick().sample(skid.i.ready, skid.o.valid, skid.o.payload))[2:],))

    simulate(skid, drive)
    assert found == spec.compute(cycles)
    assert sum(not i_ready for i_ready, _, _ in found) > 0 or leave > come or leave == 1


def test_skid_buffer_passes_an_item_every_cycle():
    trace = SkidBuffer(width_bits=8).compute((1, k, 1) for k in range(50))
    assert trace[1:] == [(1, 1, k) for k in range(49)]


@pytest.mark.parametrize("careful", [True, False])
def test_semaphores(careful):
    spec = Semaphores(width_bits=(2, 2, 2, 2, 2, 2, 2, 3))
    semaphores = spec.create()
    rng = np.random.default_rng(5 + careful)
    cycles, found = [], []

    async def drive(ctx):
        for k in range(600):
            take, give = (
                int(rng.integers(256)) & int(rng.integers(256)),
                int(rng.integers(256)) & int(rng.integers(256)),
            )
            available = ctx.get(semaphores.available)
            if careful:
                take &= available
                give &= sum((ctx.get(count) < (1 << len(count)) - 1) << s for s, count in enumerate(semaphores.counts))
            cycles.append((take, give, int(k % 97 == 96)))
            ctx.set(semaphores.take, take)
            ctx.set(semaphores.give, give)
            ctx.set(semaphores.clear, cycles[-1][2])
            found.append((available, ctx.get(semaphores.error)))
            await ctx.tick()

    simulate(semaphores, drive)
    assert found == spec.compute(cycles)
    assert any(error for _, error in found) == (not careful)
    assert found[0][0] == sum((tokens > 0) << s for s, tokens in enumerate(INITIAL_TOKENS))


@pytest.mark.parametrize(("issue", "tail", "work"), [(1, 0, 0), (2, 0, 0), (1, 7, 0), (2, 25, 0), (3, 40, 30)])
def test_unit_control(issue, tail, work):
    spec = UnitControl(issue_cycles=issue, most_tail_cycles=tail, least_work_cycles=work)
    control = spec.create()
    rng = np.random.default_rng([issue, tail])
    table = draw_table(rng, 2000)
    table["tail"] = rng.integers(0, tail + 1, 2000)
    table["wait"] &= rng.integers(0, 256, 2000, dtype=np.uint16)
    words = split_words(pack_table(table))
    names = [one.name for one in fields(ControlOutput)]
    inputs, found = [], []

    async def drive(ctx):
        at, offered = 0, 0
        for _ in range(1500):
            offered |= int(rng.random() < 0.8)
            head = words[at] if offered else None
            dense = int(rng.integers(256)) | int(rng.integers(256)) | int(rng.integers(256))
            now = ControlInput(
                head=head,
                available=dense,
                done=int(rng.random() < 0.4),
                enable=int(len(inputs) > 5 and rng.random() < 0.95),
            )
            inputs.append(now)
            ctx.set(control.i.valid, offered)
            ctx.set(control.i.payload.as_value(), words[at] if offered else int(rng.integers(1 << 40)))
            for name in ("available", "done", "enable"):
                ctx.set(getattr(control, name), getattr(now, name))
            *_, ready, outputs = await ctx.tick().sample(control.i.ready, Cat(getattr(control, name) for name in names))
            values, shift = {}, 0
            for name in names:
                width = len(getattr(control, name))
                values[name] = outputs >> shift & ((1 << width) - 1)
                shift += width
            found.append(ControlOutput(**values))
            assert ready == values["finish"]
            if ready:
                at, offered = at + 1, 0

    simulate(control, drive)
    expected = spec.compute(inputs)
    for k, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one == other, f"cycle {k}: {inputs[k]}"
    assert sum(one.finish for one in found) > 100


def test_an_issue_cost_of_nothing_cannot_be_built():
    with pytest.raises(SpecError, match=r"shell.issue_cycles: got 0, expected an integer from 1 to 1024"):
        UnitControl(issue_cycles=0)


@pytest.mark.parametrize("width", [5, 48])
def test_counters(width):
    spec = Counters(width_bits=width)
    counters = spec.create()
    rng = np.random.default_rng(width)
    names = [one.name for one in fields(CounterInput)]
    cycles = []
    phase = 0
    for k in range(2500):
        now = dict.fromkeys(names, 0)
        now |= {"running": int(k % 40 < 36 and k != 400), "clear": int(k == 400)}
        now |= {"finished": int(k % 40 == 37)}
        now |= {"has_head": int(rng.random() < 0.9), "missing": int(rng.integers(256)) & int(rng.integers(256))}
        now |= {"results": int(rng.random() < 0.5), "fill": int(rng.integers(6))}
        if phase == 0:  # waits, is taken, works
            phase = int(rng.random() < 0.3)
            now["waiting"] = 1 - phase
            now["taken"] = now["issuing"] = phase
        else:
            now |= {"working": 1, "start": int(phase == 1)}
            phase = 0 if rng.random() < 0.2 else 2
        cycles.append(CounterInput(**now))
    found = {}

    async def drive(ctx):
        for now in cycles:
            for name in names:
                ctx.set(getattr(counters, name), getattr(now, name))
            await ctx.tick()
        found.update({name: ctx.get(counters.counts[name]) for name in COUNTERS})

    simulate(counters, drive)
    assert found == spec.compute(cycles)
    assert all(spec.compute(cycles).values()) or width == 5
