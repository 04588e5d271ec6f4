"""What passes an accelerator while it runs a layer: accumulators, operands, parameters, in the tiles of a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from accel_rtl.shell.vector import SUM_LIMIT
from hwsim.core.layer import Layer
from hwsim.core.mapping import Boxes, C, G, Int64, K, N, P, Q
from hwsim.core.network import Network
from hwsim.core.tensors import ActQuant, Array, Tensors
from hwsim.engine.execute_parameters import LayerParameters, derive_parameters, is_executable
from hwsim.engine.execute_tile import LOWEST, clip_window, pad_tile, view_windows
from hwsim.engine.functional_integer import IntegerModel, complete_quants
from hwsim.engine.functional_ops import convolve_integer
from hwsim.quant.requant import shift_right


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerValues:
    """Values of one layer.

    Parameters
    ----------
    layer : Layer
    parameters : LayerParameters
    operands : tuple of ndarray int64
        Stored elements less their zero points ``[N, channels, H, W]``.
    weight : ndarray int64 ``[G*K, C, R, S]``, or None
    accumulators : ndarray int64 ``[N, G*K, P, Q]``
        Without bias.
    """

    layer: Layer
    parameters: LayerParameters
    operands: tuple[Int64, ...]
    weight: Int64 | None
    accumulators: Int64


def list_values(network: Network, tensors: Tensors, stored: Mapping[str, Array]) -> list[LayerValues]:
    """Return the values of every layer that an accelerator runs in integers.

    Parameters
    ----------
    network : Network
        Of any batch size: that of ``stored`` counts.
    tensors : Tensors
        Quantized.
    stored : mapping
        Inputs as stored.
    """
    model, quants, values = IntegerModel(network, tensors), complete_quants(network, tensors), dict(stored)
    found = []
    for layer in network.layers:
        operands = [values[name] for name in layer.inputs]
        values[layer.name] = model.execute(layer, operands)
        runs = layer.kind in ("mac", "vector") and layer.op in ("conv", "gemm", "add", "avgpool", "maxpool")
        if runs and is_executable(layer, tensors, quants) and all(x.dtype.kind in "iu" for x in operands):
            found.append(_find_values(layer, tensors, quants, operands))
    return found


def _find_values(
    layer: Layer, tensors: Tensors, quants: Mapping[str, ActQuant], operands: list[Array]
) -> LayerValues:  # fmt: skip
    parameters = derive_parameters(layer, tensors, quants)
    centred = tuple(
        np.asarray(x, np.int64) - zero for x, zero in zip(operands, parameters.input_zero, strict=True)
    )  # fmt: skip
    weight = None
    if layer.kind == "mac":
        stored: Any = tensors.layers[layer.name].weight
        weight = np.asarray(stored, np.int64).reshape(-1, layer.C, layer.R, layer.S)
        weight = weight - parameters.weight_zero.reshape(-1, 1, 1, 1)
        acc = np.asarray(convolve_integer(centred[0].astype(np.int32), weight.astype(np.int32), layer), np.int64)
        acc = acc.reshape(-1, layer.G * layer.K, layer.P, layer.Q)
    elif layer.op == "add":
        total = sum(x * factor for x, factor in zip(centred, parameters.factors, strict=True))
        acc = np.clip(shift_right(total, parameters.factor_shift), -SUM_LIMIT, SUM_LIMIT)
    else:
        largest = layer.op == "maxpool"
        windows = _view_output(layer, centred[0], LOWEST if largest else 0)
        acc = windows.max(axis=(2, 3)) if largest else windows.sum(axis=(2, 3))
    return LayerValues(
        layer=layer, parameters=parameters, operands=centred, weight=weight, accumulators=np.asarray(acc, np.int64)
    )  # fmt: skip


def order_stores(layer: Layer, boxes: Boxes) -> Int64:
    """Return the flat indices of a layer's output (of one pass) in the order in which its tiles are stored."""
    places = np.arange(np.prod(layer.out_shape)).reshape(layer.out_shape)
    parts = []
    for lo, hi in zip(boxes.lo, boxes.hi, strict=True):
        if lo[C] > 0:  # another part of the same sums
            continue
        channel = int(lo[G] * layer.K + lo[K])
        count = int((hi[G] - lo[G]) * (hi[K] - lo[K]))
        part = places[lo[N] : hi[N], channel : channel + count, lo[P] : hi[P], lo[Q] : hi[Q]]
        parts.append(part.ravel())
    return np.concatenate(parts)


def cut_windows(values: LayerValues) -> Int64:
    """Return the operands of each output pixel of a MAC layer in the order of products: ``[G, pixels, C*R*S]``."""
    layer = values.layer
    windows = _view_output(layer, values.operands[0], 0)
    n, _, r, s, p, q = windows.shape
    cut = windows.reshape(n, layer.G, layer.C, r, s, p * q).transpose(1, 0, 5, 2, 3, 4)
    return np.ascontiguousarray(cut).reshape(layer.G, n * p * q, layer.C * r * s)


def _view_output(layer: Layer, x: Int64, fill: int) -> Int64:
    """Return the windows of a whole output, ``[n, channels, R, S, P, Q]``; ``fill`` is what padding holds."""
    lo, hi = np.zeros(6, np.int64), np.array([layer.N, layer.G, layer.K, layer.C, layer.P, layer.Q])
    rows, columns = (slice(*clip_window(layer, axis, 0, extent)) for axis, extent in ((0, layer.P), (1, layer.Q)))
    return view_windows(layer, pad_tile(layer, x[:, :, rows, columns], lo, hi, fill), lo, hi)
