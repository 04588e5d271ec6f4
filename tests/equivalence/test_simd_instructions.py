"""The core's closed forms against the kernel run instruction by instruction, and its Programs executed bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hwsim.archs.simd.datapath import TAIL_CYCLES
from hwsim.archs.simd.spec import PRESETS
from hwsim.core.datapath import Workload
from hwsim.core.layer import Layer
from hwsim.core.mapping import TILE_DIMS, list_boxes
from hwsim.core.policy import LayerFormat
from tests import naive_simd as naive
from tests.execute_cases import cases, execute_case
from tests.naive_cases import mappings, windowed_layers
from tests.tile_checks import check_places, check_sums


@st.composite
def cores(draw, number=None):
    """A core of odd sizes, in bytes or floats."""
    accumulators = draw(st.integers(1, 9))
    return replace(
        PRESETS["small"], preset="small+", number=number or draw(st.sampled_from(["int8", "fp32"])),
        vector_bits=draw(st.sampled_from([64, 128])), vector_pipes=draw(st.integers(1, 3)), issue=draw(st.integers(1, 5)),
        memory_bits=draw(st.sampled_from([32, 64, 128, 256])), accumulators=accumulators,
        filters=draw(st.integers(1, accumulators)), accumulate_cycles=draw(st.integers(1, 4)),
    )  # fmt: skip


def make_workload(layer, w_bits=8, codec="native"):
    fmt = LayerFormat(w_bits=w_bits, a_bits=8, codec=codec)
    return Workload(layer=layer, fmt=fmt, out_bits=8, operand_bits=(8,), operand_shapes=(layer.in_shape,))


def check_group(arch, datapath, found, first, last, size):
    """Compare a trace with the model's counts, and its cycles with what can be issued."""
    counts = datapath.count_group(*(np.array([value]) for value in (*size, first, last)))
    width = arch.vector_bits
    packs = int(counts.pack[0])
    assert packs == 0 or naive.fits(arch, found.packing, packs)
    assert packs == 0 or not naive.fits(arch, found.packing, packs - 1)
    total, blocks = packs, {}
    for ran, steps in found.tiles:
        key = (tuple(sorted(ran.items())), steps)
        if key not in blocks:
            moved = sum(ran[kind] for kind in ("load_a", "load_w", "load_p", "store"))
            least = max(steps * arch.accumulate_cycles, -(-moved * width // arch.memory_bits))
            cycles = least
            while not naive.fits(arch, ran, cycles):
                cycles += 1
            blocks[key] = cycles
        total += blocks[key]
    assert int(counts.busy[0]) == total
    kinds = ("vector", "load_a", "load_w", "load_p", "store", "pack_store", "scalar")
    assert int(counts.instructions[0]) == sum(found.count(kind) for kind in kinds)
    assert int(counts.vector[0]) == found.count("vector")
    assert int(counts.w_bits[0]) == found.count("load_w") * width
    packed, loaded = found.packing["load_a"], found.count("load_a")
    assert int(counts.a_bits[0]) == (packed or loaded) * width
    assert int(counts.l1_bits[0]) == (loaded - packed if packed else 0) * width
    assert int(counts.packed_bits[0]) == found.count("pack_store") * width


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    arch=cores(), m=st.integers(1, 30), k=st.integers(1, 11), c=st.integers(1, 9), r=st.integers(1, 3),
    stride=st.integers(1, 2), first=st.integers(0, 1), last=st.integers(0, 1), seed=st.integers(0, 99),
)  # fmt: skip
def test_instructions_are_those_of_the_kernel_and_fit_no_fewer_cycles(arch, m, k, c, r, stride, first, last, seed):
    width = (m - 1) * stride + r
    layer = Layer(
        name="layer", op="conv", inputs=("x",), K=k, C=c, P=1, Q=m, R=r, S=r, H=r, W=width, stride=(1, stride)
    )
    datapath = arch.bind(make_workload(layer))
    rng = np.random.default_rng(seed)
    pixels, filters = rng.integers(-128, 128, (m, c * r * r)), rng.integers(-128, 128, (k, c * r * r))
    side = "filters" if m < arch.lanes else "pixels"
    assert datapath.filters_in_lanes == (side == "filters")
    found = naive.run(
        arch, pixels, filters, stride=stride, lies_packed=arch.step == 1 and r == 1 and stride == 1, in_lanes=side,
        blocks=(datapath.block_words, datapath.block_others), first=first, last=last,
    )  # fmt: skip
    assert datapath.block_words * datapath.block_others <= arch.accumulators
    wanted = pixels @ filters.T
    got = found.sums[:m, :k] if side == "pixels" else found.sums[:k, :m].T
    np.testing.assert_array_equal(got, wanted)
    check_group(arch, datapath, found, first, last, (m, k, c))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    arch=cores("int8"), m=st.integers(1, 20), k=st.integers(1, 9), c=st.integers(1, 40), bits=st.sampled_from([1, 2, 4])
)
def test_codebook_weights_are_looked_up(arch, m, k, c, bits):
    layer = Layer(name="layer", op="gemm", inputs=("x",), N=m, K=k, C=c)
    datapath = arch.bind(make_workload(layer, bits, "codebook"))
    rng = np.random.default_rng(m)
    table = rng.integers(-128, 128, 1 << bits)
    pixels, indices = rng.integers(-128, 128, (m, c)), rng.integers(0, 1 << bits, (k, c))
    side = "filters" if m < arch.lanes else "pixels"
    found = naive.run(
        arch, pixels, indices, in_lanes=side, blocks=(datapath.block_words, datapath.block_others), table=table
    )
    wanted = pixels @ table[indices].T
    got = found.sums[:m, :k] if side == "pixels" else found.sums[:k, :m].T
    np.testing.assert_array_equal(got, wanted)
    check_group(arch, datapath, found, 1, 1, (m, k, c))


