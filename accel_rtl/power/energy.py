"""Energy of a netlist from its activity and a Liberty library.

- *switching*: 1/2 C V^2 for every change of a net, C the sum of the pins that it drives. Wires have no load before placement.
- *internal*: the library's internal power of every change, at the net's load and one input slew for all. An output's change is
  shared among the inputs that changed with it; tables that differ by a condition on other inputs are averaged. Power that an input
  takes by itself is counted where the output stayed.
- *clock*: the clock pins of flip-flops, two changes a cycle: their load, and their internal power by the register's state.
- *leakage*: ``cell_leakage_power``, the same in every state, times the clock period.

There is no clock tree, no SRAM macro, nothing at a block's outputs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from accel_rtl.power.activity import Activity
from accel_rtl.power.liberty import Library, LibraryCell, PowerArc
from accel_rtl.power.liberty_logic import tabulate
from accel_rtl.power.mapped import Functions, Int64, MappedNetlist

Float64 = npt.NDArray[np.float64]

SLEW_NS = 0.1
"""Input transition at which tables are read: the second point of the axis in SG13G2 (0.0966 ns), about that of a cell that drives
four others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Energy of one cycle, pJ, by where it goes.

    Parameters
    ----------
    switching_pj, internal_pj, clock_pj, leakage_pj : float
    """

    switching_pj: float
    internal_pj: float
    clock_pj: float
    leakage_pj: float

    @property
    def total_pj(self) -> float:
        """All of it."""
        return self.switching_pj + self.internal_pj + self.clock_pj + self.leakage_pj

    def __add__(self, other: Energy) -> Energy:
        return Energy(**{name: getattr(self, name) + getattr(other, name) for name in FIELDS})

    def scale(self, factor: float) -> Energy:
        """Return ``factor`` times as much."""
        return Energy(**{name: getattr(self, name) * factor for name in FIELDS})


FIELDS = tuple(field.name for field in fields(Energy))


def price_activity(
    netlist: MappedNetlist, library: Library, activity: Activity, *, period_ps: float, slew_ns: float = SLEW_NS, timed: bool = False
) -> Energy:  # fmt: skip
    """Return the mean energy of a cycle.

    Parameters
    ----------
    netlist : MappedNetlist
    library : Library
    activity : Activity
        At least one cycle.
    period_ps : float
        Of the clock: what leaks.
    slew_ns : float
        Transition time of every input.
    timed : bool
        Of the counts with glitches.
    """
    row = int(timed)
    load = list_loads(netlist, library)
    toggles, rises = activity.toggles[row], activity.rises[row]
    half = 0.5 * library.voltage_v**2
    switching = half * float((load * toggles).sum())
    internal = _price_cells(netlist.cells, library, activity, row, load, slew_ns)
    internal += _price_registers(netlist, library, toggles, rises, load, slew_ns)
    clock = _price_clock(netlist, library, activity, slew_ns)
    leakage = sum(library.cells[name].leakage_w * count for name, count in netlist.counts.items()) * period_ps
    scale = 1.0 / activity.cycles
    return Energy(
        switching_pj=switching * scale, internal_pj=internal * scale, clock_pj=clock * scale, leakage_pj=leakage
    )  # fmt: skip


def list_loads(netlist: MappedNetlist, library: Library) -> Float64:
    """Return the capacitance of the input pins on each net, pF, float64 ``[nets]``; clock pins are on none."""
    load = np.zeros(netlist.nets)
    for functions in (netlist.cells, netlist.registers):
        for i in np.flatnonzero(functions.primary):
            cell = library.cells[functions.names[i]]
            for term, net in zip(functions.terms[i], _list_nets(functions, i), strict=True):
                load[net] += cell.find_pin(term).capacitance_pf
    return load


def _list_nets(functions: Functions, i: int | np.integer[Any]) -> Int64:
    return functions.inputs[functions.first[i] : functions.first[i + 1]]


def _price_cells(
    cells: Functions, library: Library, activity: Activity, row: int, load: Float64, slew_ns: float
) -> float:  # fmt: skip
    """Return the internal energy of combinational cells."""
    total = 0.0
    toggles, rises, shares = activity.toggles[row], activity.rises[row], activity.shares[row]
    for i in np.flatnonzero(toggles[cells.out] > 0) if len(cells) else ():
        cell, out = library.cells[cells.names[i]], int(cells.out[i])
        arcs = _group_arcs(cell, cells.pins[i])
        up = int(rises[out])
        mine = shares[:, cells.first[i] : cells.first[i + 1]]
        energies = [_mean_energy(arcs.get(term, ()), slew_ns, float(load[out])) for term in cells.terms[i]]
        for way, count in enumerate((int(toggles[out]) - up, up)):
            weights = mine[way] if mine[way].any() else np.ones(len(energies), np.int64)
            each = [energy[1 - way] for energy in energies]  # of rise and fall
            total += count * float(np.dot(weights, each)) / int(weights.sum())
    for i in np.flatnonzero(cells.primary):
        cell = library.cells[cells.names[i]]
        for k, (term, net) in enumerate(zip(cells.terms[i], _list_nets(cells, i), strict=True)):
            power = cell.find_pin(term).power
            if power:
                alone = int(toggles[net]) - int(shares[:, cells.first[i] + k].sum())
                total += max(0, alone) * sum(_mean_energy(power, slew_ns, 0.0)) / 2
    return total


def _price_registers(
    netlist: MappedNetlist, library: Library, toggles: Int64, rises: Int64, load: Float64, slew_ns: float
) -> float:  # fmt: skip
    """Return the internal energy of registers but for their clock pins: outputs as the clock changes them, data pins."""
    total, registers = 0.0, netlist.registers
    for i in range(len(registers)):
        cell, out = library.cells[registers.names[i]], int(registers.out[i])
        if toggles[out]:
            rise, fall = _mean_energy(
                _group_arcs(cell, registers.pins[i]).get(find_clock(cell), ()), slew_ns, float(load[out])
            )
            total += int(rises[out]) * rise + int(toggles[out] - rises[out]) * fall
        if registers.primary[i]:
            for term, net in zip(registers.terms[i], _list_nets(registers, i), strict=True):
                power = cell.find_pin(term).power
                # when the input changes against the clock is not known: the table without condition, where there is one
                plain = tuple(arc for arc in power if not arc.when) or power
                total += int(toggles[net]) * sum(_mean_energy(plain, slew_ns, 0.0)) / 2
    return total


def _price_clock(netlist: MappedNetlist, library: Library, activity: Activity, slew_ns: float) -> float:
    """Return the energy of the registers' clock pins: their load and their internal power in the state that stood."""
    total, registers = 0.0, netlist.registers
    tables: dict[tuple[str, str, tuple[str, ...]], list[float]] = {}
    for i in np.flatnonzero(registers.primary):
        cell = library.cells[registers.names[i]]
        key = cell.name, registers.pins[i], registers.terms[i]
        if key not in tables:
            tables[key] = _list_clock_energies(cell, *key[1:], slew_ns)
        states = activity.states[activity.state_first[i] : activity.state_first[i + 1]]
        total += float(np.dot(states, tables[key]))
        total += activity.cycles * cell.find_pin(find_clock(cell)).capacitance_pf * library.voltage_v**2
    return total


