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

    Exact: all sums of bits are gone through, channel by channel (the knapsack problem with one width from each channel, by dynamic
    programming), in units of the greatest common divisor of the choices' steps. Of equal errors, as float64 sums from the last
    channel to the first, the fewest bits are taken, then the narrowest width for the first channel, the second, and so on.

    Parameters
    ----------
    weight : ndarray
        ``[channels, ...]``, finite floats.
    mean_bits : float
        At least the narrowest choice.
    choices : sequence of int
        Widths, 0 to 16, at least one.
    clipping : str
        As `hwsim.quant.uniform.quantize_weights`.

    Raises
    ------
    SpecError
        A choice out of range, none, or a mean below the narrowest.
    """
    values = check_weights(weight)
    widths = np.array(sorted({require_int("choices", int(bits), 0, 16) for bits in choices}))
    if not len(widths):
        raise SpecError("choices", tuple(choices), "at least one width")
    if not widths[0] <= mean_bits:
        raise SpecError("mean_bits", mean_bits, f"at least {widths[0]}, the narrowest choice")
    error = np.stack([_measure_error(values, int(bits), clipping) for bits in widths], axis=1)
    near = int(np.floor(min(mean_bits, int(widths[-1])) * len(values)))
    budget = max(bits for bits in (near - 1, near, near + 1) if bits / len(values) <= mean_bits)
    unit = max(int(np.gcd.reduce(widths - widths[0])), 1)
    picks = _choose_least(error, (widths - widths[0]) // unit, (budget - len(values) * int(widths[0])) // unit)
    return tuple(int(widths[pick]) for pick in picks)


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


def _choose_least(error: npt.NDArray[np.float64], steps: npt.NDArray[np.int64], room: int) -> list[int]:
    """Return the choice of each channel, ``error`` is ``[channels, choices]``: the least sum whose ``steps`` are at most ``room``.

    ``steps`` ascend from 0.
    """
    least = np.zeros(1)  # error of the channels from here to the last, by exactly how many steps they take
    chosen = []
    for row in error[::-1]:
        size = min(room, len(least) - 1 + int(steps[-1])) + 1
        wider, pick = np.full(size, np.inf), np.zeros(size, np.uint8)
        for place, step in enumerate(steps):
            found = least[: max(size - step, 0)] + row[place]
            part = slice(step, step + len(found))
            better = found < wider[part]
            np.copyto(wider[part], found, where=better)
            np.copyto(pick[part], np.uint8(place), where=better)
        least = wider
        chosen.append(pick)
    left, places = int(np.argmin(least)), []
    for pick in reversed(chosen):
        places.append(int(pick[left]))
        left -= int(steps[places[-1]])
    return places
