"""`eyeriss` and `mpic`: fewer bits never cost more under the same mapping, roofs, sources, the same result twice."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.registry import decode_arch, encode_arch, find_arch, list_presets
from hwsim.core.policy import LayerFormat
from hwsim.pipeline.layer import run_layer
from hwsim.pipeline.prices import choose_prices
from mappers.search import find_mapping
from tests.contract.test_mixed_precision import LAYERS, cut, measure
from tests.naive_cases import workload_of

ARCHS = [f"{name}:{preset}" for name in ("eyeriss", "mpic") for preset in list_presets(name)]
WIDTHS = (2, 4, 8, 16)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(ARCHS), layer=st.sampled_from(LAYERS), w=st.integers(0, 2), a=st.integers(0, 2), parts=st.integers(1, 3)
)  # fmt: skip
def test_fewer_bits_never_cost_more_under_the_same_mapping(name, layer, w, a, parts):
    arch, mapping = find_arch(name), cut(layer, parts)
    busy, moved, energy = measure(arch, layer, WIDTHS[w], WIDTHS[a], mapping)
    for more in ((w + 1, a), (w, a + 1)):
        other = measure(arch, layer, WIDTHS[more[0]], WIDTHS[more[1]], mapping)
        assert busy <= other[0]
        assert moved <= other[1]
        assert sum(energy.values()) <= sum(other[2].values())


def measure_mixed(layer, pairs, mapping):
    """Return engine cycles, moved bits, stored bits and energy of a layer with bits by channel on `mpic`."""
    arch = find_arch("mpic")
    fmt = LayerFormat(w_bits=pairs[0][0], channel_bits=pairs)
    datapath = arch.bind(replace(workload_of(layer), fmt=fmt))
    stats, _ = run_layer(datapath, arch, mapping)
    energy = sum(term.energy_pj for term in choose_prices(arch, None).price_layer(stats)[0])
    moved = sum(x.read_bits + x.write_bits for x in stats.traffic if x.level == "dram")
    return stats.compute_cycles, moved, datapath.weight_storage_bits(), energy


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
@pytest.mark.parametrize("parts", [1, 2])
def test_narrower_channels_never_cost_more(layer, parts):
    """From eight bits everywhere to two and pruned ones, four filters at a time: every step saves storage, traffic and cycles."""
    filters = layer.G * layer.K
    unit = 4 if layer.G == 1 else max(1, filters // 4)
    steps = [((8, filters),)]
    steps += [((8, filters - unit), (bits, unit)) for bits in (4, 2, 0)]
    steps += [((8, unit), (2, filters - 2 * unit), (0, unit)), ((8, unit), (0, filters - unit))]
    found = [measure_mixed(layer, pairs, cut(layer, parts)) for pairs in steps]
    for before, after in pairwise(found):
        assert all(new <= old for new, old in zip(after[1:], before[1:], strict=True))
    assert found[-1][0] < found[0][0]
    assert found[-1][2] == found[0][2] * unit // filters


@pytest.mark.parametrize("name", ARCHS)
def test_cycles_lie_above_both_roofs_and_every_price_has_a_source(name):
    arch = find_arch(name)
    prices = choose_prices(arch, None)
    for layer in LAYERS:
        datapath = arch.bind(workload_of(layer, 4, 4))
        mapping = find_mapping(datapath, arch)
        assert mapping.proven
        stats, trace = run_layer(datapath, arch, mapping)
        assert stats.cycles == stats.compute_cycles + sum(cycles for _, cycles in stats.stall_cycles) == trace.cycles
        assert stats.compute_cycles * datapath.peak_macs_per_cycle() >= stats.macs == layer.macs
        loads = sum(x.read_bits for x in stats.traffic if x.level == "dram")
        assert stats.cycles * arch.memory.bits_per_cycle >= loads
        products = sum(x.count for x in stats.actions if (x.component, x.verb) == ("mac", "mac"))
        assert products == layer.macs
        terms, unknown = prices.price_layer(stats)
        assert not unknown
        assert all(term.source and term.energy_pj >= 0 for term in terms)
        assert run_layer(datapath, arch, mapping)[0] == stats
    assert all(item.source and item.area_um2 is not None for item in prices.price_area())
    assert decode_arch(encode_arch(arch)) == arch
    assert arch.source
