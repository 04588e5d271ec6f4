"""Plots of a report: roofline with every layer, energy and cycles per layer. Figures only; nothing is shown on a screen."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from hwsim.core.report import Report
from hwsim.core.rows import list_stalls, sum_energy
from hwsim.core.stats import LayerCost
from hwsim.report.text import shorten
from hwsim.report.units import format_si

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
LABELLED = 14
"""Layers of the roofline that get a name: those that take the most cycles."""
SHOWN = 80
"""Most bars of a plot; beyond, the cheapest layers are joined into one."""
PALETTE = (
    *("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb"),
    *("#222255", "#994455", "#225522", "#997700", "#225555"),
)
"""Paul Tol's bright scheme, readable without seeing all colours, then his dark one."""
CYCLE_COLORS = {
    "compute": "#4477aa",
    "fill": "#88ccee",
    "drain": "#117733",
    "weights": "#ee6677",
    "inputs": "#ccbb44",
    "output_buffer": "#aa3377",
    "memory": "#bbbbbb",
    "refresh": "#555555",
    "issue": "#ee8866",
}
"""Compute and every stall of `hwsim.core.stats.STALLS`, in that order."""


def write_plots(report: Report, folder: Path) -> tuple[str, ...]:
    """Draw ``roofline.png``, ``energy.png`` and ``cycles.png`` into a folder and return their names."""
    figures = {
        "roofline.png": draw_roofline(report),
        "energy.png": draw_energy(report),
        "cycles.png": draw_cycles(report),
    }
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=DPI)
    return tuple(figures)


def find_bandwidth(report: Report) -> float | None:
    """Return the memory's peak in bytes a second (port or part, whichever is less), or None where it is not recorded."""
    try:
        memory = json.loads(report.provenance.arch_fields)["memory"]
        port = memory["bits_per_cycle"] * report.clock_hz / 8
        if memory["channels"] == "per-operand":
            port *= 3
        if memory["kind"] != "dram":
            return float(port)
        from hwsim.core.dram_parts import find_part

        return float(min(port, find_part(memory["part"]).peak_bits_per_second / 8))
    except (ValueError, KeyError, TypeError):
        return None


