"""How far a network on quantized weights is from the float one: per layer, and through the integer model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hwsim.core.errors import HwsimError
from hwsim.core.layer import Layer
from hwsim.core.network import Network
from hwsim.core.tensors import Array, Tensors
from hwsim.engine.functional import Inputs, _check_inputs, _walk
from hwsim.engine.functional_float import execute_float
from hwsim.nets.imported import find_activation
from hwsim.quant.calibrate import INPUT, LARGEST_BIAS
from hwsim.quant.rows import measure_sqnr_db

Integers = tuple[Array, npt.NDArray[np.float32], int]
"""Weights as a format's ``to_integers`` gives them, ``[G*K, C, R, S]``; scales ``[G*K]`` or ``[1]``; bits of an integer."""


def measure_layer_sqnr_db(
    network: Network, tensors: Tensors, weights: Mapping[str, Array], inputs: Inputs
) -> dict[str, float]:
    """Return the output SQNR of every layer whose weights are replaced, dB.

    Each layer computes twice on the same float input, that of the float network: with its own weights and with the replaced
    ones. What earlier layers lose is not counted (see `measure_network_sqnr_db`).

    Parameters
    ----------
    tensors : Tensors
        Float weights.
    weights : mapping
        Layer name to real weights ``[G*K, C, R, S]``, a format's ``dequantize``.
    inputs : ndarray or mapping
        Reals ``[N, C, H, W]``, by name where there are several.
    """
    changed = replace_real(network, tensors, weights)
    values = {name: array.astype(np.float32) for name, array in _check_inputs(network, inputs).items()}
    found: dict[str, float] = {}

    def execute(layer: Layer, args: list[Array]) -> Array:
        exact = execute_float(layer, args, tensors)
        if layer.name in weights:
            found[layer.name] = measure_sqnr_db(exact, execute_float(layer, args, changed))
        return exact

    _walk(network, values, execute, ())
    return found


def measure_network_sqnr_db(network: Network, tensors: Tensors, changed: Tensors, inputs: Inputs) -> float:
    """Return the SQNR of the network's outputs with changed float tensors against the original ones, dB."""
    from hwsim.engine.functional import run_float

    exact, found = (run_float(network, held, inputs, keep=()) for held in (tensors, changed))
    names = list(network.outputs)
    return measure_sqnr_db(*(np.concatenate([out[name].ravel() for name in names]) for out in (exact, found)))


def replace_real(network: Network, tensors: Tensors, weights: Mapping[str, Array]) -> Tensors:
    """Return float tensors with other real weights; biases stay.

    Raises
    ------
    UnknownName
        A layer that the network has not.
    HwsimError
        Weights of another shape, or integers in ``tensors``.
    """
    layers = dict(tensors.layers)
    for name, weight in weights.items():
        network.layer(name)
        held = layers[name]
        if held.w_scale is not None or held.weight.shape != weight.shape:
            raise HwsimError(f"layer {name}: needs float weights {held.weight.shape}, got {weight.shape}")
        layers[name] = replace(held, weight=np.asarray(weight, np.float32))
    return replace(tensors, layers=layers)


def replace_integers(
    network: Network, quantized: Tensors, float_tensors: Tensors, weights: Mapping[str, Integers]
) -> Tensors:
    """Return a quantized network's tensors with a format's integers instead of its own; activations stay as they are.

    Biases are rounded anew at weight scale x input scale. `hwsim.engine.functional.run_integer` runs the result.

    Parameters
    ----------
    quantized : Tensors
        Of `hwsim.engine.functional.calibrate_network`.
    float_tensors : Tensors
        Its float original, for the biases.
    weights : mapping
        Layer name to ``Integers``.
    """
    layers = dict(quantized.layers)
    for name, (integers, scale, bits) in weights.items():
        layer = network.layer(name)
        own = quantized.activations.get(name + INPUT)
        read = own or find_activation(network, quantized.activations, layer.inputs[0])
        if read is None or layers[name].weight.shape != integers.shape:
            raise HwsimError(f"layer {name}: needs a quantized input and weights {layers[name].weight.shape}")
        bias = float_tensors.layers[name].bias
        if bias is not None:
            step = np.asarray(scale, np.float64) * read.scale
            whole = np.rint(np.asarray(bias, np.float64) / step)
            bias = np.clip(whole, -LARGEST_BIAS, LARGEST_BIAS).astype(np.int32)
        layers[name] = replace(layers[name], weight=integers, w_scale=scale, w_zero=None, w_bits=bits, bias=bias)
    return replace(quantized, layers=layers)
