"""What the contract suite runs: every architecture of the registry with its presets, a fixed set of small layers, formats."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from hwsim.archs.registry import find_arch, list_archs
from hwsim.core.arch import Arch
from hwsim.core.datapath import Datapath, LayerData, StoredWeights, Workload
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.mapping import TILE_DIMS, Mapping
from hwsim.core.policy import LayerFormat

ENTRIES = tuple(f"{entry.name}:{preset}" for entry in list_archs() for preset in entry.presets)
DEFAULTS = tuple(f"{entry.name}:{entry.default}" for entry in list_archs())
LAYERS = (
    Layer(name="first", op="conv", inputs=("x",), K=16, C=3, P=16, Q=16, R=3, S=3, H=33, W=33, stride=(2, 2)),
    Layer(name="conv", op="conv", inputs=("x",), K=24, C=16, P=10, Q=10, R=3, S=3, H=10, W=10, padding=(1, 1, 1, 1)),
    Layer(name="strided", op="conv", inputs=("x",), N=2, K=20, C=12, P=5, Q=5, R=3, S=3, H=11, W=11, stride=(2, 2)),
    Layer(name="point", op="conv", inputs=("x",), K=40, C=70, P=7, Q=7, H=7, W=7),
    Layer(name="depthwise", op="conv", inputs=("x",), G=40, P=8, Q=8, R=3, S=3, H=8, W=8, padding=(1, 1, 1, 1)),
    Layer(name="grouped", op="conv", inputs=("x",), G=3, K=8, C=8, P=6, Q=6, R=3, S=3, H=8, W=8),
    Layer(name="fc", op="gemm", inputs=("x",), N=4, K=40, C=300),
)
GRID = (
    (16, 16),
    (8, 8),
    (8, 6),
    (8, 4),
    (6, 8),
    (6, 6),
    (4, 8),
    (4, 4),
    (3, 4),
    (4, 2),
    (3, 3),
    (2, 4),
    (2, 2),
    (1, 2),
    (1, 1),
)
"""Weight and activation bits that are tried, the widest first."""
NARROWEST = 4
"""Where time depends on activations they are drawn at so many bits, and shifted left at more: the same digits in more bits."""


def workload_of(layer: Layer, w_bits: int, a_bits: int, out_bits: int = 8) -> Workload:
    """Return the workload of a layer with one operand."""
    fmt = LayerFormat(w_bits=w_bits, a_bits=a_bits)
    return Workload(layer=layer, fmt=fmt, out_bits=out_bits, operand_bits=(a_bits,), operand_shapes=(layer.in_shape,))


@cache
def list_formats(name: str, layer: Layer) -> tuple[tuple[int, int], ...]:
    """Return the formats of the grid at which an architecture takes a layer."""
    arch, found = find_arch(name), []
    for w_bits, a_bits in GRID:
        try:
            arch.check(workload_of(layer, w_bits, a_bits))
        except SpecError:
            continue
        if not arch.needs_data or (a_bits >= NARROWEST and a_bits % 2 == 0):
            found.append((w_bits, a_bits))
    return tuple(found)


def draw_data(arch: Arch, load: Workload) -> tuple[LayerData, StoredWeights | None]:
    """Return real tensors of a layer: a third of the activations are zero, as behind a ReLU."""
    layer = load.layer
    rng = np.random.default_rng(7)
    real = rng.standard_t(5, (layer.G * layer.K, layer.C, layer.R, layer.S)).astype(np.float32) * np.float32(0.05)
    stored = arch.store_weights(load, real)
    narrow = rng.integers(0, 1 << (NARROWEST - 1), layer.in_shape) * (rng.random(layer.in_shape) > 1 / 3)
    activation = narrow << max(0, load.fmt.a_bits - NARROWEST)
    return LayerData(activation=activation.astype(np.int16), codec=stored.codec if stored else None), stored


def bind(arch: Arch, layer: Layer, w_bits: int, a_bits: int) -> Datapath:
    """Return the datapath of a layer, on drawn tensors where time depends on them."""
    load = workload_of(layer, w_bits, a_bits)
    return arch.bind(load, draw_data(arch, load)[0] if arch.needs_data else None)


def cut(layer: Layer, parts: int) -> Mapping:
    """Return a mapping that cuts rows, and filters and channels where the groups allow it."""
    dims = {dim: getattr(layer, dim) for dim in TILE_DIMS}
    tile = dims | {"P": -(-layer.P // parts)}
    if layer.G == 1:
        tile |= {"K": -(-layer.K // parts + 7) // 8 * 8 or layer.K, "C": -(-layer.C // parts)}
    return Mapping(tile=tuple(max(1, min(tile[dim], dims[dim])) for dim in TILE_DIMS), order="MKC")


def double_buffers(arch: Arch) -> Arch:
    """Return an architecture with scratchpads of twice the size."""
    shell = arch.shell
    grown = {f"{name}_bits": 2 * getattr(shell, f"{name}_bits") for name in ("wbuf", "ibuf", "obuf")}
    return replace(arch, preset=f"{arch.preset}+", shell=replace(shell, **grown, stage_bits=2 * shell.staging_bits))
