"""SRAM macros by interpolation of a CACTI 7 sweep (``data/sram_cacti7.csv``, origin in ``data/README.md``).

- Capacity and width: log-log interpolation, piecewise linear; along the capacity every figure is first made monotone by a
  running maximum (4 of 3,900 steps of the sweep fall).
- Nodes between 22 and 65 nm that were not swept: log-log interpolation in the node. Beyond: dynamic energy and area of the
  nearest node scaled by Stillmaker and Baas 2017 at equal supply; leakage and times stay those of the nearest node, for
  leakage does not scale as dynamic energy does.
- Smaller than the smallest macro swept (256 B, at least 32 words), or a word below 16 bits: priced as the smallest macro or
  word, its energy, leakage and area not extrapolated; the note says so, unverified.
- A word above 512 bits: macros of 512 bits side by side, each with its share of the capacity (a share of a macro counts as
  such).
- Above 4 MiB: macros of 4 MiB, of which an access reaches one; leakage and area grow in proportion, wires between them are
  not modelled.
- Two ports (``1r1w``) and 350 K were swept at 64 bits only: other widths take the ratio to ``1rw`` at 300 K from there.
"""

from __future__ import annotations

import csv
import functools
import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from energy_models.scaling import CITATION, area_ratio, energy_ratio
from hwsim.core.check import require_choice, require_int
from hwsim.core.errors import SpecError

SWEEP = Path(__file__).parent / "data" / "sram_cacti7.csv"
SOURCE = "CACTI 7 sweep (data/sram_cacti7.csv)"
COLUMNS = ("read_pJ", "write_pJ", "leak_total_mW", "area_mm2", "access_ns", "cycle_ns")
READ, WRITE, LEAK, AREA, ACCESS, CYCLE = range(6)
NARROWEST_BITS, WIDEST_BITS = 16, 512
LARGEST_BITS = (4 << 20) * 8
SWEPT_RATIO_BITS = 64
DEVICES = ("itrs-lstp", "itrs-hp")
PORTS = ("1rw", "1r1w")
TEMPERATURES_K = (300, 350)

