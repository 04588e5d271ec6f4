"""Post-training quantization of a network: formats of every tensor from a policy and measured ranges.

The scheme
----------
- Weights: symmetric, per output channel (an option: per tensor), at the policy's ``w_bits``.
- Activations: one scale per tensor. By default symmetric, signed, zero point 0: a zero activation is all zero bits,
  which SmartDeal's Booth digits and zero-row skipping need. ``unsigned_relu`` lets tensors without negative values use unsigned
  codes; ``activation_scheme="asymmetric"`` uses unsigned codes with a zero point.
- Operators that only move elements, and poolings, keep their input's scale. Additions, products and concatenations have a scale
  of their own, to which their inputs are requantized.
- A tensor is stored at the widest ``a_bits`` of the MAC layers that read it, through whatever moves it; a MAC layer
  whose ``a_bits`` are fewer reads it requantized (its format stands under the layer's name with ``:in`` appended).
  What no MAC layer reads has the policy's default ``a_bits``.
- An adder layer reads its input at the scale of its weights (`hwsim.quant.adder`).
- A fused activation that does more than clamp gets the format of its argument too (the layer's name with ``:pre`` appended).
- Layers whose policy requantizes by shifts (``scale="shift"``): their weights' scales, and those of the tensors that they read and
  write, are rounded up to powers of two; where deviations are given, they have F8Net's fractional lengths
  (`hwsim.quant.fixed_network`). A policy whose default is such has them for every tensor.
- Biases: int32 at weight scale x input scale; a channel whose bias would pass ``2**30`` gets a larger weight scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hwsim.core.errors import HwsimError, InputError
from hwsim.core.layer import ADDRESS_OPS, Layer
from hwsim.core.network import Network
from hwsim.core.policy import LayerFormat, Policy
from hwsim.core.tensors import ActQuant, Array, LayerTensors, Tensors
from hwsim.quant.adder import quantize_adder
from hwsim.quant.fixed_network import choose_fixed_quant, fold_average, quantize_fixed_weights
from hwsim.quant.uniform import LARGEST_BIAS, QuantizedWeights, choose_activation_quant, quantize_weights

PASS_THROUGH = (*(op for op in ADDRESS_OPS if op != "concat"), "maxpool", "avgpool")
"""Operators whose output keeps its input's format."""
INPUT = ":in"
"""Suffix of the format in which a MAC layer reads a tensor that is stored wider."""
PRE = ":pre"
"""Suffix of the format of a fused activation's argument."""
SCALE_LAYER_BITS = 8
"""Bits of the multipliers of a ``scale`` layer (per channel, so nothing is lost by them)."""

Ranges = Mapping[str, tuple[float, float]]


