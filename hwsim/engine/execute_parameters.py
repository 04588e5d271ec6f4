"""What the hardware needs of a layer besides its Program and its memory image: zero points, biases, multipliers, clamps.

The rules are those of `hwsim.engine.functional_integer` in mode ``mulshift``: here they become the integers of a table by
channel. In hardware the table stands beside the instruction memory (see `hwsim.engine.image`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hwsim.core.errors import HwsimError
from hwsim.core.layer import Layer
from hwsim.core.mapping import Int64
from hwsim.core.network import Network, TensorSpec
from hwsim.core.tensors import ActQuant, Array, LayerTensors, Origin, Tensors
from hwsim.engine.functional_integer import (
    ACC_BITS,
    ADD_MULTIPLIER_BITS,
    FLOAT_OPS,
    PRODUCT_BITS,
    bound_accumulator,
    choose_argument,
    find_factor,
)
from hwsim.engine.functional_ops import clamp_limits, count_window
from hwsim.quant.calibrate import INPUT, PRE, SCALE_LAYER_BITS
from hwsim.quant.requant import combine_scales, quantize_multiplier, requantize_mulshift
from hwsim.quant.uniform import quantize_activation, quantize_weights


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Requantizer:
    """``stored = saturate(((acc * multiplier) >> shift, rounded half to even) + zero_point)``.

    Parameters
    ----------
    multiplier, shift : ndarray int64, broadcastable to ``[channels, P, Q]``
        By channel, or (average pooling at borders) by pixel; at most 31 bits and at most 62.
    zero_point, low, high : int
        Of the result.
    """

    multiplier: Int64
    shift: Int64
    zero_point: int
    low: int
    high: int

    def apply(self, acc: Int64, channels: slice, rows: slice, columns: slice) -> Int64:
        """Requantize accumulators ``[N, channels, rows, columns]`` of a box."""
        pick = (channels, rows, columns)
        multiplier, shift = (take_box(table, pick) for table in (self.multiplier, self.shift))
        return requantize_mulshift(acc, multiplier, shift, self.zero_point, self.low, self.high)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerParameters:
    """The integers of one layer that are neither in its Program nor in memory.

    Parameters
    ----------
    input_signed : tuple of bool
        Of each activation operand as stored.
    input_zero : tuple of int
        Zero point of each, subtracted as the element enters the engine; padding enters as 0 behind that subtraction.
    narrow : Requantizer or None
        Applied to (element - zero point) where a MAC layer reads a tensor stored in another format; ``narrow.zero_point`` is
        subtracted again behind it.
    weight_signed : bool
    weight_zero : ndarray int64 [G*K]
        Subtracted from the weights.
    factors : ndarray int64
        ``add``: multiplier of each operand ``[operands]``; ``scale``: multiplier of each channel ``[channels]``; else empty.
    factor_shift : int
        ``add``: right shift of the sum of products, rounded half to even.
    lookup : ndarray int64 or None
        ``activation``: result by stored input less its format's lowest value.
    bias : ndarray int64 [channels]
        Added to the accumulator before requantization.
    requant : Requantizer
        From accumulator to stored integer.
    clamp : tuple of int
        Limits of the fused activation on the stored integer.
    table : ndarray int64 or None
        Fused activation that is more than a clamp: result by requantized argument less ``requant.low``.
    out_signed : bool
    """

    input_signed: tuple[bool, ...]
    input_zero: tuple[int, ...]
    narrow: Requantizer | None
    weight_signed: bool
    weight_zero: Int64
    factors: Int64
    factor_shift: int
    lookup: Int64 | None
    bias: Int64
    requant: Requantizer
    clamp: tuple[int, int]
    table: Int64 | None
    out_signed: bool


def take_box(table: Int64, pick: tuple[slice, ...]) -> Int64:
    """Return the part of a broadcastable table that stands for a box: axes of one entry are kept."""
    return table[tuple(part if extent > 1 else slice(None) for part, extent in zip(pick, table.shape, strict=True))]


def is_executable(layer: Layer, tensors: Tensors, quants: Mapping[str, ActQuant]) -> bool:
    """Return whether a Program computes this layer in integers.

    Softmax and local response normalization compute in float32, a leaky_relu with slopes by channel has a table for each
    channel, and a tensor without a format is real: these are left to the functional model.
    """
    if layer.kind not in ("mac", "vector") or layer.op in FLOAT_OPS or layer.name not in quants:
        return False
    if any(name not in quants for name in layer.inputs):
        return False
    return not (layer.op == "activation" and layer.name in tensors.layers)


def derive_parameters(layer: Layer, tensors: Tensors, quants: Mapping[str, ActQuant]) -> LayerParameters:
    """Return the parameter table of a layer.

    Parameters
    ----------
    layer : Layer
        A MAC or vector layer.
    tensors : Tensors
        Integer weights, scales, biases.
    quants : mapping
        Format of every tensor (`hwsim.engine.functional_integer.complete_quants`).

    Raises
    ------
    HwsimError
        No Program computes the layer in integers.
    """
    if not is_executable(layer, tensors, quants):
        raise HwsimError(f"layer {layer.name}: no Program computes {layer.op} on these tensors in integers")
    sources, final = [quants[name] for name in layer.inputs], quants[layer.name]
    before, clamp, table, lookup = final, (final.low, final.high), None, None
    limits = clamp_limits(layer)
    if limits is not None:
        low, high = (int(quantize_activation(np.array(limit), final)) for limit in limits)
        clamp = (low, high) if np.isfinite(limits).any() else clamp
    elif layer.op == "activation":
        lookup = tabulate_activation(layer, sources[0], final) - final.zero_point
    else:
        before = quants.get(layer.name + PRE) or choose_argument(layer, final)
        table = tabulate_activation(layer, before, final)
    narrow_quant = tensors.activations.get(layer.name + INPUT)
    narrow, read = None, sources[0]
    if narrow_quant is not None and narrow_quant != read:
        narrow, read = _convert(read, narrow_quant), narrow_quant
    channels = layer.out_shape[1]
    none = np.zeros(0, np.int64)
    weight_signed, weight_zero, bias, factors, factor_shift = True, none, np.zeros(channels, np.int64), none, 0
    requant = _convert(sources[0], before)
    if lookup is not None:
        requant = _make_identity(before)
    elif layer.kind == "mac" or layer.op == "scale":
        found = _find_weights(layer, tensors)
        weight_signed, weight_zero = found.weight.dtype.kind == "i", _spread(found.w_zero, channels)
        bias, requant = _derive_mac(layer, found, read, before)
        if layer.op == "scale":
            factors = found.weight.reshape(-1).astype(np.int64) - weight_zero
    elif layer.op == "add":
        (factors, factor_shift), requant = _derive_add(layer, sources, before), _make_identity(before)
    elif layer.op == "mul":
        _require_pair(layer)
        requant = _requantizer(tuple(np.float32(quant.scale) for quant in sources), before)
    elif layer.op == "avgpool":
        requant = _requantizer((np.float32(sources[0].scale),), before, count_window(layer)[None])
    return LayerParameters(
        input_signed=tuple(quant.signed for quant in sources), input_zero=tuple(quant.zero_point for quant in sources),
        narrow=narrow, weight_signed=weight_signed, weight_zero=weight_zero, factors=factors, factor_shift=factor_shift,
        lookup=lookup, bias=bias, requant=requant, clamp=clamp, table=table, out_signed=final.signed,
    )  # fmt: skip


def tabulate_activation(layer: Layer, source: ActQuant, target: ActQuant) -> Int64:
    """Return the activation's result for each stored value of ``source``, lowest first, as the functional model gives it."""
    from hwsim.engine.functional import run_integer

    codes = np.arange(source.low, source.high + 1).reshape(1, 1, 1, -1)
    extent = codes.shape[3]
    alone = Layer(
        name="y", op="activation", inputs=("x",), Q=extent, W=extent, activation=layer.activation, attrs=layer.attrs
    )
    network = Network(
        name="table",
        inputs=(TensorSpec(name="x", shape=(1, 1, 1, extent)),),
        layers=(alone,),
        outputs=("y",),
        source="",
    )
    origin = Origin(kind="synthetic", description="every stored value")
    stored = run_integer(network, Tensors(layers={}, activations={"x": source, "y": target}, origin=origin), codes)["y"]
    return stored.ravel().astype(np.int64)


