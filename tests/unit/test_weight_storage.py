"""Weights in every codec to the bit: against naive packing, through Programs, and from float weights to answers."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.bismo.spec import PRESETS as BISMO
from hwsim.archs.bitfusion.spec import PRESETS as BITFUSION
from hwsim.archs.bitfusion.spec import BitFusion
from hwsim.archs.registry import find_arch
from hwsim.core import storage
from hwsim.core.datapath import StoredWeights, Workload
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.mapping import TILE_DIMS, Boxes
from hwsim.core.policy import LayerFormat
from hwsim.core.tensors import LayerTensors
from hwsim.engine.lower import list_weight_boxes
from hwsim.pipeline.tensors import _replace_weights
from hwsim.quant.encode import encode_weights, fit_to_grid
from tests.execute_cases import cases, execute_case
from tests.naive_cases import mappings, windowed_layers
from tests.naive_cases import workload_of as plain_workload


class Reader(BitFusion):
    """An array that reads every codec: what decodes them stands between ``wbuf`` and the units and takes no time."""

    codecs = ("dense", "power-of-two", "codebook", "bit-planes")
    operators = ("multiply", "shift")
    mixes_channels = True


READER = Reader(**{field.name: getattr(BITFUSION["small"], field.name) for field in fields(BITFUSION["small"])})
CODECS = ("dense", "power-of-two", "codebook", "bit-planes", "mixed")


def workload_of(layer: Layer, fmt: LayerFormat) -> Workload:
    return replace(plain_workload(layer), fmt=fmt)


@st.composite
def formats(draw, filters: int, codec: str, a_bits: int = 8):
    """A format of a codec, for a layer of so many filters."""
    if codec == "mixed":
        widths = sorted(
            draw(st.sets(st.integers(0, 8), min_size=1, max_size=4)) | {draw(st.integers(1, 8))}, reverse=True
        )
        widths = widths[:filters]
        counts = [1] * len(widths)
        for _ in range(filters - len(widths)):
            counts[draw(st.integers(0, len(widths) - 1))] += 1
        pairs = tuple(zip(widths, counts, strict=True))
        return LayerFormat(w_bits=widths[0], a_bits=a_bits, channel_bits=pairs)
    low, high = {"power-of-two": (2, 8), "codebook": (1, 5), "bit-planes": (1, 9)}.get(codec, (1, 8))
    return LayerFormat(w_bits=draw(st.integers(low, high)), a_bits=a_bits, codec=codec)


def draw_integers(fmt: LayerFormat, layer: Layer, rng: np.random.Generator) -> np.ndarray:
    """Return integers ``[G*K, C, R, S]`` of a format, filters in the order in which they are stored."""
    shape = (layer.G * layer.K, layer.C, layer.R, layer.S)
    if fmt.codec == "power-of-two":
        size = np.int64(1) << rng.integers(0, storage.find_largest_exponent(fmt.w_bits) + 1, shape)
        return size * rng.integers(-1, 2, shape)
    if fmt.codec == "codebook":
        return rng.choice(np.arange(-128, 128), 1 << fmt.w_bits, replace=False)[rng.integers(0, 1 << fmt.w_bits, shape)]
    bits = storage.list_filter_bits(layer, fmt).ravel()
    rows = [
        rng.integers(-(1 << (b - 1)), 1 << (b - 1), shape[1:]) if b else np.zeros(shape[1:], np.int64) for b in bits
    ]
    rows = [2 * rng.integers(0, 2, shape[1:]) - 1 if b == 1 and fmt.codec != "bit-planes" else row
            for b, row in zip(bits, rows, strict=True)]  # fmt: skip
    return 2 * np.stack(rows) + 1 if fmt.codec == "bit-planes" else np.stack(rows)


def pack_by_hand(fmt: LayerFormat, layer: Layer, weight: np.ndarray, lo, hi) -> list[int]:
    """Return a tile's bits, element by element."""

    def spell(value: int, bits: int) -> list[int]:
        return [(int(value) >> at) & 1 for at in range(bits)]

    bits_of = {}
    if fmt.channel_bits:
        at = 0
        for bits, count in fmt.channel_bits:
            bits_of |= dict.fromkeys(range(at, at + count), bits)
            at += count
    table = sorted({int(x) for x in weight.ravel()})
    found: list[int] = []
    if fmt.codec == "codebook":
        for place in range(1 << fmt.w_bits):
            found += spell(table[place] if place < len(table) else 0, 8)
    elements = [
        (filter_, int(weight[filter_, c, r, s]))
        for g in range(lo[1], hi[1]) for filter_ in range(g * layer.K + lo[2], g * layer.K + hi[2])
        for c in range(lo[3], hi[3]) for r in range(layer.R) for s in range(layer.S)
    ]  # fmt: skip
    if fmt.codec == "bit-planes":
        values = [(value - 1) // 2 for _, value in elements]
        return [(value >> plane) & 1 for plane in reversed(range(fmt.w_bits)) for value in values]
    for filter_, value in elements:
        width = bits_of.get(filter_, fmt.w_bits)
        if fmt.codec == "power-of-two":
            code = 2 ** (fmt.w_bits - 1) - 1 if value == 0 else abs(value).bit_length() - 1
            found += [*spell(code, fmt.w_bits - 1), int(value < 0)]
        elif fmt.codec == "codebook":
            found += spell(table.index(value), fmt.w_bits)
        else:
            found += spell((value + 1) // 2 if width == 1 else value, width)
    return found


@pytest.mark.parametrize("codec", CODECS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_tiles_are_those_packed_by_hand_and_come_back(codec, data):
    layer = data.draw(windowed_layers("conv", 4, 2))
    fmt = data.draw(formats(layer.G * layer.K, codec))
    datapath = READER.bind(workload_of(layer, fmt))
    weight = draw_integers(fmt, layer, np.random.default_rng(data.draw(st.integers(0, 99))))
    mapping = data.draw(mappings(layer))
    boxes = list_weight_boxes(layer, mapping.tile)
    sizes = datapath.weight_tile_bits(boxes)
    for lo, hi, size in zip(boxes.lo, boxes.hi, sizes.tolist(), strict=True):
        bits = datapath.pack_weights(weight, lo, hi)
        assert bits.tolist() == pack_by_hand(fmt, layer, weight, lo.tolist(), hi.tolist())
        assert bits.size == size
        back = datapath.unpack_weights(bits, lo, hi, signed=True)
        wanted = weight.reshape(layer.G, layer.K, layer.C, layer.R, layer.S)
        np.testing.assert_array_equal(back, wanted[lo[1] : hi[1], lo[2] : hi[2], lo[3] : hi[3]])
    tile = np.array([mapping.tile])
    for align in (1, 8, 24):
        moved, first = datapath.sum_weight_tiles(tile, align)
        aligned = -(-sizes // align) * align
        assert (int(moved[0]), int(first[0])) == (int(aligned.sum()), int(aligned[0]))
        assert aligned.sum() <= datapath.most_weight_bits(align)
    assert int(datapath.largest_weight_tile(tile)[0]) == int(sizes.max())
    whole = datapath.pack_weights(weight, np.zeros(6, np.int64), np.array([getattr(layer, d) for d in TILE_DIMS]))
    assert datapath.weight_storage_bits() == whole.size


@pytest.mark.parametrize("codec", CODECS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_programs_compute_what_the_functional_model_does(codec, data):
    case = data.draw(cases().filter(lambda case: case.layer.kind == "mac"))
    layer = case.layer
    archs = [replace(READER, shell=case.arch.shell, memory=case.arch.memory)]
    if codec == "bit-planes":
        archs.append(replace(BISMO["small"], rows=3, cols=2, word_bits=16, depth_words=24, shell=case.arch.shell,
                             memory=case.arch.memory))  # fmt: skip
    fmt = data.draw(formats(layer.G * layer.K, codec, case.workload.fmt.a_bits))
    weight = draw_integers(fmt, layer, np.random.default_rng(data.draw(st.integers(0, 99))))
    held = replace(
        case.tensors.layers["layer"], weight=weight.astype(np.int16), w_zero=None, w_bits=storage.count_engine_bits(fmt)
    )
    tensors = replace(case.tensors, layers={"layer": held})
    for arch in archs:
        arch = replace(arch, shell=replace(arch.shell, psum_bits=48))
        one = replace(case, tensors=tensors, arch=arch, workload=replace(case.workload, fmt=fmt))
        after, wanted = execute_case(one, arch.bind(one.workload), "program", fill=0xA6)
        np.testing.assert_array_equal(after, wanted)


def draw_weights(shape=(12, 5, 3, 3), seed=3):
    rng = np.random.default_rng(seed)
    return (rng.standard_t(5, shape) * rng.uniform(0.02, 0.3, (shape[0], 1, 1, 1))).astype(np.float32)


CONV = Layer(name="conv", op="conv", inputs=("x",), K=12, C=5, P=4, Q=4, R=3, S=3, H=6, W=6)
FORMATS = {
    "w4 power-of-two": LayerFormat(w_bits=4, codec="power-of-two"),
    "w6 power-of-two": LayerFormat(w_bits=6, codec="power-of-two"),
    "w3 codebook": LayerFormat(w_bits=3, codec="codebook"),
    "w8 planes": LayerFormat(codec="bit-planes"),
    "w5 planes": LayerFormat(w_bits=5, codec="bit-planes"),
    "w1 planes": LayerFormat(w_bits=1, codec="bit-planes"),
    "mixed": LayerFormat(w_bits=8, channel_bits=((8, 3), (4, 5), (2, 2), (0, 2))),
}


@pytest.mark.parametrize("name", FORMATS)
def test_encoded_weights_fit_their_codec_and_stand_for_the_quantizer_s_numbers(name):
    fmt, weight = FORMATS[name], draw_weights()
    found = encode_weights(workload_of(CONV, fmt), weight)
    real = np.asarray(found.integers, np.float64) * np.asarray(found.scale, np.float64).reshape(-1, 1, 1, 1)
    wanted = found.codec.dequantize(*([fmt.w_bits] if "planes" in name else []))
    error = np.abs(real - wanted).max()
    assert error <= (found.scale[0] * 0.51 if "codebook" in name else 1e-6)  # a table is rounded to its 8 bits
    stored = found.integers[found.codec.storage_order] if name == "mixed" else found.integers
    datapath = READER.bind(workload_of(CONV, fmt))
    lo, hi = np.zeros(6, np.int64), np.array([getattr(CONV, dim) for dim in TILE_DIMS])
    bits = datapath.pack_weights(stored, lo, hi)
    np.testing.assert_array_equal(datapath.unpack_weights(bits, lo, hi, True).reshape(stored.shape), stored)
    low, high = -(1 << (found.bits - 1)), 1 << (found.bits - 1)
    assert low <= stored.min() <= stored.max() <= high - (fmt.codec != "power-of-two")
    assert found.bits == storage.count_engine_bits(fmt)


def test_stored_sizes_are_those_of_the_quantizers_without_scales():
    """540 weights in 12 filters, counted by hand; scales and largest exponents stand in the parameter table."""
    sizes = {name: READER.bind(workload_of(CONV, fmt)).weight_storage_bits() for name, fmt in FORMATS.items()}
    assert sizes == {
        "w4 power-of-two": 540 * 4,
        "w6 power-of-two": 540 * 6,
        "w3 codebook": 540 * 3 + 8 * 8,
        "w8 planes": 540 * 8,
        "w5 planes": 540 * 5,
        "w1 planes": 540,
        "mixed": 45 * (3 * 8 + 5 * 4 + 2 * 2),
    }
    for name in ("w4 power-of-two", "w8 planes", "mixed"):
        codec = encode_weights(workload_of(CONV, FORMATS[name]), draw_weights()).codec
        scales = {"w4 power-of-two": 12 * 8, "w8 planes": 12 * 32, "mixed": 10 * 32 + 3 * 16}[name]
        assert codec.storage_bits - scales == sizes[name]


def test_a_dead_channel_stays_small_in_every_codec():
    """Filters that a normalization has all but erased: their bias is far beyond what their own scale could hold."""
    weight = draw_weights()
    weight[3], weight[7] = 0, weight[7] * np.float32(1e-18)
    for fmt in FORMATS.values():
        found = encode_weights(workload_of(CONV, fmt), weight)
        scale = np.full(12, 1e-3, np.float32)
        old = LayerTensors(weight=weight, bias=np.full(12, 1 << 20, np.int32), w_scale=scale, w_bits=8)
        new = _replace_weights(old, found)
        real = np.asarray(new.weight, np.float64) * np.asarray(new.w_scale, np.float64).reshape(-1, 1, 1, 1)
        # a table is one for all filters: nothing is nearer to zero than its smallest entry
        bound = np.abs(found.integers).min() * found.scale[0] + 1e-9 if fmt.codec == "codebook" else 0.01
        assert np.abs(real[[3, 7]]).max() <= bound
        np.testing.assert_allclose(new.bias * new.w_scale, (1 << 20) * 1e-3, rtol=1e-3)


def test_rounding_to_a_grid_stays_on_it():
    def make(integers, grid):
        return StoredWeights(integers=np.array(integers).reshape(2, -1, 1, 1), scale=np.ones(2), codec=None, grid=grid)

    halves = np.array([0.25, 1.0])
    assert fit_to_grid(make([5, -7, 3, 9], "odd"), halves).ravel().tolist() == [1, -1, 3, 9]
    assert fit_to_grid(make([8, 1, 0, 4], "powers"), halves).ravel().tolist() == [2, 0, 0, 4]
    assert fit_to_grid(make([8, 1, 0, 4], "table"), halves).ravel().tolist() == [8, 1, 0, 4]


@pytest.mark.parametrize(
    ("fmt", "text"),
    [
        (LayerFormat(w_bits=9, codec="codebook"),
         "policy for layer conv: w_bits: got 9, expected 1 to 8 bits with the codec codebook"),
        (LayerFormat(w_bits=1, codec="power-of-two"),
         "policy for layer conv: w_bits: got 1, expected 2 to 8 bits with the codec power-of-two"),
        (LayerFormat(w_bits=4, operator="shift", codec="codebook"),
         "policy for layer conv: codec: got 'codebook', expected power-of-two with the operator shift"),
        (LayerFormat(w_bits=4, codec="codebook", channel_bits=((4, 12),)),
         "policy for layer conv: channel_bits: got ((4, 12),), expected one width for all channels with the codec codebook"),
        (LayerFormat(w_bits=4, scale="shift", codec="bit-planes"),
         "policy for layer conv: scale: got 'shift', expected multiplier where weights are of a codebook, bit planes or mixed "
         "bits"),
        (LayerFormat(w_bits=4, channel_bits=((4, 11),)),
         "policy for layer conv: channel_bits: got '11 filters', expected 12, those of the layer"),
        (LayerFormat(w_bits=4, groups=3),
         "policy for layer conv: groups: got 3, expected 1: the network is widened before it is run"),
    ],
)  # fmt: skip
def test_formats_that_no_array_has_are_told(fmt, text):
    with pytest.raises(SpecError) as caught:
        READER.bind(workload_of(CONV, fmt))
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("fmt", "values", "said"),
    [
        (LayerFormat(w_bits=3, codec="power-of-two"), (3, 1), "no powers of two up to 2\\*\\*2"),
        (LayerFormat(w_bits=3, codec="power-of-two"), (8, 1), "no powers of two up to 2\\*\\*2"),
        (LayerFormat(w_bits=1, codec="codebook"), (3, 1, 2), "3 different weights, a codebook of 1 bits holds 2"),
        (LayerFormat(w_bits=3, codec="bit-planes"), (2, 1), "weights of 3 leading planes are odd"),
        (LayerFormat(w_bits=3, codec="bit-planes"), (9, 1), "weights from 0 to 4 do not fit 3 planes"),
        (LayerFormat(w_bits=2, channel_bits=((2, 1), (0, 1))), (1, 1), "weights from 1 to 1 do not fit 0 bits"),
    ],
)
def test_integers_that_a_codec_does_not_hold_are_told(fmt, values, said):
    layer = Layer(name="fc", op="gemm", inputs=("x",), K=len(values), C=1)
    datapath = READER.bind(workload_of(layer, fmt))
    with pytest.raises(ValueError, match=f"layer fc: .*{said}"):
        datapath.pack_weights(np.array(values), np.zeros(6, np.int64), np.array([1, 1, len(values), 1, 1, 1]))


def test_fewer_planes_are_a_prefix_of_more():
    """The leading planes of a tile are the same bits in the same places, whatever the policy reads of them."""
    weight = draw_weights()
    arch = find_arch("bismo:small")
    tiles = []
    for bits in (8, 5, 2):
        load = workload_of(CONV, LayerFormat(w_bits=bits, codec="bit-planes"))
        found = encode_weights(load, weight)
        datapath = arch.bind(load)
        tiles.append(
            datapath.pack_weights(found.integers, np.zeros(6, np.int64), np.array([1, 1, 12, 5, 4, 4])).tolist()
        )
    assert tiles[0][: len(tiles[1])] == tiles[1]
    assert tiles[1][: len(tiles[2])] == tiles[2]


def test_nested_planes_take_a_step_more_and_move_no_more():
    boxes = Boxes(np.zeros((1, 6), np.int64), np.array([[1, 1, 12, 5, 4, 4]]))
    arch = find_arch("bismo:small")
    steps, moved = [], []
    for fmt in (LayerFormat(w_bits=5), LayerFormat(w_bits=5, codec="bit-planes"), LayerFormat(w_bits=6)):
        datapath = arch.bind(workload_of(CONV, fmt))
        times = datapath.exec_times(boxes)
        steps.append(int((times.busy - times.fill)[0]))
        moved.append(int(datapath.weight_tile_bits(boxes)[0]))
    assert steps == [steps[0], steps[2], steps[2]]
    assert steps[0] < steps[2]
    assert moved == [moved[0], moved[0], moved[2]]
