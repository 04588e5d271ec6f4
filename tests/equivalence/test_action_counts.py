"""Counts that energy alone depends on, against those of the machines that step: registers, sums of units, coordinates."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from hwsim.archs.bismo.spec import PRESETS as BISMO
from hwsim.archs.mpic.spec import PRESETS as MPIC
from hwsim.archs.scnn.spec import PRESETS as SCNN
from hwsim.archs.simd.spec import PRESETS as SIMD
from hwsim.core.datapath import Datapath, LayerData
from hwsim.core.layer import Layer
from hwsim.core.mapping import TILE_DIMS, Mapping, list_boxes
from hwsim.core.policy import LayerFormat
from tests import naive_bismo, naive_scnn, naive_simd
from tests.naive_cases import conv, workload_of
from tests.naive_mpic import Core
from tests.naive_windows import Window
from tests.pruned_cases import hold

OPERANDS, RESULTS = 2, 1
"""Registers that an instruction of a RISC core reads and writes."""
LAYERS = (
    conv(size=(6, 5), window=(3, 3), padding=(1, 1, 1, 1), K=5, C=6),
    conv(size=(7, 7), window=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1), K=7, C=3, N=2),
    conv(size=(4, 5), window=(3, 3), padding=(1, 1, 1, 1), G=6),
    conv(size=(3, 4), G=2, K=5, C=9),
    Layer(name="fc", op="gemm", inputs=("x",), N=3, K=11, C=37),
    Layer(name="fc", op="gemm", inputs=("x",), N=1, K=6, C=21),
)
each_layer = pytest.mark.parametrize("layer", LAYERS, ids=lambda x: f"{x.op}-N{x.N}-G{x.G}-K{x.K}-C{x.C}")


def list_tiles(layer: Layer) -> list[tuple[int, ...]]:
    """Return a layer as one tile, and cut along each dimension that its groups, filters and channels allow."""
    whole = [getattr(layer, dim) for dim in TILE_DIMS]
    tiles = {tuple(whole)}
    for dim in range(len(whole)):
        cut = list(whole)
        cut[dim] = -(-whole[dim] // 2)
        if dim in (2, 3):  # filters and channels are cut in tiles of one group
            cut[1] = 1
        tiles.add(tuple(cut))
    return sorted(tiles)


def count_actions(datapath: Datapath, tile: tuple[int, ...]) -> Counter:
    """Return the actions of a layer by component and verb; all widths of a verb together."""
    found: Counter = Counter()
    for action in datapath.count_actions(Mapping(tile=tile, order="MKC")):
        found[action.component, action.verb] += action.count
    return found


def list_windows(layer: Layer, x: np.ndarray, lo, hi, g: int) -> np.ndarray:
    """Return the windows of one group's pixels in a tile, int64 [pixels, depth]."""
    window = Window(layer, x, np.zeros((layer.G * layer.K, layer.C, layer.R, layer.S)))
    ranges = [range(int(a), int(b)) for a, b in zip(lo, hi, strict=True)]
    return np.array(
        [
            [window.activation(n, g, c, p, q, r, s) for c, r, s in product(ranges[3], range(layer.R), range(layer.S))]
            for n, p, q in product(ranges[0], ranges[4], ranges[5])
        ]
    )


