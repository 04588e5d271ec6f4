"""A core that runs the inner kernel instruction by instruction: every load, look-up, dot product and store is a step of Python."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Trace:
    """What ran: instructions by kind, of all register tiles and of each, and of packing; the sums."""

    sums: np.ndarray
    packing: Counter = field(default_factory=Counter)
    tiles: list[tuple[Counter, int]] = field(default_factory=list)

    def count(self, kind: str) -> int:
        return self.packing[kind] + sum(tile[kind] for tile, _ in self.tiles)


def run(
    arch, pixels, filters, *, stride=1, lies_packed=False, in_lanes="pixels", blocks=(3, 8), first=1, last=1, table=None
):
    """Run one group of a tile.

    Parameters
    ----------
    pixels, filters : ndarray int64
        Windows ``[pixels, depth]``, weights ``[filters, depth]`` (indices where there is a ``table``).
    stride : int
        Horizontal: elements of a window's neighbours lie so far apart.
    blocks : tuple of int
        Words in lanes and elements of the other side, of a register tile.
    table : ndarray, optional
        A codebook.
    """
    lanes, step = arch.lanes, arch.step
    sides = (pixels, filters) if in_lanes == "pixels" else (filters, pixels)
    steps = -(-pixels.shape[1] // step)
    lane_side, other_side = (np.pad(side, ((0, 0), (0, steps * step - side.shape[1]))) for side in sides)
    words = -(-len(lane_side) // lanes)
    lane_side = np.pad(lane_side, ((0, words * lanes - len(lane_side)), (0, 0)))
    found = Trace(np.zeros((len(lane_side), len(other_side)), np.int64))
    if in_lanes == "pixels" and not lies_packed:
        for _ in range(words * steps):
            found.packing["load_a"] += stride
            found.packing["vector"] += 2 if step > 1 else 0
            found.packing["pack_store"] += 1
    kinds = ("a", "w") if in_lanes == "pixels" else ("w", "a")
    for word in range(0, words, blocks[0]):
        for other in range(0, len(other_side), blocks[1]):
            mine = range(word, min(word + blocks[0], words))
            others = range(other, min(other + blocks[1], len(other_side)))
            found.tiles.append(_run_tile(found.sums, lane_side, other_side, mine, others, (lanes, step, steps), kinds, first, last, table, arch))  # noqa: E501  # fmt: skip
    return found


def _run_tile(sums, lane_side, other_side, mine, others, shape, kinds, first, last, table, arch):
    lanes, step, steps = shape
    ran: Counter = Counter()
    for _ in mine:
        for _ in others:
            ran["vector" if first else "load_p"] += 1
    for at in range(steps):
        depth = slice(at * step, at * step + step)
        held = {}
        for w in mine:
            ran["words_" + kinds[0]] += 1
            held[w] = lane_side[w * lanes : w * lanes + lanes, depth]
        for _ in range(0, len(others), lanes):
            ran["words_" + kinds[1]] += 1
        for w in mine:
            for o in others:
                x, y = held[w], other_side[o, depth]
                if table is not None:
                    x, y = (table[x], y) if kinds[0] == "w" else (x, table[y])
                ran["vector"] += 1
                sums[w * lanes : w * lanes + lanes, o] += x @ y
        if at % 4 == 0:
            ran["scalar"] += 2
    w_words = ran.pop("words_w")
    bits = arch.vector_bits * w_words
    if table is None:
        ran["load_w"] += w_words
    else:
        index = len(table).bit_length() - 1
        nibbles = bits // 8 * index // 4  # an index for each byte of a word
        ran["load_w"] += -(-bits * index // 8 // arch.vector_bits)
        ran["vector"] += w_words  # a look-up gives a word
        ran["vector"] += -(
            -nibbles // (arch.vector_bits // 8)
        )  # a word of bytes, one nibble each, for every mask or shift
    ran["load_a"] += ran.pop("words_a")
    for _ in mine:
        for _ in others:
            ran["store"] += 1
            ran["vector"] += last * {4: 5, 1: 2}[step]
    ran["scalar"] += 8
    return ran, steps


def fits(arch, ran: Counter, cycles: int) -> bool:
    """Return whether instructions can be issued in so many cycles: the most urgent first, cycle by cycle."""
    moved = sum(ran[kind] for kind in ("load_a", "load_w", "load_p", "store", "pack_store"))
    left = {"vector": ran["vector"], "memory": moved, "scalar": ran["scalar"]}
    busy, rate = 0.0, arch.memory_bits / arch.vector_bits
    for cycle in range(cycles):
        rest = cycles - cycle
        slots, pipes = arch.issue, arch.vector_pipes
        urgency = {
            "vector": left["vector"] / (arch.vector_pipes * rest), "memory": left["memory"] / (rate * rest), "scalar": 0.0,
        }  # fmt: skip
        for kind in sorted(left, key=lambda name: -urgency[name]):
            while left[kind] and slots:
                if kind == "vector" and not pipes:
                    break
                if kind == "memory" and busy >= cycle + 1:
                    break
                left[kind] -= 1
                slots -= 1
                pipes -= kind == "vector"
                if kind == "memory":
                    busy = max(busy, float(cycle)) + 1 / rate
    return not any(left.values()) and busy <= cycles
