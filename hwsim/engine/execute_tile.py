"""One EXEC: the tile's results from the bits in the banks alone.

The engine knows the tile's box (from its index), the layer's geometry and its parameters; every operand comes from the bits that
LOAD_W and LOAD_I brought. A stored element enters as ``element - zero_point``; what lies outside the tensor enters as 0, so
padding is the zero point without being stored or loaded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwsim.core.bits import Bits
from hwsim.core.datapath import Datapath
from hwsim.core.errors import HwsimError
from hwsim.core.layer import Layer
from hwsim.core.mapping import Boxes, C, G, Int64, K, N, P, Q
from hwsim.engine.execute_parameters import LayerParameters
from hwsim.engine.functional_ops import FLOAT64_EXACT
from hwsim.engine.image import Box, Slab, cut_slab, read_slab
from hwsim.engine.lower import WINDOWED
from hwsim.quant.requant import shift_right

LOWEST = -(1 << 40)
"""Stands for padding in a maximum: below every element."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Engine:
    """The exec unit, bound to one layer.

    Parameters
    ----------
    datapath : Datapath
        Unpacks weights.
    parameters : LayerParameters
        Zero points and factors.
    boxes : Boxes
        All tiles.
    align : int
        Bits of an alignment unit.
    """

    datapath: Datapath
    parameters: LayerParameters
    boxes: Boxes
    align: int

    def compute(self, tile: int, wbuf: Bits, ibuf: Bits) -> Int64:
        """Return what a tile adds to its accumulators, int64 ``[n, g*k, p, q]``.

        Parameters
        ----------
        tile : int
            Index of the tile.
        wbuf, ibuf : ndarray uint8
            Content of the banks: a weight tile; the operands' boxes one behind the other.
        """
        lo, hi, layer = self.boxes.lo[tile], self.boxes.hi[tile], self.datapath.layer
        operands = self._read_operands(lo, hi, ibuf)
        if layer.kind == "mac":
            return self._multiply(lo, hi, wbuf, operands[0])
        if layer.op in ("maxpool", "avgpool"):
            fill, reduce = (LOWEST, np.max) if layer.op == "maxpool" else (0, np.sum)
            windows = view_windows(layer, pad_tile(layer, operands[0], lo, hi, fill), lo, hi)
            return np.asarray(reduce(windows, axis=(2, 3)), np.int64)
        return self._combine(lo, hi, operands)

    def _read_operands(self, lo: Int64, hi: Int64, ibuf: Bits) -> list[Int64]:
        """Return the operands' elements less their zero points, ``[n, channels, rows, columns]`` each, as loaded."""
        load, params = self.datapath.workload, self.parameters
        found, at = [], 0
        for i, shape in enumerate(load.operand_shapes):
            box = find_input_box(load.layer, shape, lo, hi)
            slab = cut_slab(shape, load.operand_bits[i], self.align, box)
            stream = ibuf[at : at + slab.stream_bits]
            at += slab.stream_bits
            values = read_slab(slab, stream, params.input_signed[i]).reshape([b - a for a, b in box])
            values = values - params.input_zero[i]
            if i == 0 and params.narrow is not None:
                every = slice(None)
                values = params.narrow.apply(values, every, every, every) - params.narrow.zero_point
            found.append(values)
        if at != ibuf.size:
            raise HwsimError(f"layer {load.layer.name}: a tile takes {at} bits of ibuf, its bank holds {ibuf.size}")
        return found

    def _multiply(self, lo: Int64, hi: Int64, wbuf: Bits, x: Int64) -> Int64:
        layer, size = self.datapath.layer, hi - lo
        bits = int(self.datapath.weight_tile_bits(Boxes(lo[None], hi[None]))[0])
        weight = self.datapath.unpack_weights(wbuf[:bits], lo, hi, self.parameters.weight_signed)
        zero = self.parameters.weight_zero.reshape(layer.G, layer.K)[lo[G] : hi[G], lo[K] : hi[K]]
        rows = (weight - zero[:, :, None, None, None]).reshape(size[G], size[K], -1)
        windows = view_windows(layer, pad_tile(layer, x, lo, hi, 0), lo, hi)
        n, _, _, _, p, q = windows.shape
        columns = windows.reshape(n, size[G], rows.shape[2], p * q)
        if layer.operator == "add":
            return sum_distances_tile(rows, columns).reshape(n, -1, p, q)
        return multiply_exactly(rows[None], columns).reshape(n, -1, p, q)

    def _combine(self, lo: Int64, hi: Int64, operands: list[Int64]) -> Int64:
        """Return elementwise results; an addition is rounded here, its sum has more bits than an accumulator."""
        layer, params, size = self.datapath.layer, self.parameters, hi - lo
        shape = (size[N], size[G], size[P], size[Q])
        if layer.op == "add":
            total = sum(x * factor for x, factor in zip(operands, params.factors, strict=True))
            limit = 1 << 18  # beyond every stored format and zero point: saturating here changes no result
            return np.broadcast_to(np.clip(shift_right(total, params.factor_shift), -limit, limit), shape)
        if layer.op == "mul":
            return np.broadcast_to(operands[0] * operands[1], shape)
        x = np.broadcast_to(operands[0], shape)
        if layer.op == "scale":
            return x * params.factors[lo[G] : hi[G], None, None]
        if params.lookup is not None:
            lowest = -(1 << (self.datapath.workload.operand_bits[0] - 1)) if params.input_signed[0] else 0
            return params.lookup[x + params.input_zero[0] - lowest]
        return x


