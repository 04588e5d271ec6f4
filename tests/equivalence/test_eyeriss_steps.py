"""The row-stationary schedule's closed form against a machine of elements, registers and buses, cycle by cycle."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.eyeriss.choose import (
    bound_arrangements,
    choose_arrangement,
    estimate_tiles,
    list_cuts,
    list_tiles,
)
from hwsim.archs.eyeriss.schedule import Arrangement, count_tile, describe_filter, list_arrangements
from hwsim.archs.eyeriss.spec import PRESETS
from hwsim.core.mapping import CYCLES_TIE, TILE_DIMS, Mapping
from hwsim.nets.load import load_network
from hwsim.pipeline.layer import run_layer
from mappers.search import find_mapping
from tests.execute_cases import cases, check_program
from tests.naive_cases import conv, windowed_layers, workload_of
from tests.naive_eyeriss import Machine
from tests.tile_checks import check_places, check_sums, tiled


@st.composite
def archs(draw, base=PRESETS["small"]):
    """Small arrays of any shape, ports of a few words."""
    ifmap, word = draw(st.integers(3, 7)), draw(st.integers(1, 4))
    return replace(
        base, preset="small+", rows=draw(st.integers(1, 6)), cols=draw(st.integers(1, 6)), ifmap_words=ifmap,
        filter_words=draw(st.integers(ifmap * word, 40)), psum_words=draw(st.integers(word, 6)),
        w_port_words=draw(st.integers(1, 4)),
        i_port_words=draw(st.integers(1, 3)), o_port_words=word,
    )  # fmt: skip


def run_naive(layer, arch, how, seed):
    """Run the machine on random tensors; return it with its results, cycles, and what the results should be."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-8, 8, layer.in_shape)
    w = rng.integers(-8, 8, (layer.G * layer.K, layer.C, layer.R, layer.S))
    machine = Machine(layer, x, w, arch, how)
    found, busy, last = machine.run()
    return machine, found, busy, last, convolve(layer, x, w)


def convolve(layer, x, w):
    """Return the convolution, straight from its definition."""
    top, left, bottom, right = layer.padding
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    out = np.zeros((layer.N, layer.G, layer.K, layer.P, layer.Q), np.int64)
    for g in range(layer.G):
        for p in range(layer.P):
            for q in range(layer.Q):
                rows = p * layer.stride[0] + layer.dilation[0] * np.arange(layer.R)
                cols = q * layer.stride[1] + layer.dilation[1] * np.arange(layer.S)
                window = padded[:, g * layer.C : (g + 1) * layer.C][:, :, rows][:, :, :, cols]
                out[:, g, :, p, q] = np.einsum("ncrs,kcrs->nk", window, w[g * layer.K : (g + 1) * layer.K])
    return out


def check(layer, arch, seed, choice):
    window = describe_filter(layer, arch)
    many, _ = list_arrangements(layer, window, arch)
    at = choice % len(many.e)
    how = Arrangement(*(int(axis[at]) for axis in many))
    machine, found, busy, last, wanted = run_naive(layer, arch, how, seed)
    np.testing.assert_array_equal(found, wanted)
    counts = count_tile(tuple(np.int64(getattr(layer, dim)) for dim in TILE_DIMS), window, arch, how)
    assert busy == int(counts.cycles)
    assert last <= busy + int(counts.drain)
    assert 0 < int(counts.fill) < busy
    assert machine.i_reads == int(counts.i_reads)
    assert machine.w_reads == int(counts.w_reads)
    assert machine.o_writes == int(counts.o_writes)
    assert machine.hops == int(counts.hops)
    assert busy * arch.rows * arch.cols >= layer.macs
    check_actions(layer, arch, how, machine)


def check_actions(layer, arch, how, machine):
    """Every action of the engine is one that the machine did: as many, of as many bits."""
    datapath = arch.bind(workload_of(layer, w_bits := 5, a_bits := 7))
    datapath.how = how
    mapping = Mapping(tile=tuple(getattr(layer, dim) for dim in TILE_DIMS), order="MKC")
    psum, one = arch.shell.psum_bits, machine
    wanted = [
        ("mac", "mac", (w_bits, a_bits, psum), one.products),
        ("array", "add", (psum,), one.hops),
        ("weights", "rf", (w_bits,), one.w_uses + one.w_writes),
        ("inputs", "rf", (a_bits,), one.i_uses + one.i_writes),
        ("sums", "rf", (psum,), one.sum_uses),
        ("network", "noc", (w_bits,), one.w_writes),
        ("network", "noc", (a_bits,), one.i_writes),
        ("network", "noc", (psum,), one.hops + one.o_reads + one.o_writes),
        ("wbuf", "read", (), one.w_reads * w_bits),
        ("ibuf", "read", (), one.i_reads * a_bits),
        ("obuf", "write", (), one.o_writes * psum),
        ("obuf", "read", (), one.o_reads * psum),
    ]
    found = [(x.component, x.verb, tuple(x.bits or ()), x.count) for x in datapath.count_actions(mapping)]
    assert sorted(found) == sorted(wanted)
    assert one.products == layer.macs


