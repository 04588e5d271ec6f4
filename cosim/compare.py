"""A run of the hardware against the simulator: every output bit, every instruction's cycles, the account."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accel_rtl.blocks.counters import COUNTERS
from cosim.compile import LayerJob
from cosim.outcome import NEVER, UNITS, Outcome, describe_units
from hwsim.core.program import OPCODES

WAITS = ("weights", "inputs", "output_buffer", "memory")
"""Counters that a refresh of the DRAM is a part of: only the simulator can tell it apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """Where hardware and simulator differ.

    Parameters
    ----------
    kind : str
        ``problem`` (it did not end, or broke the protocol), ``cycles``, ``counter`` or ``bits``.
    text : str
        One line: what, where, expected and found.
    cycle : int
        Of the program; `NEVER` where it has none.
    """

    kind: str
    text: str
    cycle: int = NEVER


def compare_run(job: LayerJob, outcome: Outcome, exact_cycles: bool = True) -> tuple[Mismatch, ...]:
    """Return the first difference of each kind, the most telling kind first; empty if all is equal.

    Parameters
    ----------
    job : LayerJob
    outcome : Outcome
    exact_cycles : bool
        Whether cycles and counters must be the simulator's (not under random back-pressure).
    """
    found: list[Mismatch] = []
    if outcome.problem:
        last = max(
            (int(times.max(initial=NEVER)) for times in (outcome.ready, outcome.start, outcome.end)), default=NEVER
        )
        found.append(Mismatch(kind="problem", text=f"{outcome.problem}: {describe_units(job, outcome)}", cycle=last))
    if exact_cycles or outcome.problem:
        found += _compare_cycles(job, outcome, ended=not outcome.problem)
    if outcome.surplus:
        found.append(Mismatch(kind="cycles", text=outcome.surplus))
    if not outcome.problem:
        if exact_cycles and not any(one.kind == "cycles" for one in found):
            found += _compare_counters(job, outcome)
        found += _compare_bits(job, outcome)
    return tuple(found)


def _compare_cycles(job: LayerJob, outcome: Outcome, ended: bool) -> list[Mismatch]:
    wanted = {"is ready": job.timeline.ready, "starts": job.timeline.start, "ends": job.timeline.end}
    seen = {"is ready": outcome.ready, "starts": outcome.start, "ends": outcome.end}
    first: tuple[int, int, str] | None = None
    for what, times in seen.items():
        differs = times != wanted[what]
        if not ended:  # what has not come yet is no difference before the cycle in which all stood still
            differs &= times != NEVER
        for i in np.flatnonzero(differs).tolist():
            moment = int(wanted[what][i]) if times[i] == NEVER else min(int(times[i]), int(wanted[what][i]))
            if first is None or (moment, i) < first[:2]:
                first = (moment, i, what)
    if first is not None:
        moment, i, what = first
        record, found = job.table[i], int(seen[what][i])
        text = (
            f"instruction {i}, {OPCODES[record['op']]} on {UNITS[record['queue']]}, {what} in cycle "
            f"{'never' if found == NEVER else found}, the simulator says {int(wanted[what][i])}"
        )
        return [Mismatch(kind="cycles", text=text, cycle=moment)]
    length = expected_length(job)
    if ended and outcome.cycles != length:
        text = f"the layer takes {outcome.cycles} cycles, the simulator says {length}"
        return [Mismatch(kind="cycles", text=text, cycle=min(outcome.cycles, length))]
    return []


def expected_length(job: LayerJob) -> int:
    """Return the cycles up to the end of the last instruction.

    A layer is longer where a DRAM still writes what it has accepted: an accelerator cannot see that.
    """
    return int(job.timeline.end.max())


def expected_counters(job: LayerJob) -> dict[str, int]:
    """Return what the counters must show; ``refresh`` is in none of them."""
    stalls = dict(job.run.stall_cycles)
    stalls["memory"] -= job.run.cycles - expected_length(job)
    found = {name: stalls.get(name, 0) for name in COUNTERS}
    return found | {"compute": job.run.compute_cycles, "total": expected_length(job), "fetch": 0}


def _compare_counters(job: LayerJob, outcome: Outcome) -> list[Mismatch]:
    wanted, seen = expected_counters(job), dict(outcome.counters)
    refresh = dict(job.run.stall_cycles).get("refresh", 0)
    if refresh:
        for counts, extra in ((wanted, refresh), (seen, 0)):
            counts["waits"] = sum(counts.pop(name, 0) for name in WAITS) + extra
    return [
        Mismatch(kind="counter", text=f"counter {name} is {seen.get(name)}, the simulator says {value}")
        for name, value in wanted.items()
        if seen.get(name) != value
    ][:1]


def _compare_bits(job: LayerJob, outcome: Outcome) -> list[Mismatch]:
    if np.array_equal(outcome.image[: job.compared_bytes], job.wanted[: job.compared_bytes]):
        return []
    wanted, seen = job.output.read(job.wanted), job.output.read(outcome.image)
    wrong = np.argwhere(wanted != seen)
    if len(wrong):
        at = tuple(int(x) for x in wrong[0])
        text = (
            f"{len(wrong)} of {wanted.size} output elements differ, first [n, channel, row, column] = {list(at)}: "
            f"{int(seen[at])}, expected {int(wanted[at])}"
        )
        return [Mismatch(kind="bits", text=text)]
    byte = int(np.flatnonzero(outcome.image[: job.compared_bytes] != job.wanted[: job.compared_bytes])[0])
    found, right = int(outcome.image[byte]), int(job.wanted[byte])
    return [Mismatch(kind="bits", text=f"byte {byte}, no output element, is 0x{found:02x}, expected 0x{right:02x}")]
