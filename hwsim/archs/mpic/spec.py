"""Fields and presets of the mixed-precision core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hwsim.core.arch import Arch
from hwsim.core.check import require_int, require_power_of_two
from hwsim.core.datapath import Datapath, LayerData, Workload
from hwsim.core.errors import SpecError
from hwsim.core.shell import KIB, Memory, Shell

if TYPE_CHECKING:
    from hwsim.core.actions import AreaPart, EngineMemory

REGISTER_BITS = 32
"""A register, a load, an operand of the dot product (RV32)."""
REGISTERS = 32
"""Of RV32I."""
OTHER_REGISTERS = 8
"""Those that hold neither sums nor operands: zero, pointers (a choice of this project)."""
WIDTHS = (2, 4, 8, 16)
"""Elements that the dot product takes; it works at the wider of two widths, of the other operand a part (arXiv 2010.04073)."""
PRUNED = 0
"""Bits of a filter that is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mpic(Arch):
    """One core: 32-bit registers, hardware loops, one load or store a cycle, a dot product of 32-bit operands a cycle.

    Parameters
    ----------
    filters, pixels : int
        Sums kept in registers: filters times output pixels (4 x 2).
    column_bits : int
        Memory of gathered inputs: two times ``pixels`` columns of the reduction, a power of two.
    program_bits : int
        Memory of instructions.
    """

    name: ClassVar[str] = "mpic"
    title: ClassVar[str] = (
        "RISC-V core with a mixed-precision SIMD dot product; weight bits may differ by output channel"
    )
    mixes_channels: ClassVar[bool] = True

    filters: int = 4
    pixels: int = 2
    column_bits: int = 1 << 16
    program_bits: int = 1 << 14

    def __post_init__(self) -> None:
        super(Mpic, self).__post_init__()
        require_int("mpic.filters", self.filters, 1, 8)
        require_int("mpic.pixels", self.pixels, 1, 8)
        needed = self.filters * self.pixels + 2 * (self.filters + self.pixels)  # sums; operands, two steps of them
        if needed > REGISTERS - OTHER_REGISTERS:
            raise SpecError(
                "mpic.filters",
                (self.filters, self.pixels),
                f"sums and operands in {REGISTERS - OTHER_REGISTERS} registers",
            )
        require_int("mpic.column_bits", self.column_bits, 1 << 10, 1 << 24)
        require_int("mpic.program_bits", self.program_bits, 1 << 10, 1 << 24)
        require_power_of_two("mpic.column_bits", self.column_bits)

    def check_mac(self, workload: Workload) -> None:
        """Raise SpecError for widths that a register does not hold in whole numbers, and windows larger than a column."""
        fmt, layer = workload.fmt, workload.layer
        where = f"policy for layer {layer.name}"
        allowed = ", ".join(map(str, WIDTHS))
        for field, bits in (("w_bits", fmt.w_bits), ("a_bits", fmt.a_bits)):
            if bits not in WIDTHS:
                raise SpecError(f"{where}: {field}", bits, f"one of {allowed} bits")
        for bits, _ in fmt.channel_bits:
            if bits not in (PRUNED, *WIDTHS):
                raise SpecError(f"{where}: channel_bits", bits, f"0 (pruned) or one of {allowed} bits")
        if layer.R * layer.S * fmt.a_bits > self.column_bits // (2 * self.pixels):
            raise SpecError(
                f"layer {layer.name}: R x S", (layer.R, layer.S), f"a window of one channel within a column of {self.name}",
                "a larger column memory (--set column_bits=...) would help",
            )  # fmt: skip

    def choose_widths(self, workload: Workload) -> tuple[int, int]:
        """Return the wider of both widths twice; where filters differ, each has its own."""
        fmt = workload.fmt
        wider = max(fmt.w_bits, fmt.a_bits)
        return (fmt.w_bits, fmt.a_bits) if fmt.channel_bits else (wider, wider)

    def bind_mac(self, workload: Workload, data: LayerData | None) -> Datapath:
        """Return the datapath of a convolution or gemm."""
        from hwsim.archs.mpic.datapath import MpicDatapath

        return MpicDatapath(workload, self)

    def list_area(self) -> tuple[AreaPart, ...]:
        """Return the dot-product unit (multipliers for every width), an adder for addresses, the register file."""
        from hwsim.core.actions import AreaPart

        lanes = tuple((REGISTER_BITS // width, width) for width in WIDTHS)
        return (
            *(AreaPart(component="core", op="mult", count=count, bits=(width, width)) for count, width in lanes),
            *(AreaPart(component="core", op="add", count=count, bits=(2 * width,)) for count, width in lanes),
            AreaPart(component="core", op="add", count=2, bits=(REGISTER_BITS,)),
            AreaPart(component="core", op="register", count=REGISTERS, bits=(REGISTER_BITS,)),
        )

    def list_memories(self) -> tuple[EngineMemory, ...]:
        """Return the memories of gathered inputs and of instructions."""
        from hwsim.core.actions import EngineMemory

        return (
            EngineMemory(name="columns", capacity_bits=self.column_bits, width_bits=REGISTER_BITS),
            EngineMemory(name="program", capacity_bits=self.program_bits, width_bits=REGISTER_BITS),
        )


PRESETS = {
    "paper": Mpic(
        preset="paper",
        shell=Shell(
            wbuf_bits=64 * KIB, ibuf_bits=64 * KIB, obuf_bits=128 * KIB, wbuf_port_bits=32, ibuf_port_bits=64,
            obuf_port_bits=32, vector_lanes=1, store_lanes=1,
        ),
        memory=Memory(bits_per_cycle=64, latency_cycles=8, on_chip_bits=512 * KIB),
        clock_hz=250e6, node_nm=22,
        source="Ottavi et al., A Mixed-Precision RISC-V Processor for Extreme-Edge DNN Inference (ISVLSI 2020, arXiv 2010.04073): "
        "RI5CY with 16, 8, 4 and 2-bit dot products; 250 MHz as eml-eda/plinio prices it; buffers of 256 KB instead of the "
        "microcontroller's one memory, gathering inputs and requantizing beside the core are choices of this project; behind them "
        "PULPissimo's 512 KB on the chip, from memory",
        unverified=(
            "filters", "pixels", "column_bits", "program_bits", "shell.wbuf_bits", "shell.ibuf_bits", "shell.obuf_bits",
            "memory.bits_per_cycle", "memory.latency_cycles", "memory.on_chip_bits", "node_nm",
            "energy_table",
        ),
    ),
    "small": Mpic(
        preset="small", column_bits=1 << 15,
        shell=Shell(
            wbuf_bits=16 * KIB, ibuf_bits=16 * KIB, obuf_bits=32 * KIB, wbuf_port_bits=32, obuf_port_bits=32, vector_lanes=1,
            store_lanes=1,
        ),
        memory=Memory(bits_per_cycle=64),
        clock_hz=100e6,
        source="choices of this project: sized for an ECP5-85K",
        unverified=("clock_hz",),
    ),
}  # fmt: skip
DEFAULT = "paper"
