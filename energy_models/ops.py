"""The price of one operation at given widths, from an energy table.

An operator is priced by the first of these rules that applies; the note of the result names the rule.

1. The table lists it at this width: the listed figure.
2. The table lists it at other widths: linear in the width (``add``, ``shift`` ...) or in the product of the widths (``mult``,
   ``mac``) between two listed ones, in proportion below the smallest, along the last segment above the largest.
3. It is composed of others (``RULES``): the sum of their prices, each found by these same rules.
4. The table lists a ``mac`` but no ``mult``: a multiplication costs at most what a ``mac`` does.
5. A table named in ``borrows`` has it by rules 1 to 4: that figure, scaled to this table's node and supply.

Otherwise the energy is an error, and the area is None. Every rule is monotone: fewer bits never cost more.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

from energy_models.scaling import CITATION, area_ratio, energy_ratio
from energy_models.table import CONFIDENCES, EXACT_OPS, EnergyTable, Entry, load_table
from hwsim.core.errors import SpecError, UnknownName

BOOTH_SELECT = 0.55
"""Cost per bit of selecting 0, +-x, +-2x by a radix-4 Booth digit, relative to a bit of an adder: an AOI22 and an XOR, 18
transistors, over 32.5 transistors per bit of a synthesised 8-bit adder (yosys, CMOS estimate). An estimate, unverified."""

Part = tuple[str, tuple[int, ...], float]
"""Operator, widths, how many of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpRule:
    """An operator: the names of its widths, what it does, and what it is composed of where a table does not list it."""

    operands: tuple[str, ...]
    meaning: str
    compose: Callable[[tuple[int, ...]], tuple[Part, ...]] | None = None


def _booth_parts(bits: tuple[int, ...]) -> tuple[Part, ...]:
    w_bits, psum_bits = bits
    return ("add", (max(psum_bits, w_bits + 2),), 1.0), ("add", (w_bits + 2,), BOOTH_SELECT)


RULES: dict[str, OpRule] = {
    "mac": OpRule(
        operands=("w_bits", "a_bits", "psum_bits"),
        meaning="multiply, accumulate; a table's own mac has its accumulator inside, whatever psum_bits",
        compose=lambda b: (("mult", b[:2], 1.0), ("add", (b[2],), 1.0)),
    ),
    "mult": OpRule(operands=("w_bits", "a_bits"), meaning="integer multiply"),
    "add": OpRule(operands=("bits",), meaning="integer add"),
    "shift": OpRule(operands=("bits",), meaning="barrel shift"),
    "shift_add": OpRule(
        operands=("bits",),
        meaning="shift by a power-of-two coefficient and add: a step of the rebuild engine",
        compose=lambda b: (("shift", b, 1.0), ("add", b, 1.0)),
    ),
    "booth_digit": OpRule(
        operands=("w_bits", "psum_bits"),
        meaning="one radix-4 Booth digit: select 0, +-x, +-2x (w_bits + 2 bits), add it into psum_bits",
        compose=_booth_parts,
    ),
    "requant": OpRule(
        operands=("acc_bits", "scale_bits"),
        meaning="requantize: accumulator times multiplier, then shift",
        compose=lambda b: (("mult", b, 1.0), ("shift", (b[0],), 1.0)),
    ),
    "vector": OpRule(
        operands=("bits",), meaning="an elementwise step, priced as an add", compose=lambda b: (("add", b, 1.0),)
    ),
    "compare": OpRule(
        operands=("bits",), meaning="compare (max pooling): a subtraction's sign", compose=lambda b: (("add", b, 1.0),)
    ),
    "register": OpRule(operands=("bits",), meaning="one read or write of a register"),
    "rf": OpRule(
        operands=("bits",),
        meaning="one access of a register file",
        compose=lambda b: (("register", b, 1.0),),
    ),
    "noc": OpRule(
        operands=("bits",),
        meaning="one transfer between processing elements; twice a register file's access (Eyeriss, ISCA 2016, table IV)",
        compose=lambda b: (("rf", b, 2.0),),
    ),
    "buffer": OpRule(operands=("bits",), meaning="one access of a buffer of unspecified size"),
    "fusion_unit": OpRule(operands=("max_bits", "min_bits"), meaning="one cycle of a BitFusion unit, at listed widths"),
    "fp_add": OpRule(operands=("bits",), meaning="floating-point add, at listed widths"),
    "fp_mult": OpRule(operands=("bits",), meaning="floating-point multiply, at listed widths"),
}
LARGEST_BITS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedOp:
    """Price of one operation.

    Parameters
    ----------
    energy_pj : float
        Dynamic energy, pJ.
    area_um2 : float or None
        Area of one operator, None when no table knows it.
    note, source, confidence : str
        Rule by which the energy was found (empty for a listed figure), where it stands, the least sure of its parts.
    area_note, area_source, area_confidence : str
        The same for the area.
    """

    energy_pj: float
    area_um2: float | None
    note: str
    source: str
    confidence: str
    area_note: str = ""
    area_source: str = ""
    area_confidence: str = "verified"


