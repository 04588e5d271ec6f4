"""The SmartDeal machine, obviously right: stepped cycle by cycle, for every slice, line and cell, in plain Python.

Written from the docstring of `hwsim.archs.smartdeal.datapath`, the contract in ``docs/rtl.md`` and the format in
`hwsim.quant.decompose`; knows nothing of the kernels. It also multiplies: what it computes (`Finished.sums`) and when (`busy`,
`fill`, `tail`) come from one machine, which sees weights only through the bits of its slices' streams and activations
only through its line stores. Of the simulator it takes the depths of the pipelines alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

import numpy as np

from hwsim.archs.smartdeal import timing
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


def write_bits(value: int, width: int) -> str:
    """An integer in two's complement as characters, least significant first."""
    return format(int(value) & ((1 << width) - 1), f"0{width}b")[::-1]


def read_number(bits: str, signed: bool = True) -> int:
    """The integer of characters, least significant first."""
    value = int(bits[::-1], 2)
    return value - (1 << len(bits)) if signed and bits[-1] == "1" else value


@dataclass
class Row:
    """One unit of work: the weights' places and its index in the filter."""

    index: int
    places: list[Place]


@dataclass
class Step:
    """One pass of one pixel group for one block of filters: ``rows[i]`` of every filter is on line i modulo the lines."""

    filters: list[int]
    rows: list[Row]
    pixels: list[Pixel]
    starts_step: bool
    starts_group: bool
    starts_block: bool
    ends_group: bool


@dataclass
class Bank:
    """What was prepared for a pass. ``activations[store, copy, i]``: of row i by weight and pixel, ``store`` a slice or 0 for all;
    ``weights[slice, i]``: the row's coefficients and basis, or its dense weights."""

    step: Step
    activations: dict = field(default_factory=dict)
    weights: dict = field(default_factory=dict)


@dataclass
class Finished:
    """Result of a tile, and what the machine counted on the way."""

    busy: int = 0
    fill: int = 0
    tail: int = 0
    digits: int = 0
    multiplied: int = 0
    loaded: int = 0
    decoded_bits: int = 0
    row_store_bits: int = 0
    sums: dict[tuple[int, Pixel], int] = field(default_factory=dict)


