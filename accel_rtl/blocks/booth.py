"""Bit-serial multiplication by radix-4 Booth digits: one nonzero digit of the activation a cycle, at least one cycle.

An activation of ``activation_bits`` bits has ``ceil(activation_bits / 2)`` digits ``d_i = -2 b[2i+1] + b[2i] + b[2i-1]`` with the
value ``sum d_i 4**i``. A cell recodes it as it takes it and then adds ``d_i * weight << 2 i`` for the nonzero digits, the
lowest first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwsim.core.check import require_int

CELL_LATENCY_CYCLES = 2
"""Cycles from the one in which a digit is chosen to the first one that shows it in the accumulator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoothCell:
    """A bit-serial multiply-accumulate cell.

    Parameters
    ----------
    activation_bits : int
        Width of the activation less its zero point, two's complement: 9 for 8-bit activations of either sign.
    weight_bits : int
        Width of a weight, two's complement.
    psum_bits : int
        Width of the accumulator; it wraps.
    """

    activation_bits: int = 9
    weight_bits: int = 8
    psum_bits: int = 32

    def __post_init__(self) -> None:
        require_int("booth.activation_bits", self.activation_bits, 2, 17)
        require_int("booth.weight_bits", self.weight_bits, 2, 16)
        require_int("booth.psum_bits", self.psum_bits, 2, 63)

    @property
    def digits(self) -> int:
        """Digits of an activation."""
        return -(-self.activation_bits // 2)

    @property
    def term_bits(self) -> int:
        """Width of ``d_i * weight << 2 i``."""
        return self.weight_bits + 2 * self.digits

    def recode(self, activation: int) -> tuple[int, ...]:
        """Return the digits of an activation, the lowest first, each -2 to 2."""
        low = -(1 << self.activation_bits - 1)
        require_int("booth.activation", activation, low, -low - 1)
        doubled = activation << 1
        return tuple(
            (doubled >> i & 1) + (doubled >> i + 1 & 1) - 2 * (doubled >> i + 2 & 1)
            for i in range(0, 2 * self.digits, 2)
        )

    def count_cycles(self, activation: int) -> int:
        """Return the cycles that a multiplication takes: the nonzero digits, at least 1."""
        return max(1, sum(digit != 0 for digit in self.recode(activation)))

    def compute(self, pairs: Iterable[tuple[int, int]]) -> int:
        """Return the sum of digit times weight over (activation, weight) pairs, wrapped to the accumulator's width."""
        total = 0
        for activation, weight in pairs:
            total += sum(digit * 4**i * weight for i, digit in enumerate(self.recode(activation)))
        half = 1 << self.psum_bits - 1
        return (total + half) % (2 * half) - half

    def create(self) -> BoothCellUnit:
        """Return the hardware."""
        return BoothCellUnit(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoothLine:
    """Cells that share their weight and wait for the slowest of them at each weight.

    Parameters
    ----------
    cell : BoothCell
    macs : int
        Cells.
    """

    cell: BoothCell
    macs: int

    def __post_init__(self) -> None:
        require_int("booth.macs", self.macs, 1, 256)

    def count_cycles(self, activations: Iterable[int]) -> int:
        """Return the cycles that one weight takes: those of the slowest cell."""
        return max(self.cell.count_cycles(activation) for activation in activations)

    def compute(self, activations: npt.NDArray[np.int64], weights: npt.NDArray[np.int64]) -> list[int]:
        """Return the sum of every cell, activations ``[elements, macs]``, weights ``[elements]``."""
        columns = activations.T.tolist()
        return [self.cell.compute(zip(column, weights.tolist(), strict=True)) for column in columns]

    def create(self) -> BoothLineUnit:
        """Return the hardware."""
        return BoothLineUnit(self)


class BoothCellUnit(wiring.Component):
    """Hardware of `BoothCell`.

    ==============  =========  ===================================================================================
    port            direction  content
    ==============  =========  ===================================================================================
    ``load``        in         take ``activation`` in this cycle; only while ``last``
    ``activation``  in         signed(``activation_bits``)
    ``weight``      in         signed(``weight_bits``); not kept: it has to stand from the cycle after ``load`` to the
                               activation's last digit
    ``close``       in         what was taken before belongs to the sum that ends here, what is taken in this cycle or
                               later to the next; only while ``last``
    ``last``        out        no digit is left after this cycle's: idle, or in a multiplication's last cycle
    ``sum_valid``   out        ``sum`` has become new, one cycle
    ``sum``         out        signed(``psum_bits``), the last sum closed; stands until the next
    ==============  =========  ===================================================================================

    Latency: digits are worked on from the cycle after ``load``; ``sum_valid`` comes 3 cycles after ``close``. Throughput: an
    activation takes as many cycles as it has nonzero digits, at least 1, and the next is loaded in the last of them. ``sum`` is
    a copy: the next sum grows while it is read. Reset: idle, accumulator and ``sum`` 0. Stall: an idle cell waits for
    ``load``; a multiplication that has begun cannot be stopped.
    """

    def __init__(self, spec: BoothCell) -> None:
        self.spec = spec
        super().__init__(
            {
                "load": In(1),
                "activation": In(signed(spec.activation_bits)),
                "weight": In(signed(spec.weight_bits)),
                "close": In(1),
                "last": Out(1, init=1),
                "sum_valid": Out(1),
                "sum": Out(signed(spec.psum_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spec = self.spec
        digits = spec.digits
        # A digit in waiting: negative, double (else single), nonzero.
        negative, double, waiting = (Signal(digits, name=name) for name in ("negative", "double", "waiting"))
        lowest, left = Signal(digits), Signal(digits)
        m.d.comb += [
            lowest.eq(waiting & -waiting),
            left.eq(waiting & ~lowest),
            self.last.eq(left == 0),
        ]
        m.d.sync += waiting.eq(left)
        with m.If(self.load):
            signs, doubles, nonzero = self._recode()
            m.d.sync += [negative.eq(signs), double.eq(doubles), waiting.eq(nonzero)]

        term = Signal(signed(spec.term_bits))  # 0 where no digit waits
        m.d.sync += term.eq(self._form_term(m, negative, double, lowest))

        total = Signal(signed(spec.psum_bits))
        closes = [Signal(name=f"close{k}") for k in range(2)]
        m.d.sync += [closes[0].eq(self.close), closes[1].eq(closes[0]), self.sum_valid.eq(closes[1])]
        m.d.sync += total.eq(Mux(closes[1], 0, total) + term)
        with m.If(closes[1]):
            m.d.sync += self.sum.eq(total)
        return m

    def _recode(self) -> tuple[Value, Value, Value]:
        """Return the signs, doublings and nonzero flags of the activation's digits."""
        spec = self.spec
        extended = Cat(Const(0, 1), self.activation, *[self.activation[-1]] * (2 * spec.digits - spec.activation_bits))
        triples = [extended[i : i + 3] for i in range(0, 2 * spec.digits, 2)]
        signs = Cat(t[2] for t in triples)
        doubles = Cat(t[0] == t[1] for t in triples)
        nonzero = Cat(~((t == 0) | (t == 7)) for t in triples)
        return signs, doubles, nonzero

    def _form_term(self, m: Module, negative: Signal, double: Signal, lowest: Signal) -> Value:
        """Return the chosen digit times the weight, at its place; 0 where no digit is chosen."""
        spec = self.spec
        magnitude = Signal(signed(spec.weight_bits + 1))
        value = Signal(signed(spec.weight_bits + 2))
        m.d.comb += magnitude.eq(Mux((double & lowest).any(), self.weight << 1, self.weight))
        m.d.comb += value.eq(Mux((negative & lowest).any(), -magnitude, magnitude))
        merged: Value = Const(0, spec.term_bits)
        for i in range(spec.digits):
            placed = Signal(spec.term_bits, name=f"placed{i}")
            m.d.comb += placed.eq(Mux(lowest[i], value << 2 * i, 0))  # signed: extended to all bits
            merged = merged | placed
        return merged.as_signed()


class BoothLineUnit(wiring.Component):
    """Hardware of `BoothLine`.

    =============  =========  ====================================================================================
    port           direction  content
    =============  =========  ====================================================================================
    ``i``          stream in  ``activation``: ``macs`` x signed(``activation_bits``), ``weight``: signed(``weight_bits``)
    ``close``      in         as of a cell; only while ``i.ready``
    ``sum_valid``  out        ``sum`` has become new, one cycle
    ``sum``        out        ``macs`` x signed(``psum_bits``)
    =============  =========  ====================================================================================

    Latency and throughput: those of the slowest cell at each weight; ``i.ready`` is high where all cells are idle or in their last
    cycle, and depends on registers alone. Reset: as a cell. Stall: waits for ``i.valid``; results cannot be refused.
    """

    def __init__(self, spec: BoothLine) -> None:
        self.spec = spec
        cell = spec.cell
        payload = data.StructLayout(
            {
                "activation": data.ArrayLayout(signed(cell.activation_bits), spec.macs),
                "weight": signed(cell.weight_bits),
            }
        )
        super().__init__(
            {
                "i": In(stream.Signature(payload)),
                "close": In(1),
                "sum_valid": Out(1),
                "sum": Out(data.ArrayLayout(signed(cell.psum_bits), spec.macs)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cells = [self.spec.cell.create() for _ in range(self.spec.macs)]
        weight = Signal(signed(self.spec.cell.weight_bits))
        taken = self.i.valid & self.i.ready
        m.d.comb += [self.i.ready.eq(Cat(cell.last for cell in cells).all()), self.sum_valid.eq(cells[0].sum_valid)]
        with m.If(taken):
            m.d.sync += weight.eq(self.i.payload.weight)
        for k, cell in enumerate(cells):
            m.submodules[f"cell{k}"] = cell
            m.d.comb += [
                cell.load.eq(taken),
                cell.activation.eq(self.i.payload.activation[k]),
                cell.weight.eq(weight),
                cell.close.eq(self.close),
                self.sum[k].eq(cell.sum),
            ]
        return m
