"""What holds of every array whose time depends on bits: fewer bits never cost more, roofs, sources, what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.registry import decode_arch, encode_arch, find_arch, list_presets
from hwsim.core.errors import SpecError, UnknownName
from hwsim.core.layer import Layer
from hwsim.core.mapping import TILE_DIMS, Mapping
from hwsim.core.policy import LayerFormat
from hwsim.pipeline.layer import run_layer
from hwsim.pipeline.prices import choose_prices
from mappers.search import find_mapping
from tests.naive_cases import workload_of

ARCHS = [f"{name}:{preset}" for name in ("bismo", "bitfusion") for preset in list_presets(name)]
LAYERS = (
    Layer(name="first", op="conv", inputs=("x",), K=16, C=3, P=16, Q=16, R=3, S=3, H=33, W=33, stride=(2, 2)),
    Layer(name="depthwise", op="conv", inputs=("x",), G=40, P=8, Q=8, R=3, S=3, H=10, W=10),
    Layer(name="point", op="conv", inputs=("x",), N=2, K=50, C=300, P=7, Q=7, H=7, W=7),
    Layer(name="grouped", op="conv", inputs=("x",), G=3, K=8, C=8, P=6, Q=6, R=3, S=3, H=8, W=8),
    Layer(name="fc", op="gemm", inputs=("x",), N=4, K=40, C=500),
)
BITS = st.integers(1, 15)


def cut(layer: Layer, parts: int) -> Mapping:
    """Return a mapping that cuts rows, and filters and channels where the groups allow it."""
    dims = {dim: getattr(layer, dim) for dim in TILE_DIMS}
    tile = dims | {"P": -(-layer.P // parts)}
    if layer.G == 1:
        tile |= {"K": (layer.K // parts + 7) // 8 * 8, "C": -(-layer.C // parts)}
    return Mapping(tile=tuple(min(tile[dim], dims[dim]) for dim in TILE_DIMS), order="MKC")


def measure(arch, layer: Layer, w: int, a: int, mapping: Mapping):
    """Return engine cycles, moved bits by level, counts of the engine's and the shell's actions and what they cost."""
    datapath = arch.bind(workload_of(layer, w, a))
    stats, _ = run_layer(datapath, arch, mapping)
    busy = int(datapath.sum_tiles(np.array([mapping.tile])).busy[0])
    moved = sum(x.read_bits + x.write_bits for x in stats.traffic if x.level == "dram")
    terms = [
        t for t in choose_prices(arch, None).price_layer(stats)[0] if t.component not in ("leakage", "dram_static")
    ]
    return busy, moved, {(t.component, t.verb): t.energy_pj for t in terms}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(name=st.sampled_from(ARCHS), layer=st.sampled_from(LAYERS), w=BITS, a=BITS, parts=st.integers(1, 3))
def test_fewer_bits_never_cost_more_under_the_same_mapping(name, layer, w, a, parts):
    arch, mapping = find_arch(name), cut(layer, parts)
    busy, moved, energy = measure(arch, layer, w, a, mapping)
    for more in ((w + 1, a), (w, a + 1)):
        other = measure(arch, layer, *more, mapping)
        assert busy <= other[0]
        assert moved <= other[1]
        assert sum(energy.values()) <= sum(other[2].values())
        assert all(cost <= other[2][key] for key, cost in energy.items())


@pytest.mark.parametrize("name", ARCHS)
def test_cycles_lie_above_both_roofs_and_every_price_has_a_source(name):
    arch = find_arch(name)
    prices = choose_prices(arch, None)
    for layer in LAYERS:
        datapath = arch.bind(workload_of(layer, 4, 4))
        mapping = find_mapping(datapath, arch)
        assert mapping.proven
        stats, trace = run_layer(datapath, arch, mapping)
        assert stats.macs == layer.macs
        assert stats.cycles == stats.compute_cycles + sum(cycles for _, cycles in stats.stall_cycles)
        assert stats.compute_cycles * datapath.peak_macs_per_cycle() >= layer.macs
        loads = sum(x.read_bits for x in stats.traffic if x.level == "dram")
        ports = 3 if arch.memory.channels == "per-operand" else 1
        assert stats.cycles * arch.memory.bits_per_cycle * ports >= loads
        terms, unknown = prices.price_layer(stats)
        assert not unknown
        assert all(term.source and term.energy_pj >= 0 for term in terms)
        again, _ = run_layer(datapath, arch, mapping)
        assert again == stats
        assert trace.cycles == stats.cycles
    assert all(item.source and item.area_um2 is not None for item in prices.price_area())
    assert decode_arch(encode_arch(arch)) == arch
    assert arch.source


@pytest.mark.parametrize(("name", "codecs"), [("bismo", "dense or bit-planes"), ("bitfusion", "dense")])
def test_what_is_no_multiplication_of_dense_integers_is_refused(name, codecs):
    arch = find_arch(name)
    for fmt, said in (
        (LayerFormat(operator="shift"), f"policy for layer fc: operator: got 'shift', expected multiply on {name}"),
        (LayerFormat(codec="decomposed"), f"policy for layer fc: codec: got 'decomposed', expected {codecs} on {name}"),
    ):
        workload = workload_of(LAYERS[-1])
        changed = type(workload)(**{f: getattr(workload, f) for f in workload.__slots__} | {"fmt": fmt})
        with pytest.raises(SpecError) as caught:
            arch.bind(changed)
        assert said in str(caught.value)


@pytest.mark.parametrize(("field", "value"), [("rows", 0), ("word_bits", 48), ("depth_words", 8)])
def test_sizes_that_cannot_be_are_told(field, value):
    with pytest.raises(SpecError, match=f"bismo.{field}"):
        replace(find_arch("bismo"), **{field: value})


def test_an_architecture_and_a_preset_may_be_joined_by_a_hyphen():
    assert find_arch("bismo-cloud") is find_arch("bismo", "cloud")
    assert find_arch("bitfusion-8x8") is find_arch("bitfusion:8x8")
    assert find_arch("bismo").preset == find_arch("bismo-edge").preset == "edge"
    with pytest.raises(UnknownName, match="unknown architecture 'bismo-clowd'"):
        find_arch("bismo-clowd")
