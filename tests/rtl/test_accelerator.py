"""Whole systolic accelerators: random layers, every bit of the memory, every cycle of every instruction, every counter.

``HWSIM_RTL_LAYERS`` runs more layers on each (40 by default).
"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from tests.extras import require

require("amaranth")
require("pyosys")

from accel_rtl.accelerator import Accelerator, create_accelerator, find_engine
from accel_rtl.built import list_built_archs
from accel_rtl.emit import emit_rtlil
from accel_rtl.systolic.build import build_engine
from accel_rtl.systolic.spec import SystolicEngine
from cosim.compare import compare_run
from cosim.compile import compile_layer
from cosim.harness.model import open_harness
from hwsim.archs.systolic.spec import PRESETS, Systolic
from hwsim.core.errors import HwsimError, SpecError
from hwsim.core.mapping import Mapping
from hwsim.core.program import LOAD_P, SPILL
from hwsim.engine.execute_parameters import derive_parameters
from hwsim.engine.functional_integer import complete_quants
from tests.execute_cases import make_case
from tests.naive_cases import conv, workload_of
from tests.rtl.accelerator_bench import ORIGIN, ActQuant, LayerTensors, Tensors, arch_of, draw_job

LAYERS = int(os.environ.get("HWSIM_RTL_LAYERS", "40"))
BUILDS = {
    "os": arch_of("os"),
    "ws skewed": arch_of("ws", "skewed", 3, 2, latency_cycles=4, issue_cycles=1),
    "is skewed": arch_of("is", "skewed", 2, 4, bits_per_cycle=32, latency_cycles=9),
}


@pytest.fixture(scope="module", params=list(BUILDS))
def harness(request):
    """A compiled accelerator."""
    return open_harness(BUILDS[request.param])


def assert_equal(job, outcome, exact_cycles=True) -> None:
    """Compare a run with the simulator."""
    assert [f"{one.kind}: {one.text}" for one in compare_run(job, outcome, exact_cycles)] == [], job


def test_every_bit_and_every_cycle_equals_the_simulator(harness):
    """Layers run one behind the other on the same hardware: nothing of one is left in the next."""
    seen = set()
    for k in range(LAYERS):
        job = draw_job(np.random.default_rng([1, k]), harness.arch)
        assert_equal(job, harness.run(job))
        seen |= {int(op) for op in job.table["op"]} | ({"set aside"} if _sets_aside(job) else set())
    assert seen >= {0, 1, 2, 3, 4, SPILL, "set aside"}


def _sets_aside(job) -> bool:
    return bool(((job.table["op"] == LOAD_P) & (job.table["bits"] == 0)).any())


def test_back_pressure_on_all_ports_changes_no_bit(harness):
    for k in range(LAYERS // 4):
        job = draw_job(np.random.default_rng([2, k]), harness.arch, most_cycles=1500)
        assert_equal(job, harness.run(job, stress=k), exact_cycles=False)
    assert_equal(job, harness.run(job))  # and none of its cycles afterwards


def test_a_tile_of_padding_columns_reads_nothing_of_a_tensor_of_one_pixel(harness):
    """The second tile along Q lies right of the only pixel; its rows do not."""
    layer = conv(size=(1, 1), window=(2, 2), padding=(1, 1, 1, 3), stride=(1, 3), N=1, G=1, K=3, C=2)
    assert layer is not None
    assert layer.Q == 2
    quant = ActQuant(scale=0.5, zero_point=100, bits=8, signed=True)
    weight = np.arange(24).reshape(3, 2, 2, 2).astype(np.int8)
    held = LayerTensors(weight=weight, bias=None, w_scale=np.full(3, 0.5, np.float32), w_bits=8)
    tensors = Tensors(layers={"layer": held}, activations={"x": quant, "layer": quant}, origin=ORIGIN)
    inputs = {"x": np.array([-128, 127]).reshape(1, 2, 1, 1)}
    mapping = Mapping(tile=(1, 1, 3, 2, layer.P, 1), order="KCM")
    case = make_case(workload_of(layer), tensors, inputs, harness.arch, mapping)
    parameters = derive_parameters(layer, tensors, complete_quants(case.network, tensors))
    datapath = harness.arch.bind(case.workload)
    job = compile_layer(datapath, harness.arch, mapping, parameters, weight, [inputs["x"]])
    assert_equal(job, harness.run(job))


@pytest.mark.parametrize("name", list(BUILDS))
def test_verilog_is_clean(name):
    """Yosys' ``check -assert`` is part of the emission."""
    require("verilator")
    from accel_rtl.emit import emit_verilog
    from accel_rtl.lint import lint_verilog

    assert lint_verilog(emit_verilog(create_accelerator(BUILDS[name]))) == ()


