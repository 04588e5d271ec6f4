"""Tokens protect the data: take one away, and execution in the order of time tells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hwsim.archs.registry import find_arch
from hwsim.core.datapath import Workload
from hwsim.core.dram_parts import PARTS
from hwsim.core.errors import HwsimError
from hwsim.core.layer import Layer
from hwsim.core.mapping import Mapping
from hwsim.core.policy import LayerFormat
from hwsim.core.program import OPCODES, SEMAPHORES, Program, Timeline
from hwsim.core.shell import Memory
from hwsim.core.tensors import ActQuant, LayerTensors, Tensors
from hwsim.engine.execute import Hazard, execute_program
from hwsim.engine.image import build_image
from hwsim.engine.run import time_program
from tests.execute_cases import ORIGIN, execute_case, lower_case, make_case, stored_weight

SLOW, FAST = (
    Memory(bits_per_cycle=8, latency_cycles=200, align_bits=8),
    Memory(bits_per_cycle=4096, latency_cycles=0, align_bits=8),
)
APART = Memory(bits_per_cycle=8, latency_cycles=0, channels="per-operand", align_bits=8)
DRAM = Memory(kind="dram", part=PARTS[0].name, bits_per_cycle=64)


def make(order="MKC", memory=SLOW, psum_bits=32, op="conv", tile=(1, 1, 4, 4, 2, 8)):
    """Return a convolution of 4 x 2 x 3 tiles over pixels, filters and channels, or an addition whose stores are slow."""
    rng = np.random.default_rng(3)
    if op == "conv":
        layer = Layer(name="layer", op="conv", inputs=("x",), K=8, C=12, P=8, Q=8, R=3, S=3, H=10, W=10)
        held = {"layer": LayerTensors(weight=rng.integers(-8, 8, (8, 12, 3, 3)).astype(np.int8),
                                      w_scale=np.full(8, 0.01, np.float32), w_bits=4)}  # fmt: skip
        mapping = Mapping(tile=tile, order=order)
    else:
        layer = Layer(name="layer", op="add", inputs=("x", "y"), G=12, P=8, Q=8, H=8, W=8)
        held, mapping = {}, Mapping(tile=(1, 3, 1, 1, 2, 8), order=order)
    quants = {name: ActQuant(scale=0.05) for name in ("x", "y", "layer")}
    shape = layer.in_shape
    load = Workload(layer=layer, fmt=LayerFormat(w_bits=4, a_bits=8), out_bits=8, operand_bits=(8,) * len(layer.inputs),
                    operand_shapes=(shape,) * len(layer.inputs))  # fmt: skip
    arch = find_arch("systolic", "small")
    arch = replace(arch, memory=memory, shell=replace(arch.shell, psum_bits=psum_bits, vector_lanes=2, store_lanes=1))
    inputs = {name: rng.integers(-128, 128, shape) for name in layer.inputs}
    return make_case(load, Tensors(layers=held, activations=quants, origin=ORIGIN), inputs, arch, mapping)


def execute_table(case, change=None, timeline=None):
    """Execute a case's table in the order of time, changed before it is timed."""
    datapath = case.arch.bind(case.workload)
    ready, table, parameters = lower_case(case, datapath)
    operands = [case.inputs[name] for name in case.layer.inputs]
    image = build_image(datapath, case.mapping, ready, table, stored_weight(case), operands)
    if change:
        change(table)
    program = Program(instructions=table.tobytes())
    execute_program(program, datapath, case.arch, case.mapping, image, parameters, "time", timeline)


def drop_wait(op: str, semaphore: str):
    """Return a change that lets one kind of instruction start without one of its tokens."""

    def change(table):
        mine = (table["op"] == OPCODES.index(op)) & (table["wait"] >> SEMAPHORES.index(semaphore) & 1 == 1)
        assert mine.any()
        table["wait"][mine] &= ~np.uint16(1 << SEMAPHORES.index(semaphore))

    return change


WAITS = [
    ("EXEC", "W_READY", {"memory": APART, "tile": (1, 1, 8, 4, 1, 8)}),
    ("EXEC", "I_READY", {}),
    ("EXEC", "O_FREE", {"memory": FAST, "op": "add"}),
    ("EXEC", "P_READY", {"order": "CMK"}),
    ("LOAD_W", "W_FREE", {"memory": FAST}),
    ("LOAD_I", "I_FREE", {"memory": FAST, "op": "add"}),
    ("LOAD_P", "O_FREE", {"memory": FAST, "order": "CMK"}),
    ("STORE", "O_READY", {"memory": FAST}),
    ("SPILL", "O_READY", {"memory": FAST, "order": "CMK"}),
]
"""Each token at an accelerator and mapping where nothing else happens to keep the instruction back. ``SPILLED`` is not among them:
with two banks ``O_FREE``, which the same SPILL gives, always comes with it."""


