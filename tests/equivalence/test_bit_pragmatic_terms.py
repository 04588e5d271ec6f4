"""The Bit-Pragmatic kernels against a machine that gives term after term, and its Programs executed bit for bit."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.bit_pragmatic.datapath import PIPELINE_CYCLES
from hwsim.archs.bit_pragmatic.spec import PRESETS, TERMS
from hwsim.core.datapath import LayerData
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.mapping import Mapping, list_boxes
from tests.execute_cases import cases, check_program
from tests.naive_bit_pragmatic import Machine
from tests.naive_cases import workload_of
from tests.naive_windows import Window, small_layers, tilings, windows
from tests.tile_checks import check_places


@st.composite
def archs(draw):
    """Engines of a few filters, columns and lanes."""
    sizes = {name: draw(st.integers(1, 5)) for name in ("filters", "columns", "lanes")}
    return replace(
        PRESETS["small"],
        preset="small+",
        first_shift_bits=draw(st.integers(0, 3)),
        terms=draw(st.sampled_from(TERMS)),
        **sizes,
    )


def make_machine(arch) -> Machine:
    return Machine(arch.filters, arch.columns, arch.lanes, arch.first_shift_bits, arch.terms == "signed-digits")


def bind(arch, window: Window, zero: int = 0):
    return arch.bind(workload_of(window.layer), LayerData(activation=window.x + zero, zero_point=zero))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(window=windows(small_layers(6000), bits=9), arch=archs(), zero=st.sampled_from([0, 7, -128]), data=st.data())
def test_every_tile_takes_the_cycles_of_the_model_and_the_sums_are_the_convolution(window, arch, zero, data):
    layer, machine = window.layer, make_machine(arch)
    datapath = bind(arch, window, zero)
    tile = data.draw(tilings(layer, datapath.quantum()))
    boxes = list_boxes(layer, tile)
    times = datapath.exec_times(boxes)
    total, moved = Counter(), Counter()
    for lo, hi, busy, fill in zip(boxes.lo, boxes.hi, times.busy, times.fill, strict=True):
        found = machine.run_tile(window, lo, hi)
        assert (int(busy), int(fill)) == (found.cycles, 0)
        total.update(found.sums)
        moved.update(
            weights=found.weights, activations=found.activations, terms=found.terms,
            units=found.unit_cycles,
        )  # fmt: skip
    assert {key: value for key, value in total.items() if value} == {
        key: value for key, value in window.convolve().items() if value
    }
    sums = datapath.sum_tiles(np.array([tile]))
    assert int(sums.busy[0]) == int(times.busy.sum())
    assert int(sums.wbuf_read_bits[0]) == moved["weights"] * 8
    assert int(sums.ibuf_read_bits[0]) == moved["activations"] * 8
    counts = {(x.component, x.verb): x.count for x in datapath.count_actions(Mapping(tile=tile, order="MKC"))}
    assert counts.get(("units", "shift"), 0) == counts.get(("units", "add"), 0) == moved["terms"]
    assert counts["sums", "shift_add"] == moved["units"]
    check_places(datapath, tile)


@pytest.mark.parametrize(
    ("values", "shift", "terms", "cycles"),
    [
        ([0, 0, 0, 0], 2, "ones", 1),
        ([1, 2, 4, 8], 2, "ones", 1),  # four positions at once
        ([1, 2, 4, 8], 1, "ones", 2),
        ([1, 2, 4, 8], 0, "ones", 4),
        ([16, 1, 0, 0], 2, "ones", 2),  # too far apart
        ([-7, 0, 0, 0], 2, "ones", 3),
        ([-7, 0, 0, 0], 2, "signed-digits", 2),  # 8 - 1
        ([127, 0, 0, 0], 2, "ones", 7),
    ],
)
def test_a_brick_takes_the_cycles_of_its_terms(values, shift, terms, cycles):
    arch = replace(PRESETS["small"], preset="small+", columns=1, first_shift_bits=shift, terms=terms)
    layer = Layer(name="layer", op="gemm", inputs=("x",), K=1, C=4)
    window = Window(layer, np.array(values).reshape(1, 4, 1, 1), np.ones((1, 4, 1, 1), np.int64))
    times = bind(arch, window).exec_times(list_boxes(layer, (1, 1, 1, 4, 1, 1)))
    assert int(times.busy[0]) == cycles
    assert int(times.tail[0]) == 1 + 2 + PIPELINE_CYCLES


def test_columns_wait_for_the_slowest():
    """Two pixels, a step each with three terms and one: 3 cycles a step, whichever column is slow."""
    arch = replace(PRESETS["small"], preset="small+", columns=2, lanes=1)
    layer = Layer(name="layer", op="gemm", inputs=("x",), N=2, K=1, C=2)
    window = Window(layer, np.array([[7, 1], [1, 7]]).reshape(2, 2, 1, 1), np.ones((1, 2, 1, 1), np.int64))
    assert int(bind(arch, window).exec_times(list_boxes(layer, (2, 1, 1, 2, 1, 1))).busy[0]) == 6


@settings(max_examples=50, deadline=None, derandomize=True)
@given(case=cases(), arch=archs())
def test_programs_leave_what_the_functional_model_stores(case, arch):
    arch = replace(arch, shell=case.arch.shell, memory=case.arch.memory)
    case, data = replace(case, arch=arch), None
    if case.layer.kind == "mac":
        name = "layer:in" if "layer:in" in case.tensors.activations else "x"
        data = LayerData(activation=case.inputs["x"], zero_point=case.tensors.activations[name].zero_point)
    check_program(case, data)


def test_what_the_engine_has_not_is_refused():
    layer = Layer(name="fc", op="gemm", inputs=("x",), K=4, C=64)
    with pytest.raises(SpecError, match=r"policy for layer fc: a_bits: got 9, expected 1 to 8 bits"):
        PRESETS["small"].bind(workload_of(layer, 8, 9))
    with pytest.raises(SpecError, match="real tensors: cycles depend on the bits of activations"):
        PRESETS["small"].bind(workload_of(layer))
    for field, value in (("filters", 0), ("first_shift_bits", 5), ("terms", "booth")):
        with pytest.raises(SpecError, match=f"bit-pragmatic.{field}"):
            replace(PRESETS["small"], **{field: value})
