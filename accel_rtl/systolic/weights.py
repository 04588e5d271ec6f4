"""Weights of a systolic array, a line a cycle: one run of neighbouring elements out of several memories."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.systolic.spec import SystolicEngine

LINE_CONTROL = data.StructLayout({"valid": 1, "begin": 1, "reset": 1, "rewind": 1, "mark": 1})
"""A line is due; a fold begins: at the tile's first line, at the marked one or behind the last one; its place is marked."""


class WeightReader(wiring.Component):
    """Reads lines of weights.

    Beats are dealt out over the memories in turn, so that a line, wherever it begins, touches each of them once; what they give is
    turned until the line's first element stands first. Latency: five cycles from control to line: place, beats' places,
    memory, two stages of turning. Throughput: a line a cycle. Reset: nothing valid. There is no stall.

    Members
    -------
    control : In
        ``LINE_CONTROL``.
    count : In
        Elements of the line.
    bank : In
        Bank of ``wbuf``; a cycle behind the control.
    address : Out [memories], bank_out : Out, enable : Out
        Where to read, two cycles behind the control.
    beat : In [memories]
        What was read, a cycle later.
    line : Out [lanes]
        Elements, sign extended; one-bit weights as -1 and +1. Behind ``count`` they mean nothing.
    """

    def __init__(self, spec: SystolicEngine) -> None:
        self.spec = spec
        banks, lanes = spec.weight_banks, spec.weight_lanes
        super().__init__(
            {
                "control": In(LINE_CONTROL), "count": In(max(1, lanes.bit_length())), "bank": In(1),
                "address": Out(spec.weight_address_bits).array(banks), "bank_out": Out(1), "enable": Out(1),
                "beat": In(spec.beat_bits).array(banks), "line": Out(signed(max(2, spec.w_bits))).array(lanes),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        """Build the walk over lines, the addresses and the turning."""
        m, spec, control = Module(), self.spec, self.control
        per_beat, banks = spec.beat_bits // spec.w_bits, spec.weight_banks
        place, following, mark = (Signal(spec.weight_place_bits, name=name) for name in ("place", "following", "mark"))
        at, valid = Signal.like(place), Signal()
        m.d.comb += at.eq(following)
        with m.If(control.begin):
            m.d.comb += at.eq(Mux(control.reset, 0, Mux(control.rewind, mark, following)))
            m.d.sync += following.eq(at)
            with m.If(control.mark):
                m.d.sync += mark.eq(at)
        with m.If(control.valid):
            m.d.sync += [place.eq(at), following.eq(at + self.count)]
        m.d.sync += [valid.eq(control.valid), self.enable.eq(valid), self.bank_out.eq(self.bank)]
        beat = place >> (per_beat.bit_length() - 1)
        turn = Signal(range(max(2, banks)))
        m.d.comb += turn.eq(beat & (banks - 1))
        for i in range(banks):
            above = (turn > i) if i < banks - 1 else 0
            m.d.sync += self.address[i].eq((beat >> (banks.bit_length() - 1)) + above)
        shift = Signal((banks * per_beat - 1).bit_length(), name="shift_0")
        m.d.sync += shift.eq(place)
        read = Signal.like(shift, name="shift_1")
        m.d.sync += read.eq(shift)
        self._turn(m, read)
        return m

    def _turn(self, m: Module, shift: Signal) -> None:
        """Turn the ring of all elements until the first one of the line is first, half of it a cycle."""
        spec = self.spec
        bits = spec.w_bits
        ring: list[Value] = [beat.word_select(i, bits) for beat in self.beat for i in range(spec.beat_bits // bits)]
        steps = len(shift)
        held = Signal.like(shift, name="shift_2")
        for step in reversed(range(steps)):
            if step == steps // 2 - 1 or (step == 0 and steps == 1):
                ring = self._register(m, ring, "turned")
                m.d.sync += held.eq(shift)
                shift = held
            n, moved = len(ring), 1 << step
            ring = [Mux(shift[step], ring[(i + moved) % n], ring[i]) for i in range(n)]
        if steps == 0:
            ring = self._register(m, ring, "turned")
        for lane, element in zip(self.line, ring, strict=False):
            # one bit: 1 stands for +1, binary 01, and 0 for -1, binary 11
            value = Cat(Const(1, 1), ~element) if bits == 1 else element
            m.d.sync += lane.eq(value.as_signed())

    def _register(self, m: Module, ring: list[Value], name: str) -> list[Value]:
        held = [Signal(self.spec.w_bits, name=f"{name}_{i}") for i in range(len(ring))]
        m.d.sync += [register.eq(element) for register, element in zip(held, ring, strict=True)]
        return list(held)
