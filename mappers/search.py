"""Branch and bound over tilings and loop orders: the best mapping of a layer, proven.

Every candidate of the space gets a lower bound of its cost (compulsory traffic, compute, first and last transfers: see
`mappers.kernel_bound.bound_cycles`). Candidates are timed on the cycle engine in the order of their bounds; the search ends
when the next bound reaches the best cost found: no candidate left can be better. Among equal bounds the one that moves least
comes first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hwsim.core.arch import Arch
from hwsim.core.datapath import Datapath
from hwsim.core.errors import Infeasible
from hwsim.core.mapping import ORDERS, TILE_DIMS, Boxes, Int64, Mapping
from hwsim.core.program import LOAD_I as LOAD_INPUT
from hwsim.core.program import LOAD_P, LOAD_W, SPILL, STORE_O
from hwsim.engine.lower import Lowering, lower_table, prepare_lowering
from hwsim.engine.run import clock_ratio, time_table
from mappers.kernel_bound import bound_cycles, check_tiles
from mappers.objective import Objective
from mappers.space import ORDER_CODES, list_tilings, select_orders

Float64 = npt.NDArray[np.float64]
LEVERS = {
    "wbuf": "a larger wbuf (--set wbuf_bits=...) or fewer weight bits would help",
    "ibuf": "a larger ibuf (--set ibuf_bits=...) or fewer activation bits would help",
    "obuf": "a larger obuf (--set obuf_bits=...) would help",
}
MOST_TIMED_DRAM = 24
"""Candidates timed per layer with a DRAM model, whose bound (peak bandwidth, no row misses) is too loose to close."""


@dataclass(frozen=True, slots=True)
class Space:
    """All candidates of one layer with their bounds.

    Attributes
    ----------
    tilings : int64 [tilings, 6]
    bound : float64 [tilings, 6]
        Lower bound of the objective per loop order; infinite where the order repeats another.
    moved : int64 [tilings, 6]
        Bits between memory and buffers.
    """

    tilings: Int64
    bound: Float64
    moved: Int64

    @property
    def size(self) -> int:
        """Number of candidates."""
        return int(np.isfinite(self.bound).sum())


def build_space(datapath: Datapath, arch: Arch, objective: Objective, ready: Lowering) -> Space:
    """Return every feasible candidate of a layer with a lower bound of its objective.

    Raises
    ------
    Infeasible
        No tiling fits the buffers.
    """
    layer = datapath.layer
    align = arch.memory.alignment_bits
    tilings = list_tilings(datapath)
    banks = np.array([arch.shell.bank_bits(name) for name in ("wbuf", "ibuf", "obuf")], np.int64)
    fits = np.zeros((len(tilings), 4), np.int64)
    largest = datapath.largest_weight_tile(tilings)
    largest = -(-largest // align) * align
    check_tiles(tilings, largest, ready.dims, ready.window, ready.operands, banks, arch.shell.psum_bits, align, fits)
    feasible = fits[:, 3] == 1
    if not feasible.any():
        _refuse(layer.name, fits, banks)
    tilings = np.ascontiguousarray(tilings[feasible])
    dims = np.broadcast_to(ready.dims, tilings.shape)
    zero = np.zeros_like(tilings)
    first = datapath.exec_times(Boxes(zero, np.minimum(tilings, dims)))
    last = datapath.exec_times(Boxes((dims - 1) // tilings * tilings, np.ascontiguousarray(dims)))
    totals = datapath.sum_tiles(tilings)
    w_once, w_first = datapath.sum_weight_tiles(tilings, align)
    traffic = np.zeros((len(tilings), len(ORDERS), 5), np.int64)
    cycles = np.zeros((len(tilings), len(ORDERS)), np.int64)
    bound_cycles(
        tilings, ORDER_CODES, w_once, w_first, totals.busy, first.busy, last.busy, last.tail, ready.dims, ready.window,
        ready.operands, ready.out, _bound_scalars(datapath, arch), traffic, cycles,
    )  # fmt: skip
    buffers = np.stack([totals.wbuf_read_bits, totals.ibuf_read_bits, totals.psum_bits], axis=1)[:, None, :]
    bound = cost(
        objective, cycles, traffic, np.broadcast_to(buffers, (*cycles.shape, 3)), _written_back(datapath, arch)
    )
    bound[~select_orders(layer, tilings)] = np.inf
    return Space(tilings, bound, traffic.sum(axis=2))


def cost(objective: Objective, cycles: Int64, traffic: Int64, buffers: Int64, written_back: int) -> Float64:
    """Return the objective of mappings, float64 of the shape of ``cycles``.

    Parameters
    ----------
    traffic : int64 [..., 5]
        Bits of weights read, inputs read, outputs written, partial sums written, partial sums read.
    buffers : int64 [..., 3]
        Bits the engine reads from wbuf and ibuf, and of partial sums it moves in obuf.
    written_back : int
        Bits that the store unit reads from obuf for the outputs.
    """
    if objective.name == "cycles":
        return cycles.astype(np.float64)
    o = objective
    psum = buffers[..., 2]  # every output is written once more than it is read back
    psum_writes = np.where(psum > 0, (psum + written_back) // 2, 0)
    energy = (
        o.fixed_pj
        + traffic[..., 0] * (o.read_pj + o.wbuf_write_pj)
        + traffic[..., 1] * (o.read_pj + o.ibuf_write_pj)
        + traffic[..., 2] * o.write_pj
        + traffic[..., 3] * (o.write_pj + o.obuf_read_pj)
        + traffic[..., 4] * (o.read_pj + o.obuf_write_pj)
        + buffers[..., 0] * o.wbuf_read_pj
        + buffers[..., 1] * o.ibuf_read_pj
        + psum_writes * o.obuf_write_pj
        + (psum - psum_writes) * o.obuf_read_pj
        + written_back * o.obuf_read_pj
        + cycles * o.static_pj_per_cycle
    )
    return energy * cycles if objective.name == "edp" else energy


def measure_traffic(table: npt.NDArray[np.void]) -> Int64:
    """Return moved bits of an instruction table: weights read, inputs read, outputs written, psums written, psums read."""
    sums = np.bincount(table["op"], weights=table["bits"], minlength=6)
    return np.array([sums[op] for op in (LOAD_W, LOAD_INPUT, STORE_O, SPILL, LOAD_P)], np.int64)


def evaluate(datapath: Datapath, arch: Arch, objective: Objective, mapping: Mapping, ready: Lowering) -> float:
    """Return the objective of one mapping, timed on the cycle engine."""
    table = lower_table(datapath, mapping, ready)
    run, _ = time_table(table, arch)
    if objective.name == "cycles":
        return float(run.cycles)
    totals = datapath.sum_tiles(np.array([mapping.tile], np.int64))
    buffers = np.stack([totals.wbuf_read_bits, totals.ibuf_read_bits, totals.psum_bits], axis=-1)
    cycles = np.array([run.cycles], np.int64)
    traffic = measure_traffic(table)
    extra = run.activates * objective.activate_pj + run.refreshes * objective.refresh_pj
    if arch.memory.kind == "dram":  # whole bursts move, and rows are opened: more than the bound counts, never less
        extra += (run.dram_read_bits - int(traffic[[0, 1, 4]].sum())) * objective.read_pj
        extra += (run.dram_write_bits - int(traffic[[2, 3]].sum())) * objective.write_pj
    charged = replace(objective, fixed_pj=objective.fixed_pj + extra)
    return float(cost(charged, cycles, traffic[None], buffers, _written_back(datapath, arch))[0])


def find_mapping(
    datapath: Datapath, arch: Arch, objective: Objective | None = None, most_timed: int | None = None
) -> Mapping:
    """Return the best mapping of a layer.

    Parameters
    ----------
    datapath : Datapath
        The layer on its engine.
    arch : Arch
        The accelerator.
    objective : Objective
        What to minimize; cycles by default.
    most_timed : int
        Stop after timing this many candidates; the mapping then says which bound is left. By default there is no limit with
        flat memory and `MOST_TIMED_DRAM` with a DRAM model.

    Raises
    ------
    Infeasible
        No tiling fits the buffers: names the buffer, the demand and the lever.
    """
    goal = objective or Objective()
    if most_timed is None and arch.memory.kind == "dram":
        most_timed = MOST_TIMED_DRAM
    ready = prepare_lowering(datapath, arch)
    space = build_space(datapath, arch, goal, ready)
    flat = space.bound.ravel()
    queue = np.lexsort((space.moved.ravel(), flat))
    best: Mapping | None = None
    timed, left = 0, float("inf")
    for index in queue[: space.size]:
        bound = float(flat[index])
        if best is not None and bound >= best.value:
            break
        if most_timed is not None and timed >= most_timed:
            left = bound
            break
        tiling, order = divmod(int(index), len(ORDERS))
        candidate = Mapping(tile=tuple(space.tilings[tiling].tolist()), order=ORDERS[order])
        value = evaluate(datapath, arch, goal, candidate, ready)
        timed += 1
        if best is None or value < best.value:
            best = Mapping(tile=candidate.tile, order=candidate.order, objective=goal.name, value=value)
    assert best is not None
    return Mapping(
        tile=best.tile, order=best.order, objective=goal.name, value=best.value,
        lower_bound=min(best.value, left), evaluated=timed, candidates=space.size,
    )  # fmt: skip


def _bound_scalars(datapath: Datapath, arch: Arch) -> Int64:
    """Return the scalars of the bound kernel; nothing is assumed that the memory could beat."""
    memory, layer = arch.memory, datapath.layer
    port, latency, posted, whole = memory.bits_per_cycle, memory.latency_cycles, 0, 0
    window = (layer.R - 1) * layer.dilation[0] + 1, (layer.S - 1) * layer.dilation[1] + 1
    if any(layer.padding[i] >= window[i % 2] for i in range(4)):
        latency = 0  # a tile may read nothing but padding, which takes no transfer
    if memory.kind == "dram":
        from hwsim.core.dram_parts import find_part

        part = find_part(memory.part)
        clocks = clock_ratio(part.tck_ps, arch.clock_hz)
        peak = part.channels * part.burst_bytes * 8 * clocks / part.burst_cycles
        whole = -(-peak.numerator // peak.denominator)
        port, latency, posted = min(port, whole), 0, 1
    split = int(memory.channels == "per-operand")
    shell = arch.shell
    fixed = (memory.alignment_bits, shell.psum_bits, shell.store_lanes)
    return np.array((*fixed, port, latency, shell.issue_cycles, split, posted, whole), np.int64)


def _written_back(datapath: Datapath, arch: Arch) -> int:
    return datapath.layer.out_elements * arch.shell.psum_bits


def _refuse(where: str, fits: Int64, banks: Int64) -> None:
    """Raise Infeasible for the buffer that no tiling fits, or for the one that the most modest tiling misses most."""
    smallest = fits[:, :3].min(axis=0)
    over = smallest / banks
    if (over <= 1).all():
        worst = (fits[:, :3] / banks).max(axis=1)
        over = fits[int(worst.argmin()), :3] / banks
        smallest = fits[int(worst.argmin()), :3]
    index = int(over.argmax())
    name = ("wbuf", "ibuf", "obuf")[index]
    raise Infeasible(where, name, int(smallest[index]), int(banks[index]), LEVERS[name])


def describe_tile(mapping: Mapping) -> str:
    """Return the tile as text, e.g. ``N1 G1 K64 C32 P7 Q28 MKC``."""
    return " ".join(f"{d}{s}" for d, s in zip(TILE_DIMS, mapping.tile, strict=True)) + f" {mapping.order}"
