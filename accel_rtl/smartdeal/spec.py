"""What the SmartDeal engine is built from, and the fields that describe a tile to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from amaranth.hdl import Shape, signed, unsigned
from amaranth.lib import data

from accel_rtl.blocks.adder_tree import AdderTree
from accel_rtl.blocks.booth import BoothCell, BoothLine
from accel_rtl.blocks.rebuild import RebuildEngine, RebuildTurns
from accel_rtl.instruction_word import WORD_BITS
from accel_rtl.machine import Machine
from hwsim.core.check import require_int
from hwsim.core.errors import SpecError
from hwsim.quant.decompose_plan import BASIS_SIZE, COEFFICIENT_BITS

if TYPE_CHECKING:
    from accel_rtl.smartdeal.engine import SmartDealUnit
    from hwsim.archs.smartdeal.spec import SmartDeal
    from hwsim.core.datapath import Datapath
    from hwsim.core.mapping import Int64
    from hwsim.engine.execute_parameters import LayerParameters

A_BITS = W_BITS = 8
"""Stored activations; weights, rebuilt or dense."""
OPERAND_BITS = A_BITS + 1
"""An activation less its zero point."""
ENTRY_WEIGHTS = BASIS_SIZE
"""Weights of an entry of the line stores and row stores."""
NIBBLES_BITS = BASIS_SIZE * COEFFICIENT_BITS
"""Coefficients of a row."""
HEADER_BITS = 16
"""Bits of a slice's length in the header of a tile of weights."""
COUNT = unsigned(16)
COORDINATE = signed(14)
"""Input rows and columns, relative to what is stored."""
KERNEL = unsigned(6)
"""A place in a kernel row or column."""
PLACE_PARTS = ("y", "slot", "address")


