"""Rebuild engine: rows of weights from coefficients and a small basis, by shift and add.

A row of ``S`` coefficients ``c_j`` (sign and magnitude) and the basis ``B`` give, in integers (`hwsim.quant.decompose`)::

    w[k] = saturate((sum_j sign(c_j) (B[j, k] << (|c_j| - 1)) + 32) >> 6)

one coefficient a cycle: ``S`` accumulators that begin at the rounding constant, each adding or subtracting one shifted element of
row j of the basis. Two engines in turn (`RebuildPair`) hold the weights in use and rebuild the next ones.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwsim.archs.smartdeal.pack import FRACTION_BITS, MAGNITUDE_BITS, rebuild_rows
from hwsim.core.check import require_int
from hwsim.quant.decompose_plan import BASIS_BITS, BASIS_SIZE, COEFFICIENT_BITS

BANKS = 2
"""Banks of a basis register file: the next pass's basis is written while the current one is in use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildEngine:
    """One rebuild engine; its widths are those of the stored format.

    Parameters
    ----------
    size : int
        Coefficients and weights of a row.
    """

    size: int = BASIS_SIZE

    def __post_init__(self) -> None:
        require_int("rebuild.size", self.size, 2, 4)

    @property
    def acc_bits(self) -> int:
        """Width of an accumulator: ``size`` largest terms and the rounding constant."""
        largest = self.size * (1 << BASIS_BITS - 1) * (1 << 2**MAGNITUDE_BITS - 2) + (1 << FRACTION_BITS - 1)
        return largest.bit_length() + 1

    @property
    def latency_cycles(self) -> int:
        """Cycles from the one that takes the coefficients to the first one that shows the weights."""
        return self.size

    def compute(self, nibbles: npt.NDArray[np.int64], basis: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return weights ``[rows, size]`` of coefficient nibbles ``[rows, size]`` and one basis ``[size, size]``."""
        if self.size == BASIS_SIZE:
            return rebuild_rows(nibbles, basis)
        total = np.full(nibbles.shape, 1 << FRACTION_BITS - 1, np.int64)
        for j in range(self.size):
            magnitude = nibbles[:, j, None] & (1 << MAGNITUDE_BITS) - 1
            term = basis[j] * (1 << magnitude >> 1)
            total += np.where(nibbles[:, j, None] >> MAGNITUDE_BITS, -term, term)
        return np.clip(total >> FRACTION_BITS, -128, 127)

    @property
    def basis_layout(self) -> data.ArrayLayout:
        """Basis of one bank: rows of elements."""
        return data.ArrayLayout(data.ArrayLayout(signed(BASIS_BITS), self.size), self.size)

    @property
    def row_layout(self) -> data.StructLayout:
        """A row to rebuild: coefficient nibbles and the bank of their basis."""
        nibbles = data.ArrayLayout(unsigned(COEFFICIENT_BITS), self.size)
        return data.StructLayout({"nibbles": nibbles, "bank": unsigned(1)})

    @property
    def weights_layout(self) -> data.ArrayLayout:
        """A rebuilt row."""
        return data.ArrayLayout(signed(BASIS_BITS), self.size)

    def create(self) -> RebuildEngineUnit:
        """Return the hardware."""
        return RebuildEngineUnit(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildPair:
    """Two engines and their basis register file.

    Parameters
    ----------
    engine : RebuildEngine
    """

    engine: RebuildEngine = RebuildEngine()

    def compute(
        self, nibbles: npt.NDArray[np.int64], bank: npt.NDArray[np.int64], bases: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Return weights ``[rows, size]`` from nibbles ``[rows, size]``, banks ``[rows]``, bases ``[banks, size, size]``."""
        each = [self.engine.compute(nibbles, basis) for basis in bases]
        return np.where(bank[:, None] == 0, each[0], each[1])

    def create(self) -> RebuildPairUnit:
        """Return the hardware."""
        return RebuildPairUnit(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildTurns:
    """Two engines in turn, on bases kept elsewhere.

    Parameters
    ----------
    engine : RebuildEngine
    tag_bits : int
        Width of what goes along with a row.
    """

    engine: RebuildEngine = RebuildEngine()
    tag_bits: int = 1

    def compute(
        self, nibbles: npt.NDArray[np.int64], bank: npt.NDArray[np.int64], bases: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Return weights ``[rows, size]`` from nibbles ``[rows, size]``, banks ``[rows]``, bases ``[banks, size, size]``."""
        return RebuildPair(engine=self.engine).compute(nibbles, bank, bases)

    def create(self) -> RebuildTurnsUnit:
        """Return the hardware."""
        return RebuildTurnsUnit(self)


class BasisFile(wiring.Component):
    """Register file of bases, two banks, all of it readable at once.

    ===============  =========  ==================================================================================
    port             direction  content
    ===============  =========  ==================================================================================
    ``write``        in         take ``row`` in this cycle
    ``write_bank``   in         1 bit
    ``write_index``  in         which row, 0 to ``size - 1``
    ``row``          in         ``size`` x signed(8)
    ``banks``        out        2 bases; a written row stands from the next cycle
    ===============  =========  ==================================================================================

    One row a cycle. Reset: not reset. A bank must not be written while a row that reads it is being rebuilt.
    """

    def __init__(self, spec: RebuildEngine) -> None:
        self.spec = spec
        super().__init__(
            {
                "write": In(1),
                "write_bank": In(1),
                "write_index": In(range(spec.size)),
                "row": In(spec.weights_layout),
                "banks": Out(data.ArrayLayout(spec.basis_layout, BANKS)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        kept = Signal(data.ArrayLayout(self.spec.basis_layout, BANKS), reset_less=True)
        m.d.comb += self.banks.eq(kept)
        for bank in range(BANKS):
            for index in range(self.spec.size):
                with m.If(self.write & (self.write_bank == bank) & (self.write_index == index)):
                    m.d.sync += kept[bank][index].eq(self.row)
        return m


class RebuildEngineUnit(wiring.Component):
    """Hardware of `RebuildEngine`.

    ===========  ==========  =====================================================================================
    port         direction   content
    ===========  ==========  =====================================================================================
    ``i``        stream in   ``nibbles``: ``size`` x 4 bits (|c| in bits 0 to 2, sign in bit 3), ``bank``: 1 bit
    ``banks``    in          the bases, from a `BasisFile`
    ``o``        stream out  ``size`` x signed(8): a rebuilt row; stands until taken
    ===========  ==========  =====================================================================================

    Latency: ``size`` cycles; the first coefficient is worked on in the cycle that takes the row. Throughput: a row in ``size``
    cycles, plus those in which it waits to be taken, plus none: an engine is free in the cycle after its row was taken. ``i.ready``
    and ``o.valid`` depend on registers alone. Reset: free. Stall: holds its row.
    """

    def __init__(self, spec: RebuildEngine) -> None:
        self.spec = spec
        super().__init__(
            {
                "i": In(stream.Signature(spec.row_layout)),
                "banks": In(data.ArrayLayout(spec.basis_layout, BANKS)),
                "o": Out(stream.Signature(spec.weights_layout)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spec = self.spec
        size = spec.size
        left, held = Signal(range(size)), Signal()  # coefficients after this cycle's; whether a row stands
        later = Signal(data.ArrayLayout(unsigned(COEFFICIENT_BITS), size - 1))  # the next coefficient first
        bank = Signal()
        free, starts = Signal(), Signal()
        m.d.comb += [free.eq((left == 0) & ~held), self.i.ready.eq(free), starts.eq(self.i.valid & free)]
        m.d.comb += self.o.valid.eq(held)

        index, chosen, nibble = Signal(range(size)), Signal(), Signal(COEFFICIENT_BITS)
        m.d.comb += [
            index.eq(Mux(free, 0, size - left)),
            chosen.eq(Mux(free, self.i.payload.bank, bank)),
            nibble.eq(Mux(free, self.i.payload.nibbles[0], later[0])),
        ]
        with m.If(starts):
            m.d.sync += [left.eq(size - 1), bank.eq(self.i.payload.bank)]
            m.d.sync += [later[k].eq(self.i.payload.nibbles[k + 1]) for k in range(size - 1)]
        with m.Elif(left != 0):
            m.d.sync += [left.eq(left - 1), held.eq(left == 1)]
            m.d.sync += [later[k].eq(later[k + 1]) for k in range(size - 2)]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += held.eq(0)

        row = Signal(spec.weights_layout)
        with m.Switch(Cat(chosen, index)):
            for bank_number, line in itertools.product(range(BANKS), range(size)):
                with m.Case(bank_number + BANKS * line):
                    m.d.comb += row.eq(self.banks[bank_number][line])
        for k in range(size):
            self._accumulate(m, k, row[k], nibble, starts | (left != 0))
        return m

    def _accumulate(self, m: Module, k: int, element: Value, nibble: Value, runs: Value) -> None:
        """Add this cycle's coefficient to weight ``k``; round and saturate what stands."""
        spec = self.spec
        constant = 1 << FRACTION_BITS - 1
        total = Signal(signed(spec.acc_bits), name=f"total{k}", init=constant)
        magnitude, sign = nibble[:MAGNITUDE_BITS], nibble[MAGNITUDE_BITS]
        shifted = Signal(signed(spec.acc_bits), name=f"shifted{k}")
        with m.If(magnitude != 0):
            m.d.comb += shifted.eq((element << magnitude) >> 1)
        # One adder: the total, the term or its complement, and the sign.
        inverted = Signal(signed(spec.acc_bits), name=f"inverted{k}")
        m.d.comb += inverted.eq(shifted ^ sign.replicate(spec.acc_bits))
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += total.eq(constant)
        with m.Elif(runs):
            m.d.sync += total.eq(total + inverted + Cat(sign, Const(0, 1)).as_signed())
        above, negative = total[FRACTION_BITS + BASIS_BITS - 1 :], total[-1]
        edge = Cat((~negative).replicate(BASIS_BITS - 1), negative)
        fits = (above == 0) | above.all()
        m.d.comb += self.o.payload[k].eq(Mux(fits, total[FRACTION_BITS : FRACTION_BITS + BASIS_BITS], edge).as_signed())


class RebuildTurnsUnit(wiring.Component):
    """Hardware of `RebuildTurns`: rows leave in the order in which they came.

    ============  ==========  ====================================================================================
    port          direction   content
    ============  ==========  ====================================================================================
    ``banks``     in          the bases, from a `BasisFile`
    ``i``, ``o``  streams     as of a `RebuildEngineUnit`
    ``i_tag``     in          goes along with ``i``
    ``o_tag``     out         that of ``o``
    ============  ==========  ====================================================================================

    Latency: ``size`` cycles. Throughput: while one row stands the next one is rebuilt: a consumer that holds every row for
    ``size`` cycles never waits. Reset: both free, the next row goes to engine 0. Stall: takes two rows, then refuses.
    """

    def __init__(self, spec: RebuildTurns) -> None:
        self.spec = spec
        engine = spec.engine
        super().__init__(
            {
                "banks": In(data.ArrayLayout(engine.basis_layout, BANKS)),
                "i": In(stream.Signature(engine.row_layout)),
                "i_tag": In(spec.tag_bits),
                "o": Out(stream.Signature(engine.weights_layout)),
                "o_tag": Out(spec.tag_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        engines = [self.spec.engine.create() for _ in range(2)]
        tags = [Signal(self.spec.tag_bits, name=f"tag{k}", reset_less=True) for k in range(2)]
        taking, giving = Signal(), Signal()
        for k, engine in enumerate(engines):
            m.submodules[f"engine{k}"] = engine
            m.d.comb += [
                engine.banks.eq(self.banks),
                engine.i.payload.eq(self.i.payload),
                engine.i.valid.eq(self.i.valid & (taking == k)),
                engine.o.ready.eq(self.o.ready & (giving == k)),
            ]
            with m.If(self.i.valid & self.i.ready & (taking == k)):
                m.d.sync += tags[k].eq(self.i_tag)
        m.d.comb += [
            self.i.ready.eq(Mux(taking, engines[1].i.ready, engines[0].i.ready)),
            self.o.valid.eq(Mux(giving, engines[1].o.valid, engines[0].o.valid)),
            self.o.payload.eq(Mux(giving, engines[1].o.payload.as_value(), engines[0].o.payload.as_value())),
            self.o_tag.eq(Mux(giving, tags[1], tags[0])),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += taking.eq(~taking)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += giving.eq(~giving)
        return m


class RebuildPairUnit(wiring.Component):
    """Hardware of `RebuildPair`: a `BasisFile` and a `RebuildTurns`.

    ===============  ==========  =================================================================================
    port             direction   content
    ===============  ==========  =================================================================================
    ``write`` ..     in          as of a `BasisFile`
    ``row``
    ``i``, ``o``     streams     as of a `RebuildTurnsUnit`, as are latency, throughput, reset and stall
    ===============  ==========  =================================================================================
    """

    def __init__(self, spec: RebuildPair) -> None:
        self.spec = spec
        engine = spec.engine
        super().__init__(
            {
                "write": In(1),
                "write_bank": In(1),
                "write_index": In(range(engine.size)),
                "row": In(engine.weights_layout),
                "i": In(stream.Signature(engine.row_layout)),
                "o": Out(stream.Signature(engine.weights_layout)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.basis = basis = BasisFile(self.spec.engine)
        m.submodules.turns = turns = RebuildTurns(engine=self.spec.engine).create()
        m.d.comb += [
            basis.write.eq(self.write),
            basis.write_bank.eq(self.write_bank),
            basis.write_index.eq(self.write_index),
            basis.row.eq(self.row),
            turns.banks.eq(basis.banks),
            turns.i.payload.eq(self.i.payload),
            turns.i.valid.eq(self.i.valid),
            self.i.ready.eq(turns.i.ready),
            self.o.payload.eq(turns.o.payload),
            self.o.valid.eq(turns.o.valid),
            turns.o.ready.eq(self.o.ready),
        ]
        return m
