"""``hwsim allot``: processing elements and dataflows of `nasa`'s chunks for a network."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from hwsim.commands._options import (
    add_arch_options,
    add_energy_table,
    add_net_name,
    add_policy,
    choose_arch,
    choose_network,
)

if TYPE_CHECKING:
    from hwsim.pipeline.nasa_map import AutoMapping
    from mappers.nasa_allot import Allotment
    from mappers.nasa_choose import Combination

HELP = "allot elements to nasa's chunks under an area, and search their dataflows"
SHOWN = 8
"""Combinations of dataflows that the text shows."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_arch_options(parser)
    group = parser.add_argument_group("network")
    add_net_name(group)
    add_policy(group)
    add_energy_table(parser.add_argument_group("area and energy"))
    parser.set_defaults(weights=None)
    parser.add_argument(
        "--budget", metavar="UM2", help="area of all elements in um2 (default: that of 168 multiplying ones)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the arrays that the preset or --set names")
    parser.add_argument(
        "--map", action="store_true", help="search the dataflow of each chunk and all tilings for the least EDP"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else")


def run(args: argparse.Namespace) -> int:
    """Allot, map if asked for, print."""
    from hwsim.archs.nasa.spec import Nasa
    from hwsim.commands._progress import Progress
    from hwsim.core.errors import HwsimError, SpecError
    from hwsim.pipeline.nasa_map import auto_map
    from mappers.nasa_allot import allot_pes

    arch = choose_arch(args, None if args.config else args.arch or "nasa")
    if not isinstance(arch, Nasa):
        raise SpecError("--arch", arch.name, "nasa, which has chunks")
    if args.keep and args.budget:
        raise SpecError("--budget", args.budget, "no budget beside --keep")
    if args.keep and not args.map:
        raise HwsimError("--keep leaves nothing to do: give --map beside it")
    network, _, policy = choose_network(args)
    allotment = None
    if not args.keep:
        allotment = allot_pes(network, policy, _read_area(args.budget), arch, args.energy_table)
        arch = allotment.arch
    found = None
    if args.map:
        with Progress() as progress:
            found = auto_map(network, arch, policy=policy, energy_table=args.energy_table, progress=progress)
    print(json.dumps(_build(allotment, found), indent=2) if args.json else _format(allotment, found))
    return 0


def _read_area(text: str | None) -> float | None:
    from hwsim.core.errors import SpecError

    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        raise SpecError("--budget", text, "an area in um2") from None


def _build(allotment: Allotment | None, found: AutoMapping | None) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if allotment:
        out["budget_um2"], out["area_um2"] = allotment.budget_um2, allotment.area_um2
        out["chunks"] = [
            {
                "name": one.name, "operator": one.operator, "operations": one.operations, "rows": one.rows, "cols": one.cols,
                "elements": one.elements, "area_um2": one.area_um2, "steps": one.steps,
            }
            for one in allotment.chunks
        ]  # fmt: skip
    if found:
        out["edp"], out["interval_cycles"] = found.edp, found.interval_cycles
        out["combinations"] = [
            {"dataflows": dict(one.dataflows), "cycles": one.cycles, "energy_pj": one.energy_pj, "refused": one.refused}
            for one in found.ranked
        ]
    return out


def _format(allotment: Allotment | None, found: AutoMapping | None) -> str:
    lines = []
    if allotment:
        lines += _format_allotment(allotment)
    if found:
        lines += _format_mapping(found)
    return "\n".join(lines)


def _show(columns: list[tuple[str, bool]], rows: list[list[str]]) -> str:
    from hwsim.commands.run import find_width, uses_color
    from hwsim.report.text import build_table, render

    return render(build_table("", columns, rows), find_width(), uses_color())


def _format_allotment(found: Allotment) -> list[str]:
    """Return the table of chunks, the area, and the options that say the same."""
    columns = [("chunk", True), ("operator", True), ("operations O", False), ("elements N", False), ("array", True)]
    columns += [("O / N", False), ("area\num2", False)]
    rows = [
        [one.name, one.operator, f"{one.operations:,}", str(one.elements), f"{one.rows}x{one.cols}", f"{one.steps:,.0f}",
         f"{one.area_um2:,.0f}"]
        for one in found.chunks
    ]  # fmt: skip
    settings = " ".join(
        f"--set {one.name}_{side}={getattr(one, side)}" for one in found.chunks for side in ("rows", "cols")
    )
    area = f"{found.area_um2:,.0f} of {found.budget_um2:,.0f} um2"
    return [_show(columns, rows), area, f"as options: {settings}"]


def _format_mapping(found: AutoMapping) -> list[str]:
    """Return the best combinations, what one dataflow for all chunks comes to, and the options of the best."""
    ran = [one for one in found.ranked if not one.refused]
    shown = ran[:SHOWN]
    for flow in sorted({flow for one in found.ranked for _, flow in one.dataflows}):
        alike = next((one for one in found.ranked if {own for _, own in one.dataflows} == {flow}), None)
        if alike is not None and alike not in shown:
            shown.append(alike)
    columns = [("dataflows", True), ("cycles", False), ("energy", False), ("EDP\nof the best", False), ("", True)]
    table = _show(columns, [_list_cells(one, found.best) for one in shown])
    rate = found.arch.clock_hz / found.interval_cycles
    settings = " ".join(f"--set {chunk}_dataflow={flow}" for chunk, flow in found.best.dataflows)
    return [
        table,
        f"{len(ran)} of {len(found.ranked)} combinations run; EDP {found.edp:.3g} J*s",
        f"with frames in the pipeline of chunks at best every {found.interval_cycles:,} cycles, {rate:,.0f} images/s",
        f"as options: {settings} --objective edp",
    ]


def _list_cells(one: Combination, best: Combination) -> list[str]:
    from hwsim.report.units import format_si

    if one.refused:
        return [one.label, "", "", "", one.refused]
    energy = format_si(one.energy_pj * 1e-12, "J")
    return [one.label, f"{one.cycles:,}", energy, f"{one.product / best.product:.3f}", ""]
