"""SCNN's kernels against a machine with queues of single products, its cuts of the plane, its stored bits, its Programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.scnn.datapath import PIPELINE_CYCLES
from hwsim.archs.scnn.spec import PRESETS
from hwsim.core.datapath import LayerData
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.mapping import TILE_DIMS, Mapping, list_boxes
from tests.execute_cases import cases, check_program
from tests.naive_cases import workload_of
from tests.naive_scnn import Machine
from tests.naive_windows import Window, small_layers, tilings, windows
from tests.pruned_cases import hold, prune_case
from tests.tile_checks import check_places


@st.composite
def archs(draw):
    """Engines of a few elements with few accumulators, so that planes are cut."""
    banks = draw(st.sampled_from([1, 2, 4, 8, 16]))
    group = draw(st.integers(1, 4))
    return replace(
        PRESETS["small"], preset="small+", pe_rows=draw(st.integers(1, 3)), pe_cols=draw(st.integers(1, 3)),
        weights=draw(st.integers(1, 4)), activations=draw(st.integers(1, 4)), banks=banks,
        bank_entries=-(-draw(st.sampled_from([8, 40, 200])) // banks), queue=draw(st.sampled_from([1, 2, 4, 16])),
        group_filters=group, block_channels=draw(st.sampled_from([1, 3, 16])), index_bits=draw(st.integers(1, 4)),
    )  # fmt: skip


def bind(arch, window: Window, zero: int = 0):
    data = LayerData(activation=window.x + zero, zero_point=zero, codec=hold(window.w))
    return arch.bind(workload_of(window.layer), data)


def make_machine(arch, datapath) -> Machine:
    rows, cols = datapath.rows, datapath.cols
    return Machine(
        arch.pe_rows, arch.pe_cols, arch.weights, arch.activations, arch.banks, arch.bank_entries, arch.queue,
        min(arch.group_filters, datapath.layer.K), min(arch.block_channels, datapath.layer.C), arch.index_bits,
        (rows.block, cols.block), (rows.part, cols.part), datapath.pitch,
    )  # fmt: skip


@settings(max_examples=80, deadline=None, derandomize=True)
@given(window=windows(small_layers(4000)), arch=archs(), zero=st.sampled_from([0, 5]), data=st.data())
def test_every_tile_takes_the_cycles_of_the_model_and_the_sums_are_the_convolution(window, arch, zero, data):
    layer = window.layer
    datapath = bind(arch, window, zero)
    machine, leave = make_machine(arch, datapath), datapath.leave
    if data.draw(st.booleans()):
        datapath.leave = 0  # the products alone: results leave often later than these are made
    tile = data.draw(tilings(layer, datapath.quantum()))
    boxes = list_boxes(layer, tile)
    times = datapath.exec_times(boxes)
    total, moved, stored, busiest, obuf = Counter(), Counter(), {}, 1, Counter()
    for i, (lo, hi) in enumerate(zip(boxes.lo, boxes.hi, strict=True)):
        found = machine.run_tile(window, lo, hi, datapath.leave, obuf)
        assert (int(times.busy[i]), int(times.fill[i])) == (found.cycles, 0)
        assert int(times.tail[i]) == datapath.leave + PIPELINE_CYCLES
        packed = datapath.pack_weights(window.w, lo, hi)
        assert "".join(map(str, packed)) == found.stored
        stored[tuple(lo[1:4].tolist())] = len(found.stored)
        busiest = max(busiest, found.busiest)
        total.update(found.sums)
        moved.update(
            pairs=found.pairs, kept=found.kept, activations=found.activations, entries=found.entries_read,
            bank_reads=found.bank_reads, bank_writes=found.bank_writes, obuf_reads=found.obuf_reads, obuf_writes=found.obuf_writes,
            registers=found.registers,
        )  # fmt: skip
    wanted = window.convolve()
    assert {key: total[key] for key in wanted} == wanted
    assert leave == busiest * min(arch.group_filters, layer.K)
    tiles = np.array([tile])
    sums = datapath.sum_tiles(tiles)
    assert int(sums.busy[0]) == int(times.busy.sum())
    assert int(sums.ibuf_read_bits[0]) == moved["activations"] * 8
    assert int(datapath.largest_weight_tile(tiles)[0]) == max(stored.values())
    aligned, first = datapath.sum_weight_tiles(tiles, 64)
    assert int(aligned[0]) == sum(-(-bits // 64) * 64 for bits in stored.values()) <= datapath.most_weight_bits(64)
    assert int(first[0]) == -(-stored[0, 0, 0] // 64) * 64
    assert datapath.weight_storage_bits() == sum(stored.values())
    counts = {(x.component, x.verb): x.count for x in datapath.count_actions(Mapping(tile=tile, order="MKC"))}
    assert counts.get(("mac", "mult"), 0) == moved["pairs"]
    assert counts.get(("banks", "add"), 0) == moved["kept"]
    for memory, name in (("acc", "bank"), ("obuf", "obuf")):
        for verb in ("read", "write"):
            assert counts.get((memory, verb), 0) == moved[f"{name}_{verb}s"] * 32
    assert int(sums.psum_bits[0]) == (moved["obuf_reads"] + moved["obuf_writes"]) * 32
    assert moved["obuf_writes"] - moved["obuf_reads"] == layer.out_elements
    assert counts.get(("vectors", "register"), 0) == moved["registers"]
    assert counts.get(("rf", "read"), 0) == moved["entries"] * (8 + arch.index_bits)
    if datapath.leave or moved["kept"]:
        assert int(times.busy.sum()) * datapath.peak_macs_per_cycle() >= layer.macs


@settings(max_examples=60, deadline=None, derandomize=True)
@given(window=windows(small_layers(4000)), arch=archs(), data=st.data())
def test_a_tile_cut_anywhere_is_never_faster_and_its_weights_come_out_again(window, arch, data):
    layer, datapath = window.layer, bind(arch, window)
    tile = data.draw(tilings(layer))
    boxes = list_boxes(layer, tile)
    assert int(datapath.exec_times(boxes).busy.sum()) >= int(datapath.sum_tiles(np.array([tile])).busy[0])
    blocks = window.w.reshape(layer.G, layer.K, layer.C, layer.R, layer.S)
    for lo, hi, bits in zip(boxes.lo, boxes.hi, datapath.weight_tile_bits(boxes), strict=True):
        packed = datapath.pack_weights(window.w, lo, hi)
        assert packed.size == int(bits)
        back = datapath.unpack_weights(packed, lo, hi, signed=True)
        np.testing.assert_array_equal(back, blocks[lo[1] : hi[1], lo[2] : hi[2], lo[3] : hi[3]])
    check_places(datapath, tile)


ONE = replace(
    PRESETS["small"], preset="small+", pe_rows=1, pe_cols=1, weights=4, activations=4, banks=4, bank_entries=64, queue=1,
    group_filters=4,
)  # fmt: skip


@pytest.mark.parametrize(
    ("weights", "activations", "queue", "cycles"),
    [
        ([1, 1, 1, 1], [1], 1, 1),  # four filters, four banks
        ([1, 1, 1, 1], [1, 1], 1, 2),  # two at each bank
        ([1, 1, 1, 1], [1, 1, 1, 1, 1], 1, 5),  # the fifth waits until the queues are short
        ([1, 0, 0, 0], [1, 1, 1, 1, 1], 4, 5),  # all at one bank: it adds one a cycle
        ([0, 0, 0, 0], [1, 1, 1, 1], 1, 0),
        ([1, 1, 1, 1], [0, 0, 0, 0], 1, 0),
    ],
)
def test_a_bank_adds_a_product_a_cycle(weights, activations, queue, cycles):
    layer = Layer(name="layer", op="conv", inputs=("x",), K=4, C=1, P=1, Q=len(activations), H=1, W=len(activations))
    window = Window(layer, np.array(activations).reshape(1, 1, 1, -1), np.array(weights).reshape(4, 1, 1, 1))
    datapath = bind(replace(ONE, queue=queue), window)
    assert datapath.leave == 4 * len(activations)
    assert int(datapath.cycles.max()) == cycles
    assert int(datapath.exec_times(list_boxes(layer, (1, 1, 4, 1, 1, len(activations)))).busy[0]) == datapath.leave


@pytest.mark.parametrize(("queue", "cycles"), [(1, 8), (2, 7), (4, 5), (8, 5)])
def test_multipliers_stand_still_while_a_queue_is_long(queue, cycles):
    """Two channels, four products each: those of the first at one bank, those of the second at another."""
    layer = Layer(name="layer", op="conv", inputs=("x",), K=4, C=2, P=1, Q=4, H=1, W=4)
    weight = np.zeros((4, 2, 1, 1), np.int64)
    weight[0, 0] = weight[1, 1] = 1
    datapath = bind(replace(ONE, queue=queue), Window(layer, np.ones(layer.in_shape, np.int64), weight))
    assert int(datapath.cycles.max()) == cycles
    split = bind(replace(ONE, queue=queue, block_channels=1), Window(layer, np.ones(layer.in_shape, np.int64), weight))
    assert int(split.cycles.max()) == 8


def test_three_of_four_products_are_lost_at_stride_two_and_a_vector_has_one_element_to_work_on():
    dense = replace(PRESETS["comparison"], density=1.0)
    conv = Layer(name="layer", op="conv", inputs=("x",), K=8, C=4, P=16, Q=16, H=32, W=32, R=2, S=2, stride=(2, 2))
    datapath = bind(dense, Window(conv, np.ones(conv.in_shape, np.int64), np.ones((8, 4, 2, 2), np.int64)))
    pairs, kept = datapath.sums[:2].tolist()
    assert (pairs, kept) == (4 * conv.macs, conv.macs)
    fc = Layer(name="layer", op="gemm", inputs=("x",), K=64, C=32)
    datapath = bind(dense, Window(fc, np.ones(fc.in_shape, np.int64), np.ones((64, 32, 1, 1), np.int64)))
    assert datapath.cycles.shape[5] == 1
    assert int(datapath.sum_tiles(np.array([[1, 1, 64, 32, 1, 1]])).busy[0]) == 64 * 32 // 4


def test_outputs_that_see_padding_alone_are_taken_as_zeros():
    """Two rows and columns of padding around a window of one: the sums of nine elements, and zeros around them."""
    layer = Layer(name="layer", op="conv", inputs=("x",), K=2, C=1, P=7, Q=7, H=3, W=3, padding=(2,) * 4)
    window = Window(layer, np.ones(layer.in_shape, np.int64), np.ones((2, 1, 1, 1), np.int64))
    datapath = bind(replace(ONE, pe_rows=3, pe_cols=3), window)
    tile = (1, 1, 2, 1, 7, 7)
    boxes = list_boxes(layer, tile)
    found = make_machine(datapath.arch, datapath).run_tile(window, boxes.lo[0], boxes.hi[0], datapath.leave)
    assert datapath.leave == 2 * found.busiest
    assert found.obuf == window.convolve()
    counts = {(x.component, x.verb): x.count for x in datapath.count_actions(Mapping(tile=tile, order="MKC"))}
    assert counts["obuf", "write"] == found.obuf_writes * 32 == 2 * 7 * 7 * 32
    assert ("obuf", "read") not in counts
    assert counts["acc", "read"] == found.bank_reads * 32 == 2 * 2 * 9 * 32  # to add the product, and to leave


def test_large_planes_are_cut_so_that_accumulators_and_buffers_hold_them():
    arch = PRESETS["comparison"]
    layer = Layer(
        name="layer", op="conv", inputs=("x",), K=64, C=3, P=224, Q=224, H=224, W=224, R=3, S=3, padding=(1,) * 4
    )
    datapath = bind(arch, Window(layer, np.zeros(layer.in_shape, np.int64), np.zeros((64, 3, 3, 3), np.int64)))
    rows = datapath.rows
    assert 8 * rows.reach * datapath.pitch <= arch.accumulators
    tile = np.array([[1, 1, 8, 3, rows.block, 224]])
    assert int(datapath.psum_slots(tile)[0]) * 32 <= arch.shell.bank_bits("obuf")
    assert tuple(getattr(layer, dim) for dim in TILE_DIMS)[4] > rows.block


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
    with pytest.raises(SpecError, match="real tensors"):
        PRESETS["small"].bind(workload_of(layer))
    for name, value in (("banks", 12), ("queue", 3), ("weights", 9), ("group_filters", 0), ("density", -0.1)):
        with pytest.raises(SpecError, match=f"scnn.{name}"):
            replace(PRESETS["small"], **{name: value})
