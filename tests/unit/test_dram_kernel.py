import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.core.dram_parts import PARTS, DramController, DramPart, find_part
from hwsim.core.errors import SpecError
from hwsim.engine import kernel_dram as memory
from hwsim.engine import kernel_dram_channel as k
from hwsim.engine.dram import DramCounts, new_state, read_counts, replay_trace
from tests.naive_dram import as_arrays, find_violations, replay_logged

DDR4 = find_part("ddr4-2400")
MAPPINGS = ("rorabacochbg", "rochrababgco", "corabgbachro", "chrobabgraco")

# A trace is a few runs of bursts with a stride, each beginning some clocks after the one before.
runs = st.tuples(
    st.integers(0, 2**34),  # first byte
    st.sampled_from([32, 64, 128, 256, 2048, 14336, 1 << 17, 1 << 28]),  # stride
    st.integers(1, 40),  # bursts
    st.integers(0, 3),  # read, write, alternating, two reads a write
    st.sampled_from([0, 0, 0, 1, 7, 300, 5000, 21000]),  # clocks since the run before began
)


def lay_out(pieces: list[tuple[int, int, int, int, int]]) -> list[tuple[int, int, int]]:
    bursts, clock = [], 0
    for first, stride, count, kind, wait in pieces:
        clock += wait
        for i in range(count):
            write = (0, 1, i % 2, int(i % 3 == 2))[kind]
            bursts.append((first + i * stride, write, clock))
    return bursts


parts = st.builds(
    lambda part, mapping, slower, reads, writes, banks, low, cap: dataclasses.replace(
        part,
        mapping=mapping,
        tRC=part.tRC + slower,
        controller=DramController(read_queue=reads, write_queue=writes, bank_queue=banks, write_low=low, hit_cap=cap),
    ),
    st.sampled_from(PARTS),
    st.sampled_from(MAPPINGS),
    st.sampled_from([0, 50]),  # in the presets tRC = tRAS + tRP, so that it never binds
    st.sampled_from([1, 5, 32]),
    st.sampled_from([1, 5, 32]),
    st.sampled_from([1, 2, 8]),
    st.sampled_from([0, 8]),
    st.sampled_from([1, 4, 1000]),
)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(part=parts, pieces=st.lists(runs, min_size=1, max_size=4))
def test_schedule_keeps_every_constraint_and_serves_every_burst_once(part: DramPart, pieces: list) -> None:
    address, write, arrival = as_arrays(lay_out(pieces))
    log, accepted, finish = replay_logged(part, address.tolist(), write.tolist(), arrival.tolist())
    assert find_violations(part, log, address.tolist(), write.tolist(), accepted) == []
    assert all(a >= b for a, b in zip(accepted, arrival.tolist(), strict=True))
    fused = replay_trace(part, address, write, arrival)
    assert fused.accepted.tolist() == accepted
    assert fused.finish.tolist() == finish
    kinds = [c.kind for c in log]
    assert fused.counts == DramCounts(
        activates=kinds.count("ACT"),
        precharges=kinds.count("PRE"),
        refreshes=kinds.count("REF"),
        reads=int((write == 0).sum()),
        writes=int((write == 1).sum()),
        refresh_cycles=fused.counts.refresh_cycles,
    )
    assert fused.counts.refresh_cycles >= part.tRFC * fused.counts.refreshes


@settings(max_examples=150, deadline=None, derandomize=True)
@given(part=parts, pieces=st.lists(runs, min_size=2, max_size=4), cut=st.integers(1, 100))
def test_commands_do_not_depend_on_later_arrivals(part: DramPart, pieces: list, cut: int) -> None:
    bursts = lay_out(pieces)
    cut = min(cut, len(bursts) - 1)
    everything = [x.tolist() for x in as_arrays(bursts)]
    seen = replay_logged(part, *everything)[1][cut]  # when the first burst that the other replay lacks was enqueued
    full, _, _ = replay_logged(part, *everything, until=seen)
    early, _, _ = replay_logged(part, *[x.tolist() for x in as_arrays(bursts[:cut])], until=seen)
    assert {c for c in full if c.time < seen} == {c for c in early if c.time < seen}


def test_judge_finds_each_kind_of_breach() -> None:
    address = [64 * i * 37 % 9000 * 64 for i in range(200)]
    write = [int(i % 5 > 2) for i in range(200)]
    log, accepted, _ = replay_logged(DDR4, address, write, [0] * 200)
    assert find_violations(DDR4, log, address, write, accepted) == []
    slower = ("tRCD", "tRP", "tRAS", "tRRD_L", "tFAW", "tCCD_L", "tWTR_L", "tRTW", "tWR", "tRTP", "tCL", "tRTRS")
    for name in slower:
        longer = {name: getattr(DDR4, name) + 100, "tRC": 200 if name == "tRAS" else DDR4.tRC}
        assert find_violations(dataclasses.replace(DDR4, **longer), log, address, write, accepted), name
    assert find_violations(dataclasses.replace(DDR4, tRC=500), log, address, write, accepted)
    assert find_violations(dataclasses.replace(DDR4, mapping="chrobabgraco"), log, address, write, accepted)
    assert find_violations(DDR4, log[:-1], address, write, accepted)
    assert find_violations(dataclasses.replace(DDR4, tREFI=1100), log, address, write, accepted)


def test_first_read_takes_activation_latency_and_burst() -> None:
    # Clock 0 to the bank, clock 1 activation, tRCD later the column.
    times = replay_trace(DDR4, np.array([0]), np.array([0]))
    assert times.finish[0] == 1 + DDR4.tRCD + DDR4.tCL + DDR4.burst_cycles
    times = replay_trace(DDR4, np.array([0]), np.array([1]), np.array([100]))
    assert times.finish[0] == 101 + DDR4.tRCD + DDR4.tCWL + DDR4.burst_cycles


