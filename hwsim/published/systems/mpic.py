"""MPIC: bits by output channel on a core with a mixed-precision dot product."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from hwsim.published.claims import Row, System, find_reference, leave_out, skip_row
from hwsim.published.mpic import (
    CLAIMED_ENERGY_CUT,
    CLAIMED_MEMORY_CUT,
    PRODUCTS_PER_CYCLE,
    count_cycles,
    price_energy_mj,
)
from hwsim.published.systems._run import list_mac_layers, price_layer, run

if TYPE_CHECKING:
    from hwsim.core.layer import Layer
    from hwsim.core.policy import LayerFormat
    from hwsim.core.report import Report

TABLE = "eml-eda/plinio (Apache-2.0), plinio/cost/mpic_latency.py; Ottavi et al., arXiv 2010.04073"
PAPER = "Risso et al., Channel-wise mixed-precision assignment, arXiv 2206.08852"
TRAINED = ("mlperf_tiny", "vww_96_float.tflite")
NETWORKS = (
    ("resnet8", "ResNet-8"),
    ("ds_cnn", "DS-CNN"),
    ("mobilenet_v1_0.25_96", "MobileNetV1 0.25"),
    ("autoencoder", "autoencoder"),
)
ROUNDING = 0.05
"""Of the table's entries, half of their last digit."""
WIDE, BITS = 8, 4
"""Activation bits; weight bits of the uniform baseline."""


class Excess(NamedTuple):
    """Cycles an output that the table's kernels take more than `mpic`; the least and the most that the entry's rounding leaves."""

    nominal: float
    least: float
    most: float


def make_table_layer() -> Layer:
    """Return the convolution that stands for the table's kernels."""
    from hwsim.core.layer import Layer

    return Layer(
        name="layer", op="conv", inputs=("x",), K=64, C=32, P=16, Q=16, R=3, S=3, H=16, W=16, padding=(1, 1, 1, 1),
    )  # fmt: skip


def count_table_cycles(w_bits: int, a_bits: int) -> int:
    """Return the engine's cycles of the table's convolution."""
    return price_layer(make_table_layer(), "mpic", w_bits, a_bits, a_bits).stats.compute_cycles


def find_excess(w_bits: int, a_bits: int) -> Excess:
    """Return by how much the table's kernels are slower."""
    layer, rate = make_table_layer(), PRODUCTS_PER_CYCLE[a_bits][w_bits]
    each, own = layer.macs / layer.out_elements, count_table_cycles(w_bits, a_bits) / layer.out_elements
    return Excess(each / rate - own, each / (rate + ROUNDING) - own, each / (rate - ROUNDING) - own)


def tell_excess(w_bits: int, a_bits: int) -> str:
    """Return what of the excess gathering and requantization can be: these do not depend on the bits of weights."""
    row = {bits: find_excess(bits, a_bits) for bits in PRODUCTS_PER_CYCLE[a_bits]}
    own, shared = row[w_bits], min(one.most for one in row.values())
    told = (
        f"{own.nominal:.1f} cycles an output less than the table's kernels ({own.least:.1f} to {own.most:.1f} by the entry's "
        f"rounding), which gather inputs and requantize on the core, here units beside it do; that depends on activation bits "
        f"alone and is at most {shared:.1f} at a{a_bits}"
    )
    if own.least <= shared:
        return f"{told}: it can be all of this excess"
    told += f": at least {own.least - shared:.2f} are other work of the kernels, which the table does not tell apart"
    if w_bits <= a_bits:
        return told
    saved = find_excess(w_bits, w_bits).nominal - own.nominal
    loads = (count_table_cycles(w_bits, w_bits) - count_table_cycles(w_bits, a_bits)) / make_table_layer().out_elements
    return (
        f"{told}; from a{w_bits} to a{a_bits} they save {loads + saved:.1f} cycles, where here loads of inputs alone save "
        f"{loads:.1f}"
    )


def compare_table() -> list[Row]:
    """Return products a cycle of a convolution at every pair of widths."""
    return [
        Row(
            claim=f"products a cycle at w{w_bits}a{a_bits}, 64 3 x 3 filters over 16 x 16 x 32", source=TABLE,
            unit="products/cycle", claimed=rate, equations=rate,
            simulated=make_table_layer().macs / count_table_cycles(w_bits, a_bits), why=tell_excess(w_bits, a_bits),
        )
        for a_bits, row in PRODUCTS_PER_CYCLE.items()
        for w_bits, rate in row.items()
    ]  # fmt: skip


def compare_networks() -> list[Row]:
    """Return cycles of MLPerf Tiny's networks at 8 bits beside the rule."""
    rows = []
    for name, title in NETWORKS:
        report = run(name, "mpic", "w8a8")
        cycles = sum(cost.cycles for cost in report.layers if cost.w_bits)
        expected = count_cycles({8: sum(layer.macs for layer in list_mac_layers(name))}, 8)
        pairs = zip(report.network.layers, report.layers, strict=True)
        poor = sum(
            cost.cycles for layer, cost in pairs if cost.w_bits and (layer.is_depthwise or layer.P * layer.Q == 1)
        )
        rows.append(
            Row(
                claim=f"{title} at w8a8: cycles by the table", source=TABLE, unit="cycles", equations=expected, simulated=cycles,
                why=f"depthwise layers and those of one pixel, {poor / cycles:.0%} of the cycles, use half of the registers' sums "
                "or less, which the table does not know; gathering and requantization are not on the core here",
            )
        )  # fmt: skip
    return rows


