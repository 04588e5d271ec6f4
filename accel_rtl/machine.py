"""What every generated accelerator is built from: sizes derived from the `Arch`, and the interface of an exec engine.

An architecture's engine stands in ``accel_rtl/<name>/build.py``: ``build_engine(arch)`` returns an `EngineSpec`. Everything
else (fetch, queues, tokens, load, store, vector unit, ``obuf``, registers) is the same for all: `accel_rtl.shell`,
`accel_rtl.accelerator`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from amaranth.hdl import signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.instruction_word import WORD_BITS
from hwsim.core.errors import SpecError

if TYPE_CHECKING:
    from hwsim.core.arch import Arch
    from hwsim.core.datapath import Datapath
    from hwsim.core.mapping import Int64
    from hwsim.engine.execute_parameters import LayerParameters

VECTOR_PORTS = 2
"""Reads of ``ibuf`` a cycle that the vector unit makes: two operands of an addition."""
PARAMETER_CHANNELS = 2048
"""Output channels of a layer whose biases, multipliers and shifts the accelerator holds."""
ADDRESS_BITS = 40
"""Width of a byte address on both memory interfaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Sizes of one accelerator.

    Parameters
    ----------
    beat_bits : int
        Word of the memory port, of ``wbuf`` and ``ibuf``: ``memory.bits_per_cycle``.
    a_bits : int
        Width of stored activations, in and out.
    psum_bits : int
        Width of an accumulator.
    columns : int
        Memories of ``obuf``: accumulators of one word stand side by side.
    wbuf_beats, ibuf_beats : int
        Beats of a bank.
    obuf_words : int
        Words of a bank, each of ``columns`` accumulators.
    stage_beats : int
        Beats of the store unit's staging buffer.
    issue_cycles : int
        As of the shell.
    requantizer : str
        ``mulshift`` or ``shift`` (`accel_rtl.blocks.requantize`): what the store and the vector unit scale results by.
    """

    beat_bits: int
    a_bits: int
    psum_bits: int
    columns: int
    wbuf_beats: int
    ibuf_beats: int
    obuf_words: int
    stage_beats: int
    issue_cycles: int
    requantizer: str = "mulshift"

    @classmethod
    def from_arch(cls, arch: Arch, columns: int, a_bits: int) -> Machine:
        """Return the sizes of an accelerator, or raise SpecError naming the field that cannot be built."""
        shell, memory = arch.shell, arch.memory
        beat = memory.bits_per_cycle
        if beat & (beat - 1) or not 8 <= beat <= 1024:
            raise SpecError("memory.bits_per_cycle", beat, "a power of two from 8 to 1024, as on AXI, to be built")
        if memory.alignment_bits != beat:
            expected, hint = f"{beat}, a beat of the port, to be built", f"--set memory.align_bits={beat}"
            raise SpecError("memory.align_bits", memory.alignment_bits, expected, hint)
        if memory.channels != "shared":
            raise SpecError("memory.channels", memory.channels, "shared, to be built")
        if memory.kind == "flat" and memory.latency_cycles < 4:
            raise SpecError("memory.latency_cycles", memory.latency_cycles, "at least 4, to be built")
        for field in ("store_lanes", "vector_lanes"):
            if getattr(shell, field) != 1:
                raise SpecError(f"shell.{field}", getattr(shell, field), "1, to be built", f"--set shell.{field}=1")
        if shell.issue_cycles < 1:
            raise SpecError("shell.issue_cycles", shell.issue_cycles, "at least 1, to be built")
        if beat % shell.psum_bits or (columns * shell.psum_bits) % beat:
            raise SpecError(
                "shell.psum_bits",
                shell.psum_bits,
                f"a divisor of the beat ({beat}), itself a divisor of a word of obuf ({columns} accumulators)",
            )
        word = columns * shell.psum_bits
        for field, bits, unit in (
            ("wbuf_bits", shell.bank_bits("wbuf"), beat), ("ibuf_bits", shell.bank_bits("ibuf"), beat),
            ("obuf_bits", shell.bank_bits("obuf"), word), ("stage_bits", shell.staging_bits, beat),
        ):  # fmt: skip
            if bits < unit:
                found = getattr(shell, field)
                raise SpecError(f"shell.{field}", found, f"{unit} bits or more a bank, not {bits}, to be built")
        if shell.bank_bits("ibuf") > a_bits << 20:
            raise SpecError(
                "shell.ibuf_bits", shell.ibuf_bits, f"at most {2 * (a_bits << 20)}, 2**20 elements a bank, to be built"
            )
        return cls(
            beat_bits=beat, a_bits=a_bits, psum_bits=shell.psum_bits, columns=columns,
            wbuf_beats=shell.bank_bits("wbuf") // beat, ibuf_beats=shell.bank_bits("ibuf") // beat,
            obuf_words=shell.bank_bits("obuf") // (shell.psum_bits * columns), stage_beats=shell.staging_bits // beat,
            issue_cycles=shell.issue_cycles, requantizer="shift" if arch.shifts_only else "mulshift",
        )  # fmt: skip

    @property
    def ibuf_address_bits(self) -> int:
        """Width of a beat's place in a bank of ``ibuf``."""
        return max(1, (self.ibuf_beats - 1).bit_length())

    @property
    def wbuf_address_bits(self) -> int:
        """Width of a beat's place in a bank of ``wbuf``, as the load unit counts them."""
        return max(1, (self.wbuf_beats - 1).bit_length())

    @property
    def word_bits(self) -> int:
        """Width of a word's place in a bank of ``obuf``."""
        return max(1, (self.obuf_words - 1).bit_length())

    @property
    def channel_bits(self) -> int:
        """Width of the number of an output channel."""
        return (PARAMETER_CHANNELS - 1).bit_length()

    def describe_engine(self, tile_words: int) -> wiring.Signature:
        """Return the ports of an exec engine.

        ``start``: pulse in the first busy cycle; ``tile`` (the descriptor words of EXEC) stands from then to ``done``, which is
        high in the last busy cycle. ``w_write_*``, ``i_write_*``: the load unit's beats and their places in a bank. ``v_*``: two
        reads of ``ibuf`` for the vector unit while the engine is idle; a beat comes in the cycle after its address. ``o_*``:
        each column of ``obuf`` has a read (data in the cycle after) and a write.
        """
        word, place = signed(self.psum_bits), self.word_bits
        members: dict[str, Any] = {"start": In(1), "tile": In(tile_words * WORD_BITS), "done": Out(1)}
        for name, bits in (("w", self.wbuf_address_bits), ("i", self.ibuf_address_bits)):
            members |= {f"{name}_write_valid": In(1), f"{name}_write_bank": In(1)}
            members |= {f"{name}_write_offset": In(bits), f"{name}_write_data": In(self.beat_bits)}
        members |= {
            "v_enable": In(1).array(VECTOR_PORTS), "v_bank": In(1),
            "v_address": In(self.ibuf_address_bits).array(VECTOR_PORTS),
            "v_beat": Out(self.beat_bits).array(VECTOR_PORTS),
            "o_read_enable": Out(1).array(self.columns), "o_read_bank": Out(1).array(self.columns),
            "o_read_address": Out(place).array(self.columns), "o_read_data": In(word).array(self.columns),
            "o_write_enable": Out(1).array(self.columns), "o_write_bank": Out(1).array(self.columns),
            "o_write_address": Out(place).array(self.columns), "o_write_data": Out(word).array(self.columns),
        }  # fmt: skip
        return wiring.Signature(members)


