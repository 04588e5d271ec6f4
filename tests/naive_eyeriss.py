"""The row-stationary array step by step: words on buses, elements with registers, sums that leave in order.

One iteration for each clock cycle. Elements multiply by the weights that were loaded into their own registers, which are asserted
never to hold more words than they have; sums are added up the columns, and read, added to and written in ``obuf`` a word a
cycle, in order. The array has to be empty when a round begins.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from hwsim.core.layer import Layer

REGISTERS = (
    "buffer address",
    "buffer word",
    "bus",
    "multiplier",
    "product",
    "sum",
    "adder above the array",
    "obuf write",
)
"""What a word passes between ``ibuf`` and ``obuf``, the chain of a column left out: the machine of `hwsim.archs.eyeriss`."""


def even(extent: int, most: int) -> list[range]:
    """Cut an extent into the fewest parts of at most ``most``, the first ones as large as the most even cut has them."""
    parts = -(-extent // most)
    size = -(-extent // parts)
    return [range(at, min(at + size, extent)) for at in range(0, parts * size, size)]


def batches(parts: list, most: int) -> list[list]:
    """Group parts into the fewest even batches of at most ``most``."""
    return [[parts[i] for i in some] for some in even(len(parts), most)]


class Machine:
    """One tile that is a whole layer; `run` returns sums, busy cycles and the cycle in which the last sum was written."""

    def __init__(self, layer: Layer, x: np.ndarray, w: np.ndarray, arch, how) -> None:
        self.layer, self.arch, self.how, self.x, self.w = layer, arch, how, x, w
        self.cycle = 0
        self.queue: list[list] = []  # words of sums on their way: (cycle at which the word may leave, [(index, value)])
        self.obuf = np.zeros((layer.N, layer.G, layer.K, layer.P, layer.Q), np.int64)
        self.written = np.zeros_like(self.obuf)
        self.last_write = 0
        self.i_reads = self.w_reads = self.o_reads = self.o_writes = self.hops = 0
        self.w_writes = self.i_writes = 0  # words that reach an element's registers, one for each element
        self.products = self.w_uses = self.i_uses = self.sum_uses = 0  # accesses of registers by products

    def tick(self) -> None:
        """One cycle: at most one word of sums leaves."""
        if self.queue and self.queue[0][0] <= self.cycle:
            for index, value in self.queue.pop(0)[1]:
                self.o_reads += int(self.written[index] > 0)  # the first one has nothing to add to
                self.obuf[index] += value
                self.written[index] += 1
                self.o_writes += 1
            self.last_write = self.cycle
        self.cycle += 1

    def wait(self, cycles: int) -> None:
        for _ in range(cycles):
            self.tick()

    def value(self, n: int, g: int, c: int, row: int, col: int) -> int:
        """An input element, zero outside the tensor."""
        lay = self.layer
        row, col = row - lay.padding[0], col - lay.padding[1]
        inside = 0 <= row < lay.H and 0 <= col < lay.W
        return int(self.x[n, g * lay.C + c, row, col]) if inside else 0

    def plan(self):
        """How the extents are cut."""
        lay, arch, how = self.layer, self.arch, self.how
        folds = even(lay.R, arch.rows)
        height = len(folds[0])
        strips = even(lay.P, how.e)
        e = len(strips[0])
        blocks = even(lay.K, how.p)
        p = len(blocks[0])
        if len(blocks) > 1:  # whole words
            p = -(-p // arch.o_port_words) * arch.o_port_words
            count = len(blocks)
            blocks = [range(min(at, lay.K), min(at + p, lay.K)) for at in range(0, count * p, p)]
        channels = even(lay.C, how.q * how.r)
        r = -(-len(channels[0]) // how.q)
        q = -(-len(channels[0]) // r)
        across, up = arch.cols // e, arch.rows // height // r
        return folds, height, strips, e, blocks, p, channels, q, r, across * up

    def run(self):
        lay, arch = self.layer, self.arch
        folds, height, strips, e, blocks, p, channels, q, r, sets = self.plan()
        assert height * r * e * sets <= arch.rows * arch.cols
        assert p * q * lay.S <= arch.filter_words
        assert q * lay.S <= arch.ifmap_words
        assert p <= max(arch.psum_words, 1)
        filter_batches = batches(blocks, sets)
        filter_sets = len(filter_batches[0])
        group_batches = batches(list(range(lay.G)), max(1, sets // filter_sets))
        group_sets = len(group_batches[0])
        jobs = [(n, strip) for n in range(lay.N) for strip in strips]
        job_batches = batches(jobs, max(1, sets // (filter_sets * group_sets)))
        job_sets = len(job_batches[0])
        assert job_sets * group_sets * filter_sets <= max(sets, 1)
        sizes = (height, e, p, q, r, filter_sets, group_sets, job_sets)
        for groups, some, chans, fold in product(group_batches, filter_batches, channels, folds):
            cells = self.load(groups, some, chans, fold, sizes)
            self.w_writes += sum(len(held) for held in cells.values()) * e * job_sets
            for job in job_batches:
                self.convolve(cells, groups, some, chans, fold, job, sizes)
        busy = self.cycle
        while self.queue:
            self.tick()
        return self.obuf, busy, self.last_write

    def drain_cycles(self, sizes) -> int:
        height, e, p, _, r, filter_sets, group_sets, job_sets = sizes
        words = e * job_sets * group_sets * filter_sets * -(-p // self.arch.o_port_words)
        return words + height * r + len(REGISTERS)

    def load(self, groups, some, chans, fold, sizes):
        """A round's weights, word after word; a narrower batch takes as long as a full one. The array is empty behind it."""
        height, _, p, q, r, filter_sets, group_sets, _ = sizes
        lay = self.layer
        cells = {}
        loaded = 0
        for (b, block), g in product(enumerate(some), groups):
            for i, c in product(range(len(fold)), range(len(chans))):
                for k, s in product(block, range(lay.S)):
                    cells.setdefault((b, g, c // q, i), {})[k, c % q, s] = int(
                        self.w[g * lay.K + k, chans[c], fold[i], s]
                    )
                    loaded += 1
        for held in cells.values():
            assert len(held) <= self.arch.filter_words
        self.w_reads += loaded
        words = filter_sets * group_sets * p * q * r * height * lay.S
        assert loaded <= words
        spent = 0
        while spent * self.arch.w_port_words < words or spent < self.drain_cycles(sizes):
            self.tick()
            spent += 1
        assert not self.queue, "the array is not empty"
        return cells

    def convolve(self, cells, groups, some, chans, fold, job, sizes):
        """A run: windows, then column after column."""
        height, e, p, q, r, _, group_sets, job_sets = sizes
        lay, arch = self.layer, self.arch
        shared_rows = lay.dilation[0] == 1 and lay.stride[0] < height
        shared_cols = lay.dilation[1] == 1 and lay.stride[1] < lay.S
        in_rows = (e - 1) * lay.stride[0] + height if shared_rows else e * height
        delivered = group_sets * job_sets * r * q * in_rows
        new = lay.stride[1] if shared_cols else lay.S

        def deliver(column: int, fresh: bool) -> int:
            """Words of the inputs of an output column that have not been delivered."""
            taps = range(lay.S) if fresh else range(lay.S - new, lay.S)
            for _, (_, strip) in product(groups, job):
                rows = {(j * lay.stride[0] + fold[i] * lay.dilation[0]) for j, i in product(strip, range(len(fold)))}
                if not shared_rows:
                    rows = [(j, i) for j, i in product(strip, range(len(fold)))]
                self.i_reads += len(rows) * len(chans) * len(taps)
                self.i_writes += sum(len(chans) * len(taps) for _ in product(some, strip, fold))
            return -(-delivered * len(taps) // arch.i_port_words)

        self.wait(deliver(0, True))
        for column in range(lay.Q):
            compute = p * q * lay.S
            words = self.multiply(cells, groups, some, chans, fold, job, column, sizes)
            assert len(words) <= self.full_words(sizes)
            step = max(compute, self.full_words(sizes))
            if column < lay.Q - 1:
                step = max(step, deliver(column + 1, False))
            self.wait(step)
            self.queue += [[self.cycle, word] for word in words]

    def full_words(self, sizes) -> int:
        _, e, p, _, _, filter_sets, group_sets, job_sets = sizes
        return e * job_sets * group_sets * filter_sets * -(-p // self.arch.o_port_words)

    def multiply(self, cells, groups, some, chans, fold, job, column, sizes):
        """Products of one output column in every element, summed up the columns: the words that leave."""
        height, _, _, q, r, *_ = sizes
        lay = self.layer
        words = []
        for (b, block), g, (n, strip) in product(enumerate(some), groups, job):
            for j in strip:
                totals = dict.fromkeys(block, 0)
                for level, i in product(range(-(-len(chans) // q)), range(len(fold))):
                    held = cells.get((b, g, level, i), {})
                    sums = dict.fromkeys(block, 0)  # the element's own registers
                    row = j * lay.stride[0] + fold[i] * lay.dilation[0]
                    for (k, c, s), weight in held.items():
                        col = column * lay.stride[1] + s * lay.dilation[1]
                        sums[k] += weight * self.value(n, g, chans[level * q + c], row, col)
                        self.products += 1
                        self.w_uses += 1
                        self.i_uses += 1
                        self.sum_uses += 2  # read and written
                    for k, value in sums.items():  # up the column
                        totals[k] += value
                self.hops += len(block) * (height * r - 1)
                for at in range(0, len(block), self.arch.o_port_words):
                    some_filters = block[at : at + self.arch.o_port_words]
                    words.append([((n, g, k, j, column), totals[k]) for k in some_filters])
        return words
