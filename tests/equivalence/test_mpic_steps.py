"""The mixed-precision core's closed forms against a core that executes instructions; Programs with bits by channel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.mpic.spec import PRESETS
from hwsim.core.datapath import Workload
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.mapping import TILE_DIMS, Boxes, list_boxes
from hwsim.core.policy import LayerFormat
from tests.equivalence.test_eyeriss_steps import convolve
from tests.execute_cases import cases, check_program
from tests.naive_cases import conv, mappings, windowed_layers, workload_of
from tests.naive_mpic import Core
from tests.tile_checks import check_places, check_sums

WIDTHS = (2, 4, 8, 16)


@st.composite
def archs(draw, base=PRESETS["small"]):
    """Cores with sums of other shapes and small column memories."""
    filters, pixels = draw(st.sampled_from([(4, 2), (1, 1), (2, 2), (3, 2), (2, 3), (4, 1)]))
    shell = replace(base.shell, ibuf_port_bits=draw(st.sampled_from([16, 64])))
    columns = draw(st.sampled_from([1 << 11, 1 << 12, 1 << 16]))
    return replace(base, preset="small+", filters=filters, pixels=pixels, shell=shell, column_bits=columns)


@st.composite
def formats(draw, layer: Layer, signed_bits=WIDTHS):
    """One width for all filters, or up to five of them, pruned filters last."""
    a_bits, filters = draw(st.sampled_from(WIDTHS)), layer.G * layer.K
    if filters == 1 or draw(st.booleans()):
        return LayerFormat(w_bits=draw(st.sampled_from(signed_bits)), a_bits=a_bits)
    chosen = draw(st.sets(st.sampled_from((0, *signed_bits)), min_size=1, max_size=min(5, filters)))
    chosen = sorted(chosen, reverse=True) if chosen != {0} else [8]
    counts = [1] * len(chosen)
    for _ in range(filters - len(chosen)):
        counts[draw(st.integers(0, len(chosen) - 1))] += 1
    return LayerFormat(w_bits=chosen[0], a_bits=a_bits, channel_bits=tuple(zip(chosen, counts, strict=True)))


@st.composite
def bound(draw, most_size=5):
    layer = draw(windowed_layers("conv", most_size, 2))
    fmt = draw(formats(layer))
    workload = Workload(layer=layer, fmt=fmt, out_bits=8, operand_bits=(fmt.a_bits,), operand_shapes=(layer.in_shape,))
    return draw(archs()).bind(workload)


def list_bits(layer: Layer, fmt: LayerFormat) -> list[int]:
    """Return the bits of each filter, as stored."""
    if not fmt.channel_bits:
        return [fmt.w_bits] * (layer.G * layer.K)
    return [bits for bits, count in fmt.channel_bits for _ in range(count)]


def draw_tensors(datapath, seed):
    """Return unsigned inputs and signed weights over the whole range of each filter's bits."""
    layer, fmt = datapath.layer, datapath.workload.fmt
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 1 << fmt.a_bits, layer.in_shape)
    w = [
        rng.integers(-(1 << bits >> 1), max(1 << bits >> 1, 1), (layer.C, layer.R, layer.S))
        for bits in list_bits(layer, fmt)
    ]
    return x, np.array(w)


def check(datapath, seed):
    layer, fmt = datapath.layer, datapath.workload.fmt
    x, w = draw_tensors(datapath, seed)
    lo, hi = np.zeros(6, np.int64), np.array([getattr(layer, dim) for dim in TILE_DIMS])
    stored = datapath.pack_weights(w, lo, hi)
    assert len(stored) == int(datapath.weight_tile_bits(Boxes(lo[None], hi[None]))[0]) == datapath.weight_storage_bits()
    stream = int("".join(map(str, stored[::-1].tolist())) or "0", 2)
    core = Core(layer, x, stream, list_bits(layer, fmt), fmt.a_bits, datapath.arch)
    found = core.run()
    wanted = convolve(layer, x, w).reshape(layer.N, layer.G * layer.K, layer.P, layer.Q)
    for (k, (n, p, q)), total in found.items():
        assert total == wanted[n, k, p, q]
    assert len(found) == layer.out_elements
    whole = tuple(hi.tolist())
    times = datapath.exec_times(list_boxes(layer, whole))
    assert int(times.busy[0]) == core.cycle
    assert int(times.busy[0] - times.fill[0]) == core.instructions
    sums = datapath.sum_tiles(hi[None])
    psum = datapath.arch.shell.psum_bits
    assert int(sums.busy[0]) == core.cycle
    assert int(sums.wbuf_read_bits[0]) == 32 * core.w_loads
    assert int(sums.psum_bits[0]) == (core.o_stores + core.o_loads) * psum
    _, worked, columns = datapath._sum_work(hi[None])
    assert (int(worked[0]), int(columns[0])) == (core.instructions, 32 * core.column_loads)
    assert core.cycle * datapath.peak_macs_per_cycle() >= layer.macs


@settings(max_examples=100, deadline=None, derandomize=True)
@given(bound(), st.integers(0, 99))
def test_random_layers_take_the_cycles_of_the_model(datapath, seed):
    check(datapath, seed)


