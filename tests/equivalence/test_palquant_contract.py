"""What the low-bit array promises: fewer bits never cost more, roofs, sources, groups that fill its lanes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.registry import decode_arch, encode_arch, find_arch, list_presets
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.policy import LayerFormat
from hwsim.pipeline import simulate
from hwsim.pipeline.layer import run_layer
from hwsim.pipeline.prices import choose_prices
from mappers.search import find_mapping
from tests.contract.test_mixed_precision import LAYERS, cut, measure
from tests.naive_cases import conv, workload_of

PRESETS = [f"palquant:{preset}" for preset in list_presets("palquant")]
BITS = st.integers(1, 15)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(PRESETS), native=st.integers(2, 4), layer=st.sampled_from(LAYERS), w=BITS, a=BITS,
    parts=st.integers(1, 3),
)  # fmt: skip
def test_fewer_bits_never_cost_more_under_the_same_mapping(name, native, layer, w, a, parts):
    arch, mapping = replace(find_arch(name), native_bits=native, preset="other+"), cut(layer, parts)
    busy, moved, energy = measure(arch, layer, w, a, mapping)
    for more in ((w + 1, a), (w, a + 1)):
        other = measure(arch, layer, *more, mapping)
        assert busy <= other[0]
        assert moved <= other[1]
        assert all(cost <= other[2][key] for key, cost in energy.items())


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("bits", [2, 5])
def test_cycles_lie_above_both_roofs_and_every_price_has_a_source(name, bits):
    arch = find_arch(name)
    prices = choose_prices(arch, None)
    for layer in LAYERS:
        datapath = arch.bind(workload_of(layer, bits, bits))
        mapping = find_mapping(datapath, arch)
        assert mapping.proven
        stats, trace = run_layer(datapath, arch, mapping)
        assert stats.macs == layer.macs
        assert stats.cycles == stats.compute_cycles + sum(cycles for _, cycles in stats.stall_cycles) == trace.cycles
        assert stats.compute_cycles * datapath.peak_macs_per_cycle() >= layer.macs
        moved = sum(x.read_bits + x.write_bits for x in stats.traffic if x.level == "dram")
        assert stats.cycles * arch.memory.bits_per_cycle >= moved
        terms, unknown = prices.price_layer(stats)
        assert not unknown
        assert all(term.source and term.energy_pj >= 0 for term in terms)
        assert run_layer(datapath, arch, mapping)[0] == stats
    assert all(item.source and item.area_um2 for item in prices.price_area())
    assert decode_arch(encode_arch(arch)) == arch
    assert arch.source


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_larger_buffers_never_take_longer(layer):
    arch = find_arch("palquant:small")
    shell = arch.shell
    large = replace(
        arch, preset="small+", shell=replace(shell, wbuf_bits=4 * shell.wbuf_bits, ibuf_bits=4 * shell.ibuf_bits,
                                             obuf_bits=4 * shell.obuf_bits))  # fmt: skip
    best = []
    for one in (arch, large):
        datapath = one.bind(workload_of(layer, 4, 4))
        best.append(run_layer(datapath, one, find_mapping(datapath, one))[0].cycles)
    assert best[1] <= best[0] * 1.005  # mappings within half a percent count as equally fast


def test_what_is_no_multiplication_of_dense_integers_is_refused():
    arch = find_arch("palquant")
    for fmt, said in (
        (LayerFormat(operator="add"), "policy for layer fc: operator: got 'add', expected multiply on palquant"),
        (LayerFormat(codec="codebook"), "policy for layer fc: codec: got 'codebook', expected dense on palquant"),
        (LayerFormat(groups=2), "policy for layer fc: groups: got 2, expected 1: the network is widened"),
    ):
        with pytest.raises(SpecError) as caught:
            arch.bind(replace(workload_of(LAYERS[-1]), fmt=fmt))
        assert said in str(caught.value)


def count_busy(arch, layer: Layer, bits: int = 2) -> int:
    tile = np.array([[layer.N, layer.G, layer.K, layer.C, layer.P, layer.Q]])
    return int(arch.bind(workload_of(layer, bits, bits)).sum_tiles(tile).busy[0])


def test_channels_of_a_depthwise_layer_lie_side_by_side():
    """Four segments of 16 lanes, a window of nine each, times four blocks of columns: sixteen channels at once."""
    arch = find_arch("palquant")
    layer = conv(size=(10, 10), window=(3, 3), G=96)
    alone = replace(arch, preset="base+", segment_lanes=arch.rows, column_blocks=1)
    assert count_busy(alone, layer) == 96 * 64
    assert count_busy(arch, layer) == 96 * 64 // 16


def test_groups_share_lanes_that_one_of_them_leaves_idle():
    """ResNet-18's first stage on 256 lanes: a window of 576 takes three steps, two groups of it five, four groups nine."""
    arch = replace(find_arch("palquant"), preset="base+", rows=256, cols=32)
    pixels = 56 * 56
    for groups, steps in ((1, 3), (2, 5), (4, 9)):
        layer = conv(size=(56, 56), window=(3, 3), padding=(1, 1, 1, 1), G=groups, K=64, C=64)
        assert count_busy(arch, layer) == pixels * 2 * steps


@pytest.mark.parametrize("name", ["resnet8", "mobilenet_v2"])
def test_networks_run_on_every_preset(name):
    for preset in PRESETS:
        report = simulate(name, preset, policy="w2a2")
        assert report.cycles > 0
        assert all(row.mapping.proven for row in report.layers if row.mapping)
