"""Speed of the architectures: ResNet-18 with mapping search on each, and BitFusion's layers beside its own equations' search.

The equations of BitFusion's simulator try every tiling and loop order. They run here in plain Python, as that simulator does
(kernels of `hwsim.published.bitfusion` without compilation, in a process of their own), on the layers of its ResNet-18 at one
machine; beside them, in the same run, mapping search and cycle engine of `bitfusion` on the same layers.

Usage: ``python -m benchmarks.bench_architectures [--quick] [--json FILE]``
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import ROOT, Results, read_options, time_best

NETWORK, MACHINE = "RESNET-18", "16x32@192"
EQUATIONS = f"""
import time
from hwsim.published.bitfusion import count_layer
from hwsim.published.bitfusion_networks import MACHINES, NETWORKS
layers = list(NETWORKS[{NETWORK!r}].values())
start = time.process_time()
for shape in layers:
    count_layer(shape, MACHINES[{MACHINE!r}])
print(time.process_time() - start)
"""


def time_equations() -> float:
    """Return CPU seconds of the equations' search over all layers, in plain Python."""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", EQUATIONS], env=environment, capture_output=True, text=True, check=True, cwd=ROOT
    )
    return float(done.stdout)


def measure_bitfusion(results: Results) -> None:
    """Measure our search and simulation of the same layers against the equations' search."""
    from hwsim.archs.registry import find_arch
    from hwsim.core.datapath import Workload
    from hwsim.core.policy import LayerFormat
    from hwsim.pipeline.layer import run_layer
    from hwsim.published.bitfusion import OUT_BITS
    from hwsim.published.bitfusion_networks import NETWORKS
    from hwsim.published.systems.bitfusion import make_layer
    from mappers.search import find_mapping

    arch = find_arch("bitfusion:E")
    shapes = list(NETWORKS[NETWORK].values())

    def simulate_all() -> None:
        for shape in dict.fromkeys(shapes):  # as `simulate` does: layers of one shape once
            layer = make_layer(shape)
            fmt = LayerFormat(w_bits=shape.w_bits, a_bits=shape.a_bits)
            load = Workload(
                layer=layer, fmt=fmt, out_bits=OUT_BITS, operand_bits=(shape.a_bits,), operand_shapes=(layer.in_shape,)
            )
            datapath = arch.bind(load)
            run_layer(datapath, arch, find_mapping(datapath, arch))

    simulate_all()
    ours = results.add(f"bitfusion:E, {len(shapes)} layers, search and cycles", time_best(simulate_all, 5), "s")
    theirs = results.add(f"the equations' search, {len(shapes)} layers, plain Python", time_equations(), "s")
    results.hold("the equations' search / ours", theirs / ours, 20)


def measure_networks(results: Results) -> None:
    """Measure ResNet-18 with mapping search on every architecture: CPU time of all threads of this process.

    Kernels are compiled by a run before; no mapping is known, and where time depends on data, weights and input are drawn, encoded
    and run anew.
    """
    from hwsim import simulate
    from hwsim.archs.registry import list_archs
    from mappers.cache import open_cache

    known = os.environ.get("HWSIM_CACHE_DIR")
    os.environ["HWSIM_CACHE_DIR"] = ""  # mappings are kept in memory alone, and forgotten below
    try:
        for entry in list_archs():
            simulate("resnet18", entry.name)  # compiles, or loads what was compiled
            open_cache.cache_clear()
            taken = time_best(partial(simulate, "resnet18", entry.name), 1)
            results.add(f"resnet18 on {entry.name} {entry.default}", taken, "s", 2)
    finally:
        os.environ.pop("HWSIM_CACHE_DIR")
        if known is not None:
            os.environ["HWSIM_CACHE_DIR"] = known
        open_cache.cache_clear()


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark."""
    args = read_options(__doc__, argv)
    results = Results(title="architectures")
    measure_bitfusion(results)
    if not args.quick:
        measure_networks(results)
    return results.finish(args)


if __name__ == "__main__":
    sys.exit(main())
