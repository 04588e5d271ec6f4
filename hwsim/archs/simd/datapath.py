"""Instructions of a layer's inner kernel, counted; cycles are what issue, vector pipes and loads allow.

Sources: the by-element dot product and multiply-add of Armv8 (SDOT, FMLA) and kernels of register tiles as gemmlowp's, ruy's and
Arm Compute Library's 8 x 12 ones; look-up by TBL as DGMS's Q-SIMD is described (Dong et al., ECCV 2022; its code was not seen).

A tile is, for each group, a product of pixels (n, p, q in a row) and filters over the reduction c, r, s, cut into steps of
`Simd.step` products (4 bytes, 1 float). One side lies in lanes, the other is taken element by element: pixels in lanes, or filters
where a layer has fewer pixels than lanes (fully connected layers).

1. **Pack** (`fill`): windows are brought into the order of the kernel, once a tile, for each word (lanes x step products): as many
   loads as the horizontal stride, two permutations (bytes of four channels side by side; none for floats), a store into the first
   cache, from which the kernel reads them. A layer whose lanes hold filters needs none, nor do floats of a 1 x 1 filter of
   stride 1: they lie so. Weights are packed before: a Program's memory has them filter by filter, the kernel's order takes the
   same bits.
2. **Register tiles**, blocks of words in lanes by blocks of elements (at most `Simd.filters`; together at most
   `Simd.accumulators` registers), the words the outer loop. For each:

   - first: an instruction for each accumulator, which zeroes it (vector) or loads a partial sum (memory);
   - each step: a load for each word in lanes and for each `lanes` elements of the other side, a dot product for each accumulator.
     Codebook weights are loaded as indices; for each word of weights a look-up, and ``w_bits / 4`` instructions that take
     nibbles apart (a nibble of two 2-bit indices is looked up in two tables);
   - `LOOP_INSTRUCTIONS` for every `UNROLLED` steps, `CALL_INSTRUCTIONS` for a tile;
   - last: a store for each accumulator, and behind the last channel the instructions that bring it to the next layer's format.

A register tile takes the largest of: its instructions over `Simd.issue`, vector instructions over `Simd.vector_pipes`, loaded and
stored bits over `Simd.memory_bits`, steps times `Simd.accumulate_cycles`; each rounded up. Register tiles and packing follow one
another without overlap. The shell's store and vector units stand for the same pipes at other times; their cycles are the shell's.

Not modelled: misses of the first cache (a tile's packed windows may be larger) and of the instruction cache, branch prediction,
address translation, threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hwsim.archs.simd.spec import BYTE_BITS, INSTRUCTION_BITS, LANE_BITS
from hwsim.core.actions import Action
from hwsim.core.datapath import Datapath, ExecTimes, Totals, Workload
from hwsim.core.mapping import Boxes, C, G, Int64, K, Mapping, N, P, Q
from hwsim.core.storage import find_codec
from hwsim.core.tile_sums import count_tiles, list_extents, list_tile_sizes, sum_over_sizes

if TYPE_CHECKING:
    from hwsim.archs.simd.spec import Simd

UNROLLED = 4
"""Steps of an unrolled loop: common practice of the kernels named above."""
LOOP_INSTRUCTIONS = 2
"""Count down, branch; pointers move with the loads."""
CALL_INSTRUCTIONS = 8
"""Pointers and counters of a register tile, and the branch to it (an estimate)."""
PACK_PERMUTATIONS = 2
"""ZIP1 and ZIP2 of bytes, then of halfwords: eight instructions make four words of four."""
REQUANTIZE_INSTRUCTIONS = {"int8": 5, "fp32": 2}
"""Of an accumulator: SQRDMULH, SRSHL, and its share of narrowing, zero point and clamp (18 instructions for four registers); FADD
of the bias and FMAX."""
TAIL_CYCLES = 8
"""From the last instruction issued to its result in the cache (unverified)."""
NIBBLE_BITS = 4


class Counts(NamedTuple):
    """What tiles take, int64 [tiles] each.

    Cycles of packing and of all; instructions; vector instructions; bits read from ``wbuf`` and ``ibuf``; packed bits read from and
    written to the first cache.
    """

    pack: Int64
    busy: Int64
    instructions: Int64
    vector: Int64
    w_bits: Int64
    a_bits: Int64
    l1_bits: Int64
    packed_bits: Int64


class SimdDatapath(Datapath):
    """One layer on the core, in bytes."""

    def __init__(self, workload: Workload, arch: Simd) -> None:
        super().__init__(workload)
        self.arch = arch
        layer = self.layer
        self.window = layer.R * layer.S
        pixels = layer.N * layer.P * layer.Q
        self.filters_in_lanes = pixels < arch.lanes
        others = pixels if self.filters_in_lanes else layer.K
        self.block_others = min(arch.filters, others)
        self.block_words = arch.accumulators // self.block_others
        self.looks_up = find_codec(workload.fmt) == "codebook" and arch.number == "int8"
        self.w_share = (
            workload.fmt.w_bits if self.looks_up else BYTE_BITS
        )  # eighths of a word loaded for a word of weights
        self.lies_packed = arch.step == 1 and self.window == 1 and layer.stride == (1, 1) and not any(layer.padding)

    def quantum(self) -> tuple[int, int, int, int, int, int]:
        """Return the register tile's own sizes: filters, whole steps of channels."""
        channels = 1 if self.window % self.arch.step == 0 else self.arch.step
        filters = self.arch.lanes if self.filters_in_lanes else self.block_others
        return (1, 1, filters, min(channels, self.layer.C), 1, 1)

    def count_group(self, pixels: Int64, filters: Int64, channels: Int64, first: Int64, last: Int64) -> Counts:
        """Return what one group of tiles takes; ``first``, ``last``: whether its channels are the layer's first, last ones."""
        arch = self.arch
        steps = -(-channels * self.window // arch.step)
        in_lanes, others = (filters, pixels) if self.filters_in_lanes else (pixels, filters)
        words = -(-in_lanes // arch.lanes)
        pack, pack_instructions, pack_vector, pack_reads = self._count_pack(words, steps)
        whole_words, whole_others = words // self.block_words, others // self.block_others
        rest_words, rest_others = words % self.block_words, others % self.block_others
        zero = np.zeros_like(steps)
        busy, instructions, vector = pack.copy(), pack_instructions, pack_vector
        w_loads, a_loads = zero, zero
        for m, many_words in ((zero + self.block_words, whole_words), (rest_words, (rest_words > 0).astype(np.int64))):
            for n, many_others in ((zero + self.block_others, whole_others), (rest_others, (rest_others > 0) * 1)):
                times = many_words * many_others
                if not times.any():
                    continue
                cycles, issued, vectors, w_words, a_words = self._count_block(m, n, steps, first, last)
                busy = busy + times * cycles
                instructions, vector = instructions + times * issued, vector + times * vectors
                w_loads, a_loads = w_loads + times * w_words, a_loads + times * a_words
        width, packs = arch.vector_bits, not (self.filters_in_lanes or self.lies_packed)
        if packs:
            read, again, written = pack_reads, a_loads, words * steps
        else:
            read, again, written = a_loads, zero, zero
        return Counts(
            pack, busy, instructions, vector, w_loads * width, read * width, again * width, written * width
        )  # fmt: skip

    def _count_pack(self, words: Int64, steps: Int64) -> tuple[Int64, Int64, Int64, Int64]:
        """Return cycles, instructions, vector instructions and loads of packing."""
        arch = self.arch
        zero = np.zeros_like(words * steps)
        if self.filters_in_lanes or self.lies_packed:
            return zero, zero, zero, zero
        packed = words * steps
        loads = packed * self.layer.stride[1]
        vector = packed * (PACK_PERMUTATIONS if arch.step > 1 else 0)
        total = loads + packed + vector
        cycles = np.maximum(
            np.maximum(-(-total // arch.issue), -(-vector // arch.vector_pipes)),
            -(-(loads + packed) * arch.vector_bits // arch.memory_bits),
        )
        return cycles, total, vector, loads

    def _count_block(
        self, words: Int64, others: Int64, steps: Int64, first: Int64, last: Int64
    ) -> tuple[Int64, Int64, Int64, Int64, Int64]:
        """Return cycles, instructions, vector instructions, loads of weights and of activations of a register tile."""
        arch = self.arch
        sums, element_words = words * others, -(-others // arch.lanes)
        w_words = steps * (words if self.filters_in_lanes else element_words)
        a_words = steps * (element_words if self.filters_in_lanes else words)
        w_loads = -(-w_words * self.w_share // BYTE_BITS)
        look_up = w_words + -(-w_words * self.workload.fmt.w_bits // NIBBLE_BITS) if self.looks_up else 0
        vector = sums * steps + look_up + sums * first + sums * last * REQUANTIZE_INSTRUCTIONS[arch.number]
        moved = a_words + w_loads + sums * (1 - first) + sums
        total = vector + moved + -(-steps // UNROLLED) * LOOP_INSTRUCTIONS + CALL_INSTRUCTIONS
        cycles = np.maximum(
            np.maximum(-(-total // arch.issue), -(-vector // arch.vector_pipes)),
            np.maximum(-(-moved * arch.vector_bits // arch.memory_bits), steps * arch.accumulate_cycles),
        )
        return cycles, total, vector, w_loads, a_words

    def exec_times(self, boxes: Boxes) -> ExecTimes:
        """Return the times of tiles; packing is fill."""
        size = boxes.size
        first, last = (boxes.lo[:, C] == 0) * 1, (boxes.hi[:, C] == self.layer.C) * 1
        found = self.count_group(size[:, N] * size[:, P] * size[:, Q], size[:, K], size[:, C], first, last)
        tail = np.full(len(boxes), TAIL_CYCLES, np.int64)
        return ExecTimes(size[:, G] * found.busy, size[:, G] * found.pack, tail)

    def _sum_counts(self, tiles: Int64) -> Counts:
        """Return the sums over all tiles of each candidate, by size: full and ragged, first, inner and last channels."""
        alike = np.minimum(tiles, list_extents(self.layer))
        alike[:, G] = 1  # groups are alike, whatever tile they are in
        distinct, back = np.unique(alike, axis=0, return_inverse=True)
        sizes = list_tile_sizes(self.layer, distinct, "NKPQ")
        n, k, p, q = sizes.size.T
        depth = distinct[:, C]
        channels = -(-self.layer.C // depth)
        end = self.layer.C - (channels - 1) * depth
        cases = (
            (end, 1, 1, channels == 1), (depth, 1, 0, channels > 1),
            (depth, 0, 0, np.maximum(channels - 2, 0)), (end, 0, 1, channels > 1),
        )  # fmt: skip
        total = [np.zeros(len(distinct), np.int64) for _ in Counts._fields]
        for deep, first, last, times in cases:
            many = times[sizes.owner]
            there = np.flatnonzero(many)
            flags = (np.full(len(there), flag, np.int64) for flag in (first, last))
            found = self.count_group((n * p * q)[there], k[there], deep[sizes.owner[there]], *flags)
            for sums, one in zip(total, found, strict=True):
                np.add.at(sums, sizes.owner[there], one * (sizes.count * many)[there])
        return Counts(*(self.layer.G * sums[back.ravel()] for sums in total))

    def sum_tiles(self, tiles: Int64) -> Totals:
        """Return sums over all tiles."""
        found = self._sum_counts(tiles)
        writes = self.layer.out_elements * count_tiles(self.layer, tiles)[:, C]
        psums = (2 * writes - self.layer.out_elements) * self.arch.shell.psum_bits
        return Totals(found.busy, found.w_bits, found.a_bits, psums)

    def count_actions(self, mapping: Mapping) -> tuple[Action, ...]:
        """Return products, instructions fetched, vector registers read (three operands) and written, accesses of the caches."""
        arch, psum = self.arch, self.arch.shell.psum_bits
        tiles = np.array([mapping.tile], np.int64)
        found = [int(one[0]) for one in self._sum_counts(tiles)]
        counts = dict(zip(Counts._fields, found, strict=True))
        outputs, moved = self.layer.out_elements * psum, int(self.sum_tiles(tiles).psum_bits[0])
        vector = counts["vector"] * arch.vector_bits
        return (
            *self._list_products(),
            Action(component="icache", verb="read", count=counts["instructions"] * INSTRUCTION_BITS),
            Action(component="rf", verb="read", count=3 * vector),
            Action(component="rf", verb="write", count=vector),
            Action(component="wbuf", verb="read", count=counts["w_bits"]),
            Action(component="ibuf", verb="read", count=counts["a_bits"]),
            Action(component="l1", verb="read", count=counts["l1_bits"]),
            Action(component="l1", verb="write", count=counts["packed_bits"]),
            Action(component="obuf", verb="write", count=(moved + outputs) // 2),
            Action(component="obuf", verb="read", count=(moved - outputs) // 2),
        )

    def _list_products(self) -> tuple[Action, ...]:
        bits = (BYTE_BITS, BYTE_BITS, LANE_BITS)
        return (Action(component="mac", verb="mac", count=self.layer.macs, bits=bits),)

    def peak_macs_per_cycle(self) -> float:
        """Return the products a cycle of all vector pipes."""
        return float(self.arch.vector_pipes * self.arch.lanes * self.arch.step)


class Float32Datapath(SimdDatapath):
    """One layer on the core, in float32: weights and activations take 32 bits each."""

    def weight_tile_bits(self, boxes: Boxes) -> Int64:
        """Return the stored bits of the weights of each tile."""
        size = boxes.size
        return np.asarray(size[:, G] * size[:, K] * size[:, C] * self.window * LANE_BITS)

    def sum_weight_tiles(self, tiles: Int64, align: int) -> tuple[Int64, Int64]:
        """Return moved bits of all weight tiles, each once and aligned, and of the first, for each candidate."""
        layer, unit = self.layer, self.window * LANE_BITS

        def aligned(count: Int64) -> Int64:
            return np.asarray(-(-count * unit // align) * align)

        total = sum_over_sizes(layer, tiles, "GKC", lambda g, k, c: aligned(g * k * c))
        return total, aligned(tiles[:, G] * tiles[:, K] * tiles[:, C])

    def weight_storage_bits(self) -> int:
        """Return the stored bits of all weights of the layer."""
        return self.layer.weights * LANE_BITS

    def _list_products(self) -> tuple[Action, ...]:
        return tuple(
            Action(component="mac", verb=verb, count=self.layer.macs, bits=(LANE_BITS,))
            for verb in ("fp_mult", "fp_add")
        )

    def notes(self) -> tuple[str, ...]:
        """Return what a reader of this layer's figures should know."""
        return ("float32: 32 bits a weight and activation, whatever the policy says",)
