"""What holds of every run on the shell, with flat memory and with DRAM."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.systolic.spec import PRESETS
from hwsim.core.dram_parts import PARTS, find_part
from hwsim.core.layer import Layer
from hwsim.core.mapping import Mapping
from hwsim.core.program import INITIAL_TOKENS, INSTRUCTION, OPCODES, QUEUES, Program
from hwsim.core.shell import Memory
from hwsim.engine import kernel_lower, kernel_shell
from hwsim.engine.dram import DramState, new_state, read_counts
from hwsim.engine.lower import lower, lower_table, prepare_lowering
from hwsim.engine.run import clock_ratio, describe_memory, prepare_dram, time_program
from tests.naive_cases import cases, workload_of

FLAT = cases()
DRAM = st.one_of(
    *(
        cases(memory=Memory(kind="dram", part=part, bits_per_cycle=bits, channels=channels))
        for part, bits, channels in (
            ("lpddr4-3200", 64, "shared"), ("ddr4-2400", 128, "per-operand"), ("hbm2", 512, "shared"),
        )
    )
)  # fmt: skip
EITHER = st.one_of(FLAT, DRAM)


def simulate(case):
    """Lower and time."""
    datapath, arch, mapping = case
    program = lower(datapath, arch, mapping)
    run, timeline = time_program(program, arch)
    return program.table, run, timeline


@settings(max_examples=80, deadline=None, derandomize=True)
@given(EITHER)
def test_every_cycle_is_accounted_for_once(case):
    table, run, timeline = simulate(case)
    assert run.compute_cycles + sum(dict(run.stall_cycles).values()) == run.cycles
    assert all(count >= 0 for _, count in run.stall_cycles)
    execs = table[table["op"] == OPCODES.index("EXEC")]
    assert run.compute_cycles == int((execs["cycles"] - execs["fill"]).sum())
    assert dict(run.stall_cycles)["fill"] == int(execs["fill"].sum())
    assert dict(run.stall_cycles)["issue"] == case[1].shell.issue_cycles * len(execs)
    assert run.cycles >= int(timeline.end.max())
    if case[1].memory.kind == "flat":
        assert dict(run.stall_cycles)["refresh"] == 0


@settings(max_examples=80, deadline=None, derandomize=True)
@given(EITHER)
def test_units_run_one_instruction_at_a_time_in_order(case):
    table, _, timeline = simulate(case)
    issue = case[1].shell.issue_cycles
    np.testing.assert_array_equal(timeline.start, timeline.ready + issue)
    for queue in range(len(QUEUES)):
        mine = np.flatnonzero(table["queue"] == queue)
        assert (timeline.ready[mine][1:] >= timeline.end[mine][:-1]).all()
        assert (timeline.end[mine] >= timeline.start[mine]).all()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(EITHER)
def test_no_bank_is_written_while_in_use(case):
    table, _, timeline = simulate(case)
    filled: dict[tuple[str, int], int] = {}  # (buffer, bank): end of its last load
    used: dict[tuple[str, int], int] = {}  # end of the last exec that used it
    result: dict[int, int] = {}  # obuf bank: when its results stand
    emptied = {0: 0, 1: 0}  # obuf bank: end of its last store
    spilled: dict[int, int] = {}  # first bit of spilled partial sums: when they are in memory
    fresh = {0: True, 1: True}  # obuf bank: nothing computed into it since it was emptied
    for i, rec in enumerate(table):
        op, bank = OPCODES[rec["op"]], int(rec["bank"])
        start, end = int(timeline.start[i]), int(timeline.end[i])
        if op in ("LOAD_W", "LOAD_I"):
            assert start >= used.get((op, bank), 0)
            filled[op, bank] = end
        elif op == "LOAD_P":
            assert start >= emptied[bank]
            if rec["bits"]:
                assert start >= spilled[int(rec["address"])]
            filled[op, bank] = end
        elif op == "EXEC":
            w, a, o = bank & 1, bank >> 1 & 1, bank >> 2 & 1
            for buffer, which in (("LOAD_W", w), ("LOAD_I", a), ("LOAD_P", o)):
                assert start >= filled.get((buffer, which), 0)
            if fresh[o]:
                assert start >= emptied[o]
                fresh[o] = False
            used["LOAD_W", w] = used["LOAD_I", a] = end
            result[o] = end + int(rec["tail"])
        else:
            assert start >= result[bank]
            emptied[bank], fresh[bank] = end, True
            if op == "SPILL":
                spilled[int(rec["address"])] = end


@settings(max_examples=30, deadline=None, derandomize=True)
@given(EITHER)
def test_a_second_run_is_the_same(case):
    datapath, arch, mapping = case
    table, run, timeline = simulate(case)
    again_table, again, again_timeline = simulate(case)
    assert table.tobytes() == again_table.tobytes()
    assert run == again
    assert all((getattr(timeline, n) == getattr(again_timeline, n)).all() for n in ("ready", "start", "end"))
    assert lower(datapath, arch, mapping) == Program(instructions=table.tobytes())


@settings(max_examples=60, deadline=None, derandomize=True)
@given(DRAM)
def test_dram_moves_whole_bursts_and_is_no_faster_than_its_peak(case):
    _datapath, arch, _mapping = case
    table, run, timeline = simulate(case)
    part = find_part(arch.memory.part)
    burst = part.burst_bytes * 8
    loads = table[np.isin(table["op"], [OPCODES.index(op) for op in ("LOAD_W", "LOAD_I", "LOAD_P")])]
    stores = table[np.isin(table["op"], [OPCODES.index(op) for op in ("STORE", "SPILL")])]
    for found, records in ((run.dram_read_bits, loads), (run.dram_write_bits, stores)):
        assert found % burst == 0
        assert found >= int(records["bits"].sum())
        assert found == burst * sum(count_bursts(rec, burst) for rec in records)
    peak = part.channels * burst * clock_ratio(part.tck_ps, arch.clock_hz) / part.burst_cycles
    assert run.cycles >= (run.dram_read_bits + run.dram_write_bits) / peak
    port = arch.memory.bits_per_cycle
    for i, rec in enumerate(table):
        assert timeline.end[i] - timeline.start[i] >= (int(rec["bits"]) / port if rec["bits"] else 0)


def count_bursts(rec: np.void, burst: int) -> int:
    """Count the bursts that the runs of an instruction touch, one run at a time."""
    total = 0
    for a in range(rec["count2"]):
        for b in range(rec["count1"]):
            for c in range(rec["count0"]):
                first = int(rec["address"] + a * rec["stride2"] + b * rec["stride1"] + c * rec["stride0"])
                total += len({bit // burst for bit in range(first, first + int(rec["run_bits"]))})
    return total


TINY = Layer(name="layer", op="conv", inputs=("x",), K=3, C=4, P=3, Q=3, R=3, S=3, H=3, W=3, padding=(1, 1, 1, 1))


@pytest.mark.parametrize("kind", ["flat", *(part.name for part in PARTS)])
def test_plain_python_and_compiled_kernels_agree(kind):
    memory = Memory(bits_per_cycle=64) if kind == "flat" else Memory(kind="dram", part=kind, bits_per_cycle=64)
    arch = replace(PRESETS["small"], preset="small+", memory=memory)
    datapath = arch.bind(workload_of(TINY))
    mapping = Mapping(tile=(1, 1, 2, 2, 2, 3), order="CMK")
    ready = prepare_lowering(datapath, arch)
    table = lower_table(datapath, mapping, ready)

    def run(kernel):
        head, state = describe_memory(arch), prepare_dram(arch)
        out = [np.zeros(len(table), np.int64) for _ in range(3)] + [np.zeros(10, np.int64)]
        status = kernel(table, head, np.array(INITIAL_TOKENS, np.int64), *state, *out)
        return status, out, state

    status, out, state = run(kernel_shell.run_shell)
    plain_status, plain, plain_state = run(getattr(kernel_shell.run_shell, "py_func", kernel_shell.run_shell))
    assert status == plain_status == 0
    for a, b in zip([*out, *state], [*plain, *plain_state], strict=True):
        np.testing.assert_array_equal(a, b)
    if kind != "flat":
        assert read_counts(DramState(*state)).writes > 0
        assert len(new_state(find_part(kind))) == len(state)
    again = np.zeros(len(table) + 8, INSTRUCTION)
    described = [np.zeros(1, INSTRUCTION) for _ in range(2)]
    plain_describe = getattr(kernel_lower.describe, "py_func", kernel_lower.describe)
    for target, kernel in zip(described, (kernel_lower.describe, plain_describe), strict=True):
        kernel(target, 0, ready.operands[0], 8, 4096, 64, 0, 1, 1, 3, 0, 2, 0, 3)
    assert described[0].tobytes() == described[1].tobytes()
    assert len(again) > len(table)


def test_a_program_that_never_ends_is_named():
    table = np.zeros(1, INSTRUCTION)
    table["queue"], table["op"], table["wait"], table["cycles"] = 1, 3, 1, 5
    with pytest.raises(
        RuntimeError, match=r"^the program never ends: an instruction waits for a token that nobody gives$"
    ):
        time_program(Program(instructions=table.tobytes()), PRESETS["small"])
