"""The Bit-Pragmatic engine on one layer: cycles from real activations.

The machine (Albericio et al., Bit-Pragmatic Deep Neural Network Computing, MICRO 2017)
---------------------------------------------------------------------------------------
``filters`` x ``columns`` inner-product units on DaDianNao's frame. A *brick* is ``lanes`` neighbouring channels at one place of
the input; a *pallet* is ``columns`` neighbouring output pixels of one output row (the last of a row may be ragged), one on each
column of units. A *step* is one brick of weights of every filter, for one place (r, s) of the window: every column takes the
brick of activations under its own pixel, and all units of a row hold the same weights.

A column takes its activations in series, term by term from the lowest position up; a term is a nonzero digit with its position
and sign. In a cycle every lane whose lowest term left lies less than 2^L positions above the lowest of all lanes of the column
(L = ``first_shift_bits``) gives it to all units of the column: there the weight of the lane is shifted by the difference
(first stage), the lanes are added in a tree, the tree's sum is shifted by the common position (second stage) and added to the
unit's sum. Other lanes wait. A brick of zeros takes one cycle.

**All columns wait for the slowest at the end of every step** (the paper's synchronisation by pallets); the next step's weights
and bricks are read meanwhile. Padding is a brick of zeros.

Loops of a tile, outermost first: groups, blocks of ``filters``, images, output rows, pallets, then the steps: bricks, r, s.
Images are the pixels of a fully connected layer. After the last step of a pallet the sums of all units are copied, and leave to
``obuf`` one pixel (a word of all filters) a cycle while the next pallet runs: **a pallet takes at least ``columns`` cycles**,
ragged or not. ``tail`` is the last pallet's way: ``columns`` cycles, the levels of the adder tree, `PIPELINE_CYCLES`.

Tiles begin at multiples of `BitPragmaticDatapath.quantum`; one that does not is timed as the whole bricks and pallets that it
touches. Fewer bits of an activation are fewer positions, not always fewer terms: 7 has three ones, 8 one.

Not modelled: the generators that turn activations into terms (their stages are part of the pipeline, their energy has no price),
conflicts of columns in the banks of ``ibuf``.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from hwsim.archs.bit_pragmatic import kernel_bricks
from hwsim.core.actions import Action
from hwsim.core.datapath import Datapath, ExecTimes, LayerData, Totals, Workload, list_buffer_accesses
from hwsim.core.mapping import Boxes, C, G, Int64, K, Mapping, N, P, Q
from hwsim.core.psums import count_word_slots, list_word_places
from hwsim.core.tile_sums import count_tiles, sum_over_tiles

if TYPE_CHECKING:
    from hwsim.archs.bit_pragmatic.spec import BitPragmatic

PIPELINE_CYCLES = 9
"""Registers of a step besides the adder tree's: addresses, both buffers' words, terms found, first shift, second shift, sum, copy,
`obuf` read and written; no RTL yet (unverified)."""


class BitPragmaticDatapath(Datapath):
    """One layer on the Bit-Pragmatic engine; measures its pallets once, on construction."""

    def __init__(self, workload: Workload, arch: BitPragmatic, data: LayerData) -> None:
        super().__init__(workload)
        self.arch = arch
        layer = self.layer
        self.gemm = layer.op == "gemm"
        self.columns = layer.N if self.gemm else layer.Q
        self.window = layer.R * layer.S
        self._measure(np.asarray(data.activation), data.zero_point)

    def _measure(self, activation: np.ndarray, zero_point: int) -> None:
        """Count the terms of bricks; fills the cycles of every pallet up to each brick."""
        layer, arch = self.layer, self.arch
        x = np.ascontiguousarray(activation.astype(np.int32) - np.int32(zero_point))
        self._digest = hashlib.blake2b(x.tobytes(), digest_size=12).hexdigest()
        x = x.reshape(layer.N, layer.G, layer.C, layer.H, layer.W)
        images, out_rows = layer.N, layer.P
        if self.gemm:  # images are the pixels of one output row
            x = np.ascontiguousarray(x.reshape(1, layer.N, layer.C, 1).transpose(0, 2, 3, 1)[:, None])
            images, out_rows = 1, 1
        bricks, pallets = -(-layer.C // arch.lanes), -(-self.columns // arch.columns)
        shape = (images, layer.G, bricks, *x.shape[3:])
        cycles, terms = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        kernel_bricks.measure_bricks(
            x, arch.lanes, 1 << arch.first_shift_bits, int(arch.terms == "signed-digits"), cycles, terms
        )
        geometry = (
            out_rows,
            self.columns,
            layer.R,
            layer.S,
            *layer.stride,
            *layer.padding[:2],
            *layer.dilation,
            arch.columns,
        )
        self.prefix = np.zeros((images, layer.G, out_rows, pallets, bricks + 1), np.int64)
        sums = np.zeros(2, np.int64)
        kernel_bricks.measure_pallets(cycles, terms, np.array(geometry, np.int64), self.prefix, sums)
        self.terms, self.column_cycles = int(sums[0]), int(sums[1])
        self.pallets = images * out_rows * pallets

    def fingerprint(self) -> str:
        """Return a digest of the activations."""
        return self._digest

    def quantum(self) -> tuple[int, int, int, int, int, int]:
        """Return filters by the engine's, channels by bricks, pixels by pallets."""
        images, pixels = (self.arch.columns, 1) if self.gemm else (1, self.arch.columns)
        return (images, 1, self.arch.filters, self.arch.lanes, 1, pixels)

    def exec_times(self, boxes: Boxes) -> ExecTimes:
        """Return the times of tiles."""
        lo, hi, arch = boxes.lo, boxes.hi, self.arch
        spans = np.zeros((len(boxes), 10), np.int64)
        spans[:, 2], spans[:, 3] = lo[:, G], hi[:, G]
        along = N if self.gemm else Q
        spans[:, 6], spans[:, 7] = lo[:, along] // arch.columns, -(-hi[:, along] // arch.columns)
        spans[:, 8], spans[:, 9] = lo[:, C] // arch.lanes, -(-hi[:, C] // arch.lanes)
        if self.gemm:
            spans[:, 1] = spans[:, 5] = 1
        else:
            spans[:, 0], spans[:, 1], spans[:, 4], spans[:, 5] = lo[:, N], hi[:, N], lo[:, P], hi[:, P]
        blocks = np.ascontiguousarray(-(-boxes.size[:, K] // arch.filters))
        busy = np.zeros(len(boxes), np.int64)
        kernel_bricks.time_tiles(self.prefix, spans, blocks, arch.columns, busy)
        tail = arch.columns + (arch.lanes - 1).bit_length() + PIPELINE_CYCLES
        return ExecTimes(busy, np.zeros(len(boxes), np.int64), np.full(len(boxes), tail, np.int64))

    def sum_tiles(self, tiles: Int64) -> Totals:
        """Return sums over all tiles."""
        lay, fmt, arch, ones = self.layer, self.workload.fmt, self.arch, np.ones(len(tiles), np.int64)
        cuts, where = np.unique(-(-tiles[:, C] // arch.lanes), return_inverse=True)
        once = np.zeros(len(cuts), np.int64)
        kernel_bricks.sum_cuts(self.prefix, cuts, arch.columns, once)
        blocks = sum_over_tiles(lay.K, tiles[:, K], lambda k: -(-k // arch.filters))
        writes = lay.out_elements * count_tiles(lay, tiles)[:, C]
        weights = self.pallets * lay.weights * fmt.w_bits
        activations = lay.N * lay.P * lay.Q * lay.G * lay.C * self.window * fmt.a_bits
        return Totals(
            np.asarray(once[where.ravel()] * blocks, np.int64),
            np.asarray(weights * ones, np.int64),
            np.asarray(activations * blocks, np.int64),
            np.asarray((2 * writes - lay.out_elements) * arch.shell.psum_bits, np.int64),
        )

    def count_actions(self, mapping: Mapping) -> tuple[Action, ...]:
        """Return terms shifted and added in trees, sums shifted and added, accesses of buffers and of the weights held."""
        lay, arch, psum = self.layer, self.arch, self.arch.shell.psum_bits
        sums = self.sum_tiles(np.array([mapping.tile], np.int64))
        terms, held = self.terms * lay.K, int(sums.wbuf_read_bits[0])
        shifted = (self.workload.fmt.w_bits + arch.shifted_bits - arch.bits,)
        actions = (
            Action(component="units", verb="shift", count=terms, bits=shifted),
            Action(component="units", verb="add", count=terms, bits=shifted),
            Action(component="sums", verb="shift_add", count=self.column_cycles * lay.K, bits=(psum,)),
            Action(component="rf", verb="write", count=held),
            *list_buffer_accesses(sums, lay.out_elements, psum),
        )
        return tuple(action for action in actions if action.count)

    def psum_slots(self, size: Int64) -> Int64:
        """Return the accumulators of whole words, one of all filters."""
        return count_word_slots(size, self.arch.filters)

    def psum_places(self, size: Int64) -> Int64:
        """Return where elements n, g, k, p, q stand: by group, block of filters, pixel."""
        return list_word_places(size, self.arch.filters)

    def peak_macs_per_cycle(self) -> float:
        """Return the serial multipliers: a product a cycle each where every activation has one term."""
        return float(self.arch.filters * self.arch.columns * self.arch.lanes)

    def notes(self) -> tuple[str, ...]:
        """Return what bounds this layer: terms, and how long columns wait for each other."""
        elements = self.layer.N * self.layer.P * self.layer.Q * self.layer.G * self.layer.C * self.window
        return (
            f"{self.terms / elements:.2f} terms an activation, in {self.terms / max(1, self.column_cycles):.2f} a column's cycle",
        )
