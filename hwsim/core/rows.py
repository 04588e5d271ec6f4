"""A report as plain values with stable keys (JSON) and as a table (pandas).

Keys are only ever added; the tests hold the list.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hwsim.core.mapping import TILE_DIMS, Mapping
from hwsim.core.stats import STALLS, LayerCost, LayerStats

if TYPE_CHECKING:
    import pandas

    from hwsim.core.report import Report

SCHEMA = 1
"""Version of the JSON layout; it grows when a key changes its meaning or goes."""


def build_dict(report: Report) -> dict[str, Any]:
    """Return a report as plain values: ``schema``, ``layers`` (one entry a layer), ``totals``, ``area``, ``provenance``.

    Units stand in the names; ``latency_s`` in seconds, ``fps`` in images a second (``throughput_fps`` with passes in the engines'
    pipeline), ``edp`` in J*s of one pass of ``batch`` images, ``tops`` in 1e12 operations a second at two operations a
    multiply-accumulate.
    """
    return {
        "schema": SCHEMA,
        "layers": [build_row(cost) for cost in report.layers],
        "totals": build_totals(report),
        "area": [asdict(item) for item in report.area],
        "provenance": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(report.provenance).items()
        },
    }


def build_row(cost: LayerCost) -> dict[str, Any]:
    """Return one layer as plain values."""
    stats = cost.stats
    return {
        "name": cost.name,
        "op": cost.op,
        "w_bits": cost.w_bits,
        "a_bits": cost.a_bits,
        "out_bits": cost.out_bits,
        "macs": stats.macs,
        "cycles": stats.cycles,
        "compute_cycles": stats.compute_cycles,
        "stall_cycles": list_stalls(stats),
        "energy_pj": cost.energy_pj,
        "energy_pj_by": cost.energy_by_component(),
        "dram_read_bits": stats.moved_bits("dram", "read"),
        "dram_write_bits": stats.moved_bits("dram", "write"),
        "weight_bits": cost.weight_bits,
        "act_bits": cost.act_bits,
        "utilization": stats.utilization,
        "peak_macs_per_cycle": stats.peak_macs_per_cycle,
        "bound": stats.bound,
        "traffic": [asdict(item) for item in stats.traffic],
        "peak_buffer_bits": dict(stats.peak_buffer_bits),
        "instructions": stats.instructions,
        "mapping": None if cost.mapping is None else build_mapping(cost.mapping),
        "notes": list(cost.notes),
    }


def list_stalls(stats: LayerStats) -> dict[str, int]:
    """Return the stall cycles of a layer with every cause of ``STALLS`` present."""
    found = dict(stats.stall_cycles)
    return {name: found.get(name, 0) for name in STALLS}


def build_mapping(mapping: Mapping) -> dict[str, Any]:
    """Return a mapping as plain values."""
    return {
        "tile": dict(zip(TILE_DIMS, mapping.tile, strict=True)),
        "order": mapping.order,
        "objective": mapping.objective,
        "value": mapping.value,
        "lower_bound": mapping.lower_bound,
        "proven": mapping.proven,
        "evaluated": mapping.evaluated,
        "candidates": mapping.candidates,
    }


def build_totals(report: Report) -> dict[str, Any]:
    """Return the sums over all layers and what follows from them."""
    stats = [cost.stats for cost in report.layers]
    possible = sum(s.peak_macs_per_cycle * s.cycles for s in stats)
    return {
        "batch": report.batch,
        "clock_hz": report.clock_hz,
        "macs": report.macs,
        "cycles": report.cycles,
        "compute_cycles": sum(s.compute_cycles for s in stats),
        "stall_cycles": report.stall_cycles(),
        "latency_s": report.latency_s,
        "fps": report.fps,
        "throughput_fps": report.throughput_fps,
        "energy_pj": report.energy_pj,
        "energy_pj_by": sum_energy(report),
        "edp": report.edp,
        "power_w": report.energy_pj * 1e-12 / report.latency_s if report.cycles else 0.0,
        "tops": report.tops,
        "tops_per_w": report.tops_per_w,
        "utilization": report.macs / possible if possible else 0.0,
        "area_um2": report.area_um2,
        "dram_read_bits": sum(s.moved_bits("dram", "read") for s in stats),
        "dram_write_bits": sum(s.moved_bits("dram", "write") for s in stats),
        "weight_bits": sum(cost.weight_bits for cost in report.layers),
        "act_bits": sum(cost.act_bits for cost in report.layers),
        "peak_activation_bits": report.peak_activation_bits,
        "peak_buffer_bits": find_peaks(stats),
        "instructions": sum(s.instructions for s in stats),
    }


def sum_energy(report: Report) -> dict[str, float]:
    """Return pJ by component over all layers, in order of first appearance."""
    found: dict[str, float] = {}
    for cost in report.layers:
        for name, value in cost.energy_by_component().items():
            found[name] = found.get(name, 0.0) + value
    return found


def find_peaks(stats: list[LayerStats]) -> dict[str, int]:
    """Return the largest tile that any layer puts into a bank of each buffer, bits."""
    found: dict[str, int] = {}
    for item in stats:
        for name, bits in item.peak_buffer_bits:
            found[name] = max(found.get(name, 0), bits)
    return found


def flatten_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without nesting: keys of nested dictionaries joined by a dot, lists joined into text.

    ``traffic`` becomes ``traffic.<level>.<operand>.read_bits`` and ``.write_bits``.
    """
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if key == "traffic":
            for item in value:
                for way in ("read_bits", "write_bits"):
                    flat[f"traffic.{item['level']}.{item['operand']}.{way}"] = item[way]
        elif isinstance(value, dict):
            flat.update({f"{key}.{name}": inner for name, inner in flatten_row(value).items()})
        elif isinstance(value, list):
            flat[key] = "; ".join(str(item) for item in value)
        else:
            flat[key] = value
    return flat


def build_flat_rows(report: Report) -> list[dict[str, Any]]:
    """Return flat rows that all have the same keys in the same order; a cell that a layer lacks is None."""
    rows = [flatten_row(build_row(cost)) for cost in report.layers]
    first = list(dict.fromkeys(key for row in rows for key in row if "." not in key and key != "mapping"))
    nested = list(dict.fromkeys(key for row in rows for key in row if "." in key))
    groups = list(dict.fromkeys(key.split(".")[0] for key in nested))
    ordered = [key for key in first if key != "notes"]
    ordered += [key for group in groups for key in nested if key.split(".")[0] == group] + ["notes"]
    return [{key: _cell(row, key) for key in ordered} for row in rows]


def _cell(row: dict[str, Any], key: str) -> Any:
    # What moves bits or costs energy is zero where a layer does none of it; anything else is absent.
    countable = key.startswith(("traffic.", "energy_pj_by.", "peak_buffer_bits."))
    return row.get(key, 0 if countable else None)


def build_frame(report: Report) -> pandas.DataFrame:
    """Return one row a layer as a DataFrame; columns are the keys of `build_row`, nested ones joined by a dot."""
    import pandas

    return pandas.DataFrame(build_flat_rows(report))
