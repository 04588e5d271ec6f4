"""Quantization in ONNX: QuantizeLinear and DequantizeLinear pairs, their clipped form, and integer operators.

A pair computes nothing of its own: it is recorded as the quantization of the layer that produces the tensor. The
integer operators (QLinearConv ...) are first written as pairs around the float operator, which is their definition.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from hwsim.core.tensors import ActQuant
from hwsim.nets.draft import Draft, StoredWeight
from hwsim.nets.draft_passes import FUSING_OPS
from hwsim.nets.onnx_const import Const, bound_elements, check_axis, need_const
from hwsim.nets.onnx_elementwise import convert_unary
from hwsim.nets.onnx_read import Node, Problem
from hwsim.nets.onnx_walk import Act, Unpriced, Value, Walk, need_act

Ins = list[Value | None]

PASSING = ("MaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Slice", "Split", "Gather")
"""Operators that may stand between QuantizeLinear and DequantizeLinear: they give back integers that they were given."""
_CLAMPS = {"relu": (0.0, np.inf), "relu6": (0.0, 6.0), "clip": (-np.inf, np.inf)}
"""Activations that are a clip: their bounds; those of ``clip`` are attributes."""
_TYPE_BITS = {
    2: (8, False),
    3: (8, True),
    4: (16, False),
    5: (16, True),
    21: (4, False),
    22: (4, True),
    25: (2, False),
    26: (2, True),
}


def _read_scale(ins: Ins) -> Any:
    scale = need_const(ins, 1).array.reshape(-1).astype(np.float64)
    if scale.size == 0 or not np.isfinite(scale).all() or (scale <= 0).any():
        raise Problem("has a scale that is not finite and above zero")
    return scale


def _read_zero(ins: Ins, size: int) -> tuple[Any, Const | None]:
    zero = ins[2] if len(ins) > 2 else None
    if zero is None:
        return np.zeros(size, dtype=np.int64), None
    const = need_const(ins, 2)
    if const.array.dtype.kind not in "iu":
        raise Unpriced(f"a zero point of the type {const.array.dtype}")
    if const.array.size not in (1, size):
        raise Problem(f"has {const.array.size} zero points for {size} scales")
    return np.broadcast_to(const.array.reshape(-1).astype(np.int64), size), const


def _along(values: Any, axis: int, rank: int) -> Any:
    return values.reshape(tuple(-1 if a == axis else 1 for a in range(rank))) if values.size > 1 else values.reshape(())


def convert_dequantize(walk: Walk, node: Node, ins: Ins) -> Value:
    """DequantizeLinear of a constant, or the end of an activation's pair."""
    scale = _read_scale(ins)
    zero, _ = _read_zero(ins, scale.size)
    if isinstance(ins[0], Const):
        return _dequantize_const(node, ins[0], scale, zero)
    x = need_act(ins)
    if scale.size != 1:
        raise Unpriced("an activation quantized per channel")
    if x.quant is None:
        return _dequantize_input(walk, node, ins, x, scale, zero)
    if not np.isclose(x.quant.scale, scale[0], rtol=1e-5) or x.quant.zero_point != int(zero[0]):
        raise Problem("dequantizes with another scale or zero point than the tensor was quantized with")
    return replace(x, quant=None)


def _dequantize_input(walk: Walk, node: Node, ins: Ins, x: Act, scale: Any, zero: Any) -> Act:
    if x.tensor not in walk.sketch.inputs:
        raise Unpriced("its input is no quantized tensor")
    point = ins[2] if len(ins) > 2 else None
    bits, signed = (
        (point.bits, point.array.dtype.kind == "i") if isinstance(point, Const) and point.bits else (8, False)
    )
    walk.sketch.set_quant(x.tensor, ActQuant(scale=float(scale[0]), zero_point=int(zero[0]), bits=bits, signed=signed))
    return x


