"""Weights for native low-bit arrays: groups in parallel, and wide weights as digits for passes in time.

Source: PalQuant (ECCV 2022): a network G times as wide whose convolutions have G groups runs each group at the array's native bits;
a wide network on the same array takes one pass a pair of digits. Post-training, a group has the scale of its own largest
weight (PalQuant learns one bound a layer).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwsim.core.check import require_int
from hwsim.core.errors import SpecError
from hwsim.core.tensors import Array
from hwsim.quant.rows import check_weights, spread
from hwsim.quant.uniform import SCALE_BITS, choose_dtype, quantize_weights


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupWeights:
    """Integer weights with a scale for each group of output channels.

    Parameters
    ----------
    stored : ndarray
        Signed integers, ``[channels, ...]``, channels of a group side by side.
    scale : ndarray of float32
        ``[groups]``.
    bits : int
        Of a weight.
    """

    stored: Array
    scale: npt.NDArray[np.float32]
    bits: int

    @property
    def storage_bits(self) -> int:
        """Exact size: every weight, a scale a group."""
        return self.stored.size * self.bits + self.scale.size * SCALE_BITS

    def to_integers(self) -> tuple[Array, npt.NDArray[np.float32]]:
        """Return the integers and scales ``[channels]``."""
        return self.stored, np.repeat(self.scale, len(self.stored) // len(self.scale))

    def dequantize(self) -> npt.NDArray[np.float32]:
        """Return the real weights, float32."""
        return self.stored.astype(np.float32) * spread(self.to_integers()[1], self.stored.ndim)


def quantize_groups(weight: Array, bits: int, groups: int, clipping: str = "max") -> GroupWeights:
    """Quantize a grouped layer's weights ``[groups * K, C, R, S]`` with a scale for each group.

    Raises
    ------
    SpecError
        The groups do not divide the channels.
    """
    values = check_weights(weight)
    require_int("groups", groups, 1)
    if len(values) % groups:
        raise SpecError("groups", groups, f"a divisor of the {len(values)} output channels")
    found = quantize_weights(values.reshape(groups, -1), bits, clipping=clipping)
    return GroupWeights(stored=found.stored.reshape(values.shape), scale=found.scale, bits=bits)


def split_digits(stored: Array, bits: int, native_bits: int) -> tuple[Array, ...]:
    """Return integers as digits of a native width, the least significant first: ``sum(digit[i] << (native_bits * i))``.

    The top digit is signed, the others are not; a temporal pass handles one digit of the weights and one of the activations.

    Parameters
    ----------
    stored : ndarray
        Signed integers of ``bits``.
    bits, native_bits : int
        1 to 16; ``native_bits`` divides ``bits`` rounded up: the top digit is sign extended.
    """
    require_int("bits", bits, 1, 16)
    require_int("native_bits", native_bits, 1, 16)
    count = -(-bits // native_bits)
    wide = stored.astype(np.int32)
    mask = (1 << native_bits) - 1
    digits: list[Array] = [
        ((wide >> (native_bits * i)) & mask).astype(choose_dtype(native_bits, signed=False)) for i in range(count - 1)
    ]
    digits.append((wide >> (native_bits * (count - 1))).astype(choose_dtype(native_bits, signed=True)))
    return tuple(digits)


def join_digits(digits: tuple[Array, ...], native_bits: int) -> npt.NDArray[np.int32]:
    """Return the integers of digits."""
    total = np.zeros(digits[0].shape, np.int32)
    for place, digit in enumerate(digits):
        total += digit.astype(np.int32) << (native_bits * place)
    return total
