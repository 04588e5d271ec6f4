"""What a network's layers give a block to do: the values that pass it, in the tiles of each layer's mapping."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from accel_rtl.blocks.mac import Mac
from accel_rtl.blocks.requantize import Requantize
from accel_rtl.blocks.systolic_array import SystolicArray
from accel_rtl.instruction_word import pack_table, split_words
from accel_rtl.power.activity import LANES
from accel_rtl.power.layer_values import LayerValues, cut_windows, order_stores
from accel_rtl.power.mapped import Int64, Uint64
from accel_rtl.power.stimuli import Elements, Stimulus, drive_array, drive_mac, drive_requantize
from accel_rtl.power.stimuli_shell import drive_store, drive_vector, pack_bank
from accel_rtl.shell.parameters import choose_fields, find_limits, pack_parameters
from accel_rtl.shell.shifts import reduce_to_shifts
from accel_rtl.shell.store import StoreUnit, describe_store
from accel_rtl.shell.vector import VectorUnit, describe_vector, list_vector_header
from hwsim.core.arch import Arch
from hwsim.core.datapath import Datapath
from hwsim.core.mapping import Boxes, C, Mapping, list_boxes
from hwsim.core.program import STORE_O
from hwsim.engine.execute_parameters import LayerParameters
from hwsim.engine.execute_tile import find_input_box
from hwsim.engine.image import cut_slab, write_slab
from hwsim.engine.lower import lower_table, prepare_lowering


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerRun:
    """A layer as an accelerator runs it.

    Parameters
    ----------
    values : LayerValues
        Of any number of passes (images).
    datapath : Datapath
        Of one pass.
    mapping : Mapping
    """

    values: LayerValues
    datapath: Datapath
    mapping: Mapping

    @property
    def boxes(self) -> Boxes:
        """Its tiles."""
        return list_boxes(self.values.layer, self.mapping.tile)


def drive_layer(spec: Any, arch: Arch, run: LayerRun) -> Stimulus | None:
    """Return what a layer gives a block to do; None where that is nothing, or not built."""
    mac = run.values.layer.kind == "mac"
    if isinstance(spec, Requantize):
        return _drive_elements(spec, run)
    if isinstance(spec, Mac | SystolicArray):
        return _drive_products(spec, run) if mac else None
    if isinstance(spec, VectorUnit):
        return None if mac else _drive_tiles(arch, spec, run)
    return _drive_stores(arch, spec, run)


def find_parameters(run: LayerRun, requantizer: str) -> LayerParameters | None:
    """Return a layer's parameters as the machine holds them, one scale a channel; None where a scale differs by pixel."""
    parameters = run.values.parameters
    requant = parameters.requant
    tables = [table.reshape(table.shape[-3], -1) for table in (requant.multiplier, requant.shift)]
    if parameters.table is not None or any((table != table[:, :1]).any() for table in tables):
        return None
    multiplier, shift = (table[:, :1, None] for table in tables)
    parameters = replace(parameters, requant=replace(requant, multiplier=multiplier, shift=shift))
    return reduce_to_shifts(run.values.layer.name, parameters) if requantizer == "shift" else parameters


