"""Long and scattered transfers against a DRAM behind AXI: every bit, and every end as the cycle engine finds it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.extras import require

require("amaranth")

from cosim.memory_dram import Controller, DramTiming
from cosim.memory_model import AxiMemory, Stress, create_memory
from hwsim.archs.systolic.spec import PRESETS
from hwsim.core.dram_parts import find_part
from hwsim.core.program import LOAD, SPILL, STORE, STORE_O
from hwsim.core.shell import Memory
from hwsim.engine.run import clock_ratio, time_table
from tests.rtl.dma_bench import Bench
from tests.rtl.test_dma_transfers import BEAT, HALF, make_record, make_traffic


def draw_records(rng: random.Random, count: int) -> list:
    """Loads below, stores and spills above, each in a place of its own."""
    records = []
    for _ in range(count):
        run, rows = rng.choice([1, 2, 9, 40, 300]), rng.choice([1, 1, 3, 12])
        queue = rng.choice([LOAD, STORE])
        place = HALF // 8 * (queue == STORE) + len(records) * 4096 + rng.randrange(300)
        record = make_record(queue, (run, (rows, max(70, run)), (1, 0), (1, 0)), place)
        if queue == STORE:
            record["op"] = rng.choice([STORE_O, SPILL])
            record["cycles"] = rng.choice([0, 7, 200])
        records.append(record)
    return records


@pytest.fixture(scope="module")
def bench():
    """One simulator for all."""
    return Bench(BEAT, 4096, bursts=16)


def dram_of(part: str, clock_hz: float):
    """Return an accelerator with a DRAM."""
    memory = Memory(kind="dram", part=part, bits_per_cycle=BEAT)
    return replace(PRESETS["small"], preset="small+", memory=memory, clock_hz=clock_hz)


@pytest.mark.parametrize(("part", "clock_hz"), [("ddr4-2400", 200e6), ("lpddr4-3200", 1.5e9), ("hbm2", 1.3e9)])
@pytest.mark.parametrize("seed", range(2))
def test_transfers_end_when_the_engine_says(bench, part, clock_hz, seed):
    rng = random.Random(seed)
    arch = dram_of(part, clock_hz)
    job = make_traffic(rng, draw_records(rng, 8))
    job.issue = arch.shell.issue_cycles
    outcome = bench.run(job, lambda image: create_memory(arch, image), limit=40_000)
    assert bytes(outcome.image) == job.wanted
    timeline = time_table(job.table, arch)[1]
    assert [outcome.end[i] for i in range(len(job.table))] == timeline.end.tolist()


@pytest.mark.parametrize("seed", range(2))
def test_back_pressure_before_a_dram_changes_no_bit(bench, seed):
    rng = random.Random(seed)
    job = make_traffic(rng, draw_records(rng, 6))
    stress = Stress(seed=seed)
    ratio = clock_ratio(find_part("ddr4-2400").tck_ps, 200e6)
    outcome = bench.run(
        job,
        lambda image: AxiMemory(image, BEAT, DramTiming(Controller("ddr4-2400", ratio), BEAT), stress),
        limit=60_000,
        gaps=lambda: rng.random() < 0.3,
    )
    assert bytes(outcome.image) == job.wanted
