"""When the SmartDeal engine is through with a tile: the schedule of ``docs/rtl.md``, row by row."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwsim.archs.smartdeal import timing
from hwsim.archs.smartdeal.spec import SmartDeal
from hwsim.core.layer import Layer
from hwsim.core.mapping import C, G, K, N, P, Q
from hwsim.quant.decompose import Decomposed


def count_digits(value: int) -> int:
    """Return the nonzero radix-4 Booth digits of an activation less its zero point."""
    count, below = 0, 0
    for i in range(0, 10, 2):
        low, high = value >> i & 1, value >> i + 1 & 1
        count += low + below - 2 * high != 0
        below = high
    return count


DIGITS = {value: count_digits(value) for value in range(-256, 256)}


@dataclass(frozen=True, eq=False)
class Layout:
    """A layer's rows: ``rows`` (first channel, kernel row), weights of one, ``passes`` of steps as lists of ranges of rows."""

    rows: list[tuple[int, int]]
    weights: int
    steps: list[list[range]]
    by_kernel: bool
    rebuilt: bool


def cut_layer(layer: Layer, arch: SmartDeal, codec: Decomposed | None) -> Layout:
    """Return the rows and passes of a layer."""
    rebuilt = codec is not None and not codec.plan.is_dense
    by_kernel = layer.R * layer.S > 1
    weights = layer.S if by_kernel else 3
    rows = (
        [(c, r) for c in range(layer.C) for r in range(layer.R)]
        if by_kernel
        else [(c, 0) for c in range(0, layer.C, 3)]
    )
    held = arch.lines * (arch.line_rows // -(-weights // 3))
    if rebuilt:
        assert codec is not None
        unit = codec.plan.rows
    else:
        unit = max(1, held // layer.R) * layer.R if by_kernel else held
    steps = [
        [range(at, min(at + held, first + unit, len(rows))) for at in range(first, min(first + unit, len(rows)), held)]
        for first in range(0, len(rows), unit)
    ]
    return Layout(rows, weights, steps, by_kernel, rebuilt)


def time_tile(
    layer: Layer, arch: SmartDeal, cut: Layout, x: np.ndarray, active: np.ndarray, lo: Any, hi: Any
) -> tuple[int, int]:
    """Return busy and fill cycles; x ``[N, G*C, H, W]`` less its zero point, active ``[G*K, rows]``."""
    gemm, lines, macs = layer.op == "gemm", arch.lines, arch.macs
    pixels = (
        [[[(n, 0, 0) for n in range(lo[N], hi[N])]]]
        if gemm
        else [[[(n, p, q) for q in range(lo[Q], hi[Q])] for p in range(lo[P], hi[P])] for n in range(lo[N], hi[N])]
    )
    per_row = cut.weights
    fast = not gemm and layer.stride[1] < 3
    if fast and cut.by_kernel and cut.weights <= 3 and layer.dilation[1] == 1:
        per_row = 1
    if not fast:
        per_row *= min(macs, layer.N if gemm else layer.Q)
    channels = range(lo[C], hi[C])
    steps = [step for step in cut.steps if cut.rows[step[0].start][0] in channels]
    prepares, runs = [], []
    for g in range(lo[G], hi[G]):
        for block in range(lo[K], hi[K], arch.slices):
            filters = [g * layer.K + k for k in range(block, min(block + arch.slices, hi[K]))]
            for row in itertools.chain.from_iterable(pixels):
                for first in range(0, len(row), macs):
                    group = row[first : first + macs]
                    costs: dict[int, int] = {}
                    took = []
                    for step in steps:
                        for i, one in enumerate(step):
                            chunks = -(-len(one) // lines)
                            decode = chunks + (4 if i == 0 else 0) if cut.rebuilt else len(one) * -(-cut.weights // 3)
                            prepares.append(
                                max(chunks * per_row + timing.LOAD_PIPELINE, decode + timing.DECODE_PIPELINE)
                            )
                            slowest = 0
                            for at in one:
                                costs[at] = cost_row(layer, cut, x, g, cut.rows[at], group)
                            for f in filters:
                                for line in range(lines):
                                    mine = range(one.start + line, one.stop, lines)
                                    slowest = max(slowest, sum(costs[at] for at in mine if active[f, at]))
                            took.append(slowest + timing.RUN_PIPELINE)
                    runs.append(took)
    # steps; a pixel group lasts macs cycles at least
    busy, at = prepares[0], 1
    for took in runs:
        spent = 0
        for i, run in enumerate(took):
            step = max(run, prepares[at] if at < len(prepares) else 0)
            at += 1
            if i == len(took) - 1:
                step = max(step, macs - spent)
            spent += step
        busy += spent
    return busy, prepares[0]


def cost_row(layer: Layer, cut: Layout, x: np.ndarray, g: int, row: tuple[int, int], group: list[Any]) -> int:
    """Return the cycles of a row at a pixel group: 0 where all activations are zero."""
    total, some = 0, False
    for weight in range(cut.weights):
        slowest = 1
        for n, p, q in group:
            c, s = (row[0], weight) if cut.by_kernel else (row[0] + weight, 0)
            y = p * layer.stride[0] - layer.padding[0] + row[1] * layer.dilation[0]
            column = q * layer.stride[1] - layer.padding[1] + s * layer.dilation[1]
            if c < layer.C and 0 <= y < layer.H and 0 <= column < layer.W:
                value = int(x[n, g * layer.C + c, y, column])
                some |= value != 0
                slowest = max(slowest, DIGITS[value])
        total += slowest
    return total if some else 0
