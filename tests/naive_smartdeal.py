"""The SmartDeal machine, obviously right: stepped cycle by cycle, for every slice, line and cell, in plain Python.

Written from the docstring of `hwsim.archs.smartdeal.datapath` and the format in `hwsim.quant.decompose`; knows nothing of the
kernels. It also multiplies: what it computes (`Finished.sums`) and when (`busy`, `fill`, `tail`) come from one machine. Waiting
is never assumed away: a line whose next weights are not rebuilt yet stands still.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

import numpy as np

from hwsim.core.layer import Layer

Place = tuple[int, int, int] | None
"""Channel (of the whole input), kernel row and kernel column of one weight of a row; None for padding."""
Pixel = tuple[int, int, int]
"""Image, output row and output column."""


def recode_booth(value: int) -> list[int]:
    """Radix-4 Booth digits of a 10-bit two's complement integer, least significant first: -2 b[2i+1] + b[2i] + b[2i-1]."""
    assert -512 <= value < 512
    bits = [0] + [int(b) for b in reversed(format(value & 0x3FF, "010b"))]
    return [-2 * bits[i + 2] + bits[i + 1] + bits[i] for i in range(0, 10, 2)]


@dataclass
class Row:
    """One unit of work: the weights' places, its index in the filter and its line within the pass."""

    index: int
    places: list[Place]


@dataclass
class Work:
    """What one slice does in one pass: by line, (row, pixels, weights' source), nothing skipped yet."""

    filter: int
    lines: dict[int, list[tuple[Row, list[Pixel]]]]


@dataclass
class Step:
    """One pass of one pixel group for one block of filters."""

    works: list[Work]
    slots: list[tuple[int, Pixel]]
    ends_group: bool
    number: int


@dataclass
class Finished:
    """Result of a tile, and what the machine counted on the way."""

    busy: int = 0
    fill: int = 0
    tail: int = 0
    digits: int = 0
    multiplied: int = 0
    loaded: int = 0
    indexed: int = 0
    based: int = 0
    idle: dict[str, int] = field(default_factory=lambda: {"cells": 0, "lines": 0})
    sums: dict[tuple[int, Pixel], int] = field(default_factory=dict)


