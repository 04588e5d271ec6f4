"""Random layers on the compiled model of whole accelerators: every bit and every cycle."""

from __future__ import annotations

import pytest

from tests.extras import require

require("amaranth", "pyosys", "g++")

from cosim.run import run_chunk, run_many
from tests.cosim.accelerators import SETTINGS, make_arch, tell

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", SETTINGS)
def test_random_layers_equal_the_simulator(name):
    results = run_chunk(make_arch(name), 11, range(120), None)
    assert len(results) == 120
    assert all(result.equal_elements == result.elements for result in results)
    assert not tell(results)


@pytest.mark.parametrize("name", SETTINGS)
def test_random_waits_change_no_bit(name):
    results = run_chunk(make_arch(name), 12, range(30), 5)
    assert not tell(results)
    assert any(result.cycles > result.expected_cycles for result in results)


@pytest.mark.parametrize("part", ["lpddr4-3200", "ddr4-2400"])
def test_random_layers_behind_a_dram(part):
    assert not tell(run_chunk(make_arch("systolic-os", part), 13, range(25), None))


def test_many_is_the_same_in_several_processes():
    arch = make_arch("systolic-os")
    one, two = (sorted(run_many(arch, 30, 14, processes=n), key=lambda r: r.name) for n in (1, 2))
    assert len(one) == 30
    assert not tell(one)
    assert [(r.name, r.text, r.cycles, r.host_cycles) for r in one] != []
    assert [(r.name, r.text, r.cycles) for r in one] == [(r.name, r.text, r.cycles) for r in two]
