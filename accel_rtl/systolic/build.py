"""The systolic engine as the accelerator takes it: array, control and the memories of ``wbuf`` and ``ibuf``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from amaranth.hdl import Module, Mux, Shape, Signal
from amaranth.lib import data, wiring

from accel_rtl.blocks.scratchpad import Scratchpad
from accel_rtl.instruction_word import WORD_BITS
from accel_rtl.machine import VECTOR_PORTS, Machine
from accel_rtl.systolic.descriptor import describe_tile
from accel_rtl.systolic.engine import SystolicEngineUnit
from accel_rtl.systolic.spec import SystolicEngine
from hwsim.archs.systolic.datapath import SystolicDatapath
from hwsim.archs.systolic.spec import Systolic
from hwsim.core.datapath import Datapath
from hwsim.core.errors import SpecError
from hwsim.core.mapping import Int64
from hwsim.engine.execute_parameters import LayerParameters


@dataclass(frozen=True, kw_only=True)
class SystolicEngineSpec:
    """`accel_rtl.machine.EngineSpec` of a systolic array.

    Parameters
    ----------
    arch : Systolic
    engine : SystolicEngine
        What its unit is built from.
    machine : Machine
    checked : bool
        Assert in simulation that no word of a scratchpad is read and written in one cycle.
    """

    arch: Systolic
    engine: SystolicEngine
    machine: Machine
    checked: bool = False

    @cached_property
    def tile_bits(self) -> int:
        """Bits of a descriptor that the engine reads."""
        return self.engine.layout.size

    @property
    def tile_words(self) -> int:
        """Descriptor words of an EXEC."""
        return -(-self.tile_bits // WORD_BITS)

    @property
    def most_tail_cycles(self) -> int:
        """Largest ``tail`` of an EXEC."""
        return self.engine.tail_cycles

    @property
    def pixel_columns(self) -> bool:
        """Whether columns of ``obuf`` stand for pixels."""
        return self.engine.dataflow == "is"

    @property
    def collision_free(self) -> bool:
        """No accumulator is read in the cycle in which it is written (`accel_rtl.systolic.results.Accumulators`)."""
        return True

    def describe(
        self, datapath: Datapath, box: tuple[Int64, Int64], banks: tuple[int, int, int], parameters: LayerParameters
    ) -> int:
        """Return the descriptor of an EXEC: `SystolicEngine.layout`.

        Raises
        ------
        SpecError
            What the engine does not run: formats that are not its own, weight zero points, unsigned weights, an input requantizer,
            or a tile beyond its fields.
        """
        check_parameters(datapath.layer.name, parameters)
        assert isinstance(datapath, SystolicDatapath)
        fields = describe_tile(
            datapath, self.arch, box, banks=banks, input_zero=parameters.input_zero[0],
            input_signed=parameters.input_signed[0],
        )  # fmt: skip
        return pack_fields(fields, _list_places(self.engine))

    def create(self) -> wiring.Component:
        """Return the component."""
        return SystolicEngineComponent(self)


def build_engine(arch: Systolic) -> SystolicEngineSpec:
    """Return the engine of an accelerator.

    Raises
    ------
    SpecError
        A field of the architecture that cannot be built.
    """
    machine = Machine.from_arch(arch, arch.cols, arch.a_width)
    for name, bits in (("w_width", arch.w_width), ("a_width", arch.a_width)):
        if bits not in (1, 2, 4, 8, 16) or bits > machine.beat_bits:
            raise SpecError(f"systolic.{name}", bits, "1, 2, 4, 8 or 16 bits, no more than a beat, to be built")
    return SystolicEngineSpec(arch=arch, engine=SystolicEngine.from_arch(arch), machine=machine)


def check_parameters(layer: str, parameters: LayerParameters) -> None:
    """Raise SpecError for integers of a layer that the array cannot multiply."""
    if not parameters.weight_signed:
        raise SpecError(f"layer {layer}: weights", "unsigned", "two's complement, to be built")
    if parameters.weight_zero.any():
        worst = int(parameters.weight_zero[parameters.weight_zero != 0][0])
        raise SpecError(f"layer {layer}: zero point of a weight", worst, "0, to be built")
    if parameters.narrow is not None:
        raise SpecError(f"layer {layer}: input requantizer", "one", "none, to be built", "give its input the same bits")


@cache
def _list_places(engine: SystolicEngine) -> tuple[tuple[tuple[str, ...], int, int], ...]:
    return tuple(list_places(engine.layout))


def list_places(layout: data.StructLayout, path: tuple[str, ...] = (), at: int = 0) -> list[tuple[Any, int, int]]:
    """Return (path, first bit, width) of every field of a layout."""
    found: list[tuple[Any, int, int]] = []
    for name, member in layout.members.items():
        if isinstance(member, data.StructLayout):
            found += list_places(member, (*path, name), at)
        else:
            found.append(((*path, name), at, Shape.cast(member).width))
        at += Shape.cast(member).width
    return found


def pack_fields(fields: Mapping[str, Any], places: tuple[tuple[tuple[str, ...], int, int], ...]) -> int:
    """Return fields as one integer."""
    word = 0
    for path, at, width in places:
        value: Any = fields
        for name in path:
            value = value[name]
        word |= (int(value) & ((1 << width) - 1)) << at
    return word


class SystolicEngineComponent(wiring.Component):
    """The engine with its memories; ports: `Machine.describe_engine`.

    ``ibuf`` stands once for each lane that reads pixels, twice at least: vector reads come from copies 0 and 1. Beat b of
    ``wbuf`` stands in memory ``b % memories``, place ``b // memories``. Latency, throughput, reset: see
    `SystolicEngineUnit`. There is no stall.
    """

    def __init__(self, spec: SystolicEngineSpec) -> None:
        self.spec = spec
        super().__init__(spec.machine.describe_engine(spec.tile_words))

    def elaborate(self, platform: object) -> Module:
        """Build the unit and its memories."""
        m, spec = Module(), self.spec
        m.submodules.unit = unit = SystolicEngineUnit(spec.engine)
        m.d.comb += [
            unit.start.eq(self.start), unit.tile.as_value().eq(self.tile[: spec.tile_bits]), self.done.eq(unit.done),
        ]  # fmt: skip
        for way, names in (("read", ("enable", "bank", "address")), ("write", ("enable", "bank", "address", "data"))):
            for name in names:
                for j in range(spec.machine.columns):
                    m.d.comb += getattr(self, f"o_{way}_{name}")[j].eq(getattr(unit, f"o_{way}_{name}")[j])
        for j in range(spec.machine.columns):
            m.d.comb += unit.o_read_data[j].eq(self.o_read_data[j])
        self._inputs(m, unit)
        self._weights(m, unit)
        return m

    def _inputs(self, m: Module, unit: Any) -> None:
        spec, machine = self.spec, self.spec.machine
        pad = Scratchpad(beat_bits=machine.beat_bits, words=machine.ibuf_beats, checked=spec.checked, block_ram=True)
        for i in range(max(VECTOR_PORTS, spec.engine.lanes)):
            m.submodules[f"ibuf_{i}"] = copy = pad.create()
            m.d.comb += [
                copy.write_valid.eq(self.i_write_valid), copy.write_bank.eq(self.i_write_bank),
                copy.write_offset.eq(self.i_write_offset), copy.write_data.eq(self.i_write_data),
            ]  # fmt: skip
            reads, bank, address = Signal(name=f"reads_{i}"), Signal(name=f"bank_{i}"), Signal.like(copy.read_offset)
            if i < spec.engine.lanes:
                m.d.comb += [reads.eq(unit.i_enable[i]), bank.eq(unit.i_bank[i]), address.eq(unit.i_address[i])]
                m.d.comb += unit.i_beat[i].eq(copy.read_data)
            if i < VECTOR_PORTS:
                vector = self.v_enable[i]
                m.d.comb += [
                    copy.read_valid.eq(reads | vector), copy.read_bank.eq(Mux(vector, self.v_bank, bank)),
                    copy.read_offset.eq(Mux(vector, self.v_address[i], address)), self.v_beat[i].eq(copy.read_data),
                ]  # fmt: skip
            else:
                m.d.comb += [copy.read_valid.eq(reads), copy.read_bank.eq(bank), copy.read_offset.eq(address)]

    def _weights(self, m: Module, unit: Any) -> None:
        spec, machine, memories = self.spec, self.spec.machine, self.spec.engine.weight_banks
        words = 1 << spec.engine.weight_address_bits  # places behind a line's last weight are read too
        pad = Scratchpad(beat_bits=machine.beat_bits, words=words, checked=spec.checked, block_ram=True)
        shift = memories.bit_length() - 1
        for i in range(memories):
            m.submodules[f"wbuf_{i}"] = part = pad.create()
            mine = (self.w_write_offset[:shift] == i) if shift else 1
            m.d.comb += [
                part.write_valid.eq(self.w_write_valid & mine), part.write_bank.eq(self.w_write_bank),
                part.write_offset.eq(self.w_write_offset[shift:]), part.write_data.eq(self.w_write_data),
                part.read_valid.eq(unit.w_enable), part.read_bank.eq(unit.w_bank),
                part.read_offset.eq(unit.w_address[i]), unit.w_beat[i].eq(part.read_data),
            ]  # fmt: skip