class Engine:
    """A rebuild engine: an accumulator for each weight, one coefficient a cycle."""

    def __init__(self) -> None:
        self.job = None
        self.left = 0

    def start(self, job, codes, basis) -> None:
        self.job, self.codes, self.basis = job, codes, basis
        self.left, self.acc = len(codes), [0] * len(codes)

    def step(self) -> None:
        if self.job is None or self.left == 0:
            return
        j = len(self.codes) - self.left
        code = int(self.codes[j])
        for k in range(len(self.acc)):
            if code:
                shifted = int(self.basis[j][k]) * 2 ** (abs(code) - 1)
                self.acc[k] += shifted if code > 0 else -shifted
        self.left -= 1

    def weights(self) -> list[int]:
        return [max(-128, min(127, (a + 32) // 64)) for a in self.acc]


class Line:
    """A line (or a cluster of one): its rows, engines, cells and the accumulators of its pixels."""

    def __init__(self, machine: Machine, engines: int, ahead: bool) -> None:
        self.machine, self.ahead = machine, ahead
        self.engines = [Engine() for _ in range(engines)]
        self.queue: list = []
        self.coming: list = []
        self.current = None
        self.acc: dict = {}

    def begin_pass(self, rows: list, following: list) -> None:
        """Take the active rows of the pass, and see those of the next."""
        assert not self.queue
        assert self.current is None
        self.queue, self.coming = list(rows), list(following)

    @property
    def done(self) -> bool:
        return not self.queue and self.current is None

    def wanted(self):
        """Return the next row whose weights are in no engine; of the next pass the first row alone."""
        held = {engine.job for engine in self.engines}
        seen = self.queue + (self.coming[:1] if self.ahead else [])
        return next((job for job in seen if job not in held), None)

    def step(self) -> None:
        """Do one cycle."""
        m = self.machine
        free = [engine for engine in self.engines if engine.job is None]
        job = self.wanted()
        if m.decomposed and free and job is not None:
            free[0].start(job, *m.coefficients(job))
        if self.current is None and self.queue:
            job = self.queue[0]
            if not m.decomposed:
                self._run(self.queue.pop(0), m.dense_weights(job), None)
            else:
                for engine in self.engines:
                    if engine.job == job and engine.left == 0:
                        self._run(self.queue.pop(0), engine.weights(), engine)
        for engine in self.engines:
            engine.step()
        if self.current is not None:
            self._multiply()

    def _run(self, job, weights, engine) -> None:
        self.current, self.weights, self.engine = job, weights, engine
        self.machine.finished.multiplied += 1
        self.weight = 0
        self._take_weight()

    def _take_weight(self) -> None:
        """Give every cell its activation's nonzero digits, or one cycle of nothing."""
        m = self.machine
        row, pixels = m.jobs[self.current]
        self.cells = []
        for pixel in pixels:
            digits = [(d, i) for i, d in enumerate(recode_booth(m.activation(row.places[self.weight], pixel))) if d]
            self.cells.append(digits or [(0, 0)])

    def _multiply(self) -> None:
        m = self.machine
        filter_, pixels = self.current[0], m.jobs[self.current][1]
        for pixel, cell in zip(pixels, self.cells, strict=True):
            if cell:
                digit, place = cell.pop(0)
                key = (filter_, pixel)
                self.acc[key] = self.acc.get(key, 0) + digit * 4**place * self.weights[self.weight]
                m.finished.digits += 1
            else:
                m.finished.idle["cells"] += 1
        if any(self.cells):
            return
        self.weight += 1
        if self.weight < len(self.weights):
            self._take_weight()
            return
        self.current = None
        if self.engine is not None:
            self.engine.job = None


class Machine:
    """One layer on the engine.

    Parameters
    ----------
    layer, arch
        The layer and a SmartDeal accelerator.
    stored : ndarray, zero_point : int
        Activations as stored ``[N, G*C, H, W]``.
    weights : ndarray
        Dense 8-bit weights ``[G*K, C, R, S]``; what is rebuilt comes from ``codec`` alone.
    codec : Decomposed or None
    """

    def __init__(self, layer: Layer, arch, stored, zero_point: int, weights, codec) -> None:
        self.layer, self.arch, self.codec, self.dense = layer, arch, codec, weights
        self.decomposed = codec is not None and not codec.plan.is_dense
        self.stored, self.zero = stored, zero_point
        self.depthwise = layer.op == "conv" and layer.G > 1 and layer.C == 1 and layer.K == 1
        self.columns = layer.N if layer.op == "gemm" else layer.Q
        self.single = not self.depthwise and layer.P * self.columns == 1
        self.lines = arch.lines * (min(arch.clusters, arch.macs) if self.single else 1)
        self.by_kernel = layer.R * layer.S > 1 or self.depthwise
        self.copies = 1
        if self.depthwise:
            self.copies = max(1, min(arch.lines // layer.R, len(range(0, self.columns, arch.macs))))
        self.finished = Finished()
        self.jobs: dict = {}

    # --- what there is to do -----------------------------------------------------------------------------------------

    def rows_of(self) -> list[Row]:
        """Rows of a filter in storage order; channels count from the filter's group."""
        layer = self.layer
        if self.by_kernel:
            order = product(range(layer.C), range(layer.R))
            return [Row(i, [(c, r, s) for s in range(layer.S)]) for i, (c, r) in enumerate(order)]
        firsts = range(0, layer.C, 3)
        return [Row(i, [(c, 0, 0) if c < layer.C else None for c in range(f, f + 3)]) for i, f in enumerate(firsts)]

    def passes_of(self) -> list[list[Row]]:
        """Rows of a filter cut at the ends of basis slices (or whole channels) and by what the line stores hold."""
        rows, held = self.rows_of(), self.arch.lines * self.arch.line_rows
        if self.decomposed:
            unit = self.codec.plan.rows
        elif self.by_kernel:
            unit = max(held // self.layer.R, 1) * self.layer.R
        else:
            unit = held
        found = []
        for first in range(0, len(rows), unit):
            part = rows[first : min(first + unit, len(rows))]
            found += [part[i : i + held] for i in range(0, len(part), held)]
        return found

    def channels_of_passes(self) -> list[range]:
        """Input channels that each pass touches."""
        found = []
        for rows in self.passes_of():
            channels = [place[0] for row in rows for place in row.places if place]
            found.append(range(min(channels), max(channels) + 1))
        return found

    def activation(self, place: Place, pixel: Pixel) -> int:
        """Centred activation that a weight meets at a pixel; zero in padding."""
        if place is None:
            return 0
        layer, (n, p, q) = self.layer, pixel
        c, r, s = place
        if layer.op == "gemm":
            return int(self.stored[n, c, 0, 0]) - self.zero
        y = p * layer.stride[0] - layer.padding[0] + r * layer.dilation[0]
        x = q * layer.stride[1] - layer.padding[1] + s * layer.dilation[1]
        if not (0 <= y < layer.H and 0 <= x < layer.W):
            return 0
        return int(self.stored[n, c, y, x]) - self.zero

    def coefficients(self, job):
        """Codes of a row and the basis of its slice."""
        filter_, index = job[0], job[1]
        s, i = divmod(index, self.codec.plan.rows)
        return self.codec.codes[filter_, s, i], self.codec.basis[filter_, s]

    def dense_weights(self, job) -> list[int]:
        filter_, index = job[0], job[1]
        row = self.rows_of()[index]
        return [int(self.dense[(filter_, *place)]) if place else 0 for place in row.places]

    def is_active(self, filter_: int, row: Row) -> bool:
        if not self.decomposed:
            return True
        codes, _ = self.coefficients((filter_, row.index))
        return any(int(c) for c in codes)

    def shift(self, row: Row, group: int) -> Row:
        """Return the row with channels of the whole input."""
        base = group * self.layer.C
        return Row(row.index, [place and (place[0] + base, *place[1:]) for place in row.places])

    def meets_work(self, row: Row, pixels: list[Pixel]) -> bool:
        return any(self.activation(place, pixel) for place in row.places for pixel in pixels)

    def steps_of(self, lo, hi) -> list[Step]:
        """Passes of a tile in order; ``lo``, ``hi`` along N G K C P Q."""
        layer, arch = self.layer, self.arch
        n0, g0, k0, c0, p0, q0 = (int(v) for v in lo)
        n1, g1, k1, c1, p1, q1 = (int(v) for v in hi)
        chosen = [
            (i, rows)
            for i, (rows, channels) in enumerate(zip(self.passes_of(), self.channels_of_passes(), strict=True))
            if self.depthwise or (c0 <= channels[0] and channels[-1] < c1)
        ]
        if self.depthwise:
            blocks = [list(range(g, min(g + arch.slices, g1))) for g in range(g0, g1, arch.slices)]
        else:
            starts = [(g, k) for g in range(g0, g1) for k in range(k0, k1, arch.slices)]
            blocks = [[g * layer.K + i for i in range(k, min(k + arch.slices, k1))] for g, k in starts]
        wide = arch.macs * self.copies
        if layer.op == "gemm":
            groups = [[(n, 0, 0) for n in range(a, min(a + wide, n1))] for a in range(n0, n1, wide)]
        else:
            groups = [
                [(n, p, q) for q in range(a, min(a + wide, q1))]
                for n in range(n0, n1)
                for p in range(p0, p1)
                for a in range(q0, q1, wide)
            ]
        steps = []
        for block in blocks:
            for pixels in groups:
                for i, rows in chosen:
                    works = [self._assign(f, rows, pixels) for f in block]
                    slots = [(f, pixel) for f in block for pixel in pixels]
                    steps.append(Step(works, slots, i == chosen[-1][0], len(steps)))
        return steps

    def _assign(self, filter_: int, rows: list[Row], pixels: list[Pixel]) -> Work:
        lines: dict = {line: [] for line in range(self.lines)}
        macs = self.arch.macs
        for copy in range(self.copies):
            part = pixels[copy * macs : (copy + 1) * macs]
            for i, row in enumerate(rows):
                if part:
                    line = (copy * self.layer.R + i) % self.lines
                    group = filter_ // self.layer.K
                    lines[line].append((self.shift(row, group), part))
        return Work(filter_, lines)

    # --- the machine ---------------------------------------------------------------------------------------------------

    def stores_of(self, step: Step | None) -> list[int]:
        """Rows that each line's store has to take for a step: shared by the slices, except in depthwise layers."""
        need = [0] * self.lines
        if step is None:
            return need
        for work in step.works if self.depthwise else step.works[:1]:
            for line in range(self.lines):
                need[line] += sum(self.meets_work(row, pixels) for row, pixels in work.lines[line])
        return need

    def active_jobs(self, step: Step | None) -> list[list[list]]:
        """For each slice and line the rows that the index selector leaves, as keys of ``jobs``."""
        found = []
        for work in step.works if step else []:
            per_line = []
            for line in range(self.lines):
                keys = []
                for row, pixels in work.lines[line]:
                    if self.is_active(work.filter, row) and self.meets_work(row, pixels):
                        key = (work.filter, row.index, step.number, line, pixels[0])
                        self.jobs[key] = (row, pixels)
                        keys.append(key)
                per_line.append(keys)
            found.append(per_line)
        return found

    def run_tile(self, lo, hi) -> Finished:
        """Run one tile from empty line stores."""
        result = self.finished = Finished()
        slices = self.arch.slices
        lines = [
            [Line(self, 1 if self.single else 2, not self.single) for _ in range(self.lines)] for _ in range(slices)
        ]
        steps = self.steps_of(lo, hi)
        size = 3 if self.decomposed else 0
        hidden = 0 if self.single else size

        # the fill: the first bank is loaded while the first rows are rebuilt
        left = self.stores_of(steps[0])
        jobs = self.active_jobs(steps[0])
        self._begin(lines, [], jobs)
        while any(left) or result.fill < hidden:
            left = self._load(left)
            for line in self._all(lines):
                line.step()
            result.fill += 1
        clock = result.fill
        draining, since = 0, 0  # results of the last group that have not left yet; cycles of this group
        for number, step in enumerate(steps):
            following = steps[number + 1] if number + 1 < len(steps) else None
            after = self.active_jobs(following)
            self._begin(lines, jobs, after)
            self._count_pass(step, jobs)
            left = self.stores_of(following)
            cycles = 0
            while True:
                for line in self._all(lines):
                    result.idle["lines"] += line.done
                    line.step()
                left = self._load(left)
                draining = max(0, draining - 1)
                cycles, since, clock = cycles + 1, since + 1, clock + 1
                finished = all(line.done for line in self._all(lines)) and not any(left) and cycles >= max(1, hidden)
                if finished and not (step.ends_group and since < self.arch.macs * self.copies):
                    break
            if step.ends_group:
                assert draining == 0, "the copies of the accumulators are still being read"
                self._hand_over(lines, step)
                draining, since = self.arch.macs * self.copies, 0
            jobs = after
        result.busy = clock
        result.tail = self._drain(draining)
        return result

    def _all(self, lines):
        return [line for per_slice in lines for line in per_slice]

    def _load(self, left: list[int]) -> list[int]:
        """Every line store takes one row."""
        self.finished.loaded += sum(1 for rows in left if rows)
        return [max(0, rows - 1) for rows in left]

    def _begin(self, lines, now, after) -> None:
        for s, per_slice in enumerate(lines):
            for i, line in enumerate(per_slice):
                line.begin_pass(now[s][i] if s < len(now) else [], after[s][i] if s < len(after) else [])

    def _count_pass(self, step: Step, jobs) -> None:
        self.finished.based += sum(any(per_line) for per_line in jobs)
        self.finished.indexed += sum(len(rows) for work in step.works for rows in work.lines.values())

    def _hand_over(self, lines, step: Step) -> None:
        """Add the accumulators of a group's lines, and clear them."""
        for line in self._all(lines):
            for key, value in line.acc.items():
                self.finished.sums[key] = self.finished.sums.get(key, 0) + value
            line.acc.clear()
        for slot in step.slots:
            self.finished.sums.setdefault(slot, 0)

    def _drain(self, results: int) -> int:
        """Send the results through the adder tree, a register a stage, and count the cycles until the last is written."""
        leaves, stages = self.lines, 0
        while leaves > 1:
            leaves, stages = (leaves + 1) // 2, stages + 1
        pipe = [False] * stages
        cycles = 0
        while results or any(pipe):
            if stages:
                pipe = [results > 0, *pipe[:-1]]
            results = max(0, results - 1)
            cycles += 1
        return cycles


def convolve(layer: Layer, stored, zero_point: int, weights) -> np.ndarray:
    """Exact sums of products ``[N, G*K, P, Q]``, int64: one numpy slice for each kernel element."""
    x = stored.astype(np.int64) - zero_point
    top, left = layer.padding[:2]
    reach = [(layer.P - 1) * layer.stride[0] + (layer.R - 1) * layer.dilation[0] + 1,
             (layer.Q - 1) * layer.stride[1] + (layer.S - 1) * layer.dilation[1] + 1]  # fmt: skip
    padded = np.zeros((*x.shape[:2], max(reach[0], layer.H + top), max(reach[1], layer.W + left)), np.int64)
    padded[:, :, top : top + layer.H, left : left + layer.W] = x
    out = np.zeros(layer.out_shape, np.int64)
    for g, r, s in product(range(layer.G), range(layer.R), range(layer.S)):
        y0, x0 = r * layer.dilation[0], s * layer.dilation[1]
        part = padded[:, g * layer.C : (g + 1) * layer.C, y0 :: layer.stride[0], x0 :: layer.stride[1]]
        part = part[:, :, : layer.P, : layer.Q]
        kernel = weights[g * layer.K : (g + 1) * layer.K, :, r, s].astype(np.int64)
        out[:, g * layer.K : (g + 1) * layer.K] += np.einsum("ncpq,kc->nkpq", part, kernel)
    return out
