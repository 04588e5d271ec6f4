"""Systolic array of multiply-accumulate cells: output, weight or input stationary."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.blocks.mac import HeldMac, Mac, wrap_signed
from hwsim.core.check import require_choice, require_int


@dataclass(frozen=True, slots=True, kw_only=True)
class SystolicArray:
    """An array of ``rows`` x ``cols`` cells.

    Parameters
    ----------
    rows, cols : int
        Cells.
    stationary : str
        ``sums``: sums stay, both operands pass (dataflow ``os``). ``operand``: the operand ``y`` stays (``ws``: weights, ``is``:
        inputs).
    x_bits, y_bits, psum_bits : int
        Widths of what enters at the left, of what enters at the top, and of sums; two's complement.
    sets : int
        Registers for the operand that stays, 1 or 2.
    """

    rows: int
    cols: int
    stationary: str = "sums"
    x_bits: int = 9
    y_bits: int = 8
    psum_bits: int = 32
    sets: int = 2

    def __post_init__(self) -> None:
        require_int("systolic_array.rows", self.rows, 1, 256)
        require_int("systolic_array.cols", self.cols, 1, 256)
        require_choice("systolic_array.stationary", self.stationary, ("sums", "operand"))
        self.create_cell(0)

    @property
    def tag_bits(self) -> int:
        """Width of a row number."""
        return max(1, (self.rows - 1).bit_length())

    @property
    def latency_cycles(self) -> int:
        """Cycles from the operand that enters row 0 of column 0 (the last of a sum) to the column's first result.

        Sums: down the rows, the product, the sum into its shadow register. Operand: down the rows, product and sum.
        """
        return self.rows + 1

    def compute(self, x: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return what the columns give for one fold.

        Parameters
        ----------
        x : ndarray
            Sums: ``[rows, T]`` with y ``[T, cols]``. Operand: ``[rows, T]`` with y ``[rows, cols]``.

        Returns
        -------
        ndarray int64
            Sums: ``[rows, cols]``, in the order in which they leave: the lowest row first. Operand: ``[T, cols]``.
        """
        x, y = np.asarray(x, np.int64), np.asarray(y, np.int64)
        product = (x @ y)[::-1] if self.stationary == "sums" else x.T @ y
        return wrap_signed(product, self.psum_bits)

    def create_cell(self, row: int) -> Mac | HeldMac:
        """Return the specification of a cell."""
        if self.stationary == "sums":
            return Mac(x_bits=self.x_bits, y_bits=self.y_bits, psum_bits=self.psum_bits)
        return HeldMac(
            x_bits=self.x_bits, y_bits=self.y_bits, psum_bits=self.psum_bits, row=row, tag_bits=self.tag_bits,
            sets=self.sets,
        )  # fmt: skip

    def create(self) -> wiring.Component:
        """Return the hardware."""
        return SumsStayUnit(self) if self.stationary == "sums" else OperandStaysUnit(self)


