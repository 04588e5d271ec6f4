"""The mapper's bound, its search and its sums against the cycle engine and against exhaustive evaluation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hwsim.core.errors import Infeasible
from hwsim.core.mapping import ORDERS, Boxes, Mapping, list_boxes
from hwsim.core.shell import Memory, Shell
from hwsim.engine.lower import lower_table, prepare_lowering
from mappers.objective import Objective
from mappers.search import build_space, evaluate, find_mapping, measure_traffic
from mappers.space import list_tilings
from tests.naive_cases import archs, workloads
from tests.naive_lower import count_slots

ENERGIES = {
    "read_pj": 20.0, "write_pj": 25.0, "wbuf_write_pj": 0.3, "ibuf_write_pj": 0.2, "obuf_write_pj": 0.25,
    "wbuf_read_pj": 0.1, "ibuf_read_pj": 0.15, "obuf_read_pj": 0.12, "sbuf_write_pj": 0.07,
    "sbuf_read_pj": 0.05, "static_pj_per_cycle": 7.0, "fixed_pj": 1000.0,
}  # fmt: skip
OBJECTIVES = (
    Objective(), *(Objective(name=name, **ENERGIES) for name in ("least-cycles", "energy", "edp")),
)  # fmt: skip
DRAM_MEMORIES = tuple(
    Memory(kind="dram", part=part, bits_per_cycle=bits, channels=channels)
    for part in ("lpddr4-3200", "ddr4-2400", "hbm2")
    for bits, channels in ((16, "shared"), (64, "per-operand"), (64, "shared"), (512, "shared"))
)


@st.composite
def searches(draw, memories=None, most_pad=3):
    """A datapath and an accelerator whose buffers hold some tilings and not others."""
    workload = draw(workloads(most_size=5, most_pad=most_pad))
    memory = draw(st.sampled_from(memories)) if memories else None
    arch = draw(archs(memory))
    sizes = {f"{name}_bits": 2 * draw(st.sampled_from([256, 1024, 4096, 1 << 20])) for name in ("wbuf", "ibuf", "obuf")}
    sizes["stage_bits"] = draw(st.sampled_from([0, 96, 256, 1024]))
    shell = Shell(**sizes, issue_cycles=arch.shell.issue_cycles, vector_lanes=arch.shell.vector_lanes,
                  store_lanes=arch.shell.store_lanes)  # fmt: skip
    arch = replace(arch, shell=shell)
    return arch.bind(workload), arch


def list_candidates(space):
    """Yield every candidate of the space with its bound."""
    for tiling, bounds in zip(space.tilings.tolist(), space.bound.tolist(), strict=True):
        for order, bound in zip(ORDERS, bounds, strict=True):
            if np.isfinite(bound):
                yield Mapping(tile=tuple(tiling), order=order), bound


def space_of(datapath, arch, objective, ready, most=150):
    """Build the space, or give the case up where nothing fits or too much does."""
    try:
        space = build_space(datapath, arch, objective, ready)
    except Infeasible:
        assume(False)
    assume(space.size <= most)
    return space


def check_bounds(case) -> None:
    """No candidate's value lies below its bound, whatever the objective."""
    datapath, arch = case
    ready = prepare_lowering(datapath, arch)
    for objective in OBJECTIVES:
        for candidate, bound in list_candidates(space_of(datapath, arch, objective, ready)):
            value = evaluate(datapath, arch, objective, candidate, ready)
            assert bound <= value * (1 + 1e-12), f"{objective.name} of {candidate.tile} {candidate.order}"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(searches(most_pad=9))
def test_bound_is_admissible_with_flat_memory(case):
    check_bounds(case)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(searches(DRAM_MEMORIES))
def test_bound_is_admissible_with_dram(case):
    check_bounds(case)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(searches(), st.sampled_from(OBJECTIVES))
def test_search_equals_exhaustive_evaluation(case, objective):
    datapath, arch = case
    ready = prepare_lowering(datapath, arch)
    space = space_of(datapath, arch, objective, ready)
    best = min(evaluate(datapath, arch, objective, m, ready) for m, _ in list_candidates(space))
    found = find_mapping(datapath, arch, objective)
    assert found.value == best
    assert found.proven
    assert found.candidates == space.size
    assert 1 <= found.evaluated <= space.size
    assert evaluate(datapath, arch, objective, found, ready) == found.value
    assert find_mapping(datapath, arch, objective) == found