def draw_roofline(report: Report) -> Figure:
    """Return a log-log figure: arithmetic intensity (MAC per byte of DRAM traffic) against GMAC/s, every MAC layer a point."""
    figure, axes = _start(report, "roofline", 10, 6)
    points = []
    for cost in report.layers:
        moved = cost.stats.moved_bits("dram", "read") + cost.stats.moved_bits("dram", "write")
        if cost.stats.macs and cost.cycles and moved:
            rate = cost.stats.macs * report.clock_hz / cost.cycles / 1e9
            points.append((8 * cost.stats.macs / moved, rate, cost))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("arithmetic intensity, MAC / byte of DRAM traffic")
    axes.set_ylabel("achieved rate, GMAC/s")
    if not points:
        axes.text(0.5, 0.5, "no layer multiplies and reads memory", ha="center", transform=axes.transAxes)
        return figure
    _draw_points(axes, report, points)
    _draw_roofs(axes, report, points)
    axes.grid(True, which="major", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    figure.canvas.draw()
    _label_points(figure, axes, points)
    return figure


def _draw_points(axes: Axes, report: Report, points: list[tuple[float, float, LayerCost]]) -> None:
    for bound in dict.fromkeys(cost.stats.bound for _, _, cost in points):
        group = [point for point in points if point[2].stats.bound == bound]
        sizes = [20 + 500 * cost.cycles / max(report.cycles, 1) for _, _, cost in group]
        axes.scatter(
            [x for x, _, _ in group], [y for _, y, _ in group], s=sizes, color=CYCLE_COLORS.get(bound, "#bbbbbb"),
            edgecolor="white", linewidth=0.6, alpha=0.9, zorder=3, label=f"bound by {bound.replace('_', ' ')}",
        )  # fmt: skip


def _draw_roofs(axes: Axes, report: Report, points: list[tuple[float, float, LayerCost]]) -> None:
    """Draw compute roofs (one per distinct peak of the layers' formats) and the memory's roof."""
    peaks = sorted({cost.stats.peak_macs_per_cycle for _, _, cost in points}, reverse=True)
    xs, ys = [x for x, _, _ in points], [y for _, y, _ in points]
    bandwidth = find_bandwidth(report)
    top = peaks[0] * report.clock_hz / 1e9
    ridge = top * 1e9 / bandwidth if bandwidth else max(xs)
    low, high = min(*xs, ridge) / 2, max(*xs, ridge) * 3
    axes.set_xlim(low, high)
    axes.set_ylim(min(ys) / 2.5, top * 2.2)
    for number, peak in enumerate(peaks[:4]):
        roof = peak * report.clock_hz / 1e9
        start = max(low, roof * 1e9 / bandwidth) if bandwidth else low
        label = f"{peak:,.0f} MAC/cycle: {format_si(roof * 1e9, 'MAC/s')}"
        axes.plot(
            [start, high],
            [roof, roof],
            color="#333333",
            linewidth=1.4,
            linestyle=("-", "--", "-.", ":")[number],
            label=label,
        )
    if bandwidth:
        axes.plot(
            [low, ridge], [low * bandwidth / 1e9, top], color="#aa3377", linewidth=1.4,
            label=f"memory: {format_si(bandwidth, 'B/s')}",
        )  # fmt: skip


def _label_points(figure: Figure, axes: Axes, points: list[tuple[float, float, LayerCost]]) -> None:
    """Name the points that take the most cycles; a label goes where it covers no point, no roof and no other label."""
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    unit = figure.dpi / 72
    groups = _join_near(axes, points, 4 * unit)
    spots = [tuple(axes.transData.transform((x, y))) for x, y, _ in points] + _trace_roofs(axes, 5 * unit)
    taken = [Bbox.from_extents(x - 3 * unit, y - 3 * unit, x + 3 * unit, y + 3 * unit) for x, y in spots]
    frame = axes.get_window_extent(renderer)
    groups.sort(key=lambda group: -sum(points[i][2].cycles for i in group))
    angles = [k * math.pi / 8 for k in range(16)]
    places = [(r * math.cos(a), r * math.sin(a)) for r in (9, 14, 20, 28, 38, 50, 64) for a in angles]
    for group in groups[:LABELLED]:
        x, y, cost = points[max(group, key=lambda i: points[i][2].cycles)]
        label = shorten(cost.name, 24) + (f" and {len(group) - 1} more" if len(group) > 1 else "")
        note = axes.annotate(
            label, (x, y), xytext=(0, 0), textcoords="offset points", fontsize=7, va="center",
            arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3},
        )  # fmt: skip
        for dx, dy in places:
            note.set_position((dx, dy))
            note.set_horizontalalignment("left" if dx > 1 else "right" if dx < -1 else "center")
            note.update_positions(renderer)
            box = Text.get_window_extent(note, renderer).padded(unit)  # of the text, without its line
            inside = frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 and box.y1 < frame.y1
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
        else:
            note.remove()


def _join_near(axes: Axes, points: list[tuple[float, float, LayerCost]], reach: float) -> list[list[int]]:
    """Return indices of points in groups that lie on one another; identical layers do."""
    groups: list[list[int]] = []
    places = [axes.transData.transform((x, y)) for x, y, _ in points]
    for i, (x, y) in enumerate(places):
        for group in groups:
            if math.hypot(x - places[group[0]][0], y - places[group[0]][1]) < reach:
                group.append(i)
                break
        else:
            groups.append([i])
    return groups


def _trace_roofs(axes: Axes, step: float) -> list[tuple[float, float]]:
    """Return places along the drawn lines, in pixels, ``step`` apart."""
    found = []
    for line in axes.get_lines():
        (x0, y0), (x1, y1) = axes.transData.transform(line.get_xydata())
        count = max(1, int(math.hypot(x1 - x0, y1 - y0) / step))
        found += [(x0 + (x1 - x0) * k / count, y0 + (y1 - y0) * k / count) for k in range(count + 1)]
    return found


