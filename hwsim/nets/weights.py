"""Gives a network the weights of a file: a PyTorch state dict or an ONNX file, matched by layer name.

Normalization that follows a layer is folded into it in float64; the result is float32.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hwsim.core.errors import InputError
from hwsim.core.layer import Layer
from hwsim.core.network import Network
from hwsim.core.tensors import LayerTensors, Origin, Tensors
from hwsim.nets.imported import Imported, find_activation
from hwsim.nets.onnx_safety import raise_problems, read_model_bytes
from hwsim.nets.pth import read_pth

Array = npt.NDArray[np.generic]

PTH_SUFFIXES = (".pth", ".pt", ".bin")
DEFAULT_EPSILON = 1e-5
"""Of torch.nn.BatchNorm2d; a state dict does not hold it."""
_EPSILONS = (
    ("efficientnet", 1e-3),  # TensorFlow's models and their ports: batch_norm_epsilon=1e-3
    ("mobilenet_v3", 1e-3),  # torchvision/models/mobilenetv3.py: partial(nn.BatchNorm2d, eps=0.001)
)
# last part of a convolution's name -> that of the normalization behind it
_RENAMED = {
    "_conv_stem": ("_bn0",),
    "_expand_conv": ("_bn0",),
    "_depthwise_conv": ("_bn1",),
    "_project_conv": ("_bn2",),
    "_conv_head": ("_bn1",),
    "conv": ("bn", "norm"),
}


def load_weights(network: Network, path: str | os.PathLike[str], *, epsilon: float | None = None) -> Tensors:
    """Return float32 tensors for every MAC and scale layer of a network.

    Parameters
    ----------
    network : Network
        Its layer names decide: ``<name>.weight`` and ``<name>.bias``, and the normalization behind by torchvision's
        naming (``conv1`` -> ``bn1``, ``features.0.0`` -> ``features.0.1``) or EfficientNet's (``_conv_stem`` -> ``_bn0``).
    path : path
        ``.onnx``, or ``.pth``/``.pt`` holding a state dict. An ONNX file none of whose names is known is matched in
        order, if every shape agrees.
    epsilon : float, optional
        Of the normalizations of a state dict; by default that of the network's family.

    Raises
    ------
    InputError
        With every missing layer, wrong shape and value that is not finite.
    """
    suffix = Path(path).suffix.lower()
    source = Path(path).name
    if suffix == ".onnx":
        return _match_onnx(network, path, source)
    if suffix not in PTH_SUFFIXES:
        raise InputError(str(path), [f"is no weight file: expected .onnx or {', '.join(PTH_SUFFIXES)}"])
    sha256 = hashlib.sha256(read_model_bytes(path)).hexdigest()
    origin = Origin(kind="file", description=f"{source}, sha256 {sha256}")
    return match_state(network, read_pth(path), source, origin, epsilon=epsilon)


def match_state(
    network: Network, state: Mapping[str, Array], source: str, origin: Origin, *, epsilon: float | None = None
) -> Tensors:
    """Build tensors from a state dict, folding normalizations; see ``load_weights``."""
    spread = find_epsilon(network.name) if epsilon is None else epsilon
    problems: list[str] = []
    used: set[str] = set()
    layers: dict[str, LayerTensors] = {}
    for layer in network.layers:
        if layer.kind != "mac" and layer.op != "scale":
            continue
        held = (
            _read_scale(layer, state, spread, used, problems)
            if layer.op == "scale"
            else _read_mac(layer, state, spread, used, problems)
        )
        if held is not None:
            layers[layer.name] = held
    left = [key.removesuffix(".running_mean") for key in state if key.endswith(".running_mean") and key not in used]
    if left and not problems:
        problems.append(f"the normalization {', '.join(left[:4])} belongs to no layer of {network.name}")
    raise_problems(source, problems)
    return Tensors(layers=layers, origin=origin)


def find_epsilon(name: str) -> float:
    """Return the normalization epsilon of a network's family."""
    flat = name.lower().replace("-", "_")
    return next((value for key, value in _EPSILONS if key in flat), DEFAULT_EPSILON)


def name_normalizations(layer: str) -> tuple[str, ...]:
    """Return the names under which the normalization behind a layer may stand, the likeliest first."""
    head, dot, last = layer.rpartition(".")
    names: list[str] = []
    if last.isdigit():
        names.append(f"{head}{dot}{int(last) + 1}")
    numbered = re.fullmatch(r"conv(\d+)", last)
    if numbered:
        names.append(f"{head}{dot}bn{numbered[1]}")
    names.extend(f"{head}{dot}{new}" for new in _RENAMED.get(last, ()))
    names.extend((f"{layer}.bn", f"{layer}_bn"))
    return tuple(names)


def _read_mac(
    layer: Layer, state: Mapping[str, Array], spread: float, used: set[str], problems: list[str]
) -> LayerTensors | None:
    key = f"{layer.name}.weight"
    if key not in state:
        problems.append(f"layer {layer.name} has no {key}")
        return None
    shape = (layer.G * layer.K, layer.C, layer.R, layer.S)
    array = state[key]
    if array.dtype.kind != "f" or (array.shape != shape and (layer.R * layer.S != 1 or array.shape != shape[:2])):
        problems.append(
            f"layer {layer.name} needs weights {list(shape)}, {key} is {list(array.shape)} of {array.dtype}"
        )
        return None
    weight: Any = array.reshape(shape).astype(np.float64)
    bias = _read_vector(f"{layer.name}.bias", shape[0], state, problems)
    for name in name_normalizations(layer.name):
        if f"{name}.running_mean" in state:
            affine = _read_affine(name, shape[0], state, spread, used, problems)
            if affine is not None:
                weight = weight * affine[0].reshape(-1, 1, 1, 1)
                bias = affine[1] if bias is None else bias * affine[0] + affine[1]
            break
    if not np.isfinite(weight).all() or (bias is not None and not np.isfinite(bias).all()):
        problems.append(f"layer {layer.name} has NaN or infinite weights")
    return LayerTensors(weight=weight.astype(np.float32), bias=None if bias is None else bias.astype(np.float32))


