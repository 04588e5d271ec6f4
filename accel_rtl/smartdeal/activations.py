"""``ibuf`` in copies, one a line, each in memories of beats that give a window of activations from any place a cycle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.blocks.scratchpad import NO_COLLISION, assert_apart
from accel_rtl.machine import VECTOR_PORTS

if TYPE_CHECKING:
    from accel_rtl.smartdeal.spec import SmartDealEngine


class InputCopies(wiring.Component):
    """All copies; beat b stands in memory ``b % input_memories`` of each.

    Latency: 1 cycle (synchronous reads). A beat may be written every cycle, to the bank that is not read. Reset does not
    clear the banks. There is no stall.

    Members
    -------
    write_valid, write_bank, write_offset, write_data : In
        A beat and its place in a bank.
    enable, bank : In; beat : In [lines]
        Each line reads the beats from its ``beat`` on, one of each memory.
    data : Out [lines]
        In the cycle after: memory 0 lowest, whichever of the beats it holds.
    v_* : as of `Machine.describe_engine`
        Copies 0 and 1; they go before the lines.
    """

    def __init__(self, spec: SmartDealEngine) -> None:
        self.spec = spec
        machine, place = spec.machine, spec.machine.ibuf_address_bits
        wide = spec.address_bits - (spec.beat_elements - 1).bit_length()
        super().__init__(
            {
                "write_valid": In(1), "write_bank": In(1), "write_offset": In(place), "write_data": In(machine.beat_bits),
                "enable": In(1), "bank": In(1), "beat": In(wide).array(spec.lines),
                "data": Out(machine.beat_bits * spec.input_memories).array(spec.lines),
                "v_enable": In(1).array(VECTOR_PORTS), "v_bank": In(1), "v_address": In(place).array(VECTOR_PORTS),
                "v_beat": Out(machine.beat_bits).array(VECTOR_PORTS),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        """Build the copies."""
        m, spec = Module(), self.spec
        which = (spec.input_memories - 1).bit_length()
        depth = 2 << spec.input_place_bits
        round_ = Signal(spec.input_place_bits)  # place of the written beat in its memory
        m.d.comb += round_.eq(self.write_offset >> which)
        for copy in range(spec.copies):
            wanted = self.beat[copy] if copy < spec.lines else None
            vector = copy < VECTOR_PORTS
            beats = []
            for k in range(spec.input_memories):
                attrs: dict[str, int | str] = {NO_COLLISION: 1, "ram_style": "block"}
                ram = memory.Memory(shape=spec.machine.beat_bits, depth=depth, init=[], attrs=attrs)
                m.submodules[f"copy{copy}_{k}"] = ram
                write, read = ram.write_port(), ram.read_port()
                place, enable, bank = Signal(spec.input_place_bits, name=f"place_{copy}_{k}"), self.enable, self.bank
                if wanted is not None:  # memories below the first beat's hold those of the next round
                    later = wanted[:which] > k if k < spec.input_memories - 1 else 0
                    m.d.comb += place.eq(wanted[which:] + later)
                else:
                    enable, bank = 0, 0
                if vector:
                    with m.If(self.v_enable[copy]):
                        m.d.comb += place.eq(self.v_address[copy] >> which)
                    enable, bank = enable | self.v_enable[copy], Mux(self.v_enable[copy], self.v_bank, bank)
                m.d.comb += [
                    write.addr.eq(Cat(round_, self.write_bank)),
                    write.data.eq(self.write_data), write.en.eq(self.write_valid & (self.write_offset[:which] == k)),
                    read.addr.eq(Cat(place, bank)), read.en.eq(enable),
                ]  # fmt: skip
                if spec.checked:
                    assert_apart(m, write, read, "a beat of activations is read and written in the same cycle")
                beats.append(read.data)
            if wanted is not None:
                m.d.comb += self.data[copy].eq(Cat(*beats))
            if vector:
                shown = Signal(which, name=f"shown_{copy}")
                m.d.sync += shown.eq(self.v_address[copy])
                m.d.comb += self.v_beat[copy].eq(Array(beats)[shown])
        return m
