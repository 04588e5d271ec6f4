"""Refuses weights that float32 does not hold, as they are or after rounding."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
import numpy.typing as npt

from hwsim.core.errors import InputError
from hwsim.core.tensors import Array

LARGEST = float(np.finfo(np.float32).max)


def require_float32(weight: Array) -> Array:
    """Return weights with floats wider than float32 narrowed to it, others as they are; NaN and infinities stay.

    Raises
    ------
    InputError
        A finite weight is beyond float32.
    """
    values = np.asarray(weight)
    if values.dtype.kind != "f" or values.dtype.itemsize <= 4:
        return values
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    lost = np.isinf(narrow) & np.isfinite(values)
    if lost.any():
        raise InputError(
            "weights", [f"reach {np.abs(values[lost]).max():.3g}: float32 holds no more than {LARGEST:.2g}"]
        )
    return narrow


def refuse_rounding(weight: npt.NDArray[np.float32], what: str) -> NoReturn:
    """Raise the InputError of finite weights that ``what`` (say, ``8-bit integers``) rounds beyond float32."""
    raise InputError("weights", [f"reach {np.abs(weight).max():.3g}, which {what} round beyond float32"])
