"""One layer of the float model, in float32."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hwsim.core.errors import HwsimError
from hwsim.core.layer import ADDRESS_OPS, Layer
from hwsim.core.tensors import LayerTensors, Tensors
from hwsim.engine.functional_ops import (
    Array,
    apply_activation,
    apply_lrn,
    apply_softmax,
    clamp_limits,
    convolve_float,
    count_window,
    move_elements,
    pool_max,
    pool_sum,
    sum_distances,
)


def find_tensors(layer: Layer, tensors: Tensors) -> LayerTensors:
    """Return the tensors of a layer that needs some, or raise HwsimError naming it."""
    found = tensors.layers.get(layer.name)
    if found is None:
        raise HwsimError(f"layer {layer.name}: it has no weights")
    expected = layer.weights if layer.kind == "mac" else layer.out_shape[1]
    if found.weight.size != expected:
        raise HwsimError(f"layer {layer.name}: {found.weight.size} weights, its shape needs {expected}")
    return found


def real_weights(found: LayerTensors) -> npt.NDArray[np.float32]:
    """Return float32 weights, dequantized where they are integers."""
    if found.w_scale is None:
        return found.weight.astype(np.float32, copy=False)
    tail = (1,) * (found.weight.ndim - 1)
    centred = found.weight.astype(np.float32)
    if found.w_zero is not None:
        centred = centred - found.w_zero.astype(np.float32).reshape(-1, *tail)
    return centred * found.w_scale.astype(np.float32).reshape(-1, *tail)


def execute_float(
    layer: Layer, inputs: list[Array], tensors: Tensors, observe: Callable[[Array], None] | None = None
) -> npt.NDArray[np.float32]:
    """Run one layer on float32 inputs.

    ``observe`` receives the result before a fused activation that does more than clamp.
    """
    out = _execute_operator(layer, inputs, tensors)
    if observe is not None and layer.op != "activation" and clamp_limits(layer) is None:
        observe(out)
    slopes = tensors.layers[layer.name].weight if layer.op == "activation" and layer.name in tensors.layers else None
    return np.asarray(apply_activation(out, layer, slopes), np.float32)


def _execute_adder(layer: Layer, x: Array, found: LayerTensors, weight: Array) -> Array:
    """Return the scaled distances; integer biases are at the scale of the sum times its factor."""
    factor = np.float32(1) if found.factor is None else found.factor.astype(np.float32).reshape(1, -1, 1, 1)
    out = sum_distances(np.asarray(x, np.float32), weight, layer) * factor
    if found.bias is None:
        return out
    bias = found.bias.astype(np.float32).reshape(1, -1, 1, 1)
    if found.w_scale is not None and found.bias.dtype.kind in "iu":
        bias = bias * factor * found.w_scale.astype(np.float32).reshape(1, -1, 1, 1)
    return np.asarray(out + bias)


def _execute_operator(layer: Layer, inputs: list[Array], tensors: Tensors) -> Array:
    x = inputs[0]
    if layer.kind == "mac" or layer.op == "scale":
        found = find_tensors(layer, tensors)
        weight = real_weights(found)
        if layer.operator == "add":
            return _execute_adder(layer, x, found, weight)
        out = x * weight.reshape(1, -1, 1, 1) if layer.op == "scale" else convolve_float(x, weight, layer)
        if found.bias is None:
            return out
        bias = found.bias.astype(np.float32)
        if found.w_scale is not None and found.bias.dtype.kind in "iu":
            bias = bias * found.w_scale.astype(np.float32) * np.float32(tensors.activations[layer.inputs[0]].scale)
        return out + bias.reshape(1, -1, 1, 1)
    if layer.op == "add":
        return x - inputs[1] if layer.attr("negate_second") else sum(inputs[1:], start=x)
    if layer.op == "mul":
        out = x
        for other in inputs[1:]:
            out = out * other
        return out
    if layer.op == "maxpool":
        return pool_max(x, layer)
    if layer.op == "avgpool":
        return (pool_sum(x, layer) / count_window(layer)).astype(np.float32)
    if layer.op == "activation":
        return x
    if layer.op == "softmax":
        return apply_softmax(x, layer)
    if layer.op == "lrn":
        return apply_lrn(x, layer)
    if layer.op in ADDRESS_OPS:
        return move_elements(layer, inputs, float(layer.attr("value", 0)))  # type: ignore[arg-type]
    raise HwsimError(f"layer {layer.name}: the operator {layer.op} cannot be executed")
