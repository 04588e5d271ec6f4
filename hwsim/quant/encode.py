"""From float weights to the codec that a policy names: the quantizers of this package behind one call.

- ``power-of-two``: a largest exponent for each filter, nearest by value, exponents as far as the engine shifts.
- ``codebook``: the table of least squared error for the layer (k-means, as HAQ's), then rounded to the entries of the engine's
  table, integers of one scale.
- ``bit-planes``: the leading planes of nested weights, each weight at the middle of what its planes leave open.
- channels of different bits: a policy says how many filters have how many; the widest go where they take away most error.

Dense weights are no codec: `hwsim.quant.calibrate` quantizes them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hwsim.core import storage
from hwsim.core.datapath import StoredWeights, Workload
from hwsim.core.errors import InputError
from hwsim.core.tensors import Array
from hwsim.quant.bit_planes import quantize_planes
from hwsim.quant.codebook import quantize_codebook
from hwsim.quant.mixed_channels import assign_channel_bits, quantize_channels
from hwsim.quant.power_of_two import quantize_shift


def encode_weights(workload: Workload, weight: Array, clipping: str = "max") -> StoredWeights | None:
    """Return float weights in the codec of a layer's format, or None where they are dense (or the architecture's own).

    Parameters
    ----------
    workload : Workload
        The layer at its format.
    weight : ndarray
        Float weights ``[G*K, C, R, S]``.
    clipping : str
        Of integers (`hwsim.quant.uniform.quantize_weights`); codebooks and powers of two clip nothing.

    Returns
    -------
    StoredWeights
        Filters in the network's order; where they differ in bits, ``codec.order`` is that in which they are stored.

    Raises
    ------
    InputError
        A weight is NaN or infinite.
    """
    fmt = workload.fmt
    codec = storage.find_codec(fmt)
    try:
        if codec == "power-of-two":
            return _encode_powers(weight, fmt.w_bits)
        if codec == "codebook":
            return _encode_table(weight, fmt.w_bits)
        if codec == "bit-planes":
            return _encode_planes(weight, fmt.w_bits, clipping)
        if fmt.channel_bits:
            return _encode_channels(weight, fmt.channel_bits, clipping)
    except InputError as error:
        raise InputError(f"layer {workload.layer.name}", error.problems) from error
    return None


def _encode_powers(weight: Array, bits: int) -> StoredWeights:
    found = quantize_shift(weight, bits, per_channel=True, span=storage.find_largest_exponent(bits))
    integers, scale = found.to_integers()
    return StoredWeights(
        integers=integers, scale=scale, codec=found, bits=storage.find_largest_exponent(bits) + 2, grid="powers"
    )


def _encode_table(weight: Array, bits: int) -> StoredWeights:
    found = quantize_codebook(weight, bits, "kmeans")
    integers, scale = found.to_integers(storage.TABLE_ENTRY_BITS)
    spread = np.repeat(scale, len(integers))
    return StoredWeights(integers=integers, scale=spread, codec=found, bits=storage.TABLE_ENTRY_BITS, grid="table")


def _encode_planes(weight: Array, bits: int, clipping: str) -> StoredWeights:
    found = quantize_planes(weight, storage.find_master_bits(bits), clipping=clipping, middle=True)
    integers, scale = found.read(bits)
    return StoredWeights(integers=integers, scale=scale, codec=found, bits=bits + 1, grid="odd")


def _encode_channels(weight: Array, pairs: tuple[tuple[int, int], ...], clipping: str) -> StoredWeights:
    found = quantize_channels(weight, assign_channel_bits(weight, pairs, clipping), clipping)
    integers, scale = found.to_integers()
    return StoredWeights(integers=integers, scale=scale, codec=found, bits=max(pairs[0][0], 1))


def fit_to_grid(found: StoredWeights, ratio: npt.NDArray[np.float64]) -> Array:
    """Return integers times a ratio (at most 1) for each filter, rounded to what the codec holds.

    ``ratio`` of powers of two has to be one itself. A table is shared by all filters: its integers stay as they are.
    """
    real = np.asarray(found.integers, np.float64) * ratio.reshape(-1, *(1,) * (found.integers.ndim - 1))
    if found.grid == "table":
        return found.integers
    if found.grid == "odd":
        return (2 * np.floor(real / 2) + 1).astype(found.integers.dtype)
    return np.rint(real).astype(found.integers.dtype)
