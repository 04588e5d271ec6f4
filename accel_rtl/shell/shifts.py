"""Parameters of a layer for a machine without multipliers behind the array: every factor is a power of two.

A requantizer's ``multiplier / 2**shift`` becomes a right shift alone (to the left where negative); the factors of an addition
become exponents, both and the shift behind the sum less by what they have in common.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hwsim.core.errors import SpecError

if TYPE_CHECKING:
    from hwsim.core.mapping import Int64
    from hwsim.engine.execute_parameters import LayerParameters

LEFT_BITS = 8
"""Longest shift of a sum to the left: fractional lengths are at most 8 (`hwsim.quant.fixed_point`)."""
FACTOR_BITS = 4
"""Bits of the exponent by which an operand of an addition is aligned."""


def reduce_to_shifts(name: str, parameters: LayerParameters) -> LayerParameters:
    """Return parameters of the layer ``name`` whose multipliers are 1 and whose factors are exponents (`decode_factor`).

    Raises
    ------
    SpecError
        A multiplier or a factor that is no power of two, or a shift that is too long.
    """
    where, requant = f"layer {name}", parameters.requant
    exponent = _find_exponents(f"{where}: multiplier", requant.multiplier)
    shift = requant.shift - exponent
    if shift.size and int(shift.min()) < -LEFT_BITS:
        raise SpecError(f"{where}: shift to the left", -int(shift.min()), f"at most {LEFT_BITS}, to be built")
    ones = np.ones_like(requant.multiplier)
    factors, factor_shift = parameters.factors, parameters.factor_shift
    if factors.size:
        sizes = _find_exponents(f"{where}: factor", np.abs(factors))
        common = min(int(sizes.min()), factor_shift)
        sizes, factor_shift = sizes - common, factor_shift - common
        if int(sizes.max()) >= 1 << FACTOR_BITS:
            raise SpecError(
                f"{where}: exponent of a factor", int(sizes.max()), f"below {1 << FACTOR_BITS}, to be built"
            )
        factors = np.where(factors < 0, ~sizes, sizes)
    return replace(
        parameters, requant=replace(requant, multiplier=ones, shift=shift), factors=factors, factor_shift=factor_shift
    )


def decode_factor(field: int) -> int:
    """Return the factor of a header's field: 2**field, or -2**~field where the field is negative."""
    return -(1 << ~field) if field < 0 else 1 << field


def _find_exponents(where: str, values: Int64) -> Int64:
    exponent = np.asarray(np.frexp(values.astype(np.float64))[1] - 1, np.int64)
    wrong = (values <= 0) | (values != np.int64(1) << np.maximum(exponent, 0))
    if wrong.any():
        raise SpecError(where, int(values[wrong][0]), "a power of two: no multiplier is built", "--policy f8")
    return exponent
