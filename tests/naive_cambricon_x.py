"""Cambricon-X cycle by cycle: which entries every element multiplies when; its stored weights as text. Plain Python."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import product

from tests.naive_windows import Window


def list_steps(values: list[int], longest: int) -> list[tuple[int, int]]:
    """Return the entries of a filter in a span as (zeros in front, weight); gaps too long are bridged by zeros."""
    found, run = [], 0
    for value in values:
        if value == 0:
            run += 1
            continue
        while run > longest:
            found.append((longest, 0))
            run -= longest + 1
        found.append((run, value))
        run = 0
    return found


def write_bits(value: int, bits: int) -> str:
    """Return the low bits of an integer, least significant first."""
    return "".join(str(value >> i & 1) for i in range(bits))


@dataclass
class Outcome:
    """Cycles; results by (n, filter of all groups, p, q); entries multiplied; ibuf elements and wbuf bits read; stored bits."""

    cycles: int = 0
    sums: Counter = field(default_factory=Counter)
    entries: int = 0
    activations: int = 0
    weight_bits: int = 0
    stored: str = ""


@dataclass(frozen=True)
class Machine:
    """Sizes of the engine; bits of an index and of a weight."""

    elements: int
    multipliers: int
    span: int
    index_bits: int
    weight_bits: int = 8

    def run_tile(self, window: Window, lo, hi) -> Outcome:
        """Run one tile: half-open ranges of N G K C P Q."""
        layer, found = window.layer, Outcome()
        images, groups, filters, channels, rows, pixels = (range(int(a), int(b)) for a, b in zip(lo, hi, strict=True))
        places = list(product(range(layer.R), range(layer.S)))
        fit = self.span // (layer.C * len(places))
        together = max(1, min(fit, self.elements // layer.K, layer.G))
        step = min(layer.C, self.span // len(places))
        for g0 in groups[::together]:
            members = range(g0, min(g0 + together, groups.stop))
            for k0 in filters[:: self.elements]:
                block = range(k0, min(k0 + self.elements, filters.stop))
                own = [(g, k) for g in members for k in block]
                assert len(own) <= self.elements
                spans = [range(c, min(c + step, channels.stop)) for c in channels[::step]]
                held = [self.store(window, own, span, places, found) for span in spans]
                for n, p, q in product(images, rows, pixels):
                    for span, weights in zip(spans, held, strict=True):
                        found.cycles += self.run_span(window, (n, p, q), members, span, places, weights, found)
        return found

    def store(self, window, own, span, places, found: Outcome) -> dict:
        """Store a span of the block's filters; return the entries of each."""
        weights = {}
        for g, k in own:
            values = [window.weight(g, k, c, r, s) for c in span for r, s in places]
            weights[g, k] = list_steps(values, (1 << self.index_bits) - 1)
            found.stored += write_bits(len(weights[g, k]), self.span.bit_length())
            for run, value in weights[g, k]:
                found.stored += write_bits(run, self.index_bits) + write_bits(value, self.weight_bits)
        return weights

    def run_span(self, window, pixel, members, span, places, weights, found: Outcome) -> int:
        """Show a word of activations to all elements until the slowest is done."""
        n, p, q = pixel
        word = {g: [window.activation(n, g, c, p, q, r, s) for c in span for r, s in places] for g in members}
        found.activations += sum(map(len, word.values()))
        assert sum(map(len, word.values())) <= self.span
        waiting = {key: list(entries) for key, entries in weights.items()}
        place = dict.fromkeys(weights, -1)
        for entries in weights.values():
            found.weight_bits += self.span.bit_length() + len(entries) * (self.index_bits + self.weight_bits)
        cycles = 0
        while cycles == 0 or any(waiting.values()):
            cycles += 1
            for (g, k), entries in waiting.items():
                total = 0
                for run, value in entries[: self.multipliers]:
                    place[g, k] += run + 1
                    total += value * word[g][place[g, k]]
                    found.entries += 1
                del entries[: self.multipliers]
                found.sums[n, g * window.layer.K + k, p, q] += total
        return cycles
