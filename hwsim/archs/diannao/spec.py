"""Fields and presets of DianNao."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from hwsim.archs.comparison_set import SHARED, SHELL, UNVERIFIED
from hwsim.core.arch import Arch
from hwsim.core.check import require_int, require_widths
from hwsim.core.datapath import Datapath, LayerData, Workload
from hwsim.core.shell import KIB, Memory, Shell

if TYPE_CHECKING:
    from hwsim.core.actions import AreaPart

WIDEST_BITS = 16
"""Widest multiplier: 16 bits in the paper, 8 where it is compared with 8-bit machines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DianNao(Arch):
    """A neural functional unit of ``outputs`` adder trees over ``inputs`` multipliers each.

    Parameters
    ----------
    outputs : int
        Output neurons at once (Tn of the paper).
    inputs : int
        Inputs, and weights of each output neuron, at once (Ti).
    bits : int
        Width of the multipliers; narrower operands take as long.
    """

    name: ClassVar[str] = "diannao"
    title: ClassVar[str] = "dense: a tile of output neurons times a tile of inputs a cycle, adder trees"

    outputs: int
    inputs: int
    bits: int = 16

    def __post_init__(self) -> None:
        super(DianNao, self).__post_init__()
        require_int("diannao.outputs", self.outputs, 1, 1024)
        require_int("diannao.inputs", self.inputs, 1, 1024)
        require_int("diannao.bits", self.bits, 1, WIDEST_BITS)

    def check_mac(self, workload: Workload) -> None:
        """Raise SpecError for operands wider than the multipliers."""
        require_widths(
            workload.layer.name, workload.fmt, (1, self.bits), (1, self.bits), ", the width of the multipliers"
        )

    def choose_widths(self, workload: Workload) -> tuple[int, int]:
        """Return the width of the multipliers."""
        return self.bits, self.bits

    def bind_mac(self, workload: Workload, data: LayerData | None) -> Datapath:
        """Return the datapath of a convolution or gemm."""
        from hwsim.archs.diannao.datapath import DianNaoDatapath

        return DianNaoDatapath(workload, self)

    def list_area(self) -> tuple[AreaPart, ...]:
        """Return multipliers, adders (a tree over the inputs and the partial sum, for each output) and the partial sums."""
        from hwsim.core.actions import AreaPart

        cells, psum = self.outputs * self.inputs, self.shell.psum_bits
        return (
            AreaPart(component="nfu", op="mult", count=cells, bits=(self.bits, self.bits)),
            AreaPart(component="nfu", op="add", count=cells, bits=(psum,)),
            AreaPart(component="nfu", op="register", count=self.outputs, bits=(psum,)),
        )


PRESETS = {
    "comparison": DianNao(
        preset="comparison", outputs=32, inputs=32, bits=8,
        shell=replace(
            SHELL, wbuf_port_bits=32 * 32 * 8, ibuf_port_bits=32 * 8, obuf_port_bits=32 * 32,
        ),
        **SHARED,
        source="SmartExchange (ISCA 2020) compares at equal on-chip memory and multipliers: buffers, memory, clock and lanes of "
        "smartdeal paper, 1024 multipliers of 8 bits (8192 bit-serial ones count as these); 32 x 32 is this project's choice",
        unverified=(
            "outputs", "inputs", *UNVERIFIED,
        ),
    ),
    "paper": DianNao(
        preset="paper", outputs=16, inputs=16, bits=16,
        shell=Shell(
            wbuf_bits=32 * KIB, ibuf_bits=2 * KIB, obuf_bits=2 * KIB, wbuf_port_bits=16 * 16 * 16,
            ibuf_port_bits=16 * 16, obuf_port_bits=16 * 32, vector_lanes=16, store_lanes=16,
        ),
        memory=Memory(bits_per_cycle=2048),
        clock_hz=0.98e9, node_nm=65, energy_table="horowitz45",
        source="DianNao (ASPLOS 2014): Tn = Ti = 16, 16 bits, SB 32 KB, NBin 2 KB, NBout 2 KB, 0.98 GHz in 65 nm, memory of up to "
        "250 GB/s, from memory of the paper; NBout holds 16-bit words there, 32-bit sums here",
        unverified=(
            "outputs", "inputs", "bits", "shell.wbuf_bits", "shell.ibuf_bits", "shell.obuf_bits", "shell.psum_bits",
            "shell.vector_lanes", "shell.store_lanes", "memory.bits_per_cycle", "memory.latency_cycles", "clock_hz",
            "node_nm", "energy_table",
        ),
    ),
    "small": DianNao(
        preset="small", outputs=8, inputs=8, bits=8,
        shell=Shell(
            wbuf_bits=32 * KIB, ibuf_bits=16 * KIB, obuf_bits=32 * KIB, wbuf_port_bits=8 * 8 * 8, obuf_port_bits=8 * 32,
            vector_lanes=1, store_lanes=1,
        ),
        memory=Memory(bits_per_cycle=64),
        clock_hz=100e6,
        source="choices of this project: sized for an ECP5-85K",
        unverified=("clock_hz",),
    ),
}  # fmt: skip
DEFAULT = "comparison"
