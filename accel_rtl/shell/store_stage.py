"""Staging buffer of the store unit: elements become beats with byte strobes, and stand there until the write DMA takes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.blocks.scratchpad import NO_COLLISION
from hwsim.core.check import require_int
from hwsim.core.errors import SpecError

ELEMENT_BITS = (1, 2, 4, 8, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStage:
    """A packer and its memory.

    Parameters
    ----------
    beat_bits : int
        Width of a beat, a power of two of at least a byte.
    element_bits : int
        Of a stored element: 1, 2, 4, 8 or 16, at most a beat.
    beats : int
        What the memory holds.
    checked : bool
        Assert in simulation that no beat is read and written in the same cycle.
    """

    beat_bits: int
    element_bits: int
    beats: int
    checked: bool = False

    def __post_init__(self) -> None:
        if self.element_bits not in ELEMENT_BITS or self.element_bits > self.beat_bits:
            raise SpecError("store_stage.element_bits", self.element_bits, "1, 2, 4, 8 or 16, at most a beat")
        require_int("store_stage.beats", self.beats, 1, 1 << 24)

    @property
    def places(self) -> int:
        """Elements of a beat."""
        return self.beat_bits // self.element_bits

    @property
    def place_bits(self) -> int:
        """Width of a place in a beat."""
        return max(1, (self.places - 1).bit_length())

    @property
    def address_bits(self) -> int:
        """Width of a beat's place."""
        return max(1, (self.beats - 1).bit_length())

    @property
    def beat_shape(self) -> data.StructLayout:
        """What the stream carries, as of `WriteDma.beat_shape`."""
        return data.StructLayout({"data": self.beat_bits, "strobe": self.beat_bits // 8})

    def compute(self, elements: Iterable[tuple[int, int, bool]]) -> list[tuple[int, int]]:
        """Return (data, strobe) of the beats of elements given as (stored integer, place, ends the beat), in order."""
        beats, beat, strobe = [], 0, 0
        for stored, place, flush in elements:
            at = place * self.element_bits
            beat |= (stored & ((1 << self.element_bits) - 1)) << at
            for byte in range(at // 8, -(-(at + self.element_bits) // 8)):
                strobe |= 1 << byte
            if flush:
                beats.append((beat, strobe))
                beat = strobe = 0
        return beats

    def create(self) -> StoreStageComponent:
        """Return the component."""
        return StoreStageComponent(self)


class StoreStageComponent(wiring.Component):
    """See `StoreStage`.

    Ports
    -----
    clear : in, 1
        Pulse before the first element: the next beat goes to the memory's first place.
    i_valid, stored, place, flush, last : in
        An element, its place in the beat, whether it ends the beat, and the tile.
    ready : out, 1
        Pulse, a cycle behind the last element: the beats may be sent.
    send : in, 1
        Pulse: begin to give them.
    o : out, stream of `StoreStage.beat_shape`
        Exactly the beats since ``clear``, in order; bits of a written byte that no element covers are 0.

    Latency: a beat is written in the cycle behind its last element; with ``send`` in that cycle or later the first beat is
    there 2 cycles behind ``send``. Throughput: an element in, a beat out a cycle. Stall: ``o`` stands; elements cannot be
    stalled. Reset: empty. No place is written and read in one cycle: all elements of a tile come before ``send``, none
    before its last beat has gone.
    """

    def __init__(self, spec: StoreStage) -> None:
        self._spec = spec
        super().__init__(
            {
                "clear": In(1),
                "i_valid": In(1),
                "stored": In(spec.element_bits),
                "place": In(spec.place_bits),
                "flush": In(1),
                "last": In(1),
                "ready": Out(1),
                "send": In(1),
                "o": Out(stream.Signature(spec.beat_shape)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spec = self._spec
        m.submodules.beats = beats = memory.Memory(
            shape=spec.beat_shape, depth=spec.beats, init=[], attrs={NO_COLLISION: 1, "ram_style": "block"}
        )
        write, read = beats.write_port(), beats.read_port()
        held, whole = self._pack(m)
        free = Signal(spec.address_bits)
        end = Signal(range(spec.beats + 1))
        with m.If(self.clear):
            m.d.sync += [free.eq(0), end.eq(0)]
        with m.Elif(whole):
            m.d.sync += [free.eq(free + 1), end.eq(end + 1)]
        m.d.comb += [write.addr.eq(free), write.data.eq(held), write.en.eq(whole)]
        at, left, more = Signal(spec.address_bits), Signal.like(end), Signal()
        step = Signal()
        m.d.comb += [
            step.eq(more & (~self.o.valid | self.o.ready)),
            read.addr.eq(at),
            read.en.eq(step),
            self.o.payload.eq(read.data),
        ]
        if spec.checked:
            collides = write.en & read.en & (read.addr == write.addr)
            m.d.sync += Assert(~collides, "a beat is read and written in the same cycle")
        with m.If(step):
            m.d.sync += [at.eq(at + 1), left.eq(left - 1), more.eq(left != 1), self.o.valid.eq(1)]
        with m.Elif(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(self.send):
            m.d.sync += [at.eq(0), left.eq(end + whole), more.eq(1)]
        return m

    def _pack(self, m: Module) -> tuple[data.View, Signal]:
        """Return the beat that is being filled and, a cycle behind its last element, that it is whole."""
        spec = self._spec
        held = Signal(spec.beat_shape)
        whole, fresh = Signal(), Signal(init=1)
        lanes = [held.data.word_select(k, spec.element_bits) for k in range(spec.places)]
        here = Signal(spec.places)
        m.d.comb += [here[k].eq(self.place == k) for k in range(spec.places)]
        m.d.sync += [whole.eq(self.i_valid & self.flush), self.ready.eq(self.i_valid & self.last)]
        per_byte = max(1, 8 // spec.element_bits)
        bytes_each = max(1, spec.element_bits // 8)
        touched = Cat(here[k : k + per_byte].any().replicate(bytes_each) for k in range(0, spec.places, per_byte))
        with m.If(self.i_valid):
            m.d.sync += [fresh.eq(self.flush), held.strobe.eq(touched | Mux(fresh, 0, held.strobe))]
            for k, lane in enumerate(lanes):
                with m.If(here[k]):
                    m.d.sync += lane.eq(self.stored)
                with m.Elif(fresh):
                    m.d.sync += lane.eq(0)
        return held, whole
