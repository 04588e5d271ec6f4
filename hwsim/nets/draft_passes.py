"""Rewrites of a sketch: fold affine maps and zero padding into MAC layers, recognise shuffles, fuse activations.

Each pass keeps what the network computes. A layer that carries a quantization of its own output is never merged with
what follows, for its rounding would be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from hwsim.core.layer import ADDRESS_OPS
from hwsim.nets.draft import Draft, Sketch

FUSING_OPS = ("conv", "gemm", "add", "scale")
"""Layers behind which an activation is fused."""
_GATES = {"sigmoid": "silu", "hard_sigmoid": "hard_swish"}
_ALIKE = ("alpha", "beta")


def simplify_sketch(sketch: Sketch) -> None:
    """Run every pass, in the order in which one makes work for the next."""
    prune_unused(sketch)
    join_gates(sketch)
    join_shuffles(sketch)
    fold_scales(sketch)
    fold_padding(sketch)
    fuse_activations(sketch)
    prune_unused(sketch)


def _pairs(sketch: Sketch, wanted: Callable[[Draft], bool]) -> Iterator[tuple[Draft, Draft]]:
    """Yield (producer, consumer) where the wanted consumer is the producer's only reader and nothing else sees its output."""
    users = sketch.users()
    for draft in list(sketch.drafts.values()):
        if not wanted(draft) or draft.name not in sketch.drafts:
            continue
        producer = sketch.drafts.get(draft.inputs[0])
        if producer is None or producer.quant is not None or producer.name in sketch.outputs:
            continue
        if len(users[producer.name]) == 1:
            yield producer, draft
            if draft.name not in sketch.drafts:  # merged: what read the consumer now reads the producer
                users[producer.name] = list(users[draft.name])


def _merge(sketch: Sketch, producer: Draft, consumer: Draft) -> None:
    """Remove the consumer; the producer takes over its output and the quantization of it."""
    producer.quant = consumer.quant
    producer.shape = consumer.shape
    del sketch.drafts[consumer.name]
    sketch.replace_tensor(consumer.name, producer.name)


def fold_scales(sketch: Sketch) -> None:
    """Fold a per-channel affine map into the convolution, gemm or affine map before it, in float64."""
    for producer, scale in _pairs(sketch, lambda d: d.op == "scale"):
        if producer.op not in ("conv", "gemm", "scale") or producer.activation != "none" or producer.out != scale.out:
            continue
        if not _fold_scale(producer, scale):
            continue
        sketch.note("folded into the layer before it", f"{scale.name} ({scale.origin}) into {producer.name}")
        producer.activation = scale.activation
        _merge(sketch, producer, scale)


def _fold_scale(producer: Draft, scale: Draft) -> bool:
    """Compute the folded arrays; False where integers forbid it."""
    if producer.filled:
        return True
    factor, offset = scale.weight, scale.bias
    if producer.stored is not None:
        if not np.all(factor == 1.0) or (scale.stored_bias is not None and producer.bias is not None):
            return False
        if scale.stored_bias is not None and producer.stored_bias is None:
            producer.stored_bias = scale.stored_bias
        elif producer.stored_bias is not None:
            return False
        else:
            producer.bias = offset if producer.bias is None else producer.bias + offset
        return True
    if producer.op == "scale":
        producer.weight = producer.weight * factor
        producer.bias = producer.bias * factor + offset
        producer.stored_bias = scale.stored_bias if np.all(producer.weight == 1.0) and not producer.bias.any() else None
        return True
    producer.weight = producer.weight * factor.reshape(-1, 1, 1, 1)
    producer.bias = offset if producer.bias is None else producer.bias * factor + offset
    return True


def fold_padding(sketch: Sketch) -> None:
    """Fold spatial zero padding into the convolution that alone reads it."""
    for pad, conv in _pairs(sketch, lambda d: d.op == "conv"):
        if pad.op != "pad" or pad.attrs:
            continue
        first = sketch.shape4(pad.inputs[0])
        conv.dims["padding"] = tuple(a + b for a, b in zip(conv.dims["padding"], pad.dims["padding"], strict=True))
        conv.dims["H"], conv.dims["W"] = first[2], first[3]
        conv.inputs = list(pad.inputs)
        del sketch.drafts[pad.name]
        sketch.note("folded into the padding of the convolution behind it", f"{pad.name} into {conv.name}")


