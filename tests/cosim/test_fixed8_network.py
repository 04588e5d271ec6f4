"""`fixed8`: a whole network without a multiplier behind the array, and what such hardware refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.extras import require

require("amaranth", "pyosys", "g++")

from accel_rtl.accelerator import Accelerator, find_engine
from accel_rtl.shell.shifts import LEFT_BITS, decode_factor, reduce_to_shifts
from cosim.harness.model import open_harness
from cosim.plan import NetworkRun
from cosim.run import drive
from hwsim.core.errors import SpecError
from hwsim.core.policy import Policy
from hwsim.core.program import SHIFT_STORE_PIPELINE_CYCLES
from hwsim.engine.functional import run_integer
from hwsim.nets.load import load_network
from hwsim.nets.synthetic import synthesize_input, synthesize_tensors
from hwsim.pipeline.tensors import prepare_tensors
from hwsim.pipeline.workloads import list_workloads
from tests.cosim.accelerators import make_arch, tell
from tests.rtl.store_bench import draw_parameters


@pytest.mark.slow
def test_resnet8_runs_whole_and_its_additions_are_shifts():
    network = load_network("resnet8").network
    tensors, image, arch = synthesize_tensors(network, 3), synthesize_input(network, 3), make_arch("fixed8")
    run = NetworkRun(network=network, arch=arch, policy=Policy(), tensors=tensors, image=image)
    results = drive(run.plan(), open_harness(arch))
    assert not tell(results)
    ran = {result.name for result in results if not result.skipped}
    assert {layer.name for layer in network.layers if layer.kind == "mac" or layer.op in ("add", "avgpool")} == ran
    assert all(result.cycles == result.expected_cycles > 0 for result in results if not result.skipped)
    prepared = prepare_tensors(network, arch, Policy(), list_workloads(network, Policy()), tensors, image).tensors
    exact = run_integer(network, prepared, image, requant="shift")
    for name in ran:
        np.testing.assert_array_equal(run.outputs[name], exact[name], err_msg=name)


def test_store_and_vector_unit_have_no_multiplier():
    spec = Accelerator(engine=find_engine(make_arch("fixed8")))
    assert spec.machine.requantizer == "shift"
    assert spec.store.store_cycles == SHIFT_STORE_PIPELINE_CYCLES
    assert "multiplier" not in spec.store.requantize.element_layout.members
    assert spec.store.parameters.layout.size == 39
    other = Accelerator(engine=find_engine(make_arch("systolic-os")))
    assert other.machine.requantizer == "mulshift"
    assert other.store.parameters.layout.size == 69


def test_ratios_that_are_no_powers_of_two_are_told():
    parameters = draw_parameters(np.random.default_rng(0), 3, 8, shifts=True)
    shape = parameters.requant.multiplier.shape
    reduced = reduce_to_shifts("conv", parameters).requant
    assert (reduced.multiplier == 1).all()
    np.testing.assert_array_equal(2.0**-reduced.shift, parameters.requant.multiplier * 2.0**-parameters.requant.shift)
    odd = replace(parameters, requant=replace(parameters.requant, multiplier=np.full(shape, 3)))
    with pytest.raises(
        SpecError, match="layer conv: multiplier: got 3, expected a power of two: no multiplier is built"
    ):
        reduce_to_shifts("conv", odd)
    left = replace(
        parameters, requant=replace(parameters.requant, multiplier=np.full(shape, 512), shift=np.zeros(shape, int))
    )
    with pytest.raises(SpecError, match=f"layer conv: shift to the left: got 9, expected at most {LEFT_BITS}"):
        reduce_to_shifts("conv", left)


def test_factors_of_an_addition_become_exponents():
    parameters = draw_parameters(np.random.default_rng(0), 3, 8, shifts=True)
    found = reduce_to_shifts("sum", replace(parameters, factors=np.array([1 << 30, -(1 << 27)]), factor_shift=33))
    assert [decode_factor(int(field)) for field in found.factors] == [8, -1]
    assert found.factor_shift == 6
    far = replace(parameters, factors=np.array([1 << 30, 1 << 10]), factor_shift=33)
    with pytest.raises(SpecError, match="layer sum: exponent of a factor: got 20, expected below 16, to be built"):
        reduce_to_shifts("sum", far)