Figures = tuple[float, ...]
"""Logarithms of the six figures in the order of ``COLUMNS``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SramCost:
    """Cost of one buffer.

    Parameters
    ----------
    read_pj, write_pj : float
        Dynamic energy of one access of ``width_bits``, pJ.
    width_bits : int
        Bits of one access.
    leak_mw : float
        Leakage power of the whole buffer, mW.
    area_um2 : float
        Area of the whole buffer.
    access_ns, cycle_ns : float
        Access and cycle time.
    source, note : str
        Where the figures come from; every rule beyond plain interpolation.
    """

    read_pj: float
    write_pj: float
    width_bits: int
    leak_mw: float
    area_um2: float
    access_ns: float
    cycle_ns: float
    source: str
    note: str = ""

    @property
    def read_pj_per_bit(self) -> float:
        """Energy of a read bit, pJ."""
        return self.read_pj / self.width_bits

    @property
    def write_pj_per_bit(self) -> float:
        """Energy of a written bit, pJ."""
        return self.write_pj / self.width_bits


@dataclass(frozen=True, slots=True)
class _Curve:
    """Figures of one width along the capacity: log2 of the bits, rising, and the logarithms of the figures."""

    log_bits: tuple[float, ...]
    figures: tuple[Figures, ...]

    def read_at(self, log_bits: float) -> Figures:
        """Return the figures at a capacity, those of an end beyond it."""
        at = bisect_right(self.log_bits, log_bits)
        if at == 0:
            return self.figures[0]
        if at == len(self.log_bits):
            return self.figures[-1]
        return _mix(self.figures[at - 1], self.figures[at], self.log_bits[at - 1], self.log_bits[at], log_bits)


Sweep = Mapping[tuple[int, str, int, str], Mapping[int, _Curve]]
"""By node, device, temperature and ports: the curve of every width."""


def build_sweep(rows: Iterable[Mapping[str, str]]) -> Sweep:
    """Return the curves of a sweep.

    Parameters
    ----------
    rows : iterable of mapping
        Rows of the CSV, text by column.
    """
    groups: dict[tuple[int, str, int, str], dict[int, dict[float, Figures]]] = {}
    for row in rows:
        key = (int(row["node_nm"]), row["device"], int(row["temp_K"]), row["ports"])
        points = groups.setdefault(key, {}).setdefault(int(row["width_bits"]), {})
        points[math.log2(8 * int(row["capacity_B"]))] = tuple(math.log(float(row[name])) for name in COLUMNS)
    return {
        key: {width: _build_curve(points) for width, points in sorted(widths.items())} for key, widths in groups.items()
    }


def _build_curve(points: Mapping[float, Figures]) -> _Curve:
    capacities = sorted(points)
    running: list[Figures] = []
    for capacity in capacities:
        figures = points[capacity]
        running.append(tuple(map(max, figures, running[-1])) if running else figures)
    return _Curve(tuple(capacities), tuple(running))


@functools.cache
def load_sweep() -> Sweep:
    """Return the shipped sweep."""
    with SWEEP.open(newline="", encoding="utf-8") as file:
        return build_sweep(csv.DictReader(file))


@functools.lru_cache(maxsize=4096)
def sram_cost(
    node_nm: float, device: str, capacity_bits: int, width_bits: int, *, ports: str = "1rw", temp_k: int = 300
) -> SramCost:
    """Return the cost of a scratchpad.

    Parameters
    ----------
    node_nm : float
        Technology node, 7 to 130 nm.
    device : str
        ``itrs-lstp`` or ``itrs-hp``; they differ in leakage by three to four orders of magnitude.
    capacity_bits, width_bits : int
        Size, and bits of one access.
    ports : str
        ``1rw`` or ``1r1w``.
    temp_k : int
        300 or 350; matters for leakage.

    Raises
    ------
    SpecError
    """
    return evaluate_sram(load_sweep(), node_nm, device, capacity_bits, width_bits, ports=ports, temp_k=temp_k)


def evaluate_sram(
    sweep: Sweep,
    node_nm: float,
    device: str,
    capacity_bits: int,
    width_bits: int,
    *,
    ports: str = "1rw",
    temp_k: int = 300,
) -> SramCost:
    """Return `sram_cost` from any sweep."""
    require_choice("sram.device", device, DEVICES)
    require_choice("sram.ports", ports, PORTS)
    if temp_k not in TEMPERATURES_K:
        raise SpecError("sram.temp_k", temp_k, "300 or 350")
    require_int("sram.capacity_bits", capacity_bits, 1)
    require_int("sram.width_bits", width_bits, 1, 1 << 20)
    notes: list[str] = []
    side_by_side = max(1.0, width_bits / WIDEST_BITS)
    if side_by_side > 1:
        notes.append(f"{width_bits}-bit words by {side_by_side:g} macros of {WIDEST_BITS} bits side by side")
    if width_bits < NARROWEST_BITS:
        notes.append(f"{width_bits}-bit words priced as {NARROWEST_BITS} bits, the narrowest swept")
    share_bits = capacity_bits / side_by_side
    width = min(max(width_bits, NARROWEST_BITS), WIDEST_BITS)
    stacked = max(1.0, share_bits / LARGEST_BITS)
    if stacked > 1:
        notes.append(f"{stacked * side_by_side:.3g} macros of 4 MiB, wires between them not modelled")
    nodes = sorted({key[0] for key in sweep})
    inside = min(max(node_nm, nodes[0]), nodes[-1])
    logs = _at_node(sweep, nodes, inside, device, width, math.log2(share_bits), ports, temp_k, notes)
    energy, area = 1.0, 1.0
    if inside != node_nm:
        energy, area = energy_ratio(inside, 0.9, node_nm, 0.9), area_ratio(inside, node_nm)
        notes.append(
            f"energy x{energy:.3g} and area x{area:.3g} from {inside:g} to {node_nm:g} nm ({CITATION}); "
            f"leakage and times of {inside:g} nm"
        )
    values = [math.exp(log) for log in logs]
    whole = side_by_side * stacked
    return SramCost(
        read_pj=values[READ] * side_by_side * energy,
        write_pj=values[WRITE] * side_by_side * energy,
        width_bits=width_bits,
        leak_mw=values[LEAK] * whole,
        area_um2=values[AREA] * 1e6 * whole * area,
        access_ns=values[ACCESS],
        cycle_ns=values[CYCLE],
        source=f"{SOURCE}, {node_nm:g} nm {device} {ports} {temp_k} K",
        note="; ".join(notes),
    )


def _at_node(
    sweep: Sweep,
    nodes: list[int],
    node_nm: float,
    device: str,
    width_bits: int,
    log_bits: float,
    ports: str,
    temp_k: int,
    notes: list[str],
) -> Figures:
    """Return the figures at a node inside the sweep; notes of its own rules are appended."""
    at = bisect_right(nodes, node_nm) - 1
    low = nodes[at]
    picked = [low] if low == node_nm else [low, nodes[at + 1]]
    if len(picked) > 1:
        notes.append(f"interpolated between {picked[0]} and {picked[1]} nm")
    figures = []
    for node in picked:
        curves = sweep[node, device, 300, "1rw"]
        logs = _at_width(curves, width_bits, log_bits, notes)
        for other, name in (((node, device, 300, ports), ports), ((node, device, temp_k, "1rw"), f"{temp_k} K")):
            if other == (node, device, 300, "1rw"):
                continue
            base = curves[SWEPT_RATIO_BITS].read_at(log_bits)
            swept = sweep[other][SWEPT_RATIO_BITS].read_at(log_bits)
            logs = tuple(log + b - a for log, a, b in zip(logs, base, swept, strict=True))
            if width_bits != SWEPT_RATIO_BITS:
                notes.append(f"{name} by its ratio at {SWEPT_RATIO_BITS} bits")
        figures.append(logs)
    notes[:] = dict.fromkeys(notes)
    if len(figures) == 1:
        return figures[0]
    return _mix(figures[0], figures[1], math.log(picked[0]), math.log(picked[1]), math.log(node_nm))


def _at_width(curves: Mapping[int, _Curve], width_bits: int, log_bits: float, notes: list[str]) -> Figures:
    low = max(width for width in curves if width <= width_bits)
    picked = [low] if low == width_bits else [low, min(width for width in curves if width > width_bits)]
    smallest = curves[picked[-1]].log_bits[0]
    if log_bits < smallest:
        notes.append(
            f"{2**log_bits / 8:.4g} B priced as the smallest macro swept at this width, {2**smallest / 8:.0f} B: unverified"
        )
    figures = [curves[width].read_at(log_bits) for width in picked]
    if len(figures) == 1:
        return figures[0]
    return _mix(figures[0], figures[1], math.log(picked[0]), math.log(picked[1]), math.log(width_bits))


def _mix(a: Figures, b: Figures, x0: float, x1: float, x: float) -> Figures:
    share = (x - x0) / (x1 - x0)
    return tuple(p + (q - p) * share for p, q in zip(a, b, strict=True))
