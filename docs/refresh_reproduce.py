"""Writes docs/reproduce.md anew: every system of ``hwsim reproduce all`` as a table and its reasons.

Usage: ``python docs/refresh_reproduce.py [--rtl] [NAME ...]``; with names only their sections are written anew. With ``--rtl`` a
layer of each architecture runs on its generated hardware.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwsim.published.claims import Row, System

PAGE = Path(__file__).resolve().parent / "reproduce.md"
HEAD = """# What others published, beside what comes out here

Written by `docs/refresh_reproduce.py`; `hwsim reproduce NAME` prints the same rows, `--json` gives them as data, `--rtl` also runs
a layer of each machine on its generated hardware.

*claimed*: the published figure. *equations*: the field's own equations, computed again (`hwsim/published`). *simulated*: the
cycle engine, nothing fitted. *RTL*: generated Verilog. *difference*: simulated (else equations) to the claim; to the equations
where there is no claim. *certainty*: whether the claim was read in its source (verified) or is from memory or notes (unverified).
Figures without a claim show the hardware's side of what a source says in words. What takes training is out of reach here.
"""


def format_page(found: Sequence[tuple[System, Sequence[Row]]]) -> str:
    """Return the whole page."""
    return HEAD + "".join("\n" + format_section(system, rows) for system, rows in found)


def format_section(system: System, rows: Sequence[Row]) -> str:
    """Return a system's heading, table and reasons."""
    from hwsim.commands.reproduce import HEADS, list_cells, list_reasons

    lines = [f"## {system.name}: {system.title}", "", f"Source: {system.source}.", ""]
    lines += [f"| | claim | {' | '.join(HEADS)} |", f"|--:|---|---|{'--:|' * (len(HEADS) - 2)}---|"]
    for number, row in enumerate(rows, 1):
        cells = " | ".join(cell if cell != "-" else "" for cell in list_cells(row))
        lines.append(f"| {number} | {_escape(row.claim)} | {cells} |")
    reasons = [f"- {numbers}: {_escape(text)}" for numbers, text in list_reasons(system, rows)]
    return "\n".join([*lines, "", *reasons]) + "\n"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def replace_section(page: str, name: str, section: str) -> str:
    """Return the page with a system's section in place of the one that stands there."""
    begin = page.index(f"\n## {name}: ") + 1
    end = page.find("\n## ", begin)
    return page[:begin] + section + (page[end:] if end >= 0 else "")


def main() -> None:
    """Rewrite the page, or the sections that are named."""
    from hwsim.commands.reproduce import collect_rows
    from hwsim.published.systems import find_system, list_systems

    rtl = "--rtl" in sys.argv
    names = [name for name in sys.argv[1:] if name != "--rtl"]
    if not names:
        PAGE.write_text(
            format_page([(system, collect_rows(system, rtl)) for system in list_systems()]), encoding="utf-8"
        )
        return
    for system in map(find_system, names):
        section = format_section(system, collect_rows(system, rtl))
        PAGE.write_text(replace_section(PAGE.read_text(encoding="utf-8"), system.name, section), encoding="utf-8")


if __name__ == "__main__":
    main()
