"""Simulations that several systems share: each is run once in a process."""

from __future__ import annotations

from functools import cache
from math import exp, log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hwsim.core.layer import Layer
    from hwsim.core.network import Network
    from hwsim.core.policy import Policy
    from hwsim.core.report import Report
    from hwsim.core.stats import LayerCost


@cache
def run(network: Network | str, arch: str, policy: Policy | str = "w8a8", batch: int = 1) -> Report:
    """Return the report of a network on a preset (``NAME`` or ``NAME-PRESET``)."""
    from hwsim.pipeline.simulate import simulate

    return simulate(network, arch, policy=policy, batch=batch)


@cache
def price_layer(layer: Layer, arch: str, w_bits: int, a_bits: int, out_bits: int) -> LayerCost:
    """Return the cost of one layer alone; padding is part of its input."""
    from hwsim.archs.registry import find_arch
    from hwsim.core.datapath import Workload
    from hwsim.core.policy import LayerFormat
    from hwsim.pipeline.prices import choose_prices
    from hwsim.pipeline.simulate import price_workload
    from mappers.cache import open_cache

    load = Workload(
        layer=layer, fmt=LayerFormat(w_bits=w_bits, a_bits=a_bits), out_bits=out_bits, operand_bits=(a_bits,),
        operand_shapes=(layer.in_shape,),
    )  # fmt: skip
    return price_workload(load, None, choose_prices(find_arch(arch), None), "cycles", open_cache().find)[0]


@cache
def list_mac_layers(network: str, batch: int = 1) -> tuple[Layer, ...]:
    """Return a network's convolutions and gemms."""
    from hwsim.nets.load import load_network

    return load_network(network, batch=batch).network.mac_layers


def count_mac_cycles(report: Report) -> int:
    """Return the cycles of convolutions and gemms alone: what most papers count."""
    return sum(row.cycles for row in report.layers if row.w_bits)


def find_geomean(values: Iterable[float]) -> float:
    """Return the geometric mean."""
    logs = [log(value) for value in values]
    return exp(sum(logs) / len(logs))