class Engine:
    """A rebuild engine: an accumulator for each weight, one coefficient a cycle."""

    def __init__(self, codes: list[int], basis: list[list[int]]) -> None:
        self.codes, self.basis = list(codes), basis
        self.acc, self.next = [32] * len(basis), 0

    @property
    def done(self) -> bool:
        return self.next == len(self.codes)

    def step(self) -> None:
        if self.done:
            return
        code = self.codes[self.next]
        for k in range(len(self.acc)):
            if code:
                shifted = self.basis[self.next][k] * 2 ** (abs(code) - 1)
                self.acc[k] += shifted if code > 0 else -shifted
        self.next += 1

    def weights(self) -> list[int]:
        return [max(-128, min(127, a // 64)) for a in self.acc]


class Line:
    """A line (or a cluster of one) in one pass: ``jobs`` are (coefficients or weights, activations by weight and pixel, pixels)."""

    def __init__(self, machine: Machine, jobs: list) -> None:
        self.machine, self.jobs, self.at = machine, jobs, 0
        self.engines = [Engine(*job[0]) if machine.decomposed else None for job in jobs]
        self.cells: list | None = None
        self.acc: dict[Pixel, int] = {}
        if machine.decomposed and machine.clusters == 1 and jobs:  # the first row's rebuilding is part of the pipeline
            while not self.engines[0].done:
                self.engines[0].step()
        self._begin()

    @property
    def done(self) -> bool:
        return self.at == len(self.jobs)

    def _begin(self) -> None:
        """Take the next row's weights if they are there."""
        if self.done:
            return
        engine = self.engines[self.at]
        if engine is not None and not engine.done:
            return
        self.weights = engine.weights() if engine else self.jobs[self.at][0]
        self.weight = 0
        self.machine.finished.multiplied += 1
        self._take_weight()

    def _take_weight(self) -> None:
        """Give every cell its activation's nonzero digits, or one cycle of nothing."""
        digits = ([(d, i) for i, d in enumerate(recode_booth(a)) if d] for a in self.jobs[self.at][1][self.weight])
        self.cells = [found or [(0, 0)] for found in digits]

    def step(self) -> None:
        """Do one cycle: a coefficient of the next row (of this one, in a cluster), a digit in every cell."""
        if self.cells is None:
            assert self.machine.clusters > 1, "a line with two engines never waits for weights"
            self.engines[self.at].step()
            self._begin()
            return
        ahead = self.at + 1
        if self.machine.decomposed and self.machine.clusters == 1 and ahead < len(self.jobs):
            self.engines[ahead].step()
        for pixel, cell in zip(self.jobs[self.at][2], self.cells, strict=True):
            if cell:
                digit, place = cell.pop(0)
                self.acc[pixel] = self.acc.get(pixel, 0) + digit * 4**place * self.weights[self.weight]
                self.machine.finished.digits += 1
        if any(self.cells):
            return
        self.weight += 1
        if self.weight < len(self.weights):
            self._take_weight()
            return
        self.cells, self.at = None, self.at + 1
        self._begin()


class Loader:
    """Fills the line stores for a pass: every line takes a row, or a weight of a row, a cycle."""

    def __init__(self, machine: Machine, bank: Bank) -> None:
        self.machine, self.bank = machine, bank
        self.queues: list[list] = [[] for _ in range(machine.lines)]
        self.left = timing.LOAD_PIPELINE
        step, macs = bank.step, machine.arch.macs
        self.whole, self.pause = machine.loads_whole_rows(), machine.cycles_of_a_weight()
        self.wait = self.pause
        for store, group in enumerate(machine.stores_of(step)):
            for i, row in enumerate(step.rows):
                for copy in range(machine.copies):
                    line = (copy * machine.layer.R + i) % machine.lines
                    pixels = step.pixels[copy * macs : (copy + 1) * macs]
                    if pixels:
                        self.queues[line].append([(store, copy, i), machine.shift(row, group), pixels, 0])

    @property
    def done(self) -> bool:
        return not any(self.queues) and self.left == 0

    def step(self) -> None:
        if not any(self.queues):
            self.left = max(0, self.left - 1)
            return
        m = self.machine
        for queue in self.queues:
            if not queue:
                continue
            if self.wait > 1:
                continue
            key, row, pixels, weight = queue[0]
            count = len(row.places) if self.whole else 1
            taken = self.bank.activations.setdefault(key, [])
            for place in row.places[weight : weight + count]:
                taken.append([m.activation(place, pixel) for pixel in pixels])
            queue[0][3] += count
            if queue[0][3] == len(row.places):
                m.finished.loaded += 1
                queue.pop(0)
        self.wait = self.wait - 1 or self.pause


class Decoder:
    """Fills the row stores for a pass out of the slices' streams: parts of so many cycles, the same for all slices."""

    def __init__(self, machine: Machine, bank: Bank) -> None:
        self.machine, self.bank = machine, bank
        beat, rows, lines = machine.arch.memory.bits_per_cycle, len(bank.step.rows), machine.lines
        self.parts: list[tuple[str, int, int, int]] = []  # kind, first row, rows, cycles
        if machine.decomposed:
            if bank.step.starts_step:
                self.parts += [("flag", 0, 0, 1)]
                self.parts += [("basis", j, 1, beats(3 * 8, beat)) for j in range(3)]
            self.parts += [("index", 0, rows, beats(rows, beat) - 1)]  # its first beat is part of the pipeline
            for first in range(0, rows, lines):
                self.parts += [("rows", first, min(lines, rows - first), beats(12 * lines, beat))]
        else:
            width = len(bank.step.rows[0].places)
            self.parts = [("dense", i, 1, beats(3 * 8, beat) * beats(width, 3)) for i in range(rows)]
        self.parts += [("pipeline", 0, 0, timing.DECODE_PIPELINE)]
        self.indices: dict[int, str] = {}
        self._settle()

    @property
    def done(self) -> bool:
        return not self.parts

    def step(self) -> None:
        if self.parts:
            kind, first, rows, cycles = self.parts[0]
            self.parts[0] = (kind, first, rows, cycles - 1)
            self._settle()

    def _settle(self) -> None:
        """Do what parts without cycles left were there for."""
        while self.parts and self.parts[0][3] == 0:
            kind, first, rows, _ = self.parts.pop(0)
            for s in range(len(self.bank.step.filters)):
                self._read(self.machine.readers[s], s, kind, first, rows)

    def _read(self, reader: Reader, s: int, kind: str, first: int, rows: int) -> None:
        if kind == "flag":
            reader.flag, reader.basis = reader.take(1), []
        elif kind == "basis" and reader.flag == "1":
            reader.basis.append([read_number(reader.take(8)) for _ in range(3)])
        elif kind == "index":
            self.indices[s] = reader.take(rows) if reader.flag == "1" else "0" * rows
        elif kind == "rows":
            for i in range(first, first + rows):
                if self.indices[s][i] == "1":
                    nibbles = [reader.take(4) for _ in range(3)]
                    codes = [read_number(n[:3], False) * (-1 if n[3] == "1" else 1) for n in nibbles]
                    self.bank.weights[s, i] = (codes, reader.basis)
                    self.machine.finished.row_store_bits += 12
        elif kind == "dense":
            width = len(self.bank.step.rows[first].places)
            self.bank.weights[s, first] = [read_number(reader.take(8)) for _ in range(width)]
            self.machine.finished.row_store_bits += 8 * width


class Reader:
    """A slice's place in its stream."""

    def __init__(self, machine: Machine, stream: str) -> None:
        self.machine, self.stream, self.at, self.start = machine, stream, 0, 0
        self.flag, self.basis = "1", []

    def take(self, count: int) -> str:
        found = self.stream[self.at : self.at + count]
        assert len(found) == count, "the stream ends too early"
        self.at += count
        self.machine.finished.decoded_bits += count
        return found


def beats(bits: int, beat: int) -> int:
    return (bits + beat - 1) // beat


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
        depthwise = layer.op == "conv" and layer.G > 1 and layer.C == 1 and layer.K == 1
        self.spread = depthwise and arch.depthwise == "spread"
        self.columns = layer.N if layer.op == "gemm" else layer.Q
        single = not self.spread and layer.P * self.columns == 1
        self.clusters = min(arch.clusters, arch.macs) if single else 1
        self.lines = arch.lines * self.clusters
        self.by_kernel = layer.R * layer.S > 1 or self.spread
        self.width = layer.S if self.by_kernel else 3
        self.held = arch.lines * (arch.line_rows // ((self.width + 2) // 3))
        self.copies = 1
        if self.spread:
            self.copies = max(1, min(arch.lines // layer.R, len(range(0, self.columns, arch.macs))))
        self.finished = Finished()

    # --- what there is to do -----------------------------------------------------------------------------------------

    def rows_of(self) -> list[Row]:
        """Rows of a filter in storage order; channels count from the filter's group."""
        layer = self.layer
        if self.by_kernel:
            order = product(range(layer.C), range(layer.R))
            return [Row(i, [(c, r, s) for s in range(layer.S)]) for i, (c, r) in enumerate(order)]
        firsts = range(0, layer.C, 3)
        return [Row(i, [(c, 0, 0) if c < layer.C else None for c in range(f, f + 3)]) for i, f in enumerate(firsts)]

    def steps_of_filter(self) -> list[list[list[Row]]]:
        """Rows of a filter cut into steps at the ends of basis slices (or whole channels), steps by what the line stores hold."""
        rows = self.rows_of()
        if self.decomposed:
            unit = self.codec.plan.rows
        elif self.by_kernel:
            unit = max(self.held // self.layer.R, 1) * self.layer.R
        else:
            unit = self.held
        steps = [rows[first : first + unit] for first in range(0, len(rows), unit)]
        return [[step[i : i + self.held] for i in range(0, len(step), self.held)] for step in steps]

    def steps_of_tile(self, lo, hi) -> list[list[list[Row]]]:
        """Steps whose channels a tile holds."""
        found = []
        for step in self.steps_of_filter():
            channels = [place[0] for rows in step for row in rows for place in row.places if place]
            if self.spread or (lo[3] <= min(channels) and max(channels) < hi[3]):
                found.append(step)
        return found

    def loads_whole_rows(self) -> bool:
        """Whether a line takes a row in one cycle."""
        layer = self.layer
        return self.by_kernel and layer.S <= 3 and layer.dilation[1] == 1 and self.cycles_of_a_weight() == 1

    def cycles_of_a_weight(self) -> int:
        """Cycles in which a line takes a weight's activations: at once, or pixel by pixel as in a full group."""
        near = self.layer.op != "gemm" and self.layer.stride[1] <= 2
        return 1 if near else min(self.arch.macs, self.columns)

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

    def shift(self, row: Row, group: int) -> Row:
        """Return the row with channels of the whole input."""
        base = group * self.layer.C
        return Row(row.index, [place and (place[0] + base, *place[1:]) for place in row.places])

    def stores_of(self, step: Step) -> list[int]:
        """Group of each line store that differs: one for all slices, or one a slice."""
        groups = [f // self.layer.K for f in step.filters]
        return groups if self.spread else groups[:1]

    def blocks_of(self, lo, hi) -> list[list[int]]:
        """Filters of all groups that run together: filter s of a block on slice s."""
        layer, slices = self.layer, self.arch.slices
        if self.spread:
            return [list(range(g, min(g + slices, hi[1]))) for g in range(lo[1], hi[1], slices)]
        starts = [(g, k) for g in range(lo[1], hi[1]) for k in range(lo[2], hi[2], slices)]
        return [[g * layer.K + i for i in range(k, min(k + slices, hi[2]))] for g, k in starts]

    def groups_of(self, lo, hi) -> list[list[Pixel]]:
        """Pixel groups in order."""
        wide = self.arch.macs * self.copies
        if self.layer.op == "gemm":
            return [[(n, 0, 0) for n in range(a, min(a + wide, hi[0]))] for a in range(lo[0], hi[0], wide)]
        return [
            [(n, p, q) for q in range(a, min(a + wide, hi[5]))]
            for n in range(lo[0], hi[0])
            for p in range(lo[4], hi[4])
            for a in range(lo[5], hi[5], wide)
        ]

    def list_steps(self, lo, hi) -> list[Step]:
        """Passes of a tile in order; ``lo``, ``hi`` along N G K C P Q."""
        chosen = [(rows, i == 0) for step in self.steps_of_tile(lo, hi) for i, rows in enumerate(step)]
        groups, found = self.groups_of(lo, hi), []
        for block in self.blocks_of(lo, hi):
            for j, pixels in enumerate(groups):
                for i, (rows, starts) in enumerate(chosen):
                    found.append(Step(block, rows, pixels, starts, i == 0, i == j == 0, i == len(chosen) - 1))
        return found

    # --- the bits ----------------------------------------------------------------------------------------------------

    def write_filter(self, filter_: int, steps: list[list[list[Row]]]) -> str:
        """The bits of a filter in a stream."""
        found = ""
        for step in steps:
            if not self.decomposed:
                for row in (row for rows in step for row in rows):
                    found += "".join(write_bits(self.dense[(filter_, *p)] if p else 0, 8) for p in row.places)
                continue
            slice_index, first = divmod(step[0][0].index, self.codec.plan.rows)
            assert first == 0
            codes = self.codec.codes[filter_, slice_index]
            used = any(codes[row.index % self.codec.plan.rows].any() for rows in step for row in rows)
            found += "01"[used]
            if not used:
                continue
            found += "".join(write_bits(b, 8) for b in self.codec.basis[filter_, slice_index].ravel())
            for rows in step:
                held = [[int(c) for c in codes[row.index % self.codec.plan.rows]] for row in rows]
                found += "".join("01"[any(row)] for row in held)
                found += "".join(write_bits(abs(c), 3) + "01"[c < 0] for row in held if any(row) for c in row)
        return found

    def write_streams(self, lo, hi) -> list[str]:
        """The stream of each slice for a tile, not filled to beats."""
        steps, streams = self.steps_of_tile(lo, hi), [""] * self.arch.slices
        for block in self.blocks_of(lo, hi):
            for s, f in enumerate(block):
                streams[s] += self.write_filter(f, steps)
        return streams

    def write_tile(self, lo, hi) -> str:
        """The bits of a tile in memory."""
        beat = self.arch.memory.bits_per_cycle
        streams = [bits + "0" * (-len(bits) % beat) for bits in self.write_streams(lo, hi)]
        header = "".join(write_bits(len(bits) // beat, 16) for bits in streams)
        return header + "0" * (-len(header) % beat) + "".join(streams)

    # --- the machine -------------------------------------------------------------------------------------------------

    def lines_of(self, bank: Bank) -> list[tuple[int, Line]]:
        """Lines with something to do in a pass, by filter: rows with a coefficient and a nonzero activation."""
        step, found = bank.step, []
        entries, macs = (self.width + 2) // 3, self.arch.macs
        for s, filter_ in enumerate(step.filters):
            jobs: list[list] = [[] for _ in range(self.lines)]
            stored = [0] * self.arch.lines
            for copy, (i, _) in product(range(self.copies), enumerate(step.rows)):
                pixels = step.pixels[copy * macs : (copy + 1) * macs]
                if not pixels:
                    continue
                activations = bank.activations[s if self.spread else 0, copy, i]
                line = (copy * self.layer.R + i) % self.lines
                stored[line % self.arch.lines] += entries
                if (s, i) in bank.weights and any(a for by_pixel in activations for a in by_pixel):
                    jobs[line].append((bank.weights[s, i], activations, pixels))
            assert max(stored) <= self.arch.line_rows, "a line store is full"
            found += [(filter_, Line(self, rows)) for rows in jobs if rows]
        return found

    def prepare(self, step: Step | None) -> tuple[Bank, list]:
        """Start the stage that fills a bank: slices go back to their filter's first bit for each pixel group but the first."""
        if step is None:
            return Bank(step), []  # type: ignore[arg-type]
        for reader in self.readers[: len(step.filters)]:
            if step.starts_block:
                reader.start = reader.at
            elif step.starts_group:
                reader.at = reader.start
        bank = Bank(step)
        return bank, [Loader(self, bank), Decoder(self, bank)]

    def run_tile(self, lo, hi) -> Finished:
        """Run one tile from empty stores."""
        lo, hi = [int(v) for v in lo], [int(v) for v in hi]
        result = self.finished = Finished()
        self.readers = [Reader(self, bits) for bits in self.write_streams(lo, hi)]
        steps = self.list_steps(lo, hi)
        bank, stages = self.prepare(steps[0])
        while not all(stage.done for stage in stages):
            for stage in stages:
                stage.step()
            result.fill += 1
        clock, draining, since = result.fill, 0, 0
        results = self.arch.macs * self.copies
        sums: dict = {}
        for number, step in enumerate(steps):
            lines, left = self.lines_of(bank), timing.RUN_PIPELINE
            bank, stages = self.prepare(steps[number + 1] if number + 1 < len(steps) else None)
            while True:
                running = [line for _, line in lines if not line.done]
                if not running and left == 0 and all(stage.done for stage in stages):  # noqa: SIM102
                    if not (step.ends_group and since < results):
                        break
                left -= not running and left > 0
                for part in (*running, *stages):
                    part.step()
                draining = max(0, draining - 1)
                since, clock = since + 1, clock + 1
            for filter_, line in lines:
                for pixel, value in line.acc.items():
                    sums[filter_, pixel] = sums.get((filter_, pixel), 0) + value
            if step.ends_group:
                assert draining == 0, "the copies of the accumulators are still being read"
                for slot in product(step.filters, step.pixels):
                    result.sums[slot] = sums.pop(slot, 0)
                draining, since = results, 0
        assert not sums
        assert all(reader.at == len(reader.stream) for reader in self.readers), "streams are read to their end"
        result.busy = clock
        result.tail = self._drain(draining) + timing.RESULT_PIPELINE
        return result

    def _drain(self, results: int) -> int:
        """Send the results through the adder tree, a register a stage, and count the cycles until the last has left it."""
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