@each_layer
@pytest.mark.parametrize("widths", [(8,), (4,), (8, 2, 0)])
def test_mpic_reads_and_writes_the_registers_of_every_instruction(layer, widths):
    arch, filters = MPIC["small"], layer.G * layer.K
    counts = [filters // len(widths)] * len(widths)
    counts[0] += filters - sum(counts)
    fmt = LayerFormat(w_bits=widths[0], a_bits=4)
    if len(widths) > 1:
        fmt = replace(fmt, channel_bits=tuple(zip(widths, counts, strict=True)))
    datapath = arch.bind(replace(workload_of(layer, widths[0], 4), fmt=fmt))
    bits = [width for width, count in zip(widths, counts, strict=True) for _ in range(count)]
    core = Core(layer, np.ones(layer.in_shape, np.int64), 0, bits, 4, arch)
    core.run()
    found = count_actions(datapath, tuple(getattr(layer, dim) for dim in TILE_DIMS))
    assert found["registers", "rf"] == (OPERANDS + RESULTS) * core.instructions
    assert found["program", "read"] == 32 * core.instructions
    assert found["columns", "read"] == 32 * core.column_loads
    assert found["wbuf", "read"] == 32 * core.w_loads
    assert found["mac", "mac"] * filters == layer.macs * sum(width > 0 for width in bits)


@each_layer
@pytest.mark.parametrize("number", ["int8", "fp32"])
def test_simd_reads_the_three_operands_of_every_vector_instruction(layer, number):
    arch = replace(SIMD["small"], preset="small+", number=number, vector_bits=64, accumulators=6, filters=4)
    datapath, rng = arch.bind(workload_of(layer)), np.random.default_rng(3)
    x = rng.integers(-128, 128, layer.in_shape)
    pixels = layer.N * layer.P * layer.Q
    side, others = ("filters", pixels) if pixels < arch.lanes else ("pixels", layer.K)
    block = min(arch.filters, others)
    lies_packed = arch.step == 1 and layer.R * layer.S == 1 and layer.stride == (1, 1) and not any(layer.padding)
    for tile in list_tiles(layer):
        boxes, ran = list_boxes(layer, tile), Counter()
        for lo, hi in zip(boxes.lo, boxes.hi, strict=True):
            for g in range(int(lo[1]), int(hi[1])):
                windows = list_windows(layer, x, lo, hi, g)
                filters = rng.integers(-128, 128, (int(hi[2] - lo[2]), windows.shape[1]))
                trace = naive_simd.run(
                    arch, windows, filters, stride=layer.stride[1], lies_packed=lies_packed, in_lanes=side,
                    blocks=(arch.accumulators // block, block), first=int(lo[3] == 0), last=int(hi[3] == layer.C),
                )  # fmt: skip
                ran.update(trace.packing)
                for one, _ in trace.tiles:
                    ran.update(one)
        found = count_actions(datapath, tile)
        assert found["rf", "read"] == (OPERANDS + 1) * ran["vector"] * 64  # both factors, and the sum that they go into
        assert found["rf", "write"] == RESULTS * ran["vector"] * 64
        assert found["icache", "read"] == 32 * sum(ran.values())
        assert found["wbuf", "read"] == 64 * ran["load_w"]
        assert found["l1", "write"] == 64 * ran["pack_store"]
        products = {count for (component, _), count in found.items() if component == "mac"}
        assert products == {layer.macs}


@each_layer
@pytest.mark.parametrize(("w", "a"), [(2, 3), (4, 1)])
def test_bismo_shifts_and_adds_in_every_unit_that_has_a_result(layer, w, a):
    machine = naive_bismo.Machine(2, 3, 8, 64)
    arch = replace(BISMO["small"], preset="small+", rows=2, cols=3, word_bits=8, depth_words=64)
    datapath, rng = arch.bind(workload_of(layer, w, a)), np.random.default_rng(5)
    x = rng.integers(0, 1 << a, layer.in_shape)
    for tile in list_tiles(layer):
        boxes, worked = list_boxes(layer, tile), Counter()
        for lo, hi in zip(boxes.lo, boxes.hi, strict=True):
            images = [(lo[0], hi[0])] if layer.P * layer.Q == 1 else [(n, n + 1) for n in range(lo[0], hi[0])]
            for (first, last), g in product(images, range(int(lo[1]), int(hi[1]))):
                left = list_windows(layer, x, [first, *lo[1:]], [last, *hi[1:]], g)
                right = rng.integers(-(1 << (w - 1)), 1 << (w - 1), (int(hi[2] - lo[2]), left.shape[1]))
                naive_bismo.multiply(left, right, a, w, machine, worked=worked)
        found = count_actions(datapath, tile)
        assert found["array", "shift_add"] == worked["sums"]
        assert found["mac", "mult"] == found["mac", "add"] == layer.macs * w * a
        if datapath.set_groups == 1:
            assert found["lhs", "read"] == 8 * worked["rows"]
            assert found["rhs", "read"] == 8 * worked["columns"]


def test_bismo_words_of_several_groups_make_a_sum_for_each_unit_and_pair_of_planes():
    """Depthwise 3x3: words of 64 bits hold four groups; six channels are a product of four columns and one of two."""
    machine, w, a = naive_bismo.Machine(2, 3, 64, 64), 3, 2
    layer = conv(size=(4, 5), window=(3, 3), padding=(1, 1, 1, 1), G=6)
    arch = replace(BISMO["small"], preset="small+", rows=2, cols=4, word_bits=64, depth_words=64)
    machine, worked = replace(machine, cols=4), Counter()
    for columns in (4, 2):
        naive_bismo.multiply(np.ones((20, 64), int), np.ones((columns, 64), int), a, w, machine, worked=worked)
    found = count_actions(arch.bind(workload_of(layer, w, a)), (1, 6, 1, 1, 4, 5))
    assert found["array", "shift_add"] == worked["sums"] == 20 * 6 * w * a
    assert (found["lhs", "read"], found["rhs", "read"]) == (64 * worked["rows"], 64 * worked["columns"])


@each_layer
@pytest.mark.parametrize("density", [0.3, 1.0])
def test_scnn_finds_the_coordinates_of_every_product(layer, density):
    rng = np.random.default_rng(11)
    x, weight = (
        rng.integers(1, 100, layer.in_shape),
        rng.integers(1, 100, (layer.G * layer.K, layer.C, layer.R, layer.S)),
    )
    for array in (x, weight):
        array[rng.random(array.shape) >= density] = 0
    window = Window(layer, x, weight)
    arch = replace(
        SCNN["small"], preset="small+", pe_rows=2, pe_cols=2, weights=3, activations=2, banks=4, bank_entries=25, queue=2,
        group_filters=3, block_channels=4, index_bits=3,
    )  # fmt: skip
    datapath = arch.bind(workload_of(layer), LayerData(activation=x, zero_point=0, codec=hold(weight)))
    rows, cols = datapath.rows, datapath.cols
    machine = naive_scnn.Machine(
        2, 2, 3, 2, 4, 25, 2, min(3, layer.K), min(4, layer.C), 3, (rows.block, cols.block), (rows.part, cols.part),
        datapath.pitch,
    )  # fmt: skip
    whole = np.array([getattr(layer, dim) for dim in TILE_DIMS])
    ran = machine.run_tile(window, 0 * whole, whole, datapath.leave)
    found = count_actions(datapath, tuple(whole.tolist()))
    assert found["coordinates", "add"] == ran.coordinates > 1
    assert found["banks", "add"] == ran.kept
    actions = datapath.count_actions(Mapping(tile=tuple(whole.tolist()), order="MKC"))
    assert [one.bits for one in actions if one.component == "coordinates"] == [(7,)]  # an address of 100 accumulators
