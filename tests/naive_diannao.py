"""DianNao step by step: what the functional unit multiplies in every cycle; plain Python loops."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import product

from tests.naive_windows import Window


@dataclass
class Outcome:
    """Cycles; results by (n, filter of all groups, p, q); words moved: weights, activations, results."""

    cycles: int = 0
    sums: Counter = field(default_factory=Counter)
    weights: int = 0
    activations: int = 0
    results: int = 0


def run_tile(window: Window, outputs: int, inputs: int, lo, hi) -> Outcome:
    """Run one tile: half-open ranges of N G K C P Q.

    Parameters
    ----------
    window : Window
        The layer with its tensors.
    outputs, inputs : int
        Adder trees, and multipliers of each.
    """
    layer, found = window.layer, Outcome()
    images, groups, filters, channels, rows, columns = (range(int(a), int(b)) for a, b in zip(lo, hi, strict=True))
    for g, first in product(groups, filters[::outputs]):
        block = range(first, min(first + outputs, filters.stop))
        for n, p, q in product(images, rows, columns):
            held = dict.fromkeys(block, 0)
            for r, s, c0 in product(range(layer.R), range(layer.S), channels[::inputs]):
                found.cycles += 1
                lanes = range(c0, min(c0 + inputs, channels.stop))
                taken = [window.activation(n, g, c, p, q, r, s) for c in lanes]
                found.activations += len(taken)
                for k in block:
                    tree = [x * window.weight(g, k, c, r, s) for x, c in zip(taken, lanes, strict=True)]
                    found.weights += len(tree)
                    while len(tree) > 1:
                        tree = [sum(tree[i : i + 2]) for i in range(0, len(tree), 2)]
                    held[k] += tree[0]
            for k in block:
                found.sums[n, g * layer.K + k, p, q] += held[k]
                found.results += 1
    return found
