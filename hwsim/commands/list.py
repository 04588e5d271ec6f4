"""``hwsim list``: what there is to choose from."""

from __future__ import annotations

import argparse
import json
from typing import Any

HELP = "list architectures with their presets, networks, energy tables and memories"
KINDS = ("archs", "nets", "tables", "memories")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("kind", nargs="?", choices=KINDS, help="list only these")
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else")


def run(args: argparse.Namespace) -> int:
    """Print the lists."""
    kinds = [args.kind] if args.kind else list(KINDS)
    found = {kind: LISTERS[kind]() for kind in kinds}
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    for number, (kind, entries) in enumerate(found.items()):
        if number:
            print()
        print(f"{kind}:")
        width = max((len(entry["name"]) for entry in entries), default=0)
        for entry in entries:
            print(f"  {entry['name']:<{width}}  {_describe(entry)}".rstrip())
    return 0


def _describe(entry: dict[str, Any]) -> str:
    if entry.get("error"):
        return f"cannot be used: {entry['error']}"
    text = str(entry.get("title", ""))
    if "presets" in entry:
        names = [f"{name} (default)" if name == entry["default"] else name for name in entry["presets"]]
        text += f"; presets: {', '.join(names)}"
    return text


def _list_archs() -> list[dict[str, Any]]:
    from hwsim.archs.registry import list_archs

    return [
        {"name": e.name, "title": e.title, "presets": list(e.presets), "default": e.default, "error": e.error}
        for e in list_archs()
    ]


def _list_nets() -> list[dict[str, Any]]:
    from hwsim.nets.registry import list_networks

    return [{"name": entry.name, "title": entry.title} for entry in list_networks()]


def _list_tables() -> list[dict[str, Any]]:
    from energy_models.table import list_tables, load_table

    found = []
    for name in list_tables():
        table = load_table(name)
        note = " (unverified)" if table.unverified and "unverified" not in table.title else ""
        found.append(
            {"name": name, "title": f"{table.title}{note}", "node_nm": table.node_nm, "unverified": table.unverified}
        )
    return found


def _list_memories() -> list[dict[str, Any]]:
    from hwsim.core.dram_parts import PARTS
    from hwsim.report.units import format_si

    flat = {"name": "flat", "title": "latency and bits per cycle, as the preset says"}
    return [flat] + [
        {
            "name": part.name,
            "title": f"{part.channels} channel{'s' if part.channels > 1 else ''}, {part.banks} banks, "
            f"{format_si(part.peak_bits_per_second / 8, 'B/s')}; {', '.join(part.sources)}",
        }
        for part in PARTS
    ]


LISTERS = {"archs": _list_archs, "nets": _list_nets, "tables": _list_tables, "memories": _list_memories}
