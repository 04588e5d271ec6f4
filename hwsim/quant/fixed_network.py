"""Fractional lengths for a whole network: what `hwsim.quant.calibrate` asks where results are requantized by shifts.

Source: F8Net (ICLR 2022) and models/fix_quant_ops.py of github.com/snap-research/F8Net. The fractional length of a tensor
follows from its standard deviation (`hwsim.quant.fixed_point.choose_fraction_bits`); weights have one per layer and a symmetric
range, activations without negative values unsigned words; a bias is an int32 at the fractional lengths of weight and input
together.

An average over a window whose size is no power of two divides by the next larger one; the rest of the divisor is folded into its
output's scale and from there into the weights of the layers that read it: 49 elements are summed and shifted by 6, the
output's unit is 64/49 of a power of two, and the next weights are stored times that factor. Where anything else than a
MAC layer reads the average, its windows differ in size or no float32 is near enough (121, of 11 x 11), that is not possible: the
layer keeps a ratio that is no power of two, which the functional model multiplies by and hardware that only shifts refuses.

Not as in the source: words are chosen behind training, on measured tensors, one length for all readers of a tensor. Networks that
were not trained for it have weights beyond 1 and images of 0 to 255, so lengths are not held between 0 and 8: a shifter has no such
bounds (held, MLPerf Tiny's ResNet-8 answers by chance; not held, as in float). Stored activations may be -128.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hwsim.core.layer import ADDRESS_OPS, Layer
from hwsim.core.network import Network
from hwsim.core.tensors import ActQuant, Array
from hwsim.quant.fixed_point import WORD_BITS, choose_fraction_bits, quantize_fixed
from hwsim.quant.uniform import QuantizedWeights


def choose_fixed_quant(low: float, deviation: float, bits: int) -> ActQuant:
    """Return an activation's format: words without sign where the least value ``low`` is not negative."""
    signed = low < 0
    fraction = choose_fraction_bits(deviation, signed, bounded=False) + bits - WORD_BITS
    return ActQuant(scale=float(np.ldexp(1.0, -fraction)), bits=bits, signed=signed)


def quantize_fixed_weights(weight: Array, bits: int, read_scale: float, least_scale: float = 0.0) -> QuantizedWeights:
    """Return weights with one fractional length; what ``read_scale`` lacks to a power of two is folded into them.

    Parameters
    ----------
    weight : ndarray
        Finite floats.
    bits : int
        2 to 16.
    read_scale : float
        Of the input, in float32.
    least_scale : float
        Of the weights: a shorter fraction is taken where a bias would not fit.
    """
    factor = 2 * float(np.frexp(np.float32(read_scale))[0])
    factor = 1.0 if factor in (1.0, 2.0) else factor
    folded = np.asarray(weight, np.float64) * factor
    fraction = choose_fraction_bits(float(np.std(folded)), True, bounded=False) + bits - WORD_BITS
    if least_scale > 0:
        fraction = min(fraction, int(np.floor(-np.log2(least_scale * factor))))
    found = quantize_fixed(folded, bits, fraction_bits=fraction)
    exact = np.float32(np.ldexp(1.0 / factor, -found.fraction_bits))
    scale = next((w for w in _list_near(exact) if _is_power(np.float32(read_scale) * w)), exact)
    return QuantizedWeights(stored=found.stored, scale=np.array([scale], np.float32), zero_point=None, bits=bits)


def fold_average(network: Network, layer: Layer, source: ActQuant) -> ActQuant:
    """Return the format of an average's output: its input's, or one with the rest of the divisor where that can be folded."""
    count = layer.R * layer.S
    if not (count & (count - 1)) or not _has_equal_windows(layer) or not _feeds_weights(network, layer.name):
        return source
    whole = 1 << count.bit_length()
    near = _list_near(np.float32(source.scale * whole / count))
    # float32, as the requantizer computes it: the ratio has to come out as a power of two
    scale = next((s for s in near if _is_power(np.float32(source.scale) / (s * np.float32(count)))), None)
    if scale is None:
        return source
    return ActQuant(scale=float(scale), bits=source.bits, signed=source.signed)


def _has_equal_windows(layer: Layer) -> bool:
    return not any(layer.padding) or bool(layer.attr("count_include_pad"))


def _feeds_weights(network: Network, name: str) -> bool:
    """Return whether MAC layers alone read a tensor, through nothing that changes a value."""
    users = [network.layer(user) for user in network.consumers[name]]
    moves = [op for op in ADDRESS_OPS if op not in ("concat", "pad")]
    return bool(users) and all(
        user.kind == "mac" or (user.op in moves and user.activation == "none" and _feeds_weights(network, user.name))
        for user in users
    )


def _list_near(value: np.float32) -> tuple[np.float32, ...]:
    up, down = np.nextafter(value, np.float32(np.inf)), np.nextafter(value, np.float32(0))
    return value, np.float32(up), np.float32(down)


def _is_power(value: npt.ArrayLike) -> bool:
    return bool(np.frexp(np.asarray(value, np.float32))[0] == 0.5)
