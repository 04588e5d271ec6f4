"""The control of an accelerator: dispatch, three unit controls, semaphores and counters, wired."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out, connect, flipped

from accel_rtl.blocks.counters import COUNTERS, Counters
from accel_rtl.blocks.dispatch import Dispatch
from accel_rtl.blocks.semaphores import Semaphores
from accel_rtl.blocks.unit_control import UnitControl
from accel_rtl.instruction_word import check_table, describe_layout
from hwsim.core.errors import SpecError
from hwsim.core.program import EXEC, SPILLED

UNITS = ("load", "exec", "store")


def describe_unit(extra_bits: int = 0) -> wiring.Signature:
    """Return the ports between control and unit: instruction and ``extra`` (its descriptor) stand from ``taken`` to ``finish``."""
    members = {"instruction": Out(describe_layout()), "start": Out(1), "done": In(1), "taken": Out(1), "finish": Out(1)}
    return wiring.Signature(members | ({"extra": Out(extra_bits)} if extra_bits else {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequencer:
    """Runs Programs on three units, in the cycles of `hwsim.engine.kernel_shell`, which is its exact model.

    Ports
        ``begin`` in: pulse; a Program of ``length`` [32] words begins (ignored while ``busy``). ``fetch``: stream of its
        words; ``prefetched`` as in `Dispatch`. ``load``, ``exec``, ``store``: see `describe_unit`; ``start`` and ``done`` as in
        `UnitControl`.
        ``busy`` out: from the cycle behind ``begin`` to the one of ``finished``. ``running`` out: of these, from cycle 0 of the
        Program to its last. ``finished`` out: pulse in the cycle behind the last one. ``error`` out: a semaphore over- or
        underflowed, or a word is illegal. ``counts`` out: a struct of ``COUNTERS``, complete in the cycle behind ``finished``.
    Latency
        Between two Programs: the queues are primed anew (3 cycles and one for each word that they hold).
    Reset
        Idle, initial tokens, counters zero. Stall: see the parts.

    Parameters
    ----------
    issue_cycles, most_tail_cycles, least_work_cycles : int
        See `UnitControl`; the latter two are of the exec unit.
    dispatch : Dispatch
        The queues.
    counter_bits : int
        Width of the counters.
    """

    issue_cycles: int = 2
    most_tail_cycles: int = 0
    least_work_cycles: int = 0
    dispatch: Dispatch = field(default_factory=Dispatch)
    counter_bits: int = 48

    def check_table(self, table: npt.NDArray[np.void]) -> None:
        """Check that a Program runs here in the simulator's cycles.

        Raises
        ------
        SpecError
            A value beyond its field, a tail beyond ``most_tail_cycles``, or more spills than its semaphore counts.
        """
        check_table(table)
        tails = np.where(table["queue"] == EXEC, table["tail"], 0)
        wrong = np.flatnonzero(tails > self.most_tail_cycles)
        if len(wrong):
            raise SpecError(f"program[{wrong[0]}].tail", int(tails[wrong[0]]), f"at most {self.most_tail_cycles}")
        spills, most = int((table["signal"] >> SPILLED & 1).sum()), (1 << Semaphores().width_bits[SPILLED]) - 1
        if spills > most:
            raise SpecError("program", f"{spills} spills", f"at most {most}")

    def create(self) -> wiring.Component:
        """Return the component."""
        return SequencerComponent(self)


class SequencerComponent(wiring.Component):
    """See `Sequencer`."""

    def __init__(self, spec: Sequencer) -> None:
        self.spec = spec
        super().__init__(
            {
                "begin": In(1),
                "length": In(32),
                "fetch": In(stream.Signature(describe_layout())),
                "prefetched": In(1, init=1),
                **{name: Out(describe_unit(spec.dispatch.extra_bits(q))) for q, name in enumerate(UNITS)},
                "busy": Out(1),
                "running": Out(1),
                "finished": Out(1),
                "error": Out(1),
                "counts": Out(StructLayout(dict.fromkeys(COUNTERS, spec.counter_bits))),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        spec = self.spec
        m.submodules.dispatch = dispatch = spec.dispatch.create()
        m.submodules.semaphores = semaphores = Semaphores().create()
        m.submodules.counters = counters = Counters(width_bits=spec.counter_bits).create()
        controls = []
        for q, name in enumerate(UNITS):
            tail, work = (spec.most_tail_cycles, spec.least_work_cycles) if q == EXEC else (0, 0)
            control = UnitControl(
                issue_cycles=spec.issue_cycles, most_tail_cycles=tail, least_work_cycles=work
            ).create()
            m.submodules[f"control_{name}"] = control
            unit = getattr(self, name)
            connect(m, dispatch.o[q], control.i)
            m.d.comb += [
                control.available.eq(semaphores.available),
                control.enable.eq(self.busy & dispatch.released),  # in the cycle of `ends` no queue has a head
                control.done.eq(unit.done),
                unit.instruction.eq(control.i.payload),
                unit.start.eq(control.start),
                unit.taken.eq(control.taken),
                unit.finish.eq(control.finish),
            ]
            if spec.dispatch.extra_bits(q):
                m.d.comb += unit.extra.eq(getattr(dispatch, f"extra_{q}"))
            controls.append(control)
        connect(m, flipped(self.fetch), dispatch.i)
        begins, ends = Signal(), Signal()
        m.d.comb += [
            begins.eq(self.begin & ~self.busy),
            dispatch.clear.eq(begins),
            dispatch.length.eq(self.length),
            dispatch.prefetched.eq(self.prefetched),
            semaphores.clear.eq(begins),
            semaphores.take.eq(controls[0].take | controls[1].take | controls[2].take),
            semaphores.give.eq(controls[0].give | controls[1].give | controls[2].give),
            ends.eq(self.busy & dispatch.released & dispatch.complete & ~controls[EXEC].results),
            self.running.eq(self.busy & dispatch.released & ~ends),
            self.finished.eq(ends),
            self.error.eq(semaphores.error | dispatch.error),
        ]
        with m.If(begins):
            m.d.sync += self.busy.eq(1)
        with m.Elif(ends):
            m.d.sync += self.busy.eq(0)
        control = controls[EXEC]
        head = control.i.payload
        m.d.comb += [
            counters.clear.eq(begins),
            counters.running.eq(self.running),
            counters.finished.eq(ends),
            counters.has_head.eq(control.i.valid),
            counters.missing.eq(head.wait & ~semaphores.available),
            counters.fill.eq(head.fill),
            self.counts.eq(counters.counts),
        ]
        for name in ("waiting", "taken", "issuing", "working", "start", "results"):
            m.d.comb += getattr(counters, name).eq(getattr(control, name))
        return m