def choose_bits(weight: Any) -> tuple[tuple[int, int], ...]:
    """Return the fewest bits by channel (0, 2, 4 or 8) whose squared error is at most that of four bits everywhere."""
    import numpy as np

    from hwsim.quant.mixed_channels import choose_channel_bits, quantize_channels
    from hwsim.quant.uniform import quantize_weights

    wanted = np.square(quantize_weights(weight, BITS).dequantize() - weight, dtype=np.float64).sum()
    chosen = (BITS,) * len(weight)
    for mean in np.arange(4.0, 0.4, -0.25):
        bits = choose_channel_bits(weight, float(mean))
        if np.square(quantize_channels(weight, bits).dequantize() - weight, dtype=np.float64).sum() <= wanted:
            chosen = bits
        elif mean < 3.6:
            break
    return tuple((bits, chosen.count(bits)) for bits in (8, 4, 2, 0) if bits in chosen)


def compare_channels() -> list[Row]:
    """Return memory and energy of bits by channel against bits by layer, at equal error of trained weights."""
    claims = (
        ("memory of weights falls by, at most", 100 * CLAIMED_MEMORY_CUT), ("energy falls by, at most", 100 * CLAIMED_ENERGY_CUT)
    )  # fmt: skip
    title = "bits by channel over bits by layer, MLPerf Tiny"
    path = find_reference(*TRAINED)
    if path is None:
        return [skip_row(f"{title}: {claim}", PAPER, *TRAINED) for claim, _ in claims]
    import numpy as np

    from hwsim.core.errors import HwsimError
    from hwsim.core.policy import LayerFormat, Policy
    from hwsim.nets.load import load_network

    try:
        loaded = load_network(str(path))
    except HwsimError as error:
        return [Row(claim=title, source=PAPER, status="skipped", why=str(error))]
    assert loaded.tensors is not None
    network, cycles = loaded.network, [0.0, 0.0]
    before: list[tuple[str, LayerFormat]] = []
    after: list[tuple[str, LayerFormat]] = []
    for layer in network.mac_layers:
        filters = layer.G * layer.K
        pairs = choose_bits(np.asarray(loaded.tensors.layers[layer.name].weight, np.float32).reshape(filters, -1))
        before.append((layer.name, LayerFormat(w_bits=BITS, a_bits=WIDE)))
        mixed = pairs if len(pairs) > 1 else ()
        after.append((layer.name, LayerFormat(w_bits=pairs[0][0], a_bits=WIDE, channel_bits=mixed)))
        each = layer.macs // filters
        cycles[0] += count_cycles({BITS: layer.macs}, WIDE)
        cycles[1] += count_cycles({bits: count * each for bits, count in pairs}, WIDE)
    old, new = (run(network, "mpic", Policy(layers=tuple(formats))) for formats in (before, after))
    stored = [sum(cost.weight_bits for cost in report.layers) for report in (old, new)]
    energy = [_sum_engine(report) for report in (old, new)]
    why = (
        "the claim's bits are trained; here they are the fewest by channel with no more squared error of trained weights (visual "
        "wake words) than 4 bits everywhere, dead channels pruned"
    )
    rule = 1 - price_energy_mj(cycles[1]) / price_energy_mj(cycles[0])
    return [
        Row(
            claim=f"{title}: {claims[0][0]}", source=f"{PAPER}, abstract", unit="%", claimed=claims[0][1],
            simulated=100 * (1 - stored[1] / stored[0]), why=why,
        ),
        Row(
            claim=f"{title}: {claims[1][0]}", source=f"{PAPER}, abstract", unit="%", claimed=claims[1][1], equations=100 * rule,
            simulated=100 * (1 - energy[1] / energy[0]),
            why=f"{why}; equations: PLiNIO's cycles times power; simulated: all but DRAM; depthwise layers, whose channels stay, "
            "take a larger share here",
        ),
    ]  # fmt: skip


def _sum_engine(report: Report) -> float:
    """Return the energy of the layers with products, memory and leakage left out, pJ."""
    terms = (term for cost in report.layers if cost.w_bits for term in cost.energy)
    return sum(term.energy_pj for term in terms if term.component not in ("dram", "leakage"))


def reproduce() -> tuple[Row, ...]:
    """Return the rows of channel-wise bits."""
    return (
        *compare_table(),
        *compare_networks(),
        *compare_channels(),
        leave_out(
            "the same accuracy as bits by layer",
            f"{PAPER}, abstract",
            "takes search and training on the four data sets",
        ),
    )


SYSTEM = System(
    name="mpic", title="bits by output channel on a mixed-precision core", source=f"{PAPER}; {TABLE}", reproduce=reproduce,
    archs=("mpic",), order=9,
)  # fmt: skip
