"""Write DMA: beats of a stream, with byte strobes, to the runs of a store in memory through AW, W and B."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.blocks.axi import CACHE, CACHE_WRITTEN, AxiWriteSignature
from accel_rtl.blocks.read_dma import REQUEST_CYCLES, RETURN_CYCLES
from accel_rtl.blocks.run_walker import RunWalker, queue_requests
from accel_rtl.blocks.skid import SkidBuffer
from hwsim.core.check import require_int

DATA_CYCLES = REQUEST_CYCLES + 1
"""From ``start`` to the first W on the bus at the earliest."""
ANSWER_CYCLES = 1
"""From the last W to B in a memory that is never behind."""
LEAST_STORE_CYCLES = DATA_CYCLES + ANSWER_CYCLES + RETURN_CYCLES
"""From ``start`` to the end of a store of one beat, less that beat, if the data wait: the least latency of a store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteDma:
    """A DMA that empties a stream into memory.

    Parameters
    ----------
    walker : RunWalker
        Beat, addresses, counters.
    bursts : int
        Bursts whose addresses may be ahead of their data, 2 to 64.
    """

    walker: RunWalker
    bursts: int = 16

    def __post_init__(self) -> None:
        require_int("write_dma.bursts", self.bursts, 2, 64)

    @property
    def beat_shape(self) -> data.StructLayout:
        """What the stream carries: ``data`` and ``strobe``, a bit for each byte that is written."""
        return data.StructLayout({"data": self.walker.beat_bits, "strobe": self.walker.beat_bits // 8})

    def compute(self, transfer: Mapping[str, int], beats: Iterable[tuple[int, int]], memory: bytearray) -> None:
        """Write (data, strobe) beats into the runs of a transfer as `RunWalker.encode` gives it, changing ``memory``."""
        size, left = self.walker.beat_bits // 8, iter(beats)
        for burst in self.walker.compute(transfer):
            for at in range(burst.address, burst.address + burst.beats * size, size):
                value, strobe = next(left)
                for i, byte in enumerate(value.to_bytes(size, "little")):
                    if strobe >> i & 1:
                        memory[at + i] = byte

    def create(self) -> WriteDmaComponent:
        """Return the component."""
        return WriteDmaComponent(self)


class WriteDmaComponent(wiring.Component):
    """See `WriteDma`.

    Ports
    -----
    start : in, 1
        Pulse: begin the transfer. Only while no other is under way (``done`` included).
    transfer : in, `RunWalker.transfer_shape`
        Stands from ``start`` to ``done``.
    posted : in, 1
        Writes may be answered once they are accepted (AWCACHE bufferable); low for partial sums, which are read again.
        Stands from ``start`` to ``done``.
    beats : in, stream of `WriteDma.beat_shape`
        Exactly ``transfer.beats`` items are taken, in the order of the runs.
    done : out, 1
        Pulse in the last cycle of the transfer: every B has come.
    fault : out, 1
        Pulse: the memory answered SLVERR or DECERR.
    axi : out, `AxiWriteSignature`

    Latency: the first address appears `REQUEST_CYCLES` behind ``start``, the first W `DATA_CYCLES` behind it and one cycle
    behind its item at the earliest, ``done`` `RETURN_CYCLES` behind the last B. One address and one beat a cycle; addresses
    run at most ``bursts`` bursts ahead of the data. Neither channel waits for the other's ready (IHI 0022, section
    A3.3.1). Stall: ``beats.ready`` falls when two beats wait for ``wready``, or when no burst is known for
    them; B is always accepted. AW and W are a skid buffer's registers, ``done`` and ``fault`` registers. Reset: idle.
    """

    def __init__(self, spec: WriteDma) -> None:
        self._spec = spec
        walker = spec.walker
        super().__init__(
            {
                "start": In(1),
                "transfer": In(walker.transfer_shape),
                "posted": In(1),
                "beats": In(stream.Signature(spec.beat_shape)),
                "done": Out(1),
                "fault": Out(1),
                "axi": Out(AxiWriteSignature(walker.address_bits, walker.beat_bits, walker.beat_count_bits)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        spec, axi = self._spec.walker, self.axi
        m.submodules.walker = walker = spec.create()
        m.submodules.lengths = lengths = fifo.SyncFIFO(width=8, depth=self._spec.bursts)
        burst = walker.bursts
        total = Signal(spec.beat_count_bits)
        request = queue_requests(m, spec, burst.payload, total, axi, "aw", Mux(self.posted, CACHE, CACHE_WRITTEN))
        taken = Signal()
        m.d.comb += [
            walker.start.eq(self.start),
            walker.transfer.eq(self.transfer),
            request.valid.eq(burst.valid & lengths.w_rdy),
            burst.ready.eq(request.ready & lengths.w_rdy),
            taken.eq(burst.valid & burst.ready),
            lengths.w_en.eq(taken),
            lengths.w_data.eq(burst.payload.length),
            axi.bready.eq(1),
        ]
        with m.If(self.start):
            m.d.sync += total.eq(self.transfer.beats)
        self._connect_data(m, lengths)
        self._count_answers(m, taken, burst.payload.last)
        return m

    def _connect_data(self, m: Module, lengths: fifo.SyncFIFO) -> None:
        axi, beat = self.axi, self.beats.payload
        place = Signal(8)
        last = Signal()
        entry = Cat(beat.data, beat.strobe, last)
        m.submodules.w_skid = skid = SkidBuffer(width_bits=len(entry)).create()
        m.d.comb += [
            last.eq(place == lengths.r_data),
            skid.i.payload.eq(entry),
            skid.i.valid.eq(self.beats.valid & lengths.r_rdy),
            self.beats.ready.eq(skid.i.ready & lengths.r_rdy),
            Cat(axi.wdata, axi.wstrb, axi.wlast).eq(skid.o.payload),
            axi.wvalid.eq(skid.o.valid),
            skid.o.ready.eq(axi.wready),
        ]
        with m.If(skid.i.valid & skid.i.ready):
            m.d.comb += lengths.r_en.eq(last)
            m.d.sync += place.eq(place + 1)
            with m.If(last):
                m.d.sync += place.eq(0)

    def _count_answers(self, m: Module, taken: Signal, last: Signal) -> None:
        """Count bursts that were begun and not answered; the last one's answer ends the transfer."""
        axi = self.axi
        unanswered = Signal(self._spec.walker.beat_count_bits)
        begun = Signal()  # all bursts of the transfer were begun
        m.d.sync += [
            unanswered.eq(unanswered + taken - axi.bvalid),
            self.done.eq(axi.bvalid & begun & (unanswered == 1)),
            self.fault.eq(axi.bvalid & axi.bresp[1]),
        ]
        with m.If(taken & last):
            m.d.sync += begun.eq(1)
        with m.Elif(self.start):
            m.d.sync += begun.eq(0)
