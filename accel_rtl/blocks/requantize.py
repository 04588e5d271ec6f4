"""Requantization in hardware: multiplier and shift, or shift alone, one rounding, zero point, saturation.

What is computed is `hwsim.quant.requant` to the bit::

    stored = clamp(round((acc + bias) * multiplier / 2**shift) + zero_point, low, high)

A shifter that keeps the last bit lost (``half``) and whether any bit before it was set (``sticky``) gives the floor; one is added
where ``half & (sticky | odd)`` (half to even) or ``half & (sticky | not negative)`` (half away from zero).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from hwsim.core.check import require_choice, require_int
from hwsim.core.errors import SpecError
from hwsim.quant.requant import LARGEST_SHIFT, ROUNDINGS, requantize_mulshift, requantize_shift

MODES = ("mulshift", "shift")
HALF_MULTIPLIER_BITS = 16
"""A wider multiplier is cut here: two products in one cycle, their sum in the next."""
QUARTERS_CYCLES = 3
"""Both factors cut there: four products in one cycle, each in one multiplier of an FPGA, then their sums by pairs, then the sum."""
ROUNDING_LATENCY_CYCLES = 4

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Requantize:
    """Lanes that requantize.

    Parameters
    ----------
    lanes : int
    mode : str
        ``mulshift`` or ``shift``.
    rounding : str
        ``half_even`` or ``half_away``.
    acc_bits : int
        Width of accumulators, of biases and of their sum, which must not leave it.
    multiplier_bits : int
        Width of the unsigned multiplier; of no use in mode ``shift``.
    left_bits : int
        Longest shift to the left in mode ``shift``.
    out_bits : int
        Width of the stored integer, signed or not.
    tag_bits : int
        Width of what travels along unchanged (0: nothing).
    """

    lanes: int = 1
    mode: str = "mulshift"
    rounding: str = "half_even"
    acc_bits: int = 32
    multiplier_bits: int = 31
    left_bits: int = 8
    out_bits: int = 8
    tag_bits: int = 0

    def __post_init__(self) -> None:
        require_int("requantize.lanes", self.lanes, 1, 1024)
        require_choice("requantize.mode", self.mode, MODES)
        require_choice("requantize.rounding", self.rounding, ROUNDINGS)
        require_int("requantize.acc_bits", self.acc_bits, 8, 61)
        require_int("requantize.multiplier_bits", self.multiplier_bits, 2, 32)
        require_int("requantize.left_bits", self.left_bits, 0, 31)
        require_int("requantize.out_bits", self.out_bits, 1, 16)
        require_int("requantize.tag_bits", self.tag_bits, 0, 1024)
        if self.value_bits > LARGEST_SHIFT + 1:
            raise SpecError(
                "requantize.acc_bits",
                self.acc_bits,
                f"a product of at most {LARGEST_SHIFT + 1} bits",
                "narrow a factor",
            )

    @property
    def value_bits(self) -> int:
        """Width of what is shifted."""
        return self.acc_bits + (self.multiplier_bits if self.mode == "mulshift" else self.left_bits)

    @property
    def latency_cycles(self) -> int:
        """Cycles from accumulator to stored integer."""
        multiply = (
            (QUARTERS_CYCLES if self.multiplier_bits > HALF_MULTIPLIER_BITS else 1) if self.mode == "mulshift" else 0
        )
        return 1 + multiply + ROUNDING_LATENCY_CYCLES

    def compute(
        self,
        acc: npt.ArrayLike,
        shift: npt.ArrayLike,
        multiplier: npt.ArrayLike = 1,
        bias: npt.ArrayLike = 0,
        *,
        zero_point: int,
        low: int,
        high: int,
    ) -> Int64:
        """Return stored integers; a negative shift (mode ``shift``) goes to the left.

        Raises
        ------
        SpecError
            A sum of accumulator and bias that leaves ``acc_bits``.
        """
        total = np.asarray(acc, np.int64) + np.asarray(bias, np.int64)
        limit = 1 << self.acc_bits - 1
        if total.size and (total.min() < -limit or total.max() >= limit):
            raise SpecError("requantize.acc", int(total[np.abs(total).argmax()]), f"sums of {self.acc_bits} bits")
        if self.mode == "shift":
            return requantize_shift(total, shift, zero_point, low, high, self.rounding)
        return requantize_mulshift(total, multiplier, shift, zero_point, low, high, self.rounding)

    @property
    def element_layout(self) -> data.StructLayout:
        """What comes with every element: accumulator, bias, multiplier and shift, each by lane; and the tag."""
        signed_acc = data.ArrayLayout(signed(self.acc_bits), self.lanes)
        fields: dict[str, object] = {"acc": signed_acc, "bias": signed_acc}
        if self.mode == "mulshift":
            fields["multiplier"] = data.ArrayLayout(unsigned(self.multiplier_bits), self.lanes)
        shape = (
            unsigned(LARGEST_SHIFT.bit_length()) if self.mode == "mulshift" else signed(LARGEST_SHIFT.bit_length() + 1)
        )
        fields["shift"] = data.ArrayLayout(shape, self.lanes)
        return data.StructLayout({**fields, "tag": unsigned(self.tag_bits)})

    @property
    def result_layout(self) -> data.StructLayout:
        """What comes out: stored integers (one bit more than ``out_bits``, for either sign) and the tag."""
        stored = data.ArrayLayout(signed(self.out_bits + 1), self.lanes)
        return data.StructLayout({"stored": stored, "tag": unsigned(self.tag_bits)})

    @property
    def limits_layout(self) -> data.StructLayout:
        """Zero point and limits of the output's format; an activation that clamps narrows the limits."""
        shape = signed(self.out_bits + 1)
        return data.StructLayout({"zero_point": shape, "low": shape, "high": shape})

    def create(self) -> RequantizeUnit:
        """Return the pipeline, which cannot be stalled."""
        return RequantizeUnit(self)

    def create_stream(self) -> RequantizeStream:
        """Return the pipeline behind a stream: results wait in a FIFO."""
        return RequantizeStream(self)


