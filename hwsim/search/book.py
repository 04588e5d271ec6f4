"""Prices of layers at formats: from memory, from disk, or by simulation, in several processes where there are many.

A price is that of `hwsim.pipeline.simulate`, by the same function. Layers of equal shape share their prices.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from hwsim.core.datapath import Workload
from hwsim.core.errors import HwsimError
from hwsim.core.jsonio import to_json
from hwsim.pipeline.prices import Prices
from hwsim.pipeline.simulate import Progress, price_workload
from hwsim.search.store import Entry, Store
from hwsim.search.structure import Formats
from hwsim.search.version import hash_price

Job = tuple[int, Formats]
"""A shape's number, and formats."""
FEWEST_FORKED = 48
"""Prices below which a single process is as fast: starting others takes about as long as this many."""
BATCH = 256
"""Prices of one transaction."""


class Book:
    """Prices of the layers of a network on one accelerator.

    Parameters
    ----------
    prices : Prices
        Of the accelerator.
    objective : str
        What the mapper minimizes.
    store : Store
        Where prices are kept.
    workers : int or None
        Processes; by default as many as the process may use processors.
    """

    def __init__(self, prices: Prices, objective: str, store: Store, workers: int | None = None) -> None:
        self.prices, self.objective, self.store, self.workers = prices, objective, store, workers
        self._digest = hash_price(prices.arch, prices, objective)
        self._shapes: list[Workload] = []
        self._numbers: dict[Workload, int] = {}
        self._keys: list[bytes] = []
        self._known: list[dict[Formats, Entry]] = []
        self._refused: set[Job] = set()

    def number(self, load: Workload) -> int:
        """Return the number of a workload's shape: workloads of one shape differ in bits and name alone."""
        fmt = replace(load.fmt, w_bits=1, a_bits=1, channel_bits=())
        if load.fmt.channel_bits:
            fmt = load.fmt
        shape = replace(
            load, layer=load.layer.shape_key(), fmt=fmt, out_bits=1, operand_bits=tuple(1 for _ in load.operand_bits)
        )
        if shape not in self._numbers:
            self._numbers[shape] = len(self._shapes)
            self._shapes.append(shape)
            self._keys.append(_hash_key(self._digest, to_json(shape)))
            self._known.append(self.store.read(self._keys[-1]))
        return self._numbers[shape]

    def find(self, job: Job) -> Entry | None:
        """Return a price that is known, None where it has to be computed or cannot be."""
        return self._known[job[0]].get(job[1])

    def build(self, jobs: Sequence[Job], progress: Progress | None = None) -> None:
        """Compute the prices that are not known yet; those that the accelerator refuses stay unknown."""
        todo = [job for job in dict.fromkeys(jobs) if self.find(job) is None and job not in self._refused]
        fresh: list[tuple[bytes, Formats, Entry]] = []
        try:
            for done, (job, entry) in enumerate(self._compute(todo)):
                if progress is not None:
                    progress("prices of layers", done, len(todo))
                if entry is None:
                    self._refused.add(job)
                    continue
                self._known[job[0]][job[1]] = entry
                fresh.append((self._keys[job[0]], job[1], entry))
                if len(fresh) == BATCH:
                    self.store.write(fresh)
                    fresh = []
        finally:
            if fresh:
                self.store.write(fresh)

    def find_some(self, jobs: Sequence[Job], progress: Progress | None = None) -> list[Entry | None]:
        """Return prices, computed where they are not known; None for what the accelerator refuses."""
        self.build(jobs, progress)
        return [self.find(job) for job in jobs]

    def find_all(self, jobs: Sequence[Job], loads: Sequence[Workload]) -> list[Entry]:
        """Return the same of all: what the accelerator refuses first of ``loads``, one a job, is raised in its words."""
        return [entry or self.explain(load) for entry, load in zip(self.find_some(jobs), loads, strict=True)]

    def explain(self, load: Workload) -> Entry:
        """Raise the error with which the accelerator refuses a workload, named as it is in the network."""
        return price(load, self.prices, self.objective)

    def _load(self, job: Job) -> Workload:
        shape, formats = self._shapes[job[0]], job[1]
        return at_formats(shape, formats)

    def _price(self, job: Job) -> Entry | None:
        try:
            return price(self._load(job), self.prices, self.objective)
        except HwsimError:
            return None

    def _compute(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Entry | None]]:
        """Yield prices as they come; the first one here, so that other processes find the kernels compiled."""
        many = min(self.workers or count_processors(), len(jobs) // (FEWEST_FORKED // 2))
        alone = jobs[:1] if many > 1 and may_fork() else jobs
        for job in alone:
            yield job, self._price(job)
        if len(alone) < len(jobs):
            yield from _fan_out(self._price, jobs[1:], many)


def price(load: Workload, prices: Prices, objective: str) -> Entry:
    """Return the price of one layer, simulated under the best mapping."""
    from mappers.search import find_mapping

    cost = price_workload(load, None, prices, objective, find_mapping)[0]
    return Entry(cost.cycles, cost.energy_pj, cost.weight_bits)


def at_formats(load: Workload, formats: Formats) -> Workload:
    """Return a workload at other formats."""
    fmt = replace(load.fmt, w_bits=formats[0], a_bits=formats[1]) if load.layer.kind == "mac" else load.fmt
    return replace(load, fmt=fmt, operand_bits=formats[2:-1], out_bits=formats[-1])


def read_formats(load: Workload) -> Formats:
    """Return the formats of a workload."""
    own = (load.fmt.w_bits, load.fmt.a_bits) if load.layer.kind == "mac" else (0, 0)
    return (*own, *load.operand_bits, load.out_bits)


def count_processors() -> int:
    """Return how many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def may_fork() -> bool:
    """Return whether forking is safe: a system that has it, a process of one thread that may have children."""
    return (
        "fork" in multiprocessing.get_all_start_methods()
        and threading.active_count() == 1
        and not multiprocessing.current_process().daemon
    )


_WORK: Callable[[Job], Entry | None] | None = None
"""What a forked process does: it inherits the accelerator as it stands, so nothing has to be sent."""


def _do(job: Job) -> tuple[Job, Entry | None]:
    assert _WORK is not None
    return job, _WORK(job)


def _leave_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its children


def _fan_out(work: Callable[[Job], Entry | None], jobs: Sequence[Job], many: int) -> Iterator[tuple[Job, Entry | None]]:
    global _WORK
    _WORK = work
    try:
        with multiprocessing.get_context("fork").Pool(many, _leave_interrupts) as pool:
            yield from pool.imap_unordered(_do, jobs, chunksize=8)
    finally:
        _WORK = None


def _hash_key(digest: str, shape: str) -> bytes:
    from hashlib import blake2b

    return blake2b(f"{digest}\0{shape}".encode(), digest_size=20).digest()
