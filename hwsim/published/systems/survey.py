"""The resource-efficiency survey: throughput of one network against its bits."""

from __future__ import annotations

from hwsim.published.claims import Row, System, leave_out
from hwsim.published.systems._run import run

PAPER = "Roth et al., Resource-efficient neural networks for embedded systems, JMLR 25:50, arXiv 2001.03048"
NETWORK = "resnet20"
BATCH = 16


def show_bits(arch: str, title: str) -> list[Row]:
    """Return images a second by bits, against eight."""
    base = run(NETWORK, arch, "w8a8", BATCH)
    rows = []
    for bits in (8, 6, 4, 3, 2, 1):
        report = run(NETWORK, arch, f"w{bits}a{bits}", BATCH)
        compute = sum(cost.stats.compute_cycles for cost in report.layers)
        rows.append(
            Row(
                claim=f"ResNet-20 (CIFAR) on {title}, w{bits}a{bits}, batch {BATCH}: images a second", source=PAPER,
                unit="images/s", equations=base.fps * 64 / bits**2, simulated=report.fps,
                why=""
                if bits == 8
                else f"equations: w8a8 by products of bits; the engine computes in {compute / report.cycles:.0%} of "
                "the cycles, and at few bits waits for words of the operands, whose number falls by one of the bits only",
            )
        )  # fmt: skip
    return rows


def reproduce() -> tuple[Row, ...]:
    """Return the survey's rows."""
    return (
        *show_bits("bismo-edge", "a bit-serial array (`bismo` edge, Zynq-7020)"),
        leave_out(
            "accuracy on CIFAR against throughput on CPU, GPU and FPGA", f"{PAPER} (from notes)",
            "accuracy takes training; the figures of its plots are not at hand, so the hardware's side is shown without a claim",
            "unverified",
        ),
    )  # fmt: skip


SYSTEM = System(
    name="survey", title="throughput against bits, the survey's trade-off", source=PAPER, reproduce=reproduce, order=90,
    archs=("bismo",),
)  # fmt: skip
