"""What the benchmarks share: CPU time, the table, the machine, the options ``--quick``, ``--json`` and ``-o``.

Limits in seconds are printed beside each figure, not asserted: they depend on the machine. What is asserted are ratios of two
figures of the same run, and peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured figure; ``limit`` is what it is meant to stay under, None where there is no such target."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    note: str = ""


@dataclass(slots=True, kw_only=True)
class Results:
    """Figures and ratios of one run."""

    title: str
    machine: str = field(default_factory=lambda: describe_machine())
    figures: list[Figure] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def add(self, name: str, value: float, unit: str, limit: float | None = None, note: str = "") -> float:
        """Print and keep a figure."""
        figure = Figure(name=name, value=value, unit=unit, limit=limit, note=note)
        if not self.figures:
            print(f"{self.title}\n{self.machine}\n")
        self.figures.append(figure)
        target = "" if limit is None else f"target < {limit:g} {unit}: {'met' if value < limit else 'MISSED'}"
        print(f"  {name:<58} {value:>12,.4g} {unit:<6} {target:<26} {note}".rstrip(), flush=True)
        return value

    def hold(self, name: str, value: float, low: float, high: float = float("inf")) -> None:
        """Print a figure without unit and note it as broken outside ``low`` to ``high``."""
        bounds = f"must be >= {low:g}" + ("" if high == float("inf") else f" and <= {high:g}")
        self.add(name, value, "x", note=bounds)
        if not low <= value <= high:
            self.broken.append(f"{name}: {value:.3g}, {bounds}")

    def finish(self, args: argparse.Namespace) -> int:
        """Write the JSON that was asked for; return 1 and say why when a bound is broken."""
        if args.json:
            found = {"title": self.title, "machine": self.machine, "figures": [asdict(f) for f in self.figures]}
            Path(args.json).write_text(json.dumps(found, indent=1) + "\n")
        for line in self.broken:
            print(f"BROKEN {line}", file=sys.stderr)
        print()
        return 1 if self.broken else 0


def read_options(description: str | None, argv: list[str] | None = None) -> argparse.Namespace:
    """Return the options that every benchmark takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller sizes: for the ratios, not for the figures")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON")
    parser.add_argument("-o", "--output", metavar="DIR", help="write plots into DIR")
    return parser.parse_args(argv)


def describe_machine() -> str:
    """Return processor, cores and versions."""
    import numba
    import numpy

    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"numpy {numpy.__version__}, numba {numba.__version__}; CPU seconds of the process unless said otherwise"
    )


def time_best(work: Callable[[], Any], repeats: int) -> float:
    """Return the least CPU seconds of ``repeats`` calls."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def time_loop(work: Callable[[], Any], least_s: float = 0.02, repeats: int = 7) -> float:
    """Return the least CPU seconds of one call, for short work: calls are timed in batches of at least ``least_s``."""
    calls = 1
    while True:
        start = time.process_time()
        for _ in range(calls):
            work()
        if time.process_time() - start >= least_s:
            break
        calls *= 4

    def batch() -> None:
        for _ in range(calls):
            work()

    return time_best(batch, repeats) / calls
