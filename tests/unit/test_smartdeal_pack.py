"""The bits of decomposed weight tiles: a hand-made one, lengths, and what the rebuild engine reads out of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.registry import find_arch
from hwsim.archs.smartdeal.pack import pack_step, read_step, rebuild_rows
from hwsim.core.bits import bits_to_integers, integers_to_bits
from hwsim.core.datapath import LayerData, StoredWeights, Workload
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.mapping import list_boxes
from hwsim.core.policy import LayerFormat
from hwsim.engine.lower import list_weight_boxes
from hwsim.pipeline.prices import choose_prices
from hwsim.quant.decompose import DecomposeOptions, decompose_layer

SMALL = find_arch("smartdeal", "small")


def bind(layer: Layer, weight, lines=4, line_rows=12, codec="native", prune=0.0, beat=64, force=False, slices=4):
    """Return a datapath on decomposed weights (dense where ``codec`` is) and the stored integers."""
    memory = replace(SMALL.memory, bits_per_cycle=beat)
    arch = replace(SMALL, slices=slices, lines=lines, line_rows=line_rows, prune_ratio=prune, memory=memory)
    fmt = LayerFormat(codec=codec)
    load = Workload(layer=layer, fmt=fmt, out_bits=8, operand_bits=(8,), operand_shapes=(layer.in_shape,))
    found = arch.store_weights(load, weight)
    if force:
        codec = decompose_layer(weight, DecomposeOptions(force=True))
        found = StoredWeights(integers=codec.rebuilt_int8, scale=codec.scale, codec=codec)
    activation = np.random.default_rng(0).integers(-128, 128, layer.in_shape).astype(np.int8)
    data = LayerData(activation=activation, codec=found.codec if found else None)
    stored = found.integers if found else np.clip(np.rint(weight * 60), -128, 127).astype(np.int8)
    return arch.bind(load, data), stored


def conv(K, C, R=3, S=3, **more):
    return Layer(name="layer", op="conv", inputs=("x",), K=K, C=C, R=R, S=S, H=R, W=S, **more)


def draw_weight(layer, seed=1, zeros=0.3):
    rng = np.random.default_rng(seed)
    weight = rng.normal(0, 0.4, (layer.G * layer.K, layer.C, layer.R, layer.S))
    weight[rng.random(weight.shape[:3]) < zeros] = 0
    return weight.astype(np.float32)


def test_a_step_is_flag_basis_and_for_each_pass_index_and_nibbles_least_significant_bit_first():
    found = decompose_layer(draw_weight(conv(1, 4), zeros=0.0))
    codes, basis = found.codes.copy(), found.basis.copy()
    codes[0, 0] = 0
    codes[0, 0, 2], codes[0, 0, 9] = (7, 0, -3), (-1, 0, 0)
    basis[0, 0] = [[1, -2, 3], [-4, 5, -6], [127, -127, 0]]
    bits = pack_step(replace(found, codes=codes, basis=basis), 0, 0, [8, 4])
    assert bits.size == 1 + 72 + 12 + 24
    assert bits[0] == 1
    octets = np.packbits(bits[1:73], bitorder="little").view(np.int8)
    assert octets.tolist() == [1, -2, 3, -4, 5, -6, 127, -127, 0]
    assert np.flatnonzero(bits[73:81]).tolist() == [2], "the index of the first pass, then its coefficients"
    assert bits[81:93].reshape(-1, 4).tolist() == [[1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 0, 1]]
    assert bits[93:97].tolist() == [0, 1, 0, 0], "the index of the second pass"
    assert bits[97:].reshape(-1, 4).tolist() == [[1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    rows, end = read_step(bits, 0, [8, 4])
    assert end == bits.size
    # row 2: (64 B[0] - 4 B[2] + 32) >> 6; row 9: (-B[0] + 32) >> 6
    assert rows[2].tolist() == [(64 - 508 + 32) >> 6, (-128 + 508 + 32) >> 6, (192 + 32) >> 6]
    assert rows[9].tolist() == [31 >> 6, 34 >> 6, 29 >> 6]
    assert not rows[[0, 1, 3, 4, 5, 6, 7, 8, 10, 11]].any()


def test_a_step_of_zero_rows_is_its_flag_alone():
    layer = conv(2, 8)
    weight = draw_weight(layer, zeros=0.0)
    weight[0] = 0
    found = decompose_layer(weight)
    assert pack_step(found, 0, 0, [24]).tolist() == [0]
    rows, end = read_step(np.zeros(30, np.uint8), 3, [24])
    assert (end, rows.any(), rows.shape) == (4, False, (24, 3))


@given(st.lists(st.integers(0, 15), min_size=3, max_size=3), st.lists(st.integers(-127, 127), min_size=9, max_size=9))
def test_the_rebuild_engine_follows_the_rule_for_every_coefficient_and_basis(nibbles, values):
    basis = np.array(values).reshape(3, 3)
    found = rebuild_rows(np.array([nibbles]), basis)[0]
    for k in range(3):
        total = 0.0
        for j, nibble in enumerate(nibbles):
            size, sign = nibble % 8, -1 if nibble >= 8 else 1
            total += sign * int(basis[j, k]) * (2.0 ** (size - 7) if size else 0)
        assert found[k] == max(-128, min(127, int(np.floor(total + 0.5))))
        assert abs(total * 64) + 32 < 1 << 15, "the accumulators have 16 bits"


LAYERS = {
    "3x3": conv(9, 7),
    "3x3, two steps": conv(5, 70),
    "3x3 grouped": conv(4, 6, G=3),
    "1x1": conv(6, 40, 1, 1),
    "1x1, two steps and a padded row": conv(3, 601, 1, 1),
    "fc": Layer(name="layer", op="gemm", inputs=("x",), K=10, C=130),
    "depthwise": conv(1, 1, G=9),
    "5x5": conv(3, 8, 5, 5),
    "small 1x1": conv(5, 9, 1, 1),
}


@pytest.mark.parametrize("codec", ["native", "dense"])
@pytest.mark.parametrize(("lines", "line_rows"), [(4, 12), (2, 3)])
@pytest.mark.parametrize("name", LAYERS)
def test_every_tile_has_as_many_bits_as_its_program_moves_and_gives_the_weights_back(name, lines, line_rows, codec):
    layer = LAYERS[name]
    datapath, stored = bind(layer, draw_weight(layer), lines, line_rows, codec)
    blocks = np.asarray(stored).reshape(layer.G, layer.K, layer.C, layer.R, layer.S)
    step = datapath.rows.pass_channels
    for g, k, c in ((1, 4, layer.C), (layer.G, layer.K, layer.C), (1, 3, min(step, layer.C)), (1, 4, -(-layer.C // 2))):
        boxes = list_weight_boxes(layer, (1, g, k, c, 1, 1))
        for lo, hi, bits in zip(boxes.lo, boxes.hi, datapath.weight_tile_bits(boxes), strict=True):
            packed = datapath.pack_weights(stored, lo, hi)
            assert packed.size == bits
            wanted = blocks[lo[1] : hi[1], lo[2] : hi[2], lo[3] : hi[3]]
            np.testing.assert_array_equal(datapath.unpack_weights(packed, lo, hi, True), wanted)


def test_the_layers_of_this_file_are_decomposed_and_dense_in_steps_of_both_kinds():
    kinds = set()
    for layer in LAYERS.values():
        rows = bind(layer, draw_weight(layer), 2, 3)[0].rows
        kinds.add((rows.decomposed, rows.by_kernel, rows.pass_channels < layer.C))
    assert kinds >= {(True, True, True), (True, False, True), (True, True, False), (False, True, True)}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 9), st.integers(3, 90), st.sampled_from([1, 3]), st.floats(0, 1), st.integers(0, 999))
def test_all_tiles_together_are_the_layers_stored_bits_headers_and_fillings_apart(K, C, size, zeros, seed):
    layer = conv(K, C, size, size)
    datapath, stored = bind(layer, draw_weight(layer, seed, zeros), prune=0.25, beat=1)
    step = datapath.rows.pass_channels
    boxes = list_weight_boxes(layer, (1, 1, 4, min(step, C), 1, 1))
    tiles = [datapath.pack_weights(stored, lo, hi) for lo, hi in zip(boxes.lo, boxes.hi, strict=True)]
    assert sum(tile.size - 16 * 4 for tile in tiles) == datapath.weight_storage_bits()


def test_every_slice_has_a_stream_of_whole_beats_behind_a_header_of_their_lengths():
    layer = LAYERS["3x3 grouped"]
    datapath, stored = bind(layer, draw_weight(layer), force=True, slices=3)
    whole = list_boxes(layer, (1, layer.G, layer.K, layer.C, 1, 1))
    packed = datapath.pack_weights(stored, whole.lo[0], whole.hi[0])
    at, lengths = 64, []
    for s, filters in enumerate(([0, 3, 4, 7, 8, 11], [1, 5, 9], [2, 6, 10])):
        stream = np.concatenate([pack_step(datapath.codec, f, 0, [18]) for f in filters])
        np.testing.assert_array_equal(packed[at : at + stream.size], stream, f"slice {s}")
        lengths.append(-(-stream.size // 64))
        assert not packed[at + stream.size : at + 64 * lengths[-1]].any()
        at += 64 * lengths[-1]
    assert at == packed.size
    header = np.packbits(packed[:64], bitorder="little").view("<u2").tolist()
    assert header == [*lengths, 0]


def test_a_dense_row_of_too_few_channels_is_stored_whole():
    layer = conv(2, 4, 1, 1)
    datapath, _ = bind(layer, draw_weight(layer), codec="dense")
    weight = np.array([[1, 2, 3, 4], [-1, -2, -3, -4]], np.int8).reshape(2, 4, 1, 1)
    whole = list_boxes(layer, (1, 1, 2, 4, 1, 1))
    packed = np.packbits(datapath.pack_weights(weight, whole.lo[0], whole.hi[0]), bitorder="little").view(np.int8)
    assert packed.tolist() == [1, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, -1, -2, -3, -4, 0, 0, 0, 0]


def test_weights_that_are_not_the_decomposition_are_refused():
    layer = LAYERS["3x3"]
    datapath, stored = bind(layer, draw_weight(layer))
    boxes = list_weight_boxes(layer, (1, 1, layer.K, layer.C, 1, 1))
    with pytest.raises(ValueError, match="layer layer: the weights are not those that its decomposition rebuilds"):
        datapath.pack_weights(stored + 1, boxes.lo[0], boxes.hi[0])


def test_tiles_that_do_not_add_up_are_refused():
    layer = LAYERS["3x3"]
    datapath, stored = bind(layer, draw_weight(layer))
    boxes = list_weight_boxes(layer, (1, 1, layer.K, layer.C, 1, 1))
    lo, hi = boxes.lo[0], boxes.hi[0]
    bits = datapath.pack_weights(stored, lo, hi)
    with pytest.raises(ValueError, match=f"a weight tile of {bits.size + 1} bits, its header says {bits.size}"):
        datapath.unpack_weights(np.append(bits, np.uint8(0)), lo, hi, True)
    longer = np.concatenate([bits, np.zeros(64, np.uint8)])
    longer[48:64] = integers_to_bits(bits_to_integers(bits[48:64], False) + 1, 16)
    with pytest.raises(ValueError, match=r"a stream of [0-9]+ bits ends at bit"):
        datapath.unpack_weights(longer, lo, hi, True)


def test_the_options_of_the_codec_are_those_of_the_architecture():
    layer = LAYERS["3x3"]
    weight = draw_weight(layer)
    datapath, _ = bind(layer, weight)
    wanted = decompose_layer(weight, DecomposeOptions(threshold=SMALL.threshold))
    np.testing.assert_array_equal(datapath.codec.codes, wanted.codes)


def test_kernel_rows_wider_than_a_line_store_are_refused():
    layer = conv(2, 3, 5, 7)
    with pytest.raises(SpecError) as found:
        bind(layer, draw_weight(layer), line_rows=2)
    assert "smartdeal.line_rows" in str(found.value)
    assert "at least 3, the entries of a kernel row of layer layer" in str(found.value)


def test_an_arrangement_of_depthwise_layers_that_does_not_exist_is_refused():
    with pytest.raises(SpecError, match="one of spread, grouped"):
        replace(SMALL, depthwise="sliced")


def test_the_small_preset_can_be_built_and_its_copies_of_ibuf_are_part_of_the_area():
    paper = find_arch("smartdeal", "paper")
    assert (SMALL.clusters, SMALL.depthwise, SMALL.ibuf_copies) == (1, "grouped", SMALL.lines)
    stored = {part.component: part for part in SMALL.list_area()}["line_store"]
    assert stored.count * stored.bits[0] == 2 * 4 * 4 * 12 * 3 * 4 * 9
    assert paper.ibuf_copies == 1
    areas = [next(item.area_um2 for item in choose_prices(arch, None).price_area() if item.name.startswith("ibuf"))
             for arch in (SMALL, replace(SMALL, clusters=2))]  # fmt: skip
    assert areas[0] == pytest.approx(SMALL.lines * areas[1])


def test_accumulators_stand_by_word_and_slice():
    layer = conv(5, 3, G=2)
    size = np.array([1, 2, 5, 3, 1, 3], np.int64)
    datapath, _ = bind(layer, draw_weight(layer))
    places = datapath.psum_places(size).reshape(2, 5, 3)
    # word = (g ceil(5 / 4) + k // 4) 3 pixels + pixel, column = k % 4
    assert places[0, 1].tolist() == [1, 5, 9]
    assert places[0, 4].tolist() == [12, 16, 20]
    assert places[1, 0].tolist() == [24, 28, 32]
    assert datapath.psum_slots(size[None]).tolist() == [2 * 2 * 3 * 4]
