"""One layer of the integer model.

Every result that is not a move of stored integers is one exact integer accumulator and one requantization:

=============  ==================================================================  =============================
operator       accumulator (x' is a stored integer less its zero point)             ratio
=============  ==================================================================  =============================
conv, gemm     sum of x' w' + bias                                                  s_x s_w / s_y per channel
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
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from hwsim.core.check import require_choice
from hwsim.core.errors import HwsimError
from hwsim.core.layer import ADDRESS_OPS, Layer
from hwsim.core.network import Network
from hwsim.core.tensors import ActQuant, LayerTensors, Tensors
from hwsim.engine.functional_float import find_tensors
from hwsim.engine.functional_ops import (
    Array,
    apply_activation,
    apply_lrn,
    apply_softmax,
    clamp_limits,
    convolve_integer,
    count_window,
    move_elements,
    pool_max,
    pool_sum,
)
from hwsim.quant.calibrate import INPUT, PASS_THROUGH, PRE
from hwsim.quant.requant import (
    REQUANT_MODES,
    ROUNDINGS,
    combine_scales,
    multiply_tflite,
    quantize_multiplier,
    quantize_multiplier_tflite,
    quantize_shift,
    requantize_float,
    requantize_mulshift,
    requantize_shift,
    requantize_tflite,
    saturate,
    shift_right,
)
from hwsim.quant.uniform import choose_dtype, dequantize_activation, quantize_activation

IntArray = npt.NDArray[np.int64]
PRODUCT_BITS = 62
"""Bits of accumulator times multiplier that the model carries: accumulators wider than 32 bits (16-bit weights and
activations) get a multiplier of ``62 - bits``, all others one of 31."""
ACC_BITS = 31
"""Bits of an int32 accumulator's magnitude."""
ADD_MULTIPLIER_BITS = 31
"""Bits of the larger multiplier of an addition."""
TFLITE_ADD_SHIFT = 20
"""TensorFlow Lite's addition of int8 shifts its inputs left by 20 first (tensorflow/lite/kernels/add.cc)."""


