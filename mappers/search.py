"""Branch and bound over tilings and loop orders: the best mapping of a layer, proven.

Every candidate of the space gets a lower bound of its cost (compulsory traffic, compute, first and last transfers: see
`mappers.kernel_bound.bound_cycles`). Candidates are timed on the cycle engine in the order of their bounds; the search ends
when the next bound reaches the best cost found: no candidate left can be better. Among equal bounds the one that moves least
comes first.

By cycles, mappings that exceed the least cycles by no more than `hwsim.core.mapping.CYCLES_TIE` count as equally fast (by least
cycles: those that do not exceed them), and of those the one of least energy is taken, the energy being the report's. To find it,
candidates whose bounds of cycles and energy allow it are timed in the order of their energy bounds until none is left, at most
`MOST_TIED` with flat memory and none beyond those timed already with a DRAM model. The proof is of the cycles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hwsim.core.arch import Arch
from hwsim.core.datapath import Datapath
from hwsim.core.errors import Infeasible
from hwsim.core.mapping import ORDERS, TIES, TILE_DIMS, Boxes, C, G, Int64, K, Mapping, N, P, Q
from hwsim.core.program import LOAD_I as LOAD_INPUT
from hwsim.core.program import (
    LOAD_P,
    LOAD_W,
    SPILL,
    SPILL_PIPELINE_CYCLES,
    STORE_O,
    WRITE_LATENCY_CYCLES,
)
from hwsim.core.shell import BUFFERS
from hwsim.engine.lower import Lowering, lower_table, prepare_lowering
from hwsim.engine.run import clock_ratio, time_table
from mappers.kernel_bound import bound_cycles, check_tiles
from mappers.objective import Objective
from mappers.space import ORDER_CODES, list_tilings, select_orders, sum_output_tiles

Float64 = npt.NDArray[np.float64]
LEVERS = {
    "wbuf": "a larger wbuf (--set wbuf_bits=...) or fewer weight bits would help",
    "ibuf": "a larger ibuf (--set ibuf_bits=...) or fewer activation bits would help",
    "obuf": "a larger obuf (--set obuf_bits=...) would help",
    "sbuf": "a larger staging buffer (--set stage_bits=...) or fewer activation bits would help",
}
MOST_TIMED_DRAM = 24
"""Candidates timed per layer with a DRAM model, whose bound (peak bandwidth, no row misses) is too loose to close."""
MOST_TIED = 64
"""Candidates timed per layer in search of less energy at as many cycles."""


@dataclass(frozen=True, slots=True)
class Space:
    """All candidates of one layer with their bounds.

    Attributes
    ----------
    tilings : int64 [tilings, 6]
    bound, energy : float64 [tilings, 6]
        Lower bound of the objective per loop order, infinite where the order repeats another; of the energy in pJ.
    moved : int64 [tilings, 6]
        Bits between memory and buffers.
    """

    tilings: Int64
    bound: Float64
    energy: Float64
    moved: Int64

    @property
    def size(self) -> int:
        """Number of candidates."""
        return int(np.isfinite(self.bound).sum())


def list_fitting(datapath: Datapath, arch: Arch, ready: Lowering) -> Int64:
    """Return the canonical tilings that fit the buffers, int64 [candidates, 6]: below the engine's quantum where none do at it.

    Raises
    ------
    Infeasible
        None fits.
    """
    banks = np.array([arch.shell.bank_bits(name) for name in BUFFERS], np.int64)
    align = arch.memory.alignment_bits
    for finest in (False, True):
        tilings = list_tilings(datapath, finest)
        fits = np.zeros((len(tilings), 5), np.int64)
        largest = datapath.largest_weight_tile(tilings)
        psums = datapath.psum_slots(np.minimum(tilings, ready.dims)) * arch.shell.psum_bits
        check_tiles(
            tilings, _round_up(largest, align), _round_up(psums, align), ready.dims, ready.window, ready.operands, ready.out,
            banks, align, fits,
        )  # fmt: skip
        if (fits[:, 4] == 1).any():
            return np.ascontiguousarray(tilings[fits[:, 4] == 1])
        if datapath.finest_quantum() == datapath.quantum():
            break
    raise _refuse(datapath.layer.name, fits, banks)


def build_space(datapath: Datapath, arch: Arch, objective: Objective, ready: Lowering) -> Space:
    """Return every feasible candidate of a layer with a lower bound of its objective.

    Raises
    ------
    Infeasible
        No tiling fits the buffers.
    """
    layer = datapath.layer
    align = arch.memory.alignment_bits
    tilings = list_fitting(datapath, arch, ready)
    dims = np.broadcast_to(ready.dims, tilings.shape)
    zero = np.zeros_like(tilings)
    first = datapath.exec_times(Boxes(zero, np.minimum(tilings, dims)))
    last = datapath.exec_times(Boxes((dims - 1) // tilings * tilings, np.ascontiguousarray(dims)))
    totals = datapath.sum_tiles(tilings)
    w_once, w_first = datapath.sum_weight_tiles(tilings, align)
    requant, psum_once = _sum_stores(datapath, arch, tilings)
    traffic = np.zeros((len(tilings), len(ORDERS), 5), np.int64)
    cycles = np.zeros((len(tilings), len(ORDERS)), np.int64)
    bound_cycles(
        tilings, ORDER_CODES, w_once, w_first, totals.busy + last.tail, first.busy + first.tail, last.busy + last.tail, requant,
        psum_once, ready.dims, ready.window, ready.operands, ready.out, _bound_scalars(datapath, arch), traffic, cycles,
    )  # fmt: skip
    buffers = np.stack([totals.wbuf_read_bits, totals.ibuf_read_bits, totals.psum_bits], axis=1)[:, None, :]
    buffers = np.broadcast_to(buffers, (*cycles.shape, 3))
    energy = sum_energy(objective, cycles, traffic, buffers, _written_back(datapath, arch))
    bound = np.where(select_orders(layer, tilings), score(objective, cycles, energy), np.inf)
    return Space(tilings, bound, energy, traffic.sum(axis=2))


def sum_energy(objective: Objective, cycles: Int64, traffic: Int64, buffers: Int64, written_back: int) -> Float64:
    """Return the energy of mappings in pJ, float64 of the shape of ``cycles``.

    Parameters
    ----------
    traffic : int64 [..., 5]
        Bits of weights read, inputs read, outputs written, partial sums written, partial sums read.
    buffers : int64 [..., 3]
        Bits the engine reads from wbuf and ibuf, and of partial sums it moves in obuf.
    written_back : int
        Bits that the store unit reads from obuf for the outputs.
    """
    o = objective
    psum = buffers[..., 2]  # every output is written once more than it is read back
    psum_writes = np.where(psum > 0, (psum + written_back) // 2, 0)
    return np.asarray(
        o.fixed_pj
        + traffic[..., 0] * (o.read_pj + o.wbuf_write_pj)
        + traffic[..., 1] * (o.read_pj + o.ibuf_write_pj)
        + traffic[..., 2] * (o.write_pj + o.sbuf_write_pj + o.sbuf_read_pj)
        + traffic[..., 3] * (o.write_pj + o.obuf_read_pj)
        + traffic[..., 4] * (o.read_pj + o.obuf_write_pj)
        + buffers[..., 0] * o.wbuf_read_pj
        + buffers[..., 1] * o.ibuf_read_pj
        + psum_writes * o.obuf_write_pj
        + (psum - psum_writes) * o.obuf_read_pj
        + written_back * o.obuf_read_pj
        + cycles * o.static_pj_per_cycle
    )


def score(objective: Objective, cycles: Int64, energy: Float64) -> Float64:
    """Return what is minimized, float64 of the shape of ``cycles``."""
    if objective.name in TIES:
        return cycles.astype(np.float64)
    return np.asarray(energy * cycles) if objective.name == "edp" else energy


def measure_traffic(table: npt.NDArray[np.void]) -> Int64:
    """Return moved bits of an instruction table: weights read, inputs read, outputs written, psums written, psums read."""
    sums = np.bincount(table["op"], weights=table["bits"], minlength=6)
    return np.array([sums[op] for op in (LOAD_W, LOAD_INPUT, STORE_O, SPILL, LOAD_P)], np.int64)


def evaluate(datapath: Datapath, arch: Arch, objective: Objective, mapping: Mapping, ready: Lowering) -> float:
    """Return the objective of one mapping, timed on the cycle engine."""
    return measure(datapath, arch, objective, mapping, ready)[0]


def measure(
    datapath: Datapath, arch: Arch, objective: Objective, mapping: Mapping, ready: Lowering
) -> tuple[float, float]:
    """Return the objective and the energy in pJ of one mapping, timed on the cycle engine."""
    table = lower_table(datapath, mapping, ready)
    run, _ = time_table(table, arch)
    totals = datapath.sum_tiles(np.array([mapping.tile], np.int64))
    buffers = np.stack([totals.wbuf_read_bits, totals.ibuf_read_bits, totals.psum_bits], axis=-1)
    cycles = np.array([run.cycles], np.int64)
    traffic = measure_traffic(table)
    extra = run.activates * objective.activate_pj + run.refreshes * objective.refresh_pj
    if arch.memory.kind == "dram":  # whole bursts move, and rows are opened: more than the bound counts, never less
        extra += (run.dram_read_bits - int(traffic[[0, 1, 4]].sum())) * objective.read_pj
        extra += (run.dram_write_bits - int(traffic[[2, 3]].sum())) * objective.write_pj
    charged = replace(objective, fixed_pj=objective.fixed_pj + extra)
    energy = sum_energy(charged, cycles, traffic[None], buffers, _written_back(datapath, arch))
    return float(score(objective, cycles, energy)[0]), float(energy[0])


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
    timed: dict[int, tuple[float, float]] = {}

    def time(index: int) -> float:
        timed[index] = measure(datapath, arch, goal, _pick(space, index), ready)
        return timed[index][0]

    least, left = float("inf"), float("inf")
    for index in np.lexsort((space.moved.ravel(), flat))[: space.size].tolist():
        if flat[index] >= least:
            break
        if most_timed is not None and len(timed) >= most_timed:
            left = float(flat[index])
            break
        least = min(least, time(index))
    best = min(timed, key=lambda index: timed[index][0])
    if goal.name in TIES:
        best = _settle_tie(space, timed, time, least * (1 + TIES[goal.name]), MOST_TIED if most_timed is None else 0)
    return replace(
        _pick(space, best), objective=goal.name, value=timed[best][0], lower_bound=min(least, left), evaluated=len(timed),
        candidates=space.size,
    )  # fmt: skip


def _pick(space: Space, index: int) -> Mapping:
    """Return a candidate by its place in the flattened space."""
    tiling, order = divmod(index, len(ORDERS))
    return Mapping(tile=tuple(space.tilings[tiling].tolist()), order=ORDERS[order])


def _settle_tie(
    space: Space, timed: dict[int, tuple[float, float]], time: Callable[[int], float], limit: float, most: int
) -> int:
    """Return the candidate of least energy, then of fewest cycles, among those of at most ``limit`` cycles.

    Parameters
    ----------
    timed : dict
        Cycles and energy of the candidates timed so far, by index; ``time`` adds to it.
    most : int
        Candidates that may be timed besides.
    """

    def choose() -> int:
        within = [index for index, (cycles, _) in timed.items() if cycles <= limit]
        return min(within, key=lambda index: timed[index][::-1])

    best = choose()
    cycles, energy = space.bound.ravel(), space.energy.ravel()
    rivals = np.flatnonzero((cycles <= limit) & (energy < timed[best][1]))
    for index in rivals[np.argsort(energy[rivals], kind="stable")].tolist():
        if most == 0 or energy[index] >= timed[best][1]:
            break
        if index not in timed:
            time(index)
            best, most = choose(), most - 1
    return best


def _sum_stores(datapath: Datapath, arch: Arch, tilings: Int64) -> tuple[Int64, Int64]:
    """Return cycles of requantization, and moved bits of all partial sums, each once, of every tiling."""
    layer, lanes, align = datapath.layer, arch.shell.store_lanes, arch.memory.alignment_bits
    requant = np.full(len(tilings), layer.out_elements, np.int64)
    if lanes > 1:
        requant = sum_output_tiles(layer, tilings, lambda size: -(-size[:, [N, G, K, P, Q]].prod(axis=1) // lanes))
    psums = np.zeros(len(tilings), np.int64)
    cut = tilings[:, C] < layer.C
    if cut.any():
        width = arch.shell.psum_bits
        psums[cut] = sum_output_tiles(
            layer, tilings[cut], lambda size: _round_up(datapath.psum_slots(size) * width, align)
        )
    return requant, psums


def _round_up(value: Int64, unit: int) -> Int64:
    return np.ascontiguousarray(-(-value // unit) * unit, np.int64)


def _bound_scalars(datapath: Datapath, arch: Arch) -> Int64:
    """Return the scalars of the bound kernel; nothing is assumed that the memory could beat."""
    memory, layer = arch.memory, datapath.layer
    port, latency, behind, whole = memory.bits_per_cycle, memory.latency_cycles, WRITE_LATENCY_CYCLES, 0
    window = (layer.R - 1) * layer.dilation[0] + 1, (layer.S - 1) * layer.dilation[1] + 1
    if any(layer.padding[i] >= window[i % 2] for i in range(4)):
        latency = 0  # a tile may read nothing but padding, which takes no transfer
    dram = memory.kind == "dram"
    if dram:
        from hwsim.core.dram_parts import find_part

        part = find_part(memory.part)
        clocks = clock_ratio(part.tck_ps, arch.clock_hz)
        peak = part.channels * part.burst_bytes * 8 * clocks / part.burst_cycles
        whole = -(-peak.numerator // peak.denominator)
        port, latency, behind = min(port, whole), 0, 0
    split = int(memory.channels == "per-operand")
    head = (memory.alignment_bits, arch.shell.store_lanes, memory.bits_per_cycle, latency, arch.shell.issue_cycles)
    pipelines = (arch.store_pipeline_cycles, SPILL_PIPELINE_CYCLES)
    return np.array((*head, split, int(dram), whole, behind, *pipelines, port), np.int64)


def _written_back(datapath: Datapath, arch: Arch) -> int:
    return datapath.layer.out_elements * arch.shell.psum_bits


def _refuse(where: str, fits: Int64, banks: Int64) -> Infeasible:
    """Return the error that names the buffer that no tiling fits, or the one that the most modest tiling misses most."""
    demands = fits[:, : len(banks)]
    smallest = demands.min(axis=0)
    over = smallest / banks
    if (over <= 1).all():
        worst = (demands / banks).max(axis=1)
        smallest = demands[int(worst.argmin())]
        over = smallest / banks
    index = int(over.argmax())
    name = BUFFERS[index]
    return Infeasible(where, name, int(smallest[index]), int(banks[index]), LEVERS[name])


def describe_tile(mapping: Mapping) -> str:
    """Return the tile as text, e.g. ``N1 G1 K64 C32 P7 Q28 MKC``."""
    return " ".join(f"{d}{s}" for d, s in zip(TILE_DIMS, mapping.tile, strict=True)) + f" {mapping.order}"
