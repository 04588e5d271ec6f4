"""SmartExchange and SmartDeal: weights as a small basis times sparse powers of two."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from hwsim.published.claims import Row, System, leave_out

if TYPE_CHECKING:
    from hwsim.core.report import Report

EXCHANGE = "SmartExchange, ISCA 2020, arXiv 2005.03403"
DEAL = "SmartDeal, arXiv 2101.01163"
FLOAT_BITS = 32
BASELINES = ("diannao", "scnn", "cambricon-x", "bit-pragmatic")
NETWORKS = (("mobilenet_v2", "MobileNetV2"), ("resnet50", "ResNet-50"), ("vgg11_cifar10", "VGG-11 (CIFAR-10)"))
RATES = {"mobilenet_v2": 6.57, "resnet50": 11.53}
MOST_ENERGY, MOST_SPEED, DEAL_ENERGY = 6.7, 19.2, 2.44


@cache
def run_weights(network: str, arch: str) -> Report:
    """Return the report at 8 bits on trained weights, where a package holds them, else on drawn ones."""
    from hwsim.core.errors import MissingExtra, UnknownName
    from hwsim.nets.pretrained import load_pretrained
    from hwsim.pipeline.simulate import simulate

    try:
        tensors = load_pretrained(network)
    except (MissingExtra, UnknownName):
        tensors = None
    return simulate(network, arch, tensors=tensors)


def list_baselines() -> list[str]:
    """Return the machines of the comparison that are there."""
    from hwsim.archs.registry import list_archs

    there = {entry.name for entry in list_archs() if not entry.error}
    return [name for name in BASELINES if name in there]


def tell_weights(report: Report) -> str:
    """Return which weights ran."""
    drawn = "synthetic" in report.provenance.weights or "drawn" in report.provenance.weights
    return "drawn weights, of which no row vanishes" if drawn else "trained weights, not trained again"


def sum_dram(report: Report, operand: str = "") -> float:
    """Return DRAM bits, of one operand where named."""
    return sum(
        t.read_bits + t.write_bits
        for cost in report.layers
        for t in cost.stats.traffic
        if t.level == "dram" and operand in ("", t.operand)
    )


def compare_rates() -> list[Row]:
    """Return how much smaller weights get."""
    rows = []
    for network, title in NETWORKS[:2]:
        report = run_weights(network, "smartdeal")
        stored = sum(cost.weight_bits for cost in report.layers)
        rows.append(
            Row(
                claim=f"{title}: weights of 32 bits over what is stored", source=f"{EXCHANGE} (from memory)", unit="x",
                certainty="unverified", claimed=RATES[network],
                simulated=FLOAT_BITS * sum(layer.weights for layer in report.network.mac_layers) / stored,
                why=f"{tell_weights(report)}; the claim's are trained to the structure, with filters pruned",
            )
        )  # fmt: skip
    return rows


def compare_machines() -> list[Row]:
    """Return energy and speed against the machines of the comparison, at equal buffers and multipliers."""
    rows = []
    for name in list_baselines():
        for network, title in NETWORKS:
            ours, theirs = run_weights(network, "smartdeal"), run_weights(network, name)
            dram = sum(cost.energy_by_component().get("dram", 0.0) for cost in ours.layers)
            without = ours.energy_pj - dram * sum_dram(ours, "W") / sum_dram(ours)
            rows += [
                Row(
                    claim=f"{title}: energy of {name} over smartdeal (claimed: up to)", source=f"{EXCHANGE}, abstract", unit="x",
                    claimed=MOST_ENERGY, simulated=theirs.energy_pj / ours.energy_pj,
                    why=f"{tell_weights(ours)}; {dram / ours.energy_pj:.0%} of ours is DRAM, as maps go to memory between layers: "
                    f"weights that took nothing at all would give {theirs.energy_pj / without:.2f}x",
                ),
                Row(
                    claim=f"{title}: cycles of {name} over smartdeal (claimed: up to)", source=f"{EXCHANGE}, abstract", unit="x",
                    claimed=MOST_SPEED, simulated=theirs.cycles / ours.cycles,
                    why=f"the engine of smartdeal computes in {_share(ours):.0%} of its cycles, that of {name} in {_share(theirs):.0%}",
                ),
            ]  # fmt: skip
    return rows


def _share(report: Report) -> float:
    return sum(cost.stats.compute_cycles for cost in report.layers) / report.cycles


def compare_deal() -> Row:
    """Return SmartDeal's headline."""
    ours, theirs = (run_weights("mobilenet_v2", name) for name in ("smartdeal", "diannao"))
    return Row(
        claim="energy efficiency in inference, MobileNetV2 over dense 8-bit weights", source=f"{DEAL}, abstract", unit="x",
        certainty="unverified", claimed=DEAL_ENERGY, simulated=theirs.energy_pj / ours.energy_pj,
        why="its baseline and network are not at hand; weights are "
        f"{sum_dram(ours, 'W') / sum_dram(ours):.0%} of our DRAM traffic, so they cannot give more than what row by row stands above",
    )  # fmt: skip


def reproduce() -> tuple[Row, ...]:
    """Return the rows of SmartExchange and SmartDeal."""
    return (
        *compare_rates(),
        compare_deal(),
        *compare_machines(),
        leave_out(
            "training: 10.56x less storage, 4.48x the energy efficiency", f"{DEAL}, abstract",
            "the machine modelled here is that of inference", "unverified",
        ),
        leave_out("accuracy at these rates on seven networks", EXCHANGE, "takes training again under the structure"),
    )  # fmt: skip


SYSTEM = System(
    name="smartdeal", title="memory traded for computation: basis times powers of two", source=f"{EXCHANGE}; {DEAL}",
    reproduce=reproduce, archs=("smartdeal",), order=7,
)  # fmt: skip
