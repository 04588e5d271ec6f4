"""Vector lanes: max and average pooling, addition of two tensors in formats of their own.

All three end in one rounding, as the functional model defines them (`hwsim.engine.functional_integer`)::

    max      x = max(a - zero_a)                               round(x * multiplier / 2**shift)
    average  x = sum(a - zero_a), 1 / count in the multiplier  round(x * multiplier / 2**shift)
    add      x = a - zero_a, y = b - zero_b                    round((x * multiplier + y * multiplier_b) / 2**shift)

then the zero point and the limits of the output. A window that keeps its format has multiplier 1 and shift 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.blocks.requantize import ROUNDING_LATENCY_CYCLES, delay, multiply, round_and_clamp
from hwsim.core.check import require_choice, require_int
from hwsim.core.errors import SpecError
from hwsim.quant.requant import LARGEST_SHIFT, ROUNDINGS, saturate, shift_right

Int64 = npt.NDArray[np.int64]


class Operation(Enum):
    """What the lanes do with the elements of a window."""

    MAX = 0
    SUM = 1
    ADD = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorLanes:
    """Lanes of the vector unit.

    Parameters
    ----------
    lanes : int
    bits : int
        Width of stored integers, signed or not.
    window : int
        Largest number of elements of a window.
    multiplier_bits : int
        Width of a multiplier's magnitude.
    rounding : str
        ``half_even`` or ``half_away``.
    """

    lanes: int = 1
    bits: int = 8
    window: int = 4096
    multiplier_bits: int = 31
    rounding: str = "half_even"

    def __post_init__(self) -> None:
        require_int("vector.lanes", self.lanes, 1, 1024)
        require_int("vector.bits", self.bits, 1, 16)
        require_int("vector.window", self.window, 1, 1 << 20)
        require_int("vector.multiplier_bits", self.multiplier_bits, 17, 31)
        require_choice("vector.rounding", self.rounding, ROUNDINGS)
        if self.value_bits > LARGEST_SHIFT + 1:
            raise SpecError("vector.window", self.window, "a sum whose product fits 63 bits", "narrow the multiplier")

    @property
    def centred_bits(self) -> int:
        """Width of an element less its zero point, each signed or not."""
        return self.bits + 2

    @property
    def acc_bits(self) -> int:
        """Width of a window's sum."""
        return self.centred_bits + (self.window - 1).bit_length()

    @property
    def value_bits(self) -> int:
        """Width of what is rounded."""
        return self.acc_bits + self.multiplier_bits + 2

    @property
    def latency_cycles(self) -> int:
        """Cycles from the last element of a window to its result: 9."""
        return 5 + ROUNDING_LATENCY_CYCLES

    def compute(
        self,
        operation: Operation,
        a: npt.ArrayLike,
        b: npt.ArrayLike = 0,
        take: npt.ArrayLike = True,
        *,
        zero_a: int = 0,
        zero_b: int = 0,
        multiplier: npt.ArrayLike = 1,
        multiplier_b: int = 0,
        shift: npt.ArrayLike = 0,
        zero_point: int = 0,
        low: int,
        high: int,
    ) -> Int64:
        """Return the results of windows along the last axis of ``a`` (and ``take``: which elements count; one at least).

        ``ADD`` has no windows: the result has the shape of ``a`` and ``b``.
        """
        x = np.asarray(a, np.int64) - zero_a
        taken = np.broadcast_to(np.asarray(take, bool), x.shape)
        if operation is Operation.MAX:
            x = np.where(taken, x, np.iinfo(np.int64).min).max(axis=-1)
        elif operation is Operation.SUM:
            x = np.where(taken, x, 0).sum(axis=-1)
        total = x * np.asarray(multiplier, np.int64)
        if operation is Operation.ADD:
            total = total + (np.asarray(b, np.int64) - zero_b) * multiplier_b
        return saturate(shift_right(total, shift, self.rounding), zero_point, low, high)

    @property
    def element_layout(self) -> data.StructLayout:
        """What comes with every element of a window."""
        stored = data.ArrayLayout(signed(self.bits + 1), self.lanes)
        return data.StructLayout(
            {
                "first": unsigned(1),
                "last": unsigned(1),
                "take": data.ArrayLayout(unsigned(1), self.lanes),
                "a": stored,
                "b": stored,
                "multiplier": data.ArrayLayout(signed(self.multiplier_bits + 1), self.lanes),
                "shift": data.ArrayLayout(unsigned(LARGEST_SHIFT.bit_length()), self.lanes),
            }
        )

    @property
    def setting_layout(self) -> data.StructLayout:
        """What holds for a whole layer."""
        stored = signed(self.bits + 1)
        zeros = {"zero_a": stored, "zero_b": stored, "zero_point": stored, "low": stored, "high": stored}
        operation: dict[str, object] = {"operation": unsigned(2), "multiplier_b": signed(self.multiplier_bits + 1)}
        return data.StructLayout({**operation, **zeros})

    def create(self) -> VectorLanesUnit:
        """Return the hardware."""
        return VectorLanesUnit(self)


