"""Start of the command line: the first run on a machine, compilation included, later runs, ``--help``, peak memory.

Each is a process of its own. "First" means empty folders for compiled kernels and for mappings. Seconds are CPU seconds (user
and system) of the child; wall seconds are printed beside them.

Usage: ``python -m benchmarks.bench_start [--quick] [--json FILE]``
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import ROOT, Results, read_options


@dataclass(frozen=True, slots=True)
class Child:
    """Resources of a child process."""

    cpu_s: float
    wall_s: float
    peak_mb: float


def run_child(command: list[str], cache: Path) -> Child:
    """Run a command with its caches in ``cache`` and return what it used."""
    env = {
        **os.environ, "XDG_CACHE_HOME": str(cache), "HWSIM_CACHE_DIR": str(cache), "NUMBA_CACHE_DIR": str(cache / "numba"),
        "MPLCONFIGDIR": str(cache),
    }  # fmt: skip
    start = time.perf_counter()
    child = subprocess.Popen(command, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return Child(used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1024)


def best_child(command: list[str], cache: Path, repeats: int) -> Child:
    """Run a command several times; return the run of the least CPU time."""
    return min((run_child(command, cache) for _ in range(repeats)), key=lambda child: child.cpu_s)


def main() -> int:
    """Run the benchmark."""
    args = read_options(__doc__)
    results = Results(title="Start of the command line")
    hwsim = [sys.executable, "-m", "hwsim.cli"]
    repeats = 3 if args.quick else 5
    jobs = [("systolic", ["run", "--arch", "systolic", "--net", "resnet18"])]
    if (ROOT / "hwsim" / "archs" / "smartdeal").exists() and not args.quick:
        jobs.append(("smartdeal", ["run", "--arch", "smartdeal", "--net", "resnet18"]))
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        bare = best_child([sys.executable, "-c", "pass"], cache, repeats)
        usage = best_child([*hwsim, "--help"], cache, repeats)
        results.add("bare interpreter", bare.cpu_s, "s", note=f"wall {bare.wall_s:.2f} s")
        results.add("hwsim --help", usage.cpu_s, "s", 0.3, f"wall {usage.wall_s:.2f} s")
        for name, job in jobs:
            first = run_child([*hwsim, *job], cache / name)
            later = best_child([*hwsim, *job], cache / name, repeats if name == "systolic" else 1)
            label = f"hwsim run, resnet18 on {name}"
            limit = 2.5 if name == "systolic" else None
            results.add(f"{label}, first on a machine", first.cpu_s, "s", 40, f"wall {first.wall_s:.2f} s")
            results.add(f"{label}, later", later.cpu_s, "s", limit, f"wall {later.wall_s:.2f} s")
            peak = max(first.peak_mb, later.peak_mb)
            results.add(f"{label}, peak memory", peak, "MiB", 600)
            if peak >= 600:
                results.broken.append(f"{label}: peak memory {peak:.0f} MiB, must be < 600")
            if name == "systolic":
                results.hold("first / later: kernels and mappings are kept", first.cpu_s / later.cpu_s, 3)
                results.hold("later / help: heavy imports are late", later.cpu_s / usage.cpu_s, 3)
        results.hold("help / bare interpreter", usage.cpu_s / bare.cpu_s, 0, 15)
    return results.finish(args)


if __name__ == "__main__":
    sys.exit(main())
