"""The port between the accelerator and a DRAM: lone transfers in closed form, bandwidth, what refresh is counted for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hwsim.archs.systolic.spec import PRESETS
from hwsim.core import dram_parts
from hwsim.core.dram_parts import PARTS, find_part
from hwsim.core.program import EXEC, EXECUTE, INSTRUCTION, LOAD, LOAD_W, SPILL, STORE, STORE_O, W_FREE, W_READY
from hwsim.core.shell import Memory
from hwsim.engine.dram import replay_trace
from hwsim.engine.run import REQUEST_CYCLES, RETURN_CYCLES, clock_ratio, time_table


def arch_of(part: str, port_bits: int, clock_hz: float):
    """Return an accelerator with a DRAM."""
    memory = Memory(kind="dram", part=part, bits_per_cycle=port_bits)
    return replace(PRESETS["small"], preset="small+", memory=memory, clock_hz=clock_hz)


def lone(op: int, bits: int, address: int = 0, cycles: int = 0) -> np.ndarray:
    """Return a table of one transfer of one run."""
    table = np.zeros(1, INSTRUCTION)
    table["queue"], table["op"], table["cycles"] = LOAD if op == LOAD_W else STORE, op, cycles
    table["bits"] = table["run_bits"] = bits
    table["address"] = address
    for level in ("count0", "count1", "count2"):
        table[level] = 1
    return table


@pytest.mark.parametrize("part", [part.name for part in PARTS])
@pytest.mark.parametrize("clock_hz", [90e6, 1.1e9])
@pytest.mark.parametrize("op", [LOAD_W, STORE_O, SPILL])
def test_lone_beat_takes_the_path_and_the_part(part, clock_hz, op):
    arch = arch_of(part, 64, clock_hz)
    timeline = time_table(lone(op, 64, 4096, 0 if op == LOAD_W else 17), arch)[1]
    ratio = clock_ratio(find_part(part).tck_ps, clock_hz)
    # A store's burst follows its only beat of W by a cycle.
    arrives = int(timeline.start[0]) + (REQUEST_CYCLES if op == LOAD_W else 17 + REQUEST_CYCLES + 1)
    clock = -(-arrives * ratio.numerator // ratio.denominator)
    times = replay_trace(find_part(part), np.array([512]), np.array([op != LOAD_W]), np.array([clock]))
    done = clock + 1 if op == STORE_O else int(times.finish[0])
    assert timeline.end[0] == -(-done * ratio.denominator // ratio.numerator) + RETURN_CYCLES


@pytest.mark.parametrize("op", [LOAD_W, STORE_O, SPILL])
@pytest.mark.parametrize(("part", "clock_hz"), [("hbm2", 1e9), ("ddr4-2400", 1.2e9), ("lpddr4-3200", 0.8e9)])
def test_streams_are_limited_by_the_narrower_of_port_and_part(part, clock_hz, op):
    bits, peak = 1 << 25, find_part(part).peak_bits_per_second
    for width in (32, 256, 1024, 2048, 4096):
        run, _ = time_table(lone(op, bits), arch_of(part, width, clock_hz))
        limit = min(peak, width * clock_hz)
        assert 0.90 < bits / (run.cycles / clock_hz) / limit < 1


def test_unaligned_runs_take_the_beats_and_bursts_that_they_touch():
    arch = arch_of("ddr4-2400", 64, 200e6)
    whole = time_table(lone(LOAD_W, 64 * 64), arch)[0]
    shifted = time_table(lone(LOAD_W, 64 * 64, 8), arch)[0]
    assert shifted.cycles == whole.cycles + 1
    assert (whole.dram_read_bits, shifted.dram_read_bits) == (64 * 64, 64 * 64 + 512)


def weights_and_execs(pairs: int, bits: int, cycles: int) -> np.ndarray:
    """Return loads of weights, each followed by an EXEC that uses them."""
    loads = np.concatenate([lone(LOAD_W, bits, i * bits) for i in range(pairs)])
    loads["wait"], loads["signal"] = 1 << W_FREE, 1 << W_READY
    execs = np.zeros(pairs, INSTRUCTION)
    execs["queue"], execs["op"], execs["cycles"] = EXEC, EXECUTE, cycles
    execs["wait"], execs["signal"] = 1 << W_READY, 1 << W_FREE
    return np.stack([loads, execs], axis=1).ravel()


@pytest.mark.parametrize(("part", "width"), [("lpddr4-3200", 128), ("hbm2", 4096)])
def test_refresh_is_about_what_refreshes_add_where_the_memory_limits(part, width, monkeypatch):
    arch, table = arch_of(part, width, 500e6), weights_and_execs(150, 1 << 18, 20)
    run, _ = time_table(table, arch)
    refresh = dict(run.stall_cycles)["refresh"]
    found = find_part(part)
    monkeypatch.setattr(dram_parts, "find_part", lambda _: replace(found, tREFI=1 << 31))
    added = run.cycles - time_table(table, arch)[0].cycles
    assert 0.8 * added < refresh < 1.2 * added


def test_refresh_behind_the_engines_work_counts_as_no_wait():
    run, _ = time_table(weights_and_execs(150, 1 << 12, 5000), arch_of("lpddr4-3200", 128, 500e6))
    assert run.refreshes > 100
    assert dict(run.stall_cycles)["refresh"] == 0
