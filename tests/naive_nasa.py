"""A chunk of NASA's accelerator cycle by cycle: buses, registers, elements; plain Python loops over what happens in a cycle.

Loads take at most ``lanes`` elements a cycle; what an element uses has to stand in its registers or to come over the buses in that
cycle, which is asserted. The results are those of the operator.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import product

from hwsim.core.layer import Layer
from tests.naive_windows import Window


def combine(operator: str, x: int, w: int) -> int:
    """Return what an element adds to its sum."""
    if operator == "add":
        return -abs(x - w)
    return x * w


def refer(window: Window, operator: str) -> Counter:
    """Return the layer's results by (n, filter of all groups, p, q)."""
    layer, found = window.layer, Counter()
    for n, g, k, p, q in product(*(range(getattr(layer, dim)) for dim in "NGKPQ")):
        found[n, g * layer.K + k, p, q] = sum(
            combine(operator, window.activation(n, g, c, p, q, r, s), window.weight(g, k, c, r, s))
            for c, r, s in product(range(layer.C), range(layer.R), range(layer.S))
        )
    return found


def chop(items: list, size: int) -> list[list]:
    """Return a list cut into parts of ``size``."""
    return [items[at : at + size] for at in range(0, len(items), size)]


@dataclass
class Chunk:
    """The machine and what it has done so far."""

    window: Window
    operator: str
    rows: int
    cols: int
    cycles: int = 0
    fill: int = 0
    w_reads: int = 0
    i_reads: int = 0
    w_writes: int = 0
    i_writes: int = 0
    o_writes: int = 0
    tree: int = 0
    sum_accesses: int = 0
    sums: Counter = field(default_factory=Counter)

    @property
    def layer(self) -> Layer:
        return self.window.layer

    @property
    def lanes(self) -> int:
        return max(self.rows, self.cols)

    def work(self, macs: list[tuple], keep: bool = True) -> None:
        """Elements work for a cycle: (n, g, k, c, p, q, r, s) each, at most one an element; those that keep a sum add to it."""
        assert len(macs) <= self.rows * self.cols
        for n, g, k, c, p, q, r, s in macs:
            x, w = self.window.activation(n, g, c, p, q, r, s), self.window.weight(g, k, c, r, s)
            self.sums[n, g * self.layer.K + k, p, q] += combine(self.operator, x, w)
            if keep:
                self.sum_accesses += 2  # what stood there, and what stands there now

    def add_rows(self, count: int) -> None:
        """The first ``count`` rows of a column are added up pair by pair until one sum could be that of all the array's rows."""
        places, of_all = set(range(count)), self.rows
        while of_all > 1:
            places, of_all = {place // 2 for place in places}, -(-of_all // 2)
            self.tree += len(places)
            self.sum_accesses += 2 * len(places)  # written, and read by the next level

    def carry(self, weights: set, inputs: set) -> None:
        """Buses carry elements in a cycle."""
        assert len(weights) <= self.lanes
        assert len(inputs) <= self.lanes
        self.w_reads += len(weights)
        self.i_reads += len(inputs)

    def pixels(self, box: dict) -> list[tuple]:
        return list(product(box["N"], box["P"], box["Q"]))

    def depth(self, box: dict) -> list[tuple]:
        return list(product(box["C"], range(self.layer.R), range(self.layer.S)))

    def run_os(self, box: dict) -> None:
        """Sums stay; they leave by a shadow row of registers a cycle, behind which the next fold's may come."""
        free_from = self.rows  # the tile before may have ended in this very cycle
        for g in box["G"]:
            for tall in chop(self.pixels(box), self.rows):
                for wide in chop(list(box["K"]), self.cols):
                    for c, r, s in self.depth(box):
                        self.carry({(g, k, c, r, s) for k in wide}, {(n, g, c, p, q, r, s) for n, p, q in tall})
                        self.work([(n, g, k, c, p, q, r, s) for n, p, q in tall for k in wide])
                        self.cycles += 1
                    self.cycles = max(self.cycles, free_from)
                    free_from = self.cycles + self.rows
                    self.o_writes += len(tall) * len(wide)
                    self.sum_accesses += 2 * len(tall) * len(wide)  # into the shadow registers, and out of them

    def run_stationary(self, box: dict, keeps: str) -> None:
        """Weights (``ws``) or inputs (``is``) stay; two sets of registers, one is loaded while the other is used."""
        folds = []
        for g in box["G"]:
            kept = list(box["K"]) if keeps == "ws" else self.pixels(box)
            for tall in chop(self.depth(box), self.rows):
                folds += [(g, tall, wide) for wide in chop(kept, self.cols)]
        slot = max(-(-len(tall) * len(wide) // self.lanes) for _, tall, wide in folds)
        streams = self.pixels(box) if keeps == "ws" else list(box["K"])
        loaded = self._load(folds[0], keeps)
        self.cycles = self.fill = slot
        for i, (g, tall, wide) in enumerate(folds):
            held = loaded
            for one in streams:
                pairs = [(one, k) if keeps == "ws" else (k, one) for k in wide]
                macs = [(n, g, k, c, p, q, r, s) for c, r, s in tall for (n, p, q), k in pairs]
                if keeps == "ws":
                    assert all((g, k, c, r, s) in held for _, g, k, c, _, _, r, s in macs)
                    self.carry(set(), {(g, c, r, s) for c, r, s in tall})
                else:
                    assert all((n, g, c, p, q, r, s) in held for n, g, _, c, p, q, r, s in macs)
                    self.carry({(g, one, c, r, s) for c, r, s in tall}, set())
                self.work(macs, keep=False)
                for _ in wide:
                    self.add_rows(len(tall))
                self.o_writes += len(wide)
            wait = 0
            if i + 1 < len(folds):
                loaded, wait = self._load(folds[i + 1], keeps), slot
            self.cycles += max(len(streams), wait)

    def _load(self, fold: tuple, keeps: str) -> set:
        g, tall, wide = fold
        if keeps == "ws":
            found = {(g, k, c, r, s) for k in wide for c, r, s in tall}
            self.w_reads += len(found)
            self.w_writes += len(found)
        else:
            found = {(n, g, c, p, q, r, s) for n, p, q in wide for c, r, s in tall}
            self.i_reads += len(found)
            self.i_writes += len(found)
        return found

    def run_rs(self, box: dict, e: int) -> None:
        """Filter rows stay; strips of ``e`` output rows, columns of S cycles, the next column's inputs come beside."""
        taps, sets = self.layer.S, self._list_sets(box, e)
        strips = [(n, rows) for n in box["N"] for rows in chop(list(box["P"]), e)]
        load = max(-(-len(self._weights(one)) // self.lanes) for one in sets)
        first = max(-(-len(self._see(one, n, rows, box["Q"][0])) // self.lanes) for one in sets for n, rows in strips)
        self.cycles = self.fill = max(load, first)
        for i, one in enumerate(sets):
            last_set, run = i + 1 == len(sets), 0
            self.w_reads += len(self._weights(one))
            for j, (n, rows) in enumerate(strips):
                known: set = set()
                for q in box["Q"]:
                    new = self._see(one, n, rows, q) - known
                    self.i_reads += len(new)
                    known |= new
                    for tap in range(taps):
                        self.work([mac for p in rows for mac in self._macs(one, n, p, q, tap)])
                    rows_of = Counter(mac[:3] + mac[4:6] for p in rows for mac in self._macs(one, n, p, q, 0))
                    for many in rows_of.values():
                        self.add_rows(many)
                    self.o_writes += len(rows_of)
                    if q != box["Q"][-1]:
                        run += max(taps, -(-len(self._see(one, n, rows, q + 1) - known) // self.lanes))
                    else:
                        run += taps if last_set and j + 1 == len(strips) else max(first, taps)
                elements = [mac for p in rows for mac in self._macs(one, n, p, box["Q"][0], 0)]
                self.i_writes += len(elements) * len({place[3] for place in known})
            self.w_writes += len(self._weights(one)) * min(e, len(box["P"]))
            self.cycles += run if last_set else max(run, load)

    def _list_sets(self, box: dict, e: int) -> list[tuple]:
        """Sets of (groups, filters, channels, filter rows) that stand in the array at once."""
        layer, across = self.layer, self.cols // e
        above = max(1, self.rows // layer.R)
        parts = chop(list(range(layer.R)), self.rows)
        if layer.C == layer.K == 1:
            above = min(above, layer.S)  # as many sums leave a column in S cycles
            return [(groups, [0], [0], part) for groups in chop(list(box["G"]), above * across) for part in parts]
        return [
            ([g], filters, channels, part)
            for g in box["G"] for filters in chop(list(box["K"]), across) for channels in chop(list(box["C"]), above)
            for part in parts
        ]  # fmt: skip

    def _weights(self, one: tuple) -> set:
        return {(g, k, c, r, s) for s in range(self.layer.S) for _, g, k, c, _, _, r, s in self._macs(one, 0, 0, 0, s)}

    def _macs(self, one: tuple, n: int, p: int, q: int, tap: int) -> list[tuple]:
        """What the elements of one output row do in a cycle."""
        groups, filters, channels, part = one
        return [(n, g, k, c, p, q, r, tap) for g in groups for k in filters for c in channels for r in part]

    def _see(self, one: tuple, n: int, rows: list[int], q: int) -> set:
        """Positions (image, channel of all groups, input row, column) that a column of a strip sees, padding included."""
        layer, (groups, _, channels, part) = self.layer, one
        return {
            (n, g * layer.C + c, p * layer.stride[0] + r * layer.dilation[0], q * layer.stride[1] + s * layer.dilation[1])
            for g in groups for c in channels for p in rows for r in part for s in range(layer.S)
        }  # fmt: skip
