"""``hwsim compare``: one network on several architectures, with ratios to the first."""

from __future__ import annotations

import argparse
import json

from hwsim.commands._options import add_arch_options, add_net_options, choose_arch, run_simulation

HELP = "simulate a network on several architectures and show ratios to the first"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_arch_options(parser, several=True)
    add_net_options(parser)
    parser.add_argument(
        "--json", action="store_true", help="print all reports and the comparison as JSON, and nothing else"
    )


def run(args: argparse.Namespace) -> int:
    """Simulate each, print them side by side."""
    from hwsim.commands._progress import Progress
    from hwsim.commands.run import find_width, uses_color
    from hwsim.core.errors import SpecError
    from hwsim.core.rows import build_dict
    from hwsim.report.text import compare_totals, format_comparison, list_differences

    names = [name.strip() for name in args.arch.split(",") if name.strip()]
    if len(names) < 2:
        raise SpecError(
            "--arch", args.arch, "two or more architectures joined by commas", "for example --arch systolic,smartdeal"
        )
    archs = [choose_arch(args, name) for name in names]
    reports = []
    for arch in archs:
        with Progress() as progress:
            reports.append(run_simulation(args, arch, progress))
    if args.json:
        found = {
            "compare": compare_totals(reports),
            "differences": list_differences(reports),
            "reports": [build_dict(report) for report in reports],
        }
        print(json.dumps(found, indent=2, allow_nan=False))
    else:
        print(format_comparison(reports, width=find_width(), color=uses_color()))
    return 0
