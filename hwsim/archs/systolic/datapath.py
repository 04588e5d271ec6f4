"""Times and buffer accesses of a layer on the systolic array, in closed form.

A tile is one matrix product per group: M = output pixels of the tile, K = R*S*C of its channels, N = its filters. It is cut
into folds, which fill the array (R_a rows, C_a columns) once (equations: SCALE-Sim v3, arXiv 1811.02883;
restated in `hwsim.published.scalesim`):

=========  ====  =======  ========  =====================  =======================
dataflow   rows  columns  stream T  folds                  cycles of a fold
=========  ====  =======  ========  =====================  =======================
``os``     M     N        K         ceil(M/R_a)ceil(N/C_a) T + R_a + C_a - 2
``ws``     K     N        M         ceil(K/R_a)ceil(N/C_a) T + 2 R_a + C_a - 2
``is``     K     M        N         ceil(K/R_a)ceil(M/C_a) T + 2 R_a + C_a - 2
=========  ====  =======  ========  =====================  =======================

``fold_overlap=none``: folds run back to back, each with its skew; all of a fold counts as compute. Output stationary
results move to shadow registers and leave by the columns, R_a cycles, while the next fold runs: part of the tile's ``tail``.
``skewed``: the next fold's operands follow the last one's without a gap. A fold then takes max(T, R_a) cycles (R_a to empty the
shadow registers, ``os``, or to fill the second set of stationary registers, ``ws`` and ``is``), the last one of a tile T (nothing
follows it), and once a tile there is a fill: R_a + C_a - 2 (``os``) or 2 R_a + C_a - 2. A ragged fold takes as long as a full
one: cells are not skipped.

The hardware (`accel_rtl.systolic`) does all of this later by the constant ``PIPELINE_CYCLES``, the same for every fold: addresses
are made, buffers read, elements picked out of their words and products registered before a cell adds, and ``obuf`` is
read, added to and written behind the columns. It lengthens no fold and no gap between tiles, so it is part of the ``tail``.

A weight tile is stored in the order in which the array takes it, line by line, a line being the weights of one cycle: ``os`` by
group, column fold, k, column; ``ws`` by group, column fold, row fold, k downwards (the lowest row's weight enters first),
column; ``is`` by group, row fold, n, row. A line is then one run of neighbouring elements, whatever the tile's sizes.

Buffer reads, per fold: used rows (or columns) times T words for what streams, used cells for what is stationary. Partial sums:
one write a fold and output for ``ws`` and ``is``, one a tile for ``os``; one read for every write but the first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hwsim.core.actions import Action
from hwsim.core.bits import Bits
from hwsim.core.datapath import Datapath, ExecTimes, Totals, Workload, count_tiles, sum_over_tiles
from hwsim.core.mapping import Boxes, C, G, Int64, K, Mapping, N, P, Q

if TYPE_CHECKING:
    from hwsim.archs.systolic.spec import Systolic
    from hwsim.core.tensors import Array

PIPELINE_CYCLES = {"os": 8, "ws": 9, "is": 9}
"""Cycles by which the hardware's results come later than the ideal schedule's: `accel_rtl.systolic.engine` lists them stage by
stage. ``ws`` and ``is`` have one more: the ideal sum goes from the lowest cell straight into the buffer's adder."""


def list_weight_order(arch: Systolic, groups: int, filters: int, depth: int) -> Int64:
    """Return where each stored weight of a tile comes from: positions in ``[groups, filters, depth]``, int64."""
    place = np.arange(groups * filters * depth, dtype=np.int64).reshape(groups, filters, depth)
    deep = [np.arange(first, min(first + arch.rows, depth)) for first in range(0, depth, arch.rows)]
    across = [slice(first, first + arch.cols) for first in range(0, filters, arch.cols)]
    if arch.dataflow == "is":
        return np.concatenate([one[:, rows].ravel() for one in place for rows in deep])
    if arch.dataflow == "ws":
        return np.concatenate([one[cols][:, rows[::-1]].T.ravel() for one in place for cols in across for rows in deep])
    return np.concatenate([one[cols].T.ravel() for one in place for cols in across])


