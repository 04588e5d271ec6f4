"""Exec engine of SmartDeal: from the banks of ``ibuf`` and ``wbuf`` to sums in ``obuf``.

``docs/rtl.md`` has the schedule; `accel_rtl.smartdeal.walk` the order of passes, `loader` and `decode` what prepares one, `line`
what runs it, `results` what comes out. `hwsim.archs.smartdeal.timing` has the constants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring

from accel_rtl.smartdeal.activations import InputCopies
from accel_rtl.smartdeal.decode import DecodeControl
from accel_rtl.smartdeal.line import LEAD_CYCLES
from accel_rtl.smartdeal.line_store import LineStore
from accel_rtl.smartdeal.loader import RowLoader
from accel_rtl.smartdeal.results import ResultDrain
from accel_rtl.smartdeal.slice import SliceUnit
from accel_rtl.smartdeal.streams import SliceStreams
from accel_rtl.smartdeal.walk import PassWalk

if TYPE_CHECKING:
    from accel_rtl.smartdeal.spec import SmartDealEngine


class SmartDealUnit(wiring.Component):
    """The engine, with its buffers of weights and activations.

    Ports: `accel_rtl.machine.Machine.describe_engine`. Latency: ``done`` is high in the last of the busy cycles that
    `hwsim.archs.smartdeal.datapath.SmartDealDatapath.exec_times` counts from ``start`` on; results stand in ``obuf`` ``tail``
    cycles behind it. Throughput: a tile may start in the cycle after ``done``; banks of ``wbuf`` and ``ibuf`` are not read behind
    it. Reset: idle. There is no stall.
    """

    def __init__(self, spec: SmartDealEngine) -> None:
        self.spec = spec
        super().__init__(spec.machine.describe_engine(spec.tile_words))

    def elaborate(self, platform: object) -> Module:
        """Build and join the parts."""
        m, spec = Module(), self.spec
        tile = Signal(spec.layout)
        m.d.comb += tile.eq(self.tile[: spec.layout.size])
        m.submodules.walk = walk = PassWalk(spec)
        m.submodules.loader = loader = RowLoader(spec)
        m.submodules.decode = decode = DecodeControl(spec)
        prepares, runs = walk.begin & walk.prepares, walk.begin & walk.runs
        m.d.comb += [walk.start.eq(self.start), walk.tile.eq(tile), self.done.eq(walk.done)]
        m.d.comb += walk.prepared.eq(loader.done & decode.done)
        for unit in (loader, decode):
            m.d.comb += [unit.begin.eq(prepares), unit.tile.eq(tile), unit.pass_.eq(walk.pass_)]
        lead = Signal(LEAD_CYCLES)  # the last bit stays
        with m.If(runs):
            m.d.sync += lead.eq(1)
        with m.Else():
            m.d.sync += lead.eq(Cat(0, lead[:-1]) | (lead & (1 << LEAD_CYCLES - 1)))
        self._join_inputs(m, tile, loader)
        slices = self._join_slices(m, tile, walk, decode, loader, prepares, runs, lead[-1])
        m.d.comb += walk.ran.eq(Cat(unit.idle for unit in slices).all())
        m.d.comb += walk.ending.eq(Cat(unit.ending for unit in slices).all())
        self._join_results(m, walk, slices)
        return m

    def _join_inputs(self, m: Module, tile: Any, loader: Any) -> None:
        m.submodules.copies = copies = InputCopies(self.spec)
        for name in ("valid", "bank", "offset", "data"):
            m.d.comb += getattr(copies, f"write_{name}").eq(getattr(self, f"i_write_{name}"))
        m.d.comb += [copies.enable.eq(loader.enable), copies.bank.eq(tile.i_bank), copies.v_bank.eq(self.v_bank)]
        for line in range(self.spec.lines):
            m.d.comb += [copies.beat[line].eq(loader.beat[line]), loader.data[line].eq(copies.data[line])]
        for port in range(len(self.v_enable)):
            m.d.comb += [
                copies.v_enable[port].eq(self.v_enable[port]), copies.v_address[port].eq(self.v_address[port]),
                self.v_beat[port].eq(copies.v_beat[port]),
            ]  # fmt: skip

    def _join_slices(
        self, m: Module, tile: Any, walk: Any, decode: Any, loader: Any, prepares: Any, runs: Any, go: Any
    ) -> list[SliceUnit]:
        spec = self.spec
        m.submodules.streams = streams = SliceStreams(spec)
        for name in ("valid", "bank", "offset", "data"):
            m.d.comb += getattr(streams, f"write_{name}").eq(getattr(self, f"w_write_{name}"))
        m.d.comb += streams.bank.eq(tile.w_bank)
        stores = [LineStore(spec) for _ in range(spec.lines)]
        for line, store in enumerate(stores):
            m.submodules[f"store{line}"] = store
            m.d.comb += [
                store.write.eq(loader.write), store.write_bank.eq(walk.pass_.bank), store.write_entry.eq(loader.entry),
                store.value.eq(loader.value[line]), store.bank.eq(walk.run_bank),
            ]  # fmt: skip
        slices = [SliceUnit(spec) for _ in range(spec.slices)]
        for k, unit in enumerate(slices):
            m.submodules[f"slice{k}"] = unit
            active = Signal(name=f"active{k}")
            m.d.sync += active.eq(walk.pass_.slices > k)
            m.d.comb += [
                unit.begin.eq(prepares), unit.rewind.eq(walk.rewind), unit.advance.eq(walk.advance),
                unit.restart.eq(walk.reset_streams), unit.active.eq(active), unit.part.eq(decode.part),
                streams.enable[k].eq(unit.enable), streams.place[k].eq(unit.place), unit.beat.eq(streams.beat[k]),
                unit.prepare_bank.eq(walk.pass_.bank), unit.prepare_basis.eq(walk.pass_.basis), unit.run.eq(runs),
                unit.go.eq(go), unit.rebuilt.eq(tile.rebuilt), unit.short.eq(tile.short), unit.ends.eq(tile.ends),
                unit.run_bank.eq(walk.run_bank), unit.run_basis.eq(walk.run_basis), unit.close.eq(walk.close),
            ]  # fmt: skip
            for line, store in enumerate(stores):
                m.d.comb += [
                    unit.flags[line].eq(loader.flags[line]), store.entry[k].eq(unit.entry[line]),
                    unit.value[line].eq(store.held[k]),
                ]  # fmt: skip
        return slices

    def _join_results(self, m: Module, walk: Any, slices: list[SliceUnit]) -> None:
        spec = self.spec
        m.submodules.drain = drain = ResultDrain(spec)
        m.d.comb += [drain.close.eq(walk.close), drain.closing.eq(walk.closing)]
        for k, unit in enumerate(slices):
            for line in range(spec.lines):
                m.d.comb += drain.sum[k * spec.lines + line].eq(unit.sum[line])
        for way, names in (("read", ("enable", "bank", "address")), ("write", ("enable", "bank", "address", "data"))):
            for name in names:
                for k in range(spec.slices):
                    m.d.comb += getattr(self, f"o_{way}_{name}")[k].eq(getattr(drain, f"o_{way}_{name}")[k])
        for k in range(spec.slices):
            m.d.comb += drain.o_read_data[k].eq(self.o_read_data[k])
