"""From a layer and its mapping to the Program: the table of tile instructions."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import numpy as np
import numpy.typing as npt

from hwsim.core.arch import Arch
from hwsim.core.datapath import Datapath
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.mapping import TILE_DIMS, Boxes, C, G, Int64, K, Mapping, Q, list_boxes
from hwsim.core.program import INSTRUCTION, SPILL_PIPELINE_CYCLES, Program
from hwsim.engine.kernel_lower import lower as lower_kernel
from hwsim.engine.kernel_lower import rows_per_unit

PAGE_BITS = 8 * 4096
"""Tensors start at multiples of this in memory, rounded up to the alignment where that does not divide it."""
WINDOWED = ("conv", "gemm", "maxpool", "avgpool")


@dataclass(frozen=True, slots=True)
class Lowering:
    """What does not change between mappings of one layer: parameter vectors of the kernel."""

    dims: Int64
    window: Int64
    operands: Int64
    out: Int64
    scalars: Int64


def prepare_lowering(datapath: Datapath, arch: Arch) -> Lowering:
    """Return the parameter vectors of a layer: dimensions, windows, tensors in memory."""
    load, layer = datapath.workload, datapath.layer
    align = arch.memory.alignment_bits
    page = _round_up(PAGE_BITS, align)
    base = _round_up(datapath.most_weight_bits(align), page)
    operands = []
    for shape, bits in zip(load.operand_shapes, load.operand_bits, strict=True):
        operands.append((*shape, bits, base))
        base = _round_up(base + stored_bits(shape, bits, align), page)
    out = (*layer.out_shape, load.out_bits, base)
    base = _round_up(base + stored_bits(layer.out_shape, load.out_bits, align), page)
    second = int(arch.memory.channels == "per-operand")
    return Lowering(
        np.array([getattr(layer, dim) for dim in TILE_DIMS], np.int64),
        np.array(
            (
                layer.R,
                layer.S,
                *layer.stride,
                *layer.padding[:2],
                *layer.dilation,
                layer.op in WINDOWED,
                layer.kind == "mac",
            ),
            np.int64,
        ),
        np.array(operands, np.int64),
        np.array(out, np.int64),
        np.array(
            (
                align,
                arch.shell.psum_bits,
                arch.shell.store_lanes,
                second,
                base,
                arch.store_pipeline_cycles,
                SPILL_PIPELINE_CYCLES,
            ),
            np.int64,
        ),
    )


def lower_table(datapath: Datapath, mapping: Mapping, ready: Lowering) -> npt.NDArray[np.void]:
    """Return the instruction table of a layer under a mapping, a structured array of dtype ``INSTRUCTION``."""
    layer = datapath.layer
    boxes = list_boxes(layer, mapping.tile)
    times, slots = datapath.exec_times(boxes), datapath.psum_slots(boxes.size)
    align = int(ready.scalars[0])
    w_bits = _round_up_array(datapath.weight_tile_bits(list_weight_boxes(layer, mapping.tile)), align)
    w_address = np.cumsum(w_bits) - w_bits
    table = np.zeros(
        len(boxes) * (5 + len(ready.operands)), INSTRUCTION
    )  # zeros: padding bytes are part of the Program
    order = np.array(["MKC".index(loop) for loop in mapping.order], np.int64)
    count = lower_kernel(
        ready.dims, ready.window, np.array(mapping.tile, np.int64), order, ready.operands, ready.out,
        w_bits, w_address, times.busy, times.fill, times.tail, slots, ready.scalars, table,
    )  # fmt: skip
    return table[:count]


def lower(datapath: Datapath, arch: Arch, mapping: Mapping) -> Program:
    """Return the Program of a layer under a mapping.

    Raises
    ------
    SpecError
        Several groups in a tile without all of their channels: they do not lie together in memory. An output tile that ends
        inside a byte.
    """
    layer, tile = datapath.layer, mapping.tile
    if tile[G] > 1 < layer.G and (tile[K] < layer.K or tile[C] < layer.C):
        raise SpecError("mapping.tile", tile, f"K {layer.K} and C {layer.C}, whole, where a tile holds several groups")
    check_edges(datapath, mapping)
    return Program(instructions=lower_table(datapath, mapping, prepare_lowering(datapath, arch)).tobytes())


def check_edges(datapath: Datapath, mapping: Mapping) -> None:
    """Raise SpecError where output tiles share a byte: in a row cut along Q, or in the row of a one-pixel tensor's channels."""
    layer, bits, tile = datapath.layer, datapath.workload.out_bits, mapping.tile
    cuts = [(Q, 1)]
    if layer.P == layer.Q == 1:
        cuts = [(K, 1), (G, layer.K)]
    for dim, inner in cuts:
        name, step = TILE_DIMS[dim], count_byte_elements(inner * bits)
        if tile[dim] < getattr(layer, name) and tile[dim] % step:
            wanted = f"{name} whole or a multiple of {step}: a tile of {bits}-bit outputs ends at a whole byte"
            raise SpecError("mapping.tile", tile, wanted)


def count_byte_elements(bits: int) -> int:
    """Return the least number of elements of ``bits`` bits that fill whole bytes."""
    return 8 // gcd(bits, 8)


def list_weight_boxes(layer: Layer, tile: tuple[int, ...]) -> Boxes:
    """Return the boxes of the weight tiles, row-major over G, K, C."""
    return list_boxes(layer, (layer.N, tile[1], tile[K], tile[C], layer.P, layer.Q))


def stored_bits(shape: tuple[int, int, int, int], bits: int, align: int) -> int:
    """Return the bits of an activation tensor in memory: rows fill whole alignment units; a vector is one row."""
    n, channels, height, width = shape
    if height == width == 1:
        return n * _round_up(channels * bits, align)
    units = -(-height // int(rows_per_unit(width, bits, align)))
    return n * channels * units * _round_up(width * bits, align)


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def _round_up_array(value: Int64, unit: int) -> Int64:
    return np.ascontiguousarray(-(-value // unit) * unit, np.int64)
