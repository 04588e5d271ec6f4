"""Array work that the float and the integer model share: convolution, windows, what only moves elements.

Activations are ``[N, channels, height, width]`` of any batch size; the layer's own ``N`` is not used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from hwsim.core.errors import HwsimError
from hwsim.core.layer import Layer
from hwsim.engine.blas import use_one_thread

Array = npt.NDArray[Any]
"""An array of reals or of stored integers."""
FLOAT32_EXACT = 1 << 24
"""Integers up to here are float32 numbers (24 significant bits), so sums that stay below are exact in any order."""
FLOAT64_EXACT = 1 << 53
"""The same for float64."""
LARGEST_SPANS = 8
"""More spans than this cost more than one product in float64."""
CHUNK_ELEMENTS = 1 << 21
"""Elements of one im2col chunk, and of one piece of a weight matrix: bounds the memory of a layer."""


def convolve_float(x: Array, weight: Array, layer: Layer) -> npt.NDArray[np.float32]:
    """Convolve in float32; returns ``[N, G*K, P, Q]``."""
    return _convolve(x.astype(np.float32, copy=False), weight, layer, [(0, layer.C * layer.R * layer.S)], np.float32)


def convolve_integer(x: Array, weight: Array, layer: Layer) -> npt.NDArray[np.int64]:
    """Convolve integers exactly; returns int64 ``[N, G*K, P, Q]``.

    The products go through the BLAS as floats. They stay exact: the reduction is cut into spans in which the sum of
    ``|weight|`` times the largest ``|x|`` is at most ``2**24`` (float32), and spans add up in float64; where that would take
    more than a few spans, all of it runs in float64, exact below ``2**53``.

    Parameters
    ----------
    x : ndarray
        ``[N, G*C, H, W]``, integers with the zero point already subtracted.
    weight : ndarray
        ``[G*K, C, R, S]``, integers with the zero point already subtracted.
    """
    depth = layer.C * layer.R * layer.S
    largest = max(abs(int(x.max(initial=0))), abs(int(x.min(initial=0))))
    rows = weight.reshape(-1, depth)
    longest = _measure_rows(rows, [(0, depth)])
    if longest * largest >= FLOAT64_EXACT:
        raise HwsimError(f"layer {layer.name}: its accumulators exceed 53 bits; use fewer weight or activation bits")
    spans = _cut_spans(rows, largest, longest)
    if spans is not None:
        return _convolve(x.astype(np.float32), weight, layer, spans, np.float32).astype(np.int64)
    return _convolve(x.astype(np.float64), weight, layer, [(0, depth)], np.float64).astype(np.int64)


def _measure_rows(rows: Array, spans: list[tuple[int, int]]) -> int:
    """Return the largest sum of magnitudes of any row in any span; by blocks of rows, to bound memory."""
    longest, step = 0, max(1, CHUNK_ELEMENTS // rows.shape[1])
    for start in range(0, len(rows), step):
        block = np.abs(rows[start : start + step].astype(np.int64))
        longest = max(longest, *(int(block[:, a:b].sum(axis=1).max()) for a, b in spans))
    return longest


def _cut_spans(rows: Array, largest: int, longest: int) -> list[tuple[int, int]] | None:
    """Cut the reduction into a few equal spans that are exact in float32, or return None."""
    depth = rows.shape[1]
    count = -(-longest * largest // FLOAT32_EXACT)
    if count <= 1:
        return [(0, depth)]
    count += 1  # weights are not spread evenly
    if count > min(LARGEST_SPANS, depth):
        return None
    spans = list(pairwise(depth * i // count for i in range(count + 1)))
    return spans if _measure_rows(rows, spans) * largest <= FLOAT32_EXACT else None


@use_one_thread()
def _convolve(x: Array, weight: Array, layer: Layer, spans: list[tuple[int, int]], dtype: npt.DTypeLike) -> Array:
    """Convolve floats, chunk by chunk; spans of the reduction add up in float64 when there are several."""
    batch = x.shape[0]
    wide = np.float64 if len(spans) > 1 else dtype
    if layer.op == "gemm" and layer.G == 1:
        flat = x.reshape(batch, layer.C)
        return _multiply_rows(flat, weight.reshape(layer.K, layer.C), spans, dtype, wide).reshape(batch, -1, 1, 1)
    out = np.empty((batch, layer.G * layer.K, layer.P, layer.Q), wide)
    by_taps = layer.C == 1 and layer.K == 1 and len(spans) == 1
    kernel = weight.astype(dtype, copy=False)
    rows = kernel.reshape(layer.G, layer.K, -1)
    for n in range(batch):
        padded = _pad_image(x[n], layer, 0)
        if by_taps:
            _convolve_depthwise(padded, kernel, layer, out[n])
            continue
        for top, columns in _iterate_columns(padded, layer):
            height = columns.shape[-1] // layer.Q
            total = _multiply_groups(rows, columns, spans)
            out[n, :, top : top + height] = total.reshape(layer.G * layer.K, height, layer.Q)
    return out


def _multiply_rows(
    x: Array, rows: Array, spans: list[tuple[int, int]], dtype: npt.DTypeLike, wide: npt.DTypeLike
) -> Array:
    """Return ``x @ rows.T`` without converting a huge weight matrix at once."""
    out = np.empty((len(x), len(rows)), wide)
    step = max(1, CHUNK_ELEMENTS // rows.shape[1])
    for start in range(0, len(rows), step):
        piece = rows[start : start + step]
        first, *rest = (x[:, a:b] @ piece[:, a:b].astype(dtype).T for a, b in spans)
        out[:, start : start + step] = first
        for product in rest:
            out[:, start : start + step] += product
    return out


def _multiply_groups(rows: Array, columns: Array, spans: list[tuple[int, int]]) -> Array:
    """Return ``rows @ columns`` group by group; the products of several spans add up in float64."""
    if len(spans) == 1:
        return rows @ columns
    return sum(
        ((rows[:, :, a:b] @ columns[:, a:b]).astype(np.float64) for a, b in spans), start=np.zeros((), np.float64)
    )


def _pad_image(image: Array, layer: Layer, value: float) -> Array:
    top, left, bottom, right = layer.padding
    if not any(layer.padding):
        return image
    shape = (image.shape[0], image.shape[1] + top + bottom, image.shape[2] + left + right)
    padded = np.full(shape, value, image.dtype)
    padded[:, top : top + image.shape[1], left : left + image.shape[2]] = image
    return padded


def _iterate_columns(padded: Array, layer: Layer) -> Iterator[tuple[int, Array]]:
    """Yield (first output row, ``[G, C*R*S, rows * Q]``) chunks of the unrolled image."""
    depth = layer.C * layer.R * layer.S
    step = max(1, CHUNK_ELEMENTS // max(1, layer.G * depth * layer.Q))
    if (layer.R, layer.S, *layer.stride) == (1, 1, 1, 1):
        for top in range(0, layer.P, step):
            yield top, np.ascontiguousarray(padded[:, top : top + step]).reshape(layer.G, layer.C, -1)
        return
    windows = _view_windows(padded, layer)
    for top in range(0, layer.P, step):
        part = windows[:, :, :, top : top + step]
        yield top, np.ascontiguousarray(part).reshape(layer.G, depth, -1)


def _view_windows(padded: Array, layer: Layer) -> Array:
    """Return a strided view ``[channels, R, S, P, Q]`` of an already padded image."""
    channel, row, column = padded.strides
    (sh, sw), (dh, dw) = layer.stride, layer.dilation
    return np.lib.stride_tricks.as_strided(
        padded,
        (padded.shape[0], layer.R, layer.S, layer.P, layer.Q),
        (channel, row * dh, column * dw, row * sh, column * sw),
        writeable=False,
    )


def _convolve_depthwise(padded: Array, weight: Array, layer: Layer, out: Array) -> None:
    """Add up tap by tap, a few channels at a time so that they stay in the cache."""
    windows = _view_windows(padded, layer)
    step = max(1, (1 << 15) // (layer.P * layer.Q))
    for start in range(0, layer.G, step):
        part, kernel = windows[start : start + step], weight[start : start + step, 0, :, :, None, None]
        total = part[:, 0, 0] * kernel[:, 0, 0]
        product = np.empty_like(total)
        for r in range(layer.R):
            for s in range(layer.S):
                if r or s:
                    np.multiply(part[:, r, s], kernel[:, r, s], out=product)
                    total += product
        out[start : start + step] = total


def sum_distances(x: Array, weight: Array, layer: Layer) -> Array:
    """Return ``-sum |x - w|`` over each window, ``[N, G*K, P, Q]``: int64, exact, or float32.

    Padding is a zero activation: a border pixel counts ``-|w|`` there (AdderNet, CVPR 2020, pads with zeros before it unfolds).

    Parameters
    ----------
    x : ndarray
        ``[N, G*C, H, W]``: floats, or integers of up to 30 bits with the zero point already subtracted.
    weight : ndarray
        ``[G*K, C, R, S]`` at the same scale.
    """
    dtype, wide = (np.float32, np.float32) if x.dtype.kind == "f" else (np.int32, np.int64)
    out = np.empty((x.shape[0], layer.G, layer.K, layer.P * layer.Q), wide)
    rows = weight.reshape(layer.G, layer.K, -1, 1).astype(dtype)
    for n in range(x.shape[0]):
        padded = _pad_image(x[n].astype(dtype), layer, 0)
        for top, columns in _iterate_columns(padded, layer):
            pixels = slice(top * layer.Q, top * layer.Q + columns.shape[-1])
            for k in range(layer.K):
                np.negative(np.abs(columns - rows[:, k]).sum(axis=1, dtype=wide), out=out[n, :, k, pixels])
    return out.reshape(x.shape[0], layer.G * layer.K, layer.P, layer.Q)


def pool_max(x: Array, layer: Layer) -> Array:
    """Return the largest element of each window; padding never wins."""
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    return _pool(x, layer, lowest, np.maximum, x.dtype)


def pool_sum(x: Array, layer: Layer) -> Array:
    """Return the sum over each window, padding as zero: float32 for floats, int64 for integers (zero point subtracted)."""
    return _pool(x, layer, 0, np.add, np.dtype(np.float32 if x.dtype.kind == "f" else np.int64))


def count_window(layer: Layer) -> npt.NDArray[np.int64]:
    """Return by how many elements each window of an average pooling divides, ``[P, Q]``: without padding unless the layer
    has ``count_include_pad``."""
    if layer.attr("count_include_pad", 0):
        return np.full((layer.P, layer.Q), layer.R * layer.S, np.int64)
    ones = np.ones((1, 1, layer.H, layer.W), np.int64)
    return np.maximum(_pool(ones, layer, 0, np.add, np.dtype(np.int64))[0, 0], 1)


def _pool(x: Array, layer: Layer, fill: float, combine: Callable[..., Array], dtype: np.dtype[np.generic]) -> Array:
    if (layer.R, layer.S) == (layer.H, layer.W) and not any(layer.padding):
        reduced = combine.reduce(x, axis=(2, 3), keepdims=True, dtype=dtype)  # type: ignore[attr-defined]
        return np.asarray(reduced)
    out = np.empty((*x.shape[:2], layer.P, layer.Q), dtype)
    for n in range(len(x)):
        windows = _view_windows(_pad_image(x[n].astype(dtype, copy=False), layer, fill), layer)
        out[n] = windows[:, 0, 0]
        for r in range(layer.R):
            for s in range(layer.S):
                if r or s:
                    combine(out[n], windows[:, r, s], out=out[n])
    return out


def move_elements(layer: Layer, inputs: list[Array], pad_value: float = 0) -> Array:
    """Execute an operator that only moves elements (``ADDRESS_OPS``).

    Attributes: ``groups`` or ``rotate`` of a shuffle (see `hwsim.core.layer`); ``start``, ``stop``, ``step`` and ``axis`` (default:
    channels) of a slice; ``perm`` of a transpose and ``shape_in``, its input's shape where that has more than four dimensions;
    ``channels_before``, ``channels_after`` and ``mode`` (numpy's names) of a pad, whose constant is ``pad_value``. Flatten and
    reshape take the layer's output shape.
    """
    x = inputs[0]
    batch, out_shape = x.shape[0], layer.out_shape[1:]
    if layer.op == "concat":
        return np.concatenate(inputs, axis=1)
    if layer.op == "identity":
        return x
    if layer.op in ("flatten", "reshape"):
        return x.reshape(batch, *out_shape)
    if layer.op == "transpose":
        return _transpose(layer, x).reshape(batch, *out_shape)
    if layer.op == "shuffle":
        turn = layer.attr("rotate")
        if isinstance(turn, int):
            return np.roll(x, -turn, axis=1)
        groups = layer.attr("groups")
        if not isinstance(groups, int) or groups < 1 or x.shape[1] % groups:
            raise HwsimError(f"layer {layer.name}: {x.shape[1]} channels cannot be shuffled in {groups!r} groups")
        return x.reshape(batch, groups, -1, *x.shape[2:]).swapaxes(1, 2).reshape(x.shape)
    if layer.op == "slice":
        axis = _attr_int(layer, "axis", 1)
        span = slice(*(_attr_int(layer, *pair) for pair in (("start", 0), ("stop", x.shape[axis]), ("step", 1))))
        return x[(slice(None),) * axis + (span,)]
    if layer.op == "pad":
        return _pad(layer, x, pad_value)
    raise HwsimError(f"layer {layer.name}: the operator {layer.op} moves no elements")


def _transpose(layer: Layer, x: Array) -> Array:
    perm, shape = layer.attr("perm"), layer.attr("shape_in", x.shape)
    if not isinstance(perm, tuple) or not isinstance(shape, tuple) or sorted(perm) != list(range(len(shape))):
        raise HwsimError(f"layer {layer.name}: a transpose needs a permutation in its attribute perm, got {perm!r}")
    if perm[0] != 0 and len(x) > 1:
        raise HwsimError(f"layer {layer.name}: a transpose that moves the batch runs at batch 1 only")
    return x.reshape(len(x), *shape[1:]).transpose(perm)


def _pad(layer: Layer, x: Array, value: float) -> Array:
    top, left, bottom, right = layer.padding
    channels = (_attr_int(layer, "channels_before", 0), _attr_int(layer, "channels_after", 0))
    mode = layer.attr("mode", "constant")
    constant: dict[str, Any] = {"constant_values": value} if mode == "constant" else {}
    return np.pad(x, ((0, 0), channels, (top, bottom), (left, right)), mode=mode, **constant)  # type: ignore[call-overload, no-any-return]


ActivationFunction = Callable[[npt.NDArray[np.float64], Layer], npt.NDArray[np.float64]]


def _attr_int(layer: Layer, name: str, default: int) -> int:
    value = layer.attr(name, default)
    return value if isinstance(value, int) else default


def _attr_float(layer: Layer, name: str, default: float) -> float:
    value = layer.attr(name, default)
    return float(value) if isinstance(value, int | float) else default


def clamp_limits(layer: Layer) -> tuple[float, float] | None:
    """Return the real limits of an activation that only clamps (none, relu, relu6, clip), else None."""
    if layer.activation == "clip":
        return _attr_float(layer, "low", -math.inf), _attr_float(layer, "high", math.inf)
    return {"none": (-math.inf, math.inf), "relu": (0.0, math.inf), "relu6": (0.0, 6.0)}.get(layer.activation)


def _erf(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.array([math.erf(v) for v in x.ravel()], np.float64).reshape(x.shape)


def _sigmoid(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


_FUNCTIONS: dict[str, ActivationFunction] = {
    "leaky_relu": lambda x, layer: np.where(x < 0, x * _attr_float(layer, "alpha", 0.01), x),
    "sigmoid": lambda x, layer: _sigmoid(x),
    "tanh": lambda x, layer: np.tanh(x),
    # Defaults of ONNX: HardSigmoid alpha 0.2, beta 0.5; HardSwish is x * HardSigmoid(alpha 1/6, beta 0.5).
    "hard_sigmoid": lambda x, layer: np.clip(
        _attr_float(layer, "alpha", 0.2) * x + _attr_float(layer, "beta", 0.5), 0, 1
    ),
    "hard_swish": lambda x, layer: x * np.clip(x / 6 + 0.5, 0, 1),
    "silu": lambda x, layer: x * _sigmoid(x),
    "gelu": lambda x, layer: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
}


def apply_activation(x: Array, layer: Layer, slopes: Array | None = None) -> Array:
    """Apply the layer's activation to reals, in the dtype of ``x``; ``slopes`` of a leaky_relu go by channel."""
    if slopes is not None and layer.activation == "leaky_relu":
        return np.where(x < 0, x * slopes.reshape(1, -1, 1, 1).astype(x.dtype), x)
    limits = clamp_limits(layer)
    if limits == (-math.inf, math.inf):
        return x
    if limits is not None:
        return np.asarray(np.clip(x, *limits)).astype(x.dtype, copy=False)
    return _FUNCTIONS[layer.activation](x.astype(np.float64), layer).astype(x.dtype)


def apply_softmax(x: Array, layer: Layer) -> npt.NDArray[np.float32]:
    """Softmax over the channels (or the attribute ``axis``), float32."""
    axis = _attr_int(layer, "axis", 1)
    shifted = np.exp(x - x.max(axis=axis, keepdims=True))
    return (shifted / shifted.sum(axis=axis, keepdims=True)).astype(np.float32)


def apply_lrn(x: Array, layer: Layer) -> npt.NDArray[np.float32]:
    """Local response normalization over channels, float32 (ONNX LRN: attributes ``size, alpha, beta, bias``)."""
    size = int(_attr_float(layer, "size", 5))
    alpha, beta = _attr_float(layer, "alpha", 1e-4), _attr_float(layer, "beta", 0.75)
    before = (size - 1) // 2
    squares = np.pad(np.square(x, dtype=np.float32), ((0, 0), (before, size - 1 - before), (0, 0), (0, 0)))
    total = sum(squares[:, i : i + x.shape[1]] for i in range(size))
    return (x / (_attr_float(layer, "bias", 1.0) + alpha / size * total) ** beta).astype(np.float32)
