"""Random layers, weights, activations and tiles for the SmartDeal engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from accel_rtl.smartdeal.descriptor import describe_tile
from accel_rtl.smartdeal.spec import SmartDealEngine
from hwsim.archs.smartdeal.datapath import SmartDealDatapath
from hwsim.archs.smartdeal.spec import SmartDeal
from hwsim.core.datapath import LayerData, Workload
from hwsim.core.layer import Layer
from hwsim.core.mapping import Boxes, C, G, K, list_boxes
from hwsim.core.policy import LayerFormat
from hwsim.engine.execute_tile import find_input_box
from hwsim.engine.image import cut_slab, write_slab
from hwsim.quant.decompose import Decomposed, DecomposeOptions, decompose_layer
from tests.rtl.smartdeal_bench import BEATS, WORDS, Tile
from tests.rtl.smartdeal_schedule import cut_layer, time_tile
from tests.rtl.systolic_bench import draw_values, multiply_naively, to_beats

MOST_CYCLES = 4000
"""No tile takes longer: what is drawn is small."""


def draw_layer(rng: np.random.Generator, most: int) -> Layer:
    """Return a convolution of any kind (kernel 1 to 7, stride 1 to 3, padding, dilation, groups, depthwise) or a gemm."""
    while True:
        if rng.random() < 0.1:
            n, c, k = (int(v) for v in rng.integers(1, 12, 3))
            return Layer(name="gemm", op="gemm", inputs=("x",), N=n, C=c, K=k)
        window = (
            (rng.integers(1, 8), rng.integers(1, 8)) if rng.random() < 0.3 else (int(rng.choice([1, 3, 3, 5, 7])),) * 2
        )
        stride, dilation = rng.integers(1, 4, 2), rng.integers(1, 3, 2)
        size = rng.integers(1, 11, 2)
        padding = rng.integers(0, 4, 4) * (rng.random() < 0.7)
        reach = [int(size[a] + padding[a] + padding[a + 2] - dilation[a] * (window[a] - 1) - 1) for a in (0, 1)]
        if min(reach) < 0:
            continue
        p, q = (reach[a] // int(stride[a]) + 1 for a in (0, 1))
        kind, deep = rng.random(), 30 if window[0] * window[1] == 1 else 12
        g, k, c = (
            (1, rng.integers(1, 10), rng.integers(1, deep))
            if kind < 0.7
            else rng.integers(1, 5, 3)
            if kind < 0.85
            else (rng.integers(2, 6), 1, 1)
        )
        layer = Layer(
            name="conv", op="conv", inputs=("x",), N=int(rng.integers(1, 3)), G=int(g), K=int(k), C=int(c), P=p, Q=q,
            R=int(window[0]), S=int(window[1]), H=int(size[0]), W=int(size[1]),
            stride=(int(stride[0]), int(stride[1])), padding=tuple(int(v) for v in padding),
            dilation=(int(dilation[0]), int(dilation[1])),
        )  # fmt: skip
        if layer.macs <= most:
            return layer


def draw_codec(rng: np.random.Generator, shape: tuple[int, ...]) -> Decomposed | None:
    """Return a decomposition with random coefficients and bases, or None where the kernel has none."""
    codec = decompose_layer(rng.normal(size=shape), DecomposeOptions(force=True), "layer")
    if codec.plan.is_dense:
        return None
    kind = rng.integers(4)
    codes = rng.integers(-7, 8, codec.codes.shape)
    if kind == 1:
        codes = np.where(rng.random(codes.shape) < 0.5, -7, 7)
    codes[rng.random(codes.shape[:3]) < rng.choice([0, 0.3, 0.9])] = 0
    codes[rng.random(codes.shape[:2]) < rng.choice([0, 0.5])] = 0
    flat = codes.reshape(len(codes), -1, 3)
    flat[:, codec.plan.row_count :] = 0
    basis = rng.integers(-128, 128, codec.basis.shape)
    if kind == 2:
        basis = np.where(rng.random(basis.shape) < 0.5, -128, 127)
    total = np.full(codes.shape, 32)
    for j in range(3):
        magnitude = np.abs(codes[..., j : j + 1])
        term = np.where(magnitude > 0, basis[:, :, None, j] * 2 ** np.maximum(magnitude - 1, 0), 0)
        total = total + np.where(codes[..., j : j + 1] < 0, -term, term)
    rows = np.clip(total // 64, -128, 127).reshape(len(codes), -1)
    weights = rows[:, : int(np.prod(shape[1:]))].reshape(shape).astype(np.int8)
    return replace(
        codec,
        codes=codes.astype(np.int8),
        basis=basis.astype(np.int8),
        row_mask=codes.any(axis=-1),
        rebuilt_int8=weights,
    )


def draw_input(rng: np.random.Generator, shape: tuple[int, ...], low: int, zero: int) -> np.ndarray:
    """Return stored activations: any, extreme, few that are not zero, rows of zeros, zeros alone."""
    x = draw_values(rng, low, low + 255, shape)
    kind = rng.integers(6)
    if kind == 0:
        return np.full(shape, zero)
    if kind < 3:
        x = np.where(rng.random(shape) < 0.7, zero, x)
    if kind == 3:
        x = np.where(np.broadcast_to(rng.random((*shape[:3], 1)) < 0.5, shape), zero, x)
    return x


def draw_tiles(rng: np.random.Generator, arch: SmartDeal, most: int) -> list[Tile]:
    """Return some tiles of a random layer in the order of a Program: those along C one behind the other."""
    while True:
        layer = draw_layer(rng, most)
        shape = (layer.G * layer.K, layer.C, layer.R, layer.S)
        codec = draw_codec(rng, shape) if rng.random() < 0.7 else None
        if arch.line_rows < -(-layer.S // 3):
            continue
        weights = draw_values(rng, -128, 127, shape) if codec is None else codec.rebuilt_int8.astype(np.int64)
        tiles = cut_tiles(rng, arch, layer, weights, codec)
        if tiles:
            return tiles


def cut_tiles(
    rng: np.random.Generator, arch: SmartDeal, layer: Layer, weights: np.ndarray, codec: Decomposed | None
) -> list[Tile]:
    """Return the tiles along C at one place of a layer with random activations."""
    is_signed = bool(rng.random() < 0.6)
    low = -128 if is_signed else 0
    zero = int(rng.choice([0, low, low + 255, low + 3]))
    x = draw_input(rng, layer.in_shape, low, zero)
    workload = Workload(
        layer=layer, fmt=LayerFormat(codec="dense") if codec is None else LayerFormat(), out_bits=8, operand_bits=(8,),
        operand_shapes=(layer.in_shape,),
    )  # fmt: skip
    stored = x.astype(np.int8 if is_signed else np.uint8)
    datapath = SmartDealDatapath(workload, arch, LayerData(activation=stored, zero_point=zero, codec=codec))
    sizes = []
    for dim, quantum in zip("NGKCPQ", datapath.quantum(), strict=True):
        extent = getattr(layer, dim)
        most = -(-extent // quantum)
        sizes.append(min(extent, quantum * int(rng.choice([most, rng.integers(1, most + 1)]))))
    if sizes[G] > 1:
        sizes[K], sizes[C] = layer.K, layer.C
    boxes = list_boxes(layer, tuple(sizes))
    at = int(rng.choice([i for i in range(len(boxes)) if boxes.lo[i, C] == 0]))
    same = [d for d in range(6) if d != C]
    picks = [i for i in range(len(boxes)) if (boxes.lo[i, same] == boxes.lo[at, same]).all()][:4]
    bank, tiles = int(rng.integers(2)), []
    for i in picks:
        made = make_tile(arch, datapath, (boxes.lo[i], boxes.hi[i]), x, weights, zero, is_signed, bank)
        if made is None:
            break
        tiles.append(made)
    return tiles


def make_tile(
    arch: SmartDeal, datapath: SmartDealDatapath, box: tuple[Any, Any], x: np.ndarray, weights: np.ndarray, zero: int,
    is_signed: bool, bank: int,
) -> Tile | None:  # fmt: skip
    """Return one tile, or None where it does not fit the buffers."""
    lo, hi = box
    layer, spec = datapath.layer, SmartDealEngine.from_arch(arch)
    area = find_input_box(layer, layer.in_shape, lo, hi)
    slab = cut_slab(layer.in_shape, 8, arch.memory.alignment_bits, area)
    stream = np.ones(slab.stream_bits, np.uint8)
    (n0, n1), (c0, c1), (r0, r1), (s0, s1) = area
    write_slab(slab, x[n0:n1, c0:c1, r0:r1, s0:s1], stream)
    beat = arch.memory.bits_per_cycle
    ibuf = to_beats(stream, beat)
    wbuf = to_beats(datapath.pack_weights(weights, lo, hi), beat)
    wanted = multiply_naively(layer, x - zero, weights, lo, hi)
    places = -(-wanted.shape[2] // arch.slices) * wanted[:, :, 0].size
    longest = max(wbuf[0] >> 16 * k & 0xFFFF for k in range(arch.slices)) if arch.slices * 16 <= beat else len(wbuf)
    if max(len(ibuf), len(wbuf)) > BEATS or places > WORDS or longest > spec.slice_beats:
        return None
    cut = cut_layer(layer, arch, datapath.codec)
    active = np.ones((layer.G * layer.K, len(cut.rows)), bool)
    if cut.rebuilt:
        assert datapath.codec is not None
        active = datapath.codec.row_mask.reshape(len(active), -1)[:, : len(cut.rows)]
    busy, _ = time_tile(layer, arch, cut, x - zero, active, lo.tolist(), hi.tolist())
    if busy > MOST_CYCLES:
        return None
    times = datapath.exec_times(Boxes(lo[None], hi[None]))
    label = f"{layer} box {lo} {hi} zero {zero} {is_signed}"
    modelled = int(times.busy[0]), int(times.tail[0])
    assert modelled == (busy, spec.tail_cycles), f"the simulator says {modelled}, the schedule {busy}: {label}"
    fields = describe_tile(spec, datapath, box, (0, 0, bank), zero, is_signed)
    return Tile(fields, ibuf, wbuf, wanted, busy, spec.tail_cycles, label)


def draw_run(rng: np.random.Generator, arch: SmartDeal, layers: int, most: int = 4000) -> tuple[list[Tile], list[int]]:
    """Return tiles of several layers, and the least idle cycles behind each; banks of operands in turn."""
    tiles = [tile for _ in range(layers) for tile in draw_tiles(rng, arch, most)]
    for i, tile in enumerate(tiles):
        tile.fields["w_bank"] = tile.fields["i_bank"] = i % 2
    return tiles, [int(gap) for gap in rng.choice([0, 0, 0, 1, 3, 20], len(tiles))]
