"""Multiply-accumulate cells of a systolic array: sums that stay, or an operand that stays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwsim.core.check import require_int


def wrap_signed(value: npt.ArrayLike, bits: int) -> npt.NDArray[np.int64]:
    """Return integers modulo ``2**bits`` as two's complement, int64 (at most 64 bits)."""
    span = 64 - bits
    return (np.asarray(value, np.int64) << span) >> span


def _check_widths(where: str, x_bits: int, y_bits: int, psum_bits: int) -> None:
    require_int(f"{where}.x_bits", x_bits, 1, 32)
    require_int(f"{where}.y_bits", y_bits, 1, 32)
    require_int(f"{where}.psum_bits", psum_bits, 2, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mac:
    """A cell that keeps its sum (output stationary).

    Parameters
    ----------
    x_bits, y_bits : int
        Widths of the operands, two's complement.
    psum_bits : int
        Width of the sum, which is taken modulo ``2**psum_bits``.
    """

    x_bits: int
    y_bits: int
    psum_bits: int = 32

    def __post_init__(self) -> None:
        _check_widths("mac", self.x_bits, self.y_bits, self.psum_bits)

    def compute(self, x: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the sums over the last axis of the products."""
        products = np.asarray(x, np.int64) * np.asarray(y, np.int64)
        return wrap_signed(products.sum(axis=-1), self.psum_bits)

    def create(self) -> MacUnit:
        """Return the hardware."""
        return MacUnit(self)


class MacUnit(wiring.Component):
    """A cell that keeps its sum.

    Latency: operands leave a cycle after they came; ``total`` is the new sum two cycles after the operands came in, counting
    theirs as the first (the product is registered), ``finish`` beside it if they were the last. Throughput: a product a
    cycle. Reset: nothing valid. There is no stall: cycles without ``valid`` change nothing.

    Members
    -------
    x, y : In, signed
    valid, clear, last : In
        Operands are there; they begin a sum; they end it.
    x_out, y_out, valid_out, clear_out, last_out : Out
        The same a cycle later, for the neighbours.
    total : Out, signed
        Sum with the product that is being added; meaningful where ``adding``.
    adding, finish : Out
    """

    def __init__(self, spec: Mac) -> None:
        self.spec = spec
        x, y = signed(spec.x_bits), signed(spec.y_bits)
        super().__init__(
            {
                "x": In(x), "y": In(y), "valid": In(1), "clear": In(1), "last": In(1),
                "x_out": Out(x), "y_out": Out(y), "valid_out": Out(1), "clear_out": Out(1), "last_out": Out(1),
                "total": Out(signed(spec.psum_bits)), "adding": Out(1), "finish": Out(1),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        """Build the cell."""
        m = Module()
        product = Signal(signed(self.spec.x_bits + self.spec.y_bits))
        held = Signal(signed(self.spec.psum_bits))
        m.d.sync += [
            self.x_out.eq(self.x), self.y_out.eq(self.y), self.valid_out.eq(self.valid),
            self.clear_out.eq(self.clear), self.last_out.eq(self.last), product.eq(self.x * self.y),
        ]  # fmt: skip
        # the flags of the neighbours are those of the product
        m.d.comb += [
            self.total.eq(Mux(self.clear_out, 0, held) + product),
            self.adding.eq(self.valid_out),
            self.finish.eq(self.valid_out & self.last_out),
        ]
        with m.If(self.valid_out):
            m.d.sync += held.eq(self.total)
        return m


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldMac:
    """A cell that keeps an operand while sums pass (weight or input stationary).

    Parameters
    ----------
    x_bits, y_bits : int
        Widths of the operand that passes and of the one that stays, two's complement.
    psum_bits : int
        Width of a sum, which is taken modulo ``2**psum_bits``.
    row, tag_bits : int
        Its row, and the width of the row number that comes with an operand that is to stay.
    sets : int
        Operands kept, 1 or 2: one is filled while the other is used.
    """

    x_bits: int
    y_bits: int
    psum_bits: int = 32
    row: int = 0
    tag_bits: int = 1
    sets: int = 2

    def __post_init__(self) -> None:
        _check_widths("held_mac", self.x_bits, self.y_bits, self.psum_bits)
        require_int("held_mac.tag_bits", self.tag_bits, 1, 16)
        require_int("held_mac.row", self.row, 0, (1 << self.tag_bits) - 1)
        require_int("held_mac.sets", self.sets, 1, 2)

    def compute(self, x: npt.ArrayLike, y: npt.ArrayLike, psum: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return ``psum + x * y``, elementwise."""
        total = np.asarray(psum, np.int64) + np.asarray(x, np.int64) * np.asarray(y, np.int64)
        return wrap_signed(total, self.psum_bits)

    def create(self) -> HeldMacUnit:
        """Return the hardware."""
        return HeldMacUnit(self)


class HeldMacUnit(wiring.Component):
    """A cell that keeps an operand.

    Latency: ``x`` leaves a cycle after it came, the sum two (the product is registered), so ``psum`` has to come a cycle behind
    ``x``. An operand that is to stay leaves downwards a cycle after it came, unless it is for this row. Throughput: a
    product a cycle. Reset: nothing valid. There is no stall.

    Members
    -------
    x, x_valid, x_set : In
        Operand that passes; whether it is there; which kept operand it is multiplied by.
    y, y_valid, y_set, y_row : In
        Operand that is to stay; whether it is there; in which register; in which row.
    psum : In, signed
    x_out, x_valid_out, x_set_out, y_out, y_valid_out, y_set_out, y_row_out : Out
    psum_out, psum_valid : Out
    """

    def __init__(self, spec: HeldMac) -> None:
        self.spec = spec
        x, y, psum = signed(spec.x_bits), signed(spec.y_bits), signed(spec.psum_bits)
        super().__init__(
            {
                "x": In(x), "x_valid": In(1), "x_set": In(1),
                "y": In(y), "y_valid": In(1), "y_set": In(1), "y_row": In(spec.tag_bits), "psum": In(psum),
                "x_out": Out(x), "x_valid_out": Out(1), "x_set_out": Out(1),
                "y_out": Out(y), "y_valid_out": Out(1), "y_set_out": Out(1), "y_row_out": Out(spec.tag_bits),
                "psum_out": Out(psum), "psum_valid": Out(1),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        """Build the cell."""
        m, spec = Module(), self.spec
        held = [Signal(signed(spec.y_bits), name=f"held{i}") for i in range(spec.sets)]
        product = Signal(signed(spec.x_bits + spec.y_bits))
        if spec.sets == 1:
            used, passed = held[0], held[0]
        else:
            used, passed = Array(held)[self.x_set], Array(held)[self.y_set_out]
        m.d.comb += self.y_out.eq(passed)
        with m.If(self.y_valid):
            for i, register in enumerate(held):
                with m.If((self.y_set == i) | (spec.sets == 1)):
                    m.d.sync += register.eq(self.y)
        m.d.sync += [
            self.x_out.eq(self.x), self.x_valid_out.eq(self.x_valid), self.x_set_out.eq(self.x_set),
            self.y_valid_out.eq(self.y_valid & (self.y_row != spec.row)),
            self.y_set_out.eq(self.y_set), self.y_row_out.eq(self.y_row),
            product.eq(self.x * used), self.psum_out.eq(self.psum + product), self.psum_valid.eq(self.x_valid_out),
        ]  # fmt: skip
        return m