LAYERS = (
    conv(size=(6, 6), window=(3, 3), padding=(1, 1, 1, 1), K=9, C=5),
    conv(size=(5, 5), window=(3, 3), padding=(1, 1, 1, 1), G=9),
    conv(size=(4, 3), K=11, C=17),
    conv(size=(5, 4), window=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1), K=6, C=4, N=2),
    conv(op="gemm", N=3, K=13, C=70),
    conv(size=(4, 4), G=3, K=4, C=2),
)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{layer.op}-G{layer.G}-K{layer.K}-C{layer.C}")
@pytest.mark.parametrize("a_bits", [2, 8])
@pytest.mark.parametrize("widths", [(8,), (2,), (8, 4, 2, 0), (4, 0), (8, 2)])
def test_chosen_layers_take_the_cycles_of_the_model(layer, a_bits, widths):
    filters = layer.G * layer.K
    counts = [filters // len(widths)] * len(widths)
    counts[0] += filters - sum(counts)
    fmt = LayerFormat(w_bits=widths[0], a_bits=a_bits)
    if len(widths) > 1:
        fmt = replace(fmt, channel_bits=tuple(zip(widths, counts, strict=True)))
    workload = Workload(layer=layer, fmt=fmt, out_bits=8, operand_bits=(a_bits,), operand_shapes=(layer.in_shape,))
    check(PRESETS["small"].bind(workload), 3)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_sums_over_tiles_are_those_of_single_tiles(data):
    datapath = data.draw(bound(6))
    layer, mapping = datapath.layer, data.draw(mappings(datapath.layer))
    times, moved = check_sums(datapath, mapping)
    assert ((times.fill > 0) & (times.fill < times.busy)).all()
    assert moved["ibuf", "read"] == moved["columns", "write"]
    assert moved["program", "read"] == 32 * int((times.busy - times.fill).sum())
    check_places(datapath, mapping.tile)
    kept = sum(bits > 0 for bits in list_bits(layer, datapath.workload.fmt))
    assert (
        sum(x.count for x in datapath.count_actions(mapping) if x.component == "mac") * layer.G * layer.K
        == layer.macs * kept
    )


@st.composite
def mpic_cases(draw):
    """Layers with tensors at widths of the core, bits by channel where the weights have no zero points."""
    case = draw(cases().filter(lambda case: case.workload.fmt.a_bits in WIDTHS))
    layer, fmt = case.layer, case.workload.fmt
    arch = draw(archs(replace(PRESETS["small"], shell=case.arch.shell, memory=case.arch.memory)))
    if layer.kind != "mac":
        return replace(case, arch=arch)
    wanted = replace(draw(formats(layer, (2, 4, 8))), a_bits=fmt.a_bits)
    held = case.tensors.layers["layer"]
    bits = list_bits(layer, wanted)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    weight = [rng.integers(-(1 << one >> 1), max(1 << one >> 1, 1), held.weight.shape[1:]) for one in bits]
    held = replace(held, weight=np.array(weight, np.int8), w_zero=None, w_bits=wanted.w_bits)
    tensors = replace(case.tensors, layers={"layer": held})
    return replace(case, arch=arch, tensors=tensors, workload=replace(case.workload, fmt=wanted))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(mpic_cases())
def test_the_output_of_a_program_is_the_functional_model_s(case):
    check_program(case)


def test_pruned_filters_take_a_store_for_each_pixel_and_nothing_else():
    layer = conv(size=(6, 6), window=(3, 3), padding=(1, 1, 1, 1), K=16, C=8)
    arch, base = PRESETS["small"], workload_of(layer)
    half = replace(base, fmt=LayerFormat(channel_bits=((8, 8), (0, 8))))
    alone = workload_of(replace(layer, K=8))
    box = {name: list_boxes(x.layer, (1, 1, x.layer.K, 8, 6, 6)) for name, x in (("half", half), ("alone", alone))}
    times = {name: arch.bind(x).exec_times(box[name]) for name, x in (("half", half), ("alone", alone))}
    assert int(times["half"].busy[0]) == int(times["alone"].busy[0]) + 36 * 8
    assert arch.bind(half).weight_storage_bits() == arch.bind(alone).weight_storage_bits()
    assert arch.bind(half).peak_macs_per_cycle() == 2 * arch.bind(alone).peak_macs_per_cycle()
    assert "requantized bias" in arch.bind(half).notes()[0]


@pytest.mark.parametrize(
    ("fmt", "said"),
    [
        (LayerFormat(w_bits=3), "w_bits: got 3, expected one of 2, 4, 8, 16 bits"),
        (LayerFormat(a_bits=6), "a_bits: got 6, expected one of 2, 4, 8, 16 bits"),
        (LayerFormat(channel_bits=((8, 10), (3, 6))), "channel_bits: got 3, expected 0 (pruned) or one of"),
        (
            LayerFormat(channel_bits=((8, 10), (4, 5))),
            "channel_bits: got '15 filters', expected 16, those of the layer",
        ),
    ],
)
def test_widths_that_a_register_does_not_hold_are_refused(fmt, said):
    workload = replace(workload_of(conv(size=(6, 6), K=16, C=8)), fmt=fmt)
    with pytest.raises(SpecError) as caught:
        PRESETS["paper"].bind(workload)
    assert said in str(caught.value)
