"""BitFusion's array product by product: which fusion unit multiplies what in which cycle; plain Python loops."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """Cycles; how often each product (group, filter, pixel, element) was made; units at work, summed over cycles."""

    cycles: int
    products: Counter
    unit_cycles: int


def halves(bits: int) -> int:
    """Return how many 8-bit parts an operand goes through in."""
    return 2 if bits > 8 else 1


def fused(bits: int) -> int:
    """Return how many operands share the eight bits of a unit's side: 2, 4 or 8 bits each."""
    return 4 if bits <= 2 else 2 if bits <= 4 else 1


def run(rows, cols, w_bits, a_bits, groups, filters, channels, window, pixels, im2col) -> Outcome:
    """Run a tile: groups, blocks of filters, pixels, then steps; a unit makes its products of a step in one cycle for each
    pair of operand parts.
    """
    each = fused(w_bits) * fused(a_bits)
    elements = [(c, r) for r in range(window) for c in range(channels)]
    batches = [elements] if im2col else [elements[r * channels : (r + 1) * channels] for r in range(window)]
    cycles = unit_cycles = 0
    products: Counter = Counter()
    for g in range(groups):
        for first in range(0, filters, cols):
            for pixel in range(pixels):
                for batch in batches:
                    for at in range(0, len(batch), rows * each):
                        step = batch[at : at + rows * each]
                        units = [step[u * each : (u + 1) * each] for u in range(rows)]
                        for _ in range(halves(w_bits) * halves(a_bits)):
                            cycles += 1
                            working = sum(bool(unit) for unit in units)
                            unit_cycles += working * (min(first + cols, filters) - first)
                        for k in range(first, min(first + cols, filters)):
                            products.update((g, k, pixel, element) for unit in units for element in unit)
    return Outcome(cycles, products, unit_cycles)
