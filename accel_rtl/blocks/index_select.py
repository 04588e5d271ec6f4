"""Index selector: which rows of a pass are worth their time.

A row is multiplied where its coefficients and its activations are both not all zero. The selector holds the flags of one pass,
gives its rows with both flags set, the lowest first, and spends no cycle on the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwsim.core.check import require_int


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSelect:
    """An index selector.

    Parameters
    ----------
    rows : int
        Rows of a pass that it sees: those of its line.
    """

    rows: int

    def __post_init__(self) -> None:
        require_int("index_select.rows", self.rows, 1, 4096)

    def compute(self, coefficients: Sequence[int], activations: Sequence[int]) -> list[tuple[int, bool, bool]]:
        """Return what is given for one pass: (row, whether there is one, whether it is the pass's last).

        ``coefficients`` and ``activations`` are flags by row; a pass without any row gives one item without a row.
        """
        both = zip(coefficients, activations, strict=True)
        chosen = [row for row, (c, a) in enumerate(both) if c and a]
        if not chosen:
            return [(0, False, True)]
        return [(row, True, row == chosen[-1]) for row in chosen]

    def create(self) -> IndexSelectUnit:
        """Return the hardware."""
        return IndexSelectUnit(self)


class IndexSelectUnit(wiring.Component):
    """Hardware of `IndexSelect`.

    =====  ==========  ===========================================================================================
    port   direction   content
    =====  ==========  ===========================================================================================
    ``i``  stream in   a pass: ``coefficients`` and ``activations``, ``rows`` flags each, row 0 lowest
    ``o``  stream out  ``row``; ``some``: 0 where the pass has no row; ``last`` of the pass
    =====  ==========  ===========================================================================================

    Latency: a pass's first row is there in the cycle after the pass was taken. Throughput: a row a cycle, pass after pass without
    a gap; a pass without rows takes one cycle. It holds the current pass and the next one; ``i.ready``, ``o.valid`` and
    ``o.payload`` depend on registers alone. Reset: empty. Stall: a row stands until taken.
    """

    def __init__(self, spec: IndexSelect) -> None:
        self.spec = spec
        flags = unsigned(spec.rows)
        item = data.StructLayout({"row": range(spec.rows), "some": unsigned(1), "last": unsigned(1)})
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout({"coefficients": flags, "activations": flags}))),
                "o": Out(stream.Signature(item)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rows = self.spec.rows
        current, waiting = Signal(rows), Signal(rows)
        has_current, has_waiting = Signal(), Signal()
        left, ends, both = Signal(rows), Signal(), Signal(rows)
        m.d.comb += [
            self.i.ready.eq(~has_waiting),
            both.eq(self.i.payload.coefficients & self.i.payload.activations),
            left.eq(current & (current - 1)[:rows]),
            self.o.valid.eq(has_current),
            self.o.payload.some.eq(current != 0),
            self.o.payload.last.eq(left == 0),
            ends.eq(~has_current | (self.o.ready & self.o.payload.last)),
        ]
        for row in reversed(range(rows)):
            with m.If(current[row]):
                m.d.comb += self.o.payload.row.eq(row)
        taken = self.i.valid & self.i.ready
        with m.If(ends):
            m.d.sync += [
                current.eq(Mux(has_waiting, waiting, both)),
                has_current.eq(has_waiting | taken),
                has_waiting.eq(0),
            ]
        with m.Else():
            with m.If(self.o.ready):
                m.d.sync += current.eq(left)
            with m.If(taken):
                m.d.sync += [waiting.eq(both), has_waiting.eq(1)]
        return m
