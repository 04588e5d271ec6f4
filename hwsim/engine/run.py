"""Times a Program on the shell of an accelerator."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
import numpy.typing as npt

from hwsim.core.arch import Arch
from hwsim.core.mapping import Int64
from hwsim.core.program import INITIAL_TOKENS, Program, Timeline
from hwsim.core.stats import STALLS
from hwsim.engine.kernel_shell import COMPUTE, DONE, SPARE, run_shell

_NO_DRAM = tuple(np.zeros(shape, np.int64) for shape in (1, (1, 1), (1, 1), (1, 1, 1, 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Result of timing one Program.

    Parameters
    ----------
    cycles, compute_cycles : int
        Length of the layer; cycles in which the engine computes.
    stall_cycles : tuple of (str, int)
        The other cycles by cause, in the order of `hwsim.core.stats.STALLS`.
    activates, refreshes, dram_read_bits, dram_write_bits : int
        Row activations, refreshes and bits of whole bursts; zero with flat memory.
    """

    cycles: int
    compute_cycles: int
    stall_cycles: tuple[tuple[str, int], ...]
    activates: int = 0
    refreshes: int = 0
    dram_read_bits: int = 0
    dram_write_bits: int = 0


def time_table(table: npt.NDArray[np.void], arch: Arch) -> tuple[Run, Timeline]:
    """Return how long an instruction table takes on the shell of ``arch``, and when each instruction ran.

    Raises
    ------
    RuntimeError
        The Program never ends: a bug of whoever emitted it.
    """
    n = len(table)
    timeline = Timeline(np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64))
    account = np.zeros(SPARE + 1, np.int64)
    memory, (v, chan, bank, queue), refresh_at = _prepare_memory(arch)
    status = run_shell(
        table, memory, np.array(INITIAL_TOKENS, np.int64), v, chan, bank, queue, refresh_at,
        timeline.ready, timeline.start, timeline.end, account,
    )  # fmt: skip
    if status != DONE:
        raise RuntimeError("the program never ends: an instruction waits for a token that nobody gives")
    counts = {}
    if arch.memory.kind == "dram":
        from hwsim.core.dram_parts import find_part
        from hwsim.engine.dram import DramState, read_counts

        found = read_counts(DramState(v, chan, bank, queue))
        burst_bits = find_part(arch.memory.part).burst_bytes * 8
        counts = {
            "activates": found.activates,
            "refreshes": found.refreshes,
            "dram_read_bits": found.reads * burst_bits,
            "dram_write_bits": found.writes * burst_bits,
        }
    stalls = tuple(zip(STALLS, (int(x) for x in account[1:SPARE]), strict=True))
    run = Run(cycles=int(account[SPARE]), compute_cycles=int(account[COMPUTE]), stall_cycles=stalls, **counts)
    return run, timeline


def time_program(program: Program, arch: Arch) -> tuple[Run, Timeline]:
    """Return how long a Program takes on the shell of ``arch``, and when each instruction ran."""
    return time_table(program.table, arch)


def _prepare_memory(arch: Arch) -> tuple[Int64, tuple[Int64, ...], int]:
    memory = arch.memory
    split = int(memory.channels == "per-operand")
    if memory.kind == "flat":
        head = (0, memory.latency_cycles, memory.bits_per_cycle, split, arch.shell.issue_cycles, 1, 1, 1, 1)
        return np.array(head, np.int64), _NO_DRAM, 0
    from hwsim.core.dram_parts import find_part
    from hwsim.engine import kernel_dram
    from hwsim.engine.dram import new_state

    part = find_part(memory.part)
    ratio = clock_ratio(part.tck_ps, arch.clock_hz)
    head = (
        1, 0, memory.bits_per_cycle, split, arch.shell.issue_cycles,
        part.burst_bytes * 8, ratio.numerator, ratio.denominator, part.channels,
    )  # fmt: skip
    return np.array(head, np.int64), tuple(new_state(part)), kernel_dram.REFRESH_CYCLES


@cache
def clock_ratio(tck_ps: int, clock_hz: float) -> Fraction:
    """Return memory clocks per accelerator cycle as a fraction of integers below 10**6, exact where it is one."""
    return (Fraction(10**12, tck_ps) / Fraction(clock_hz)).limit_denominator(10**6)
