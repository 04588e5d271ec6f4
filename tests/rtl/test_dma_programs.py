"""Transfers of real Programs through both DMAs: every byte and every cycle, bits alone where the memory holds back at random."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.extras import require

require("amaranth")

from accel_rtl.blocks.read_dma import LEAST_LATENCY_CYCLES
from cosim.memory_model import AxiMemory, FlatTiming, Stress, create_memory
from hwsim.archs.systolic.spec import Systolic
from hwsim.core.dram_parts import PARTS
from hwsim.core.errors import SpecError
from hwsim.core.mapping import ORDERS, TILE_DIMS, Mapping
from hwsim.core.program import SPILL
from hwsim.core.shell import Memory, Shell
from hwsim.core.tensors import ActQuant, Tensors
from hwsim.engine.run import time_table
from tests.execute_cases import ORIGIN, cases, draw_weights, lower_case, make_case
from tests.naive_cases import HUGE, bind, conv, workload_of
from tests.rtl.dma_bench import Bench, Job, make_job

BENCHES: dict[int, Bench] = {}
MOST_CYCLES = 2500
CLOCKS_HZ = (60e6, 250e6, 700e6, 1.2e9, 1e12 / 833)


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
    align = draw(st.sampled_from([0, 2 * beat]))
    memory = Memory(
        latency_cycles=draw(st.sampled_from([LEAST_LATENCY_CYCLES, 9, 32])), bits_per_cycle=beat, align_bits=align
    )  # fmt: skip
    case = replace(case, arch=replace(case.arch, memory=memory, shell=replace(case.arch.shell, psum_bits=32)))
    job = make_job(case, bind(case.workload, case.arch), beat, draw(st.sampled_from([0, 255])))
    assume(time_table(job.table, case.arch)[0].cycles < MOST_CYCLES)
    return job, case.arch


def draw_job(rng: np.random.Generator, memory: Memory, clock_hz: float = 500e6, scale: int = 1) -> tuple[Job, Systolic]:
    """Return a convolution's Program on an accelerator, every second one with spilled partial sums, and all that it moves."""
    wanted = bool(rng.integers(2))
    while True:
        draw = lambda low, high: int(rng.integers(low, high + 1))  # noqa: E731
        size = (draw(3, 8 * scale), draw(3, 8 * scale))
        window = (draw(1, 3), draw(1, 3))
        dims = {"N": draw(1, 2), "G": draw(1, 2), "K": draw(2, 16 * scale), "C": draw(2, 16 * scale)}
        padding = tuple(draw(0, window[axis % 2] - 1) for axis in range(4))
        layer = conv(size=size, window=window, stride=(draw(1, 2), draw(1, 2)), padding=padding, **dims)
        tile = {dim: -(-getattr(layer, dim) // draw(1, 3)) for dim in TILE_DIMS}
        if tile["G"] > 1:
            tile |= {"K": layer.K, "C": layer.C}
        mapping = Mapping(tile=tuple(tile[dim] for dim in TILE_DIMS), order=ORDERS[draw(0, len(ORDERS) - 1)])
        shell = Shell(
            wbuf_bits=HUGE, ibuf_bits=HUGE, obuf_bits=HUGE, issue_cycles=draw(1, 3), store_lanes=draw(1, 8)
        )  # fmt: skip
        arch = Systolic(
            preset="test", shell=shell, memory=memory, clock_hz=clock_hz, rows=draw(4, 16), cols=draw(4, 16),
            dataflow=("os", "ws", "is")[draw(0, 2)], fold_overlap="skewed", a_width=8,
        )  # fmt: skip
        quant = ActQuant(scale=0.031, zero_point=0, bits=8, signed=True)
        tensors = Tensors(
            layers={"layer": draw_weights(rng, layer, 8, False)},
            activations={"x": quant, "layer": quant},
            origin=ORIGIN,
        )
        inputs = {"x": rng.integers(-128, 128, layer.in_shape)}
        case = make_case(workload_of(layer), tensors, inputs, arch, mapping)
        datapath = bind(case.workload, arch)
        table = lower_case(case, datapath)[1]
        spills = bool((table["op"] == SPILL).any())
        moved = int(table["bits"].sum()) // memory.bits_per_cycle
        if spills == wanted and 100 * scale < moved < 1500 * scale and len(table) < 90 * scale:
            return make_job(case, datapath, memory.bits_per_cycle), arch


def compare(job: Job, arch: Systolic) -> int:
    """Run a job on its accelerator's memory, compare every bit and every time with the engine, return its cycles."""
    run, timeline = time_table(job.table, arch)
    outcome = bench_of(arch.memory.bits_per_cycle).run(job, lambda image: create_memory(arch, image))
    assert bytes(outcome.image) == job.wanted
    for name in ("ready", "start", "end"):
        found = getattr(outcome, name)
        assert [found[i] for i in range(len(found))] == getattr(timeline, name).tolist(), name
    return run.cycles


@seeded(25)
@given(jobs())
def test_every_operator_moves_every_bit_in_the_cycles_of_the_engine(drawn):
    compare(*drawn)


@pytest.mark.parametrize("beat", [16, 64, 128])
def test_programs_move_every_bit_in_the_cycles_of_the_engine(beat):
    rng = np.random.default_rng(beat)
    for latency in (LEAST_LATENCY_CYCLES, 9, 32) * 5:
        align = int(rng.choice([0, 2 * beat]))
        compare(*draw_job(rng, Memory(latency_cycles=latency, bits_per_cycle=beat, align_bits=align)))


@pytest.mark.parametrize("beat", [16, 64, 256])
@pytest.mark.parametrize("part", [part.name for part in PARTS])
def test_programs_on_a_dram_take_the_cycles_of_the_engine(part, beat):
    rng = np.random.default_rng(beat)
    for clock_hz in CLOCKS_HZ:
        compare(*draw_job(rng, Memory(kind="dram", part=part, bits_per_cycle=beat, align_bits=0), clock_hz))


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