def _list_clock_energies(cell: LibraryCell, out: str, terms: tuple[str, ...], slew_ns: float) -> list[float]:
    """Return the internal energy of a rise and a fall of the clock by state: inputs, then the output, the highest bit."""
    register = cell.register
    assert register is not None
    arcs = cell.find_pin(register.clock_pin).power
    names, flips = [*terms, out], register.inverts(cell.find_pin(out))
    others = [pin for pin in cell.outputs if pin.name != out]
    found = []
    for state in range(1 << len(names)):
        value = state >> len(terms) & 1
        known = {name: state >> k & 1 for k, name in enumerate(names)}
        for pin in others:
            known[pin.name] = value ^ int(register.inverts(pin) != flips)
        holds = [arc for arc in arcs if arc.when and _holds(arc.when, known)]
        chosen = holds[:1] or [arc for arc in arcs if not arc.when] or list(arcs)
        found.append(sum(_mean_energy(chosen, slew_ns, 0.0)))
    return found


def _holds(condition: str, known: Mapping[str, int]) -> bool:
    """Return whether a condition on pins is true; one on a pin that is not known is not."""
    names = tuple(sorted(set(re.findall(r"[A-Za-z_]\w*", condition))))
    if not set(names) <= set(known):
        return False
    row = sum(known[name] << k for k, name in enumerate(names))
    return bool(tabulate(condition, names) >> row & 1)


def find_clock(cell: LibraryCell) -> str:
    """Return the clock pin of a register."""
    assert cell.register is not None
    return cell.register.clock_pin


def _group_arcs(cell: LibraryCell, pin: str) -> dict[str, tuple[PowerArc, ...]]:
    """Return the power of an output by the input that causes it; without one, by any."""
    found: dict[str, tuple[PowerArc, ...]] = {}
    for arc in cell.find_pin(pin).power:
        for name in arc.related or tuple(one.name for one in cell.inputs):
            found[name] = (*found.get(name, ()), arc)
    return found


def _mean_energy(arcs: Sequence[PowerArc], slew_ns: float, load_pf: float) -> tuple[float, float]:
    """Return the energy of a rise and a fall: the mean over conditions; the table without one counts where there is no other."""
    chosen = [arc for arc in arcs if arc.when] or list(arcs)
    if not chosen:
        return 0.0, 0.0
    return (
        sum(arc.rise.evaluate(slew_ns, load_pf) for arc in chosen) / len(chosen),
        sum(arc.fall.evaluate(slew_ns, load_pf) for arc in chosen) / len(chosen),
    )
