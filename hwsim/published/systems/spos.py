"""Single-path one-shot search: a searched network, and bits of 1 to 4 under a budget of bit operations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwsim.published.claims import Row, System, leave_out
from hwsim.published.systems._run import count_mac_cycles, list_mac_layers, run

if TYPE_CHECKING:
    from hwsim.core.layer import Layer
    from hwsim.core.policy import Policy
    from hwsim.core.report import Report

PAPER = "Guo et al., Single path one-shot, arXiv 1904.00420"
README = "megvii-model/SinglePathOneShot (MIT), README.md"
NETWORK = "spos_shufflenet"
DRAWS, SEED = 24, 0
BITS = (1, 2, 3, 4)
FIRST_PRODUCTS = 0.1156e9
"""Products of one 3x3 convolution of ResNet-18's first stage."""


def list_quantized() -> list[str]:
    """Return ResNet-18's layers but for the first and the last, which stay at eight bits."""
    return [layer.name for layer in list_mac_layers("resnet18")][1:-1]


def make_policy(bits: dict[str, tuple[int, int]]) -> Policy:
    """Return a policy of weight and activation bits by layer, all others at eight."""
    from hwsim.core.policy import LayerFormat, Policy

    return Policy(layers=tuple((name, LayerFormat(w_bits=w, a_bits=a)) for name, (w, a) in bits.items()))


def count_bit_operations(bits: dict[str, tuple[int, int]]) -> int:
    """Return products times bits of both operands, over the quantized layers."""
    macs = {layer.name: layer.macs for layer in list_mac_layers("resnet18")}
    return sum(macs[name] * w * a for name, (w, a) in bits.items())


def compare_network() -> list[Row]:
    """Return size and cost of the searched network."""
    layers = list_mac_layers(NETWORK)
    other = run("mobilenet_v2", "systolic")
    ours = run(NETWORK, "systolic")
    return [
        Row(
            claim="products of the searched network", source=README, unit="M", claimed=323,
            equations=sum(layer.macs for layer in layers) / 1e6, why="rounded there",
        ),
        Row(
            claim="weights of the searched network", source=README, unit="M", claimed=3.5,
            equations=sum(layer.weights for layer in layers) / 1e6, why="rounded there; normalization left out here",
        ),
        Row(
            claim="the searched network on a 32 x 32 array of 8 bits, cycles", source=README, unit="cycles",
            simulated=ours.cycles,
            why=f"{ours.macs / other.macs:.2f}x the products of MobileNetV2, {ours.cycles / other.cycles:.2f}x its cycles: "
            f"depthwise layers take {share_depthwise(ours):.0%} of them here and {share_depthwise(other):.0%} there, where they "
            "have more outputs",
        ),
    ]  # fmt: skip


def share_depthwise(report: Report) -> float:
    """Return the share of a network's cycles that depthwise layers take."""
    pairs = zip(report.network.layers, report.layers, strict=True)
    return sum(cost.cycles for layer, cost in pairs if cost.w_bits and layer.is_depthwise) / report.cycles


def rank(values: list[float]) -> list[int]:
    """Return the place of each value in their order."""
    order = sorted(range(len(values)), key=values.__getitem__)
    places = [0] * len(values)
    for place, index in enumerate(order):
        places[index] = place
    return places


def correlate(a: list[float], b: list[float]) -> float:
    """Return Spearman's rank correlation of values without ties."""
    n = len(a)
    return 1 - 6 * sum((x - y) ** 2 for x, y in zip(rank(a), rank(b), strict=True)) / (n * (n * n - 1))


def count_serial(layer: Layer, w: int, a: int) -> int:
    """Return first-order cycles on 16 x 16 bit-serial units: the larger of either stream and the products."""
    pixels, words = layer.P * layer.Q, -(-layer.C * layer.R * layer.S // 256)
    return words * max(layer.K * w, pixels * a, -(-layer.K // 16) * -(-pixels // 16) * w * a)


def count_fused(layer: Layer, w: int, a: int) -> int:
    """Return compute cycles on 16 x 32 fusion units, which have 2, 4 and 8 bits."""
    lanes = 16 * (8 // choose_width(w)) * (8 // choose_width(a))
    return layer.P * layer.Q * layer.R * layer.S * -(-layer.K // 32) * -(-layer.C // lanes)


def choose_width(bits: int) -> int:
    """Return the width that runs so many bits, up to 8."""
    return 2 if bits <= 2 else 4 if bits <= 4 else 8


def compare_budget() -> list[Row]:
    """Return bit operations of uniform policies, and how well they stand for cycles of mixed ones."""
    import random

    names = list_quantized()
    rows = []
    for bits, claimed in ((4, 25.27), (3, 14.21), (2, 6.32)):
        found = count_bit_operations(dict.fromkeys(names, (bits, bits))) / 1e9
        rows.append(
            Row(
                claim=f"ResNet-18 at w{bits}a{bits}: bit operations", source=f"{PAPER}, mixed-precision table (from memory)",
                certainty="unverified", unit="G", claimed=claimed, equations=found,
                why=f"which layers it counts is not known: the three rows share {claimed / bits**2:.3f} G products, all layers but "
                f"the first and the last have {found / bits**2:.3f} G; the rest is what one 3x3 convolution of the first stage has "
                f"({FIRST_PRODUCTS / 1e9:.3f} G)",
            )
        )  # fmt: skip
    draw = random.Random(SEED)
    drawn = [{name: (draw.choice(BITS), draw.choice(BITS)) for name in names} for _ in range(DRAWS)]
    operations = [float(count_bit_operations(bits)) for bits in drawn]
    for arch, first_order, why in (
        (
            "bismo-cloud",
            count_serial,
            "with loads counted (the larger of either stream of words and the products, a layer)",
        ),
        (
            "bitfusion-S",
            count_fused,
            "with lanes counted (2 or 4 bits a unit; 64 channels leave lanes empty at few bits)",
        ),
    ):
        cycles = [float(count_mac_cycles(run("resnet18", arch, make_policy(bits)))) for bits in drawn]
        better = [
            float(sum(first_order(x, *bits.get(x.name, (8, 8))) for x in list_mac_layers("resnet18"))) for bits in drawn
        ]
        each = [c / o for c, o in zip(cycles, operations, strict=True)]
        rows.append(
            Row(
                claim=f"bit operations as the cost of a policy: rank correlation with cycles on {arch}, {DRAWS} drawn policies of "
                "1 to 4 bits", source=PAPER, simulated=correlate(operations, cycles),
                why=f"{why} it is {correlate(better, cycles):.2f}; cycles a bit operation differ by {max(each) / min(each):.2f}x",
            )
        )  # fmt: skip
    return rows


def reproduce() -> tuple[Row, ...]:
    """Return the rows of one-shot search."""
    return (
        *compare_network(),
        *compare_budget(),
        leave_out(
            "25.6 % top-1 error of the searched network", README, "takes training on ImageNet",
        ),
        leave_out(
            "accuracy of mixed precision above uniform at equal bit operations", f"{PAPER} (from memory)",
            "takes training on ImageNet; the bits found are not released", "unverified",
        ),
    )  # fmt: skip


SYSTEM = System(
    name="spos", title="single-path one-shot search: a searched network, bits of 1 to 4", reproduce=reproduce, order=10,
    source=f"{PAPER}; megvii-model/SinglePathOneShot (MIT)", archs=("systolic", "bismo", "bitfusion"),
)  # fmt: skip
