"""Weights whose bits differ by output channel; 0 bits are a pruned channel.

Source: channel-wise mixed precision on MPIC (github.com/eml-eda/plinio): 0, 2, 4 or 8 bits a channel, channels regrouped by bits so
that each group runs as a layer of its own. The permutation costs nothing: the next layer's input channels are permuted alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwsim.core.check import require_int
from hwsim.core.errors import SpecError
from hwsim.core.tensors import Array
from hwsim.quant.rows import check_weights, spread
from hwsim.quant.uniform import SCALE_BITS, choose_dtype, quantize_weights

CHANNEL_BITS = (0, 2, 4, 8)
"""Widths of MPIC."""
COUNT_BITS = 16
"""Bits of a stored number of channels, one for each width that is used."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MixedWeights:
    """Integer weights with bits by channel.

    Parameters
    ----------
    stored : ndarray
        Signed integers, shape of the float weights, channels in their own order; zero in pruned channels.
    scale : ndarray of float32
        ``[channels]``.
    channel_bits : tuple of int
        ``[channels]``.
    """

    stored: Array
    scale: npt.NDArray[np.float32]
    channel_bits: tuple[int, ...]

    @property
    def storage_bits(self) -> int:
        """Exact size: weights of unpruned channels at their bits, a scale for each, a count for each width."""
        each = self.stored.size // len(self.channel_bits)
        kept = [bits for bits in self.channel_bits if bits]
        return each * sum(kept) + len(kept) * SCALE_BITS + len(set(kept)) * COUNT_BITS

    @property
    def order(self) -> npt.NDArray[np.intp]:
        """Channels regrouped by bits, the widest first, otherwise in their own order; pruned ones are left out."""
        bits = np.array(self.channel_bits)
        order = np.argsort(-bits, kind="stable")
        return order[bits[order] > 0]

    @property
    def storage_order(self) -> npt.NDArray[np.intp]:
        """All channels, the widest first, pruned ones last: the order in which a layer's filters are stored."""
        return np.argsort(-np.array(self.channel_bits), kind="stable")

    def list_groups(self) -> tuple[tuple[int, int], ...]:
        """Return (bits, number of channels) of each group, the widest first; pruned channels are no group."""
        widths = sorted(set(self.channel_bits) - {0}, reverse=True)
        return tuple((bits, self.channel_bits.count(bits)) for bits in widths)

    def dequantize(self) -> npt.NDArray[np.float32]:
        """Return the real weights, float32, channels in their own order."""
        return self.stored.astype(np.float32) * spread(self.scale, self.stored.ndim)

    def to_integers(self) -> tuple[Array, npt.NDArray[np.float32]]:
        """Return the integers and scales ``[channels]``."""
        return self.stored, self.scale


def quantize_channels(weight: Array, channel_bits: Sequence[int], clipping: str = "max") -> MixedWeights:
    """Quantize each output channel symmetrically at its own bits.

    Parameters
    ----------
    weight : ndarray
        ``[channels, ...]``, finite floats.
    channel_bits : sequence of int
        One a channel, 0 to 16.
    clipping : str
        As `hwsim.quant.uniform.quantize_weights`.

    Raises
    ------
    SpecError
        Another number of widths than there are channels, or a width out of range.
    """
    values = check_weights(weight)
    widths = [require_int(f"channel_bits[{i}]", int(bits), 0, 16) for i, bits in enumerate(channel_bits)]
    if len(widths) != len(values):
        raise SpecError("channel_bits", f"{len(widths)} widths", f"{len(values)}, one for each output channel")
    stored = np.zeros(values.shape, choose_dtype(max(max(widths), 1), signed=True))
    scale = np.ones(len(values), np.float32)
    for bits in sorted(set(widths) - {0}):
        chosen = np.flatnonzero(np.array(widths) == bits)
        found = quantize_weights(values[chosen], bits, clipping=clipping)
        stored[chosen], scale[chosen] = found.stored, found.scale
    return MixedWeights(stored=stored, scale=scale, channel_bits=tuple(widths))


def choose_channel_bits(
    weight: Array, mean_bits: float, choices: Sequence[int] = CHANNEL_BITS, clipping: str = "max"
) -> tuple[int, ...]:
    """Return widths by channel of the least squared error whose mean is at most ``mean_bits``.

    By a price a bit: each channel takes the width of least error plus price; the smallest price that meets the mean
    is found by bisection. What is left of the budget then goes to the channel that gains most a bit.
    """
    values = check_weights(weight)
    widths = np.array(sorted({require_int("choices", int(bits), 0, 16) for bits in choices}))
    if not widths[0] <= mean_bits:
        raise SpecError("mean_bits", mean_bits, f"at least {widths[0]}, the narrowest choice")
    error = np.stack([_measure_error(values, int(bits), clipping) for bits in widths], axis=1)
    budget = int(np.floor(mean_bits * len(values)))
    low, high = 0.0, float(error.max()) + 1.0
    for _ in range(80):
        price = (low + high) / 2
        used = int(widths[np.argmin(error + price * widths, axis=1)].sum())
        low, high = (price, high) if used > budget else (low, price)
    pick = np.argmin(error + high * widths, axis=1)
    left = budget - int(widths[pick].sum())
    while True:
        step = np.minimum(pick + 1, len(widths) - 1)
        cost = widths[step] - widths[pick]
        rows = np.arange(len(values))
        gain = np.where((cost > 0) & (cost <= left), (error[rows, pick] - error[rows, step]) / np.maximum(cost, 1), 0.0)
        best = int(np.argmax(gain))
        if gain[best] <= 0:
            return tuple(int(bits) for bits in widths[pick])
        left -= int(cost[best])
        pick[best] += 1


def assign_channel_bits(weight: Array, pairs: Sequence[tuple[int, int]], clipping: str = "max") -> tuple[int, ...]:
    """Return a width for each channel, where only the number of channels of each width is given.

    Widths are given out from the widest down: each to the channels whose squared error grows most at the next narrower one.

    Parameters
    ----------
    weight : ndarray
        ``[channels, ...]``, finite floats.
    pairs : sequence of (int, int)
        Bits and number of channels, the widest first.

    Raises
    ------
    SpecError
        The numbers do not add up to the channels.
    """
    values = check_weights(weight)
    filters = sum(count for _, count in pairs)
    if filters != len(values):
        raise SpecError("channel_bits", f"{filters} filters", f"{len(values)}, those of the layer")
    errors = [_measure_error(values, bits, clipping) for bits, _ in pairs]
    widths, left = np.zeros(len(values), np.int64), np.arange(len(values))
    for place, (bits, count) in enumerate(pairs):
        after = errors[min(place + 1, len(pairs) - 1)]
        order = np.argsort(-(after - errors[place])[left], kind="stable")
        widths[left[order[:count]]] = bits
        left = np.sort(left[order[count:]])
    return tuple(int(bits) for bits in widths)


def _measure_error(values: npt.NDArray[np.float32], bits: int, clipping: str) -> npt.NDArray[np.float64]:
    found = np.zeros_like(values) if bits == 0 else quantize_weights(values, bits, clipping=clipping).dequantize()
    return np.square(found - values, dtype=np.float64).reshape(len(values), -1).sum(axis=1)