@settings(max_examples=60, deadline=None, derandomize=True)
@given(searches(), st.sampled_from([("cycles", 0.005), ("least-cycles", 0.0)]))
def test_of_mappings_as_fast_the_one_of_least_energy_is_taken(case, goal):
    """The energy that decides is that of the objective ``energy``, which is the report's."""
    datapath, arch = case
    name, tie = goal
    objective, priced = Objective(name=name, **ENERGIES), Objective(name="energy", **ENERGIES)
    ready = prepare_lowering(datapath, arch)
    candidates = [m for m, _ in list_candidates(space_of(datapath, arch, objective, ready))]
    cycles = [evaluate(datapath, arch, objective, m, ready) for m in candidates]
    energies = [evaluate(datapath, arch, priced, m, ready) for m in candidates]
    least = min(cycles)
    wanted = min((e, c) for e, c in zip(energies, cycles, strict=True) if c <= (1 + tie) * least)
    found = find_mapping(datapath, arch, objective)
    assert (evaluate(datapath, arch, priced, found, ready), found.value) == wanted
    assert found.lower_bound == least
    assert found.proven
    assert not replace(found, lower_bound=found.value / (1 + tie + 1e-4)).proven


@settings(max_examples=20, deadline=None, derandomize=True)
@given(searches(DRAM_MEMORIES), st.sampled_from(OBJECTIVES))
def test_search_with_dram_is_exhaustive_when_told_to_and_says_so_when_not(case, objective):
    datapath, arch = case
    ready = prepare_lowering(datapath, arch)
    space = space_of(datapath, arch, objective, ready, most=80)
    values = sorted(evaluate(datapath, arch, objective, m, ready) for m, _ in list_candidates(space))
    found = find_mapping(datapath, arch, objective, most_timed=10**9)
    assert found.value == values[0]
    assert found.proven
    cut = find_mapping(datapath, arch, objective, most_timed=1)
    assert cut.evaluated == 1
    assert cut.lower_bound <= values[0] <= cut.value


