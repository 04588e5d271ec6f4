"""The functional model: runs a network on its tensors and gives every layer's output, float or integer.

The float model computes in float32. The integer model computes what the hardware stores: products and sums are exact
integers, each layer's result is requantized once (see `hwsim.quant.requant` for the four definitions), padding is the zero
point. A layer with a fused activation stores the activation's result.

Not modelled: accumulators of a limited width (sums are exact), and the order of partial sums (which exact sums make
irrelevant). Softmax and local response normalization compute in float32 on dequantized inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from hwsim.core.errors import HwsimError, InputError
from hwsim.core.layer import Layer
from hwsim.core.network import Network
from hwsim.core.policy import Policy
from hwsim.core.tensors import Tensors
from hwsim.engine.functional_float import execute_float
from hwsim.engine.functional_integer import IntegerModel
from hwsim.engine.functional_ops import Array
from hwsim.quant.calibrate import PRE, quantize_network
from hwsim.quant.uniform import quantize_activation

Inputs = Array | Mapping[str, Array]
"""One array ``[N, C, H, W]`` for a network of one input, or arrays by input name."""
Visit = Callable[[Layer, Array], None]
"""Receives a MAC layer and its stored input activations ``[N, G*C, H, W]``."""
Range = tuple[float, float]
Figure = TypeVar("Figure")


def run_float(
    network: Network, tensors: Tensors, inputs: Inputs, keep: Collection[str] | None = None
) -> dict[str, npt.NDArray[np.float32]]:
    """Run the network in float32.

    Parameters
    ----------
    network : Network
        Any batch size: that of ``inputs`` counts.
    tensors : Tensors
        Float weights (integer weights with scales are dequantized).
    inputs : ndarray or mapping
        Reals ``[N, C, H, W]``.
    keep : collection of str, optional
        Layers whose outputs are returned besides the network's; None returns all. Others are freed after their last use.

    Returns
    -------
    dict
        Layer name to float32 ``[N, G*K, P, Q]``.

    Raises
    ------
    HwsimError
        An operator cannot be executed, or a tensor is missing.
    InputError
        An input is absent, of another shape, or NaN.
    """
    values = {name: array.astype(np.float32) for name, array in _check_inputs(network, inputs).items()}
    return _walk(network, values, lambda layer, args: execute_float(layer, args, tensors), keep)


def run_integer(
    network: Network,
    tensors: Tensors,
    inputs: Inputs,
    requant: str = "mulshift",
    keep: Collection[str] | None = None,
    rounding: str = "half_even",
) -> dict[str, Array]:
    """Run the quantized network in integers.

    Parameters
    ----------
    network, keep
        As in `run_float`.
    tensors : Tensors
        Integer weights with scales, and the quantization of every activation tensor.
    inputs : ndarray or mapping
        Reals, which are quantized, or integers, which are taken as stored.
    requant : str
        ``mulshift`` (hardware), ``float`` (ONNX Runtime), ``shift`` (power-of-two scales), ``tflite``.
    rounding : str
        Of ``mulshift`` and ``shift``: ``half_even`` or ``half_away``.

    Returns
    -------
    dict
        Layer name to the stored integers ``[N, G*K, P, Q]``, int8 or int16, unsigned where the format is; a softmax without a
        quantization of its own gives float32.
    """
    model = IntegerModel(network, tensors, requant, rounding)
    return _walk(network, quantize_inputs(network, tensors, inputs), model.execute, keep)


def visit_inputs(
    network: Network, tensors: Tensors, inputs: Inputs, visit: Visit, requant: str = "mulshift"
) -> dict[str, Array]:
    """Run the quantized network and hand each MAC layer with its stored input to ``visit``, in order; returns the outputs.

    The array is the input as stored, before padding, ``[N, G*C, H, W]``; it is freed after its last use unless
    ``visit`` keeps it. ``visit`` must not write to it.
    """
    model = IntegerModel(network, tensors, requant, visit=visit)
    return _walk(network, quantize_inputs(network, tensors, inputs), model.execute, ())


def capture_inputs(network: Network, tensors: Tensors, inputs: Inputs, requant: str = "mulshift") -> dict[str, Array]:
    """Return the stored input activations of every MAC layer by its name, ``[N, G*C, H, W]``; see `visit_inputs` to stream."""
    found: dict[str, Array] = {}
    visit_inputs(network, tensors, inputs, lambda layer, array: found.update({layer.name: array}), requant)
    return found


def measure_ranges(network: Network, tensors: Tensors, inputs: Inputs) -> dict[str, Range]:
    """Return the smallest and largest value of every tensor of the float network: what calibration by maximum needs.

    A layer with a fused activation that does more than clamp also gets its range before the activation, under
    the layer's name with ``:pre`` appended.
    """
    return _measure_tensors(network, tensors, inputs, lambda array: (float(array.min()), float(array.max())))


def measure_deviations(network: Network, tensors: Tensors, inputs: Inputs) -> dict[str, float]:
    """Return the standard deviation of every tensor of the float network, names as of `measure_ranges`."""
    return _measure_tensors(network, tensors, inputs, lambda array: float(np.std(array, dtype=np.float64)))


def _measure_tensors(
    network: Network, tensors: Tensors, inputs: Inputs, measure: Callable[[Array], Figure]
) -> dict[str, Figure]:
    values = {name: array.astype(np.float32) for name, array in _check_inputs(network, inputs).items()}
    found = {name: measure(array) for name, array in values.items()}

    def execute(layer: Layer, args: list[Array]) -> Array:
        out = execute_float(layer, args, tensors, lambda before: found.update({layer.name + PRE: measure(before)}))
        found[layer.name] = measure(out)
        return out

    _walk(network, values, execute, ())
    return found


def calibrate_network(
    network: Network, float_tensors: Tensors, policy: Policy, calibration_inputs: Inputs, **options: bool | str
) -> Tensors:
    """Quantize a float network post-training: ranges from running it on the calibration inputs, then `quantize_network`.

    Parameters
    ----------
    options
        Of `hwsim.quant.calibrate.quantize_network`: ``activation_scheme``, ``unsigned_relu``, ``power_of_two``, ``clipping`` ...
    """
    ranges = measure_ranges(network, float_tensors, calibration_inputs)
    return quantize_network(network, float_tensors, policy, ranges, **options)  # type: ignore[arg-type]


def quantize_inputs(network: Network, tensors: Tensors, inputs: Inputs) -> dict[str, Array]:
    """Return the network's inputs as stored integers; integer arrays are taken as they are, their range checked."""
    stored: dict[str, Array] = {}
    for name, array in _check_inputs(network, inputs).items():
        if name not in tensors.activations:
            raise HwsimError(f"input {name} has no quantization: calibrate the network first")
        quant = tensors.activations[name]
        if array.dtype.kind in "iu":
            if array.size and not quant.low <= int(array.min()) <= int(array.max()) <= quant.high:
                raise InputError(f"input {name}", [f"integers outside {quant.low}..{quant.high}"])
            stored[name] = array.astype(np.result_type(quantize_activation(np.zeros(1, np.float32), quant)))
        else:
            stored[name] = quantize_activation(array, quant)
    return stored


