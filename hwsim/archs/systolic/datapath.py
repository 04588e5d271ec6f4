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
from hwsim.core.datapath import Datapath, ExecTimes, Totals, Workload, list_buffer_accesses
from hwsim.core.mapping import Boxes, C, G, Int64, K, Mapping, N, P, Q
from hwsim.core.psums import count_word_slots, list_word_places
from hwsim.core.tile_sums import count_tiles, sum_over_sizes, sum_over_tiles

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
        return count_word_slots(size, self.arch.cols, of_pixels=self.arch.dataflow == "is")

    def psum_places(self, size: Int64) -> Int64:
        """Return where elements n, g, k, p, q stand: by group, block of columns, and what runs along it (pixels, or filters)."""
        return list_word_places(size, self.arch.cols, of_pixels=self.arch.dataflow == "is")

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
        lay, fmt, counts = self.layer, self.workload.fmt, count_tiles(self.layer, tiles)
        rows, cols = self.arch.rows, self.arch.cols
        pixels, depth = lay.N * lay.P * lay.Q, lay.C * self.window
        m_tiles = counts[:, N] * counts[:, P] * counts[:, Q]
        if self.arch.dataflow == "os":
            tall, wide = self._fold_pixels(tiles, rows), self._fold_filters(tiles, cols)
            inner, length = counts[:, C], depth
            i_words, w_words, writes = pixels * depth * wide, lay.K * depth * tall, pixels * lay.K * counts[:, C]
        elif self.arch.dataflow == "ws":
            tall, wide = self._fold_depth(tiles, rows), self._fold_filters(tiles, cols)
            inner, length = m_tiles, pixels
            i_words, w_words, writes = pixels * depth * wide, lay.K * depth * m_tiles, pixels * lay.K * tall
        else:
            tall, wide = self._fold_depth(tiles, rows), self._fold_pixels(tiles, cols)
            inner, length = counts[:, K], lay.K
            i_words, w_words, writes = pixels * depth * counts[:, K], lay.K * depth * wide, pixels * lay.K * tall
        if self.arch.fold_overlap == "none":
            busy = lay.G * tall * wide * (length + inner * self._fold_skew())
        else:
            count, streams = counts.prod(axis=1), self._sum_streams(tiles)
            last = count // inner * (length - streams)  # a tile's last fold takes T, not max(T, R_a)
            busy = lay.G * tall * wide * streams + last + count * self._fold_skew()
        psums = (2 * writes - pixels * lay.K) * self.arch.shell.psum_bits
        return Totals(busy, lay.G * w_words * fmt.w_bits, lay.G * i_words * fmt.a_bits, lay.G * psums)

    def _fold_pixels(self, tiles: Int64, unit: int) -> Int64:
        """Return the sum of ceil(n p q / unit) over the tiles of pixels."""
        return sum_over_sizes(self.layer, tiles, "NPQ", lambda n, p, q: -(-(n * p * q) // unit))

    def _fold_filters(self, tiles: Int64, unit: int) -> Int64:
        """Return the sum of ceil(k / unit) over the tiles along K."""
        return sum_over_tiles(self.layer.K, tiles[:, K], lambda k: -(-k // unit))

    def _fold_depth(self, tiles: Int64, unit: int) -> Int64:
        """Return the sum of ceil(c R S / unit) over the tiles along C."""
        return sum_over_tiles(self.layer.C, tiles[:, C], lambda c: -(-(c * self.window) // unit))

    def _sum_streams(self, tiles: Int64) -> Int64:
        """Return the sum over the tiles of the streamed dimension of max(T, R_a)."""
        lay, rows = self.layer, self.arch.rows
        if self.arch.dataflow == "os":
            return sum_over_tiles(lay.C, tiles[:, C], lambda c: np.maximum(c * self.window, rows))
        if self.arch.dataflow == "is":
            return sum_over_tiles(lay.K, tiles[:, K], lambda k: np.maximum(k, rows))
        return sum_over_sizes(lay, tiles, "NPQ", lambda n, p, q: np.maximum(n * p * q, rows))

    def count_actions(self, mapping: Mapping) -> tuple[Action, ...]:
        """Return multiply-accumulates, operand registers and buffer accesses."""
        fmt, psum = self.workload.fmt, self.arch.shell.psum_bits
        sums = self.sum_tiles(np.array([mapping.tile], np.int64))
        return (
            Action(component="mac", verb="mac", count=self.layer.macs, bits=(fmt.w_bits, fmt.a_bits, psum)),
            Action(component="array", verb="register", count=self.layer.macs, bits=(fmt.w_bits + fmt.a_bits,)),
            *list_buffer_accesses(sums, self.layer.out_elements, psum),
        )

    def peak_macs_per_cycle(self) -> float:
        """Return the number of cells."""
        return float(self.arch.rows * self.arch.cols)
