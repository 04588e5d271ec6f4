"""A netlist of standard cells as arrays: what `accel_rtl.power.kernel_netlist` simulates and `accel_rtl.power.energy` prices.

Nets are numbered from 0, the constants 0 and 1 first. Cells with several outputs are one entry an output. Registers are
flip-flops of one clock, rising edge; their asynchronous inputs have to be tied off. Memories that are SRAM macros stand apart.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from accel_rtl.cache import locate_cache
from accel_rtl.emit import Rtlil
from accel_rtl.netlist import NETLIST, Synthesis, synthesize_design
from accel_rtl.power.liberty import Library, LibraryCell, list_terms, read_library
from accel_rtl.power.liberty_logic import tabulate
from accel_rtl.synth import MACRO
from hwsim.core.errors import HwsimError, SpecError

Int64 = npt.NDArray[np.int64]
Uint64 = npt.NDArray[np.uint64]
ZERO, ONE = 0, 1
"""Nets of the constants."""
CLOCK = "clk"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Functions:
    """Outputs of cells, or next states of registers: truth tables over nets.

    Parameters
    ----------
    names, pins : tuple of str
        Cell type of the library and output pin of each.
    terms : tuple of tuple of str
        Pins that each reads, in the order of ``inputs``.
    out : ndarray int64 [F]
        Nets that they drive.
    first : ndarray int64 [F + 1]
        Where the inputs of each begin in ``inputs``.
    inputs : ndarray int64 [I]
        Nets.
    truth : ndarray uint64 [F]
        Bit i: the value where input k is bit k of i.
    primary : ndarray bool [F]
        Whether it is the first entry of its cell, so that every input pin counts once.
    """

    names: tuple[str, ...]
    pins: tuple[str, ...]
    terms: tuple[tuple[str, ...], ...]
    out: Int64
    first: Int64
    inputs: Int64
    truth: Uint64
    primary: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Macro:
    """An SRAM macro with synchronous ports.

    Parameters
    ----------
    name : str
    width, words : int
    reads : tuple of (tuple of int, int, tuple of int)
        Of each read port: nets of address, enable, data.
    writes : tuple of (tuple of int, tuple of int, tuple of int)
        Of each write port: nets of address, enable by bit, data.
    """

    name: str
    width: int
    words: int
    reads: tuple[tuple[tuple[int, ...], int, tuple[int, ...]], ...]
    writes: tuple[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MappedNetlist:
    """A netlist.

    Parameters
    ----------
    nets : int
        The constants included.
    inputs, outputs : mapping
        Nets of each port, bit 0 first; the clock is not among them.
    cells : Functions
        Combinational, each behind those that it reads.
    registers : Functions
        Their outputs, and what these are after the next clock. A register with two outputs is two entries.
    macros : tuple of Macro
    counts : mapping
        Cells by type, all of them.
    """

    nets: int
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    cells: Functions
    registers: Functions
    macros: tuple[Macro, ...]
    counts: Mapping[str, int]


def map_to_cells(source: Rtlil, liberty: Path) -> tuple[Synthesis, MappedNetlist, Library]:
    """Return a design's cost in standard cells, its netlist and the library.

    Raises
    ------
    SpecError
        A netlist that cannot be simulated: see `read_netlist`.
    InputError
        No library, or one without power tables.
    HwsimError
        Yosys failed.
    """
    library = read_library(liberty)
    found = synthesize_design(source, "asic", liberty=liberty)
    text = gzip.decompress((locate_cache() / found.total.digest / NETLIST).read_bytes())
    return found, read_netlist(json.loads(text), library, source.name), library


def read_netlist(design: Mapping[str, Any], library: Library, top: str = "top") -> MappedNetlist:
    """Return a netlist from what Yosys' ``write_json`` gives.

    Raises
    ------
    SpecError
        A cell that the library has not or that has no function, a latch, a second clock, a register that is set or cleared at once,
        a loop of cells.
    """
    return _Reader(design["modules"][top], library).read()


class _Reader:
    """Numbers nets and sorts cells of one module."""

    def __init__(self, module: Mapping[str, Any], library: Library) -> None:
        self.module, self.library = module, library
        self.numbers: dict[Any, int] = {"0": ZERO, "x": ZERO, "z": ZERO, "1": ONE}
        self.macros: list[Macro] = []

    def number(self, bits: Sequence[Any]) -> tuple[int, ...]:
        return tuple(self.numbers.setdefault(bit, len(self.numbers) - 2) for bit in bits)

    def read(self) -> MappedNetlist:
        ports = {
            way: {
                name: self.number(port["bits"])
                for name, port in self.module["ports"].items()
                if port["direction"] == f"{way}put"
            }
            for way in ("in", "out")
        }
        clock = ports["in"].pop(CLOCK, ())
        cells: list[_Entry] = []
        registers: list[_Entry] = []
        counts: dict[str, int] = {}
        for name, cell in self.module["cells"].items():
            kind = cell["type"].removeprefix("\\")
            if kind == "$scopeinfo":
                continue
            if kind == MACRO:
                self.macros.append(self.read_macro(name, cell))
                continue
            counts[kind] = counts.get(kind, 0) + 1
            known = self.find_cell(kind)
            pins = {pin: self.number(bits)[0] for pin, bits in cell["connections"].items()}
            if known.register is not None:
                registers += self.read_register(known, pins, clock)
            else:
                cells += self.read_function(known, pins)
        cells = _sort(cells, len(self.numbers) - 2)
        return MappedNetlist(
            nets=len(self.numbers) - 2, inputs=ports["in"], outputs=ports["out"], cells=_pack(cells), registers=_pack(registers),
            macros=tuple(self.macros), counts=counts,
        )  # fmt: skip

    def find_cell(self, kind: str) -> LibraryCell:
        if kind not in self.library.cells:
            raise SpecError("netlist.cell", kind, f"a cell of {self.library.name}")
        cell = self.library.cells[kind]
        if cell.latch or any(pin.tristate for pin in cell.pins):
            raise SpecError("netlist.cell", kind, "a gate or a flip-flop: no latch and no tristate driver")
        return cell

    def read_function(self, cell: LibraryCell, pins: Mapping[str, int]) -> list[_Entry]:
        terms = tuple(name for name in list_terms(cell) if name in pins)
        nets, used = tuple(pins[term] for term in terms), [pin for pin in cell.outputs if pin.name in pins]
        return [
            _Entry(
                cell.name, pin.name, terms, pins[pin.name], nets, _tabulate(cell, pin.function, terms), pin is used[0]
            )
            for pin in used
        ]

    def read_register(self, cell: LibraryCell, pins: Mapping[str, int], clock: tuple[int, ...]) -> list[_Entry]:
        register = cell.register
        assert register is not None
        if (pins.get(register.clock_pin),) != clock:
            raise SpecError("netlist.cell", cell.name, f"a flip-flop at the rising edge of {CLOCK}")
        terms = tuple(name for name in list_terms(cell) if name in pins)
        nets = tuple(pins[term] for term in terms)
        row = sum((net == ONE) << k for k, net in enumerate(nets))
        for what in (register.clear, register.preset):
            if what and (_tabulate(cell, what, terms) >> row & 1 or _depends(what, terms, nets)):
                raise SpecError("netlist.cell", cell.name, f"a flip-flop whose {what} is tied off")
        found: list[_Entry] = []
        for pin in cell.outputs:
            if pin.name not in pins:
                continue
            if pin.plain_function not in (register.state, register.inverse):
                raise SpecError("netlist.cell", cell.name, "a flip-flop whose outputs are its state")
            truth = _tabulate(cell, register.next_state, terms)
            if register.inverts(pin):
                truth ^= (1 << (1 << len(terms))) - 1
            found.append(_Entry(cell.name, pin.name, terms, pins[pin.name], nets, truth, not found))
        return found

    def read_macro(self, name: str, cell: Mapping[str, Any]) -> Macro:
        names = ("WIDTH", "ABITS", "SIZE", "RD_PORTS", "WR_PORTS", "RD_CLK_ENABLE")
        size = {key: _read_parameter(cell["parameters"][key]) for key in names}
        width, address = size["WIDTH"], size["ABITS"]
        nets = {pin: self.number(bits) for pin, bits in cell["connections"].items()}
        if size["RD_CLK_ENABLE"] != (1 << size["RD_PORTS"]) - 1:
            raise SpecError("netlist.memory", name, "a macro with synchronous reads")

        def cut(pin: str, port: int, bits: int) -> tuple[int, ...]:
            return nets[pin][port * bits : (port + 1) * bits]

        return Macro(
            name=name, width=width, words=size["SIZE"],
            reads=tuple((cut("RD_ADDR", k, address), nets["RD_EN"][k], cut("RD_DATA", k, width)) for k in range(size["RD_PORTS"])),
            writes=tuple(
                (cut("WR_ADDR", k, address), cut("WR_EN", k, width), cut("WR_DATA", k, width)) for k in range(size["WR_PORTS"])
            ),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Entry:
    """One function before it is packed."""

    name: str
    pin: str
    terms: tuple[str, ...]
    out: int
    inputs: tuple[int, ...]
    truth: int
    first: bool = True


def _read_parameter(value: Any) -> int:
    return int(value, 2) if isinstance(value, str) else int(value)


def _tabulate(cell: LibraryCell, expression: str, terms: tuple[str, ...]) -> int:
    if not expression:
        raise SpecError("netlist.cell", cell.name, "a cell with a function")
    try:
        return tabulate(expression, terms)
    except ValueError as error:
        raise SpecError("netlist.cell", cell.name, f"a cell with a function of its pins: {error}") from None


def _depends(expression: str, terms: tuple[str, ...], nets: tuple[int, ...]) -> bool:
    """Return whether nets that are no constants change a truth table."""
    table = tabulate(expression, terms)
    for k, net in enumerate(nets):
        if net in (ZERO, ONE):
            continue
        if any((table >> row & 1) != (table >> (row ^ 1 << k) & 1) for row in range(1 << len(terms))):
            return True
    return False


def _sort(cells: list[_Entry], nets: int) -> list[_Entry]:
    """Return the cells, each behind those that drive its inputs."""
    driver = {cell.out: i for i, cell in enumerate(cells)}
    waits = [sum(net in driver for net in set(cell.inputs)) for cell in cells]
    readers: dict[int, list[int]] = {}
    for i, cell in enumerate(cells):
        for net in set(cell.inputs):
            readers.setdefault(net, []).append(i)
    ready = [i for i, count in enumerate(waits) if not count]
    for i in ready:  # grows while it is walked
        for reader in readers.get(cells[i].out, ()):
            waits[reader] -= 1
            if not waits[reader]:
                ready.append(reader)
    if len(ready) != len(cells):
        raise SpecError("netlist", f"{len(cells) - len(ready)} cells in a loop", "cells without a combinational loop")
    if len(driver) != len(cells):
        raise HwsimError("netlist: a net with two drivers")
    return [cells[i] for i in ready]


def _pack(entries: list[_Entry]) -> Functions:
    sizes = [len(entry.inputs) for entry in entries]
    return Functions(
        names=tuple(entry.name for entry in entries), pins=tuple(entry.pin for entry in entries),
        terms=tuple(entry.terms for entry in entries), out=np.array([entry.out for entry in entries], np.int64),
        first=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        inputs=np.array([net for entry in entries for net in entry.inputs], np.int64),
        truth=np.array([entry.truth for entry in entries], np.uint64),
        primary=np.array([entry.first for entry in entries], bool),
    )  # fmt: skip
