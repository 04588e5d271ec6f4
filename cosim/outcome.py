"""What a run of an accelerator showed: when each instruction ran, the memory behind it, counters, or why it did not end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from accel_rtl.instruction_word import find_empty
from cosim.compile import LayerJob
from hwsim.core.program import INITIAL_TOKENS, OPCODES, SEMAPHORES
from hwsim.engine.image import Image

Int64 = npt.NDArray[np.int64]
UNITS = ("load", "exec", "store")
EVENTS = ("taken", "start", "finish")
NEVER = -1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """One run.

    Parameters
    ----------
    image : ndarray uint8
        Memory behind it.
    ready, start, end : ndarray int64 [instructions]
        As of `hwsim.core.program.Timeline`, `NEVER` where it did not happen. An empty instruction starts where it ends.
    cycles : int
        In which the program ran.
    host_cycles : int
        All of the run, parameters, queues and register accesses included.
    counters : dict
        By the names of `accel_rtl.blocks.counters.COUNTERS`.
    problem : str
        Why it did not end as it should; empty if it did.
    seconds : float
        CPU time of the run.
    surplus : str
        Events behind the last instruction of a unit; empty if there are none.
    """

    image: Image = field(repr=False)
    ready: Int64 = field(repr=False)
    start: Int64 = field(repr=False)
    end: Int64 = field(repr=False)
    cycles: int
    host_cycles: int
    counters: dict[str, int]
    problem: str = ""
    surplus: str = ""
    seconds: float = 0.0


def collect_outcome(
    job: LayerJob,
    events: Mapping[tuple[str, str], Sequence[int] | Int64],
    *,
    image: Image,
    cycles: int,
    host_cycles: int,
    counters: dict[str, int],
    problem: str = "",
    seconds: float = 0.0,
) -> Outcome:
    """Return an outcome from the cycles of each unit's pulses, by (unit, event), in order."""
    n, queue, empty = len(job.table), job.table["queue"], find_empty(job.table)
    times = {name: np.full(n, NEVER, np.int64) for name in EVENTS}
    surplus = []
    for u, unit in enumerate(UNITS):
        mine = np.flatnonzero(queue == u)
        for name in EVENTS:
            wanted = mine[~empty[mine]] if name == "start" else mine
            seen = np.asarray(events[unit, name], np.int64)
            count = min(len(seen), len(wanted))
            times[name][wanted[:count]] = seen[:count] + (name == "finish")
            if len(seen) > len(wanted):
                surplus.append(f"{unit}: {len(seen)} pulses of {name} for {len(wanted)} instructions")
    times["start"][empty] = times["finish"][empty]
    return Outcome(
        image=image, ready=times["taken"], start=times["start"], end=times["finish"], cycles=cycles,
        host_cycles=host_cycles, counters=counters, problem=problem, surplus="; ".join(surplus),
        seconds=seconds,
    )  # fmt: skip


def describe_units(job: LayerJob, outcome: Outcome) -> str:
    """Return the last state of every unit: how far it came, and what it does or waits for."""
    tokens = list(INITIAL_TOKENS)
    for i, record in enumerate(job.table):
        for s in range(len(SEMAPHORES)):
            tokens[s] -= int(outcome.ready[i] != NEVER and record["wait"] >> s & 1)
            tokens[s] += int(outcome.end[i] != NEVER and record["signal"] >> s & 1)
    return "; ".join(_describe_unit(job, outcome, u, unit, tokens) for u, unit in enumerate(UNITS))


def _describe_unit(job: LayerJob, outcome: Outcome, u: int, unit: str, tokens: list[int]) -> str:
    mine = np.flatnonzero(job.table["queue"] == u)
    done = int((outcome.end[mine] != NEVER).sum())
    text = f"{unit} ended {done} of {len(mine)}"
    if done == len(mine):
        return text
    i = int(mine[done])
    record = job.table[i]
    name = f"{OPCODES[record['op']]} {i}"
    if outcome.start[i] != NEVER:
        return f"{text}, {name} works since cycle {outcome.start[i]}"
    if outcome.ready[i] != NEVER:
        return f"{text}, {name} was taken in cycle {outcome.ready[i]} and has not begun"
    missing = [SEMAPHORES[s] for s in range(len(SEMAPHORES)) if record["wait"] >> s & 1 and tokens[s] <= 0]
    return f"{text}, {name} waits for {' and '.join(missing) or 'its queue'}"