def _check_inputs(network: Network, inputs: Inputs) -> dict[str, Array]:
    """Return arrays by input name, shapes checked (any batch size, the same for all)."""
    given = dict(inputs) if isinstance(inputs, Mapping) else {network.inputs[0].name: np.asarray(inputs)}
    problems, found, batches = [], {}, set()
    for spec in network.inputs:
        array = given.pop(spec.name, None)
        if array is None:
            problems.append(f"input {spec.name} is missing")
        elif array.ndim != 4 or array.shape[1:] != spec.shape[1:] or not len(array):
            problems.append(f"input {spec.name} has the shape {array.shape}, expected (N, {str(spec.shape[1:])[1:]}")
        elif array.dtype.kind == "f" and np.isnan(array).any():
            problems.append(f"input {spec.name} holds NaN")
        else:
            found[spec.name] = array
            batches.add(len(array))
    problems.extend(f"{name!r} is no input of the network" for name in given)
    if len(batches) > 1:
        problems.append(f"inputs of different batch sizes {sorted(batches)}")
    if problems:
        raise InputError(f"network {network.name}", problems)
    return found


def _walk(
    network: Network,
    values: dict[str, Array],
    execute: Callable[[Layer, list[Array]], Array],
    keep: Collection[str] | None,
) -> dict[str, Array]:
    """Execute the layers in order, freeing each tensor after its last use unless it is kept."""
    if keep is not None:
        for name in keep:
            network.layer(name)
    wanted = {layer.name for layer in network.layers} if keep is None else {*keep, *network.outputs}
    left = {name: len(users) for name, users in network.consumers.items()}
    live, results = dict(values), {}
    for layer in network.layers:
        if layer.kind == "unpriced":
            raise HwsimError(
                f"layer {layer.name}: the operator {layer.attr('source_op', 'unknown')} cannot be executed"
            )
        batch = len(live[layer.inputs[0]])
        try:
            out = execute(replace(layer, N=batch), [live[name] for name in layer.inputs])
        except MemoryError as error:
            raise HwsimError(f"layer {layer.name}: out of memory at batch {batch}; use a smaller batch") from error
        live[layer.name] = out
        if layer.name in wanted:
            results[layer.name] = out
        for name in {*layer.inputs, layer.name}:
            left[name] -= layer.inputs.count(name)
            if left[name] <= 0:
                live.pop(name, None)
    return results
