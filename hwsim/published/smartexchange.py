"""SmartExchange's comparison: five machines of equal on-chip memory and multipliers on the same networks.

Claims: Zhao et al., SmartExchange (ISCA 2020, arXiv 2005.03403), abstract: up to 6.7x the energy efficiency and 19.2x the speed of
four machines, on seven models and four data sets. Nothing here is tuned to them. The machines are presets of this project:
`smartdeal:paper` and the `comparison` presets of the others, whose sources say what is known of the paper's own configurations.

The model is handed in as a function, for nothing here may import it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hwsim.published.claims import Row, leave_out

ABSTRACT = "SmartExchange, ISCA 2020, arXiv 2005.03403, abstract"
OURS = "smartdeal"
MACHINES = ("diannao", "scnn", "cambricon-x", "bit-pragmatic")
NETWORKS = ("vgg11", "resnet50", "mobilenet_v2", "vgg19_cifar10", "resnet164_cifar10")
"""Those of the seven models that the zoo holds, under its names."""
ABSENT = ("EfficientNet-B0", "DeepLabV3+")
MOST_SPEED, MOST_ENERGY = 19.2, 6.7
NOT_MADE_FOR = {
    "diannao": "a tree of 32 inputs, 32 filters: depthwise layers use one product of 1024",
    "scnn": "weights pruned to 35 %; fully connected layers use one of 64 elements",
    "cambricon-x": "weights pruned to 35 %",
    "bit-pragmatic": "depthwise layers use one filter and one lane; rows of fewer than 16 pixels leave columns idle",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a run took.

    Parameters
    ----------
    cycles, conv_cycles : int
        Of the network, and of its convolutions alone (SCNN is made for these).
    energy_pj, conv_energy_pj : float
        The same in energy.
    """

    cycles: int
    conv_cycles: int
    energy_pj: float
    conv_energy_pj: float


Measure = Callable[[str, str], Figures]
"""From a network's and an architecture's name (its default preset) to figures."""


def read_figures(report: Any) -> Figures:
    """Return the figures of a report (`hwsim.core.report.Report`)."""
    convs = [cost for cost in report.layers if cost.op == "conv"]
    return Figures(
        cycles=report.cycles, conv_cycles=sum(cost.cycles for cost in convs), energy_pj=report.energy_pj,
        conv_energy_pj=sum(cost.energy_pj for cost in convs),
    )  # fmt: skip


def compare_set(measure: Measure, networks: Sequence[str] = NETWORKS) -> tuple[Row, ...]:
    """Return the rows of the comparison: the two claims, then cycles and energy of each machine over those of smartdeal.

    Parameters
    ----------
    measure : callable
        Runs a network on a machine; called once for each pair.
    networks : sequence of str
        Networks of the zoo.
    """
    ours = {network: measure(network, OURS) for network in networks}
    rows, best = [], {"cycles": (0.0, ""), "energy": (0.0, "")}
    for machine in MACHINES:
        for network in networks:
            theirs, own = measure(network, machine), ours[network]
            pairs = (
                ("cycles", theirs.cycles / own.cycles, theirs.conv_cycles / own.conv_cycles),
                ("energy", theirs.energy_pj / own.energy_pj, theirs.conv_energy_pj / own.conv_energy_pj),
            )
            for what, ratio, convs in pairs:
                best[what] = max(best[what], (ratio, f"{machine} on {network}"))
                claim = f"{what} of {machine} over those of {OURS}, {network}"
                why = f"convolutions alone {convs:.2f}x; {NOT_MADE_FOR[machine]}"
                rows.append(Row(claim=claim, source=ABSTRACT, unit="x", simulated=ratio, why=why))
    most = [
        Row(
            claim=f"{what} of four machines over those of {OURS}, up to", source=ABSTRACT, unit="x", claimed=claimed,
            simulated=best[what][0], why=f"{best[what][1]}; {why}",
        )
        for what, claimed, why in (
            ("cycles", MOST_SPEED, "its mappings of depthwise and fully connected layers on the four are not known"),
            ("energy", MOST_ENERGY, "activations go through DRAM between layers here, the same on all machines"),
        )
    ]  # fmt: skip
    left = leave_out(f"the same on {' and '.join(ABSENT)}", ABSTRACT, "the zoo does not hold them")
    return (*most, *rows, left)
