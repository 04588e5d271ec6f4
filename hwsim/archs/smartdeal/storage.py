"""Stored bits of a layer's weights, summed over tiles of filters and steps. The format stands in `hwsim.archs.smartdeal.pack`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hwsim.archs.smartdeal.pack import FLAG_BITS, count_header_bits
from hwsim.archs.smartdeal.rows import RowTable
from hwsim.core.layer import Layer
from hwsim.core.mapping import Boxes, C, G, Int64, K, list_boxes
from hwsim.quant.decompose import Decomposed
from hwsim.quant.decompose_plan import BASIS_BITS, BASIS_SIZE, COEFFICIENT_BITS, INDEX_BITS

if TYPE_CHECKING:
    from hwsim.archs.smartdeal.spec import SmartDeal


@dataclass(frozen=True, slots=True)
class Storage:
    """Cumulative bits of streams.

    Attributes
    ----------
    prefix : int64 [groups + 1, blocks + 1, slices, steps + 1]
        ``prefix[g, j, r, s]``: what filters ``r, r + slices .. r + (j - 1) slices`` of groups before g take in steps before s.
    layer : Layer
    step : int
        Channels of a step.
    beat_bits : int
        Streams and header are whole beats.
    spread : bool
        Whether groups stand for the filters of one group.
    row_bits : int64 [filters of all groups]
        Bits that the rows of a filter take in row stores.
    bits_of_a_row : int
        What a row takes there.
    """

    prefix: Int64
    layer: Layer
    step: int
    beat_bits: int
    spread: bool
    row_bits: Int64
    bits_of_a_row: int

    @property
    def slices(self) -> int:
        """Streams of a tile."""
        return int(self.prefix.shape[2])

    @property
    def header_bits(self) -> int:
        """Bits of a tile's header."""
        return count_header_bits(self.slices, self.beat_bits)

    @property
    def total_bits(self) -> int:
        """Bits of all weights, headers and the filling of beats left out."""
        return int(self.prefix[-1, -1, :, -1].sum())

    def bound_memory(self, align: int) -> int:
        """Return what all tiles take at most: a tile, with its header and a stream, for each step of each filter.

        A tile that ends inside a step holds it whole; a unit for each channel is there for what is then stored twice.
        """
        layer = self.layer
        filters, steps = layer.G * layer.K, -(-layer.C // self.step)
        each = steps * (self.header_bits + self.beat_bits + align) + layer.C * align
        return self.total_bits + filters * each

    def list_streams(self, boxes: Boxes) -> Int64:
        """Return the bits of the streams of each box, whole beats, int64 [boxes, slices] in the order of ``k % slices``."""
        g, k = (K, G) if self.spread else (G, K)
        g0, g1, k0, k1 = boxes.lo[:, g], boxes.hi[:, g], boxes.lo[:, k], boxes.hi[:, k]
        s0, s1 = boxes.lo[:, C] // self.step, -(-boxes.hi[:, C] // self.step)
        residue = np.arange(self.slices)
        j0, j1 = (-(-(k[:, None] - residue) // self.slices) for k in (k0, k1))
        bits = np.zeros((len(boxes), self.slices), np.int64)
        _, blocks, slices, steps = self.prefix.shape
        flat = self.prefix.ravel()
        for group, up in ((g1, 1), (g0, -1)):
            for block, left in ((j1, 1), (j0, -1)):
                at = ((group[:, None] * blocks + block) * slices + residue) * steps
                bits += up * left * (flat[at + s1[:, None]] - flat[at + s0[:, None]])
        return -(-bits // self.beat_bits) * self.beat_bits

    def measure_tiles(self, tiles: Int64, align: int) -> tuple[Int64, Int64, Int64]:
        """Return the demand of the largest tile, the aligned sum of all and the aligned first, for each candidate.

        The demand is the header and, for every slice, the tile's longest stream: all memories of a bank are of one size.
        """
        cuts, where = np.unique(tiles[:, [G, K, C]], axis=0, return_inverse=True)
        found = np.array([self._measure_cut(cut, align) for cut in cuts.tolist()], np.int64)
        largest, total, first = found[where.ravel()].T
        return np.ascontiguousarray(largest), np.ascontiguousarray(total), np.ascontiguousarray(first)

    def _measure_cut(self, cut: list[int], align: int) -> tuple[int, int, int]:
        layer = self.layer
        boxes = list_boxes(layer, (layer.N, cut[0], cut[1], cut[2], layer.P, layer.Q))
        streams = self.list_streams(boxes)
        moved = -(-(streams.sum(axis=1) + self.header_bits) // align) * align
        longest = int(streams.max()) * self.slices + self.header_bits
        return longest, int(moved.sum()), int(moved[0])


def measure_storage(layer: Layer, codec: Decomposed | None, rows: RowTable, arch: SmartDeal) -> Storage:
    """Return the stored bits of a layer's weights by filter and step.

    A step takes its flag; one with coefficients its basis, an index bit a row and 12 bits a stored row. Dense rows take 8 bits a
    weight, the padding of a filter's last row included.
    """
    filters, step = layer.G * layer.K, rows.pass_channels
    steps = -(-layer.C // step)
    if codec is None or codec.plan.is_dense:
        ends = np.append(np.flatnonzero(rows.starts_step), len(rows.starts_step))
        count = np.diff(rows.pass_start[ends])
        bits_of_a_row = rows.width_elements * BASIS_BITS
        kept = np.broadcast_to(count, (filters, steps))
        bits = kept * bits_of_a_row
    else:
        kept = codec.row_mask.sum(axis=2, dtype=np.int64)[:, :steps]
        slots = np.array([codec.plan.count_rows(s) for s in range(steps)], np.int64)
        bits_of_a_row = BASIS_SIZE * COEFFICIENT_BITS
        stored = BASIS_SIZE**2 * BASIS_BITS + slots * INDEX_BITS + kept * bits_of_a_row
        bits = FLAG_BITS + (kept > 0) * stored
    spread = arch.spreads(layer)
    groups = 1 if spread else layer.G
    blocks = -(-(filters // groups) // arch.slices)
    padded = np.zeros((groups, blocks * arch.slices, steps), np.int64)
    padded[:, : filters // groups] = bits.reshape(groups, -1, steps)
    prefix = np.zeros((groups + 1, blocks + 1, arch.slices, steps + 1), np.int64)
    cells = padded.reshape(groups, blocks, arch.slices, steps)
    prefix[1:, 1:, :, 1:] = cells.cumsum(axis=0).cumsum(axis=1).cumsum(axis=3)
    return Storage(
        prefix, layer, step, arch.memory.bits_per_cycle, spread, kept.sum(axis=1) * bits_of_a_row, bits_of_a_row
    )