def _dequantize_const(node: Node, const: Const, scale: Any, zero: Any) -> Const:
    array = const.array
    if array.dtype.kind not in "iu":
        raise Problem(f"dequantizes a constant of the type {array.dtype}")
    bound_elements(array.shape)
    block = node.integer("block_size", 0)
    axis = check_axis(node.integer("axis", 1), max(array.ndim, 1)) if scale.size > 1 else 0
    if block:
        return _dequantize_blocks(node, const, block)
    if scale.size > 1 and (not array.ndim or array.shape[axis] != scale.size):
        raise Problem(f"has {scale.size} scales for a constant of shape {list(array.shape)} along axis {axis}")
    real = (array.astype(np.float64) - _along(zero, axis, array.ndim)) * _along(scale, axis, array.ndim)
    bits = const.bits or array.dtype.itemsize * 8
    stored = StoredWeight(stored=array, scale=scale, zero=zero, axis=axis, bits=bits)
    return Const(array=real.astype(np.float32), stored=stored, name=const.name)


def _dequantize_blocks(node: Node, const: Const, block: int) -> Const:
    raise Unpriced(f"weights quantized in blocks of {block}")


def convert_quantize(walk: Walk, node: Node, ins: Ins) -> Value:
    """QuantizeLinear of a constant, or the record of an activation's quantization."""
    scale = _read_scale(ins)
    zero, point = _read_zero(ins, scale.size)
    bits, signed = _TYPE_BITS.get(node.integer("output_dtype", 0), (8, False))
    if point is not None:
        bits, signed = point.bits or point.array.dtype.itemsize * 8, point.array.dtype.kind == "i"
    if isinstance(ins[0], Const):
        return _quantize_const(node, ins[0], (scale, zero), bits, signed)
    x = need_act(ins)
    if scale.size != 1:
        walk.sketch.note(
            "quantization of an activation per channel ignored, kept as float", node.name or node.outputs[0]
        )
        raise Unpriced("an activation quantized per channel")
    quant = ActQuant(scale=float(scale[0]), zero_point=int(zero[0]), bits=bits, signed=signed)
    if not quant.low <= quant.zero_point <= quant.high:
        raise Problem(f"has the zero point {quant.zero_point} outside of {bits} bits")
    return record_quant(walk, node, x, quant, ("QuantizeLinear",))


def record_quant(walk: Walk, node: Node, x: Act, quant: ActQuant, quantizers: tuple[str, ...]) -> Act:
    """Record a quantization at the producer; an ``identity`` layer carries it where others read the tensor otherwise.

    ``quantizers`` are the operators whose reading of the tensor is such a record.
    """
    held = x.before[0] if x.before is not None else x
    others = [op for op in walk.readers.get(node.inputs[0], []) if op not in quantizers]
    exposed = node.inputs[0] in walk.model.outputs
    known = walk.sketch.quant_of(held.tensor)
    if known == quant:
        return replace(x, quant=quant)
    if known is None and not others and not exposed:
        walk.sketch.set_quant(held.tensor, quant)
        return replace(x, quant=quant)
    act = walk.emit(node, "identity", [x], x.shape)
    walk.sketch.set_quant(act.tensor, quant)
    walk.sketch.note("stands as an identity layer, because its input is read in another format too", act.tensor)
    return replace(act, quant=quant)


def _quantize_const(node: Node, const: Const, params: tuple[Any, Any], bits: int, signed: bool) -> Const:
    scale, zero = params
    array = const.array
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise Problem("quantizes a constant that is not finite floating point")
    bound_elements(array.shape)
    axis = check_axis(node.integer("axis", 1), max(array.ndim, 1)) if scale.size > 1 else 0
    if scale.size > 1 and array.shape[axis] != scale.size:
        raise Problem(f"has {scale.size} scales for a constant of shape {list(array.shape)} along axis {axis}")
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    whole = np.rint(array / _along(scale, axis, array.ndim)) + _along(zero, axis, array.ndim)
    kind = np.dtype(f"{'i' if signed else 'u'}{max(1, bits // 8)}")
    return Const(array=np.clip(whole, low, high).astype(kind), bits=bits, name=const.name)