class IntegerModel:
    """Executes layers of one quantized network.

    Parameters
    ----------
    network, tensors
        What is run; every tensor needs a quantization, but for operators that move elements (they inherit it).
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

    def execute(self, layer: Layer, inputs: list[Array]) -> Array:
        """Run one layer on stored integers and return the stored result."""
        quants = [self._quant_of(layer, name) for name in layer.inputs]
        if layer.op in ("softmax", "lrn"):
            return self._execute_in_float(layer, inputs[0], quants[0])
        final = self._quant_of(layer, layer.name)
        if layer.op == "activation":
            return self._apply_table(layer, inputs[0], quants[0], final)
        limits = clamp_limits(layer)
        out_quant = final if limits is not None else self._quant_of(layer, layer.name + PRE)
        stored = self._execute_operator(layer, inputs, quants, out_quant)
        if limits is None:
            return self._apply_table(layer, stored, out_quant, final)
        return _clamp(stored, limits, final)

    def _quant_of(self, layer: Layer, name: str) -> ActQuant:
        if name not in self.quants:
            raise HwsimError(f"layer {layer.name}: the tensor {name} has no quantization: calibrate the network first")
        return self.quants[name]

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
        narrow = self.tensors.activations.get(layer.name + INPUT)
        if narrow is not None:
            x, quant = self.convert(x, quant, narrow), narrow
        if self.visit is not None and layer.kind == "mac":
            self.visit(layer, x)
        found = find_tensors(layer, self.tensors)
        if found.w_scale is None or found.weight.dtype.kind not in "iu":
            raise HwsimError(f"layer {layer.name}: its weights are float: quantize the network first")
        weight = _centre_weights(found)
        centred = centre(x, quant)
        if layer.op == "scale":
            acc = centred.astype(np.int64) * weight.reshape(1, -1, 1, 1)
        else:
            acc = convolve_integer(centred, weight.reshape(layer.G * layer.K, layer.C, layer.R, layer.S), layer)
        if found.bias is not None:
            acc += found.bias.astype(np.int64).reshape(1, -1, 1, 1)
        scale = found.w_scale.astype(np.float32).reshape(1, -1, 1, 1)
        acc_bits = (layer.C * layer.R * layer.S - 1).bit_length() + quant.bits + found.w_bits - 1
        return self._requantize(acc, (np.float32(quant.scale), scale), out, acc_bits=acc_bits, where=layer.name)

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
        codes = np.arange(source.low, source.high + 1)
        reals = apply_activation((codes - source.zero_point) * np.float64(source.scale), layer)
        table = np.rint(reals / np.float64(target.scale)).astype(np.int64)
        entries = saturate(table, target.zero_point, target.low, target.high)
        return entries.astype(choose_dtype(target.bits, target.signed))[x.astype(np.int64) - source.low]

    def _add(self, layer: Layer, inputs: list[Array], quants: list[ActQuant], out: ActQuant) -> Array:
        dtype = choose_dtype(out.bits, out.signed)
        if self.mode == "tflite" and len(inputs) == 2:
            return _add_tflite(inputs, quants, out).astype(dtype)
        ratios = [combine_scales(quant.scale, divisor=out.scale) for quant in quants]
        if self.mode == "float":
            return _add_float(inputs, quants, ratios, out).astype(dtype)
        if self.mode == "shift":
            shift = np.maximum(max(quantize_shift(ratio) for ratio in ratios), 0)
        else:
            _, shift = quantize_multiplier(max(ratios), ADD_MULTIPLIER_BITS)
        total: IntArray | int = 0
        for x, quant, ratio in zip(inputs, quants, ratios, strict=True):
            factor = int(np.rint(np.ldexp(np.float64(ratio), int(shift))))
            total = total + centre(x, quant).astype(np.int64) * factor
        return saturate(shift_right(total, shift, self.rounding), out.zero_point, out.low, out.high).astype(dtype)

    def _multiply(self, layer: Layer, inputs: list[Array], quants: list[ActQuant], out: ActQuant) -> Array:
        if len(inputs) != 2:
            raise HwsimError(
                f"layer {layer.name}: a product of {len(inputs)} tensors cannot be executed, split it in pairs"
            )
        (a, b), factors = inputs, tuple(np.float32(quant.scale) for quant in quants)
        acc = centre(a, quants[0]).astype(np.int64) * centre(b, quants[1])
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

    def _execute_in_float(self, layer: Layer, x: Array, quant: ActQuant) -> Array:
        reals = dequantize_activation(x, quant)
        out = apply_softmax(reals, layer) if layer.op == "softmax" else apply_lrn(reals, layer)
        final = self.quants.get(layer.name)
        return out if final is None else quantize_activation(out, final)


def complete_quants(network: Network, tensors: Tensors) -> dict[str, ActQuant]:
    """Return the quantization of every tensor; operators that move elements inherit a missing one from their input."""
    quants = dict(tensors.activations)
    for layer in network.layers:
        if layer.name not in quants and layer.op in PASS_THROUGH and layer.inputs[0] in quants:
            quants[layer.name] = quants[layer.inputs[0]]
    return quants


def centre(x: Array, quant: ActQuant) -> Array:
    """Return stored integers less their zero point, int32 where there is one to subtract."""
    return x.astype(np.int32) - quant.zero_point if quant.zero_point else x


def _centre_weights(found: LayerTensors) -> Array:
    if found.w_zero is None or not np.any(found.w_zero):
        return found.weight
    return found.weight.astype(np.int32) - found.w_zero.astype(np.int32).reshape(-1, *(1,) * (found.weight.ndim - 1))


def _clamp(stored: Array, limits: tuple[float, float], quant: ActQuant) -> Array:
    """Clamp stored integers to real limits, each quantized half to even."""
    if limits == (-math.inf, math.inf):
        return stored
    low, high = (int(quantize_activation(np.array(limit), quant)) for limit in limits)
    return np.clip(stored, low, high)


def _fuse_multiply_add(x: npt.ArrayLike, ratio: Array, addend: Array) -> Array:
    """Return ``x * ratio + addend`` in float32 with one rounding, as a fused multiply-add does.

    In float64 the product of an integer of up to 16 bits and a float32 is exact, and so is the sum unless the two differ by more
    than 2**12 in magnitude.
    """
    total = np.asarray(x, np.float64) * np.float64(ratio) + np.asarray(addend, np.float64)
    return np.asarray(total, np.float32)


def _add_float(inputs: list[Array], quants: list[ActQuant], ratios: Sequence[Array], out: ActQuant) -> Array:
    """Add as ONNX Runtime's QLinearAdd does on x86 with AVX2, in float32, from the last input to the first."""
    pairs = list(zip(ratios, quants, strict=True))[::-1]
    offset: Array = pairs[0][0] * np.float32(pairs[0][1].zero_point)
    for ratio, quant in pairs[1:]:
        offset = _fuse_multiply_add(quant.zero_point, ratio, offset)
    total: Array = np.float32(out.zero_point) - np.asarray(offset, np.float32)
    for x, ratio in zip(inputs[::-1], ratios[::-1], strict=True):
        total = _fuse_multiply_add(x, ratio, total)
    return np.clip(np.rint(total), out.low, out.high)


def _add_tflite(inputs: list[Array], quants: list[ActQuant], out: ActQuant) -> IntArray:
    """Add as TensorFlow Lite's reference kernel does (PrepareGeneralAddOp in tensorflow/lite/kernels/add.cc)."""
    twice = 2.0 * max(np.float64(np.float32(quant.scale)) for quant in quants)
    total: IntArray | int = 0
    for x, quant in zip(inputs, quants, strict=True):
        multiplier, shift = quantize_multiplier_tflite(np.float64(np.float32(quant.scale)) / twice)
        shifted = centre(x, quant).astype(np.int64) << TFLITE_ADD_SHIFT
        total = total + multiply_tflite(shifted, multiplier, shift)
    real = twice / ((1 << TFLITE_ADD_SHIFT) * np.float64(np.float32(out.scale)))
    scaled = multiply_tflite(np.asarray(total), *quantize_multiplier_tflite(real))
    return saturate(scaled, out.zero_point, out.low, out.high)
