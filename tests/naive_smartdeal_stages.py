"""Stages of the naive SmartDeal machine (`tests.naive_smartdeal`): lines that run, loaders, decoders; a cycle a ``step``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.naive_smartdeal import Machine

LOAD_STAGES = 7
"""From the last element that is due to its place in the line store (``accel_rtl.smartdeal.loader``)."""
DECODE_STAGES = 3 + 1 + 2
"""Filling the window, the part that is taken, and done two cycles behind the last one (``accel_rtl.smartdeal.decode``)."""
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
        self.left = LOAD_STAGES
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
        self.parts += [("pipeline", 0, 0, DECODE_STAGES)]
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