@settings(max_examples=40, deadline=None, derandomize=True)
@given(searches(), st.sampled_from(["wbuf", "ibuf", "obuf"]), st.sampled_from(OBJECTIVES))
def test_larger_buffers_are_never_worse(case, buffer, objective):
    datapath, arch = case
    ready = prepare_lowering(datapath, arch)
    space_of(datapath, arch, objective, ready, most=400)
    grown = replace(arch.shell, **{f"{buffer}_bits": 3 * getattr(arch.shell, f"{buffer}_bits")})
    larger = replace(arch, shell=grown)
    assert (
        find_mapping(larger.bind(datapath.workload), larger, objective).value
        <= find_mapping(datapath, arch, objective).value
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(searches(most_pad=9))
def test_feasible_tilings_are_those_whose_largest_loads_fit(case):
    datapath, arch = case
    ready = prepare_lowering(datapath, arch)
    try:
        feasible = {tuple(t) for t in build_space(datapath, arch, Objective(), ready).tilings.tolist()}
    except Infeasible:
        feasible = set()
    tilings = list_tilings(datapath).tolist()
    assume(len(tilings) <= 150)
    align = arch.memory.alignment_bits
    for tile in tilings:
        table = lower_table(datapath, Mapping(tile=tuple(tile), order="MKC"), ready)
        demand = {"wbuf": 0, "ibuf": 0, "obuf": 0, "sbuf": 0}
        held = 0
        for rec in table:
            if rec["op"] == 0:
                demand["wbuf"] = max(demand["wbuf"], int(rec["bits"]))
            held = held + int(rec["bits"]) if rec["op"] == 1 else 0
            demand["ibuf"] = max(demand["ibuf"], held)
            if rec["op"] == 4:
                demand["sbuf"] = max(demand["sbuf"], int(rec["bits"]))
        boxes = list_boxes(datapath.layer, tuple(tile))
        slots = max(
            count_slots(arch, datapath.layer, *(range(lo[d], hi[d]) for d in (0, 1, 2, 4, 5)))
            for lo, hi in zip(boxes.lo.tolist(), boxes.hi.tolist(), strict=True)
        )
        demand["obuf"] = -(-slots * arch.shell.psum_bits // align) * align
        fits = all(bits <= arch.shell.bank_bits(name) for name, bits in demand.items())
        assert fits == (tuple(tile) in feasible), f"{tile} demands {demand}"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_traffic_of_the_space_is_what_the_program_moves(data):
    """With the cycles taken out, the energy bound is exact."""
    datapath, arch = data.draw(searches())
    ready = prepare_lowering(datapath, arch)
    for field in ("read_pj", "write_pj", "wbuf_write_pj", "ibuf_write_pj", "sbuf_read_pj"):
        objective = Objective(name="energy", **{field: 1.0})
        for candidate, bound in list_candidates(space_of(datapath, arch, objective, ready)):
            value = evaluate(datapath, arch, objective, candidate, ready)
            w, i, o, spilled, back = measure_traffic(lower_table(datapath, candidate, ready))
            expected = {
                "read_pj": w + i + back, "write_pj": o + spilled, "wbuf_write_pj": w, "ibuf_write_pj": i, "sbuf_read_pj": o,
            }[field]  # fmt: skip
            assert bound == value == expected


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_sum_tiles_equals_the_sum_of_its_tiles(data):
    workload, arch = data.draw(workloads()), data.draw(archs())
    datapath = arch.bind(workload)
    tilings = np.unique([
        [data.draw(st.integers(1, extent)) for extent in (getattr(workload.layer, d) for d in "NGKCPQ")] for _ in range(3)
    ], axis=0).astype(np.int64)  # fmt: skip
    totals = datapath.sum_tiles(tilings)
    for at, tile in enumerate(tilings.tolist()):
        boxes = list_boxes(workload.layer, tuple(tile))
        assert totals.busy[at] == datapath.exec_times(boxes).busy.sum()
        one_by_one = [datapath.exec_times(Boxes(boxes.lo[i : i + 1], boxes.hi[i : i + 1])) for i in range(len(boxes))]
        assert totals.busy[at] == sum(int(times.busy[0]) for times in one_by_one)
        if workload.layer.kind == "mac":
            assert (totals.wbuf_read_bits[at], totals.ibuf_read_bits[at], totals.psum_bits[at]) == count_words(
                workload, arch, boxes
            )


def count_words(workload, arch, boxes) -> tuple[int, int, int]:
    """Count bits read from wbuf and ibuf and moved as partial sums, fold by fold."""
    layer, rows, cols = workload.layer, arch.rows, arch.cols
    w = i = writes = 0
    for n, g, k, c, p, q in boxes.size.tolist():
        m, depth = n * p * q, c * layer.R * layer.S
        extents = {"os": (m, k), "ws": (depth, k), "is": (depth, m)}[arch.dataflow]
        for row in range(0, extents[0], rows):
            for col in range(0, extents[1], cols):
                a, b = min(rows, extents[0] - row), min(cols, extents[1] - col)
                i += g * {"os": a * depth, "ws": a * m, "is": a * b}[arch.dataflow]
                w += g * {"os": b * depth, "ws": a * b, "is": a * k}[arch.dataflow]
                writes += g * {"os": a * b, "ws": m * b, "is": b * k}[arch.dataflow]
    fmt = workload.fmt
    return w * fmt.w_bits, i * fmt.a_bits, (2 * writes - layer.out_elements) * arch.shell.psum_bits


@pytest.mark.parametrize("flow", ["os", "ws", "is"])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_skewed_folds_are_never_slower(flow, data):
    workload, arch = data.draw(workloads(mac_only=True)), data.draw(archs())
    tile = tuple(data.draw(st.integers(1, getattr(workload.layer, d))) for d in "NGKCPQ")
    boxes = list_boxes(workload.layer, tile)
    plain = replace(arch, dataflow=flow, fold_overlap="none").bind(workload).exec_times(boxes)
    skewed = replace(arch, dataflow=flow, fold_overlap="skewed").bind(workload).exec_times(boxes)
    assert (skewed.busy <= plain.busy).all()
    assert (skewed.tail == plain.tail).all()
    assert len(set(skewed.fill.tolist())) == 1
