"""Storage of SmartDeal's weights counted element by element, and the mapper on its engine against exhaustive search."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hwsim.archs.smartdeal.timing import RUN_PIPELINE
from hwsim.core.errors import Infeasible
from hwsim.core.mapping import Boxes, list_boxes
from hwsim.core.shell import Memory, Shell
from hwsim.engine.lower import prepare_lowering
from mappers.objective import Objective
from mappers.search import build_space, evaluate, find_mapping
from tests.naive_cases import conv, small
from tests.naive_smartdeal_cases import Case, cases, make_arch, tilings
from tests.property.test_mapper_bound import OBJECTIVES, list_candidates


def count_streams(case, lo, hi) -> list[int]:
    """Bits of the streams of a tile: dense rows, or a flag a step, and where it is set basis, index and coefficients."""
    layer, codec, slices = case.layer, case.codec, case.arch.slices
    streams = [0] * slices
    spread = case.arch.depthwise == "spread" and layer.G > 1 and layer.K == layer.C == 1
    for g, k in product(range(lo[1], hi[1]), range(lo[2], hi[2])):
        f, s = g * layer.K + k, (g - lo[1] if spread else k - lo[2]) % slices
        if codec is None or codec.plan.is_dense:
            by_kernel = layer.R * layer.S > 1 or spread
            weights = (hi[3] - lo[3]) * layer.R * layer.S
            streams[s] += 8 * (weights if by_kernel else -(-weights // 3) * 3)
            continue
        steps: dict[int, list[bool]] = {}
        for row in range(codec.plan.row_count):
            place = codec.plan.locate_row(row)
            if lo[3] <= place.channel < hi[3]:
                stored = any(codec.codes[f, place.slice_index, place.row_in_slice])
                steps.setdefault(place.slice_index, []).append(stored)
        streams[s] += sum(1 + any(rows) * (72 + len(rows) + 12 * sum(rows)) for rows in steps.values())
    return streams


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_storage_of_tiles_is_what_they_hold(data):
    case = data.draw(cases())
    datapath = case.datapath()
    tile = data.draw(tilings(case, datapath))
    align = data.draw(st.sampled_from([1, 8, 64]))
    boxes = list_boxes(case.layer, tile)
    bits = datapath.weight_tile_bits(boxes)
    beat, slices = case.arch.memory.bits_per_cycle, case.arch.slices
    header = -(-16 * slices // beat) * beat
    streams = [count_streams(case, lo, hi) for lo, hi in zip(boxes.lo.tolist(), boxes.hi.tolist(), strict=True)]
    filled = [[-(-one // beat) * beat for one in tile] for tile in streams]
    assert bits.tolist() == [header + sum(tile) for tile in filled]
    weights = {
        tuple(int(v) for v in (*lo[1:4], *hi[1:4])): int(b) for lo, hi, b in zip(boxes.lo, boxes.hi, bits, strict=True)
    }
    candidates = np.array([tile, tile, [getattr(case.layer, dim) for dim in "NGKCPQ"]], np.int64)
    assert datapath.largest_weight_tile(candidates)[0] == header + slices * max(max(tile) for tile in filled)
    total, first = datapath.sum_weight_tiles(candidates, align)
    assert total[0] == sum(-(-b // align) * align for b in weights.values())
    assert first[0] == -(-int(bits[0]) // align) * align
    assert total[0] <= datapath.most_weight_bits(align)
    whole = count_streams(case, [0] * 6, [getattr(case.layer, dim) for dim in "NGKCPQ"])
    assert datapath.weight_storage_bits() == sum(whole)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_sums_of_busy_cycles_are_a_lower_bound_of_every_tiling(data):
    case = data.draw(cases())
    datapath = case.datapath()
    tile = data.draw(tilings(case, datapath))
    boxes = list_boxes(case.layer, tile)
    times = datapath.exec_times(boxes)
    assert 0 < datapath.sum_tiles(np.array([tile], np.int64)).busy[0] <= times.busy.sum()
    assert (times.fill <= times.busy).all()
    alone = [datapath.exec_times(Boxes(boxes.lo[i : i + 1], boxes.hi[i : i + 1])).busy[0] for i in range(len(boxes))]
    assert times.busy.tolist() == alone


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data())
def test_sums_of_busy_cycles_are_exact_where_passes_hide_what_prepares_the_next(data):
    """So candidates that differ in the number of tiles alone are ordered by their bounds; the mapper times few of them."""
    layer = conv(size=(data.draw(small(3, 5)), 8), window=(3, 3), K=data.draw(small(2, 6)), C=4)
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    stored = rng.choice([-86, 85], layer.in_shape).astype(np.int8)  # four digits in each
    weights = rng.integers(-128, 128, (layer.K, 4, 3, 3)).astype(np.int8)
    datapath = Case(layer, make_arch(line_rows=4), stored, 0, weights, None).datapath()
    tile = data.draw(tilings(Case(layer, datapath.arch, stored, 0, weights, None), datapath))
    times = datapath.exec_times(list_boxes(layer, tile))
    assert (datapath.compute + RUN_PIPELINE >= datapath.prepare.max()).all()
    assert datapath.sum_tiles(np.array([tile], np.int64)).busy[0] == times.busy.sum()


@st.composite
def searches(draw):
    """A case whose buffers hold some tilings and not others."""
    sizes = {f"{name}_bits": 2 * draw(st.sampled_from([512, 2048, 8192, 1 << 20])) for name in ("wbuf", "ibuf", "obuf")}
    memory = Memory(
        latency_cycles=draw(st.sampled_from([0, 7])), bits_per_cycle=draw(st.sampled_from([8, 32, 64])),
        channels=draw(st.sampled_from(["shared", "per-operand"])), align_bits=draw(st.sampled_from([0, 32])),
    )  # fmt: skip
    arch = make_arch(
        Shell(**sizes, store_lanes=draw(st.integers(1, 4))), memory, slices=2, lines=2, macs=2, line_rows=2
    )
    return draw(cases(arch=arch, most_slots=400))


@settings(max_examples=250, deadline=None, derandomize=True)
@given(searches(), st.sampled_from(OBJECTIVES))
def test_bound_is_admissible_and_search_equals_exhaustive_evaluation(case, objective: Objective):
    datapath = case.datapath()
    ready = prepare_lowering(datapath, case.arch)
    try:
        space = build_space(datapath, case.arch, objective, ready)
    except Infeasible:
        assume(False)
    assume(space.size <= 200)
    values = []
    for candidate, bound in list_candidates(space):
        values.append(evaluate(datapath, case.arch, objective, candidate, ready))
        assert bound <= values[-1] * (1 + 1e-12), f"{candidate.tile} {candidate.order}"
    found = find_mapping(datapath, case.arch, objective)
    assert found.value == min(values)
    assert found.proven
    assert find_mapping(datapath, case.arch, objective) == found


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.data())
def test_a_tile_within_a_block_or_group_is_timed_as_the_whole_of_them(data):
    """It is never faster than it should be, so that no search takes it for an advantage."""
    case = data.draw(cases())
    datapath = case.datapath()
    extents = np.array([getattr(case.layer, dim) for dim in "NGKCPQ"], np.int64)
    lo = np.array([[data.draw(st.integers(0, int(extent) - 1)) for extent in extents]], np.int64)
    if not datapath.spread:
        lo[0, 1] = 0
    hi = lo + 1
    quantum = np.array(datapath.quantum(), np.int64)
    whole = Boxes(lo // quantum * quantum, np.minimum(-(-hi // quantum) * quantum, extents))
    inside, outside = datapath.exec_times(Boxes(lo, hi)), datapath.exec_times(whole)
    assert (inside.busy, inside.fill, inside.tail) == (outside.busy, outside.fill, outside.tail)
