"""Sum of several integers a cycle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwsim.core.check import require_int


@dataclass(frozen=True, slots=True, kw_only=True)
class AdderTree:
    """A pipelined tree of two-input adders.

    Parameters
    ----------
    inputs : int
        Operands, 1 to 1024.
    in_bits : int
        Width of an operand, two's complement.
    out_bits : int
        Width of the sum; 0: as wide as it can get. A narrower sum is taken modulo ``2**out_bits``.
    """

    inputs: int
    in_bits: int
    out_bits: int = 0

    def __post_init__(self) -> None:
        require_int("adder_tree.inputs", self.inputs, 1, 1024)
        require_int("adder_tree.in_bits", self.in_bits, 1, 64)
        require_int("adder_tree.out_bits", self.out_bits, 0, 80)

    @property
    def latency_cycles(self) -> int:
        """Cycles from operands to sum: ceil(log2 inputs)."""
        return (self.inputs - 1).bit_length()

    @property
    def sum_bits(self) -> int:
        """Width of the sum."""
        return self.out_bits or self.in_bits + self.latency_cycles

    def compute(self, operands: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the sums over the last axis, wrapped to the width of the sum (at most 63 bits)."""
        total = np.asarray(operands, np.int64).sum(axis=-1)
        span = 64 - self.sum_bits
        return (total << span) >> span if span > 0 else total

    def create(self) -> AdderTreeUnit:
        """Return the hardware."""
        return AdderTreeUnit(self)


class AdderTreeUnit(wiring.Component):
    """Hardware of `AdderTree`.

    ============  =========  =====================================================================================
    port          direction  content
    ============  =========  =====================================================================================
    ``i_valid``   in         operands are there
    ``i``         in         ``inputs`` x signed(``in_bits``)
    ``o_valid``   out        a sum is there
    ``o``         out        signed(``sum_bits``)
    ============  =========  =====================================================================================

    Latency ``ceil(log2 inputs)`` cycles, one register a level (with one input: none, a wire). Throughput one sum a cycle. Reset: no
    sum is valid; the data registers are not reset. It cannot be stalled: every sum is valid for one cycle.
    """

    def __init__(self, spec: AdderTree) -> None:
        self.spec = spec
        super().__init__(
            {
                "i_valid": In(1),
                "i": In(data.ArrayLayout(signed(spec.in_bits), spec.inputs)),
                "o_valid": Out(1),
                "o": Out(signed(spec.sum_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spec = self.spec
        level: list[Any] = [self.i[k] for k in range(spec.inputs)]
        valid: Any = self.i_valid
        for stage in range(spec.latency_cycles):
            width = min(spec.in_bits + stage + 1, spec.sum_bits)
            following = []
            for k in range(0, len(level), 2):
                register = Signal(signed(width), name=f"sum{stage}_{k // 2}", reset_less=True)
                m.d.sync += register.eq(sum(level[k + 1 : k + 2], start=level[k]))
                following.append(register)
            moved = Signal(name=f"valid{stage}")
            m.d.sync += moved.eq(valid)
            level, valid = following, moved
        m.d.comb += [self.o.eq(level[0]), self.o_valid.eq(valid)]
        return m
