"""How a weight tensor is cut into the slices that W = Ce B decomposes: a pure function of the shape.

Rules (SmartDeal's published post-training code, as recorded in seeds.md 4.2; what is ours is said):

- ``3x3`` kernels: a filter ``[C, 3, 3]`` is ``3 C`` rows of 3 weights, one row per (channel, kernel row). A slice is at most
  192 rows and holds whole channels: ``slices = ceil(C / 64)``, ``rows = 3 ceil(C / slices)``; the last slice may be shorter.
  Where 64 divides C (or C <= 64) this is the published cut; the published code cuts other sizes along their prime
  factors, which may give more and shorter slices.
- ``1x1`` kernels and fully connected layers: the ``n`` inputs of a filter are padded with zeros to ``slices x rows x 3``. A
  row is three neighbouring channels. :data:`VEC_2_SHAPE` is the published table; any other n follows
  ``slices = ceil(n / 576)``, ``rows = ceil(n / (3 slices))``, which reproduces every row of the table.
- All other kernels (5x5, 7x7, 10x4, ...) stay dense at 8 bits a weight and take the bypass.
- A filter that needs at least as many bits decomposed, all of its rows stored, as dense stays dense as well, unless
  forced: a 3x3 basis alone is 72 bits, what nine 8-bit weights take. These are depthwise 3x3 layers, 3x3 layers with two
  input channels, and 1x1 layers with few inputs (of the table's rows only 16: 150 bits against 128).

Not modelled: slices that span several filters (the SmartExchange hardware keeps one filter per slice of the array).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from hwsim.core.errors import SpecError

BASIS_SIZE = 3
"""Side S of the basis, and weights in a row (SmartDeal, seeds.md 4.2)."""

MAX_SLICE_ROWS = 192
"""Most rows of one slice (SmartDeal, seeds.md 4.2)."""

COEFFICIENT_BITS = 4
"""Bits of a stored coefficient: sign and a 3-bit magnitude code (SmartDeal, seeds.md 4.3)."""

BASIS_BITS = 8
"""Bits of a basis element, and of a dense weight (SmartDeal, seeds.md 4.3)."""

INDEX_BITS = 1
"""Bits of a row index (SmartDeal's direct vector index, seeds.md 4.3)."""

VEC_2_SHAPE: dict[int, tuple[int, int]] = {
    4096: (8, 171),
    2048: (4, 171),
    1280: (3, 143),
    1024: (2, 171),
    960: (2, 160),
    576: (1, 192),
    512: (1, 171),
    384: (1, 128),
    320: (1, 107),
    256: (1, 86),
    192: (1, 64),
    160: (1, 54),
    144: (1, 48),
    128: (1, 43),
    96: (1, 32),
    64: (1, 22),
    32: (1, 11),
    24: (1, 8),
    16: (1, 6),
}
"""Inputs of a 1x1 or FC filter -> (slices, rows per slice); SmartDeal, seeds.md 4.2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPlace:
    """Where one row of a filter comes from.

    Attributes
    ----------
    slice_index, row_in_slice : int
        Its slice, and its place there.
    channel : int
        First input channel that the row covers.
    channel_count : int
        Channels covered: 1 for 3x3, up to 3 for 1x1 and FC (fewer in the padded last row).
    kernel_row : int
        Kernel row r for 3x3, 0 for 1x1 and FC.
    """

    slice_index: int
    row_in_slice: int
    channel: int
    channel_count: int
    kernel_row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicePlan:
    """The cut of every filter of a layer; the same for all its filters.

    Attributes
    ----------
    kind : str
        ``kxk`` (a row is a kernel row of a channel), ``vector`` (a row is three channels) or ``dense`` (bypass).
    reason : str
        Why the layer is dense; empty otherwise.
    filters, channels, kernel_height, kernel_width : int
        The weight's shape [K, C, R, S]; K counts the filters of all groups, C is per group.
    slices, rows : int
        Slices per filter and rows per slice, padding included; 0 if dense.
    row_count : int
        Rows of a filter that hold at least one weight. Only these are indexed and stored; they are numbered
        0 .. row_count-1 in storage order: row ``i`` lies in slice ``i // rows``. 0 if dense.
    """

    kind: str
    reason: str
    filters: int
    channels: int
    kernel_height: int
    kernel_width: int
    slices: int
    rows: int
    row_count: int

    @property
    def is_dense(self) -> bool:
        """True if the weights bypass the rebuild engine."""
        return self.kind == "dense"

    @property
    def weights_per_filter(self) -> int:
        """Weights of one filter, without padding."""
        return self.channels * self.kernel_height * self.kernel_width

    @property
    def dense_bits(self) -> int:
        """Bits of the whole layer at 8 bits a weight."""
        return BASIS_BITS * self.filters * self.weights_per_filter

    def count_rows(self, slice_index: int) -> int:
        """Return how many rows of a slice hold weights (padding rows of the last slice are not stored)."""
        return max(0, min(self.rows, self.row_count - slice_index * self.rows))

    def locate_row(self, row: int) -> RowPlace:
        """Return the slice and the weights of row ``row``, 0 <= row < row_count.

        Raises
        ------
        IndexError
            If the row does not exist (a dense layer has none).
        """
        if not 0 <= row < self.row_count:
            raise IndexError(f"row {row} of a filter with {self.row_count} rows")
        slice_index, row_in_slice = divmod(row, self.rows)
        if self.kind == "kxk":
            channel, kernel_row = divmod(row, self.kernel_height)
            count = 1
        else:
            channel, kernel_row = row * BASIS_SIZE, 0
            count = min(BASIS_SIZE, self.channels - channel)
        return RowPlace(
            slice_index=slice_index,
            row_in_slice=row_in_slice,
            channel=channel,
            channel_count=count,
            kernel_row=kernel_row,
        )


def choose_vector_shape(inputs: int) -> tuple[int, int]:
    """Return (slices, rows per slice) of a 1x1 or FC filter with ``inputs`` weights: the table, else its pattern."""
    return VEC_2_SHAPE.get(inputs) or extend_vector_shape(inputs)


def extend_vector_shape(inputs: int) -> tuple[int, int]:
    """Return the table's pattern for any ``inputs`` >= 1: fewest slices of at most 192 rows, evenly filled."""
    slices = -(-inputs // (MAX_SLICE_ROWS * BASIS_SIZE))
    return slices, -(-inputs // (BASIS_SIZE * slices))


def choose_kernel_shape(channels: int) -> tuple[int, int]:
    """Return (slices, rows per slice) of a 3x3 filter: fewest slices of at most 64 whole channels, evenly filled."""
    slices = -(-channels * BASIS_SIZE // MAX_SLICE_ROWS)
    return slices, BASIS_SIZE * -(-channels // slices)


def decompose_plan(shape: tuple[int, ...], force: bool = False) -> SlicePlan:
    """Decide how a weight tensor is cut, from its shape alone.

    Parameters
    ----------
    shape : tuple of int
        [K, C, R, S] of a convolution (K over all groups, C per group) or [K, C] of a fully connected layer.
    force : bool
        Decompose also where the decomposition cannot save bits (depthwise 3x3 and the like). Kernels other than
        3x3 and 1x1 stay dense all the same: no reshape is defined for them.

    Raises
    ------
    SpecError
        If the shape has neither 2 nor 4 dimensions or holds a size below 1.
    """
    if len(shape) not in (2, 4) or any(size < 1 for size in shape):
        raise SpecError("weight.shape", tuple(shape), "[K, C, R, S] or [K, C], all at least 1")
    filters, channels, height, width = tuple(int(size) for size in (*shape, 1, 1)[:4])
    if (height, width) == (BASIS_SIZE, BASIS_SIZE):
        kind, row_count = "kxk", channels * height
        slices, rows = choose_kernel_shape(channels)
    elif (height, width) == (1, 1):
        kind, row_count = "vector", -(-channels // BASIS_SIZE)
        slices, rows = choose_vector_shape(channels)
    else:
        return _keep_dense((filters, channels, height, width), f"no reshape is defined for a {height}x{width} kernel")
    used_slices = -(-row_count // rows)
    most_bits = used_slices * BASIS_BITS * BASIS_SIZE**2 + row_count * (COEFFICIENT_BITS * BASIS_SIZE + INDEX_BITS)
    dense_bits = BASIS_BITS * channels * height * width
    if most_bits >= dense_bits and not force:
        reason = f"a filter takes {dense_bits} bits dense and {most_bits} decomposed with every row stored"
        return _keep_dense((filters, channels, height, width), reason)
    return SlicePlan(
        kind=kind,
        reason="",
        filters=filters,
        channels=channels,
        kernel_height=height,
        kernel_width=width,
        slices=slices,
        rows=rows,
        row_count=row_count,
    )


def _keep_dense(shape: tuple[int, int, int, int], reason: str) -> SlicePlan:
    filters, channels, height, width = shape
    return SlicePlan(
        kind="dense",
        reason=reason,
        filters=filters,
        channels=channels,
        kernel_height=height,
        kernel_width=width,
        slices=0,
        rows=0,
        row_count=0,
    )


def tabulate_rows(plan: SlicePlan) -> NDArray[np.int32]:
    """Return int32 [row_count, 5] for kernels: a row's slice_index, row_in_slice, channel, channel_count, kernel_row."""
    row = np.arange(plan.row_count, dtype=np.int32)
    table = np.zeros((plan.row_count, 5), dtype=np.int32)
    if plan.is_dense:
        return table
    table[:, 0], table[:, 1] = row // plan.rows, row % plan.rows
    if plan.kind == "kxk":
        table[:, 2], table[:, 3], table[:, 4] = row // plan.kernel_height, 1, row % plan.kernel_height
    else:
        table[:, 2] = row * BASIS_SIZE
        table[:, 3] = np.minimum(BASIS_SIZE, plan.channels - table[:, 2])
    return table


def slice_weights(weight: NDArray[np.floating], plan: SlicePlan) -> NDArray[np.float64]:
    """Cut a weight tensor into rows: float64 [K, slices, rows, 3], zeros as padding.

    For both kinds the rows keep the tensor's own order (C outermost): the cut is a reshape with padding at the end.
    """
    padded = np.zeros((plan.filters, plan.slices * plan.rows * BASIS_SIZE), dtype=np.float64)
    padded[:, : plan.weights_per_filter] = weight.reshape(plan.filters, -1)
    return padded.reshape(plan.filters, plan.slices, plan.rows, BASIS_SIZE)


def join_slices(rows: NDArray, plan: SlicePlan, shape: tuple[int, ...]) -> NDArray:
    """Undo :func:`slice_weights`: [K, slices, rows, 3] of any dtype -> contiguous ``shape``, padding dropped."""
    if prod(shape) != plan.filters * plan.weights_per_filter:
        raise ValueError(f"shape {shape} does not hold the plan's weights")
    flat = rows.reshape(plan.filters, -1)[:, : plan.weights_per_filter]
    return np.ascontiguousarray(flat).reshape(shape)
