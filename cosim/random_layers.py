"""Layers drawn at random for co-simulation: shapes, tensors, formats and mappings, a function of (seed, number).

What is drawn covers all that an accelerator builds: kernels of 1 to 7, strides and dilations of 1 to 3, padding by side, groups and
depthwise layers, gemm, both poolings, additions with broadcast operands, zero points, tensors of zeros and of extremes, and
tilings that cut any dimension, in any loop order. Sizes are bounded so that a run takes some thousands of cycles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cosim.compile import LayerJob, compile_layer
from hwsim.core.arch import Arch
from hwsim.core.datapath import Datapath, LayerData, Workload
from hwsim.core.errors import HwsimError, SpecError
from hwsim.core.layer import Layer
from hwsim.core.mapping import ORDERS, TILE_DIMS, Mapping
from hwsim.core.policy import LayerFormat
from hwsim.core.tensors import ActQuant, Array, LayerTensors, Origin, Tensors
from hwsim.engine.execute import Hazard
from hwsim.engine.execute_parameters import LayerParameters, derive_parameters
from hwsim.engine.lower import prepare_lowering
from mappers.objective import Objective
from mappers.search import build_space

OPS = ("conv", "conv", "conv", "conv", "depthwise", "gemm", "maxpool", "avgpool", "add")
"""Half of the layers are convolutions."""
MOST_MACS, MOST_OUTPUTS, MOST_INPUTS, MOST_TILES = 60_000, 1_000, 4_000, 48
"""Bounds of a layer: some thousands of cycles on the smallest arrays."""
MOST_ATTEMPTS = 200
CONTENTS = ("random", "random", "random", "narrow", "sparse", "zeros", "extremes")
"""What a tensor holds: anything, small values, mostly zero rows, zeros alone, the two limits alone."""
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RandomLayer:
    """A layer that an accelerator can run, compiled.

    Parameters
    ----------
    seed, number : int
        What it is drawn from.
    text : str
        Its shape, tiling and contents in a line.
    job : LayerJob
    """

    seed: int
    number: int
    text: str
    job: LayerJob


def draw_job(arch: Arch, seed: int, number: int) -> RandomLayer:
    """Return layer ``number`` of ``seed`` on an accelerator.

    Raises
    ------
    HwsimError
        None of many attempts can be built on this accelerator, or it has no RTL.
    """
    from accel_rtl.accelerator import find_engine

    find_engine(arch)
    reason = ""
    for attempt in range(MOST_ATTEMPTS):
        rng = np.random.default_rng((seed, number, attempt))
        layer = draw_layer(rng)
        if layer is None:
            continue
        try:
            return _compile(rng, arch, layer, seed, number)
        except (
            HwsimError,
            Hazard,
        ) as error:  # what the hardware refuses; a tiling that does not fit; a sum that overflows
            reason = str(error)
    raise HwsimError(f"no layer in {MOST_ATTEMPTS} attempts runs on {arch.name}; the last: {reason}")


def _compile(rng: np.random.Generator, arch: Arch, layer: Layer, seed: int, number: int) -> RandomLayer:
    content = str(rng.choice(CONTENTS))
    job, text = compile_drawn(rng, arch, layer, content, lambda datapath: draw_mapping(rng, datapath, arch))
    return RandomLayer(seed=seed, number=number, text=text, job=job)


def compile_drawn(
    rng: np.random.Generator,
    arch: Arch,
    layer: Layer,
    content: str,
    choose_mapping: Callable[[Datapath], Mapping],
    weight_content: str = "",
) -> tuple[LayerJob, str]:
    """Return a layer compiled on drawn tensors, and its shape, tiling and contents in a line.

    Parameters
    ----------
    rng : Generator
        Of the tensors.
    arch : Arch
    layer : Layer
    content, weight_content : str
        Of `CONTENTS`: activations, weights (empty: drawn).
    choose_mapping : callable
        Returns the mapping of a datapath.

    Raises
    ------
    HwsimError, Hazard
        What the hardware refuses; a tiling that does not fit; a sum that overflows.
    """
    from accel_rtl.accelerator import find_engine

    a_bits = find_engine(arch).machine.a_bits
    tensors, operands, load = draw_tensors(rng, layer, a_bits, getattr(arch, "w_width", 8), content, weight_content)
    if arch.shifts_only:
        tensors = round_scales(tensors)
    datapath, tensors = bind_layer(arch, load, tensors, operands[0])
    arch.check(load) if layer.kind == "mac" else None
    mapping = choose_mapping(datapath)
    weight = tensors.layers[layer.name].weight if layer.kind == "mac" else None
    job = compile_layer(datapath, arch, mapping, derive(layer, tensors), weight, operands)
    shown = content + (f" on {weight_content}" if weight_content and layer.kind == "mac" else "")
    return job, f"{describe_layer(layer)}, {load.fmt.codec} weights, {shown}, tile {mapping.tile} {mapping.order}"


def round_scales(tensors: Tensors) -> Tensors:
    """Return tensors whose scales are the nearest powers of two: what a machine of shifters runs."""

    def power(scale: npt.ArrayLike) -> npt.NDArray[np.float32]:
        return np.exp2(np.rint(np.log2(np.asarray(scale, np.float64)))).astype(np.float32)

    layers = {
        name: replace(held, w_scale=None if held.w_scale is None else power(held.w_scale))
        for name, held in tensors.layers.items()
    }
    activations = {name: replace(quant, scale=float(power(quant.scale))) for name, quant in tensors.activations.items()}
    return replace(tensors, layers=layers, activations=activations)


def derive(layer: Layer, tensors: Tensors) -> LayerParameters:
    """Return the parameters of a layer that stands alone."""
    return derive_parameters(layer, tensors, tensors.activations)


def describe_layer(layer: Layer) -> str:
    """Return a layer's shape in a line."""
    dims = " ".join(f"{dim}{getattr(layer, dim)}" for dim in "NGKCPQRS")
    extras = f"stride {layer.stride} padding {layer.padding} dilation {layer.dilation}"
    return f"{layer.op} {dims}" + (f" {extras}" if layer.op in ("conv", "maxpool", "avgpool") else "")


