"""What the exec engine of a systolic array is built from, and the fields that describe a tile to it."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import signed, unsigned
from amaranth.lib import data

from accel_rtl.blocks.fold_sequencer import FoldSequencer
from accel_rtl.blocks.im2col import Im2col
from accel_rtl.blocks.systolic_array import SystolicArray
from hwsim.archs.systolic.spec import DATAFLOWS, Systolic
from hwsim.core.check import require_choice, require_int
from hwsim.core.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class SystolicEngine:
    """The exec engine.

    Parameters
    ----------
    rows, cols, dataflow, overlap
        As of `hwsim.archs.systolic.spec.Systolic`.
    w_bits, a_bits, psum_bits : int
        Widths of a stored weight (two's complement; one bit: 0 and 1 are -1 and +1), a stored activation, an accumulator.
    beat_bits : int
        Width of the words of ``wbuf`` and ``ibuf``: a beat of the memory's port, a power of two.
    unit_bits : int
        An alignment unit.
    wbuf_beats, ibuf_beats, obuf_words : int
        Words of a bank of ``wbuf``, of each copy of ``ibuf``, of each column of ``obuf``.
    count_bits, coordinate_bits : int
        Widths of counts of a tile, and of input rows and columns, signed.
    """

    rows: int
    cols: int
    dataflow: str
    overlap: str = "none"
    w_bits: int = 8
    a_bits: int = 8
    psum_bits: int = 32
    beat_bits: int = 64
    unit_bits: int = 64
    wbuf_beats: int = 2048
    ibuf_beats: int = 1024
    obuf_words: int = 512
    count_bits: int = 16
    coordinate_bits: int = 13

    def __post_init__(self) -> None:
        require_choice("systolic_engine.dataflow", self.dataflow, DATAFLOWS)
        for name, bits in (("w_bits", self.w_bits), ("a_bits", self.a_bits)):
            if bits not in (1, 2, 4, 8, 16):
                raise SpecError(f"systolic_engine.{name}", bits, "1, 2, 4, 8 or 16: no element may straddle a beat")
            require_int(f"systolic_engine.{name}", bits, 1, self.beat_bits)
        if self.beat_bits & (self.beat_bits - 1) or not 8 <= self.beat_bits <= 1024:
            raise SpecError("systolic_engine.beat_bits", self.beat_bits, "a power of two from 8 to 1024, as on AXI")
        for name in ("wbuf_beats", "ibuf_beats", "obuf_words", "unit_bits"):
            require_int(f"systolic_engine.{name}", getattr(self, name), 1, 1 << 24)

    @classmethod
    def from_arch(cls, arch: Systolic) -> SystolicEngine:
        """Return the engine of an accelerator, with its own widths."""
        shell, beat = arch.shell, arch.memory.bits_per_cycle
        return cls(
            rows=arch.rows, cols=arch.cols, dataflow=arch.dataflow, overlap=arch.fold_overlap,
            w_bits=arch.w_width, a_bits=arch.a_width, psum_bits=shell.psum_bits, beat_bits=beat,
            unit_bits=arch.memory.alignment_bits,
            wbuf_beats=max(1, shell.bank_bits("wbuf") // beat), ibuf_beats=max(1, shell.bank_bits("ibuf") // beat),
            obuf_words=max(1, shell.bank_bits("obuf") // (shell.psum_bits * arch.cols)),
        )  # fmt: skip

    @property
    def stays(self) -> bool:
        """Whether an operand stays in the cells."""
        return self.dataflow != "os"

    @property
    def lanes(self) -> int:
        """Lanes that read pixels, each its own copy of ``ibuf``: rows, or columns where inputs stay."""
        return self.cols if self.dataflow == "is" else self.rows

    @property
    def weight_lanes(self) -> int:
        """Weights read a cycle."""
        return self.rows if self.dataflow == "is" else self.cols

    @property
    def weight_banks(self) -> int:
        """Memories of ``wbuf``, beats dealt out in turn: a line of weights touches as many beats at most, a power of two."""
        beats = -(-(self.weight_lanes - 1) * self.w_bits // self.beat_bits) + 1
        return 1 << (beats - 1).bit_length()

    @property
    def weight_address_bits(self) -> int:
        """Width of a beat's place in one of those memories."""
        return max(1, (-(-self.wbuf_beats // self.weight_banks) - 1).bit_length())

    @property
    def weight_place_bits(self) -> int:
        """Width of a weight's place in a bank of ``wbuf``."""
        per_beat = self.beat_bits // self.w_bits
        return self.weight_address_bits + (self.weight_banks * per_beat).bit_length() - 1

    @property
    def input_address_bits(self) -> int:
        """Width of a beat's place in a bank of ``ibuf``."""
        return max(1, (self.ibuf_beats - 1).bit_length())

    @property
    def output_address_bits(self) -> int:
        """Width of an accumulator's place in a bank of a column of ``obuf``."""
        return max(1, (self.obuf_words - 1).bit_length())

    @property
    def sequencer(self) -> FoldSequencer:
        """Order of folds."""
        return FoldSequencer(
            rows=self.rows, cols=self.cols, stays=self.stays, overlap=self.overlap, count_bits=self.count_bits
        )

    @property
    def im2col(self) -> Im2col:
        """Addresses of pixels."""
        per_beat = self.beat_bits // self.a_bits
        return Im2col(
            lanes=self.lanes,
            own="kernel" if self.dataflow == "ws" else "pixel",
            down=self.dataflow == "is",
            step=self.cols if self.dataflow == "is" else self.rows,
            rise=self.rows,
            apart=self.sequencer.least_cycles,
            count_bits=self.count_bits,
            coordinate_bits=self.coordinate_bits,
            slot_bits=max(1, self.unit_bits // self.a_bits).bit_length(),
            address_bits=self.input_address_bits + per_beat.bit_length() - 1,
        )

    @property
    def array(self) -> SystolicArray:
        """The cells: activations are one bit wider behind the subtraction of the zero point."""
        a_bits, w_bits = self.a_bits + 1, max(2, self.w_bits)
        return SystolicArray(
            rows=self.rows, cols=self.cols, stationary="operand" if self.stays else "sums",
            x_bits=w_bits if self.dataflow == "is" else a_bits, y_bits=a_bits if self.dataflow == "is" else w_bits,
            psum_bits=self.psum_bits, sets=2 if self.overlap == "skewed" else 1,
        )  # fmt: skip

    @property
    def tail_cycles(self) -> int:
        """Cycles from the end of a tile until its results stand in ``obuf``: as `SystolicDatapath.exec_times` says."""
        from hwsim.archs.systolic.datapath import PIPELINE_CYCLES

        return (0 if self.stays else self.rows) + PIPELINE_CYCLES[self.dataflow]

    @property
    def layout(self) -> data.StructLayout:
        """A tile as the engine reads it.

        ``folds``, ``im2col``: of the blocks. ``cols_end``, ``rows_end``: used columns of a group's last column fold, used rows of
        a column fold's last row fold, less one. ``out_step``: words of ``obuf`` from a column fold to the next. ``input_zero``,
        ``input_signed``: of stored activations. ``first``: results are written, not added. ``*_bank``: banks.
        """
        count = unsigned(self.count_bits)
        return data.StructLayout(
            {
                "folds": self.sequencer.layout,
                "im2col": self.im2col.layout,
                "cols_end": count,
                "rows_end": count,
                "out_step": unsigned(self.output_address_bits + 1),
                "input_zero": signed(self.a_bits + 1),
                "input_signed": unsigned(1),
                "first": unsigned(1),
                "w_bank": unsigned(1),
                "i_bank": unsigned(1),
                "o_bank": unsigned(1),
            }
        )
