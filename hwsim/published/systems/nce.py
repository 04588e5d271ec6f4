"""NCE: more channels instead of more bits, all at two bits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hwsim.published.claims import Row, System, leave_out
from hwsim.published.systems._run import run

if TYPE_CHECKING:
    from hwsim.core.network import Network
    from hwsim.core.report import Report

PAPER = "Park et al., Neural channel expansion, arXiv 2212.10878"
SYNTHESIS = "hsharma35/bitfusion, results/systolic_array_synth.csv, 45 nm, 4 x 4 array"
MULTIPLIERS = 64 * 64
"""Of `palquant` base."""
KEPT = ("conv1", "fc")
WIDTHS = (1.0, 1.25, 1.5, 2.0)
"""Uniform widths: which layers NCE widens is not released."""


def widen_channels(network: Network, factor: float) -> Network:
    """Return a network without groups whose tensors between input and output have ``factor`` times the channels."""
    layers = []
    for layer in network.layers:
        first, last = not set(layer.inputs) - {spec.name for spec in network.inputs}, layer.name in network.outputs
        if layer.kind == "mac":
            c, k = (1 if first else factor), (1 if last else factor)
            layers.append(replace(layer, C=int(layer.C * c), K=int(layer.K * k)))
        else:
            layers.append(replace(layer, G=int(layer.G * factor)))
    return replace(network, name=f"{network.name} x{factor:g}", layers=tuple(layers))


def count_products(network: Network) -> int:
    """Return the products of the quantized layers."""
    return sum(layer.macs for layer in network.mac_layers if layer.name not in KEPT)


def sum_cycles(report: Report) -> int:
    """Return the cycles of the quantized layers."""
    return sum(row.cycles for row in report.layers if row.w_bits and row.name not in KEPT)


def compare_widths() -> list[Row]:
    """Return wide networks of 2 bits against the narrow one of 4."""
    from hwsim.nets.load import load_network

    network = load_network("resnet18").network
    four = run(network, "palquant", "w4a4,conv1=w8a8,fc=w8a8")
    rows = []
    for factor in WIDTHS:
        wide = widen_channels(network, factor)
        two = run(wide, "palquant", "w2a2,conv1=w8a8,fc=w8a8")
        used = count_products(wide) / (MULTIPLIERS * sum_cycles(two))
        size = sum(x.weight_bits for x in two.layers) / sum(x.weight_bits for x in four.layers)
        rows.append(
            Row(
                claim=f"ResNet-18 with {factor:g} times the channels at 2 bits over its own at 4, 2-bit multipliers: speed",
                source=PAPER, unit="x", equations=4 * count_products(network) / count_products(wide),
                simulated=sum_cycles(four) / sum_cycles(two),
                why=f"equations: products of 2 bits; {used:.0%} of the array is used in these layers (channels that are not "
                f"multiples of 64 leave lanes and columns empty); weights take {size:.2f}x the bits",
            )
        )  # fmt: skip
    return rows


def compare_units() -> Row:
    """Return the area of an array of one width against one of many."""
    from energy_models.table import load_table

    entries = load_table("bitfusion45").entries
    area = {entry.label: entry.area_um2 for entry in entries if entry.area_um2 is not None}
    return Row(
        claim="an array of one width needs no fusing: area of 2-bit multipliers over fusion units of as many 2-bit products",
        source=SYNTHESIS, unit="x", equations=16 * area["mac 2x2"] / area["fusion_unit 8x2"],
        why="sixteen 2-bit elements against one fusion unit of 2 to 8 bits, as its authors synthesized both",
    )  # fmt: skip


def reproduce() -> tuple[Row, ...]:
    """Return NCE's rows."""
    return (
        *compare_widths(),
        compare_units(),
        leave_out(
            "2-bit ResNet-50 best to date in top-1 accuracy at fewer FLOPs and parameters", f"{PAPER}, abstract",
            "takes search and training on ImageNet; the channels found are not released",
        ),
    )  # fmt: skip


SYSTEM = System(
    name="nce", title="channels instead of bits at uniform two bits", source=PAPER, reproduce=reproduce, archs=("palquant",),
    order=14,
)  # fmt: skip