class RequantizeUnit(wiring.Component):
    """Hardware of `Requantize`.

    ===========  =========  ======================================================================================
    port         direction  content
    ===========  =========  ======================================================================================
    ``i_valid``  in         an element a lane is there
    ``i``        in         ``acc``, ``bias``, ``multiplier`` (mode ``mulshift``), ``shift`` by lane; ``tag``
    ``limits``   in         ``zero_point``, ``low``, ``high``: have to stand while elements are under way
    ``o_valid``  out        results are there
    ``o``        out        ``stored`` by lane, ``tag``
    ===========  =========  ======================================================================================

    Latency ``latency_cycles``: 8 with a multiplier (bias, four parts of the product, sums of two, their sum, shift by eights,
    shift by ones, saturate, round and clamp), 5 without. Throughput: an element a lane and cycle. Reset: no result is valid;
    data registers are not reset. It cannot be stalled: results are valid for one cycle.
    """

    def __init__(self, spec: Requantize) -> None:
        self.spec = spec
        super().__init__(
            {
                "i_valid": In(1),
                "i": In(spec.element_layout),
                "limits": In(spec.limits_layout),
                "o_valid": Out(1),
                "o": Out(spec.result_layout),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spec = self.spec
        m.d.comb += self.o_valid.eq(delay(m, self.i_valid, spec.latency_cycles, "valid", reset=True))
        if spec.tag_bits:
            m.d.comb += self.o.tag.eq(delay(m, self.i.tag, spec.latency_cycles, "tag"))
        for lane in range(spec.lanes):
            m.d.comb += self.o.stored[lane].eq(self._build_lane(m, lane))
        return m

    def _build_lane(self, m: Module, lane: int) -> Value:
        spec = self.spec
        total = Signal(signed(spec.acc_bits), name=f"total{lane}", reset_less=True)
        m.d.sync += total.eq(self.i.acc[lane] + self.i.bias[lane])
        value: Value
        if spec.mode == "mulshift":
            multiplier = delay(m, self.i.multiplier[lane], 1, f"multiplier{lane}")
            wide = spec.multiplier_bits > HALF_MULTIPLIER_BITS
            value, cycles = (multiply_quarters if wide else multiply)(m, total, multiplier, f"product{lane}")
            amount = delay(m, self.i.shift[lane], 1 + cycles, f"shift{lane}")
        else:
            amount = Signal(range(LARGEST_SHIFT + spec.left_bits + 1), name=f"shift{lane}", reset_less=True)
            m.d.sync += amount.eq(self.i.shift[lane] + spec.left_bits)
            value = Cat(Const(0, spec.left_bits), total).as_signed()
        return round_and_clamp(m, value, amount, self.limits, spec.out_bits, spec.rounding, f"lane{lane}")


class RequantizeStream(wiring.Component):
    """A `RequantizeUnit` that can be stalled from behind.

    ==========  ==========  ======================================================================================
    port        direction   content
    ==========  ==========  ======================================================================================
    ``i``       stream in   as ``i`` of the unit
    ``limits``  in          as of the unit
    ``o``       stream out  as ``o`` of the unit
    ==========  ==========  ======================================================================================

    Latency ``latency_cycles + 1``. Throughput: an element a lane and cycle. An element is taken only where the FIFO behind the
    pipeline (``latency_cycles + 2`` places) has room for its result: ``i.ready`` depends on a counter alone. Reset: empty. Stall:
    results stand until taken; the pipeline runs on into the FIFO.
    """

    def __init__(self, spec: Requantize) -> None:
        self.spec = spec
        super().__init__(
            {
                "i": In(stream.Signature(spec.element_layout)),
                "limits": In(spec.limits_layout),
                "o": Out(stream.Signature(spec.result_layout)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        places = self.spec.latency_cycles + 2
        m.submodules.unit = unit = self.spec.create()
        m.submodules.results = results = fifo.SyncFIFO(width=self.spec.result_layout.size, depth=places)
        room = Signal(range(places + 1), init=places)
        taken, given = self.i.valid & self.i.ready, self.o.valid & self.o.ready
        m.d.sync += room.eq(room - taken + given)
        m.d.comb += [
            self.i.ready.eq(room != 0),
            unit.i_valid.eq(taken),
            unit.i.eq(self.i.payload),
            unit.limits.eq(self.limits),
            results.w_en.eq(unit.o_valid),
            results.w_data.eq(unit.o.as_value()),
            self.o.valid.eq(results.r_rdy),
            self.o.payload.eq(results.r_data),
            results.r_en.eq(self.o.ready),
        ]
        return m


def delay(m: Module, value: Value, cycles: int, name: str, reset: bool = False) -> Value:
    """Return ``value`` after ``cycles`` registers."""
    for k in range(cycles):
        register = Signal(value.shape(), name=f"{name}_{k}", reset_less=not reset)
        m.d.sync += register.eq(value)
        value = register
    return value


def multiply(m: Module, value: Value, multiplier: Value, name: str) -> tuple[Value, int]:
    """Return a registered product and the cycles that it takes: two where the multiplier is cut in halves."""
    width = len(value) + len(multiplier)
    cut = HALF_MULTIPLIER_BITS
    product = Signal(signed(width), name=name, reset_less=True)
    if len(multiplier) <= cut:
        m.d.sync += product.eq(value * multiplier)
        return product, 1
    low_half = multiplier[:cut]
    high_half = multiplier[cut:].as_signed() if multiplier.shape().signed else multiplier[cut:]
    low = Signal(signed(len(value) + cut + 1), name=f"{name}_low", reset_less=True)
    high = Signal(signed(width - cut), name=f"{name}_high", reset_less=True)
    m.d.sync += [low.eq(value * low_half), high.eq(value * high_half), product.eq(low + (high << cut))]
    return product, 2


def multiply_quarters(m: Module, value: Value, multiplier: Value, name: str) -> tuple[Value, int]:
    """Return a registered product with both factors cut in halves, and `QUARTERS_CYCLES`; ``multiplier`` is unsigned."""
    cut = HALF_MULTIPLIER_BITS
    if len(value) <= cut:
        product, cycles = multiply(m, value, multiplier, name)
        return delay(m, product, QUARTERS_CYCLES - cycles, f"{name}_late"), QUARTERS_CYCLES
    sums = []
    for half, factor in (("low", multiplier[:cut]), ("high", multiplier[cut:])):
        width = len(value) + len(factor)
        low = Signal(cut + len(factor), name=f"{name}_{half}_low", reset_less=True)
        high = Signal(signed(width - cut), name=f"{name}_{half}_high", reset_less=True)
        total = Signal(signed(width), name=f"{name}_{half}", reset_less=True)
        m.d.sync += [
            low.eq(value[:cut] * factor),
            high.eq(value[cut:].as_signed() * factor),
            total.eq(low + (high << cut)),
        ]
        sums.append(total)
    product = Signal(signed(len(value) + len(multiplier)), name=name, reset_less=True)
    m.d.sync += product.eq(sums[0] + (sums[1] << cut))
    return product, QUARTERS_CYCLES


def round_and_clamp(
    m: Module, value: Value, amount: Value, limits: data.View, out_bits: int, rounding: str, name: str
) -> Value:
    """Return ``clamp(round(value / 2**amount) + zero_point, low, high)`` after `ROUNDING_LATENCY_CYCLES`.

    ``limits`` hold integers of ``out_bits + 1`` bits. The floor is saturated to ``out_bits + 2`` bits before one and the zero point
    are added: what is lost lies outside any limits, whatever the zero point.
    """
    shifted: Value = Cat(Const(0, 1), value).as_signed()  # the lowest bit is the last one lost
    sticky: Value = Const(0, 1)
    steps = range(len(amount) - 1, -1, -1)
    fine = [k for k in steps if k < 3]
    shifted, sticky = _shift_sticky(shifted, sticky, amount, [k for k in steps if k >= 3])
    shifted, sticky = delay(m, shifted, 1, f"{name}_eights"), delay(m, sticky, 1, f"{name}_eights_sticky")
    amount = delay(m, amount, 1, f"{name}_amount")
    shifted, sticky = _shift_sticky(shifted, sticky, amount, fine)
    shifted, sticky = delay(m, shifted, 1, f"{name}_ones"), delay(m, sticky, 1, f"{name}_ones_sticky")

    floor, half, negative = shifted[1:].as_signed(), shifted[0], shifted[-1]
    up = half & (sticky | (floor[0] if rounding == "half_even" else ~negative))
    width = out_bits + 2
    saturated = Signal(signed(width), name=f"{name}_saturated", reset_less=True)
    if len(floor) > width:
        above = floor[width - 1 :]
        fits = (above == 0) | above.all()
        edge = Cat((~negative).replicate(width - 1), negative).as_signed()
        m.d.sync += saturated.eq(Mux(fits, floor[:width].as_signed(), edge))
    else:
        m.d.sync += saturated.eq(floor)
    moved = saturated + Cat(delay(m, up, 1, f"{name}_up"), Const(0, 1)).as_signed() + limits.zero_point
    stored = Signal(signed(out_bits + 1), name=f"{name}_stored", reset_less=True)
    m.d.sync += stored.eq(Mux(moved < limits.low, limits.low, Mux(moved > limits.high, limits.high, moved)))
    return stored


def _shift_sticky(shifted: Value, sticky: Value, amount: Value, steps: list[int]) -> tuple[Value, Value]:
    """Shift to the right by the bits ``steps`` of ``amount``, keeping whether a bit was lost."""
    for k in steps:
        by, bit = 1 << k, amount[k]
        sticky = sticky | (bit & shifted[: min(by, len(shifted))].any())
        shifted = Mux(bit, shifted.shift_right(min(by, len(shifted) - 1)), shifted).as_signed()
    return shifted, sticky