@dataclass(frozen=True, slots=True, kw_only=True)
class SmartDealEngine:
    """The engine.

    Parameters
    ----------
    machine : Machine
        Sizes of buffers and ports; ``columns`` are the slices.
    lines, macs, line_rows : int
        As of `hwsim.archs.smartdeal.spec.SmartDeal`.
    checked : bool
        Assert in simulation that no beat of a stream or of the activations is read and written in one cycle.
    """

    machine: Machine
    lines: int
    macs: int
    line_rows: int
    checked: bool = False

    def __post_init__(self) -> None:
        for name, high in (("lines", 64), ("macs", 64), ("line_rows", 256)):
            require_int(f"smartdeal.{name}", getattr(self, name), 1, high)
        if self.machine.beat_bits < self.part_bits:
            need = f"at least {self.part_bits}: {self.lines} rows of coefficients, the index of {self.pass_rows} rows"
            raise SpecError("memory.bits_per_cycle", self.machine.beat_bits, need)
        if self.slice_beats < 1:
            raise SpecError("shell.wbuf_bits", self.machine.wbuf_beats, f"at least {self.slices} beats a bank")

    @classmethod
    def from_arch(cls, arch: SmartDeal) -> SmartDealEngine:
        """Return the engine of an accelerator, or raise SpecError naming the field that cannot be built."""
        if arch.clusters != 1:
            raise SpecError("clusters", arch.clusters, "1, to be built", "--set clusters=1")
        if getattr(arch, "depthwise", "grouped") != "grouped":
            raise SpecError("depthwise", arch.depthwise, "grouped, to be built", "--set depthwise=grouped")
        machine = Machine.from_arch(arch, columns=arch.slices, a_bits=A_BITS)
        return cls(machine=machine, lines=arch.lines, macs=arch.macs, line_rows=arch.line_rows)

    # What the accelerator asks of an engine (`accel_rtl.machine.EngineSpec`)

    @property
    def tile_words(self) -> int:
        """Descriptor words of an EXEC."""
        return -(-self.layout.size // WORD_BITS)

    @property
    def most_tail_cycles(self) -> int:
        """Largest ``tail`` of an EXEC: all are equal."""
        return self.tail_cycles

    @property
    def pixel_columns(self) -> bool:
        """Columns of ``obuf`` stand for filters."""
        return False

    def describe(
        self, datapath: Datapath, box: tuple[Int64, Int64], banks: tuple[int, int, int], parameters: LayerParameters
    ) -> int:
        """Return the descriptor of an EXEC; see `accel_rtl.smartdeal.descriptor`."""
        from accel_rtl.smartdeal.descriptor import describe_word

        return describe_word(self, datapath, box, banks, parameters)

    def create(self) -> SmartDealUnit:
        """Return the hardware."""
        from accel_rtl.smartdeal.engine import SmartDealUnit

        return SmartDealUnit(self)

    # Sizes

    @property
    def slices(self) -> int:
        """Filters at once."""
        return self.machine.columns

    @property
    def pass_rows(self) -> int:
        """Most rows of a pass."""
        return self.lines * self.line_rows

    @property
    def part_bits(self) -> int:
        """Most bits that a decoder takes from its stream a cycle."""
        return max(self.lines * NIBBLES_BITS, self.pass_rows, ENTRY_WEIGHTS * W_BITS)

    @property
    def slice_beats(self) -> int:
        """Beats of a slice's stream that a bank of ``wbuf`` holds."""
        return self.machine.wbuf_beats // self.slices

    @property
    def beat_elements(self) -> int:
        """Activations of a beat."""
        return self.machine.beat_bits // A_BITS

    @property
    def copies(self) -> int:
        """Copies of ``ibuf``: one a line, and two for the vector unit."""
        return max(2, self.lines)

    @property
    def window(self) -> int:
        """Activations that a line reads a cycle: a kernel row of three columns at stride 2, or ``macs`` pixels."""
        return 2 * self.macs + 1

    @property
    def input_memories(self) -> int:
        """Memories of a copy of ``ibuf``: beat b stands in memory ``b % input_memories``; they hold a window at any place."""
        beats = -(-(self.window + self.beat_elements - 1) // self.beat_elements)
        return max(2, 1 << (beats - 1).bit_length())

    @property
    def input_place_bits(self) -> int:
        """Width of a beat's place in one of those memories, without the bank."""
        return max(1, (-(-self.machine.ibuf_beats // self.input_memories) - 1).bit_length())

    @property
    def address_bits(self) -> int:
        """Width of an activation's place in a bank of ``ibuf``."""
        return self.input_place_bits + (self.input_memories * self.beat_elements - 1).bit_length()

    @property
    def entry_bits(self) -> int:
        """Width of an entry's place in a bank of a line store."""
        return max(1, (self.line_rows - 1).bit_length())

    @property
    def stream_place_bits(self) -> int:
        """Width of a beat's place in a slice's stream."""
        return max(1, (self.slice_beats - 1).bit_length())

    @property
    def slot_bits(self) -> int:
        """Width of a row's place in its alignment unit."""
        return self.beat_elements.bit_length()

    @property
    def line_shape(self) -> BoothLine:
        """The cells of a line."""
        return BoothLine(
            cell=BoothCell(activation_bits=OPERAND_BITS, weight_bits=W_BITS, psum_bits=self.machine.psum_bits),
            macs=self.macs,
        )

    @property
    def rebuild(self) -> RebuildTurns:
        """The two rebuild engines of a line; the tag is the row's entry, and whether it is the last."""
        return RebuildTurns(engine=RebuildEngine(), tag_bits=self.entry_bits + 1)

    @property
    def tree(self) -> AdderTree:
        """Sum over the lines of a slice."""
        psum = self.machine.psum_bits
        return AdderTree(inputs=self.lines, in_bits=psum, out_bits=psum)

    @property
    def tail_cycles(self) -> int:
        """Cycles from the end of a tile until its results stand in ``obuf``."""
        from hwsim.archs.smartdeal.timing import RESULT_PIPELINE

        return self.macs + self.tree.latency_cycles + RESULT_PIPELINE

    # Layouts

    @property
    def place_shapes(self) -> dict[str, Shape]:
        """Of what a row of the kernel or of pixels adds to an input row, a slot, an address."""
        return {"y": COORDINATE, "slot": unsigned(self.slot_bits), "address": unsigned(self.address_bits)}

    @property
    def layout(self) -> data.StructLayout:
        """A tile as the engine reads it; ``_end`` is a count less one.

        Loops: ``group_end``, ``block_end`` (blocks of filters), ``image_end``, ``row_end``, ``column_end`` (pixel groups of a
        row), ``step_end``; ``passes_end`` of a step and ``last_passes_end`` of the tile's last step. ``full_end``: chunks of a pass
        that another one of its step follows; ``chunks_end`` and ``rows``: chunks of a step's last pass and rows of the last of
        them, ``total`` of all, ``last_*`` in the tile's last step. ``slices``, ``pixels``: of the last block, a row's last group.

        Rows: ``rebuilt``; ``whole``: a row is loaded in a cycle, ``scattered``: by ``pixels_end`` pixels, one by one;
        ``double``: neighbouring pixels are two columns apart; ``channels``: a row covers channels. ``weights_end`` of a row;
        ``entries_end`` of a row; ``short``: weights of the entry that ends a row, less one, and ``ends``: those entries of a pass;
        ``last_weights``: of the last row of the filter, less one.

        Places: ``line{l}_*`` of the first rows; ``move{carry}_*``: from a row to the next of its line, where its kernel row is
        less than ``carry_from`` and where it is not, ``kernel_move``, ``kernel_back``: what is added to the kernel row;
        ``weight_x``, ``weight_address``: from a weight to the next; ``pixel_x``, ``pixel_address``: to the next pixel
        (scattered); ``begin_*``: of the first pixel; ``column_*``, ``row_*``, ``image_address``, ``group_address``,
        ``step_address``: moves. ``span``, ``skip``: a slot that reaches ``span`` belongs to the next unit, ``skip`` further.
        ``in_rows``, ``in_cols``: of what is stored. ``input_zero``, ``input_signed``: of stored activations. ``first``: results
        are written, not added. ``*_bank``: banks.
        """
        address, lines, macs = unsigned(self.address_bits), range(self.lines + 1), range(self.macs + 1)
        chunk, weight, place = unsigned(self.entry_bits), unsigned(2), self.place_shapes
        fields: dict[str, Shape] = {
            f"{name}_end": COUNT
            for name in ("group", "block", "image", "row", "column", "step", "passes", "last_passes")
        }
        fields |= {"full_end": chunk, "chunks_end": chunk, "last_chunks_end": chunk}
        fields |= {"rows": Shape.cast(lines), "last_rows": Shape.cast(lines)}
        fields |= dict.fromkeys(("total", "last_total"), Shape.cast(range(self.pass_rows + 1)))
        fields |= {
            "slices": Shape.cast(range(self.slices + 1)),
            "pixels": Shape.cast(macs),
            "pixels_end": Shape.cast(macs),
        }
        fields |= dict.fromkeys(("rebuilt", "whole", "scattered", "double", "channels"), unsigned(1))
        fields |= {"weights_end": KERNEL, "entries_end": KERNEL, "short": weight, "last_weights": weight}
        fields |= {"ends": unsigned(self.line_rows)}
        for line in range(self.lines):
            fields |= {f"line{line}_kernel": KERNEL} | {f"line{line}_{part}": place[part] for part in PLACE_PARTS}
        for carry in range(2):
            fields |= {f"move{carry}_{part}": place[part] for part in PLACE_PARTS}
        fields |= {"carry_from": unsigned(7), "kernel_move": KERNEL, "kernel_back": KERNEL}
        fields |= {"weight_x": COORDINATE, "weight_address": address, "pixel_x": COORDINATE, "pixel_address": address}
        fields |= {"begin_x": COORDINATE} | {f"begin_{part}": place[part] for part in PLACE_PARTS}
        fields |= {"column_x": COORDINATE, "column_address": address} | {
            f"row_{part}": place[part] for part in PLACE_PARTS
        }
        fields |= dict.fromkeys(("image_address", "group_address", "step_address", "skip"), address)
        fields |= {"span": unsigned(self.slot_bits), "in_rows": unsigned(13), "in_cols": unsigned(13)}
        fields |= {"input_zero": signed(OPERAND_BITS)}
        fields |= dict.fromkeys(("input_signed", "first", "w_bank", "i_bank", "o_bank"), unsigned(1))
        return data.StructLayout(fields)