def draw_layer(rng: np.random.Generator) -> Layer | None:
    """Return a layer, or None where the draw is none or too large."""
    op = str(rng.choice(OPS))
    n = int(rng.choice((1, 1, 1, 2, 3)))
    activation, attrs = _draw_activation(rng)
    if op == "gemm":
        k, c = int(rng.integers(1, 41)), int(rng.integers(1, 81))
        return Layer(
            name="layer",
            op="gemm",
            inputs=("x",),
            N=int(rng.integers(1, 9)),
            K=k,
            C=c,
            activation=activation,
            attrs=attrs,
        )
    if op == "add":
        g, p, q = (int(x) for x in rng.integers(1, (9, 9, 12)))
        if rng.random() < 0.2:
            p = q = 1
        if rng.random() < 0.2:
            attrs = tuple(sorted((*attrs, ("negate_second", 1))))
        return Layer(
            name="layer", op="add", inputs=("x", "y"), N=n, G=g, P=p, Q=q, H=p, W=q, activation=activation, attrs=attrs
        )
    pools = op in ("maxpool", "avgpool")
    most = 4 if pools else int(rng.choice((1, 3, 3, 7)))
    window = rng.integers(1, most + 1, 2) if rng.random() < 0.3 else np.full(2, rng.integers(1, most + 1))
    stride = rng.integers(1, 4, 2) if rng.random() < 0.3 else np.full(2, rng.choice((1, 1, 2, 3)))
    dilation = np.full(2, 1 if pools else rng.choice((1, 1, 1, 2, 3)))
    reach = dilation * (window - 1)
    padding = rng.integers(0, np.minimum(np.tile(reach, 2), 6) + 1) if rng.random() < 0.6 else np.zeros(4, int)
    if pools:  # a window of padding alone has no maximum
        padding = np.minimum(padding, np.tile(window - 1, 2))
    size = rng.integers(1, 15, 2)
    padded = size + padding[:2] + padding[2:]
    if (padded <= reach).any():
        return None
    out = (padded - reach - 1) // stride + 1
    dims = {"N": n, "G": int(rng.integers(1, 9))}
    if op == "conv":
        dims |= {"G": int(rng.choice((1, 1, 1, 2, 3))), "K": int(rng.integers(1, 20)), "C": int(rng.integers(1, 20))}
    if op == "avgpool" and padding.any():
        attrs = tuple(sorted((*attrs, ("count_include_pad", 1))))
    layer = Layer(
        name="layer", op="conv" if op == "depthwise" else op, inputs=("x",), **dims, H=int(size[0]), W=int(size[1]),
        R=int(window[0]), S=int(window[1]), P=int(out[0]), Q=int(out[1]), stride=_pair(stride), dilation=_pair(dilation),
        padding=tuple(int(x) for x in padding), activation=activation, attrs=attrs,  # type: ignore[arg-type]
    )  # fmt: skip
    inputs = layer.N * layer.G * layer.C * layer.H * layer.W
    small = layer.macs <= MOST_MACS and layer.out_elements <= MOST_OUTPUTS and inputs <= MOST_INPUTS
    return layer if small else None


