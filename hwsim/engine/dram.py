"""State of the DRAM kernels, and a whole trace in one call."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from hwsim.core.dram_parts import DramPart, timing_vector
from hwsim.core.errors import SpecError
from hwsim.engine import kernel_dram_channel as k
from hwsim.engine.kernel_dram import run_trace


class DramState(NamedTuple):
    """The arrays that every DRAM kernel takes first, in this order; all int64 and contiguous.

    ``v`` [parameters], ``chan`` [channels, fields], ``bank`` [channels * ranks * banks, fields],
    ``queue`` [channels, 2, places, fields]. Pass as ``*state``; the kernels change all but ``v``.
    """

    v: np.ndarray
    chan: np.ndarray
    bank: np.ndarray
    queue: np.ndarray


def new_state(part: DramPart) -> DramState:
    """Return the state of an idle memory at clock 0: all rows closed, the first refreshes due after tREFI / ranks."""
    controller = part.controller
    groups = part.ranks * part.bank_groups
    chan = np.zeros((part.channels, k.GROUP_AT + groups * k.GROUP_FIELDS), dtype=np.int64)
    chan[:, k.MOVE_TIME] = k.NEVER
    for rank in range(part.ranks):
        at = k.RANK_AT + rank * k.RANK_FIELDS
        chan[:, at + k.DUE] = (rank + 1) * part.tREFI // part.ranks
        chan[:, at + k.FAW_AT : at + k.FAW_AT + 4] = -part.tFAW
    chan[:, k.NEXT] = chan[:, k.PICK_TIME] = part.tREFI // part.ranks
    chan[:, k.KIND] = k.REFRESH_DUE
    bank = np.zeros(
        (part.channels * part.ranks * part.banks, k.ENTRY_AT + controller.bank_queue * k.ENTRY_FIELDS), dtype=np.int64
    )
    bank[:, [k.OPEN_ROW, k.READ_I, k.WRITE_I]] = -1
    number = np.arange(bank.shape[0]) % (part.ranks * part.banks)
    bank[:, k.OF_RANK] = k.RANK_AT + number // part.banks * k.RANK_FIELDS
    bank[:, k.OF_GROUP] = k.GROUP_AT + number // (part.banks // part.bank_groups) * k.GROUP_FIELDS
    places = max(controller.read_queue, controller.write_queue) + 1  # one spare: removal shifts the rest down
    queue = np.zeros((part.channels, 2, places, k.Q_FIELDS), dtype=np.int64)
    return DramState(v=timing_vector(part), chan=chan, bank=bank, queue=queue)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DramCounts:
    """Commands since `new_state`, summed over channels.

    ``refresh_cycles`` sums, over all refreshes, the clocks from the due time to the end of tRFC. A refresh is one per
    rank, of all its banks.
    """

    activates: int
    precharges: int
    refreshes: int
    reads: int
    writes: int
    refresh_cycles: int

    def __add__(self, other: DramCounts) -> DramCounts:
        return DramCounts(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in dataclasses.fields(DramCounts)}
        )


def read_counts(state: DramState) -> DramCounts:
    """Return the counts of ``state``; call the kernel `dram_settle` first if idle refreshes are to be in it."""
    sums = [int(x) for x in state.chan[:, k.N_ACTIVATE : k.REFRESH_CYCLES + 1].sum(axis=0)]
    names = [f.name for f in dataclasses.fields(DramCounts)]
    return DramCounts(**dict(zip(names, sums, strict=True)))


class TraceTimes(NamedTuple):
    """``accepted`` and ``finish`` int64 [n] in memory clocks, and the command counts."""

    accepted: np.ndarray
    finish: np.ndarray
    counts: DramCounts


def replay_trace(
    part: DramPart, address: np.ndarray, is_write: np.ndarray, arrival: np.ndarray | None = None
) -> TraceTimes:
    """Replay bursts in their order through an idle memory.

    Parameters
    ----------
    address : int64 [n], bytes, not negative
    is_write : bool or int [n]
    arrival : int64 [n], memory clocks, not negative, optional (0)

    Raises
    ------
    SpecError
        Lengths differ, or a negative address or arrival.
    """
    address = np.ascontiguousarray(address, dtype=np.int64)
    n = address.shape[0]
    arrival = np.zeros(n, np.int64) if arrival is None else np.ascontiguousarray(arrival, dtype=np.int64)
    writes = np.ascontiguousarray(is_write).astype(np.int64)
    for name, array in (("arrival", arrival), ("is_write", writes)):
        if array.shape != (n,):
            raise SpecError(f"dram.trace.{name}", array.shape, f"shape ({n},) like address")
    for name, array in (("address", address), ("arrival", arrival)):
        if n and array.min() < 0:
            raise SpecError(f"dram.trace.{name}", int(array.min()), "no negative entry")
    state = new_state(part)
    accepted, finish = np.zeros(n, np.int64), np.zeros(n, np.int64)
    run_trace(*state, arrival, address, writes, accepted, finish)
    return TraceTimes(accepted=accepted, finish=finish, counts=read_counts(state))
