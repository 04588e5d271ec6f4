"""Writes docs/reproduce.md anew: every system of ``hwsim reproduce all --rtl`` as a table and its reasons.

Usage: ``python docs/refresh_reproduce.py [NAME ...]``; with names only their sections are written anew. It needs what
``hwsim reproduce --rtl`` needs (``pip install 'hwsim[rtl]'``), for a layer of each architecture with hardware is compiled and
run, once for all systems; the data of others (``HWSIM_REFERENCE``); and the trained weights (``DATA_PACKAGES`` of the Makefile).
A page on which something was skipped is not written.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwsim.published.claims import Row, System, Table

PAGE = Path(__file__).resolve().parent / "reproduce.md"
HEAD = """# What others published, beside what comes out here

Written by `docs/refresh_reproduce.py`; `hwsim reproduce NAME --rtl` prints the same rows, `--json` gives them as data.

*claimed*: the published figure. *equations*: the field's own equations, computed again (`hwsim/published`). *simulated*: the
cycle engine, nothing fitted. *RTL*: generated Verilog, of a machine's smallest preset. *difference*: simulated (else equations) to
the claim; to the equations where there is no claim. *certainty*: whether the claim was read in its source (verified) or is from
memory or notes (unverified). Figures without a claim show the hardware's side of what a source says in words. What takes training
is out of reach here.
"""


def format_page(sections: Sequence[str]) -> str:
    """Return the whole page."""
    return HEAD + "".join("\n" + section for section in sections)


def format_section(system: System, rows: Sequence[Row], tables: Sequence[Table] = ()) -> str:
    """Return a system's heading, table and reasons, then its other tables."""
    from hwsim.commands.reproduce import HEADS, list_cells, list_reasons

    lines = [f"## {system.name}: {system.title}", "", f"Source: {system.source}.", ""]
    lines += [f"| | claim | {' | '.join(HEADS)} |", f"|--:|---|---|{'--:|' * (len(HEADS) - 2)}---|"]
    for number, row in enumerate(rows, 1):
        cells = " | ".join(cell if cell != "-" else "" for cell in list_cells(row))
        lines.append(f"| {number} | {_escape(row.claim)} | {cells} |")
    reasons = [f"- {numbers}: {_escape(text)}" for numbers, text in list_reasons(system, rows)]
    return "\n".join([*lines, "", *reasons, *(line for table in tables for line in format_table(table))]) + "\n"


def format_table(table: Table) -> list[str]:
    """Return the lines of a table of figures and of what it says."""
    from hwsim.commands.reproduce import list_table_cells, tell_table

    lines = ["", f"{table.title[0].upper()}{table.title[1:]}:", ""]
    lines += [f"| {' | '.join(table.heads)} |", f"|---|{'--:|' * (len(table.heads) - 1)}"]
    lines += [f"| {' | '.join(map(_escape, list_table_cells(row)))} |" for row in table.rows]
    return [*lines, "", _escape(tell_table(table))]


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def split_page(page: str) -> dict[str, str]:
    """Return the page's sections by the system's name."""
    parts = page.split("\n## ")[1:]
    return {part.split(":")[0]: f"## {part.rstrip()}\n" for part in parts}


def write_section(system: System) -> str:
    """Return a system's section, its hardware run.

    Raises
    ------
    SystemExit
        Something that the page shows could not be had.
    """
    from hwsim.commands.reproduce import collect_rows

    rows = collect_rows(system, rtl=True)
    for row in rows:
        if row.status == "skipped":
            raise SystemExit(f"{system.name}: {row.claim}: {row.why}")
    return format_section(system, rows, system.tabulate())


def main() -> None:
    """Rewrite the page, or the sections that are named."""
    from hwsim.published.systems import find_system, list_systems

    names = [find_system(name).name for name in sys.argv[1:]]
    sections = split_page(PAGE.read_text(encoding="utf-8")) if names else {}
    for system in list_systems():
        if not names or system.name in names or system.name not in sections:
            print(system.name, file=sys.stderr)
            sections[system.name] = write_section(system)
    PAGE.write_text(format_page([sections[system.name] for system in list_systems()]), encoding="utf-8")


if __name__ == "__main__":
    main()
