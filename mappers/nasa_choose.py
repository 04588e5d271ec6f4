"""The choice among dataflows of the three chunks of `nasa`, and among mappings of their layers, by the network's EDP.

The energy-delay product of a network is the product of two sums, over its layers, of energies and of cycles: the layers' own best
products need not make it. Of all ways to take one point (cycles, energy) of each layer, the least product is one that also has
the least ``energy + price * cycles`` for some price: the product is quasi-concave, so its least over the hull of all sums lies
at a corner. All prices at which a layer changes its point are tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

Point = tuple[int, float]
"""Cycles and energy in pJ of a layer under one mapping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """Dataflows of the chunks and what the network costs with them.

    Parameters
    ----------
    dataflows : tuple of (str, str)
        Chunk and its dataflow.
    cycles, energy_pj : int, float
        Of the network; 0 where ``refused`` says why it does not run.
    picks : tuple of (str, int)
        For each layer which of its points was taken.
    refused : str
        Why a layer does not run so, empty where all do.
    """

    dataflows: tuple[tuple[str, str], ...]
    cycles: int = 0
    energy_pj: float = 0.0
    picks: tuple[tuple[str, int], ...] = ()
    refused: str = ""

    @property
    def product(self) -> float:
        """Energy times cycles, pJ cycles."""
        return self.energy_pj * self.cycles

    @property
    def label(self) -> str:
        """E.g. ``clp rs, slp ws, alp os``."""
        return ", ".join(f"{chunk} {dataflow}" for chunk, dataflow in self.dataflows)


def pick_points(layers: Sequence[Sequence[Point]]) -> tuple[int, ...]:
    """Return for each layer the index of its point, so that (sum of cycles) times (sum of energies) is least, exactly."""
    prices = {0.0}
    for points in layers:
        for i, (cycles, energy) in enumerate(points):
            for other_cycles, other_energy in points[i + 1 :]:
                if cycles != other_cycles and (other_energy - energy) / (cycles - other_cycles) > 0:
                    prices.add((other_energy - energy) / (cycles - other_cycles))
    ordered = sorted(prices)
    between = [(a + b) / 2 for a, b in pairwise(ordered)]
    best: tuple[float, tuple[int, ...]] | None = None
    for price in (*between, 2 * ordered[-1] + 1):
        picks = tuple(
            min(range(len(points)), key=lambda i: (points[i][1] + price * points[i][0], points[i][0]))
            for points in layers
        )
        cycles = sum(points[i][0] for points, i in zip(layers, picks, strict=True))
        energy = sum(points[i][1] for points, i in zip(layers, picks, strict=True))
        if best is None or cycles * energy < best[0]:
            best = cycles * energy, picks
    assert best is not None
    return best[1]


def rank_dataflows(costs: Mapping[str, Mapping[str, Mapping[str, Sequence[Point]] | str]]) -> tuple[Combination, ...]:
    """Return every combination of the chunks' dataflows, the least EDP first, those that do not run last.

    Parameters
    ----------
    costs : mapping
        Chunk to dataflow to the points of its layers by name, or to the reason why one of them does not run.
    """
    found = []
    for flows in product(*(list(options) for options in costs.values())):
        named = tuple(zip(costs, flows, strict=True))
        chosen = [costs[chunk][flow] for chunk, flow in named]
        refused = next((one for one in chosen if isinstance(one, str)), "")
        if refused:
            found.append(Combination(dataflows=named, refused=refused))
            continue
        layers = {name: points for one in chosen if not isinstance(one, str) for name, points in one.items()}
        picks = dict(zip(layers, pick_points(list(layers.values())), strict=True))
        points = [layers[name][i] for name, i in picks.items()]
        found.append(
            Combination(
                dataflows=named, cycles=sum(cycles for cycles, _ in points), energy_pj=sum(energy for _, energy in points),
                picks=tuple(picks.items()),
            )
        )  # fmt: skip
    return tuple(sorted(found, key=lambda one: (bool(one.refused), one.product)))
