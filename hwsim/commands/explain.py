"""``hwsim explain``: the terms that make up a figure, with their sources."""

from __future__ import annotations

import argparse

from hwsim.commands._options import add_arch_options, add_net_options, choose_arch, run_simulation

HELP = "print the terms that make up a figure, with their sources"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("layer", metavar="LAYER", help="name of a layer, or total")
    parser.add_argument("metric", metavar="METRIC", help="cycles, energy, traffic, utilization, area or latency")
    add_arch_options(parser)
    add_net_options(parser)


def run(args: argparse.Namespace) -> int:
    """Simulate and print the terms."""
    from hwsim.commands._progress import Progress
    from hwsim.core.errors import UnknownName
    from hwsim.report.explain import METRICS, TOTAL, explain

    arch = choose_arch(args)
    if args.metric not in METRICS:
        raise UnknownName("metric", args.metric, METRICS)
    if args.layer != TOTAL:
        _check_layer(args)
    with Progress() as progress:
        report = run_simulation(args, arch, progress)
    print(explain(report, args.layer, args.metric))
    return 0


def _check_layer(args: argparse.Namespace) -> None:
    """Find a misspelt layer before the simulation, not behind it."""
    from hwsim.commands._options import choose_network
    from hwsim.core.errors import UnknownName

    names = [layer.name for layer in choose_network(args)[0].layers]
    if args.layer not in names:
        raise UnknownName("layer", args.layer, [*names, "total"])
