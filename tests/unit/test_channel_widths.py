"""Widths by channel: the least error under a mean, found exactly; channels quantized each at its own."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hwsim.core.errors import SpecError
from hwsim.quant.mixed_channels import assign_channel_bits, choose_channel_bits, quantize_channels
from hwsim.quant.uniform import quantize_weights
from tests.unit.test_weight_formats import draw


@pytest.mark.parametrize("pairs", [((8, 2), (4, 4)), ((4, 3), (2, 3)), ((2, 4), (0, 2)), ((8, 6),)])
def test_widths_go_where_they_take_away_most_error(pairs):
    """Of two widths: the least sum of squared errors of all ways to give them out."""
    weight = draw()
    error = {}
    for bits, _ in pairs:
        found = quantize_weights(weight, bits).dequantize() if bits else np.zeros_like(weight)
        error[bits] = np.square(found.astype(np.float64) - weight).reshape(6, -1).sum(axis=1)
    widths = [bits for bits, count in pairs for _ in range(count)]
    ways = set(itertools.permutations(widths))
    least = min(ways, key=lambda way: sum(error[bits][channel] for channel, bits in enumerate(way)))
    assert assign_channel_bits(weight, pairs) == least
    with pytest.raises(SpecError, match="channel_bits: got '5 filters', expected 6, those of the layer"):
        assign_channel_bits(weight, ((8, 5),))


def test_channels_are_quantized_each_at_its_bits():
    weight, widths = draw(), [8, 4, 2, 0, 8, 4]
    found = quantize_channels(weight, widths)
    for channel, bits in enumerate(widths):
        wanted = quantize_weights(weight[channel : channel + 1], bits).dequantize()[0] if bits else 0 * weight[channel]
        np.testing.assert_array_equal(found.dequantize()[channel], wanted)
    assert found.order.tolist() == [0, 4, 1, 5, 2]
    assert found.list_groups() == ((8, 2), (4, 2), (2, 1))
    with pytest.raises(SpecError, match="got '5 widths', expected 6, one for each output channel"):
        quantize_channels(weight, widths[:5])


def list_sums(weight, choices, clipping="max"):
    """Naive: every assignment of widths, the narrowest first, with its squared error, added from the last channel to the first."""
    error = [
        [float(np.square(quantize_channels(row[None], [b], clipping).dequantize() - row, dtype=np.float64).sum()) for b in choices]
        for row in weight
    ]  # fmt: skip
    found = []
    for places in itertools.product(range(len(choices)), repeat=len(weight)):
        total = 0.0
        for row, place in zip(reversed(error), reversed(places), strict=True):
            total += row[place]
        found.append((total, tuple(choices[place] for place in places)))
    return found


@pytest.mark.parametrize("seed", range(60))
def test_chosen_widths_are_the_best_of_all(seed):
    """Every assignment to 4 to 6 channels: the least error; of equal ones the fewest bits, then the narrowest first channels."""
    channels = 4 + seed % 3
    choices = ((0, 2, 4, 8), (2, 4, 8), (1, 4, 7), (3, 5))[seed % 4]
    clipping = ("max", "mse")[seed % 2]
    weight = draw((channels, 2, 3, 3), seed)
    if seed % 5 == 0:
        weight[1] = weight[0]  # either may have the wider
        weight[-1] = 0  # any width is right
    sums = list_sums(weight, choices, clipping)
    for mean in (float(choices[0]), 3.3, 4.0, 5.0, 6.5, 100.0):
        fitting = ((error, sum(widths), widths) for error, widths in sums if sum(widths) / channels <= mean)
        assert choose_channel_bits(weight, mean, choices, clipping) == min(fitting)[2]


def test_a_mean_is_met_to_the_last_bit():
    """29 bits of 100 channels are a mean of 0.29, though 0.29 * 100 is less than 29 in floats."""
    weight = np.tile(np.float32([1.0, -2.0, 0.5]), (100, 1)) * np.arange(1, 101, dtype=np.float32)[:, None]
    assert choose_channel_bits(weight, 0.29, (0, 1)) == (0,) * 71 + (1,) * 29
    assert sum(choose_channel_bits(weight, np.nextafter(0.29, 0), (0, 1))) == 28


def test_widths_of_many_channels_have_no_better_exchange():
    """2,048 channels: under the mean, and no two of them lower the error by taking each other's place in the widths."""
    weight, mean = draw((2048, 8), 5), 4.5
    widths = choose_channel_bits(weight, mean)
    assert sum(widths) <= mean * 2048
    choices = (0, 2, 4, 8)
    error = np.stack(
        [np.square(quantize_channels(weight, [b] * 2048).dequantize() - weight, dtype=np.float64).sum(1) for b in choices], 1
    )  # fmt: skip
    place = np.searchsorted(choices, widths)
    change = error - error[np.arange(2048), place][:, None]
    room = int(mean * 2048) - sum(widths)
    least = {}  # bits more than now -> the smallest change of error of a channel
    for now, row in zip(widths, change, strict=True):
        for bits, value in zip(choices, row, strict=True):
            least.setdefault(bits - now, []).append(value)
    least = {more: min(values) for more, values in least.items() if more}
    assert all(value >= 0 for more, value in least.items() if more <= room)
    assert all(least[a] + least[b] >= -1e-12 for a in least for b in least if a + b <= room)


def test_no_widths_or_a_mean_below_them_are_refused():
    with pytest.raises(SpecError, match=r"choices: got .*, expected at least one width"):
        choose_channel_bits(draw(), 4.0, ())
    with pytest.raises(SpecError, match=r"mean_bits: got 1\.5, expected at least 2, the narrowest choice"):
        choose_channel_bits(draw(), 1.5, (2, 4))
