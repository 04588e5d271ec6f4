"""Real tensors for architectures whose time depends on data: quantized weights and captured activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hwsim.core.arch import Arch
from hwsim.core.datapath import LayerData, StoredWeights, Workload
from hwsim.core.errors import HwsimError, InputError
from hwsim.core.network import Network
from hwsim.core.policy import LayerFormat, Policy
from hwsim.core.tensors import Array, LayerTensors, Tensors

Visit = Callable[[str, LayerData], None]
MOST_ELEMENTS = 1 << 28
"""Elements of the largest tensor that is computed with: 1 GiB in float32 (VGG-16's largest has 103 million)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A network ready to run in integers on one architecture.

    Parameters
    ----------
    tensors : Tensors
        Quantized; weights are those that the datapath really uses.
    stored : dict
        Weights in the architecture's own codec, by layer, where it has one.
    """

    tensors: Tensors
    stored: dict[str, StoredWeights]


def prepare_tensors(
    network: Network,
    arch: Arch,
    policy: Policy,
    workloads: Mapping[str, Workload],
    tensors: Tensors,
    image: Mapping[str, Any],
) -> Prepared:
    """Return quantized tensors for an architecture.

    Weights go through the architecture's own codec first, else that of their format (`hwsim.quant.encode`); ranges of activations
    are measured on the float network with the weights that come out of it; activations are quantized symmetrically with zero
    point 0. A network that is quantized already keeps its activation formats. Run by `hwsim.engine.functional.run_integer`.
    """
    from hwsim.engine.functional import measure_deviations, measure_ranges
    from hwsim.engine.functional_float import real_weights
    from hwsim.quant.calibrate import quantize_network
    from hwsim.quant.encode import encode_weights

    check_finite(network, tensors)
    real = {layer.name: np.asarray(real_weights(_tensors_of(tensors, layer.name))) for layer in network.mac_layers}
    stored: dict[str, StoredWeights] = {}
    for name, weight in real.items():
        found = arch.store_weights(workloads[name], weight)
        if found is None:
            found = encode_weights(workloads[name], weight)
        if found is not None:
            stored[name] = found
    if tensors.activations:
        layers = dict(tensors.layers)
        for name, found in stored.items():
            layers[name] = _replace_weights(tensors.layers[name], found)
        return Prepared(tensors=replace(tensors, layers=layers), stored=stored)
    layers = dict(tensors.layers)
    for name, found in stored.items():
        layers[name] = replace(tensors.layers[name], weight=_to_real(found))
    float_tensors = replace(tensors, layers=layers)
    ranges = measure_ranges(network, float_tensors, dict(image))
    named, deviations = _name_scales(arch, policy), None
    if any(fmt.scale == "shift" for fmt in (named.default, *(fmt for _, fmt in named.layers))):
        deviations = measure_deviations(network, float_tensors, dict(image))
    quantized = quantize_network(network, float_tensors, named, ranges, deviations=deviations)
    layers = dict(quantized.layers)
    for name, found in stored.items():
        layers[name] = _replace_weights(layers[name], found)
    return Prepared(tensors=replace(quantized, layers=layers), stored=stored)


def stream_data(network: Network, prepared: Prepared, image: Mapping[str, Any], visit: Visit) -> None:
    """Run the integer network on an image and hand every MAC layer's data to ``visit``, in order."""
    from hwsim.engine.functional import visit_inputs
    from hwsim.quant.calibrate import INPUT

    quants = prepared.tensors.activations

    def hand_over(layer: Any, activation: Array) -> None:
        quant = quants.get(layer.name + INPUT) or find_quant(network, prepared.tensors, layer.inputs[0])
        found = prepared.stored.get(layer.name)
        visit(
            layer.name,
            LayerData(activation=activation, zero_point=quant.zero_point, codec=found.codec if found else None),
        )

    visit_inputs(network, prepared.tensors, dict(image), hand_over)


def check_sizes(network: Network) -> None:
    """Raise InputError where a tensor is too large to be computed with, before anything is allocated."""
    sizes = {spec.name: spec.shape[0] * spec.shape[1] * spec.shape[2] * spec.shape[3] for spec in network.inputs}
    sizes.update({layer.name: max(layer.out_elements, layer.weights) for layer in network.layers})
    problems = [
        f"{name} has {size:,} elements, real tensors are limited to {MOST_ELEMENTS:,}"
        for name, size in sizes.items()
        if size > MOST_ELEMENTS
    ]
    if problems:
        raise InputError(f"network {network.name}", problems)


def fit_inputs(inputs: Mapping[str, Array], tensors: Tensors) -> dict[str, Array]:
    """Return drawn inputs (zero mean, unit variance) in the range of the quantization that a file gives its inputs.

    Six standard deviations span the range; float networks take the inputs as they are.
    """
    fitted = dict(inputs)
    for name, array in inputs.items():
        quant = tensors.activations.get(name)
        if quant is not None:
            middle, span = (quant.low + quant.high) / 2 - quant.zero_point, quant.high - quant.low
            fitted[name] = np.asarray(quant.scale * (middle + np.asarray(array, np.float64) * span / 6), np.float32)
    return fitted


def find_quant(network: Network, tensors: Tensors, name: str) -> Any:
    """Return the quantization of a tensor, that of its producer where the tensor only moves elements."""
    known = {spec.name for spec in network.inputs}
    while name not in tensors.activations:
        if name in known:
            raise HwsimError(f"tensor {name} has no quantization")
        name = network.layer(name).inputs[0]
    return tensors.activations[name]


def check_finite(network: Network, tensors: Tensors) -> None:
    """Raise InputError where weights or biases are absent, NaN or infinite; every problem is listed."""
    problems = []
    for layer in network.mac_layers:
        found = tensors.layers.get(layer.name)
        if found is None:
            problems.append(f"layer {layer.name} has no weights")
            continue
        for what, array in (("weight", found.weight), ("bias", found.bias)):
            if array is not None and array.dtype.kind == "f" and not np.isfinite(array).all():
                problems.append(f"layer {layer.name}: NaN or infinite {what}")
    if problems:
        raise InputError("weights", problems)


def _name_scales(arch: Arch, policy: Policy) -> Policy:
    """Return the policy with the kind of requantization that ``native`` stands for on an architecture."""
    kind = arch.scales[0]
    if kind == "multiplier":  # which is what quantization does where nothing else is said
        return policy

    def name(fmt: LayerFormat) -> LayerFormat:
        return replace(fmt, scale=kind) if fmt.scale == "native" else fmt

    return Policy(default=name(policy.default), layers=tuple((layer, name(fmt)) for layer, fmt in policy.layers))


def _tensors_of(tensors: Tensors, name: str) -> LayerTensors:
    return tensors.layers[name]


def _to_real(found: StoredWeights) -> Array:
    scale = np.asarray(found.scale, np.float64).reshape(-1, 1, 1, 1)
    return np.asarray(np.asarray(found.integers, np.float64) * scale, np.float32)


def _replace_weights(old: LayerTensors, found: StoredWeights) -> LayerTensors:
    """Return the layer's tensors with the codec's integers; the bias follows the new scale.

    A filter of zeros keeps its old scale, which is as good as any and suits its bias. A filter whose bias is beyond 2**30
    at its scale (weights all but zero) is stored at a coarser one, its integers rounded to what the codec holds.
    """
    from hwsim.quant.calibrate import LARGEST_BIAS
    from hwsim.quant.encode import fit_to_grid

    scale, integers = np.asarray(found.scale, np.float64).ravel(), found.integers
    bias = None if old.bias is None else np.asarray(old.bias, np.float64)
    if bias is not None and old.w_scale is not None:
        before = np.broadcast_to(np.asarray(old.w_scale, np.float64).ravel(), scale.shape)
        used = np.any(integers.reshape(len(scale), -1), axis=1) | (before <= 0)
        scale = np.where(used, scale, before)
        floor = np.abs(bias) * before / LARGEST_BIAS
        if (floor > scale).any() and found.grid != "table":
            ratio = scale / np.maximum(scale, floor)
            if found.grid == "powers":
                ratio = np.exp2(np.floor(np.log2(ratio)))
            integers, scale = fit_to_grid(found, ratio), scale / ratio
        bias = np.clip(np.rint(bias * (before / scale)), -LARGEST_BIAS, LARGEST_BIAS)
    whole = None if bias is None else bias.astype(np.int32)
    return replace(old, weight=integers, w_scale=scale.astype(np.float32), w_zero=None, w_bits=found.bits, bias=whole)
