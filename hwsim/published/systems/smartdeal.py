"""SmartExchange and SmartDeal: weights as a small basis times sparse powers of two."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from hwsim.published.claims import Row, System, leave_out
from hwsim.published.smartexchange import NETWORKS, OURS, Figures, compare_set, read_figures

if TYPE_CHECKING:
    from hwsim.core.report import Report

EXCHANGE = "SmartExchange, ISCA 2020, arXiv 2005.03403"
DEAL = "SmartDeal, arXiv 2101.01163"
FLOAT_BITS = 32
RUN = ("mobilenet_v2", "resnet50", "vgg19_cifar10", "resnet164_cifar10")
"""Of the comparison's networks; the 123 million weights of VGG-11's gemms alone take as long as all of these."""
DENSE = "diannao"
RATES = {"mobilenet_v2": 6.57, "resnet50": 11.53}
DEAL_ENERGY = 2.44


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


def tell_weights(report: Report) -> str:
    """Return which weights ran."""
    trained = ".pth" in report.provenance.weights
    return "trained weights, not trained again" if trained else "drawn weights, of which no row vanishes"


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
    for network, claimed in RATES.items():
        report = run_weights(network, OURS)
        stored = sum(cost.weight_bits for cost in report.layers)
        rows.append(
            Row(
                claim=f"{NETWORKS[network]}: weights of 32 bits over what is stored", source=f"{EXCHANGE} (from memory)", unit="x",
                certainty="unverified", claimed=claimed,
                simulated=FLOAT_BITS * sum(layer.weights for layer in report.network.mac_layers) / stored,
                why=f"{tell_weights(report)}; the claim's are trained to the structure, with filters pruned",
            )
        )  # fmt: skip
    return rows


def compare_machines() -> tuple[Row, ...]:
    """Return energy and speed against the machines of the comparison, at equal buffers and multipliers."""

    def measure(network: str, arch: str) -> Figures:
        return read_figures(run_weights(network, arch))

    return compare_set(measure, RUN, {"cycles": tell_speed(), "energy": tell_energy()})


def tell_speed() -> str:
    """Return what the largest gain in cycles comes from."""
    report = run_weights("mobilenet_v2", DENSE)
    pairs = list(zip(report.network.layers, report.layers, strict=True))
    deep = sum(cost.cycles for layer, cost in pairs if cost.w_bits and layer.is_depthwise) / report.cycles
    return (
        f"depthwise layers take {deep:.0%} of DianNao's cycles on MobileNetV2, a tree of 32 inputs for a channel's nine; its "
        "mapping of them in the comparison is not known"
    )


def tell_energy() -> str:
    """Return what bounds the gain in energy: DRAM, and what of it is weights."""
    found = []
    for network in RUN:
        ours, theirs = run_weights(network, OURS), run_weights(network, DENSE)
        dram = sum(cost.energy_by_component().get("dram", 0.0) for cost in ours.layers)
        share = sum_dram(ours, "W") / sum_dram(ours)
        most = theirs.energy_pj / (ours.energy_pj - dram * share)
        found.append(f"{NETWORKS[network]} {dram / ours.energy_pj:.0%}, {share:.0%}, {most:.1f}x")
    return (
        "maps go to DRAM between layers here; DRAM in our energy, weights in its traffic, gain over DianNao were they nothing: "
        + "; ".join(found)
    )


def compare_deal() -> Row:
    """Return SmartDeal's headline."""
    ours, theirs = (run_weights("mobilenet_v2", name) for name in (OURS, DENSE))
    return Row(
        claim="energy efficiency in inference, MobileNetV2 over dense 8-bit weights", source=f"{DEAL}, abstract", unit="x",
        certainty="unverified", claimed=DEAL_ENERGY, simulated=theirs.energy_pj / ours.energy_pj,
        why=f"its baseline and network are not at hand; weights are {sum_dram(ours, 'W') / sum_dram(ours):.0%} of our DRAM "
        "traffic: the bound below holds here too",
    )  # fmt: skip


def reproduce() -> tuple[Row, ...]:
    """Return the rows of SmartExchange and SmartDeal."""
    claim, why = (
        "training: 10.56x less storage, 4.48x the energy efficiency",
        "the machine modelled here is that of inference",
    )
    training = leave_out(claim, f"{DEAL}, abstract", why, "unverified")
    accuracy = leave_out(
        "accuracy at these rates on seven networks", EXCHANGE, "takes training again under the structure"
    )
    return (*compare_rates(), compare_deal(), *compare_machines(), training, accuracy)


SYSTEM = System(
    name="smartdeal", title="memory traded for computation: basis times powers of two", source=f"{EXCHANGE}; {DEAL}",
    reproduce=reproduce, archs=("smartdeal",), order=7,
)  # fmt: skip
