"""SCALE-Sim v3's equations, as that simulator computes them: counts of one layer on an R_a x C_a array.

Source: SCALE-Sim v3 (scalesim 3.0.0; Samajdar et al., arXiv 1811.02883), `topologies` (output size), `operand_matrix` (matrix
view), `compute/systolic_compute_{os,ws,is}.py` (folds, demand matrices), restated from its reports: every function is checked
against all rows of a run of ResNet-18 on 32 x 32. No code of it is used here, and nothing here is used by the engine.

Its known mistakes are reproduced, each said where it stands: the last cycle's index is reported for the number of cycles (its
issue #125), output writes of ``os`` hold R_a + C_a idle slots a fold (its issue #166), the compute utilization of ``ws`` and
``is`` adds the column skew twice, partial sums of ``ws`` and ``is`` are written but never read back, padding does not exist,
and a stride that does not divide adds an output row whose window hangs over the edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dataflow = Literal["os", "ws", "is"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm:
    """A layer as a matrix product: ``M`` output pixels, ``K`` = filter area times channels, ``N`` filters."""

    M: int
    K: int
    N: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.M * self.K * self.N


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """An array of ``rows`` (R_a) x ``cols`` (C_a) cells with a dataflow."""

    rows: int
    cols: int
    dataflow: Dataflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Folding:
    """How a matrix product lies on the array.

    ``row_extent`` and ``col_extent`` are the lengths that rows and columns are cut from, ``stream`` (T) the length that flows
    through a fold, ``row_folds`` and ``col_folds`` the number of cuts.
    """

    row_extent: int
    col_extent: int
    stream: int
    row_folds: int
    col_folds: int

    @property
    def folds(self) -> int:
        """Folds F."""
        return self.row_folds * self.col_folds


def compute_output_size(size: int, window: int, stride: int) -> int:
    """Return rows (or columns) of the output: ceil((size - window + stride) / stride), nothing padded.

    Where the stride does not divide, this is one more than fits: the last window hangs over the edge.
    """
    return -(-(size - window + stride) // stride)


def view_as_gemm(
    height: int, width: int, filter_height: int, filter_width: int, channels: int, filters: int, stride: int
) -> Gemm:
    """Return the matrix product of a row of its topology file."""
    pixels = compute_output_size(height, filter_height, stride) * compute_output_size(width, filter_width, stride)
    return Gemm(M=pixels, K=filter_height * filter_width * channels, N=filters)


def fold_gemm(gemm: Gemm, array: Array) -> Folding:
    """Return the folds of a product: ``os`` keeps M x N, ``ws`` K x N, ``is`` K x M in the cells."""
    row_extent, col_extent, stream = {
        "os": (gemm.M, gemm.N, gemm.K),
        "ws": (gemm.K, gemm.N, gemm.M),
        "is": (gemm.K, gemm.M, gemm.N),
    }[array.dataflow]
    return Folding(
        row_extent=row_extent,
        col_extent=col_extent,
        stream=stream,
        row_folds=-(-row_extent // array.rows),
        col_folds=-(-col_extent // array.cols),
    )


def count_fold_cycles(gemm: Gemm, array: Array) -> int:
    """Return the cycles of one fold: T + R_a + C_a - 2, and R_a more where an operand is loaded first (``ws``, ``is``)."""
    load = 0 if array.dataflow == "os" else array.rows
    return fold_gemm(gemm, array).stream + load + array.rows + array.cols - 2


def report_cycles(gemm: Gemm, array: Array) -> int:
    """Return the ``Total Cycles`` of its report: folds back to back, less one (it reports the index of the last cycle)."""
    return fold_gemm(gemm, array).folds * count_fold_cycles(gemm, array) - 1


def report_mapping_efficiency(gemm: Gemm, array: Array) -> float:
    """Return the ``Mapping Efficiency %`` of its report: cells in use, averaged over the folds."""
    folding = fold_gemm(gemm, array)
    return 100 * folding.row_extent * folding.col_extent / (folding.folds * array.rows * array.cols)


def report_overall_utilization(gemm: Gemm, array: Array) -> float:
    """Return the ``Overall Util %`` of its report: multiply-accumulates over cells times the reported cycles (one too few)."""
    return 100 * gemm.macs / (array.rows * array.cols * report_cycles(gemm, array))


def report_compute_utilization(gemm: Gemm, array: Array) -> float:
    """Return the ``Compute Util %`` of its report: by the fold, ``ws`` and ``is`` with the column skew C_a - 1 added twice."""
    extra = 0 if array.dataflow == "os" else array.cols - 1
    cycles = fold_gemm(gemm, array).folds * (count_fold_cycles(gemm, array) + extra)
    return 100 * gemm.macs / (array.rows * array.cols * cycles)


def count_ifmap_reads(gemm: Gemm, array: Array) -> int:
    """Return words of inputs read from SRAM: stationary ones once, streaming ones once a fold of filters."""
    return gemm.M * gemm.K * (1 if array.dataflow == "is" else -(-gemm.N // array.cols))


def count_filter_reads(gemm: Gemm, array: Array) -> int:
    """Return words of weights read from SRAM: stationary ones once, streaming ones once a fold of pixels."""
    pixels_on = {"os": array.rows, "is": array.cols}
    return gemm.K * gemm.N * (1 if array.dataflow == "ws" else -(-gemm.M // pixels_on[array.dataflow]))


def report_ofmap_writes(gemm: Gemm, array: Array) -> int:
    """Return the ``SRAM OFMAP Writes`` of its report.

    ``ws`` and ``is``: every partial sum, once a fold of K (never read back). ``os``: every output once, and R_a + C_a idle
    slots of each fold counted as writes by mistake (its issue #166).
    """
    if array.dataflow == "os":
        return gemm.M * gemm.N + fold_gemm(gemm, array).folds * (array.rows + array.cols)
    return gemm.M * gemm.N * fold_gemm(gemm, array).row_folds
