"""The terms that make up one figure of a report, with their sources."""

from __future__ import annotations

from collections.abc import Callable

from hwsim.core.errors import UnknownName
from hwsim.core.report import Report
from hwsim.core.rows import list_stalls
from hwsim.core.stats import LayerCost
from hwsim.report.units import format_bits, format_count, format_digits, format_share, format_si

TOTAL = "total"
"""Name that stands for the whole network."""
STALL_MEANING = {
    "fill": "the engine's pipeline fills",
    "drain": "results of the last tile leave the engine",
    "weights": "the engine waits for a weight tile",
    "inputs": "the engine waits for an input tile",
    "output_buffer": "the engine waits for a bank of obuf",
    "memory": "partial sums come back, or the last stores are written",
    "refresh": "such waits in which the DRAM refreshes",
    "issue": "fixed cost of starting an instruction",
}


def explain(report: Report, layer: str, metric: str) -> str:
    """Return the terms of a figure as text.

    Parameters
    ----------
    report : Report
        The simulation.
    layer : str
        Name of a layer, or ``total``.
    metric : str
        One of ``METRICS``.

    Raises
    ------
    UnknownName
        No such layer or metric, with the nearest ones.
    """
    rows = {cost.name: cost for cost in report.layers}
    if metric not in METRICS:
        raise UnknownName("metric", metric, METRICS)
    if layer != TOTAL and layer not in rows:
        raise UnknownName("layer", layer, (*rows, TOTAL))
    costs = list(report.layers) if layer == TOTAL else [rows[layer]]
    title = f"{layer}: {metric}" + ("" if layer == TOTAL else f" of a {rows[layer].op}")
    where = (
        f"{report.provenance.arch} {report.provenance.preset}, {report.provenance.network}, {report.provenance.policy}"
    )
    lines = [f"{title}  ({where})", *METRICS[metric](report, costs)]
    if layer != TOTAL and metric != "area":
        lines += [f"note: {note}" for note in rows[layer].notes]
    return "\n".join(lines)


def _explain_cycles(_report: Report, costs: list[LayerCost]) -> list[str]:
    total = sum(cost.cycles for cost in costs)
    terms = [("compute", sum(cost.stats.compute_cycles for cost in costs), "the engine computes")]
    stalls = [list_stalls(cost.stats) for cost in costs]
    terms += [(name, sum(found[name] for found in stalls), meaning) for name, meaning in STALL_MEANING.items()]
    lines = [f"  {name:<14}{count:>16,} cycles {format_share(count, total):>6} %  {why}" for name, count, why in terms]
    lines.append(f"  {'sum':<14}{total:>16,} cycles")
    if len(costs) == 1:
        lines.append(f"  bound by {costs[0].stats.bound}; {costs[0].stats.instructions:,} instructions")
        lines += _describe_mapping(costs[0])
    return lines


def _describe_mapping(cost: LayerCost) -> list[str]:
    if cost.mapping is None:
        return []
    tile = " ".join(f"{dim}{size}" for dim, size in zip("NGKCPQ", cost.mapping.tile, strict=True))
    proof = f", proven best{cost.mapping.tie}" if cost.mapping.proven and cost.mapping.objective != "given" else ""
    return [f"  mapping: tile {tile}, order {cost.mapping.order}, by {cost.mapping.objective}{proof}"]


def _explain_energy(_report: Report, costs: list[LayerCost]) -> list[str]:
    terms: dict[tuple[str, ...], list[float]] = {}
    for cost in costs:
        for term in cost.energy:
            key = (term.component, term.verb, term.unit, repr(term.unit_pj), term.source, term.note)
            found = terms.setdefault(key, [0.0, 0.0])
            found[0] += term.count
            found[1] += term.energy_pj
    total = sum(cost.energy_pj for cost in costs)
    lines, notes = [], list(dict.fromkeys((key[4], key[5]) for key in terms))
    for (component, verb, unit, each, source, note), (count, energy) in terms.items():
        mark = notes.index((source, note)) + 1
        lines.append(
            f"  {component + ' ' + verb:<20}{format_count(count):>20} {_pluralize(unit):<9} x {format_digits(float(each), 4):>9} pJ"
            f" = {energy:>20,.1f} pJ {format_share(energy, total):>6} %  [{mark}]"
        )
    lines.append(f"  {'sum':<20}{'':>47}{total:>20,.1f} pJ  = {format_si(total * 1e-12, 'J')}")
    for number, (source, note) in enumerate(notes, 1):
        lines.append(f"  [{number}] {source or 'no source'}" + (f"; {note}" if note else ""))
    return lines


