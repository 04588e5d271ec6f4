"""The shell's event kernel against a loop over cycles: every instruction's times and every cycle's cause."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hwsim.archs.systolic.spec import PRESETS
from hwsim.core.layer import Layer
from hwsim.core.mapping import ORDERS, Mapping
from hwsim.core.program import INSTRUCTION, OPCODES, Program
from hwsim.core.shell import Memory
from hwsim.engine.lower import lower
from hwsim.engine.run import time_program
from tests.naive_cases import cases, workload_of
from tests.naive_shell import run_naive

MOST_CYCLES = 6000


def check_equal(datapath, arch, mapping) -> None:
    """Compare kernel and naive machine on one Program."""
    compare(lower(datapath, arch, mapping), arch)


def compare(program, arch) -> None:
    """Compare every time and every account."""
    run, timeline = time_program(program, arch)
    naive = run_naive(program.table, arch.memory, arch.shell.issue_cycles)
    for name in ("ready", "start", "end"):
        expected = [getattr(naive, name)[i] for i in range(len(program))]
        np.testing.assert_array_equal(getattr(timeline, name), expected, err_msg=name)
    assert run.cycles == naive.cycles
    assert {"compute": run.compute_cycles, **dict(run.stall_cycles)} == naive.account
    assert sum(naive.account.values()) == run.cycles


@settings(max_examples=300, deadline=None, derandomize=True)
@given(cases())
def test_kernel_equals_the_loop_over_cycles(case):
    datapath, arch, mapping = case
    run, _ = time_program(lower(datapath, arch, mapping), arch)
    assume(run.cycles <= MOST_CYCLES)
    check_equal(datapath, arch, mapping)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cases(), st.integers(0, 1000))
def test_results_of_tiles_with_tails_of_their_own_arrive_one_behind_the_other(case, seed):
    datapath, arch, mapping = case
    table = lower(datapath, arch, mapping).table.copy()
    execs = table["op"] == OPCODES.index("EXEC")
    table["tail"][execs] = np.random.default_rng(seed).integers(0, 40, execs.sum())
    table["cycles"][execs] = table["fill"][execs] + 1
    program = Program(instructions=table.tobytes())
    assume(time_program(program, arch)[0].cycles <= MOST_CYCLES)
    compare(program, arch)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cases(), st.integers(0, 1000))
def test_stores_and_spills_ask_their_own_cycles_behind_their_start(case, seed):
    datapath, arch, mapping = case
    table = lower(datapath, arch, mapping).table.copy()
    stores = np.isin(table["op"], [OPCODES.index("STORE"), OPCODES.index("SPILL")])
    table["cycles"][stores] = np.random.default_rng(seed).integers(0, 60, stores.sum())
    program = Program(instructions=table.tobytes())
    assume(time_program(program, arch)[0].cycles <= MOST_CYCLES)
    compare(program, arch)


@pytest.mark.parametrize("channels", ["shared", "per-operand"])
def test_transfers_without_tokens_meet_at_the_port(channels, small_arch):
    # Loads and stores of random lengths side by side: ties of requests, stores that ask long behind loads that are ready later.
    rng = np.random.default_rng(1)
    seen = 0
    for latency, issue in ((0, 0), (5, 0), (5, 2), (32, 1)) * 6:
        table = np.zeros(40, INSTRUCTION)
        table["queue"] = rng.choice([0, 0, 2], 40)
        table["op"] = np.where(table["queue"] == 0, rng.choice([0, 1, 2], 40), rng.choice([4, 5], 40))
        if channels == "per-operand":
            table["queue"][table["op"] == 0] = 3
        table["bits"] = rng.choice([0, 1, 64, 200, 640], 40)
        table["cycles"][table["queue"] == 2] = rng.choice([0, 1, 4, 30], (table["queue"] == 2).sum())
        arch = replace(
            small_arch,
            memory=Memory(latency_cycles=latency, channels=channels),
            shell=replace(small_arch.shell, issue_cycles=issue),
        )
        timeline = time_program(Program(instructions=table.tobytes()), arch)[1]
        naive = run_naive(table, arch.memory, issue)
        for name in ("ready", "start", "end"):
            assert [getattr(naive, name)[i] for i in range(40)] == getattr(timeline, name).tolist(), name
        asks = timeline.start + np.where(table["queue"] == 2, table["cycles"], 0)
        moving = table["bits"] > 0
        seen += len(set(asks[moving & (table["queue"] == 2)]) & set(asks[moving & (table["queue"] == 0)]))
    assert seen > 10


SPILLING = Layer(
    name="layer", op="conv", inputs=("x",), N=2, G=2, K=6, C=5, P=4, Q=4, R=3, S=3, H=4, W=4, padding=(1, 1, 1, 1)
)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("channels", ["shared", "per-operand"])
@pytest.mark.parametrize(("latency", "issue"), [(0, 0), (0, 2), (9, 0), (32, 2)])
@pytest.mark.parametrize("flow", ["os", "ws"])
def test_spilled_partial_sums_in_every_order(order, channels, latency, issue, flow, small_arch):
    memory = Memory(latency_cycles=latency, bits_per_cycle=32, channels=channels)
    shell = replace(small_arch.shell, issue_cycles=issue)
    arch = replace(small_arch, memory=memory, shell=shell, dataflow=flow)
    datapath = arch.bind(workload_of(SPILLING))
    mapping = Mapping(tile=(1, 1, 3, 2, 2, 4), order=order)
    table = lower(datapath, arch, mapping).table
    spills = bool((table["op"] == OPCODES.index("SPILL")).any())
    assert spills == (not order.endswith("C"))
    check_equal(datapath, arch, mapping)


@pytest.fixture
def small_arch():
    """A 4 x 4 array."""
    return replace(PRESETS["small"], preset="small+", rows=4, cols=4)