@dataclass(frozen=True, slots=True)
class _Figure:
    value: float
    notes: tuple[str, ...]
    sources: tuple[str, ...]
    confidence: str


@functools.lru_cache(maxsize=16384)
def price_op(table: EnergyTable, op: str, *bits: int) -> PricedOp:
    """Return the price of one ``op`` at the given widths.

    Parameters
    ----------
    table : EnergyTable
    op : str
        A key of ``RULES``.
    *bits : int
        Operand widths, 1 to 1024, as the rule names them.

    Raises
    ------
    UnknownName
        No such operator.
    SpecError
        Wrong number or size of widths, or neither the table nor those it borrows from can price the operator.
    """
    rule = RULES.get(op)
    if rule is None:
        raise UnknownName("operator", op, RULES)
    if len(bits) != len(rule.operands) or not all(1 <= b <= LARGEST_BITS for b in bits):
        raise SpecError(f"{op}.bits", bits, f"{', '.join(rule.operands)}, each from 1 to {LARGEST_BITS}")
    energy = _resolve(table, op, bits, "energy_pj", table.borrows)
    if energy is None:
        listed = ", ".join(entry.label for entry in table.entries)
        raise SpecError(
            f"energy table {table.name}",
            f"{op} " + "x".join(map(str, bits)),
            f"an operator that it lists or that follows from one: {listed}",
            f"none of {', '.join(table.borrows)}, from which it borrows, has it either" if table.borrows else "",
        )
    area = _resolve(table, op, bits, "area_um2", table.borrows)
    return PricedOp(
        energy_pj=energy.value,
        area_um2=area.value if area else None,
        note="; ".join(energy.notes),
        source="; ".join(energy.sources),
        confidence=_worst(energy.confidence, "unverified" if table.unverified else "verified"),
        area_note="; ".join(area.notes) if area else "",
        area_source="; ".join(area.sources) if area else "",
        area_confidence=area.confidence if area else "unverified",
    )


def _resolve(
    table: EnergyTable, op: str, bits: tuple[int, ...], quantity: str, lenders: tuple[str, ...]
) -> _Figure | None:
    """Return ``quantity`` of ``op`` by the first rule that applies, or None."""
    figure = _read_curve(table, op, bits, quantity)
    if figure is None:
        figure = _compose(table, op, bits, quantity, lenders)
    if figure is None and op == "mult":
        figure = _read_curve(table, "mac", bits, quantity)
        if figure is not None:
            bound = f"mult priced as the mac of {table.name}, an upper bound"
            figure = _Figure(figure.value, (bound, *figure.notes), figure.sources, figure.confidence)
    return figure or _borrow(table, op, bits, quantity, lenders)