def convert_integer_clip(walk: Walk, node: Node, ins: Ins) -> Value:
    """Clip between the two halves of a pair (QCDQ export): the format is the narrowest that holds the bounds and the zero point.

    Bounds that are not the format's own ends become a clip of the values.
    """
    low, high = (int(need_const(ins, index).array.reshape(-1)[0]) for index in (1, 2))
    if low > high or high - low >= 1 << 16:
        raise Problem(f"clips integers to {low}..{high}")
    if isinstance(ins[0], Const):
        kind = ins[0].array.dtype
        bits = _count_bits(low, high, kind.kind == "i")
        return Const(array=np.clip(ins[0].array, low, high).astype(kind), bits=bits, name=ins[0].name)
    x = need_act(ins)
    wide = x.quant
    if wide is None:
        raise Problem("clips integers that are none")
    low, high = max(low, wide.low), min(high, wide.high)
    if low > high:
        raise Problem(f"clips integers of {wide.low}..{wide.high} to none of them")
    ends = min(low, wide.zero_point), max(high, wide.zero_point)
    signed = ends[0] < 0
    quant = replace(wide, bits=_count_bits(*ends, signed), signed=signed)
    if quant.bits > wide.bits:  # unsigned bounds fill an unsigned format at most, signed ones a signed one
        raise Problem(f"clips integers to {low}..{high}, which no format of {wide.bits} bits holds")
    return _clip_integers(walk, node, x, wide, quant, (low, high))


def _count_bits(low: int, high: int, signed: bool) -> int:
    """Return the bits of the narrowest format that holds both bounds."""
    if not signed:
        return max(1, high.bit_length())
    return 1 + max(bound.bit_length() if bound >= 0 else (-bound - 1).bit_length() for bound in (low, high))


def _clip_integers(walk: Walk, node: Node, x: Act, wide: ActQuant, quant: ActQuant, bounds: tuple[int, int]) -> Act:
    """Record a narrower format: at the producer where nothing else reads its integers, else at a layer that clips them."""
    held = x.before[0] if x.before is not None else x
    producer = walk.sketch.drafts.get(held.tensor)
    own = _is_read_once(walk, node, producer)
    if own and bounds == (quant.low, quant.high):
        walk.sketch.set_quant(held.tensor, quant)
        return replace(x, quant=quant)
    low, high = ((bound - wide.zero_point) * wide.scale for bound in bounds)
    own = own and producer is not None and x.before is None and _is_maker(walk, node, producer)
    if own and producer is not None and producer.op == "activation" and producer.activation in _CLAMPS:
        floor, ceiling = _CLAMPS[producer.activation]
        if producer.activation == "clip":
            floor, ceiling = (float(str(producer.attrs[key])) for key in ("low", "high"))
        producer.activation = "clip"
        producer.attrs |= {"low": min(max(floor, low), high), "high": max(min(ceiling, high), low)}
        producer.quant = quant
        return replace(x, quant=quant)
    if own and producer is not None and producer.op in FUSING_OPS and producer.activation == "none":
        producer.quant = None  # the clip is fused into it, and the format behind it with the clip
    act = convert_unary(walk, node, replace(x, quant=None), "clip", {"low": low, "high": high})
    walk.sketch.set_quant(act.before[0].tensor if act.before is not None else act.tensor, quant)
    return replace(act, quant=quant)


def _is_read_once(walk: Walk, node: Node, producer: Draft | None) -> bool:
    """Return whether a Clip alone reads the integers of a QuantizeLinear that alone reads a real tensor."""
    name = node.inputs[0]
    maker = walk.makers.get(name)
    if (
        maker is None
        or maker.op != "QuantizeLinear"
        or len(walk.readers.get(name, [])) != 1
        or name in walk.model.outputs
    ):
        return False
    if producer is not None and producer.op == "identity" and producer.origin == "QuantizeLinear":
        return True
    return len(walk.readers.get(maker.inputs[0], [])) == 1 and maker.inputs[0] not in walk.model.outputs


