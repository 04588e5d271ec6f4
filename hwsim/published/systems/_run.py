"""Simulations that several systems share: each is run once in a process."""

from __future__ import annotations

from functools import cache
from math import exp, log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hwsim.core.datapath import Workload
    from hwsim.core.layer import Layer
    from hwsim.core.network import Network
    from hwsim.core.policy import Policy
    from hwsim.core.report import Report
    from hwsim.core.stats import LayerCost
    from hwsim.pipeline.prices import Prices


@cache
def run(
    network: Network | str, arch: str, policy: Policy | str = "w8a8", batch: int = 1, objective: str = "cycles"
) -> Report:  # fmt: skip
    """Return the report of a network on a preset (``NAME`` or ``NAME-PRESET``)."""
    from hwsim.pipeline.simulate import simulate

    return simulate(network, arch, policy=policy, batch=batch, objective=objective)


@cache
def find_prices(arch: str) -> Prices:
    """Return the prices of a preset's own energy table."""
    from hwsim.archs.registry import find_arch
    from hwsim.pipeline.prices import choose_prices

    return choose_prices(find_arch(arch), None)


@cache
def price_layer(
    layer: Layer, arch: str, w_bits: int, a_bits: int, out_bits: int, objective: str = "cycles"
) -> LayerCost:  # fmt: skip
    """Return the cost of one layer alone; padding is part of its input."""
    from hwsim.pipeline.simulate import price_workload
    from mappers.cache import open_cache

    load = describe_load(layer, w_bits, a_bits, out_bits)
    return price_workload(load, None, find_prices(arch), objective, open_cache().find)[0]


def describe_load(layer: Layer, w_bits: int, a_bits: int, out_bits: int) -> Workload:
    """Return what one layer alone asks for."""
    from hwsim.core.datapath import Workload
    from hwsim.core.policy import LayerFormat

    return Workload(
        layer=layer, fmt=LayerFormat(w_bits=w_bits, a_bits=a_bits), out_bits=out_bits, operand_bits=(a_bits,),
        operand_shapes=(layer.in_shape,),
    )  # fmt: skip


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
