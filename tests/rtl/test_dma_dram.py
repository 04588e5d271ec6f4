"""Transfers against a DRAM behind AXI: every bit, and every end as an event loop over the same kernels finds it."""

from __future__ import annotations

import os
import random
from fractions import Fraction

import pytest

if not os.environ.get("CI"):
    pytest.importorskip("amaranth", reason="needs amaranth: pip install 'hwsim[rtl]'")

from accel_rtl.blocks.read_dma import REQUEST_CYCLES, RETURN_CYCLES
from accel_rtl.blocks.run_walker import RunWalker
from accel_rtl.blocks.write_dma import LEAST_STORE_CYCLES
from cosim.memory_dram import Controller, DramTiming
from cosim.memory_model import AxiMemory, Stress
from hwsim.core.dram_parts import find_part
from hwsim.core.program import LOAD, SPILL, STORE
from hwsim.engine import kernel_dram as kernels
from hwsim.engine.dram import new_state
from hwsim.engine.run import clock_ratio
from tests.rtl.dma_bench import Bench
from tests.rtl.test_dma_transfers import BEAT, HALF, make_record, make_traffic

NEVER = 1 << 62


class Transfer:
    """A transfer under way: its bursts of the part as (clock of the offer, address), and how each beat and B needs them."""

    def __init__(self, record, start: int, clock_of, step: int) -> None:
        spec, size = RunWalker(beat_bits=BEAT, address_bits=24), BEAT // 8
        self.record, self.start, self.offers = record, start, []
        self.beats, self.answers = [], []
        for k, burst in enumerate(spec.compute(spec.encode(record))):
            at = clock_of(start + REQUEST_CYCLES + k + 1)
            first, end = len(self.offers), burst.address + burst.beats * size
            numbers = list(range(burst.address // step, (end - 1) // step + 1))
            for number in numbers:
                if record["queue"] == STORE:  # with its last beat
                    beats = min(end, (number + 1) * step) - burst.address
                    at = clock_of(start + LEAST_STORE_CYCLES - 2 + len(self.beats) + beats // size)
                self.offers.append((at, number * step))
            self.beats += [first + byte // step - numbers[0] for byte in range(burst.address, end, size)]
            self.answers.append(range(first, len(self.offers)))
        self.accepted, self.finished, self.offered = {}, {}, 0

    @property
    def known(self) -> bool:
        """Whether its end is decided."""
        posted = self.record["queue"] == STORE and self.record["op"] != SPILL
        return len(self.accepted if posted else self.finished) == len(self.offers)

    def find_end(self, cycle_of) -> int:
        """Return its end: R or B in order, one a cycle, each from the cycle on in which its bursts are there."""
        last = -1
        if self.record["queue"] == LOAD:
            for burst in self.beats:
                last = max(last + 1, cycle_of(self.finished[burst]))
        else:
            clocks = self.finished if self.record["op"] == SPILL else self.accepted
            for bursts in self.answers:
                last = max(last + 1, max(cycle_of(clocks[burst]) for burst in bursts))
            beats = max(len(self.beats), int(self.record["cycles"]))
            last = max(last, self.start + LEAST_STORE_CYCLES - RETURN_CYCLES + beats - 1)
        return last + RETURN_CYCLES + 1


def time_events(table, part: str, ratio: Fraction, issue: int) -> list[int]:
    """Return the ends of loads and stores without tokens, by events as `hwsim.engine.kernel_shell` orders them."""
    state, step = new_state(find_part(part)), find_part(part).burst_bytes

    def clock_of(cycle):
        return -(-cycle * ratio.numerator // ratio.denominator)

    def cycle_of(clock):
        return -(-clock * ratio.denominator // ratio.numerator)

    todo = {q: [i for i, record in enumerate(table) if record["queue"] == q] for q in (LOAD, STORE)}
    free, now, offer, blocked = {LOAD: 0, STORE: 0}, {}, {LOAD: 0, STORE: 0}, {LOAD: False, STORE: False}
    ends, tags = {}, []
    while todo[LOAD] or todo[STORE] or now:
        for q in (LOAD, STORE):
            if q not in now and todo[q]:
                i = todo[q].pop(0)
                now[q] = (i, Transfer(table[i], free[q] + issue, clock_of, step))
                offer[q] = 0
        best, best_q = NEVER, -1
        for q, (_, transfer) in sorted(now.items()):
            if transfer.offered < len(transfer.offers) and not blocked[q]:
                at = max(offer[q], transfer.offers[transfer.offered][0])
                if at < best:
                    best, best_q = at, q
        decision = int(kernels.dram_next_decision(state.v, state.chan))
        if best_q >= 0 and best <= decision:
            transfer = now[best_q][1]
            address, write = transfer.offers[transfer.offered][1], int(best_q == STORE)
            if not kernels.dram_accepts(state.v, state.chan, address, write):
                blocked[best_q] = True
                continue
            kernels.dram_enqueue(*state, best, address, write, len(tags))
            tags.append((transfer, transfer.offered))
            transfer.accepted[transfer.offered] = offer[best_q] = best + 1
            transfer.offered += 1
        else:
            assert decision < NEVER
            tag, at = kernels.dram_issue(*state)
            for q in (LOAD, STORE):
                if blocked[q]:
                    blocked[q], offer[q] = False, max(offer[q], decision + 1)
            if tag >= 0:
                transfer, burst = tags[tag]
                transfer.finished[burst] = int(at)
        for q in (LOAD, STORE):
            if q in now and now[q][1].known:
                i, transfer = now.pop(q)
                ends[i] = free[q] = transfer.find_end(cycle_of)
    return [ends[i] for i in range(len(table))]


def draw_records(rng: random.Random, count: int) -> list:
    """Loads below, stores and spills above, each in a place of its own."""
    records = []
    for _ in range(count):
        run, rows = rng.choice([1, 2, 9, 40, 300]), rng.choice([1, 1, 3, 12])
        queue = rng.choice([LOAD, STORE])
        place = HALF // 8 * (queue == STORE) + len(records) * 4096 + rng.randrange(300)
        record = make_record(queue, (run, (rows, max(70, run)), (1, 0), (1, 0)), place)
        if queue == STORE and rng.random() < 0.5:
            record["op"] = SPILL
        records.append(record)
    return records


@pytest.fixture(scope="module")
def bench():
    """One simulator for all."""
    return Bench(BEAT, 4096, bursts=16)


@pytest.mark.parametrize(("part", "clock_hz"), [("ddr4-2400", 200e6), ("lpddr4-3200", 150e6), ("hbm2", 1.3e9)])
@pytest.mark.parametrize("seed", range(2))
def test_transfers_end_when_the_event_loop_says(bench, part, clock_hz, seed):
    rng = random.Random(seed)
    job = make_traffic(rng, draw_records(rng, 14))
    ratio = clock_ratio(find_part(part).tck_ps, clock_hz)
    outcome = bench.run(job, lambda image: AxiMemory(image, BEAT, DramTiming(Controller(part, ratio), BEAT)))
    assert bytes(outcome.image) == job.wanted
    assert [outcome.end[i] for i in range(len(job.table))] == time_events(job.table, part, ratio, job.issue)


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
