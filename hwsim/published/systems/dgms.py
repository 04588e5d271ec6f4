"""DGMS: weights as indices into a table of Gaussian centres, looked up by vector instructions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwsim.published.claims import Row, System, leave_out
from hwsim.published.systems._run import run

if TYPE_CHECKING:
    from hwsim.core.policy import Policy

PAPER = "Dong et al., Finding the task-optimal low-bit sub-distribution (DGMS), ECCV 2022, arXiv 2112.15139"
CLAIM = 7.46
NETWORKS = ("resnet18", "resnet50", "mobilenet_v2")
CORES = (("a76", "Cortex-A76"), ("a55", "Cortex-A55"))
BITS = 4


def make_policy(bits: int) -> Policy:
    """Return indices of so many bits in every layer, activations of 8."""
    from hwsim.core.policy import LayerFormat, Policy

    return Policy(default=LayerFormat(w_bits=bits, a_bits=8, codec="codebook"))


def compare_cores() -> list[Row]:
    """Return speed over float32 on the same core."""
    rows = []
    best: tuple[float, str] = (0.0, "")
    for core, title in CORES:
        for network in NETWORKS:
            table = run(network, f"simd-{core}", make_policy(BITS))
            plain = run(network, f"simd-{core}-fp32", "w8a8")
            byte = run(network, f"simd-{core}", "w8a8")
            speed = plain.latency_s / table.latency_s
            best = max(best, (speed, f"{network} on {title}"))
            rows.append(
                Row(
                    claim=f"{network}, weights of {BITS}-bit indices, on one {title}: speed over float32", source=PAPER, unit="x",
                    simulated=speed,
                    why=f"8-bit weights without a table: {plain.latency_s / byte.latency_s:.2f}x; weights from DRAM fall to "
                    f"{sum(x.weight_bits for x in table.layers) / sum(x.weight_bits for x in plain.layers):.3f}",
                )
            )  # fmt: skip
    speed, where = best
    headline = Row(
        claim="speed over float32 on an octa-core ARM CPU: up to", source=f"{PAPER}, abstract", unit="x", claimed=CLAIM,
        simulated=speed,
        why=f"{where}; an instruction has four products of bytes or one of floats, so more than 4x cannot come from arithmetic on "
        "one core; core, network and float baseline of the claim are not published with it",
    )  # fmt: skip
    return [headline, *rows]


def compare_sizes() -> list[Row]:
    """Return stored bits at each index width."""
    rows = []
    for bits in (4, 2):
        report = run("resnet18", "simd-a76", make_policy(bits))
        weights = sum(layer.weights for layer in report.network.mac_layers)
        rows.append(
            Row(
                claim=f"ResNet-18 at {bits}-bit indices: weights of 32 bits over what is stored", source=PAPER, unit="x",
                equations=32 / bits, simulated=32 * weights / sum(cost.weight_bits for cost in report.layers),
                why="tables, one a layer",
            )
        )  # fmt: skip
    return rows


def reproduce() -> tuple[Row, ...]:
    """Return DGMS's rows."""
    return (
        *compare_cores(),
        *compare_sizes(),
        leave_out(
            "accuracy on ImageNet and CIFAR-10 at 2 to 4 bits", f"{PAPER} (from notes)",
            "takes training; centres are learned with the weights", "unverified",
        ),
    )  # fmt: skip


SYSTEM = System(
    name="dgms", title="a table of Gaussian centres, looked up by vector instructions",
    source=f"{PAPER}; RunpeiDong/DGMS (Apache-2.0)", reproduce=reproduce, archs=("simd",), order=8,
)  # fmt: skip
