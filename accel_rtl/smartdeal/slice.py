"""A slice: the decoder of its stream, its bases and its lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.blocks.rebuild import BasisFile
from accel_rtl.smartdeal.decode import StreamDecoder, describe_part
from accel_rtl.smartdeal.line import LineUnit
from accel_rtl.smartdeal.spec import ENTRY_WEIGHTS, OPERAND_BITS

if TYPE_CHECKING:
    from accel_rtl.smartdeal.spec import SmartDealEngine


class SliceUnit(wiring.Component):
    """One filter at a time.

    Latency and throughput: those of `StreamDecoder` and `LineUnit`. Reset: idle. There is no stall.

    Members
    -------
    begin, rewind, advance, restart, active, part, enable, place, beat
        As of `StreamDecoder`.
    prepare_bank, prepare_basis : In
        Banks of the prepared pass.
    run : In
        The prepared pass runs.
    flags : In [lines]; go, rebuilt, short, ends, run_bank, run_basis, close : In
        As of `LineUnit`.
    entry : Out [lines]; value : In [lines]
        Line stores.
    ending, idle : Out
        All lines are through; were a cycle ago.
    sum : Out [lines]
        ``[macs]`` accumulators.
    """

    def __init__(self, spec: SmartDealEngine) -> None:
        self.spec = spec
        values = data.ArrayLayout(data.ArrayLayout(signed(OPERAND_BITS), spec.macs), ENTRY_WEIGHTS)
        sums = data.ArrayLayout(signed(spec.machine.psum_bits), spec.macs)
        super().__init__(
            {
                "begin": In(1), "rewind": In(1), "advance": In(1), "restart": In(1), "active": In(1),
                "part": In(describe_part(spec)), "enable": Out(1), "place": Out(spec.stream_place_bits),
                "beat": In(spec.machine.beat_bits), "prepare_bank": In(1), "prepare_basis": In(1),
                "run": In(1), "flags": In(spec.line_rows).array(spec.lines), "go": In(1), "rebuilt": In(1), "short": In(2),
                "ends": In(spec.line_rows), "run_bank": In(1), "run_basis": In(1), "close": In(1),
                "entry": Out(spec.entry_bits).array(spec.lines), "value": In(values).array(spec.lines),
                "ending": Out(1), "idle": Out(1), "sum": Out(sums).array(spec.lines),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m, spec = Module(), self.spec
        m.submodules.decoder = decoder = StreamDecoder(spec)
        m.submodules.bases = bases = BasisFile(spec.rebuild.engine)
        started = Signal()
        m.d.sync += started.eq(self.begin)
        for name in ("begin", "rewind", "advance", "restart", "active", "part", "beat"):
            m.d.comb += getattr(decoder, name).eq(getattr(self, name))
        m.d.comb += [
            self.enable.eq(decoder.enable), self.place.eq(decoder.place),
            bases.write.eq(decoder.late.basis), bases.write_bank.eq(self.prepare_basis),
            bases.write_index.eq(decoder.late.number), bases.row.eq(decoder.content[0]),
        ]  # fmt: skip
        basis = Signal(spec.rebuild.engine.basis_layout)  # chosen once, not by each engine
        m.d.comb += basis.eq(Mux(self.run_basis, bases.banks[1].as_value(), bases.banks[0].as_value()))
        idle = Signal(spec.lines)
        for i in range(spec.lines):
            line = LineUnit(spec)
            m.submodules[f"line{i}"] = line
            m.d.comb += [
                line.write.eq(decoder.index[i]), line.write_bank.eq(self.prepare_bank),
                line.write_entry.eq(decoder.late.entry), line.write_data.eq(decoder.content[i]),
                line.clear.eq(started), line.begin.eq(self.run), line.flags.eq(self.flags[i]), line.bank.eq(self.run_bank),
                line.basis.eq(basis),
                self.entry[i].eq(line.entry), line.value.eq(self.value[i]), idle[i].eq(line.idle),
                self.sum[i].eq(line.sum),
            ]  # fmt: skip
            for name in ("go", "rebuilt", "short", "ends", "close"):
                m.d.comb += getattr(line, name).eq(getattr(self, name))
        m.d.comb += self.ending.eq(idle.all())
        m.d.sync += self.idle.eq(self.ending & ~self.run)
        return m
