"""Processing elements for the three chunks of `nasa`: shares of an area that balance their load.

The rule of NASA (ICCAD 2022): N_c / O_c the same for the multiplying, the shifting and the adding chunk, N elements and O
operations of the network, under an area. With whole arrays it cannot hold exactly; what it is for, that frames leave the pipeline
of chunks as often as can be, is the least possible largest O_c / N_c, and that is found exactly. Arrays are rows x cols elements
with rows <= cols <= 2 rows; of equally good ones, those of least area.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from fractions import Fraction

from energy_models import EnergyTable, load_table, price_op
from hwsim.archs.nasa.spec import CHUNKS, PRESETS, Nasa
from hwsim.core.check import require_positive
from hwsim.core.errors import SpecError
from hwsim.core.network import Network
from hwsim.core.policy import Policy

EYERISS_ELEMENTS = 168
"""Elements whose area is the budget by default: those of Eyeriss (12 x 14), with an 8-bit multiply-accumulate each."""
MOST_SIDE = 1024
"""Rows and columns that an array can have at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkShare:
    """What one chunk gets.

    Parameters
    ----------
    name, operator : str
        The chunk.
    operations : int
        Multiply-accumulates (shift-, distance-) of the network that it runs.
    rows, cols : int
        Elements.
    element_um2 : float
        Area of one.
    """

    name: str
    operator: str
    operations: int
    rows: int
    cols: int
    element_um2: float

    @property
    def elements(self) -> int:
        """Elements of the array."""
        return self.rows * self.cols

    @property
    def area_um2(self) -> float:
        """Area of the array."""
        return self.elements * self.element_um2

    @property
    def steps(self) -> float:
        """Operations an element, O / N: cycles of a frame at full use."""
        return self.operations / self.elements


@dataclass(frozen=True, slots=True, kw_only=True)
class Allotment:
    """Elements of the three chunks, the area that they had and the accelerator that they make."""

    chunks: tuple[ChunkShare, ...]
    budget_um2: float
    arch: Nasa

    @property
    def area_um2(self) -> float:
        """Area of all elements."""
        return sum(chunk.area_um2 for chunk in self.chunks)

    @property
    def steps(self) -> float:
        """The largest O / N: least cycles from frame to frame, every element used in every cycle."""
        return max(chunk.steps for chunk in self.chunks)


def allot_pes(
    network: Network, policy: Policy | None = None, area_budget_um2: float | None = None, arch: Nasa | None = None,
    energy_table: str | None = None,
) -> Allotment:  # fmt: skip
    """Allot elements to the chunks of an accelerator.

    Parameters
    ----------
    network : Network
        Whose operations are balanced; a chunk without any gets one element.
    policy : Policy, optional
        Operators that differ from the network's own.
    area_budget_um2 : float, optional
        Area of all elements, um2; by default that of ``EYERISS_ELEMENTS`` elements of the multiplying chunk.
    arch : Nasa, optional
        Widths, registers and everything but the arrays; by default the paper's preset.
    energy_table : str, optional
        Table of areas; by default the accelerator's own.

    Raises
    ------
    SpecError
        The budget is no positive number or too small for one element each.
    """
    arch = arch or PRESETS["paper"]
    table = load_table(energy_table or arch.energy_table)
    areas = {operator: measure_element(arch, operator, table) for operator in CHUNKS}
    budget = EYERISS_ELEMENTS * areas["multiply"] if area_budget_um2 is None else area_budget_um2
    require_positive("nasa.area_budget_um2", budget)
    least = sum(areas.values())
    if budget < least:
        each = ", ".join(f"{CHUNKS[operator]} {area:,.0f}" for operator, area in areas.items())
        raise SpecError("nasa.area_budget_um2", budget, f"at least {least:,.0f}, one element each ({each})")
    operations = count_operations(network, policy or Policy())
    elements = _balance(operations, areas, budget)
    shares = []
    for operator, name in CHUNKS.items():
        rows, cols = shape_array(elements[operator])
        shares.append(
            ChunkShare(
                name=name, operator=operator, operations=operations[operator], rows=rows, cols=cols,
                element_um2=areas[operator],
            )
        )  # fmt: skip
    sizes = {f"{share.name}_{side}": getattr(share, side) for share in shares for side in ("rows", "cols")}
    preset = arch.preset if arch.preset.endswith("+") else arch.preset + "+"
    return Allotment(chunks=tuple(shares), budget_um2=budget, arch=replace(arch, preset=preset, **sizes))


def count_operations(network: Network, policy: Policy) -> dict[str, int]:
    """Return the multiply-accumulates of a network by the operator of their layers."""
    policy.check(network)
    found = dict.fromkeys(CHUNKS, 0)
    for layer in network.mac_layers:
        named = policy.of(layer.name).operator
        found[layer.operator if named == "native" else named] += layer.macs
    return found


def measure_element(arch: Nasa, operator: str, table: EnergyTable) -> float:
    """Return the area of one element of a chunk, um2.

    Raises
    ------
    SpecError
        The table knows no area of one of its parts.
    """
    total = 0.0
    for part in arch.list_element(arch.chunk(operator)):
        area = price_op(table, part.op, *part.bits).area_um2
        if area is None:
            raise SpecError(
                f"energy table {table.name}", part.op, "an operator with an area, which the allotment needs"
            )
        total += part.count * area
    return total


def list_counts(most: int) -> list[int]:
    """Return how many elements arrays can have, up to ``most``: products of rows <= cols <= 2 rows, sorted."""
    sides = range(1, min(MOST_SIDE, int(most**0.5)) + 1)
    return sorted({r * c for r in sides for c in range(r, min(2 * r, MOST_SIDE, most // r) + 1)})


def shape_array(elements: int) -> tuple[int, int]:
    """Return rows and columns of an array of so many elements, as square as can be."""
    rows = next(r for r in range(int(elements**0.5), 0, -1) if elements % r == 0)
    return rows, elements // rows


def _balance(operations: dict[str, int], areas: dict[str, float], budget: float) -> dict[str, int]:
    """Return the elements by operator that have the least largest O / N, and of those the least area.

    A bound on O / N asks each chunk for its least count; the area falls as the bound rises, so the least feasible bound of
    all quotients that occur is found by halving.
    """
    counts = {operator: list_counts(int(budget / area)) for operator, area in areas.items()}
    bounds = sorted(
        {Fraction(operations[operator], n) for operator, many in counts.items() if operations[operator] for n in many}
    )

    def serve(bound: Fraction) -> dict[str, int] | None:
        chosen = {}
        for operator, many in counts.items():
            at = bisect_left(many, operations[operator] / bound)
            if at == len(many):
                return None
            chosen[operator] = many[at]
        return chosen if sum(chosen[operator] * area for operator, area in areas.items()) <= budget else None

    low, high = 0, len(bounds) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if serve(bounds[middle]) else (middle + 1, high)
    best = serve(bounds[low]) if bounds else None
    return best or dict.fromkeys(counts, 1)
