"""From a tile, as the simulator sees it, to the fields that the exec engine reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Shape
from amaranth.lib import data

from accel_rtl.blocks.im2col import AXES, DIGITS, PARTS, Im2col
from accel_rtl.systolic.spec import SystolicEngine
from hwsim.archs.systolic.datapath import SystolicDatapath
from hwsim.archs.systolic.spec import Systolic
from hwsim.core.errors import SpecError
from hwsim.core.mapping import C, G, Int64, K, N, P, Q
from hwsim.engine.execute_tile import find_input_box, locate_window
from hwsim.engine.image import Slab, cut_slab

Move = dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """How places of a tile's kernel and pixels become addresses, in elements.

    Parameters
    ----------
    shared, slot, unit : int
        Rows of an alignment unit, elements of a row's slot, of a unit.
    strides : dict
        By axis: what the three digits of a place are worth, in input columns, input rows, elements.
    radices : dict
        By axis: extent of the digits.
    """

    shared: int
    slot: int
    unit: int
    strides: dict[str, tuple[int, int, int]]
    radices: dict[str, tuple[int, int, int]]

    def measure(self, axis: str, digits: tuple[int, int, int]) -> Move:
        """Return what a change of digits adds to x, y, slot and address."""
        x, y, far = (count * stride for count, stride in zip(digits, self.strides[axis], strict=True))
        units, slots = divmod(y, self.shared)
        slot = slots * self.slot
        return {"x": x, "y": y, "slot": slot, "address": units * self.unit + slot + x + far}

    def split(self, axis: str, places: int) -> tuple[int, int, int]:
        """Return the digits of a number of places."""
        low, mid, _ = self.radices[axis]
        return places % low, places // low % mid, places // low // mid


def describe_tile(
    datapath: SystolicDatapath,
    arch: Systolic,
    box: tuple[Int64, Int64],
    *,
    banks: tuple[int, int, int] = (0, 0, 0),
    input_zero: int = 0,
    input_signed: bool = True,
) -> dict[str, Any]:
    """Return the fields of `SystolicEngine.layout` of one tile.

    Parameters
    ----------
    datapath : SystolicDatapath
        The layer at its formats.
    arch : Systolic
        Array, buffers, alignment.
    box : (ndarray int64 [6], ndarray int64 [6])
        First index and one past the last along ``TILE_DIMS``.
    banks : tuple of int
        Banks of ``wbuf``, ``ibuf`` and ``obuf``.
    input_zero, input_signed
        Of the stored activations.

    Raises
    ------
    SpecError
        Formats that are not the accelerator's own, or a tile beyond the widths of its fields.
    """
    engine, fmt, name = SystolicEngine.from_arch(arch), datapath.workload.fmt, datapath.layer.name
    bits = (fmt.w_bits, datapath.workload.operand_bits[0])
    if bits != (arch.w_width, arch.a_width):
        raise SpecError(
            f"layer {name}: stored w_bits, a_bits", bits, f"{(arch.w_width, arch.a_width)}, those of the hardware"
        )
    lo, hi = box
    size = [int(extent) for extent in hi - lo]
    pixels, depth = size[N] * size[P] * size[Q], size[C] * datapath.window
    stay_rows, stay_cols, stream = {
        "os": (pixels, size[K], depth),
        "ws": (depth, size[K], pixels),
        "is": (depth, pixels, size[K]),
    }[arch.dataflow]
    row_folds, col_folds = -(-stay_rows // arch.rows), -(-stay_cols // arch.cols)
    out_step = stay_rows if arch.dataflow == "os" else stream
    fields: dict[str, Any] = {
        "folds": {
            "group_end": size[G] - 1,
            "col_end": col_folds - 1,
            "row_end": row_folds - 1,
            "stream_end": stream - 1,
        },
        "im2col": describe_windows(datapath, arch, engine.im2col, lo, hi),
        "cols_end": stay_cols - (col_folds - 1) * arch.cols - 1,
        "rows_end": stay_rows - (row_folds - 1) * arch.rows - 1,
        "out_step": out_step,
        "input_zero": input_zero,
        "input_signed": int(input_signed),
        "first": int(lo[C] == 0),
        "w_bank": banks[0],
        "i_bank": banks[1],
        "o_bank": banks[2],
    }
    words = size[G] * col_folds * out_step
    if words > engine.obuf_words:
        raise SpecError(f"layer {name}: accumulators of a column", words, f"at most {engine.obuf_words}")
    check_fields(fields, engine.layout, f"layer {name}: tile")
    return fields


def describe_windows(datapath: SystolicDatapath, arch: Systolic, spec: Im2col, lo: Int64, hi: Int64) -> dict[str, int]:
    """Return the fields of `Im2col.layout` of one tile."""
    layer, size = datapath.layer, [int(extent) for extent in hi - lo]
    shape = datapath.workload.operand_shapes[0]
    area = find_input_box(layer, shape, lo, hi)
    slab = cut_slab(shape, arch.a_width, arch.memory.alignment_bits, area)
    geometry = measure_slab(datapath, arch, slab, size)
    rows, columns = area[2:]
    origin = [
        locate_window(layer, axis, int(lo[dim]), int(hi[dim]))[0] - span[0]
        for axis, dim, span in ((0, P, rows), (1, Q, columns))
    ]
    units, slots = divmod(slab.lead_rows + origin[0], slab.shared)
    lead = 0 if not slab.stream_bits else slab.lead_bits // arch.a_width
    first = {"x": origin[1], "y": origin[0], "slot": slots * geometry.slot}
    first["address"] = units * geometry.unit + first["slot"] + lead + origin[1]
    fields = {f"pixel_begin_{part}": first[part] for part in PARTS}
    for axis in AXES:
        radices = geometry.radices[axis]
        fields |= {f"{axis}_end0": radices[0] - 1, f"{axis}_end1": radices[1] - 1, f"{axis}_count": radices[2]}
        down = spec.down and axis == "kernel"
        fields |= list_unit_moves(geometry, axis, down)
        if axis in spec.list_jumps():
            fields |= list_jumps(geometry, axis, spec.rise if down else spec.step)
    if spec.down:
        digits = geometry.split("kernel", arch.rows - 1)
        begin = geometry.measure("kernel", digits)
        begin |= dict(zip(DIGITS, digits, strict=True))
        fields |= {f"kernel_begin_{part}": value for part, value in begin.items()}
    plane = geometry.strides["kernel"][2]
    span = geometry.shared * geometry.slot
    fields |= {"span": span, "skip": geometry.unit - span if geometry.shared > 1 else 0}
    fields |= {"in_rows": rows[1] - rows[0], "in_cols": columns[1] - columns[0], "group": size[C] * plane}
    wrapped = ("address", "skip", "group")
    return {key: value % (1 << spec.address_bits) if key.endswith(wrapped) else value for key, value in fields.items()}


def measure_slab(datapath: SystolicDatapath, arch: Systolic, slab: Slab, size: list[int]) -> Geometry:
    """Return the geometry of a tile whose input is laid out as a slab."""
    layer, shape, bits = datapath.layer, datapath.workload.operand_shapes[0], arch.a_width
    for what, value in (("unit", slab.unit_bits), ("slot", slab.slot_bits), ("lead", slab.lead_bits)):
        if value % bits and slab.stream_bits:
            raise SpecError(f"layer {layer.name}: {what} of a row, bits", value, f"a multiple of {bits}")
    unit = max(1, slab.unit_bits // bits)
    slot = slab.slot_bits // bits if slab.shared > 1 else 1  # a row of its own is slot 0 of a unit of its own
    if shape[2] == shape[3] == 1:  # a vector: one row of channels
        plane, image = 1, slab.units * unit
    else:
        plane, image = slab.units * unit, slab.planes * slab.units * unit
    (down, right), (down_apart, right_apart) = layer.stride, layer.dilation
    return Geometry(
        shared=slab.shared,
        slot=slot,
        unit=unit,
        strides={"pixel": (right, down, image), "kernel": (right_apart, down_apart, plane)},
        radices={"pixel": (size[Q], size[P], size[N]), "kernel": (layer.S, layer.R, size[C])},
    )


def list_unit_moves(geometry: Geometry, axis: str, down: bool) -> dict[str, int]:
    """Return what a move to the next place adds, by the digits that wrap; ``down``: to the one before."""
    low, mid, _ = geometry.radices[axis]
    moves = [(1, 0, 0), (1 - low, 1, 0), (1 - low, 1 - mid, 1)]
    fields: dict[str, int] = {}
    for wraps, digits in enumerate(moves):
        move = geometry.measure(axis, tuple(-digit for digit in digits) if down else digits)  # type: ignore[arg-type]
        fields |= {f"{axis}_unit{wraps}_{part}": move[part] for part in Im2col.list_unit_parts(wraps)}
    return fields


def list_jumps(geometry: Geometry, axis: str, places: int) -> dict[str, int]:
    """Return the digits of a jump, and what it adds, by the digits that carry."""
    digits = geometry.split(axis, places)
    low, mid, _ = geometry.radices[axis]
    fields = {f"{axis}_jump_{name}": digit for name, digit in zip(DIGITS, digits, strict=True)}
    for case in range(4):
        c0, c1 = case & 1, case >> 1
        move = geometry.measure(axis, (digits[0] - c0 * low, digits[1] + c0 - c1 * mid, digits[2] + c1))
        fields |= {f"{axis}_jump{case}_{part}": move[part] for part in PARTS}
    return fields


def check_fields(fields: dict[str, Any], layout: data.StructLayout, where: str) -> None:
    """Raise SpecError where a value does not fit its field, or fields and layout differ."""
    if set(fields) != set(layout.members):
        raise ValueError(f"{where}: fields {sorted(set(fields) ^ set(layout.members))}")
    for name, member in layout.members.items():
        if isinstance(member, data.StructLayout):
            check_fields(fields[name], member, f"{where}.{name}")
            continue
        shape, value = Shape.cast(member), fields[name]
        low = -(1 << (shape.width - 1)) if shape.signed else 0
        high = (1 << (shape.width - shape.signed)) - 1
        if not low <= value <= high:
            raise SpecError(f"{where}.{name}", value, f"{low} to {high}")
