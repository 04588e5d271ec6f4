"""What the comparison says of runs that differ: the first instruction, its cycle, the first element."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.extras import require

require("amaranth", "pyosys")

from accel_rtl.instruction_word import find_empty
from cosim.compare import compare_run, expected_counters, expected_length
from cosim.outcome import NEVER, UNITS, collect_outcome, describe_units
from cosim.random_layers import draw_job
from tests.cosim.accelerators import make_arch


@pytest.fixture(scope="module")
def job():
    arch = make_arch("systolic-os")
    return next(job for job in (draw_job(arch, 3, i).job for i in range(50)) if len(job.table) > 20)


def perfect(job, **changes):
    """Return the outcome of hardware that does what the simulator says."""
    events, empty = {}, find_empty(job.table)
    for u, unit in enumerate(UNITS):
        mine = np.flatnonzero(job.table["queue"] == u)
        events[unit, "taken"] = job.timeline.ready[mine]
        events[unit, "start"] = job.timeline.start[mine[~empty[mine]]]
        events[unit, "finish"] = job.timeline.end[mine] - 1
    given = {
        "image": job.wanted.copy(), "cycles": expected_length(job), "host_cycles": 9, "counters": expected_counters(job)
    }  # fmt: skip
    return collect_outcome(job, events, **given | changes)


def test_equal_runs_have_no_mismatch(job):
    assert compare_run(job, perfect(job)) == ()


def test_partial_sums_are_not_compared(job):
    outcome = perfect(job)
    outcome.image[job.compared_bytes :] ^= 255
    assert compare_run(job, outcome) == ()


@pytest.mark.parametrize(("field", "verb"), [("ready", "is ready"), ("start", "starts"), ("end", "ends")])
def test_the_first_instruction_that_differs_is_named(job, field, verb):
    outcome = perfect(job)
    times = getattr(outcome, field)
    last, first = np.argsort(times)[[-1, 10]]
    times[last] += 2
    times[first] += 1
    (found,) = compare_run(job, outcome)
    assert found.kind == "cycles"
    assert f"instruction {first}, " in found.text
    assert f"{verb} in cycle {times[first]}, the simulator says {times[first] - 1}" in found.text
    assert found.cycle == times[first] - 1
    assert compare_run(job, outcome, exact_cycles=False) == ()


def test_length_and_counters_are_compared(job):
    (found,) = compare_run(job, perfect(job, cycles=expected_length(job) + 1))
    assert f"takes {expected_length(job) + 1} cycles" in found.text
    counters = expected_counters(job)
    counters["issue"] += 1
    (found,) = compare_run(job, perfect(job, counters=counters))
    assert (found.kind, "counter issue" in found.text) == ("counter", True)


def test_the_first_wrong_element_and_a_stray_byte_are_named(job):
    outcome = perfect(job)
    base = job.output_bits[0] // 8
    outcome.image[base] ^= 1
    (found,) = compare_run(job, outcome)
    assert "1 of" in found.text
    assert "[0, 0, 0, 0]" in found.text
    outcome = perfect(job)
    outcome.image[base - 1] ^= 1
    (found,) = compare_run(job, outcome)
    assert f"byte {base - 1}, no output element" in found.text


def test_a_hang_tells_the_last_state_of_every_unit(job):
    outcome = perfect(job)
    for times, limit in ((outcome.ready, 60), (outcome.start, 60), (outcome.end, 60)):
        times[times > limit] = NEVER
    outcome = replace(outcome, problem="it hangs")
    found = compare_run(job, outcome)
    assert [one.kind for one in found] == ["problem"]
    text = describe_units(job, outcome)
    assert text in found[0].text
    assert all(f"{unit} ended" in text for unit in UNITS)
    assert "waits for" in text or "works since" in text


def test_more_events_than_instructions_are_told(job):
    outcome = replace(perfect(job), surplus="exec: 3 pulses of start for 2 instructions")
    (found,) = compare_run(job, outcome)
    assert "3 pulses" in found.text