@pytest.mark.parametrize("order", ["MKC", "CMK", "KCM"])
@pytest.mark.parametrize("memory", [SLOW, FAST, APART, DRAM], ids=["slow", "fast", "apart", "dram"])
def test_the_whole_program_runs_in_either_order(order, memory):
    case = make(order, memory)
    after, wanted = execute_case(case, case.arch.bind(case.workload), "time")
    np.testing.assert_array_equal(after, wanted)


@pytest.mark.parametrize(("op", "semaphore", "where"), WAITS, ids=lambda v: v if isinstance(v, str) else "")
def test_an_instruction_without_one_of_its_tokens_is_a_hazard(op, semaphore, where):
    execute_table(make(**where))
    with pytest.raises(Hazard, match=r"layer layer: instruction \d+, \w+: "):
        execute_table(make(**where), drop_wait(op, semaphore))


def test_partial_sums_loaded_before_they_were_spilled_are_a_hazard():
    case = make("CMK", FAST)
    _, table, _ = lower_case(case, case.arch.bind(case.workload))
    timeline = time_program(Program(instructions=table.tobytes()), case.arch)[1]
    back = int(np.flatnonzero((table["op"] == OPCODES.index("LOAD_P")) & (table["bits"] > 0))[0])
    spill = int(
        np.flatnonzero((table["op"] == OPCODES.index("SPILL")) & (table["address"] == table["address"][back]))[0]
    )
    start, end = timeline.start.copy(), timeline.end.copy()
    start[back] = timeline.end[spill - 1] + table["tail"][spill - 1]
    start[spill], end[spill] = start[back] + 1, max(end[spill], start[back] + 2)
    with pytest.raises(Hazard, match=f"instruction {back}, LOAD_P: no partial sums of its tile stand at"):
        execute_table(case, timeline=Timeline(timeline.ready, start, end))


def test_a_missing_token_of_a_second_operand_set_is_a_hazard():
    with pytest.raises(Hazard, match="ibuf"):
        execute_table(make(memory=FAST, op="add"), drop_wait("EXEC", "I_READY"))


@pytest.mark.parametrize("early", [0, 1])
def test_a_store_may_begin_when_the_results_have_left_the_array_and_no_cycle_earlier(early):
    case = make(memory=FAST)
    _, table, _ = lower_case(case, case.arch.bind(case.workload))
    timeline = time_program(Program(instructions=table.tobytes()), case.arch)[1]
    store = int(np.flatnonzero(table["op"] == OPCODES.index("STORE"))[0])
    assert table["tail"][store - 1] > 0
    start = timeline.start.copy()
    start[store] = timeline.end[store - 1] + table["tail"][store - 1] - early
    moved = Timeline(timeline.ready, start, timeline.end)
    if early:
        with pytest.raises(Hazard, match="STORE: obuf bank 0 does not hold a finished tile"):
            execute_table(case, timeline=moved)
    else:
        execute_table(case, timeline=moved)


def test_a_load_into_a_bank_that_computes_is_a_hazard_in_its_last_cycle_and_not_behind_it():
    case = make(memory=FAST)
    _, table, _ = lower_case(case, case.arch.bind(case.workload))
    timeline = time_program(Program(instructions=table.tobytes()), case.arch)[1]
    loads = np.flatnonzero(table["op"] == OPCODES.index("LOAD_I"))
    user = int(np.flatnonzero(table["op"] == OPCODES.index("EXEC"))[0])
    for early in (0, 1):
        start = timeline.start.copy()
        start[loads[2]] = timeline.end[user] - early
        moved = Timeline(timeline.ready, start, np.maximum(timeline.end, start))
        if early:
            with pytest.raises(Hazard, match=f"ibuf bank 0 is in use by EXEC {user}"):
                execute_table(case, timeline=moved)
        else:
            execute_table(case, timeline=moved)


def test_a_tile_that_overflows_its_bank_is_a_hazard():
    case = make()
    small = replace(case, arch=replace(case.arch, shell=replace(case.arch.shell, ibuf_bits=2048)))
    with pytest.raises(Hazard, match=r"LOAD_I: its tile takes \d+ bits of ibuf, a bank holds 1024"):
        execute_table(small)


def test_a_partial_sum_that_its_accumulator_cannot_hold_is_an_error():
    with pytest.raises(HwsimError, match="layer layer: a partial sum does not fit 12 bits"):
        execute_table(make(psum_bits=12))


def test_runs_that_hold_other_bits_than_the_instruction_moves_are_a_hazard():
    def change(table):
        table["bits"][0] += 64

    with pytest.raises(Hazard, match=r"its runs hold \d+ bits, it moves \d+"):
        execute_table(make(), change)
