"""Cycles that the SmartDeal engine takes to prepare a pass, and the depths of its pipelines.

The schedule stands in `hwsim.archs.smartdeal.datapath`; hardware and simulator share these numbers (`accel_rtl.smartdeal`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hwsim.core.layer import Layer
from hwsim.core.mapping import Int64
from hwsim.quant.decompose_plan import BASIS_BITS, BASIS_SIZE, COEFFICIENT_BITS

LOAD_PIPELINE = 7
"""Cycles from the first address of a pass to its last row in the line stores, beyond one for each address."""
DECODE_PIPELINE = 6
"""The same from the first beat of a slice's stream to its last row in the row stores; the first beat of an index is in it."""
RUN_PIPELINE = 7
"""Cycles of a pass beyond those of its multiplications: selecting and rebuilding the first row, the last product's way."""
RESULT_PIPELINE = 4
"""Cycles from the accumulators of a slice's lines to ``obuf``, beyond the stages of the adder tree: part of a tile's ``tail``."""

ENTRY_WEIGHTS = 3
"""Weights of an entry of a line store; a wider kernel row takes several."""
FAST_STRIDES = (1, 2)
"""Strides at which neighbouring pixels' activations stand near each other in ``ibuf``; at others they are read one by one."""
FLAG_CYCLES = 1
"""Cycles that the flag of a step takes in the decoder."""


def count_entries(width: int) -> int:
    """Return the entries of a line store that a row of ``width`` weights takes."""
    return -(-width // ENTRY_WEIGHTS)


def count_load_cycles(layer: Layer, by_kernel: bool, width: int, pixels: int) -> int:
    """Return the cycles in which a line store takes a row of ``width`` weights for ``pixels`` pixels.

    One: kernel rows of at most three weights without dilation at stride 1 or 2. Others and rows of three channels: one a
    weight; at other strides, and where images are the pixels (gemm), one a weight and pixel.
    """
    if layer.op == "gemm" or layer.stride[1] not in FAST_STRIDES:
        return width * pixels
    return 1 if by_kernel and width <= ENTRY_WEIGHTS and layer.dilation[1] == 1 else width


def count_beats(bits: int, beat_bits: int) -> int:
    """Return the cycles that ``bits`` neighbouring bits of a stream take: a slice takes a beat of it a cycle at most."""
    return -(-bits // beat_bits)


def count_decode(
    rows: Int64, starts_step: npt.NDArray[np.bool_], lines: int, width: int, decomposed: bool, beat_bits: int
) -> Int64:
    """Return the cycles that the decoder takes for passes of ``rows`` rows, `DECODE_PIPELINE` left out.

    Decomposed: ``lines`` rows a cycle (their coefficients are at most a beat, otherwise in proportion), on the first pass of a step
    the flag and a row of the basis a cycle before them. An index longer than a beat takes a cycle for each beat but the
    first. Dense: an entry of three weights a cycle, or its beats.
    """
    if not decomposed:
        return np.asarray(rows * count_entries(width) * count_beats(ENTRY_WEIGHTS * BASIS_BITS, beat_bits), np.int64)
    basis = FLAG_CYCLES + BASIS_SIZE * count_beats(BASIS_SIZE * BASIS_BITS, beat_bits)
    coefficients = -(-rows // lines) * count_beats(BASIS_SIZE * COEFFICIENT_BITS * lines, beat_bits)
    return np.asarray(coefficients + (-(-rows // beat_bits) - 1) + starts_step * basis, np.int64)


def count_prepare(load: Int64, decode: Int64) -> Int64:
    """Return the cycles of the stage *prepare*: loading and decoding go on side by side."""
    return np.maximum(load + LOAD_PIPELINE, decode + DECODE_PIPELINE)


def bound_busy(compute: npt.NDArray[np.int32], prepare: Int64, starts_step: npt.NDArray[np.bool_], least: int) -> Int64:
    """Return the cycles that all tiles of a layer take at least, by their number, int64 [tiles + 1]; they are cut where steps end.

    Each pass takes its run or the preparation of the next one; behind the last pass of a step, where a tile may end, at least the
    shortest preparation of a step's first pass: that of the pixel group's, of the next tile's, or part of its own. A tile prepares
    its first pass for itself, and its last pass runs without the preparation that was counted there: so a tile more costs at least
    the shorter of the two. Which pass a tile ends with is not known; n tiles end with n different ones.

    Parameters
    ----------
    compute : int32 [filter blocks, pixel groups, passes]
    prepare : int64 [filter blocks or 1, passes]
    starts_step : bool [passes]
    least : int
        Least cycles of a pixel group.
    """
    fill = prepare[:, starts_step].min()
    run = compute + np.int64(RUN_PIPELINE)
    after = np.append(np.where(starts_step, fill, prepare.min(axis=0))[1:], fill)
    whole = np.maximum(np.maximum(run, after).sum(axis=2), least).sum()
    more = np.minimum(run[:, :, np.append(starts_step[1:], True)], fill)
    return np.asarray(whole + np.append(0, np.cumsum(np.sort(more, axis=None))), np.int64)