class VectorLanesUnit(wiring.Component):
    """Hardware of `VectorLanes`.

    ===========  =========  ======================================================================================
    port         direction  content
    ===========  =========  ======================================================================================
    ``i_valid``  in         an element a lane is there
    ``i``        in         ``first``, ``last`` of the window (both for ``ADD``); by lane: ``take`` (0: padding), ``a``,
                            ``b``, ``multiplier`` and ``shift`` (read with the last element: a window at the edge has a
                            count of its own)
    ``setting``  in         ``operation``, ``multiplier_b``, zero points, limits: have to stand while elements are under
                            way
    ``o_valid``  out        results are there
    ``o``        out        ``lanes`` x signed(``bits + 1``)
    ===========  =========  ======================================================================================

    Latency 9 cycles from a window's last element (zero points, window, two halves of the products, their sums, their sum, and
    four of rounding). Throughput: an element a lane and cycle, window after window without a gap. Reset: no result is valid; data
    registers are not reset. Elements may come with gaps; results cannot be stalled: they are valid for one cycle.
    """

    def __init__(self, spec: VectorLanes) -> None:
        self.spec = spec
        super().__init__(
            {
                "i_valid": In(1),
                "i": In(spec.element_layout),
                "setting": In(spec.setting_layout),
                "o_valid": Out(1),
                "o": Out(data.ArrayLayout(signed(spec.bits + 1), spec.lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ends = self.i_valid & self.i.last
        m.d.comb += self.o_valid.eq(delay(m, ends, self.spec.latency_cycles, "valid", reset=True))
        moves, first = delay(m, self.i_valid, 1, "moves", reset=True), delay(m, self.i.first, 1, "first")
        for lane in range(self.spec.lanes):
            m.d.comb += self.o[lane].eq(self._build_lane(m, lane, moves, first))
        return m

    def _build_lane(self, m: Module, lane: int, moves: Value, first: Value) -> Value:
        spec, name = self.spec, f"lane{lane}"
        x = Signal(signed(spec.centred_bits), name=f"{name}_x", reset_less=True)
        y = Signal(signed(spec.centred_bits), name=f"{name}_y", reset_less=True)
        m.d.sync += [x.eq(self.i.a[lane] - self.setting.zero_a), y.eq(self.i.b[lane] - self.setting.zero_b)]
        take = delay(m, self.i.take[lane], 1, f"{name}_take")
        reduced = self._reduce(m, name, x, take, moves, first)
        product, cycles = multiply(m, reduced, delay(m, self.i.multiplier[lane], 2, f"{name}_m"), f"{name}_p")
        other, _ = multiply(m, delay(m, y, 1, f"{name}_y2"), self.setting.multiplier_b, f"{name}_q")
        total = Signal(signed(spec.value_bits), name=f"{name}_total", reset_less=True)
        m.d.sync += total.eq(product + Mux(self.setting.operation == Operation.ADD.value, other, 0))
        amount = delay(m, self.i.shift[lane], 3 + cycles, f"{name}_shift")
        return round_and_clamp(m, total, amount, self.setting, spec.bits, spec.rounding, name)

    def _reduce(self, m: Module, name: str, x: Value, take: Value, moves: Value, first: Value) -> Value:
        """Return the window's largest element or sum so far; an element that is not taken changes nothing."""
        spec = self.spec
        kept = Signal(signed(spec.acc_bits), name=f"{name}_kept", reset_less=True)
        largest = self.setting.operation == Operation.MAX.value
        before, after = Signal.like(kept, name=f"{name}_before"), Signal.like(kept, name=f"{name}_after")
        nothing = Mux(largest, -(1 << spec.centred_bits - 1), 0)
        m.d.comb += before.eq(Mux(first, nothing, kept))
        with m.If(~take):
            m.d.comb += after.eq(before)
        with m.Elif(largest):
            m.d.comb += after.eq(Mux(x > before, x, before))
        with m.Else():
            m.d.comb += after.eq(before + x)
        with m.If(moves):
            m.d.sync += kept.eq(after)
        return kept
