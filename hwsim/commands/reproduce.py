"""``hwsim reproduce``: what others published beside their equations, our simulation and the hardware."""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hwsim.published.claims import Row, System, Table

HELP = "show published results beside recomputed equations, the simulation and the hardware, with the reason for each difference"
TEXT_WIDTH = 132
"""Columns where the output is piped."""
LEAST_WIDTH = 100
"""Columns below which a narrow terminal wraps lines by itself."""
FIGURES = ("claimed", "equations", "simulated", "rtl")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="a system, or all; without it they are listed")
    parser.add_argument(
        "--rtl", action="store_true", help="run a layer on the generated hardware too, where there is some"
    )
    parser.add_argument("--json", action="store_true", help="print the rows as JSON, and nothing else")


def run(args: argparse.Namespace) -> int:
    """Reproduce, print."""
    from hwsim.published.systems import find_system, list_systems

    if args.name is None:
        print(format_list(list_systems(), args.json))
        return 0
    systems = list_systems() if args.name.lower() == "all" else (find_system(args.name),)
    from hwsim.commands._progress import Progress
    from hwsim.commands.run import find_width, uses_color

    found = []
    with Progress() as progress:
        for number, system in enumerate(systems):
            progress(system.name, number, len(systems))
            found.append((system, collect_rows(system, args.rtl), system.tabulate()))
    if args.json:
        print(json.dumps({"systems": [build_dict(*one) for one in found]}, indent=2, allow_nan=False))
    else:
        print("\n\n".join(format_system(*one, width=find_width(), color=uses_color()) for one in found))
    return 0


def collect_rows(system: System, rtl: bool = False) -> tuple[Row, ...]:
    """Return a system's rows, those of its hardware behind them."""
    from hwsim.published.systems._hardware import list_hardware

    return (*system.reproduce(), *(row for arch in system.archs for row in list_hardware(arch, rtl)))


def build_dict(system: System, rows: Sequence[Row], tables: Sequence[Table] = ()) -> dict[str, Any]:
    """Return a system as plain values."""
    from dataclasses import asdict

    listed = [{**asdict(row), "difference": row.difference} for row in rows]
    found = {"name": system.name, "title": system.title, "source": system.source, "rows": listed}
    return {**found, "tables": [asdict(table) for table in tables]} if tables else found


def format_list(systems: Sequence[System], as_json: bool) -> str:
    """Return the systems that there are."""
    if as_json:
        listed = [{"name": one.name, "title": one.title, "source": one.source} for one in systems]
        return json.dumps({"systems": listed}, indent=2)
    width = max(len(system.name) for system in systems)
    return "\n".join(f"{system.name:<{width}}  {system.title}" for system in systems)


def format_figure(value: float | None, unit: str) -> str:
    """Return a figure: counts in full, other numbers with four digits."""
    if value is None:
        return "-"
    if float(value).is_integer() and (abs(value) >= 100 or unit not in ("x", "%", "ms", "mJ")):
        return f"{value:,.0f}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    text = f"{value:.4g}" if abs(value) >= 0.1 else f"{value:.3g}"
    return f"{value:.6g}" if abs(value) < 10 and float(text) == round(value) else text


def format_claimed(row: Row) -> str:
    """Return the published figure, both ends of a range."""
    least = f"{format_figure(row.claimed_least, row.unit)} to " if row.claimed_least is not None else ""
    return least + format_figure(row.claimed, row.unit)


def format_difference(row: Row) -> str:
    """Return the difference in percent; ``=`` where the figures are equal."""
    if row.status != "shown":
        return row.status
    if row.difference is None:
        return "-"
    if row.difference == 0:
        return "in range" if row.claimed_least is not None else "="
    return f"{100 * row.difference:+.2g} %" if abs(row.difference) < 0.1 else f"{100 * row.difference:+.0f} %"


def list_cells(row: Row) -> list[str]:
    """Return the cells of a row behind its claim."""
    figures = [format_figure(getattr(row, name), row.unit) for name in FIGURES[1:]]
    return [row.unit, format_claimed(row), *figures, format_difference(row), row.certainty or "-"]


HEADS = ("unit", "claimed", "equations", "simulated", "RTL", "difference", "certainty")
SPARSE = ("claimed", "equations", "simulated", "RTL")
"""Columns that are left out where they are empty."""


def format_system(
    system: System, rows: Sequence[Row], tables: Sequence[Table] = (), *, width: int | None = None, color: bool = False
) -> str:
    """Return a system's table, the source and the reasons by the number of the row below it, then its other tables."""
    from rich.text import Text

    kept = [i for i, head in enumerate(HEADS) if head not in SPARSE or any(list_cells(row)[i] != "-" for row in rows)]
    table = _open_table(f"{system.name}: {system.title}")
    table.add_column("", justify="right", no_wrap=True)
    table.add_column(Text("claim"), ratio=1, overflow="fold")
    for i in kept:
        left = HEADS[i] in ("unit", "certainty")
        table.add_column(Text(HEADS[i]), justify="left" if left else "right", no_wrap=True)
    for number, row in enumerate(rows, 1):
        cells = list_cells(row)
        table.add_row(*(Text(cell) for cell in (str(number), row.claim, *(cells[i] for i in kept))))
    limit = max(width or TEXT_WIDTH, LEAST_WIDTH)
    lines = [_render(table, limit, color), "", _wrap("source: ", system.source, limit)]
    lines += [_wrap(f"{numbers:>7}  ", text, limit) for numbers, text in list_reasons(system, rows)]
    lines += [format_table(one, limit, color) for one in tables]
    return "\n".join(lines)


def format_table(table: Table, limit: int, color: bool = False) -> str:
    """Return a table of figures and what it says."""
    from rich.text import Text

    found = _open_table(table.title)
    found.padding = (0, 1, 0, 0)
    for number, head in enumerate(table.heads):
        found.add_column(Text(head), justify="right" if number else "left", no_wrap=not number)
    for row in table.rows:
        found.add_row(*(Text(cell) for cell in list_table_cells(row)))
    return f"\n{_render(found, limit, color)}\n\n{_wrap(' ' * 9, tell_table(table), limit)}"


def tell_table(table: Table) -> str:
    """Return the source of a table and what it says."""
    return f"[{table.source}] {table.why[0].upper()}{table.why[1:]}."


def list_table_cells(row: Sequence[str | float]) -> list[str]:
    """Return the cells of a table's row: counts in full, other figures with one decimal."""
    return [cell if isinstance(cell, str) else f"{cell:,}" if isinstance(cell, int) else f"{cell:z.1f}" for cell in row]


def _open_table(title: str) -> Any:
    """Return an empty rich table."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    return Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def _render(table: Any, limit: int, color: bool) -> str:
    from hwsim.report.text import render

    return render(table, limit, color)


def _wrap(head: str, text: str, width: int) -> str:
    return textwrap.fill(
        text,
        width,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )


def list_reasons(system: System, rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return source (where it is another than the system's) and reason by numbers of rows; neighbours share theirs."""
    found: list[tuple[int, int, str]] = []
    for number, row in enumerate(rows, 1):
        why = f"{row.why[0].upper()}{row.why[1:]}." if row.why else ""
        text = f"{'' if row.source == system.source else f'[{row.source}] '}{why}".rstrip()
        if not text:
            continue
        if found and found[-1][1:] == (number - 1, text):
            found[-1] = (found[-1][0], number, text)
        else:
            found.append((number, number, text))
    return [(str(first) if first == last else f"{first}-{last}", text) for first, last, text in found]
