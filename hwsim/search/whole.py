"""Prices of policies that no table covers: layer by layer, or by a simulation where cycles depend on data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from hwsim.core.arch import Arch
from hwsim.core.network import Network
from hwsim.core.policy import Policy
from hwsim.core.report import Report
from hwsim.pipeline.widen import widen_by_policy
from hwsim.pipeline.workloads import list_stored_bits, list_workloads, peak_activation_bits
from hwsim.search.book import Book, read_formats


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What policies cost: numbers for one policy, arrays ``[B]`` for many (not hashable then).

    Parameters
    ----------
    latency_cycles : int or int64
        Cycles of one pass.
    latency_s, energy_pj, edp : float or float64
        Seconds, pJ, J*s of one pass.
    weight_bits, peak_activation_bits : int or int64
        Stored weights; largest sum of live activation tensors.
    """

    latency_cycles: Any
    latency_s: Any
    energy_pj: Any
    edp: Any
    weight_bits: Any
    peak_activation_bits: Any


class Sums(NamedTuple):
    """What one policy costs; the other figures of `Costs` follow from these."""

    latency_cycles: int
    energy_pj: float
    weight_bits: int
    peak_activation_bits: int


class WholePrices:
    """Prices of one policy at a time, each computed once.

    Parameters
    ----------
    network : Network
        The network.
    arch : Arch
        The accelerator.
    book : Book
        Prices of its layers.
    run : callable
        `hwsim.simulate` with all that it needs besides network, accelerator, policy and objective.
    """

    def __init__(self, network: Network, arch: Arch, book: Book, run: Callable[..., Report]) -> None:
        self._network, self._arch, self._book, self._run = network, arch, book, run
        self._known: dict[Policy, Sums] = {}

    def price(self, policy: Policy) -> Sums:
        """Return the costs of a policy."""
        if policy not in self._known:
            self._known[policy] = self._simulate(policy) if self._arch.needs_data else self._add_up(policy)
        return self._known[policy]

    def _simulate(self, policy: Policy) -> Sums:
        report = self._run(self._network, self._arch, policy=policy, objective=self._book.objective)
        return Sums(
            latency_cycles=report.cycles,
            energy_pj=report.energy_pj,
            weight_bits=sum(cost.weight_bits for cost in report.layers),
            peak_activation_bits=report.peak_activation_bits,
        )

    def _add_up(self, policy: Policy) -> Sums:
        network, _, policy = widen_by_policy(self._network, None, policy)
        loads = list_workloads(network, policy)
        for load in loads.values():
            if load.layer.kind == "mac":
                self._arch.check(load)
        ordered = list(loads.values())
        jobs = [(self._book.number(load), read_formats(load)) for load in ordered]
        entries = self._book.find_all(jobs, ordered)
        return Sums(
            latency_cycles=sum(one.cycles for one in entries),
            energy_pj=sum(one.energy_pj for one in entries),
            weight_bits=sum(one.weight_bits for one in entries),
            peak_activation_bits=peak_activation_bits(network, list_stored_bits(network, policy, self._arch)),
        )
