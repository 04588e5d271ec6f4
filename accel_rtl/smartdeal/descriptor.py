"""From a tile, as the simulator sees it, to the fields that the engine reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from accel_rtl.smartdeal.spec import A_BITS, ENTRY_WEIGHTS, PLACE_PARTS, W_BITS, SmartDealEngine
from accel_rtl.systolic.descriptor import Geometry, check_fields
from hwsim.core.errors import SpecError
from hwsim.core.mapping import C, G, Int64, K, N, P, Q
from hwsim.engine.execute_tile import find_input_box, locate_window
from hwsim.engine.image import cut_slab

if TYPE_CHECKING:
    from hwsim.archs.smartdeal.datapath import SmartDealDatapath
    from hwsim.core.datapath import Datapath
    from hwsim.engine.execute_parameters import LayerParameters

FAST_STRIDES = (1, 2)
"""Horizontal strides at which ``macs`` pixels are read at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCut:
    """How the rows of a filter of one tile are cut into passes.

    Parameters
    ----------
    by_kernel, rebuilt : bool
        A row is a kernel row, not three channels; its weights are rebuilt.
    weights, entries : int
        Of a row.
    held : int
        Most rows of a pass.
    step_rows : int
        Rows of a step.
    rows : int
        Of a filter of the tile.
    """

    by_kernel: bool
    rebuilt: bool
    weights: int
    entries: int
    held: int
    step_rows: int
    rows: int

    @property
    def steps(self) -> int:
        """Steps of the tile."""
        return -(-self.rows // self.step_rows)

    def list_passes(self, step: int) -> list[int]:
        """Return the rows of each pass of a step."""
        left = min(self.step_rows, self.rows - step * self.step_rows)
        return [min(self.held, left - at) for at in range(0, left, self.held)]


def cut_rows(engine: SmartDealEngine, datapath: SmartDealDatapath, channels: int) -> RowCut:
    """Return the cut of a tile of some channels, or raise SpecError where a row does not fit the line stores."""
    table, layer = datapath.rows, datapath.layer
    weights = table.width_elements
    entries = -(-weights // ENTRY_WEIGHTS)
    held = engine.lines * (engine.line_rows // entries)
    if not held:
        raise SpecError("line_rows", engine.line_rows, f"at least {entries}, a kernel row of layer {layer.name}")
    rows = channels * layer.R if table.by_kernel else -(-channels // ENTRY_WEIGHTS)
    step = table.slice_rows
    if not table.decomposed:
        step = max(1, held // layer.R) * layer.R if table.by_kernel else held
    return RowCut(
        by_kernel=table.by_kernel, rebuilt=table.decomposed, weights=weights, entries=entries, held=held,
        step_rows=min(step, rows), rows=rows,
    )  # fmt: skip


def describe_word(
    engine: SmartDealEngine, datapath: Datapath, box: tuple[Int64, Int64], banks: tuple[int, int, int],
    parameters: LayerParameters,
) -> int:  # fmt: skip
    """Return a tile's descriptor as one integer of ``tile_words`` words.

    Raises
    ------
    SpecError
        Formats that the engine has not, or a tile beyond its buffers or the widths of its fields.
    """
    fields = describe_tile(
        engine, datapath, box, banks, parameters.input_zero[0], parameters.input_signed[0]  # type: ignore[arg-type]
    )  # fmt: skip
    return int(engine.layout.const(fields).as_bits())


def describe_tile(
    engine: SmartDealEngine, datapath: SmartDealDatapath, box: tuple[Int64, Int64],
    banks: tuple[int, int, int] = (0, 0, 0), input_zero: int = 0, input_signed: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Return the fields of `SmartDealEngine.layout` of one tile.

    Parameters
    ----------
    engine : SmartDealEngine
    datapath : SmartDealDatapath
        The layer at its formats.
    box : (ndarray int64 [6], ndarray int64 [6])
        First index and one past the last along ``TILE_DIMS``.
    banks : tuple of int
        Banks of ``wbuf``, ``ibuf`` and ``obuf``.
    input_zero, input_signed
        Of the stored activations.

    Raises
    ------
    SpecError
        As `describe_word`.
    """
    lo, hi = box
    layer, size = datapath.layer, [int(extent) for extent in hi - lo]
    bits = (datapath.workload.fmt.w_bits, datapath.workload.operand_bits[0])
    if bits != (W_BITS, A_BITS):
        raise SpecError(
            f"layer {layer.name}: stored w_bits, a_bits", bits, f"{(W_BITS, A_BITS)}, those of the hardware"
        )
    cut = cut_rows(engine, datapath, size[C])
    gemm = layer.op == "gemm"
    columns, images, rows = (size[N], 1, 1) if gemm else (size[Q], size[N], size[P])
    groups, blocks = -(-columns // engine.macs), -(-size[K] // engine.slices)
    words = size[G] * blocks * images * rows * columns
    if words > engine.machine.obuf_words:
        raise SpecError(f"layer {layer.name}: accumulators of a slice", words, f"at most {engine.machine.obuf_words}")
    fields: dict[str, Any] = {
        "group_end": size[G] - 1, "block_end": blocks - 1, "image_end": images - 1, "row_end": rows - 1,
        "column_end": groups - 1, "step_end": cut.steps - 1,
        "slices": size[K] - (blocks - 1) * engine.slices, "pixels": columns - (groups - 1) * engine.macs,
        "input_zero": input_zero, "input_signed": int(input_signed), "first": int(lo[C] == 0),
        "w_bank": banks[0], "i_bank": banks[1], "o_bank": banks[2],
    }  # fmt: skip
    fields |= describe_passes(engine, cut) | describe_rows(engine, datapath, cut, size)
    fields |= describe_places(engine, datapath, cut, lo, hi)
    check_fields(fields, engine.layout, f"layer {layer.name}: tile")
    return fields


def describe_passes(engine: SmartDealEngine, cut: RowCut) -> dict[str, int]:
    """Return the fields of how steps are cut."""
    fields = {"full_end": cut.held // engine.lines - 1}
    for name, step in (("", 0), ("last_", cut.steps - 1)):
        passes = cut.list_passes(step)
        chunks = -(-passes[-1] // engine.lines)
        fields |= {f"{name}passes_end": len(passes) - 1, f"{name}chunks_end": chunks - 1}
        fields |= {f"{name}rows": passes[-1] - (chunks - 1) * engine.lines, f"{name}total": passes[-1]}
    return fields


def describe_rows(engine: SmartDealEngine, datapath: SmartDealDatapath, cut: RowCut, size: list[int]) -> dict[str, int]:
    """Return the fields of a row's weights."""
    layer = datapath.layer
    gemm, stride, apart = layer.op == "gemm", layer.stride[1], layer.dilation[1]
    fast = not gemm and stride in FAST_STRIDES
    short = cut.weights - (cut.entries - 1) * ENTRY_WEIGHTS
    last = short if cut.by_kernel else size[C] - (cut.rows - 1) * ENTRY_WEIGHTS
    return {
        "rebuilt": int(cut.rebuilt), "channels": int(not cut.by_kernel), "scattered": int(not fast),
        "whole": int(fast and cut.by_kernel and cut.weights <= ENTRY_WEIGHTS and apart == 1),
        "double": int(fast and stride == 2), "pixels_end": min(engine.macs, layer.N if gemm else layer.Q) - 1,
        "weights_end": cut.weights - 1, "entries_end": cut.entries - 1, "short": short - 1, "last_weights": last - 1,
        "ends": sum(1 << at for at in range(cut.entries - 1, engine.line_rows, cut.entries)),
    }  # fmt: skip


def describe_places(
    engine: SmartDealEngine, datapath: SmartDealDatapath, cut: RowCut, lo: Int64, hi: Int64
) -> dict[str, int]:
    """Return the fields of places, in elements of a bank of ``ibuf``."""
    layer, size = datapath.layer, [int(extent) for extent in hi - lo]
    shape = datapath.workload.operand_shapes[0]
    area = find_input_box(layer, shape, lo, hi)
    slab = cut_slab(shape, A_BITS, engine.machine.beat_bits, area)
    (rows, columns), vector, gemm = area[2:], shape[2] == shape[3] == 1, layer.op == "gemm"
    unit = max(1, slab.unit_bits // A_BITS)
    slot = slab.slot_bits // A_BITS if slab.shared > 1 else 1  # a row of its own is slot 0 of a unit of its own
    plane, image = (1, slab.units * unit) if vector else (slab.units * unit, slab.planes * slab.units * unit)
    (down, right), (down_apart, right_apart) = layer.stride, layer.dilation
    geometry = Geometry(
        shared=slab.shared, slot=slot, unit=unit,
        strides={"pixel": (right, down, image), "kernel": (right_apart, down_apart, plane)}, radices={},
    )  # fmt: skip
    origin = [
        locate_window(layer, axis, int(lo[dim]), int(hi[dim]))[0] - span[0]
        for axis, dim, span in ((0, P, rows), (1, Q, columns))
    ]
    units, slots = divmod(slab.lead_rows + origin[0], slab.shared)
    lead = slab.lead_bits // A_BITS if slab.stream_bits else 0
    fields = {"begin_x": origin[1], "begin_y": origin[0], "begin_slot": slots * slot}
    fields["begin_address"] = units * unit + slots * slot + lead + origin[1]
    pixel_x, pixel_address = (1, image) if gemm else (right, right)
    fields |= {"pixel_x": pixel_x, "pixel_address": pixel_address}
    fields |= {"column_x": engine.macs * pixel_x, "column_address": engine.macs * pixel_address}
    down_move = geometry.measure("pixel", (0, 1, 0))
    fields |= {f"row_{part}": down_move[part] for part in PLACE_PARTS}
    fields |= {"image_address": image, "group_address": size[C] * plane}
    fields |= {
        "weight_x": right_apart if cut.by_kernel else 0,
        "weight_address": right_apart if cut.by_kernel else plane,
    }
    step_channels = cut.step_rows // layer.R if cut.by_kernel else cut.step_rows * ENTRY_WEIGHTS
    fields["step_address"] = step_channels * plane
    fields |= describe_moves(engine, geometry, cut, layer.R)
    span = slab.shared * slot
    fields |= {"span": span, "skip": unit - span if slab.shared > 1 else 0}
    in_rows, in_cols = rows[1] - rows[0], columns[1] - columns[0]
    if not slab.stream_bits:
        in_rows = in_cols = 0
    elif gemm:
        in_rows, in_cols = 1, size[N]
    elif vector:
        in_rows = in_cols = 1
    fields |= {"in_rows": in_rows, "in_cols": in_cols}
    wrapped = ("address", "skip")
    return {
        key: value % (1 << engine.address_bits) if key.endswith(wrapped) else value for key, value in fields.items()
    }


def describe_moves(engine: SmartDealEngine, geometry: Geometry, cut: RowCut, kernel_rows: int) -> dict[str, int]:
    """Return the fields of the lines' first rows, and of the way to their next ones."""
    kernel_rows = kernel_rows if cut.by_kernel else 1
    channels = 1 if cut.by_kernel else ENTRY_WEIGHTS  # of a row of kernel_rows
    fields: dict[str, int] = {}
    for line in range(engine.lines):
        far, row = divmod(line, kernel_rows)
        place = geometry.measure("kernel", (0, row, far * channels))
        fields |= {f"line{line}_kernel": row} | {f"line{line}_{part}": place[part] for part in PLACE_PARTS}
    far, row = divmod(engine.lines, kernel_rows)
    for carry in range(2):
        place = geometry.measure("kernel", (0, row - carry * kernel_rows, (far + carry) * channels))
        fields |= {f"move{carry}_{part}": place[part] for part in PLACE_PARTS}
    fields |= {"carry_from": kernel_rows - row, "kernel_move": row, "kernel_back": kernel_rows - row}
    return fields