def test_row_hits_follow_at_the_column_gap_and_a_miss_pays_precharge() -> None:
    part = dataclasses.replace(DDR4, mapping="rorachbabgco")  # the column lowest: a stream stays in one bank
    hit = replay_trace(part, np.array([0, 64]), np.zeros(2)).finish
    assert hit[1] - hit[0] == part.tCCD_L
    other_row = part.row_bytes * part.banks * part.ranks
    miss = replay_trace(part, np.array([0, other_row]), np.zeros(2)).finish
    # Activation at 1; precharge at max(1 + tRAS, 1 + tRCD + tRTP); the next activation also keeps tRC.
    assert miss[1] - miss[0] == max(part.tRAS + part.tRP, part.tRC)


def test_reads_to_two_ranks_turn_the_bus() -> None:
    part = dataclasses.replace(DDR4, mapping="rochbabgcora")  # the rank lowest
    far = np.array([0, 64, 128, 192, 256, 320])
    finish = replay_trace(part, far, np.zeros(6), np.array([0, 0, 500, 500, 500, 500])).finish
    # With all rows open the oldest hits of the two ranks alternate: burst + tRTRS, less than tCCD_L within a rank.
    assert np.diff(finish[2:]).tolist() == [part.burst_cycles + part.tRTRS] * 3


def test_idle_refreshes_are_the_same_taken_late_or_in_time() -> None:
    outcomes = []
    for stops in ([], range(0, 200_000, 137)):
        state = new_state(DDR4)
        memory.dram_enqueue(*state, 5, 0, 0, 0)
        while memory.dram_next_decision(state.v, state.chan) != k.NEVER:
            memory.dram_issue(*state)
        for stop in stops:
            memory.dram_settle(*state, stop)
        memory.dram_enqueue(*state, 200_000, 4096, 1, 1)
        finish = -1
        while memory.dram_next_decision(state.v, state.chan) != k.NEVER:
            finish = max(finish, memory.dram_issue(*state)[1])
        outcomes.append((finish, read_counts(state), state.chan.tolist(), state.bank.tolist()))
    assert outcomes[0] == outcomes[1]
    counts = outcomes[0][1]
    assert counts.refreshes == sum(1 for due in range(9360 // 2, 200_000, 9360 // 2))
    assert (counts.activates, counts.reads, counts.writes) == (2, 1, 1)


def test_writes_wait_for_reads_but_are_drained_in_the_end() -> None:
    n = 400
    write = np.zeros(n, dtype=np.int64)
    write[50:55] = 1  # fewer than the low mark: they stay while reads come
    times = replay_trace(DDR4, 64 * np.arange(n), write)
    assert times.finish[50:55].min() > times.finish[write == 0].max() - 50
    assert times.counts.writes == 5
    alone = replay_trace(DDR4, 64 * np.arange(5), np.ones(5))
    assert alone.finish.max() < 100


@pytest.mark.parametrize(("name", "low", "high"), [("lpddr4-3200", 0.90, 0.93), ("ddr4-2400", 0.94, 0.96)])
def test_a_stream_fills_the_bus_but_for_refresh(name: str, low: float, high: float) -> None:
    part = find_part(name)
    n = 20_000
    finish = replay_trace(part, part.burst_bytes * np.arange(n), np.zeros(n)).finish.max()
    share = n * part.burst_cycles / finish
    assert low < share < high
    assert share < 1 - part.tRFC / part.tREFI / part.ranks  # a rank in refresh may be hidden by the other one only


def test_hbm2_channels_work_side_by_side() -> None:
    part = find_part("hbm2")
    n = 8000
    one = replay_trace(part, 64 * (np.arange(n) % 4 + np.arange(n) // 4 * 32), np.zeros(n)).finish.max()
    all_channels = replay_trace(part, 64 * np.arange(n), np.zeros(n)).finish.max()
    assert one > 1.9 * n  # one channel: a burst in two clocks
    assert all_channels < 1.05 * n  # the trace injects one burst per clock


def test_empty_and_bad_traces() -> None:
    empty = replay_trace(DDR4, np.zeros(0), np.zeros(0))
    assert empty.finish.shape == (0,)
    with pytest.raises(SpecError, match="no negative entry"):
        replay_trace(DDR4, np.array([-64]), np.array([0]))
    with pytest.raises(SpecError, match=r"shape \(1,\) like address"):
        replay_trace(DDR4, np.array([64]), np.array([0, 1]))


def test_counts_add() -> None:
    one = DramCounts(activates=1, precharges=2, refreshes=3, reads=4, writes=5, refresh_cycles=6)
    assert one + one == DramCounts(activates=2, precharges=4, refreshes=6, reads=8, writes=10, refresh_cycles=12)


SCRIPT = """
import numpy as np
from hwsim.core.dram_parts import find_part
from hwsim.engine.dram import replay_trace
i = np.arange(700)
for name in ("ddr4-2400", "hbm2"):
    times = replay_trace(find_part(name), i * 4160 % 2**21 + (2**60 + 2**33) * (i % 2), i % 7 > 4, i * (i // 300) * 20)
    print(times.finish.sum(), times.accepted.sum(), times.counts)
"""


def test_plain_python_gives_the_same_as_compiled() -> None:
    outputs = []
    for disable in ("0", "1"):
        env = {**os.environ, "NUMBA_DISABLE_JIT": disable}
        done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, check=True)
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert "DramCounts" in outputs[0]
