"""``hwsim run``: a network through an accelerator."""

from __future__ import annotations

import argparse
import shutil
import sys
from typing import TYPE_CHECKING

from hwsim.commands._options import add_arch_options, add_net_options, choose_arch, run_simulation, run_traced

if TYPE_CHECKING:
    from hwsim.core.report import Report

HELP = "simulate a network on an architecture: cycles, energy, traffic per layer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_arch_options(parser)
    add_net_options(parser)
    group = parser.add_argument_group("output")
    kinds = group.add_mutually_exclusive_group()
    kinds.add_argument("--json", action="store_true", help="print the report as JSON, and nothing else")
    kinds.add_argument("--csv", action="store_true", help="print one line a layer as CSV, and nothing else")
    group.add_argument("-o", "--output", metavar="DIR", help="write report.json, layers.csv and the plots into DIR")
    group.add_argument("--trace", metavar="FILE", help="write a Chrome trace for ui.perfetto.dev (.json or .json.gz)")
    group.add_argument(
        "--annotate",
        metavar="FILE",
        help="write a copy of the .onnx network whose nodes carry cycles, energy, bits and bound",
    )
    group.add_argument("--show-mapping", action="store_true", help="print the loop nest of every layer as well")


def run(args: argparse.Namespace) -> int:
    """Simulate, print, write."""
    from hwsim.commands._progress import Progress
    from hwsim.report.files import check_writable

    arch = choose_arch(args)
    if args.output:
        check_writable(args.output, folder=True)
    if args.trace:
        _check_trace_name(args.trace)
        check_writable(args.trace, folder=False)
    if args.annotate:
        _check_annotation(args)
        check_writable(args.annotate, folder=False)
    with Progress() as progress:
        if args.trace:
            report, traces = run_traced(args, arch, progress)
        else:
            report, traces = run_simulation(args, arch, progress), ()
    if args.output:
        from hwsim.report.folder import write_folder

        write_folder(report, args.output)
    notes = []
    if args.trace:
        from hwsim.report.trace import write_trace

        notes = write_trace(report, traces, args.trace)
    print_report(report, args)
    for note in notes:
        print(f"hwsim: {args.trace}: {note}", file=sys.stderr)
    if args.annotate:
        from hwsim.policies.annotate import annotate_onnx

        for note in annotate_onnx(args.net, report, args.annotate):
            print(f"hwsim: {args.annotate}: {note}", file=sys.stderr)
    return 0


def _check_annotation(args: argparse.Namespace) -> None:
    from hwsim.core.errors import SpecError

    if not args.net.lower().endswith(".onnx"):
        raise SpecError("--annotate", args.annotate, "a network that is an .onnx file", f"--net is {args.net}")


def _check_trace_name(path: str) -> None:
    from hwsim.core.errors import SpecError

    if not path.endswith((".json", ".json.gz")):
        raise SpecError("--trace", path, "a file name that ends in .json or .json.gz")


def print_report(report: Report, args: argparse.Namespace) -> None:
    """Print a report in the form that the options ask for."""
    if args.json:
        from hwsim.report.folder import format_json

        print(format_json(report))
        return
    if args.csv:
        from hwsim.report.folder import format_csv

        sys.stdout.write(format_csv(report))
        return
    from hwsim.report.text import format_report

    print(format_report(report, width=find_width(), color=uses_color()))
    if args.show_mapping:
        from hwsim.report.loopnest import format_loopnest

        for cost in report.layers:
            if cost.mapping is not None:
                print()
                print(format_loopnest(report.network.layer(cost.name), cost.mapping, dict(cost.stats.peak_buffer_bits)))


def find_width() -> int | None:
    """Return the terminal's columns, or None when stdout is piped."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def uses_color() -> bool:
    """Return whether stdout shows colours."""
    import os

    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
