"""CPU time of whole simulations, and of slow versions of the same work beside them.

ResNet-18 on a 32x32 systolic array with the search over all mappings, with mappings known, and on SmartDeal with its
data-dependent kernels. Beside it, in the same run:

- what a simulator in the manner of SCALE-Sim does for one fixed mapping: every cycle's demand on the array's edges, fold by fold
  as numpy matrices, without any memory behind it. Its cycle counts are checked against SCALE-Sim's equations.
- the cycle engine as a plain Python loop over cycles (``tests.naive_shell``), on one small layer.

Published, not measured here: SCALE-Sim v3 (scalesim 3.0.0) itself took 417 s (os), 535 s (ws) and 788 s (is) of CPU for the
ResNet-18 of its own topology file on a 2-core x86 machine.

Usage: ``python -m benchmarks.bench_speed [--quick] [--json FILE]``
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Results, read_options, time_best, time_loop


def forget_mappings() -> None:
    """Make the next simulation search every mapping, in memory alone."""
    from mappers.cache import open_cache

    os.environ["HWSIM_CACHE_DIR"] = ""
    open_cache.cache_clear()


def replay_demands(rows: int, cols: int, products: list[tuple[int, int, int]]) -> int:
    """Return the cycles of matrix products (M, K, N) on an output stationary array, every cycle's demand laid out.

    For each fold: matrices ``[cycles, rows]`` and ``[cycles, cols]`` of the addresses that enter each row and column in each
    cycle, skewed by one cycle a row (column), -1 where nothing enters; words read are counted on them.
    """
    total, words = 0, 0
    for m, k, n in products:
        for first_col in range(0, n, cols):
            for first_row in range(0, m, rows):
                cycles = k + rows + cols - 2
                total += cycles
                for first, extent, lanes in ((first_row, m, rows), (first_col, n, cols)):
                    used = min(lanes, extent - first)
                    demand = np.full((cycles, lanes), -1, np.int64)
                    for lane in range(used):
                        demand[lane : lane + k, lane] = (first + lane) * k + np.arange(k)
                    words += int((demand >= 0).sum())
    return total


def list_products(network: object) -> list[tuple[int, int, int]]:
    """Return each MAC layer as a matrix product (M, K, N)."""
    layers = network.mac_layers  # type: ignore[attr-defined]
    return [(lay.N * lay.P * lay.Q, lay.R * lay.S * lay.C, lay.K) for lay in layers for _ in range(lay.G)]


def measure_systolic(results: Results, quick: bool) -> None:
    """Measure the systolic array and the fixed mapping's demands."""
    from hwsim import simulate
    from hwsim.nets.registry import find_network
    from hwsim.published.scalesim import Array, Gemm, report_cycles

    network = find_network("resnet18")
    simulate("resnet8", "systolic")  # compiles, or loads what was compiled

    def search() -> None:
        forget_mappings()
        simulate(network, "systolic")

    searched = time_best(search, 3)
    results.add("resnet18, systolic 32x32, mapping search included", searched, "s", 1.0)
    known = time_loop(lambda: simulate(network, "systolic"), 0.1, 5)
    results.add("the same with mappings known", known * 1e3, "ms", 50)
    candidates = sum(row.mapping.candidates for row in simulate(network, "systolic").layers if row.mapping)
    results.add("mappings in the space of the search, proven best of them", candidates, "")

    products = list_products(network)
    if quick:
        products = products[:2]
    found: list[int] = []
    replayed = time_best(lambda: found.append(replay_demands(32, 32, products)), 1)
    array = Array(rows=32, cols=32, dataflow="os")
    expected = sum(report_cycles(Gemm(M=m, K=k, N=n), array) + 1 for m, k, n in products)
    if found[0] != expected:
        raise AssertionError(f"the replay gives {found[0]} cycles, SCALE-Sim's equations {expected}")
    results.add(f"one fixed mapping, demand matrices in numpy, {len(products)} layers", replayed, "s")
    results.hold("fixed mapping by demand matrices / full search", replayed / searched, 0.02 if quick else 2)
    results.hold("search / mappings known", searched / known, 3)


def measure_engine(results: Results) -> None:
    """Measure the cycle kernel against the loop over cycles."""
    from hwsim.archs.registry import find_arch
    from hwsim.core.layer import Layer
    from hwsim.core.mapping import Mapping
    from hwsim.engine.lower import lower_table, prepare_lowering
    from hwsim.engine.run import time_table
    from tests.naive_cases import workload_of
    from tests.naive_shell import run_naive

    arch = find_arch("systolic", "small")
    layer = Layer(
        name="conv", op="conv", inputs=("in",), K=32, C=16, P=14, Q=14, R=3, S=3, H=14, W=14, padding=(1, 1, 1, 1)
    )
    path = arch.bind(workload_of(layer))
    table = lower_table(path, Mapping(tile=(1, 1, 16, 8, 7, 14), order="MKC"), prepare_lowering(path, arch))
    naive = time_best(lambda: run_naive(table, arch.memory, arch.shell.issue_cycles, 10**6), 1)
    fast = time_loop(lambda: time_table(table, arch))
    cycles = time_table(table, arch)[0].cycles
    results.add(f"loop over {cycles:,} cycles in plain Python", naive * 1e3, "ms")
    results.add(f"cycle kernel, the same {len(table)} instructions", fast * 1e3, "ms")
    results.hold("plain Python / kernel", naive / fast, 20)


def measure_smartdeal(results: Results, quick: bool) -> None:
    """Measure SmartDeal where it exists."""
    from hwsim import simulate
    from hwsim.archs.registry import list_archs

    if "smartdeal" not in {entry.name for entry in list_archs() if not entry.error}:
        print("  smartdeal: not there")
        return
    simulate("resnet8", "smartdeal", preset="paper")
    if quick:
        return
    forget_mappings()
    spent = time_best(lambda: simulate("resnet18", "smartdeal", preset="paper"), 1)
    results.add("resnet18 224x224, smartdeal paper preset, everything", spent, "s", 20)


def main() -> int:
    """Run the benchmark."""
    args = read_options(__doc__)
    results = Results(title="Speed of simulations")
    forget_mappings()
    measure_systolic(results, args.quick)
    measure_engine(results)
    measure_smartdeal(results, args.quick)
    return results.finish(args)


if __name__ == "__main__":
    sys.exit(main())
