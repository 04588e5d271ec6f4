"""Dispatch of instructions to the units' queues against its model, cycle by cycle, under random inputs."""

from __future__ import annotations

import numpy as np
import pytest

from tests.extras import require

require("amaranth")

from accel_rtl.blocks.dispatch import USED_FIELDS, Dispatch
from accel_rtl.instruction_word import (
    NAMED,
    WORD_BITS,
    WORD_BYTES,
    pack_table,
    read_field,
    split_words,
)
from hwsim.core.program import EXEC, INSTRUCTION, LOAD, STORE
from tests.rtl.control_bench import draw_table, simulate


@pytest.mark.parametrize("descriptor_words", [(0, 0, 0), (0, 2, 1)])
@pytest.mark.parametrize(("places", "share"), [(2, 0.5), (4, 0.3), (8, 0.9)])
def test_dispatch(places, share, descriptor_words):
    spec = Dispatch(places=places, descriptor_words=descriptor_words)
    dispatch = spec.create()
    rng = np.random.default_rng(places)
    table = draw_table(rng, 150)
    words = add_descriptors(rng, split_words(pack_table(table)), descriptor_words)
    accepts = [tuple(int(rng.random() < share) for _ in range(3)) for _ in range(150 * 6)]
    found, marks = [], []

    def read_head(ctx, q):
        if not ctx.get(dispatch.o[q].valid):
            return None
        extra = ctx.get(getattr(dispatch, f"extra_{q}")) if descriptor_words[q] else 0
        return ctx.get(dispatch.o[q].payload.as_value()) + (extra << WORD_BITS)

    async def drive(ctx):
        at = 0
        for k, ready in enumerate(accepts):
            ctx.set(dispatch.clear, int(k == 0))
            ctx.set(dispatch.length, len(words))
            ctx.set(dispatch.i.valid, int(k > 0 and at < len(words)))
            ctx.set(dispatch.i.payload.as_value(), words[min(at, len(words) - 1)])
            for q in range(3):
                ctx.set(dispatch.o[q].ready, ready[q])
            found.append(tuple(read_head(ctx, q) for q in range(3)))
            marks.append((ctx.get(dispatch.released), ctx.get(dispatch.complete)))
            at += ctx.get(dispatch.i.valid) & ctx.get(dispatch.i.ready)
            await ctx.tick()

    simulate(dispatch, drive)
    assert found == spec.compute(words, accepts)
    for q in range(3):
        taken = [heads[q] for heads, ready in zip(found, accepts, strict=True) if ready[q] and heads[q] is not None]
        assert taken == list_entries(words, descriptor_words)[q]
    complete = [done for _, done in marks]
    assert complete == sorted(complete)
    assert complete[-1]
    assert found[complete.index(1)] == (None, None, None)


async def start(ctx, dispatch, length: int, **inputs: int) -> None:
    """Pass the cycle in which a program of ``length`` words begins."""
    for name, value in {"clear": 1, "length": length, **inputs}.items():
        ctx.set(getattr(dispatch, name), value)
    await ctx.tick()
    ctx.set(dispatch.clear, 0)


def add_descriptors(rng, words, descriptor_words) -> list[int]:
    """Return instructions, each with words of any bits behind it."""
    found = []
    for word in words:
        found.append(word)
        count = descriptor_words[read_field(word, "queue")]
        found += [int.from_bytes(rng.bytes(WORD_BYTES), "little") for _ in range(count)]
    return found


def list_entries(words, descriptor_words) -> list[list[int]]:
    """Return what each queue is given, descriptors above their instruction."""
    entries, at = [[], [], []], 0
    while at < len(words):
        q = read_field(words[at], "queue")
        count = 1 + descriptor_words[q]
        entries[q].append(sum(word << WORD_BITS * k for k, word in enumerate(words[at : at + count])))
        at += count
    return entries


def test_queues_may_keep_what_their_unit_reads_alone():
    spec = Dispatch(descriptor_words=(0, 2, 1), descriptor_bits=(0, 700, 90), used_only=True)
    dispatch = spec.create()
    rng = np.random.default_rng(8)
    table = draw_table(rng, 12)
    words = add_descriptors(rng, split_words(pack_table(table)), spec.descriptor_words)
    entries = list_entries(words, spec.descriptor_words)

    async def drive(ctx):
        await start(ctx, dispatch, len(words), prefetched=0)
        ctx.set(dispatch.i.valid, 1)
        for word in words:
            ctx.set(dispatch.i.payload.as_value(), word)
            await ctx.tick()
        ctx.set(dispatch.i.valid, 0)
        await ctx.tick().until(dispatch.released)
        for q, bits in enumerate((0, 700, 90)):
            for entry in entries[q]:
                assert ctx.get(dispatch.o[q].valid)
                for field in NAMED:
                    wanted = read_field(entry, field.name) if field.name in USED_FIELDS[q] else 0
                    assert ctx.get(dispatch.o[q].payload[field.name]) == wanted
                if bits:
                    found = ctx.get(getattr(dispatch, f"extra_{q}"))
                    assert found == (entry >> WORD_BITS) % (1 << bits)
                ctx.set(dispatch.o[q].ready, 1)
                await ctx.tick()
        assert ctx.get(dispatch.complete)

    simulate(dispatch, drive)


def test_units_wait_until_enough_is_fetched():
    dispatch = Dispatch(places=2).create()
    table = np.zeros(9, INSTRUCTION)
    words = split_words(pack_table(table))

    async def drive(ctx):
        await start(ctx, dispatch, len(words), prefetched=0)
        ctx.set(dispatch.i.valid, 1)
        ctx.set(dispatch.i.payload.as_value(), words[0])
        await ctx.tick().repeat(20)
        assert not ctx.get(dispatch.released)
        ctx.set(dispatch.prefetched, 1)
        await ctx.tick().repeat(2)
        assert ctx.get(dispatch.released)

    simulate(dispatch, drive)


def test_dispatch_is_released_when_its_queues_are_primed():
    dispatch = Dispatch(places=4).create()
    table = np.zeros(3, INSTRUCTION)
    table["queue"] = (LOAD, EXEC, STORE)
    words = split_words(pack_table(table))

    async def drive(ctx):
        await start(ctx, dispatch, 3)
        for word in words:
            await ctx.tick().repeat(3)  # a slow fetch
            assert not ctx.get(dispatch.released)
            ctx.set(dispatch.i.valid, 1)
            ctx.set(dispatch.i.payload.as_value(), word)
            await ctx.tick()
            ctx.set(dispatch.i.valid, 0)
        await ctx.tick().until(dispatch.released)
        assert all(ctx.get(dispatch.o[q].valid) for q in range(3))

    simulate(dispatch, drive)


def test_a_word_for_no_queue_is_an_error():
    dispatch = Dispatch(places=4).create()

    async def drive(ctx):
        await start(ctx, dispatch, 1)
        ctx.set(dispatch.i.valid, 1)
        ctx.set(dispatch.i.payload.as_value(), 3)
        await ctx.tick().repeat(3)
        assert ctx.get(dispatch.error)
        assert not ctx.get(dispatch.complete)

    simulate(dispatch, drive)
