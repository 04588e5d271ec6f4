"""Runs plans on the compiled model, in this process or in one a core, and draws the waves around a mismatch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from cosim.compare import Mismatch
from cosim.harness.model import Harness, open_harness
from cosim.plan import Ask, LayerResult, Plan, plan_random
from hwsim.core.arch import Arch
from hwsim.core.errors import HwsimError

CHUNK = 25
"""Random layers that a process takes at a time."""
WAVES_CYCLES = (200, 50)
"""Cycles shown before and behind a mismatch."""
Progress = Callable[[str, int, int], None]


def drive(
    plan: Plan, harness: Harness, last: list[Ask] | None = None, progress: Progress | None = None, count: int = 0
) -> tuple[LayerResult, ...]:
    """Run a plan on the compiled model.

    Parameters
    ----------
    plan : Plan
    harness : Harness
    last : list, optional
        Gets the last job.
    progress : callable, optional
        Called before each job with its layer, the jobs done and ``count``.
    """
    outcome: Any = None
    done = 0
    try:
        while True:
            ask = next(plan) if outcome is None else plan.send(outcome)
            if last is not None:
                last[:] = [ask]
            if progress:
                progress(ask.job.name, done, count)
            done += 1
            outcome = harness.run(ask.job, stress=ask.stress, reset=ask.reset)
    except StopIteration as end:
        results: tuple[LayerResult, ...] = end.value
        return results


def run_many(
    arch: Arch,
    count: int,
    seed: int = 0,
    stress: int | None = None,
    processes: int | None = None,
    progress: Progress | None = None,
) -> Iterator[LayerResult]:
    """Yield the comparison of random layers, as they come from one process a core.

    Parameters
    ----------
    arch : Arch
    count, seed : int
        Layers 0 to ``count`` - 1 of ``seed``.
    stress : int, optional
        Seed of random back-pressure.
    processes : int, optional
        One for each core by default.
    progress : callable, optional
        Called with a text, layers done and all.
    """
    open_harness(arch)  # built once, before processes look for it
    chunks = [range(at, min(at + CHUNK, count)) for at in range(0, count, CHUNK)]
    workers = min(processes or len(os.sched_getaffinity(0)), len(chunks))
    done = 0
    if workers <= 1:
        for chunk in chunks:
            yield from run_chunk(arch, seed, chunk, stress)
            done += len(chunk)
            if progress:
                progress("layers", done, count)
        return
    with ProcessPoolExecutor(workers) as pool:
        waiting = [pool.submit(run_chunk, arch, seed, chunk, stress) for chunk in chunks]
        for future in as_completed(waiting):
            results = future.result()
            done += len(results)
            if progress:
                progress("layers", done, count)
            yield from results


def run_chunk(arch: Arch, seed: int, numbers: range, stress: int | None) -> tuple[LayerResult, ...]:
    """Return the comparison of some random layers."""
    return drive(plan_random(arch, seed, numbers, stress), open_harness(arch))


def write_waves(arch: Arch, ask: Ask, mismatch: Mismatch, path: Path) -> str:
    """Run a job again from reset on a model with waves; write those around the mismatch as VCD; return what it shows.

    Raises
    ------
    HwsimError
        The file cannot be written.
    """
    at = max(mismatch.cycle, 0)
    window = (max(0, at - WAVES_CYCLES[0]), at + WAVES_CYCLES[1])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    except OSError as error:
        raise HwsimError(f"cannot write {path}: {error.strerror}") from None
    Harness(arch, waves=True).run(ask.job, stress=ask.stress, reset=True, vcd=path, window=window)
    return f"{path}: cycles {window[0]} to {window[1]}"
