"""SmartExchange and SmartDeal: weights as a small basis times sparse powers of two."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING

from hwsim.published.claims import Row, System, leave_out
from hwsim.published.smartexchange import NETWORKS, OURS, PAPER, Figures, compare_set, read_figures

if TYPE_CHECKING:
    from hwsim.core.report import Report

DEAL = "SmartDeal, arXiv 2101.01163"
FLOAT_BITS, DENSE_BITS = 32, 8
RUN = ("mobilenet_v2", "resnet50", "vgg19_cifar10", "resnet164_cifar10")
"""Of the comparison's networks; the 123 million weights of VGG-11's gemms alone take as long as all of these."""
DENSE = "diannao"
RATES = {"mobilenet_v2": 6.57, "resnet50": 11.53, "vgg19_cifar10": 74.19, "resnet164_cifar10": 10.55}
"""Weights of 32 bits over what SmartExchange stores (from memory); of two settings of ResNets the first."""
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


def sum_dram(report: Report, operand: str = "") -> int:
    """Return DRAM bits, of one operand where named."""
    return sum(cost.stats.moved_bits("dram", way, operand) for cost in report.layers for way in ("read", "write"))


def compare_rates() -> list[Row]:
    """Return how much smaller weights get."""
    rows = []
    for network, claimed in RATES.items():
        report = run_weights(network, OURS)
        stored = sum(cost.weight_bits for cost in report.layers)
        rows.append(
            Row(
                claim=f"{NETWORKS[network]}: weights of 32 bits over what is stored", source=f"{PAPER} (from memory)", unit="x",
                certainty="unverified", claimed=claimed,
                simulated=FLOAT_BITS * sum(layer.weights for layer in report.network.mac_layers) / stored,
                why=f"{tell_weights(report)}, so at another accuracy; the claim's are trained to the structure, filters pruned",
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
        f"depthwise layers take {deep:.0%} of DianNao's cycles on MobileNetV2, one product of its 1,024 a cycle; its "
        "mapping of them in the comparison is not known"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gains:
    """What the dense machine takes over what ours takes, of a network.

    Parameters
    ----------
    total : float
        Of all energy.
    without_maps : float
        Of all but what activations take in DRAM, on both machines.
    on_chip : float
        Of all but DRAM.
    weights : float
        Of the bits of weights that DRAM moves.
    claimed_weights : float
        The same by the paper's rate (`RATES`, of 32 bits) from the dense machine's 8.
    at_claimed : float
        Of all energy if ours moved as few weights as that, nothing else changed.
    """

    total: float
    without_maps: float
    on_chip: float
    weights: float
    claimed_weights: float
    at_claimed: float

    def describe(self) -> str:
        """Return the figures in their order."""
        return ", ".join(f"{getattr(self, part.name):.2f}" for part in fields(self))


def split_gains(network: str) -> Gains:
    """Return where the energy goes that the dense machine takes and ours does not; DRAM is shared out by bits."""
    ours, theirs = (run_weights(network, name) for name in (OURS, DENSE))
    drams = [sum(cost.energy_by_component().get("dram", 0.0) for cost in report.layers) for report in (ours, theirs)]
    own, dense = (dram * sum_dram(one, "W") / sum_dram(one) for dram, one in zip(drams, (ours, theirs), strict=True))
    chips = [report.energy_pj - dram for report, dram in zip((ours, theirs), drams, strict=True)]
    weights, claimed = sum_dram(theirs, "W") / sum_dram(ours, "W"), DENSE_BITS * RATES[network] / FLOAT_BITS
    return Gains(
        total=theirs.energy_pj / ours.energy_pj, without_maps=(chips[1] + dense) / (chips[0] + own),
        on_chip=chips[1] / chips[0], weights=weights, claimed_weights=claimed,
        at_claimed=theirs.energy_pj / (ours.energy_pj - own * (1 - weights / claimed)),
    )  # fmt: skip


def tell_energy() -> str:
    """Return what the gain in energy over the dense machine consists of."""
    gains = {network: split_gains(network) for network in RUN}
    chips, shrunk, wanted = (
        f"{min(values):.2f} to {max(values):.2f}x"
        for values in zip(*((one.on_chip, one.weights, one.claimed_weights) for one in gains.values()), strict=True)
    )
    most = max(gains, key=lambda network: gains[network].at_claimed)
    others = max(one.at_claimed for network, one in gains.items() if network != most)
    each = "; ".join(f"{NETWORKS[network]} {one.describe()}" for network, one in gains.items())
    return (
        f"weights in DRAM shrink {shrunk} from 8 bits, being decomposed after training or drawn; by the claim's rates (from "
        f"memory), of weights trained to be sparse, {wanted}: the gain over DianNao would be {gains[most].at_claimed:.2f}x on "
        f"{NETWORKS[most]} and at most {others:.2f}x on the others; on the chip alone DianNao takes {chips} our energy. Over "
        "DianNao, of: all energy, all but maps in DRAM, the chip alone, bits of weights from DRAM, these by the claim's rates, all "
        f"energy at these: {each}"
    )


def compare_deal() -> Row:
    """Return SmartDeal's headline."""
    ours, gains = run_weights("mobilenet_v2", OURS), split_gains("mobilenet_v2")
    return Row(
        claim="energy efficiency in inference, MobileNetV2 over dense 8-bit weights", source=f"{DEAL}, abstract", unit="x",
        claimed=DEAL_ENERGY, simulated=gains.total,
        why=f"its baseline and network are not at hand; over DianNao weights in DRAM shrink {gains.weights:.2f}x, and they are "
        f"{sum_dram(ours, 'W') / sum_dram(ours):.0%} of our DRAM traffic; without maps in DRAM on both it is "
        f"{gains.without_maps:.2f}x, on the chip alone {gains.on_chip:.2f}x",
    )  # fmt: skip


def reproduce() -> tuple[Row, ...]:
    """Return the rows of SmartExchange and SmartDeal."""
    claim, why = (
        "training: 10.56x less storage, 4.48x the energy efficiency",
        "the machine modelled here is that of inference",
    )
    training = leave_out(claim, f"{DEAL}, abstract", why)
    accuracy = leave_out(
        "accuracy at these rates", f"{PAPER} (from memory)", "takes training again under the structure", "unverified"
    )
    return (*compare_rates(), compare_deal(), *compare_machines(), training, accuracy)


SYSTEM = System(
    name="smartdeal", title="memory traded for computation: basis times powers of two", source=f"{PAPER}; {DEAL}",
    reproduce=reproduce, archs=("smartdeal",), order=7,
)  # fmt: skip
