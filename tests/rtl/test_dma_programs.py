"""Transfers of real Programs through both DMAs: every byte and every cycle, bits alone where the memory holds back at random."""

from __future__ import annotations

import os
import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

if not os.environ.get("CI"):
    pytest.importorskip("amaranth", reason="needs amaranth: pip install 'hwsim[rtl]'")

from accel_rtl.blocks.read_dma import LEAST_LATENCY_CYCLES
from cosim.memory_model import AxiMemory, FlatTiming, Stress, create_memory
from hwsim.core.dram_parts import PARTS
from hwsim.core.errors import SpecError
from hwsim.core.shell import Memory
from hwsim.engine.run import time_table
from tests.execute_cases import cases
from tests.naive_cases import bind
from tests.rtl.dma_bench import Bench, make_job

BENCHES: dict[int, Bench] = {}
MOST_CYCLES = 2500
CLOCKS_HZ = (60e6, 250e6, 1.2e9, 1e12 / 833)


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
def jobs(draw, part=""):
    """A layer's Program with the accelerator's memory, and all that it moves; a part: a DRAM instead of flat memory."""
    case = draw(cases())
    beat = draw(st.sampled_from([8, 64, 128]))
    align = draw(st.sampled_from([0, 2 * beat]))
    if part:
        memory = Memory(kind="dram", part=part, bits_per_cycle=beat, align_bits=align)
    else:
        latency = draw(st.sampled_from([LEAST_LATENCY_CYCLES, 9, 32]))
        memory = Memory(latency_cycles=latency, bits_per_cycle=beat, align_bits=align)
    shell = replace(case.arch.shell, psum_bits=32)
    clock_hz = draw(st.sampled_from(CLOCKS_HZ)) if part else case.arch.clock_hz
    case = replace(case, arch=replace(case.arch, memory=memory, shell=shell, clock_hz=clock_hz))
    job = make_job(case, bind(case.workload, case.arch), beat, draw(st.sampled_from([0, 255])))
    assume(time_table(job.table, case.arch)[0].cycles < MOST_CYCLES)
    return job, case.arch


def assert_timeline(outcome, timeline) -> None:
    """Compare the times of every instruction."""
    for name in ("ready", "start", "end"):
        found = getattr(outcome, name)
        assert [found[i] for i in range(len(found))] == getattr(timeline, name).tolist(), name


@seeded(60)
@given(jobs())
def test_programs_move_every_bit_in_the_cycles_of_the_engine(drawn):
    job, arch = drawn
    beat = arch.memory.bits_per_cycle
    outcome = bench_of(beat).run(job, lambda image: create_memory(arch, image))
    assert bytes(outcome.image) == job.wanted
    assert_timeline(outcome, time_table(job.table, arch)[1])


@pytest.mark.parametrize("part", [part.name for part in PARTS])
@seeded(40)
@given(st.data())
def test_programs_on_a_dram_take_the_cycles_of_the_engine(part, data):
    job, arch = data.draw(jobs(part))
    outcome = bench_of(arch.memory.bits_per_cycle).run(job, lambda image: create_memory(arch, image))
    assert bytes(outcome.image) == job.wanted
    assert_timeline(outcome, time_table(job.table, arch)[1])


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
