"""Writes the samples of README.md anew: runs the command of each block and puts in what it prints, long parts cut.

Usage: ``python docs/refresh_readme.py [--speed FILE FILE]``. A block under ``<!-- sample -->`` begins with ``$ hwsim ...``.
The table under ``<!-- fpga -->`` is made of the records of place and route that are shipped.
With ``--speed`` the table under ``<!-- speed -->`` is made of the JSON of bench_speed and bench_start.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCK = re.compile(r"(<!-- sample -->\n```text\n\$ (hwsim [^\n]+)\n)(.*?)```", re.DOTALL)
SPEED = re.compile(r"<!-- speed -->\n(?:\|[^\n]*\n)*")
FPGA = re.compile(r"<!-- fpga -->\n(?:\|[^\n]*\n)*")
FPGA_TARGET = "ecp5-85k"
SHOWN_ROWS = 7
"""Layers of a table that are shown."""
CUT = "..."
SECONDS = (
    "resnet18, systolic 32x32, mapping search included",
    "the same with mappings known",
    "one fixed mapping, demand matrices in numpy, 21 layers",
    "resnet18 224x224, smartdeal paper preset, everything",
    "hwsim run, resnet18 on systolic, first on a machine",
    "hwsim run, resnet18 on systolic, later",
    "hwsim run, resnet18 on systolic, peak memory",
    "hwsim run, resnet18 on smartdeal, first on a machine",
    "hwsim run, resnet18 on smartdeal, later",
    "hwsim run, resnet18 on smartdeal, peak memory",
    "hwsim --help",
)


def run_command(line: str) -> str:
    """Return what a command of hwsim prints."""
    from hwsim.cli import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(line.split()[1:])
    if code:
        raise SystemExit(f"{line} ended with {code}")
    return out.getvalue()


def shorten(text: str) -> str:
    """Cut the layer table after ``SHOWN_ROWS`` rows, lists of one kind after three lines."""
    lines = [line.rstrip() for line in text.rstrip().splitlines()]
    kept: list[str] = []
    heads: dict[str, int] = {}
    rows, in_table, cutting = 0, False, False
    for line in lines:
        head = line.partition(" ")[0]
        if line.lstrip().startswith("──") and lines[0].count(" on "):
            in_table = True
        elif in_table and line.startswith(" "):
            rows += 1
            cutting = rows > SHOWN_ROWS
        else:
            in_table = False
            if head in ("unverified", "layer"):
                heads[head] = heads.get(head, 0) + 1
            cutting = heads.get(head, 0) > 3 if head else cutting
        if not cutting:
            kept.append(line)
        elif kept[-1] != CUT:
            kept.append(CUT)
    return "\n".join(kept)


def make_speed_table(files: list[str]) -> str:
    """Return the figures of benchmarks as a table, in the order of ``SECONDS``, then every ratio."""
    figures = [figure for name in files for figure in json.loads(Path(name).read_text())["figures"]]
    known = {figure["name"]: figure for figure in figures}
    lines = ["| what | measured | target |", "|---|---|---|"]
    for name in SECONDS:
        if name in known:
            found = known[name]
            target = f"< {found['limit']:g} {found['unit']}" if found["limit"] else ""
            lines.append(f"| {name} | {found['value']:.3g} {found['unit']} | {target} |")
    lines += [
        f"| ratio: {f['name']} | {f['value']:,.{0 if f['value'] >= 100 else 2}f} | {f['note']} |"
        for f in figures
        if f["unit"] == "x"
    ]
    return "\n".join(lines)


def make_fpga_table() -> str:
    """Return utilization and clock of each preset ``small`` that has RTL, from the records in ``accel_rtl/results`` alone."""
    from accel_rtl.fpga_results import SHIPPED, FpgaRecord, key_design
    from hwsim.archs.registry import find_arch
    from hwsim.core.jsonio import from_json

    found = [from_json(path.read_bytes(), FpgaRecord, str(path)) for path in sorted(SHIPPED.glob("*.json"))]
    known = {record.fields: record for record in found if record.target == FPGA_TARGET}
    lines = ["| on ECP5-85K | LUT | FF | multipliers | block RAM | Fmax, MHz |", "|---|---|---|---|---|---|"]
    for name in ("systolic", "smartdeal"):
        record = known.get(key_design(find_arch(name, "small")))
        cells = ["not recorded"] * 5
        if record is not None:
            kinds = ("lut", "ff", "dsp", "bram")
            cells = [f"{(n := getattr(record, kind)):,} ({n / record.capacity[kind]:.0%})" for kind in kinds]
            cells.append(f"{record.fmax_hz / 1e6:.1f}" if record.fmax_hz else "not placed")
        lines.append(f"| `{name}` `small` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Rewrite README.md."""
    text = README.read_text()
    text = BLOCK.sub(lambda found: f"{found[1]}{shorten(run_command(found[2]))}\n```", text)
    text = FPGA.sub(lambda _: f"<!-- fpga -->\n{make_fpga_table()}\n", text)
    if "--speed" in sys.argv:
        table = make_speed_table(sys.argv[sys.argv.index("--speed") + 1 :])
        text = SPEED.sub(lambda _: f"<!-- speed -->\n{table}\n", text)
    README.write_text(text)


if __name__ == "__main__":
    main()