def _drive_elements(spec: Requantize, run: LayerRun) -> Stimulus | None:
    values, layer = run.values, run.values.layer
    parameters = find_parameters(run, spec.mode)
    if parameters is None:
        return None
    order = order_stores(layer, run.boxes)
    acc = values.accumulators.reshape(-1, int(np.prod(layer.out_shape)))[:, order].ravel()
    channel = np.resize(order // (layer.P * layer.Q) % layer.out_shape[1], acc.size)

    def pick(table: Int64) -> Int64:
        flat = table.ravel()
        return flat[channel] if flat.size > 1 else np.resize(flat if flat.size else np.zeros(1, np.int64), acc.size)

    requant = parameters.requant
    elements = Elements(
        acc=acc, bias=pick(parameters.bias), multiplier=pick(requant.multiplier), shift=pick(requant.shift),
        limits=find_limits(parameters),
    )  # fmt: skip
    return drive_requantize(spec, layer.name, elements)


def _drive_products(spec: Mac | SystolicArray, run: LayerRun, folds: int = 3) -> Stimulus | None:
    """Return folds of a layer: neighbouring pixels behind one another, streams spread over pixels and filters."""
    layer = run.values.layer
    assert run.values.weight is not None
    windows = cut_windows(run.values)[0]  # of the first group
    filters = run.values.weight.reshape(layer.G, layer.K, -1)[0]
    rows, cols = (spec.rows, spec.cols) if isinstance(spec, SystolicArray) else (1, 1)
    whole = run.values.accumulators.size * windows.shape[1]
    stream = np.arange(LANES)
    first = stream * max(1, len(windows) // LANES)
    column = stream * cols % max(1, layer.K)
    fold = np.arange(folds)
    pixels = (first[None, :, None] + fold[:, None, None] * rows + np.arange(rows)) % len(windows)
    chosen = (column[None, :, None] + np.arange(cols) + 0 * fold[:, None, None]) % layer.K
    x, y = windows[pixels], filters[chosen]  # [folds, streams, rows or cols, depth]
    if isinstance(spec, Mac):
        return drive_mac(spec, layer.name, x[:, :, 0], y[:, :, 0], whole)
    return drive_array(spec, layer.name, x, y, whole)


def _pick_boxes(run: LayerRun, describe: Callable[[int], int]) -> list[tuple[int, int]]:
    """Return (image, tile) of the streams: tiles with the descriptor of the first, over all images."""
    boxes, wanted = run.boxes, describe(0)
    alike = [i for i in range(len(boxes)) if boxes.lo[i][C] == 0 and describe(i) == wanted]
    images = len(run.values.accumulators) // run.values.layer.N
    return [(image, tile) for tile in alike for image in range(images)][:LANES]


def _cut_results(run: LayerRun, image: int, tile: int) -> Int64:
    """Return a tile's accumulators in the order n, g, k, p, q."""
    layer, boxes = run.values.layer, run.boxes
    lo, hi = boxes.lo[tile], boxes.hi[tile]
    channel, size = int(lo[1] * layer.K + lo[2]), hi - lo
    first = image * layer.N
    return run.values.accumulators[
        first + lo[0] : first + hi[0], channel : channel + int(size[1] * size[2]), lo[4] : hi[4], lo[5] : hi[5]
    ].ravel()


def _drive_tiles(arch: Arch, spec: VectorUnit, run: LayerRun) -> Stimulus | None:
    datapath, boxes, layer = run.datapath, run.boxes, run.values.layer
    parameters, load = run.values.parameters, run.datapath.workload
    packed = find_parameters(run, spec.machine.requantizer)
    if packed is None:
        return None

    def describe(tile: int) -> int:
        return describe_vector(datapath, arch, (boxes.lo[tile], boxes.hi[tile]), (0, 0, 0), parameters)

    picks, banks = _pick_boxes(run, describe), []
    beat = spec.machine.beat_bits
    for image, tile in picks:
        streams = []
        for shape, bits, zero, operand in zip(
            load.operand_shapes, load.operand_bits, parameters.input_zero, run.values.operands, strict=True
        ):  # fmt: skip
            area = find_input_box(layer, shape, boxes.lo[tile], boxes.hi[tile])
            slab = cut_slab(shape, bits, beat, area)
            stream = np.zeros(slab.stream_bits, np.uint8)
            tensor = operand[image * shape[0] : (image + 1) * shape[0]] + zero
            write_slab(slab, tensor[tuple(slice(*span) for span in area)], stream)
            streams.append(stream)
        banks.append(_join_beats(np.concatenate(streams), beat))
    whole = len(run.values.accumulators) // layer.N * int(np.prod(layer.out_shape))
    return drive_vector(
        spec, layer.name, describe(0), list_vector_header(datapath, packed), np.stack(banks), whole=whole
    )  # fmt: skip


def _join_beats(stream: np.ndarray, beat: int) -> Uint64:
    full = np.zeros((-(-stream.size // beat), 64), np.uint8)
    padded = np.zeros(full.shape[0] * beat, np.uint8)
    padded[: stream.size] = stream
    full[:, :beat] = padded.reshape(-1, beat)
    return np.packbits(full, axis=1, bitorder="little").view("<u8")[:, 0].astype(np.uint64)


def _drive_stores(arch: Arch, spec: StoreUnit, run: LayerRun) -> Stimulus | None:
    datapath, boxes, layer, machine = run.datapath, run.boxes, run.values.layer, spec.machine
    parameters = find_parameters(run, machine.requantizer)
    if parameters is None:
        return None
    place = "linear" if layer.kind != "mac" else "filters"

    def describe(tile: int) -> int:
        return describe_store(datapath, arch, (boxes.lo[tile], boxes.hi[tile]), place, machine.columns)

    table = lower_table(datapath, run.mapping, prepare_lowering(datapath, arch))
    first = next(i for i, record in enumerate(table) if int(record["op"]) == STORE_O)
    instruction = split_words(pack_table(table))[first]
    tile = int(table[:first]["tile"].max())
    extra = describe(tile)
    # channels say which parameters are read: a stream is another image, its tile the same
    images = len(run.values.accumulators) // layer.N
    size = boxes.hi[tile] - boxes.lo[tile]
    places = datapath.psum_places(size) if layer.kind == "mac" else np.arange(int(np.prod(size[[0, 1, 2, 4, 5]])))
    results = np.stack([_cut_results(run, image, tile) for image in range(min(images, LANES))])
    banks = pack_bank(places, results, machine.obuf_words, machine.columns)
    words = split_words(pack_parameters(layer, parameters, choose_fields(machine.requantizer)))
    whole = images * int(np.prod(layer.out_shape))
    return drive_store(spec, layer.name, instruction, extra, words, find_limits(parameters), banks, whole)