def _find_weights(layer: Layer, tensors: Tensors) -> LayerTensors:
    found = tensors.layers.get(layer.name)
    if found is None:
        raise HwsimError(f"layer {layer.name}: it has no weights")
    if layer.op == "scale" and found.w_scale is None:
        stored = quantize_weights(found.weight.reshape(-1, 1), SCALE_LAYER_BITS)
        return LayerTensors(weight=stored.stored, bias=found.bias, w_scale=stored.scale, w_bits=SCALE_LAYER_BITS)
    if found.w_scale is None or found.weight.dtype.kind not in "iu":
        raise HwsimError(f"layer {layer.name}: its weights are float: quantize the network first")
    return found


def _derive_mac(layer: Layer, found: LayerTensors, read: ActQuant, out: ActQuant) -> tuple[Int64, Requantizer]:
    """Return biases and the requantization by channel; the multiplier loses bits where accumulators pass 32."""
    channels = layer.out_shape[1]
    scale = np.broadcast_to(find_factor(layer, found, read), (channels,))
    bias: npt.NDArray[Any] = np.zeros(channels) if found.bias is None else found.bias
    if bias.dtype.kind == "f":
        bias = np.rint(bias / (scale.astype(np.float64) * read.scale))
    bits = min(ACC_BITS, PRODUCT_BITS - max(bound_accumulator(layer, found, read), ACC_BITS))
    requant = _requantizer((np.float32(read.scale), scale.reshape(-1, 1, 1)), out, bits=bits)
    return np.broadcast_to(bias.astype(np.int64), (channels,)), requant


