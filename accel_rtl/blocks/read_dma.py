"""Read DMA: the runs of a load, from memory through AR and R into a scratchpad's write port."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.blocks.axi import AxiReadSignature
from accel_rtl.blocks.run_walker import RunWalker, queue_requests
from hwsim.core.check import require_int

REQUEST_CYCLES = 2
"""From ``start`` to the first address on the bus: walker, then the register of the channel. The same for reads and writes."""
RETURN_CYCLES = 1
"""From the last beat (of R, or B of a write) to ``done``: both go through a register."""
LEAST_LATENCY_CYCLES = REQUEST_CYCLES + 1 + RETURN_CYCLES
"""Least ``memory.latency_cycles`` that can be built: a memory answers one cycle behind the request at the earliest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadDma:
    """A DMA that fills scratchpads.

    Parameters
    ----------
    walker : RunWalker
        Beat, addresses, counters.
    offset_bits : int
        Width of a beat's place in a bank.
    """

    walker: RunWalker
    offset_bits: int

    def __post_init__(self) -> None:
        require_int("read_dma.offset_bits", self.offset_bits, 1, 32)

    def compute(self, transfer: Mapping[str, int], offset: int, memory: bytes | bytearray) -> list[tuple[int, int]]:
        """Return (place in the bank, beat) of all writes of a transfer as `RunWalker.encode` gives it, in order."""
        size = self.walker.beat_bits // 8
        beats = [
            int.from_bytes(memory[at : at + size], "little")
            for burst in self.walker.compute(transfer)
            for at in range(burst.address, burst.address + burst.beats * size, size)
        ]
        return [((offset + i) % (1 << self.offset_bits), beat) for i, beat in enumerate(beats)]

    def create(self) -> ReadDmaComponent:
        """Return the component."""
        return ReadDmaComponent(self)


class ReadDmaComponent(wiring.Component):
    """See `ReadDma`.

    Ports
    -----
    start : in, 1
        Pulse: begin the transfer. Only while no other is under way (``done`` included).
    transfer : in, `RunWalker.transfer_shape`
        Stands from ``start`` to ``done``.
    offset : in, offset_bits
        Place of the first beat; taken with ``start``.
    done : out, 1
        Pulse in the last cycle of the transfer, in which its last beat is written: it can be read from the next cycle on.
    write_valid, write_offset, write_data : out
        The write port: a beat and its place in the bank. The bank and the buffer are the instruction's, for the whole transfer.
    fault : out, 1
        Pulse: the memory answered SLVERR or DECERR; the beat is written all the same.
    axi : out, `AxiReadSignature`

    Latency: the first address appears `REQUEST_CYCLES` behind ``start``, a beat is written `RETURN_CYCLES` behind its R, so
    that with the first R ``L - RETURN_CYCLES`` behind ``start`` and one a cycle, ``done`` is high in cycle
    ``start + L + beats - 1``. One address and one beat a cycle. Stall: addresses wait for ``arready``; R is always
    accepted (``rready`` is constant). Every output but ``rready`` is a register or a skid buffer's. Reset: idle.
    """

    def __init__(self, spec: ReadDma) -> None:
        self._spec = spec
        walker = spec.walker
        super().__init__(
            {
                "start": In(1),
                "transfer": In(walker.transfer_shape),
                "offset": In(spec.offset_bits),
                "done": Out(1),
                "write_valid": Out(1),
                "write_offset": Out(spec.offset_bits),
                "write_data": Out(walker.beat_bits),
                "fault": Out(1),
                "axi": Out(AxiReadSignature(walker.address_bits, walker.beat_bits, walker.beat_count_bits)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        spec, axi = self._spec.walker, self.axi
        m.submodules.walker = walker = spec.create()
        beats = Signal(spec.beat_count_bits)
        left = Signal(spec.beat_count_bits)
        place = Signal(self._spec.offset_bits)
        m.d.comb += [walker.start.eq(self.start), walker.transfer.eq(self.transfer), axi.rready.eq(1)]
        request = queue_requests(m, spec, walker.bursts.payload, beats, axi, "ar")
        m.d.comb += [request.valid.eq(walker.bursts.valid), walker.bursts.ready.eq(request.ready)]
        m.d.sync += [
            self.done.eq(axi.rvalid & (left == 1)),
            self.fault.eq(axi.rvalid & axi.rresp[1]),
            self.write_valid.eq(axi.rvalid),
            self.write_data.eq(axi.rdata),
            self.write_offset.eq(place),
        ]
        with m.If(self.start):
            m.d.sync += [beats.eq(self.transfer.beats), left.eq(self.transfer.beats), place.eq(self.offset)]
        with m.Elif(axi.rvalid):
            m.d.sync += [left.eq(left - 1), place.eq(place + 1)]
        return m
