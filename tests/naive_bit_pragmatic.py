"""The Bit-Pragmatic engine cycle by cycle: which lane gives which term when; plain Python."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import product

from tests.naive_windows import Window


def list_terms(value: int, signed_digits: bool) -> list[tuple[int, int]]:
    """Return the terms of a value as (position, sign), lowest first; they add up to the value."""
    sign, rest, found = (-1 if value < 0 else 1), abs(value), []
    position = 0
    while rest:
        if rest % 2:
            digit = 2 - rest % 4 if signed_digits else 1  # a run of ones becomes -1 at its foot
            found.append((position, sign * digit))
            rest -= digit
        rest //= 2
        position += 1
    assert sum(digit << position for position, digit in found) == value
    return found


@dataclass
class Outcome:
    """Cycles; results by (n, filter of all groups, p, q); terms multiplied; units at work, summed over cycles; words read."""

    cycles: int = 0
    sums: Counter = field(default_factory=Counter)
    terms: int = 0
    unit_cycles: int = 0
    weights: int = 0
    activations: int = 0


@dataclass(frozen=True)
class Machine:
    """Sizes of the engine."""

    filters: int
    columns: int
    lanes: int
    shift: int
    signed: bool

    def run_tile(self, window: Window, lo, hi) -> Outcome:
        """Run one tile: half-open ranges of N G K C P Q."""
        layer, found = window.layer, Outcome()
        images, groups, filters, channels, rows, pixels = (range(int(a), int(b)) for a, b in zip(lo, hi, strict=True))
        places = [[(n, p, q) for q in pixels] for n, p in product(images, rows)]
        if layer.op == "gemm":
            places = [[(n, 0, 0) for n in images]]
        for g, first in product(groups, filters[:: self.filters]):
            block = range(first, min(first + self.filters, filters.stop))
            for row in places:
                for at in range(0, len(row), self.columns):
                    pallet = row[at : at + self.columns]
                    spent = 0
                    for c0, r, s in product(channels[:: self.lanes], range(layer.R), range(layer.S)):
                        lanes = range(c0, min(c0 + self.lanes, channels.stop))
                        spent += self.run_step(window, g, block, pallet, lanes, r, s, found)
                    found.cycles += max(spent, self.columns)
        return found

    def run_step(self, window, g, block, pallet, lanes, r, s, found: Outcome) -> int:
        """Run one step: every column gives its terms, the slowest is waited for."""
        layer = window.layer
        held = {k: [window.weight(g, k, c, r, s) for c in lanes] for k in block}
        found.weights += len(block) * len(lanes)
        columns = []
        for n, p, q in pallet:
            values = [window.activation(n, g, c, p, q, r, s) for c in lanes]
            found.activations += len(values)
            columns.append([list_terms(value, self.signed) for value in values])
        cycles = 0
        while cycles == 0 or any(any(column) for column in columns):
            for (n, p, q), column in zip(pallet, columns, strict=True):
                left = [terms[0][0] for terms in column if terms]
                found.unit_cycles += len(block) * (bool(left) or cycles == 0)
                if not left:
                    continue
                common = min(left)
                tree = dict.fromkeys(block, 0)
                for lane, terms in enumerate(column):
                    if terms and terms[0][0] - common < 1 << self.shift:
                        position, sign = terms.pop(0)
                        for k in block:
                            found.terms += 1
                            tree[k] += sign * (held[k][lane] << (position - common))
                for k in block:
                    found.sums[n, g * layer.K + k, p, q] += tree[k] << common
            cycles += 1
        return cycles
