"""Obviously right lowering: nested loops over tiles, elements counted one by one, addresses enumerated bit by bit.

Knows what the docstrings of `hwsim.core.program` say and nothing of the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

import numpy as np

from hwsim.core.layer import Layer
from hwsim.core.mapping import Mapping

WINDOWED = ("conv", "gemm", "maxpool", "avgpool")
"""Operators whose outputs read windows of their input; all others read the element of the same place."""
Unit = int
"""An alignment unit of memory: bits ``align * unit`` up to ``align * (unit + 1)``."""


@dataclass
class Move:
    """A load or store: its operation, operand, and the units of memory that the elements it needs lie in."""

    op: str
    units: frozenset[Unit] = frozenset()
    bits: int = 0


@dataclass
class Visit:
    """One exec: the tile's loop indices, what is loaded before it and stored behind it."""

    group: int
    m: int
    k: int
    c: int
    moves: list[Move] = field(default_factory=list)


def cut(extent: int, tile: int) -> list[range]:
    """Cut ``range(extent)`` into tiles."""
    return [range(lo, min(lo + tile, extent)) for lo in range(0, extent, tile)]


def address_of(shape, bits: int, base: int, align: int, n: int, ch: int, r: int, c: int) -> int:
    """First bit of an element: channel-major; a row fills whole units, or rows of whole bytes share one; a vector is one row."""
    channels, height, width = shape[1:]
    if height == width == 1:
        return base + n * round_up(channels * bits, align) + ch * bits
    slot = round_up(width * bits, 8)
    shared = align // slot if align % 8 == 0 and 2 * slot <= align else 1
    units_of_plane = -(-height // shared)
    unit = (n * channels + ch) * units_of_plane + r // shared
    return base + unit * round_up(width * bits, align) + r % shared * slot + c * bits


def round_up(value: int, unit: int) -> int:
    """Round up to a multiple."""
    return (value + unit - 1) // unit * unit


def units_of(addresses, bits: int, align: int) -> frozenset[Unit]:
    """Every alignment unit that an element of ``bits`` bits at any of the addresses touches."""
    return frozenset(u for a in addresses for u in range(a // align, (a + bits - 1) // align + 1))


def hull(layer: Layer, outputs: range, axis: int) -> list[int]:
    """Input rows (axis 0) or columns (1) from the first to the last that the outputs' windows reach; padding is not there."""
    size, window = ((layer.H, layer.R), (layer.W, layer.S))[axis]
    reached = [
        o * layer.stride[axis] - layer.padding[axis] + w * layer.dilation[axis] for o in outputs for w in range(window)
    ]
    return [x for x in range(min(reached), max(reached) + 1) if 0 <= x < size]


def input_units(layer: Layer, shape, bits: int, base: int, align: int, n: range, ch: range, p: range, q: range):
    """Units that an operand's elements of a tile lie in; a broadcast dimension has one element."""
    rows, cols = (hull(layer, p, 0), hull(layer, q, 1)) if layer.op in WINDOWED else (list(p), list(q))
    if layer.op not in WINDOWED:
        rows, cols = (rows if shape[2] > 1 else [0]), (cols if shape[3] > 1 else [0])
    images = list(n) if shape[0] > 1 else [0]
    channels = list(ch) if shape[1] > 1 else [0]
    where = (address_of(shape, bits, base, align, *e) for e in product(images, channels, rows, cols))
    return units_of(where, bits, align)


def list_visits(datapath, arch, mapping: Mapping, bases: list[int], out_base: int) -> list[Visit]:
    """Emit the tile visits of a layer with everything each of them moves, in program order.

    ``bases``, ``out_base``: first bits of the operands and of the output.
    """
    load, layer, align = datapath.workload, datapath.layer, arch.memory.alignment_bits
    t_n, t_g, t_k, t_c, t_p, t_q = mapping.tile
    pixels = list(product(cut(layer.N, t_n), cut(layer.P, t_p), cut(layer.Q, t_q)))
    groups, filters, channels = cut(layer.G, t_g), cut(layer.K, t_k), cut(layer.C, t_c)
    loops = {"M": range(len(pixels)), "K": range(len(filters)), "C": range(len(channels))}
    steps = []
    for g in range(len(groups)):
        for a in loops[mapping.order[0]]:
            for b in loops[mapping.order[1]]:
                for c in loops[mapping.order[2]]:
                    at = dict(zip(mapping.order, (a, b, c), strict=True))
                    steps.append((g, at["M"], at["K"], at["C"]))
    last_visit = {(g, m, k): i for i, (g, m, k, c) in enumerate(steps)}
    first_visit: dict = {}
    for i, (g, m, k, _) in enumerate(steps):
        first_visit.setdefault((g, m, k), i)
    weights_at = weight_addresses(layer, mapping, load.fmt.w_bits, align)
    interrupted = any(steps[i][:3] != steps[i + 1][:3] and last_visit[steps[i][:3]] > i for i in range(len(steps) - 1))
    visits = []
    for i, (g, m, k, c) in enumerate(steps):
        visit = Visit(g, m, k, c)
        before = steps[i - 1] if i else None
        after = steps[i + 1] if i + 1 < len(steps) else None
        n, p, q = pixels[m]
        if layer.kind == "mac" and (before is None or (before[0], *before[2:]) != (g, k, c)):
            first, bits = weights_at[g, k, c]
            visit.moves.append(Move("LOAD_W", units_of([first], bits, align), round_up(bits, align)))
        if before is None or (before[0], before[1], before[3]) != (g, m, c):
            ch = [gg * layer.C + cc for gg in groups[g] for cc in channels[c]]
            for shape, bits, base in zip(load.operand_shapes, load.operand_bits, bases, strict=True):
                units = input_units(layer, shape, bits, base, align, n, ch, p, q)
                visit.moves.append(Move("LOAD_I", units, len(units) * align))
        outputs = list(product(n, groups[g], filters[k], p, q))
        psum_bits = round_up(count_slots(arch, layer, n, groups[g], filters[k], p, q) * arch.shell.psum_bits, align)
        if before is None or before[:3] != (g, m, k):
            returns = first_visit[g, m, k] < i
            if interrupted:
                visit.moves.append(Move("LOAD_P", bits=psum_bits if returns else 0))
        visit.moves.append(Move("EXEC"))
        if after is None or after[:3] != (g, m, k):
            if last_visit[g, m, k] == i:
                where = (
                    address_of(layer.out_shape, load.out_bits, out_base, align, nn, gg * layer.K + kk, pp, qq)
                    for nn, gg, kk, pp, qq in outputs
                )
                units = units_of(where, load.out_bits, align)
                visit.moves.append(Move("STORE", units, len(units) * align))
            else:
                visit.moves.append(Move("SPILL", bits=psum_bits))
        visits.append(visit)
    return visits


def place_psums(arch, layer: Layer, n: range, g: range, k: range, p: range, q: range) -> list[tuple[int, int]]:
    """List word and column of every accumulator of a tile, in the order n, g, k, p, q: blocks of columns are filled in turn.

    A block of a group holds as many filters (``is``: pixels) as there are columns; its words hold one pixel (``is``: one filter)
    each. Results of the vector unit follow one another in the words.
    """
    elements = list(product(range(len(n)), range(len(g)), range(len(k)), range(len(p)), range(len(q))))
    if layer.kind != "mac":
        return [(i, 0) for i in range(len(elements))]
    pixels = {pixel: i for i, pixel in enumerate(product(range(len(n)), range(len(p)), range(len(q))))}
    words: dict = {}
    across_all, along_all = (len(pixels), len(k)) if arch.dataflow == "is" else (len(k), len(pixels))
    for gg in range(len(g)):
        for first in range(0, across_all, arch.cols):
            for along in range(along_all):
                words[gg, first, along] = len(words)
    found = []
    for nn, gg, kk, pp, qq in elements:
        pixel = pixels[nn, pp, qq]
        across, along = (pixel, kk) if arch.dataflow == "is" else (kk, pixel)
        found.append((words[gg, across - across % arch.cols, along], across % arch.cols))
    return found


def count_slots(arch, layer: Layer, *ranges: range) -> int:
    """Count the accumulators of the words of ``obuf`` that a tile uses, all columns of each."""
    words = {word for word, _ in place_psums(arch, layer, *ranges)}
    return len(words) * (arch.cols if layer.kind == "mac" else 1)


def weight_addresses(layer: Layer, mapping: Mapping, w_bits: int, align: int) -> dict:
    """First bit and bits of each weight tile: one behind the other over G, K, C, each at a multiple of the alignment."""
    found, at = {}, 0
    _, t_g, t_k, t_c, _, _ = mapping.tile
    for (g, gs), (k, ks), (c, cs) in product(
        enumerate(cut(layer.G, t_g)), enumerate(cut(layer.K, t_k)), enumerate(cut(layer.C, t_c))
    ):
        bits = sum(w_bits for _ in product(gs, ks, cs, range(layer.R), range(layer.S)))
        found[g, k, c] = (at, bits)
        at = round_up(at + bits, align)
    return found


def decode_runs(record: np.void) -> list[tuple[int, int]]:
    """List the runs of an instruction as (first bit, bits)."""
    runs = []
    for a, b, c in product(range(record["count2"]), range(record["count1"]), range(record["count0"])):
        at = record["address"] + a * record["stride2"] + b * record["stride1"] + c * record["stride0"]
        runs.append((int(at), int(record["run_bits"])))
    return runs


def decode_units(record: np.void, align: int) -> list[Unit]:
    """List every alignment unit of every run, in order; a run that starts or ends inside a unit is an error."""
    units = []
    for at, bits in decode_runs(record):
        assert at % align == 0
        assert bits % align == 0
        units += range(at // align, (at + bits) // align)
    return units
