"""Line stores: activations of the rows of two passes, one that is prepared and one that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.smartdeal.spec import ENTRY_WEIGHTS, OPERAND_BITS

if TYPE_CHECKING:
    from accel_rtl.smartdeal.spec import SmartDealEngine


class LineStore(wiring.Component):
    """The store of one line, a copy of it for each slice.

    Latency: what is written can be read in the next cycle; reads are asynchronous. Throughput: an entry written, one read a
    slice, a cycle. Reset does not clear it. There is no stall.

    Members
    -------
    write : In [3], write_bank, write_entry, value : In
        Weights of the entry whose activations are written; ``value`` ``[3][macs]``.
    bank : In; entry : In [slices]; held : Out [slices]
        What is read.
    """

    def __init__(self, spec: SmartDealEngine) -> None:
        self.spec = spec
        values = data.ArrayLayout(data.ArrayLayout(signed(OPERAND_BITS), spec.macs), ENTRY_WEIGHTS)
        super().__init__(
            {
                "write": In(ENTRY_WEIGHTS), "write_bank": In(1), "write_entry": In(spec.entry_bits), "value": In(values),
                "bank": In(1), "entry": In(spec.entry_bits).array(spec.slices), "held": Out(values).array(spec.slices),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m, spec = Module(), self.spec
        width = spec.macs * OPERAND_BITS
        for s in range(ENTRY_WEIGHTS):
            ram = memory.Memory(shape=width, depth=2 << spec.entry_bits, init=[])
            m.submodules[f"weight{s}"] = ram
            write = ram.write_port()
            value = Signal(width, name=f"value_{s}")
            m.d.comb += [
                value.eq(self.value[s]), write.addr.eq(Cat(self.write_entry, self.write_bank)), write.data.eq(value),
                write.en.eq(self.write[s]),
            ]  # fmt: skip
            for k in range(spec.slices):
                read = ram.read_port(domain="comb")
                m.d.comb += [read.addr.eq(Cat(self.entry[k], self.bank)), self.held[k][s].eq(read.data)]
        return m
