"""Cambricon-X's kernels against a machine that selects and multiplies, its stored bits, and its Programs executed bit for bit."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.cambricon_x.datapath import PIPELINE_CYCLES
from hwsim.archs.cambricon_x.spec import PRESETS
from hwsim.core.datapath import LayerData
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.mapping import TILE_DIMS, Mapping, list_boxes
from tests.execute_cases import cases, check_program
from tests.naive_cambricon_x import Machine
from tests.naive_cases import workload_of
from tests.naive_windows import Window, small_layers, tilings, windows
from tests.pruned_cases import hold, prune_case
from tests.tile_checks import check_places


@st.composite
def archs(draw):
    """Engines of a few elements and multipliers; the span holds the largest window of the layers drawn."""
    return replace(
        PRESETS["small"], preset="small+", elements=draw(st.integers(1, 5)), multipliers=draw(st.integers(1, 4)),
        span=draw(st.sampled_from([25, 30, 64])), index_bits=draw(st.integers(1, 4)),
    )  # fmt: skip


def bind(arch, window: Window, w_bits: int = 8):
    data = LayerData(activation=window.x, codec=hold(window.w, w_bits))
    return arch.bind(workload_of(window.layer, w_bits), data)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(window=windows(small_layers(6000)), arch=archs(), data=st.data())
def test_every_tile_takes_the_cycles_of_the_model_and_the_sums_are_the_convolution(window, arch, data):
    """Tiles may be cut inside a span."""
    layer = window.layer
    machine = Machine(arch.elements, arch.multipliers, arch.span, arch.index_bits)
    datapath = bind(arch, window)
    tile = data.draw(tilings(layer, datapath.quantum() if data.draw(st.booleans()) else (1,) * 6))
    boxes = list_boxes(layer, tile)
    times = datapath.exec_times(boxes)
    total, moved, stored = Counter(), Counter(), {}
    for i, (lo, hi) in enumerate(zip(boxes.lo, boxes.hi, strict=True)):
        found = machine.run_tile(window, lo, hi)
        assert (int(times.busy[i]), int(times.fill[i])) == (found.cycles, 0)
        assert "".join(map(str, datapath.pack_weights(window.w, lo, hi))) == found.stored
        assert int(datapath.weight_tile_bits(boxes)[i]) == len(found.stored)
        back = datapath.unpack_weights(datapath.pack_weights(window.w, lo, hi), lo, hi, signed=True)
        blocks = window.w.reshape(layer.G, layer.K, layer.C, layer.R, layer.S)
        np.testing.assert_array_equal(back, blocks[lo[1] : hi[1], lo[2] : hi[2], lo[3] : hi[3]])
        stored[tuple(lo[1:4].tolist())] = len(found.stored)
        total.update(found.sums)
        moved.update(entries=found.entries, activations=found.activations, weight_bits=found.weight_bits)
    wanted = window.convolve()
    assert {key: total[key] for key in wanted} == wanted
    tiles = np.array([tile])
    sums = datapath.sum_tiles(tiles)
    assert int(sums.busy[0]) == int(times.busy.sum())
    assert (int(sums.wbuf_read_bits[0]), int(sums.ibuf_read_bits[0])) == (
        moved["weight_bits"],
        moved["activations"] * 8,
    )
    assert int(datapath.largest_weight_tile(tiles)[0]) == max(stored.values())
    aligned, first = datapath.sum_weight_tiles(tiles, 64)
    assert int(aligned[0]) == sum(-(-bits // 64) * 64 for bits in stored.values()) <= datapath.most_weight_bits(64)
    assert int(first[0]) == -(-stored[0, 0, 0] // 64) * 64
    counts = {(x.component, x.verb): x.count for x in datapath.count_actions(Mapping(tile=tile, order="MKC"))}
    assert counts.get(("mac", "mac"), 0) == counts.get(("indexing", "add"), 0) == moved["entries"]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(window=windows(small_layers(6000)), arch=archs(), data=st.data())
def test_accumulators_take_places_of_their_own(window, arch, data):
    datapath = bind(arch, window)
    check_places(datapath, data.draw(tilings(window.layer, datapath.quantum())))


@pytest.mark.parametrize(
    ("weights", "cycles"),
    [
        ([[0] * 8], 1),  # a span takes a cycle
        ([[1] * 8], 4),
        ([[1, 0, 0, 0, 0, 0, 0, 1]], 2),  # six zeros need one that bridges: three entries
        ([[1] * 8, [0] * 8], 4),  # the slowest element
        ([[1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1, 0, 0]], 2),
    ],
)
def test_a_span_takes_the_cycles_of_the_element_with_the_most_entries(weights, cycles):
    arch = replace(PRESETS["small"], preset="small+", elements=2, multipliers=2, span=8, index_bits=2)
    layer = Layer(name="layer", op="gemm", inputs=("x",), K=len(weights), C=8)
    window = Window(layer, np.ones((1, 8, 1, 1), np.int64), np.array(weights).reshape(-1, 8, 1, 1))
    times = bind(arch, window).exec_times(list_boxes(layer, (1, 1, len(weights), 8, 1, 1)))
    assert int(times.busy[0]) == cycles
    assert int(times.tail[0]) == 1 + PIPELINE_CYCLES


def test_depthwise_groups_share_a_word():
    """28 channels of 3x3 in 256 activations, on 64 elements: 64 channels in three spans a pixel."""
    arch = PRESETS["comparison"]
    layer = Layer(name="layer", op="conv", inputs=("x",), G=64, P=2, Q=2, R=3, S=3, H=4, W=4)
    window = Window(layer, np.ones(layer.in_shape, np.int64), np.ones((64, 1, 3, 3), np.int64))
    times = bind(arch, window).exec_times(list_boxes(layer, tuple(getattr(layer, dim) for dim in TILE_DIMS)))
    assert int(times.busy[0]) == 2 * 2 * 3


def test_pruning_keeps_the_share_and_the_roof_counts_what_is_kept():
    arch = replace(PRESETS["comparison"], density=0.25)
    layer = Layer(name="layer", op="conv", inputs=("x",), K=64, C=128, P=4, Q=4, H=4, W=4)
    load = workload_of(layer)
    stored = arch.store_weights(load, np.random.default_rng(3).normal(size=(64, 128, 1, 1)).astype(np.float32))
    datapath = arch.bind(load, LayerData(activation=np.zeros(layer.in_shape, np.int8), codec=stored.codec))
    kept = np.count_nonzero(stored.integers) / stored.integers.size
    assert 0.24 < kept <= 0.25
    assert datapath.peak_macs_per_cycle() == pytest.approx(1024 / kept)
    whole = np.array([[getattr(layer, dim) for dim in TILE_DIMS]])
    assert int(datapath.sum_tiles(whole).busy[0]) * datapath.peak_macs_per_cycle() >= layer.macs
    assert datapath.weight_storage_bits() < layer.weights * 8 / 2


@settings(max_examples=60, deadline=None, derandomize=True)
@given(case=cases(), arch=archs(), share=st.sampled_from([0.0, 0.6, 0.95]))
def test_programs_leave_what_the_functional_model_stores(case, arch, share):
    arch = replace(arch, shell=case.arch.shell, memory=case.arch.memory)
    case, data = prune_case(replace(case, arch=arch), share)
    check_program(case, data)


def test_what_the_engine_has_not_is_refused():
    layer = Layer(name="fc", op="gemm", inputs=("x",), K=4, C=64)
    for w, a, said in ((1, 8, "w_bits: got 1, expected 2 to 8"), (8, 9, "a_bits: got 9, expected 1 to 8")):
        with pytest.raises(SpecError, match=said):
            PRESETS["small"].bind(workload_of(layer, w, a))
    with pytest.raises(SpecError, match="real weights"):
        PRESETS["small"].bind(workload_of(layer))
    wide = Layer(name="wide", op="conv", inputs=("x",), R=9, S=9, H=9, W=9, P=1, Q=1)
    with pytest.raises(SpecError, match=r"cambricon-x.span: got 64, expected at least 81, the window of layer wide"):
        PRESETS["small"].bind(workload_of(wide))
    for name, value in (("elements", 0), ("density", 1.5), ("density", True)):
        with pytest.raises(SpecError, match=f"cambricon-x.{name}"):
            replace(PRESETS["small"], **{name: value})
