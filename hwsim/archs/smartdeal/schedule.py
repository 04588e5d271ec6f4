"""The passes of a tile one by one: what hardware and tests compare themselves with."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hwsim.archs.smartdeal import timing
from hwsim.core.mapping import C, G, Int64, K, N, P, Q

if TYPE_CHECKING:
    from hwsim.archs.smartdeal.datapath import SmartDealDatapath

PASS = np.dtype(
    [
        ("group", "i4"),  # of the layer; of a spread layer the block's first channel
        ("filter", "i4"),  # first filter of the block, in its group
        ("filters", "i4"),  # of the block: filter f of it is on slice f
        ("image", "i4"),  # 0 for a gemm, whose images are columns
        ("out_row", "i4"),
        ("column", "i4"),  # first output column of the pixel group
        ("columns", "i4"),
        ("step", "i4"),  # of the layer's rows
        ("first_row", "i4"),  # of a filter's rows, in storage order
        ("rows", "i4"),
        ("starts_step", "?"),  # flag and basis are decoded before its rows
        ("ends_group", "?"),  # the accumulators leave behind it
        ("prepare_cycles", "i8"),
        ("run_cycles", "i8"),
    ]
)


def list_passes(datapath: SmartDealDatapath, lo: Int64, hi: Int64) -> npt.NDArray[np.void]:
    """Return the passes of a tile ``lo .. hi`` at multiples of the quantum, in order, a structured array of dtype `PASS`.

    The tile's busy cycles follow: the first ``prepare_cycles``, then for each pass the longer of its ``run_cycles`` and the next
    one's ``prepare_cycles``, the last's ``run_cycles`` alone; no pixel group takes less than ``datapath.least``.
    """
    layer, rows, slices = datapath.layer, datapath.rows, datapath.arch.slices
    channels, filters = range(int(lo[G]), int(hi[G])), range(int(lo[K]), int(hi[K]))
    if datapath.spread:
        blocks = [(g, 0, min(slices, channels.stop - g)) for g in channels[::slices]]
        chosen = range(len(rows.starts_step))
    else:
        blocks = [(g, k, min(slices, filters.stop - k)) for g, k in product(channels, filters[::slices])]
        step = rows.pass_channels
        first, last = int(lo[C]) // step * rows.passes_per_step, -(-int(hi[C]) // step) * rows.passes_per_step
        chosen = range(first, min(last, len(rows.starts_step)))
    images, out_rows, columns = ((int(lo[dim]), int(hi[dim])) for dim in (N, P, Q))
    places = [(n, p) for n in range(*images) for p in range(*out_rows)]
    if layer.op == "gemm":
        places, columns = [(0, 0)], images
    found = []
    step_of_pass = np.cumsum(rows.starts_step) - 1
    per_group = -(-layer.K // slices)
    for (g, k, count), (n, p), q in product(blocks, places, range(*columns, datapath.least)):
        block = g // slices if datapath.spread else g * per_group + k // slices
        at = ((0 if layer.op == "gemm" else n * layer.P + p) * datapath.per_row) + q // datapath.least
        for i in chosen:
            start, end = int(rows.pass_start[i]), int(rows.pass_start[i + 1])
            prepare = int(datapath.prepare[block if len(datapath.prepare) > 1 else 0, i])
            run = int(datapath.compute[block, at, i]) + timing.RUN_PIPELINE
            found.append(
                (g, k, count, n, p, q, min(datapath.least, columns[1] - q), int(step_of_pass[i]), start, end - start,
                 bool(rows.starts_step[i]), i == chosen[-1], prepare, run)
            )  # fmt: skip
    return np.array(found, PASS)
