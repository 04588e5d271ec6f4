"""Times and accesses of a layer on the mixed-precision core, instruction by instruction.

Sources: Ottavi et al., arXiv 2010.04073 (MPIC: a RI5CY core whose dot product takes the widths of both operands from a status
register); pulp-platform/pulp-nn-mixed (the matrix kernel of 4 filters x 2 pixels). Every instruction takes a cycle: loads are
placed a step ahead of their use, loops are hardware loops.

A gatherer writes the columns (windows of ``pixels`` output pixels, one channel's row of a window a cycle, more where it is longer
than a word of ``ibuf``) into one half of the column memory while the core works on the other. Filters are taken by width, the
widest first as they are stored; a block is up to ``filters`` filters of one width and one group. The program of a tile::

    enter: read the tile's descriptor                                                              TILE_CYCLES
    for each slice of channels whose columns fit
        for each group, for each ``pixels`` output pixels (the last may be fewer)
            wait for the columns; advance the pointer of outputs; branch                           PAIR_CYCLES
            for each width that has filters in the tile
                write the status register                                                          1
                for each block of f filters, x pixels
                    set up the loop; f + x pointers                                                1 + f + x
                    f x times: load a sum from obuf, or clear it                                   f x
                    loop: load weights as a register of them is used up                            f ceil(L w / 32)
                          load columns as a register of them is used up                            x ceil(L a / 32)
                          dot products at the wider of both widths                                 f x ceil(L max(w, a) / 32)
                    f x times: store a sum to obuf                                                 f x
    for each pruned filter (0 bits), in the first tile of channels: store a sum of zero            pixels

L = C R S of the slice; behind its end the columns hold zeros, so that what a register of weights holds beyond does not count.
Weights are stored without padding: a load takes its 32 bits at any bit of a filter's stream, with what the last one left.
Products are of stored activations: a zero point goes into the bias, and stands for padding in the columns. The core waits
where gathering takes longer than its own work (depthwise, few filters); this and the first columns are ``fill``. Behind the
last columns of a slice the gatherer runs once more, in vain.

Requantization is the store unit's, so is the constant that a pruned filter becomes: the requantized bias. A pruned filter has
no weights, no products and no traffic of weights; its output is stored and read like any other.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hwsim.archs.mpic.spec import PRUNED, REGISTER_BITS
from hwsim.core import storage
from hwsim.core.actions import Action
from hwsim.core.datapath import Datapath, ExecTimes, Totals, Workload, list_buffer_accesses
from hwsim.core.mapping import Boxes, C, G, Int64, K, Mapping, N, P, Q
from hwsim.core.tile_sums import count_tiles, list_tile_sizes

if TYPE_CHECKING:
    from hwsim.archs.mpic.spec import Mpic

TILE_CYCLES = 16
"""Instructions that read a tile's descriptor (512 bits) into registers: no program yet (unverified)."""
PAIR_CYCLES = 3
"""Instructions of a set of pixels: see the program above."""
PIPELINE_CYCLES = 3
"""Stages of RI5CY behind the issue of a store: execute, write-back, ``obuf`` (unverified)."""


class Cost(NamedTuple):
    """Cycles of the core for a set of pixels, with waiting for columns and without, and blocks: int64 sums over groups."""

    waited: Any
    worked: Any
    blocks: Any


