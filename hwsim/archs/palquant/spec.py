"""Fields and presets of the native low-bit array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hwsim.core.arch import Arch
from hwsim.core.check import require_int, require_power_of_two, require_widths
from hwsim.core.datapath import Datapath, LayerData, Workload
from hwsim.core.shell import KIB, Memory, Shell

if TYPE_CHECKING:
    from hwsim.core.actions import AreaPart

NATIVE_BITS = (2, 3, 4)
"""Widths of a multiplier that PalQuant (ECCV 2022) speaks of."""
MOST_BITS = 16
"""Widest operand: the widest that a policy names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PalQuant(Arch):
    """``rows`` x ``cols`` multipliers of ``native_bits``; a column sums its lanes for a filter, lanes are shared out to groups.

    Parameters
    ----------
    rows : int
        Lanes along the reduction, a power of two.
    cols : int
        Filters at once, a power of two.
    native_bits : int
        Width of a multiplier: 2, 3 or 4. An operand goes through in ``ceil(bits / native_bits)`` digits, one a pass.
    segment_lanes : int
        Lanes of the smallest part of a column with a sum of its own: a power of two, at most ``rows``. Parts of 1, 2, 4 ...
        times as many lanes are joined in the column's adder tree.
    column_blocks : int
        Parts of the columns that have activations of their own: a power of two, at most ``cols``.
    """

    name: ClassVar[str] = "palquant"
    title: ClassVar[str] = "native 2, 3 or 4-bit multipliers: groups side by side, wider operands in passes"

    rows: int
    cols: int
    native_bits: int = 2
    segment_lanes: int = 16
    column_blocks: int = 4

    def __post_init__(self) -> None:
        super(PalQuant, self).__post_init__()
        require_int("palquant.native_bits", self.native_bits, NATIVE_BITS[0], NATIVE_BITS[-1])
        for field, most in (("rows", 1024), ("cols", 1024), ("segment_lanes", self.rows), ("column_blocks", self.cols)):
            require_power_of_two(f"palquant.{field}", require_int(f"palquant.{field}", getattr(self, field), 1, most))

    @property
    def taps(self) -> int:
        """Sums that a column makes at once where its lanes are cut smallest: accumulators, and columns of ``obuf``, of a column."""
        return self.rows // self.segment_lanes

    @property
    def tree_levels(self) -> int:
        """Levels of a column's adder tree."""
        return self.rows.bit_length() - 1

    @property
    def product_bits(self) -> int:
        """Bits of a product: digits are signed or not, so a multiplier's operands have a bit more than a digit."""
        return 2 * (self.native_bits + 1)

    @property
    def ibuf_copies(self) -> int:
        """Copies of ``ibuf`` in generated hardware: one a lane of each block. Larger presets stand for one banked memory."""
        return self.rows * self.column_blocks if self.is_built else 1

    def count_digits(self, bits: int) -> int:
        """Return the digits of an operand."""
        return -(-bits // self.native_bits)

    def check_mac(self, workload: Workload) -> None:
        """Raise SpecError for formats of more than 16 bits."""
        require_widths(workload.layer.name, workload.fmt, (1, MOST_BITS), (1, MOST_BITS))

    def choose_widths(self, workload: Workload) -> tuple[int, int]:
        """Return the bits of whole digits."""
        fmt = workload.fmt
        return self.native_bits * self.count_digits(fmt.w_bits), self.native_bits * self.count_digits(fmt.a_bits)

    def bind_mac(self, workload: Workload, data: LayerData | None) -> Datapath:
        """Return the datapath of a convolution or gemm."""
        from hwsim.archs.palquant.datapath import PalQuantDatapath

        return PalQuantDatapath(workload, self)

    def list_area(self) -> tuple[AreaPart, ...]:
        """Return multipliers, operand registers, adder trees, and behind every tap a shifter and an accumulator.

        A tree's level l adds ``rows / 2**l`` pairs of ``product_bits + l - 1`` bits; taps are wires. Activations are held once a
        lane and block (16 bits: all digits of a step), weights in every cell (a digit).
        """
        from hwsim.core.actions import AreaPart

        cells, psum, sums = self.rows * self.cols, self.shell.psum_bits, self.cols * self.taps
        digit = self.native_bits + 1
        lanes = self.rows * self.column_blocks
        return (
            AreaPart(component="array", op="mult", count=cells, bits=(digit, digit)),
            AreaPart(component="array", op="register", count=cells, bits=(self.native_bits,)),
            AreaPart(component="array", op="register", count=lanes, bits=(MOST_BITS,)),
            *(
                AreaPart(component="tree", op="add", count=cells >> level, bits=(self.product_bits + level,))
                for level in range(1, self.tree_levels + 1)
            ),
            AreaPart(component="sums", op="shift_add", count=sums, bits=(psum,)),
            AreaPart(component="sums", op="register", count=sums, bits=(psum,)),
        )


CHOSEN = ("wbuf_bits", "ibuf_bits", "obuf_bits", "vector_lanes", "store_lanes")
UNVERIFIED = (
    "rows", "cols", "segment_lanes", "column_blocks", *(f"shell.{field}" for field in CHOSEN), "memory.bits_per_cycle",
    "memory.latency_cycles", "clock_hz",
)  # fmt: skip
"""All but the two bits: the paper's machine is not published."""
PRESETS = {
    "base": PalQuant(
        preset="base", rows=64, cols=64, native_bits=2, segment_lanes=16, column_blocks=4,
        shell=Shell(
            wbuf_bits=256 * KIB, ibuf_bits=128 * KIB, obuf_bits=256 * KIB, wbuf_port_bits=128, ibuf_port_bits=128,
            obuf_port_bits=512, vector_lanes=64, store_lanes=64,
        ),
        memory=Memory(bits_per_cycle=256, latency_cycles=32),
        clock_hz=500e6,
        source="choices of this project: the accelerator of PalQuant (ECCV 2022) is not published; 4,096 two-bit multipliers do "
        "the products of 256 eight-bit ones",
        unverified=UNVERIFIED,
    ),
    "small": PalQuant(
        preset="small", rows=16, cols=8, native_bits=2, segment_lanes=8, column_blocks=1,
        shell=Shell(
            wbuf_bits=32 * KIB, ibuf_bits=8 * KIB, obuf_bits=32 * KIB, wbuf_port_bits=32, ibuf_port_bits=32,
            obuf_port_bits=32, vector_lanes=1, store_lanes=1,
        ),
        memory=Memory(bits_per_cycle=64),
        clock_hz=100e6,
        source="choices of this project: sized for an ECP5-85K, where every lane reads a copy of ibuf of its own",
        unverified=("clock_hz",),
    ),
}  # fmt: skip
DEFAULT = "base"
