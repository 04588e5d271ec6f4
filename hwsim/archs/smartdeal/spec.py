"""Fields and presets of the SmartDeal / SmartExchange accelerator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hwsim.core.arch import Arch
from hwsim.core.check import require_choice, require_int
from hwsim.core.datapath import Datapath, LayerData, StoredWeights, Workload
from hwsim.core.errors import SpecError
from hwsim.core.shell import Memory, Shell

if TYPE_CHECKING:
    from hwsim.core.actions import AreaPart
    from hwsim.core.layer import Layer
    from hwsim.core.tensors import Array

BASIS = 3
"""Basis size S of decomposed 3x3, 1x1 and FC weights; weights of an entry of the line stores."""
ACTIVATION_BITS = 9
"""Bits of an activation in the line stores: 8 less a zero point."""
DEPTHWISE = ("spread", "grouped")


@dataclass(frozen=True, slots=True, kw_only=True)
class SmartDeal(Arch):
    """A three-dimensional array of bit-serial multipliers with rebuild engines.

    Parameters
    ----------
    slices : int
        Filters at once (dimM of the paper).
    lines : int
        Rows of weights at once in each slice (dimC).
    macs : int
        Bit-serial multiply-accumulate cells of a line, one neighbouring output pixel each (dimF).
    line_rows : int
        Entries of three weights that a line's store holds per bank: ``lines * line_rows`` rows make a pass, fewer of wider ones.
    clusters : int
        Parts into which a line is cut where a layer has one output pixel (FC, squeeze-excite): each takes one of the line's
        two rebuild engines. With 1 such layers run like all others. Only 1 can be built.
    depthwise : str
        How depthwise layers of one filter a channel run. ``grouped``: group by group, like any grouped convolution. ``spread``: a
        channel on each slice, several pixel groups on its lines. Only ``grouped`` can be built.
    threshold : float
        Coefficients below it become zero in the decomposition, in units of the weights.
    prune_ratio : float
        Share of kernel rows removed beforehand in groups of 32 filters (structured sparsity), 0 to 1.
    """

    name: ClassVar[str] = "smartdeal"
    title: ClassVar[str] = "decomposed weights, rebuild engines, bit-serial Booth multipliers, zero-row skipping"
    codecs: ClassVar[tuple[str, ...]] = ("decomposed", "dense")

    slices: int
    lines: int
    macs: int
    line_rows: int
    clusters: int = 2
    depthwise: str = "spread"
    threshold: float = 4e-3
    prune_ratio: float = 0.0

    def __post_init__(self) -> None:
        super(SmartDeal, self).__post_init__()
        for field, high in (("slices", 1024), ("lines", 1024), ("macs", 256), ("line_rows", 4096), ("clusters", 2)):
            require_int(f"smartdeal.{field}", getattr(self, field), 1, high)
        require_choice("smartdeal.depthwise", self.depthwise, DEPTHWISE)
        for field, bound in (("threshold", 1.0), ("prune_ratio", 1.0)):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= bound:
                raise SpecError(f"smartdeal.{field}", value, f"a number from 0 to {bound:g}")

    @property
    def needs_data(self) -> bool:
        """Cycles depend on Booth digits and zero rows."""
        return True

    def spreads(self, layer: Layer) -> bool:
        """Return whether a layer's channels are spread over the slices."""
        return self.depthwise == "spread" and layer.is_depthwise and layer.K == 1

    @property
    def ibuf_copies(self) -> int:
        """Copies of ``ibuf``: one a line, two for an addition, in what can be built; the paper's banks serve all lines."""
        return max(2, self.lines) if self.clusters == 1 and self.depthwise == "grouped" else 1

    def check_mac(self, workload: Workload) -> None:
        """Raise SpecError for formats that the engine has not: weights are 8 bits once rebuilt, activations at most 8."""
        fmt, where = workload.fmt, f"policy for layer {workload.layer.name}"
        if fmt.w_bits != 8:
            raise SpecError(f"{where}: w_bits", fmt.w_bits, "8: coefficients have 4 bits, rebuilt weights 8")
        if fmt.a_bits > 8:
            raise SpecError(f"{where}: a_bits", fmt.a_bits, "1 to 8 bits")
        entries = -(-workload.layer.S // BASIS)
        if entries > self.line_rows:
            expected = f"at least {entries}, the entries of a kernel row of layer {workload.layer.name}"
            raise SpecError("smartdeal.line_rows", self.line_rows, expected)

    def store_weights(self, workload: Workload, weight: Array) -> StoredWeights | None:
        """Return the decomposition of the weights, or their dense 8-bit form where it cannot save bits."""
        from hwsim.quant.decompose import DecomposeOptions, decompose_layer

        if workload.fmt.codec == "dense":
            return None
        layer = workload.layer
        ratio = self.prune_ratio if layer.R == layer.S == BASIS and not layer.is_depthwise else 0.0
        options = DecomposeOptions(threshold=self.threshold, prune_ratio=ratio)
        found = decompose_layer(weight, options, layer.name)  # type: ignore[arg-type]
        return StoredWeights(integers=found.rebuilt_int8, scale=found.scale, codec=found)

    def bind_mac(self, workload: Workload, data: LayerData | None) -> Datapath:
        """Return the datapath of a convolution or gemm on its real tensors."""
        from hwsim.archs.smartdeal.datapath import SmartDealDatapath

        if data is None:
            raise SpecError(
                f"layer {workload.layer.name}", None, "real tensors: cycles depend on Booth digits and zero rows"
            )
        return SmartDealDatapath(workload, self, data)

    def list_area(self) -> tuple[AreaPart, ...]:
        """Return Booth cells, rebuild engines, adder trees, line and row stores (a few entries deep: registers)."""
        from hwsim.core.actions import AreaPart

        engines, cells, psum = self.slices * self.lines, self.slices * self.lines * self.macs, self.shell.psum_bits
        entries = 2 * engines * self.line_rows  # two banks; a copy a slice
        return (
            AreaPart(component="cells", op="booth_digit", count=cells, bits=(8, psum)),
            AreaPart(component="cells", op="register", count=cells, bits=(2 * psum + 8,)),
            AreaPart(component="rebuild", op="shift_add", count=2 * engines * BASIS, bits=(16,)),
            AreaPart(component="rebuild", op="register", count=2 * engines, bits=(8 * BASIS * BASIS + 16 * BASIS,)),
            AreaPart(component="adder_tree", op="add", count=self.slices * (self.lines - 1) * self.macs, bits=(psum,)),
            AreaPart(component="line_store", op="register", count=entries * BASIS * self.macs, bits=(ACTIVATION_BITS,)),
            AreaPart(component="row_store", op="register", count=entries, bits=(8 * BASIS,)),
        )


PRESETS = {
    "paper": SmartDeal(
        preset="paper",
        slices=64,
        lines=16,
        macs=8,
        line_rows=12,
        shell=Shell(
            wbuf_bits=64 * 2 * 2 * 1024 * 8,
            ibuf_bits=32 * 16 * 1024 * 8,
            obuf_bits=64 * 2 * 2 * 1024 * 8,
            wbuf_port_bits=256,
            ibuf_port_bits=128,
            obuf_port_bits=512,
            vector_lanes=64,
            store_lanes=64,
        ),
        memory=Memory(bits_per_cycle=256),
        clock_hz=1e9,
        node_nm=28,
        energy_table="smartexchange28",
        source="SmartExchange (ISCA 2020), dimensions and buffers from memory of the paper; output buffer: 2 KB x 2 a slice",
        unverified=(
            "slices", "lines", "macs", "line_rows", "clusters", "shell.wbuf_bits", "shell.ibuf_bits", "shell.obuf_bits",
            "shell.psum_bits", "memory.bits_per_cycle", "memory.latency_cycles", "clock_hz", "node_nm", "energy_table",
        ),
    ),
    "small": SmartDeal(
        preset="small",
        slices=4,
        lines=4,
        macs=4,
        line_rows=12,
        clusters=1,
        depthwise="grouped",
        shell=Shell(
            wbuf_bits=32 * 1024 * 8,
            ibuf_bits=16 * 1024 * 8,
            obuf_bits=32 * 1024 * 8,
            vector_lanes=1,
            store_lanes=1,
        ),
        memory=Memory(bits_per_cycle=64),
        clock_hz=100e6,
        source="choices of this project: sized for an ECP5-85K, a copy of ibuf for each line",
        unverified=("clock_hz",),
    ),
}  # fmt: skip
DEFAULT = "paper"
