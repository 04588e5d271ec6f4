"""A report as text: a table of the layers, totals, provenance. Plain when piped, coloured on a terminal."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hwsim.core.report import Report
from hwsim.core.rows import build_totals, sum_energy
from hwsim.core.stats import LayerCost
from hwsim.report.units import format_bits, format_digits, format_share, format_si

if TYPE_CHECKING:
    from rich.table import Table

TEXT_WIDTH = 118
"""Columns at which provenance is wrapped when the output is piped."""
_UNLIMITED = 400
MOST_LAYER_NOTES = 5
"""Different notes of layers that are printed; more of them are counted only."""
NAME_WIDTH = 20
"""Columns that the names of layers keep before figures are dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of the layer table: title, cell, and when it goes where the terminal is narrow (1 first, 0 never)."""

    title: str
    cell: Callable[[Report, LayerCost], str]
    left: bool = False
    drop: int = 0


def _format_widths(_report: Report, cost: LayerCost) -> str:
    weights = str(cost.w_bits) if cost.w_bits else "-"
    return f"{weights}/{cost.a_bits}/{cost.out_bits}"


def _format_bound(_report: Report, cost: LayerCost) -> str:
    stats = cost.stats
    if stats.bound in ("compute", "none"):
        share = stats.compute_cycles
    else:
        share = dict(stats.stall_cycles)[stats.bound]
    return f"{stats.bound} {100 * share / stats.cycles:.0f} %" if stats.cycles else "none"


def _format_utilization(_report: Report, cost: LayerCost) -> str:
    return f"{100 * cost.stats.utilization:.1f}" if cost.stats.peak_macs_per_cycle else "-"


COLUMNS = (
    Column(title="layer", cell=lambda _, cost: cost.name, left=True),
    Column(title="op", cell=lambda _, cost: cost.op, left=True, drop=6),
    Column(title="bits\nW/I/O", cell=_format_widths, left=True),
    Column(title="MACs", cell=lambda _, cost: format_si(cost.stats.macs), drop=2),
    Column(title="cycles", cell=lambda _, cost: f"{cost.cycles:,}"),
    Column(title="cycles\n%", cell=lambda report, cost: format_share(cost.cycles, report.cycles), drop=3),
    Column(title="bound by", cell=_format_bound, left=True),
    Column(title="util.\n%", cell=_format_utilization, drop=7),
    Column(title="read\nDRAM", cell=lambda _, cost: format_bits(cost.stats.moved_bits("dram", "read")), drop=4),
    Column(title="written\nDRAM", cell=lambda _, cost: format_bits(cost.stats.moved_bits("dram", "write")), drop=1),
    Column(title="energy\nµJ", cell=lambda _, cost: format_digits(cost.energy_pj * 1e-6)),
    Column(title="energy\n%", cell=lambda report, cost: format_share(cost.energy_pj, report.energy_pj), drop=5),
)


def format_report(report: Report, *, width: int | None = None, color: bool = False) -> str:
    """Return a report as text.

    Parameters
    ----------
    report : Report
        The simulation.
    width : int, optional
        Columns of the terminal; None does not limit the table, as for a pipe or a file.
    color : bool
        Whether to put ANSI colours and bold type.
    """
    table = _build_layer_table(report, width or _UNLIMITED)
    parts = [
        render(table, width, color),
        format_hidden(report),
        format_totals(report),
        format_provenance(report, width),
    ]
    return "\n".join(part for part in parts if part)


def _build_layer_table(report: Report, width: int) -> Table:
    cells = {column.title: [column.cell(report, cost) for cost in report.layers if cost.cycles] for column in COLUMNS}
    columns = list(COLUMNS)
    for column in sorted((column for column in COLUMNS if column.drop), key=lambda column: column.drop):
        if _sum_widths(columns, cells, NAME_WIDTH) > width:
            columns.remove(column)
    room = max(8, width - _sum_widths(columns[1:], cells, 0) - 3)
    cells[COLUMNS[0].title] = [shorten(name, room) for name in cells[COLUMNS[0].title]]
    rows = [list(row) for row in zip(*(cells[column.title] for column in columns), strict=True)]
    origin = report.provenance
    title = f"{origin.network}, {origin.policy}, on {origin.arch} {origin.preset}"
    return build_table(title, [(column.title, column.left) for column in columns], rows)


def _sum_widths(columns: list[Column], cells: dict[str, list[str]], name_limit: int) -> int:
    """Return the width of a table: its columns, three blanks between them; names of layers at most ``name_limit``."""
    widths = [max(len(line) for text in (c.title, *cells[c.title]) for line in text.split("\n")) for c in columns]
    if name_limit and widths:
        widths[0] = min(widths[0], name_limit)
    return sum(widths) + 3 * len(widths)


def shorten(name: str, limit: int) -> str:
    """Return a name of at most ``limit`` characters, its middle left out where it is longer."""
    if len(name) <= limit:
        return name
    head = (limit - 2) // 2
    return f"{name[:head]}..{name[len(name) - (limit - 2 - head) :]}"


def build_table(title: str, columns: list[tuple[str, bool]], rows: list[list[str]]) -> Table:
    """Return a rich table: columns are (title, whether left aligned), cells are plain text."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for head, left in columns:
        table.add_column(Text(head), justify="left" if left else "right", no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def render(value: Any, width: int | None, color: bool) -> str:
    """Return a rich value as text of at most ``width`` columns, without blanks at the ends of lines."""
    from rich.console import Console

    target = io.StringIO()
    Console(
        file=target,
        width=width or _UNLIMITED,
        force_terminal=color,
        color_system="standard" if color else None,
        legacy_windows=False,
    ).print(value)
    return "\n".join(line.rstrip() for line in target.getvalue().splitlines()).strip("\n")


def format_hidden(report: Report) -> str:
    """Return a line on the layers that the table leaves out, those without cycles."""
    hidden = [cost for cost in report.layers if not cost.cycles]
    if not hidden:
        return ""
    ops: dict[str, int] = {}
    for cost in hidden:
        ops[cost.op] = ops.get(cost.op, 0) + 1
    names = ", ".join(f"{count} {op}" for op, count in ops.items())
    return f"without cycles of their own: {names}"


def format_totals(report: Report, width: int | None = None) -> str:
    """Return the totals as aligned lines."""
    totals = build_totals(report)
    cycles, energy = totals["cycles"], totals["energy_pj"]
    stalls = [f"{name} {format_share(count, cycles)} %" for name, count in totals["stall_cycles"].items() if count]
    parts = sorted(sum_energy(report).items(), key=lambda item: -item[1])
    images = f", {report.batch} images a pass" if report.batch > 1 else ""
    peaks = ", ".join(f"{name} {format_bits(bits)}" for name, bits in totals["peak_buffer_bits"].items() if bits)
    unknown = [item.name for item in report.area if item.area_um2 is None]
    area = f"{format_digits(totals['area_um2'] / 1e6)} mm2" if totals["area_um2"] else "unknown"
    if unknown and all(" of " in item.name for item in report.area):  # cells of an FPGA
        area, unknown = "; ".join(unknown), []
    piped = ""
    if report.interval_cycles != report.cycles:
        piped = f", at best {format_digits(totals['throughput_fps'])} with passes in the engines' pipeline"
    lines = [
        ("cycles", " + ".join([f"{cycles:,} = compute {format_share(totals['compute_cycles'], cycles)} %", *stalls])),
        ("latency", f"{format_si(totals['latency_s'], 's')} at {format_si(totals['clock_hz'], 'Hz')}{images}"),
        ("throughput", f"{format_digits(totals['fps'])} images/s, {format_si(totals['tops'] * 1e12, 'OPS')}{piped}"),
        ("utilization", f"{100 * totals['utilization']:.1f} % of {format_si(totals['macs'], 'MACs')} at full rate"),
        (
            "energy",
            f"{format_si(energy * 1e-12, 'J')} = " + ", ".join(f"{k} {format_share(v, energy)} %" for k, v in parts),
        ),
        ("efficiency", f"{format_digits(totals['tops_per_w'])} TOPS/W, {format_si(totals['power_w'], 'W')}"),
        ("EDP", f"{totals['edp']:.3g} J*s"),
        ("area", area + (f", without {', '.join(unknown)} (unknown)" if unknown else "")),
        ("DRAM", f"read {format_bits(totals['dram_read_bits'])}, written {format_bits(totals['dram_write_bits'])}"),
        ("weights", f"{format_bits(totals['weight_bits'])} stored{_compare_dense(report, totals['weight_bits'])}"),
        (
            "peak",
            f"activations {format_bits(totals['peak_activation_bits'])}"
            + (f"; tiles in a bank: {peaks}" if peaks else ""),
        ),
    ]
    return "\n" + "\n".join(_wrap(f"{name:<12} ", text, width) for name, text in lines)


def _compare_dense(report: Report, stored: int) -> str:
    """Return how much smaller the stored weights are than plain ones at the policy's bits, where they differ."""
    counts = {layer.name: layer.weights for layer in report.network.layers}
    dense = sum(counts.get(cost.name, 0) * cost.w_bits for cost in report.layers)
    return f", {dense / stored:.2f}x smaller than plain {format_bits(dense)}" if stored and dense != stored else ""


def format_provenance(report: Report, width: int | None = None) -> str:
    """Return where the figures come from, wrapped to the width."""
    origin = report.provenance
    items = [
        ("hwsim", origin.version),
        ("arch", f"{origin.arch} {origin.preset}" + (" (fields overridden)" if origin.preset.endswith("+") else "")),
        ("network", f"{origin.network}; {origin.network_source}"),
        ("mapper", origin.mapper),
        ("energy table", origin.energy_table),
        ("memory", origin.memory),
        ("clock", origin.clock_source),
        ("weights", origin.weights),
        ("activations", origin.activations),
        ("seed", str(origin.seed)),
    ]
    lines = [_wrap(f"{name:<12} ", text, width) for name, text in items if text]
    lines += [_wrap("unverified   ", text, width) for text in _join_unverified(origin.unverified)]
    lines += [_wrap("note         ", text, width) for text in origin.notes]
    told = [cost for cost in report.layers if cost.cycles or cost.op == "unpriced"]
    notes = dict.fromkeys(note for cost in told for note in cost.notes)
    if len(notes) > MOST_LAYER_NOTES:
        lines += [
            _wrap("layer notes  ", f"{len(notes)} different ones: see hwsim explain LAYER cycles, or --json", width)
        ]
    else:
        lines += [_wrap("layer note   ", f"{note} ({_count_layers(report, note)})", width) for note in notes]
    return "\n" + "\n".join(lines)


def _join_unverified(items: Iterable[str]) -> list[str]:
    """Return one line for each thing that has unverified fields, the fields listed."""
    found: dict[str, list[str]] = {}
    for item in items:
        head, _, field = item.rpartition(": ")
        found.setdefault(head, []).append(field)
    return [f"{head}: {', '.join(fields)}" if head else ", ".join(fields) for head, fields in found.items()]


def _count_layers(report: Report, note: str) -> str:
    names = [cost.name for cost in report.layers if note in cost.notes]
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _wrap(head: str, text: str, width: int | None) -> str:
    limit = max(40, min(width or TEXT_WIDTH, 140))
    lines = textwrap.fill(
        text.replace(" %", "\0%"),  # a share and its sign stay on one line
        limit,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines.replace("\0", " ").rstrip()


COMPARED: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("cycles", "cycles", lambda value: f"{value:,.0f}"),
    ("latency", "latency_s", lambda value: format_si(value, "s")),
    ("images/s", "fps", format_digits),
    ("energy", "energy_pj", lambda value: format_si(value * 1e-12, "J")),
    ("EDP, J*s", "edp", lambda value: f"{value:.3g}"),
    ("TOPS", "tops", format_digits),
    ("TOPS/W", "tops_per_w", format_digits),
    ("utilization, %", "utilization", lambda value: f"{100 * value:.1f}"),
    ("DRAM read", "dram_read_bits", format_bits),
    ("DRAM written", "dram_write_bits", format_bits),
    ("weights stored", "weight_bits", format_bits),
    ("area, mm2", "area_um2", lambda value: format_digits(value / 1e6) if value else "unknown"),
)
"""Rows of a comparison: label, key of the totals, format."""


def compare_totals(reports: list[Report]) -> list[dict[str, Any]]:
    """Return one row a figure: ``metric``, ``values`` (one a report), ``ratios`` to the first (None where it is zero)."""
    totals = [build_totals(report) for report in reports]
    rows = []
    for label, key, _ in COMPARED:
        values = [float(item[key]) for item in totals]
        ratios = [value / values[0] if values[0] else None for value in values]
        rows.append({"metric": key, "label": label, "values": values, "ratios": ratios})
    return rows


def list_differences(reports: list[Report]) -> list[str]:
    """Return what a reader of a comparison has to know: conditions in which the reports differ."""
    found = []
    for label, field in (("energy tables", "energy_table"), ("memories", "memory"), ("weights", "weights")):
        values = [getattr(report.provenance, field) for report in reports]
        if len(set(values)) > 1:
            found.append(f"{label} differ: " + "; ".join(dict.fromkeys(values)))
    clocks = [format_si(report.clock_hz, "Hz") for report in reports]
    if len(set(clocks)) > 1:
        found.append("clocks differ: " + ", ".join(clocks))
    return found


def format_comparison(reports: list[Report], *, width: int | None = None, color: bool = False) -> str:
    """Return several reports of one network side by side, with ratios to the first."""
    first = reports[0].provenance
    columns: list[tuple[str, bool]] = [("", True)]
    for number, report in enumerate(reports):
        columns.append((f"{report.provenance.arch}\n{report.provenance.preset}", False))
        if number:
            columns.append(("ratio", False))
    rows = []
    for row, (label, _, form) in zip(compare_totals(reports), COMPARED, strict=True):
        cells = [label]
        for number, (value, ratio) in enumerate(zip(row["values"], row["ratios"], strict=True)):
            cells.append(form(value))
            if number:
                known = ratio is not None and not (row["metric"] == "area_um2" and not value)
                cells.append(f"{ratio:.2f}x" if known else "-")
        rows.append(cells)
    table = build_table(f"{first.network}, {first.policy}, batch {reports[0].batch}", columns, rows)
    lines = [render(table, width, color)]
    lines += ["", *(_wrap("note         ", text, width) for text in list_differences(reports))]
    unverified = dict.fromkeys(f"{r.provenance.preset}: {text}" for r in reports for text in r.provenance.unverified)
    lines += [_wrap("unverified   ", text, width) for text in _join_unverified(unverified)]
    return "\n".join(lines).rstrip("\n")
