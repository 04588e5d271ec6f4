"""Named energy tables: what a table is, how one is read, where they are found.

A table is one TOML file in ``energy_models/tables``; adding a file adds a table. Fields::

    title, node_nm, vdd_v, device          device: CACTI device type of the buffers
    sram = "cacti" | "entries"             buffers by CACTI, or by the table's own ``buffer`` entry whatever their size
    borrows = ["other", ...]               tables that may stand in, in this order, for an operator that this one lacks
    unverified = true                      the figures could not be checked against their source
    sources = ["...", ...]
    [dram] read_pj_per_bit, write_pj_per_bit, source, confidence        of ``flat`` memory
    remarks = ["...", ...]                 what to know about the figures
    [defaults] source, confidence ...      of entries that state none
    [[entries]] op, bits, energy_pj, area_um2, source, confidence, area_confidence
                                           area_um2 left out where unknown; area_confidence is confidence by default

Tables are never mixed silently: a borrowed figure is scaled to the borrower's node and supply and says so in its note.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from energy_models.scaling import CITATION, area_ratio, energy_ratio
from hwsim.core.errors import InputError, SpecError, UnknownName

TABLES = Path(__file__).parent / "tables"
CONFIDENCES = ("verified", "memory", "unverified")
"""From the surest: read in the source, from memory of the source, as commonly quoted."""
DEVICES = ("itrs-lstp", "itrs-hp")
TWO_WIDTHS = ("mac", "mult", "fusion_unit")
ONE_WIDTH = ("add", "shift", "compare", "register", "rf", "buffer", "noc", "fp_add", "fp_mult")
ENTRY_WIDTHS = dict.fromkeys(TWO_WIDTHS, 2) | dict.fromkeys(ONE_WIDTH, 1)
"""Widths that an entry states; a ``mac`` has its accumulator inside, a ``fusion_unit`` states its largest and smallest."""
EXACT_OPS = ("fusion_unit", "fp_add", "fp_mult")
"""Operators that are never interpolated: they exist at the listed widths alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One operator at one width.

    Parameters
    ----------
    op : str
        A key of ``ENTRY_WIDTHS``.
    bits : tuple of int
        Operand widths; of storage (``register``, ``rf``, ``buffer``, ``noc``) the bits of one access.
    energy_pj : float
        Dynamic energy of one operation, pJ.
    area_um2 : float or None
        Area of one operator, None when unknown.
    source, confidence, area_confidence : str
        Where the figures stand, and how sure energy and area are (``CONFIDENCES``).
    """

    op: str
    bits: tuple[int, ...]
    energy_pj: float
    area_um2: float | None = None
    source: str
    confidence: str
    area_confidence: str

    @property
    def label(self) -> str:
        """E.g. ``mult 8x8``."""
        return f"{self.op} " + "x".join(map(str, self.bits))


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatDram:
    """Off-chip energy per bit of ``flat`` memory, pJ."""

    read_pj_per_bit: float
    write_pj_per_bit: float
    source: str
    confidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyTable:
    """A named set of unit energies and areas at one node and supply; fields as in the module's docstring."""

    name: str
    title: str
    node_nm: float
    vdd_v: float
    device: str
    sram: str
    entries: tuple[Entry, ...]
    dram: FlatDram
    borrows: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    unverified: bool = False
    scaled_from: str = ""

    def __hash__(self) -> int:
        return hash((self.name, self.node_nm, self.vdd_v, self.device))

    @property
    def label(self) -> str:
        """What a report prints: name, node, supply, scaling, certainty."""
        text = f"{self.name}, {self.node_nm:g} nm, {self.vdd_v:g} V"
        text += f", {self.scaled_from}" if self.scaled_from else ""
        return text + (", unverified" if self.unverified else "")

    def find_entries(self, op: str) -> tuple[Entry, ...]:
        """Return the entries of an operator, by rising width."""
        found = (entry for entry in self.entries if entry.op == op)
        return tuple(sorted(found, key=lambda entry: (math.prod(entry.bits), entry.bits)))


