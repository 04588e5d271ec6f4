"""Layers for whole accelerators: drawn small, with stored tensors of any value, in formats that the hardware takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from accel_rtl.machine import VECTOR_PORTS
from cosim.compile import LayerJob, compile_layer
from hwsim.archs.systolic.spec import Systolic
from hwsim.core.arch import Arch
from hwsim.core.datapath import Workload
from hwsim.core.errors import HwsimError
from hwsim.core.layer import Layer
from hwsim.core.mapping import ORDERS, TILE_DIMS, Mapping
from hwsim.core.policy import LayerFormat
from hwsim.core.shell import Memory, Shell
from hwsim.core.tensors import ActQuant, LayerTensors, Tensors
from hwsim.engine.execute import Hazard
from hwsim.engine.execute_parameters import derive_parameters
from hwsim.engine.functional_integer import complete_quants
from hwsim.engine.run import time_table
from tests.execute_cases import ORIGIN, make_case
from tests.naive_cases import conv

KINDS = ("conv", "conv", "conv", "gemm", "maxpool", "avgpool", "add")


def arch_of(flow: str = "os", overlap: str = "none", rows: int = 4, cols: int = 4, **changes: object) -> Systolic:
    """Return a small accelerator; ``changes`` of ``Shell``, ``Memory`` and ``Systolic`` by name."""
    fields: dict[type, dict] = {
        Shell: {
            "wbuf_bits": 2 * 256 * 64, "ibuf_bits": 2 * 256 * 64, "obuf_bits": 2 * 128 * 32 * cols, "stage_bits": 64 * 64,
            "issue_cycles": 2, "vector_lanes": 1, "store_lanes": 1,
        },
        Memory: {"bits_per_cycle": 64, "latency_cycles": 16},
        Systolic: {
            "preset": "test", "rows": rows, "cols": cols, "dataflow": flow, "fold_overlap": overlap, "clock_hz": 1e8,
        },
    }  # fmt: skip
    for name, value in changes.items():
        owner = next(kind for kind in fields if name in kind.__dataclass_fields__)
        fields[owner][name] = value
    fields[Memory].setdefault("align_bits", fields[Memory]["bits_per_cycle"])
    return Systolic(shell=Shell(**fields[Shell]), memory=Memory(**fields[Memory]), **fields[Systolic])


def draw_layer(rng: np.random.Generator, kinds: tuple[str, ...] = KINDS) -> Layer:
    """Return a convolution of any kind, a gemm, a pooling or an addition."""
    op = str(rng.choice(kinds))
    if op == "gemm":
        n, c, k = (int(v) for v in rng.integers(1, 13, 3))
        return Layer(name="layer", op="gemm", inputs=("x",), N=n, C=c, K=k)
    n, g = int(rng.integers(1, 3)), int(rng.integers(1, 5))
    if op == "add":
        p, q = (int(v) for v in rng.integers(1, 7, 2))
        return Layer(name="layer", op="add", inputs=("x", "y"), N=n, G=g, P=p, Q=q, H=p, W=q)
    window = tuple(int(v) for v in rng.integers(1, 5 if op == "conv" else 4, 2))
    dilation = tuple(int(v) for v in rng.integers(1, 3, 2)) if op == "conv" else (1, 1)
    most = [(window[a % 2] - 1) * dilation[a % 2] for a in range(4)]
    padding = tuple(int(rng.integers(0, limit + 1)) for limit in most) if rng.random() < 0.7 else (0, 0, 0, 0)
    if op == "conv" and rng.random() < 0.2:
        padding = tuple(int(v) for v in rng.integers(0, 6, 4))
    if op == "avgpool":
        padding = (0, 0, 0, 0)
    dims = {"N": n, "G": g}
    if op == "conv" and rng.random() < 0.8:
        dims |= {"G": int(rng.choice([1, 1, g])), "K": int(rng.integers(1, 11)), "C": int(rng.integers(1, 8))}
    stride = tuple(int(v) for v in rng.integers(1, 4, 2))
    size = tuple(int(v) for v in rng.integers(1, 10, 2))
    layer = conv(op=op, size=size, window=window, stride=stride, padding=padding, dilation=dilation, **dims)
    return layer or draw_layer(rng, kinds)


def draw_integers(rng: np.random.Generator, low: int, high: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return any integers of a range, or extreme ones, or zeros."""
    kind = rng.integers(8)
    if kind == 0:
        return rng.choice(np.array([low, high]), shape)
    if kind == 1:
        return np.full(shape, int(rng.choice([low, high, max(0, low)])))
    return rng.integers(low, high + 1, shape)


