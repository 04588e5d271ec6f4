"""Obviously right companions of the DRAM kernels: a logged replay in plain Python, and a judge of the command log.

The judge knows nothing of the scheduler: it reads the log and compares every pair of commands with the part's timings.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable

import numpy as np

from hwsim.core.dram_parts import DramPart
from hwsim.engine import kernel_dram as memory
from hwsim.engine import kernel_dram_channel as k
from hwsim.engine.dram import DramState, new_state

KINDS = {k.READ: "RD", k.WRITE: "WR", k.ACTIVATE: "ACT", k.PRECHARGE: "PRE", k.REFRESH: "REF"}
COLUMNS = ("RD", "WR")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command on a channel; ``tag`` is the burst's for RD and WR, ``bank`` counts within the rank (-1 for REF)."""

    time: int
    kind: str
    channel: int
    rank: int
    bank: int
    row: int = -1
    tag: int = -1


def decode_address(part: DramPart, address: int) -> dict[str, int]:
    """Split a byte address into the fields of the mapping, lowest first, by division."""
    sizes = {
        "ch": part.channels,
        "ra": part.ranks,
        "bg": part.bank_groups,
        "ba": part.banks // part.bank_groups,
        "co": part.row_bytes // part.burst_bytes,
        "ro": part.rows,
    }
    rest = address // part.burst_bytes
    fields = {}
    for at in range(len(part.mapping) - 2, -1, -2):
        name = part.mapping[at : at + 2]
        rest, fields[name] = divmod(rest, sizes[name])
    return fields


def take_step(part: DramPart, state: DramState, channel: int, log: list[Command]) -> int:
    """Take one step of one channel, write its command into the log and return its tag."""
    ch = state.chan[channel]
    time, issues, kind, pick = int(ch[k.NEXT]), ch[k.PICK_TIME] <= ch[k.NEXT], int(ch[k.KIND]), int(ch[k.PICK])
    tag = int(k.step_channel(*state, channel))
    if issues and kind in KINDS:
        rank, bank = (pick, -1) if kind == k.REFRESH else divmod(pick, part.banks)
        row = int(state.bank[channel * part.ranks * part.banks + pick, k.OPEN_ROW]) if kind == k.ACTIVATE else -1
        log.append(Command(time=time, kind=KINDS[kind], channel=channel, rank=rank, bank=bank, row=row, tag=tag))
    return tag


def replay_logged(
    part: DramPart, address: Iterable[int], is_write: Iterable[int], arrival: Iterable[int], until: int = 0
) -> tuple[list[Command], list[int], list[int]]:
    """Replay bursts as `run_trace` does, in plain Python; return the log and, per burst, enqueue and finish clocks.

    When all is served, the refreshes due before ``until`` are taken.
    """
    state = new_state(part)
    bursts = list(zip(address, is_write, arrival, strict=True))
    log: list[Command] = []
    accepted, finish = [0] * len(bursts), [0] * len(bursts)
    i = inject = 0
    while True:
        busy = [
            (int(ch[k.NEXT]), c) for c, ch in enumerate(state.chan) if ch[k.READS] + ch[k.WRITES] + ch[k.IN_BANKS] > 0
        ]
        now, channel = min(busy, default=(k.NEVER, -1))
        if i < len(bursts):
            where, write, arrives = bursts[i]
            at = max(inject, arrives)
            if memory.dram_accepts(state.v, state.chan, where, write) and at <= now:
                target = decode_address(part, where)["ch"]
                while not any(c == target for _, c in busy) and state.chan[target, k.NEXT] < at:
                    take_step(part, state, target, log)
                memory.dram_enqueue(*state, at, where, write, i)
                accepted[i] = at
                inject = at + 1
                i += 1
                continue
        if channel < 0:
            for c in range(part.channels):
                while state.chan[c, k.NEXT] < until:
                    take_step(part, state, c, log)
            return log, accepted, finish
        tag = take_step(part, state, channel, log)
        if tag >= 0:
            latency = part.tCWL if bursts[tag][1] else part.tCL
            finish[tag] = now + latency + part.burst_cycles
        inject = max(inject, now + 1)


