"""Fields and presets of Cambricon-X."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from hwsim.archs.comparison_set import SHARED, SHELL, UNVERIFIED
from hwsim.archs.pruned_weights import store_pruned
from hwsim.core.arch import Arch
from hwsim.core.check import require_int, require_share, require_widths
from hwsim.core.datapath import Datapath, LayerData, StoredWeights, Workload
from hwsim.core.errors import SpecError
from hwsim.core.shell import KIB, Memory, Shell

if TYPE_CHECKING:
    from hwsim.core.actions import AreaPart
    from hwsim.core.tensors import Array

WIDEST_BITS = 16
"""Widest multiplier: 16 bits in the paper (from memory), 8 where it is compared with 8-bit machines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CambriconX(Arch):
    """``elements`` processing elements of ``multipliers`` multipliers, one filter each, and a buffer controller that selects.

    Parameters
    ----------
    elements : int
        Processing elements: filters at once.
    multipliers : int
        Multipliers of each (its nonzero weights of a cycle).
    span : int
        Activations of a word of the buffer controller, from which every indexing module selects: nothing is skipped beyond it.
    index_bits : int
        Bits of a step index: the zeros in front of a stored weight.
    bits : int
        Width of the multipliers; narrower operands take as long.
    density : float
        Share of a layer's weights that pruning keeps, by magnitude, 0 to 1.
    """

    name: ClassVar[str] = "cambricon-x"
    title: ClassVar[str] = "pruned weights with step indexes; indexing modules select their activations"

    elements: int
    multipliers: int
    span: int
    index_bits: int = 4
    bits: int = 16
    density: float = 0.35

    def __post_init__(self) -> None:
        super(CambriconX, self).__post_init__()
        for field, low, high in (
            ("elements", 1, 1024), ("multipliers", 1, 1024), ("span", 1, 1 << 14), ("index_bits", 1, 14), ("bits", 2, WIDEST_BITS),
        ):  # fmt: skip
            require_int(f"cambricon-x.{field}", getattr(self, field), low, high)
        require_share("cambricon-x.density", self.density)

    @property
    def needs_data(self) -> bool:
        """Cycles depend on which weights are zero."""
        return True

    @property
    def count_bits(self) -> int:
        """Bits of the number of entries that a filter stores for a span."""
        return self.span.bit_length()

    def check_mac(self, workload: Workload) -> None:
        """Raise SpecError for operands wider than the multipliers, weights without a zero, windows wider than a span."""
        layer = workload.layer
        require_widths(layer.name, workload.fmt, (2, self.bits), (1, self.bits))
        if self.span < layer.R * layer.S:
            expected = f"at least {layer.R * layer.S}, the window of layer {layer.name}"
            raise SpecError("cambricon-x.span", self.span, expected)

    def store_weights(self, workload: Workload, weight: Array) -> StoredWeights | None:
        """Return the weights pruned to the density; a policy of dense weights prunes none."""
        return store_pruned(workload, weight, self.density)

    def choose_widths(self, workload: Workload) -> tuple[int, int]:
        """Return the width of the multipliers."""
        return self.bits, self.bits

    def bind_mac(self, workload: Workload, data: LayerData | None) -> Datapath:
        """Return the datapath of a convolution or gemm on its real weights."""
        from hwsim.archs.cambricon_x.datapath import CambriconXDatapath

        if data is None or data.codec is None:
            raise SpecError(f"layer {workload.layer.name}", None, "real weights: cycles depend on which are zero")
        return CambriconXDatapath(workload, self, data)

    def list_area(self) -> tuple[AreaPart, ...]:
        """Return multipliers, adder trees and sums, the indexing modules' adders and the words they select from.

        The multiplexers of the indexing modules are left out (no price).
        """
        from hwsim.core.actions import AreaPart

        cells, psum = self.elements * self.multipliers, self.shell.psum_bits
        return (
            AreaPart(component="elements", op="mult", count=cells, bits=(self.bits, self.bits)),
            AreaPart(component="elements", op="add", count=cells, bits=(psum,)),
            AreaPart(component="elements", op="register", count=self.elements, bits=(psum,)),
            AreaPart(component="indexing", op="add", count=cells, bits=(self.count_bits,)),
            AreaPart(component="indexing", op="register", count=2 * self.span, bits=(self.bits,)),
        )


PRESETS = {
    "comparison": CambriconX(
        preset="comparison", elements=64, multipliers=16, span=256, bits=8,
        shell=replace(
            SHELL, wbuf_port_bits=64 * 16 * 8, ibuf_port_bits=256 * 8, obuf_port_bits=64 * 32,
        ),
        **SHARED,
        source="SmartExchange (ISCA 2020) compares at equal on-chip memory and multipliers: buffers, memory, clock and lanes of "
        "smartdeal paper, 1024 multipliers of 8 bits (8192 bit-serial ones count as these) as 64 elements of the paper's 16; "
        "density: 35 %, what Han et al. (NIPS 2015) keep of AlexNet's convolutions, from memory",
        unverified=(
            "elements", "multipliers", "span", "index_bits", "density", *UNVERIFIED,
        ),
    ),
    "paper": CambriconX(
        preset="paper", elements=16, multipliers=16, span=256, bits=16,
        shell=Shell(
            wbuf_bits=32 * KIB, ibuf_bits=8 * KIB, obuf_bits=8 * KIB, wbuf_port_bits=16 * 16 * 16,
            ibuf_port_bits=256 * 16, obuf_port_bits=16 * 32, vector_lanes=16, store_lanes=16,
        ),
        memory=Memory(bits_per_cycle=2048),
        clock_hz=1e9, node_nm=65, energy_table="horowitz45",
        source="Cambricon-X (MICRO 2016): 16 elements (its abstract) of 16 multipliers of 16 bits, 2 KB of weights an element, "
        "8 KB each for inputs and outputs, 1 GHz, memory of 256 GB/s, from memory of the paper; outputs are 16 bits there, "
        "32-bit sums here",
        unverified=(
            "multipliers", "span", "index_bits", "bits", "density", "shell.wbuf_bits", "shell.ibuf_bits", "shell.obuf_bits",
            "shell.psum_bits", "shell.vector_lanes", "shell.store_lanes", "memory.bits_per_cycle", "memory.latency_cycles",
            "clock_hz", "node_nm", "energy_table",
        ),
    ),
    "small": CambriconX(
        preset="small", elements=8, multipliers=4, span=64, bits=8,
        shell=Shell(
            wbuf_bits=32 * KIB, ibuf_bits=16 * KIB, obuf_bits=32 * KIB, wbuf_port_bits=8 * 4 * 8, obuf_port_bits=8 * 32,
            vector_lanes=1, store_lanes=1,
        ),
        memory=Memory(bits_per_cycle=64),
        clock_hz=100e6,
        source="choices of this project: sized for an ECP5-85K",
        unverified=("clock_hz", "density"),
    ),
}  # fmt: skip
DEFAULT = "comparison"
