"""Additions of quantized tensors as other runtimes define them: ONNX Runtime in float32, TensorFlow Lite in fixed point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hwsim.core.tensors import ActQuant
from hwsim.engine.functional_ops import Array
from hwsim.quant.requant import multiply_tflite, quantize_multiplier_tflite, saturate

IntArray = npt.NDArray[np.int64]
TFLITE_ADD_SHIFT = 20
"""TensorFlow Lite's addition of int8 shifts its inputs left by 20 first (tensorflow/lite/kernels/add.cc)."""


def centre(x: Array, quant: ActQuant) -> Array:
    """Return stored integers less their zero point, int32 where there is one to subtract."""
    return x.astype(np.int32) - quant.zero_point if quant.zero_point else x


def _fuse_multiply_add(x: npt.ArrayLike, ratio: Array, addend: Array) -> Array:
    """Return ``x * ratio + addend`` in float32 with one rounding, as a fused multiply-add does.

    In float64 the product of an integer of up to 16 bits and a float32 is exact, and so is the sum unless the two differ by more
    than 2**12 in magnitude.
    """
    total = np.asarray(x, np.float64) * np.float64(ratio) + np.asarray(addend, np.float64)
    return np.asarray(total, np.float32)


def add_float(inputs: list[Array], quants: list[ActQuant], ratios: Sequence[Array], out: ActQuant) -> Array:
    """Add as ONNX Runtime's QLinearAdd does on x86 with AVX2, in float32, from the last input to the first."""
    pairs = list(zip(ratios, quants, strict=True))[::-1]
    offset: Array = pairs[0][0] * np.float32(pairs[0][1].zero_point)
    for ratio, quant in pairs[1:]:
        offset = _fuse_multiply_add(quant.zero_point, ratio, offset)
    total: Array = np.float32(out.zero_point) - np.asarray(offset, np.float32)
    for x, ratio in zip(inputs[::-1], ratios[::-1], strict=True):
        total = _fuse_multiply_add(x, ratio, total)
    return np.clip(np.rint(total), out.low, out.high)


def add_tflite(inputs: list[Array], quants: list[ActQuant], signs: list[int], out: ActQuant) -> IntArray:
    """Add (or subtract, sign -1) as TensorFlow Lite's reference kernels do (tensorflow/lite/kernels/add.cc, sub.cc)."""
    twice = 2.0 * max(np.float64(np.float32(quant.scale)) for quant in quants)
    total: IntArray | int = 0
    for x, quant, sign in zip(inputs, quants, signs, strict=True):
        multiplier, shift = quantize_multiplier_tflite(np.float64(np.float32(quant.scale)) / twice)
        shifted = centre(x, quant).astype(np.int64) << TFLITE_ADD_SHIFT
        total = total + sign * multiply_tflite(shifted, multiplier, shift)
    real = twice / ((1 << TFLITE_ADD_SHIFT) * np.float64(np.float32(out.scale)))
    scaled = multiply_tflite(np.asarray(total), *quantize_multiplier_tflite(real))
    return saturate(scaled, out.zero_point, out.low, out.high)
