"""Fields and presets of the row-stationary array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hwsim.core.arch import Arch
from hwsim.core.check import require_int, require_widths
from hwsim.core.datapath import Datapath, LayerData, Workload
from hwsim.core.errors import SpecError
from hwsim.core.shell import KIB, Memory, Shell

if TYPE_CHECKING:
    from hwsim.core.actions import AreaPart

WORD_BITS = 16
"""An element in a register or on a bus of the array (Eyeriss: 16-bit fixed point); narrower operands take a word each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Eyeriss(Arch):
    """``rows`` x ``cols`` processing elements; one convolves a row of a filter with a row of the input.

    Parameters
    ----------
    rows, cols : int
        Elements; partial sums run up the rows.
    ifmap_words, filter_words, psum_words : int
        Registers of an element: inputs, weights and partial sums.
    w_port_words, i_port_words, o_port_words : int
        Words that the network carries in a cycle: weights, inputs, partial sums each way. ``obuf`` has words of as many sums.
    """

    name: ClassVar[str] = "eyeriss"
    title: ClassVar[str] = (
        "row-stationary array: an element convolves a filter row with an input row, sums run up the columns"
    )

    rows: int
    cols: int
    ifmap_words: int = 12
    filter_words: int = 224
    psum_words: int = 24
    w_port_words: int = 4
    i_port_words: int = 1
    o_port_words: int = 4

    def __post_init__(self) -> None:
        super(Eyeriss, self).__post_init__()
        for field, most in (
            ("rows", 256), ("cols", 256), ("ifmap_words", 4096), ("filter_words", 1 << 16), ("psum_words", 4096),
            ("w_port_words", 256), ("i_port_words", 256), ("o_port_words", 256),
        ):  # fmt: skip
            require_int(f"eyeriss.{field}", getattr(self, field), 1, most)
        least = self.ifmap_words * self.o_port_words
        if self.filter_words < least:
            wanted = f"at least ifmap_words * o_port_words ({least}): a row of as many filters as a word of sums has"
            raise SpecError("eyeriss.filter_words", self.filter_words, wanted)
        if self.psum_words < self.o_port_words:
            raise SpecError("eyeriss.psum_words", self.psum_words, f"at least o_port_words ({self.o_port_words})")

    def check_mac(self, workload: Workload) -> None:
        """Raise SpecError for formats of more than 16 bits and filter rows that an element's registers do not hold."""
        layer = workload.layer
        require_widths(layer.name, workload.fmt, (1, WORD_BITS), (1, WORD_BITS))
        if self.ifmap_words < layer.S:
            raise SpecError(
                f"layer {layer.name}: S", layer.S, f"filters of at most {self.ifmap_words} columns on {self.name}",
                "more input registers (--set ifmap_words=...) would help",
            )  # fmt: skip

    def choose_widths(self, workload: Workload) -> tuple[int, int]:
        """Return the width of the words."""
        return WORD_BITS, WORD_BITS

    def bind_mac(self, workload: Workload, data: LayerData | None) -> Datapath:
        """Return the datapath of a convolution or gemm."""
        from hwsim.archs.eyeriss.datapath import EyerissDatapath

        return EyerissDatapath(workload, self)

    def list_area(self) -> tuple[AreaPart, ...]:
        """Return the elements: multiplier, adder, registers."""
        from hwsim.core.actions import AreaPart

        cells, psum = self.rows * self.cols, self.shell.psum_bits
        words = self.ifmap_words + self.filter_words
        return (
            AreaPart(component="array", op="mult", count=cells, bits=(WORD_BITS, WORD_BITS)),
            AreaPart(component="array", op="add", count=cells, bits=(psum,)),
            AreaPart(component="array", op="register", count=cells * words, bits=(WORD_BITS,)),
            AreaPart(component="array", op="register", count=cells * self.psum_words, bits=(psum,)),
        )


PORTS = ("w_port_words", "i_port_words", "o_port_words")
SPLIT = ("shell.wbuf_bits", "shell.ibuf_bits", "shell.obuf_bits", "shell.stage_bits")
CHIP = ("filter_words", "psum_words", "clock_hz", "node_nm")
PRESETS = {
    "paper": Eyeriss(
        preset="paper", rows=12, cols=14,
        shell=Shell(
            wbuf_bits=16 * KIB, ibuf_bits=24 * KIB, obuf_bits=54 * KIB, stage_bits=14 * KIB, vector_lanes=4, store_lanes=4,
            obuf_port_bits=4 * 32,
        ),
        memory=Memory(bits_per_cycle=64, latency_cycles=32),
        clock_hz=200e6, node_nm=65, energy_table="eyeriss65",
        source="Chen et al., Eyeriss (ISSCC 2016, ISCA 2016, JSSC 2017): 12 x 14 elements, 108 KB of buffer, registers 12, 224 and "
        "24 words, 65 nm, 200 MHz; widths of the network from memory of JSSC 2017. The chip shares 100 KB among inputs and "
        "sums as a layer needs it and prefetches weights through 8 KB; here the 108 KB are split for good, outputs that wait "
        "for memory included, and each part but theirs has two banks; sums have 32 bits instead of 16",
        unverified=(
            *CHIP, *PORTS, *SPLIT, "shell.vector_lanes", "shell.store_lanes", "memory.bits_per_cycle", "memory.latency_cycles",
        ),
    ),
    "predictor": Eyeriss(
        preset="predictor", rows=12, cols=14, filter_words=192, psum_words=16, w_port_words=16, i_port_words=16, o_port_words=8,
        shell=Shell(
            wbuf_bits=16 * KIB, ibuf_bits=32 * KIB, obuf_bits=64 * KIB, stage_bits=16 * KIB, obuf_port_bits=8 * 32,
            vector_lanes=16, store_lanes=16,
        ),
        memory=Memory(bits_per_cycle=256, latency_cycles=32),
        clock_hz=250e6,
        source="GATECH-EIC/DNN-Chip-Predictor, predictor_eyeriss_only: 168 elements, registers 12, 192 and 16 words, 65,536 words "
        "of buffer (128 KB), 250 MHz, 45 nm; its network and memory are never too slow, those here are wide",
        unverified=(*PORTS, *SPLIT, "shell.vector_lanes", "shell.store_lanes", "memory.bits_per_cycle", "memory.latency_cycles"),
    ),
    "small": Eyeriss(
        preset="small", rows=3, cols=4, filter_words=64, psum_words=8, w_port_words=1, o_port_words=1,
        shell=Shell(
            wbuf_bits=16 * KIB, ibuf_bits=16 * KIB, obuf_bits=32 * KIB, obuf_port_bits=32, vector_lanes=1, store_lanes=1,
        ),
        memory=Memory(bits_per_cycle=64),
        clock_hz=100e6,
        source="choices of this project: sized for an ECP5-85K",
        unverified=("clock_hz",),
    ),
}  # fmt: skip
DEFAULT = "paper"
