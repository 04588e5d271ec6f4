"""Store unit: tiles from ``obuf`` through the requantizer, and partial sums as they are, to memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.blocks.axi import AxiWriteSignature
from accel_rtl.blocks.requantize import Requantize
from accel_rtl.blocks.run_walker import RunWalker
from accel_rtl.blocks.write_dma import WriteDma
from accel_rtl.instruction_word import WORD_BITS, describe_layout
from accel_rtl.machine import ADDRESS_BITS, Machine
from accel_rtl.program_image import HEADER_FIELDS
from accel_rtl.shell.parameters import ParameterRam, choose_fields
from accel_rtl.shell.shifts import LEFT_BITS
from accel_rtl.shell.store_descriptor import choose_walk, describe_spill, describe_store, store_layout
from accel_rtl.shell.store_spill import SpillReader
from accel_rtl.shell.store_stage import ELEMENT_BITS, StoreStage
from accel_rtl.shell.store_walk import StoreWalk
from hwsim.core.errors import SpecError
from hwsim.core.program import SPILL

__all__ = ["StoreUnit", "StoreUnitComponent", "describe_spill", "describe_store"]

LIMIT_BITS = {name: width for name, width, _ in HEADER_FIELDS if name.startswith("out_")}
ACC_BITS = 32
"""Width of a bias, and of its sum with an accumulator."""
FETCH_CYCLES = 2
"""From an element's place in ``obuf`` to the requantizer: a read, the choice of a column."""
START_CYCLES = 1
"""From ``start`` to the first element's place; from the last requantized element to the write DMA's start."""
SPILL_CYCLES = 1
"""From ``start`` of a spill to the write DMA's: the first beat is there two cycles later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUnit:
    """A store unit.

    Parameters
    ----------
    machine : Machine
        Sizes: beat, columns and words of ``obuf``, staging buffer. ``a_bits`` is the width of stored outputs: 1, 2, 4, 8 or 16.
    bursts : int
        Of the write DMA.
    checked : bool
        Assert in simulation that no word of its memories is read and written in the same cycle.
    """

    machine: Machine
    bursts: int = 16
    checked: bool = False

    def __post_init__(self) -> None:
        machine = self.machine
        if machine.a_bits not in ELEMENT_BITS or machine.a_bits > machine.beat_bits:
            raise SpecError("machine.a_bits", machine.a_bits, "1, 2, 4, 8 or 16: no element may straddle a beat")
        if machine.psum_bits > ACC_BITS:
            raise SpecError("shell.psum_bits", machine.psum_bits, f"at most {ACC_BITS}, to be built")

    @property
    def walker(self) -> RunWalker:
        """Of the write DMA."""
        return RunWalker(beat_bits=self.machine.beat_bits, address_bits=ADDRESS_BITS)

    @property
    def walk(self) -> StoreWalk:
        """Of a tile's elements."""
        return choose_walk(self.machine)

    @property
    def requantize(self) -> Requantize:
        """One lane; place and flags of an element travel along."""
        return Requantize(
            mode=self.machine.requantizer, acc_bits=ACC_BITS, left_bits=LEFT_BITS, out_bits=self.machine.a_bits,
            tag_bits=self.walk.place_bits + 2,
        )  # fmt: skip

    @property
    def parameters(self) -> ParameterRam:
        """Bias, multiplier (where there is one) and shift of every channel."""
        return ParameterRam(checked=self.checked, fields=choose_fields(self.machine.requantizer))

    @property
    def stage(self) -> StoreStage:
        """Packer and staging buffer."""
        machine = self.machine
        return StoreStage(
            beat_bits=machine.beat_bits, element_bits=machine.a_bits, beats=machine.stage_beats, checked=self.checked
        )

    @property
    def spill(self) -> SpillReader:
        """Reader of whole words."""
        machine = self.machine
        return SpillReader(
            columns=machine.columns,
            psum_bits=machine.psum_bits,
            word_bits=machine.word_bits,
            beat_bits=machine.beat_bits,
        )

    @property
    def layout(self) -> data.StructLayout:
        """Descriptor of a STORE or SPILL: see `store_layout`."""
        return store_layout(self.machine)

    @property
    def store_cycles(self) -> int:
        """From ``start`` to the write DMA's, less the elements: `hwsim.core.arch.Arch.store_pipeline_cycles`."""
        return START_CYCLES + FETCH_CYCLES + self.requantize.latency_cycles

    def compute(
        self,
        tile: Mapping[str, int],
        words: Sequence[Sequence[int]],
        parameters: Sequence[Mapping[str, int]],
        limits: tuple[int, int, int],
    ) -> list[tuple[int, int]]:
        """Return (data, strobe) of the beats of a STORE, in order.

        Parameters
        ----------
        tile : mapping
            Fields of ``walk`` of the descriptor.
        words : sequence
            The bank: accumulators of all columns by word.
        parameters : sequence of mapping
            By channel, as of `ParameterRam.compute`.
        limits : tuple of int
            Zero point, least, largest stored integer.
        """
        elements = list(self.walk.compute(tile))
        names = ("bias", "multiplier", "shift")
        fields = {name: [parameters[e.channel].get(name, 1) for e in elements] for name in names}
        acc = [words[e.word][e.column] for e in elements]
        zero_point, low, high = limits
        stored = self.requantize.compute(
            acc, fields["shift"], fields["multiplier"], fields["bias"], zero_point=zero_point, low=low, high=high
        )
        return self.stage.compute((int(v), e.place, e.flush) for v, e in zip(stored, elements, strict=True))

    def create(self) -> StoreUnitComponent:
        """Return the component."""
        return StoreUnitComponent(self)


