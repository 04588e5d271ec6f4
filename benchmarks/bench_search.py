"""Speed of `hwsim.CostModel`: policies a second in batches, one policy, and the table of a network, cold and from disk.

MobileNetV2 (53 layers with weights) on ``bismo-cloud``, batch 16. Beside it, in the same run, what a full simulation of a policy
takes with its mappings known, and a plain Python loop over the same tables. Cycles of all of them are compared.

Usage: ``python -m benchmarks.bench_search [--quick] [--json FILE]``
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Results, read_options, time_best, time_loop

NET, ARCH, BATCH = "mobilenetv2", "bismo-cloud", 16


def read_cpu_s() -> float:
    """Return CPU seconds of this process and of those that it ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def time_all(work: Callable[[], object]) -> tuple[float, float]:
    """Return seconds by the clock and CPU seconds of all processes."""
    start, used = time.perf_counter(), read_cpu_s()
    work()
    return time.perf_counter() - start, read_cpu_s() - used


def time_another_process(path: Path, most: int) -> float:
    """Return the seconds in which a process of its own has the table that this one left on disk, imports left out."""
    code = (
        "import sys, time; from hwsim import CostModel; import hwsim.search.model; began = time.perf_counter()\n"
        f"CostModel({NET!r}, {ARCH!r}, batch={BATCH}, cache=sys.argv[1]).lut(most_bits={most})\n"
        "print(time.perf_counter() - began)"
    )
    return float(
        subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True).stdout
    )


def measure_tables(results: Results, folder: Path, quick: bool) -> None:
    """Measure the table of all layers, cold and from disk."""
    from hwsim import CostModel

    most = 4 if quick else 8
    CostModel(NET, ARCH, cache=False).latency_cycles("w8a8")  # compiles, or loads what was compiled
    path = folder / "prices.sqlite"
    wall, cpu = time_all(lambda: CostModel(NET, ARCH, batch=BATCH, cache=path).lut(most_bits=most))
    name = f"table of {NET}, 53 x {most} x {most}"
    results.add(f"{name}, cold, by the clock", wall, "s", 10)
    results.add(f"{name}, cold, CPU of all processes", cpu, "s", 20)
    warm = min(time_another_process(path, most) for _ in range(3))
    results.add(f"{name}, from disk, in another process", warm, "s", 0.2)
    results.hold("cold / from disk", cpu / warm, 10)


def measure_policies(results: Results, quick: bool) -> None:
    """Measure batches and single policies against full simulations and a Python loop."""
    from hwsim import CostModel, simulate

    bits = (4, 8)
    model = CostModel(NET, ARCH, batch=BATCH, cache=False)
    model.build(bits, bits)
    rng = np.random.default_rng(0)
    many = rng.choice(np.array(bits, np.int8), (20_000 if quick else 200_000, len(model.layers), 2))
    cycles = model.latency_cycles(many)
    batch = time_best(lambda: model.latency_cycles(many), 7) / len(many)
    results.add(
        "cycles of a policy in a batch of int8 arrays", batch * 1e9, "ns", 200, f"{1e-6 / batch:.1f} million a second"
    )
    energy = time_best(lambda: model.energy_pj(many), 7) / len(many)
    results.add("energy of a policy in a batch", energy * 1e9, "ns")
    one, policy = many[0], model.to_policy(many[0])
    results.add("one policy, array", time_loop(lambda: model.latency_cycles(one)) * 1e6, "us", 20)
    results.add("one policy, Policy", time_loop(lambda: model.latency_cycles(policy)) * 1e6, "us", 20)
    single = time_loop(lambda: model.latency_cycles(one))

    report = simulate(NET, ARCH, policy=policy, batch=BATCH)
    if (report.cycles, report.energy_pj) != (int(cycles[0]), model.energy_pj(policy)):
        raise AssertionError(f"the model says {cycles[0]} cycles, the simulation {report.cycles}")
    known = time_best(lambda: simulate(NET, ARCH, policy=policy, batch=BATCH), 3)
    results.add("the same policy simulated, mappings known", known * 1e3, "ms")

    tables = {name: model.table(name).tolist() for name in model.layers}
    rows = one.tolist()

    def loop() -> int:
        return sum(tables[name][w - 1][a - 1] for name, (w, a) in zip(model.layers, rows, strict=True))

    plain = time_loop(loop)
    results.add("a Python loop over 53 tables (no additions, output bits as input)", plain * 1e6, "us")
    results.hold("simulation, mappings known / one policy", known / single, 500)
    results.hold("simulation, mappings known / policy in a batch", known / batch, 20_000)
    results.hold("Python loop / policy in a batch", plain / batch, 10)


def main() -> int:
    """Run the benchmark."""
    args = read_options(__doc__)
    results = Results(title="Speed of look-ups for searches")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HWSIM_CACHE_DIR"] = folder
        measure_tables(results, Path(folder), args.quick)
        measure_policies(results, args.quick)
    return results.finish(args)


if __name__ == "__main__":
    sys.exit(main())
