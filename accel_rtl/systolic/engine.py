"""Exec engine of the systolic array: from the banks of ``ibuf`` and ``wbuf`` to sums in ``obuf``.

Stages, by cycle; t is the cycle in which the ideal schedule (`hwsim.archs.systolic.datapath`) has an element at row 0, column 0:

======  ===============================================================================================
t       `FoldSequencer`: the element is due
t + 1   its control: lane 0 moves to its place, `WeightReader` to its line
t + 2   kernel and pixel added, compared with what is stored
t + 3   beats of ``ibuf`` and ``wbuf`` are read
t + 4   beats are there: element taken out, ring of weights turned by half
t + 5   zero point subtracted, ring turned
t + 6   the element enters the array: product
t + 7   it is added to the cell's sum; the ideal cell adds at t
======  ===============================================================================================

So a sum leaves its column 7 cycles late (``os``; its place in ``obuf`` is read the cycle before, the sum is added as it
leaves) or 8 (``ws``, ``is``: its register in the lowest cell), and is written one later: ``PIPELINE_CYCLES``.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.blocks.fold_sequencer import FOLD_CONTROL
from accel_rtl.blocks.im2col import HOLD, JUMP, LANE_CONTROL, RESET
from accel_rtl.systolic.results import Accumulators, ResultWalk
from accel_rtl.systolic.spec import SystolicEngine
from accel_rtl.systolic.weights import WeightReader


class SystolicEngineUnit(wiring.Component):
    """The exec engine.

    Latency: ``done`` is high in the last of the busy cycles that `SystolicDatapath.exec_times` counts from ``start`` on; results
    stand in ``obuf`` (may be read) ``tail`` cycles behind it. Throughput: a tile may start in the cycle after ``done``. Banks of
    ``ibuf`` and ``wbuf`` are still read up to ``4 - cols`` cycles behind the last busy one (not at all by arrays of four columns
    and more): on smaller arrays their next load must not write earlier. Reset: idle. There is no stall.

    Members
    -------
    start : In
    tile : In
        `SystolicEngine.layout`, in the cycle of ``start``.
    done : Out
    i_enable, i_bank, i_address : Out [lanes], i_beat : In [lanes]
        Copies of ``ibuf``; a beat comes in the cycle after its address.
    w_enable, w_bank : Out, w_address : Out [memories], w_beat : In [memories]
        Memories of ``wbuf``: beat b stands in memory ``b % memories``, place ``b // memories``.
    o_read_* , o_write_* : [cols]
        Columns of ``obuf``; see `Accumulators`.
    """

    def __init__(self, spec: SystolicEngine) -> None:
        self.spec = spec
        lanes, banks, cols = spec.lanes, spec.weight_banks, spec.cols
        word, place = signed(spec.psum_bits), spec.output_address_bits
        super().__init__(
            {
                "start": In(1), "tile": In(spec.layout), "done": Out(1),
                "i_enable": Out(1).array(lanes), "i_bank": Out(1).array(lanes),
                "i_address": Out(spec.input_address_bits).array(lanes), "i_beat": In(spec.beat_bits).array(lanes),
                "w_enable": Out(1), "w_bank": Out(1), "w_address": Out(spec.weight_address_bits).array(banks),
                "w_beat": In(spec.beat_bits).array(banks),
                "o_read_enable": Out(1).array(cols), "o_read_bank": Out(1).array(cols),
                "o_read_address": Out(place).array(cols), "o_read_data": In(word).array(cols),
                "o_write_enable": Out(1).array(cols), "o_write_bank": Out(1).array(cols),
                "o_write_address": Out(place).array(cols), "o_write_data": Out(word).array(cols),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        """Build and join the blocks."""
        m, spec = Module(), self.spec
        m.submodules.sequencer = sequencer = spec.sequencer.create()
        # the tile while it runs, and later as its elements pass the stages behind the first
        tile = Signal(spec.layout)
        kept = Signal(spec.layout)
        m.d.comb += tile.eq(Mux(self.start, self.tile, kept))
        m.d.sync += kept.eq(tile)
        m.d.comb += [sequencer.start.eq(self.start), sequencer.tile.eq(tile.folds), self.done.eq(sequencer.done)]
        control = sequencer.control
        stream: Any = delay(m, control, FOLD_CONTROL, spec.rows, "stream") if spec.stays else control
        used = Mux(control.row_last, kept.rows_end, spec.rows - 1), Mux(control.col_last, kept.cols_end, spec.cols - 1)
        elements = self._read_inputs(m, stream if spec.dataflow == "ws" else control, kept, tile)
        line = self._read_weights(m, stream if spec.dataflow == "is" else control, control, kept)
        m.submodules.array = array = spec.array.create()
        getattr(self, f"_join_{spec.dataflow}")(m, array, elements, line, control, stream)
        self._write_results(m, array, control, kept, used)
        return m

    def _read_inputs(self, m: Module, control: Any, tile: Any, early: Any) -> list[tuple[Value, Any]]:
        """Build addresses and what picks elements out of beats; return element and control of each lane."""
        spec = self.spec
        m.submodules.im2col = lanes = spec.im2col.create()
        late = delay(m, tile.im2col, spec.im2col.layout, 1, "late")
        m.d.comb += [lanes.early.eq(early.im2col), lanes.tile.eq(tile.im2col), lanes.late.eq(late)]
        lane = lanes.control
        group = Mux(control.tile_first, RESET, Mux(control.group_first, JUMP, HOLD))
        m.d.comb += [
            lane.begin.eq(control.begin), lane.group.eq(group), lane.last.eq(control.stream_end),
            lane.clear.eq(control.begin), lane.set.eq(control.set),
        ]  # fmt: skip
        if spec.dataflow == "is":
            row = Signal(range(max(2, spec.rows)))
            m.d.comb += row.eq(spec.rows - 1)
            left = Signal.like(row)
            with m.If(~control.begin):
                m.d.comb += row.eq(left)
            m.d.sync += left.eq(row - 1)
            fixed = Mux(control.row_first, Mux(control.group_first, RESET, JUMP), HOLD)
            m.d.comb += [lane.valid.eq(control.fill), lane.fixed.eq(fixed), lane.moving.eq(~control.row_first)]
            m.d.comb += lane.row.eq(row)
        else:
            m.d.comb += [lane.valid.eq(control.stream), lane.fixed.eq(Mux(control.row_first, RESET, JUMP))]
        zero = delay(m, tile.input_zero, tile.input_zero.shape(), 4, "zero")
        is_signed = delay(m, tile.input_signed, 1, 4, "signed")
        bank = delay(m, tile.i_bank, 1, 2, "i_bank")
        found = []
        per_beat = spec.beat_bits // spec.a_bits
        for i in range(spec.lanes):
            width = per_beat.bit_length() - 1
            flags = delay(m, lanes.flags[i], LANE_CONTROL, 2, f"flags_{i}")
            inside = delay(m, lanes.inside[i], 1, 2, f"inside_{i}")
            m.d.comb += [
                self.i_enable[i].eq(lanes.inside[i]),
                self.i_address[i].eq(lanes.address[i] >> width),
                self.i_bank[i].eq(bank),
            ]
            which = delay(m, lanes.address[i][:width], width, 1, f"which_{i}") if width else 0
            taken = Signal(spec.a_bits, name=f"taken_{i}")
            m.d.sync += taken.eq(self.i_beat[i].word_select(which, spec.a_bits))
            element = Signal(signed(spec.a_bits + 1), name=f"element_{i}")
            wide = Mux(is_signed, taken.as_signed(), taken)
            m.d.sync += element.eq(Mux(inside, wide - zero, 0))
            seen = Signal(LANE_CONTROL, name=f"element_flags_{i}")
            m.d.sync += seen.eq(flags)
            found.append((element, seen))
        return found

    def _read_weights(self, m: Module, control: Any, fill: Any, tile: Any) -> list[Value]:
        """Build the reader of lines; return the line, each lane a cycle behind the one before."""
        spec = self.spec
        m.submodules.weights = reader = WeightReader(spec)
        line = reader.control
        rows = Mux(control.row_last, tile.rows_end + 1, spec.rows)
        cols = Mux(control.col_last, tile.cols_end + 1, spec.cols)
        m.d.comb += [
            line.begin.eq(control.begin),
            line.reset.eq(control.tile_first),
            reader.bank.eq(delay(m, tile.w_bank, 1, 1, "w_bank")),
        ]
        if spec.dataflow == "os":
            m.d.comb += [line.valid.eq(control.stream), line.rewind.eq(~control.row_first)]
            m.d.comb += [line.mark.eq(control.row_first), reader.count.eq(cols)]
        elif spec.dataflow == "is":
            m.d.comb += [line.valid.eq(control.stream), line.rewind.eq(control.row_first & ~control.group_first)]
            m.d.comb += [line.reset.eq(control.tile_first & control.row_first), reader.count.eq(rows)]
            m.d.comb += line.mark.eq(control.group_first)
        else:
            # rows behind the last one come first, and have no weights
            row, left = Signal(range(spec.rows + 1)), Signal(range(spec.rows + 1))
            m.d.comb += row.eq(Mux(fill.begin, spec.rows - 1, left))
            m.d.sync += left.eq(row - 1)
            m.d.comb += [line.valid.eq(fill.fill & (row < rows)), reader.count.eq(cols)]
        for i in range(spec.weight_banks):
            m.d.comb += [self.w_address[i].eq(reader.address[i]), reader.beat[i].eq(self.w_beat[i])]
        m.d.comb += [self.w_enable.eq(reader.enable), self.w_bank.eq(reader.bank_out)]
        shape = reader.line[0].shape()
        return [delay(m, element, shape, i, f"weight_{i}") for i, element in enumerate(reader.line)]

    def _join_os(self, m: Module, array: Any, elements: list[Any], line: list[Value], *_: Any) -> None:
        for i, (element, flags) in enumerate(elements):
            m.d.comb += [
                array.x[i].eq(element), array.valid[i].eq(flags.valid), array.clear[i].eq(flags.clear),
                array.last[i].eq(flags.last),
            ]  # fmt: skip
        for j, weight in enumerate(line):
            m.d.comb += array.y[j].eq(weight)

    def _join_ws(
        self, m: Module, array: Any, elements: list[Any], line: list[Value], control: Any, stream: Any
    ) -> None:
        for i, (element, flags) in enumerate(elements):
            m.d.comb += [array.x[i].eq(element), array.x_valid[i].eq(flags.valid), array.x_set[i].eq(flags.set)]
        row, left = Signal(range(max(2, self.spec.rows))), Signal(range(max(2, self.spec.rows)))
        m.d.comb += row.eq(Mux(control.begin, self.spec.rows - 1, left))
        m.d.sync += left.eq(row - 1)
        valid, which, number = (
            delay(m, value, shape, 5, name)
            for value, shape, name in (
                (control.fill, 1, "y_valid"), (control.set, 1, "y_set"), (row, row.shape(), "y_row"),
            )
        )  # fmt: skip
        for j, weight in enumerate(line):
            m.d.comb += [array.y[j].eq(weight), array.y_valid[j].eq(valid), array.y_set[j].eq(which)]
            m.d.comb += array.y_row[j].eq(number)
            valid, which = delay(m, valid, 1, 1, f"y_valid_{j}"), delay(m, which, 1, 1, f"y_set_{j}")
            number = delay(m, number, row.shape(), 1, f"y_row_{j}")

    def _join_is(
        self, m: Module, array: Any, elements: list[Any], line: list[Value], control: Any, stream: Any
    ) -> None:
        for j, (element, flags) in enumerate(elements):
            m.d.comb += [array.y[j].eq(element), array.y_valid[j].eq(flags.valid), array.y_set[j].eq(flags.set)]
            m.d.comb += array.y_row[j].eq(flags.row)
        valid, which = delay(m, stream.stream, 1, 5, "x_valid"), delay(m, stream.set, 1, 5, "x_set")
        for i, weight in enumerate(line):
            m.d.comb += [array.x[i].eq(weight), array.x_valid[i].eq(valid), array.x_set[i].eq(which)]
            valid, which = delay(m, valid, 1, 1, f"x_valid_{i}"), delay(m, which, 1, 1, f"x_set_{i}")

    def _write_results(self, m: Module, array: Any, control: Any, tile: Any, used: tuple[Value, Value]) -> None:
        """Build the way into ``obuf``: results come as many cycles behind their control as the stages above say."""
        spec = self.spec
        entry = 5 + (spec.rows if spec.stays else 0)  # from control to the array
        m.submodules.walk = walk = ResultWalk(spec, entry + spec.array.latency_cycles - 1)
        m.submodules.accumulators = adders = Accumulators(spec)
        first = tile.first & control.row_first if spec.stays else tile.first
        m.d.comb += [
            walk.begin.eq(control.begin), walk.valid.eq(control.stream), walk.last.eq(control.stream_end),
            walk.row_first.eq(control.row_first), walk.tile_first.eq(control.tile_first & control.row_first),
            walk.first.eq(first), walk.rows_end.eq(used[0]), walk.cols_end.eq(used[1]), walk.bank.eq(tile.o_bank),
            walk.out_step.eq(tile.out_step), adders.place.eq(walk.result),
        ]  # fmt: skip
        for j in range(spec.cols):
            m.d.comb += [
                adders.value[j].eq(array.result[j]), adders.value_valid[j].eq(array.result_valid[j]),
                adders.read_data[j].eq(self.o_read_data[j]),
            ]  # fmt: skip
            for way, names in (
                ("read", ("enable", "bank", "address")),
                ("write", ("enable", "bank", "address", "data")),
            ):
                for name in names:
                    m.d.comb += getattr(self, f"o_{way}_{name}")[j].eq(getattr(adders, f"{way}_{name}")[j])


def delay(m: Module, value: Any, shape: Any, cycles: int, name: str) -> Any:
    """Return a value as it was some cycles ago."""
    for i in range(cycles):
        register = Signal(shape, name=f"{name}_late_{i}")
        m.d.sync += register.eq(value)
        value = register
    return value
