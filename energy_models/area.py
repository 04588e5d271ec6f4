"""From parts to area: logic by the energy table, buffers by CACTI."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from energy_models.ops import price_op
from energy_models.pricing import DEFAULT_OPS, BufferSpec, price_buffer
from energy_models.table import EnergyTable
from hwsim.core.actions import AreaPart

if TYPE_CHECKING:
    from hwsim.core.report import AreaItem

QUANTUM_UM2 = 2.0**-12
"""Areas are rounded to it, so that they sum to the total exactly in any order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaTerm:
    """``count`` copies of an operator, or a buffer: area_um2 = count * unit_um2; both None when unknown."""

    name: str
    count: int
    unit_um2: float | None
    area_um2: float | None
    source: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedArea:
    """Area of a chip, part by part.

    Parameters
    ----------
    terms : tuple of AreaTerm
        Logic in the order of the parts, then the buffers.
    """

    terms: tuple[AreaTerm, ...]

    @property
    def area_um2(self) -> float:
        """Sum of the known areas, exact."""
        return math.fsum(term.area_um2 for term in self.terms if term.area_um2 is not None)

    @property
    def unknowns(self) -> tuple[str, ...]:
        """Parts whose area no table knows; they are missing from the sum."""
        return tuple(term.name for term in self.terms if term.area_um2 is None)

    def list_items(self) -> tuple[AreaItem, ...]:
        """Return the terms as a report holds them."""
        from hwsim.core.report import AreaItem

        return tuple(
            AreaItem(name=t.name, area_um2=t.area_um2, source="; ".join(filter(None, (t.source, t.note))))
            for t in self.terms
        )


def price_area(
    parts: Iterable[AreaPart], table: EnergyTable, buffers: Mapping[str, BufferSpec], device: str | None = None
) -> PricedArea:
    """Return the area of logic and buffers at the table's node.

    Parameters
    ----------
    parts : iterable of AreaPart
        Logic; ``op`` is an operator, or ``op`` for the component's own (``energy_models.pricing.DEFAULT_OPS``).
    table : EnergyTable
        Areas; one that it lacks is borrowed from a named table, scaled to the node, and the note says so.
    buffers : mapping of str to BufferSpec
        Scratchpads; area of all banks.
    device : str or None
        CACTI device type, ``table.device`` by default.

    Raises
    ------
    UnknownName, SpecError
        An operator that does not exist or that the table cannot price at all.
    """
    terms = [_price_part(part, table) for part in parts]
    for name, spec in buffers.items():
        cost = price_buffer(spec, table, device)
        terms.append(_make_term(name, spec.macros, cost.area_um2, cost.source, cost.note))
    return PricedArea(terms=tuple(terms))


def _price_part(part: AreaPart, table: EnergyTable) -> AreaTerm:
    op = DEFAULT_OPS.get(part.component, part.component) if part.op == "op" else part.op
    priced = price_op(table, op, *part.bits)
    name = f"{part.component} {op} " + "x".join(map(str, part.bits))
    if priced.area_um2 is None:
        return _make_term(name, part.count, None, f"{table.name} and the tables it borrows from list no area")
    certainty = "" if priced.area_confidence == "verified" else f"area {priced.area_confidence}"
    note = "; ".join(filter(None, (priced.area_note, certainty)))
    return _make_term(name, part.count, priced.area_um2, f"{table.name}: {priced.area_source}", note)


def _make_term(name: str, count: int, unit_um2: float | None, source: str, note: str = "") -> AreaTerm:
    area = None if unit_um2 is None else round(count * unit_um2 / QUANTUM_UM2) * QUANTUM_UM2
    return AreaTerm(name=name, count=count, unit_um2=unit_um2, area_um2=area, source=source, note=note)
