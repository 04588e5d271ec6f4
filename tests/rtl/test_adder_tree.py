"""The adder tree against numpy's sum, cycle by cycle."""

from __future__ import annotations

import numpy as np
import pytest

from tests.extras import require

require("amaranth", "pyosys", "g++")

from accel_rtl.blocks.adder_tree import AdderTree
from cosim.batch import BatchModel
from hwsim.core.errors import SpecError


@pytest.mark.parametrize(
    ("inputs", "in_bits", "out_bits"), [(1, 32, 0), (2, 8, 0), (5, 13, 0), (16, 32, 32), (7, 4, 3)]
)
def test_sums_come_in_order_after_a_level_each(inputs: int, in_bits: int, out_bits: int) -> None:
    spec = AdderTree(inputs=inputs, in_bits=in_bits, out_bits=out_bits)
    rng = np.random.default_rng(inputs)
    half, cycles, latency = 1 << in_bits - 1, 100_000, spec.latency_cycles
    operands = rng.integers(-half, half, (cycles, inputs))
    operands[:50], operands[50:100] = half - 1, -half
    valid = rng.integers(0, 2, cycles)
    out = BatchModel(spec.create()).run({"i": operands, "i_valid": valid})
    kept = slice(None, cycles - latency)
    np.testing.assert_array_equal(out["o"][latency:], spec.compute(operands)[kept])
    np.testing.assert_array_equal(out["o_valid"][latency:], valid[kept])
    assert not out["o_valid"][:latency].any()
    total = operands.sum(axis=1)
    span = 1 << spec.sum_bits
    np.testing.assert_array_equal(spec.compute(operands), (total + span // 2) % span - span // 2)


def test_latency_is_the_height_of_the_tree() -> None:
    assert [AdderTree(inputs=n, in_bits=8).latency_cycles for n in (1, 2, 3, 4, 5, 16, 17)] == [0, 1, 2, 2, 3, 4, 5]
    with pytest.raises(SpecError, match=r"adder_tree\.inputs: got 0, expected an integer from 1 to 1024"):
        AdderTree(inputs=0, in_bits=8)