@settings(max_examples=120, deadline=None, derandomize=True)
@given(arch=archs(), layer=windowed_layers("conv", 6, 2), seed=st.integers(0, 99), choice=st.integers(0, 999))
def test_random_layers_take_the_cycles_of_the_model(arch, layer, seed, choice):
    check(layer, arch, seed, choice)


LAYERS = (
    conv(size=(9, 9), window=(3, 3), padding=(1, 1, 1, 1), K=7, C=5),
    conv(size=(9, 8), window=(3, 3), stride=(2, 2), K=5, C=4, N=2),
    conv(size=(7, 7), window=(3, 3), padding=(1, 1, 1, 1), G=7),
    conv(size=(6, 6), G=3, K=4, C=2),
    conv(size=(5, 5), K=9, C=11),
    conv(op="gemm", N=3, K=13, C=17),
    conv(op="gemm", K=10, C=30),
    conv(size=(12, 9), window=(7, 3), K=3, C=2),
    conv(size=(9, 9), window=(3, 3), dilation=(2, 2), K=3, C=3),
    conv(size=(11, 11), window=(5, 3), stride=(4, 3), K=3, C=3),
)


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("choice", [0, 7, 123, 998])
def test_chosen_layers_take_the_cycles_of_the_model(layer, choice):
    arch = replace(PRESETS["small"], preset="small+", rows=4, cols=5, w_port_words=3, i_port_words=2, o_port_words=2)
    check(layer, arch, 1, choice)


@st.composite
def eyeriss_cases(draw):
    """Layers with tensors, on arrays with room for their filter rows."""
    case = draw(cases())
    base = replace(PRESETS["small"], shell=case.arch.shell, memory=case.arch.memory)
    return replace(case, arch=draw(archs(base)))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(eyeriss_cases())
def test_the_output_of_a_program_is_the_functional_model_s(case):
    check_program(case)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(tiled(archs()))
def test_sums_over_tiles_are_those_of_single_tiles(case):
    datapath, mapping = case
    times, _ = check_sums(datapath, mapping)
    assert ((times.fill > 0) & (times.fill < times.busy)).all()
    check_places(datapath, mapping.tile)


@pytest.mark.parametrize("preset", PRESETS)
def test_arrangements_keep_registers_and_array(preset):
    arch = PRESETS[preset]
    for layer in LAYERS:
        window = describe_filter(layer, arch)
        how = arch.bind(workload_of(layer)).how
        assert window.rows * how.r * how.e <= arch.rows * arch.cols
        assert how.p * how.q * layer.S <= arch.filter_words
        assert how.q * layer.S <= arch.ifmap_words
        assert how.p <= arch.psum_words


LARGER = (
    ("resnet8", "conv2d_1", "obuf_bits"),
    ("mobilenet_v2", "features.8.conv.1.0", "obuf_bits"),
    ("mobilenet_v2", "features.14.conv.0.0", "wbuf_bits"),
    ("resnet8", "conv2d_5", "ibuf_bits"),
)


@pytest.mark.parametrize(("network", "name", "field"), LARGER, ids=str)
def test_a_larger_buffer_is_never_slower(network, name, field):
    """The arrangements that a smaller buffer may take stay among those compared."""
    layer = next(one for one in load_network(network).network.layers if one.name == name)
    base = PRESETS["paper"]
    cycles = []
    for times in (1, 2, 4):
        shell = replace(base.shell, **{field: times * getattr(base.shell, field)})
        arch = replace(base, preset="paper+", shell=shell)
        datapath = arch.bind(workload_of(layer))
        cycles.append(run_layer(datapath, arch, find_mapping(datapath, arch))[0].cycles)
    assert all(later <= before * (1 + CYCLES_TIE) for before, later in pairwise(cycles)), cycles


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("preset", PRESETS)
def test_no_arrangement_is_left_out_that_would_be_better(layer, preset):
    """The search that stops early finds what a comparison of all arrangements and all tiles finds."""
    arch = PRESETS[preset]
    window = describe_filter(layer, arch)
    found, t = list_arrangements(layer, window, arch)
    every, cuts = np.arange(len(t)), np.array(list_cuts(layer))
    how, which, tile = list_tiles(layer, arch, found, t, every, cuts)
    cycles, _ = estimate_tiles(layer, window, arch, how, tile)
    assert (cycles >= bound_arrangements(layer, window, arch, found, t)[which]).all()
    chosen = choose_arrangement(layer, arch)
    same = np.logical_and.reduce([axis == one for axis, one in zip(how, chosen, strict=True)])
    assert int(cycles[same].min()) == int(cycles.min())
