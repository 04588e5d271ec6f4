"""One layer of the integer model.

Every result that is not a move of stored integers is one exact integer accumulator and one requantization:

=============  ==================================================================  =============================
operator       accumulator (x' is a stored integer less its zero point)             ratio
=============  ==================================================================  =============================
conv, gemm     sum of x' w' + bias                                                  s_x s_w / s_y per channel
with ``add``   -sum of |x' - w'| + bias, s_w = s_x                                  s_x factor / s_y per channel
scale          x' w' + bias                                                         s_x s_w / s_y per channel
add            a' m_a + b' m_b, multipliers at one common shift                     s_a / s_y, s_b / s_y
mul            a' b'                                                                s_a s_b / s_y
avgpool        sum of x'                                                            s_x / (s_y count)
other formats  x' (concat inputs, a tensor stored again in another format)          s_x / s_y
=============  ==================================================================  =============================

Ratios are float32, computed in ONNX Runtime's order, in every mode but ``tflite`` (float64, its own rules). Activations that only
clamp clamp the stored integer; others are a table over all stored values, computed in float64 and rounded half to even.

Where ONNX Runtime does not compute an integer accumulator, mode ``float`` follows its float32 arithmetic:

- An addition is ``fma(a, r_a, fma(b, r_b, fixed))`` with ``fixed = z_y - fma(r_a, z_a, fl(r_b z_b))``, rounded half to even:
  its kernel for x86 with AVX2. ``fma`` rounds once, ``fl`` rounds to float32; the zero point is inside what is rounded, so
  that a tie goes to the even *stored* integer, while mode ``mulshift`` rounds before it adds the zero point.
- A product is ``fl(fl(a' b') r + z_y)``, rounded half to even.
- A change of format is ``fl(fl(x' s_x) / s_y)``, rounded half to even, then the zero point.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hwsim.core.check import require_choice
from hwsim.core.errors import HwsimError
from hwsim.core.layer import ADDRESS_OPS, Layer
from hwsim.core.network import Network
from hwsim.core.tensors import ActQuant, LayerTensors, Tensors
from hwsim.engine.functional_add import IntArray, add_float, add_tflite, centre
from hwsim.engine.functional_float import execute_float, find_tensors
from hwsim.engine.functional_ops import (
    Array,
    apply_activation,
    clamp_limits,
    convolve_integer,
    count_window,
    move_elements,
    pool_max,
    pool_sum,
    sum_distances,
)
from hwsim.quant.calibrate import INPUT, PASS_THROUGH, PRE, SCALE_LAYER_BITS
from hwsim.quant.requant import (
    REQUANT_MODES,
    ROUNDINGS,
    combine_scales,
    quantize_multiplier,
    quantize_multiplier_tflite,
    quantize_shift,
    requantize_float,
    requantize_mulshift,
    requantize_shift,
    requantize_tflite,
    requantize_tflite_gemm,
    saturate,
    shift_right,
)
from hwsim.quant.uniform import (
    choose_activation_quant,
    choose_dtype,
    dequantize_activation,
    quantize_activation,
    quantize_weights,
)

FLOAT_OPS = ("softmax", "lrn")
"""Operators that compute in float32 on dequantized inputs."""
PRODUCT_BITS = 62
"""Bits of accumulator times multiplier that the model carries: accumulators wider than 32 bits (16-bit weights and
activations) get a multiplier of ``62 - bits``, all others one of 31."""
ACC_BITS = 31
"""Bits of an int32 accumulator's magnitude."""
ADD_MULTIPLIER_BITS = 31
"""Bits of the larger multiplier of an addition."""
PRE_BITS = 16
"""Bits of a fused activation's argument that has no format of its own."""
PRE_REACH = 16.0
"""Real values that such an argument covers at least: beyond, every activation of the project is flat or linear to 1e-6."""


