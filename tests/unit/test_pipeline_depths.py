"""Cycles from a tile's last step to its results in ``obuf``: registers on the way, counted one by one, and trees, chains, skew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hwsim.archs.registry import find_arch
from hwsim.core.arch import Arch
from hwsim.core.datapath import LayerData
from hwsim.core.mapping import list_boxes
from hwsim.core.policy import LayerFormat
from tests.naive_cases import conv, workload_of
from tests.pruned_cases import hold

LAYER = conv(size=(6, 6), window=(3, 3), padding=(1, 1, 1, 1), K=8, C=16)
BUFFERS = ("address", "words of both buffers")
OBUF = ("obuf read", "obuf write")
DEPTHS = {
    # BISMO, DotProductUnit.scala: a register behind each; 8 levels count the ones of 256 bits, 6 of 64
    "bismo:edge": (("address", "operand memories", "AND", "shift", "sum", *OBUF), 8),
    "bismo:small": (("address", "operand memories", "AND", "shift", "sum", *OBUF), 6),
    # DianNao's NFU-1 multiplies, NFU-2 is a tree of 5 levels for 32 inputs, 4 for 16
    "diannao:comparison": ((*BUFFERS, "NFU-1", "partial sum", *OBUF), 5),
    "diannao:paper": ((*BUFFERS, "NFU-1", "partial sum", *OBUF), 4),
    # 4 levels over 16 multipliers
    "cambricon-x:paper": ((*BUFFERS, "steps added up", "activations selected", "products", "sum", *OBUF), 4),
    # 16 windows one behind the other, 4 levels over 16 lanes
    "bit-pragmatic:paper": ((*BUFFERS, "terms", "first shift", "second shift", "sum", "copy", *OBUF), 16 + 4),
    # 6 levels over 64 lanes
    "palquant:base": (
        ("counter", "address", "bounds", "buffers read", "element", "digits", "product", "shift", "accumulator"), 6,
    ),
    # systolic's nine; a sum passes 15 units of a column and 31 columns' skew
    "bitfusion:E": (tuple(range(9)), 15 + 31),
    # stages listed in accel_rtl.systolic.engine; sums of 32 rows leave one a cycle
    "systolic:base": (tuple(range(8)), 32),
    "mpic:paper": (("execute", "write-back", "obuf"), 0),
    "simd:a76": (tuple(range(8)), 0),
    # row stationary over 6 rows: a tree of 3 levels
    "nasa:paper": (tuple(range(6)), 3),
}  # fmt: skip


def find_tail(arch: Arch) -> int:
    """Return the tail of a layer in one tile, ones everywhere."""
    ones = np.ones((8, 16, 3, 3), np.int64)
    data = LayerData(activation=np.ones(LAYER.in_shape, np.int64), zero_point=0, codec=hold(ones))
    load = workload_of(LAYER, 8, 8)
    datapath = arch.bind(replace(load, fmt=LayerFormat()), data if arch.needs_data else None)
    times = datapath.exec_times(list_boxes(LAYER, (1, 1, 8, 16, 6, 6)))
    return int(times.tail[0])


@pytest.mark.parametrize("name", DEPTHS)
def test_results_come_as_many_cycles_later_as_there_are_registers(name):
    registers, more = DEPTHS[name]
    assert find_tail(find_arch(name)) == len(registers) + more


def test_sums_that_stay_leave_row_by_row_and_sums_that_move_are_there():
    base, paper = find_arch("systolic:base"), find_arch("nasa:paper")
    assert find_tail(replace(base, preset="base+", dataflow="ws")) == 8 + 1
    assert find_tail(replace(paper, preset="paper+", clp_dataflow="os")) == 6 + 6
    assert find_tail(replace(paper, preset="paper+", clp_dataflow="ws")) == 6 + 3
