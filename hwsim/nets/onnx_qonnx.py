"""Quantization in QONNX: the operators ``IntQuant`` (written ``Quant`` by older exporters) and ``BipolarQuant``.

Source: docs/qonnx-custom-ops/intquant_v1.md and bipolarquant_v1.md of github.com/fastmachinelearning/qonnx (commit cc2ec17).
They quantize and dequantize in one node, so their result is real numbers: a weight keeps its integers, an activation's
format is recorded at the layer that produces it. Scale, zero point and bit width must be constants of the file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from hwsim.core.layer import Attr
from hwsim.core.tensors import ActQuant
from hwsim.nets.draft import StoredWeight
from hwsim.nets.onnx_const import Const, bound_elements
from hwsim.nets.onnx_elementwise import convert_unary
from hwsim.nets.onnx_qdq import record_quant
from hwsim.nets.onnx_read import Node, Problem
from hwsim.nets.onnx_walk import Act, Unpriced, Value, Walk

Ins = list[Value | None]

QONNX_DOMAINS = ("qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas")
"""Domains under which exporters write these operators."""
QONNX_QUANTIZERS = ("Quant", "IntQuant", "BipolarQuant")
WIDEST_INTEGER = 16
"""Bits of the widest format that is kept as integers; wider constants are taken as the real numbers that they stand for."""
_SIGNED_HALF = np.float64(0.5)
_ROUNDINGS: dict[str, Callable[[Any], Any]] = {
    "ROUND": np.rint,
    "HALF_EVEN": np.rint,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "DOWN": np.trunc,
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + _SIGNED_HALF),
    "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - _SIGNED_HALF),
}


def convert_int_quant(walk: Walk, node: Node, ins: Ins) -> Value:
    """IntQuant: inputs X, scale, zero point, bit width; attributes ``signed``, ``narrow``, ``rounding_mode``."""
    if len(ins) != 4:
        raise Problem(f"has {len(ins)} inputs, expected X, scale, zero point and bit width")
    scale = _read_scale(ins)
    zero = _read_static(ins, 2, "zero point").astype(np.float64)
    width = _read_static(ins, 3, "bit width").reshape(-1)
    if width.size != 1 or not np.isfinite(width).all() or width[0] != int(width[0]) or not 1 <= width[0] <= 64:
        raise Problem(f"has the bit width {width.tolist()[:4]}, expected one integer from 1 to 64")
    bits, signed, narrow = int(width[0]), bool(node.integer("signed", 1)), bool(node.integer("narrow", 0))
    mode = node.text("rounding_mode", "ROUND").upper()
    if mode not in _ROUNDINGS:
        raise Problem(f"has the rounding mode {mode!r}, expected one of {', '.join(sorted(_ROUNDINGS))}")
    low, high = limit_integers(bits, signed, narrow)
    if isinstance(ins[0], Const):
        return _quantize_const(ins[0], scale, zero, (low, high), bits, signed, _ROUNDINGS[mode])
    if mode not in ("ROUND", "HALF_EVEN"):
        walk.sketch.note(f"rounds by {mode}, taken as half to even", node.name or node.outputs[0])
    return _record(walk, node, ins, scale, zero, bits, signed, narrow)


def convert_bipolar_quant(walk: Walk, node: Node, ins: Ins) -> Value:
    """BipolarQuant: inputs X and scale; -scale below zero, +scale from zero on."""
    if len(ins) != 2:
        raise Problem(f"has {len(ins)} inputs, expected X and scale")
    scale, zero = _read_scale(ins), np.zeros(())
    if isinstance(ins[0], Const):
        return _quantize_const(ins[0], scale, zero, (-1, 1), 1, True, np.rint)
    return _record(walk, node, ins, scale, zero, 1, True)


def limit_integers(bits: int, signed: bool, narrow: bool) -> tuple[int, int]:
    """Return the smallest and largest integer of an IntQuant; one signed bit is bipolar, as the reference executes it."""
    if bits == 1 and signed:
        return -1, 1
    if signed:
        return -(1 << (bits - 1)) + int(narrow), (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1 - int(narrow)


def _read_static(ins: Ins, index: int, what: str) -> Any:
    value = ins[index]
    if not isinstance(value, Const):
        raise Problem(f"lacks its constant {what}")
    if value.array.dtype.kind not in "fiu":
        raise Problem(f"has a {what} of the type {value.array.dtype}")
    return value.array


def _read_scale(ins: Ins) -> Any:
    scale = _read_static(ins, 1, "scale").astype(np.float64)
    if scale.size == 0 or not np.isfinite(scale).all() or (scale <= 0).any():
        raise Problem("has a scale that is not finite and above zero")
    return scale


def _quantize_const(
    const: Const,
    scale: Any,
    zero: Any,
    limits: tuple[int, int],
    bits: int,
    signed: bool,
    rounding: Callable[[Any], Any],
) -> Const:
    array = const.array
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise Problem("quantizes a constant that is not finite floating point")
    bound_elements(array.shape)
    axis = _find_axis(array.shape, scale, zero)
    scaled = array / scale + zero
    if bits == 1 and signed:
        integers = np.where(scaled >= 0, 1.0, -1.0)
    else:
        integers = rounding(np.clip(scaled, *limits))
    real = ((integers - zero) * scale).astype(np.float32)
    whole = not np.any(zero != np.rint(zero))
    if axis is None or array.ndim < 2 or bits > WIDEST_INTEGER or not whole:
        return Const(array=real, name=const.name)
    size = max(scale.size, zero.size)
    stored = StoredWeight(
        stored=integers.astype(f"{'' if signed else 'u'}int{8 if bits <= 8 else 16}"),
        scale=np.broadcast_to(scale.reshape(-1), size).copy(),
        zero=np.broadcast_to(zero.reshape(-1), size).astype(np.int64),
        axis=axis,
        bits=bits,
    )
    return Const(array=real, stored=stored, name=const.name)


def _find_axis(shape: tuple[int, ...], *parameters: Any) -> int | None:
    """Return the one axis along which scale and zero point differ (0 where they do not), None where there are several."""
    axes: set[int] = set()
    for array in parameters:
        if array.size == 1:
            continue
        if array.ndim > len(shape) or any(
            n not in (1, m) for n, m in zip(array.shape[::-1], shape[::-1], strict=False)
        ):
            raise Problem(f"has a scale or zero point of shape {list(array.shape)} for a tensor of shape {list(shape)}")
        axes.update(axis + len(shape) - array.ndim for axis, n in enumerate(array.shape) if n > 1)
    if len(axes) > 1:
        return None
    return axes.pop() if axes else 0


def _record(
    walk: Walk, node: Node, ins: Ins, scale: Any, zero: Any, bits: int, signed: bool, narrow: bool = False
) -> Value:
    x = ins[0]
    if x is None or isinstance(x, Const):
        raise Problem("lacks its first input")
    if scale.size != 1 or zero.size != 1:
        raise Unpriced("an activation quantized per channel")
    if bits > WIDEST_INTEGER:
        walk.sketch.note(f"activation of {bits} bits kept as float", node.name or node.outputs[0])
        return x
    point = float(zero.reshape(-1)[0])
    low, high = limit_integers(bits, signed, False)
    if point != int(point) or not low <= point <= high:
        raise Problem(f"has the zero point {point:g}, expected an integer from {low} to {high}")
    if bits == 1 and signed:
        walk.sketch.note("bipolar activation stands as one bit, for cost alone", node.name or node.outputs[0])
    quant = ActQuant(scale=float(scale.reshape(-1)[0]), zero_point=int(point), bits=bits, signed=signed)
    if narrow:
        x = _clip_narrow(walk, node, x, quant)
    return replace(record_quant(walk, node, x, quant, QONNX_QUANTIZERS), quant=None)


def _clip_narrow(walk: Walk, node: Node, x: Act, quant: ActQuant) -> Act:
    """Clip to a narrow range, which a format cannot state; the layer before takes the clip over where it has no activation."""
    producer = walk.sketch.drafts.get(x.tensor)
    if producer is None:
        walk.sketch.note("narrow range of a network input taken as the whole one", x.tensor)
        return x
    if quant.bits == 1 or (quant.signed and producer.activation in ("relu", "relu6") and quant.zero_point == 0):
        return x  # nothing below zero, where the range is narrower
    low, high = limit_integers(quant.bits, quant.signed, True)
    limits: dict[str, Attr] = {
        key: (bound - quant.zero_point) * quant.scale for key, bound in (("low", low), ("high", high))
    }
    return convert_unary(walk, node, x, "clip", limits)
