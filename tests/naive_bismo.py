"""The bit-serial array step by step: feeders that write words, units that AND them and count; one Python loop over clock cycles.

Everything a step uses has to stand in its memory: a word that has not been fed yet makes the array wait, and a memory that is
asked to hold more words than it has is an AssertionError, so a schedule that runs through could be built.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Machine:
    """Units along pixels and filters, bits of a word, words of a memory."""

    rows: int
    cols: int
    word: int
    depth: int


def plane(value: int, bit: int) -> int:
    """Return a bit of an integer in two's complement."""
    return value >> bit & 1


def weigh(bit: int, bits: int, signed: bool) -> int:
    """Return what a plane counts: the highest one of a signed operand negative."""
    return -(1 << bit) if signed and bit == bits - 1 else 1 << bit


def order_words(vectors: np.ndarray, tile: int, bits: int, word: int, depth: int) -> list[tuple]:
    """Return the words of an operand in the order in which they are fed: (tile, slice, plane, vector, its bits)."""
    found = []
    for first in range(0, len(vectors), tile):
        for at in range(0, vectors.shape[1], word):
            for bit in range(bits):
                for v in range(first, min(first + tile, len(vectors))):
                    content = [plane(int(x), bit) for x in vectors[v, at : at + word]]
                    found.append((first // tile, at // word, bit, v % tile, content))
    for v in range(tile):
        assert sum(entry[3] == v for entry in found) <= depth, "an operand memory is too small"
    return found


def run_pass(left: np.ndarray, right: np.ndarray, a: int, w: int, machine: Machine, signed: bool, pixels_outer: bool):
    """Return the product of ``left`` [pixels, depth] and ``right`` [filters, depth], and the cycles until its last step; what the
    units at work did: sums shifted and added, words of rows and of columns read for these.
    """
    feeds = [order_words(left, machine.rows, a, machine.word, machine.depth),
             order_words(right, machine.cols, w, machine.word, machine.depth)]  # fmt: skip
    sums = np.zeros((len(left), len(right)), np.int64)
    slices = -(-left.shape[1] // machine.word)
    tiles = -(-len(left) // machine.rows), -(-len(right) // machine.cols)
    steps = [
        (i, j, s, x, y)
        for i in range(tiles[0]) for j in range(tiles[1]) for s in range(slices) for x in range(a) for y in range(w)
    ]  # fmt: skip
    if not pixels_outer:
        steps.sort(key=lambda step: (step[1], step[0], step[2], step[4], step[3]))
    sizes = [
        {(t, s, b): sum(1 for f in feed if f[:3] == (t, s, b)) for t, s, b in {f[:3] for f in feed}} for feed in feeds
    ]
    memory: list[dict] = [{}, {}]
    cycle = done = 0
    worked: Counter = Counter()
    while done < len(steps):
        for feed, held in zip(feeds, memory, strict=True):
            if cycle < len(feed):
                held.setdefault(feed[cycle][:3], {})[feed[cycle][3]] = feed[cycle][4]
        i, j, s, x, y = steps[done]
        ones, others = memory[0].get((i, s, x), {}), memory[1].get((j, s, y), {})
        if len(ones) == sizes[0][i, s, x] and len(others) == sizes[1][j, s, y]:
            worked["rows"] += len(ones)
            worked["columns"] += len(others)
            for r, first in ones.items():
                for c, second in others.items():
                    count = sum(p & q for p, q in zip(first, second, strict=True))
                    weight = weigh(x, a, False) * weigh(y, w, signed)
                    sums[i * machine.rows + r, j * machine.cols + c] += weight * count
                    worked["sums"] += 1
            done += 1
        cycle += 1
    return sums, cycle, worked


def split(count: int, most: int) -> list[int]:
    """Return ``count`` cut into the fewest parts of at most ``most``, the larger ones first."""
    parts = -(-count // most)
    return [count // parts + (i < count % parts) for i in range(parts)]


def multiply(left: np.ndarray, right: np.ndarray, a: int, w: int, machine: Machine, signed: bool = True, worked=None):
    """Return a product of any size, pass by pass, its cycles, and the results that were written to ``obuf``; add to the counter
    ``worked`` what the units did.
    """
    sums = np.zeros((len(left), len(right)), np.int64)
    cycles = written = at = 0
    slices = -(-left.shape[1] // machine.word)
    for depth in split(slices, max(1, machine.depth // max(a, w))):
        elements = slice(at, at + depth * machine.word)
        at += depth * machine.word
        row = 0
        for tall in split(-(-len(left) // machine.rows), max(1, machine.depth // (depth * a))):
            some = slice(row, row + tall * machine.rows)
            row += tall * machine.rows
            column = 0
            for wide in split(-(-len(right) // machine.cols), max(1, machine.depth // (depth * w))):
                others = slice(column, column + wide * machine.cols)
                column += wide * machine.cols
                runs = [
                    run_pass(left[some, elements], right[others, elements], a, w, machine, signed, outer)
                    for outer in (True, False)
                ]
                assert np.array_equal(runs[0][0], runs[1][0])
                assert runs[0][2] == runs[1][2]
                if worked is not None:
                    worked.update(runs[0][2])
                sums[some, others] += runs[0][0]
                written += runs[0][0].size
                cycles += min(run[1] for run in runs)
    return sums, cycles, written
