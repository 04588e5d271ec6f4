"""Fields and presets of BitFusion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hwsim.core.arch import Arch
from hwsim.core.check import require_int, require_widths
from hwsim.core.datapath import Datapath, LayerData, Workload
from hwsim.core.shell import KIB, Memory, Shell

if TYPE_CHECKING:
    from hwsim.core.actions import AreaPart

UNIT_BITS = 8
"""Largest operand that a fusion unit multiplies at once: sixteen 2-bit bricks are one 8 x 8 multiplier (ISCA 2018)."""
BRICK_BITS = 2
"""Operand of a brick; narrower ones are extended to it."""
WIDTHS = (2, 4, 8, 16)
"""Widths that a unit can be set to; bits between them run as the next one. 16 bits: halves of 8, one after the other."""


def choose_width(bits: int) -> int:
    """Return the width at which an operand of ``bits`` bits runs."""
    return next(width for width in WIDTHS if bits <= width)


@dataclass(frozen=True, slots=True, kw_only=True)
class BitFusion(Arch):
    """``rows`` x ``cols`` fusion units; a column sums the products of its units and of the steps of one output pixel.

    Parameters
    ----------
    rows : int
        Units along the reduction (N of the paper).
    cols : int
        Filters at once (M).
    """

    name: ClassVar[str] = "bitfusion"
    title: ClassVar[str] = "fusion units of sixteen 2-bit bricks: products a cycle grow as bits shrink"

    rows: int
    cols: int

    def __post_init__(self) -> None:
        super(BitFusion, self).__post_init__()
        require_int("bitfusion.rows", self.rows, 1, 1024)
        require_int("bitfusion.cols", self.cols, 1, 1024)

    def buffer_macros(self, name: str) -> int:
        """Return a part of ``wbuf`` for each unit, of ``ibuf`` for each row, of ``obuf`` for each column.

        The released simulator prices these sizes: 64 KB over 512 units are 128 B, 32 KB over 16 rows 2 KB, 16 KB over 32 columns
        512 B, each with words of 4 B (hsharma35/bitfusion, ``sram/cacti_sweep.csv``).
        """
        return {"wbuf": self.rows * self.cols, "ibuf": self.rows, "obuf": self.cols}.get(name, 1)

    def check_mac(self, workload: Workload) -> None:
        """Raise SpecError for formats of more than 16 bits."""
        require_widths(workload.layer.name, workload.fmt, (1, WIDTHS[-1]), (1, WIDTHS[-1]))

    def choose_widths(self, workload: Workload) -> tuple[int, int]:
        """Return the widths that the units are set to."""
        return choose_width(workload.fmt.w_bits), choose_width(workload.fmt.a_bits)

    def bind_mac(self, workload: Workload, data: LayerData | None) -> Datapath:
        """Return the datapath of a convolution or gemm."""
        from hwsim.archs.bitfusion.datapath import BitFusionDatapath

        return BitFusionDatapath(workload, self)

    def list_area(self) -> tuple[AreaPart, ...]:
        """Return the fusion units: the source's figure is of a whole array, adders down the columns and registers inside."""
        from hwsim.core.actions import AreaPart

        units = self.rows * self.cols
        return (AreaPart(component="array", op="fusion_unit", count=units, bits=(UNIT_BITS, BRICK_BITS)),)


UNVERIFIED = ("memory.latency_cycles", "shell.vector_lanes", "shell.store_lanes")
"""Of the released configurations, which have no such figures."""
PRESETS = {
    "E": BitFusion(
        preset="E", rows=16, cols=32,
        shell=Shell(
            wbuf_bits=64 * KIB, ibuf_bits=32 * KIB, obuf_bits=16 * KIB, wbuf_port_bits=32, ibuf_port_bits=32,
            obuf_port_bits=32, vector_lanes=32, store_lanes=32,
        ),
        memory=Memory(bits_per_cycle=192, latency_cycles=32),
        clock_hz=500e6, energy_table="bitfusion45",
        source="hsharma35/bitfusion bf_e_conf.ini (matched to Eyeriss); lanes of the vector and store units are ours",
        unverified=UNVERIFIED,
    ),
    "S": BitFusion(
        preset="S", rows=16, cols=32,
        shell=Shell(
            wbuf_bits=128 * KIB, ibuf_bits=128 * KIB, obuf_bits=128 * KIB, wbuf_port_bits=32, ibuf_port_bits=32,
            obuf_port_bits=32, vector_lanes=32, store_lanes=32,
        ),
        memory=Memory(bits_per_cycle=4096, latency_cycles=32),
        clock_hz=980e6, energy_table="bitfusion45",
        source="hsharma35/bitfusion bf_s_conf.ini (matched to Stripes); lanes of the vector and store units are ours",
        unverified=UNVERIFIED,
    ),
    "8x8": BitFusion(
        preset="8x8", rows=8, cols=8,
        shell=Shell(
            wbuf_bits=256 * KIB, ibuf_bits=64 * KIB, obuf_bits=16 * KIB, wbuf_port_bits=32, ibuf_port_bits=32,
            obuf_port_bits=32, vector_lanes=8, store_lanes=8,
        ),
        memory=Memory(bits_per_cycle=128, latency_cycles=32),
        clock_hz=500e6, energy_table="bitfusion45",
        source="hsharma35/bitfusion conf.ini; lanes of the vector and store units are ours",
        unverified=UNVERIFIED,
    ),
    "small": BitFusion(
        preset="small", rows=4, cols=4,
        shell=Shell(
            wbuf_bits=32 * KIB, ibuf_bits=16 * KIB, obuf_bits=32 * KIB, wbuf_port_bits=32, ibuf_port_bits=32,
            obuf_port_bits=32, vector_lanes=1, store_lanes=1,
        ),
        memory=Memory(bits_per_cycle=64),
        clock_hz=100e6, energy_table="bitfusion45",
        source="choices of this project: sized for an ECP5-85K",
        unverified=("clock_hz",),
    ),
}  # fmt: skip
DEFAULT = "E"
