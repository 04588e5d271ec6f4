"""The decomposition in plain numpy, one slice at a time: slow, and short enough to be checked by reading."""

from __future__ import annotations

import math

import numpy as np


def quantize_value(value: float, top: float) -> float:
    """Return the nearest of 0 and +-top 2^-k, k = 0 .. 6, by arithmetic distance; a tie goes to the smaller."""
    choices = [0.0] + [top * 2.0**-k for k in range(6, -1, -1)]
    nearest = min(choices, key=lambda choice: (abs(abs(value) - choice), choice))
    return math.copysign(nearest, value) if nearest else 0.0


def quantize_power(value: float) -> float:
    """Return the nearest power of two of a positive number; a tie goes to the smaller."""
    lower = 2.0 ** (math.frexp(value)[1] - 1)
    return lower if value - lower <= 2 * lower - value else 2 * lower


def quantize_matrix(ce: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the quantized coefficients and the largest magnitude of each column (0: empty)."""
    quantized, tops = np.zeros_like(ce), np.zeros(3)
    for j in range(3):
        largest = np.max(np.abs(ce[:, j]))
        if largest > 0:
            tops[j] = min(limit, quantize_power(largest))
            quantized[:, j] = [quantize_value(value, tops[j]) for value in ce[:, j]]
    return quantized, tops


def decompose_rows(
    w: np.ndarray,
    threshold: float,
    row_threshold: float,
    limit: float = 32.0,
    rounds: int = 30,
    tolerance: float = 1e-10,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (Ce float [rows, 3], B [3, 3], codes int [rows, 3]) with w ~ Ce B; B belongs to Ce, nothing is folded."""
    ce, tops = quantize_matrix(w, limit)
    for _ in range(rounds):
        b = fit_b(ce, tops, w)
        free = np.linalg.lstsq(b.T, w.T, rcond=1e-9)[0].T
        free[np.abs(free).sum(axis=1) < row_threshold] = 0.0
        free[np.abs(free) < threshold] = 0.0
        before = ce
        ce, tops = quantize_matrix(free, limit)
        if np.linalg.norm(ce - before) <= tolerance:
            break
    codes = np.zeros(ce.shape, dtype=int)
    for i, j in zip(*np.nonzero(ce), strict=True):
        codes[i, j] = int(np.sign(ce[i, j])) * (7 + int(math.log2(abs(ce[i, j]) / tops[j])))
    return ce, fit_b(ce, tops, w), codes


def fit_b(ce: np.ndarray, tops: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return the least-squares B; where Ce is singular, the one of least norm on columns scaled to a largest of 1."""
    scale = np.where(tops > 0, tops, 1.0)
    return np.linalg.lstsq(ce / scale, w, rcond=1e-9)[0] / scale[:, None]


def rebuild_weight(codes: list[int], basis: list[list[int]], k: int) -> int:
    """Return weight k of a row, as the docstring of the format says, in Python integers."""
    total = 0
    for code, basis_row in zip(codes, basis, strict=True):
        if code:
            total += (1 if code > 0 else -1) * basis_row[k] * 2 ** (abs(code) - 1)
    rounded = math.floor((total + 32) / 64)
    return min(127, max(-128, rounded))