def _pair(values: npt.NDArray[Any]) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def _draw_activation(rng: np.random.Generator) -> tuple[str, tuple[tuple[str, float], ...]]:
    name = str(rng.choice(("none", "none", "none", "relu", "relu6", "clip")))
    return name, ((("high", 0.7), ("low", -0.4)) if name == "clip" else ())


def draw_tensors(
    rng: np.random.Generator, layer: Layer, a_bits: int, w_bits: int, content: str, weight_content: str = ""
) -> tuple[Tensors, list[Ints], Workload]:
    """Return quantized tensors of a layer, its stored operands and its workload.

    Scales are such that outputs use their range, or a fraction of it, or leave it.
    """
    names, shapes = layer.inputs, [layer.in_shape if layer.op != "add" else layer.out_shape]
    if layer.op == "add":
        narrow = rng.random() < 0.2
        shapes.append(tuple(x if not narrow or rng.random() < 0.5 else 1 for x in layer.out_shape))  # type: ignore[arg-type]
    quants = {name: _draw_quant(rng, a_bits, 1.0) for name in names}
    operands = [
        _fill(rng, shape, quants[name].low, quants[name].high, content)
        for name, shape in zip(names, shapes, strict=True)
    ]
    depth = {"maxpool": 1, "add": 2, "avgpool": 1}.get(layer.op, layer.C * layer.R * layer.S)
    spread = 2.0 ** rng.normal()
    layers = {}
    if layer.kind == "mac":
        low, high = -(1 << w_bits - 1), (1 << w_bits - 1) - 1
        held = weight_content or str(rng.choice(CONTENTS))
        weight = _fill(rng, (layer.out_shape[1], layer.C, layer.R, layer.S), low, high, held)
        if w_bits == 1:
            weight = np.where(weight < 0, -1, 1)
        scale = 2.0 ** -(w_bits - 1)
        layers["layer"] = LayerTensors(
            weight=weight.astype(np.int16 if w_bits > 8 else np.int8), w_bits=w_bits,
            bias=rng.integers(-(1 << 12), 1 << 12, layer.out_shape[1]).astype(np.int32) if rng.random() < 0.8 else None,
            w_scale=(scale * rng.uniform(0.3, 1.0, layer.out_shape[1])).astype(np.float32),
        )  # fmt: skip
        spread *= np.sqrt(depth) / 2
    quants[layer.name] = _draw_quant(rng, a_bits, float(spread))
    fmt = LayerFormat(w_bits=w_bits, a_bits=a_bits, codec="dense" if rng.random() < 0.3 else "native")
    load = Workload(
        layer=layer, fmt=fmt, out_bits=a_bits, operand_bits=(a_bits,) * len(names), operand_shapes=tuple(shapes)
    )
    origin = Origin(kind="synthetic", description="drawn for co-simulation")
    return Tensors(layers=layers, activations=quants, origin=origin), operands, load


def _draw_quant(rng: np.random.Generator, bits: int, scale: float) -> ActQuant:
    is_signed = bool(rng.random() < 0.7)
    quant = ActQuant(scale=scale * float(rng.uniform(0.5, 1.0)) / (1 << bits), bits=bits, signed=is_signed)
    chosen = rng.choice(("none", "low", "high", "any"))
    zero = {"none": 0, "low": quant.low, "high": quant.high, "any": int(rng.integers(quant.low, quant.high + 1))}
    return replace(quant, zero_point=zero[str(chosen)])


