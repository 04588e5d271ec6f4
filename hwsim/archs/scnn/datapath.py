"""The SCNN engine on one layer: cycles from real weights and activations.

The machine (Parashar et al., SCNN, ISCA 2017: planar tiled, input stationary, Cartesian product, sparse)
--------------------------------------------------------------------------------------------------------
``pe_rows`` x ``pe_cols`` processing elements. The outputs of an image are cut into *blocks*; the inputs that a block sees are
shared out among the elements, ``part`` neighbouring rows and columns each, all channels. A layer is cut once, whatever its tiles:
of the sizes of which all can be held (accumulators of an element, a bank of ``ibuf``, ``obuf`` and the staging buffer) into those
that promise the fewest cycles of engine and memory (`ScnnDatapath.cut_plane`), as a compiler would.

Filters run in *groups* of ``group_filters``; their weights of one channel are a *segment*, in the order r, s, filter, stored as
the nonzero ones with runs of zeros between them (`hwsim.quant.runs`). For every channel an element goes through its nonzero
activations, row by row, ``activations`` of them at a time (a vector, in registers; found by a mask of zeros), and for each
through the entries of the segment, ``weights`` at a time: all products of both, a cycle. Zeros that bridge gaps take their place;
a channel without either takes no cycle. The product of input (y, x) and weight (r, s) of filter k belongs to output ((y + padding
- r dilation) / stride, ...): **where that is not whole, or not in the block, it is lost** (three of four at stride 2).

An accumulator's address is (row pitch + column) filters + k, `planes.choose_pitch`; address modulo ``banks`` is its bank. A
bank adds one product a cycle, one that has just come if none waits; the others wait in its queue. While any queue holds ``queue``
products or more the multipliers stand still. Queues run empty behind every ``block_channels`` channels and behind the last.

**Elements run on their own until a group's last channel, where all wait for the slowest.** Then the two sets of accumulators
change places: one collects the next group while the other is added to ``obuf``, whose columns, one an element, hold ceil(block /
elements) rows and columns of outputs each. An element hands over one accumulator a cycle, a column takes one a cycle: the bank is
read and set to zero, the sum in ``obuf`` is read, but for its first, and written. Outputs on the edge of a part come from several
elements (halos); one that meets no input, but padding, is taken as a zero. A schedule of as many cycles as the busiest of them
has accumulators exists (edge colouring of a bipartite graph), and depends on the geometry alone: **a group takes at least that
long**, the most of all blocks, ragged or not.

    busy = sum over images, blocks, groups of the layer, groups of filters of max(slowest element, leave)

Loops of a tile, outermost first: images, blocks, groups of the layer, groups of filters, channels. ``tail`` is the last group's
accumulators leaving, and `PIPELINE_CYCLES`. Images are the pixels of a fully connected layer: with one image one element works,
with one activation of a vector (SCNN is made for convolutions). Depthwise: channel by channel, a group of one filter.

Tiles begin at multiples of `ScnnDatapath.quantum`; one that does not is timed as the whole blocks, groups and blocks of channels
that it touches. Activations are stored whole here, in memory and in ``ibuf``: the shell knows no compressed ones; zeros are not
read by the elements. Not modelled: how far weights can be sent ahead to single elements, energy of the crossbars.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from hwsim.archs.scnn import kernel_products, kernel_tiles
from hwsim.archs.scnn.planes import Cut, choose_pitch, cut_axis, find_axes, list_blocks
from hwsim.core.actions import Action
from hwsim.core.bits import Bits
from hwsim.core.datapath import Datapath, ExecTimes, LayerData, Totals, Workload, list_buffer_accesses
from hwsim.core.errors import Infeasible
from hwsim.core.mapping import Boxes, C, G, Int64, K, Mapping, N, P, Q, list_boxes
from hwsim.core.tile_sums import count_tiles
from hwsim.quant.runs import PrunedWeights, RunFormat

if TYPE_CHECKING:
    from hwsim.archs.scnn.spec import Scnn
    from hwsim.core.tensors import Array

PIPELINE_CYCLES = 8
"""Registers of a product, five: addresses, words, product with its coordinates, crossbar, queue; and of a result, three: bank read,
sum in `obuf` read, sum written; no RTL yet (unverified)."""


class ScnnDatapath(Datapath):
    """One layer on SCNN; runs its products once, on construction."""

    def __init__(self, workload: Workload, arch: Scnn, data: LayerData) -> None:
        super().__init__(workload)
        self.arch = arch
        layer = self.layer
        self.gemm = layer.op == "gemm"
        codec: PrunedWeights = data.codec
        self.weight = codec.integers.reshape(layer.G, layer.K, layer.C, layer.R * layer.S)
        self.group = min(arch.group_filters, layer.K)
        self.groups = -(-layer.K // self.group)
        self.turn = min(arch.block_channels, layer.C)
        self.turns = -(-layer.C // self.turn)
        segment = self.group * layer.R * layer.S
        self.runs = RunFormat(
            weight_bits=workload.fmt.w_bits, index_bits=arch.index_bits, count_bits=segment.bit_length()
        )
        self._list_weights()
        activation = np.asarray(data.activation)
        self.share = float(np.count_nonzero(activation != data.zero_point)) / activation.size
        self.rows, self.cols = self.cut_plane()
        self.pitch, self.leave = choose_pitch(self.cols.reach), self._count_leaving(self.rows, self.cols)
        self._measure(activation, data.zero_point)

    def _count_leaving(self, rows: Cut, cols: Cut) -> int:
        """Return the cycles in which the accumulators of a group leave."""
        return self.group * max(rows.reach * cols.reach, rows.incoming * cols.incoming)

    def cut_plane(self) -> tuple[Cut, Cut]:
        """Return how rows and columns of outputs are cut into blocks: as it promises the fewest cycles."""
        found: tuple[tuple[float, int], Cut, Cut] | None = None
        arch, layer = self.arch, self.layer
        down, across = find_axes(layer, arch.pe_rows, arch.pe_cols)
        for height in list_blocks(down.outputs):
            for width in list_blocks(across.outputs):
                rows, cols = cut_axis(down, height), cut_axis(across, width)
                if self.group * rows.reach * choose_pitch(cols.reach) > arch.accumulators:
                    continue
                cycles = self._promise_cycles(rows, cols)
                if cycles and (found is None or (cycles, rows.count * cols.count) < found[0]):
                    found = (cycles, rows.count * cols.count), rows, cols
        if found is None:
            raise Infeasible(
                layer.name, "obuf", self.group * arch.elements * arch.shell.psum_bits, arch.shell.bank_bits("obuf"),
                "fewer --set group_filters, or larger buffers would help",
            )  # fmt: skip
        return found[1], found[2]

    def _promise_cycles(self, rows: Cut, cols: Cut) -> float:
        """Return the more of engine and memory by means, 0 where the banks do not hold a row of blocks (one, where a row high).

        The engine: vectors of activations at the layer's mean share of nonzero ones times vectors of weights, or results
        leaving. The memory: inputs once where all channels of a row of blocks stay in ``ibuf``, else for each set of filters
        that ``obuf`` holds; weights again for each row of blocks unless they stay in ``wbuf``.
        """
        arch, layer, shell, memory = self.arch, self.layer, self.arch.shell, self.arch.memory
        whole = 1 if self.gemm or rows.block == 1 else cols.count
        wide = cols.axis.outputs if whole > 1 else cols.block
        most_rows, all_rows = rows.count_inputs()
        taken = min(cols.axis.inputs, (wide - 1) * cols.axis.stride + cols.axis.dilation * (cols.axis.window - 1) + 1)
        align = memory.alignment_bits
        line = -(-wide * self.workload.out_bits // align) * align
        row = (-(-taken * self.workload.operand_bits[0] // align) + 1) * align
        filter_bits = whole * rows.own * cols.own * arch.elements * shell.psum_bits
        held = min(shell.bank_bits("obuf") // filter_bits, shell.bank_bits("sbuf") // (rows.block * line))
        if held < self.group or self.turn * most_rows * row > shell.bank_bits("ibuf"):
            return 0.0
        images = 1 if self.gemm else layer.N
        units = images * rows.count * cols.count
        vectors = max(1.0, rows.part * cols.part * self.share / arch.activations) * self.weight_vectors
        engine = units * max(vectors, self._count_leaving(rows, cols) * layer.G * self.groups)
        stored, sweeps = self._stored_bits, images * rows.count
        inputs = images * layer.G * layer.C * all_rows * row
        passes = -(-layer.K // (held // self.group * self.group))
        again = stored if stored <= shell.bank_bits("wbuf") else stored * sweeps
        moved = inputs * passes + (stored if stored <= passes * shell.bank_bits("wbuf") else again)
        if layer.C * most_rows * row <= shell.bank_bits("ibuf"):
            moved = min(moved, inputs + again)
        return max(engine, moved / memory.bits_per_cycle)

    def _list_weights(self) -> None:
        """List the entries of every segment; fills the entries of every block of channels."""
        layer = self.layer
        kept = int(np.count_nonzero(self.weight))
        most = kept + (self.weight.size - kept) // (self.runs.longest_run + 1)
        self.start = np.zeros(layer.G * self.groups * layer.C + 1, np.int64)
        self.place, self.filter = np.zeros((2, max(1, most)), np.int16)
        across = np.ascontiguousarray(self.weight.transpose(0, 2, 3, 1))
        kernel_tiles.list_weights(across, self.group, self.runs.longest_run, self.start, self.place, self.filter)
        entries = np.diff(self.start).reshape(layer.G, self.groups, layer.C)
        self.weight_vectors = int((-(-entries // self.arch.weights)).sum())
        ends = np.arange(0, layer.C, self.turn)
        bits = np.add.reduceat(entries * self.runs.entry_bits + self.runs.count_bits, ends, axis=2)
        self.stored = np.ascontiguousarray(bits, np.int64)

    def _measure(self, activation: Array, zero_point: int) -> None:
        """Run all products; fills the cycles of every element up to each block of channels."""
        layer, rows, cols = self.layer, self.rows, self.cols
        x = (activation.astype(np.int32) != zero_point).astype(np.uint8)
        self._digest = hashlib.blake2b(np.ascontiguousarray(x).tobytes(), digest_size=12)
        for array in (self.start, self.place, self.filter):
            self._digest.update(array.tobytes())
        x = x.reshape(layer.N, layer.G, layer.C, layer.H, layer.W)
        if self.gemm:
            x = x.reshape(layer.N, 1, layer.C, 1).transpose(1, 2, 3, 0)[None]
        down, across, arch = rows.axis, cols.axis, self.arch
        shape = np.array(
            (arch.weights, arch.activations, down.stride, across.stride, down.padding, across.padding, down.dilation,
             across.dilation, layer.S, self.pitch, self.group, arch.banks, arch.queue, self.turn),
            np.int64,
        )  # fmt: skip
        used = rows.used * cols.used
        self.cycles = np.zeros((len(x), rows.count, cols.count, layer.G, self.groups, used, self.turns + 1), np.int64)
        self._busy: dict[int, int] = {}
        self.sums = np.zeros(5, np.int64)
        found = np.zeros((layer.G, self.groups, used, self.turns), np.int32)
        for n in range(len(x)):
            image = np.ascontiguousarray(x[n])
            for i in range(rows.count):
                row_kind, row_seen = rows.classify(i)
                for j in range(cols.count):
                    col_kind, col_seen = cols.classify(j)
                    part = (*rows.list_inputs(i), *cols.list_inputs(j), rows.part, cols.part, rows.used, cols.used)
                    kernel_products.measure_block(
                        image, self.start, self.place, self.filter, np.array(part, np.int64), shape, row_kind, col_kind, row_seen,
                        col_seen, found, self.sums,
                    )  # fmt: skip
                    np.cumsum(found, axis=3, out=self.cycles[n, i, j, :, :, :, 1:])

    def fingerprint(self) -> str:
        """Return a digest of which weights and activations are zero."""
        return self._digest.hexdigest()

    def quantum(self) -> tuple[int, int, int, int, int, int]:
        """Return filters by groups, channels by blocks of them, pixels by blocks of the plane."""
        if self.gemm:
            return (self.cols.block, 1, self.group, self.turn, 1, 1)
        return (1, 1, self.group, self.turn, self.rows.block, self.cols.block)

    @property
    def splits_rows(self) -> bool:
        """Whether a tile may be part of one row: where a block is one row high."""
        return self.rows.block == 1

    def exec_times(self, boxes: Boxes) -> ExecTimes:
        """Return the times of tiles."""
        lo, hi = boxes.lo, boxes.hi
        spans = np.zeros((len(boxes), 12), np.int64)
        across = N if self.gemm else Q
        for at, dim, step in (
            (0, N, 1), (2, P, self.rows.block), (4, across, self.cols.block), (6, G, 1), (8, K, self.group), (10, C, self.turn),
        ):  # fmt: skip
            spans[:, at], spans[:, at + 1] = lo[:, dim] // step, -(-hi[:, dim] // step)
        if self.gemm:
            spans[:, 0], spans[:, 1] = 0, 1
        busy = np.zeros(len(boxes), np.int64)
        kernel_tiles.time_tiles(self.cycles, spans, self.leave, busy)
        tail = np.full(len(boxes), self.leave + PIPELINE_CYCLES, np.int64)
        return ExecTimes(busy, np.zeros(len(boxes), np.int64), tail)

    def _sum_turns(self, turns: int) -> int:
        """Return the cycles of the layer cut along C every ``turns`` blocks of channels; reckoned once for each cut."""
        if turns not in self._busy:
            edges = np.append(np.arange(0, self.turns, turns), self.turns)
            slowest = np.diff(self.cycles[..., edges], axis=-1).max(axis=-2)
            self._busy[turns] = int(np.maximum(slowest, self.leave).sum())
        return self._busy[turns]

    def sum_tiles(self, tiles: Int64) -> Totals:
        """Return sums over all tiles; ``busy`` is a lower bound for tiles that cut blocks or groups."""
        lay, fmt, psum, ones = self.layer, self.workload.fmt, self.arch.shell.psum_bits, np.ones(len(tiles), np.int64)
        busy = np.array([self._sum_turns(turns) for turns in (-(-tiles[:, C] // self.turn)).tolist()], np.int64)
        writes = self._count_sums(self.rows.taken * self.cols.taken, tiles)
        return Totals(
            busy,
            self._stored_bits * self.units * ones,
            int(self.sums[2]) * fmt.a_bits * ones,
            np.asarray((2 * writes - lay.out_elements) * psum, np.int64),
        )

    def _count_sums(self, places: int, tiles: Int64) -> Int64:
        """Return sums that move: ``places`` of a plane, for each image, filter and tile along C, int64 [candidates]."""
        lay = self.layer
        images = 1 if self.gemm else lay.N
        return np.asarray(places * images * lay.G * lay.K * count_tiles(lay, tiles)[:, C], np.int64)

    @property
    def units(self) -> int:
        """Images times blocks: how often all weights are sent to the elements."""
        return int(np.prod(self.cycles.shape[:3]))

    def count_actions(self, mapping: Mapping) -> tuple[Action, ...]:
        """Return products, coordinates, additions in banks, accesses of banks, buffers and what elements hold."""
        lay, fmt, psum = self.layer, self.workload.fmt, self.arch.shell.psum_bits
        tiles = np.array([mapping.tile], np.int64)
        sums = self.sum_tiles(tiles)
        handed = int(self._count_sums(self.rows.handed * self.cols.handed, tiles)[0])
        pairs, kept, sent = int(self.sums[0]), int(self.sums[1]), int(sums.wbuf_read_bits[0])
        actions = (
            Action(component="mac", verb="mult", count=pairs, bits=(fmt.w_bits, fmt.a_bits)),
            Action(component="coordinates", verb="add", count=pairs, bits=(self.arch.accumulators.bit_length(),)),
            Action(component="banks", verb="add", count=kept, bits=(psum,)),
            Action(component="acc", verb="read", count=(kept + handed) * psum),
            Action(component="acc", verb="write", count=(kept + handed) * psum),
            Action(component="rf", verb="write", count=sent * self.rows.used * self.cols.used),
            Action(component="rf", verb="read", count=int(self.sums[3]) * self.runs.entry_bits),
            Action(component="vectors", verb="register", count=int(self.sums[2] + self.sums[4]), bits=(fmt.a_bits,)),
            *list_buffer_accesses(sums, lay.out_elements, psum),
        )
        return tuple(action for action in actions if action.count)

    def _list_segments(self, lo: Int64, hi: Int64) -> list[tuple[int, int, int, int]]:
        """Return the segments of a weight tile in the order stored: group, first and one past the last filter, channel."""
        edges = sorted(
            {int(lo[K]), int(hi[K]), *range(-(-int(lo[K]) // self.group) * self.group, int(hi[K]), self.group)}
        )
        return [
            (g, k, end, c)
            for g in range(int(lo[G]), int(hi[G]))
            for k, end in pairwise(edges)
            for c in range(int(lo[C]), int(hi[C]))
        ]

    def _read_segment(self, weight: Array, g: int, k: int, end: int, c: int) -> Array:
        return np.ascontiguousarray(weight.reshape(self.weight.shape)[g, k:end, c].T).ravel()

    def weight_tile_bits(self, boxes: Boxes) -> Int64:
        """Return the stored bits of each weight tile: a number of entries for each segment, and the entries."""
        lo, hi, layer = boxes.lo, boxes.hi, self.layer
        found, whole = np.zeros(len(boxes), np.int64), np.ones(len(boxes), np.bool_)
        for dim, step, size in ((K, self.group, layer.K), (C, self.turn, layer.C)):
            whole &= (lo[:, dim] % step == 0) & ((hi[:, dim] % step == 0) | (hi[:, dim] == size))
        for g, up in ((hi[:, G], 1), (lo[:, G], -1)):
            for k, left in ((-(-hi[:, K] // self.group), 1), (lo[:, K] // self.group, -1)):
                for c, low in ((-(-hi[:, C] // self.turn), 1), (lo[:, C] // self.turn, -1)):
                    found += up * left * low * self._stored_before[g, k, c]
        for i in np.flatnonzero(~whole):
            segments = (self._read_segment(self.weight, *one) for one in self._list_segments(lo[i], hi[i]))
            counts = [len(self.runs.list_entries(segment)[0]) for segment in segments]
            found[i] = sum(counts) * self.runs.entry_bits + len(counts) * self.runs.count_bits
        return found

    @cached_property
    def _stored_before(self) -> Int64:
        """Stored bits of the groups, groups of filters and blocks of channels before, int64, one more along each axis."""
        before = np.zeros([size + 1 for size in self.stored.shape], np.int64)
        before[1:, 1:, 1:] = self.stored.cumsum(axis=0).cumsum(axis=1).cumsum(axis=2)
        return before

    def _measure_cuts(self, tiles: Int64, align: int) -> Int64:
        """Return the largest tile, the aligned sum of all and the aligned first, int64 [candidates, 3]."""
        layer = self.layer
        cuts, where = np.unique(tiles[:, [G, K, C]], axis=0, return_inverse=True)
        found = np.zeros((len(cuts), 3), np.int64)
        for i, (g, k, c) in enumerate(cuts.tolist()):
            if (k % self.group == 0 or k >= layer.K) and (c % self.turn == 0 or c >= layer.C):
                bits = self.stored
                for axis, step in ((0, g), (1, -(-k // self.group)), (2, -(-c // self.turn))):
                    bits = np.add.reduceat(bits, np.arange(0, bits.shape[axis], step), axis=axis)
                bits = bits.ravel()
            else:
                bits = self.weight_tile_bits(list_boxes(layer, (layer.N, g, k, c, layer.P, layer.Q)))
            moved = -(-bits // align) * align
            found[i] = bits.max(), moved.sum(), moved[0]
        return np.asarray(found[where.ravel()], np.int64)

    def largest_weight_tile(self, tiles: Int64) -> Int64:
        """Return the stored bits of the largest weight tile of each candidate."""
        return np.ascontiguousarray(self._measure_cuts(tiles, 1)[:, 0])

    def sum_weight_tiles(self, tiles: Int64, align: int) -> tuple[Int64, Int64]:
        """Return moved bits of all weight tiles, each once and aligned, and of the first, for each candidate."""
        found = self._measure_cuts(tiles, align)
        return np.ascontiguousarray(found[:, 1]), np.ascontiguousarray(found[:, 2])

    @cached_property
    def _stored_bits(self) -> int:
        return int(self.stored.sum())

    def weight_storage_bits(self) -> int:
        """Return the stored bits of all weights, cut at whole groups of filters."""
        return self._stored_bits

    def most_weight_bits(self, align: int) -> int:
        """Return an upper bound of what the weights take in memory, however the layer is cut: dense, a segment a filter."""
        layer = self.layer
        return layer.weights * self.runs.entry_bits + layer.G * layer.K * layer.C * (self.runs.count_bits + align)

    def pack_weights(self, weight: Array, lo: Int64, hi: Int64) -> Bits:
        """Return the stored bits of one weight tile: by group, group of filters, channel, its entries."""
        dense = np.asarray(weight)
        return np.concatenate([self.runs.pack(self._read_segment(dense, *one)) for one in self._list_segments(lo, hi)])

    def unpack_weights(self, bits: Bits, lo: Int64, hi: Int64, signed: bool) -> Int64:
        """Return the integers that the engine multiplies by: int64 ``[g, k, c, R, S]``."""
        size, layer, at = hi - lo, self.layer, 0
        window = layer.R * layer.S
        found = np.zeros((size[G], size[K], size[C], window), np.int64)
        for g, k, end, c in self._list_segments(lo, hi):
            values, at = self.runs.unpack(bits, at, (end - k) * window)
            found[g - lo[G], k - lo[K] : end - lo[K], c - lo[C]] = values.reshape(window, end - k).T
        return found.reshape(size[G], size[K], size[C], layer.R, layer.S)

    def psum_slots(self, size: Int64) -> Int64:
        """Return the accumulators of whole words, one of all elements: by image, block, filter, places of an element."""
        high, wide = (size[:, P], size[:, N]) if self.gemm else (size[:, P], size[:, Q])
        blocks = -(-high // self.rows.block) * -(-wide // self.cols.block) * (1 if self.gemm else size[:, N])
        words = blocks * size[:, G] * size[:, K] * self.rows.own * self.cols.own
        return np.asarray(words * self.arch.elements, np.int64)

    def psum_places(self, size: Int64) -> Int64:
        """Return where elements n, g, k, p, q stand: the first rows and columns of a block in the first columns of ``obuf``."""
        rows, cols, arch = self.rows, self.cols, self.arch
        n, g, k, p, q = np.indices([size[d] for d in (N, G, K, P, Q)]).reshape(5, -1)
        across, wide = (n, size[N]) if self.gemm else (q, size[Q])
        image = 0 * n if self.gemm else n
        word = (image * -(-size[P] // rows.block) + p // rows.block) * -(-wide // cols.block) + across // cols.block
        word = (word * size[G] + g) * size[K] + k
        row, col = p % rows.block, across % cols.block
        word = (word * rows.own + row % rows.own) * cols.own + col % cols.own
        return np.asarray(word * arch.elements + row // rows.own * arch.pe_cols + col // cols.own, np.int64)

    def peak_macs_per_cycle(self) -> float:
        """Return the layer's products a cycle while every multiplier has one that counts, those of zeros counted in."""
        arch = self.arch
        return arch.elements * arch.weights * arch.activations * self.layer.macs / max(1, int(self.sums[1]))

    def notes(self) -> tuple[str, ...]:
        """Return what was multiplied in vain."""
        kept = int(np.count_nonzero(self.weight)) / self.weight.size
        lost = 1 - int(self.sums[1]) / max(1, int(self.sums[0]))
        return (f"weights: {kept:.1%} kept; {lost:.1%} of the products have no output",)