class SystolicDatapath(Datapath):
    """One layer on a systolic array."""

    def __init__(self, workload: Workload, arch: Systolic) -> None:
        super().__init__(workload)
        self.arch = arch
        self.window = self.layer.R * self.layer.S

    def quantum(self) -> tuple[int, int, int, int, int, int]:
        """Return the array's own sizes: filters by columns, the rest free."""
        return (1, 1, self.arch.cols if self.arch.dataflow != "is" else 1, 1, 1, 1)

    def _count_folds(self, m: Int64, depth: Int64, filters: Int64) -> tuple[Int64, Int64]:
        """Return folds and stream length of one group's product."""
        rows, cols = self.arch.rows, self.arch.cols
        if self.arch.dataflow == "os":
            return -(-m // rows) * -(-filters // cols), depth
        if self.arch.dataflow == "ws":
            return -(-depth // rows) * -(-filters // cols), m
        return -(-depth // rows) * -(-m // cols), filters

    def _fold_skew(self) -> int:
        """Cycles of a fold beyond its stream."""
        rows, cols = self.arch.rows, self.arch.cols
        return (rows if self.arch.dataflow == "os" else 2 * rows) + cols - 2

    def exec_times(self, boxes: Boxes) -> ExecTimes:
        """Return the times of tiles."""
        size = boxes.size
        folds, stream = self._count_folds(size[:, N] * size[:, P] * size[:, Q], size[:, C] * self.window, size[:, K])
        folds = folds * size[:, G]
        tail = np.full(len(boxes), PIPELINE_CYCLES[self.arch.dataflow], np.int64)
        if self.arch.dataflow == "os":
            tail += self.arch.rows
        if self.arch.fold_overlap == "none":
            return ExecTimes(folds * (stream + self._fold_skew()), np.zeros(len(boxes), np.int64), tail)
        fill = np.full(len(boxes), self._fold_skew(), np.int64)
        return ExecTimes((folds - 1) * np.maximum(stream, self.arch.rows) + stream + fill, fill, tail)

    def psum_slots(self, size: Int64) -> Int64:
        """Return the accumulators of whole words of all columns: columns stand for filters, or for pixels (``is``)."""
        cols, pixels = self.arch.cols, size[:, N] * size[:, P] * size[:, Q]
        across, along = (pixels, size[:, K]) if self.arch.dataflow == "is" else (size[:, K], pixels)
        return np.asarray(size[:, G] * -(-across // cols) * cols * along, np.int64)

    def psum_places(self, size: Int64) -> Int64:
        """Return where elements n, g, k, p, q stand: by group, block of columns, and what runs along it (pixels, or filters)."""
        cols = self.arch.cols
        n, g, k, p, q = np.indices([size[d] for d in (N, G, K, P, Q)]).reshape(5, -1)
        pixel, pixels = (n * size[P] + p) * size[Q] + q, size[N] * size[P] * size[Q]
        across, along, extents = (
            (pixel, k, (pixels, size[K])) if self.arch.dataflow == "is" else (k, pixel, (size[K], pixels))
        )
        word = (g * -(-extents[0] // cols) + across // cols) * extents[1] + along
        return np.asarray(word * cols + across % cols, np.int64)

    def pack_weights(self, weight: Array, lo: Int64, hi: Int64) -> Bits:
        """Return the stored bits of one weight tile, in the order in which the array takes it (see the module)."""
        bits = super().pack_weights(weight, lo, hi).reshape(-1, self.workload.fmt.w_bits)
        return bits[self._order_weights(lo, hi)].ravel()

    def unpack_weights(self, bits: Bits, lo: Int64, hi: Int64, signed: bool) -> Int64:
        """Return the integers that the engine multiplies by, from the bits of one weight tile: int64 ``[g, k, c, R, S]``."""
        stored = bits.reshape(-1, self.workload.fmt.w_bits)
        ordered = np.empty_like(stored)
        ordered[self._order_weights(lo, hi)] = stored
        return super().unpack_weights(ordered.ravel(), lo, hi, signed)

    def _order_weights(self, lo: Int64, hi: Int64) -> Int64:
        size = hi - lo
        return list_weight_order(self.arch, int(size[G]), int(size[K]), int(size[C]) * self.window)

    def sum_tiles(self, tiles: Int64) -> Totals:
        """Return sums over all tiles, tile by tile size: full and ragged along each dimension."""
        lay, counts = self.layer, count_tiles(self.layer, tiles)
        rows, cols, flow = self.arch.rows, self.arch.cols, self.arch.dataflow
        steps = [counts[:, d] for d in range(6)]
        groups = np.int64(lay.G)
        pixels = lay.N * lay.P * lay.Q

        def fold_pixels(unit: int) -> Int64:
            """Sum of ceil(n*p*q / unit) over the pixel tiles."""
            return sum_over_tiles(lay.N, tiles[:, N], lambda n: sum_over_tiles(lay.P, tiles[:, P], lambda p: sum_over_tiles(
                lay.Q, tiles[:, Q], lambda q: -(-(n * p * q) // unit))))  # fmt: skip

        def fold_filters(unit: int) -> Int64:
            return sum_over_tiles(lay.K, tiles[:, K], lambda k: -(-k // unit))

        def fold_depth(unit: int) -> Int64:
            return sum_over_tiles(lay.C, tiles[:, C], lambda c: -(-(c * self.window) // unit))

        depth = lay.C * self.window
        m_tiles = steps[N] * steps[P] * steps[Q]
        if flow == "os":
            outer, inner, length = fold_pixels(rows) * fold_filters(cols), steps[C], depth
            i_words, w_words = pixels * depth * fold_filters(cols), lay.K * depth * fold_pixels(rows)
            writes = pixels * lay.K * steps[C]
        elif flow == "ws":
            outer, inner, length = fold_depth(rows) * fold_filters(cols), m_tiles, pixels
            i_words, w_words = pixels * depth * fold_filters(cols), lay.K * depth * m_tiles
            writes = pixels * lay.K * fold_depth(rows)
        else:
            outer, inner, length = fold_depth(rows) * fold_pixels(cols), steps[K], lay.K
            i_words, w_words = pixels * depth * steps[K], lay.K * depth * fold_pixels(cols)
            writes = pixels * lay.K * fold_depth(rows)
        if self.arch.fold_overlap == "none":
            busy = groups * outer * (length + inner * self._fold_skew())
        else:
            count, streams = m_tiles * steps[K] * steps[C] * steps[G], self._sum_streams(tiles)
            last = count // inner * (length - streams)  # a tile's last fold takes T, not max(T, R_a)
            busy = groups * outer * streams + last + count * self._fold_skew()
        fmt = self.workload.fmt
        ones = np.ones(len(tiles), np.int64)
        return Totals(
            np.asarray(busy * ones, np.int64),
            np.asarray(groups * w_words * fmt.w_bits * ones, np.int64),
            np.asarray(groups * i_words * fmt.a_bits * ones, np.int64),
            np.asarray(groups * (2 * writes - pixels * lay.K) * self.arch.shell.psum_bits * ones, np.int64),
        )

    def _sum_streams(self, tiles: Int64) -> Int64:
        """Sum over the tiles of the streamed dimension of max(T, R_a)."""
        lay, rows = self.layer, self.arch.rows
        if self.arch.dataflow == "os":
            return sum_over_tiles(lay.C, tiles[:, C], lambda c: np.maximum(c * self.window, rows))
        if self.arch.dataflow == "is":
            return sum_over_tiles(lay.K, tiles[:, K], lambda k: np.maximum(k, rows))
        return sum_over_tiles(lay.N, tiles[:, N], lambda n: sum_over_tiles(lay.P, tiles[:, P], lambda p: sum_over_tiles(
            lay.Q, tiles[:, Q], lambda q: np.maximum(n * p * q, rows))))  # fmt: skip

    def count_actions(self, mapping: Mapping) -> tuple[Action, ...]:
        """Return multiply-accumulates, operand registers and buffer accesses."""
        fmt, psum = self.workload.fmt, self.arch.shell.psum_bits
        sums = self.sum_tiles(np.array([mapping.tile], np.int64))
        outputs = self.layer.out_elements * psum
        moved = int(sums.psum_bits[0])
        return (
            Action(component="mac", verb="mac", count=self.layer.macs, bits=(fmt.w_bits, fmt.a_bits, psum)),
            Action(component="array", verb="register", count=self.layer.macs, bits=(fmt.w_bits + fmt.a_bits,)),
            Action(component="wbuf", verb="read", count=int(sums.wbuf_read_bits[0])),
            Action(component="ibuf", verb="read", count=int(sums.ibuf_read_bits[0])),
            Action(component="obuf", verb="write", count=(moved + outputs) // 2),
            Action(component="obuf", verb="read", count=(moved - outputs) // 2),
        )

    def peak_macs_per_cycle(self) -> float:
        """Return the number of cells."""
        return float(self.arch.rows * self.arch.cols)
