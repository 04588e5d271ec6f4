"""The auto-mapper of `nasa`: dataflow of each chunk, tiling and loop order of each layer, by the network's EDP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hwsim.archs.nasa.spec import CHUNKS, DATAFLOWS, Nasa
from hwsim.archs.overrides import override
from hwsim.core.datapath import Workload
from hwsim.core.errors import HwsimError, Infeasible, SpecError
from hwsim.core.network import Network
from hwsim.core.policy import Policy
from hwsim.core.stats import LayerCost
from hwsim.pipeline.prices import Prices, choose_prices
from hwsim.pipeline.simulate import Progress, count_port_cycles, price_workload, resolve_network
from hwsim.pipeline.workloads import list_workloads
from mappers.cache import open_cache
from mappers.nasa_choose import Combination, rank_dataflows


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoMapping:
    """The best combination of dataflows, and all others.

    Parameters
    ----------
    arch : Nasa
        The accelerator with the best dataflows.
    ranked : tuple of Combination
        Every combination, best first; those that do not run stand last and say why.
    rows : tuple of LayerCost
        The best one's layers, in order.
    interval_cycles : int
        Cycles from frame to frame with frames in the pipeline of chunks, at best: the busiest chunk, or the memory's port.
    """

    arch: Nasa
    ranked: tuple[Combination, ...]
    rows: tuple[LayerCost, ...]
    interval_cycles: int

    @property
    def best(self) -> Combination:
        """The first of ``ranked``."""
        return self.ranked[0]

    @property
    def edp(self) -> float:
        """Energy-delay product of a pass, J*s, the delay being its latency."""
        return self.best.energy_pj * 1e-12 * self.best.cycles / self.arch.clock_hz

    def find(self, **dataflows: str) -> Combination:
        """Return the first combination of some dataflows, e.g. ``find(clp="rs", slp="rs", alp="rs")``.

        Raises
        ------
        SpecError
            There is none: a chunk or dataflow of another name, or one that a chunk without layers was not tried with.
        """
        for one in self.ranked:
            if dataflows.items() <= dict(one.dataflows).items():
                return one
        raise SpecError("dataflows", dataflows, f"one of {len(self.ranked)} combinations such as {self.best.label}")


def auto_map(
    network: Network | str, arch: Nasa, *, policy: Policy | str | None = None, batch: int = 1,
    objectives: Sequence[str] = ("edp",), energy_table: str | None = None, progress: Progress | None = None,
) -> AutoMapping:  # fmt: skip
    """Search dataflows, tilings and loop orders of all chunks and layers for the least energy-delay product of the network.

    Parameters
    ----------
    network, policy, batch, energy_table, progress
        As in `hwsim.pipeline.simulate.simulate`; progress counts layers times dataflows.
    arch : Nasa
        The accelerator; a chunk that has nothing to do keeps its dataflow.
    objectives : sequence of str
        What a layer's mapping is searched for, each a candidate of the layer. With ``edp`` alone the result is that of
        `simulate` with this objective on ``arch`` of the result; more of them find the least product of sums among more mappings.

    Raises
    ------
    HwsimError
        No dataflow of a chunk runs all of its layers.
    """
    network, _, policy = resolve_network(network, batch, None, policy)
    workloads = list_workloads(network, policy)
    for load in workloads.values():
        if load.layer.kind == "mac":
            override(arch, {f"{chunk}_dataflow": "os" for chunk in CHUNKS.values()}).check(load)
    busy = {arch.engine_of(load) for load in workloads.values() if load.layer.kind == "mac"} or {"clp"}
    search = _Search(
        arch=arch, objectives=tuple(objectives), energy_table=energy_table, workloads=workloads, progress=progress
    )
    costs = {chunk: search.price_chunk(chunk, DATAFLOWS if chunk in busy else ()) for chunk in CHUNKS.values()}
    ranked = rank_dataflows(
        {chunk: {flow: _take_points(one) for flow, one in flows.items()} for chunk, flows in costs.items()}
    )
    best = ranked[0]
    if best.refused:
        stuck = [flows for flows in costs.values() if all(isinstance(one, str) for one in flows.values())]
        reasons = "; ".join(f"{flow}: {one}" for flow, one in stuck[0].items())
        raise HwsimError(f"no dataflow of a chunk of {arch.name} runs all of its layers: {reasons}")
    options: dict[str, list[LayerCost]] = {}
    for chunk, flow in best.dataflows:
        found = costs[chunk][flow]
        options.update({} if isinstance(found, str) else found)
    picks = dict(best.picks)
    rows = tuple(options[name][picks[name]] for name in workloads)
    chunks: dict[str, int] = {}
    for row in rows:
        chunks[row.engine] = chunks.get(row.engine, 0) + row.cycles
    chosen = override(arch, {f"{chunk}_dataflow": flow for chunk, flow in best.dataflows})
    assert isinstance(chosen, Nasa)
    port = count_port_cycles(arch.memory, [row.stats for row in rows])
    interval = max(*chunks.values(), port) if len(chunks) > 1 else best.cycles
    return AutoMapping(arch=chosen, ranked=ranked, rows=rows, interval_cycles=interval)


Costs = dict[str, list[LayerCost]]
"""Rows of a chunk's layers by name, one for each objective."""


def _take_points(found: Costs | str) -> dict[str, list[tuple[int, float]]] | str:
    if isinstance(found, str):
        return found
    return {name: [(row.cycles, row.energy_pj) for row in rows] for name, rows in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    arch: Nasa
    objectives: tuple[str, ...]
    energy_table: str | None
    workloads: dict[str, Workload]
    progress: Progress | None

    def price_chunk(self, chunk: str, dataflows: Sequence[str]) -> dict[str, Costs | str]:
        """Return the costs of a chunk's layers under each dataflow, or why one of them does not run."""
        own = [load for load in self.workloads.values() if self.arch.engine_of(load) == chunk]
        found: dict[str, Costs | str] = {}
        for flow in dataflows or (getattr(self.arch, f"{chunk}_dataflow"),):
            prices = choose_prices(override(self.arch, {f"{chunk}_dataflow": flow}), self.energy_table)
            try:
                found[flow] = self._price_layers(own, prices, f"{chunk} {flow}")
            except (Infeasible, SpecError) as error:
                found[flow] = str(error)
        return found

    def _price_layers(self, loads: list[Workload], prices: Prices, label: str) -> Costs:
        find, seen, found = open_cache().renew().find, {}, {}
        for i, load in enumerate(loads):
            if self.progress:
                self.progress(f"{load.layer.name} ({label})", i, len(loads))
            key = load.key()
            if key not in seen:
                seen[key] = [price_workload(load, None, prices, goal, find)[0] for goal in self.objectives]
            found[load.layer.name] = [replace(row, name=load.layer.name) for row in seen[key]]
        return found