def draw_energy(report: Report) -> Figure:
    """Return stacked bars: energy of each layer by component."""
    components = [name for name, value in sorted(sum_energy(report).items(), key=lambda item: -item[1]) if value > 0]
    rows = [(cost, [cost.energy_by_component().get(name, 0.0) for name in components]) for cost in report.layers]
    colors = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(components)}
    return _draw_stack(report, "energy", "pJ", rows, colors)


def draw_cycles(report: Report) -> Figure:
    """Return stacked bars: cycles of each layer, compute and every kind of stall."""
    rows = [
        (cost, [float(cost.stats.compute_cycles), *(float(n) for n in list_stalls(cost.stats).values())])
        for cost in report.layers
    ]
    return _draw_stack(report, "cycles", "cycles", rows, CYCLE_COLORS)


def _draw_stack(
    report: Report, what: str, unit: str, rows: list[tuple[LayerCost, list[float]]], colors: dict[str, str]
) -> Figure:
    """Draw horizontal stacked bars, a layer a line, in the order of execution."""
    bars = _join_small([(cost.name, parts) for cost, parts in rows if sum(parts) > 0])
    used = [i for i in range(len(colors)) if any(parts[i] for _, parts in bars)]
    total = sum(sum(parts) for _, parts in bars)
    figure, axes = _start(report, what, 9, max(3.2, 1.7 + 0.19 * len(bars)))
    scale, label = _choose_scale(max((sum(parts) for _, parts in bars), default=0.0), unit)
    left = [0.0] * len(bars)
    for i in used:
        name, color = list(colors.items())[i]
        values = [parts[i] / scale for _, parts in bars]
        share = sum(parts[i] for _, parts in bars) / total
        axes.barh(
            range(len(bars)),
            values,
            left=left,
            color=color,
            height=0.8,
            label=f"{name.replace('_', ' ')} {100 * share:.1f} %",
        )
        left = [a + b for a, b in zip(left, values, strict=True)]
    axes.set_yticks(range(len(bars)), [shorten(name, 30) for name, _ in bars], fontsize=7)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xlabel(label)
    axes.grid(True, axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for i, end in enumerate(left):
        share = 100 * sum(bars[i][1]) / total
        axes.annotate(
            f"{share:.1f} %",
            (end, i),
            xytext=(3, 0),
            textcoords="offset points",
            fontsize=6,
            va="center",
            color="#555555",
        )
    axes.set_xlim(0, max(left, default=1.0) * 1.09 or 1.0)
    if used:
        figure.legend(
            loc="outside right upper", fontsize=8, title="share of the total", title_fontsize=8, frameon=False
        )
    return figure


def _join_small(bars: list[tuple[str, list[float]]]) -> list[tuple[str, list[float]]]:
    """Join the smallest bars into one where there are more than ``SHOWN``."""
    if len(bars) <= SHOWN:
        return bars
    order = sorted(range(len(bars)), key=lambda i: -sum(bars[i][1]))
    kept, joined = set(order[: SHOWN - 1]), order[SHOWN - 1 :]
    rest = [sum(bars[i][1][part] for i in joined) for part in range(len(bars[0][1]))]
    return [bar for i, bar in enumerate(bars) if i in kept] + [(f"{len(joined)} smaller layers", rest)]


def _choose_scale(largest: float, unit: str) -> tuple[float, str]:
    if unit == "pJ":
        for scale, name in ((1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ")):
            if largest >= scale:
                return scale, f"energy of a layer, {name}"
        return 1.0, "energy of a layer, pJ"
    for scale, name in ((1e6, "million cycles"), (1e3, "thousand cycles")):
        if largest >= scale:
            return scale, name
    return 1.0, "cycles"


def _start(report: Report, what: str, width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    origin = report.provenance
    axes = figure.add_subplot()
    axes.set_title(
        f"{origin.network} {origin.policy} on {origin.arch} {origin.preset}: {what}", fontsize=10, loc="left"
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    return figure, axes
