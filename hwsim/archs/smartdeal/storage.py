"""Stored bits of a layer's weights, summed over tiles of filters and passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hwsim.archs.smartdeal.rows import RowTable
from hwsim.core.layer import Layer
from hwsim.core.mapping import Boxes, C, G, Int64, K
from hwsim.quant.decompose import Decomposed
from hwsim.quant.decompose_plan import BASIS_BITS, BASIS_SIZE, COEFFICIENT_BITS, INDEX_BITS

if TYPE_CHECKING:
    from hwsim.archs.smartdeal.datapath import SmartDealDatapath


@dataclass(frozen=True, slots=True)
class Storage:
    """Cumulative bits: ``prefix[f, s]`` is what filters before f take in the steps of channels before s.

    Attributes
    ----------
    prefix : int64 [filters of all groups + 1, steps + 1]
    filters : int
        Filters of a group.
    step : int
        Channels of a step.
    channels : int
        Channels of a group.
    """

    prefix: Int64
    filters: int
    step: int
    channels: int

    @property
    def total_bits(self) -> int:
        """Bits of all weights."""
        return int(self.prefix[-1, -1])

    def sum_boxes(self, boxes: Boxes, passes: Int64) -> Int64:
        """Return the bits of the weights of each box."""
        f0 = boxes.lo[:, G] * self.filters + boxes.lo[:, K]
        f1 = (boxes.hi[:, G] - 1) * self.filters + boxes.hi[:, K]
        s0, s1 = boxes.lo[:, C] // self.step, -(-boxes.hi[:, C] // self.step)
        return self.prefix[f1, s1] - self.prefix[f0, s1] - self.prefix[f1, s0] + self.prefix[f0, s0]

    def measure_tiles(self, datapath: SmartDealDatapath, tiles: Int64, align: int) -> tuple[Int64, Int64, Int64]:
        """Return the largest tile, the aligned sum of all tiles and the aligned first tile, for each candidate."""
        cuts, where = np.unique(tiles[:, [G, K, C]], axis=0, return_inverse=True)
        found = np.array([self._measure_cut(datapath.layer, cut, align) for cut in cuts], np.int64)
        largest, total, first = found[where.ravel()].T
        return np.ascontiguousarray(largest), np.ascontiguousarray(total), np.ascontiguousarray(first)

    def _measure_cut(self, layer: Layer, cut: Int64, align: int) -> tuple[int, int, int]:
        group, filters, channels = (int(x) for x in cut)
        if group > 1:
            ends = np.minimum(np.arange(0, layer.G + group, group), layer.G) * layer.K
        else:
            inside = np.minimum(np.arange(0, layer.K + filters, filters), layer.K)
            ends = np.concatenate([g * layer.K + inside[:-1] for g in range(layer.G)] + [np.array([layer.G * layer.K])])
        ends = np.unique(ends)
        steps = np.unique(-(-np.minimum(np.arange(0, layer.C + channels, channels), layer.C) // self.step))
        blocks = np.diff(np.diff(self.prefix[np.ix_(ends, steps)], axis=0), axis=1)
        moved = -(-blocks // align) * align
        return int(moved.max()), int(moved.sum()), int(moved[0, 0])


def measure_storage(layer: Layer, codec: Decomposed | None, rows: RowTable) -> Storage:
    """Return the stored bits of a layer's weights by filter and step of channels.

    A stored row takes 4 bits a coefficient, a slice with any of them its basis, every row an index bit; dense weights 8 bits each.
    """
    filters, step = layer.G * layer.K, rows.pass_channels
    steps = -(-layer.C // step)
    if codec is None or codec.plan.is_dense:
        channels = np.minimum(np.arange(1, steps + 1) * step, layer.C) - np.arange(steps) * step
        bits = np.tile(channels * layer.R * layer.S * BASIS_BITS, (filters, 1))
    else:
        kept = codec.row_mask.sum(axis=2, dtype=np.int64)
        slots = np.array([codec.plan.count_rows(s) for s in range(codec.plan.slices)], np.int64)
        bits = kept * BASIS_SIZE * COEFFICIENT_BITS + (kept > 0) * BASIS_SIZE**2 * BASIS_BITS + slots * INDEX_BITS
    prefix = np.zeros((filters + 1, steps + 1), np.int64)
    prefix[1:, 1:] = bits.reshape(filters, steps).cumsum(axis=0).cumsum(axis=1)
    return Storage(prefix, layer.K, step, layer.C)