class MpicDatapath(Datapath):
    """One layer on the mixed-precision core."""

    def __init__(self, workload: Workload, arch: Mpic) -> None:
        super().__init__(workload)
        self.arch = arch
        layer, fmt = self.layer, workload.fmt
        self.window = layer.R * layer.S
        bits = storage.list_filter_bits(layer, fmt)
        self.widths = sorted({int(width) for width in np.unique(bits)}, reverse=True)
        before = np.zeros((len(self.widths), layer.G, layer.K + 1), np.int64)
        before[:, :, 1:] = (bits[None] == np.array(self.widths)[:, None, None]).cumsum(axis=2)
        self.before = before  # filters of each width before k, in each group
        span = (layer.S - 1) * layer.dilation[1] + 1
        self.gathers = layer.R * -(-span * fmt.a_bits // arch.shell.ibuf_port_bits)  # cycles a channel and pixel
        fits = arch.column_bits // (2 * arch.pixels) // (self.window * fmt.a_bits)
        self.slice_channels = 1 << (
            fits.bit_length() - 1
        )  # a power of two: longer slices are whole numbers of shorter ones
        self._costs: dict[tuple[int, int, int, int], Cost] = {}

    def quantum(self) -> tuple[int, int, int, int, int, int]:
        """Return whole blocks of filters, whole slices of channels."""
        return (1, 1, min(self.arch.filters, self.layer.K), min(self.slice_channels, self.layer.C), 1, 1)

    # one group's work

    def _count_words(self, channels: int, width: int) -> int:
        """Return the registers of a column or a filter at ``width`` bits."""
        return -(-channels * self.window * width // REGISTER_BITS)

    def _count_block(self, channels: int, width: int, filters: Any, pixels: int) -> Int64:
        """Return the instructions of blocks of ``filters`` filters; 0 where there is none."""
        a_bits = self.workload.fmt.a_bits
        setup = 1 + filters + pixels + 2 * filters * pixels
        loads = filters * self._count_words(channels, width) + pixels * self._count_words(channels, a_bits)
        dots = filters * pixels * self._count_words(channels, max(width, a_bits))
        return np.asarray(np.where(filters > 0, setup + loads + dots, 0))

    def _cost_groups(self, k0: int, k1: int, channels: int, pixels: int) -> Cost:
        """Return the cost of a slice for every group, int64 [G + 1] each, summed over the groups before."""
        key = (k0, k1, channels, pixels)
        if key in self._costs:
            return self._costs[key]
        worked = np.full(self.layer.G, PAIR_CYCLES, np.int64)
        blocks = np.zeros(self.layer.G, np.int64)
        for width, before in zip(self.widths, self.before, strict=True):
            if width == PRUNED:
                continue
            count = before[:, k1] - before[:, k0]
            full, rest = count // self.arch.filters, count % self.arch.filters
            whole = self._count_block(channels, width, self.arch.filters, pixels)
            worked += (count > 0) + full * whole + self._count_block(channels, width, rest, pixels)
            blocks += full + (rest > 0)
        waited = np.maximum(worked, self._count_gather(channels))
        found = Cost(*(np.append(0, part.cumsum()) for part in (waited, worked, blocks)))
        self._costs[key] = found
        return found

    def _count_gather(self, channels: int) -> int:
        """Return the cycles in which the columns of ``pixels`` pixels are gathered; fewer pixels take as long."""
        return self.arch.pixels * channels * self.gathers

    def _list_slices(self, channels: int) -> tuple[tuple[int, int], ...]:
        """Return (channels, how many) of the slices of a tile."""
        full, rest = divmod(channels, self.slice_channels)
        return tuple((size, count) for size, count in ((self.slice_channels, full), (rest, 1)) if size and count)

    # tiles

    def exec_times(self, boxes: Boxes) -> ExecTimes:
        """Return the times of tiles."""
        lo, hi, size = boxes.lo, boxes.hi, boxes.size
        pixels = size[:, N] * size[:, P] * size[:, Q]
        full, rest = pixels // self.arch.pixels, pixels % self.arch.pixels
        busy = np.full(len(boxes), TILE_CYCLES, np.int64) + pixels * self._count_pruned(boxes) * (lo[:, C] == 0)
        worked = busy.copy()
        keys = np.stack([lo[:, K], hi[:, K], size[:, C], rest], axis=1)
        distinct, back = np.unique(keys, axis=0, return_inverse=True)
        for index, (k0, k1, channels, left) in enumerate(distinct.tolist()):
            rows = np.flatnonzero(back.ravel() == index)
            first, last = lo[rows, G], hi[rows, G]
            for part, count in self._list_slices(channels):
                busy[rows] += count * self._count_gather(part)
                for many, x in ((full[rows], self.arch.pixels), (np.int64(1), left)):
                    if x:
                        cost = self._cost_groups(k0, k1, part, x)
                        busy[rows] += count * many * (cost.waited[last] - cost.waited[first])
                        worked[rows] += count * many * (cost.worked[last] - cost.worked[first])
        return ExecTimes(busy, busy - worked, np.full(len(boxes), PIPELINE_CYCLES, np.int64))

    def _count_pruned(self, boxes: Boxes) -> Int64:
        """Return the pruned filters of each tile."""
        if PRUNED not in self.widths:
            return np.zeros(len(boxes), np.int64)
        total = np.zeros((self.layer.G + 1, self.layer.K + 1), np.int64)
        total[1:] = self.before[self.widths.index(PRUNED)].cumsum(axis=0)
        (g0, k0), (g1, k1) = boxes.lo[:, [G, K]].T, boxes.hi[:, [G, K]].T
        return np.asarray(total[g1, k1] - total[g0, k1] - total[g1, k0] + total[g0, k0])

    def _sum_pixels(self, tiles: Int64) -> tuple[Int64, Int64, Int64]:
        """Return, over the tiles of N, P and Q of each candidate: how many; whole sets of pixels; int64 [pixels, candidates] tiles
        with so many pixels left."""
        sizes, unit = list_tile_sizes(self.layer, tiles, "NPQ"), self.arch.pixels
        pixels = sizes.size.prod(axis=1)
        left = np.zeros((unit, len(tiles)), np.int64)
        np.add.at(left, (pixels % unit, sizes.owner), sizes.count)
        return sizes.add_up(np.ones_like(pixels)), sizes.add_up(pixels // unit), left

    def _sum_blocks(self, tile: int, channels: int, pixels: int) -> Cost:
        """Return the cost of a slice over all groups and all tiles of K, for sets of ``pixels`` pixels."""
        edges = [*range(0, self.layer.K, tile), self.layer.K]
        parts = [self._cost_groups(k0, k1, channels, pixels) for k0, k1 in pairwise(edges)]
        return Cost(*(sum(int(part[field][-1]) for part in parts) for field in range(3)))

    def _sum_slices(self, tile: int) -> dict[int, int]:
        """Return how many slices of each size all tiles of C have."""
        found: dict[int, int] = {}
        full, rest = divmod(self.layer.C, tile)
        for channels, times in ((tile, full), (rest, 1)):
            for part, count in self._list_slices(channels):
                found[part] = found.get(part, 0) + times * count
        return found

    def _sum_work(self, tiles: Int64) -> tuple[Int64, Int64, Int64]:
        """Return of each candidate: cycles; instructions; bits that the core reads from the columns."""
        layer, unit, a_bits = self.layer, self.arch.pixels, self.workload.fmt.a_bits
        counts = count_tiles(layer, tiles)
        number, whole, left = self._sum_pixels(tiles)
        pruned = layer.N * layer.P * layer.Q * int(self.before[self.widths.index(PRUNED), :, -1].sum()) if (
            PRUNED in self.widths) else 0  # fmt: skip
        worked = counts.prod(axis=1) * TILE_CYCLES + pruned
        busy, columns = worked.copy(), np.zeros(len(tiles), np.int64)
        distinct, back = np.unique(tiles[:, [K, C]], axis=0, return_inverse=True)
        for index, (k_tile, c_tile) in enumerate(distinct.tolist()):
            rows = np.flatnonzero(back.ravel() == index)
            for channels, count in self._sum_slices(min(c_tile, layer.C)).items():
                starts = counts[rows, G] * counts[rows, K] * number[rows]
                busy[rows] += count * starts * self._count_gather(channels)
                words = REGISTER_BITS * self._count_words(channels, a_bits)
                for x, many in ((unit, whole[rows]), *((x, left[x, rows]) for x in range(1, unit))):
                    if many.any():
                        cost = self._sum_blocks(k_tile, channels, x)
                        busy[rows] += count * many * cost.waited
                        worked[rows] += count * many * cost.worked
                        columns[rows] += count * many * x * cost.blocks * words
        return busy, worked, columns

    def sum_tiles(self, tiles: Int64) -> Totals:
        """Return sums over all tiles."""
        layer, fmt, arch = self.layer, self.workload.fmt, self.arch
        busy, _, _ = self._sum_work(tiles)
        _, whole, left = self._sum_pixels(tiles)
        sets = whole + left[1:].sum(axis=0)
        reads, writes = np.zeros(len(tiles), np.int64), np.zeros(len(tiles), np.int64)
        pixels = layer.N * layer.P * layer.Q
        filters = {width: int(before[:, -1].sum()) for width, before in zip(self.widths, self.before, strict=True)}
        for c_tile in np.unique(tiles[:, C]).tolist():
            rows = np.flatnonzero(tiles[:, C] == c_tile)
            slices = self._sum_slices(min(c_tile, layer.C))
            for width, number in filters.items():
                words = sum(count * self._count_words(channels, width) for channels, count in slices.items())
                reads[rows] += sets[rows] * number * words * REGISTER_BITS
                writes[rows] += pixels * number * (sum(slices.values()) if width != PRUNED else 1)
        inputs = pixels * layer.G * layer.C * self.window * fmt.a_bits * count_tiles(layer, tiles)[:, K]
        return Totals(busy, reads, inputs, (2 * writes - layer.out_elements) * arch.shell.psum_bits)

    def count_actions(self, mapping: Mapping) -> tuple[Action, ...]:
        """Return products by width, instructions and their registers, accesses of columns and buffers."""
        layer, fmt, psum = self.layer, self.workload.fmt, self.arch.shell.psum_bits
        tiles = np.array([mapping.tile], np.int64)
        _, worked, columns = self._sum_work(tiles)
        sums, instructions = self.sum_tiles(tiles), int(worked[0])
        each = layer.N * layer.P * layer.Q * layer.C * self.window
        gathered = int(sums.ibuf_read_bits[0])
        products = tuple(
            Action(component="mac", verb="mac", count=each * int(before[:, -1].sum()), bits=(width, fmt.a_bits, psum))
            for width, before in zip(self.widths, self.before, strict=True)
            if width != PRUNED
        )
        return (
            *products,
            Action(component="registers", verb="rf", count=3 * instructions, bits=(REGISTER_BITS,)),
            Action(component="program", verb="read", count=instructions * REGISTER_BITS),
            Action(component="columns", verb="write", count=gathered),
            Action(component="columns", verb="read", count=int(columns[0])),
            *list_buffer_accesses(sums, layer.out_elements, psum),
        )

    def peak_macs_per_cycle(self) -> float:
        """Return the layer's products over the cycles of its dot products alone; those of pruned filters take none."""
        filters = {width: int(before[:, -1].sum()) for width, before in zip(self.widths, self.before, strict=True)}
        wide = sum(count * max(width, self.workload.fmt.a_bits) for width, count in filters.items() if width != PRUNED)
        return self.layer.G * self.layer.K * REGISTER_BITS / wide

    def notes(self) -> tuple[str, ...]:
        """Return what a reader of this layer's figures should know."""
        if PRUNED not in self.widths:
            return ()
        return ("pruned filters take no weights and no products; their outputs are the requantized bias",)
