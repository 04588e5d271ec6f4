"""From the columns of a systolic array into ``obuf``: where results belong, and read, add, write."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.systolic.spec import SystolicEngine


def result_layout(spec: SystolicEngine) -> data.StructLayout:
    """Return what goes along with a result: whether and where it is written, whether added, which columns count."""
    return data.StructLayout(
        {
            "valid": 1,
            "address": spec.output_address_bits,
            "bank": 1,
            "first": 1,
            "cols_end": (spec.cols - 1).bit_length() or 1,
        }
    )


class ResultWalk(wiring.Component):
    """Where the results of folds belong in ``obuf``.

    A column's words: by column fold (over all groups), then by pixel (``os``, ``ws``) or by filter (``is``). Latency: to column
    0's read of ``obuf``, `delay` cycles behind the control of the element that the result ends with. Reset: nothing valid. There is
    no stall.

    Members
    -------
    begin, valid, last, row_first, tile_first : In
        Of the stream: a fold begins; an element; the last one; see ``FOLD_CONTROL``.
    first : In
        The result is written, not added.
    rows_end, cols_end, bank, out_step : In
        Used rows and columns of the fold less one; bank; words from a column fold to the next.
    result : Out
        `result_layout`.
    """

    def __init__(self, spec: SystolicEngine, delay: int) -> None:
        self.spec, self.delay = spec, delay
        super().__init__(
            {
                "begin": In(1), "valid": In(1), "last": In(1), "row_first": In(1), "tile_first": In(1), "first": In(1),
                "rows_end": In((spec.rows - 1).bit_length() or 1), "cols_end": In((spec.cols - 1).bit_length() or 1),
                "bank": In(1), "out_step": In(spec.output_address_bits + 1), "result": Out(result_layout(spec)),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        """Build addresses of folds, the delay, and for ``os`` the order in which rows leave."""
        m, spec = Module(), self.spec
        column, fold = Signal(spec.output_address_bits), Signal(spec.output_address_bits)
        at = Signal.like(fold)
        at_column = Signal.like(column)
        m.d.comb += at_column.eq(Mux(self.tile_first, 0, column + self.out_step))
        m.d.comb += at.eq(fold)
        with m.If(self.begin):
            if spec.stays:
                m.d.comb += at.eq(Mux(self.row_first, at_column, column))
            else:
                m.d.comb += at.eq(Mux(self.row_first, at_column, fold + spec.rows))
            with m.If(self.row_first):
                m.d.sync += column.eq(at_column)
        m.d.sync += fold.eq(at + self.valid if spec.stays else at)
        layout = data.StructLayout(
            {"result": self.result.shape(), "rows_end": self.rows_end.shape()}
            if not spec.stays
            else {"result": self.result.shape()}
        )
        stages = [Signal(layout, name=f"stage_{i}") for i in range(self.delay - (0 if spec.stays else 1))]
        head = stages[0].result
        m.d.sync += [
            head.valid.eq(self.valid if spec.stays else self.last), head.address.eq(at), head.bank.eq(self.bank),
            head.first.eq(self.first), head.cols_end.eq(self.cols_end),
        ]  # fmt: skip
        if not spec.stays:
            m.d.sync += stages[0].rows_end.eq(self.rows_end)
        for before, after in pairwise(stages):
            m.d.sync += after.eq(before)
        if spec.stays:
            m.d.comb += self.result.eq(stages[-1].result)
        else:
            self._list_rows(m, stages[-1])
        return m

    def _list_rows(self, m: Module, token: data.View) -> None:
        """Follow a fold's rows, the lowest first; unused ones leave too, and are not written."""
        spec = self.spec
        left, running = Signal(range(spec.rows + 1)), Signal()
        rows_end = Signal.like(token.rows_end)
        row = Signal.like(left)
        base = Signal(spec.output_address_bits)
        now, limit = Signal.like(base), Signal.like(rows_end)
        with m.If(token.result.valid):
            m.d.comb += [row.eq(spec.rows - 1), now.eq(token.result.address), limit.eq(token.rows_end)]
            m.d.sync += [base.eq(now), rows_end.eq(limit)]
            m.d.sync += [self.result[name].eq(token.result[name]) for name in ("bank", "first", "cols_end")]
        with m.Else():
            m.d.comb += [row.eq(left), now.eq(base), limit.eq(rows_end)]
        m.d.sync += self.result.valid.eq((token.result.valid | running) & (row <= limit))
        m.d.sync += self.result.address.eq(now + row)
        m.d.sync += [running.eq((token.result.valid | running) & (row != 0)), left.eq(row - 1)]


class Accumulators(wiring.Component):
    """Adds results of the columns to ``obuf``.

    Latency: column j's place is read j cycles behind column 0's; its result comes a cycle later and is added in that cycle; the sum
    is written in the next, so it stands in ``obuf`` three cycles behind the read. Throughput: a result a column and cycle. Where
    results of the same place may follow within two cycles (fewer than three rows), the sum is taken from the pipeline, and
    no place is read while it is written. Reset: nothing valid. There is no stall.

    Members
    -------
    place : In
        `result_layout`, column 0's, in the cycle of its read.
    value, value_valid : In [cols]
        Of the array.
    read_enable, read_address, read_bank, read_data : [cols]
    write_enable, write_address, write_bank, write_data : [cols]
    """

    def __init__(self, spec: SystolicEngine) -> None:
        self.spec = spec
        word, place = signed(spec.psum_bits), spec.output_address_bits
        ports = {
            "value": In(word), "value_valid": In(1), "read_enable": Out(1), "read_address": Out(place),
            "read_bank": Out(1), "read_data": In(word), "write_enable": Out(1), "write_address": Out(place),
            "write_bank": Out(1), "write_data": Out(word),
        }  # fmt: skip
        members = {name: port.array(spec.cols) for name, port in ports.items()}
        super().__init__({"place": In(result_layout(spec)), **members})

    def elaborate(self, platform: object) -> Module:
        """Build one adder a column."""
        m, spec = Module(), self.spec
        place, near, far = self.place, Signal(), Signal()
        if spec.rows < 3:
            one, two = (Signal(result_layout(spec), name=f"place_before_{i}") for i in range(2))
            m.d.sync += [one.eq(place), two.eq(one)]
            same = [at.valid & (at.address == place.address) & (at.bank == place.bank) for at in (one, two)]
            m.d.comb += [near.eq(same[0]), far.eq(same[1] & ~same[0])]
        for j in range(spec.cols):
            used = Signal(name=f"used_{j}")
            m.d.comb += used.eq(place.valid & (place.cols_end >= j) if j else place.valid)
            m.d.comb += [
                self.read_enable[j].eq(used & ~place.first & ~near & ~far),
                self.read_address[j].eq(place.address),
                self.read_bank[j].eq(place.bank),
            ]
            total = self.write_data[j]
            before = Signal.like(total, name=f"before_{j}")
            later = Signal(result_layout(spec), name=f"place_{j + 1}")
            adding = Signal(name=f"adding_{j}")
            nearer, farther = Signal(name=f"near_{j + 1}"), Signal(name=f"far_{j + 1}")
            m.d.sync += [later.eq(place), adding.eq(used), nearer.eq(near), farther.eq(far), before.eq(total)]
            old = Mux(later.first, 0, Mux(nearer, total, Mux(farther, before, self.read_data[j])))
            m.d.sync += [
                total.eq(self.value[j] + old),
                self.write_enable[j].eq(adding & self.value_valid[j]),
                self.write_address[j].eq(later.address),
                self.write_bank[j].eq(later.bank),
            ]
            place, near, far = later, nearer, farther
        return m
