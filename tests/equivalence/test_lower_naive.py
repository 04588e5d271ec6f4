"""The Program against nested loops that count elements one by one."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.systolic.spec import PRESETS
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.mapping import TILE_DIMS, Mapping, list_boxes
from hwsim.core.program import OPCODES, QUEUES, SPILL_PIPELINE_CYCLES, STORE_PIPELINE_CYCLES
from hwsim.engine.lower import PAGE_BITS, lower, prepare_lowering, stored_bits
from tests.naive_cases import archs, cases, workload_of, workloads
from tests.naive_lower import address_of, count_slots, decode_units, list_visits, place_psums, round_up


def lower_both(datapath, arch, mapping: Mapping):
    """Return the table, the naive moves in program order, and the memory map as (name, first bit, bits)."""
    ready = prepare_lowering(datapath, arch)
    bases, out_base = [int(row[5]) for row in ready.operands], int(ready.out[5])
    visits = list_visits(datapath, arch, mapping, bases, out_base)
    return lower(datapath, arch, mapping).table, [move for visit in visits for move in visit.moves], ready


@settings(max_examples=150, deadline=None, derandomize=True)
@given(cases(most_pad=9))
def test_instructions_move_exactly_the_units_their_elements_lie_in(case):
    datapath, arch, mapping = case
    align = arch.memory.alignment_bits
    table, moves, _ = lower_both(datapath, arch, mapping)
    assert [OPCODES[op] for op in table["op"]] == [move.op for move in moves]
    for record, move in zip(table, moves, strict=True):
        assert record["bits"] == move.bits
        if move.op in ("LOAD_W", "LOAD_I", "STORE"):
            units = decode_units(record, align)
            assert len(units) == len(set(units)), "a unit is moved twice"
            assert set(units) == move.units
            assert len(units) * align == record["bits"]
        elif record["bits"]:
            assert len(decode_units(record, align)) * align == record["bits"]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cases())
def test_tensors_lie_apart_and_partial_sums_come_back_from_where_they_went(case):
    datapath, arch, mapping = case
    align = arch.memory.alignment_bits
    table, _, ready = lower_both(datapath, arch, mapping)
    load = datapath.workload
    regions = [
        (int(row[5]), stored_bits(shape, bits, align))
        for row, shape, bits in zip(ready.operands, load.operand_shapes, load.operand_bits, strict=True)
    ]
    regions.append((int(ready.out[5]), stored_bits(datapath.layer.out_shape, load.out_bits, align)))
    psum_base = int(ready.scalars[4])
    for (first, bits), (after, _) in zip(regions, [*regions[1:], (psum_base, 0)], strict=True):
        assert first + bits <= after
        assert first % round_up(PAGE_BITS, align) == 0
    ends = {"LOAD_W": (0, regions[0][0]), "STORE": (regions[-1][0], sum(regions[-1]))}
    spilled: dict[int, int] = {}
    live: list[tuple[int, int]] = []
    operand = -1
    for record in table:
        op = OPCODES[record["op"]]
        operand = operand + 1 if op == "LOAD_I" else -1
        units = decode_units(record, align)
        if op == "SPILL":
            span = (int(record["address"]), int(record["address"] + record["bits"]))
            assert span[0] >= psum_base
            assert all(span[1] <= lo or hi <= span[0] for lo, hi in live), "a spill overwrites another"
            spilled[span[0]] = int(record["bits"])
            live.append(span)
        elif op == "LOAD_P" and units:
            assert spilled.pop(int(record["address"])) == record["bits"]
            live.remove((int(record["address"]), int(record["address"] + record["bits"])))
        elif units:
            low, high = ends.get(op) or (regions[operand][0], sum(regions[operand]))
            assert low <= min(units) * align
            assert (max(units) + 1) * align <= high
    assert not spilled


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cases())
def test_every_output_is_stored_once_and_every_tile_runs_once(case):
    datapath, arch, mapping = case
    align = arch.memory.alignment_bits
    table, moves, ready = lower_both(datapath, arch, mapping)
    tiles = table["tile"][table["op"] == OPCODES.index("EXEC")]
    assert sorted(tiles) == list(range(int(np.prod(mapping.tile_counts(datapath.layer)))))
    busy = datapath.exec_times(list_boxes(datapath.layer, mapping.tile))
    np.testing.assert_array_equal(table["cycles"][table["op"] == OPCODES.index("EXEC")], busy.busy[tiles])
    stored = set().union(*(decode_units(r, align) for r in table if OPCODES[r["op"]] == "STORE"))
    needed = set().union(*(move.units for move in moves if move.op == "STORE"))
    assert stored == needed
    load = datapath.workload
    first = int(ready.out[5]) // align
    assert stored == set(range(first, first + stored_bits(datapath.layer.out_shape, load.out_bits, align) // align))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cases())
def test_banks_alternate_and_queues_follow_the_memory_channels(case):
    datapath, arch, mapping = case
    table, _, _ = lower_both(datapath, arch, mapping)
    second = arch.memory.channels == "per-operand"
    queue_of = {"LOAD_W": "load_w" if second else "load", "LOAD_I": "load", "LOAD_P": "load", "EXEC": "exec"}
    held = {"LOAD_W": 1, "LOAD_I": 1, "EXEC": 1}
    outputs, operand = -1, 0
    operands = len(datapath.workload.operand_shapes)
    for record in table:
        op = OPCODES[record["op"]]
        assert QUEUES[record["queue"]] == queue_of.get(op, "store")
        if op == "LOAD_W" or (op == "LOAD_I" and operand == 0):
            held[op] = 1 - held[op]
        if op in ("LOAD_W", "LOAD_I"):
            assert record["bank"] == held[op]
            operand = (operand + 1) % operands if op == "LOAD_I" else operand
        if op == "EXEC":
            w, i, o = (int(record["bank"]) >> bit & 1 for bit in range(3))
            assert i == held["LOAD_I"]
            assert w == held["LOAD_W"]
            outputs = o
        if op in ("STORE", "SPILL"):
            assert record["bank"] == outputs


@settings(max_examples=150, deadline=None, derandomize=True)
@given(cases())
def test_accumulators_stand_in_whole_words_of_all_columns(case):
    datapath, arch, mapping = case
    columns = arch.cols if datapath.layer.kind == "mac" else 1
    boxes = list_boxes(datapath.layer, mapping.tile)
    slots = datapath.psum_slots(boxes.size)
    for i in {0, len(boxes) - 1}:
        ranges = [range(int(boxes.lo[i, d]), int(boxes.hi[i, d])) for d in (0, 1, 2, 4, 5)]
        places = place_psums(arch, datapath.layer, *ranges)
        assert datapath.psum_places(boxes.size[i]).tolist() == [word * columns + column for word, column in places]
        assert slots[i] == count_slots(arch, datapath.layer, *ranges)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(cases())
def test_a_store_asks_behind_its_elements_and_the_pipeline_a_spill_behind_the_pipeline_alone(case):
    datapath, arch, mapping = case
    table, _, _ = lower_both(datapath, arch, mapping)
    sizes = list_boxes(datapath.layer, mapping.tile).size
    tile = -1
    for record in table:
        if OPCODES[record["op"]] == "EXEC":
            tile = int(record["tile"])
        elif OPCODES[record["op"]] == "STORE":
            n, g, k, _, p, q = sizes[tile].tolist()
            passes = len(range(0, n * g * k * p * q, arch.shell.store_lanes))
            assert record["cycles"] == passes + STORE_PIPELINE_CYCLES
        elif OPCODES[record["op"]] == "SPILL":
            assert record["cycles"] == SPILL_PIPELINE_CYCLES


def list_bytes(layer, out_bits: int, align: int, tile) -> list[set[int]]:
    """List the bytes of the stored output that each tile's elements lie in."""
    boxes = list_boxes(layer, (*tile[:3], layer.C, *tile[4:]))
    found = []
    for lo, hi in zip(boxes.lo.tolist(), boxes.hi.tolist(), strict=True):
        n, g, k, _, p, q = (range(a, b) for a, b in zip(lo, hi, strict=True))
        first = (
            address_of(layer.out_shape, out_bits, 0, align, nn, gg * layer.K + kk, pp, qq)
            for nn, gg, kk, pp, qq in product(n, g, k, p, q)
        )
        found.append({byte for at in first for byte in range(at // 8, (at + out_bits - 1) // 8 + 1)})
    return found


@settings(max_examples=200, deadline=None, derandomize=True)
@given(workloads(), archs(), st.data())
def test_a_tiling_is_refused_exactly_where_two_of_its_tiles_share_a_byte(workload, arch, data):
    arch = replace(arch, memory=replace(arch.memory, align_bits=data.draw(st.sampled_from([8, 64]))))
    layer, datapath = workload.layer, arch.bind(workload)
    tile = [data.draw(st.integers(1, getattr(layer, dim))) for dim in TILE_DIMS]
    if tile[1] > 1:
        tile[2:4] = layer.K, layer.C
    mapping = Mapping(tile=tuple(tile), order="MKC")
    written = list_bytes(layer, workload.out_bits, arch.memory.align_bits, tile)
    if sum(map(len, written)) == len(set().union(*written)):
        lower(datapath, arch, mapping)
    else:
        with pytest.raises(SpecError, match=r"^mapping\.tile: got .*: a tile of \d+-bit outputs ends at a whole byte$"):
            lower(datapath, arch, mapping)


def test_several_groups_without_all_of_their_channels_are_refused():
    layer = Layer(name="layer", op="conv", inputs=("x",), G=4, K=4, C=4, P=4, Q=8, H=4, W=8)
    arch = PRESETS["small"]
    text = r"^mapping\.tile: got \(1, 2, 2, 2, 4, 8\), expected K 4 and C 4, whole, where a tile holds several groups$"
    with pytest.raises(SpecError, match=text):
        lower(arch.bind(workload_of(layer)), arch, Mapping(tile=(1, 2, 2, 2, 4, 8), order="MKC"))
