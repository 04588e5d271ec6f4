"""From the accumulators of a pixel group to ``obuf``: a pixel a cycle, summed over the lines of each slice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.smartdeal.loader import delay
from accel_rtl.smartdeal.walk import describe_close

if TYPE_CHECKING:
    from accel_rtl.smartdeal.spec import SmartDealEngine

COPY_CYCLES = 3
"""From the close of a sum to the first cycle that shows it (`BoothCellUnit`)."""


class ResultDrain(wiring.Component):
    """Adder trees and accumulation in ``obuf``.

    Latency: pixel m of a group is written ``4 + m + ceil(log2 lines)`` cycles behind ``close``. Throughput: a group every ``macs``
    cycles. Reset: idle. There is no stall.

    Members
    -------
    close, closing : In
        As of `PassWalk`.
    sum : In [slices * lines]
        Accumulators ``[macs]``, slice by slice; new 3 cycles behind ``close``, they stand until the next ones.
    o_* : as of `Machine.describe_engine`
    """

    def __init__(self, spec: SmartDealEngine) -> None:
        self.spec = spec
        machine = spec.machine
        word, place, columns = signed(machine.psum_bits), machine.word_bits, machine.columns
        super().__init__(
            {
                "close": In(1), "closing": In(describe_close(spec)),
                "sum": In(data.ArrayLayout(word, spec.macs)).array(spec.slices * spec.lines),
                "o_read_enable": Out(1).array(columns), "o_read_bank": Out(1).array(columns),
                "o_read_address": Out(place).array(columns), "o_read_data": In(word).array(columns),
                "o_write_enable": Out(1).array(columns), "o_write_bank": Out(1).array(columns),
                "o_write_address": Out(place).array(columns), "o_write_data": Out(word).array(columns),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m, spec = Module(), self.spec
        kind = describe_close(spec)
        group, pixel, active = Signal(kind), Signal(range(spec.macs)), Signal()
        # one cycle before the sums are there
        closes = delay(m, self.close, 1, COPY_CYCLES - 2, "close")
        closing = delay(m, self.closing, kind, COPY_CYCLES - 2, "closing")
        with m.If(closes):
            m.d.sync += [group.eq(closing), pixel.eq(0), active.eq(1)]
        with m.Else():
            m.d.sync += [group.word.eq(group.word + 1), pixel.eq(pixel + 1)]
            with m.If(pixel == spec.macs - 1):
                m.d.sync += active.eq(0)
        counted = Signal()
        m.d.comb += counted.eq(active & (pixel < group.pixels))
        which = delay(m, pixel, pixel.shape(), 1, "which")
        stages = spec.tree.latency_cycles
        group = delay(m, group, kind, stages, "group")
        reads = delay(m, counted, 1, stages, "counted")
        late, enters = delay(m, group, kind, 1, "late"), delay(m, counted, 1, 1, "enters")
        for k in range(spec.slices):
            tree = spec.tree.create()
            m.submodules[f"tree{k}"] = tree
            m.d.comb += tree.i_valid.eq(enters)
            for i in range(spec.lines):
                sums = self.sum[k * spec.lines + i]
                m.d.comb += tree.i[i].eq(Array(sums[n] for n in range(spec.macs))[which])
            m.d.comb += [
                self.o_read_enable[k].eq(reads & (group.slices > k) & ~group.first),
                self.o_read_bank[k].eq(group.bank), self.o_read_address[k].eq(group.word),
            ]  # fmt: skip
            m.d.sync += [
                self.o_write_enable[k].eq(tree.o_valid & (late.slices > k)), self.o_write_bank[k].eq(late.bank),
                self.o_write_address[k].eq(late.word),
                self.o_write_data[k].eq(tree.o + Mux(late.first, 0, self.o_read_data[k])),
            ]  # fmt: skip
        return m
