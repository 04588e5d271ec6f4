"""Times and buffer accesses of a layer on the BitFusion array, in closed form.

Source: Sharma et al., Bit Fusion (ISCA 2018); equations of the released simulator: `hwsim.published.bitfusion`. A fusion unit
makes ``(8 / w) (8 / a)`` products a cycle at widths w, a of 2, 4 or 8 bits, each of its own reduction element; 16-bit operands
go through in halves, two or four cycles a product. Activations run along the rows and are shared by the columns; the sums of a
column run down and are added up over the steps of an output pixel. ``L = rows * products`` elements make a step:

===========  ===========================  =================================================================
arrangement  steps of a pixel             where
===========  ===========================  =================================================================
channels     R S ceil(C / L)              layers with at least ``rows`` channels: a step holds channels of one place of the window
im2col       ceil(R S C / L)              fewer channels (the first layer; depthwise): a step holds neighbours of the window
===========  ===========================  =================================================================

C is the tile's. Loops of a tile: groups, blocks of ``cols`` filters, pixels, steps. Steps follow one another without a gap, over
tiles too: the skew of rows and columns is latency, part of the ``tail``. With one filter a group (depthwise) one column works.

Buffers are split (`BitFusion.buffer_macros`): each unit has its own part of ``wbuf``, each row of ``ibuf``, each column of
``obuf``, and is priced so. The port of a part is 32 bits: sixteen 2-bit weights of a unit, sixteen 2-bit activations of a row, the
sum of a column; a word of wider operands lasts several cycles. Weights are read for every product, activations once for all
columns; a pixel's sum is written to ``obuf`` once for each tile along C and read for each but the first.

A tile is held to the capacity of all parts together (unverified): that the parts of idle units (few channels or filters) hold
data of others, and that rows reach neighbours of the window under ``im2col``, takes wires that are in no price.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hwsim.archs.bitfusion.spec import BRICK_BITS, UNIT_BITS, choose_width
from hwsim.core.actions import Action
from hwsim.core.datapath import Datapath, ExecTimes, Totals, Workload, list_buffer_accesses
from hwsim.core.mapping import Boxes, C, G, Int64, K, Mapping, N, P, Q
from hwsim.core.psums import count_word_slots, list_word_places
from hwsim.core.tile_sums import count_tiles, sum_over_tiles

if TYPE_CHECKING:
    from hwsim.archs.bitfusion.spec import BitFusion

PIPELINE_CYCLES = 9
"""Registers from ``ibuf`` to ``obuf`` besides the skew: taken over from `systolic`, no RTL yet (unverified)."""


class BitFusionDatapath(Datapath):
    """One layer on BitFusion."""

    def __init__(self, workload: Workload, arch: BitFusion) -> None:
        super().__init__(workload)
        self.arch = arch
        fmt = workload.fmt
        w_bits, a_bits = choose_width(fmt.w_bits), choose_width(fmt.a_bits)
        self.window = self.layer.R * self.layer.S
        self.products = (UNIT_BITS // min(w_bits, UNIT_BITS)) * (UNIT_BITS // min(a_bits, UNIT_BITS))
        self.passes = -(-w_bits // UNIT_BITS) * -(-a_bits // UNIT_BITS)
        self.lanes = arch.rows * self.products
        self.im2col = arch.rows > self.layer.C

    def quantum(self) -> tuple[int, int, int, int, int, int]:
        """Return the array's own sizes: filters by columns, channels by lanes."""
        return (1, 1, self.arch.cols, 1 if self.im2col else min(self.lanes, self.layer.C), 1, 1)

    def finest_quantum(self) -> tuple[int, int, int, int, int, int]:
        """Return single filters and channels."""
        return (1, 1, 1, 1, 1, 1)

    def count_steps(self, channels: Int64) -> Int64:
        """Return the cycles of one output pixel with so many channels in its tile."""
        if self.im2col:
            return np.asarray(-(-channels * self.window // self.lanes) * self.passes)
        return np.asarray(self.window * -(-channels // self.lanes) * self.passes)

    def exec_times(self, boxes: Boxes) -> ExecTimes:
        """Return the times of tiles."""
        size = boxes.size
        pixels = size[:, N] * size[:, P] * size[:, Q]
        busy = size[:, G] * -(-size[:, K] // self.arch.cols) * pixels * self.count_steps(size[:, C])
        tail = np.full(len(boxes), self.arch.rows + self.arch.cols - 2 + PIPELINE_CYCLES, np.int64)
        return ExecTimes(busy, np.zeros(len(boxes), np.int64), tail)

    def psum_slots(self, size: Int64) -> Int64:
        """Return the accumulators of whole words of all columns: a column of ``obuf`` holds the sums of a filter."""
        return count_word_slots(size, self.arch.cols)

    def psum_places(self, size: Int64) -> Int64:
        """Return where elements n, g, k, p, q stand: by group, block of filters, pixel."""
        return list_word_places(size, self.arch.cols)

    def sum_tiles(self, tiles: Int64) -> Totals:
        """Return sums over all tiles."""
        lay, fmt = self.layer, self.workload.fmt
        folds = sum_over_tiles(lay.K, tiles[:, K], lambda k: -(-k // self.arch.cols))
        steps = sum_over_tiles(lay.C, tiles[:, C], self.count_steps)
        pixels, ones = lay.N * lay.P * lay.Q, np.ones(len(tiles), np.int64)
        reduction = pixels * lay.C * self.window
        writes = pixels * lay.K * count_tiles(lay, tiles)[:, C]
        return Totals(
            np.asarray(lay.G * folds * pixels * steps * ones, np.int64),
            np.asarray(lay.macs * fmt.w_bits * ones, np.int64),
            np.asarray(lay.G * reduction * folds * fmt.a_bits * ones, np.int64),
            np.asarray(lay.G * (2 * writes - pixels * lay.K) * self.arch.shell.psum_bits * ones, np.int64),
        )

    def count_actions(self, mapping: Mapping) -> tuple[Action, ...]:
        """Return cycles of units at work (the price of one holds its share of the sums down the columns), buffer accesses."""
        lay, psum = self.layer, self.arch.shell.psum_bits
        sums = self.sum_tiles(np.array([mapping.tile], np.int64))
        # a unit that has any product of a step works for the whole of it
        units = lay.G * lay.N * lay.P * lay.Q * lay.K * self._count_unit_cycles(mapping.tile[C])
        return (
            Action(component="mac", verb="fusion_unit", count=units, bits=(UNIT_BITS, BRICK_BITS)),
            *list_buffer_accesses(sums, lay.out_elements, psum),
        )

    def _count_unit_cycles(self, tile_channels: int) -> int:
        """Return the cycles that the units of one column are at work for one output pixel and all channels."""
        total = 0
        for first in range(0, self.layer.C, tile_channels):
            channels = min(tile_channels, self.layer.C - first)
            if self.im2col:
                total += -(-channels * self.window // self.products)
            else:
                full, rest = divmod(channels, self.lanes)
                total += self.window * (full * self.arch.rows + -(-rest // self.products))
        return total * self.passes

    def peak_macs_per_cycle(self) -> float:
        """Return the products a cycle of all units at these formats."""
        return self.lanes * self.arch.cols / self.passes