def list_tables() -> tuple[str, ...]:
    """Return the names of all shipped tables."""
    return tuple(sorted(path.stem for path in TABLES.glob("*.toml")))


@functools.cache
def load_table(name: str) -> EnergyTable:
    """Return a table by name; ``NAME@NODE`` (``horowitz45@28``) scales it to another node.

    A name that ends in ``.toml`` is read as a file.

    Raises
    ------
    UnknownName
        No such table.
    InputError
        A table file with mistakes, all of them listed.
    SpecError
        A node out of the range of the scaling rule.
    """
    base, at, node = name.partition("@")
    if at:
        try:
            node_nm = float(node.removesuffix("nm"))
        except ValueError:
            raise SpecError("energy table", name, "NAME@NODE with the node in nm, e.g. horowitz45@28") from None
        return rescale_table(load_table(base), node_nm)
    path = Path(name) if name.endswith(".toml") else TABLES / f"{name}.toml"
    if not name.endswith(".toml") and name not in list_tables():
        raise UnknownName("energy table", name, list_tables())
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(name, [getattr(error, "strerror", None) or "not a text file"]) from None
    return parse_table(text, path.stem, source=name)


def rescale_table(table: EnergyTable, node_nm: float, vdd_v: float | None = None) -> EnergyTable:
    """Return ``table`` at another node and supply (its own by default); entries and label say so. DRAM stays as it is.

    Raises
    ------
    SpecError
        Node or supply out of the range of the scaling rule.
    """
    vdd_v = table.vdd_v if vdd_v is None else vdd_v
    if (node_nm, vdd_v) == (table.node_nm, table.vdd_v):
        return table
    energy = energy_ratio(table.node_nm, table.vdd_v, node_nm, vdd_v)
    area = area_ratio(table.node_nm, node_nm)
    how = (
        f"scaled from {table.node_nm:g} nm {table.vdd_v:g} V by {energy:.3g} in energy, {area:.3g} in area ({CITATION})"
    )
    entries = tuple(
        replace(
            entry,
            energy_pj=entry.energy_pj * energy,
            area_um2=None if entry.area_um2 is None else entry.area_um2 * area,
            source=f"{entry.source}; {how}",
        )
        for entry in table.entries
    )
    return replace(table, node_nm=node_nm, vdd_v=vdd_v, entries=entries, scaled_from=how)


