"""The SmartDeal engine on one layer: cycles from real tensors.

The machine (SmartExchange, ISCA 2020; SmartDeal, arXiv 2101.01163)
-------------------------------------------------------------------
``slices`` x ``lines`` x ``macs`` bit-serial cells. A *row* is the unit of work: S weights of one filter, multiplied with S
activations for each of ``macs`` neighbouring output pixels of one output row (a *pixel group*; the last of a row may be ragged).
A row is a kernel row of one channel (S = kernel width), or three channels of a 1x1 or FC filter (S = 3; the filter's last row
is padded with zero weights, which take their cycle like any other). The rows of a filter, in storage order (see
`hwsim.quant.decompose_plan`), are cut into *passes*: a basis slice, or as much of it as the line stores hold
(``lines * line_rows`` rows); layers without decomposition in whole channels. Row i of a pass runs on line i modulo ``lines``.
All slices see the same rows of activations, each with the weights of its own filter.

- Cell: a multiplication takes one cycle for each nonzero radix-4 Booth digit of the activation (zero point subtracted),
  at least one. The product is added to the cell's accumulator; a cell keeps its output pixel until all passes are through.
- Line: its cells take the weights of a row together. **They wait for the slowest cell at each weight.**
- Index selector: a line skips a row, at no cost, when its coefficients are all zero or the row's activations are all zero
  (for all pixels of the group). It knows both flags of all rows of a pass one pass ahead: those of the activations are formed
  as ``ibuf`` is written and kept beside it. A line picks its next row among at most ``line_rows`` pairs of flags.
- Rebuild engines: one rebuilds the line's next row, S weights, one coefficient a cycle, while the other holds the weights that
  feed the cells. The next row may be the first of the next pass, not of a later one. S cycles are always hidden: behind a
  running row, which takes at least S cycles; behind the current pass where the line has no row in it, because **a pass takes at
  least S cycles** (one, where nothing is rebuilt); ahead of a tile's first pass behind the fill, at least S cycles as well.
  Plain 8-bit weights pass by the engines.
- **All lines of all slices wait for the slowest at the end of a pass**, and for the line stores' other banks to hold the
  next pass, which they begin to take as the current one begins. A line store takes one row with a nonzero activation a cycle.
- After the last pass of a pixel group the accumulators of all cells are copied. Each slice adds the copies of its lines (an
  adder tree, ceil(log2 lines) stages) and hands one pixel a cycle to ``obuf`` while the next group runs: **a pixel group takes at
  least ``macs`` cycles**, ragged or not.

Within a tile: blocks of ``slices`` filters outermost, then images, output rows, pixel groups, passes. ``fill`` is the fill of the
first pass's line stores and the rebuilding of its first rows, ``tail`` the adder tree and the last group's results. Tiles
begin at multiples of `SmartDealDatapath.quantum`; one that does not is timed as the whole blocks and groups that it touches.

Layers with one output pixel (FC, squeeze-excite; images are the pixels of a gemm): a line is cut into ``clusters`` (no more than
it has cells), each with one of the two rebuild engines, so rebuilding is no longer hidden: a row takes S cycles more, neither
pass nor fill has a least of S, and ``clusters * lines`` rows run at once. Clusters stand for lines in all of the above: each
takes a row a cycle into its part of the line store, and the adder tree has ``clusters * lines`` leaves.

Depthwise layers (one filter a channel; with several the layer is grouped): a slice takes one channel, ``copies`` neighbouring
pixel groups of an output row at once: floor(lines / R), but at least one and no more than the row has. Row r of copy j runs
on line j R + r modulo ``lines``. Channels are not shared, so a line store takes the rows of all slices one after the other: a pass
takes at least as many cycles as its fullest line has rows of all channels. The copies' results leave one after the other, in
at least ``copies * macs`` cycles. (The paper's own arrangement is known in outline only: unverified.)

Not modelled: contention for ``wbuf`` banks while coefficients are fetched (each slice has its own bank) and for ``ibuf`` banks
while line stores are filled (each line has its own); rows wider than a line store's register; the cycle in which a basis is
exchanged (its register file has two banks).
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hwsim.archs.smartdeal import kernel_rows, pack
from hwsim.archs.smartdeal.rows import RowTable, list_rows
from hwsim.archs.smartdeal.storage import Storage, measure_storage
from hwsim.core.actions import Action
from hwsim.core.bits import Bits
from hwsim.core.datapath import Datapath, ExecTimes, LayerData, Totals, Workload, count_tiles
from hwsim.core.mapping import Boxes, C, G, Int64, K, Mapping, N, P, Q
from hwsim.quant.decompose import Decomposed

if TYPE_CHECKING:
    from hwsim.archs.smartdeal.spec import SmartDeal
    from hwsim.core.tensors import Array

COEFFICIENT_BITS, BASIS_ELEMENT_BITS = 4, 8
LOST = 0.5
"""Relative reconstruction error above which a note says that the threshold does not fit the layer."""


class SmartDealDatapath(Datapath):
    """One layer on the SmartDeal engine; measures its passes once, on construction."""

    def __init__(self, workload: Workload, arch: SmartDeal, data: LayerData) -> None:
        super().__init__(workload)
        self.arch = arch
        self.codec: Decomposed | None = data.codec
        layer = self.layer
        self.depthwise = layer.is_depthwise and layer.K == 1
        columns = layer.N if layer.op == "gemm" else layer.Q
        self.single_pixel = layer.P * columns == 1 and not self.depthwise
        self.lines = arch.lines * (min(arch.clusters, arch.macs) if self.single_pixel else 1)
        self.rows: RowTable = list_rows(layer, self.codec, arch)
        self.copies = max(1, min(arch.lines // layer.R, -(-columns // arch.macs))) if self.depthwise else 1
        self.rebuild = 0 if self.single_pixel else self.rows.basis
        self._measure(np.asarray(data.activation), data.zero_point)

    def _measure(self, activation: np.ndarray, zero_point: int) -> None:
        """Count Booth digits and zero rows; fills the cycles of every pass."""
        layer, arch = self.layer, self.arch
        x = activation.astype(np.int16) - np.int16(zero_point)
        self._digest = hashlib.blake2b(np.ascontiguousarray(x).tobytes(), digest_size=12)
        self._digest.update(self.rows.active.tobytes())
        images, out_rows, columns = layer.N, layer.P, layer.Q
        if layer.op == "gemm":  # images are the pixels of one output row
            x = x.reshape(1, layer.N, layer.G * layer.C, 1).transpose(0, 2, 3, 1)
            images, out_rows, columns = 1, 1, layer.N
        geometry = np.array(
            (out_rows, columns, *layer.stride, *layer.padding[:2], *layer.dilation, self.rows.width, arch.macs,
             self.rows.width_elements),
            np.int64,
        )  # fmt: skip
        digits = np.zeros(1024, np.uint8)
        kernel_rows.count_digits(digits)
        self.per_row = -(-columns // arch.macs)
        groups = images * out_rows * self.per_row
        self.sums = np.zeros(5, np.int64)
        if self.depthwise:
            self._measure_depthwise(np.ascontiguousarray(x), digits, geometry, groups)
            return
        extra = self.rows.basis if self.single_pixel else 0
        passes = len(self.rows.pass_start) - 1
        blocks = -(-layer.K // arch.slices)
        self.compute = np.zeros((layer.G * blocks, groups, passes), np.int32)
        self.load = np.zeros((layer.G, groups, passes), np.int32)
        shape = (len(self.rows.channel), groups)
        time, work = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        for g in range(layer.G):
            part = np.ascontiguousarray(x[:, g * layer.C : (g + 1) * layer.C])
            kernel_rows.measure_rows(
                part, digits, self.rows.channel, self.rows.count, self.rows.kernel, geometry, time, work
            )
            active = np.ascontiguousarray(self.rows.active[g * layer.K : (g + 1) * layer.K])
            kernel_rows.measure_passes(
                time, work, active, self.rows.pass_start, arch.slices, self.lines, extra, max(1, self.rebuild),
                self.compute[g * blocks : (g + 1) * blocks], self.load[g], self.sums,
            )  # fmt: skip
        self.load = np.repeat(self.load, blocks, axis=0) if layer.G > 1 else self.load

    def _measure_depthwise(self, x: np.ndarray, digits: np.ndarray, geometry: Int64, groups: int) -> None:
        layer, arch = self.layer, self.arch
        rows = layer.R
        channel = np.repeat(np.arange(layer.G, dtype=np.int64), rows)
        kernel = np.tile(np.arange(rows, dtype=np.int64), layer.G)
        time, work = np.zeros((len(channel), groups), np.int32), np.zeros((len(channel), groups), np.int32)
        kernel_rows.measure_rows(x, digits, channel, np.ones_like(channel), kernel, geometry, time, work)
        wide = groups // self.per_row * -(-self.per_row // self.copies)
        passes = (-(-layer.G // arch.slices), wide, len(self.rows.pass_start) - 1)
        self.compute, self.load = np.zeros(passes, np.int32), np.zeros(passes, np.int32)
        kernel_rows.measure_depthwise(
            time, work, self.rows.pass_start, self.per_row, arch.slices, arch.lines, self.copies,
            self.compute, self.load, self.sums,
        )  # fmt: skip
        self.per_row = -(-self.per_row // self.copies)

    @cached_property
    def storage(self) -> Storage:
        """Stored bits of the weights, by filter and pass."""
        return measure_storage(self.layer, self.codec, self.rows)

    def fingerprint(self) -> str:
        """Return a digest of activations and zero rows."""
        return self._digest.hexdigest()

    def quantum(self) -> tuple[int, int, int, int, int, int]:
        """Return filters by slices, channels by passes, pixels by groups."""
        pixels = self.arch.macs * self.copies
        if self.layer.is_depthwise:
            return (1, self.arch.slices, 1, 1, 1, pixels)
        gemm = self.layer.op == "gemm"
        return (pixels if gemm else 1, 1, self.arch.slices, self.rows.pass_channels, 1, 1 if gemm else pixels)

    def exec_times(self, boxes: Boxes) -> ExecTimes:
        """Return the times of tiles."""
        blocks, passes, groups = self._locate(boxes)
        busy, fill = np.zeros(len(boxes), np.int64), np.zeros(len(boxes), np.int64)
        least = self.arch.macs * self.copies
        kernel_rows.time_tiles(self.compute, self.load, blocks, groups, passes, least, self.rebuild, busy, fill)
        tail = least + (self.lines - 1).bit_length()
        return ExecTimes(busy, fill, np.full(len(boxes), tail, np.int64))

    def _locate(self, boxes: Boxes) -> tuple[Int64, Int64, Int64]:
        """Return filter blocks, passes and pixel groups of boxes, as the kernel takes them."""
        lo, hi, layer = boxes.lo, boxes.hi, self.layer
        slices, pixels = self.arch.slices, self.arch.macs * self.copies
        groups = np.zeros((len(boxes), 8), np.int64)
        if self.depthwise:
            blocks = np.stack([lo[:, G] // slices, -(-hi[:, G] // slices)], axis=1)
            passes = np.tile(np.array([0, len(self.rows.pass_start) - 1], np.int64), (len(boxes), 1))
        else:
            per_group = -(-layer.K // slices)
            first = lo[:, G] * per_group + lo[:, K] // slices
            whole = (hi[:, G] - 1) * per_group + -(-hi[:, K] // slices)
            blocks = np.stack([first, whole], axis=1)
            step = self.rows.pass_channels
            last = np.minimum(-(-hi[:, C] // step) * self.rows.passes_per_step, len(self.rows.pass_start) - 1)
            passes = np.stack([lo[:, C] // step * self.rows.passes_per_step, last], axis=1)
        if layer.op == "gemm":
            groups[:, 1], groups[:, 3] = 1, 1
            groups[:, 4], groups[:, 5] = lo[:, N] // pixels, -(-hi[:, N] // pixels)
            groups[:, 6] = 1
        else:
            groups[:, 0], groups[:, 1] = lo[:, N], hi[:, N]
            groups[:, 2], groups[:, 3] = lo[:, P], hi[:, P]
            groups[:, 4], groups[:, 5] = lo[:, Q] // pixels, -(-hi[:, Q] // pixels)
            groups[:, 6] = layer.P
        groups[:, 7] = self.per_row
        return np.ascontiguousarray(blocks, np.int64), np.ascontiguousarray(passes, np.int64), groups

    def sum_tiles(self, tiles: Int64) -> Totals:
        """Return sums over all tiles; ``busy`` leaves out the fills of the tiles, so it is a lower bound."""
        layer, psum = self.layer, self.arch.shell.psum_bits
        ones = np.ones(len(tiles), np.int64)
        writes = layer.out_elements * (count_tiles(layer, tiles)[:, C] if not self.depthwise else ones)
        return Totals(
            int(self.compute.sum(dtype=np.int64)) * ones,
            self._weight_read_bits() * ones,
            self._input_read_bits() * ones,
            (2 * writes - layer.out_elements) * psum,
        )

    def _weight_read_bits(self) -> int:
        """Bits read from the weight buffers: the weights of each multiplied row; where they are rebuilt, an index bit of every
        row, and the basis for each pass of a filter with work.
        """
        if not self.rows.decomposed:
            return int(self.sums[1]) * self.rows.width_elements * BASIS_ELEMENT_BITS
        basis_bits = BASIS_ELEMENT_BITS * self.rows.basis**2
        return (
            int(self.sums[1]) * self.rows.basis * COEFFICIENT_BITS + int(self.sums[3]) + int(self.sums[4]) * basis_bits
        )

    def _input_read_bits(self) -> int:
        """Bits read from ``ibuf`` into the line stores, once for all slices: whole rows, but of one pixel where there is one."""
        layer, rows = self.layer, self.rows
        pixels = 1 if self.single_pixel else self.arch.macs
        if rows.by_kernel:
            segment = (pixels - 1) * layer.stride[1] + (rows.width - 1) * layer.dilation[1] + 1
        else:
            segment = rows.width_elements * pixels
        blocks = 1 if self.depthwise else -(-layer.K // self.arch.slices)
        return int(self.sums[2]) * segment * self.workload.fmt.a_bits * blocks

    def count_actions(self, mapping: Mapping) -> tuple[Action, ...]:
        """Return Booth digits, rebuilds, adder trees and buffer accesses."""
        arch, layer, psum = self.arch, self.layer, self.arch.shell.psum_bits
        sums = self.sum_tiles(np.array([mapping.tile], np.int64))
        outputs, moved = layer.out_elements * psum, int(sums.psum_bits[0])
        writes = (moved + outputs) // 2
        ibuf = int(sums.ibuf_read_bits[0])
        copies = 1 if self.depthwise else arch.slices
        leaves = min(layer.R, self.lines) if self.depthwise else self.lines
        actions = [
            Action(component="booth", verb="booth_digit", count=int(self.sums[0]), bits=(8, psum)),
            Action(component="adder_tree", verb="add", count=writes // psum * (leaves - 1), bits=(psum,)),
            Action(component="rf", verb="write", count=ibuf * copies),
            Action(component="wbuf", verb="read", count=int(sums.wbuf_read_bits[0])),
            Action(component="ibuf", verb="read", count=ibuf),
            Action(component="obuf", verb="write", count=writes),
            Action(component="obuf", verb="read", count=(moved - outputs) // 2),
        ]
        if self.rows.decomposed:
            rebuilt = int(self.sums[1]) * self.rows.basis**2
            actions.insert(1, Action(component="rebuild", verb="shift_add", count=rebuilt, bits=(16,)))
        return tuple(action for action in actions if action.count)

    def weight_tile_bits(self, boxes: Boxes) -> Int64:
        """Return the stored bits of the weights of each tile: coefficients, bases and indices."""
        _, passes, _ = self._locate(boxes)
        return self.storage.sum_boxes(boxes, passes)

    def largest_weight_tile(self, tiles: Int64) -> Int64:
        """Return the stored bits of the largest weight tile of each candidate."""
        return self.storage.measure_tiles(self, tiles, 1)[0]

    def sum_weight_tiles(self, tiles: Int64, align: int) -> tuple[Int64, Int64]:
        """Return moved bits of all weight tiles, each once and aligned, and of the first, for each candidate."""
        _, total, first = self.storage.measure_tiles(self, tiles, align)
        return total, first

    def pack_weights(self, weight: Array, lo: Int64, hi: Int64) -> Bits:
        """Return the stored bits of one weight tile (`hwsim.archs.smartdeal.pack`).

        Raises
        ------
        ValueError
            ``weight`` is not what the codec rebuilds.
        """
        cut = pack.cut_tile(self.layer, self.rows.pass_channels, lo, hi)
        if not self.rows.decomposed:
            return pack.pack_dense(weight, self.layer, cut)
        assert self.codec is not None
        if not np.array_equal(np.ravel(weight), self.codec.rebuilt_int8.ravel()):
            raise ValueError(f"layer {self.layer.name}: the weights are not those that its decomposition rebuilds")
        return pack.pack_tile(self.codec, cut)

    def unpack_weights(self, bits: Bits, lo: Int64, hi: Int64, signed: bool) -> Int64:
        """Return the integers that the rebuild engines make of one weight tile: int64 ``[g, k, c, R, S]``."""
        cut = pack.cut_tile(self.layer, self.rows.pass_channels, lo, hi)
        if self.rows.decomposed:
            assert self.codec is not None
            plan = self.codec.plan
            rows = [plan.count_rows(step) for step in range(plan.slices)]
            found = pack.unpack_tile(bits, self.layer, rows, cut)
        else:
            found = pack.unpack_dense(bits, self.layer, cut)
        return found.reshape(int(hi[G] - lo[G]), -1, *found.shape[1:])

    def weight_storage_bits(self) -> int:
        """Return the stored bits of the layer's weights."""
        return self.storage.total_bits

    def peak_macs_per_cycle(self) -> float:
        """Return the number of cells: one multiplication a cycle each when every activation has one Booth digit."""
        return float(self.arch.slices * self.arch.lines * self.arch.macs)

    def notes(self) -> tuple[str, ...]:
        """Return what the decomposition did to this layer."""
        if self.codec is None:
            return ("weights: dense 8 bits by policy",)
        if self.codec.plan.is_dense:
            return (f"weights: dense 8 bits, {self.codec.plan.reason}",)
        found = (
            f"weights: decomposed, {self.codec.compression_vs_int8:.2f}x smaller than 8 bits, "
            f"reconstruction error {self.codec.integer_error:.3f}, zero rows {self.codec.zero_row_fraction:.1%}"
        )
        if self.codec.integer_error > LOST:
            found += (
                f": most of this layer is below the threshold, --set threshold={self.arch.threshold / 10:g} keeps more"
            )
        return (found,)
