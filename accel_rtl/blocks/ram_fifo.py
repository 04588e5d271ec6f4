"""A FIFO whose memory needs no logic for collisions."""

from __future__ import annotations

from typing import Any

from amaranth.lib import fifo

from accel_rtl.blocks.scratchpad import NO_COLLISION


class RamFifo(fifo.SyncFIFOBuffered):
    """`amaranth.lib.fifo.SyncFIFOBuffered`, its memory marked as free of collisions.

    Places of the memory that is read and of the one that is written are the same only when it is empty (nothing is read then) or
    full (nothing is written), so that no address is read and written in one cycle. Latency 2 cycles from an empty queue's input
    to its output; an item a cycle. Reset: empty. Stall: ``w_rdy`` is low when full, ``r_data`` stands until it is taken.
    """

    def elaborate(self, platform: object) -> Any:
        """Build it and mark the memory."""
        m = super().elaborate(platform)
        if self.depth > 1:
            m.submodules.storage.attrs[NO_COLLISION] = 1
        return m