def parse_table(text: str, name: str, source: str) -> EnergyTable:
    """Return the table written in ``text``.

    Parameters
    ----------
    text : str
        TOML as in the module's docstring.
    name : str
        Name of the table.
    source : str
        What an error names.

    Raises
    ------
    InputError
        Every mistake found.
    """
    import tomllib

    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(source, [str(error)]) from None
    problems = [f"{key}: expected a table" for key in ("defaults", "dram") if not isinstance(data.get(key, {}), dict)]
    rows = data.get("entries", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        problems.append("entries: expected an array of tables")
    if problems:
        raise InputError(source, problems)
    fields = {
        "title": _read(data, "title", str, problems),
        "node_nm": _read_number(data, "node_nm", problems),
        "vdd_v": _read_number(data, "vdd_v", problems),
        "device": _read(data, "device", str, problems, choices=DEVICES),
        "sram": _read(data, "sram", str, problems, choices=("cacti", "entries")),
        "borrows": _read_names(data, "borrows", problems),
        "sources": _read_names(data, "sources", problems),
        "remarks": _read_names(data, "remarks", problems),
        "unverified": _read(data, "unverified", bool, problems, default=False),
    }
    defaults = data.get("defaults", {})
    dram = _read_dram(data.get("dram", {}), problems)
    entries = tuple(_read_entry({**defaults, **row}, f"entries[{i}]", problems) for i, row in enumerate(rows))
    known = {
        "title",
        "node_nm",
        "vdd_v",
        "device",
        "sram",
        "borrows",
        "sources",
        "remarks",
        "unverified",
        "dram",
        "defaults",
    }
    problems += [f"{key}: no such field" for key in sorted(set(data) - known - {"entries"})]
    if not entries:
        problems.append("entries: at least one is needed")
    if not fields["sources"]:
        problems.append("sources: at least one is needed")
    if not problems:
        _check_curves(entries, problems)
        if fields["sram"] == "entries" and not any(entry.op == "buffer" for entry in entries):
            problems.append("sram: 'entries' needs an entry of op 'buffer'")
    if problems:
        raise InputError(source, problems)
    return EnergyTable(name=name, entries=entries, dram=dram, **fields)


def _read(
    data: Mapping[str, Any],
    key: str,
    kind: type,
    problems: list[str],
    choices: tuple[str, ...] = (),
    default: Any = None,
    path: str = "",
) -> Any:
    value = data.get(key, default)
    if not isinstance(value, kind) or (choices and value not in choices) or value == "":
        expected = "one of " + ", ".join(choices) if choices else f"a {kind.__name__}"
        problems.append(f"{path}{key}: got {value!r}, expected {expected}")
    return value


def _read_number(data: Mapping[str, Any], key: str, problems: list[str], path: str = "") -> float:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        problems.append(f"{path}{key}: got {value!r}, expected a finite number above zero")
        return math.nan
    return float(value)


def _read_names(data: Mapping[str, Any], key: str, problems: list[str]) -> tuple[str, ...]:
    value = data.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        problems.append(f"{key}: got {value!r}, expected a list of strings")
        return ()
    return tuple(value)


def _read_dram(data: Mapping[str, Any], problems: list[str]) -> FlatDram:
    return FlatDram(
        read_pj_per_bit=_read_number(data, "read_pj_per_bit", problems, "dram."),
        write_pj_per_bit=_read_number(data, "write_pj_per_bit", problems, "dram."),
        source=_read(data, "source", str, problems, path="dram."),
        confidence=_read(data, "confidence", str, problems, choices=CONFIDENCES, path="dram."),
    )


def _read_entry(row: Mapping[str, Any], path: str, problems: list[str]) -> Entry:
    path += "."
    row = {"area_confidence": row.get("confidence"), **row}
    op = _read(row, "op", str, problems, choices=tuple(ENTRY_WIDTHS), path=path)
    bits = row.get("bits")
    widths = ENTRY_WIDTHS.get(op, 0) if isinstance(op, str) else 0
    if not isinstance(bits, list) or len(bits) != widths or not all(type(b) is int and 0 < b <= 1024 for b in bits):
        problems.append(f"{path}bits: got {bits!r}, expected {widths} widths from 1 to 1024")
        bits = []
    return Entry(
        op=op,
        bits=tuple(bits),
        energy_pj=_read_number(row, "energy_pj", problems, path),
        area_um2=_read_number(row, "area_um2", problems, path) if "area_um2" in row else None,
        source=_read(row, "source", str, problems, path=path),
        confidence=_read(row, "confidence", str, problems, choices=CONFIDENCES, path=path),
        area_confidence=_read(row, "area_confidence", str, problems, choices=CONFIDENCES, path=path),
    )


def _check_curves(entries: tuple[Entry, ...], problems: list[str]) -> None:
    """Report duplicate widths, and figures that fall while the width grows (interpolation would not be monotone)."""
    for op in dict.fromkeys(entry.op for entry in entries):
        rows = sorted((entry for entry in entries if entry.op == op), key=lambda entry: math.prod(entry.bits))
        for a, b in itertools.pairwise(rows):
            if math.prod(a.bits) == math.prod(b.bits):
                problems.append(f"{a.label} and {b.label}: listed twice at the same width")
            elif a.energy_pj > b.energy_pj or (a.area_um2 or 0) > (b.area_um2 or math.inf):
                problems.append(f"{b.label}: costs less than {a.label}")
