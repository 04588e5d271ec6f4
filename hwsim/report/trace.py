"""A simulation as a Chrome trace that opens in ui.perfetto.dev: one track per unit and per buffer bank.

One cycle is drawn as one microsecond. Tracks: ``layers``; ``load``, ``load_w`` (with a port per operand), ``exec``, ``store``;
``exec waits`` (why the engine stands still); ``wbuf[0]`` to ``obuf[1]`` (from the moment a bank is taken until it is
free again). Slices of one track never overlap. The engine's waits of one cause add up to the report's stall of that name, but
for refreshes, which the report takes out of the waits in which they happen.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from hwsim.core.program import (
    EXEC,
    EXECUTE,
    I_FREE,
    INITIAL_TOKENS,
    LOAD_SECOND,
    O_FREE,
    OPCODES,
    QUEUES,
    SEMAPHORES,
    W_FREE,
    LayerTrace,
)
from hwsim.core.report import Report
from hwsim.report.files import open_atomically

LIMIT_BYTES = 50_000_000
"""Largest trace, uncompressed: about what a browser opens at ease."""
CAUSES = {0: "weights", 2: "inputs", 5: "output_buffer"}
"""Why the engine waits, by the semaphore whose token comes last (the cycle engine's own rule); all others: ``memory``."""
TRACKS = ("layers", *QUEUES, "exec waits", "wbuf[0]", "wbuf[1]", "ibuf[0]", "ibuf[1]", "obuf[0]", "obuf[1]")
"""Tracks in the order in which they are shown; the position is the thread id."""
_BANKS = {W_FREE: ("wbuf", 0), I_FREE: ("ibuf", 1), O_FREE: ("obuf", 2)}


@dataclass(frozen=True, slots=True)
class Slice:
    """A box on a track: first cycle and length from the start of the layer."""

    track: str
    name: str
    start: int
    cycles: int
    args: dict[str, int] = field(default_factory=dict)


class _Columns:
    """A Program and its timeline as lists: far quicker to walk than records."""

    def __init__(self, trace: LayerTrace) -> None:
        table, line = trace.program.table, trace.timeline
        self.queue: list[int] = table["queue"].tolist()
        self.op: list[int] = table["op"].tolist()
        self.bank: list[int] = table["bank"].tolist()
        self.wait: list[int] = table["wait"].tolist()
        self.signal: list[int] = table["signal"].tolist()
        self.tile: list[int] = table["tile"].tolist()
        self.fill: list[int] = table["fill"].tolist()
        self.tail: list[int] = table["tail"].tolist()
        self.bits: list[int] = table["bits"].tolist()
        self.ready: list[int] = line.ready.tolist()
        self.start: list[int] = line.start.tolist()
        self.end: list[int] = line.end.tolist()


def list_slices(trace: LayerTrace) -> Iterator[Slice]:
    """Yield the slices of one layer, cycles from its start; the slice of the layer itself is left out."""
    run = _Columns(trace)
    for i in range(len(run.op)):
        if run.end[i] > run.start[i]:
            yield Slice(QUEUES[run.queue[i]], _name(run, i), run.start[i], run.end[i] - run.start[i], _describe(run, i))
    yield from _list_waits(run, trace.cycles)
    for semaphore in _BANKS:
        yield from _list_banks(run, semaphore, trace.cycles)


def _list_waits(run: _Columns, cycles: int) -> Iterator[Slice]:
    """Yield why the engine stands still: tokens that come late, issue, drain, and memory behind the last result.

    The k-th taker of a semaphore takes its k-th token; each semaphore is given by one unit, in order.
    """
    givers: list[list[int]] = [[] for _ in SEMAPHORES]
    for i, mask in enumerate(run.signal):
        for s in _BITS[mask]:
            givers[s].append(run.end[i])
    taken = [0] * len(SEMAPHORES)
    free, result = 0, 0
    for i, mask in enumerate(run.wait):
        latest, cause = free, "memory"
        for s in _BITS[mask]:
            place = taken[s] - INITIAL_TOKENS[s]
            taken[s] += 1
            if run.queue[i] == EXEC and place >= 0 and givers[s][place] > latest:
                latest, cause = givers[s][place], CAUSES.get(s, "memory")
        if run.queue[i] != EXEC:
            continue
        if run.ready[i] > free:
            yield Slice("exec waits", cause, free, run.ready[i] - free)
        if run.start[i] > run.ready[i]:
            yield Slice("exec waits", "issue", run.ready[i], run.start[i] - run.ready[i])
        free = run.end[i]
        result = max(result + 1, free + run.tail[i])
    if result > free:
        yield Slice("exec waits", "drain", free, result - free)
    if cycles > result:
        yield Slice("exec waits", "memory", result, cycles - result)


_BITS = {mask: [bit for bit in range(len(SEMAPHORES)) if mask >> bit & 1] for mask in range(1 << len(SEMAPHORES))}


def _list_banks(run: _Columns, semaphore: int, cycles: int) -> Iterator[Slice]:
    """Yield from when to when each bank of a buffer is taken: the k-th taker of a free bank holds it until the k-th release."""
    buffer, shift = _BANKS[semaphore]
    takers = [i for i, mask in enumerate(run.wait) if mask >> semaphore & 1]
    releases = [run.end[i] for i, mask in enumerate(run.signal) if mask >> semaphore & 1]
    for k, i in enumerate(takers):
        bank = run.bank[i] >> (shift if run.op[i] == EXECUTE else 0) & 1
        until = releases[k] if k < len(releases) else cycles
        if until > run.start[i]:
            yield Slice(f"{buffer}[{bank}]", f"{buffer} tile {k}", run.start[i], until - run.start[i])


def _name(run: _Columns, i: int) -> str:
    name = OPCODES[run.op[i]]
    return f"{name} {run.tile[i]}" if run.op[i] == EXECUTE else name


def _describe(run: _Columns, i: int) -> dict[str, int]:
    if run.op[i] == EXECUTE:
        return {"instruction": i, "fill": run.fill[i], "tail": run.tail[i]}
    return {"instruction": i, "bits": run.bits[i]}


_TIDS = {track: tid for tid, track in enumerate(TRACKS)}


class _Writer:
    """Streams events into a JSON array and counts the bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.size, self.first = file, 0, True

    def write(self, text: str) -> None:
        data = text.encode()
        self.file.write(data)
        self.size += len(data)

    def event(self, **fields: Any) -> None:
        self.write(("\n" if self.first else ",\n") + json.dumps(fields, separators=(",", ":")))
        self.first = False

    def slice(self, item: Slice, origin: int) -> None:
        # By hand: json.dumps of a small dictionary takes five times as long, and a trace has 100,000s of these.
        args = ",".join(f'"{name}":{value}' for name, value in item.args.items())
        self.write(
            f',\n{{"name":"{item.name}","ph":"X","ts":{origin + item.start},"dur":{item.cycles},"pid":1,'
            f'"tid":{_TIDS[item.track]}' + (f',"args":{{{args}}}}}' if args else "}")
        )


def write_trace(
    report: Report, traces: tuple[LayerTrace, ...], path: str | Path, limit_bytes: int = LIMIT_BYTES
) -> list[str]:
    """Write a Chrome trace; the file appears whole or not at all.

    Parameters
    ----------
    report : Report
        The simulation.
    traces : tuple of LayerTrace
        Its layers' runs; layers without one are shown on the layer track alone.
    path : str or Path
        Target; compressed when its name ends in ``.gz``.
    limit_bytes : int
        Size beyond which later layers keep only their slice on the layer track.

    Returns
    -------
    list of str
        What a reader should know: layers that were cut. It stands in the file's metadata as well.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    with open_atomically(path) as staging:
        if str(path).endswith(".gz"):
            with gzip.open(staging, "wb", compresslevel=5) as packed:
                return _write_events(report, traces, packed, limit_bytes)  # type: ignore[arg-type]
        with open(staging, "wb") as plain:
            return _write_events(report, traces, plain, limit_bytes)


def _write_events(report: Report, traces: tuple[LayerTrace, ...], file: IO[bytes], limit_bytes: int) -> list[str]:
    out = _Writer(file)
    by_name = {trace.name: trace for trace in traces}
    out.write('{"displayTimeUnit":"ms","traceEvents":[')
    _write_track_names(out, report, traces)
    origin = 0
    cut: list[str] = []
    for cost in report.layers:
        if not cost.cycles:
            continue
        args = {"op": cost.op, "cycles": cost.cycles, "macs": cost.stats.macs, "bound": cost.stats.bound}
        out.event(name=cost.name, ph="X", ts=origin, dur=cost.cycles, pid=1, tid=0, args=args)
        trace = by_name.get(cost.name)
        if trace is not None and not cut and out.size + _estimate_bytes(trace) <= limit_bytes:
            for item in list_slices(trace):
                out.slice(item, origin)
        elif trace is not None:
            cut.append(cost.name)
        origin += cost.cycles
    notes = []
    if cut:
        notes.append(
            f"cut at {limit_bytes / 1e6:.0f} MB: from layer {cut[0]} on ({len(cut)} layers) only the layer track is drawn"
        )
    out.write('\n],\n"otherData":' + json.dumps(_describe_run(report, notes)) + "}\n")
    return notes


def _estimate_bytes(trace: LayerTrace) -> int:
    # At most a slice of its own, two waits or a bank, 130 bytes each.
    return len(trace.program) * 390


def _write_track_names(out: _Writer, report: Report, traces: tuple[LayerTrace, ...]) -> None:
    origin = report.provenance
    label = f"{origin.arch} {origin.preset}: {origin.network} {origin.policy} (1 us = 1 cycle)"
    out.event(name="process_name", ph="M", pid=1, args={"name": label})
    second = any((trace.program.table["queue"] == LOAD_SECOND).any() for trace in traces)
    for tid, track in enumerate(TRACKS):
        if second or track != QUEUES[LOAD_SECOND]:
            out.event(name="thread_name", ph="M", pid=1, tid=tid, args={"name": track})
            out.event(name="thread_sort_index", ph="M", pid=1, tid=tid, args={"sort_index": tid})


def _describe_run(report: Report, notes: list[str]) -> dict[str, Any]:
    origin = report.provenance
    return {
        "tool": f"hwsim {origin.version}",
        "arch": origin.arch,
        "preset": origin.preset,
        "network": origin.network,
        "policy": origin.policy,
        "memory": origin.memory,
        "time_unit": "1 us drawn = 1 cycle",
        "clock_hz": report.clock_hz,
        "cycles": report.cycles,
        "notes": notes,
    }
