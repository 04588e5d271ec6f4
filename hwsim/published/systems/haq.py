"""HAQ: mixed precision found under the latency of bit-serial and fused accelerators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwsim.published.claims import Row, System, Table, find_reference, leave_out, skip_row
from hwsim.published.haq import BATCH, UNIFORM, count_cycles, describe
from hwsim.published.systems._haq_entries import OBJECTIVE, build_table, simulate_entries
from hwsim.published.systems._run import count_mac_cycles, list_mac_layers, run

if TYPE_CHECKING:
    from hwsim.core.layer import Layer
    from hwsim.core.policy import Policy

REPOSITORY = "mit-han-lab/haq (MIT)"
TABLE = ("haq", "qmobilenetv2_imagenet100_batch16_latency_table.npy")
TABLE_SOURCE = f"{REPOSITORY}, lib/simulator/lookup_tables/{TABLE[1]}"
README = f"{REPOSITORY}, README.md"
PAPER = "HAQ, CVPR 2019, arXiv 1811.08886"
CLOCK_HZ = 200e6
"""Of BISMO's instances (FPL 2018); HAQ states none."""
STRATEGY = (
    (8, 8), (7, 7), (5, 6), (4, 6), (5, 6), (5, 7), (5, 6), (7, 4), (4, 6), (4, 6), (7, 7), (5, 6), (4, 6), (7, 3), (5, 7),
    (4, 7), (7, 3), (5, 7), (4, 7), (7, 7), (4, 7), (4, 7), (6, 4), (6, 7), (4, 7), (7, 4), (6, 7), (5, 7), (7, 4), (6, 7),
    (5, 7), (7, 4), (6, 7), (6, 7), (6, 4), (5, 7), (6, 7), (6, 4), (5, 7), (6, 7), (7, 7), (4, 7), (7, 7), (7, 7), (4, 7),
    (7, 7), (7, 7), (4, 7), (7, 7), (7, 7), (4, 7), (7, 7), (8, 8),
)  # fmt: skip
"""Weight and activation bits of MobileNetV2 at a ratio of 0.6 (README); the image, -1 there, is 8 bits."""
SIZE_STRATEGY = (
    6, 6, 5, 5, 5, 5, 4, 5, 5, 4, 5, 5, 5, 5, 5, 5, 3, 5, 4, 3, 5, 4, 3, 4, 4, 4, 2, 5, 4, 3, 3, 5, 3, 2, 5, 3, 2, 4, 3, 2, 5, 3,
    2, 5, 3, 4, 2, 5, 2, 3, 4, 2, 3, 4,
)  # fmt: skip
"""Weight bits of ResNet-50 at a tenth of the size (README)."""
CLOUD_MS = {("mobilenet_v1", 8): 151.09, ("mobilenet_v1", 6): 99.86, ("mobilenet_v1", 5): 77.52, ("mobilenet_v1", 4): 57.49,
            ("mobilenet_v2", 8): 189.82, ("mobilenet_v2", 4): 74.46}  # fmt: skip
EDGE_MS = {("mobilenet_v1", 8): 96.20, ("mobilenet_v1", 6): 70.67, ("mobilenet_v1", 4): 45.45, ("mobilenet_v2", 8): 115.84,
           ("mobilenet_v2", 4): 52.15}  # fmt: skip
EDGE_TILE, EDGE_WORD = 8, 256
TITLES = {"mobilenet_v1": "MobileNetV1", "mobilenet_v2": "MobileNetV2"}


def count_network(network: str, w_bits: int, a_bits: int) -> int:
    """Return the closed form's cycles of a network at uniform bits, batch 16."""
    return sum(count_cycles(describe(layer), w_bits, a_bits) for layer in list_mac_layers(network))


