"""Bias, multiplier and shift of every output channel: how they are packed, and the memory that holds them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amaranth.hdl import Assert, Cat, Module, Signal, signed, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.blocks.scratchpad import NO_COLLISION
from accel_rtl.instruction_word import WORD_BITS, WORD_BYTES
from accel_rtl.machine import PARAMETER_CHANNELS
from accel_rtl.program_image import PARAMETER_BITS, PARAMETER_FIELDS, PARAMETERS_OF_A_WORD, SHIFT_FIELDS
from hwsim.core.check import require_int
from hwsim.core.errors import SpecError

if TYPE_CHECKING:
    from hwsim.core.layer import Layer
    from hwsim.engine.execute_parameters import LayerParameters

Fields = tuple[tuple[str, int, bool], ...]


def choose_fields(requantizer: str) -> Fields:
    """Return the fields of a channel by `accel_rtl.machine.Machine.requantizer`."""
    return SHIFT_FIELDS if requantizer == "shift" else PARAMETER_FIELDS


def make_layout(fields: Fields) -> data.StructLayout:
    """Return what the requantizer takes of a channel."""
    return data.StructLayout({name: (signed if is_signed else unsigned)(width) for name, width, is_signed in fields})


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterRam:
    """A memory of parameter words, four channels each.

    Parameters
    ----------
    channels : int
        A multiple of four.
    checked : bool
        Assert in simulation that no word is read and written in the same cycle.
    fields : tuple
        Of a channel: `choose_fields`.
    """

    channels: int = PARAMETER_CHANNELS
    checked: bool = False
    fields: Fields = PARAMETER_FIELDS

    def __post_init__(self) -> None:
        require_int("parameter_ram.channels", self.channels, 2 * PARAMETERS_OF_A_WORD, 1 << 16)
        if self.channels % PARAMETERS_OF_A_WORD:
            raise SpecError("parameter_ram.channels", self.channels, f"a multiple of {PARAMETERS_OF_A_WORD}")

    @property
    def words(self) -> int:
        """Words of 512 bits."""
        return self.channels // PARAMETERS_OF_A_WORD

    def compute(self, words: Iterable[int]) -> list[dict[str, int]]:
        """Return the fields of every channel of the given words, in order."""
        found = []
        for word in words:
            for lane in range(PARAMETERS_OF_A_WORD):
                bits = word >> lane * PARAMETER_BITS
                fields = {}
                for name, width, is_signed in self.fields:
                    value, bits = bits & ((1 << width) - 1), bits >> width
                    fields[name] = value - (1 << width) if is_signed and value >> width - 1 else value
                found.append(fields)
        return found

    @property
    def layout(self) -> data.StructLayout:
        """What the requantizer takes of a channel."""
        return make_layout(self.fields)

    def create(self) -> ParameterRamComponent:
        """Return the component."""
        return ParameterRamComponent(self)


class ParameterRamComponent(wiring.Component):
    """See `ParameterRam`.

    Ports
    -----
    write_valid, write_address, write_data : in
        A word of 512 bits and its place; readable from the next cycle on. Bits that no field claims are not kept.
    read_valid, channel : in
        Of which channel.
    parameters : out, `ParameterRam.layout`
        Of the last channel read, from the cycle after it on.

    Latency: 1 cycle, a read and a write a cycle. Nothing stalls. Reset does not clear it. Never read and write a word in one
    cycle.
    """

    def __init__(self, spec: ParameterRam) -> None:
        self._spec = spec
        super().__init__(
            {
                "write_valid": In(1),
                "write_address": In(range(spec.words)),
                "write_data": In(WORD_BITS),
                "read_valid": In(1),
                "channel": In(range(spec.channels)),
                "parameters": Out(spec.layout),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        size = self._spec.layout.size
        lanes = range(PARAMETERS_OF_A_WORD)
        lane_bits = (PARAMETERS_OF_A_WORD - 1).bit_length()
        m.submodules.words = words = memory.Memory(
            shape=size * PARAMETERS_OF_A_WORD,
            depth=self._spec.words,
            init=[],
            attrs={NO_COLLISION: 1, "ram_style": "block"},
        )
        write, read = words.write_port(), words.read_port()
        lane = Signal(lane_bits)
        with m.If(self.read_valid):
            m.d.sync += lane.eq(self.channel[:lane_bits])
        if self._spec.checked:
            collides = self.write_valid & self.read_valid & (read.addr == write.addr)
            m.d.sync += Assert(~collides, "a parameter word is read and written in the same cycle")
        m.d.comb += [
            write.addr.eq(self.write_address),
            write.data.eq(Cat(self.write_data[k * PARAMETER_BITS :][:size] for k in lanes)),
            write.en.eq(self.write_valid),
            read.addr.eq(self.channel[lane_bits:]),
            read.en.eq(self.read_valid),
            self.parameters.eq(read.data.word_select(lane, size)),
        ]
        return m


def pack_parameters(layer: Layer, parameters: LayerParameters, fields: Fields = PARAMETER_FIELDS) -> bytes:
    """Return the parameter words of a layer's output channels as they lie in memory.

    Raises
    ------
    SpecError
        What the store unit cannot compute: more channels than it holds, an activation that is more than a clamp, a scale by
        pixel, a value beyond its field.
    """
    check_parameters(layer, parameters, fields)
    count, requant = layer.out_shape[1], parameters.requant
    columns = {
        "bias": [int(value) for value in parameters.bias],
        "multiplier": [int(value) for value in requant.multiplier.ravel()],
        "shift": [int(value) for value in requant.shift.ravel()],
    }
    lanes = []
    for channel in range(count):
        bits, at = 0, 0
        for name, width, _ in fields:
            values = columns[name]
            bits |= (values[channel if len(values) > 1 else 0] & ((1 << width) - 1)) << at
            at += width
        lanes.append(bits.to_bytes(PARAMETER_BITS // 8, "little"))
    packed = b"".join(lanes)
    return packed + bytes(-len(packed) % WORD_BYTES)


def find_limits(parameters: LayerParameters) -> tuple[int, int, int]:
    """Return ``out_zero``, ``out_low`` and ``out_high`` of the header: the format's limits narrowed by the activation's clamp."""
    requant, (low, high) = parameters.requant, parameters.clamp
    narrowed = [min(max(limit, low), high) for limit in (requant.low, requant.high)]
    return requant.zero_point, narrowed[0], narrowed[1]


def check_parameters(layer: Layer, parameters: LayerParameters, fields: Fields = PARAMETER_FIELDS) -> None:
    """Raise SpecError for a requantization that the store unit cannot compute."""
    where, requant = f"layer {layer.name}", parameters.requant
    if layer.out_shape[1] > PARAMETER_CHANNELS:
        raise SpecError(f"{where}: output channels", layer.out_shape[1], f"at most {PARAMETER_CHANNELS} to be built")
    if parameters.table is not None:
        raise SpecError(f"{where}: activation", layer.activation, "a clamp, to be built")
    for name, table in (("multiplier", requant.multiplier), ("shift", requant.shift)):
        if table.size != table.shape[-3]:
            raise SpecError(
                f"{where}: {name}", table.shape, "one a channel: average pooling whose count differs by pixel"
            )
    columns = {"bias": parameters.bias, "multiplier": requant.multiplier, "shift": requant.shift}
    for name, bits, is_signed in fields:
        values, width = columns[name], bits - int(is_signed)
        low, high = (-(1 << width) if is_signed else 0), (1 << width) - 1
        if values.size and not low <= int(values.min()) <= int(values.max()) <= high:
            worst = int(values.min()) if int(values.min()) < low else int(values.max())
            raise SpecError(f"{where}: {name}", worst, f"{low} to {high}")
