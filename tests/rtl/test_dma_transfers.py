"""Single transfers and streams of them without tokens: long, scattered, and loads against stores on one port."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tests.extras import require

require("amaranth")

from accel_rtl.blocks.read_dma import LEAST_LATENCY_CYCLES, ReadDma
from accel_rtl.blocks.run_walker import RunWalker
from accel_rtl.blocks.write_dma import WriteDma
from cosim.memory_model import AxiMemory, FlatTiming, Stress
from hwsim.core.program import INSTRUCTION, LOAD, LOAD_W, STORE, STORE_O
from hwsim.core.shell import Memory
from hwsim.engine.image import list_run_bits
from tests.naive_shell import run_naive
from tests.rtl.dma_bench import Bench, Job, cut_beats, cut_stores

BEAT = 64
HALF = 1 << 19
"""Bytes: loads read below, stores write above."""
SHAPES = {  # run in beats, counts and strides of the three levels
    "one beat": (1, (1, 0), (1, 0), (1, 0)),
    "one long run": (1500, (1, 0), (1, 0), (1, 0)),
    "many single beats": (1, (7, 3), (5, 40), (3, 999)),
    "short runs": (3, (4, 5), (6, 32), (2, 700)),
    "runs across pages": (300, (3, 511), (1, 0), (1, 0)),
}


def make_record(queue: int, shape, first_beat: int, cycles: int = 0) -> np.void:
    """Return an instruction without tokens."""
    run, *levels = shape
    record = np.zeros(1, INSTRUCTION)[0]
    record["queue"], record["op"] = queue, LOAD_W if queue == LOAD else STORE_O
    record["cycles"], record["address"], record["run_bits"] = cycles, first_beat * BEAT, run * BEAT
    record["wait"] = 0
    total = run
    for level, (count, stride) in enumerate(levels):
        record[f"count{level}"], record[f"stride{level}"] = count, stride * BEAT
        total *= count
    record["bits"] = total * BEAT
    return record


def make_traffic(rng: random.Random, records) -> Job:
    """Return a job of loads and stores with random content, strobes at random; a store masks bytes with holes between."""
    image = np.frombuffer(rng.randbytes(2 * HALF), np.uint8).copy()
    before, wanted = np.unpackbits(image, bitorder="little"), np.unpackbits(image, bitorder="little")
    loads, stores = {}, {}
    for i, record in enumerate(records):
        where = list_run_bits(record)
        if record["queue"] == LOAD:
            loads[i] = cut_beats(before[where], BEAT)
            continue
        draw = np.random.default_rng(i)
        bits, mask = draw.integers(0, 2, where.size, np.uint8), np.repeat(draw.integers(0, 4, where.size // 8) > 0, 8)
        stores[i] = cut_stores(bits, mask.astype(np.uint8), BEAT)
        wanted[where[mask]] = bits[mask]
    table = np.array(records)
    return Job(table, bytearray(image.tobytes()), np.packbits(wanted, bitorder="little").tobytes(), loads, stores)


@pytest.fixture(scope="module")
def bench():
    """One simulator for all."""
    return Bench(BEAT, 4096)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("queue", [LOAD, STORE])
def test_lone_transfer_ends_latency_and_beats_behind_its_start(bench, queue, shape):
    record = make_record(queue, shape, HALF // 8 * (queue == STORE) + 77)
    job = make_traffic(random.Random(1), [record])
    latency = 9
    outcome = bench.run(job, lambda image: AxiMemory(image, BEAT, FlatTiming(latency, 7)))
    beats = int(record["bits"]) // BEAT
    assert outcome.start[0] == 2
    assert outcome.end[0] == 2 + (latency if queue == LOAD else 7) + beats
    assert bytes(outcome.image) == job.wanted


@pytest.mark.parametrize("latency", [LEAST_LATENCY_CYCLES, 40])
@pytest.mark.parametrize("seed", range(4))
def test_loads_and_stores_share_the_port_in_the_order_in_which_they_ask(bench, latency, seed):
    rng = random.Random(seed)
    records = []
    for _ in range(24):
        run, count = rng.choice([1, 2, 9, 40]), rng.choice([1, 1, 3])
        queue = rng.choice([LOAD, STORE])
        place = HALF // 8 * (queue == STORE) + len(records) * 1024 + rng.randrange(512)
        cycles = rng.choice([0, 0, run * count, 3 * run * count]) if queue == STORE else 0
        records.append(make_record(queue, (run, (count, 70), (1, 0), (1, 0)), place, cycles))
    job = make_traffic(rng, records)
    outcome = bench.run(job, lambda image: AxiMemory(image, BEAT, FlatTiming(latency)))
    wanted = run_naive(job.table, Memory(latency_cycles=latency, bits_per_cycle=BEAT), job.issue)
    assert outcome.end == wanted.end
    assert bytes(outcome.image) == job.wanted


@pytest.mark.parametrize("seed", range(5))
def test_long_transfers_survive_back_pressure(bench, seed):
    rng = random.Random(seed)
    records = []
    for i, shape in enumerate(rng.sample(list(SHAPES.values()), 3)):
        records.append(make_record(LOAD, shape, i * 4096 + rng.randrange(512)))
        records.append(make_record(STORE, shape, HALF // 8 + i * 16384 + rng.randrange(512)))
    job = make_traffic(rng, records)
    stress = Stress(seed=seed)
    outcome = bench.run(
        job,
        lambda image: AxiMemory(image, BEAT, FlatTiming(LEAST_LATENCY_CYCLES), stress),
        limit=60_000,
        gaps=lambda: rng.random() < 0.3,
    )
    assert bytes(outcome.image) == job.wanted


def test_compute_of_both_is_the_golden_content():
    rng = random.Random(5)
    walker = RunWalker(beat_bits=BEAT, address_bits=24)
    for shape in SHAPES.values():
        job = make_traffic(rng, [make_record(LOAD, shape, 5), make_record(STORE, shape, HALF // 8 + 5)])
        transfers = [walker.encode(record) for record in job.table]
        image = bytearray(job.image)
        read = ReadDma(walker=walker, offset_bits=13).compute(transfers[0], 8190, image)
        assert [beat for _, beat in read] == job.loads[0]
        assert [place for place, _ in read] == [(8190 + i) % 8192 for i in range(len(read))]
        WriteDma(walker=walker).compute(transfers[1], job.stores[1], image)
        assert bytes(image) == job.wanted
