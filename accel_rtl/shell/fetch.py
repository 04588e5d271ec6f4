"""Fetch: the words of a program image, from an AXI4 port of their own: header, parameters, then instructions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from amaranth.hdl import Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.blocks.axi import PAGE_BYTES, AxiReadSignature, drive_address
from accel_rtl.blocks.ram_fifo import RamFifo
from accel_rtl.instruction_word import WORD_BITS, WORD_BYTES, describe_layout
from accel_rtl.machine import ADDRESS_BITS
from accel_rtl.shell.vector_descriptor import header_layout
from hwsim.core.check import require_int
from hwsim.core.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """Reads a program image.

    Ports
        ``start`` in: pulse; only while nothing is under way. ``address`` [40] in: byte address of the first word, a multiple of 64.
        ``parameter_words``, ``program_words`` [32] in: words of both parts, 1 of the first at least; all three steady from
        ``start`` on. ``header`` out: the first word, `header_layout`, until the next one comes. ``write_valid``, ``write_address``
        [``parameter_bits``], ``write_data`` [512] out: the words behind it, counted from 0, into the parameter memory. ``o``:
        stream of the program's words. ``prefetched`` out: the FIFO is full, or all words have come. ``fault`` out: pulse,
        the memory answered SLVERR or DECERR. ``axi``: read master of 512 bits.
    Latency
        The first address is on the bus 2 cycles behind ``start``. A parameter word is written in the cycle behind its R, an
        instruction word is offered 3 cycles behind it: a register behind the FIFO's block RAM.
    Throughput
        A word a cycle, as long as the memory gives one a cycle and answers within ``words - burst_words`` cycles. An address a
        cycle; INCR bursts of ``burst_words``, the first one up to a multiple of its length, so that none crosses 4 KiB.
    Reset
        Idle; the header is 0.
    Stall
        A burst is asked for only while the FIFO has ``burst_words`` places left for it: ``rready`` is constant. The last word
        read is the last of the program.

    Parameters
    ----------
    words : int
        Places of the FIFO.
    burst_words : int
        Longest burst, a power of two.
    parameter_bits : int
        Width of a word's place in the parameter memory.
    """

    words: int = 64
    burst_words: int = 16
    parameter_bits: int = 9

    def __post_init__(self) -> None:
        require_int("fetch.burst_words", self.burst_words, 1, PAGE_BYTES // WORD_BYTES)
        if self.burst_words & (self.burst_words - 1):
            raise SpecError("fetch.burst_words", self.burst_words, "a power of two")
        require_int("fetch.words", self.words, 2 * self.burst_words, 1 << 10)
        require_int("fetch.parameter_bits", self.parameter_bits, 1, 20)

    def compute(self, address: int, words: int) -> Iterator[tuple[int, int]]:
        """Yield (byte address, words) of all bursts."""
        while words:
            length = min(words, self.burst_words - address // WORD_BYTES % self.burst_words)
            yield address, length
            address, words = address + length * WORD_BYTES, words - length

    def create(self) -> wiring.Component:
        """Return the component."""
        return FetchComponent(self)


class FetchComponent(wiring.Component):
    """See `Fetch`."""

    def __init__(self, spec: Fetch) -> None:
        self.spec = spec
        super().__init__(
            {
                "start": In(1), "address": In(ADDRESS_BITS), "parameter_words": In(32), "program_words": In(32),
                "header": Out(header_layout()),
                "write_valid": Out(1), "write_address": Out(spec.parameter_bits), "write_data": Out(WORD_BITS),
                "o": Out(stream.Signature(describe_layout())),
                "prefetched": Out(1), "fault": Out(1),
                "axi": Out(AxiReadSignature(ADDRESS_BITS, WORD_BITS, 1)),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        axi = self.axi
        m.submodules.queue = queue = RamFifo(width=WORD_BITS, depth=self.spec.words)
        left = Signal(32)  # parameter words still to come
        place = Signal(self.spec.parameter_bits)
        is_first, is_program, free = Signal(), Signal(), Signal()
        m.d.comb += [
            axi.rready.eq(1),
            is_program.eq(left == 0),
            queue.w_en.eq(axi.rvalid & is_program),
            queue.w_data.eq(axi.rdata),
            free.eq(~self.o.valid | self.o.ready),
            queue.r_en.eq(free),
        ]
        with m.If(free):
            m.d.sync += [self.o.valid.eq(queue.r_rdy), self.o.payload.as_value().eq(queue.r_data)]
        m.d.sync += [
            self.fault.eq(axi.rvalid & axi.rresp[1]),
            self.write_valid.eq(axi.rvalid & ~is_first & ~is_program),
            self.write_address.eq(place),
            self.write_data.eq(axi.rdata),
        ]
        with m.If(self.start):
            m.d.sync += [left.eq(self.parameter_words), place.eq(0), is_first.eq(1)]
        with m.Elif(axi.rvalid & ~is_program):
            m.d.sync += [left.eq(left - 1), is_first.eq(0), place.eq(place + ~is_first)]
            with m.If(is_first):
                m.d.sync += self.header.as_value().eq(axi.rdata)
        self._request(m, (axi.rvalid & ~is_program) | (queue.r_rdy & free))
        return m

    def _request(self, m: Module, freed: Value) -> None:
        """Ask for bursts while there are places; a parameter word frees its place as it comes, a program's as it leaves."""
        spec, axi = self.spec, self.axi
        shift = WORD_BYTES.bit_length() - 1
        at, left = Signal(ADDRESS_BITS - shift), Signal(33)
        room = Signal(range(spec.words + 1), init=spec.words)
        to_come = Signal(range(spec.words + 1))
        length, rest = Signal(range(spec.burst_words + 1)), Signal(range(spec.burst_words + 1))
        asks = Signal()
        word, last, valid = Signal.like(at), Signal(8), Signal()
        within = at[: spec.burst_words.bit_length() - 1]
        m.d.comb += [
            rest.eq(spec.burst_words - within),
            length.eq(Mux(left < rest, left, rest)),
            asks.eq((left != 0) & (room >= spec.burst_words) & (~valid | axi.arready)),
            *drive_address(axi, "ar", address=word, length=last, user=Const(0), valid=valid),
            self.prefetched.eq((to_come == 0) & ((left == 0) | (room < spec.burst_words))),
        ]
        m.d.sync += [
            room.eq(room - Mux(asks, length, 0) + freed),
            to_come.eq(to_come + Mux(asks, length, 0) - axi.rvalid),
        ]
        with m.If(axi.arready):
            m.d.sync += valid.eq(0)
        with m.If(asks):
            m.d.sync += [valid.eq(1), word.eq(at), last.eq(length - 1), at.eq(at + length), left.eq(left - length)]
        with m.If(self.start):
            m.d.sync += [at.eq(self.address >> shift), left.eq(self.parameter_words + self.program_words)]
