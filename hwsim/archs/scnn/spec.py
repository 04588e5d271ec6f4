"""Fields and presets of SCNN."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from hwsim.archs.comparison_set import SHARED, SHELL, UNVERIFIED
from hwsim.archs.pruned_weights import store_pruned
from hwsim.core.arch import Arch
from hwsim.core.check import require_int, require_power_of_two, require_share, require_widths
from hwsim.core.datapath import Datapath, LayerData, StoredWeights, Workload
from hwsim.core.errors import SpecError
from hwsim.core.shell import KIB, Memory, Shell

if TYPE_CHECKING:
    from hwsim.core.actions import AreaPart, EngineMemory
    from hwsim.core.tensors import Array

WIDEST_BITS = 16
"""Widest multiplier: 16 bits in the paper, 8 where it is compared with 8-bit machines."""
MOST_PRODUCTS = 16
"""Products of an element in a cycle: with the longest `queue` they make queues of at most 31."""
MOST_BANKS = 32
"""The paper's; each is a bit of the masks in which queues are counted (`hwsim.archs.scnn.kernel_products`)."""
WIDEST_WINDOW = 62
"""Rows or columns of a filter: places of a window are bits of an int64 (`hwsim.archs.scnn.planes.Cut.classify`)."""

WEIGHT_VECTORS = 50
"""Vectors of weights and runs that an element's queue holds: the paper's, from memory (unverified); no time depends on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scnn(Arch):
    """``pe_rows`` x ``pe_cols`` processing elements, each with a part of the plane and ``weights`` x ``activations`` multipliers.

    Parameters
    ----------
    pe_rows, pe_cols : int
        Processing elements: parts of the plane of activations.
    weights, activations : int
        Nonzero weights (F of the paper) and nonzero activations (I) that an element multiplies a cycle, each with each.
    banks, bank_entries : int
        Accumulator banks of an element (A of the paper), a power of two, and accumulators of each. All of it is there twice.
    queue : int
        Products in the queue of a bank at which the multipliers stop, a power of two.
    group_filters : int
        Filters of an output-channel group (Kc).
    block_channels : int
        Channels after which the queues are emptied, and a tile may end.
    index_bits : int
        Bits of the run of zeros in front of a stored weight.
    bits : int
        Width of the multipliers; narrower operands take as long.
    density : float
        Share of a layer's weights that pruning keeps, by magnitude, 0 to 1.
    """

    name: ClassVar[str] = "scnn"
    title: ClassVar[str] = "Cartesian products of nonzero weights and activations, banks of accumulators"

    pe_rows: int
    pe_cols: int
    weights: int
    activations: int
    banks: int
    bank_entries: int
    queue: int = 4
    group_filters: int = 8
    block_channels: int = 16
    index_bits: int = 4
    bits: int = 16
    density: float = 0.35

    def __post_init__(self) -> None:
        super(Scnn, self).__post_init__()
        for field, low, high in (
            ("pe_rows", 1, 64), ("pe_cols", 1, 64), ("weights", 1, MOST_PRODUCTS), ("activations", 1, MOST_PRODUCTS),
            ("banks", 1, MOST_BANKS), ("bank_entries", 1, 1 << 16), ("queue", 1, 16), ("group_filters", 1, 256),
            ("block_channels", 1, 1 << 16), ("index_bits", 1, 14), ("bits", 2, WIDEST_BITS),
        ):  # fmt: skip
            require_int(f"scnn.{field}", getattr(self, field), low, high)
        for field in ("banks", "queue"):
            require_power_of_two(f"scnn.{field}", getattr(self, field))
        if self.weights * self.activations > MOST_PRODUCTS:
            raise SpecError(
                "scnn.weights", self.weights, f"at most {MOST_PRODUCTS // self.activations} with these activations"
            )
        if self.group_filters > self.accumulators:
            raise SpecError(
                "scnn.group_filters", self.group_filters, f"at most {self.accumulators}, an element's accumulators"
            )
        require_share("scnn.density", self.density)

    @property
    def needs_data(self) -> bool:
        """Cycles depend on which weights and activations are zero."""
        return True

    @property
    def elements(self) -> int:
        """Processing elements."""
        return self.pe_rows * self.pe_cols

    @property
    def accumulators(self) -> int:
        """Accumulators of an element, once."""
        return self.banks * self.bank_entries

    def check_mac(self, workload: Workload) -> None:
        """Raise SpecError for operands wider than the multipliers, weights without a zero, windows that are too wide."""
        layer = workload.layer
        require_widths(layer.name, workload.fmt, (2, self.bits), (1, self.bits))
        if max(layer.R, layer.S) > WIDEST_WINDOW:
            raise SpecError(
                f"layer {layer.name}",
                (layer.R, layer.S),
                f"windows of at most {WIDEST_WINDOW} rows and columns on scnn",
            )

    def store_weights(self, workload: Workload, weight: Array) -> StoredWeights | None:
        """Return the weights pruned to the density; a policy of dense weights prunes none."""
        return store_pruned(workload, weight, self.density)

    def choose_widths(self, workload: Workload) -> tuple[int, int]:
        """Return the width of the multipliers."""
        return self.bits, self.bits

    def bind_mac(self, workload: Workload, data: LayerData | None) -> Datapath:
        """Return the datapath of a convolution or gemm on its real tensors."""
        from hwsim.archs.scnn.datapath import ScnnDatapath

        if data is None or data.codec is None:
            raise SpecError(
                f"layer {workload.layer.name}",
                None,
                "real tensors: cycles depend on which weights and activations are zero",
            )
        return ScnnDatapath(workload, self, data)

    def list_area(self) -> tuple[AreaPart, ...]:
        """Return multipliers, coordinate adders, what elements hold, banks' adders and queues; no crossbars (no price)."""
        from hwsim.core.actions import AreaPart

        cells, banks, psum = (
            self.elements * self.weights * self.activations,
            self.elements * self.banks,
            self.shell.psum_bits,
        )
        vector = self.weights * (self.bits + self.index_bits)
        address = self.accumulators.bit_length()  # of an accumulator, or of none: the product falls outside the plane
        return (
            AreaPart(component="elements", op="mult", count=cells, bits=(self.bits, self.bits)),
            AreaPart(component="elements", op="add", count=cells, bits=(address,)),
            AreaPart(component="elements", op="register", count=self.elements * WEIGHT_VECTORS, bits=(vector,)),
            AreaPart(component="elements", op="register", count=self.elements, bits=(self.activations * self.bits,)),
            AreaPart(component="banks", op="add", count=banks, bits=(psum,)),
            AreaPart(
                component="banks", op="register", count=banks * (self.queue - 1 + self.weights * self.activations),
                bits=(2 * self.bits + address,),
            ),
        )  # fmt: skip

    def list_memories(self) -> tuple[EngineMemory, ...]:
        """Return the accumulator banks: one set collects products while the other is emptied."""
        from hwsim.core.actions import EngineMemory

        capacity = 2 * self.elements * self.accumulators * self.shell.psum_bits
        return (
            EngineMemory(
                name="acc",
                capacity_bits=capacity,
                width_bits=self.shell.psum_bits,
                macros=2 * self.elements * self.banks,
            ),
        )


