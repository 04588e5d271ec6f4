"""Times and accesses of a layer on the bit-serial array, and its weights as bit planes.

Source: Umuroglu et al., BISMO (FPL 2018), and EECS-NTNU/bismo: an array of ``rows`` x ``cols`` dot-product units; a unit ANDs two
words of ``word_bits`` bits, counts the ones, shifts the count by the weight of its two planes and adds it to its sum. The highest
plane of a signed operand counts negative; a one-bit weight of -1 and +1 counts the activation's ones under its ones less those
under its zeros. A product of w by a bits takes w a steps.

Per image and set of groups, a tile is a product of output pixels (rows) and filters (columns) over words of the reduction:

============  =========================  =====================  ===========================================
layer         rows                       columns                words of a vector
============  =========================  =====================  ===========================================
convolution   pixels of the tile         filters                ceil(C R S / word_bits), C the tile's
one pixel     images of the tile         filters                the same (fully connected layers)
grouped       pixels of the tile         filters of a set       1: the windows of a set's groups side by side
============  =========================  =====================  ===========================================

A set is as many groups as fit a word, each at its own place of a power of two of bits (16 for a depthwise 3x3), and the columns; a
filter's word is zero but at its group's place. Groups too large for that, images and sets come one after the other: a tile of
several images is several products.

The feeder of pixels gathers the windows' elements from ``ibuf`` and turns them into planes; that of filters only widens the
planes, which are stored without padding (`pack_weights`). Dense weights lie in the order in which words are fed, plane behind plane
for each word. Nested ones (codec ``bit-planes``) lie plane by plane for the whole tile, the sign's first, so that a policy of fewer
bits moves the first planes alone; the feeder makes the plane of ones behind them that stands for the middle of a step
(`hwsim.core.storage`): one more plane to step through, none to move. Both feeders write a word a cycle into the operand memories:
what a pass takes, and how a product larger than the memories is cut, stands in `hwsim.archs.bismo.kernel_passes`. A result goes
to ``obuf`` when its last step is done; further slices of the reduction (passes, tiles along C) add to it there.

A word of one plane of a pixel's window in a cycle, bit by bit read once, takes an ``ibuf`` that is banked by element of the
reduction and by plane, into which the load unit writes the bits of each element at their places; an ``ibuf`` of plain words would
need a transposer of ``rows`` words by the activations' bits in front of the operand memories, and as many words more before the
first step of a pass. The banks are assumed, after BISMO itself, whose operands are planes already in memory; ``ibuf`` is priced as
one memory, the crossing of bits in front of it is in no area, and there is no RTL (unverified).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hwsim.archs.bismo.kernel_passes import COLUMN_FEEDS, CYCLES, ROW_FEEDS, SLICE_PASSES, STEPS, count_passes
from hwsim.archs.bismo.spec import POPCOUNT_BITS
from hwsim.core import storage
from hwsim.core.actions import Action
from hwsim.core.bits import Bits
from hwsim.core.datapath import Datapath, ExecTimes, Totals, Workload
from hwsim.core.mapping import Boxes, C, G, Int64, K, Mapping, N, P, Q
from hwsim.core.psums import list_outputs
from hwsim.core.tile_sums import find_distinct, sum_fields

if TYPE_CHECKING:
    from hwsim.archs.bismo.spec import Bismo
    from hwsim.core.tensors import Array

PIPELINE_CYCLES = 7
"""Registers behind a step besides the popcount tree's: addresses, operand memories, AND, shift, sum, ``obuf`` read and written
(BISMO has a register behind each: ``DotProductUnit.scala``); no RTL of ours yet (unverified)."""


class Counts(NamedTuple):
    """What tiles take, int64 [tiles] each.

    Cycles, and steps of these; dense bits that the feeders read from ``wbuf`` and ``ibuf``; words that they write to the
    memories of columns and rows; words that the array reads from them; results written to ``obuf``.
    """

    cycles: Int64
    steps: Int64
    w_bits: Int64
    a_bits: Int64
    w_words: Int64
    a_words: Int64
    w_reads: Int64
    a_reads: Int64
    results: Int64


class BismoDatapath(Datapath):
    """One layer on the bit-serial array."""

    def __init__(self, workload: Workload, arch: Bismo) -> None:
        super().__init__(workload)
        self.arch = arch
        layer = self.layer
        self.window = layer.R * layer.S
        self.batched = layer.P * layer.Q == 1
        self.w_planes = storage.count_engine_bits(workload.fmt)
        pitch = 1 << (layer.C * self.window - 1).bit_length()
        self.set_groups = max(1, min(arch.word_bits // pitch, arch.cols // layer.K, layer.G))

    def quantum(self) -> tuple[int, int, int, int, int, int]:
        """Return the array's own sizes: whole sets, filters by columns, channels by words."""
        channels = max(1, self.arch.word_bits // self.window)
        return (1, self.set_groups, self.arch.cols, min(channels, self.layer.C), 1, 1)

    def _shape(self, size: Int64) -> tuple[Int64, Int64, Int64, Int64, Int64]:
        """Return of tiles ``size[tiles, 6]``: repeats, rows, whole sets, columns of the last set (or 0), slices."""
        pixels = size[:, P] * size[:, Q]
        repeats, rows = (np.ones_like(pixels), size[:, N]) if self.batched else (size[:, N], pixels)
        whole, rest = size[:, G] // self.set_groups, size[:, G] % self.set_groups
        slices = -(-size[:, C] * self.window // self.arch.word_bits)
        return repeats, rows, whole, rest * size[:, K], slices

    def _count_products(self, rows: Int64, columns: Int64, slices: Int64) -> Int64:
        """Return the counts of products, int64 [5, products] (see the kernel)."""
        fmt, arch = self.workload.fmt, self.arch
        array = np.array([arch.rows, arch.cols, fmt.a_bits, self.w_planes, arch.depth_words], np.int64)
        found = np.zeros((len(rows), 5), np.int64)
        count_passes(np.stack([rows, columns, slices], axis=1), array, found)
        return found.T

    def count_tiles(self, size: Int64) -> Counts:
        """Return what tiles of ``size[tiles, 6]`` take."""
        distinct, back = find_distinct(self.layer, size)
        found = self._count_distinct(distinct)
        return Counts(*(one[back] for one in found))

    def _count_distinct(self, size: Int64) -> Counts:
        fmt, arch, w = self.workload.fmt, self.arch, self.w_planes
        a = fmt.a_bits
        repeats, rows, whole, rest_columns, slices = self._shape(size)
        total = Counts(*(np.zeros(len(size), np.int64) for _ in Counts._fields))
        for columns, times in (
            (self.set_groups * size[:, K], whole),
            (rest_columns, (rest_columns > 0).astype(np.int64)),
        ):
            if not times.any():
                continue
            columns = np.maximum(columns, 1)
            found = self._count_products(rows, columns, slices)
            elements = size[:, C] * self.window  # of a filter; a row holds those of all groups of the set
            groups = columns // size[:, K]
            many = repeats * times
            total = Counts(*(old + many * new for old, new in zip(total, (
                found[CYCLES],
                found[STEPS],
                columns * self._share(found[COLUMN_FEEDS], elements, slices) * fmt.w_bits,
                rows * groups * self._share(found[ROW_FEEDS], elements, slices) * a,
                columns * found[COLUMN_FEEDS] * w,
                rows * found[ROW_FEEDS] * a,
                columns * -(-rows // arch.rows) * slices * (w * a),
                rows * -(-columns // arch.cols) * slices * (w * a),
                rows * columns * found[SLICE_PASSES],
            ), strict=True)))  # fmt: skip
        return total

    @staticmethod
    def _share(feeds: Int64, elements: Int64, slices: Int64) -> Int64:
        """Return the elements of ``feeds`` words, of vectors of ``elements`` in ``slices`` words (to the next whole one)."""
        return np.asarray(-(-feeds * elements // slices))

    def exec_times(self, boxes: Boxes) -> ExecTimes:
        """Return the times of tiles; waiting for words is fill."""
        found = self.count_tiles(boxes.size)
        tail = np.full(len(boxes), PIPELINE_CYCLES + self.arch.tree_levels, np.int64)
        return ExecTimes(found.cycles, found.cycles - found.steps, tail)

    def sum_tiles(self, tiles: Int64) -> Totals:
        """Return sums over all tiles."""
        sums = sum_fields(self.layer, tiles, self.count_tiles)
        psums = (2 * sums.results - self.layer.out_elements) * self.arch.shell.psum_bits
        return Totals(sums.cycles, sums.w_bits, sums.a_bits, psums)

    def psum_slots(self, size: Int64) -> Int64:
        """Return the accumulators of whole words, one of all units: by image, set, block of filters, block of pixels."""
        repeats, rows, whole, rest, _ = self._shape(size)
        arch = self.arch
        across = whole * -(-self.set_groups * size[:, K] // arch.cols) + -(-rest // arch.cols)
        return np.asarray(repeats * across * -(-rows // arch.rows) * (arch.rows * arch.cols), np.int64)

    def psum_places(self, size: Int64) -> Int64:
        """Return where elements n, g, k, p, q stand."""
        arch = self.arch
        n, g, k, p, q = list_outputs(size)
        row, rows = (n, size[N]) if self.batched else (p * size[Q] + q, size[P] * size[Q])
        repeat = 0 if self.batched else n
        blocks = -(-self.set_groups * size[K] // arch.cols)
        rest = size[G] % self.set_groups
        across = size[G] // self.set_groups * blocks + -(-rest * size[K] // arch.cols)
        column = g % self.set_groups * size[K] + k
        word = repeat * across + g // self.set_groups * blocks + column // arch.cols
        word = word * -(-rows // arch.rows) + row // arch.rows
        return np.asarray((word * arch.rows + row % arch.rows) * arch.cols + column % arch.cols, np.int64)

    def pack_weights(self, weight: Array, lo: Int64, hi: Int64) -> Bits:
        """Return the stored bits of one weight tile, as the feeder takes them: by set, block of filters, slice, plane, filter.

        Nested planes: the sign's plane of the tile first; in each by set, block of filters, slice, filter.
        """
        bits = super().pack_weights(weight, lo, hi)
        return bits[self._order_planes(hi - lo)]

    def unpack_weights(self, bits: Bits, lo: Int64, hi: Int64, signed: bool) -> Int64:
        """Return the integers that the engine multiplies by, from the bits of one weight tile: int64 ``[g, k, c, R, S]``."""
        dense = np.empty_like(bits)
        dense[self._order_planes(hi - lo)] = bits
        return super().unpack_weights(dense, lo, hi, signed)

    def _order_planes(self, size: Int64) -> Int64:
        """Return which bit of the dense tile (filters, elements, bits) each stored bit is, int64 [bits]."""
        arch, w = self.arch, self.workload.fmt.w_bits
        elements, filters = int(size[C]) * self.window, int(size[G] * size[K])
        nested = storage.find_codec(self.workload.fmt) == "bit-planes"
        if nested:  # plane by plane already: one plane's order, w times
            w = 1
        place = np.arange(filters * elements * w, dtype=np.int64).reshape(filters, elements, w)
        of_set = self.set_groups * int(size[K])
        pieces = []
        for first in range(0, filters, of_set):
            for block in range(first, min(first + of_set, filters), arch.cols):
                one = place[block : min(block + arch.cols, first + of_set, filters)]
                words = range(0, elements, arch.word_bits)
                pieces += [one[:, word : word + arch.word_bits].transpose(2, 0, 1).ravel() for word in words]
        order = np.concatenate(pieces)
        if not nested:
            return order
        planes = np.arange(self.workload.fmt.w_bits, dtype=np.int64)[:, None] * order.size
        return np.asarray((planes + order).ravel())

    def count_actions(self, mapping: Mapping) -> tuple[Action, ...]:
        """Return AND gates and popcount adders of useful bits, sums of units at work, accesses of memories and buffers.

        Padding and the zeros of a grouped layer's words do not switch: bit products are those of the layer, macs times bits.
        """
        fmt, arch = self.workload.fmt, self.arch
        psum, word = arch.shell.psum_bits, arch.word_bits
        sums = sum_fields(self.layer, np.array([mapping.tile], np.int64), self.count_tiles)
        products = self.layer.macs * self.w_planes * fmt.a_bits
        results, outputs = int(sums.results[0]), self.layer.out_elements
        units = self._count_unit_steps(mapping.tile)
        return (
            Action(component="mac", verb="mult", count=products, bits=(1, 1)),
            Action(component="mac", verb="add", count=products, bits=(POPCOUNT_BITS,)),
            Action(component="array", verb="shift_add", count=units, bits=(psum,)),
            Action(component="lhs", verb="write", count=int(sums.a_words[0]) * word),
            Action(component="lhs", verb="read", count=int(sums.a_reads[0]) * word),
            Action(component="rhs", verb="write", count=int(sums.w_words[0]) * word),
            Action(component="rhs", verb="read", count=int(sums.w_reads[0]) * word),
            Action(component="wbuf", verb="read", count=int(sums.w_bits[0])),
            Action(component="ibuf", verb="read", count=int(sums.a_bits[0])),
            Action(component="obuf", verb="write", count=results * psum),
            Action(component="obuf", verb="read", count=(results - outputs) * psum),
        )

    def _count_unit_steps(self, tile: tuple[int, ...]) -> int:
        """Return the steps of all units that have a result to make."""
        fmt, layer = self.workload.fmt, self.layer
        words = 0
        for first in range(0, layer.C, tile[C]):
            words += -(-min(tile[C], layer.C - first) * self.window // self.arch.word_bits)
        return layer.out_elements * words * self.w_planes * fmt.a_bits

    def peak_macs_per_cycle(self) -> float:
        """Return the products a cycle of all units at these formats."""
        arch, fmt = self.arch, self.workload.fmt
        return arch.rows * arch.cols * arch.word_bits / (self.w_planes * fmt.a_bits)
