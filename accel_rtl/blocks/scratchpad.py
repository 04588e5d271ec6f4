"""Double-buffered scratchpad: one bank is filled beat by beat while the other is read, a word of one or more beats a cycle."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from amaranth.hdl import Assert, Cat, Elaboratable, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hwsim.core.check import require_int
from hwsim.core.errors import SpecError

BANKS = 2
NO_COLLISION = "hwsim_no_collision"
"""Attribute of a memory of which no address is read and written in the same cycle."""
YOSYS_NO_COLLISION = f"setparam -set RD_COLLISION_X_MASK 1'1 t:$mem_v2 a:{NO_COLLISION}=1 %i"
"""Yosys command that leaves the logic out which would give the old data then; to be run after ``memory_collect``."""


def assert_apart(m: Module, write: memory.WritePort, read: memory.ReadPort, text: str) -> None:
    """Assert in simulation and formal proofs that two ports of a memory do not meet: what `NO_COLLISION` says of it."""
    m.d.sync += Assert(~(write.en & read.en & (write.addr == read.addr)), text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratchpad:
    """Two banks.

    Parameters
    ----------
    beat_bits : int
        Width of a write.
    word_beats : int
        Beats of a read word, a power of two.
    words : int
        Read words of a bank.
    checked : bool
        Assert in simulation and formal proofs that no bank's word is read and written in the same cycle.
    block_ram : bool
        Ask synthesis for block RAM (attribute ``ram_style``).
    """

    beat_bits: int
    word_beats: int = 1
    words: int
    checked: bool = False
    block_ram: bool = False

    def __post_init__(self) -> None:
        require_int("scratchpad.beat_bits", self.beat_bits, 1, 1024)
        require_int("scratchpad.word_beats", self.word_beats, 1, 256)
        require_int("scratchpad.words", self.words, 1, 1 << 24)
        if self.word_beats & (self.word_beats - 1):
            raise SpecError("scratchpad.word_beats", self.word_beats, "a power of two")

    @property
    def word_bits(self) -> int:
        """Width of a read."""
        return self.beat_bits * self.word_beats

    @property
    def read_bits(self) -> int:
        """Width of a word's place in a bank."""
        return max(1, (self.words - 1).bit_length())

    @property
    def write_bits(self) -> int:
        """Width of a beat's place in a bank."""
        return self.read_bits + self.word_beats.bit_length() - 1

    @property
    def depth(self) -> int:
        """Words of the memory behind both banks: the second begins at a power of two."""
        return (1 << self.read_bits) + self.words

    def compute(self, cycles: Iterable[tuple[tuple[int, int, int] | None, tuple[int, int] | None]]) -> list[int]:
        """Return ``read_data`` of each cycle, given its write (bank, place, beat) and read (bank, place) or None; 0 at first."""
        held: dict[tuple[int, int], int] = {}
        shown, trace = 0, []
        for write, read in cycles:
            trace.append(shown)
            if read is not None:
                bank, word = read
                places = range(word * self.word_beats, (word + 1) * self.word_beats)
                shown = sum(held.get((bank, at), 0) << i * self.beat_bits for i, at in enumerate(places))
            if write is not None:
                held[write[:2]] = write[2]
        return trace

    def create(self) -> ScratchpadComponent:
        """Return the component."""
        return ScratchpadComponent(self)


class ScratchpadComponent(wiring.Component):
    """See `Scratchpad`.

    Ports
    -----
    write_valid, write_bank, write_offset, write_data : in
        A beat and its place; written at the end of the cycle, readable in the next.
    read_valid, read_bank, read_offset : in
        A word and its place.
    read_data : out, word_bits
        The word of the last read, from the cycle after it on; beat 0 lowest.

    Latency: 1 cycle (synchronous read); a read and a write a cycle. Nothing stalls. Reset does not clear the banks;
    ``read_data`` is 0 until the first read. Never read and write the same word of a bank in one cycle: what is read then is
    undefined in hardware (tokens keep banks apart). The memories are one per beat of the word, without byte enables.
    """

    def __init__(self, spec: Scratchpad) -> None:
        self._spec = spec
        super().__init__(
            {
                "write_valid": In(1),
                "write_bank": In(1),
                "write_offset": In(spec.write_bits),
                "write_data": In(spec.beat_bits),
                "read_valid": In(1),
                "read_bank": In(1),
                "read_offset": In(spec.read_bits),
                "read_data": Out(spec.word_bits),
            }
        )
        attrs: dict[str, int | str] = {NO_COLLISION: 1}
        if spec.block_ram:
            attrs["ram_style"] = "block"
        self.lanes = [
            memory.Memory(shape=spec.beat_bits, depth=spec.depth, init=[], attrs=attrs) for _ in range(spec.word_beats)
        ]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        spec = self._spec
        lane_bits = spec.word_beats.bit_length() - 1
        lane, word = self.write_offset[:lane_bits], self.write_offset[lane_bits:]
        for i, mem in enumerate(self.lanes):
            m.submodules[f"lane{i}"] = mem
            write, read = mem.write_port(), mem.read_port()
            m.d.comb += [
                write.addr.eq(Cat(word, self.write_bank)),
                write.data.eq(self.write_data),
                write.en.eq(self.write_valid & ((lane == i) if lane_bits else 1)),
                read.addr.eq(Cat(self.read_offset, self.read_bank)),
                read.en.eq(self.read_valid),
                self.read_data.word_select(i, spec.beat_bits).eq(read.data),
            ]
        if spec.checked:
            collides = Signal()
            same = (self.write_bank == self.read_bank) & (word == self.read_offset)
            m.d.comb += collides.eq(self.write_valid & self.read_valid & same)
            m.d.sync += Assert(~collides, "a word is read and written in the same cycle")
        return m