def _fill(rng: np.random.Generator, shape: tuple[int, ...], low: int, high: int, content: str) -> Ints:
    if content == "zeros":
        return np.zeros(shape, np.int64)
    if content == "extremes":
        return rng.choice(np.array((low, high)), shape)
    if content == "narrow":
        return np.clip(rng.integers(-3, 4, shape), low, high)
    values = rng.integers(low, high + 1, shape)
    if content == "sparse":
        values = values * (rng.random(shape[:-1]) < 0.4)[..., None]
    return values


def bind_layer(arch: Arch, load: Workload, tensors: Tensors, activation: Array) -> tuple[Datapath, Tensors]:
    """Return the datapath of a layer on its tensors, and the tensors with the weights that it really multiplies by."""
    layer = load.layer
    if layer.kind != "mac":
        return arch.bind(load, None), tensors
    held = tensors.layers[layer.name]
    assert held.w_scale is not None
    real = np.asarray(held.weight, np.float64) * np.asarray(held.w_scale, np.float64).reshape(-1, 1, 1, 1)
    stored = arch.store_weights(load, real.astype(np.float32))
    if stored is not None:
        scale = np.asarray(stored.scale, np.float64).ravel()
        scale = np.where(scale > 0, scale, held.w_scale).astype(np.float32)
        held = replace(held, weight=np.asarray(stored.integers), w_scale=scale, w_bits=8)
        tensors = replace(tensors, layers={**tensors.layers, layer.name: held})
    quant = tensors.activations[layer.inputs[0]]
    data = LayerData(activation=activation, zero_point=quant.zero_point, codec=stored.codec if stored else None)
    return arch.bind(load, data if arch.needs_data else None), tensors


def draw_mapping(rng: np.random.Generator, datapath: Datapath, arch: Arch) -> Mapping:
    """Return a mapping that fits the buffers: of the mapper's space, or cut anywhere."""
    layer, order = datapath.layer, str(rng.choice(ORDERS))
    if rng.random() < 0.7:
        tilings = build_space(datapath, arch, Objective(), prepare_lowering(datapath, arch)).tilings
        dims = np.array([getattr(layer, dim) for dim in TILE_DIMS])
        fine = tilings[np.prod(-(-dims // tilings), axis=1) <= MOST_TILES]
        chosen = (fine if len(fine) else tilings[:1])[rng.integers(max(1, len(fine)))]
        return Mapping(tile=tuple(int(x) for x in chosen), order=order)  # type: ignore[arg-type]
    cuts = []
    for dim in TILE_DIMS:
        extent = getattr(layer, dim)
        cuts.append(int(rng.integers(-(-extent // 3), extent + 1)) if rng.random() < 0.5 else extent)
    return fit_mapping(datapath, arch, cuts, order)


def fit_mapping(datapath: Datapath, arch: Arch, cuts: Sequence[int], order: str) -> Mapping:
    """Return the mapping of tiles of ``cuts``, one for each of ``TILE_DIMS``, rounded up to what the datapath allows.

    Raises
    ------
    SpecError
        More than `MOST_TILES`; a store larger than what is staged.
    """
    layer = datapath.layer
    tile = {
        dim: min(getattr(layer, dim), -(-cut // quantum) * quantum)
        for dim, cut, quantum in zip(TILE_DIMS, cuts, datapath.quantum(), strict=True)
    }
    if tile["G"] > 1:
        tile |= {"K": layer.K, "C": layer.C}
    mapping = Mapping(tile=tuple(tile[dim] for dim in TILE_DIMS), order=order)  # type: ignore[arg-type]
    if np.prod(mapping.tile_counts(layer)) > MOST_TILES:
        raise SpecError("mapping.tile", mapping.tile, f"at most {MOST_TILES} tiles")
    _check_staging(datapath, arch, mapping)
    return mapping


def _check_staging(datapath: Datapath, arch: Arch, mapping: Mapping) -> None:
    from hwsim.core.program import STORE_O
    from hwsim.engine.lower import lower

    table = lower(datapath, arch, mapping).table
    stored = int(table["bits"][table["op"] == STORE_O].max(initial=0))
    if stored > arch.shell.staging_bits:
        raise SpecError("mapping.tile", mapping.tile, f"at most {arch.shell.staging_bits} bits of a store")
