"""The rows of a layer's filters and how they are cut into passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hwsim.archs.smartdeal.timing import count_entries
from hwsim.core.layer import Layer
from hwsim.core.mapping import Int64
from hwsim.quant.decompose import Decomposed

if TYPE_CHECKING:
    from hwsim.archs.smartdeal.spec import SmartDeal

CHANNELS_OF_A_ROW = 3
"""Channels that a row of a 1x1 or FC filter covers (the basis size; also where the weights stay dense)."""


@dataclass(frozen=True, slots=True)
class RowTable:
    """Rows of one filter, in storage order; the same for all filters of a layer.

    Attributes
    ----------
    channel, count, kernel : int64 [rows]
        First channel, number of channels and kernel row of each row.
    by_kernel : bool
        Whether a row is a kernel row of one channel.
    width : int
        Elements of a kernel row (1 where a row covers channels).
    width_elements, basis : int
        Weights of a row, the padding of one with too few channels included; cycles that rebuilding it takes (0 where weights
        are dense).
    active : bool [filters of all groups, rows]
        Rows with a nonzero coefficient; all of them where weights are dense.
    pass_start : int64 [passes + 1]
        First row of each pass.
    starts_step : bool [passes]
        Passes that begin a step: a slice of one basis, or whole channels of dense weights.
    pass_channels, passes_per_step : int
        Channels after which a tile may end, and the passes up to there.
    slice_rows : int
        Rows that share a basis (all rows where weights are dense).
    held_rows : int
        Rows that the line stores hold: the most of a pass.
    decomposed : bool
        Whether coefficients are rebuilt.
    """

    channel: Int64
    count: Int64
    kernel: Int64
    by_kernel: bool
    width: int
    width_elements: int
    basis: int
    active: npt.NDArray[np.bool_]
    pass_start: Int64
    starts_step: npt.NDArray[np.bool_]
    pass_channels: int
    passes_per_step: int
    slice_rows: int
    held_rows: int
    decomposed: bool


def list_rows(layer: Layer, codec: Decomposed | None, arch: SmartDeal) -> RowTable:
    """Return the rows of a layer's filters and their passes."""
    dense = codec is None or codec.plan.is_dense
    by_kernel = layer.R > 1 or layer.S > 1 or arch.spreads(layer)
    if by_kernel:
        index = np.arange(layer.C * layer.R, dtype=np.int64)
        channel, kernel, count = index // layer.R, index % layer.R, np.ones_like(index)
        width, elements, per_channel = layer.S, layer.S, layer.R
    else:
        channel = np.arange(0, layer.C, CHANNELS_OF_A_ROW, dtype=np.int64)
        count = np.minimum(CHANNELS_OF_A_ROW, layer.C - channel)
        kernel = np.zeros_like(channel)
        width, elements, per_channel = 1, CHANNELS_OF_A_ROW, 0
    held = arch.lines * (arch.line_rows // count_entries(elements))
    if dense:
        unit = max(1, held // layer.R) * layer.R if by_kernel else held
        slice_rows = min(unit, len(channel))
        active = np.ones((layer.G * layer.K, len(channel)), bool)
    else:
        assert codec is not None
        slice_rows = codec.plan.rows
        active = np.ascontiguousarray(codec.row_mask.reshape(layer.G * layer.K, -1)[:, : codec.plan.row_count])
    starts = []
    for first in range(0, len(channel), slice_rows):
        starts += list(range(first, min(first + slice_rows, len(channel)), held))
    if by_kernel:
        pass_channels = max(1, slice_rows // per_channel)
    else:
        pass_channels = slice_rows * CHANNELS_OF_A_ROW
    return RowTable(
        channel, count, kernel, by_kernel, width, elements, 0 if dense else elements, active,
        np.array([*starts, len(channel)], np.int64), np.array([first % slice_rows == 0 for first in starts], bool),
        pass_channels, -(-slice_rows // held), slice_rows, held, not dense,
    )  # fmt: skip
