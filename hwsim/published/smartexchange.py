"""SmartExchange's comparison: five machines of equal on-chip memory and multipliers on the same networks.

Claims: Zhao et al., SmartExchange (ISCA 2020, arXiv 2005.03403), abstract: up to 6.7x the energy efficiency and 19.2x the speed of
four machines, on seven models and four data sets. Nothing here is tuned to them. The machines are presets of this project:
`smartdeal:paper` and the `comparison` presets of the others, whose sources say what is known of the paper's own configurations.

The model is handed in as a function, for nothing here may import it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwsim.published.claims import Row, leave_out

PAPER = "SmartExchange, ISCA 2020, arXiv 2005.03403"
ABSTRACT = f"{PAPER}, abstract"
OURS = "smartdeal"
MACHINES = ("diannao", "scnn", "cambricon-x", "bit-pragmatic")
NETWORKS = {
    "vgg11": "VGG-11", "resnet50": "ResNet-50", "mobilenet_v2": "MobileNetV2", "vgg19_cifar10": "VGG-19 (CIFAR-10)",
    "resnet164_cifar10": "ResNet-164 (CIFAR-10)",
}  # fmt: skip
"""Those of the seven models that the zoo holds, by its names."""
ABSENT = ("EfficientNet-B0", "DeepLabV3+")
MOST_SPEED, MOST_ENERGY = 19.2, 6.7
NOT_MADE_FOR = {
    "diannao": "a tree of 32 inputs, 32 filters: depthwise layers use one product of 1024",
    "scnn": "its weights are pruned to 35 %, so that it too stores less; fully connected layers use one of 64 elements",
    "cambricon-x": "its weights are pruned to 35 %, so that it too stores less",
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


REASONS = {
    "cycles": "its mappings of depthwise and fully connected layers on the four are not known",
    "energy": "weights are decomposed after training or drawn here, not trained to be sparse",
}
"""Why the claims are not met."""


def compare_set(
    measure: Measure, networks: Sequence[str] = tuple(NETWORKS), reasons: Mapping[str, str] = REASONS
) -> tuple[Row, ...]:
    """Return the rows of the comparison: the two claims, then cycles and energy of each machine over those of smartdeal.

    Parameters
    ----------
    measure : callable
        Runs a network on a machine; called once for each pair.
    networks : sequence of str
        Networks of the zoo.
    reasons : mapping
        Why the claim is not met, for ``cycles`` and ``energy``.
    """
    ours = {network: measure(network, OURS) for network in networks}
    theirs = {machine: {network: measure(network, machine) for network in networks} for machine in MACHINES}
    left = ", ".join(title for name, title in NETWORKS.items() if name not in networks)
    most, rows = [], []
    for what, claimed in (("cycles", MOST_SPEED), ("energy", MOST_ENERGY)):
        found = {machine: _compare(what, figures, ours) for machine, figures in theirs.items()}
        best, machine, network = max(
            (ratio, name, network) for name, ratios in found.items() for network, (ratio, _) in ratios.items()
        )
        why = f"{machine} on {_title(network)}; {reasons[what]}" + (f"; not run: {left}" if left else "")
        claim = f"{what} of four machines over those of {OURS}, at equal buffers and multipliers: up to"
        most.append(Row(claim=claim, source=ABSTRACT, unit="x", claimed=claimed, simulated=best, why=why))
        rows += [_write_row(what, name, ratios) for name, ratios in found.items()]
    absent = leave_out(
        f"the same on {' and '.join(ABSENT)}", f"{PAPER} (from memory)", "the zoo does not hold them", "unverified"
    )
    return (*most, *rows, absent)


def _compare(what: str, theirs: Mapping[str, Figures], ours: Mapping[str, Figures]) -> dict[str, tuple[float, float]]:
    """Return a machine's figure over that of smartdeal by network, and that of the convolutions alone."""
    whole, convs = ("cycles", "conv_cycles") if what == "cycles" else ("energy_pj", "conv_energy_pj")
    return {
        name: (getattr(one, whole) / getattr(ours[name], whole), getattr(one, convs) / getattr(ours[name], convs))
        for name, one in theirs.items()
    }


def _write_row(what: str, machine: str, ratios: Mapping[str, tuple[float, float]]) -> Row:
    each = ", ".join(f"{_title(name)} {ratio:.2f}x ({convs:.2f}x)" for name, (ratio, convs) in ratios.items())
    return Row(
        claim=f"{what} of {machine} over those of {OURS}, the most", source=ABSTRACT, unit="x",
        simulated=max(ratio for ratio, _ in ratios.values()),
        why=f"{each}, in brackets convolutions alone; {NOT_MADE_FOR[machine]}",
    )  # fmt: skip


def _title(network: str) -> str:
    return NETWORKS.get(network, network)
