"""Vertical-layered representation: one set of bit planes serves every precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwsim.published.claims import Row, System, leave_out
from hwsim.published.systems._run import count_mac_cycles, list_mac_layers, run

if TYPE_CHECKING:
    from hwsim.core.report import Report

PAPER = "Wu et al., Vertical layering of quantized neural networks, arXiv 2212.05326"
WIDTHS = (2, 4, 6, 8)
NETWORK = "resnet18"


def reproduce() -> tuple[Row, ...]:
    """Return the rows of bit planes: storage, bits moved on demand, cycles at each precision."""
    import numpy as np

    from hwsim.quant.bit_planes import quantize_planes

    layers = list_mac_layers(NETWORK)
    weights = sum(layer.weights for layer in layers)
    layer = min(layers, key=lambda one: one.weights)
    drawn = np.random.default_rng(0).standard_normal((layer.G * layer.K, layer.C, layer.R, layer.S)).astype(np.float32)
    planes = quantize_planes(drawn, WIDTHS[-1])
    scales = sum(one.G * one.K * 32 for one in layers)
    one_set = weights * WIDTHS[-1] + scales
    apart = sum(weights * width + scales for width in WIDTHS)
    moved = planes.count_moved_bits(8, held=4) / planes.size
    rows = [
        Row(
            claim=f"one stored network serves {', '.join(map(str, WIDTHS))} bits: ResNet-18's storage against a network each",
            source=PAPER, unit="x", equations=sum(WIDTHS) / WIDTHS[-1], simulated=apart / one_set,
            why="exact bits, a scale of 32 bits a filter for each set (one set serves every precision of the planes)",
        ),
        Row(
            claim="from 4 bits to 8 on demand: bits read a weight where the upper planes are on chip", source=PAPER, unit="bits",
            equations=4, simulated=moved,
        ),
    ]  # fmt: skip
    base = run(NETWORK, "bismo-cloud", "w8a8")
    for width in WIDTHS[:-1]:
        report = run(NETWORK, "bismo-cloud", f"w{width}a8")
        rows.append(
            Row(
                claim=f"the same weights read at {width} of 8 planes, ResNet-18 on a bit-serial array: cycles of all planes",
                source=PAPER, unit="x", equations=width / 8, simulated=count_mac_cycles(report) / count_mac_cycles(base),
                why=f"equations: planes alone; the engine computes in {_count_compute(report) / _count_compute(base):.3f} of the "
                "cycles, the rest is loads of activations, which have eight planes at any width of weights",
            )
        )  # fmt: skip
    return (
        *rows,
        leave_out(
            "accuracy at every width from one training on CIFAR-100 and ImageNet", f"{PAPER} (from notes)",
            "takes training; no code is released", "unverified",
        ),
    )  # fmt: skip


def _count_compute(report: Report) -> int:
    return sum(cost.stats.compute_cycles for cost in report.layers if cost.w_bits)


SYSTEM = System(
    name="vertical-layered", title="nested bit planes: any lower precision by leaving planes out", source=PAPER,
    reproduce=reproduce, archs=("bismo",), order=13,
)  # fmt: skip
