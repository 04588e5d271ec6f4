"""Hardware that hangs in earnest: the limit of cycles ends the run, and what is said names the last state of every unit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.extras import require

require("amaranth", "pyosys", "g++")

import cosim.harness.model
from accel_rtl.accelerator import find_engine
from accel_rtl.instruction_word import WORD_BYTES, pack_table
from accel_rtl.program_image import STORE_WORDS
from cosim.compare import compare_run
from cosim.harness.model import limit_cycles, open_harness
from cosim.memory_model import create_memory
from cosim.outcome import NEVER, UNITS
from cosim.random_layers import draw_job
from hwsim.core.program import EXECUTE, LOAD_I, LOAD_W, O_READY, SEMAPHORES, SPILL, STORE_O, W_READY
from tests.cosim.accelerators import make_arch

pytestmark = pytest.mark.slow


def draw(arch):
    """Return a layer of some tiles whose weights and inputs are loaded more than once."""
    for number in range(100):
        job = draw_job(arch, 16, number).job
        counts = [int((job.table["op"] == op).sum()) for op in (LOAD_W, LOAD_I, EXECUTE, STORE_O)]
        if min(counts) > 1:
            return job
    raise AssertionError("no such layer")


def drop_signal(arch, job, index, semaphore):
    """Return a job one instruction of which does not give one of its tokens."""
    table = job.table.copy()
    assert table["signal"][index] >> semaphore & 1
    table["signal"][index] &= ~np.uint16(1 << semaphore)
    behind = {EXECUTE: find_engine(arch).tile_words, STORE_O: STORE_WORDS, SPILL: STORE_WORDS}
    place = job.parameter_words + sum(1 + behind.get(int(op), 0) for op in table["op"][:index])
    at, words = place * WORD_BYTES, [pack_table(x[index : index + 1]) for x in (job.table, table)]
    assert job.program[at : at + WORD_BYTES] == words[0]
    return replace(job, table=table, program=job.program[:at] + words[1] + job.program[at + WORD_BYTES :])


def find_hang(job, outcome):
    """Return what is said of a run that was ended by the limit."""
    limit = limit_cycles(job, False)
    assert outcome.problem == f"it hangs: not done within {limit} cycles"
    assert outcome.host_cycles == limit
    assert (outcome.end == NEVER).any()
    text = compare_run(job, outcome)[0].text
    assert text.startswith(outcome.problem)
    for u, unit in enumerate(UNITS):
        mine = job.table["queue"] == u
        assert f"{unit} ended {int((outcome.end[mine] != NEVER).sum())} of {int(mine.sum())}" in text
    return text


@pytest.mark.parametrize("name", ["systolic-os", "smartdeal"])
@pytest.mark.parametrize(
    ("op", "semaphore", "waits"), [(LOAD_W, W_READY, "exec"), (EXECUTE, O_READY, "store")], ids=["weights", "outputs"]
)
def test_a_token_that_never_comes_ends_at_the_limit(name, op, semaphore, waits):
    arch = make_arch(name)
    harness, job = open_harness(arch), draw(arch)
    gives = np.flatnonzero((job.table["op"] == op) & (job.table["signal"] >> semaphore & 1 == 1))
    broken = drop_signal(arch, job, int(gives[-1]), semaphore)
    text = find_hang(broken, harness.run(broken, reset=True))
    (state,) = (part for part in text.split("; ") if f"{waits} ended" in part)
    assert state.endswith(f"waits for {SEMAPHORES[semaphore]}")
    assert compare_run(job, harness.run(job, reset=True)) == ()


class Silent:
    """A memory that keeps one answer to itself: what it gives, with one field empty."""

    def __init__(self, memory, field, empty):
        self.memory, self.field, self.empty = memory, field, empty

    def step(self, master):
        return self.memory.step(master)._replace(**{self.field: self.empty})


@pytest.mark.parametrize(("field", "empty", "works"), [("r", None, "load"), ("b", False, "store")])
def test_a_memory_that_never_answers_ends_at_the_limit(monkeypatch, field, empty, works):
    arch = make_arch("systolic-os", "lpddr4-3200")
    harness, job = open_harness(arch), draw(arch)
    with monkeypatch.context() as patch:
        patch.setattr(cosim.harness.model, "create_memory", lambda *args: Silent(create_memory(*args), field, empty))
        text = find_hang(job, harness.run(job, reset=True))
    (state,) = (part for part in text.split("; ") if f"{works} ended" in part)
    assert "works since cycle" in state
    assert compare_run(job, harness.run(job, reset=True)) == ()
