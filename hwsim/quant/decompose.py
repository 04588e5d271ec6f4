"""SmartDeal's weight decomposition W = Ce B, after training, and the integers that the rebuild engine makes of it.

Every filter is cut into slices of rows of S = 3 weights (:mod:`hwsim.quant.decompose_plan`). A slice is the product of
sparse power-of-two coefficients Ce [rows, S] and one small dense basis B [S, S].

The fit (SmartExchange, ISCA'20; SmartDeal, arXiv 2101.01163; seeds.md 4.2), each slice on its own, float64::

    B = I, Ce = W
    up to 30 rounds:
        Ce -> nearest +-2^p, arithmetic midpoints (a tie goes to the smaller), |Ce| <= 32
        end if Ce changed by no more than 1e-10 (Frobenius)
        B  = least squares;  Ce = least squares (minimum norm where singular)
        rows with sum |Ce| < 5 theta -> 0 (3x3 only), then elements |Ce| < theta -> 0
    quantize Ce once more, fit B once more

The row test comes first, on the unthresholded row, as in the published code. Ours is the window: 4 bits hold a sign and
seven magnitudes, so that quantization maps column j of a slice's Ce to ``{0, +-top_j 2^-6, .., +-top_j}``, top_j the power
of two of the column's largest coefficient; smaller values go to the nearer of 0 and the smallest magnitude. top_j is
folded into row j of B, which is exact and costs no bit.

The format, exactly:

- code: int8 c, |c| <= 7. 0 is zero, otherwise the coefficient ``sign(c) 2^(|c| - 7)``. The stored nibble is sign and |c|.
- basis: int8 [S, S] within +-127, row j belongs to coefficient j. One scale per filter (output channel), shared by its
  bases and by its rebuilt weights: ``scale = max(|W'|, |B|) / 127`` over the filter, W' = Ce B in floating point.
- rebuilt row of weights, k = 0 .. S-1, all integers::

      w[k] = saturate_int8((sum_j sign(c_j) (B[j, k] << (|c_j| - 1)) + 32) >> 6)

  The sum fits 16 bits signed (3 * 127 * 64 = 24,384). ``>>`` is arithmetic: rounding half up. The float weight is
  ``scale * w``.
- storage: a row index bit per row that holds weights; S coefficients of 4 bits for each row with a nonzero code; a basis
  of 8 S^2 bits for each slice with such a row. Rows made of padding alone have neither index nor coefficients; the padded
  end of a filter's last row is stored with it. The scale per filter is not counted: dense 8-bit weights have it too.
- a dense layer (bypass) has symmetric 8-bit weights, ``scale = max|W| / 127`` per filter, and 8 bits a weight.

theta is absolute, as published: it is meant for weights as trained. Weights with a folded batch norm are scaled per
channel, and the same theta then prunes channels unequally.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.core.errors import SpecError
from hwsim.quant.decompose_plan import (
    BASIS_BITS,
    BASIS_SIZE,
    COEFFICIENT_BITS,
    INDEX_BITS,
    SlicePlan,
    decompose_plan,
    join_slices,
    slice_weights,
)
from hwsim.quant.decompose_prune import PRUNE_GROUP, RESNET18_PRUNE_RATIOS, prune_rows

__all__ = [
    "RESNET18_PRUNE_RATIOS",
    "DecomposeOptions",
    "Decomposed",
    "StorageBits",
    "decompose_layer",
    "decompose_plan",
    "prune_rows",
]

_WEIGHT_LIMIT = 1e100  # ours: far above any weight, keeps every product of the fit finite
_BLOCK_WEIGHTS = 1 << 14  # of which errors are summed at once: their float64 stay in the cache


@dataclass(frozen=True, slots=True, kw_only=True)
class DecomposeOptions:
    """Settings of the decomposition; the defaults are the published ones (seeds.md 4.2).

    Attributes
    ----------
    threshold : float
        theta, in units of the weights; published 1e-3 to 4e-3. At least 0.
    row_factor : float
        Rows (3x3 only) whose coefficients' magnitudes sum to less than row_factor * threshold become zero. At least 0.
    max_iterations : int
        Most rounds of the fit, at least 0 (0: quantize W, fit B).
    tolerance : float
        Change of Ce (Frobenius norm) that ends the rounds. At least 0.
    max_exponent : int
        Coefficients are at most 2^max_exponent, -100 to 100.
    prune_ratio : float
        Share of the kernel rows zeroed beforehand by :func:`prune_rows`, 0 to 1.
    prune_group : int
        Neighbouring filters that lose the same rows, at least 1.
    force : bool
        Decompose also where it cannot save bits (depthwise 3x3 and the like).
    """

    threshold: float = 4e-3
    row_factor: float = 5.0
    max_iterations: int = 30
    tolerance: float = 1e-10
    max_exponent: int = 5
    prune_ratio: float = 0.0
    prune_group: int = PRUNE_GROUP
    force: bool = False

    def __post_init__(self) -> None:
        for name in ("threshold", "row_factor", "tolerance"):
            value = getattr(self, name)
            if not 0.0 <= value < np.inf:
                raise SpecError(f"decompose.{name}", value, "a finite number of at least 0")
        if self.max_iterations < 0:
            raise SpecError("decompose.max_iterations", self.max_iterations, "an integer of at least 0")
        if not -100 <= self.max_exponent <= 100:
            raise SpecError("decompose.max_exponent", self.max_exponent, "an integer from -100 to 100")
        if not 0.0 <= self.prune_ratio <= 1.0:
            raise SpecError("decompose.prune_ratio", self.prune_ratio, "a number from 0 to 1")
        if self.prune_group < 1:
            raise SpecError("decompose.prune_group", self.prune_group, "an integer of at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageBits:
    """Bits that a layer's weights take in memory, by what they hold; only what is stored is counted."""

    coefficient_bits: int = 0
    basis_bits: int = 0
    index_bits: int = 0
    dense_bits: int = 0

    @property
    def total_bits(self) -> int:
        """Sum of the four."""
        return self.coefficient_bits + self.basis_bits + self.index_bits + self.dense_bits

    def __add__(self, other: StorageBits) -> StorageBits:
        return StorageBits(
            coefficient_bits=self.coefficient_bits + other.coefficient_bits,
            basis_bits=self.basis_bits + other.basis_bits,
            index_bits=self.index_bits + other.index_bits,
            dense_bits=self.dense_bits + other.dense_bits,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decomposed:
    """A decomposed (or dense) layer. Holds arrays: compared by identity, not to be used as a key's content.

    Attributes
    ----------
    shape : tuple of int
        Of the weight as given.
    plan : SlicePlan
        How filters are cut into rows.
    codes : int8 [K, slices, rows, S]
        Coefficient codes, see the module's docstring; zero in padding. Empty if dense.
    basis : int8 [K, slices, S, S]
        Integer bases; zero for slices that store none. Empty if dense.
    row_mask : bool [K, slices, rows]
        True for rows with a nonzero code: these store coefficients. Empty if dense.
    scale : float64 [K]
        Float weight per integer, positive; of rebuilt weights and bases alike.
    basis_float : float64 [K, slices, S, S]
        The bases before rounding, on the scale of the weights. Empty if dense.
    rebuilt_int8 : int8, ``shape``
        The weights that the datapath multiplies with.
    iterations : int64 [K, slices]
        Rounds that the fit took. Empty if dense.
    float_error, integer_error : float
        ``||W - W'|| / ||W||`` (Frobenius; 0 if W = 0) of Ce B in floating point, and of scale * rebuilt_int8. W is
        the weight as given, before pruning. A dense layer has no float form: its float_error is that of pruning alone.
    """

    shape: tuple[int, ...]
    plan: SlicePlan
    codes: NDArray[np.int8]
    basis: NDArray[np.int8]
    row_mask: NDArray[np.bool_]
    scale: NDArray[np.float64]
    basis_float: NDArray[np.float64]
    rebuilt_int8: NDArray[np.int8]
    iterations: NDArray[np.int64]
    float_error: float
    integer_error: float

    @property
    def storage_bits(self) -> StorageBits:
        """What the layer's weights take in memory."""
        if self.plan.is_dense:
            return StorageBits(dense_bits=self.plan.dense_bits)
        return StorageBits(
            coefficient_bits=COEFFICIENT_BITS * BASIS_SIZE * int(np.count_nonzero(self.row_mask)),
            basis_bits=BASIS_BITS * BASIS_SIZE**2 * int(np.count_nonzero(self.row_mask.any(axis=2))),
            index_bits=INDEX_BITS * self.plan.filters * self.plan.row_count,
        )

    @property
    def compression_vs_int8(self) -> float:
        """Bits of the dense 8-bit weights over the bits stored."""
        return self.plan.dense_bits / self.storage_bits.total_bits

    @property
    def compression_vs_fp32(self) -> float:
        """Bits of the 32-bit float weights over the bits stored."""
        return 32 / BASIS_BITS * self.compression_vs_int8

    @property
    def zero_row_fraction(self) -> float:
        """Share of the indexed rows without coefficients (vector sparsity); 0 if dense."""
        indexed = self.plan.filters * self.plan.row_count
        return 1.0 - int(np.count_nonzero(self.row_mask)) / indexed if indexed else 0.0


def decompose_layer(
    weight: NDArray[np.floating], options: DecomposeOptions | None = None, name: str = "weight"
) -> Decomposed:
    """Decompose one layer's weights, or quantize them to dense 8 bits where the plan says so.

    Parameters
    ----------
    weight : float32 or float64 [K, C, R, S] or [K, C]
        Read; grouped convolutions as [G*K, C, R, S].
    options : DecomposeOptions, optional
        The published settings if absent.
    name : str
        The tensor's name, for errors.

    Raises
    ------
    SpecError
        Weights that are not finite real numbers (|w| up to 1e100), or a shape that is no weight's.
    """
    options = options or DecomposeOptions()
    weight = np.asarray(weight)
    check_weight(weight, name)
    plan = decompose_plan(weight.shape, force=options.force)
    original = weight.astype(np.float64)
    pruned = prune_rows(original, options.prune_ratio, options.prune_group) if options.prune_ratio else original
    return _quantize_dense(original, pruned, plan) if plan.is_dense else _decompose(original, pruned, plan, options)


def check_weight(weight: NDArray, name: str) -> None:
    """Raise SpecError, naming the tensor, unless ``weight`` is a real array of finite numbers of sane size."""
    if weight.dtype.kind not in "fiu":
        raise SpecError(name, str(weight.dtype), "a real tensor of floats")
    if weight.size == 0:
        raise SpecError(name, weight.shape, "a tensor with at least one weight")
    low, high = float(weight.min()), float(weight.max())  # a NaN anywhere makes both NaN
    if not (low >= -_WEIGHT_LIMIT and high <= _WEIGHT_LIMIT):
        where = np.argwhere(~(np.abs(weight.astype(np.float64)) <= _WEIGHT_LIMIT))
        first = tuple(int(i) for i in where[0])
        problem = f"finite weights up to {_WEIGHT_LIMIT:g} in magnitude"
        raise SpecError(name, float(weight[first]), problem, f"{len(where)} of {weight.size} are not, first at {first}")


def _decompose(
    original: NDArray[np.float64], pruned: NDArray[np.float64], plan: SlicePlan, options: DecomposeOptions
) -> Decomposed:
    from hwsim.quant.kernel_decompose import decompose_slices, rebuild_integers, rebuild_values

    s = BASIS_SIZE
    filters, count = plan.filters, plan.filters * plan.slices
    targets = slice_weights(pruned, plan).reshape(count, plan.rows, s)
    codes = np.zeros((count, plan.rows, s), dtype=np.int8)
    basis_float = np.zeros((count, s, s))
    iterations = np.zeros(count, dtype=np.int64)
    row_threshold = options.row_factor * options.threshold if plan.kind == "kxk" else 0.0
    decompose_slices(
        targets,
        float(options.threshold),
        float(row_threshold),
        2.0**options.max_exponent,
        int(options.max_iterations),
        float(options.tolerance),
        codes,
        basis_float,
        iterations,
    )
    values = np.empty_like(targets)
    rebuild_values(codes, basis_float, values)
    float_form = join_slices(values, plan, original.shape)
    largest = np.maximum(_find_largest(float_form), _find_largest(basis_float.reshape(filters, -1)))
    scale = np.where(largest > 0.0, largest, 127.0) / 127.0
    basis = np.clip(np.rint(basis_float.reshape(filters, -1) / scale[:, None]), -127, 127).astype(np.int8)
    rebuilt_rows = np.zeros(codes.shape, dtype=np.int8)
    rebuild_integers(codes, basis.reshape(count, s, s), rebuilt_rows)
    rebuilt = join_slices(rebuilt_rows, plan, original.shape)
    float_error, integer_error = _measure_errors(original, (float_form, None), (rebuilt, scale))
    return Decomposed(
        shape=original.shape,
        plan=plan,
        codes=codes.reshape(filters, plan.slices, plan.rows, s),
        basis=basis.reshape(filters, plan.slices, s, s),
        row_mask=(codes != 0).any(axis=2).reshape(filters, plan.slices, plan.rows),
        scale=scale,
        basis_float=basis_float.reshape(filters, plan.slices, s, s),
        rebuilt_int8=rebuilt,
        iterations=iterations.reshape(filters, plan.slices),
        float_error=float_error,
        integer_error=integer_error,
    )


def _quantize_dense(original: NDArray[np.float64], pruned: NDArray[np.float64], plan: SlicePlan) -> Decomposed:
    largest = _find_largest(pruned)
    scale = np.where(largest > 0.0, largest, 127.0) / 127.0
    flat = np.rint(pruned.reshape(plan.filters, -1) / scale[:, None])
    rebuilt = np.clip(flat, -127, 127).astype(np.int8).reshape(original.shape)
    s, filters = BASIS_SIZE, plan.filters
    float_error, integer_error = _measure_errors(original, (pruned, None), (rebuilt, scale))
    return Decomposed(
        shape=original.shape,
        plan=plan,
        codes=np.zeros((filters, 0, 0, s), dtype=np.int8),
        basis=np.zeros((filters, 0, s, s), dtype=np.int8),
        row_mask=np.zeros((filters, 0, 0), dtype=np.bool_),
        scale=scale,
        basis_float=np.zeros((filters, 0, s, s)),
        rebuilt_int8=rebuilt,
        iterations=np.zeros((filters, 0), dtype=np.int64),
        float_error=float_error,
        integer_error=integer_error,
    )


def _find_largest(array: NDArray[np.float64]) -> NDArray[np.float64]:
    # largest magnitude per filter
    flat = array.reshape(len(array), -1)
    return np.maximum(flat.max(axis=1), -flat.min(axis=1))


def _measure_errors(
    original: NDArray[np.float64], *approximations: tuple[NDArray[Any], NDArray[np.float64] | None]
) -> list[float]:
    # relative Frobenius errors of arrays times a scale per filter; a few filters at a time, which stay in the cache
    flat = original.reshape(len(original), -1)
    largest = float(max(flat.max(), -flat.min()))
    if largest == 0.0:
        return [0.0] * len(approximations)
    sums = np.zeros(1 + len(approximations))
    step = max(1, _BLOCK_WEIGHTS // flat.shape[1])
    for start in range(0, len(flat), step):
        rows = slice(start, start + step)
        block = flat[rows] / largest  # squares neither under- nor overflow
        sums[0] += _sum_squares(block)
        for i, (array, scale) in enumerate(approximations, 1):
            part = array.reshape(flat.shape)[rows]
            found = part if scale is None else part * scale[rows, None]
            sums[i] += _sum_squares((flat[rows] - found) / largest)
    return [float(error) for error in np.sqrt(sums[1:] / sums[0])]


def _sum_squares(array: NDArray[np.float64]) -> float:
    return float(np.einsum("i,i", array.ravel(), array.ravel()))
