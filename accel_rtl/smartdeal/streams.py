"""``wbuf``: a memory for each slice's stream, and what deals the beats of a tile to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.blocks.scratchpad import NO_COLLISION, assert_apart
from accel_rtl.smartdeal.spec import HEADER_BITS

if TYPE_CHECKING:
    from accel_rtl.smartdeal.spec import SmartDealEngine


class SliceStreams(wiring.Component):
    """Two banks of a stream for each slice.

    The beats of a tile come in order: its header (16 bits a slice, the beats of each stream), then the streams. Slices without
    filters are the last ones, so an empty stream has no full one behind it.

    Latency: a read comes in the next cycle and stands until the next read. Throughput: a beat in and, for each slice, one out a
    cycle, of different banks. Reset does not clear the banks. There is no stall.

    Members
    -------
    write_valid, write_bank, write_offset, write_data : In
        A beat and its place in the tile; 0 begins a tile.
    bank : In
        Which one is read.
    enable, place : In [slices]; beat : Out [slices]
        Beats of a stream.
    """

    def __init__(self, spec: SmartDealEngine) -> None:
        self.spec = spec
        machine = spec.machine
        super().__init__(
            {
                "write_valid": In(1), "write_bank": In(1), "write_offset": In(machine.wbuf_address_bits),
                "write_data": In(machine.beat_bits), "bank": In(1),
                "enable": In(1).array(spec.slices), "place": In(spec.stream_place_bits).array(spec.slices),
                "beat": Out(machine.beat_bits).array(spec.slices),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m, spec = Module(), self.spec
        beat, slices = spec.machine.beat_bits, spec.slices
        in_beat = min(slices, beat // HEADER_BITS)
        header = -(-slices // in_beat)
        lengths = Signal(slices * HEADER_BITS)
        place, owner = Signal(HEADER_BITS), Signal(range(slices))
        length = Signal(HEADER_BITS)
        m.d.comb += length.eq(lengths.word_select(owner, HEADER_BITS))
        of_header = self.write_offset < header
        with m.If(self.write_valid):
            with m.If(of_header):
                for i in range(header):
                    part = lengths[i * beat : (i + 1) * beat]
                    with m.If(self.write_offset == i):
                        m.d.sync += part.eq(self.write_data)
                m.d.sync += [place.eq(0), owner.eq(0)]
            with m.Else():
                full = place + 1 == length
                m.d.sync += [place.eq(Mux(full, 0, place + 1)), owner.eq(owner + full)]
        for k in range(slices):
            ram = memory.Memory(
                shape=beat, depth=2 << spec.stream_place_bits, init=[], attrs={NO_COLLISION: 1, "ram_style": "block"}
            )
            m.submodules[f"stream{k}"] = ram
            write, read = ram.write_port(), ram.read_port()
            m.d.comb += [
                write.addr.eq(Cat(place[: spec.stream_place_bits], self.write_bank)), write.data.eq(self.write_data),
                write.en.eq(self.write_valid & ~of_header & (owner == k)),
                read.addr.eq(Cat(self.place[k], self.bank)), read.en.eq(self.enable[k]), self.beat[k].eq(read.data),
            ]  # fmt: skip
            if spec.checked:
                assert_apart(m, write, read, "a beat of a stream is read and written in the same cycle")
        return m