def find_violations(
    part: DramPart, log: list[Command], address: list[int], is_write: list[int], accepted: list[int]
) -> list[str]:
    """Return every breach of the part's timing, of the row state, of the refresh rule and of one service per burst."""
    problems = []
    served = sorted(c.tag for c in log if c.kind in COLUMNS)
    if served != list(range(len(address))):
        problems.append(f"served {served}")
    for channel in range(part.channels):
        commands = [c for c in log if c.channel == channel]
        for before, after in itertools.pairwise(commands):
            if after.time <= before.time:
                problems.append(f"two commands in one clock, or out of order: {before} {after}")
        for i, after in enumerate(commands):
            for before in commands[:i]:
                gap = _least_gap(part, before, after)
                if after.time - before.time < gap:
                    problems.append(f"{after.time - before.time} < {gap}: {before} {after}")
        for rank in range(part.ranks):
            problems += _judge_rank(part, [c for c in commands if c.rank == rank], rank, address, is_write, accepted)
    return problems


def _least_gap(part: DramPart, before: Command, after: Command) -> int:
    """The clocks that must lie between two commands of a channel (0: none)."""
    pair = (before.kind, after.kind)
    same_rank = before.rank == after.rank
    same_bank = same_rank and before.bank == after.bank
    per_group = part.banks // part.bank_groups
    same_group = same_rank and before.bank // per_group == after.bank // per_group
    gaps = [0]
    if before.kind in COLUMNS and after.kind in COLUMNS:
        first = part.tCL if before.kind == "RD" else part.tCWL
        second = part.tCL if after.kind == "RD" else part.tCWL
        turn = 0 if same_rank or pair == ("WR", "WR") else part.tRTRS
        gaps.append(first + part.burst_cycles + turn - second)  # the data bus carries one burst at a time
        if same_rank and before.kind == after.kind:
            gaps.append(part.tCCD_L if same_group else part.tCCD_S)
        if same_rank and pair == ("RD", "WR"):
            gaps.append(part.tRTW)
        if same_rank and pair == ("WR", "RD"):
            gaps.append(part.tCWL + part.burst_cycles + (part.tWTR_L if same_group else part.tWTR_S))
    if same_rank and pair == ("ACT", "ACT"):
        gaps.append(part.tRRD_L if same_group else part.tRRD_S)
    if same_bank:
        after_write = part.tCWL + part.burst_cycles + part.tWR
        gaps.append(
            {
                ("ACT", "ACT"): part.tRC,
                ("ACT", "RD"): part.tRCD,
                ("ACT", "WR"): part.tRCD,
                ("ACT", "PRE"): part.tRAS,
                ("RD", "PRE"): part.tRTP,
                ("WR", "PRE"): after_write,
                ("PRE", "ACT"): part.tRP,
            }.get(pair, 0)
        )
    if same_rank and pair == ("PRE", "REF"):
        gaps.append(part.tRP)
    if same_rank and before.kind == "REF":
        gaps.append(part.tRFC)
    return max(gaps)


def _judge_rank(
    part: DramPart, log: list[Command], rank: int, address: list[int], is_write: list[int], accepted: list[int]
) -> list[str]:
    """Row state, tFAW and refresh of one rank of one channel."""
    problems = []
    rows = [-1] * part.banks
    activations: list[int] = []
    refreshes = 0
    for c in log:
        due = (rank + 1) * part.tREFI // part.ranks + refreshes * part.tREFI
        if c.kind in ("ACT", *COLUMNS) and c.time >= due:
            problems.append(f"{c} although a refresh is due since {due}")
        if c.kind == "ACT":
            if rows[c.bank] != -1:
                problems.append(f"{c} but row {rows[c.bank]} is open")
            rows[c.bank] = c.row
            activations.append(c.time)
            if len(activations) > 4 and c.time - activations[-5] < part.tFAW:
                problems.append(f"{c} is the fifth activation since {activations[-5]}")
        elif c.kind == "PRE":
            if rows[c.bank] == -1:
                problems.append(f"{c} but no row is open")
            rows[c.bank] = -1
        elif c.kind == "REF":
            if any(row != -1 for row in rows) or not due <= c.time < due + part.tREFI:
                problems.append(f"{c}: rows {rows}, due {due}")
            refreshes += 1
        else:
            where = decode_address(part, address[c.tag])
            bank = where["bg"] * (part.banks // part.bank_groups) + where["ba"]
            if (c.channel, rank, c.bank, rows[c.bank]) != (where["ch"], where["ra"], bank, where["ro"]):
                problems.append(f"{c} on row {rows[c.bank]} serves {where}")
            if (c.kind == "WR") != bool(is_write[c.tag]) or c.time <= accepted[c.tag]:
                problems.append(f"{c} serves a burst of kind {is_write[c.tag]} accepted at {accepted[c.tag]}")
    return problems


def as_arrays(bursts: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn (address, is_write, arrival) triples into three int64 arrays."""
    table = np.array(bursts, dtype=np.int64).reshape(-1, 3)
    return table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy()
