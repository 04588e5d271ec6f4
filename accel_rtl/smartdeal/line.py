"""A line of a slice: picks the rows that are worth it, rebuilds their weights, multiplies.

By cycle, t the one of ``begin``: t + 1 the first row is selected, t + 2 its content is there and is rebuilt in three cycles or goes
round the engines, t + 6 its weights and activations are held and the first weight may be taken: ``go``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.blocks.index_select import IndexSelect
from accel_rtl.smartdeal.decode import ENTRY_BITS
from accel_rtl.smartdeal.spec import ENTRY_WEIGHTS, NIBBLES_BITS, OPERAND_BITS, W_BITS
from hwsim.quant.decompose_plan import BASIS_SIZE

if TYPE_CHECKING:
    from accel_rtl.smartdeal.spec import SmartDealEngine

LEAD_CYCLES = 6
"""From the begin of a pass to the first weight, whether it is rebuilt or not."""


class LineUnit(wiring.Component):
    """A line: row store, index selector, rebuild engines, cells.

    Latency: see the module. Throughput: a weight takes the cycles of its slowest cell, without a gap between weights and rows.
    Reset: idle. There is no stall.

    Members
    -------
    write, write_bank, write_entry, write_data : In
        An entry of the row store: three coefficients or three weights.
    clear : In
        No entry of the pass that is prepared has coefficients (yet).
    begin : In
        The prepared pass runs: the bank that is written from now on is the other one.
    flags : In
        By entry, whether its activations are worth it; in the cycle of ``begin``.
    go : In
        From ``LEAD_CYCLES`` behind ``begin`` to the next ``begin``.
    rebuilt, short, ends, bank, basis
        The weights are rebuilt; weights of entries that end a row, less one, and which those are; bank of the stores that runs;
        basis of the step that runs.
    entry : Out, value : In
        Entry of the line store that is held next, ``[3][macs]``: its activations, in the same cycle.
    idle : Out
        All of the pass is multiplied.
    close : In, sum : Out
        As of `BoothLineUnit`.
    """

    def __init__(self, spec: SmartDealEngine) -> None:
        self.spec = spec
        shape, rebuild = spec.line_shape, spec.rebuild
        self.values = data.ArrayLayout(data.ArrayLayout(signed(OPERAND_BITS), spec.macs), ENTRY_WEIGHTS)
        super().__init__(
            {
                "write": In(1), "write_bank": In(1), "write_entry": In(spec.entry_bits), "write_data": In(ENTRY_BITS),
                "clear": In(1), "begin": In(1), "flags": In(spec.line_rows), "go": In(1),
                "rebuilt": In(1), "short": In(2), "ends": In(spec.line_rows), "bank": In(1),
                "basis": In(rebuild.engine.basis_layout),
                "entry": Out(spec.entry_bits), "value": In(self.values), "idle": Out(1), "close": In(1),
                "sum": Out(data.ArrayLayout(signed(shape.cell.psum_bits), spec.macs)),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m, spec = Module(), self.spec
        stored = Signal(spec.line_rows)
        with m.If(self.clear):
            m.d.sync += stored.eq(0)
        with m.Elif(self.write):
            m.d.sync += stored.eq(stored | (1 << self.write_entry)[: spec.line_rows])
        m.submodules.select = select = IndexSelect(rows=spec.line_rows).create()
        m.d.comb += [
            select.i.valid.eq(self.begin), select.i.payload.coefficients.eq(stored),
            select.i.payload.activations.eq(self.flags),
        ]  # fmt: skip
        some = Signal()
        m.d.comb += some.eq((stored & self.flags).any())
        content, content_entry, content_last, content_valid, content_taken = self._fetch(m, select)
        weights, entry, last, valid, taken = self._rebuild(
            m, content, content_entry, content_last, content_valid, content_taken
        )
        self._multiply(m, weights, entry, last, valid, taken, some)
        return m

    def _fetch(self, m: Module, select: Any) -> tuple[Signal, Signal, Signal, Signal, Signal]:
        """Read the selected rows' content; a register of one row."""
        spec = self.spec
        ram = memory.Memory(shape=ENTRY_BITS, depth=2 << spec.entry_bits, init=[])
        m.submodules.rows = ram
        write, read = ram.write_port(), ram.read_port(domain="comb")
        m.d.comb += [
            write.addr.eq(Cat(self.write_entry, self.write_bank)), write.data.eq(self.write_data), write.en.eq(self.write),
            read.addr.eq(Cat(select.o.payload.row, self.bank)),
        ]  # fmt: skip
        content, entry, last = Signal(ENTRY_BITS), Signal(spec.entry_bits), Signal()
        valid, taken = Signal(), Signal()
        m.d.comb += select.o.ready.eq(~select.o.payload.some | ~valid | taken)
        with m.If(~valid | taken):
            m.d.sync += [
                valid.eq(select.o.valid & select.o.payload.some), content.eq(read.data),
                entry.eq(select.o.payload.row), last.eq(select.o.payload.last),
            ]  # fmt: skip
        return content, entry, last, valid, taken

    def _rebuild(
        self, m: Module, content: Signal, entry: Signal, last: Signal, valid: Signal, taken: Signal
    ) -> tuple[Signal, Signal, Signal, Signal, Signal]:
        """Join the engines, or the way round them; return the next row's weights, entry, whether it is the last, valid, taken."""
        spec = self.spec
        m.submodules.turns = turns = spec.rebuild.create()
        m.d.comb += [
            turns.banks[0].eq(self.basis), turns.banks[1].eq(self.basis), turns.i.valid.eq(valid & self.rebuilt),
            turns.i.payload.nibbles.eq(content[:NIBBLES_BITS]), turns.i_tag.eq(Cat(entry, last)),
        ]  # fmt: skip
        weights, next_entry, next_last = Signal(ENTRY_BITS), Signal(spec.entry_bits), Signal()
        next_valid, next_taken = Signal(), Signal()
        with m.If(self.rebuilt):
            m.d.comb += [
                weights.eq(turns.o.payload), Cat(next_entry, next_last).eq(turns.o_tag), next_valid.eq(turns.o.valid),
                taken.eq(turns.i.ready), turns.o.ready.eq(next_taken),
            ]  # fmt: skip
        with m.Else():
            m.d.comb += [
                weights.eq(content), next_entry.eq(entry), next_last.eq(last), next_valid.eq(valid),
                taken.eq(next_taken),
            ]  # fmt: skip
        return weights, next_entry, next_last, next_valid, next_taken

    def _multiply(
        self, m: Module, weights: Signal, entry: Signal, last: Signal, valid: Signal, taken: Signal, some: Signal
    ) -> None:
        """Hold an entry; give its weights to the cells, one after the other."""
        spec = self.spec
        m.submodules.cells = cells = spec.line_shape.create()
        held, values = Signal(ENTRY_BITS), Signal(self.values)
        left, held_last, held_valid = Signal(range(ENTRY_WEIGHTS)), Signal(), Signal()
        open_ = Signal()
        accept, ends = Signal(), Signal()
        m.d.comb += [
            self.entry.eq(entry),
            accept.eq(held_valid & self.go & cells.i.ready),
            taken.eq(~held_valid | (accept & (left == 0))),
            ends.eq((self.ends >> entry)[0]),
            cells.i.valid.eq(held_valid & self.go),
            cells.i.payload.weight.eq(held[:W_BITS].as_signed()),
            cells.i.payload.activation.eq(values[0]),
            cells.close.eq(self.close), self.sum.eq(cells.sum),
            self.idle.eq(~open_ & cells.i.ready & self.go),
        ]  # fmt: skip
        with m.If(taken):
            m.d.sync += [held_valid.eq(valid), held.eq(weights), values.eq(self.value), held_last.eq(last)]
            m.d.sync += left.eq(Mux(ends, self.short, BASIS_SIZE - 1))
        with m.Elif(accept):
            m.d.sync += [held.eq(held >> W_BITS), left.eq(left - 1)]
            m.d.sync += [values[s].eq(values[s + 1]) for s in range(ENTRY_WEIGHTS - 1)]
        with m.If(self.begin):
            m.d.sync += open_.eq(some)
        with m.Elif(accept & held_last & (left == 0)):
            m.d.sync += open_.eq(0)
