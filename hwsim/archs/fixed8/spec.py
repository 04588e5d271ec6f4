"""Fields and presets of `fixed8`.

Source: Jin et al., F8Net (ICLR 2022): every multiplication of a network is 8 x 8 bits; results are brought to the next layer's
fractional length by a shift, and nothing multiplies 32-bit words.

What is the same as on `systolic`, and shared with it: the array of cells (`Fixed8.array`), its schedule, the order of weights,
the places of sums. What differs is around it:

- Words have 8 bits, no more and no fewer: the one precision of the source.
- The store unit has no multiplier: a sum with its bias is shifted, rounded half to even and clamped, three cycles less than with
  one (`hwsim.core.program.SHIFT_STORE_PIPELINE_CYCLES`). Its memory holds bias and shift of a channel, 39 bits in place of 69.
- The vector unit aligns the two operands of an addition by shifts; `systolic` multiplies each by a factor of 32 bits.
- A layer whose ratio of scales is no power of two cannot run: networks are quantized to fractional lengths
  (`hwsim.quant.fixed_network`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hwsim.archs.systolic.spec import PRESETS as SYSTOLIC
from hwsim.archs.systolic.spec import Systolic
from hwsim.core.arch import Arch
from hwsim.core.datapath import Datapath, LayerData, Workload
from hwsim.core.errors import SpecError

if TYPE_CHECKING:
    from hwsim.core.actions import AreaPart

WORD_BITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed8(Arch):
    """An array of 8 x 8 multipliers, behind it a store unit that shifts.

    Parameters
    ----------
    rows, cols, dataflow, fold_overlap
        Of the array, as of `hwsim.archs.systolic.spec.Systolic`.
    """

    name: ClassVar[str] = "fixed8"
    title: ClassVar[str] = "8-bit fixed point: 8 x 8 multiplications alone, requantization by a shift"
    scales: ClassVar[tuple[str, ...]] = ("shift",)

    rows: int
    cols: int
    dataflow: str = "os"
    fold_overlap: str = "none"

    def __post_init__(self) -> None:
        super(Fixed8, self).__post_init__()
        _ = self.array  # checks the fields

    @property
    def array(self) -> Systolic:
        """The array, as an accelerator of its own: what is shared with `systolic`."""
        return Systolic(
            preset=self.preset, rows=self.rows, cols=self.cols, dataflow=self.dataflow, fold_overlap=self.fold_overlap,
            w_width=WORD_BITS, a_width=WORD_BITS, shell=self.shell, memory=self.memory, clock_hz=self.clock_hz,
            node_nm=self.node_nm, energy_table=self.energy_table, sram_device=self.sram_device,
        )  # fmt: skip

    @property
    def ibuf_copies(self) -> int:
        """Copies of ``ibuf``: those that the array reads."""
        return self.array.ibuf_copies

    def check_mac(self, workload: Workload) -> None:
        """Raise SpecError for words of other than 8 bits."""
        fmt, where = workload.fmt, f"policy for layer {workload.layer.name}"
        for field, bits in (("w_bits", fmt.w_bits), ("a_bits", fmt.a_bits)):
            if bits != WORD_BITS:
                raise SpecError(f"{where}: {field}", bits, f"{WORD_BITS} bits on fixed8", "--arch systolic runs others")

    def bind_mac(self, workload: Workload, data: LayerData | None) -> Datapath:
        """Return the array's datapath of a convolution or gemm."""
        return self.array.bind_mac(workload, data)

    def list_area(self) -> tuple[AreaPart, ...]:
        """Return the array's logic."""
        return self.array.list_area()


def _derive(base: Systolic, source: str) -> Fixed8:
    """Return a preset with the sizes of one of `systolic`."""
    return Fixed8(
        preset=base.preset, rows=base.rows, cols=base.cols, dataflow=base.dataflow, fold_overlap=base.fold_overlap,
        shell=base.shell, memory=base.memory, clock_hz=base.clock_hz, unverified=base.unverified, source=source,
    )  # fmt: skip


PRESETS = {
    "base": _derive(SYSTOLIC["base"], "F8Net (ICLR 2022) names no machine: sizes of systolic base, to compare the two"),
    "small": _derive(
        SYSTOLIC["small"], "F8Net (ICLR 2022) names no machine: sizes of systolic small, to compare the two"
    ),
}
DEFAULT = "base"