def sum_distances_tile(rows: Int64, columns: Int64) -> Int64:
    """Return ``-sum |x - w|`` of filters ``[g, k, depth]`` and windows ``[n, g, depth, pixels]``: int64 ``[n, g, k, pixels]``."""
    return -np.stack([np.abs(columns - rows[None, :, k, :, None]).sum(axis=2) for k in range(rows.shape[1])], axis=2)


def multiply_exactly(rows: Int64, columns: Int64) -> Int64:
    """Return the matrix product of integers: by the BLAS in float64 where no sum can pass 53 bits, else in int64."""
    largest = int(np.abs(rows).sum(axis=-1).max()) * int(np.abs(columns).max())
    if largest < FLOAT64_EXACT:
        return np.asarray(rows.astype(np.float64) @ columns.astype(np.float64), np.int64)
    return np.asarray(rows @ columns, np.int64)


def find_input_box(layer: Layer, shape: tuple[int, int, int, int], lo: Int64, hi: Int64) -> Box:
    """Return what a tile reads of an operand: clipped to the tensor, one element along a broadcast dimension."""
    ch0 = int(lo[G] * layer.C + lo[C])
    channels = (ch0, ch0 + int((hi[G] - lo[G]) * (hi[C] - lo[C])))
    rows, columns = (int(lo[P]), int(hi[P])), (int(lo[Q]), int(hi[Q]))
    if layer.op in WINDOWED:
        rows, columns = (clip_window(layer, axis, int(lo[dim]), int(hi[dim])) for axis, dim in ((0, P), (1, Q)))
    box = ((int(lo[N]), int(hi[N])), channels, rows, columns)
    if layer.op in WINDOWED:
        return box
    n, ch, r, c = (span if extent > 1 else (0, 1) for span, extent in zip(box, shape, strict=True))
    return n, ch, r, c


def clip_window(layer: Layer, axis: int, first: int, last: int) -> tuple[int, int]:
    """Return the input rows (axis 0) or columns (1) that outputs ``first .. last - 1`` reach, clipped to the tensor."""
    low, reach = locate_window(layer, axis, first, last)
    size = (layer.H, layer.W)[axis]
    start = min(max(low, 0), size)
    return start, min(max(low + reach, start), size)


def locate_window(layer: Layer, axis: int, first: int, last: int) -> tuple[int, int]:
    """Return the first input row or column that outputs reach, negative in padding, and how many they span."""
    stride, dilation, window = layer.stride[axis], layer.dilation[axis], (layer.R, layer.S)[axis]
    return first * stride - layer.padding[axis], (last - 1 - first) * stride + dilation * (window - 1) + 1


def pad_tile(layer: Layer, x: Int64, lo: Int64, hi: Int64, fill: int) -> Int64:
    """Return a tile's input with padding around it, ``[n, channels, reach of rows, reach of columns]``."""
    (top, height), (left, width) = (
        locate_window(layer, axis, int(lo[dim]), int(hi[dim])) for axis, dim in ((0, P), (1, Q))
    )
    row, column = (clip_window(layer, axis, int(lo[dim]), int(hi[dim]))[0] for axis, dim in ((0, P), (1, Q)))
    padded = np.full((*x.shape[:2], height, width), fill, np.int64)
    if x.size:
        padded[:, :, row - top : row - top + x.shape[2], column - left : column - left + x.shape[3]] = x
    return padded


def view_windows(layer: Layer, padded: Int64, lo: Int64, hi: Int64) -> Int64:
    """Return the windows of a padded tile, a view ``[n, channels, R, S, p, q]``."""
    batch, channel, row, column = padded.strides
    (sh, sw), (dh, dw) = layer.stride, layer.dilation
    shape = (*padded.shape[:2], layer.R, layer.S, int(hi[P] - lo[P]), int(hi[Q] - lo[Q]))
    strides = (batch, channel, row * dh, column * dw, row * sh, column * sw)
    return np.lib.stride_tricks.as_strided(padded, shape, strides, writeable=False)


def cut_output(datapath: Datapath, lo: Int64, hi: Int64, align: int) -> Slab:
    """Return the slab that a tile's results take in the stored output."""
    layer = datapath.layer
    ch0 = int(lo[G] * layer.K + lo[K])
    box = (
        (int(lo[N]), int(hi[N])),
        (ch0, ch0 + int((hi[G] - lo[G]) * (hi[K] - lo[K]))),
        (int(lo[P]), int(hi[P])),
        (int(lo[Q]), int(hi[Q])),
    )
    return cut_slab(layer.out_shape, datapath.workload.out_bits, align, box)
