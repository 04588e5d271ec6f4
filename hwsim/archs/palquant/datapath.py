"""Times and accesses of a layer on the native low-bit array, in closed form.

Source: PalQuant (ECCV 2022): a low-bit accelerator runs a network of G groups at its native bits instead of one of more bits in
passes. Its accelerator is not published; this is a machine that runs both.

``rows`` lanes times ``cols`` columns of multipliers of n = ``native_bits``. A lane carries one element of the window to all columns
of its block; a column sums its lanes for one filter in an adder tree. An operand of b bits is ceil(b / n) digits, the top one
signed if the tensor is: a step takes ``passes`` = ceil(w / n) ceil(a / n) cycles, a pair of digits each, whose sum is shifted by n
times the two places and added to the column's accumulator. Elements of the window lie side by side on the lanes (im2col: every
lane has an address generator of its own); padding is the zero point's digits.

Groups side by side. A layer of several groups shares the array out: a column's lanes are cut into s = 1, 2, 4 ... segments, each
with the sum of a group of its own, and the columns into b = 1, 2, 4 ... blocks, each with activations of its own: s b groups
at once. s is at most ``taps`` = rows / segment_lanes: the tree is read out at a lower level, where each of ``taps`` sums has a
shifter and an accumulator; b is at most ``column_blocks``: lanes are broadcast within a block, and ``ibuf`` serves rows * b
elements in a cycle. That is all that is joined: there is no crossbar. A tile of g groups takes

    cycles = pixels * passes * min over s, b of  ceil(g / (s b)) * ceil(K / (cols / b)) * ceil(C R S / (rows / s))

with the least s b among the best. A tile of one group takes all lanes and columns: ceil(K / cols) ceil(C R S / rows) steps a pixel,
C and K the tile's. On an array whose lanes hold channels of one group (`bitfusion`), groups leave lanes idle instead.

Order of loops: set of groups, block of filters, pixel, step, digit of the weights, digit of the activations. The engine never
waits: steps follow one another without a gap, over tiles too. A step reads each element of its lanes once (all digits, held in the
lane) and each digit of its weights once, held in its cell while the activation's digits pass: at most n bits a cell and cycle
from ``wbuf``, which serves the cells by lines. Results leave their accumulators with the last pass of a pixel, in one cycle.
``obuf`` has a memory for each tap of each column: segment j writes pixel x to tap (x mod taps / s) s + j, so that a word holds
taps / s pixels. Over the tiles along C a result is read, added to and written: a read and a write of a memory a cycle at most.

The weights of a tile are stored line by line, a line being what a pass of a step reads: by set, block of filters, step, digit,
lowest first; within it by group, lane, filter. Nothing is padded: a top digit has the bits that are left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hwsim.core.actions import Action
from hwsim.core.bits import Bits
from hwsim.core.datapath import Datapath, ExecTimes, Totals, Workload, list_buffer_accesses
from hwsim.core.mapping import Boxes, C, G, Int64, K, Mapping, N, P, Q
from hwsim.core.psums import list_outputs
from hwsim.core.tile_sums import count_tiles, sum_over_sizes

if TYPE_CHECKING:
    from collections.abc import Callable

    from hwsim.archs.palquant.spec import PalQuant
    from hwsim.core.tensors import Array

PIPELINE_CYCLES = 9
"""Registers from a lane's counter to ``obuf`` besides the tree's (a register a level): counter, address, compared with what is
stored, ``ibuf`` and ``wbuf`` read, element picked, digits at the cell, product; shift, accumulator with ``obuf`` read beside it.
Chosen here, no RTL yet (unverified)."""


class PalQuantDatapath(Datapath):
    """One layer on the native low-bit array."""

    def __init__(self, workload: Workload, arch: PalQuant) -> None:
        super().__init__(workload)
        self.arch = arch
        self.window = self.layer.R * self.layer.S
        self.w_digits = arch.count_digits(workload.fmt.w_bits)
        self.passes = self.w_digits * arch.count_digits(workload.fmt.a_bits)

    def quantum(self) -> tuple[int, int, int, int, int, int]:
        """Return the array's own sizes: filters by columns, channels by lanes."""
        channels = self.arch.rows // int(np.gcd(self.arch.rows, self.window))
        return (1, 1, self.arch.cols, min(channels, self.layer.C), 1, 1)

    def _count_steps(
        self, g: Int64, k: Int64 | int, c: Int64 | int, segments: Int64 | int, blocks: Int64 | int
    ) -> Int64:
        """Return the steps of a pixel of tiles of g groups, k filters and c channels under a sharing."""
        sets, columns = -(-g // (segments * blocks)), -(-k // (self.arch.cols // blocks))
        return np.asarray(sets * columns * -(-c * self.window // (self.arch.rows // segments)))

    def share_out(self, groups: Int64) -> tuple[Int64, Int64]:
        """Return segments and blocks of tiles of so many groups, int64 [tiles] each: of the fewest steps, the fewest."""
        layer, arch = self.layer, self.arch
        segments, blocks = np.ones_like(groups), np.ones_like(groups)
        least = self._count_steps(groups, layer.K, layer.C, 1, 1)
        choices = [
            (1 << s, 1 << b) for s in range(arch.taps.bit_length()) for b in range(arch.column_blocks.bit_length())
        ]
        for s, b in sorted(choices, key=lambda choice: (choice[0] * choice[1], choice)):
            steps = self._count_steps(groups, layer.K, layer.C, s, b)
            better = steps < least
            segments, blocks, least = (
                np.where(better, s, segments),
                np.where(better, b, blocks),
                np.minimum(steps, least),
            )
        return segments, blocks

    def count_steps(self, g: Int64, k: Int64, c: Int64) -> Int64:
        """Return the steps of a pixel of tiles of g groups, k filters and c channels of each, int64 [tiles]."""
        segments, blocks = self.share_out(g)
        return self._count_steps(g, k, c, segments, blocks)

    def exec_times(self, boxes: Boxes) -> ExecTimes:
        """Return the times of tiles."""
        size = boxes.size
        pixels = size[:, N] * size[:, P] * size[:, Q]
        busy = pixels * self.passes * self.count_steps(size[:, G], size[:, K], size[:, C])
        tail = np.full(len(boxes), PIPELINE_CYCLES + self.arch.tree_levels, np.int64)
        return ExecTimes(busy, np.zeros(len(boxes), np.int64), tail)

    def _sum_channels(self, tiles: Int64, value: Callable[[Int64, Int64, Int64], Int64]) -> Int64:
        """Return the sum of ``value(g, k, c)`` over all tiles along G, K, C."""
        return sum_over_sizes(self.layer, tiles, "GKC", value)

    def _count_reads(self, g: Int64, k: Int64, c: Int64) -> Int64:
        """Return the elements that a pixel of tiles takes from ``ibuf``: every one once for each block of filters."""
        _, blocks = self.share_out(g)
        return np.asarray(g * c * self.window * -(-k // (self.arch.cols // blocks)))

    def sum_tiles(self, tiles: Int64) -> Totals:
        """Return sums over all tiles."""
        lay, fmt = self.layer, self.workload.fmt
        pixels = lay.N * lay.P * lay.Q
        writes = lay.out_elements * count_tiles(lay, tiles)[:, C]
        return Totals(
            pixels * self.passes * self._sum_channels(tiles, self.count_steps),
            np.full(len(tiles), lay.macs * fmt.w_bits, np.int64),
            pixels * fmt.a_bits * self._sum_channels(tiles, self._count_reads),
            np.asarray((2 * writes - lay.out_elements) * self.arch.shell.psum_bits, np.int64),
        )

    def psum_slots(self, size: Int64) -> Int64:
        """Return the accumulators of whole words, one of all taps of all columns: by set, block of filters, pixels of a word."""
        arch, pixels = self.arch, size[:, N] * size[:, P] * size[:, Q]
        segments, blocks = self.share_out(size[:, G])
        across = -(-size[:, G] // (segments * blocks)) * -(-size[:, K] // (arch.cols // blocks))
        return np.asarray(across * -(-pixels // (arch.taps // segments)) * arch.taps * arch.cols, np.int64)

    def psum_places(self, size: Int64) -> Int64:
        """Return where elements n, g, k, p, q stand: word by set, block of filters, pixels; in it by tap, column."""
        arch = self.arch
        n, g, k, p, q = list_outputs(size)
        segments, blocks = (int(one[0]) for one in self.share_out(size[G : G + 1]))
        pixel, pixels = (n * size[P] + p) * size[Q] + q, size[N] * size[P] * size[Q]
        wide, shared, at_once = arch.cols // blocks, arch.taps // segments, segments * blocks
        word = g // at_once * -(-size[K] // wide) + k // wide
        word = word * -(-pixels // shared) + pixel // shared
        tap = pixel % shared * segments + g % segments
        column = g % at_once // segments * wide + k % wide
        return np.asarray((word * arch.taps + tap) * arch.cols + column, np.int64)

    def pack_weights(self, weight: Array, lo: Int64, hi: Int64) -> Bits:
        """Return the stored bits of one weight tile, in the order in which the array takes it (see the module)."""
        return super().pack_weights(weight, lo, hi)[self._order_bits(hi - lo)]

    def unpack_weights(self, bits: Bits, lo: Int64, hi: Int64, signed: bool) -> Int64:
        """Return the integers that the engine multiplies by, from the bits of one weight tile: int64 ``[g, k, c, R, S]``."""
        dense = np.empty_like(bits)
        dense[self._order_bits(hi - lo)] = bits
        return super().unpack_weights(dense, lo, hi, signed)

    def _order_bits(self, size: Int64) -> Int64:
        """Return which bit of the dense tile (group, filter, element, bit) each stored bit is, int64 [bits]."""
        arch, bits = self.arch, self.workload.fmt.w_bits
        groups, filters, depth = int(size[G]), int(size[K]), int(size[C]) * self.window
        segments, blocks = (int(one[0]) for one in self.share_out(size[G : G + 1]))
        at_once, wide, deep = segments * blocks, arch.cols // blocks, arch.rows // segments
        place = np.arange(groups * filters * depth * bits, dtype=np.int64).reshape(groups, filters, depth, bits)
        place = place.swapaxes(1, 2)
        return np.concatenate([
            place[g : g + at_once, e : e + deep, k : k + wide, digit : digit + arch.native_bits].ravel()
            for g in range(0, groups, at_once)
            for k in range(0, filters, wide)
            for e in range(0, depth, deep)
            for digit in range(0, bits, arch.native_bits)
        ])  # fmt: skip

    def count_actions(self, mapping: Mapping) -> tuple[Action, ...]:
        """Return products of digits, additions of the trees, sums of taps, registers and buffer accesses.

        Lanes and columns without an element or a filter do not switch.
        """
        lay, arch, psum = self.layer, self.arch, self.arch.shell.psum_bits
        tiles = np.array([mapping.tile], np.int64)
        sums, pixels = self.sum_tiles(tiles), lay.N * lay.P * lay.Q
        reads = pixels * int(self._sum_channels(tiles, self._count_reads)[0])
        digit, products = arch.native_bits + 1, lay.macs * self.passes
        levels = [
            pixels * self.passes * int(self._sum_channels(tiles, self._make_node_count(level))[0])
            for level in range(arch.tree_levels + 1)
        ]
        results = pixels * self.passes * int(self._sum_channels(tiles, self._count_results)[0])
        return (
            Action(component="mac", verb="mult", count=products, bits=(digit, digit)),
            *(
                Action(component="mac", verb="add", count=count, bits=(arch.product_bits + level,))
                for level, count in enumerate(levels)
                if level and count
            ),
            Action(component="mac", verb="shift_add", count=results, bits=(psum,)),
            Action(component="array", verb="register", count=results, bits=(psum,)),
            Action(component="array", verb="register", count=lay.macs * self.w_digits, bits=(arch.native_bits,)),
            Action(component="array", verb="register", count=reads, bits=(self.workload.fmt.a_bits,)),
            *list_buffer_accesses(sums, lay.out_elements, psum),
        )

    def _count_results(self, g: Int64, k: Int64, c: Int64) -> Int64:
        """Return the sums that reach accumulators in one pass of all steps of a pixel."""
        segments, _ = self.share_out(g)
        return np.asarray(g * k * -(-c * self.window // (self.arch.rows // segments)))

    def _make_node_count(self, level: int) -> Callable[[Int64, Int64, Int64], Int64]:
        """Return what counts the additions of a level of the trees in one pass of all steps of a pixel."""

        def count(g: Int64, k: Int64, c: Int64) -> Int64:
            segments, _ = self.share_out(g)
            deep, depth = self.arch.rows // segments, c * self.window
            nodes = depth // deep * (deep >> level) + -(-(depth % deep) >> level)
            return np.asarray(g * k * np.where(deep >> level > 0, nodes, 0))

        return count

    def peak_macs_per_cycle(self) -> float:
        """Return the products a cycle of all multipliers at these formats."""
        return self.arch.rows * self.arch.cols / self.passes
