"""The core with vector instructions: what it refuses, what float32 stores, roofs, prices, presets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hwsim.archs.registry import decode_arch, encode_arch, find_arch, list_presets
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.mapping import TILE_DIMS, Mapping
from hwsim.core.policy import LayerFormat, Policy
from hwsim.pipeline.layer import run_layer
from hwsim.pipeline.prices import choose_prices
from hwsim.pipeline.simulate import simulate
from mappers.search import find_mapping
from tests.naive_cases import conv, workload_of

LAYERS = (
    conv(name="first", size=(33, 33), window=(3, 3), stride=(2, 2), K=16, C=3),
    conv(name="depthwise", size=(10, 10), window=(3, 3), padding=(1, 1, 1, 1), G=40),
    conv(name="point", size=(7, 7), N=2, K=50, C=300),
    conv(name="grouped", size=(8, 8), window=(3, 3), G=3, K=8, C=8),
    Layer(name="fc", op="gemm", inputs=("x",), K=40, C=500),
)


def load_at(layer, **fields):
    return replace(workload_of(layer), fmt=LayerFormat(**fields))


@pytest.mark.parametrize(
    ("arch", "fields", "said"),
    [
        ("simd", {"a_bits": 4}, "a_bits: got 4, expected 8 bits: dot products take bytes"),
        ("simd", {"w_bits": 4}, "w_bits: got 4, expected 8 bits, or the codec codebook with 1, 2 or 4"),
        ("simd", {"w_bits": 3, "codec": "codebook"}, "w_bits: got 3, expected indices of 1, 2 or 4 bits"),
        ("simd", {"codec": "bit-planes"}, "codec: got 'bit-planes', expected dense or codebook on simd"),
        ("simd-a76-fp32", {"w_bits": 4, "codec": "codebook"}, "codec: got 'codebook', expected dense on a core of float32"),
        ("simd", {"operator": "shift"}, "operator: got 'shift', expected multiply on simd"),
    ],
)  # fmt: skip
def test_formats_that_it_has_not_are_told(arch, fields, said):
    with pytest.raises(SpecError) as caught:
        find_arch(arch).bind(load_at(LAYERS[-1], **fields))
    assert f"policy for layer fc: {said}" in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"), [("vector_bits", 96), ("memory_bits", 48), ("filters", 25), ("number", "int4"), ("issue", 0)]
)
def test_fields_that_cannot_be_are_told(field, value):
    with pytest.raises(SpecError, match=f"simd.{field}"):
        replace(find_arch("simd"), **{field: value})


@pytest.mark.parametrize("preset", list_presets("simd"))
def test_roofs_prices_and_round_trip(preset):
    arch = find_arch("simd", preset)
    prices = choose_prices(arch, None)
    peak = arch.vector_pipes * arch.vector_bits // (8 if arch.number == "int8" else 32)
    for layer in LAYERS:
        datapath = arch.bind(workload_of(layer))
        assert datapath.peak_macs_per_cycle() == peak
        mapping = find_mapping(datapath, arch)
        assert mapping.proven
        stats, _ = run_layer(datapath, arch, mapping)
        assert stats.compute_cycles * peak >= stats.macs == layer.macs
        moved = sum(x.read_bits + x.write_bits for x in stats.traffic if x.level == "dram")
        assert stats.cycles * arch.memory.bits_per_cycle >= moved
        terms, unknown = prices.price_layer(stats)
        assert not unknown
        assert all(term.source and term.energy_pj >= 0 for term in terms)
        assert {"icache", "rf", "mac"} <= {term.component for term in terms}
    assert decode_arch(encode_arch(arch)) == arch
    assert arch.source
    fields = {field.removeprefix("shell.").removeprefix("memory.") for field in arch.unverified}
    owners = (arch, arch.shell, arch.memory)
    assert all(any(hasattr(owner, field) for owner in owners) for field in fields)


def test_float32_stores_and_moves_four_times_as_much():
    for layer in LAYERS:
        tile = tuple(getattr(layer, dim) for dim in TILE_DIMS)
        mapping, found = Mapping(tile=tile, order="MKC"), {}
        for name in ("a76", "a76-fp32"):
            arch = find_arch("simd", name)
            arch = replace(arch, shell=replace(arch.shell, wbuf_bits=1 << 26, ibuf_bits=1 << 26, obuf_bits=1 << 26))
            arch = replace(arch, memory=replace(arch.memory, align_bits=8))  # rows take whole bytes
            datapath = arch.bind(workload_of(layer))
            stats, _ = run_layer(datapath, arch, mapping)
            found[name] = [x.read_bits + x.write_bits for x in stats.traffic if x.level == "dram"]
            found[name].append(datapath.weight_storage_bits())
        assert found["a76-fp32"] == [4 * bits for bits in found["a76"]]


def test_float32_is_the_same_whatever_the_policy_says():
    whole = [simulate("resnet8", "simd", preset="a55-fp32", policy=bits) for bits in ("w8a8", "w4a16")]
    assert whole[0].cycles == whole[1].cycles
    assert whole[0].energy_pj == whole[1].energy_pj
    assert {layer.out_bits for layer in whole[0].layers if layer.stats.cycles} == {32}


def test_fewer_bits_of_an_index_never_cost_more():
    arch = find_arch("simd")
    prices = choose_prices(arch, None)
    for layer in LAYERS:
        mapping = Mapping(tile=tuple(getattr(layer, dim) for dim in TILE_DIMS), order="MKC")
        before = (0, 0, 0.0)
        for bits in (1, 2, 4):
            datapath = arch.bind(load_at(layer, w_bits=bits, codec="codebook"))
            stats, _ = run_layer(datapath, arch, mapping)
            terms = prices.price_layer(stats)[0]
            energy = sum(t.energy_pj for t in terms if t.component not in ("leakage", "dram_static"))
            now = (int(datapath.sum_tiles(np.array([mapping.tile])).busy[0]), stats.traffic[0].read_bits, energy)
            assert all(a <= b for a, b in zip(before, now, strict=True))
            before = now


def test_a_codebook_saves_storage_and_takes_look_ups():
    policy = Policy(default=LayerFormat(w_bits=2, a_bits=8, codec="codebook"))
    dense, looked = simulate("resnet8", "simd"), simulate("resnet8", "simd", policy=policy)
    weights = [sum(layer.weight_bits for layer in report.layers) for report in (dense, looked)]
    tables = 10 * 4 * 8
    assert weights[1] == weights[0] // 4 + tables
    assert looked.cycles > dense.cycles