def test_ports_have_the_names_from_which_tools_infer_axi():
    ports = {port.name: (port.direction, port.width) for port in emit_rtlil(create_accelerator(BUILDS["os"])).ports}
    prefixes = ("s_axi_ctrl_", "m_axi_mem_", "m_axi_prog_", "trace_")
    assert all(name.startswith(prefixes) and "__" not in name for name in ports)
    wanted = {
        "s_axi_ctrl_awaddr": ("in", 7), "s_axi_ctrl_awready": ("out", 1), "s_axi_ctrl_rdata": ("out", 32),
        "m_axi_mem_araddr": ("out", 40), "m_axi_mem_rdata": ("in", 64), "m_axi_mem_wstrb": ("out", 8),
        "m_axi_mem_bready": ("out", 1), "m_axi_prog_rdata": ("in", 512), "trace_running": ("out", 1),
        "trace_start": ("out", 3),
    }  # fmt: skip
    assert {name: ports[name] for name in wanted} == wanted
    assert "m_axi_prog_aruser" not in ports
    assert not any(name.startswith("m_axi_prog_") and name[11:13] in ("aw", "wd", "bv") for name in ports)


def test_an_architecture_without_rtl_is_refused_with_those_that_have():
    from typing import ClassVar

    class Paper(Systolic):
        name: ClassVar[str] = "paper"

    arch = object.__new__(Paper)
    with pytest.raises(HwsimError, match=r"architecture paper has no RTL.*those that have: .*systolic"):
        find_engine(arch)
    assert "systolic" in list_built_archs()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"bits_per_cycle": 48}, "memory.bits_per_cycle: got 48"),
        ({"align_bits": 128}, "memory.align_bits: got 128, expected 64, a beat of the port, to be built"),
        ({"channels": "per-operand"}, "memory.channels: got 'per-operand', expected shared"),
        ({"latency_cycles": 3}, "memory.latency_cycles: got 3, expected at least 4"),
        ({"vector_lanes": 2}, "shell.vector_lanes: got 2, expected 1"),
        ({"store_lanes": 4}, "shell.store_lanes: got 4, expected 1"),
        ({"issue_cycles": 0}, "shell.issue_cycles: got 0, expected at least 1"),
        ({"psum_bits": 24}, "shell.psum_bits: got 24, expected a divisor of the beat"),
        ({"cols": 3}, "shell.psum_bits: got 32, expected a divisor of the beat"),
        ({"a_width": 3}, "systolic.a_width: got 3, expected 1, 2, 4, 8 or 16 bits"),
        ({"w_width": 6}, "systolic.w_width: got 6, expected 1, 2, 4, 8 or 16 bits"),
    ],
)
def test_what_cannot_be_built_is_refused_by_its_field(changes, text):
    with pytest.raises(SpecError) as error:
        create_accelerator(arch_of("os", **changes))
    assert str(error.value).startswith(text)


def test_the_small_preset_can_be_built():
    spec = Accelerator(engine=find_engine(PRESETS["small"]))
    assert spec.machine.columns == 8
    assert spec.engine.tile_words == 2
    assert spec.engine.most_tail_cycles == SystolicEngine.from_arch(PRESETS["small"]).tail_cycles
    assert spec.sequencer.dispatch.extra_bits(1) == SystolicEngine.from_arch(PRESETS["small"]).layout.size


@pytest.mark.parametrize("problem", ["unsigned", "zero", "narrow"])
def test_weights_and_inputs_that_the_array_cannot_multiply_are_refused(problem):
    from hwsim.core.mapping import list_boxes

    layer = conv(size=(2, 2), N=1, G=1, K=2, C=2)
    assert layer is not None
    quant = ActQuant(scale=0.5, zero_point=0, bits=8, signed=True)
    held = LayerTensors(weight=np.ones((2, 2, 1, 1), np.int8), bias=None, w_scale=np.ones(2, np.float32), w_bits=8)
    tensors = Tensors(layers={"layer": held}, activations={"x": quant, "layer": quant}, origin=ORIGIN)
    mapping = Mapping(tile=(1, 1, 2, 2, 2, 2), order="MKC")
    arch = BUILDS["os"]
    case = make_case(workload_of(layer), tensors, {"x": np.zeros((1, 2, 2, 2), np.int64)}, arch, mapping)
    good = derive_parameters(layer, tensors, complete_quants(case.network, tensors))
    changes = {
        "unsigned": {"weight_signed": False}, "zero": {"weight_zero": np.array([0, 7])}, "narrow": {"narrow": good.requant},
    }  # fmt: skip
    boxes = list_boxes(layer, mapping.tile)
    tile = arch.bind(case.workload), (boxes.lo[0], boxes.hi[0]), (0, 0, 0)
    engine = build_engine(arch)
    assert engine.describe(*tile, good) >> 512 * engine.tile_words == 0
    with pytest.raises(SpecError, match=r"layer layer: "):
        engine.describe(*tile, replace(good, **changes[problem]))
