"""From counts to energy, term by term.

Every term is rounded to a multiple of ``QUANTUM_PJ``. Such numbers add without error in binary floating point up to 2**53
quanta (2.2 J), so the terms of a layer, its components and a network's layers sum to the same total in whatever order or
grouping.

Not modelled: leakage and clock tree of the logic, wires between buffers and engine, control.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from energy_models.dram import DramEnergy, flat_dram
from energy_models.ops import RULES, price_op
from energy_models.sram import SramCost, sram_cost
from energy_models.table import EnergyTable
from hwsim.core.actions import Action, EnergyTerm
from hwsim.core.check import require_int, require_positive
from hwsim.core.errors import SpecError

QUANTUM_PJ = 2.0**-12
DEFAULT_OPS = {
    "mac": "mac",
    "booth": "booth_digit",
    "rebuild": "shift_add",
    "vector": "vector",
    "requant": "requant",
    "pool": "compare",
}
"""Operator of a component's verb ``op``."""
REGISTER_COMPONENTS = {"rf": "rf", "register": "register", "noc": "noc"}
"""Storage that is priced per bit by an operator of the table."""
PJ_PER_MW_S = 1e9
NOT_MODELLED = "energy: leakage and clock tree of the logic, wires and control are not modelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferSpec:
    """A scratchpad.

    Parameters
    ----------
    capacity_bits : int
        All banks together.
    width_bits : int
        Bits of one access.
    banks : int
        Macros that share the capacity; an access reaches one, all of them leak.
    copies : int
        Copies of it all, read on their own and written together.
    ports : str
        ``1rw`` or ``1r1w``.
    """

    capacity_bits: int
    width_bits: int
    banks: int = 1
    copies: int = 1
    ports: str = "1rw"

    def __post_init__(self) -> None:
        require_int("buffer.capacity_bits", self.capacity_bits, 1)
        require_int("buffer.width_bits", self.width_bits, 1, 1 << 20)
        require_int("buffer.banks", self.banks, 1, 1 << 24)
        require_int("buffer.copies", self.copies, 1, 1 << 16)

    @property
    def macros(self) -> int:
        """Memories that it is built of."""
        return self.banks * self.copies


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedActions:
    """Energy of a layer.

    Parameters
    ----------
    terms : tuple of EnergyTerm
        In the order of the actions, then leakage, then static DRAM power; each with source and note.
    unknowns : tuple of str
        What has no price and is missing from the total.
    notes : tuple of str
        What is not modelled.
    """

    terms: tuple[EnergyTerm, ...]
    unknowns: tuple[str, ...] = ()
    notes: tuple[str, ...] = (NOT_MODELLED,)

    @property
    def energy_pj(self) -> float:
        """Sum of all terms, exact."""
        return math.fsum(term.energy_pj for term in self.terms)

    @property
    def energy_pj_by(self) -> tuple[tuple[str, float], ...]:
        """Energy by component, in order of appearance; sums to ``energy_pj`` exactly."""
        found: dict[str, float] = {}
        for term in self.terms:
            found[term.component] = found.get(term.component, 0.0) + term.energy_pj
        return tuple(found.items())


def price_actions(
    actions: Iterable[Action],
    table: EnergyTable,
    buffers: Mapping[str, BufferSpec],
    dram: DramEnergy | None,
    cycles: int,
    clock_hz: float,
    device: str | None = None,
) -> PricedActions:
    """Return the energy of what happened.

    Parameters
    ----------
    actions : iterable of Action
        Counts; ``read`` and ``write`` of storage in bits, operations by name or by ``op`` (see ``DEFAULT_OPS``).
    table : EnergyTable
        Unit energies; its node is the buffers' node.
    buffers : mapping of str to BufferSpec
        Scratchpads by component; each leaks, used or not.
    dram : DramEnergy or None
        Off-chip memory; None for the table's flat figure.
    cycles : int
        Length of the run.
    clock_hz : float
        Clock.
    device : str or None
        CACTI device type, ``table.device`` by default.

    Raises
    ------
    UnknownName, SpecError
        An action that names no storage and no operator, or that the table cannot price.
    """
    require_int("cycles", cycles, 0)
    require_positive("clock_hz", clock_hz)
    memory = dram or flat_dram(table)
    macros = {name: price_buffer(spec, table, device) for name, spec in buffers.items()}
    terms: list[EnergyTerm] = []
    unknowns: list[str] = []
    refresh_counted = False
    for action in actions:
        if action.component == "dram" and action.verb == "refresh":
            refresh_counted = True
        term = _price_action(action, table, macros, memory, buffers)
        if term is None:
            unknowns.append(f"energy of {action.component} {action.verb}: unknown for {memory.name}")
        else:
            terms.append(term)
    seconds_per_cycle = 1.0 / clock_hz
    for name, cost in macros.items():
        unit = cost.leak_mw * buffers[name].macros * seconds_per_cycle * PJ_PER_MW_S
        terms.append(make_term("leakage", name, cycles, "cycle", unit, cost.source, cost.note))
    _add_static(memory, cycles, seconds_per_cycle, refresh_counted, terms, unknowns)
    return PricedActions(terms=tuple(terms), unknowns=tuple(dict.fromkeys(unknowns)))


