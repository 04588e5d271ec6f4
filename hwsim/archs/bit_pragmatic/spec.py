"""Fields and presets of Bit-Pragmatic."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from hwsim.archs.comparison_set import SHARED, SHELL, UNVERIFIED
from hwsim.core.arch import Arch
from hwsim.core.check import require_choice, require_int, require_widths
from hwsim.core.datapath import Datapath, LayerData, Workload
from hwsim.core.errors import SpecError
from hwsim.core.shell import KIB, MIB, Memory, Shell

if TYPE_CHECKING:
    from hwsim.core.actions import AreaPart

TERMS = ("ones", "signed-digits")
"""What a lane takes in series: the ones of the magnitude (the paper's oneffsets), or the nonzero digits of the non-adjacent
form (its improved encoding, from memory)."""
WIDEST_BITS = 16
"""Of DaDianNao, whose frame it has: 16-bit fixed point (from memory of the paper)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BitPragmatic(Arch):
    """``filters`` x ``columns`` inner-product units of ``lanes`` weights, each with one term of an activation a cycle.

    Parameters
    ----------
    filters : int
        Filters at once; the paper's tiles have 16 each.
    columns : int
        Neighbouring output pixels at once (the windows of a pallet).
    lanes : int
        Channels of a brick.
    first_shift_bits : int
        Bits of the shifters in front of the adder tree (L of the paper's two-stage shifting): lanes whose terms lie less than
        2^L positions apart go together.
    terms : str
        One of ``TERMS``.
    bits : int
        Width of weights and activations; narrower weights take as long.
    """

    name: ClassVar[str] = "bit-pragmatic"
    title: ClassVar[str] = "activations in series by their nonzero bits, weights in parallel"

    filters: int
    columns: int
    lanes: int
    first_shift_bits: int = 2
    terms: str = "ones"
    bits: int = 16

    def __post_init__(self) -> None:
        super(BitPragmatic, self).__post_init__()
        for field, low, high in (
            ("filters", 1, 4096), ("columns", 1, 256), ("lanes", 1, 256), ("first_shift_bits", 0, 4),
            ("bits", 1, WIDEST_BITS),
        ):  # fmt: skip
            require_int(f"bit-pragmatic.{field}", getattr(self, field), low, high)
        require_choice("bit-pragmatic.terms", self.terms, TERMS)

    @property
    def needs_data(self) -> bool:
        """Cycles depend on the bits of activations."""
        return True

    @property
    def shifted_bits(self) -> int:
        """Width of a weight behind the first shifter."""
        return self.bits + (1 << self.first_shift_bits) - 1

    def check_mac(self, workload: Workload) -> None:
        """Raise SpecError for operands wider than the engine's."""
        require_widths(workload.layer.name, workload.fmt, (1, self.bits), (1, self.bits))

    def choose_widths(self, workload: Workload) -> tuple[int, int]:
        """Return the width of the weights; of activations the terms count."""
        return self.bits, workload.fmt.a_bits

    def bind_mac(self, workload: Workload, data: LayerData | None) -> Datapath:
        """Return the datapath of a convolution or gemm on its real activations."""
        from hwsim.archs.bit_pragmatic.datapath import BitPragmaticDatapath

        if data is None:
            raise SpecError(
                f"layer {workload.layer.name}", None, "real tensors: cycles depend on the bits of activations"
            )
        return BitPragmaticDatapath(workload, self, data)

    def list_area(self) -> tuple[AreaPart, ...]:
        """Return both stages of shifters, adder trees and sums; the weights held, the terms of the activations held.

        The generators that find the terms are left out (no price for a leading-one detector).
        """
        from hwsim.core.actions import AreaPart

        units, psum = self.filters * self.columns, self.shell.psum_bits
        return (
            AreaPart(component="units", op="shift", count=units * self.lanes, bits=(self.shifted_bits,)),
            AreaPart(component="units", op="add", count=units * (self.lanes - 1), bits=(self.shifted_bits,)),
            AreaPart(component="units", op="shift_add", count=units, bits=(psum,)),
            AreaPart(component="units", op="register", count=2 * units, bits=(psum,)),
            AreaPart(component="synapses", op="register", count=self.filters * self.lanes, bits=(self.bits,)),
            AreaPart(component="terms", op="register", count=self.columns * self.lanes, bits=(self.bits + 1,)),
        )


PRESETS = {
    "comparison": BitPragmatic(
        preset="comparison", filters=32, columns=16, lanes=16, bits=8,
        shell=replace(
            SHELL, wbuf_port_bits=32 * 16 * 8, ibuf_port_bits=16 * 8, obuf_port_bits=32 * 32,
        ),
        **SHARED,
        source="SmartExchange (ISCA 2020) compares at equal on-chip memory and multipliers: buffers, memory, clock and lanes of "
        "smartdeal paper, 8192 bit-serial multipliers as there: two tiles of 16 filters, 16 windows, 16 lanes",
        unverified=(
            "filters", "columns", "lanes", "first_shift_bits", "terms", *UNVERIFIED,
        ),
    ),
    "paper": BitPragmatic(
        preset="paper", filters=256, columns=16, lanes=16, bits=16,
        shell=Shell(
            wbuf_bits=32 * MIB, ibuf_bits=4 * MIB, obuf_bits=4 * MIB, wbuf_port_bits=16 * 256 * 16,
            ibuf_port_bits=16 * 16 * 16, obuf_port_bits=256 * 32, vector_lanes=256, store_lanes=256,
        ),
        memory=Memory(bits_per_cycle=256),
        clock_hz=1e9, node_nm=65, energy_table="horowitz45",
        source="Bit-Pragmatic (MICRO 2017) on DaDianNao's frame: 16 tiles of 16 filters, 16 windows, 16 lanes, 16 bits, 2 MB of "
        "weights a tile, 4 MB of activations (embedded DRAM there, SRAM here), 1 GHz, 65 nm, from memory of the paper; there the "
        "activations stay on the chip, here they go through memory between layers; results have a buffer of their own here",
        unverified=(
            "filters", "columns", "lanes", "first_shift_bits", "terms", "bits", "shell.wbuf_bits", "shell.ibuf_bits",
            "shell.obuf_bits", "shell.psum_bits", "shell.vector_lanes", "shell.store_lanes", "memory.bits_per_cycle",
            "memory.latency_cycles", "clock_hz", "node_nm", "energy_table",
        ),
    ),
    "small": BitPragmatic(
        preset="small", filters=8, columns=4, lanes=4, bits=8,
        shell=Shell(
            wbuf_bits=32 * KIB, ibuf_bits=16 * KIB, obuf_bits=32 * KIB, wbuf_port_bits=8 * 4 * 8, obuf_port_bits=8 * 32,
            vector_lanes=1, store_lanes=1,
        ),
        memory=Memory(bits_per_cycle=64),
        clock_hz=100e6,
        source="choices of this project: sized for an ECP5-85K",
        unverified=("clock_hz",),
    ),
}  # fmt: skip
DEFAULT = "comparison"