def fuse_activations(sketch: Sketch) -> None:
    """Fuse an activation into the MAC, addition or affine map that it alone reads."""
    for producer, act in _pairs(sketch, lambda d: d.op == "activation"):
        if (
            producer.op not in FUSING_OPS
            or producer.activation != "none"
            or producer.out != act.out
            or act.weight is not None
        ):
            continue
        producer.activation = act.activation
        producer.attrs |= act.attrs
        _merge(sketch, producer, act)


def join_gates(sketch: Sketch) -> None:
    """Recognise x * sigmoid(x) as silu and x * hard_sigmoid(x) as hard_swish."""
    users = sketch.users()
    for mul in [draft for draft in sketch.drafts.values() if draft.op == "mul" and len(draft.inputs) == 2]:
        for x, gate_name in (mul.inputs, mul.inputs[::-1]):
            gate = sketch.drafts.get(gate_name)
            if gate is None or gate.op != "activation" or gate.activation not in _GATES or gate.inputs != [x]:
                continue
            if gate.quant is not None or gate.name in sketch.outputs or len(users[gate.name]) != 1:
                continue
            if gate.activation == "hard_sigmoid" and not _is_sixth(gate):
                continue
            mul.op, mul.activation, mul.inputs = "activation", _GATES[gate.activation], [x]
            del sketch.drafts[gate.name]
            break


def _is_sixth(gate: Draft) -> bool:
    """Whether a hard sigmoid is relu6(x + 3) / 6, the one in hard_swish."""
    alpha, beta = (float(gate.attrs.get(key, 0.0)) for key in _ALIKE)  # type: ignore[arg-type]
    return abs(alpha - 1 / 6) < 1e-4 and abs(beta - 0.5) < 1e-4


def join_shuffles(sketch: Sketch) -> None:
    """Recognise Reshape [N, g, c, ...], Transpose of axes 1 and 2, Reshape back as one channel shuffle."""
    users = sketch.users()

    def only_reader(draft: Draft, op: tuple[str, ...]) -> Draft | None:
        found = users[draft.name]
        if len(found) != 1 or found[0].op not in op or draft.quant is not None or draft.name in sketch.outputs:
            return None
        return found[0]

    for split in [draft for draft in sketch.drafts.values() if draft.op == "reshape"]:
        swap = only_reader(split, ("transpose",))
        join = only_reader(swap, ("reshape", "flatten")) if swap else None
        if swap is None or join is None or len(split.shape) not in (3, 4, 5) or len(swap.shape) != len(split.shape):
            continue
        first = sketch.shape4(split.inputs[0])
        groups, each = split.shape[1], split.shape[2]
        perm = (0, 2, 1, *range(3, len(split.shape)))
        if swap.perm != perm or join.out != first or groups * each != first[1]:
            continue
        join.op, join.inputs, join.attrs = "shuffle", list(split.inputs), {"groups": groups}
        del sketch.drafts[split.name], sketch.drafts[swap.name]


def prune_unused(sketch: Sketch) -> None:
    """Drop drafts whose results nobody uses; those that compute something are named in a note."""
    users = sketch.users()
    for draft in reversed(list(sketch.drafts.values())):
        if users[draft.name] or draft.name in sketch.outputs:
            continue
        del sketch.drafts[draft.name]
        for name in draft.inputs:
            users[name].remove(draft)
        if draft.op not in ADDRESS_OPS:
            sketch.note("dropped, because nothing reads its result", f"{draft.name} ({draft.origin})")


def check_arrays(sketch: Sketch) -> list[str]:
    """List the drafts whose weights, biases or scales are not finite."""
    problems = []
    for draft in sketch.drafts.values():
        parts: list[tuple[str, Any]] = [("weights", draft.weight), ("bias", draft.bias)]
        if draft.stored is not None:
            parts.append(("weight scales", draft.stored.scale))
        for what, array in parts:
            if array is not None and not draft.filled and not np.isfinite(array).all():
                problems.append(f"layer {draft.name} has NaN or infinite {what}")
    return problems
