"""Eyeriss: the baseline of BitFusion and NASA; the chip, and the equations by which others price it."""

from __future__ import annotations

import csv
from dataclasses import replace
from functools import cache

from hwsim.published.bitfusion import Shape
from hwsim.published.bitfusion_networks import EYERISS_CYCLES, NETWORKS
from hwsim.published.claims import Row, System, find_reference, skip_row
from hwsim.published.eyeriss import predict
from hwsim.published.eyeriss_networks import ENCODINGS, list_operations
from hwsim.published.systems._run import price_layer, run
from hwsim.published.systems.bitfusion import make_layer

CHIP = "Chen et al., Eyeriss, JSSC 2017"
RECORDS = "GATECH-EIC/ShiftAddNAS (MIT), CV/retraining_hybrid/hw_record"
FILES = {("bossnet_T0_mix_v4_distilled_Q", "shift"): "shfit_q"}
"""Records under another name than their kind's (the spelling is theirs)."""
FRAMES = (("alexnet_grouped", "AlexNet", 4, 35.0), ("vgg16", "VGG-16", 3, 0.7))
KEPT = (3, 1000)
"""Channels of the image, classes."""
WIDENED = ("AlexNet", "RESNET-18")
ELEMENTS = 168
predict_once = cache(predict)


def compare_records() -> Row:
    """Return how many of the records the equations give."""
    claim = (
        "records of two searched networks, layers whose computation, energy, latency, operands and levels are all equal"
    )
    equal = total = 0
    for network in ENCODINGS:
        for kind, operations in list_operations(network).items():
            if not operations:
                continue
            parts = ("shiftaddnas", f"{network}-224", f"{FILES.get((network, kind), kind)}.csv")
            path = find_reference(*parts)
            if path is None:
                return skip_row(claim, RECORDS, *parts)
            with path.open(newline="") as file:
                rows = [tuple(float(cell) for cell in row[1:]) for row in csv.reader(file)]
            total += len(rows)
            equal += sum(predict_once(one).row == row for one, row in zip(operations, rows, strict=True))
    return Row(
        claim=claim, source=RECORDS, unit="layers", claimed=total, equations=equal,
        why="at DNN-Chip-Predictor's limits; at those that hw_utils.py is released with, 66 differ",
    )  # fmt: skip


def compare_frames() -> list[Row]:
    """Return frames a second of the chip."""
    rows = []
    for network, title, batch, claimed in FRAMES:
        report = run(network, "eyeriss", "w16a16", batch)
        convs = {layer.name for layer in report.network.layers if layer.op == "conv"}
        cycles = sum(row.cycles for row in report.layers if row.name in convs)
        macs = sum(layer.macs for layer in report.network.layers if layer.op == "conv")
        measured = macs / batch * claimed / report.clock_hz / ELEMENTS
        rows.append(
            Row(
                claim=f"convolutions of {title}, batch {batch}, 16 bits: frames a second", source=f"{CHIP} (from memory)",
                certainty="unverified", unit="frames/s", claimed=claimed, simulated=batch * report.clock_hz / cycles,
                why=f"the claim uses {measured:.0%} of the elements' cycles, the simulation {macs / ELEMENTS / cycles:.0%}"
                + ("; why the chip loses so many in the widest layers is not known here" if measured < 0.5 else ""),
            )
        )  # fmt: skip
    return rows


def halve(shape: Shape) -> Shape:
    """Return a shape of the network before it was made twice as wide; image and classes stay."""
    inputs, outputs = (x if x in KEPT else x // 2 for x in (shape.in_channels, shape.out_channels))
    return replace(shape, in_channels=inputs, out_channels=outputs)


def compare_baseline() -> list[Row]:
    """Return the cycles of the baseline that BitFusion compares itself with."""
    rows = []
    for name, claimed in EYERISS_CYCLES.items():
        shapes = list(NETWORKS[name].values())
        layers = [make_layer(shape) for shape in shapes]
        found = sum(price_layer(layer, "eyeriss", 16, 16, 16).cycles for layer in layers)
        macs = sum(layer.macs for layer in layers)
        why = f"the claim is {macs / claimed:.0f} products a cycle, Eyeriss has {ELEMENTS} elements: another machine"
        if name in WIDENED:
            narrow = sum(make_layer(halve(shape)).macs for shape in shapes)
            why = (
                f"the shapes are twice as wide as the network's own; the claim is {macs / claimed:.0f} products a cycle of these, "
                f"{narrow / claimed:.0f} of the network's own, Eyeriss has {ELEMENTS} elements: it seems to be the narrow network's"
            )
        rows.append(
            Row(
                claim=f"{name} of BitFusion's evaluation on its Eyeriss, 16 bits, batch 16", unit="cycles", claimed=claimed,
                source="hsharma35/bitfusion, results for Eyeriss", simulated=found,
                why=f"{why}; the simulation uses {macs / found / ELEMENTS:.0%} of the elements",
            )
        )  # fmt: skip
    return rows


def reproduce() -> tuple[Row, ...]:
    """Return Eyeriss' rows."""
    return (compare_records(), *compare_frames(), *compare_baseline())


SYSTEM = System(
    name="eyeriss", title="row stationary, the baseline of others", source=f"{CHIP}; DNN-Chip-Predictor; ShiftAddNAS",
    reproduce=reproduce, archs=("eyeriss",), order=5,
)  # fmt: skip
