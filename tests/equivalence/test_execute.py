"""Programs executed on memory images against the network-level functional model, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from hwsim.core.program import OPCODES
from hwsim.engine.execute_tile import multiply_exactly
from tests.execute_cases import cases, execute_case, lower_case


@settings(max_examples=250, deadline=None, derandomize=True)
@given(cases())
def test_memory_behind_a_program_differs_from_that_before_in_the_output_alone(case):
    datapath = case.arch.bind(case.workload)
    after, wanted = execute_case(case, datapath, "program", fill=0xA6)
    np.testing.assert_array_equal(after, wanted)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(cases())
def test_the_order_in_which_the_cycle_engine_times_them_gives_the_same_memory(case):
    datapath = case.arch.bind(case.workload)
    after, wanted = execute_case(case, datapath, "time", fill=0x59)
    np.testing.assert_array_equal(after, wanted)


def test_the_cases_reach_every_instruction_and_operator():
    seen: set[str] = set()

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(cases())
    def collect(case):
        _, table, parameters = lower_case(case, case.arch.bind(case.workload))
        seen.update(OPCODES[op] for op in np.unique(table["op"]))
        seen.update(f"{OPCODES[op]} of nothing" for op in np.unique(table["op"][table["bits"] == 0]))
        seen.add(case.layer.op)
        seen.update(["table"] * (parameters.table is not None) + ["narrow"] * (parameters.narrow is not None))
        seen.update(["by pixel"] * (parameters.requant.multiplier.shape[2] > 1))

    collect()
    wanted = {*OPCODES, "conv", "gemm", "maxpool", "avgpool", "add", "mul", "activation", "scale"}
    assert wanted | {"LOAD_P of nothing", "table", "narrow", "by pixel"} <= seen


@pytest.mark.parametrize("bits", [8, 30])
def test_products_are_exact_whichever_way_they_are_computed(bits):
    rng = np.random.default_rng(2)
    rows, columns = (rng.integers(-(1 << bits), 1 << bits, shape) for shape in ((2, 3, 4), (2, 4, 5)))
    found = multiply_exactly(rows, columns)
    for g, k, m in np.ndindex(2, 3, 5):
        assert int(found[g, k, m]) == sum(int(rows[g, k, i]) * int(columns[g, i, m]) for i in range(4))
