"""Transfers of real Programs through both DMAs: every byte and every cycle, bits alone where the memory holds back at random."""

from __future__ import annotations

import os
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

if not os.environ.get("CI"):
    pytest.importorskip("amaranth", reason="needs amaranth: pip install 'hwsim[rtl]'")

from accel_rtl.blocks.read_dma import LEAST_LATENCY_CYCLES
from accel_rtl.blocks.write_dma import LEAST_STORE_CYCLES
from cosim.memory_model import AxiMemory, FlatTiming, Stress
from hwsim.core.errors import SpecError
from hwsim.core.program import LOAD_P, O_FREE, P_READY, SPILL, STORE_O
from hwsim.core.shell import Memory
from hwsim.engine.run import time_table
from tests.execute_cases import cases
from tests.naive_cases import bind
from tests.rtl.dma_bench import Bench, make_job, time_naively

BENCHES: dict[int, Bench] = {}
MOST_CYCLES = 2500


def seeded(examples: int) -> settings:
    """Return settings of a test that draws the same Programs every time."""
    return settings(
        derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None, max_examples=examples
    )


def bench_of(beat_bits: int) -> Bench:
    """Return the one bench of a width; of the wider ones two beats make a word of the scratchpads."""
    if beat_bits not in BENCHES:
        BENCHES[beat_bits] = Bench(beat_bits, 4096, 1 if beat_bits < 64 else 2)
    return BENCHES[beat_bits]


@st.composite
def jobs(draw):
    """A layer's Program with the accelerator's memory, and all that it moves."""
    case = draw(cases())
    beat = draw(st.sampled_from([8, 64, 128]))
    memory = Memory(
        latency_cycles=draw(st.sampled_from([LEAST_LATENCY_CYCLES, 9, 32])), bits_per_cycle=beat,
        align_bits=draw(st.sampled_from([0, 2 * beat])),
    )  # fmt: skip
    case = replace(case, arch=replace(case.arch, memory=memory, shell=replace(case.arch.shell, psum_bits=32)))
    job = make_job(case, bind(case.workload, case.arch), beat, draw(st.sampled_from([0, 255])))
    assume(time_table(job.table, case.arch)[0].cycles < MOST_CYCLES)
    return job, case.arch


def assert_timeline(outcome, table, start, end) -> None:
    """Compare the start and the end of every instruction."""
    for i in range(len(table)):
        assert (outcome.start[i], outcome.end[i]) == (start[i], end[i]), f"instruction {i}"


@seeded(60)
@given(jobs(), st.sampled_from([LEAST_STORE_CYCLES, 12]))
def test_programs_move_every_bit_in_the_cycles_of_the_shell(drawn, store_cycles):
    job, arch = drawn
    beat = arch.memory.bits_per_cycle
    timing = FlatTiming(arch.memory.latency_cycles, store_cycles)
    outcome = bench_of(beat).run(job, lambda image: AxiMemory(image, beat, timing), store_cycles=store_cycles)
    assert bytes(outcome.image) == job.wanted
    wanted = time_naively(job.table, arch.memory, job.issue, store_cycles)
    assert_timeline(outcome, job.table, wanted.start, wanted.end)


@seeded(40)
@given(jobs())
def test_loads_of_programs_take_the_cycles_of_the_engine(drawn):
    job, arch = drawn
    keep = ~np.isin(job.table["op"], (LOAD_P, STORE_O, SPILL))
    table = job.table[keep].copy()
    table["wait"] &= 0xFF ^ (1 << O_FREE | 1 << P_READY)
    loads = {new: job.loads[old] for new, old in enumerate(np.flatnonzero(keep)) if old in job.loads}
    job = replace(job, table=table, loads=loads, stores={})
    beat = arch.memory.bits_per_cycle
    outcome = bench_of(beat).run(job, lambda image: AxiMemory(image, beat, FlatTiming(arch.memory.latency_cycles)))
    timeline = time_table(table, arch)[1]
    assert_timeline(outcome, table, timeline.start.tolist(), timeline.end.tolist())


@seeded(25)
@given(jobs())
def test_oracle_of_store_latency_is_the_engine_where_it_is_none(drawn):
    job, arch = drawn
    naive, timeline = time_naively(job.table, arch.memory, job.issue, 0), time_table(job.table, arch)[1]
    assert_timeline(naive, job.table, timeline.start.tolist(), timeline.end.tolist())


@seeded(40)
@given(jobs(), st.integers(0, 10**6))
def test_back_pressure_on_every_channel_changes_no_bit(drawn, seed):
    job, arch = drawn
    beat, rng = arch.memory.bits_per_cycle, random.Random(seed)
    stress = Stress(seed=seed)
    outcome = bench_of(beat).run(
        job,
        lambda image: AxiMemory(image, beat, FlatTiming(LEAST_LATENCY_CYCLES), stress),
        limit=40 * MOST_CYCLES,
        gaps=lambda: rng.random() < 0.3,
    )
    assert bytes(outcome.image) == job.wanted
    assert len(outcome.end) == len(job.table)


def test_latency_below_the_pipeline_is_refused():
    with pytest.raises(SpecError, match=r"latency_cycles: got 3"):
        FlatTiming(3)
