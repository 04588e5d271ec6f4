"""Cost grows linearly with tiles: the cycle engine and the lowering over programs of 10^2 to 10^5 instructions.

The tile stays the same while the layer grows in height, so every instruction is as large as every other. Each time is the least
of several. Fitted, by least squares on logarithms, is (t - t0) = constant * (n - n0) ^ exponent, where t0 and n0 belong to the
smallest program: the fixed cost of a call is left out.

Usage: ``python -m benchmarks.bench_growth [--quick] [--json FILE] [-o DIR]``
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Results, read_options, time_loop

SIZES = (100, 1_000, 3_000, 10_000, 30_000, 100_000)


def build_program(arch: Any, wanted: int) -> tuple[Any, Any, Any]:
    """Return datapath, mapping and table of a layer with about ``wanted`` instructions; the tile is 1 x 14 pixels, 16 filters."""
    from hwsim.core.layer import Layer
    from hwsim.core.mapping import Mapping
    from hwsim.engine.lower import lower_table, prepare_lowering
    from tests.naive_cases import workload_of

    # A tile is a weight load at most, an input load, an exec and a store: 3 to 4 instructions.
    rows = max(1, round(wanted / 3.2))
    layer = Layer(
        name="conv", op="conv", inputs=("in",), K=16, C=16, P=rows, Q=14, R=3, S=3, H=rows, W=14, padding=(1, 1, 1, 1)
    )  # fmt: skip
    path = arch.bind(workload_of(layer))
    mapping = Mapping(tile=(1, 1, 16, 16, 1, 14), order="KMC")
    return path, mapping, lower_table(path, mapping, prepare_lowering(path, arch))


def fit_exponent(sizes: list[int], seconds: list[float]) -> float:
    """Return the slope of log time over log size, both counted from the smallest program."""
    n, t = np.array(sizes, np.float64), np.array(seconds)
    return float(np.polyfit(np.log(n[1:] - n[0]), np.log(np.maximum(t[1:] - t[0], 1e-9)), 1)[0])


def draw(curves: dict[str, tuple[list[int], list[float]]], exponents: dict[str, float], path: Path) -> None:
    """Write the curves as a PNG, with a line of slope 1."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, (sizes, seconds) in curves.items():
        axes.loglog(sizes, [1e3 * t for t in seconds], "o-", label=f"{name}, exponent {exponents[name]:.2f}")
    sizes, seconds = next(iter(curves.values()))
    axes.loglog(sizes, [1e3 * seconds[-1] * n / sizes[-1] for n in sizes], "k:", linewidth=1, label="linear")
    axes.set_xlabel("instructions")
    axes.set_ylabel("CPU time, ms")
    axes.set_title("Cost grows linearly with tiles", loc="left", fontsize=10)
    axes.grid(True, which="major", color="#dddddd")
    axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    print(f"  written: {path}")


def main() -> int:
    """Run the benchmark."""
    from dataclasses import replace

    from hwsim.archs.registry import find_arch
    from hwsim.core.shell import Memory
    from hwsim.engine.lower import lower_table, prepare_lowering
    from hwsim.engine.run import time_table

    args = read_options(__doc__)
    results = Results(title="Growth with the number of tile instructions")
    flat = find_arch("systolic", "small")
    dram = replace(flat, memory=Memory(kind="dram", part="lpddr4-3200", bits_per_cycle=64))
    curves: dict[str, tuple[list[int], list[float]]] = {}
    for name, arch in (("cycle engine, flat", flat), ("cycle engine, lpddr4-3200", dram), ("lowering", flat)):
        sizes: list[int] = []
        seconds: list[float] = []
        for wanted in SIZES[:-1] if args.quick else SIZES:
            path, mapping, table = build_program(arch, wanted)
            ready = prepare_lowering(path, arch)
            if name == "lowering":
                spent = time_loop(lambda p=path, m=mapping, r=ready: lower_table(p, m, r))  # type: ignore[misc]
            else:
                spent = time_loop(lambda t=table, a=arch: time_table(t, a))  # type: ignore[misc]
            sizes.append(len(table))
            seconds.append(spent)
            results.add(
                f"{name}, {len(table):,} instructions",
                spent * 1e3,
                "ms",
                note=f"{spent / len(table) * 1e9:,.0f} ns each",
            )
        curves[name] = sizes, seconds
    exponents = {name: fit_exponent(*curve) for name, curve in curves.items()}
    for name, exponent in exponents.items():
        margin = 0.1 if name.startswith("cycle engine") else 0.15  # the lowering is short work around numpy calls
        results.hold(f"{name}: exponent", exponent, 1 - margin, 1 + margin)
    if args.output:
        draw(curves, exponents, Path(args.output) / "growth.png")
    return results.finish(args)


if __name__ == "__main__":
    sys.exit(main())