def _pluralize(unit: str) -> str:
    return f"{unit}es" if unit.endswith(("s", "sh", "ch", "x")) else f"{unit}s"


def _explain_traffic(_report: Report, costs: list[LayerCost]) -> list[str]:
    moved: dict[tuple[str, str], list[int]] = {}
    for cost in costs:
        for item in cost.stats.traffic:
            found = moved.setdefault((item.level, item.operand), [0, 0])
            found[0] += item.read_bits
            found[1] += item.write_bits
    lines = [f"  {'level':<8}{'operand':<9}{'read bits':>20}{'':>14}{'written bits':>18}"]
    for (level, operand), (read, write) in moved.items():
        lines.append(
            f"  {level:<8}{operand:<9}{read:>20,} = {format_bits(read):>11}{write:>18,} = {format_bits(write):>11}"
        )
    weights, acts = sum(c.weight_bits for c in costs), sum(c.act_bits for c in costs)
    lines.append(f"  stored: weights {weights:,} bits, input and output activations {acts:,} bits")
    dram = sum(c.stats.moved_bits("dram", way) for c in costs for way in ("read", "write"))
    macs = sum(c.stats.macs for c in costs)
    if dram and macs:
        lines.append(f"  arithmetic intensity {format_digits(8 * macs / dram)} MAC a byte of memory traffic")
    return lines


def _explain_utilization(_report: Report, costs: list[LayerCost]) -> list[str]:
    macs = sum(cost.stats.macs for cost in costs)
    possible = sum(cost.stats.peak_macs_per_cycle * cost.cycles for cost in costs)
    busy = sum(cost.stats.peak_macs_per_cycle * cost.stats.compute_cycles for cost in costs)
    if not possible:
        return ["  no multiply-accumulates: the vector unit or address generation runs this layer"]
    peak = (
        f"{format_digits(costs[0].stats.peak_macs_per_cycle, 4)} MACs a cycle"
        if len(costs) == 1
        else "peak MACs a cycle"
    )
    return [
        f"  {format_count(macs)} MACs / ({peak} x cycles = {format_count(possible)}) = {format_share(macs, possible)} %",
        f"  while computing: {format_share(macs, busy)} %  (what the array's shape leaves idle)",
        f"  cycles that compute: {format_share(busy, possible)} %  (stalls take the rest, see metric cycles)",
    ]


def _explain_area(report: Report, _costs: list[LayerCost]) -> list[str]:
    total = report.area_um2
    lines = []
    for item in report.area:
        size = "unknown" if item.area_um2 is None else f"{item.area_um2:,.0f}"
        share = "" if item.area_um2 is None else f"{format_share(item.area_um2, total):>6} %"
        lines.append(f"  {item.name:<24}{size:>18} um2 {share:>8}  {item.source}")
    lines.append(
        f"  {'sum of the known':<24}{total:>18,.0f} um2  = {total / 1e6:.3f} mm2 (of the whole chip, not of one layer)"
    )
    return lines


def _explain_latency(report: Report, costs: list[LayerCost]) -> list[str]:
    cycles = sum(cost.cycles for cost in costs)
    seconds = cycles / report.clock_hz
    lines = [
        f"  {cycles:,} cycles / {format_si(report.clock_hz, 'Hz')} = {format_si(seconds, 's', 4)}",
        f"  clock: {report.provenance.clock_source or 'no source'}",
    ]
    if len(costs) == len(report.layers):
        lines.append("  sum of the layers: no prefetch across layers, no fusion")
        lines.append(f"  batch {report.batch}: {format_digits(report.fps, 4)} images a second")
    return lines


METRICS: dict[str, Callable[[Report, list[LayerCost]], list[str]]] = {
    "cycles": _explain_cycles,
    "energy": _explain_energy,
    "traffic": _explain_traffic,
    "utilization": _explain_utilization,
    "area": _explain_area,
    "latency": _explain_latency,
}
"""Figures that can be explained."""
