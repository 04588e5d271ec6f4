"""Structured pruning of kernel rows before the decomposition: a zero row of W is a zero row of Ce, stored as one bit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwsim.core.errors import SpecError
from hwsim.quant.decompose_plan import BASIS_SIZE

RESNET18_PRUNE_RATIOS: tuple[float, ...] = (
    *(0.4, 0.6, 0.4, 0.4, 0.4, 0.2, 0.3, 0.1, 0.4, 0.4, 0.3),
    *(0.3, 0.2, 0.4, 0.6, 0.8, 0.9, 0.6, 0.9, 0.9, 0.1),
)
"""Ratio per layer of ResNet-18, its 21 layers in the order of the published list (SmartDeal, seeds.md 4.2)."""

PRUNE_GROUP = 32
"""Neighbouring output filters that lose the same rows (SmartDeal, seeds.md 4.2)."""


def prune_rows(weight: NDArray[np.floating], ratio: float, group: int = PRUNE_GROUP) -> NDArray[np.float64]:
    """Zero the kernel rows of least L1 norm, the same rows in every ``group`` neighbouring output filters.

    A row is a (channel, kernel row) of a k x k kernel; of a 1x1 kernel or a fully connected layer it is three neighbouring
    channels, the row of the decomposition. In each group ``floor(ratio * rows)`` rows are zeroed; of equal norms the first
    goes. Dense layers (5x5, 7x7) may be pruned too, but have no row index: their zeros are stored.

    Parameters
    ----------
    weight : float [K, C, R, S] or [K, C]
        Read. A last group of fewer filters is pruned on its own.
    ratio : float
        0 to 1.
    group : int
        At least 1.

    Returns
    -------
    float64 ndarray of the same shape

    Raises
    ------
    SpecError
        If ratio or group is out of range, or the weight has not 2 or 4 dimensions.
    """
    if not 0.0 <= ratio <= 1.0:
        raise SpecError("prune_ratio", ratio, "a number from 0 to 1")
    if group < 1:
        raise SpecError("prune_group", group, "an integer of at least 1")
    if weight.ndim not in (2, 4):
        raise SpecError("weight.shape", weight.shape, "[K, C, R, S] or [K, C]")
    filters = weight.shape[0]
    width = weight.shape[3] if weight.ndim == 4 and weight.shape[2:] != (1, 1) else BASIS_SIZE
    flat = weight.reshape(filters, -1).astype(np.float64)
    size = flat.shape[1]
    row_count = -(-size // width)
    dropped = int(np.floor(ratio * row_count + 1e-9))  # 1e-9: 0.3 * 10 is 3
    padded = np.zeros((filters, row_count * width))
    padded[:, :size] = flat
    rows = padded.reshape(filters, row_count, width)
    for start in range(0, filters, group):
        members = rows[start : start + group]
        order = np.argsort(np.abs(members).sum(axis=(0, 2)), kind="stable")
        members[:, order[:dropped]] = 0.0
    return np.ascontiguousarray(padded[:, :size]).reshape(weight.shape)
