"""A whole accelerator: fetch, queues, load, exec and store units, scratchpads, registers, behind AXI."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect

from accel_rtl.blocks.axi import AxiReadSignature, AxiWriteSignature
from accel_rtl.blocks.control_registers import (
    DATA_BITS,
    ControlRegisters,
    RegisterMap,
    describe_accelerator_map,
    describe_axi_lite,
)
from accel_rtl.blocks.counters import COUNTERS
from accel_rtl.blocks.dispatch import Dispatch
from accel_rtl.blocks.sequencer import UNITS, Sequencer
from accel_rtl.built import find_build, list_built_archs
from accel_rtl.instruction_word import WORD_BITS
from accel_rtl.machine import ADDRESS_BITS, VECTOR_PORTS, EngineSpec, Machine
from accel_rtl.program_image import STORE_WORDS
from accel_rtl.shell.fetch import Fetch
from accel_rtl.shell.load import LoadUnit
from accel_rtl.shell.obuf import Obuf
from accel_rtl.shell.store import StoreUnit
from accel_rtl.shell.vector import LATENCY_CYCLES as VECTOR_TAIL_CYCLES
from accel_rtl.shell.vector import VectorUnit
from accel_rtl.shell.vector_descriptor import TILE_LAYOUT
from hwsim.core.arch import Arch
from hwsim.core.errors import HwsimError

TRACED = ("taken", "start", "finish", "done")
"""Pulses of the units' control that the top shows, as ``trace_*``: bit 0 load, 1 exec, 2 store."""


def find_engine(arch: Arch) -> EngineSpec:
    """Return the exec engine of an accelerator.

    Raises
    ------
    HwsimError
        No RTL for this architecture; SpecError: not for one of its fields.
    """
    module = find_build(arch.name)
    if not module:
        raise HwsimError(
            f"architecture {arch.name} has no RTL, it is simulated only; those that have: {', '.join(list_built_archs())}"
        )
    spec: EngineSpec = importlib.import_module(module).build_engine(arch)
    return spec


def create_accelerator(arch: Arch, checked: bool = False) -> AcceleratorComponent:
    """Return an accelerator as a component; ports: `AcceleratorComponent`.

    Parameters
    ----------
    arch : Arch
    checked : bool
        With assertions for simulation: units keep to banks of their own, no word is read and written in one cycle.

    Raises
    ------
    HwsimError
        No RTL for this architecture; SpecError: not for one of its fields.
    """
    return AcceleratorComponent(Accelerator(engine=find_engine(arch), checked=checked))


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """What an accelerator is made of.

    Parameters
    ----------
    engine : EngineSpec
    checked : bool
        See `create_accelerator`.
    """

    engine: EngineSpec
    checked: bool = False

    @property
    def machine(self) -> Machine:
        """Sizes."""
        return self.engine.machine

    @property
    def fetch(self) -> Fetch:
        """Reader of programs."""
        return Fetch()

    @property
    def store(self) -> StoreUnit:
        """Store unit."""
        return StoreUnit(machine=self.machine, checked=self.checked)

    @property
    def vector(self) -> VectorUnit:
        """Vector unit."""
        return VectorUnit(self.machine, self.engine.tile_words)

    @cached_property
    def sequencer(self) -> Sequencer:
        """Queues, tokens, control of the units, counters."""
        words = self.engine.tile_words
        tile_bits = max(getattr(self.engine, "tile_bits", words * WORD_BITS), (words - 1) * WORD_BITS + 1)
        dispatch = Dispatch(
            descriptor_words=(0, words, STORE_WORDS),
            descriptor_bits=(0, max(tile_bits, TILE_LAYOUT.size), self.store.layout.size),
            used_only=True,
        )
        return Sequencer(
            issue_cycles=self.machine.issue_cycles,
            most_tail_cycles=max(self.engine.most_tail_cycles, VECTOR_TAIL_CYCLES),
            dispatch=dispatch,
        )

    @property
    def register_map(self) -> RegisterMap:
        """Control and status registers."""
        return describe_accelerator_map()