def count_edge_layer(layer: Layer, w: int, a: int) -> int:
    """Return first-order cycles of 8 x 8 units on one image.

    The larger of either stream and the products, max(N k w, P k a, ceil(P / 8) ceil(N / 8) k w a) with k words of 256; a
    depthwise layer takes a pixel of one channel and one activation bit a cycle: C P a. A hypothesis of this project.
    """
    pixels, words = layer.P * layer.Q, -(-layer.C * layer.R * layer.S // EDGE_WORD)
    if layer.is_depthwise:
        return layer.G * pixels * a
    tiles = -(-pixels // EDGE_TILE) * -(-layer.K // EDGE_TILE)
    return words * max(layer.K * w, pixels * a, tiles * w * a)


def run_macs(network: str, arch: str, policy: Policy | str, batch: int = BATCH) -> int:
    """Return the simulated cycles of convolutions and gemms, mapped for the least."""
    return count_mac_cycles(run(network, arch, policy, batch, OBJECTIVE))


def make_policy(bits: tuple[tuple[int, int], ...]) -> Policy:
    """Return MobileNetV2's policy of a strategy."""
    from hwsim.core.policy import LayerFormat, Policy

    layers = list_mac_layers("mobilenet_v2")
    pairs = ((x.name, LayerFormat(w_bits=w, a_bits=a)) for x, (w, a) in zip(layers, bits, strict=True))
    return Policy(layers=tuple(pairs))


def count_strategy() -> int:
    """Return the closed form's cycles of the released strategy, which are the table's."""
    pairs = zip(list_mac_layers("mobilenet_v2"), STRATEGY, strict=True)
    return sum(count_cycles(describe(layer), *bits) for layer, bits in pairs)


def compare_table() -> Row:
    """Return how many of the table's entries the closed form gives."""
    claim = "released latency table: MobileNetV2, 53 layers x 8 x 8 bits, batch 16; entries that are equal"
    path = find_reference(*TABLE)
    if path is None:
        return skip_row(claim, TABLE_SOURCE, *TABLE)
    import numpy as np

    table = np.load(path)
    found = simulate_entries().table
    why = (
        "the closed form was found on this very table and is a hypothesis for other shapes; the simulation is held against the "
        "table's totals and against its entries below"
    )
    return Row(
        claim=claim,
        source=TABLE_SOURCE,
        unit="entries",
        claimed=table.size,
        equations=int((found == table).sum()),
        why=why,
    )


def compare_totals() -> list[Row]:
    """Return the sums at uniform bits, and the released strategy's."""
    entries = simulate_entries()
    alone = [entries.parts[0, :, w - 1, a - 1].sum() / total for (w, a), total in UNIFORM.items()]
    late = int((entries.stores > entries.busy)[:, 0, 0].sum())
    why = (
        f"mapped for the least cycles; the engine alone is off by {100 * min(alone):+z.2f} to {100 * max(alone):+z.2f} % in these "
        "sums; besides come the load before a layer's first tile, requantization and transfer behind its last, and issue: a share "
        f"that grows as bits shrink; at one bit requantizing and writing take longer than the array in {late} of "
        f"{len(entries.kinds)} layers; by entry: the table below"
    )
    rows = [
        Row(
            claim=f"sum of the table at w{w}a{a}", source=TABLE_SOURCE, unit="cycles", claimed=total, why=why,
            equations=int(entries.table[:, w - 1, a - 1].sum()), simulated=int(entries.simulated[:, w - 1, a - 1].sum()),
        )
        for (w, a), total in UNIFORM.items()
    ]  # fmt: skip
    theirs = count_strategy()
    rows.append(
        Row(
            claim="the strategy released for 0.6 of the latency, over w8a8", source=README, unit="x", claimed=0.6,
            equations=theirs / UNIFORM[8, 8],
            simulated=run_macs("mobilenet_v2", "bismo-cloud", make_policy(STRATEGY)) / int(entries.simulated[:, 7, 7].sum()),
            why=f"0.6 is the budget of the search, which ends below it; the table itself gives {theirs / UNIFORM[8, 8]:.4f}",
        )
    )  # fmt: skip
    return rows


def compare_milliseconds() -> list[Row]:
    """Return latencies on both FPGAs."""
    off = [count_network(net, bits, bits) / CLOCK_HZ * 1e3 / value for (net, bits), value in CLOUD_MS.items()]
    mhz, whole = 1e-6 * CLOCK_HZ, 1e3 * UNIFORM[8, 8] / CLOCK_HZ
    why = (
        f"at {mhz:.0f} MHz; the paper states no clock, and its own table ({whole:.0f} ms for MobileNetV2 at "
        f"w8a8) misses its own milliseconds by the same {100 * min(off) - 100:.0f} to {100 * max(off) - 100:.0f} %: they imply "
        f"{mhz * min(off):.0f} to {mhz * max(off):.0f} MHz"
    )
    rows = [
        Row(
            claim=f"{TITLES[net]} at w{bits}a{bits} on the cloud FPGA, batch {BATCH}", unit="ms", claimed=value,
            source=f"{PAPER}, table 3 " + ("(from notes)" if (net, bits) == ("mobilenet_v1", 8) else "(PACT rows, from memory)"),
            certainty="unverified", equations=1e3 * count_network(net, bits, bits) / CLOCK_HZ,
            simulated=1e3 * run_macs(net, "bismo-cloud", f"w{bits}a{bits}") / CLOCK_HZ, why=why,
        )
        for (net, bits), value in CLOUD_MS.items()
    ]  # fmt: skip
    for (net, bits), value in EDGE_MS.items():
        report = run(net, "bismo-edge", f"w{bits}a{bits}", 1, OBJECTIVE)
        pairs = [(layer, cost) for layer, cost in zip(report.network.layers, report.layers, strict=True) if cost.w_bits]
        deep = sum(cost.cycles for layer, cost in pairs if layer.is_depthwise)
        theirs = sum(count_edge_layer(layer, bits, bits) for layer, _ in pairs if layer.is_depthwise)
        why = (
            f"depthwise layers: a pixel of one channel and one activation bit a cycle, as the equations here assume, takes "
            f"{1e3 * theirs / CLOCK_HZ:.1f} ms of the claim; `bismo` packs the channels' windows into words of 256 and takes "
            f"{1e3 * deep / CLOCK_HZ:.1f} ms; all other layers agree"
        )
        rows.append(
            Row(
                claim=f"{TITLES[net]} at w{bits}a{bits} on the edge FPGA, batch 1", unit="ms", claimed=value,
                source=f"{PAPER}, table 3 (8 bits from notes, others from memory)", certainty="unverified",
                equations=1e3 * sum(count_edge_layer(layer, bits, bits) for layer, _ in pairs) / CLOCK_HZ,
                simulated=1e3 * count_mac_cycles(report) / CLOCK_HZ, why=why,
            )
        )  # fmt: skip
    return rows


def compare_gains() -> list[Row]:
    """Return the headline ratios, as far as released bits go."""
    cloud = {bits: run_macs("mobilenet_v2", "bismo-cloud", bits) for bits in ("w8a8", "w6a6", "w4a4")}
    ours = run_macs("mobilenet_v2", "bismo-cloud", make_policy(STRATEGY))
    eight, four = (run("mobilenet_v1", "bitfusion-8x8", bits) for bits in ("w8a8", "w4a4"))
    why = (
        "the bits behind the headline (MobileNetV1) are not released; this is MobileNetV2's released strategy on the cloud FPGA, "
        f"between uniform 6 bits ({cloud['w8a8'] / cloud['w6a6']:.2f}x) and 4 bits ({cloud['w8a8'] / cloud['w4a4']:.2f}x)"
    )
    pairs = [
        (layer, cost) for layer, cost in zip(eight.network.layers, eight.layers, strict=True) if layer.is_depthwise
    ]
    deep, products = sum(cost.cycles for _, cost in pairs), sum(layer.macs for layer, _ in pairs)
    fusion = "the configuration is unknown; this is the one of the released conf.ini (8 x 8 units, 500 MHz, 128 bits a cycle)"
    return [
        Row(
            claim="latency against fixed 8 bits", source=f"{PAPER}, abstract", unit="x", claimed=1.95,
            claimed_least=1.4, equations=UNIFORM[8, 8] / count_strategy(), simulated=cloud["w8a8"] / ours, why=why,
        ),
        Row(
            claim="MobileNetV1 at w8a8 on BitFusion", source=f"{PAPER}, table 4 (from notes)", certainty="unverified", unit="ms",
            claimed=20.08, simulated=1e3 * eight.latency_s,
            why=f"{fusion}; {eight.macs / 64 / 500e3:.1f} ms are the products alone; depthwise layers take "
            f"{100 * deep / eight.cycles:.0f} % of our cycles for "
            f"{100 * products / eight.macs:.0f} % of the products, a channel a column",
        ),
        Row(
            claim="MobileNetV1 at w8a8 on BitFusion, energy", source=f"{PAPER}, table 5 (from notes)", certainty="unverified",
            unit="mJ", claimed=31.03, simulated=1e-9 * eight.energy_pj,
            why=f"{fusion}; not explained: the paper's energy model is not released, BitFusion's own prices give the figure here",
        ),
        Row(
            claim="energy against fixed 8 bits", source=f"{PAPER}, abstract", unit="x", claimed=1.9,
            simulated=eight.energy_pj / four.energy_pj,
            why="uniform 4 bits on BitFusion 8 x 8: the bits behind the headline are not released",
        ),
    ]  # fmt: skip


def compare_size() -> Row:
    """Return the size of ResNet-50's K-means strategy."""
    layers = list_mac_layers("resnet50")
    bits = sum(layer.weights * width for layer, width in zip(layers, SIZE_STRATEGY, strict=True))
    tables = sum(1 << width for width in SIZE_STRATEGY) / sum(layer.weights for layer in layers)
    return Row(
        claim="the strategy released for a tenth of ResNet-50's size, weights over 32 bits", source=README, unit="x", claimed=0.1,
        equations=bits / sum(32 * layer.weights for layer in layers),
        why=f"indices alone; tables of 2**bits centres of 32 bits add {tables:.1g}",
    )  # fmt: skip


def tabulate() -> tuple[Table, ...]:
    """Return the differences of the table's entries."""
    return (build_table(TABLE_SOURCE),)


def reproduce() -> tuple[Row, ...]:
    """Return HAQ's rows."""
    return (
        compare_table(),
        *compare_totals(),
        *compare_milliseconds(),
        *compare_gains(),
        compare_size(),
        leave_out(
            "MobileNetV2 at 0.6 of the latency: 71.23 % top-1 (8 bits: 72.05 %); ResNet-50 at 0.1 of the size: 75.48 % (76.15 %)",
            README, "takes fine-tuning on ImageNet",
        ),
        leave_out(
            "policies found for one machine lose on the others (16.29, 85.24, 117.44 ms on their own)", f"{PAPER}, table 1",
            "the policies of the table are not released",
        ),
    )  # fmt: skip


SYSTEM = System(
    name="haq", title="hardware-aware mixed precision by reinforcement learning", source=f"{PAPER}; {REPOSITORY}",
    reproduce=reproduce, tabulate=tabulate, archs=("bismo",), order=1,
)  # fmt: skip
