"""``hwsim allot``: processing elements and dataflows of `nasa`'s chunks for a network."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from hwsim.commands._options import add_arch_options, add_net_options, choose_arch, choose_network

if TYPE_CHECKING:
    from hwsim.pipeline.nasa_map import AutoMapping
    from mappers.nasa_allot import Allotment

HELP = "allot elements to nasa's chunks under an area, and search their dataflows"
SHOWN = 8
"""Combinations of dataflows that the text shows."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_arch_options(parser)
    add_net_options(parser)
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
    from hwsim.core.errors import SpecError
    from hwsim.pipeline.nasa_map import auto_map
    from mappers.nasa_allot import allot_pes

    arch = choose_arch(args, None if args.config else args.arch or "nasa")
    if not isinstance(arch, Nasa):
        raise SpecError("--arch", arch.name, "nasa, which has chunks")
    if args.keep and args.budget:
        raise SpecError("--budget", args.budget, "no budget beside --keep")
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
    from hwsim.commands.run import find_width, uses_color
    from hwsim.report.text import build_table, render
    from hwsim.report.units import format_si

    def show(columns: list[tuple[str, bool]], rows: list[list[str]]) -> str:
        return render(build_table("", columns, rows), find_width(), uses_color())

    lines = []
    if allotment:
        columns = [("chunk", True), ("operator", True), ("operations O", False), ("elements N", False), ("array", True)]
        columns += [("O / N", False), ("area\num2", False)]
        rows = [
            [one.name, one.operator, f"{one.operations:,}", str(one.elements), f"{one.rows}x{one.cols}", f"{one.steps:,.0f}",
             f"{one.area_um2:,.0f}"]
            for one in allotment.chunks
        ]  # fmt: skip
        lines += [show(columns, rows), f"{allotment.area_um2:,.0f} of {allotment.budget_um2:,.0f} um2"]
        settings = " ".join(
            f"--set {one.name}_{side}={getattr(one, side)}" for one in allotment.chunks for side in ("rows", "cols")
        )
        lines.append(f"as options: {settings}")
    if found:
        best = found.best
        columns = [("dataflows", True), ("cycles", False), ("energy", False), ("EDP\nof the best", False), ("", True)]
        ran = [one for one in found.ranked if not one.refused]
        rows = [
            [
                one.label,
                f"{one.cycles:,}",
                format_si(one.energy_pj * 1e-12, "J"),
                f"{one.product / best.product:.3f}",
                "",
            ]
            for one in ran[:SHOWN]
        ]
        flows = {flow for one in found.ranked for _, flow in one.dataflows}
        for flow in sorted(flows):
            one = next((x for x in found.ranked if {f for _, f in x.dataflows} == {flow}), None)
            if one is not None and one not in ran[:SHOWN]:
                cost = ["", "", ""] if one.refused else [f"{one.cycles:,}", format_si(one.energy_pj * 1e-12, "J"),
                                                         f"{one.product / best.product:.3f}"]  # fmt: skip
                rows.append([one.label, *cost, one.refused])
        lines += [show(columns, rows), f"{len(ran)} of {len(found.ranked)} combinations run; EDP {found.edp:.3g} J*s"]
        lines.append(
            f"with frames in the pipeline of chunks at best every {found.interval_cycles:,} cycles, "
            f"{found.arch.clock_hz / found.interval_cycles:,.0f} images/s"
        )
        lines.append(
            "as options: "
            + " ".join(f"--set {chunk}_dataflow={flow}" for chunk, flow in best.dataflows)
            + " --objective edp"
        )
    return "\n".join(lines)