def price_buffer(spec: BufferSpec, table: EnergyTable, device: str | None = None) -> SramCost:
    """Return the cost of one bank of a buffer at the table's node."""
    bank_bits = -(-spec.capacity_bits // spec.banks)
    return sram_cost(table.node_nm, device or table.device, bank_bits, spec.width_bits, ports=spec.ports)


def make_term(
    component: str, verb: str, count: float, unit: str, unit_pj: float, source: str, note: str = ""
) -> EnergyTerm:
    """Return a term whose energy is ``count * unit_pj`` to the nearest multiple of ``QUANTUM_PJ``."""
    return EnergyTerm(
        component=component,
        verb=verb,
        count=count,
        unit=unit,
        unit_pj=unit_pj,
        energy_pj=round(count * unit_pj / QUANTUM_PJ) * QUANTUM_PJ,
        source=source,
        note=note,
    )


def _price_action(
    action: Action,
    table: EnergyTable,
    macros: Mapping[str, SramCost],
    memory: DramEnergy,
    buffers: Mapping[str, BufferSpec],
) -> EnergyTerm | None:
    component, verb, count = action.component, action.verb, action.count
    if component == "dram":
        return _price_dram(action, memory)
    if verb in ("read", "write"):
        if component in REGISTER_COMPONENTS:
            priced = price_op(table, REGISTER_COMPONENTS[component], 1)
            note = _join(priced.note, _certainty(priced.confidence))
            return make_term(component, verb, count, "bit", priced.energy_pj, f"{table.name}: {priced.source}", note)
        if component not in macros:
            known = ", ".join(sorted({*macros, *REGISTER_COMPONENTS, "dram"}))
            raise SpecError("action.component", component, f"a storage, one of {known}")
        return _price_access(action, table, macros[component], buffers[component].copies)
    op = DEFAULT_OPS.get(component, component) if verb == "op" else verb
    if op not in RULES:
        raise SpecError(f"action {component}.verb", verb, "read, write, op or an operator: " + ", ".join(sorted(RULES)))
    priced = price_op(table, op, *action.bits)
    note = _join(priced.note, _certainty(priced.confidence))
    return make_term(component, verb, count, "op", priced.energy_pj, f"{table.name}: {priced.source}", note)


def _price_access(action: Action, table: EnergyTable, cost: SramCost, copies: int) -> EnergyTerm:
    times, many = (copies, f"{copies} copies written together") if action.verb == "write" and copies > 1 else (1, "")
    if table.sram == "entries":
        entry = table.find_entries("buffer")[0]
        unit, source = entry.energy_pj / entry.bits[0], f"{table.name}: {entry.source}"
        note = _join(f"{table.name}'s own figure, whatever the buffer's size", _certainty(entry.confidence))
    else:
        unit = cost.read_pj_per_bit if action.verb == "read" else cost.write_pj_per_bit
        source, note = cost.source, cost.note
    return make_term(action.component, action.verb, action.count, "bit", times * unit, source, _join(note, many))


def _price_dram(action: Action, memory: DramEnergy) -> EnergyTerm | None:
    units: dict[str, tuple[str, float | None]] = {
        "read": ("bit", memory.read_pj_per_bit),
        "write": ("bit", memory.write_pj_per_bit),
        "activate": ("row", memory.activate_pj),
        "refresh": ("refresh", 0.0 if memory.refresh_mw == 0 else memory.refresh_pj),
    }
    if action.verb not in units:
        raise SpecError("action dram.verb", action.verb, "one of " + ", ".join(units))
    unit, unit_pj = units[action.verb]
    if unit_pj is None:
        return None
    note = _join(memory.note, _certainty(memory.certainty))
    return make_term("dram", action.verb, action.count, unit, unit_pj, f"{memory.name}: {memory.source}", note)


def _add_static(
    memory: DramEnergy,
    cycles: int,
    seconds_per_cycle: float,
    refresh_counted: bool,
    terms: list[EnergyTerm],
    unknowns: list[str],
) -> None:
    """Append standby and, unless refreshes were counted one by one, refresh; an unknown power is named."""
    powers = [("standby", memory.standby_mw)]
    if not refresh_counted:
        powers.append(("refresh", memory.refresh_mw))
    for verb, power_mw in powers:
        if power_mw is None:
            unknowns.append(f"{verb} power of {memory.name}: unknown")
        elif power_mw:
            unit = power_mw * memory.copies * seconds_per_cycle * PJ_PER_MW_S
            note = _join(f"{memory.copies} channels x ranks" if memory.copies > 1 else "", _certainty(memory.certainty))
            terms.append(make_term("dram_static", verb, cycles, "cycle", unit, f"{memory.name}: {memory.source}", note))


def _certainty(confidence: str) -> str:
    return "" if confidence in ("verified", "derived") else {"memory": "from memory"}.get(confidence, confidence)


def _join(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
