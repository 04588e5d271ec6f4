"""The mapper by hand: refusals in full, the space's shape, the bound with busy DRAM."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hwsim.archs.systolic.spec import PRESETS
from hwsim.core.datapath import Workload
from hwsim.core.errors import Infeasible, SpecError
from hwsim.core.layer import Layer
from hwsim.core.mapping import CYCLES_TIE, ORDERS, Mapping
from hwsim.core.policy import LayerFormat
from hwsim.core.shell import Memory
from hwsim.engine.lower import prepare_lowering
from mappers.objective import Objective
from mappers.search import build_space, describe_tile, evaluate, find_mapping, measure
from mappers.space import list_sizes, list_tilings, select_orders
from tests.naive_cases import workload_of

SMALL = PRESETS["small"]
CONV = Layer(
    name="conv1", op="conv", inputs=("x",), K=16, C=16, R=3, S=3, padding=(1, 1, 1, 1), P=16, Q=16, H=16, W=16,
)  # fmt: skip


def with_buffers(**bits: int):
    """Return the small preset with other buffers."""
    return replace(SMALL, preset="small+", shell=replace(SMALL.shell, **bits))


@pytest.mark.parametrize(
    ("buffers", "text"),
    [
        # 8 filters (the array's columns) x 1 channel x 9 weights x 8 bits, whole beats of 64
        ({"wbuf_bits": 1024}, "layer conv1: the smallest tile needs 576 bits of wbuf, one bank holds 512; "
         "a larger wbuf (--set wbuf_bits=...) or fewer weight bits would help"),
        # one pixel reads 3 rows; of each, 3 columns of 8 bits may lie in two beats of 64 bits
        ({"ibuf_bits": 256}, "layer conv1: the smallest tile needs 384 bits of ibuf, one bank holds 128; "
         "a larger ibuf (--set ibuf_bits=...) or fewer activation bits would help"),
        # one pixel of 8 filters at 32 bits
        ({"obuf_bits": 384, "stage_bits": 512}, "layer conv1: the smallest tile needs 256 bits of obuf, one bank holds 192; "
         "a larger obuf (--set obuf_bits=...) would help"),
        # one pixel of 8 filters, each in a beat of its own
        ({"stage_bits": 511}, "layer conv1: the smallest tile needs 512 bits of sbuf, one bank holds 511; "
         "a larger staging buffer (--set stage_bits=...) or fewer activation bits would help"),
    ],
)  # fmt: skip
def test_a_buffer_too_small_is_named_with_demand_bank_and_lever(buffers, text):
    arch = with_buffers(**buffers)
    with pytest.raises(Infeasible) as caught:
        find_mapping(arch.bind(workload_of(CONV)), arch)
    assert str(caught.value) == text
    assert caught.value.where == "conv1"
    assert caught.value.buffer == text.split(" bits of ")[1][:4]


def test_sizes_cut_into_equal_parts_of_the_quantum():
    assert list_sizes(12, 1) == [12, 6, 4, 3, 2, 1]
    assert list_sizes(20, 8) == [20, 16, 8]
    assert list_sizes(5, 8) == [5]


def test_space_holds_canonical_tilings_once_each():
    layer = replace(CONV, G=4, N=2)
    datapath = SMALL.bind(workload_of(layer))
    tilings = list_tilings(datapath)
    assert len(np.unique(tilings, axis=0)) == len(tilings)
    for n, g, k, c, p, q in tilings.tolist():
        assert g == 1 or (k, c) == (layer.K, layer.C), "several groups only with all of their channels"
        assert n == 1 or (p, q) == (layer.P, layer.Q), "several images only whole"
        assert q == layer.Q or p == 1, "part of a row only one row at a time"


def test_orders_that_differ_by_a_loop_of_one_step_are_searched_once():
    tilings = np.array([[1, 1, 16, 16, 16, 16], [1, 1, 16, 16, 4, 16], [1, 1, 8, 16, 4, 16], [1, 1, 8, 4, 4, 16]])
    assert select_orders(CONV, tilings).sum(axis=1).tolist() == [1, 1, 2, len(ORDERS)]


def test_unknown_objective():
    with pytest.raises(SpecError, match=r"^objective: got 'speed', expected one of cycles, least-cycles, energy, edp$"):
        Objective(name="speed")


def test_a_large_layer_is_proven_and_the_same_every_time():
    found = find_mapping(SMALL.bind(workload_of(CONV)), SMALL)
    assert found.proven
    assert found == find_mapping(SMALL.bind(workload_of(CONV)), SMALL)
    assert describe_tile(found).split()[-1] == found.order
    assert found.evaluated < found.candidates


def test_a_mapping_slower_by_less_than_a_tie_is_taken_for_its_energy():
    prices = Objective(name="cycles", read_pj=20.0, write_pj=20.0, sbuf_read_pj=0.1, static_pj_per_cycle=1.0)
    layer = replace(CONV, C=3, P=32, Q=32, H=32, W=32)  # the first one of ResNet-8
    path = SMALL.bind(workload_of(layer))
    ready = prepare_lowering(path, SMALL)
    space = build_space(path, SMALL, prices, ready)
    timed = {
        mapping: measure(path, SMALL, prices, mapping, ready)
        for row, order in zip(*np.nonzero(np.isfinite(space.bound)), strict=True)
        for mapping in [Mapping(tile=tuple(space.tilings[row].tolist()), order=ORDERS[order])]
    }
    least = min(cycles for cycles, _ in timed.values())
    energy = min(energy for cycles, energy in timed.values() if cycles <= least * (1 + CYCLES_TIE))
    fastest = min(energy for cycles, energy in timed.values() if cycles == least)
    found = find_mapping(path, SMALL, prices)
    assert measure(path, SMALL, prices, found, ready) == (found.value, energy)
    assert energy < fastest
    assert least < found.value
    assert found.lower_bound == least
    assert found.proven
    assert find_mapping(path, SMALL).value == least


BUSY = (
    Layer(name="act", op="activation", inputs=("x",), G=16, P=16, Q=16, H=16, W=16),
    Layer(name="conv", op="conv", inputs=("x",), C=16, K=16, P=16, Q=16, H=16, W=16),
)


@pytest.mark.parametrize("layer", BUSY, ids=["activation", "conv"])
@pytest.mark.parametrize("part", ["lpddr4-3200", "ddr4-2400", "hbm2"])
@pytest.mark.parametrize("channels", ["shared", "per-operand"])
def test_bound_is_admissible_where_loads_and_stores_keep_the_dram_busy(layer, part, channels):
    """A port narrower than the memory's peak serves loads and stores at once; a bound that added them up was too high."""
    shell = replace(SMALL.shell, vector_lanes=64, store_lanes=64)
    load = Workload(layer=layer, fmt=LayerFormat(), out_bits=8, operand_bits=(8,), operand_shapes=(layer.in_shape,))
    for bits in (16, 128):
        memory = Memory(kind="dram", part=part, bits_per_cycle=bits, channels=channels)
        arch = replace(SMALL, preset="small+", memory=memory, shell=shell, clock_hz=1e9)
        datapath = arch.bind(load)
        ready = prepare_lowering(datapath, arch)
        space = build_space(datapath, arch, Objective(), ready)
        rows, orders = np.nonzero(np.isfinite(space.bound))
        for row, order in list(zip(rows.tolist(), orders.tolist(), strict=True))[:: max(1, len(rows) // 12)]:
            mapping = Mapping(tile=tuple(space.tilings[row].tolist()), order=ORDERS[order])
            assert space.bound[row, order] <= evaluate(datapath, arch, Objective(), mapping, ready)