def quantize_network(
    network: Network,
    float_tensors: Tensors,
    policy: Policy,
    ranges: Ranges,
    activation_scheme: str = "symmetric",
    unsigned_relu: bool = False,
    power_of_two: bool = False,
    per_channel: bool = True,
    clipping: str = "max",
    deviations: Mapping[str, float] | None = None,
) -> Tensors:
    """Quantize a float network post-training.

    Parameters
    ----------
    network : Network
        Its layers' order and operators decide which tensors share a scale.
    float_tensors : Tensors
        Float weights and biases.
    policy : Policy
        Bits of weights and of input activations per MAC layer.
    ranges : mapping
        Tensor name to its (smallest, largest) real value, from `hwsim.engine.functional.measure_ranges`.
    activation_scheme : str
        ``symmetric`` or ``asymmetric``.
    unsigned_relu : bool
        Unsigned codes for symmetric tensors without negative values.
    power_of_two : bool
        Scales of activations and weights rounded up to powers of two (requantization by shift alone).
    per_channel : bool
        Weight scales per output channel.
    clipping : str
        Of weights: ``max``, ``percentile``, ``mse`` or ``kl``.
    deviations : mapping, optional
        Tensor name to its standard deviation, from `hwsim.engine.functional.measure_deviations`: scales that have to be powers
        of two by F8Net's rule instead of by ranges.

    Returns
    -------
    Tensors
        Integer weights, int32 biases, a format for every tensor.

    Raises
    ------
    HwsimError
        A layer has no weights, or a tensor no range or deviation; the policy names another operator beside a layer of distances.
    InputError
        Weights or ranges are not finite.
    """
    policy.check(network)
    bits = choose_tensor_bits(network, policy)
    rule = _Rule(
        ranges=ranges, deviations=deviations, scheme=activation_scheme, unsigned_relu=unsigned_relu,
        power_of_two=power_of_two, shifted=frozenset(_find_shifted(network, policy)),
    )  # fmt: skip
    quants = {spec.name: rule.choose(spec.name, bits[spec.name]) for spec in network.inputs}
    layers: dict[str, LayerTensors] = {}
    for layer in network.layers:
        quants.update(rule.list_formats(network, layer, bits[layer.name], quants.get(layer.inputs[0])))
        chosen = policy.of(layer.name)
        if layer.kind == "mac" and "add" in (layer.operator, chosen.operator):
            quants[layer.name + INPUT], layers[layer.name] = _quantize_distances(layer, chosen, float_tensors, rule)
        elif layer.kind == "mac":
            if chosen.a_bits < quants[layer.inputs[0]].bits:
                quants[layer.name + INPUT] = rule.choose(layer.inputs[0], chosen.a_bits)
            read = quants.get(layer.name + INPUT, quants[layer.inputs[0]])
            rounded = power_of_two or chosen.scale == "shift"
            fixed = rounded and deviations is not None and chosen.w_bits > 1
            layers[layer.name] = _quantize_layer(
                layer, float_tensors, read, chosen.w_bits, per_channel, rounded, clipping, fixed
            )
        elif layer.op == "scale":
            read = quants[layer.inputs[0]]
            layers[layer.name] = _quantize_layer(
                layer, float_tensors, read, SCALE_LAYER_BITS, per_channel, power_of_two, clipping
            )
        elif layer.name in float_tensors.layers:
            layers[layer.name] = float_tensors.layers[layer.name]
    origin = float_tensors.origin
    note = f"{origin.description}; quantized post-training to {policy.short}, {activation_scheme} activations"
    return Tensors(layers=layers, activations=quants, origin=replace(origin, description=note))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """How formats of activations are chosen: the arguments of `quantize_network`, and the tensors with scales of powers of two."""

    ranges: Ranges
    deviations: Mapping[str, float] | None
    scheme: str
    unsigned_relu: bool
    power_of_two: bool
    shifted: frozenset[str]

    def read_range(self, name: str) -> tuple[float, float]:
        """Return the measured range of a tensor."""
        if name not in self.ranges:
            raise HwsimError(f"the tensor {name} has no measured range")
        return self.ranges[name]

    def choose(self, name: str, bits: int) -> ActQuant:
        """Return the format of a tensor, or of a fused activation's argument."""
        low, high = self.read_range(name)
        if not (np.isfinite(low) and np.isfinite(high)):
            raise InputError(f"tensor {name}", [f"its range {low}..{high} is not finite"])
        rounded = self.power_of_two or name.removesuffix(PRE) in self.shifted
        if not rounded or self.deviations is None:
            return choose_activation_quant(low, high, bits, self.scheme, self.unsigned_relu, rounded)
        if name not in self.deviations:
            raise HwsimError(f"the tensor {name} has no measured deviation")
        return choose_fixed_quant(low, self.deviations[name], bits)

    def list_formats(self, network: Network, layer: Layer, bits: int, source: ActQuant | None) -> dict[str, ActQuant]:
        """Return the formats of a layer's output and of its fused activation's argument; ``source`` is that of its input."""
        found: dict[str, ActQuant] = {}
        if layer.op in PASS_THROUGH and layer.activation == "none" and source is not None:
            folds = layer.op == "avgpool" and layer.name in self.shifted and self.deviations is not None
            found[layer.name] = fold_average(network, layer, source) if folds else source
        elif layer.op != "softmax" or network.consumers[layer.name]:
            found[layer.name] = self.choose(layer.name, bits)
        if layer.name + PRE in self.ranges:
            found[layer.name + PRE] = self.choose(layer.name + PRE, bits)
        return found


def _quantize_distances(
    layer: Layer, chosen: LayerFormat, tensors: Tensors, rule: _Rule
) -> tuple[ActQuant, LayerTensors]:
    """Return the format in which an adder layer reads its input, and its integers."""
    if chosen.operator not in ("native", layer.operator):
        raise HwsimError(
            f"layer {layer.name}: its operator is {layer.operator}, the policy says {chosen.operator}: "
            "name it in the network first (hwsim.core.policy.name_operators)"
        )
    span, rounded = rule.read_range(layer.inputs[0]), rule.power_of_two or chosen.scale == "shift"
    return quantize_adder(layer, tensors.layers.get(layer.name), span, chosen.w_bits, chosen.a_bits, rounded)


def choose_tensor_bits(network: Network, policy: Policy) -> dict[str, int]:
    """Return the bits of every tensor: the widest that a MAC layer wants to read, through whatever moves it.

    Tensors that no MAC layer reads get the policy's default ``a_bits``.
    """
    wanted: dict[str | None, int] = {layer.name: policy.default.a_bits for layer in network.mac_layers}
    wanted.update((name, fmt.a_bits) for name, fmt in policy.layers)
    wanted[None] = policy.default.a_bits
    return {name: max(wanted[reader] for reader in readers) for name, readers in find_readers(network).items()}


