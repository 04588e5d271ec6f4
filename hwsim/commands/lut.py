"""``hwsim lut``: what every layer costs at every precision, as a table that other tools read."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwsim.commands._options import (
    add_arch_options,
    add_energy_table,
    add_fpga,
    add_net_name,
    add_objective,
    choose_arch,
    read_up_to,
)

if TYPE_CHECKING:
    from hwsim.search.model import CostModel

HELP = "write what every layer costs at every precision: HAQ's layout (.npy), JSON or CSV"
SUFFIXES = (".npy", ".json", ".csv")
METRICS = {"cycles": "latency_cycles", "energy": "energy_pj", "size": "weight_bits"}
UNITS = {"cycles": "cycles", "energy": "pJ", "size": "bits of weights"}
SCHEMA = "hwsim.lut/1"
MOST_BITS = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_arch_options(parser)
    add_net_name(parser.add_argument_group("network"))
    costs = parser.add_argument_group("mapping and energy")
    add_objective(costs)
    add_energy_table(costs)
    add_fpga(costs, "clock")
    table = parser.add_argument_group("table")
    table.add_argument(
        "--metric",
        choices=tuple(METRICS),
        default="cycles",
        help="cycles, energy in pJ, or size: bits of the stored weights (default: cycles)",
    )
    table.add_argument(
        "--most-bits",
        type=read_up_to(MOST_BITS),
        default=8,
        metavar="N",
        help="widest weights and activations, 1 to 16 (default: 8)",
    )
    table.add_argument(
        "-o", "--output", metavar="FILE", help="file to write, .npy, .json or .csv (default: CSV on stdout)"
    )


def run(args: argparse.Namespace) -> int:
    """Build the table and write it."""
    import warnings

    from hwsim.core.errors import SpecError
    from hwsim.report.files import check_writable

    if args.output:
        if Path(args.output).suffix.lower() not in SUFFIXES:
            raise SpecError("--output", args.output, f"a file that ends in {', '.join(SUFFIXES)}")
        check_writable(args.output, folder=False)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", RuntimeWarning)
        model, table = _build(args)
    for text in dict.fromkeys(str(one.message) for one in found if issubclass(one.category, RuntimeWarning)):
        print(f"hwsim: {text}", file=sys.stderr)
    _write(args, model, table)
    _tell_refused(args, model, table)
    return 0


def list_refused(table: Any) -> Any:
    """Return which entries the accelerator refuses, bool of the table's shape."""
    import numpy as np

    return np.isnan(table) if table.dtype.kind == "f" else table < 0


def _tell_refused(args: argparse.Namespace, model: CostModel, table: Any) -> None:
    """Say on stderr how many entries there are no figures for."""
    count = int(list_refused(table).sum())
    if count:
        mark = "left empty"
        if args.output and Path(args.output).suffix.lower() == ".npy":
            mark = "NaN" if table.dtype.kind == "f" else "-1"
        name = f"{model.arch.name}:{model.arch.preset}"
        print(f"hwsim: {count} of {table.size} entries are refused by {name}: {mark}", file=sys.stderr)


def _build(args: argparse.Namespace) -> tuple[CostModel, Any]:
    from hwsim.commands._progress import Progress
    from hwsim.search import CostModel

    model = CostModel(
        args.net,
        choose_arch(args),
        batch=args.batch,
        objective=args.objective,
        energy_table=args.energy_table,
        fpga=args.fpga,
    )
    with Progress() as progress:
        return model, model.lut(METRICS[args.metric], args.most_bits, progress)


def _write(args: argparse.Namespace, model: CostModel, table: Any) -> None:
    """Write the file and say what it holds, or print CSV."""
    import numpy as np

    from hwsim.report.files import open_atomically

    if not args.output:
        sys.stdout.write(format_csv(model, args.metric, table))
        return
    suffix = Path(args.output).suffix.lower()
    with open_atomically(args.output) as path:
        if suffix == ".npy":
            with open(path, "wb") as file:
                np.save(file, table)
        else:
            path.write_text((format_json if suffix == ".json" else format_csv)(model, args.metric, table))
    most = table.shape[1]
    total = "" if list_refused(table)[:, -1, -1].any() else f"; w{most}a{most} {table[:, -1, -1].sum():,} in all"
    print(f"{args.output}: {model.network.name}, {len(table)} layers x {most} x {most}, {UNITS[args.metric]}{total}")


def format_csv(model: CostModel, metric: str, table: Any) -> str:
    """Return one line a layer and precision: ``layer,w_bits,a_bits`` and the figure, empty where there is none."""
    import csv
    import io

    import numpy as np

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("layer", "w_bits", "a_bits", METRICS[metric]))
    refused = list_refused(table)
    for row, w, a in np.ndindex(*table.shape):
        figure = "" if refused[row, w, a] else table[row, w, a].item()
        writer.writerow((model.layers[row], w + 1, a + 1, figure))
    return text.getvalue()


def format_json(model: CostModel, metric: str, table: Any) -> str:
    """Return the table with what it is of: ``lut[layer][w - 1][a - 1]``, null where there is no figure."""
    import json

    figures = table.astype(object)
    figures[list_refused(table)] = None
    found = {
        "schema": SCHEMA,
        "network": model.network.name,
        "batch": model.network.inputs[0].shape[0],
        "arch": model.arch.name,
        "preset": model.arch.preset,
        "clock_hz": model.clock_hz,
        "objective": model.objective,
        "metric": METRICS[metric],
        "layers": list(model.layers),
        "lut": figures.tolist(),
    }
    return json.dumps(found) + "\n"