def draw_mapping(rng: np.random.Generator, layer: Layer) -> Mapping:
    """Return a tiling with some tiles along each dimension, in any order."""
    parts = int(rng.integers(1, 5))
    tile = {dim: int(rng.integers(-(-getattr(layer, dim) // parts), getattr(layer, dim) + 1)) for dim in TILE_DIMS}
    if tile["G"] > 1:
        tile |= {"K": layer.K, "C": layer.C}
    return Mapping(tile=tuple(tile[dim] for dim in TILE_DIMS), order=str(rng.choice(ORDERS)))


def draw_quant(rng: np.random.Generator, bits: int) -> ActQuant:
    """Return a format: signed around zero, or unsigned and signed with any zero point."""
    signed = bool(rng.random() < 0.6)
    low = -(1 << (bits - 1)) if signed else 0
    zero = int(rng.choice([0, low, low + (1 << bits) - 1, int(rng.integers(low, low + (1 << bits)))]))
    return ActQuant(scale=float(rng.choice([0.5, 0.031, 0.0077])), zero_point=zero, bits=bits, signed=signed)


def draw_job(
    rng: np.random.Generator, arch: Systolic, kinds: tuple[str, ...] = KINDS, most_cycles: int = 6000
) -> LayerJob:
    """Return a compiled layer that fits the accelerator and takes ``most_cycles`` at most."""
    while True:
        job = try_job(rng, arch, kinds)
        if job is not None and job.run.cycles <= most_cycles:
            return job


def try_job(rng: np.random.Generator, arch: Systolic, kinds: tuple[str, ...] = KINDS) -> LayerJob | None:
    """Return a compiled layer, or None where what was drawn does not fit the accelerator."""
    layer, bits = draw_layer(rng, kinds), arch.a_width
    activation, attrs = [("none", ()), ("relu", ()), ("relu6", ())][rng.integers(3)]
    layer = replace(layer, activation=activation, attrs=attrs)
    quants = {name: draw_quant(rng, bits) for name in (*layer.inputs, "layer")}
    held = {}
    if layer.kind == "mac":
        half, filters = 1 << (arch.w_width - 1), layer.out_shape[1]
        weight = draw_integers(rng, -half, half - 1, (filters, layer.C, layer.R, layer.S)).astype(np.int8)
        held["layer"] = LayerTensors(
            weight=weight, bias=rng.integers(-500, 500, filters).astype(np.int32),
            w_scale=rng.uniform(0.001, 0.1, filters).astype(np.float32), w_bits=arch.w_width,
        )  # fmt: skip
    shapes = (layer.out_shape,) * VECTOR_PORTS if layer.op == "add" else (layer.in_shape,)
    workload = Workload(
        layer=layer, fmt=LayerFormat(w_bits=arch.w_width, a_bits=bits), out_bits=bits,
        operand_bits=(bits,) * len(layer.inputs), operand_shapes=shapes,
    )  # fmt: skip
    inputs = {
        name: draw_integers(rng, quants[name].low, quants[name].high, shape)
        for name, shape in zip(layer.inputs, shapes, strict=True)
    }
    tensors = Tensors(layers=held, activations=quants, origin=ORIGIN)
    case = make_case(workload, tensors, inputs, arch, draw_mapping(rng, layer))
    parameters = derive_parameters(layer, tensors, complete_quants(case.network, tensors))
    weight = held["layer"].weight if held else None
    try:
        return compile_layer(
            arch.bind(workload), arch, case.mapping, parameters, weight, [inputs[name] for name in layer.inputs]
        )
    except (Hazard, HwsimError):  # a tile beyond a bank, a sum beyond an accumulator, a window of padding alone
        return None


def retime(job: LayerJob, arch: Arch) -> LayerJob:
    """Return a job as the simulator times it on an accelerator with another memory."""
    run, timeline = time_table(job.table, arch)
    return replace(job, run=run, timeline=timeline)
