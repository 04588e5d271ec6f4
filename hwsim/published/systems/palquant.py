"""PalQuant: a 4-bit network as groups of 2 bits side by side on a 2-bit array."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwsim.published.claims import Row, System, leave_out
from hwsim.published.systems._run import run

if TYPE_CHECKING:
    from hwsim.core.network import Network
    from hwsim.core.report import Report

PAPER = "PalQuant, ECCV 2022"
REPOSITORY = "huqinghao/PalQuant (no licence), quant_resnet.py"
CLAIM = 1.78
KEPT = ("conv1", "fc")
"""Layers that are neither grouped nor at the native bits."""
TITLES = {"resnet18": "ResNet-18", "resnet34": "ResNet-34"}
SIZES = (("resnet18", 3), ("resnet18", 4), ("resnet34", 2))


def count_quantized(network: Network) -> int:
    """Return the products of the quantized layers."""
    return sum(layer.macs for layer in network.mac_layers if layer.name not in KEPT)


def sum_cycles(report: Report, first: bool = False, compute: bool = False) -> int:
    """Return cycles of the quantized layers, with those of the first layer where asked for."""
    rows = [row for row in report.layers if row.w_bits and (row.name not in KEPT or (first and row.name == "conv1"))]
    return sum(row.stats.compute_cycles if compute else row.cycles for row in rows)


def count_ideal(name: str, groups: int, passes: int = 0) -> float:
    """Return products of 2 bits, four a product of 4 bits, over those of the widened network; ``passes`` of the first layer."""
    from hwsim.nets.group_parallel import widen_groups
    from hwsim.nets.load import load_network

    network = load_network(name).network
    wide = widen_groups(network, groups)
    ours = count_quantized(wide) + passes * wide.layer("conv1").macs
    return (4 * count_quantized(network) + passes * network.layer("conv1").macs) / ours


def compare_speed() -> list[Row]:
    """Return the speed of groups against passes in time."""
    rows = []
    for bits, passes in ((0, 0), (4, 4), (8, 16)):
        policy = f"conv1=w{bits or 8}a{bits or 8}"
        narrow = run("resnet18", "palquant", f"w4a4,{policy},fc=w8a8")
        wide = run("resnet18", "palquant", f"w2a2g2,{policy}")
        alone = sum_cycles(narrow, bool(bits), True) / sum_cycles(wide, bool(bits), True)
        used = next(row.stats for row in narrow.layers if row.name == "conv1").utilization
        what = f"conv1 at {bits} bits counted" if bits else "conv1 not counted"
        rows.append(
            Row(
                claim=f"two groups of 2 bits over 4 bits in passes, ResNet-18, {what}", source=f"{PAPER}, abstract", unit="x",
                claimed=CLAIM, equations=count_ideal("resnet18", 2, passes),
                simulated=sum_cycles(narrow, bool(bits)) / sum_cycles(wide, bool(bits)),
                why="the accelerator is not published, nor how conv1 counts: the claim lies between leaving it out and 4 bits; "
                f"equations: products of 2 bits; the engine alone gives {alone:.3f}x"
                + (f", conv1's 147 inputs fill {used:.0%} of the lanes" if bits else "")
                + "; the rest is loads, stores and shuffles",
            )
        )  # fmt: skip
    for name, groups in SIZES:
        narrow, wide = (
            run(name, "palquant", "w4a4,conv1=w8a8,fc=w8a8"),
            run(name, "palquant", f"w2a2g{groups},conv1=w8a8"),
        )
        rows.append(
            Row(
                claim=f"{groups} groups of 2 bits over 4 bits in passes, {TITLES[name]}, conv1 not counted: ideal",
                source=f"{REPOSITORY}: products counted", unit="x", equations=count_ideal(name, groups),
                simulated=sum_cycles(narrow) / sum_cycles(wide),
                why="loads, stores and the shuffles' short layers; the engine alone gives the ideal",
            )
        )  # fmt: skip
    return rows


def count_fused(network: Network, bits: int) -> int:
    """Return BitFusion's compute cycles of the quantized layers on 16 x 32 units: channels of a group along the lanes."""
    lanes = 16 * (8 // bits) ** 2
    layers = (layer for layer in network.mac_layers if layer.name not in KEPT)
    return sum(x.G * x.P * x.Q * x.R * x.S * -(-x.K // 32) * -(-x.C // lanes) for x in layers)


def compare_mapping() -> Row:
    """Return what groups do where an array maps channels to lanes."""
    from hwsim.nets.group_parallel import widen_groups
    from hwsim.nets.load import load_network

    network = load_network("resnet18").network
    wide = run("resnet18", "bitfusion-E", "w2a2g2")
    narrow = run("resnet18", "bitfusion-E", "w4a4,conv1=w8a8,fc=w8a8")
    return Row(
        claim="the same on BitFusion's 16 x 32 units, quantized layers: compute cycles", source=f"{PAPER}; BitFusion's equations",
        unit="x", equations=count_fused(network, 4) / count_fused(widen_groups(network, 2), 2),
         simulated=sum_cycles(narrow, compute=True) / sum_cycles(wide, compute=True),
        why="channels of one group alone fill the 256 lanes of a column there: halves of them idle, and groups lose",
    )  # fmt: skip


def count_weights(bits: int) -> int:
    """Return bits of the quantized layers' weights: of two groups at 2 bits, of the network itself at 4."""
    from hwsim.nets.group_parallel import widen_groups
    from hwsim.nets.load import load_network

    network = load_network("resnet18").network
    wide = widen_groups(network, 2) if bits == 2 else network
    return bits * sum(layer.weights for layer in wide.mac_layers if layer.name not in KEPT)


def compare_weights() -> Row:
    """Return stored weights of both networks."""
    found = {
        policy: sum(cost.weight_bits for cost in run("resnet18", "palquant", policy).layers if cost.name not in KEPT)
        for policy in ("w2a2g2,conv1=w8a8", "w4a4,conv1=w8a8,fc=w8a8")
    }
    wide, narrow = found.values()
    return Row(
        claim="weights of two groups of 2 bits over those of 4 bits, ResNet-18", source=f"{REPOSITORY}: weights counted", unit="x",
        equations=count_weights(2) / count_weights(4), simulated=wide / narrow,
    )  # fmt: skip


def reproduce() -> tuple[Row, ...]:
    """Return PalQuant's rows."""
    claim = "ResNet-18 at two groups of 2 bits: 71.10 % top-1, 0.52 % above 4 bits"
    left = leave_out(claim, f"{PAPER}, abstract; logs of {REPOSITORY}", "takes training on ImageNet")
    return (*compare_speed(), compare_mapping(), compare_weights(), left)


SYSTEM = System(
    name="palquant", title="groups of low bits side by side", source=f"{PAPER}; huqinghao/PalQuant (no licence)",
    reproduce=reproduce, archs=("palquant",), order=4,
)  # fmt: skip
