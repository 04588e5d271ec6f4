"""What a healthy run never shows: answers of SLVERR and DECERR, a program image elsewhere, counts beyond 32 bits."""

from __future__ import annotations

import numpy as np
import pytest

from tests.extras import require

require("amaranth")

from accel_rtl.blocks.control_registers import OKAY, SLVERR
from accel_rtl.blocks.counters import COUNTERS, Counters
from tests.rtl.accelerator_bench import arch_of, draw_job
from tests.rtl.simulated_accelerator import SimulatedAccelerator, assert_ran

EXOKAY, DECERR = 1, 3
BASE = 0x12_3456_7000
"""Both halves of the address are needed, and 12 bits below it are not."""


@pytest.fixture(scope="module")
def job():
    """A convolution of two tiles."""
    return draw_job(np.random.default_rng([1, 6]), arch_of("os", "none", 2, 2), ("conv",), 160)


@pytest.fixture(scope="module")
def accelerator():
    """A simulator for all."""
    return SimulatedAccelerator(arch_of("os", "none", 2, 2))


@pytest.fixture(scope="module")
def healthy(accelerator, job):
    """The job with every answer OKAY."""
    ran = accelerator.run(job)
    assert_ran(job, ran)
    assert ran.status["error"] == 0
    assert min(ran.answers.values()) >= 2
    return ran


@pytest.mark.parametrize(
    ("channel", "place", "response"),
    [
        ("mem_r", "first", SLVERR), ("mem_r", "last", DECERR), ("mem_b", "first", DECERR), ("mem_b", "last", SLVERR),
        ("prog_r", "first", SLVERR), ("prog_r", "last", DECERR),
    ],
)  # fmt: skip
def test_an_error_of_the_memory_shows_in_the_status_until_the_next_start(
    accelerator, job, healthy, channel, place, response
):
    """Data are taken all the same: the program ends in its cycles."""
    answer = 0 if place == "first" else healthy.answers[channel] - 1
    ran, after = accelerator.run_all([job, job], faults={(channel, answer): response})
    assert_ran(job, ran)
    assert ran.status["error"] == 1
    assert_ran(job, after)
    assert after.status["error"] == 0


def test_answers_that_are_no_errors_set_none(accelerator, job, healthy):
    faults = {(channel, n): EXOKAY for channel, count in healthy.answers.items() for n in range(count)}
    ran = accelerator.run(job, faults=faults)
    assert ran.status["error"] == 0
    assert OKAY not in faults.values()


@pytest.mark.parametrize("base", [64, BASE])
def test_a_program_image_may_lie_anywhere(accelerator, job, base):
    ran = accelerator.run(job, base=base)
    assert_ran(job, ran)
    assert ran.status["error"] == 0


def test_every_counter_is_read_with_its_high_half(job, healthy, monkeypatch):
    """As a program begins each counter is set to another multiple of 2**32: what is read is that and the program's own count."""
    made = []

    def keep(spec, create=Counters.create):
        made.append(create(spec))
        return made[-1]

    monkeypatch.setattr(Counters, "create", keep)
    accelerator = SimulatedAccelerator(arch_of("os", "none", 2, 2))
    high = {name: (0x8001 + 0x111 * k) << 32 for k, name in enumerate(COUNTERS)}

    def raise_counts(ctx):
        for name in COUNTERS:
            ctx.set(made[0].counts[name], ctx.get(made[0].counts[name]) + high[name])

    ran = accelerator.run(job, at_first=raise_counts)
    assert len(made) == 1
    assert ran.counters == {name: healthy.counters[name] + high[name] for name in COUNTERS}
