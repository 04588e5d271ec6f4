"""Integers as bits: bit 0 (the least significant) first, two's complement where signed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint8]
"""Bits, one an entry, 0 or 1."""


def integers_to_bits(values: npt.NDArray[Any], bits: int) -> Bits:
    """Return the low ``bits`` (1 to 64) bits of integers, uint8 ``[..., bits]``: entry 0 is the least significant."""
    size = _container_bytes(bits)
    wrapped = np.ascontiguousarray(values, np.int64).astype(f"<i{size}")
    octets = wrapped.reshape(-1, 1).view(np.uint8)
    return np.unpackbits(octets, axis=1, count=bits, bitorder="little").reshape(*np.shape(values), bits)


def bits_to_integers(array: Bits, signed: bool) -> npt.NDArray[np.int64]:
    """Return the integers whose bits stand along the last axis (1 to 64, signed; to 63, unsigned), int64."""
    bits = array.shape[-1]
    packed = np.packbits(array.reshape(-1, bits), axis=1, bitorder="little")
    octets = np.zeros((packed.shape[0], 8), np.uint8)
    octets[:, : packed.shape[1]] = packed
    values = octets.view("<i8").reshape(array.shape[:-1]).astype(np.int64)
    if signed:
        values = (values << (64 - bits)) >> (64 - bits)
    return values


def _container_bytes(bits: int) -> int:
    return 1 if bits <= 8 else 2 if bits <= 16 else 4 if bits <= 32 else 8
