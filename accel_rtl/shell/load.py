"""Load unit: what the read DMA brings, to ``wbuf``, ``ibuf`` and ``obuf``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Elaboratable, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.blocks.axi import AxiReadSignature
from accel_rtl.blocks.read_dma import ReadDma
from accel_rtl.blocks.run_walker import RunWalker
from accel_rtl.instruction_word import describe_layout
from accel_rtl.machine import ADDRESS_BITS, Machine
from hwsim.core.program import LOAD_I, LOAD_P, LOAD_W


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadUnit:
    """Runs LOAD_W, LOAD_I and LOAD_P.

    Ports
        ``instruction``, ``taken``, ``start`` in, ``done`` out: of the unit's control (`accel_rtl.blocks.sequencer.describe_unit`).
        ``w_write_*``, ``i_write_*`` out: beats and their places in a bank, as the engine has them. ``p_enable`` [columns],
        ``p_bank``, ``p_word``, ``p_data`` [columns] out: accumulators, as `accel_rtl.shell.obuf` has them. ``fault`` out: pulse,
        as of the DMA. ``axi``: read master.
    Places
        Beats go into the bank in order, from its first place on; those of a LOAD_I that waits for nothing behind those of the
        LOAD_I before it. A beat of LOAD_P is accumulators of neighbouring columns, the lowest first; words of a bank in order.
    Latency, throughput, stall
        Those of `accel_rtl.blocks.read_dma`: a beat is written in the cycle behind its R, ``done`` is high with the last one.
    Reset
        Idle.

    Parameters
    ----------
    machine : Machine
    """

    machine: Machine

    @property
    def dma(self) -> ReadDma:
        """What moves the beats."""
        walker = RunWalker(beat_bits=self.machine.beat_bits, address_bits=ADDRESS_BITS)
        return ReadDma(walker=walker, offset_bits=max(self.machine.wbuf_address_bits, self.machine.ibuf_address_bits))

    @property
    def accumulators(self) -> int:
        """Accumulators of a beat."""
        return self.machine.beat_bits // self.machine.psum_bits

    def compute(self, loads: Iterable[tuple[Any, list[int]]]) -> list[tuple[str, int, int, int]]:
        """Return (buffer, bank, place, value) of all writes, in order.

        Parameters
        ----------
        loads : iterable of (record, list of int)
            Records of dtype `hwsim.core.program.INSTRUCTION`, and the beats that memory gives. The place of an accumulator is
            ``word * columns + column``.
        """
        writes, place = [], 0
        for record, beats in loads:
            op, bank = int(record["op"]), int(record["bank"])
            if op == LOAD_I and record["wait"]:
                place = 0
            for k, beat in enumerate(beats):
                if op == LOAD_W:
                    writes.append(("wbuf", bank, k, beat))
                elif op == LOAD_I:
                    writes.append(("ibuf", bank, place, beat))
                    place += 1
                else:
                    width, many = self.machine.psum_bits, self.accumulators
                    values = [beat >> i * width & ((1 << width) - 1) for i in range(many)]
                    writes += [("obuf", bank, k * many + i, value) for i, value in enumerate(values)]
        return writes

    def create(self) -> wiring.Component:
        """Return the component."""
        return LoadUnitComponent(self)


class LoadUnitComponent(wiring.Component):
    """See `LoadUnit`."""

    def __init__(self, spec: LoadUnit) -> None:
        self.spec = spec
        machine, walker = spec.machine, spec.dma.walker
        columns, beat = machine.columns, machine.beat_bits
        members: dict[str, Any] = {
            "instruction": In(describe_layout()), "taken": In(1), "start": In(1), "done": Out(1), "fault": Out(1),
            "axi": Out(AxiReadSignature(walker.address_bits, beat, walker.beat_count_bits)),
            "p_enable": Out(1).array(columns), "p_bank": Out(1), "p_word": Out(machine.word_bits),
            "p_data": Out(signed(machine.psum_bits)).array(columns),
        }  # fmt: skip
        for name, bits in (("w", machine.wbuf_address_bits), ("i", machine.ibuf_address_bits)):
            members |= {f"{name}_write_valid": Out(1), f"{name}_write_bank": Out(1)}
            members |= {f"{name}_write_offset": Out(bits), f"{name}_write_data": Out(beat)}
        super().__init__(members)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        spec = self.spec
        m.submodules.dma = dma = spec.dma.create()
        wiring.connect(m, dma.axi, wiring.flipped(self.axi))
        head = self.instruction
        follows = Signal(spec.dma.offset_bits)  # place behind the last beat of LOAD_I
        is_input = Signal()
        m.d.comb += [
            is_input.eq(head.op == LOAD_I),
            dma.start.eq(self.start),
            *spec.dma.walker.assign_word(dma.transfer, head),
            dma.offset.eq(Mux(is_input, follows, 0)),
            self.done.eq(dma.done),
            self.fault.eq(dma.fault),
        ]
        with m.If(self.taken & is_input & (head.wait != 0)):
            m.d.sync += follows.eq(0)
        with m.If(dma.write_valid & is_input):
            m.d.sync += follows.eq(dma.write_offset + 1)
        for name, op in (("w", LOAD_W), ("i", LOAD_I)):
            m.d.comb += [
                getattr(self, f"{name}_write_valid").eq(dma.write_valid & (head.op == op)),
                getattr(self, f"{name}_write_bank").eq(head.bank),
                getattr(self, f"{name}_write_offset").eq(dma.write_offset),
                getattr(self, f"{name}_write_data").eq(dma.write_data),
            ]
        self._fill_accumulators(m, dma)
        return m

    def _fill_accumulators(self, m: Module, dma: Any) -> None:
        """Deal the accumulators of beats out to the columns of words."""
        machine, many = self.spec.machine, self.spec.accumulators
        beats = machine.columns // many
        word, part = Signal(machine.word_bits), Signal(range(max(2, beats)))
        valid = Signal()
        m.d.comb += [
            valid.eq(dma.write_valid & (self.instruction.op == LOAD_P)),
            self.p_bank.eq(self.instruction.bank),
            self.p_word.eq(word),
        ]
        with m.If(self.start):
            m.d.sync += [word.eq(0), part.eq(0)]
        with m.Elif(valid):
            m.d.sync += part.eq(part + 1)
            with m.If(part == beats - 1):
                m.d.sync += [part.eq(0), word.eq(word + 1)]
        for column in range(machine.columns):
            m.d.comb += [
                self.p_enable[column].eq(valid & (part == column // many)),
                self.p_data[column].eq(dma.write_data.word_select(column % many, machine.psum_bits)),
            ]
