"""The SmartDeal engine on one layer: cycles from real tensors.

The machine (SmartExchange, ISCA 2020; SmartDeal, arXiv 2101.01163), as `accel_rtl.smartdeal` builds it
-------------------------------------------------------------------------------------------------------
``slices`` x ``lines`` x ``macs`` bit-serial cells. A *row* is the unit of work: S weights of one filter, multiplied with S
activations for each of ``macs`` neighbouring output pixels of one output row (a *pixel group*; the last of a row may be ragged).
A row is a kernel row of one channel (S = kernel width), or three channels of a 1x1 or FC filter (S = 3; the filter's last row
is padded with zero weights, which take their cycle like any other). The rows of a filter, in storage order (see
`hwsim.quant.decompose_plan`), make *steps*: a slice of one basis, or whole channels of dense weights that the line stores hold.
A step is cut into *passes* of at most ``lines * (line_rows // ceil(S / 3))`` rows, an entry of a line store being three weights.
Row i of a pass runs on line i modulo ``lines``. All slices see the same rows of activations, each with its own filter's weights.

Loops of a tile: groups, blocks of ``slices`` filters, images, output rows, pixel groups, passes. Every pass goes through two
stages, *prepare* and *run*; both have a bank of all stores, so the next pass is prepared while one runs:

    tile = prepare of its first pass (``fill``) + sum of max(run of a pass, prepare of the next) + run of the last

- Prepare takes the longer of two, which go on side by side. *Load*: every line takes its rows from its copy of ``ibuf`` into the
  line stores, ceil(rows / lines) rows, a cycle each (kernel rows of at most three columns without dilation at stride 1 or 2), a
  cycle a weight, or one a weight and pixel (`timing.count_load_cycles`); and `timing.LOAD_PIPELINE`. *Decode*: every slice reads
  its stream from its memory of ``wbuf`` into its row stores, ``lines`` rows a cycle, three weights a cycle where they are
  dense, 4 cycles before them for flag and basis on the first pass of a step of a decomposed layer; and
  `timing.DECODE_PIPELINE`. Beats narrower than what a cycle takes: `timing.count_decode`. Both depend on shapes alone: rows of
  zeros are loaded and decoded like others, and each pixel group does all of it again.
- Run: a line skips a row, at no cost, when its coefficients are all zero or the row's activations are all zero (for all pixels of
  the group). A cell takes one cycle for each nonzero radix-4 Booth digit of the activation (zero point subtracted), at
  least one. **The cells of a line wait for the slowest at each weight, lines and slices for the slowest at the end of the
  pass**; and `timing.RUN_PIPELINE`. Two rebuild engines a line: one makes the line's next row, S weights, one coefficient a
  cycle, while the other holds the weights that feed the cells. A row runs at least S cycles, so only the first row's rebuilding
  is not hidden behind another's run: it is part of the pipeline. Dense weights pass by the engines.
- After the last pass of a pixel group the accumulators of all cells are copied. Each slice adds the copies of its lines (an
  adder tree, ceil(log2 lines) stages) and hands one pixel a cycle to ``obuf`` while the next group runs: **a pixel group takes at
  least ``macs`` cycles**, ragged or not. ``tail`` is the last group's results: ``macs`` cycles, the stages of the adder tree,
  `timing.RESULT_PIPELINE`.

Tiles begin at multiples of `SmartDealDatapath.quantum`; one that does not is timed as the whole blocks and groups that it touches.

The paper's arrangements (simulated only)
-----------------------------------------
``clusters=2``, layers with one output pixel (FC, squeeze-excite; images are the pixels of a gemm): a line is cut into ``clusters``
(no more than it has cells), each with one of the two rebuild engines, so rebuilding is not hidden: a row takes S cycles
more. Clusters stand for lines in all of the above; together they hold as many rows as the line did.

``depthwise=spread``, depthwise layers with one filter a channel: a slice takes one channel, channels stand for filters of one
group in storage and accumulators, and ``copies`` neighbouring pixel groups of an output row run at once: floor(lines / R), but at
least one and no more than the row has. Row r of copy j runs on line j R + r modulo ``lines``. Channels are not shared, so a
line store takes the rows of all slices one after the other: load is ceil(R / lines) rows for each channel of the block. The
copies' results leave one after the other, in at least ``copies * macs`` cycles. (Known in outline only: unverified.)

Not modelled: conflicts of lines in the paper's banks of ``ibuf`` (the machine that can be built has a copy a line).
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hwsim.archs.smartdeal import kernel_rows, pack, timing
from hwsim.archs.smartdeal.rows import RowTable, list_rows
from hwsim.archs.smartdeal.schedule import list_passes
from hwsim.archs.smartdeal.spec import ACTIVATION_BITS
from hwsim.archs.smartdeal.storage import Storage, measure_storage
from hwsim.core.actions import Action
from hwsim.core.bits import Bits
from hwsim.core.datapath import Datapath, ExecTimes, LayerData, Totals, Workload, list_buffer_accesses
from hwsim.core.mapping import Boxes, C, G, Int64, K, Mapping, N, P, Q
from hwsim.core.tile_sums import count_tiles
from hwsim.quant.decompose import Decomposed

if TYPE_CHECKING:
    from hwsim.archs.smartdeal.spec import SmartDeal
    from hwsim.core.tensors import Array

LOST = 0.5
"""Relative reconstruction error above which a note says that the threshold does not fit the layer."""


class SmartDealDatapath(Datapath):
    """One layer on the SmartDeal engine; measures its passes once, on construction."""

    def __init__(self, workload: Workload, arch: SmartDeal, data: LayerData) -> None:
        super().__init__(workload)
        self.arch = arch
        self.codec: Decomposed | None = data.codec
        layer = self.layer
        self.spread = arch.spreads(layer)
        self.columns = layer.N if layer.op == "gemm" else layer.Q
        single = layer.P * self.columns == 1 and not self.spread
        self.clusters = min(arch.clusters, arch.macs) if single else 1
        self.lines = arch.lines * self.clusters
        self.rows: RowTable = list_rows(layer, self.codec, arch)
        self.copies = max(1, min(arch.lines // layer.R, -(-self.columns // arch.macs))) if self.spread else 1
        self.least = arch.macs * self.copies
        self.prepare = self._count_prepare()
        self._measure(np.asarray(data.activation), data.zero_point)

    def _count_prepare(self) -> Int64:
        """Return the cycles to prepare every pass, int64 [blocks of channels, or 1, passes]."""
        rows, layer = self.rows, self.layer
        count = np.diff(rows.pass_start)
        load = -(-count // self.lines) * self._count_load_cycles()
        decode = timing.count_decode(
            count, rows.starts_step, self.lines, rows.width_elements, rows.decomposed, self.arch.memory.bits_per_cycle
        )
        channels = np.ones(1, np.int64)
        if self.spread:
            first = np.arange(0, layer.G, self.arch.slices)
            channels = np.minimum(first + self.arch.slices, layer.G) - first
        return np.ascontiguousarray(timing.count_prepare(load * channels[:, None], decode[None]), np.int64)

    def _count_load_cycles(self) -> int:
        """Return the cycles in which a line store takes a row."""
        rows, pixels = self.rows, min(self.arch.macs, self.columns)
        return timing.count_load_cycles(self.layer, rows.by_kernel, rows.width_elements, pixels)

    def _measure(self, activation: np.ndarray, zero_point: int) -> None:
        """Count Booth digits and zero rows; fills the cycles in which every pass multiplies."""
        layer, arch = self.layer, self.arch
        x = activation.astype(np.int16) - np.int16(zero_point)
        self._digest = hashlib.blake2b(np.ascontiguousarray(x).tobytes(), digest_size=12)
        self._digest.update(self.rows.active.tobytes())
        images, out_rows = layer.N, layer.P
        if layer.op == "gemm":  # images are the pixels of one output row
            x = x.reshape(1, layer.N, layer.G * layer.C, 1).transpose(0, 2, 3, 1)
            images, out_rows = 1, 1
        geometry = np.array(
            (out_rows, self.columns, *layer.stride, *layer.padding[:2], *layer.dilation, self.rows.width, arch.macs,
             self.rows.width_elements),
            np.int64,
        )  # fmt: skip
        digits = np.zeros(1024, np.uint8)
        kernel_rows.count_digits(digits)
        self.per_row = -(-self.columns // arch.macs)
        self.groups = images * out_rows * self.per_row
        self.sums = np.zeros(2, np.int64)
        if self.spread:
            self._measure_spread(np.ascontiguousarray(x), digits, geometry)
            return
        extra = self.rows.basis if self.clusters > 1 else 0
        blocks = -(-layer.K // arch.slices)
        self.compute = np.zeros((layer.G * blocks, self.groups, len(self.rows.starts_step)), np.int32)
        shape = (len(self.rows.channel), self.groups)
        time, work = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        for g in range(layer.G):
            part = np.ascontiguousarray(x[:, g * layer.C : (g + 1) * layer.C])
            kernel_rows.measure_rows(
                part, digits, self.rows.channel, self.rows.count, self.rows.kernel, geometry, time, work
            )
            active = np.ascontiguousarray(self.rows.active[g * layer.K : (g + 1) * layer.K])
            kernel_rows.measure_passes(
                time, work, active, self.rows.pass_start, arch.slices, self.lines, extra,
                self.compute[g * blocks : (g + 1) * blocks], self.sums,
            )  # fmt: skip

    def _measure_spread(self, x: np.ndarray, digits: np.ndarray, geometry: Int64) -> None:
        layer, arch = self.layer, self.arch
        rows = layer.R
        channel = np.repeat(np.arange(layer.G, dtype=np.int64), rows)
        kernel = np.tile(np.arange(rows, dtype=np.int64), layer.G)
        shape = (len(channel), self.groups)
        time, work = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        kernel_rows.measure_rows(x, digits, channel, np.ones_like(channel), kernel, geometry, time, work)
        wide_row = -(-self.per_row // self.copies)
        wide = self.groups // self.per_row * wide_row
        self.compute = np.zeros((len(self.prepare), wide, len(self.rows.starts_step)), np.int32)
        kernel_rows.measure_spread(
            time, work, self.rows.pass_start, self.per_row, arch.slices, arch.lines, self.copies,
            self.compute, self.sums,
        )  # fmt: skip
        self.per_row, self.groups = wide_row, wide

    @cached_property
    def storage(self) -> Storage:
        """Stored bits of the weights, by filter and pass."""
        return measure_storage(self.layer, self.codec, self.rows, self.arch)

    def fingerprint(self) -> str:
        """Return a digest of activations and zero rows."""
        return self._digest.hexdigest()

    def quantum(self) -> tuple[int, int, int, int, int, int]:
        """Return filters by slices, channels by steps, pixels by groups."""
        gemm = self.layer.op == "gemm"
        images, pixels = (self.least, 1) if gemm else (1, self.least)
        if self.spread:
            return (1, self.arch.slices, 1, 1, 1, pixels)
        return (images, 1, self.arch.slices, self.rows.pass_channels, 1, pixels)

    def exec_times(self, boxes: Boxes) -> ExecTimes:
        """Return the times of tiles."""
        blocks, passes, groups = self._locate(boxes)
        busy, fill = np.zeros(len(boxes), np.int64), np.zeros(len(boxes), np.int64)
        kernel_rows.time_tiles(
            self.compute, self.prepare, blocks, groups, passes, self.least, timing.RUN_PIPELINE, busy, fill
        )
        tail = self.least + (self.lines - 1).bit_length() + timing.RESULT_PIPELINE
        return ExecTimes(busy, fill, np.full(len(boxes), tail, np.int64))

    def list_passes(self, lo: Int64, hi: Int64) -> npt.NDArray[np.void]:
        """Return the passes of a tile in the order in which they run, a structured array of dtype `schedule.PASS`."""
        return list_passes(self, lo, hi)

    def _locate(self, boxes: Boxes) -> tuple[Int64, Int64, Int64]:
        """Return filter blocks, passes and pixel groups of boxes, as the kernel takes them."""
        lo, hi, layer = boxes.lo, boxes.hi, self.layer
        slices, pixels = self.arch.slices, self.least
        groups, blocks, passes = np.zeros((len(boxes), 8), np.int64), *np.zeros((2, len(boxes), 2), np.int64)
        if self.spread:
            blocks[:, 0], blocks[:, 1] = lo[:, G] // slices, -(-hi[:, G] // slices)
            passes[:, 1] = len(self.rows.starts_step)
        else:
            per_group, step = -(-layer.K // slices), self.rows.pass_channels
            blocks[:, 0] = lo[:, G] * per_group + lo[:, K] // slices
            blocks[:, 1] = (hi[:, G] - 1) * per_group + -(-hi[:, K] // slices)
            passes[:, 0] = lo[:, C] // step * self.rows.passes_per_step
            passes[:, 1] = np.minimum(-(-hi[:, C] // step) * self.rows.passes_per_step, len(self.rows.starts_step))
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
        return blocks, passes, groups

    @cached_property
    def _least_busy(self) -> Int64:
        """Cycles of all tiles together at least, by their number: see `timing.bound_busy`."""
        return timing.bound_busy(self.compute, self.prepare, self.rows.starts_step, self.least)

    def sum_tiles(self, tiles: Int64) -> Totals:
        """Return sums over all tiles; ``busy`` is a lower bound."""
        layer, psum = self.layer, self.arch.shell.psum_bits
        quantum = np.array(self.quantum(), np.int64)
        count = count_tiles(layer, -(-tiles // quantum) * quantum).prod(axis=1)
        ones = np.ones(len(tiles), np.int64)
        writes = layer.out_elements * (count_tiles(layer, tiles)[:, C] if not self.spread else ones)
        return Totals(
            self._least_busy[np.minimum(count, len(self._least_busy) - 1)],
            self._read_bits[0] * ones,
            self._read_bits[1] * ones,
            (2 * writes - layer.out_elements) * psum,
        )

    @cached_property
    def _read_bits(self) -> tuple[int, int]:
        """Bits read from ``wbuf``, where every pixel group decodes all of it, and from ``ibuf``."""
        return self.storage.total_bits * self.groups, self._row_reads() * self._row_bits()

    def _row_reads(self) -> int:
        """Rows read from ``ibuf`` into line stores: once for all slices, again for each pixel group and block of filters."""
        layer, rows = self.layer, len(self.rows.channel)
        if self.spread:
            return layer.G * rows * self.groups // self.per_row * -(-self.columns // self.arch.macs)
        return rows * self.groups * layer.G * -(-layer.K // self.arch.slices)

    def _row_bits(self) -> int:
        """Bits that a row reads: in each cycle those from its first to its last activation."""
        width, pixels, cycles = self.rows.width_elements, min(self.arch.macs, self.columns), self._count_load_cycles()
        elements = width * pixels  # one by one
        if cycles < elements:
            reach = (pixels - 1) * self.layer.stride[1] + 1
            elements = reach + width - 1 if cycles == 1 else reach * width
        return elements * self.workload.fmt.a_bits

    def count_actions(self, mapping: Mapping) -> tuple[Action, ...]:
        """Return Booth digits, rebuilds, adder trees, accesses of buffers and of line and row stores (``rf``)."""
        arch, layer, psum = self.arch, self.layer, self.arch.shell.psum_bits
        sums = self.sum_tiles(np.array([mapping.tile], np.int64))
        writes = (int(sums.psum_bits[0]) // psum + layer.out_elements) // 2
        leaves = min(layer.R, self.lines) if self.spread else self.lines
        segment = self.rows.width_elements * min(arch.macs, self.columns) * ACTIVATION_BITS
        stored = int(self.storage.row_bits.sum()) * self.groups
        multiplied = int(self.sums[1])
        actions = [
            Action(component="booth", verb="booth_digit", count=int(self.sums[0]), bits=(8, psum)),
            Action(component="adder_tree", verb="add", count=writes * (leaves - 1), bits=(psum,)),
            Action(
                component="rf",
                verb="write",
                count=self._row_reads() * segment * (1 if self.spread else arch.slices) + stored,
            ),
            Action(component="rf", verb="read", count=multiplied * (segment + self.storage.bits_of_a_row)),
            *list_buffer_accesses(sums, layer.out_elements, psum),
        ]
        if self.rows.decomposed:
            rebuilt = multiplied * self.rows.basis**2
            actions.insert(1, Action(component="rebuild", verb="shift_add", count=rebuilt, bits=(16,)))
        return tuple(action for action in actions if action.count)

    def psum_slots(self, size: Int64) -> Int64:
        """Return the accumulators that tiles of ``size[tiles, 6]`` take in ``obuf``: whole words of a column a slice."""
        blocks = size[:, G] * -(-size[:, K] // self.arch.slices)
        if self.spread:
            blocks = -(-size[:, G] // self.arch.slices)
        return np.asarray(blocks * size[:, N] * size[:, P] * size[:, Q] * self.arch.slices, np.int64)

    def psum_places(self, size: Int64) -> Int64:
        """Return where elements n, g, k, p, q of a tile stand: filter k in column ``k % slices``, pixels one behind the other."""
        slices = self.arch.slices
        n, g, k, p, q = np.indices([size[dim] for dim in (N, G, K, P, Q)]).reshape(5, -1)
        filters = size[K]
        if self.spread:
            g, k, filters = 0 * g, g, size[G]
        pixel = (n * size[P] + p) * size[Q] + q
        word = (g * -(-filters // slices) + k // slices) * (size[N] * size[P] * size[Q]) + pixel
        return np.asarray(word * slices + k % slices, np.int64)

    def weight_tile_bits(self, boxes: Boxes) -> Int64:
        """Return the stored bits of each weight tile: header and streams, whole beats each."""
        return self.storage.header_bits + self.storage.list_streams(boxes).sum(axis=1)

    def largest_weight_tile(self, tiles: Int64) -> Int64:
        """Return what a bank of ``wbuf`` must hold of the largest weight tile: every slice as much as the longest stream."""
        return self.storage.measure_tiles(tiles, 1)[0]

    def sum_weight_tiles(self, tiles: Int64, align: int) -> tuple[Int64, Int64]:
        """Return moved bits of all weight tiles, each once and aligned, and of the first, for each candidate."""
        _, total, first = self.storage.measure_tiles(tiles, align)
        return total, first

    def pack_weights(self, weight: Array, lo: Int64, hi: Int64) -> Bits:
        """Return the stored bits of one weight tile (`hwsim.archs.smartdeal.pack`).

        Raises
        ------
        ValueError
            ``weight`` is not what the codec rebuilds.
        """
        if self.rows.decomposed:
            assert self.codec is not None
            if not np.array_equal(np.ravel(weight), self.codec.rebuilt_int8.ravel()):
                raise ValueError(f"layer {self.layer.name}: the weights are not those that its decomposition rebuilds")
        return pack.pack_tile(self.layer, self.rows, self.codec, weight, self._cut(lo, hi))

    def unpack_weights(self, bits: Bits, lo: Int64, hi: Int64, signed: bool) -> Int64:
        """Return the integers that the rebuild engines make of one weight tile: int64 ``[g, k, c, R, S]``."""
        found = pack.unpack_tile(bits, self.layer, self.rows, self._cut(lo, hi))
        return found.reshape(int(hi[G] - lo[G]), -1, *found.shape[1:])

    def _cut(self, lo: Int64, hi: Int64) -> pack.TileCut:
        arch = self.arch
        return pack.cut_tile(
            self.layer, self.rows.pass_channels, lo, hi, arch.slices, arch.memory.bits_per_cycle, self.spread
        )

    def most_weight_bits(self, align: int) -> int:
        """Return an upper bound of what the weights take in memory, however the layer is cut at steps of channels."""
        return self.storage.bound_memory(align)

    def weight_storage_bits(self) -> int:
        """Return the stored bits of the layer's weights; headers and the filling of beats depend on tiles and are left out."""
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
            f"weights: decomposed, {self.layer.weights * 8 / self.storage.total_bits:.2f}x smaller than 8 bits, "
            f"reconstruction error {self.codec.integer_error:.3f}, zero rows {self.codec.zero_row_fraction:.1%}"
        )
        if self.codec.integer_error > LOST:
            found += (
                f": most of this layer is below the threshold, --set threshold={self.arch.threshold / 10:g} keeps more"
            )
        return (found,)