class IntegerModel:
    """Executes layers of one quantized network.

    Parameters
    ----------
    network, tensors
        What is run. An operator that moves elements and has no format of its own inherits its input's; any other tensor
        without a format is real: float32, and no MAC layer may read it.
    requant, rounding : str
        See `hwsim.quant.requant`.
    visit : callable, optional
        Receives each MAC layer with its stored input.
    """

    def __init__(
        self,
        network: Network,
        tensors: Tensors,
        requant: str = "mulshift",
        rounding: str = "half_even",
        visit: Callable[[Layer, Array], None] | None = None,
    ) -> None:
        self.mode = require_choice("requant", requant, REQUANT_MODES)
        self.rounding = require_choice("rounding", rounding, ROUNDINGS)
        self.tensors, self.visit = tensors, visit
        self.quants = complete_quants(network, tensors)
        for name, quant in self.quants.items():
            if quant.bits == 1 and quant.signed:
                raise HwsimError(f"tensor {name}: bipolar activations, -1 and +1 in a bit, are priced but not run")

    def execute(self, layer: Layer, inputs: list[Array]) -> Array:
        """Run one layer on stored integers and return the stored result."""
        final = self.quants.get(layer.name)
        stored = all(x.dtype.kind in "iu" for x in inputs)
        if layer.kind == "mac" and not stored:
            raise HwsimError(
                f"layer {layer.name}: it reads {layer.inputs[0]}, which has no integer format: calibrate first"
            )
        if layer.op in FLOAT_OPS or not stored or (final is None and layer.kind != "mac"):
            return self._execute_in_float(layer, inputs, final)
        quants = [self.quants[name] for name in layer.inputs]
        if final is None:
            return self._multiply_to_real(layer, inputs[0], quants[0])
        if layer.op == "activation":
            return self._apply_table(layer, inputs[0], quants[0], final)
        limits = clamp_limits(layer)
        if limits is not None:
            return _clamp(self._execute_operator(layer, inputs, quants, final), limits, final)
        before = self.quants.get(layer.name + PRE) or choose_argument(layer, final)
        return self._apply_table(layer, self._execute_operator(layer, inputs, quants, before), before, final)

    def _execute_operator(self, layer: Layer, inputs: list[Array], quants: list[ActQuant], out: ActQuant) -> Array:
        if layer.kind == "mac" or layer.op == "scale":
            return self._multiply_accumulate(layer, inputs[0], quants[0], out)
        if layer.op == "add":
            return self._add(layer, inputs, quants, out)
        if layer.op == "mul":
            return self._multiply(layer, inputs, quants, out)
        if layer.op == "maxpool":
            return self.convert(pool_max(inputs[0], layer), quants[0], out)
        if layer.op == "avgpool":
            return self._average(layer, inputs[0], quants[0], out)
        if layer.op in ADDRESS_OPS:
            stored = [self.convert(x, quant, out) for x, quant in zip(inputs, quants, strict=True)]
            value = quantize_activation(np.array(layer.attr("value", 0), np.float32), out)
            return move_elements(layer, stored, int(value))
        raise HwsimError(f"layer {layer.name}: the operator {layer.op} cannot be executed")

    def _multiply_accumulate(self, layer: Layer, x: Array, quant: ActQuant, out: ActQuant) -> Array:
        acc, factors, acc_bits = self._accumulate(layer, x, quant)
        if self.mode == "tflite" and layer.op == "gemm":
            # GetQuantizedConvolutionMultipler multiplies the two scales in float32, the convolutions' are in float64.
            real = (factors[0] * factors[1]).astype(np.float64) / np.float64(out.scale)
            stored = requantize_tflite_gemm(acc, *quantize_multiplier_tflite(real), out.zero_point, out.low, out.high)
            return stored.astype(choose_dtype(out.bits, out.signed))
        return self._requantize(acc, factors, out, acc_bits=acc_bits, where=layer.name)

    def _multiply_to_real(self, layer: Layer, x: Array, quant: ActQuant) -> Array:
        """Return a MAC layer's result in float32, where its output has no integer format."""
        acc, (x_scale, w_scale), _ = self._accumulate(layer, x, quant)
        return apply_activation(acc.astype(np.float32) * combine_scales(x_scale, w_scale, divisor=1.0), layer)

    def _accumulate(
        self, layer: Layer, x: Array, quant: ActQuant
    ) -> tuple[IntArray, tuple[np.float32, npt.NDArray[np.float32]], int]:
        """Return the exact accumulators with bias, their scale's factors and the bits that their formats bound them by."""
        narrow = self.tensors.activations.get(layer.name + INPUT)
        if narrow is not None:
            x, quant = self.convert(x, quant, narrow), narrow
        if self.visit is not None and layer.kind == "mac":
            self.visit(layer, x)
        found = find_tensors(layer, self.tensors)
        if layer.op == "scale" and found.w_scale is None:
            found = _quantize_scale(found)
        if found.w_scale is None or found.weight.dtype.kind not in "iu":
            raise HwsimError(f"layer {layer.name}: its weights are float: quantize the network first")
        weight = _centre_weights(found)
        centred = centre(x, quant)
        if layer.op == "scale":
            acc = centred.astype(np.int64) * weight.reshape(1, -1, 1, 1)
        else:
            combine = sum_distances if layer.operator == "add" else convolve_integer
            acc = combine(centred, weight.reshape(layer.G * layer.K, layer.C, layer.R, layer.S), layer)
        scale = find_factor(layer, found, quant).reshape(1, -1, 1, 1)
        if found.bias is not None:
            bias: Array = found.bias.reshape(1, -1, 1, 1)
            if bias.dtype.kind == "f":
                bias = np.rint(bias / (scale.astype(np.float64) * quant.scale))
            acc += bias.astype(np.int64)
        acc_bits = bound_accumulator(layer, found, quant)
        return acc, (np.float32(quant.scale), scale), acc_bits

    def _requantize(
        self,
        acc: IntArray,
        factors: tuple[npt.ArrayLike, ...],
        out: ActQuant,
        count: int = 1,
        acc_bits: int = ACC_BITS,
        where: str = "",
    ) -> Array:
        """Requantize by ``product(factors) / (out.scale * count)``; ``acc_bits`` bound the accumulator by its formats."""
        span = (out.zero_point, out.low, out.high)
        dtype = choose_dtype(out.bits, out.signed)
        if self.mode == "tflite":
            real = math.prod(np.asarray(f, np.float64) for f in factors) / (np.float64(out.scale) * count)  # type: ignore[arg-type]
            return requantize_tflite(acc, *quantize_multiplier_tflite(real), *span).astype(dtype)
        ratio = combine_scales(*factors, divisor=np.float32(out.scale) * np.float32(count))
        if self.mode == "float":
            return requantize_float(acc, ratio, *span).astype(dtype)
        if self.mode == "shift" and count & (count - 1) == 0:
            return requantize_shift(acc, quantize_shift(ratio), *span, self.rounding).astype(dtype)
        wide = max(acc_bits, ACC_BITS)
        if max(int(acc.max(initial=0)), -int(acc.min(initial=0))) >= 1 << wide:
            raise HwsimError(f"layer {where}: an accumulator exceeds {wide + 1} bits")
        bits = min(ACC_BITS, PRODUCT_BITS - wide)
        return requantize_mulshift(acc, *quantize_multiplier(ratio, bits), *span, self.rounding).astype(dtype)

    def convert(self, x: Array, source: ActQuant, target: ActQuant) -> Array:
        """Store a tensor again in another format; the same format returns ``x`` itself."""
        if source == target:
            return x
        if self.mode == "float":
            return quantize_activation(dequantize_activation(x, source), target)
        return self._requantize(centre(x, source).astype(np.int64), (np.float32(source.scale),), target)

    def _apply_table(self, layer: Layer, x: Array, source: ActQuant, target: ActQuant) -> Array:
        """Look an activation up in a table over all stored values."""
        limits = clamp_limits(layer)
        if limits is not None:
            return _clamp(self.convert(x, source, target), limits, target)
        if layer.op == "activation" and layer.name in self.tensors.layers:
            return self._apply_slopes(layer, x, source, target)
        codes = np.arange(source.low, source.high + 1)
        reals = apply_activation((codes - source.zero_point) * np.float64(source.scale), layer)
        table = np.rint(reals / np.float64(target.scale)).astype(np.int64)
        entries = saturate(table, target.zero_point, target.low, target.high)
        return entries.astype(choose_dtype(target.bits, target.signed))[x.astype(np.int64) - source.low]

    def _apply_slopes(self, layer: Layer, x: Array, source: ActQuant, target: ActQuant) -> Array:
        """Apply a leaky_relu whose slopes go by channel: a table for each channel, computed for the elements at hand."""
        reals = (x.astype(np.int64) - source.zero_point) * np.float64(source.scale)
        reals = apply_activation(reals, layer, self.tensors.layers[layer.name].weight)
        stored = saturate(
            np.rint(reals / np.float64(target.scale)).astype(np.int64), target.zero_point, target.low, target.high
        )
        return stored.astype(choose_dtype(target.bits, target.signed))

    def _add(self, layer: Layer, inputs: list[Array], quants: list[ActQuant], out: ActQuant) -> Array:
        dtype = choose_dtype(out.bits, out.signed)
        signs = [1] * len(inputs)
        if layer.attr("negate_second"):
            signs[1] = -1
            if self.mode == "float":
                a, b = (dequantize_activation(x, quant) for x, quant in zip(inputs, quants, strict=True))
                return quantize_activation(a - b, out)
        if self.mode == "tflite" and len(inputs) == 2:
            return add_tflite(inputs, quants, signs, out).astype(dtype)
        ratios = [combine_scales(quant.scale, divisor=out.scale) for quant in quants]
        if self.mode == "float":
            return add_float(inputs, quants, ratios, out).astype(dtype)
        if self.mode == "shift":
            shift = np.maximum(max(quantize_shift(ratio) for ratio in ratios), 0)
        else:
            _, shift = quantize_multiplier(max(ratios), ADD_MULTIPLIER_BITS)
        total: IntArray | int = 0
        for x, quant, ratio, sign in zip(inputs, quants, ratios, signs, strict=True):
            factor = sign * int(np.rint(np.ldexp(np.float64(ratio), int(shift))))
            total = total + centre(x, quant).astype(np.int64) * factor
        return saturate(shift_right(total, shift, self.rounding), out.zero_point, out.low, out.high).astype(dtype)

    def _multiply(self, layer: Layer, inputs: list[Array], quants: list[ActQuant], out: ActQuant) -> Array:
        if len(inputs) != 2:
            raise HwsimError(
                f"layer {layer.name}: a product of {len(inputs)} tensors cannot be executed, split it in pairs"
            )
        a, b = inputs
        factors: tuple[npt.ArrayLike, ...] = tuple(np.float32(quant.scale) for quant in quants)
        acc = centre(a, quants[0]).astype(np.int64) * centre(b, quants[1])
        if self.mode == "tflite":  # its multiplier is a float32 expression
            factors = (combine_scales(*factors, divisor=out.scale) * np.float64(out.scale),)
        if self.mode != "float":
            return self._requantize(acc, factors, out)
        ratio = combine_scales(*factors, divisor=out.scale)
        value = np.rint(acc.astype(np.float32) * ratio + np.float32(out.zero_point))
        return np.clip(value, out.low, out.high).astype(choose_dtype(out.bits, out.signed))

    def _average(self, layer: Layer, x: Array, quant: ActQuant, out: ActQuant) -> Array:
        counts = count_window(layer)
        if self.mode == "tflite" and quant == out:
            # TensorFlow Lite averages the stored integers, zero point included, and rounds half away from zero.
            acc, half = pool_sum(centre(x, quant), layer) + quant.zero_point * counts, counts // 2
            mean = np.where(acc > 0, (acc + half) // counts, -((half - acc) // counts))
            return np.clip(mean, out.low, out.high).astype(x.dtype)
        acc = pool_sum(centre(x, quant), layer)
        stored = np.empty(acc.shape, choose_dtype(out.bits, out.signed))
        for count in np.unique(counts):
            where = counts == count
            stored[:, :, where] = self._requantize(acc[:, :, where], (np.float32(quant.scale),), out, int(count))
        return stored

    def _execute_in_float(self, layer: Layer, inputs: list[Array], final: ActQuant | None) -> Array:
        reals = [
            dequantize_activation(x, self.quants[name]) if x.dtype.kind in "iu" else x
            for x, name in zip(inputs, layer.inputs, strict=True)
        ]
        out = execute_float(layer, reals, self.tensors)
        return out if final is None else quantize_activation(out, final)


def find_factor(layer: Layer, found: LayerTensors, read: ActQuant) -> npt.NDArray[np.float32]:
    """Return what a unit of the accumulator is besides the input's scale, float32 ``[G*K]`` or ``[1]``.

    Raises
    ------
    HwsimError
        Weights and inputs of an adder layer have different scales: their distance is no number of either.
    """
    assert found.w_scale is not None
    scale = found.w_scale.astype(np.float32).ravel()
    if layer.operator != "add":
        return scale
    if (scale != np.float32(read.scale)).any():
        raise HwsimError(
            f"layer {layer.name}: it adds up distances, its weights have the scale {scale[0]:g}, its inputs {read.scale:g}: "
            "they need one"
        )
    return np.ones(1, np.float32) if found.factor is None else found.factor.astype(np.float32).ravel()


def bound_accumulator(layer: Layer, found: LayerTensors, read: ActQuant) -> int:
    """Return the bits of magnitude that the formats bound an accumulator by, bias left out."""
    depth = (layer.C * layer.R * layer.S - 1).bit_length()
    if layer.operator == "add":
        return depth + max(read.bits, found.w_bits) + 1
    return depth + read.bits + found.w_bits - 1


def complete_quants(network: Network, tensors: Tensors) -> dict[str, ActQuant]:
    """Return the quantization of every tensor; operators that move elements inherit a missing one from their input."""
    quants = dict(tensors.activations)
    for layer in network.layers:
        if layer.name not in quants and layer.op in PASS_THROUGH and layer.inputs[0] in quants:
            quants[layer.name] = quants[layer.inputs[0]]
    return quants


def _centre_weights(found: LayerTensors) -> Array:
    if found.w_zero is None or not np.any(found.w_zero):
        return found.weight
    return found.weight.astype(np.int32) - found.w_zero.astype(np.int32).reshape(-1, *(1,) * (found.weight.ndim - 1))


def _quantize_scale(found: LayerTensors) -> LayerTensors:
    """Quantize the float factors of a ``scale`` layer: per channel, so each is 127 or -127 times its scale."""
    quantized = quantize_weights(found.weight.reshape(-1, 1), SCALE_LAYER_BITS)
    return replace(found, weight=quantized.stored, w_scale=quantized.scale, w_bits=SCALE_LAYER_BITS)


def choose_argument(layer: Layer, final: ActQuant) -> ActQuant:
    """Return a format for a fused activation's argument: 16 bits that reach as far as the output's format can tell apart."""
    reach = final.scale * max(final.high - final.zero_point, final.zero_point - final.low)
    alpha = layer.attr("alpha", 0.01) if layer.activation == "leaky_relu" else 1.0
    if isinstance(alpha, int | float) and 0 < abs(alpha) < 1:
        reach /= abs(alpha)
    return choose_activation_quant(-max(reach, PRE_REACH), max(reach, PRE_REACH), PRE_BITS)


def _clamp(stored: Array, limits: tuple[float, float], quant: ActQuant) -> Array:
    """Clamp stored integers to real limits, each quantized half to even."""
    if limits == (-math.inf, math.inf):
        return stored
    low, high = (int(quantize_activation(np.array(limit), quant)) for limit in limits)
    return np.clip(stored, low, high)
