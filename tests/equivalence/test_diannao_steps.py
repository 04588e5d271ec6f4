"""DianNao's closed forms against a unit that multiplies step by step, and its Programs executed bit for bit."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.diannao.datapath import PIPELINE_CYCLES
from hwsim.archs.diannao.spec import PRESETS
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.mapping import Mapping, list_boxes
from tests.execute_cases import cases, check_program
from tests.naive_cases import workload_of
from tests.naive_diannao import run_tile
from tests.naive_windows import small_layers, tilings, windows
from tests.tile_checks import check_places

SIDES = st.integers(1, 6)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(window=windows(), outputs=SIDES, inputs=SIDES, data=st.data())
def test_every_tile_takes_the_steps_of_the_model_and_the_sums_are_the_convolution(window, outputs, inputs, data):
    layer = window.layer
    arch = replace(PRESETS["small"], preset="small+", outputs=outputs, inputs=inputs)
    datapath = arch.bind(workload_of(layer))
    tile = data.draw(tilings(layer))
    boxes = list_boxes(layer, tile)
    times = datapath.exec_times(boxes)
    total, moved = Counter(), Counter()
    for lo, hi, busy, fill in zip(boxes.lo, boxes.hi, times.busy, times.fill, strict=True):
        found = run_tile(window, outputs, inputs, lo, hi)
        assert (int(busy), int(fill)) == (found.cycles, 0)
        total.update(found.sums)
        moved.update(weights=found.weights, activations=found.activations, results=found.results)
    assert total == window.convolve()
    sums = datapath.sum_tiles(np.array([tile]))
    assert int(sums.busy[0]) == int(times.busy.sum())
    assert (int(sums.wbuf_read_bits[0]), int(sums.ibuf_read_bits[0])) == (
        moved["weights"] * 8,
        moved["activations"] * 8,
    )
    counts = {(x.component, x.verb): x.count for x in datapath.count_actions(Mapping(tile=tile, order="MKC"))}
    assert counts["mac", "mac"] == layer.macs == moved["weights"]
    assert counts["obuf", "write"] == moved["results"] * 32
    assert counts["obuf", "read"] == (moved["results"] - layer.out_elements) * 32


def test_the_tail_is_the_tree_and_the_registers():
    layer = Layer(name="layer", op="gemm", inputs=("x",), K=4, C=64)
    for inputs, levels in ((1, 0), (2, 1), (5, 3), (16, 4)):
        arch = replace(PRESETS["small"], preset="small+", inputs=inputs)
        times = arch.bind(workload_of(layer)).exec_times(list_boxes(layer, (1, 1, 4, 64, 1, 1)))
        assert int(times.tail[0]) == levels + PIPELINE_CYCLES


@settings(max_examples=60, deadline=None, derandomize=True)
@given(case=cases(), outputs=SIDES, inputs=SIDES)
def test_programs_leave_what_the_functional_model_stores(case, outputs, inputs):
    base = PRESETS["small"]
    arch = replace(
        base, preset="small+", outputs=outputs, inputs=inputs, bits=16, shell=case.arch.shell, memory=case.arch.memory
    )
    check_program(replace(case, arch=arch))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(layer=small_layers(), outputs=SIDES, data=st.data())
def test_accumulators_take_places_of_their_own(layer, outputs, data):
    arch = replace(PRESETS["small"], preset="small+", outputs=outputs)
    check_places(arch.bind(workload_of(layer)), data.draw(tilings(layer)))


@pytest.mark.parametrize(("w", "a"), [(9, 8), (8, 9)])
def test_operands_wider_than_the_multipliers_are_refused(w, a):
    layer = Layer(name="fc", op="gemm", inputs=("x",), K=4, C=64)
    with pytest.raises(SpecError, match=r"policy for layer fc: [wa]_bits: got 9, expected 1 to 8"):
        PRESETS["small"].bind(workload_of(layer, w, a))
    assert PRESETS["paper"].bind(workload_of(layer, 16, 16)).peak_macs_per_cycle() == 256
    assert PRESETS["comparison"].bind(workload_of(layer)).peak_macs_per_cycle() == 1024
