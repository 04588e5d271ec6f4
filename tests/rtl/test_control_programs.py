"""Whole Programs on the control of an accelerator: every cycle of every instruction and every counter as simulated.

The units are dummies that work as long as the simulator says; which cycle they may begin is for the control to find.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.extras import require

require("amaranth")

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, connect, flipped
from amaranth.sim import Simulator

from accel_rtl.blocks.counters import COUNTERS
from accel_rtl.blocks.sequencer import UNITS, Sequencer
from accel_rtl.instruction_word import describe_layout, find_empty, pack_table, split_words
from hwsim.archs.systolic.spec import PRESETS
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.mapping import ORDERS, TILE_DIMS, Mapping
from hwsim.core.program import EXEC, INSTRUCTION, OPCODES, Program
from hwsim.core.shell import Memory
from hwsim.engine.lower import lower
from hwsim.engine.run import time_program
from tests.naive_cases import conv, workload_of

MOST_CYCLES = 1500
MOST_TAIL = 40


class Bench(wiring.Component):
    """The sequencer, and three units that count to ``lasts`` of the instruction at hand."""

    def __init__(self, issue_cycles: int) -> None:
        self.sequencer = Sequencer(issue_cycles=issue_cycles, most_tail_cycles=MOST_TAIL).create()
        self.lasts = [Signal(32, name=f"lasts_{name}") for name in UNITS]
        super().__init__({"fetch": In(stream.Signature(describe_layout())), "begin": In(1), "length": In(32)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.sequencer = sequencer = self.sequencer
        connect(m, flipped(self.fetch), sequencer.fetch)
        m.d.comb += [sequencer.begin.eq(self.begin), sequencer.length.eq(self.length)]
        for name, lasts in zip(UNITS, self.lasts, strict=True):
            unit = getattr(sequencer, name)
            left, now = Signal(32, name=f"left_{name}"), Signal(32, name=f"now_{name}")
            m.d.comb += [now.eq(Mux(unit.start, lasts, left)), unit.done.eq(now == 1)]
            m.d.sync += left.eq(now - (now != 0))
        return m


class Runner:
    """One simulation that runs Programs one after the other."""

    def __init__(self, issue_cycles: int) -> None:
        self.bench = Bench(issue_cycles)
        self.cases = []
        self.found = []

    def run(self, cases) -> list[dict]:
        """Return, for each (words, queue of each, duration of each), what happened."""
        sim = Simulator(self.bench)
        sim.add_clock(1e-8)
        self.cases = cases
        sim.add_testbench(self._drive)
        sim.run()
        return self.found

    async def _drive(self, ctx) -> None:
        for words, queues, durations in self.cases:
            self.found.append(await self._run_one(ctx, words, queues, durations))

    async def _run_one(self, ctx, words, queues, durations) -> dict:
        bench, seq = self.bench, self.bench.sequencer
        units = [getattr(seq, name) for name in UNITS]
        todo = [[i for i, queue in enumerate(queues) if queue == q] for q in range(3)]
        times = {what: np.full(len(words), -1, np.int64) for what in ("ready", "start", "end")}
        at, cycle = 0, 0
        ctx.set(bench.begin, 1)
        ctx.set(bench.length, len(words))
        await ctx.tick()
        ctx.set(bench.begin, 0)
        watched = [signal for unit in units for signal in (unit.taken, unit.start, unit.finish)]
        for _ in range(3 * MOST_CYCLES):
            ctx.set(bench.fetch.valid, int(at < len(words)))
            if at < len(words):
                ctx.set(bench.fetch.payload.as_value(), words[at])
            for q in range(3):
                ctx.set(bench.lasts[q], int(durations[todo[q][0]]) if todo[q] else 0)
            *_, accepted, running, finished, pulses = await ctx.tick().sample(
                bench.fetch.ready, seq.running, seq.finished, Cat(*watched)
            )
            at += int(accepted and at < len(words))
            if finished:
                break
            for q in range(3):
                for k, what in enumerate(("ready", "start", "end")):
                    if pulses >> (3 * q + k) & 1:
                        assert running
                        times[what][todo[q][0]] = cycle + (what == "end")
                if pulses >> (3 * q + 2) & 1:
                    todo[q].pop(0)
            cycle += running
        else:
            raise AssertionError(f"no end: instructions {todo} are left")
        counts = {name: ctx.get(seq.counts[name]) for name in COUNTERS}
        return {"times": times, "counts": counts, "error": ctx.get(seq.error), "left": sum(map(len, todo))}


def compare(program: Program, arch, found: dict) -> None:
    """Compare one run with the simulator's."""
    run, timeline = time_program(program, arch)
    empty = find_empty(program.table)
    np.testing.assert_array_equal(
        found["times"]["start"] == -1, empty, err_msg="an empty instruction has no start pulse"
    )
    found["times"]["start"][empty] = found["times"]["ready"][empty] + arch.shell.issue_cycles
    for name in ("ready", "start", "end"):
        np.testing.assert_array_equal(found["times"][name], getattr(timeline, name), err_msg=name)
    stalls = {name: cycles for name, cycles in run.stall_cycles if name != "refresh"}
    assert found["counts"] == {"compute": run.compute_cycles, **stalls, "total": run.cycles, "fetch": 0}
    assert not found["error"]
    assert not found["left"]


