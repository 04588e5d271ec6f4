"""The Cambricon-X engine on one layer: cycles from real weights.

The machine (Zhang et al., Cambricon-X, MICRO 2016)
---------------------------------------------------
``elements`` processing elements; element i has filter i of a block, its nonzero weights and their step indexes in a memory of its
own (`wbuf`), ``multipliers`` multipliers, an adder tree and a sum. The buffer controller takes a word of ``span`` activations
from `ibuf` and shows it to all elements; the indexing module of each adds up the steps of its next ``multipliers`` entries and
selects their activations from the word.

A *span* holds ``floor(span / (R S))`` channels (one at least, all of a group at most), each with all places of the window, in the
order c, r, s: the reduction of one output pixel in pieces. Of every filter and span the number of entries is stored, then the
entries (`hwsim.quant.runs`). Where a span holds a whole group more than once, a *set* of groups shares a word and the elements:
as many as fit both (depthwise layers: 28 channels of 3x3 in 256 activations); otherwise a set is one group.

Loops of a tile, outermost first: sets of groups, blocks of ``elements`` filters, pixels (n, p, q), spans. An element takes
ceil(entries / multipliers) cycles for its entries of a span. **Elements wait for the slowest at the end of each span**, when the
next word, gathered meanwhile, takes its place; a span takes at least one cycle. So skipping is bounded by span / multipliers.
Zero activations are not skipped.

    busy = pixels * sum over sets, blocks, spans of max(1, ceil(most entries of an element / multipliers))

Sums stay in the elements during a pixel and go to a word of `obuf`, a column an element, behind its last span. Spans follow one
another without a gap; the way of a result behind the last one is the ``tail``. Spans begin at the first channel of a tile: a
tile that is cut elsewhere than at whole spans has spans, entries and cycles of its own.

The paper's elements run asynchronously; how far one may run ahead of others is not known, here it is a span. Not modelled: banks of
``ibuf``, the share of ``wbuf`` that each element has.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hwsim.archs.cambricon_x import kernel_spans
from hwsim.core.actions import Action
from hwsim.core.bits import Bits
from hwsim.core.datapath import Datapath, ExecTimes, LayerData, Totals, Workload, list_buffer_accesses
from hwsim.core.mapping import Boxes, C, G, Int64, K, Mapping, N, P, Q, list_boxes
from hwsim.core.psums import list_outputs
from hwsim.core.tile_sums import count_tiles, sum_over_tiles
from hwsim.quant.runs import PrunedWeights, RunFormat

if TYPE_CHECKING:
    from hwsim.archs.cambricon_x.spec import CambriconX
    from hwsim.core.tensors import Array

PIPELINE_CYCLES = 8
"""Registers of a span besides the adder tree's: addresses, words of both buffers, steps added up, activations selected, products,
sum, `obuf` read and written; no RTL yet (unverified)."""


class CambriconXDatapath(Datapath):
    """One layer on Cambricon-X; counts the entries of its weights once, on construction."""

    def __init__(self, workload: Workload, arch: CambriconX, data: LayerData) -> None:
        super().__init__(workload)
        self.arch = arch
        layer = self.layer
        codec: PrunedWeights = data.codec
        self.weight = codec.integers.reshape(layer.G * layer.K, layer.C, layer.R * layer.S)
        self.window = layer.R * layer.S
        self.span_channels = min(layer.C, arch.span // self.window)
        whole = arch.span // (layer.C * self.window)
        self.set_groups = max(1, min(whole, arch.elements // layer.K, layer.G))
        self.machine = np.array([self.set_groups, arch.elements, arch.multipliers], np.int64)
        self.runs = RunFormat(weight_bits=workload.fmt.w_bits, index_bits=arch.index_bits, count_bits=arch.count_bits)
        self.entries = self._count_entries(self.weight)
        self.nonzero = int(np.count_nonzero(self.weight))

    def _count_entries(self, weight: Array) -> npt.NDArray[np.int32]:
        """Return the entries of filters ``weight[filters, channels, window]`` in each span, int32 [filters, spans]."""
        rows = weight.reshape(len(weight), -1)
        return self.runs.count_entries(rows, self.span_channels * self.window)

    def fingerprint(self) -> str:
        """Return a digest of the entries."""
        return hashlib.blake2b(self.entries.tobytes(), digest_size=12).hexdigest()

    def quantum(self) -> tuple[int, int, int, int, int, int]:
        """Return whole sets, filters by elements, channels by spans."""
        return (1, self.set_groups, self.arch.elements, self.span_channels, 1, 1)

    def count_boxes(self, boxes: Boxes) -> Int64:
        """Return of each tile the cycles of one output pixel, entries, segments: int64 [tiles, 3]."""
        layer, step = self.layer, self.span_channels
        found = np.zeros((len(boxes), 3), np.int64)
        for lo, hi, one in zip(boxes.lo, boxes.hi, found, strict=True):
            entries, first, last = self.entries, int(lo[C]), int(hi[C])
            spans = (first // step, -(-last // step))
            if first % step or (last % step and last < layer.C):
                entries = self._count_entries(np.ascontiguousarray(self.weight[:, first:last]))
                spans = (0, entries.shape[1])
            tile = np.array((lo[G], hi[G], lo[K], hi[K], *spans), np.int64)
            kernel_spans.count_tile(entries, tile, layer.K, self.machine, one)
        return found

    def _count_cuts(self, tiles: Int64, align: int) -> Int64:
        """Return what all tiles of each candidate take, int64 [candidates, 5] as `kernel_spans.count_cuts` says."""
        layer, step = self.layer, self.span_channels
        cuts, where = np.unique(tiles[:, [G, K, C]], axis=0, return_inverse=True)
        whole = (cuts[:, 2] % step == 0) | (cuts[:, 2] >= layer.C)
        found = np.zeros((len(cuts), 5), np.int64)
        spans = np.ascontiguousarray(np.stack([cuts[:, 0], cuts[:, 1], -(-cuts[:, 2] // step)], axis=1)[whole])
        widths = np.array([self.runs.entry_bits, self.runs.count_bits, align], np.int64)
        known = np.zeros((len(spans), 5), np.int64)
        kernel_spans.count_cuts(self.entries, spans, layer.G, layer.K, self.machine, widths, known)
        found[whole] = known
        for i in np.flatnonzero(~whole):
            g, k, c = cuts[i].tolist()
            one = self.count_boxes(list_boxes(layer, (layer.N, g, k, c, layer.P, layer.Q)))
            bits = one[:, 1] * widths[0] + one[:, 2] * widths[1]
            moved = -(-bits // align) * align
            found[i] = one[:, 0].sum(), one[:, 1].sum(), bits.max(), moved.sum(), moved[0]
        return np.asarray(found[where.ravel()], np.int64)

    def exec_times(self, boxes: Boxes) -> ExecTimes:
        """Return the times of tiles."""
        size = boxes.size
        cuts = np.concatenate([boxes.lo[:, [G, K, C]], boxes.hi[:, [G, K, C]]], axis=1)
        _, first, back = np.unique(cuts, axis=0, return_index=True, return_inverse=True)
        cycles = self.count_boxes(Boxes(boxes.lo[first], boxes.hi[first]))[back.ravel(), 0]
        busy = size[:, N] * size[:, P] * size[:, Q] * cycles
        tail = np.full(len(boxes), (self.arch.multipliers - 1).bit_length() + PIPELINE_CYCLES, np.int64)
        return ExecTimes(busy, np.zeros(len(boxes), np.int64), tail)

    def sum_tiles(self, tiles: Int64) -> Totals:
        """Return sums over all tiles."""
        lay, fmt, arch = self.layer, self.workload.fmt, self.arch
        found = self._count_cuts(tiles, 1)
        pixels = lay.N * lay.P * lay.Q
        blocks = sum_over_tiles(lay.K, tiles[:, K], lambda k: -(-k // arch.elements))
        writes = lay.out_elements * count_tiles(lay, tiles)[:, C]
        return Totals(
            pixels * found[:, 0],
            pixels * found[:, 3],
            np.asarray(pixels * lay.G * lay.C * self.window * fmt.a_bits * blocks, np.int64),
            np.asarray((2 * writes - lay.out_elements) * arch.shell.psum_bits, np.int64),
        )

    def count_actions(self, mapping: Mapping) -> tuple[Action, ...]:
        """Return products of entries, steps added up, accesses of buffers; selecting an activation has no price."""
        lay, fmt, psum = self.layer, self.workload.fmt, self.arch.shell.psum_bits
        tile = np.array([mapping.tile], np.int64)
        sums = self.sum_tiles(tile)
        entries = lay.N * lay.P * lay.Q * int(self._count_cuts(tile, 1)[0, 1])
        actions = (
            Action(component="mac", verb="mac", count=entries, bits=(fmt.w_bits, fmt.a_bits, psum)),
            Action(component="indexing", verb="add", count=entries, bits=(self.runs.count_bits,)),
            *list_buffer_accesses(sums, lay.out_elements, psum),
        )
        return tuple(action for action in actions if action.count)

    def weight_tile_bits(self, boxes: Boxes) -> Int64:
        """Return the stored bits of each weight tile: a number of entries for each filter and span, and the entries."""
        found = self.count_boxes(boxes)
        return np.asarray(found[:, 1] * self.runs.entry_bits + found[:, 2] * self.runs.count_bits, np.int64)

    def largest_weight_tile(self, tiles: Int64) -> Int64:
        """Return the stored bits of the largest weight tile of each candidate."""
        return np.ascontiguousarray(self._count_cuts(tiles, 1)[:, 2])

    def sum_weight_tiles(self, tiles: Int64, align: int) -> tuple[Int64, Int64]:
        """Return moved bits of all weight tiles, each once and aligned, and of the first, for each candidate."""
        found = self._count_cuts(tiles, align)
        return np.ascontiguousarray(found[:, 3]), np.ascontiguousarray(found[:, 4])

    @cached_property
    def _stored_bits(self) -> int:
        return int(self.entries.sum()) * self.runs.entry_bits + self.entries.size * self.runs.count_bits

    def weight_storage_bits(self) -> int:
        """Return the stored bits of all weights, cut at whole spans."""
        return self._stored_bits

    def most_weight_bits(self, align: int) -> int:
        """Return an upper bound of what the weights take in memory, however the layer is cut: dense, a segment a channel."""
        layer = self.layer
        channels = layer.G * layer.K * layer.C
        return layer.weights * self.runs.entry_bits + channels * (self.runs.count_bits + align)

    def _list_segments(self, lo: Int64, hi: Int64) -> list[tuple[int, int, int, int]]:
        """Return the segments of a weight tile in the order stored: group, filter, first and one past the last channel."""
        found = []
        for g0 in range(int(lo[G]), int(hi[G]), self.set_groups):
            groups = range(g0, min(g0 + self.set_groups, int(hi[G])))
            for k0 in range(int(lo[K]), int(hi[K]), self.arch.elements):
                block = range(k0, min(k0 + self.arch.elements, int(hi[K])))
                for c in range(int(lo[C]), int(hi[C]), self.span_channels):
                    end = min(c + self.span_channels, int(hi[C]))
                    found += [(g, k, c, end) for g in groups for k in block]
        return found

    def pack_weights(self, weight: Array, lo: Int64, hi: Int64) -> Bits:
        """Return the stored bits of one weight tile: by set, block of filters, span, filter, its entries."""
        rows = np.asarray(weight).reshape(self.weight.shape)
        segments = self._list_segments(lo, hi)
        return np.concatenate([self.runs.pack(rows[g * self.layer.K + k, c:end].ravel()) for g, k, c, end in segments])

    def unpack_weights(self, bits: Bits, lo: Int64, hi: Int64, signed: bool) -> Int64:
        """Return the integers that the engine multiplies by: int64 ``[g, k, c, R, S]``."""
        size, layer, at = hi - lo, self.layer, 0
        found = np.zeros((size[G], size[K], size[C], self.window), np.int64)
        for g, k, c, end in self._list_segments(lo, hi):
            values, at = self.runs.unpack(bits, at, (end - c) * self.window)
            found[g - lo[G], k - lo[K], c - lo[C] : end - lo[C]] = values.reshape(end - c, self.window)
        return found.reshape(size[G], size[K], size[C], layer.R, layer.S)

    def psum_slots(self, size: Int64) -> Int64:
        """Return the accumulators of whole words of all elements: by set, block of filters, pixel."""
        elements, groups = self.arch.elements, self.set_groups
        blocks = -(-np.minimum(size[:, G], groups) * size[:, K] // elements)
        words = -(-size[:, G] // groups) * blocks * size[:, N] * size[:, P] * size[:, Q]
        return np.asarray(words * elements, np.int64)

    def psum_places(self, size: Int64) -> Int64:
        """Return where elements n, g, k, p, q stand."""
        elements, groups = self.arch.elements, self.set_groups
        n, g, k, p, q = list_outputs(size)
        blocks = -(-min(int(size[G]), groups) * size[K] // elements)
        column = g % groups * size[K] + k
        pixel = (n * size[P] + p) * size[Q] + q
        word = (g // groups * blocks + column // elements) * (size[N] * size[P] * size[Q]) + pixel
        return np.asarray(word * elements + column % elements, np.int64)

    def peak_macs_per_cycle(self) -> float:
        """Return the layer's products a cycle while every multiplier has a nonzero weight, those of zeros counted."""
        arch = self.arch
        return arch.elements * arch.multipliers * self.layer.weights / max(1, self.nonzero)

    def notes(self) -> tuple[str, ...]:
        """Return what is left of the weights."""
        layer = self.layer
        share = layer.weights * self.workload.fmt.w_bits / self._stored_bits
        return (f"weights: {self.nonzero / layer.weights:.1%} kept, {share:.2f}x smaller than dense",)
