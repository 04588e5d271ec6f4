"""Fields and presets of the bit-serial dot-product array."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2
from typing import TYPE_CHECKING, ClassVar

from hwsim.core.arch import Arch
from hwsim.core.check import require_int, require_power_of_two, require_widths
from hwsim.core.datapath import Datapath, LayerData, Workload
from hwsim.core.shell import KIB, MIB, Memory, Shell

if TYPE_CHECKING:
    from hwsim.core.actions import AreaPart, EngineMemory

MOST_BITS = 16
"""Most planes of an operand: BISMO's ``maxShiftSteps`` is 16 (EECS-NTNU/bismo, ``ExecStage.scala``)."""
POPCOUNT_BITS = 2
"""Adder bits of a popcount tree per input: word / 2**l adders of l bits at level l sum to 2 word - log2(word) - 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bismo(Arch):
    """``rows`` x ``cols`` dot-product units; a unit takes a word of each operand a cycle, one bit plane of ``word_bits`` elements.

    Parameters
    ----------
    rows : int
        Output pixels at once (Dm); the batch's images where a layer has one output pixel.
    cols : int
        Filters at once (Dn).
    word_bits : int
        Elements of the reduction that a unit takes in a cycle (Dk), a power of two.
    depth_words : int
        Words of each operand memory: every row and every column of units has one.
    """

    name: ClassVar[str] = "bismo"
    title: ClassVar[str] = "bit-serial dot-product array: cycles grow with weight bits times activation bits"
    codecs: ClassVar[tuple[str, ...]] = ("dense", "bit-planes")

    rows: int
    cols: int
    word_bits: int
    depth_words: int

    def __post_init__(self) -> None:
        super(Bismo, self).__post_init__()
        require_int("bismo.rows", self.rows, 1, 1024)
        require_int("bismo.cols", self.cols, 1, 1024)
        require_int("bismo.word_bits", self.word_bits, 8, 4096)
        require_power_of_two("bismo.word_bits", self.word_bits)
        require_int("bismo.depth_words", self.depth_words, MOST_BITS, 1 << 20)

    @property
    def tree_levels(self) -> int:
        """Levels of a unit's popcount tree."""
        return int(log2(self.word_bits))

    def check_mac(self, workload: Workload) -> None:
        """Raise SpecError for formats of more than 16 bits."""
        require_widths(workload.layer.name, workload.fmt, (1, MOST_BITS), (1, MOST_BITS))

    def bind_mac(self, workload: Workload, data: LayerData | None) -> Datapath:
        """Return the datapath of a convolution or gemm."""
        from hwsim.archs.bismo.datapath import BismoDatapath

        return BismoDatapath(workload, self)

    def list_area(self) -> tuple[AreaPart, ...]:
        """Return the units: AND gates (one-bit multipliers), popcount tree, shifter, accumulator."""
        from hwsim.core.actions import AreaPart

        units, psum = self.rows * self.cols, self.shell.psum_bits
        return (
            AreaPart(component="array", op="mult", count=units * self.word_bits, bits=(1, 1)),
            AreaPart(component="array", op="add", count=units * self.word_bits, bits=(POPCOUNT_BITS,)),
            AreaPart(component="array", op="shift_add", count=units, bits=(psum,)),
            AreaPart(component="array", op="register", count=units, bits=(psum,)),
        )

    def list_memories(self) -> tuple[EngineMemory, ...]:
        """Return the operand memories: one a row (pixels) and one a column (filters)."""
        from hwsim.core.actions import EngineMemory

        bits = self.depth_words * self.word_bits
        return tuple(
            EngineMemory(name=name, capacity_bits=count * bits, width_bits=self.word_bits, macros=count)
            for name, count in (("lhs", self.rows), ("rhs", self.cols))
        )


CHOSEN = ("wbuf_bits", "ibuf_bits", "obuf_bits", "vector_lanes", "store_lanes")
UNVERIFIED = (
    "rows", "cols", "word_bits", "depth_words", *(f"shell.{field}" for field in CHOSEN), "memory.latency_cycles", "clock_hz",
    "energy_table",
)  # fmt: skip
"""Of the published machines: sizes from memory of HAQ's table 2, the rest inferred or chosen; energies are those of an ASIC."""
RULES = (
    "a port for each operand, three of the four; vector and store lanes: a word of obuf a cycle, which is what the array makes at "
    "1 x 1 bits; issue and latency as in every other preset; wbuf, ibuf and obuf are choices of this project"
)
PRESETS = {
    "edge": Bismo(
        preset="edge", rows=8, cols=8, word_bits=256, depth_words=512,
        shell=Shell(
            wbuf_bits=64 * KIB, ibuf_bits=64 * KIB, obuf_bits=128 * KIB, wbuf_port_bits=256, ibuf_port_bits=256,
            obuf_port_bits=8 * 8 * 32, vector_lanes=8 * 8, store_lanes=8 * 8,
        ),
        memory=Memory(bits_per_cycle=64, channels="per-operand"),
        clock_hz=200e6, node_nm=28,
        source="HAQ (CVPR 2019), table 2: Zynq-7020, 8 x 8 units, AXI 4 x 64 bits; 8 x 256 x 8 at 200 MHz is BISMO's own largest "
        f"instance on it (FPL 2018); {RULES} within 140 block RAMs of 36 Kbit",
        unverified=UNVERIFIED,
    ),
    "cloud": Bismo(
        preset="cloud", rows=16, cols=16, word_bits=256, depth_words=1024,
        shell=Shell(
            wbuf_bits=MIB, ibuf_bits=MIB, obuf_bits=2 * MIB, wbuf_port_bits=256, ibuf_port_bits=256,
            obuf_port_bits=16 * 16 * 32, vector_lanes=16 * 16, store_lanes=16 * 16,
        ),
        memory=Memory(bits_per_cycle=256, channels="per-operand"),
        clock_hz=200e6, node_nm=22,
        source="HAQ (CVPR 2019), table 2: VU9P, 16 x 16 units, AXI 4 x 256 bits; word, depth and a word a cycle for each operand "
        f"as its released latency table implies; {RULES} within 2160 block RAMs",
        unverified=(*UNVERIFIED, "node_nm"),
    ),
    "small": Bismo(
        preset="small", rows=4, cols=4, word_bits=64, depth_words=256,
        shell=Shell(
            wbuf_bits=16 * KIB, ibuf_bits=16 * KIB, obuf_bits=32 * KIB, obuf_port_bits=4 * 4 * 32, vector_lanes=1,
            store_lanes=1,
        ),
        memory=Memory(bits_per_cycle=64),
        clock_hz=100e6,
        source="choices of this project: sized for an ECP5-85K",
        unverified=("clock_hz",),
    ),
}  # fmt: skip
DEFAULT = "edge"
