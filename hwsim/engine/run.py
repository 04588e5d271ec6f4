"""Times a Program on the shell of an accelerator."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
import numpy.typing as npt

from hwsim.core.arch import Arch
from hwsim.core.mapping import Int64
from hwsim.core.program import INITIAL_TOKENS, WRITE_LATENCY_CYCLES, Program, Timeline
from hwsim.core.stats import STALLS
from hwsim.engine.kernel_shell import COMPUTE, DONE, SPARE, run_shell

REQUEST_CYCLES = 3
"""From a transfer's request to its first address in front of the DRAM controller, and to its first beat of W: two registers of
`accel_rtl.blocks.read_dma` and `write_dma`, and the cycle in which the memory takes it."""
RETURN_CYCLES = 2
"""From the cycle of the last beat of R, or of the last answer B, to the end: the register of both DMAs; an end is one past it."""
AXI_BURST_BEATS, AXI_PAGE_BITS = 256, 8 * 4096
"""Most beats of an AXI4 burst, and the boundary that none crosses (IHI 0022, section A3.4.1)."""

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
    memory, (v, chan, bank, queue) = describe_memory(arch), prepare_dram(arch)
    status = run_shell(
        table, memory, np.array(INITIAL_TOKENS, np.int64), v, chan, bank, queue,
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


def describe_memory(arch: Arch) -> Int64:
    """Return what the kernel knows of the memory's port.

    Returns
    -------
    int64 [13]
        1 for dram; cycles from a request to its first beat, load and store (flat); bits of a beat; 1 for a port per operand;
        issue cycles; bits of a burst of the part; memory clocks and accelerator cycles in an equal time; bursts that each
        transfer may offer in a memory clock; binary logarithm of the beats between two boundaries that no AXI burst
        crosses; cycles from a request to what it asks for being in front of the controller; cycles from the last beat or
        answer to the end.
    """
    memory, issue = arch.memory, arch.shell.issue_cycles
    split, port = int(memory.channels == "per-operand"), memory.bits_per_cycle
    if memory.kind == "flat":
        head = (0, memory.latency_cycles, WRITE_LATENCY_CYCLES, port, split, issue, 8, 1, 1, 1, 0, 0, 0)
        return np.array(head, np.int64)
    from hwsim.core.dram_parts import find_part

    part = find_part(memory.part)
    ratio = clock_ratio(part.tck_ps, arch.clock_hz)
    block = min(AXI_BURST_BEATS, max(1, AXI_PAGE_BITS // port)).bit_length() - 1
    head = (
        1, 0, 0, port, split, issue, part.burst_bytes * 8, ratio.numerator, ratio.denominator, part.channels,
        block, REQUEST_CYCLES, RETURN_CYCLES,
    )  # fmt: skip
    return np.array(head, np.int64)


def prepare_dram(arch: Arch) -> tuple[Int64, ...]:
    """Return the state of an idle DRAM, or arrays that stand for it with flat memory."""
    if arch.memory.kind == "flat":
        return _NO_DRAM
    from hwsim.core.dram_parts import find_part
    from hwsim.engine.dram import new_state

    return tuple(new_state(find_part(arch.memory.part)))


@cache
def clock_ratio(tck_ps: int, clock_hz: float) -> Fraction:
    """Return memory clocks per accelerator cycle as a fraction of integers below 10**6, exact where it is one."""
    return (Fraction(10**12, tck_ps) / Fraction(clock_hz)).limit_denominator(10**6)
