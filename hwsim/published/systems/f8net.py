"""F8Net: 8-bit fixed point without 32-bit multiplications."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwsim.published.claims import Row, System, leave_out
from hwsim.published.systems._run import run

if TYPE_CHECKING:
    from hwsim.core.report import Report

PAPER = "F8Net, ICLR 2022, arXiv 2202.05239"
README = "snap-research/F8Net, README.md"
AREAS_UM2, ENERGIES_PJ = (17_031, 113_180), (8.420, 33.426)
"""Area and energy (an element of ResNet-8) of `fixed8 small`'s requantizer and of `systolic small`'s in IHP SG13G2:
`hwsim synth --block store.requantize --target asic --energy`; docs/arithmetic.md holds commands and conditions."""
NETWORKS = (("resnet18", "ResNet-18"), ("mobilenet_v1", "MobileNetV1"), ("mobilenet_v2", "MobileNetV2"))


def sum_requantization(report: Report) -> float:
    """Return the energy of requantization, pJ."""
    return sum(cost.energy_by_component().get("requant", 0.0) for cost in report.layers)


def compare_networks() -> list[Row]:
    """Return cycles and energy against requantization by multiplier and shift on the same array."""
    rows = []
    for name, title in NETWORKS:
        shift, both = run(name, "fixed8", "f8"), run(name, "systolic", "w8a8")
        rows += [
            Row(
                claim=f"{title}, requantized by shifts alone: energy of requantization over that by multiplier and shift",
                source=PAPER, unit="x", simulated=sum_requantization(shift) / sum_requantization(both),
                why=f"a product of 32 bits is left out; it was {sum_requantization(both) / both.energy_pj:.1%} of the whole energy",
            ),
            Row(
                claim=f"{title}, the same: cycles of the whole network", source=PAPER, unit="x",
                simulated=shift.cycles / both.cycles,
                why="the array and its schedule are the same; the store unit is three stages shorter",
            ),
        ]  # fmt: skip
    return rows


def compare_area() -> list[Row]:
    """Return the area of requantization, and of the machine without its buffers."""
    shift, both = run("resnet18", "fixed8", "f8"), run("resnet18", "systolic", "w8a8")
    part, whole = (_sum_area(shift, text) / _sum_area(both, text) for text in ("requant", ""))
    return [
        Row(
            claim="no product of 32 bits: area of requantization over that of multipliers and shifters", source=PAPER, unit="x",
            simulated=part,
            why=f"operators of the energy table: {_sum_area(shift, 'requant'):,.0f} um2, not {_sum_area(both, 'requant'):,.0f}, "
            "for 32 lanes; `hwsim synth` counts gates of both machines",
        ),
        Row(
            claim="the same: area of the machine without its buffers", source=PAPER, unit="x", simulated=whole,
            why="1,024 cells outweigh 32 lanes of the store unit",
        ),
    ]  # fmt: skip


def list_standard_cells() -> list[Row]:
    """Return what synthesis of both machines gave, as recorded: it needs a library of standard cells."""
    claim = "the same in standard cells of 130 nm, `small`, as recorded from `hwsim synth`"
    (area, other_area), (energy, other_energy) = AREAS_UM2, ENERGIES_PJ
    return [
        Row(
            claim=f"{claim}: area of the requantizer", source=PAPER, unit="x", rtl=area / other_area,
            why=f"{area:,} um2, not {other_area:,}; docs/arithmetic.md",
        ),
        Row(
            claim=f"{claim}: its energy an element, ResNet-8 on 20 images", source=PAPER, unit="x",
            rtl=energy / other_energy,
            why=f"{energy:.1f} pJ, not {other_energy:.1f}: two thirds of the shifter's are the clock of its registers, which the "
            "energy table has not",
        ),
    ]  # fmt: skip


def reproduce() -> tuple[Row, ...]:
    """Return F8Net's rows."""
    return (
        *compare_networks(),
        *compare_area(),
        *list_standard_cells(),
        leave_out(
            "ResNet-18 71.0 %, MobileNetV1 72.8 %, MobileNetV2 72.6 % top-1 at 8 bits", README,
            "takes training on ImageNet: fractional lengths are learned with the weights",
        ),
    )  # fmt: skip


def _sum_area(report: Report, text: str) -> float:
    return sum(item.area_um2 or 0.0 for item in report.area if text in item.name and "buf" not in item.name)


SYSTEM = System(
    name="f8net", title="8-bit fixed point, requantization by shifts", source=PAPER, reproduce=reproduce,
    archs=("fixed8", "systolic"), order=6,
)  # fmt: skip