def _derive_add(layer: Layer, sources: list[ActQuant], out: ActQuant) -> tuple[Int64, int]:
    ratios = [combine_scales(quant.scale, divisor=out.scale) for quant in sources]
    _, shift = quantize_multiplier(max(ratios), ADD_MULTIPLIER_BITS)
    factors = [int(np.rint(np.ldexp(np.float64(ratio), int(shift)))) for ratio in ratios]
    if layer.attr("negate_second"):
        factors[1] = -factors[1]
    return np.array(factors, np.int64), int(shift)


def _require_pair(layer: Layer) -> None:
    if len(layer.inputs) != 2:
        raise HwsimError(
            f"layer {layer.name}: a product of {len(layer.inputs)} tensors cannot be executed, split it in pairs"
        )


def _requantizer(
    factors: tuple[npt.ArrayLike, ...], out: ActQuant, count: Int64 | None = None, bits: int = ACC_BITS
) -> Requantizer:
    divisor = np.float32(out.scale) * (np.float32(1) if count is None else count.astype(np.float32))
    multiplier, shift = quantize_multiplier(combine_scales(*factors, divisor=divisor), bits)
    return Requantizer(
        multiplier=_as_table(multiplier), shift=_as_table(shift), zero_point=out.zero_point, low=out.low, high=out.high
    )


def _convert(source: ActQuant, target: ActQuant) -> Requantizer:
    return _make_identity(target) if source == target else _requantizer((np.float32(source.scale),), target)


def _make_identity(out: ActQuant) -> Requantizer:
    one = np.ones((1, 1, 1), np.int64)
    return Requantizer(multiplier=one, shift=one * 0, zero_point=out.zero_point, low=out.low, high=out.high)


def _as_table(values: Int64) -> Int64:
    return values.reshape((1,) * (3 - values.ndim) + values.shape)


def _spread(zero: Array | None, channels: int) -> Int64:
    if zero is None:
        return np.zeros(channels, np.int64)
    return np.broadcast_to(zero.astype(np.int64).ravel(), (channels,))
