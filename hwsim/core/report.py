"""The result of a simulation: rows, totals, provenance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hwsim.core.network import Network
from hwsim.core.stats import STALLS, LayerCost

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where every figure of a report comes from.

    Parameters
    ----------
    version : str
        Of hwsim.
    arch, preset : str
        Architecture and preset, ``+`` behind a preset whose fields were overridden.
    arch_fields : str
        The whole architecture as JSON.
    network, network_source : str
        The network and where its shapes come from.
    policy : str
        Short form of the policy.
    mapper : str
        Mapper, objective and how many of the mappings are proven best.
    energy_table : str
        Name, node and supply of the energy table, scaling included.
    memory : str
        Memory model.
    weights, activations : str
        Where tensors come from, with seed and distribution for synthetic ones.
    seed : int
        Seed of everything drawn.
    clock_source : str
        Where the clock comes from.
    unverified : tuple of str
        Constants that could not be checked against their source.
    notes : tuple of str
        What is not modelled, operators without a price, rules by which constants were derived.
    """

    version: str
    arch: str
    preset: str
    arch_fields: str
    network: str
    network_source: str
    policy: str
    mapper: str
    energy_table: str
    memory: str
    weights: str
    activations: str
    seed: int
    clock_source: str
    unverified: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaItem:
    """One line of the area: logic of the engine or a buffer, um2, with its source; ``None`` where nothing is known."""

    name: str
    area_um2: float | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Costs of a network on an accelerator.

    Parameters
    ----------
    network : Network
        What ran.
    batch : int
        Images of one pass.
    clock_hz : float
        Clock.
    layers : tuple of LayerCost
        One row a layer, in order; layers without arithmetic have zero cycles.
    area : tuple of AreaItem
        Area by part.
    peak_activation_bits : int
        Largest sum of live activation tensors while the network runs.
    provenance : Provenance
        Sources.
    port_cycles : int
        Cycles that the memory's busiest port is busy at least in a pass.
    """

    network: Network
    batch: int
    clock_hz: float
    layers: tuple[LayerCost, ...]
    area: tuple[AreaItem, ...]
    peak_activation_bits: int
    provenance: Provenance
    port_cycles: int = 0

    @property
    def cycles(self) -> int:
        """Cycles of the network: the sum of its layers' (no prefetch across layers, no fusion)."""
        return sum(cost.stats.cycles for cost in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return sum(cost.stats.macs for cost in self.layers)

    @property
    def latency_s(self) -> float:
        """Seconds of one pass (``batch`` images)."""
        return self.cycles / self.clock_hz

    @property
    def fps(self) -> float:
        """Images a second."""
        return self.batch / self.latency_s if self.cycles else 0.0

    @property
    def interval_cycles(self) -> int:
        """Cycles from one pass to the next where engines work on different passes at a time, at best; `cycles` elsewhere.

        The busiest engine, all of its layers one after the other, or all transfers through the memory's port where those take
        longer. Waiting of engines for each other at that port is not simulated.
        """
        busy: dict[str, int] = {}
        for cost in self.layers:
            if cost.stats.cycles:
                busy[cost.engine] = busy.get(cost.engine, 0) + cost.stats.cycles
        return max(*busy.values(), self.port_cycles) if len(busy) > 1 else self.cycles

    @property
    def throughput_fps(self) -> float:
        """Images a second with passes in the engines' pipeline (`interval_cycles`); `fps` where there is one engine."""
        return self.batch * self.clock_hz / self.interval_cycles if self.cycles else 0.0

    @property
    def energy_pj(self) -> float:
        """Energy of one pass in pJ."""
        return sum(cost.energy_pj for cost in self.layers)

    @property
    def edp(self) -> float:
        """Energy-delay product of one pass, J*s."""
        return self.energy_pj * 1e-12 * self.latency_s

    @property
    def tops(self) -> float:
        """Tera-operations a second, two operations a multiply-accumulate."""
        return 2 * self.macs / self.latency_s / 1e12 if self.cycles else 0.0

    @property
    def tops_per_w(self) -> float:
        """Tera-operations a joule."""
        return 2 * self.macs / self.energy_pj if self.energy_pj else 0.0

    @property
    def area_um2(self) -> float:
        """Area of the parts whose area is known."""
        return sum(item.area_um2 for item in self.area if item.area_um2 is not None)

    def stall_cycles(self) -> dict[str, int]:
        """Return stall cycles of the whole network by cause."""
        return {name: sum(dict(cost.stats.stall_cycles).get(name, 0) for cost in self.layers) for name in STALLS}

    def to_frame(self) -> pandas.DataFrame:
        """Return one row a layer as a pandas DataFrame, the keys of the JSON as columns (nested ones joined by a dot)."""
        from hwsim.core.rows import build_frame

        return build_frame(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values with stable keys: ``layers``, ``totals``, ``provenance``."""
        from hwsim.core.rows import build_dict

        return build_dict(self)