class StoreUnitComponent(wiring.Component):
    """See `StoreUnit`.

    Ports
    -----
    start : in, 1
        Pulse in the first busy cycle.
    instruction, extra : in
        A STORE or SPILL that moves something (`describe_layout`) and its descriptor (`StoreUnit.layout`): stand from ``start`` to
        ``done``.
    done : out, 1
        High in the last busy cycle: every B has come.
    fault : out, 1
        Pulse: the memory answered SLVERR or DECERR.
    out_zero, out_low, out_high : in, signed
        Of the layer's header; stand while a tile is stored.
    write_valid, write_address, write_data : in
        A parameter word of 512 bits (`ParameterRam`) and its place.
    d_enable, d_bank, d_word : out
        Read of a word of ``obuf``.
    d_data : in, signed(psum_bits) [columns]
        The word, in the cycle behind ``d_enable``.
    axi : out, `AxiWriteSignature`

    STORE reads an element a cycle from the cycle behind ``start`` on, without gaps; the write DMA starts elements + `store_cycles`
    behind ``start`` and has a beat for every cycle. SPILL: the DMA starts `SPILL_CYCLES` behind ``start`` and has a beat for every
    cycle, ``posted`` low. Stall: the DMA's channels alone can hold it up; elements never wait. Reset: idle; memories keep their
    content.
    """

    def __init__(self, spec: StoreUnit) -> None:
        self._spec = spec
        machine, walker = spec.machine, spec.walker
        parameters = spec.parameters
        members: dict[str, Any] = {"start": In(1), "instruction": In(describe_layout()), "extra": In(WORD_BITS)}
        members |= {"done": Out(1), "fault": Out(1)}
        members |= {name: In(signed(width)) for name, width in LIMIT_BITS.items()}
        members |= {
            "write_valid": In(1), "write_address": In(range(parameters.words)), "write_data": In(WORD_BITS),
            "d_enable": Out(1), "d_bank": Out(1), "d_word": Out(machine.word_bits),
            "d_data": In(signed(machine.psum_bits)).array(machine.columns),
            "axi": Out(AxiWriteSignature(walker.address_bits, walker.beat_bits, walker.beat_count_bits)),
        }  # fmt: skip
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spec = self._spec
        m.submodules.walk = walk = spec.walk.create()
        m.submodules.spill = spill = spec.spill.create()
        m.submodules.stage = stage = spec.stage.create()
        m.submodules.dma = dma = WriteDma(walker=spec.walker, bursts=spec.bursts).create()
        wiring.connect(m, wiring.flipped(self.axi), dma.axi)
        spills = Signal()
        tile = data.View(spec.layout, self.extra[: spec.layout.size])
        m.d.comb += [
            spills.eq(self.instruction.op == SPILL),
            walk.start.eq(self.start & ~spills),
            walk.tile.eq(tile.walk),
            spill.start.eq(self.start & spills),
            spill.words_end.eq(tile.words_end),
            self.d_enable.eq(walk.valid | spill.enable),
            self.d_bank.eq(self.instruction.bank[0]),
            self.d_word.eq(Mux(spills, spill.word, walk.word)),
            *(given.eq(word) for given, word in zip(spill.word_data, self.d_data, strict=True)),
        ]
        self._requantize(m, walk, stage)
        begin = Signal()  # a spill's DMA
        m.d.sync += begin.eq(self.start & spills)
        beat = dma.beats.payload
        m.d.comb += [
            stage.clear.eq(self.start),
            stage.send.eq(stage.ready),
            dma.start.eq(stage.ready | begin),
            *spec.walker.assign_word(dma.transfer, self.instruction),
            dma.posted.eq(~spills),
            dma.beats.valid.eq(Mux(spills, spill.o.valid, stage.o.valid)),
            beat.data.eq(Mux(spills, spill.o.payload, stage.o.payload.data)),
            beat.strobe.eq(Mux(spills, ~0, stage.o.payload.strobe)),
            spill.o.ready.eq(dma.beats.ready & spills),
            stage.o.ready.eq(dma.beats.ready & ~spills),
            self.done.eq(dma.done),
            self.fault.eq(dma.fault),
        ]
        return m

    def _requantize(self, m: Module, walk: Any, stage: Any) -> None:
        """Put parameters and accumulators together: a cycle to read both, one to choose the column."""
        spec = self._spec
        m.submodules.parameters = parameters = spec.parameters.create()
        m.submodules.requantize = unit = spec.requantize.create()
        m.d.comb += [
            parameters.write_valid.eq(self.write_valid),
            parameters.write_address.eq(self.write_address),
            parameters.write_data.eq(self.write_data),
            parameters.read_valid.eq(walk.valid),
            parameters.channel.eq(walk.channel),
            unit.limits.zero_point.eq(self.out_zero),
            unit.limits.low.eq(self.out_low),
            unit.limits.high.eq(self.out_high),
        ]
        flags = data.StructLayout({"place": spec.walk.place_bits, "flush": 1, "last": 1})
        column, valid = Signal.like(walk.column), Signal(FETCH_CYCLES)
        tags = [Signal(flags, name=f"tag_{k}", reset_less=True) for k in range(FETCH_CYCLES)]
        element = Signal(spec.requantize.element_layout, reset_less=True)
        m.d.sync += [
            column.eq(walk.column),
            valid.eq(Cat(walk.valid, valid[0])),
            tags[0].eq(Cat(walk.place, walk.flush, walk.last)),
            tags[1].eq(tags[0]),
            element.acc[0].eq(Array(self.d_data)[column]),
            *(element[name][0].eq(parameters.parameters[name]) for name in spec.parameters.layout.members),
        ]
        result = data.View(flags, unit.o.tag)
        m.d.comb += [
            unit.i_valid.eq(valid[1]),
            *(unit.i[name].eq(element[name]) for name in ("acc", *spec.parameters.layout.members)),
            unit.i.tag.eq(tags[1]),
            stage.i_valid.eq(unit.o_valid),
            stage.stored.eq(unit.o.stored[0]),
            stage.place.eq(result.place),
            stage.flush.eq(result.flush),
            stage.last.eq(result.last),
        ]
