"""Two-entry skid buffer: cuts the path of ``ready`` between two blocks without losing a cycle."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hwsim.core.check import require_int


@dataclass(frozen=True, slots=True, kw_only=True)
class SkidBuffer:
    """Two registers in a stream.

    Ports: ``i``, ``o``: streams of ``width_bits``. Latency 1 cycle, throughput one item a cycle. ``i.ready`` and ``o.valid``
    are functions of registers. Reset: empty, ``i.ready`` high, ``o.valid`` low. Stall: ``o`` is held until it is accepted;
    of a stalled stream one more item is accepted than the output holds.

    Parameters
    ----------
    width_bits : int
        Of the payload.
    """

    width_bits: int

    def __post_init__(self) -> None:
        require_int("skid.width_bits", self.width_bits, 1)

    def compute(self, cycles: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        """Return (``i.ready``, ``o.valid``, ``o.payload``) of each cycle, given (``i.valid``, ``i.payload``, ``o.ready``).

        The payload is that of the last item where ``o.valid`` is low.
        """
        held: list[int] = []
        last = 0
        trace = []
        for valid, payload, ready in cycles:
            last = held[0] if held else last
            i_ready, o_valid = int(len(held) < 2), int(bool(held))
            trace.append((i_ready, o_valid, last))
            if o_valid and ready:
                held.pop(0)
            if valid and i_ready:
                held.append(payload)
        return trace

    def create(self) -> wiring.Component:
        """Return the component."""
        return SkidBufferComponent(self)


class SkidBufferComponent(wiring.Component):
    """See `SkidBuffer`."""

    def __init__(self, spec: SkidBuffer) -> None:
        self.spec = spec
        super().__init__(
            {"i": In(stream.Signature(spec.width_bits)), "o": Out(stream.Signature(spec.width_bits)), "full": Out(1)}
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        spare = Signal(self.spec.width_bits)
        free = Signal()
        m.d.comb += [self.i.ready.eq(~self.full), free.eq(~self.o.valid | self.o.ready)]
        with m.If(free):
            m.d.sync += [
                self.o.valid.eq(self.full | self.i.valid),
                self.full.eq(0),
            ]
            with m.If(self.full):
                m.d.sync += self.o.payload.eq(spare)
            with m.Elif(self.i.valid):
                m.d.sync += self.o.payload.eq(self.i.payload)
        with m.Elif(self.i.valid & self.i.ready):
            m.d.sync += [self.full.eq(1), spare.eq(self.i.payload)]
        return m