class AcceleratorComponent(wiring.Component):
    """The top of a generated accelerator, besides ``clk`` and ``rst`` (synchronous, active high).

    ==================  ==================================================================================================
    ports               meaning
    ==================  ==================================================================================================
    ``s_axi_ctrl_*``    AXI4-Lite slave of 32 bits: `register_map`
    ``m_axi_mem_*``     AXI4 master, a beat of the memory port wide: tensors, weights, partial sums. AxUSER: beats of a transfer on
                        its first burst, else 0
    ``m_axi_prog_*``    AXI4 master, read only, 512 bits: program images
    ``trace_running``   out: from cycle 0 of a program to its last
    ``trace_*`` [3]     out: ``taken``, ``start``, ``finish``, ``done`` of the load (bit 0), exec (1), store unit (2)
    ==================  ==================================================================================================

    A write of 1 to ``start`` while it is not busy reads and runs the program image at ``program_address``; ``status`` says when
    it is through. Reset: idle; scratchpads and parameters are not cleared.
    """

    def __init__(self, spec: Accelerator) -> None:
        self.spec = spec
        self.register_map = spec.register_map
        beat = spec.machine.beat_bits
        count = LoadUnit(machine=spec.machine).dma.walker.beat_count_bits
        self._read, self._write = (kind(ADDRESS_BITS, beat, count) for kind in (AxiReadSignature, AxiWriteSignature))
        self._program = AxiReadSignature(ADDRESS_BITS, WORD_BITS, 1)
        lite = describe_axi_lite(self.register_map.address_bits)
        members = {f"s_axi_ctrl_{name}": member.flip() for name, member in lite.members.items()}
        members |= {f"m_axi_mem_{name}": member for name, member in self._write.members.items()}
        members |= {f"m_axi_mem_{name}": member for name, member in self._read.members.items()}
        members |= {f"m_axi_prog_{name}": m for name, m in self._program.members.items() if name != "aruser"}
        members |= {"trace_running": Out(1), **{f"trace_{name}": Out(len(UNITS)) for name in TRACED}}
        super().__init__(members)

    def elaborate(self, platform: object) -> Elaboratable:
        m, spec = Module(), self.spec
        m.submodules.registers = registers = ControlRegisters(map=self.register_map).create()
        m.submodules.fetch = fetch = spec.fetch.create()
        m.submodules.sequencer = sequencer = spec.sequencer.create()
        m.submodules.load = load = LoadUnit(machine=spec.machine).create()
        m.submodules.store = store = spec.store.create()
        collision_free = bool(getattr(spec.engine, "collision_free", False))
        m.submodules.obuf = obuf = Obuf(
            machine=spec.machine, collision_free=collision_free, checked=spec.checked
        ).create()
        engine = self._join_exec(m, sequencer.exec, fetch.header, obuf)
        self._join_control(m, registers, fetch, sequencer, load.fault | store.fault)
        self._join_load(m, sequencer.load, load, engine, obuf)
        self._join_store(m, sequencer.store, store, fetch, obuf)
        _join_ports(m, self, "s_axi_ctrl_", registers.s_axi)
        _join_ports(m, self, "m_axi_prog_", fetch.axi)
        _join_ports(m, self, "m_axi_mem_", load.axi)
        _join_ports(m, self, "m_axi_mem_", store.axi)
        m.d.comb += self.trace_running.eq(sequencer.running)
        for name in TRACED:
            m.d.comb += getattr(self, f"trace_{name}").eq(Cat(getattr(getattr(sequencer, u), name) for u in UNITS))
        return m

    def _join_control(self, m: Module, registers: Any, fetch: Any, sequencer: Any, fault: Any) -> None:
        begins, done, error = Signal(), Signal(), Signal()
        m.d.comb += [
            begins.eq(registers.start & ~sequencer.busy),
            fetch.start.eq(begins),
            fetch.address.eq(Cat(registers.program_address_low, registers.program_address_high)),
            fetch.parameter_words.eq(registers.parameter_words),
            fetch.program_words.eq(registers.program_words),
            sequencer.begin.eq(begins),
            sequencer.length.eq(registers.program_words),
            sequencer.prefetched.eq(fetch.prefetched),
            registers.busy.eq(sequencer.busy),
            registers.done.eq(done),
            registers.error.eq(error),
        ]
        connect(m, fetch.o, sequencer.fetch)
        with m.If(begins):
            m.d.sync += [done.eq(0), error.eq(0)]
        with m.Else():
            m.d.sync += [done.eq(done | sequencer.finished), error.eq(error | sequencer.error | fault | fetch.fault)]
        for name in COUNTERS:
            counter = sequencer.counts[name]
            m.d.comb += getattr(registers, f"cycles_{name}_low").eq(counter[:DATA_BITS])
            m.d.comb += getattr(registers, f"cycles_{name}_high").eq(counter[DATA_BITS:])

    def _join_exec(self, m: Module, unit: Any, header: Any, obuf: Any) -> Any:
        """Build the engine and the vector unit side by side; the header says which of them a layer runs on."""
        spec, columns = self.spec, range(self.spec.machine.columns)
        described = spec.engine
        if spec.checked and hasattr(described, "checked"):
            described = replace(described, checked=True)  # type: ignore[type-var]
        m.submodules.engine = engine = described.create()
        m.submodules.vector = vector = spec.vector.create()
        which = header.is_vector
        ports: Any = engine
        m.d.comb += [
            ports.start.eq(unit.start & ~which),
            vector.start.eq(unit.start & which),
            ports.tile.eq(unit.extra),
            vector.tile.eq(unit.extra),
            vector.header.eq(header),
            unit.done.eq(Mux(which, vector.done, ports.done)),
            ports.v_bank.eq(vector.v_bank),
        ]
        for i in range(VECTOR_PORTS):
            m.d.comb += [
                ports.v_enable[i].eq(vector.v_enable[i]),
                ports.v_address[i].eq(vector.v_address[i]),
                vector.v_beat[i].eq(ports.v_beat[i]),
            ]
        for name in ("o_write_enable", "o_write_bank", "o_write_address", "o_write_data"):
            for j in columns:
                ours, others = getattr(ports, name)[j], getattr(vector, name)[j]
                m.d.comb += getattr(obuf, name)[j].eq(Mux(which, others, ours))
        for name in ("o_read_enable", "o_read_bank", "o_read_address"):
            m.d.comb += [getattr(obuf, name)[j].eq(getattr(ports, name)[j]) for j in columns]
        m.d.comb += [ports.o_read_data[j].eq(obuf.o_read_data[j]) for j in columns]
        return engine

    def _join_load(self, m: Module, unit: Any, load: Any, engine: Any, obuf: Any) -> None:
        m.d.comb += [
            load.instruction.eq(unit.instruction),
            load.taken.eq(unit.taken),
            load.start.eq(unit.start),
            unit.done.eq(load.done),
            obuf.p_bank.eq(load.p_bank),
            obuf.p_word.eq(load.p_word),
        ]
        for name in ("p_enable", "p_data"):
            m.d.comb += [getattr(obuf, name)[j].eq(getattr(load, name)[j]) for j in range(self.spec.machine.columns)]
        for buffer in "wi":
            for name in ("valid", "bank", "offset", "data"):
                port = f"{buffer}_write_{name}"
                m.d.comb += getattr(engine, port).eq(getattr(load, port))

    def _join_store(self, m: Module, unit: Any, store: Any, fetch: Any, obuf: Any) -> None:
        m.d.comb += [
            store.instruction.eq(unit.instruction),
            store.extra.eq(unit.extra),
            store.start.eq(unit.start),
            unit.done.eq(store.done),
            obuf.d_enable.eq(store.d_enable),
            obuf.d_bank.eq(store.d_bank),
            obuf.d_word.eq(store.d_word),
            *(getattr(store, name).eq(fetch.header[name]) for name in ("out_zero", "out_low", "out_high")),
            *(getattr(store, name).eq(getattr(fetch, name)) for name in ("write_valid", "write_address", "write_data")),
            *(store.d_data[j].eq(obuf.d_data[j]) for j in range(self.spec.machine.columns)),
        ]


def _join_ports(m: Module, top: wiring.Component, prefix: str, interface: Any) -> None:
    """Connect an interface to the top's ports of its names; a port that the top has not is left alone."""
    for name, member in interface.signature.members.items():
        port, signal = getattr(top, f"{prefix}{name}", None), getattr(interface, name)
        if port is None:
            continue
        m.d.comb += port.eq(signal) if member.flow == Out else signal.eq(port)