def prepare(program: Program, arch):
    """Return what the runner needs of a Program."""
    table = program.table
    _, timeline = time_program(program, arch)
    return split_words(pack_table(table)), [int(q) for q in table["queue"]], timeline.end - timeline.start


def shrink(issue_cycles: int, latency: int, flow: str, overlap: str = "none"):
    """The small preset, made smaller."""
    small = PRESETS["small"]
    memory = Memory(latency_cycles=latency, bits_per_cycle=32)
    shell = replace(small.shell, issue_cycles=issue_cycles)
    return replace(
        small, preset="small+", rows=4, cols=4, memory=memory, shell=shell, dataflow=flow, fold_overlap=overlap
    )


SPILLING = Layer(
    name="layer", op="conv", inputs=("x",), N=1, G=2, K=6, C=5, P=3, Q=3, R=3, S=3, H=3, W=3, padding=(1, 1, 1, 1)
)


def draw_layer(rng):
    """Return a small layer, padding-only tiles among them, and a mapping."""
    while True:
        window = tuple(int(n) for n in rng.integers(1, 4, 2))
        op = str(rng.choice(["conv", "conv", "conv", "maxpool"]))
        dims = {"N": int(rng.integers(1, 3)), "G": int(rng.integers(1, 4))}
        if op == "conv" and rng.random() < 0.7:
            dims |= {"K": int(rng.integers(1, 7)), "C": int(rng.integers(1, 7))}
        layer = conv(
            op=op, size=tuple(int(n) for n in rng.integers(1, 6, 2)), window=window,
            stride=tuple(int(n) for n in rng.integers(1, 4, 2)), padding=tuple(int(n) for n in rng.integers(0, 4, 4)),
            dilation=tuple(int(n) for n in rng.integers(1, 3, 2)) if op == "conv" else (1, 1), **dims,
        )  # fmt: skip
        if layer is not None:
            tile = {dim: int(rng.integers(-(-getattr(layer, dim) // 3), getattr(layer, dim) + 1)) for dim in TILE_DIMS}
            if tile["G"] > 1:
                tile |= {"K": layer.K, "C": layer.C}
            order = ORDERS[int(rng.integers(len(ORDERS)))]
            return layer, Mapping(tile=tuple(tile[dim] for dim in TILE_DIMS), order=order)


def draw_cases(issue_cycles: int, count: int):
    """Return Programs: every order with spills where it has any, then drawn layers, a third of them with drawn tails."""
    rng = np.random.default_rng(issue_cycles)
    cases = []
    for k, order in enumerate(ORDERS):
        arch = shrink(issue_cycles, (0, 9, 32)[k % 3], ("os", "ws", "is")[k % 3])
        program = lower(arch.bind(workload_of(SPILLING)), arch, Mapping(tile=(1, 1, 3, 2, 2, 3), order=order))
        spills = bool((program.table["op"] == OPCODES.index("SPILL")).any())
        assert spills == (not order.endswith("C"))
        cases.append((program, arch))
    while len(cases) < count:
        layer, mapping = draw_layer(rng)
        flow, overlap = str(rng.choice(["os", "ws", "is"])), str(rng.choice(["none", "skewed"]))
        arch = shrink(issue_cycles, int(rng.choice([0, 1, 7, 32])), flow, overlap)
        table = lower(arch.bind(workload_of(layer)), arch, mapping).table.copy()
        if len(cases) % 3 == 0:
            execs = table["queue"] == EXEC
            table["tail"][execs] = rng.integers(0, MOST_TAIL + 1, execs.sum())
        program = Program(instructions=table.tobytes())
        if table["tail"].max() <= MOST_TAIL and time_program(program, arch)[0].cycles <= MOST_CYCLES:
            cases.append((program, arch))
    return cases


@pytest.mark.parametrize(("issue_cycles", "count"), [(2, 20), (1, 10), (5, 10)])
def test_every_cycle_and_every_counter_equals_the_simulator(issue_cycles, count):
    cases = draw_cases(issue_cycles, count)
    assert any(find_empty(program.table).any() for program, _ in cases)
    found = Runner(issue_cycles).run([prepare(*case) for case in cases])
    assert len(found) == count
    for (program, arch), what in zip(cases, found, strict=True):
        compare(program, arch, what)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"tail": 41}, "program[1].tail: got 41, expected at most 40"),
        (
            {"queue": 3},
            "program[1].queue: got 3, expected 0 to 2 (the hardware has one memory port: memory.channels = shared)",
        ),
    ],
)
def test_a_program_that_would_run_otherwise_is_refused(change, text):
    table = np.zeros(3, INSTRUCTION)
    table["queue"] = EXEC
    for name, value in change.items():
        table[name][1] = value
    with pytest.raises(SpecError) as error:
        Sequencer(most_tail_cycles=40).check_table(table)
    assert str(error.value) == text
    Sequencer(most_tail_cycles=41).check_table(table[:1])