def _is_maker(walk: Walk, node: Node, producer: Draft) -> bool:
    """Return whether a draft is what its QuantizeLinear reads itself, with no reshape between them."""
    maker = walk.makers[node.inputs[0]]
    before = walk.makers.get(maker.inputs[0])
    return before is not None and before.op == producer.origin


def list_dynamic_quantizers(nodes: list[Node], inputs: Iterable[str], quantizers: tuple[str, ...]) -> list[str]:
    """List the quantizers whose scale, zero point or width depends on the network's input: they are known at run time alone."""
    moving = set(inputs)
    problems = []
    for node in nodes:
        late = [index for index, name in enumerate(node.inputs) if name in moving]
        if node.op == "DynamicQuantizeLinear" or (node.op in quantizers and any(index > 0 for index in late)):
            problems.append(
                f"{node.where} has a scale that is computed while the network runs: only static quantization can be priced"
            )
        if late and node.op not in ("Shape", "Size"):
            moving.update(filter(None, node.outputs))
    return problems


# operator -> (float operator, names of its tensors: capitals are data, lower case scale and zero point of the last capital)
_INTEGER_OPS: dict[str, tuple[str, str]] = {
    "QLinearConv": ("Conv", "XszWszszB"),
    "QLinearMatMul": ("MatMul", "XszWszsz"),
    "QGemm": ("Gemm", "XszWszBsz"),
    "QLinearAdd": ("Add", "XszWszsz"),
    "QLinearMul": ("Mul", "XszWszsz"),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", "Xszsz"),
    "QLinearAveragePool": ("AveragePool", "Xszsz"),
    "QLinearSigmoid": ("Sigmoid", "Xszsz"),
    "QLinearLeakyRelu": ("LeakyRelu", "Xszsz"),
}


def expand_integer_ops(nodes: list[Node]) -> list[Node]:
    """Write integer operators as DequantizeLinear, the float operator and QuantizeLinear."""
    expanded: list[Node] = []
    for node in nodes:
        if node.op in _INTEGER_OPS:
            expanded.extend(_expand_integer_op(node))
        else:
            expanded.append(node)
    return expanded


def _expand_integer_op(node: Node) -> list[Node]:
    op, layout = _INTEGER_OPS[node.op]
    tag = node.outputs[0]
    slots = dict(zip(_label(layout), (*node.inputs, *("",) * 16), strict=False))

    def make(op: str, inputs: list[str], output: str, **attrs: Any) -> Node:
        return Node(
            name=node.name or tag,
            op=op,
            domain="",
            inputs=tuple(inputs),
            outputs=(output,),
            attrs=attrs,
            proto=node.proto,
        )

    per_tensor_axis = 0 if op in ("Conv", "Gemm") and not (op == "Gemm" and not node.attrs.get("transB", 0)) else 1
    found, data = [], []
    for letter in "XW":
        if f"{letter}" in slots:
            name = f"{tag}/{letter}"
            inputs = [slots[letter], slots[letter + "s"], slots[letter + "z"]]
            found.append(make("DequantizeLinear", inputs, name, axis=per_tensor_axis if letter == "W" else 1))
            data.append(name)
    if slots.get("B"):
        found.append(make("Mul", [slots["Xs"], slots["Ws"]], f"{tag}/Bs"))
        found.append(make("DequantizeLinear", [slots["B"], f"{tag}/Bs"], f"{tag}/B", axis=0))
        data.append(f"{tag}/B")
    kept = {key: value for key, value in node.attrs.items() if key != "channels_last"}
    found.append(make(op, data, f"{tag}/Y", **kept))
    found.append(make("QuantizeLinear", [f"{tag}/Y", slots["Ys"], slots["Yz"]], tag))
    return found


def _label(layout: str) -> list[str]:
    """Name the inputs: scale and zero point belong to the capital before them, the last such pair to the output Y."""
    labels, owner = [], ""
    pairs = layout.count("s")
    for letter in layout:
        if letter.isupper():
            owner = letter
            labels.append(letter)
        else:
            if letter == "s":
                pairs -= 1
            labels.append(("Y" if pairs == 0 else owner) + letter)
    return labels
