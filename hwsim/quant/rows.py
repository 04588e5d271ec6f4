"""What the quantizers share: checks of their input, scales along channels, how far a result is from the original."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hwsim.core.errors import InputError, SpecError
from hwsim.core.tensors import Array
from hwsim.quant.overflow import require_float32


def check_weights(weight: Array) -> npt.NDArray[np.float32]:
    """Return weights as float32.

    Raises
    ------
    SpecError
        They are empty or a scalar.
    InputError
        One is NaN or infinite, or beyond float32.
    """
    values = np.asarray(weight)
    if values.size == 0 or values.ndim == 0:
        raise SpecError("weight.shape", values.shape, "a non-empty array with channels first")
    if values.dtype.kind not in "fiu" or not np.all(np.isfinite(values)):
        raise InputError("weights", [f"{int(np.sum(~np.isfinite(values)))} of {values.size} are NaN or infinite"])
    return require_float32(values).astype(np.float32)


def make_scale(values: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return float32 scales; a channel of zeros gets the scale 1."""
    scale = np.asarray(values, np.float32)
    return np.where(scale > np.finfo(np.float32).tiny, scale, np.float32(1)).astype(np.float32)


def spread(array: npt.NDArray[Any], rank: int) -> npt.NDArray[Any]:
    """Return a vector along the first axis of a tensor of some rank."""
    return array.reshape(-1, *(1,) * (rank - 1))


def measure_sqnr_db(reference: Array, found: Array) -> float:
    """Return the signal to quantization noise ratio, 10 log10(sum x**2 / sum (x - y)**2), dB; infinite where they are equal."""
    exact = np.asarray(reference, np.float64).ravel()
    noise = float(np.square(np.asarray(found, np.float64).ravel() - exact).sum())
    signal = float(np.square(exact).sum())
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal else float("-inf")