def find_readers(network: Network) -> dict[str, frozenset[str | None]]:
    """Return whose ``a_bits`` a tensor's bits are the widest of, for every tensor.

    Names of MAC layers; None stands for the policy's default, which a tensor needs that an operator with a scale of its own
    reads, or nobody.
    """
    found: dict[str, frozenset[str | None]] = {}
    for name in [*(layer.name for layer in reversed(network.layers)), *(spec.name for spec in network.inputs)]:
        readers: set[str | None] = set()
        for user in network.consumers[name]:
            layer = network.layer(user)
            if layer.kind == "mac":
                readers.add(user)
            elif layer.op in PASS_THROUGH or layer.op == "concat":
                readers |= found[user]
            else:
                readers.add(None)
        found[name] = frozenset(readers or (None,))
    return found


def _find_shifted(network: Network, policy: Policy) -> set[str]:
    """Return the tensors that layers requantized by shifts read (the ones that own their format) and write; all by default."""
    if policy.default.scale == "shift" and all(fmt.scale == "shift" for _, fmt in policy.layers):
        return {spec.name for spec in network.inputs} | {layer.name for layer in network.layers}
    found: set[str] = set()
    inputs = {spec.name for spec in network.inputs}
    for layer in network.mac_layers:
        if policy.of(layer.name).scale != "shift":
            continue
        found.add(layer.name)
        source = layer.inputs[0]
        while source not in inputs and network.layer(source).op in PASS_THROUGH:
            found.add(source)
            source = network.layer(source).inputs[0]
        found.add(source)
    return found


def _quantize_layer(
    layer: Layer, tensors: Tensors, read: ActQuant, bits: int, per_channel: bool, power_of_two: bool, clipping: str,
    fixed: bool = False,
) -> LayerTensors:  # fmt: skip
    found = tensors.layers.get(layer.name)
    if found is None:
        raise HwsimError(f"layer {layer.name}: it has no weights")
    if found.w_scale is not None:
        raise HwsimError(f"layer {layer.name}: its weights are quantized already")
    weight = found.weight.reshape(layer.out_shape[1], -1) if layer.op == "scale" else found.weight
    try:
        if found.bias is not None and not np.all(np.isfinite(found.bias)):
            raise InputError("bias", ["it holds NaN or infinity"])
        if fixed:
            most = 0.0 if found.bias is None else float(np.abs(found.bias).max())
            quantized = quantize_fixed_weights(weight, bits, read.scale, most / (read.scale * LARGEST_BIAS))
        else:
            quantized = quantize_weights(weight, bits, per_channel or layer.op == "scale", clipping=clipping)
    except InputError as error:
        raise InputError(f"layer {layer.name}", error.problems) from error
    bias = None if found.bias is None else found.bias.astype(np.float64)
    scale = quantized.scale if fixed else _choose_weight_scale(quantized, weight, bias, read.scale, power_of_two)
    stored = quantized.stored
    if not np.array_equal(scale, quantized.scale) and bits > 1:
        levels = (1 << (bits - 1)) - 1
        tail = scale.reshape(-1, *(1,) * (weight.ndim - 1))
        stored = np.clip(np.rint(weight.astype(np.float32) / tail), -levels, levels).astype(stored.dtype)
    if bias is not None:
        bias = np.clip(np.rint(bias / (scale.astype(np.float64) * read.scale)), -LARGEST_BIAS, LARGEST_BIAS)
    return LayerTensors(weight=stored, bias=None if bias is None else bias.astype(np.int32), w_scale=scale, w_bits=bits)


def _choose_weight_scale(
    quantized: QuantizedWeights, weight: Array, bias: npt.NDArray[np.float64] | None, read: float, power_of_two: bool
) -> npt.NDArray[np.float32]:
    """Return weight scales under which every bias fits; a channel of zeros takes a scale that suits its bias."""
    scale = quantized.scale.astype(np.float64)
    if bias is not None:
        magnitude = np.abs(bias) if len(scale) > 1 else np.abs(bias).max(keepdims=True)
        floor = magnitude / (read * LARGEST_BIAS)
        dead = ~np.any(weight.reshape(len(scale), -1), axis=1) & (magnitude > 0)
        # 2**20 steps for the bias of a channel of zeros: finer than any output of 16 bits.
        scale = np.maximum(np.where(dead, magnitude / (read * (1 << 20)), scale), floor)
    if power_of_two:
        scale = np.exp2(np.ceil(np.log2(scale)))
    return scale.astype(np.float32)
