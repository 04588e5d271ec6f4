"""The Program: a table of tile instructions, the contract between mappers, cycle engine, functional model and RTL.

Three units run it, each in order: ``load`` fills ``wbuf``, ``ibuf`` (and ``obuf`` with partial sums), ``exec`` computes,
``store`` writes ``obuf`` back. With one memory port per operand, weight loads have a queue of their own. Units meet
through counting semaphores: an instruction takes one token of each semaphore in ``wait`` before it starts and gives one to
each in ``signal`` when it ends.

==============  ===========  ==========================================  ==============
semaphore       given by     meaning                                     tokens at start
==============  ===========  ==========================================  ==============
``W_READY``     load         a weight tile is in ``wbuf``                0
``W_FREE``      exec         a bank of ``wbuf`` is free                  2
``I_READY``     load         an input tile is in ``ibuf``                0
``I_FREE``      exec         a bank of ``ibuf`` is free                  2
``P_READY``     load         partial sums are in ``obuf`` (or a bank     0
                             was set aside for them)
``O_FREE``      store        a bank of ``obuf`` is free                  2
``O_READY``     exec         an output tile is complete in ``obuf``      0
``SPILLED``     store        partial sums are back in memory             0
==============  ===========  ==========================================  ==============

Banks of each buffer are used in turn. Tensors lie in memory channel-major (``[N, channel, row, column]``). A row longer than half
an alignment unit (`Memory.align_bits`) takes whole units; of shorter rows, padded to bytes, as many
share a unit as fit, and they move together; a plane starts a unit. A tensor of one pixel is one row of its channels. A segment of
a row moves in the units it touches. Weights lie tile by tile in the order of the tiles, each tile one run of whole units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SEMAPHORES = ("W_READY", "W_FREE", "I_READY", "I_FREE", "P_READY", "O_FREE", "O_READY", "SPILLED")
W_READY, W_FREE, I_READY, I_FREE, P_READY, O_FREE, O_READY, SPILLED = range(8)
INITIAL_TOKENS = (0, 2, 0, 2, 0, 2, 0, 0)

QUEUES = ("load", "exec", "store", "load_w")
LOAD, EXEC, STORE, LOAD_SECOND = range(4)
OPCODES = ("LOAD_W", "LOAD_I", "LOAD_P", "EXEC", "STORE", "SPILL")
LOAD_W, LOAD_I, LOAD_P, EXECUTE, STORE_O, SPILL = range(6)

STORE_PIPELINE_CYCLES = 11
"""Cycles from the start of a STORE to its request to the memory, besides one for each ``store_lanes`` accumulators: reading
``obuf``, requantizing, packing (the stages of `accel_rtl`'s store unit)."""
SHIFT_STORE_PIPELINE_CYCLES = 8
"""The same where results are requantized by a shift alone: the three cycles of the multiplier are left out."""
SPILL_PIPELINE_CYCLES = 1
"""Cycles from the start of a SPILL, which is not staged, to its request to the memory."""
WRITE_LATENCY_CYCLES = 5
"""Cycles from a request of the store unit to its first beat on a free port of flat memory."""

INSTRUCTION = np.dtype(
    [
        ("queue", "u1"),  # index into QUEUES
        ("op", "u1"),  # index into OPCODES
        (
            "bank",
            "u1",
        ),  # bank of the buffer that a load fills or a store empties; for EXEC bits 0, 1, 2 = wbuf, ibuf, obuf
        ("wait", "u2"),  # bit mask over SEMAPHORES
        ("signal", "u2"),  # bit mask over SEMAPHORES
        ("tile", "i4"),  # index of the tile (EXEC), row-major over the tile counts along N G K C P Q; -1 elsewhere
        (
            "cycles",
            "i8",
        ),  # EXEC: cycles that the engine is busy; STORE, SPILL: from the start to the request to the memory
        ("fill", "i8"),  # EXEC: of these, cycles of fill
        ("tail", "i8"),  # EXEC: cycles behind the end until the results stand in obuf (the engine is free again)
        ("bits", "i8"),  # bits moved between memory and buffer, alignment included
        ("address", "i8"),  # first bit of the first run
        ("run_bits", "i8"),  # bits of one contiguous run
        ("count0", "i4"),  # runs, innermost
        ("stride0", "i8"),  # bits between them
        ("count1", "i4"),
        ("stride1", "i8"),
        ("count2", "i4"),
        ("stride2", "i8"),
    ],
    align=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Instructions of one layer, in program order.

    Parameters
    ----------
    instructions : bytes
        Records of dtype ``INSTRUCTION``.
    """

    instructions: bytes

    @property
    def table(self) -> npt.NDArray[np.void]:
        """The instructions, a read-only structured array ``[instructions]`` of dtype ``INSTRUCTION``."""
        return np.frombuffer(self.instructions, INSTRUCTION)

    def __len__(self) -> int:
        return len(self.instructions) // INSTRUCTION.itemsize


@dataclass(frozen=True, slots=True)
class Timeline:
    """When each instruction of a Program ran.

    Attributes
    ----------
    ready, start, end : ndarray int64 [instructions]
        Cycle at which its unit was free and its tokens there; at which it began, issue cost behind it; one past its last.
    """

    ready: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LayerTrace:
    """One layer's run in full, for trace viewers and for comparison with the RTL.

    Attributes
    ----------
    name : str
        The layer.
    program : Program
        What ran.
    timeline : Timeline
        When it ran, cycles from the start of the layer.
    cycles : int
        Length of the layer.
    """

    name: str
    program: Program
    timeline: Timeline
    cycles: int
