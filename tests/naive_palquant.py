"""The native low-bit array cycle by cycle: lanes, cells, adder trees read out at a level, accumulators; plain Python loops.

Weights are taken out of the stored bits of a tile, line by line, as the engine reads them; a digit is whatever its bits say.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Machine:
    """Lanes, columns, bits of a multiplier, lanes of the smallest segment, most blocks of columns."""

    rows: int
    cols: int
    native: int
    segment_lanes: int
    column_blocks: int


@dataclass
class Outcome:
    """What a tile left behind: cycles, ``obuf`` by (word, tap, column), the place of each result, counts of what worked."""

    cycles: int = 0
    obuf: dict = field(default_factory=dict)
    places: dict = field(default_factory=dict)
    counts: Counter = field(default_factory=Counter)


def list_sharings(machine: Machine):
    """Yield segments and blocks, the fewest first, segments the last to grow."""
    found = []
    segments = 1
    while segments * machine.segment_lanes <= machine.rows:
        blocks = 1
        while blocks <= machine.column_blocks:
            found.append((segments * blocks, segments, blocks))
            blocks *= 2
        segments *= 2
    return [(segments, blocks) for _, segments, blocks in sorted(found)]


def count_steps(machine: Machine, groups: int, filters: int, depth: int, segments: int, blocks: int) -> int:
    """Return the steps of a pixel by walking them."""
    steps = 0
    for _ in range(0, groups, segments * blocks):
        for _ in range(0, filters, machine.cols // blocks):
            for _ in range(0, depth, machine.rows // segments):
                steps += 1
    return steps


def share_out(machine: Machine, groups: int, filters: int, depth: int) -> tuple[int, int]:
    """Return the sharing of the fewest steps, of these the one of the fewest parts."""
    return min(list_sharings(machine), key=lambda one: count_steps(machine, groups, filters, depth, *one))


def digits_of(value: int, bits: int, native: int, signed: bool) -> list[int]:
    """Return an integer's digits, lowest first; the top one has the bits that are left and the sign."""
    pattern = value & ((1 << bits) - 1)
    found = []
    for at in range(0, bits, native):
        width = min(native, bits - at)
        digit = pattern >> at & ((1 << width) - 1)
        if signed and at + width == bits and digit >> (width - 1):
            digit -= 1 << width
        found.append(digit)
    return found


def add_tree(leaves: list, levels: int, counts: Counter) -> list:
    """Return the sums of the nodes of a level; a leaf is an integer, or None where its lane carries nothing."""
    for level in range(1, levels + 1):
        pairs = [(leaves[i], leaves[i + 1]) for i in range(0, len(leaves), 2)]
        for pair in pairs:
            counts["tree", level] += pair != (None, None)
        leaves = [None if pair == (None, None) else sum(x for x in pair if x is not None) for pair in pairs]
    return leaves


def run_tile(
    windows, bits, filters: int, w_bits: int, a_bits: int, machine: Machine, sharing, signed: tuple[bool, bool]
):
    """Run a tile.

    Parameters
    ----------
    windows : nested lists [groups][pixels][depth]
        Stored activations that each pixel of each group multiplies.
    bits : list of int
        The tile's stored weight bits.
    sharing : (int, int)
        Segments and blocks.
    signed : (bool, bool)
        Weights, activations.
    """
    groups, pixels, depth = len(windows), len(windows[0]), len(windows[0][0])
    segments, blocks = sharing
    at_once, wide, deep = segments * blocks, machine.cols // blocks, machine.rows // segments
    taps = machine.rows // machine.segment_lanes
    shared = taps // segments
    w_places = list(range(0, w_bits, machine.native))
    out, stream, word = Outcome(), iter(bits), 0
    for set_at in range(0, groups, at_once):
        members = list(range(set_at, min(set_at + at_once, groups)))
        for block_at in range(0, filters, wide):
            some = list(range(block_at, min(block_at + wide, filters)))
            lines = read_lines(stream, len(members), len(some), depth, deep, w_bits, machine.native)
            for pixel in range(pixels):
                accumulators: dict = {}
                for step, first in enumerate(range(0, depth, deep)):
                    live = range(first, min(first + deep, depth))
                    lanes = {(i, e - first): windows[g][pixel][e] for i, g in enumerate(members) for e in live}
                    out.counts["ibuf"] += len(lanes)
                    split = {key: digits_of(value, a_bits, machine.native, signed[1]) for key, value in lanes.items()}
                    for w_place in range(len(w_places)):
                        line = lines[step, w_place]
                        out.counts["wbuf"] += sum(len(cell) for cell in line.values())
                        for a_place in range(-(-a_bits // machine.native)):
                            out.cycles += 1
                            run_pass(line, split, a_place, w_place, w_places, w_bits, members, some, deep, segments, wide,
                                     machine, signed[0], accumulators, out.counts)  # fmt: skip
                ports = set()
                for (i, k), value in accumulators.items():
                    tap = pixel % shared * segments + i % segments
                    port = tap, i // segments * wide + k
                    assert port not in ports, "two results for one memory of obuf in a cycle"
                    ports.add(port)
                    place = (word + pixel // shared, *port)
                    assert place not in out.obuf
                    out.obuf[place] = value
                    out.places[members[i], some[k], pixel] = place
            word += -(-pixels // shared)
    assert next(stream, None) is None, "stored bits that nobody read"
    return out


def read_lines(stream, groups: int, filters: int, depth: int, deep: int, w_bits: int, native: int) -> dict:
    """Return the lines of a set and block of filters: by step and digit the bits of each cell (group, lane, filter)."""
    lines = {}
    for step, first in enumerate(range(0, depth, deep)):
        for place, at in enumerate(range(0, w_bits, native)):
            width = min(native, w_bits - at)
            lines[step, place] = {
                (i, lane, k): [next(stream) for _ in range(width)]
                for i in range(groups) for lane in range(min(deep, depth - first)) for k in range(filters)
            }  # fmt: skip
    return lines


def run_pass(line, split, a_place, w_place, w_places, w_bits, members, some, deep, segments, wide, machine, w_signed,
             accumulators, counts):  # fmt: skip
    """Multiply a pair of digits on every cell, add up each column's lanes by segment, shift and accumulate."""
    for block in range(-(-len(members) // segments)):
        for k in range(len(some)):
            assert k < wide
            leaves: list = [None] * machine.rows
            for segment in range(segments):
                i = block * segments + segment
                for lane in range(deep):
                    if (i, lane, k) in line:
                        cell = line[i, lane, k]
                        weight = sum(bit << at for at, bit in enumerate(cell))
                        if w_signed and w_place == len(w_places) - 1 and cell[-1]:
                            weight -= 1 << len(cell)
                        leaves[segment * deep + lane] = weight * split[i, lane][a_place]
                        counts["products"] += 1
            sums = add_tree(leaves, deep.bit_length() - 1, counts)
            for segment, value in enumerate(sums):
                if value is not None:
                    counts["results"] += 1
                    key = (block * segments + segment, k)
                    moved = value << (machine.native * (a_place + w_place))
                    accumulators[key] = accumulators.get(key, 0) + moved
