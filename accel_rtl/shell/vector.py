"""The vector unit: pooling and the addition of two tensors, an element of a window or of a sum a cycle.

Stages, by cycle; t is the busy cycle of a step:

======  ===============================================================================================
t       the step is due: ``start``, or the counter of steps
t + 1   its loops' digits stand, and which of them wrap behind it
t + 2   places of its elements in the bank; row and column
t + 3   ``v_enable``, ``v_address``: beats are read
t + 4   beats are there
t + 5   elements taken out
t + 6   zero points subtracted
t + 7   pooling: largest or sum so far; written behind the last of a window
t + 8   addition: products by the factors, or operands aligned by shifts (`Machine.requantizer`)
t + 9   their sum
t + 13  rounded half to even, saturated, written
======  ===============================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.blocks.requantize import delay, multiply, round_and_clamp
from accel_rtl.instruction_word import WORD_BITS
from accel_rtl.machine import VECTOR_PORTS, Machine
from accel_rtl.shell.shifts import FACTOR_BITS, decode_factor
from accel_rtl.shell.vector_descriptor import (
    ADDITION,
    ADDRESS_BITS,
    DIGITS,
    MAXIMUM,
    OPERANDS,
    TILE_LAYOUT,
    describe_vector,
    header_layout,
    list_vector_header,
    list_windows,
    take_element,
    unpack_fields,
)
from hwsim.core.errors import SpecError
from hwsim.quant.requant import shift_right

__all__ = ["LATENCY_CYCLES", "VectorUnit", "VectorUnitComponent", "describe_vector", "list_vector_header"]

LATENCY_CYCLES = 13
"""From the last busy cycle to the one in which the last result is written, hence from the end of a tile until all of its results
stand in ``obuf``."""
SUM_LIMIT = 1 << 18
"""A rounded sum is saturated here, as in `hwsim.engine.execute_tile`: beyond every stored format and zero point."""
_POOLED, _ADDED = 5, 11  # cycles from the place of an element to the write of its result


@dataclass(frozen=True, slots=True)
class VectorUnit:
    """The vector unit of an accelerator.

    Parameters
    ----------
    machine : Machine
        Widths of beats, elements, accumulators; columns of ``obuf``.
    tile_words : int
        Words of a descriptor; the lowest one is read.
    """

    machine: Machine
    tile_words: int = 1

    def __post_init__(self) -> None:
        if self.place_bits > ADDRESS_BITS:
            raise SpecError(
                "vector.ibuf_beats", self.machine.ibuf_beats, f"a bank of 2**{ADDRESS_BITS} elements at most"
            )
        if not self.centred_bits < self.machine.psum_bits or self.machine.psum_bits < SUM_LIMIT.bit_length() + 1:
            raise SpecError("vector.psum_bits", self.machine.psum_bits, f"at least {SUM_LIMIT.bit_length() + 1}")

    @property
    def lane_bits(self) -> int:
        """Width of an element's place in its beat."""
        return (self.machine.beat_bits // self.machine.a_bits).bit_length() - 1

    @property
    def place_bits(self) -> int:
        """Width of an element's place in a bank."""
        return self.machine.ibuf_address_bits + self.lane_bits

    @property
    def centred_bits(self) -> int:
        """Width of an element less its zero point."""
        return self.machine.a_bits + 2

    def compute(self, header: Mapping[str, int], tile: int, beats: Sequence[int]) -> list[int]:
        """Return the accumulators of a tile in the order n, g, p, q, from its descriptor and the beats of a bank."""
        fields, machine = unpack_fields(tile, TILE_LAYOUT), self.machine
        factor_a, factor_b = header["factor_a"], header["factor_b"]
        if machine.requantizer == "shift" and header["operation"] == ADDITION:
            factor_a, factor_b = decode_factor(factor_a), decode_factor(factor_b)

        def take(place: int, operand: str) -> int:
            stored = take_element(beats, place, machine.a_bits, machine.beat_bits, header[f"{operand}_signed"])
            return stored - header[f"{operand}_zero"]

        found = []
        for window in list_windows(fields):
            if header["operation"] == ADDITION:
                (place_a, place_b, _), *_ = window
                total = take(place_a, "a") * factor_a + take(place_b, "b") * factor_b
                rounded = int(shift_right(total, header["factor_shift"]))
                found.append(max(-SUM_LIMIT, min(SUM_LIMIT, rounded)))
                continue
            values = [take(place, "a") for place, _, inside in window if inside]
            found.append(max(values) if header["operation"] == MAXIMUM else sum(values))
        return found

    def create(self) -> VectorUnitComponent:
        """Return the component."""
        return VectorUnitComponent(self)


class VectorUnitComponent(wiring.Component):
    """See `VectorUnit`.

    ==============================  =========  ====================================================================
    port                            direction  content
    ==============================  =========  ====================================================================
    ``start``                       in         pulse in the first busy cycle
    ``tile``                        in         descriptor, in that cycle and the one before
    ``header``                      in         fields of the header word: stand while elements are under way
    ``done``                        out        high in the last busy cycle
    ``v_enable[2]``, ``v_bank``,    out        reads of ``ibuf`` by operand
    ``v_address[2]``
    ``v_beat[2]``                   in         the beats, in the cycle after
    ``o_write_*[columns]``          out        results into ``obuf``, place ``linear``
    ==============================  =========  ====================================================================

    Busy: one cycle for each element of each window, one for each sum. Throughput: a tile may start in the cycle after ``done``.
    Latency: the last sum is written `LATENCY_CYCLES` behind ``done``, the last of a pooling 7 behind. Reads go on for three
    cycles behind ``done``. Reset: idle. There is no stall.
    """

    def __init__(self, spec: VectorUnit) -> None:
        self.spec = spec
        machine = spec.machine
        super().__init__(
            {
                "start": In(1), "tile": In(spec.tile_words * WORD_BITS), "header": In(header_layout()), "done": Out(1),
                "v_enable": Out(1).array(VECTOR_PORTS), "v_bank": Out(1),
                "v_address": Out(machine.ibuf_address_bits).array(VECTOR_PORTS),
                "v_beat": In(machine.beat_bits).array(VECTOR_PORTS),
                "o_write_enable": Out(1).array(machine.columns), "o_write_bank": Out(1).array(machine.columns),
                "o_write_address": Out(machine.word_bits).array(machine.columns),
                "o_write_data": Out(signed(machine.psum_bits)).array(machine.columns),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        """Build loops, places, elements, results."""
        m = Module()
        given = data.View(TILE_LAYOUT, self.tile[: TILE_LAYOUT.size])
        tile, later = Signal(TILE_LAYOUT), Signal(TILE_LAYOUT)  # while steps pass t + 1, and t + 2
        m.d.sync += later.eq(tile)
        with m.If(self.start):
            m.d.sync += tile.eq(given)
        active = self._count_steps(m, given.steps)
        # whether digits up to each one wrap behind the step of t + 1, and did before it
        fresh, wraps = self._walk_loops(m, given, tile, active)
        before, valid, first, last, end = Signal.like(wraps), Signal(), Signal(), Signal(), Signal()
        m.d.sync += [valid.eq(active), before.eq(wraps), last.eq(wraps[1]), end.eq(wraps[-1])]
        m.d.sync += first.eq(fresh | before[1])
        step = fresh, before, active
        places = [self._walk_slab(m, tile, name, *step) for name in OPERANDS]
        inside = self._walk_window(m, tile, later, *step)
        values = self._read_elements(m, places, valid, inside, later.i_bank)
        pooled = self._pool(m, values[0], valid, first, inside)
        added = self._add(m, *values)
        self._write(m, valid & last, end, later.o_bank, pooled, added)
        return m

    def _count_steps(self, m: Module, steps: Value) -> Value:
        """Drive ``done``; return whether a step was due in the cycle before."""
        left, running, active = Signal.like(steps), Signal(), Signal()
        single, last = Signal(), Signal()  # registers: what waits for the end begins right behind them
        m.d.sync += single.eq(steps == 0)
        m.d.comb += self.done.eq((self.start & single) | last)
        with m.If(self.start):
            m.d.sync += [left.eq(steps), running.eq(~single), last.eq(steps == 1)]
        with m.Elif(running):
            m.d.sync += [left.eq(left - 1), running.eq(~last), last.eq(left == 2)]
        m.d.sync += active.eq(self.start | running)
        return active

    def _walk_loops(self, m: Module, given: data.View, tile: data.View, active: Value) -> tuple[Value, Value]:
        """Return whether the step is a tile's first, and for each digit whether it and all below it are at their end."""
        fresh, wraps = Signal(), Signal(len(DIGITS))
        m.d.sync += fresh.eq(self.start)
        below: Value = Const(1, 1)
        for k, digit in enumerate(DIGITS):
            extent = tile[f"{digit}_end"]
            left = Signal(len(extent), name=f"left_{digit}")
            m.d.comb += wraps[k].eq(below & (left == 0))
            with m.If(self.start):
                m.d.sync += left.eq(given[f"{digit}_end"])
            with m.Elif(active & below):
                m.d.sync += left.eq(Mux(left == 0, extent, left - 1))
            below = wraps[k]
        return fresh, wraps

    def _walk_slab(self, m: Module, tile: data.View, name: str, fresh: Value, before: Value, active: Value) -> Value:
        """Return the place of operand ``name`` in the bank, at t + 2.

        Each loop keeps the place where its turn began; one that moves on starts those within it there. Rows that share a unit
        are in slots: what passes the last slot goes on in the next unit.
        """
        bits = self.spec.place_bits

        def signal(what: str, like: Value) -> Signal:
            return Signal(len(like), name=f"{name}_{what}")

        def step(what: str, place: Value, slot: Value) -> tuple[Value, Value]:
            # the slot from which a step leaves the unit, and what it then adds: ready before the tile's second step
            edge = Signal(len(tile[f"{name}_span"]), name=f"{name}_{what}_edge")
            wide = Signal(bits, name=f"{name}_{what}_wide")
            m.d.sync += edge.eq(tile[f"{name}_span"] - tile[f"{name}_{what}_slot"])
            m.d.sync += wide.eq(tile[f"{name}_{what}"] + tile[f"{name}_skip"])
            left = slot - edge
            over = ~left[-1]
            further = Mux(over, place + wide, place + tile[f"{name}_{what}"][:bits])
            return further[:bits], Mux(over, left, slot + tile[f"{name}_{what}_slot"])[: len(slot)]

        begin, begin_slot = tile[f"{name}_first"][:bits], tile[f"{name}_first_slot"]
        base = {loop: signal(f"base_{loop}", begin) for loop in "ngpq"}
        row_slot = signal("row_slot", begin_slot)
        outer = {loop: (base[loop] + tile[f"{name}_{loop}"][:bits])[:bits] for loop in "ng"}
        row, row_moved = step("p", base["p"], row_slot)
        right = tile.right if name == "a" else tile.b_right
        column = (base["q"] + right)[:bits]
        # what begins at the step: loops from the one that moved on inwards
        new = Mux(fresh, begin, Mux(before[4], outer["n"], Mux(before[3], outer["g"], Mux(before[2], row, column))))
        new_slot = Mux(fresh | before[3], begin_slot, Mux(before[2], row_moved, row_slot))
        for loop, moves in (("n", before[4]), ("g", before[3]), ("p", before[2]), ("q", before[1])):
            with m.If(active & (fresh | moves)):
                m.d.sync += base[loop].eq(new)
        with m.If(active):
            m.d.sync += row_slot.eq(new_slot)
        if name == "b":
            return base["q"]
        place, line, line_slot = signal("place", begin), signal("line", begin), signal("line_slot", begin_slot)
        lower, lower_slot = step("r", line, line_slot)
        with m.If(active & (fresh | before[1])):
            m.d.sync += [place.eq(new), line.eq(new), line_slot.eq(new_slot)]
        with m.Elif(active & before[0]):
            m.d.sync += [place.eq(lower), line.eq(lower), line_slot.eq(lower_slot)]
        with m.Elif(active):
            m.d.sync += place.eq(place + tile.right_apart)
        return place

    def _walk_window(
        self, m: Module, tile: data.View, later: data.View, fresh: Value, before: Value, active: Value
    ) -> Value:
        """Return whether the step of t + 2 reads no padding."""
        inside: Value = self.header.operation == ADDITION
        parts = []
        for axis, extent, moves, resets, taps in (
            ("x", "columns", before[1], before[2], Const(1, 1)), ("y", "rows", before[2], before[3], before[0]),
        ):  # fmt: skip
            stride, apart = (tile.right, tile.right_apart) if axis == "x" else (tile.down, tile.down_apart)
            # a window's first column, or row, and the step's own
            window, at = Signal.like(tile[axis], name=f"window_{axis}"), Signal.like(tile[axis], name=axis)
            new = Mux(fresh | resets, tile[axis], Mux(moves, window + stride, window))[: len(at)].as_signed()
            back = fresh | before[1] if axis == "y" else fresh | before[0]
            with m.If(active):
                m.d.sync += window.eq(new)
                with m.If(back):
                    m.d.sync += at.eq(new)
                with m.Elif(taps):
                    m.d.sync += at.eq(at + apart)
            parts.append((at >= 0) & (at < later[extent]))
        return inside | (parts[0] & parts[1])

    def _read_elements(self, m: Module, places: list[Value], valid: Value, inside: Value, bank: Value) -> list[Value]:
        """Drive the reads of ``ibuf``; return the operands' elements less their zero points, at t + 6."""
        spec, values = self.spec, []
        bits, lanes = spec.machine.a_bits, spec.lane_bits
        m.d.sync += self.v_bank.eq(bank)
        used = valid & inside, valid & (self.header.operation == ADDITION)
        for k, (name, place) in enumerate(zip(OPERANDS, places, strict=True)):
            m.d.sync += [self.v_enable[k].eq(used[k]), self.v_address[k].eq(place[lanes:])]
            lane = delay(m, place[:lanes], 2, f"{name}_lane") if lanes else Const(0, 1)
            element = self.v_beat[k].word_select(lane, bits)
            stored = Signal(signed(bits + 1), name=f"{name}_stored", reset_less=True)
            m.d.sync += stored.eq(Cat(element, element[-1] & self.header[f"{name}_signed"]).as_signed())
            centred = Signal(signed(spec.centred_bits), name=f"{name}_centred", reset_less=True)
            m.d.sync += centred.eq(stored - self.header[f"{name}_zero"][: bits + 1].as_signed())
            values.append(centred)
        return values

    def _pool(self, m: Module, value: Value, valid: Value, first: Value, inside: Value) -> Value:
        """Return the window's largest element or sum so far, at t + 7; what is padding changes nothing."""
        kept = Signal(signed(self.spec.machine.psum_bits), name="kept", reset_less=True)
        now, begins, takes = (
            delay(m, flag, 4, name) for flag, name in ((valid, "now"), (first, "begins"), (inside, "takes"))
        )
        largest = self.header.operation == MAXIMUM
        so_far = Mux(begins, Mux(largest, -(1 << self.spec.centred_bits - 1), 0), kept)
        with m.If(now):
            with m.If(~takes):
                m.d.sync += kept.eq(so_far)
            with m.Elif(largest):
                m.d.sync += kept.eq(Mux(value > so_far, value, so_far))
            with m.Else():
                m.d.sync += kept.eq(so_far + value)
        return kept

    def _add(self, m: Module, a: Value, b: Value) -> Value:
        """Return the rounded sum of the operands by their factors, at t + 13."""
        scale = _shift if self.spec.machine.requantizer == "shift" else multiply
        product_a, _ = scale(m, a, self.header.factor_a, "product_a")
        product_b, _ = scale(m, b, self.header.factor_b, "product_b")
        total = Signal(signed(len(product_a) + 1), name="total", reset_less=True)
        m.d.sync += total.eq(product_a + product_b)
        bits = SUM_LIMIT.bit_length()
        shape = signed(bits + 1)
        limits = data.StructLayout({"zero_point": shape, "low": shape, "high": shape})
        held = Signal(limits, name="limits", init={"zero_point": 0, "low": -SUM_LIMIT, "high": SUM_LIMIT})
        return round_and_clamp(m, total, self.header.factor_shift, held, bits, "half_even", "sum")

    def _write(self, m: Module, result: Value, end: Value, bank: Value, pooled: Value, added: Value) -> None:
        """Write results one behind the other, column after column."""
        columns, adds = self.spec.machine.columns, self.header.operation == ADDITION
        fields = Signal(3)
        m.d.comb += fields.eq(Cat(result, result & end, bank))
        early = delay(m, fields, _POOLED, "pooled", reset=True)
        late = delay(m, early, _ADDED - _POOLED, "added", reset=True)
        writes, ends, into = (Mux(adds, late[k], early[k]) for k in range(3))
        column, word = Signal(columns, init=1), Signal(self.spec.machine.word_bits)
        with m.If(writes):
            m.d.sync += column.eq(column.rotate_left(1) if columns > 1 else 1)
            with m.If(column[-1]):
                m.d.sync += word.eq(word + 1)
            with m.If(ends):
                m.d.sync += [column.eq(1), word.eq(0)]
        for j in range(columns):
            m.d.comb += [
                self.o_write_enable[j].eq(writes & column[j]),
                self.o_write_bank[j].eq(into),
                self.o_write_address[j].eq(word),
                self.o_write_data[j].eq(Mux(adds, added, pooled)),
            ]


def _shift(m: Module, value: Value, factor: Value, name: str) -> tuple[Value, int]:
    """Return ``value`` times plus or minus a power of two (`accel_rtl.shell.shifts.decode_factor`), registered, in two cycles."""
    negative, exponent = factor[-1], factor[:FACTOR_BITS] ^ factor[-1].replicate(FACTOR_BITS)
    turned = Signal(signed(len(value) + 1), name=f"{name}_turned", reset_less=True)
    moved = Signal(signed(len(turned) + (1 << FACTOR_BITS) - 1), name=name, reset_less=True)
    m.d.sync += [turned.eq(Mux(negative, -value, value)), moved.eq(turned << exponent)]
    return moved, 2
