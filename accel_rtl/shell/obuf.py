"""Accumulators: a memory for each column and bank, shared by the exec, load and store units."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from amaranth.hdl import Assert, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.blocks.scratchpad import BANKS, NO_COLLISION
from accel_rtl.machine import Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class ObufInput:
    """Accesses of one cycle: column to (bank, word) or (bank, word, value); a row's (bank, word); a masked (bank, word, values)."""

    reads: dict[int, tuple[int, int]]
    writes: dict[int, tuple[int, int, int]]
    row: tuple[int, int] | None = None
    fill: tuple[int, int, dict[int, int]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Obuf:
    """The output buffer.

    Ports
        ``o_read_enable``, ``o_read_bank``, ``o_read_address`` [columns] in, ``o_read_data`` out; ``o_write_enable``,
        ``o_write_bank``, ``o_write_address``, ``o_write_data`` [columns] in: of the exec unit. ``d_enable``, ``d_bank``, ``d_word``
        in, ``d_data`` [columns] out: the store unit reads a word of all columns. ``p_enable`` [columns], ``p_bank``, ``p_word``,
        ``p_data`` [columns] in: the load unit writes some columns of a word.
    Latency
        Data stand from the cycle behind their read to the next read of the same bank. Throughput: every port in every cycle.
    Reset
        Banks are not cleared; data are 0 until the first read.
    Stall
        None. Tokens keep units to banks of their own: of one bank the exec and the store unit never read, the exec and the load
        unit never write in the same cycle. No word is read and written in one cycle, but by an engine that says so.

    Parameters
    ----------
    machine : Machine
        Columns, words of a bank, width.
    collision_free : bool
        The engine never reads an accumulator in the cycle in which it writes it.
    checked : bool
        Assert in simulation that units keep to banks of their own, and ``collision_free``.
    """

    machine: Machine
    collision_free: bool = True
    checked: bool = False

    def compute(self, cycles: Iterable[ObufInput]) -> list[tuple[dict[int, int], list[int] | None]]:
        """Return what was read in the cycle before: column to accumulator, and the row."""
        held: dict[tuple[int, int, int], int] = {}
        trace: list[tuple[dict[int, int], list[int] | None]] = []
        shown: tuple[dict[int, int], list[int] | None] = ({}, None)
        for now in cycles:
            trace.append(shown)
            columns = range(self.machine.columns)
            row = [held.get((column, *now.row), 0) for column in columns] if now.row else None
            shown = {column: held.get((column, *place), 0) for column, place in now.reads.items()}, row
            for column, (bank, word, value) in now.writes.items():
                held[column, bank, word] = value
            if now.fill:
                bank, word, values = now.fill
                held |= {(column, bank, word): value for column, value in values.items()}
        return trace

    def create(self) -> wiring.Component:
        """Return the component."""
        return ObufComponent(self)


class ObufComponent(wiring.Component):
    """See `Obuf`."""

    def __init__(self, spec: Obuf) -> None:
        self.spec = spec
        machine = spec.machine
        columns, place, value = machine.columns, machine.word_bits, signed(machine.psum_bits)
        super().__init__(
            {
                "o_read_enable": In(1).array(columns), "o_read_bank": In(1).array(columns),
                "o_read_address": In(place).array(columns), "o_read_data": Out(value).array(columns),
                "o_write_enable": In(1).array(columns), "o_write_bank": In(1).array(columns),
                "o_write_address": In(place).array(columns), "o_write_data": In(value).array(columns),
                "d_enable": In(1), "d_bank": In(1), "d_word": In(place), "d_data": Out(value).array(columns),
                "p_enable": In(1).array(columns), "p_bank": In(1), "p_word": In(place),
                "p_data": In(value).array(columns),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        drained = Signal()
        with m.If(self.d_enable):
            m.d.sync += drained.eq(self.d_bank)
        for column in range(self.spec.machine.columns):
            read = Signal(name=f"read_bank_{column}")
            with m.If(self.o_read_enable[column]):
                m.d.sync += read.eq(self.o_read_bank[column])
            found = [self._bank(m, column, bank) for bank in range(BANKS)]
            m.d.comb += [
                self.o_read_data[column].eq(Mux(read, found[1], found[0])),
                self.d_data[column].eq(Mux(drained, found[1], found[0])),
            ]
        return m

    def _bank(self, m: Module, column: int, bank: int) -> Value:
        """Build the memory of a column's bank; return what was read."""
        machine = self.spec.machine
        attrs: dict[str, int | str] = {"ram_style": "block"}
        if self.spec.collision_free:
            attrs[NO_COLLISION] = 1
        words = memory.Memory(shape=signed(machine.psum_bits), depth=machine.obuf_words, init=[], attrs=attrs)
        m.submodules[f"column_{column}_bank_{bank}"] = words
        read, write = words.read_port(), words.write_port()
        names = ("exec_reads", "exec_writes", "drains", "fills")
        exec_reads, exec_writes, drains, fills = (Signal(name=f"{name}_{column}_{bank}") for name in names)
        m.d.comb += [
            exec_reads.eq(self.o_read_enable[column] & (self.o_read_bank[column] == bank)),
            exec_writes.eq(self.o_write_enable[column] & (self.o_write_bank[column] == bank)),
            drains.eq(self.d_enable & (self.d_bank == bank)),
            fills.eq(self.p_enable[column] & (self.p_bank == bank)),
            read.en.eq(exec_reads | drains),
            read.addr.eq(Mux(drains, self.d_word, self.o_read_address[column])),
            write.en.eq(exec_writes | fills),
            write.addr.eq(Mux(fills, self.p_word, self.o_write_address[column])),
            write.data.eq(Mux(fills, self.p_data[column], self.o_write_data[column])),
        ]
        if self.spec.checked:
            collides = read.en & write.en & (read.addr == write.addr) if self.spec.collision_free else 0
            m.d.sync += Assert(~(collides | (exec_reads & drains) | (exec_writes & fills)), "two units use one bank")
        return read.data