@st.composite
def tiled(draw):
    """A datapath and a tiling of its layer."""
    layer = draw(windowed_layers("conv", 7, 3))
    arch = draw(cores())
    load = make_workload(layer)
    if arch.number == "int8" and draw(st.booleans()):
        load = make_workload(layer, draw(st.sampled_from([1, 2, 4])), "codebook")
    return arch.bind(load), draw(mappings(layer))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(tiled())
def test_sums_over_tiles_are_those_of_single_tiles(case):
    datapath, mapping = case
    times, _ = check_sums(datapath, mapping)
    assert (times.tail == TAIL_CYCLES).all()
    check_places(datapath, mapping.tile)
    boxes = list_boxes(datapath.layer, mapping.tile)
    weights = datapath.weight_tile_bits(boxes)
    sums, first = datapath.sum_weight_tiles(np.array([mapping.tile]), 1)
    pixels = np.unique(boxes.lo[:, [0, 4, 5]], axis=0).shape[0]
    assert int(sums[0]) * pixels == int(weights.sum())
    assert int(first[0]) == int(datapath.largest_weight_tile(np.array([mapping.tile]))[0])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cases(), cores("int8"))
def test_the_output_is_the_functional_model_s(case, core):
    assume(case.layer.kind == "mac")
    arch = replace(core, shell=case.arch.shell, memory=case.arch.memory)
    after, wanted = execute_case(replace(case, arch=arch), arch.bind_mac(case.workload, None), "program", fill=0xA6)
    np.testing.assert_array_equal(after, wanted)


def test_a_mapping_is_found_for_a_fully_connected_layer_of_one_image():
    layer = Layer(name="fc", op="gemm", inputs=("x",), K=1000, C=512)
    datapath = PRESETS["a76"].bind(make_workload(layer))
    assert datapath.filters_in_lanes
    tile = tuple(getattr(layer, dim) for dim in TILE_DIMS)
    busy = int(datapath.sum_tiles(np.array([tile])).busy[0])
    # every weight is loaded once, 32 bytes a cycle: the core is bound by its loads
    assert busy >= layer.weights // 32
    assert busy <= 1.2 * layer.weights // 32