class EngineSpec(Protocol):
    """An exec engine as the accelerator sees it.

    It may also have ``tile_bits`` (of the descriptor words, those that it reads, from the lowest on: queues keep no others) and
    ``collision_free`` (it never reads an accumulator in the cycle in which it writes it: block RAM needs no logic for that).
    """

    @property
    def machine(self) -> Machine:
        """Sizes, with the engine's own number of columns."""

    @property
    def tile_words(self) -> int:
        """Descriptor words (512 bits each) of an EXEC."""

    @property
    def most_tail_cycles(self) -> int:
        """Largest ``tail`` of an EXEC."""

    @property
    def pixel_columns(self) -> bool:
        """Whether columns of ``obuf`` stand for pixels (input stationary) instead of filters; see `Place`."""

    def describe(
        self, datapath: Datapath, box: tuple[Int64, Int64], banks: tuple[int, int, int], parameters: LayerParameters
    ) -> int:
        """Return the descriptor of an EXEC, ``tile_words`` words, or raise SpecError for what cannot be run."""

    def create(self) -> wiring.Component:
        """Return a component whose signature holds `Machine.describe_engine`."""


PLACES = ("filters", "pixels", "linear")
"""Where an accumulator of a tile stands in a bank of ``obuf``, with M pixels ``(n P + p) Q + q``, G groups, K filters of the tile:

- ``filters``: column ``k % columns``, word ``(g ceil(K / columns) + k // columns) M + pixel``.
- ``pixels``: column ``pixel % columns``, word ``(g ceil(M / columns) + pixel // columns) K + k``.
- ``linear`` (vector layers): element e in the order n, g, k, p, q: column ``e % columns``, word ``e // columns``.

A spill moves the words of a bank in order, column 0 lowest, unused columns included (their content means nothing)."""