def _read_curve(table: EnergyTable, op: str, bits: tuple[int, ...], quantity: str) -> _Figure | None:
    rows = [entry for entry in table.find_entries(op) if getattr(entry, quantity) is not None]
    if not rows:
        return None
    if op in EXACT_OPS:
        rows = [entry for entry in rows if entry.bits == bits]
        if not rows:
            return None
    widths = bits[: len(rows[0].bits)]
    wanted = math.prod(widths)
    law = "product of widths" if len(widths) > 1 else "bits"
    points = [(math.prod(entry.bits), float(getattr(entry, quantity)), entry) for entry in rows]
    value, used = _interpolate(points, wanted)
    shown = "x".join(map(str, widths))
    note: tuple[str, ...] = ()
    if len(used) > 1:
        span = f"{used[0].label} and {'x'.join(map(str, used[1].bits))}"
        verb = "interpolated between" if wanted < points[-1][0] else "extrapolated from"
        note = (f"{op} {shown} {verb} {span}, linear in the {law}",)
    elif wanted != math.prod(used[0].bits):
        note = (f"{op} {shown} scaled from {'x'.join(map(str, used[0].bits))} by {law}",)
    sources = tuple(dict.fromkeys(entry.source for entry in used))
    surety = "confidence" if quantity == "energy_pj" else "area_confidence"
    return _Figure(value, note, sources, functools.reduce(_worst, (getattr(entry, surety) for entry in used)))


def _interpolate(points: list[tuple[int, float, Entry]], x: int) -> tuple[float, tuple[Entry, ...]]:
    """Return the value at ``x`` and the entries it comes from; points by rising abscissa, at least one."""
    for at, value, entry in points:
        if at == x:
            return value, (entry,)
    first = points[0]
    if x < first[0] or len(points) == 1:
        return first[1] * x / first[0], (first[2],)
    above = next((i for i, point in enumerate(points) if point[0] > x), len(points) - 1)
    (x0, y0, e0), (x1, y1, e1) = points[above - 1], points[above]
    return y0 + (y1 - y0) * ((x - x0) / (x1 - x0)), (e0, e1)


def _compose(
    table: EnergyTable, op: str, bits: tuple[int, ...], quantity: str, lenders: tuple[str, ...]
) -> _Figure | None:
    rule = RULES[op]
    if rule.compose is None:
        return None
    parts = rule.compose(bits)
    figures = [_resolve(table, part, widths, quantity, lenders) for part, widths, _ in parts]
    known = [figure for figure in figures if figure is not None]
    if len(known) < len(parts):
        return None
    value = sum(figure.value * times for figure, (_, _, times) in zip(known, parts, strict=True))
    names = " + ".join(
        ("" if times == 1 else f"{times:g} ") + f"{part} " + "x".join(map(str, widths)) for part, widths, times in parts
    )
    notes = (f"{op} = {names}", *(note for figure in known for note in figure.notes))
    sources = tuple(dict.fromkeys(source for figure in known for source in figure.sources))
    confidence = functools.reduce(_worst, (figure.confidence for figure in known))
    return _Figure(value, tuple(dict.fromkeys(notes)), sources, confidence)


def _borrow(
    table: EnergyTable, op: str, bits: tuple[int, ...], quantity: str, lenders: tuple[str, ...]
) -> _Figure | None:
    for name in lenders:
        lender = load_table(name)
        figure = _resolve(lender, op, bits, quantity, ())
        if figure is None:
            continue
        if quantity == "energy_pj":
            factor = energy_ratio(lender.node_nm, lender.vdd_v, table.node_nm, table.vdd_v)
        else:
            factor = area_ratio(lender.node_nm, table.node_nm)
        note = f"{op} borrowed from {name}"
        if factor != 1.0:
            start, end = f"{lender.node_nm:g} nm {lender.vdd_v:g} V", f"{table.node_nm:g} nm {table.vdd_v:g} V"
            note += f", scaled {start} to {end} by {factor:.3g} ({CITATION})"
        return _Figure(figure.value * factor, (note, *figure.notes), figure.sources, figure.confidence)
    return None


def _worst(a: str, b: str) -> str:
    return max(a, b, key=CONFIDENCES.index)
