"""Random layers under cocotb on Verilator, the memory model in Python behind AXI."""

from __future__ import annotations

import pytest

from tests.extras import require

require("amaranth", "pyosys", "cocotb", "verilator", "g++")

from cosim.bench.launch import RandomLayers, run_cocotb
from tests.cosim.accelerators import make_arch, tell

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["systolic-os", "smartdeal"])
def test_forty_layers_equal_the_simulator(name):
    arch = make_arch(name)
    results = run_cocotb(arch, RandomLayers(arch=arch, seed=21, numbers=tuple(range(40))))
    assert len(results) == 40
    assert all(result.equal_elements == result.elements for result in results)
    assert not tell(results)


@pytest.mark.parametrize("name", ["systolic-os", "smartdeal"])
def test_random_waits_change_no_bit(name):
    arch = make_arch(name)
    results = run_cocotb(arch, RandomLayers(arch=arch, seed=22, numbers=tuple(range(8)), stress=3))
    assert len(results) == 8
    assert not tell(results)


def test_layers_behind_a_dram():
    arch = make_arch("systolic-os", "lpddr4-3200")
    assert not tell(run_cocotb(arch, RandomLayers(arch=arch, seed=23, numbers=tuple(range(5)))))