PRESETS = {
    "comparison": Scnn(
        preset="comparison", pe_rows=8, pe_cols=8, weights=4, activations=4, banks=32, bank_entries=16, bits=8,
        shell=replace(
            SHELL, ibuf_bits=256 * KIB, wbuf_port_bits=4 * 12, ibuf_port_bits=4 * 8, obuf_port_bits=64 * 32,
        ),
        **SHARED,
        source="SmartExchange (ISCA 2020) compares at equal on-chip memory and multipliers: memory, clock and lanes of smartdeal "
        "paper, 64 elements of 16 multipliers as in SCNN, of 8 bits (8192 bit-serial ones count as 1024); the accumulators' 256 KB "
        "are taken from the input buffer's 512; density: 35 %, what Han et al. (NIPS 2015) keep of AlexNet's convolutions",
        unverified=(
            "bank_entries", "queue", "group_filters", "block_channels", "index_bits", "density", *UNVERIFIED,
        ),
    ),
    "paper": Scnn(
        preset="paper", pe_rows=8, pe_cols=8, weights=4, activations=4, banks=32, bank_entries=32, bits=16,
        shell=Shell(
            wbuf_bits=64 * KIB, ibuf_bits=640 * KIB, obuf_bits=640 * KIB, wbuf_port_bits=4 * 20, ibuf_port_bits=4 * 16,
            obuf_port_bits=64 * 32, vector_lanes=64, store_lanes=64,
        ),
        memory=Memory(bits_per_cycle=400),
        clock_hz=1e9, node_nm=16, energy_table="horowitz45",
        source="SCNN (ISCA 2017): 8 x 8 elements of 4 x 4 multipliers of 16 bits, 32 banks (abstract and summary); 10 KB each of "
        "input and output activations an element, 24-bit sums, 4-bit runs, 16 nm, 50 GB/s, 1 GHz from memory of the paper; there "
        "activations stay in the elements, compressed, where they fit; here they are stored whole and go through memory between "
        "layers; a buffer for weights of 64 KB for the elements' queues of 50 entries",
        unverified=(
            "bank_entries", "queue", "group_filters", "block_channels", "index_bits", "density", "bits", "shell.wbuf_bits",
            "shell.ibuf_bits", "shell.obuf_bits", "shell.psum_bits", "shell.vector_lanes", "shell.store_lanes",
            "memory.bits_per_cycle", "memory.latency_cycles", "clock_hz", "node_nm", "energy_table",
        ),
    ),
    "small": Scnn(
        preset="small", pe_rows=2, pe_cols=2, weights=2, activations=2, banks=8, bank_entries=64, bits=8, group_filters=4,
        shell=Shell(
            wbuf_bits=32 * KIB, ibuf_bits=32 * KIB, obuf_bits=32 * KIB, wbuf_port_bits=2 * 12, ibuf_port_bits=2 * 8,
            obuf_port_bits=4 * 32, vector_lanes=1, store_lanes=1,
        ),
        memory=Memory(bits_per_cycle=64),
        clock_hz=100e6,
        source="choices of this project: sized for an ECP5-85K",
        unverified=("clock_hz", "density"),
    ),
}  # fmt: skip
DEFAULT = "comparison"
