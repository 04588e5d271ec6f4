"""Kernels of the decomposition W = Ce B: the alternating fit of every slice, and the integer rebuild.

Within a slice the coefficients are kept normalised: column j of Ce is ``top_j * q_j`` with q in {0, +-1, +-1/2, .. +-1/64}
and ``top_j`` a power of two that is folded into row j of the basis. The Gram matrix of q is therefore exact: 4096 q'q is an
integer matrix, at most 192 rows keep its determinant below 2^60, and whether it is singular is decided exactly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwsim.core.jit import kernel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Codes = NDArray[np.int8]
Whole = NDArray[np.int32]

HALF_MANTISSA = np.int64((1 << 51) - 1)  # IEEE double: carries into the exponent iff the mantissa exceeds 1.5
MAGNITUDE_MASK = np.int64((1 << 63) - 1)  # IEEE double: all but the sign
EXPONENT_MASK = np.int64(0x7FF0000000000000)  # IEEE double: exponent field; mantissa cleared = power of two
ONE_BITS = np.int64(1023 << 52)  # IEEE double: 1.0
BOTTOM_BITS = np.int64(1017 << 52)  # BOTTOM
ZERO_BITS = np.int64(1016 << 52)  # BOTTOM / 2: magnitudes up to here become zero
SIGN = np.int64(-1 << 63)  # IEEE double: the sign
SMALLEST = 2.0**-900  # magnitudes below count as zero, so that no scale under- or overflows
BOTTOM = 2.0**-6  # smallest normalised coefficient: three bits code seven magnitudes
GRAM_SCALE = 4096.0  # BOTTOM**-2: makes the Gram matrix integer
RCOND = 1e-9  # singular values of B below RCOND * largest count as zero


@kernel
def sum_squares(values: Floats, count: int) -> float:
    """Return the sum of squares of ``values[:count]``: eight sums side by side, which do not wait for each other."""
    s0, s1, s2, s3, s4, s5, s6, s7 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    even = count - count % 8
    for i in range(0, even, 8):
        s0 += values[i] * values[i]
        s1 += values[i + 1] * values[i + 1]
        s2 += values[i + 2] * values[i + 2]
        s3 += values[i + 3] * values[i + 3]
        s4 += values[i + 4] * values[i + 4]
        s5 += values[i + 5] * values[i + 5]
        s6 += values[i + 6] * values[i + 6]
        s7 += values[i + 7] * values[i + 7]
    for i in range(even, count):
        s0 += values[i] * values[i]
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))


@kernel
def quantize_columns(
    values: Floats, value_bits: Ints, rows: int, limit: float, scratch: Floats, bits: Ints, quantized: Floats,
    whole: Whole, tops: Floats,
) -> float:  # fmt: skip
    """Quantize the columns of Ce to signed powers of two in a window of seven exponents.

    Parameters
    ----------
    values, value_bits : float64 [3, rows] and its int64 view
        Coefficients, column by column; finite. Read.
    limit : float
        Largest magnitude, a power of two.
    scratch, bits : float64 [rows] and its int64 view
        Work space.
    quantized : float64 [3, rows]
        Previous normalised coefficients; overwritten by the new ones.
    whole : int32 [3, rows]
        Filled: the new ones times 64, which are integers.
    tops : float64 [3]
        Largest magnitude of each column (0: an empty column); overwritten.

    Returns
    -------
    float
        Squared Frobenius norm of the change of Ce.
    """
    change = 0.0
    for j in range(3):
        largest = np.int64(0)
        for i in range(rows):  # magnitudes in order of their bits
            largest = max(largest, value_bits[j, i] & MAGNITUDE_MASK)
        old_top = tops[j]
        bits[0] = largest
        top = 0.0
        if scratch[0] > SMALLEST:
            bits[0] = (largest + HALF_MANTISSA) & EXPONENT_MASK
            top = min(scratch[0], limit)
        tops[j] = top
        scratch[0] = top
        shift = bits[0] - ONE_BITS  # what dividing by top takes from the bits of a magnitude
        for i in range(rows):
            magnitude = (value_bits[j, i] & MAGNITUDE_MASK) - shift
            power = (magnitude + HALF_MANTISSA) & EXPONENT_MASK
            power = min(ONE_BITS, max(BOTTOM_BITS, power)) | (value_bits[j, i] & SIGN)
            bits[i] = power if magnitude > ZERO_BITS and top > 0.0 else np.int64(0)
        for i in range(rows):
            new = scratch[i]
            scratch[i] = new * top - quantized[j, i] * old_top
            quantized[j, i] = new
            whole[j, i] = np.int32(new / BOTTOM)
        change += sum_squares(scratch, rows)
    return change


@kernel
def invert_gram(gram: Floats, inverse: Floats) -> None:
    """Write the Moore-Penrose inverse of the Gram matrix of normalised coefficients (float64 [3, 3], multiples of 1/4096).

    Full rank: Cramer's rule on exact integers. Rank 2: G+ = G (tI - G)^2 / m^2 with t the trace and m the sum of the
    principal minors (Cayley-Hamilton). Rank 1: G / t^2.
    """
    a = np.int64(gram[0, 0] * GRAM_SCALE)
    b = np.int64(gram[0, 1] * GRAM_SCALE)
    c = np.int64(gram[0, 2] * GRAM_SCALE)
    d = np.int64(gram[1, 1] * GRAM_SCALE)
    e = np.int64(gram[1, 2] * GRAM_SCALE)
    f = np.int64(gram[2, 2] * GRAM_SCALE)
    minor_0, minor_1, minor_2 = d * f - e * e, a * f - c * c, a * d - b * b
    cross_01, cross_02, cross_12 = c * e - b * f, b * e - c * d, b * c - a * e
    determinant = a * minor_0 + b * cross_01 + c * cross_02
    if determinant != 0:
        factor = GRAM_SCALE / determinant
        inverse[0, 0], inverse[1, 1], inverse[2, 2] = minor_0 * factor, minor_1 * factor, minor_2 * factor
        inverse[0, 1] = inverse[1, 0] = cross_01 * factor
        inverse[0, 2] = inverse[2, 0] = cross_02 * factor
        inverse[1, 2] = inverse[2, 1] = cross_12 * factor
        return
    invert_deficient(gram, (minor_0 + minor_1 + minor_2) / GRAM_SCALE**2, inverse)


@kernel
def invert_deficient(gram: Floats, minors: float, inverse: Floats) -> None:
    """Write the Moore-Penrose inverse of a symmetric 3x3 matrix of rank 2 (``minors`` > 0), 1 or 0."""
    trace = gram[0, 0] + gram[1, 1] + gram[2, 2]
    for j in range(3):
        for k in range(3):
            total = 0.0
            if minors > 0.0:
                for m in range(3):
                    left = trace * gram[j, m]  # (G (tI - G))[j, m]
                    for n in range(3):
                        left -= gram[j, n] * gram[n, m]
                    right = trace - gram[m, k] if m == k else -gram[m, k]
                    total += left * right
                total /= minors * minors
            elif trace > 0.0:
                total = gram[j, k] / (trace * trace)
            inverse[j, k] = total


@kernel
def invert_basis(basis: Floats, scaled: Floats, gram: Floats, inverse: Floats) -> None:
    """Write the Moore-Penrose inverse of the basis ; all arrays are float64 [3, 3], ``scaled`` and ``gram`` are work space.

    With singular values s1 >= s2 >= s3: |det| = s1 s2 s3, the adjugate's norm is about s1 s2 and the trace of BB' about s1^2,
    so that s3 / s1 and s2 / s1 are estimated within a factor of 3 without an eigenvalue solver.
    """
    largest = 0.0
    for j in range(3):
        for k in range(3):
            largest = max(largest, abs(basis[j, k]))
    largest = largest if largest > 0.0 else 1.0
    b = scaled
    norm = 0.0
    for j in range(3):
        for k in range(3):
            b[j, k] = basis[j, k] / largest
            norm += b[j, k] * b[j, k]
    minors = 0.0
    for j in range(3):
        for k in range(3):
            j1, j2, k1, k2 = (j + 1) % 3, (j + 2) % 3, (k + 1) % 3, (k + 2) % 3
            inverse[k, j] = b[j1, k1] * b[j2, k2] - b[j1, k2] * b[j2, k1]
            minors += inverse[k, j] * inverse[k, j]
    determinant = b[0, 0] * inverse[0, 0] + b[0, 1] * inverse[1, 0] + b[0, 2] * inverse[2, 0]
    if abs(determinant) > RCOND * np.sqrt(minors * norm):
        for j in range(3):
            for k in range(3):
                inverse[j, k] /= determinant * largest
        return
    for j in range(3):
        for k in range(3):
            gram[j, k] = b[j, 0] * b[k, 0] + b[j, 1] * b[k, 1] + b[j, 2] * b[k, 2]
    pseudo = inverse
    invert_deficient(gram, minors if np.sqrt(minors) > RCOND * norm else 0.0, pseudo)
    for k in range(3):  # B+ = B' (BB')+, column by column
        x, y, z = pseudo[0, k], pseudo[1, k], pseudo[2, k]
        for j in range(3):
            inverse[j, k] = (b[0, j] * x + b[1, j] * y + b[2, j] * z) / largest


@kernel
def fit_basis(
    target: Floats, quantized: Floats, whole: Whole, rows: int, gram: Floats, inverse: Floats, projected: Floats,
    basis: Floats,
) -> None:  # fmt: skip
    """Least squares for the basis on normalised coefficients: basis (float64 [3, 3]) of min |target - q basis|.

    ``target`` is float64 [3, rows]; ``quantized`` and ``whole`` as in `quantize_columns`.
    """
    x0, x1, x2, y0, y1, y2, z0, z1, z2 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(rows):
        u, v, w = target[0, i], target[1, i], target[2, i]
        x, y, z = quantized[0, i], quantized[1, i], quantized[2, i]
        x0, x1, x2 = x0 + x * u, x1 + x * v, x2 + x * w
        y0, y1, y2 = y0 + y * u, y1 + y * v, y2 + y * w
        z0, z1, z2 = z0 + z * u, z1 + z * v, z2 + z * w
    projected[0, 0], projected[0, 1], projected[0, 2] = x0, x1, x2
    projected[1, 0], projected[1, 1], projected[1, 2] = y0, y1, y2
    projected[2, 0], projected[2, 1], projected[2, 2] = z0, z1, z2
    g00, g01, g02, g11, g12, g22 = 0, 0, 0, 0, 0, 0
    for i in range(rows):
        a, b, c = whole[0, i], whole[1, i], whole[2, i]
        g00, g01, g02 = g00 + a * a, g01 + a * b, g02 + a * c
        g11, g12, g22 = g11 + b * b, g12 + b * c, g22 + c * c
    gram[0, 0], gram[1, 1], gram[2, 2] = g00 / GRAM_SCALE, g11 / GRAM_SCALE, g22 / GRAM_SCALE
    gram[0, 1] = gram[1, 0] = g01 / GRAM_SCALE
    gram[0, 2] = gram[2, 0] = g02 / GRAM_SCALE
    gram[1, 2] = gram[2, 1] = g12 / GRAM_SCALE
    invert_gram(gram, inverse)
    for j in range(3):
        for k in range(3):
            basis[j, k] = (
                inverse[j, 0] * projected[0, k] + inverse[j, 1] * projected[1, k] + inverse[j, 2] * projected[2, k]
            )


@kernel
def fit_coefficients(
    target: Floats, rows: int, inverse: Floats, threshold: float, row_threshold: float, values: Floats
) -> None:
    """Least squares for Ce = target inverse (float64 [3, rows]), then the row and the element threshold."""
    for j in range(3):
        x, y, z = inverse[0, j], inverse[1, j], inverse[2, j]
        for i in range(rows):
            values[j, i] = target[0, i] * x + target[1, i] * y + target[2, i] * z
    for i in range(rows):
        x, y, z = values[0, i], values[1, i], values[2, i]
        least = np.inf if abs(x) + abs(y) + abs(z) < row_threshold else threshold
        values[0, i] = 0.0 if abs(x) < least else x
        values[1, i] = 0.0 if abs(y) < least else y
        values[2, i] = 0.0 if abs(z) < least else z


@kernel
def encode_columns(quantized: Floats, rows: int, scratch: Floats, bits: Ints, t: int, codes: Codes) -> None:
    """Write codes[t] (int8 [T, rows, 3]): 0, or sign * (7 + log2 of the normalised magnitude)."""
    for j in range(3):
        for i in range(rows):
            scratch[i] = abs(quantized[j, i])
        for i in range(rows):
            code = (bits[i] >> 52) - 1023 + 7 if bits[i] != 0 else 0
            codes[t, i, j] = -code if quantized[j, i] < 0.0 else code


@kernel
def decompose_slices(
    targets: Floats,
    threshold: float,
    row_threshold: float,
    limit: float,
    most_iterations: int,
    tolerance: float,
    codes: Codes,
    bases: Floats,
    iterations: Ints,
) -> None:
    """Decompose every slice on its own.

    Parameters
    ----------
    targets : float64 [T, rows, 3]
        The weights' slices, finite. rows <= 192. Read.
    threshold, row_threshold : float
        Coefficients below ``threshold``, and rows whose magnitudes sum to less than ``row_threshold``, become zero.
    limit : float
        Largest coefficient, a power of two.
    most_iterations : int
        Most rounds of the two least-squares fits.
    tolerance : float
        A change of Ce (Frobenius) up to this ends the rounds.
    codes : int8 [T, rows, 3]
        Filled: coefficient codes.
    bases : float64 [T, 3, 3]
        Filled: bases on the scale of the weights, the coefficients' top powers folded in.
    iterations : int64 [T]
        Filled: rounds done.
    """
    rows = targets.shape[1]
    target = np.empty((3, rows))
    values = np.empty((3, rows))
    value_bits = values.view(np.int64)
    whole = np.empty((3, rows), np.int32)
    quantized = np.empty((3, rows))
    scratch = np.empty(rows)
    bits = scratch.view(np.int64)
    tops = np.empty(3)
    gram = np.empty((3, 3))
    inverse = np.empty((3, 3))
    projected = np.empty((3, 3))
    scaled = np.empty((3, 3))
    basis = np.empty((3, 3))
    for t in range(targets.shape[0]):
        for j in range(3):
            tops[j] = 0.0
            for i in range(rows):
                target[j, i] = targets[t, i, j]
                values[j, i] = targets[t, i, j]
                quantized[j, i] = 0.0
        rounds = 0
        while True:
            change = quantize_columns(values, value_bits, rows, limit, scratch, bits, quantized, whole, tops)
            fit_basis(target, quantized, whole, rows, gram, inverse, projected, basis)
            if rounds == most_iterations or (rounds > 0 and change <= tolerance * tolerance):
                break
            for j in range(3):  # the basis of the plain coefficients: undo the fold of the top powers
                for k in range(3):
                    projected[j, k] = basis[j, k] / tops[j] if tops[j] > 0.0 else 0.0
            invert_basis(projected, scaled, gram, inverse)
            fit_coefficients(target, rows, inverse, threshold, row_threshold, values)
            rounds += 1
        encode_columns(quantized, rows, scratch, bits, t, codes)
        for j in range(3):
            for k in range(3):
                bases[t, j, k] = basis[j, k]
        iterations[t] = rounds


@kernel
def rebuild_values(codes: Codes, bases: Floats, weights: Floats) -> None:
    """Fill weights (float64 [T, rows, 3]) with Ce B in floating point, from codes (int8) and float bases [T, 3, 3]."""
    values = np.zeros(15)
    for code in range(1, 8):
        values[7 + code] = 2.0 ** (code - 7)
        values[7 - code] = -(2.0 ** (code - 7))
    for t in range(codes.shape[0]):
        for i in range(codes.shape[1]):
            x, y, z = values[7 + codes[t, i, 0]], values[7 + codes[t, i, 1]], values[7 + codes[t, i, 2]]
            for k in range(3):
                weights[t, i, k] = x * bases[t, 0, k] + y * bases[t, 1, k] + z * bases[t, 2, k]


@kernel
def rebuild_integers(codes: Codes, bases: Codes, weights: Codes) -> None:
    """Fill weights (int8 [T, rows, 3]) as the rebuild engine does, from codes (int8) and bases (int8 [T, 3, 3])."""
    factors = np.zeros(15, np.int64)
    for code in range(1, 8):
        factors[7 + code], factors[7 - code] = 1 << (code - 1), -(1 << (code - 1))
    for t in range(codes.shape[0]):
        for i in range(codes.shape[1]):
            x, y, z = factors[7 + codes[t, i, 0]], factors[7 + codes[t, i, 1]], factors[7 + codes[t, i, 2]]
            for k in range(3):
                rounded = (x * bases[t, 0, k] + y * bases[t, 1, k] + z * bases[t, 2, k] + 32) >> 6
                weights[t, i, k] = np.int8(max(-128, min(127, rounded)))
