"""Decoding of the slices' streams: all slices in lockstep, each at its own place.

By cycle, t the one of ``begin``: t + 1 to t + 3 fill the bit window; from t + 4 on a part of the stream is taken a cycle (flag and
three rows of a basis; the pass's index, nothing of dense weights; then chunks of rows, or entries of dense weights); what was
taken is written in the cycle after. ``done`` comes 2 cycles behind the last part: ``DECODE_PIPELINE`` counts from ``begin`` to the
next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.smartdeal.spec import (
    ENTRY_WEIGHTS,
    KERNEL,
    NIBBLES_BITS,
    W_BITS,
)
from accel_rtl.smartdeal.walk import describe_pass
from hwsim.quant.decompose_plan import BASIS_SIZE

if TYPE_CHECKING:
    from accel_rtl.smartdeal.spec import SmartDealEngine

FILL_CYCLES = 3
ENTRY_BITS = ENTRY_WEIGHTS * W_BITS


def describe_part(spec: SmartDealEngine) -> data.StructLayout:
    """Return what a cycle does.

    ``fill``: one of the three cycles that fill the window; ``flag``, ``basis``, ``index``, ``chunk``, ``dense``: kind of the part
    that is taken; ``number`` of the basis' row; ``rows`` of the chunk, ``total`` of the pass; ``line`` and ``entry`` of what is
    written; ``weights`` of a dense entry.
    """
    return data.StructLayout(
        {
            "fill": FILL_CYCLES, "flag": 1, "basis": 1, "index": 1, "chunk": 1, "dense": 1, "number": 2,
            "rows": range(spec.lines + 1), "total": range(spec.pass_rows + 1),
            "line": range(spec.lines), "entry": spec.entry_bits, "weights": range(ENTRY_WEIGHTS + 1),
        }
    )  # fmt: skip


class DecodeControl(wiring.Component):
    """Order of the parts of a pass, the same for all slices.

    Latency: ``part`` of the first filling cycle comes in the cycle after ``begin``. Reset: idle. There is no stall.

    Members
    -------
    begin : In
        A pass is to be prepared; ``pass_`` stands from the next cycle on.
    tile, pass_ : In
    part : Out
        `describe_part`.
    done : Out
        All is written; until the next ``begin``.
    """

    def __init__(self, spec: SmartDealEngine) -> None:
        self.spec = spec
        super().__init__(
            {
                "begin": In(1), "tile": In(spec.layout), "pass_": In(describe_pass(spec)),
                "part": Out(describe_part(spec)), "done": Out(1),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m, spec, tile, part = Module(), self.spec, self.tile, self.part
        p = Signal.like(self.pass_)  # nothing asks for it in the cycle behind `begin`
        m.d.sync += p.eq(self.pass_)
        fill, flag, basis = Signal(FILL_CYCLES), Signal(), Signal(BASIS_SIZE)
        index, rows = Signal(), Signal()
        chunk, line = Signal(spec.entry_bits), Signal(range(spec.lines))
        entry, place = Signal(spec.entry_bits), Signal(KERNEL)
        chunk_last, line_last, row_last, last = Signal(), Signal(), Signal(), Signal()
        in_chunk = Signal(range(spec.lines + 1))
        m.d.comb += [
            chunk_last.eq(chunk == p.chunks_end),
            in_chunk.eq(Mux(chunk_last, p.rows, spec.lines)),
            line_last.eq(tile.rebuilt | (line + 1 == in_chunk)),
            row_last.eq(tile.rebuilt | (place == tile.entries_end)),
            last.eq(rows & chunk_last & line_last & row_last),
            part.fill.eq(fill), part.flag.eq(flag), part.basis.eq(basis.any()), part.number.eq(Cat(basis[1], basis[2])),
            part.chunk.eq(rows & tile.rebuilt), part.dense.eq(rows & ~tile.rebuilt), part.rows.eq(in_chunk),
            part.index.eq(index & tile.rebuilt), part.total.eq(p.total), part.line.eq(line), part.entry.eq(entry + place),
            part.weights.eq(Mux(row_last, tile.short + 1, ENTRY_WEIGHTS)),
        ]  # fmt: skip
        begins = fill[-1]
        m.d.sync += [
            fill.eq(Cat(self.begin, fill[:-1])),
            flag.eq(begins & tile.rebuilt & p.step_first),
            basis.eq(Cat(flag, basis[:-1])),
            index.eq(basis[-1] | (begins & ~(tile.rebuilt & p.step_first))),
        ]
        with m.If(index):
            m.d.sync += rows.eq(1)
        with m.Elif(last):
            m.d.sync += rows.eq(0)
        with m.If(self.begin):
            m.d.sync += [chunk.eq(0), line.eq(0), place.eq(0), entry.eq(0)]
        with m.Elif(rows):
            m.d.sync += place.eq(Mux(row_last, 0, place + 1))
            with m.If(row_last):
                m.d.sync += line.eq(Mux(line_last, 0, line + 1))
                with m.If(line_last):
                    m.d.sync += [chunk.eq(chunk + 1), entry.eq(part.entry + 1)]
        written = Signal()
        m.d.sync += written.eq(last)
        with m.If(self.begin):
            m.d.sync += self.done.eq(0)
        with m.Elif(written):
            m.d.sync += self.done.eq(1)
        return m


class StreamDecoder(wiring.Component):
    """Bit window of one slice.

    It keeps two beats and reads the next one as it leaves the first, so a part, of a beat at most, is taken every cycle.
    Latency: see the module. Reset: at the stream's begin. There is no stall.

    Members
    -------
    begin, rewind, advance, restart : In
        A pass is to be prepared; from where: on, where the block began, on and a block begins, the stream's first bit.
    active : In
        The slice has a filter in this block; from the second cycle after ``begin`` on.
    part : In
        `describe_part`.
    enable, place : Out, beat : In
        `SliceStreams`.
    late : Out
        The part that is written in this cycle.
    index : Out
        Rows of a chunk with coefficients; with dense weights, the line that takes them.
    content : Out [lines]
        Three coefficients or, lowest in all lines, three weights.
    stored : Out
        The step that is written has coefficients.
    """

    def __init__(self, spec: SmartDealEngine) -> None:
        self.spec = spec
        super().__init__(
            {
                "begin": In(1), "rewind": In(1), "advance": In(1), "restart": In(1), "active": In(1),
                "part": In(describe_part(spec)), "enable": Out(1), "place": Out(spec.stream_place_bits),
                "beat": In(spec.machine.beat_bits), "late": Out(describe_part(spec)), "index": Out(spec.lines),
                "content": Out(ENTRY_BITS).array(spec.lines), "stored": Out(1),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m, spec, part = Module(), self.spec, self.part
        beat = spec.machine.beat_bits
        window = Signal(2 * beat)
        bit = Signal(range(beat))
        taken, used = Signal(spec.part_bits), Signal(range(beat + 1))
        following = Signal(range(2 * beat))
        leaves = Signal()
        m.d.comb += taken.eq(window >> bit)
        rows = Cat(part.rows > line for line in range(spec.lines))
        index, set_ = Signal(spec.pass_rows), Signal(spec.lines)
        with m.If(part.index):
            m.d.sync += index.eq(taken)
        with m.Elif(part.chunk):
            m.d.sync += index.eq(index >> spec.lines)
        m.d.comb += set_.eq(Mux(self.stored & self.active, index[: spec.lines] & rows, 0))
        self._count_bits(m, set_, used)
        m.d.comb += [following.eq(bit + used), leaves.eq(following >= beat)]
        fetch = self._read(m, bit, following, leaves)
        with m.If(fetch[1]):
            m.d.sync += window[:beat].eq(self.beat)
        with m.If(fetch[2]):
            m.d.sync += window[beat:].eq(self.beat)
        with m.If(leaves):
            m.d.sync += window.eq(Cat(window[beat:], self.beat))
        with m.If(part.flag):
            m.d.sync += self.stored.eq(taken[0])
        self._write(m, taken, set_)
        return m

    def _count_bits(self, m: Module, set_: Value, used: Signal) -> None:
        """Say how many bits this cycle's part has."""
        part = self.part
        with m.If(self.active):
            with m.If(part.flag):
                m.d.comb += used.eq(1)
            with m.If(part.basis & self.stored):
                m.d.comb += used.eq(BASIS_SIZE * W_BITS)
            with m.If(part.dense):
                m.d.comb += used.eq(part.weights * W_BITS)
            with m.If(part.chunk & self.stored):
                rows = Signal(range(self.spec.lines + 1))
                m.d.comb += rows.eq(sum(set_[line] for line in range(self.spec.lines)))
                m.d.comb += used.eq((rows << 3) + (rows << 2))  # NIBBLES_BITS each, without a multiplier
            with m.If(part.index & self.stored):
                m.d.comb += used.eq(part.total)

    def _read(self, m: Module, bit: Signal, following: Signal, leaves: Signal) -> Any:
        """Keep the place in the stream, and that of the block's begin; return the filling cycles."""
        beat, fill = self.spec.machine.beat_bits, self.part.fill
        place, block_place = Signal(self.spec.stream_place_bits), Signal(self.spec.stream_place_bits)
        block_bit = Signal.like(bit, name="block_bit")
        ahead = Signal(self.spec.stream_place_bits)
        m.d.comb += [self.place.eq(ahead), self.enable.eq(fill.any() | leaves)]
        at, at_bit = Signal.like(place), Signal.like(bit, name="at_bit")  # where the pass begins
        m.d.comb += [
            at.eq(Mux(self.restart, 0, Mux(self.rewind, block_place, place))),
            at_bit.eq(Mux(self.restart, 0, Mux(self.rewind, block_bit, bit))),
        ]
        with m.If(self.begin):
            m.d.sync += [place.eq(at), bit.eq(at_bit), ahead.eq(at)]
            with m.If(self.restart | self.advance):
                m.d.sync += [block_place.eq(at), block_bit.eq(at_bit)]
        with m.Else():
            m.d.sync += [bit.eq(following[: len(bit)]), place.eq(place + leaves), ahead.eq(ahead + self.enable)]
        assert beat == 1 << len(bit)
        return fill

    def _write(self, m: Module, taken: Signal, set_: Signal) -> None:
        """Cut what was taken in the cycle before into rows."""
        spec, part = self.spec, self.part
        kept, index = Signal.like(taken, name="kept"), Signal(spec.lines)
        line = Cat(part.line == i for i in range(spec.lines))
        m.d.sync += [kept.eq(taken), self.late.eq(part), index.eq(Mux(part.dense, Mux(self.active, line, 0), set_))]
        m.d.comb += self.index.eq(Mux(self.late.dense | self.late.chunk, index, 0))
        before: Value | int = 0
        for i in range(spec.lines):
            count = Signal(range(spec.lines + 1), name=f"before_{i}")
            m.d.comb += count.eq(before)
            choices = [kept[k * NIBBLES_BITS : (k + 1) * NIBBLES_BITS] for k in range(i + 1)]
            row = Signal(NIBBLES_BITS, name=f"row_{i}")
            with m.Switch(count):
                for k, choice in enumerate(choices):
                    with m.Case(k):
                        m.d.comb += row.eq(choice)
            m.d.comb += self.content[i].eq(Mux(self.late.chunk, row, kept[:ENTRY_BITS]))
            before = count + index[i]