class SumsStayUnit(wiring.Component):
    """Output stationary array.

    Row i gets its operand k, column j its own, i and j cycles after the first ones. A finished sum moves to the cell's shadow
    register while the next one begins; from the cycle in which the lowest cell of a column has finished, the column's
    results leave at its lower end, the lowest row's first, one a cycle. Latency: `SystolicArray.latency_cycles` to column 0,
    j more to column j. Throughput: a product a cell and cycle; sums of one array have to begin at least ``rows`` cycles after one
    another. Reset: nothing valid. There is no stall.

    Members
    -------
    x : In [rows]
    valid, clear, last : In [rows]
        They travel with ``x``: operands are there; they begin a sum; they end it.
    y : In [cols]
    result : Out [cols], result_valid : Out [cols]
    """

    def __init__(self, spec: SystolicArray) -> None:
        self.spec = spec
        super().__init__(
            {
                "x": In(signed(spec.x_bits)).array(spec.rows),
                "valid": In(1).array(spec.rows), "clear": In(1).array(spec.rows), "last": In(1).array(spec.rows),
                "y": In(signed(spec.y_bits)).array(spec.cols),
                "result": Out(signed(spec.psum_bits)).array(spec.cols), "result_valid": Out(1).array(spec.cols),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        """Build cells, shadow registers and what empties them."""
        m, spec = Module(), self.spec
        cells = [[spec.create_cell(i).create() for _ in range(spec.cols)] for i in range(spec.rows)]
        for i, row in enumerate(cells):
            for j, cell in enumerate(row):
                m.submodules[f"cell_{i}_{j}"] = cell
                left = row[j - 1] if j else None
                m.d.comb += [
                    cell.x.eq(left.x_out if left else self.x[i]),
                    cell.valid.eq(left.valid_out if left else self.valid[i]),
                    cell.clear.eq(left.clear_out if left else self.clear[i]),
                    cell.last.eq(left.last_out if left else self.last[i]),
                    cell.y.eq(cells[i - 1][j].y_out if i else self.y[j]),
                ]
        for j in range(spec.cols):
            self._build_shadows(m, j, [row[j] for row in cells])
        return m

    def _build_shadows(self, m: Module, j: int, column: list[wiring.Component]) -> None:
        """Build the way out of a column.

        When the lowest sum is there (``leave``), every cell takes the value above it, row i for i cycles: the cells stop
        one by one, from above, and may then hold sums of the next fold. So ``take`` moves down a cell a cycle.
        """
        leave = Signal(name=f"leave_{j}")
        m.d.sync += leave.eq(column[-1].finish)
        above, took = None, None
        for i, cell in enumerate(column):
            shadow = Signal(signed(self.spec.psum_bits), name=f"shadow_{i}_{j}")
            with m.If(cell.finish):
                m.d.sync += shadow.eq(cell.total)
            if above is not None:
                take, taken = Signal(name=f"take_{i}_{j}"), Signal(name=f"took_{i}_{j}")
                m.d.comb += take.eq(leave | took if took is not None else leave)
                m.d.sync += taken.eq(take)
                with m.If(take & ~cell.finish):
                    m.d.sync += shadow.eq(above)
                took = taken
            above = shadow
        m.d.comb += [
            self.result[j].eq(above),
            self.result_valid[j].eq(leave | took if took is not None else leave),
        ]


class OperandStaysUnit(wiring.Component):
    """Weight or input stationary array.

    Operands that stay enter at the top, the lowest row's first, one a column and cycle, column j's j cycles later; each moves down
    to its row. Operands that pass enter at the left, row i's i cycles later. Sums move down a cell a cycle. Latency:
    `SystolicArray.latency_cycles` to column 0, j more to column j. Throughput: a product a cell and cycle. With two sets the
    next operands may enter right behind, as soon as those of two folds ago are not used any more. Reset: nothing valid. There is
    no stall.

    Members
    -------
    x : In [rows], x_valid, x_set : In [rows]
    y : In [cols], y_valid, y_set, y_row : In [cols]
    result : Out [cols], result_valid : Out [cols]
    """

    def __init__(self, spec: SystolicArray) -> None:
        self.spec = spec
        super().__init__(
            {
                "x": In(signed(spec.x_bits)).array(spec.rows),
                "x_valid": In(1).array(spec.rows), "x_set": In(1).array(spec.rows),
                "y": In(signed(spec.y_bits)).array(spec.cols),
                "y_valid": In(1).array(spec.cols), "y_set": In(1).array(spec.cols),
                "y_row": In(spec.tag_bits).array(spec.cols),
                "result": Out(signed(spec.psum_bits)).array(spec.cols), "result_valid": Out(1).array(spec.cols),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        """Build the cells."""
        m, spec = Module(), self.spec
        cells = [[spec.create_cell(i).create() for _ in range(spec.cols)] for i in range(spec.rows)]
        for i, row in enumerate(cells):
            for j, cell in enumerate(row):
                m.submodules[f"cell_{i}_{j}"] = cell
                for name in ("x", "x_valid", "x_set"):
                    source = getattr(row[j - 1], f"{name}_out") if j else getattr(self, name)[i]
                    m.d.comb += getattr(cell, name).eq(source)
                for name in ("y", "y_valid", "y_set", "y_row"):
                    source = getattr(cells[i - 1][j], f"{name}_out") if i else getattr(self, name)[j]
                    m.d.comb += getattr(cell, name).eq(source)
                if i:
                    m.d.comb += cell.psum.eq(cells[i - 1][j].psum_out)
        for j, cell in enumerate(cells[-1]):
            m.d.comb += [self.result[j].eq(cell.psum_out), self.result_valid[j].eq(cell.psum_valid)]
        return m
