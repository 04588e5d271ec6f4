"""SCNN cycle by cycle: products, queues of single entries, banks, accumulators; plain Python."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import product

from tests.naive_cambricon_x import list_steps, write_bits
from tests.naive_windows import Window


@dataclass
class Outcome:
    """Cycles; results by (n, filter of all groups, p, q); pairs multiplied, coordinates found, pairs added; words read;
    accumulators handed on; accesses of banks and of obuf, which holds the outputs that it has sums of.
    """

    cycles: int = 0
    sums: Counter = field(default_factory=Counter)
    pairs: int = 0
    coordinates: int = 0
    kept: int = 0
    activations: int = 0
    entries_read: int = 0
    registers: int = 0
    stored: str = ""
    busiest: int = 0
    bank_reads: int = 0
    bank_writes: int = 0
    obuf_reads: int = 0
    obuf_writes: int = 0
    obuf: Counter = field(default_factory=Counter)


@dataclass(frozen=True)
class Machine:
    """Sizes of the engine, and how the plane is cut: outputs of a block, inputs of an element, accumulators of a row."""

    pe_rows: int
    pe_cols: int
    weights: int
    activations: int
    banks: int
    bank_entries: int
    queue: int
    group: int
    turn: int
    index_bits: int
    block: tuple[int, int]
    part: tuple[int, int]
    pitch: int

    def run_tile(self, window: Window, lo, hi, leave: int, obuf: Counter | None = None) -> Outcome:
        """Run one tile: half-open ranges of N G K C P Q; ``leave`` is the least time of a group.

        ``obuf``: what tiles of channels before have left there.
        """
        layer, found = window.layer, Outcome(obuf=Counter() if obuf is None else obuf)
        images, groups, filters, channels, rows, cols = (range(int(a), int(b)) for a, b in zip(lo, hi, strict=True))
        gemm = layer.op == "gemm"
        if gemm:
            images, cols = range(1), images
        segments = {}
        for g, k0 in product(groups, filters[:: self.group]):
            block = range(k0, min(k0 + self.group, filters.stop))
            for c in channels:
                segments[g, k0, c] = self.store(window, g, block, c, found)
        for n, p0, q0 in product(images, rows[:: self.block[0]], cols[:: self.block[1]]):
            outputs = range(p0, min(p0 + self.block[0], rows.stop)), range(q0, min(q0 + self.block[1], cols.stop))
            parts = self.share_inputs(layer, outputs, gemm)
            found.busiest = max(found.busiest, self.count_busiest(layer, outputs, parts, gemm))
            for g, k0 in product(groups, filters[:: self.group]):
                slowest, elements = 0, []
                for ys, xs in parts:
                    element = Element(self, window, n, g, k0, outputs, (ys, xs), gemm)
                    for at, c in enumerate(channels):
                        element.run_channel(c, segments[g, k0, c], found)
                        if at % self.turn == self.turn - 1 or at == len(channels) - 1:
                            element.empty_queues()
                    slowest = max(slowest, element.cycles)
                    found.bank_reads += element.accesses
                    found.bank_writes += element.accesses
                    elements.append(element)
                self.hand_over(
                    window, (n, g), elements, range(k0, min(k0 + self.group, filters.stop)), parts, outputs, found
                )
                found.cycles += max(slowest, leave)
        return found

    def store(self, window, g, block, c, found: Outcome) -> list[tuple[int, int, int, int]]:
        """Store a segment; return its entries as (r, s, filter, weight)."""
        layer = window.layer
        order = list(product(range(layer.R), range(layer.S), block))
        steps = list_steps([window.weight(g, k, c, r, s) for r, s, k in order], (1 << self.index_bits) - 1)
        found.stored += write_bits(len(steps), (self.group * layer.R * layer.S).bit_length())
        entries, at = [], -1
        for run, value in steps:
            at += run + 1
            entries.append((*order[at], value))
            found.stored += write_bits(run, self.index_bits) + write_bits(value, 8)
        return entries

    def share_inputs(self, layer, outputs, gemm) -> list[tuple[range, range]]:
        """Return the input rows and columns of every element that has any."""
        if gemm:
            spans = [range(1), outputs[1]]
        else:
            spans = []
            for axis, size, window in ((0, layer.H, layer.R), (1, layer.W, layer.S)):
                low = outputs[axis].start * layer.stride[axis] - layer.padding[axis]
                high = (outputs[axis].stop - 1) * layer.stride[axis] - layer.padding[axis]
                high += layer.dilation[axis] * (window - 1) + 1
                spans.append([i for i in range(low, high) if 0 <= i < size])
        cuts = [
            [span[i : i + step] for i in range(0, len(span), step)] for span, step in zip(spans, self.part, strict=True)
        ]
        assert len(cuts[0]) <= self.pe_rows
        assert len(cuts[1]) <= self.pe_cols
        return list(product(*cuts))

    def hand_over(self, window, image_group, elements, filters, parts, outputs, found: Outcome) -> None:
        """Add the accumulators of a group to obuf, one by one; outputs that no input meets are zero."""
        layer, (n, g) = window.layer, image_group
        gemm = layer.op == "gemm"
        values = [element.collect() for element in elements]
        met = []
        for axis in (0, 1):
            met.append({o: set() for o in outputs[axis]})
            for part in parts:
                for o in span_outputs(layer, axis, part[axis], outputs[axis], gemm):
                    met[axis][o].add(part[axis][0])
        for k, p, q in product(filters, *outputs):
            where = (q, k, 0, 0) if gemm else (n, g * layer.K + k, p, q)
            for y, x in product(met[0][p] or {None}, met[1][q] or {None}):
                value = 0
                if y is not None and x is not None:
                    at = [(ys[0], xs[0]) for ys, xs in parts].index((y, x))
                    value = values[at].pop((k, p, q), 0)
                    found.bank_reads += 1
                    found.bank_writes += 1  # a zero for the next group
                if where in found.obuf:
                    found.obuf_reads += 1
                found.obuf[where] += value
                found.obuf_writes += 1
                found.sums[where] += value
        assert not any(values)

    def count_busiest(self, layer, outputs, parts, gemm) -> int:
        """Return the most accumulators of one filter that an element hands on or a column of obuf takes."""
        own = [-(-self.block[i] // (self.pe_rows, self.pe_cols)[i]) for i in (0, 1)]
        taken, most = Counter(), 1
        for ys, xs in parts:
            rows = span_outputs(layer, 0, ys, outputs[0], gemm)
            cols = span_outputs(layer, 1, xs, outputs[1], gemm)
            most = max(most, len(rows) * len(cols))
            for p, q in product(rows, cols):
                taken[p, q] += 1
        met = [
            {o: sum(o in span_outputs(layer, i, span, outputs[i], gemm) for span in spans) for o in outputs[i]}
            for i, spans in enumerate((sorted({tuple(ys) for ys, _ in parts}), sorted({tuple(xs) for _, xs in parts})))
        ]
        columns = Counter()
        for p, q in product(*outputs):
            arrivals = max(1, met[0][p]) * max(1, met[1][q])
            assert not (met[0][p] and met[1][q]) or arrivals == taken[p, q]
            columns[(p - outputs[0].start) // own[0], (q - outputs[1].start) // own[1]] += arrivals
        return max([most, *columns.values()])


def span_outputs(layer, axis: int, inputs, outputs, gemm) -> range:
    """Return the outputs from the first to the last that neighbouring inputs may meet, whether stride lets them or not."""
    if gemm:
        return range(max(outputs.start, inputs[0]), min(outputs.stop, inputs[-1] + 1))
    reach = layer.dilation[axis] * ((layer.R, layer.S)[axis] - 1)
    found = [
        o
        for o in outputs
        if inputs[0] <= o * layer.stride[axis] - layer.padding[axis] + reach
        and o * layer.stride[axis] - layer.padding[axis] <= inputs[-1]
    ]
    return range(found[0], found[-1] + 1) if found else range(0)


class Element:
    """A processing element during one group of filters."""

    def __init__(self, machine: Machine, window: Window, n, g, k0, outputs, inputs, gemm) -> None:
        self.machine, self.window, self.where = machine, window, (n, g, k0)
        self.outputs, self.inputs, self.gemm = outputs, inputs, gemm
        self.queues = [deque() for _ in range(machine.banks)]
        self.accumulators: list[dict[int, int]] = [{} for _ in range(machine.banks)]
        self.owner: dict[int, tuple[int, int, int]] = {}
        self.cycles = self.accesses = 0

    def run_channel(self, c: int, entries, found: Outcome) -> None:
        """Multiply all nonzero activations of a channel with all entries, vector by vector."""
        machine, (n, g, _) = self.machine, self.where
        layer = self.window.layer
        values = []
        for y, x in product(*self.inputs):
            value = int(self.window.x[x, c, 0, 0] if self.gemm else self.window.x[n, g * layer.C + c, y, x])
            if value:
                values.append((y, x, value))
        if values and entries:
            found.activations += len(values)
        for at in range(0, len(values), machine.activations):
            vector = values[at : at + machine.activations]
            found.entries_read += len(entries)
            found.registers += len(vector) if entries else 0  # written
            for first in range(0, len(entries), machine.weights):
                found.registers += len(vector)  # read
                products = []
                for (y, x, a), (r, s, k, w) in product(vector, entries[first : first + machine.weights]):
                    found.pairs += 1
                    spot = self.find_output(y, x, r, s)
                    found.coordinates += 1
                    if spot and w:
                        found.kept += 1
                        products.append((self.find_address(k, *spot), a * w))
                while any(len(queue) >= machine.queue for queue in self.queues):
                    self.add_products()
                for address, value in products:
                    self.queues[address % machine.banks].append((address // machine.banks, value))
                self.add_products()

    def find_output(self, y, x, r, s) -> tuple[int, int] | None:
        """Return the output that an input and a place of the window belong to, if it is one of the block."""
        if self.gemm:
            return (y, x)
        layer, spot = self.window.layer, []
        for axis, i, place in ((0, y, r), (1, x, s)):
            away = i + layer.padding[axis] - place * layer.dilation[axis]
            if away % layer.stride[axis] or away // layer.stride[axis] not in self.outputs[axis]:
                return None
            spot.append(away // layer.stride[axis])
        return spot[0], spot[1]

    def find_address(self, k: int, p: int, q: int) -> int:
        """Return the accumulator of an output; no two outputs share one."""
        machine, layer = self.machine, self.window.layer
        filters = min(machine.group, layer.K)
        first = [span_outputs(layer, i, self.inputs[i], self.outputs[i], self.gemm)[0] for i in (0, 1)]
        local = ((p - first[0]) * machine.pitch + q - first[1]) * filters + k - self.where[2]
        assert 0 <= local < machine.banks * machine.bank_entries
        assert self.owner.setdefault(local, (k, p, q)) == (k, p, q)
        return local

    def add_products(self) -> None:
        """One cycle: every bank adds the first product of its queue."""
        self.cycles += 1
        for queue, bank in zip(self.queues, self.accumulators, strict=True):
            if queue:
                entry, value = queue.popleft()
                bank[entry] = bank.get(entry, 0) + value
                self.accesses += 1

    def empty_queues(self) -> None:
        """Wait until no product is left."""
        while any(self.queues):
            self.add_products()

    def collect(self) -> Counter:
        """Return the accumulators by (filter, p, q)."""
        banks = self.machine.banks
        return Counter(
            {out: self.accumulators[local % banks].get(local // banks, 0) for local, out in self.owner.items()}
        )
