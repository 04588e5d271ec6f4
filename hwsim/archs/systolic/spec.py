"""Fields and presets of the systolic array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hwsim.core.arch import Arch
from hwsim.core.check import require_choice, require_int
from hwsim.core.datapath import Datapath, LayerData, Workload
from hwsim.core.errors import SpecError
from hwsim.core.shell import KIB, Memory, Shell

if TYPE_CHECKING:
    from hwsim.core.actions import AreaPart

DATAFLOWS = ("os", "ws", "is")
OVERLAPS = ("none", "skewed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Systolic(Arch):
    """A systolic array of ``rows`` x ``cols`` multiply-accumulate cells.

    Parameters
    ----------
    rows, cols : int
        Cells.
    dataflow : str
        What stays in the cells: ``os`` outputs, ``ws`` weights, ``is`` inputs.
    fold_overlap : str
        ``none``: a fold enters when the one before it has left, the schedule of SCALE-Sim's equations. ``skewed``: a fold
        enters right behind the one before it; one fill and one drain a tile.
    w_width, a_width : int
        Widths of a cell's weight and activation operands, bits; narrower formats run at the same speed.
    """

    name: ClassVar[str] = "systolic"
    title: ClassVar[str] = "dense integer systolic array, output, weight or input stationary"

    rows: int
    cols: int
    dataflow: str = "os"
    fold_overlap: str = "none"
    w_width: int = 8
    a_width: int = 8

    def __post_init__(self) -> None:
        super(Systolic, self).__post_init__()
        require_int("systolic.rows", self.rows, 1, 4096)
        require_int("systolic.cols", self.cols, 1, 4096)
        require_choice("systolic.dataflow", self.dataflow, DATAFLOWS)
        require_choice("systolic.fold_overlap", self.fold_overlap, OVERLAPS)
        require_int("systolic.w_width", self.w_width, 1, 16)
        require_int("systolic.a_width", self.a_width, 1, 16)

    @property
    def ibuf_copies(self) -> int:
        """Copies of ``ibuf`` in generated hardware: one a lane that reads pixels. Larger presets stand for one banked memory."""
        lanes = self.cols if self.dataflow == "is" else self.rows
        return max(2, lanes) if self.is_built else 1

    def check_mac(self, workload: Workload) -> None:
        """Raise SpecError when the formats are wider than the cells."""
        fmt, where = workload.fmt, f"policy for layer {workload.layer.name}"
        for field, bits, width in (("w_bits", fmt.w_bits, self.w_width), ("a_bits", fmt.a_bits, self.a_width)):
            if bits > width:
                raise SpecError(f"{where}: {field}", bits, f"1 to {width} bits", f"--set {field[0]}_width={bits}")

    def choose_widths(self, workload: Workload) -> tuple[int, int]:
        """Return the widths of the cells."""
        return self.w_width, self.a_width

    def bind_mac(self, workload: Workload, data: LayerData | None) -> Datapath:
        """Return the datapath of a convolution or gemm."""
        from hwsim.archs.systolic.datapath import SystolicDatapath

        return SystolicDatapath(workload, self)

    def list_area(self) -> tuple[AreaPart, ...]:
        """Return multipliers, accumulators and operand registers of the cells."""
        from hwsim.core.actions import AreaPart

        cells, psum = self.rows * self.cols, self.shell.psum_bits
        shadow = psum if self.dataflow == "os" else 0
        registers = self.w_width + self.a_width + psum + shadow
        return (
            AreaPart(component="array", op="mult", count=cells, bits=(self.w_width, self.a_width)),
            AreaPart(component="array", op="add", count=cells, bits=(psum,)),
            AreaPart(component="array", op="register", count=cells, bits=(registers,)),
        )


PRESETS = {
    "base": Systolic(
        preset="base",
        rows=32,
        cols=32,
        shell=Shell(
            wbuf_bits=512 * KIB,
            ibuf_bits=512 * KIB,
            obuf_bits=256 * KIB,
            wbuf_port_bits=256,
            ibuf_port_bits=256,
            obuf_port_bits=512,
            vector_lanes=32,
            store_lanes=32,
        ),
        memory=Memory(bits_per_cycle=128),
        clock_hz=500e6,
        source="32x32 as in SCALE-Sim's ResNet-18 reference runs; buffers and clock are choices of this project",
    ),
    "small": Systolic(
        preset="small",
        rows=8,
        cols=8,
        shell=Shell(
            wbuf_bits=32 * KIB,
            ibuf_bits=16 * KIB,
            obuf_bits=32 * KIB,
            vector_lanes=1,
            store_lanes=1,
        ),
        memory=Memory(bits_per_cycle=64),
        clock_hz=100e6,
        source="choices of this project: sized for an ECP5-85K, where every row of the array reads a copy of ibuf of its own",
        unverified=("clock_hz",),
    ),
}
DEFAULT = "base"