def _read_scale(
    layer: Layer, state: Mapping[str, Array], spread: float, used: set[str], problems: list[str]
) -> LayerTensors | None:
    if f"{layer.name}.running_mean" not in state:
        problems.append(f"layer {layer.name} has no {layer.name}.running_mean")
        return None
    affine = _read_affine(layer.name, layer.out_shape[1], state, spread, used, problems)
    if affine is None:
        return None
    return LayerTensors(weight=affine[0].astype(np.float32), bias=affine[1].astype(np.float32))


def _read_vector(key: str, size: int, state: Mapping[str, Array], problems: list[str]) -> Any:
    if key not in state:
        return None
    if state[key].shape != (size,) or state[key].dtype.kind != "f":
        problems.append(f"{key} is {list(state[key].shape)} of {state[key].dtype}, expected [{size}]")
        return None
    return state[key].astype(np.float64)


def _read_affine(
    name: str, size: int, state: Mapping[str, Array], spread: float, used: set[str], problems: list[str]
) -> tuple[Any, Any] | None:
    """Return factor and offset of a normalization with its stored statistics."""
    used.add(f"{name}.running_mean")
    parts = [
        _read_vector(f"{name}.{part}", size, state, problems)
        for part in ("weight", "bias", "running_mean", "running_var")
    ]
    mean, var = parts[2], parts[3]
    if mean is None or var is None:
        problems.append(f"the normalization {name} has no statistics for {size} channels")
        return None
    if not (var + spread > 0).all():
        problems.append(f"the normalization {name} has a variance that is not positive")
        return None
    factor = (1.0 if parts[0] is None else parts[0]) / np.sqrt(var + spread)
    return factor, (0.0 if parts[1] is None else parts[1]) - mean * factor


def _match_onnx(network: Network, path: str | os.PathLike[str], source: str) -> Tensors:
    from hwsim.nets.onnx_import import import_onnx

    imported = import_onnx(path)
    if imported.tensors is None:
        raise InputError(source, ["holds a topology without weights"])
    held = imported.tensors.layers
    known = {layer.name: layer.name for layer in imported.network.layers if layer.name in held}
    known |= {
        key.removesuffix(".weight"): layer for layer, key in imported.parameters.items() if key.endswith(".weight")
    }
    wanted = [layer for layer in network.layers if layer.kind == "mac" or layer.op == "scale"]
    how = "matched by name"
    if not any(layer.name in known for layer in wanted):
        known, how = _match_order(wanted, imported, source), "matched in order"
    problems: list[str] = []
    layers: dict[str, LayerTensors] = {}
    for layer in wanted:
        if layer.name not in known:
            problems.append(f"layer {layer.name} has no weights in the file")
            continue
        found = _take_float(imported, known[layer.name])
        shape = (layer.G * layer.K, layer.C, layer.R, layer.S) if layer.kind == "mac" else (layer.out_shape[1],)
        if found.weight.shape != shape:
            problems.append(f"layer {layer.name} needs weights {list(shape)}, the file has {list(found.weight.shape)}")
        layers[layer.name] = found
    raise_problems(source, problems)
    described = f"{imported.tensors.origin.description}, {how}"
    if any(held[name].w_scale is not None for name in held):
        described += ", integers turned into float"
    return Tensors(layers=layers, origin=Origin(kind="file", description=described))


def _match_order(wanted: list[Layer], imported: Imported, source: str) -> dict[str, str]:
    """Match layers by their place, which is only done where every weight has the wanted shape."""
    found = [layer for layer in imported.network.layers if layer.kind == "mac" or layer.op == "scale"]
    shapes = [(layer.op, layer.G, layer.K, layer.C, layer.R, layer.S) for layer in wanted]
    if [(layer.op, layer.G, layer.K, layer.C, layer.R, layer.S) for layer in found] != shapes:
        names = ", ".join(layer.name for layer in wanted[:3])
        raise InputError(
            source, [f"no name of its layers is known ({names} ... are wanted), and the shapes in order differ"]
        )
    return {layer.name: other.name for layer, other in zip(wanted, found, strict=True)}


def _take_float(imported: Imported, name: str) -> LayerTensors:
    """Return a layer's tensors as float32."""
    assert imported.tensors is not None
    held = imported.tensors.layers[name]
    if held.w_scale is None:
        return held
    zero = 0.0 if held.w_zero is None else held.w_zero.astype(np.float64).reshape(-1, 1, 1, 1)
    scale: Any = held.w_scale.astype(np.float64)
    weight = (held.weight.astype(np.float64) - zero) * scale.reshape(-1, 1, 1, 1)
    bias = held.bias
    if bias is not None and bias.dtype == np.int32:
        act = find_activation(imported.network, imported.tensors.activations, imported.network.layer(name).inputs[0])
        bias = bias * scale * (act.scale if act is not None else 1.0)
    return LayerTensors(weight=weight.astype(np.float32), bias=None if bias is None else bias.astype(np.float32))
