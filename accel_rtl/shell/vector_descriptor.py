"""From a tile of a vector layer, as the simulator sees it, to the descriptor that the vector unit reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from amaranth.hdl import Shape, signed, unsigned
from amaranth.lib import data

from accel_rtl.instruction_word import WORD_BITS
from accel_rtl.program_image import HEADER_FIELDS
from hwsim.core.errors import SpecError
from hwsim.core.mapping import G, Int64, N, P, Q
from hwsim.engine.execute_tile import find_input_box, locate_window
from hwsim.engine.image import Slab, cut_slab

if TYPE_CHECKING:
    from hwsim.core.arch import Arch
    from hwsim.core.datapath import Datapath
    from hwsim.core.layer import Layer
    from hwsim.engine.execute_parameters import LayerParameters

MAXIMUM, SUM, ADDITION = range(3)
"""Values of ``operation`` in the header."""
OPERATIONS = {"maxpool": MAXIMUM, "avgpool": SUM, "add": ADDITION}
OPERANDS = ("a", "b")
DIGITS = ("s", "r", "q", "p", "g", "n")
"""Loops of a tile, the innermost first."""
ADDRESS_BITS, SLOT_BITS, SPAN_BITS = 20, 10, 11
COUNT_BITS, WINDOW_BITS, STEP_BITS, PLACE_BITS = 14, 10, 32, 14


def _layout() -> data.StructLayout:
    """Return the fields of a descriptor, of fixed widths: no accelerator needs its own.

    ``steps``: busy cycles less one. ``<digit>_end``: extent of a loop less one. ``x``, ``y``: input column and row of the first
    element of the first window, counted from the first one loaded. ``right``, ``down``: strides; ``right_apart``, ``down_apart``:
    dilations. ``columns``, ``rows``: extent of what was loaded. Of each operand: its first element's place in the bank and in its
    alignment unit (``slot``), what is added to both by a step along p or r, to the place by one along g or n (``b``: ``b_right``
    along q), ``span``: elements of the rows that share a unit, ``skip``: elements from there to the next unit.
    """
    place, slot, stride = unsigned(ADDRESS_BITS), unsigned(SLOT_BITS), unsigned(WINDOW_BITS)
    fields: dict[str, Shape] = {"i_bank": unsigned(1), "o_bank": unsigned(1), "steps": unsigned(STEP_BITS)}
    fields |= {f"{digit}_end": unsigned(WINDOW_BITS if digit in "sr" else COUNT_BITS) for digit in DIGITS}
    fields |= {"x": signed(PLACE_BITS + 1), "y": signed(PLACE_BITS + 1)}
    fields |= {"columns": unsigned(PLACE_BITS), "rows": unsigned(PLACE_BITS)}
    fields |= dict.fromkeys(("right", "down", "right_apart", "down_apart"), stride)
    for operand in OPERANDS:
        fields |= {f"{operand}_{name}": place for name in ("first", "n", "g", "p")}
        fields |= {f"{operand}_{name}": slot for name in ("first_slot", "p_slot", "skip")}
        fields[f"{operand}_span"] = unsigned(SPAN_BITS)
    return data.StructLayout({**fields, "a_r": place, "a_r_slot": slot, "b_right": unsigned(1)})


TILE_LAYOUT = _layout()
assert TILE_LAYOUT.size <= WORD_BITS


def describe_vector(
    datapath: Datapath,
    arch: Arch,
    box: tuple[Int64, Int64],
    banks: tuple[int, int, int],
    parameters: LayerParameters,
) -> int:
    """Return the descriptor of an EXEC of a vector layer, one word of 512 bits (`TILE_LAYOUT`).

    Parameters
    ----------
    datapath : Datapath
        The layer at its formats.
    arch : Arch
        Says how memory is aligned.
    box : (ndarray int64 [6], ndarray int64 [6])
        First index and one past the last along ``TILE_DIMS``.
    banks : tuple of int
        Banks of ``wbuf`` (not used), ``ibuf`` and ``obuf``.
    parameters : LayerParameters
        Zero points and factors.

    Raises
    ------
    SpecError
        An operator, a format or a tile that the vector unit does not run.
    """
    layer, load = datapath.layer, datapath.workload
    refuse_vector(datapath, parameters)
    lo, hi = box
    size = [int(extent) for extent in hi - lo]
    pools = layer.op != "add"
    if layer.op == "maxpool":
        _refuse_empty_windows(layer, lo, hi)
    steps = size[N] * size[G] * size[P] * size[Q] * layer.R * layer.S
    fields = {"i_bank": banks[1], "o_bank": banks[2], "steps": steps - 1}
    extents = (layer.S, layer.R, size[Q], size[P], size[G], size[N])
    fields |= {f"{digit}_end": extent - 1 for digit, extent in zip(DIGITS, extents, strict=True)}
    names = ("columns", "rows", "x", "y", "right", "down", "right_apart", "down_apart", "b_right", "a_r", "a_r_slot")
    fields |= dict.fromkeys(names, 0)
    fields |= {name: 0 for name in TILE_LAYOUT.members if name.startswith("b_")}
    at = 0
    for operand, shape, bits in zip(OPERANDS, load.operand_shapes, load.operand_bits, strict=False):
        area = find_input_box(layer, shape, lo, hi)
        slab = cut_slab(shape, bits, arch.memory.alignment_bits, area)
        origin = (0, 0)
        if pools:
            (top, _), (left, _) = (locate_window(layer, axis, int(lo[dim]), 0) for axis, dim in ((0, P), (1, Q)))
            origin = top - area[2][0], left - area[3][0]
            fields |= {
                "rows": area[2][1] - area[2][0],
                "columns": area[3][1] - area[3][0],
                "y": origin[0],
                "x": origin[1],
            }
        fields |= _describe_operand(layer, operand, shape, slab, origin, at)
        at += slab.stream_bits // bits
    return pack_fields(fields, TILE_LAYOUT, f"layer {layer.name}: tile")


def list_vector_header(datapath: Datapath, parameters: LayerParameters) -> dict[str, int]:
    """Return what the header says to the vector unit: ``is_vector``, operation, signs, zero points, factors.

    Raises
    ------
    SpecError
        What the vector unit does not run.
    """
    refuse_vector(datapath, parameters)
    operation = OPERATIONS[datapath.layer.op]
    signs, zeros, factors = parameters.input_signed, parameters.input_zero, parameters.factors.tolist() or [0]
    found = {
        "is_vector": 1, "operation": operation, "a_signed": int(signs[0]), "b_signed": int(signs[-1]), "a_zero": zeros[0],
        "b_zero": zeros[-1], "factor_a": factors[0], "factor_b": factors[-1], "factor_shift": parameters.factor_shift,
    }  # fmt: skip
    layout = header_layout()
    pack_fields({**dict.fromkeys(layout.members, 0), **found}, layout, f"layer {datapath.layer.name}: header")
    return found


def header_layout() -> data.StructLayout:
    """Return the header word's fields as `accel_rtl.program_image` lists them."""
    return data.StructLayout({name: signed(bits) if sign else unsigned(bits) for name, bits, sign in HEADER_FIELDS})


def refuse_vector(datapath: Datapath, parameters: LayerParameters) -> None:
    """Raise SpecError for a layer that the vector unit does not run."""
    layer, load = datapath.layer, datapath.workload
    where = f"layer {layer.name}"
    if layer.op not in OPERATIONS:
        raise SpecError(f"{where}: op", layer.op, f"one of {', '.join(OPERATIONS)} on the vector unit")
    if layer.op == "add" and len(load.operand_shapes) != 2:
        raise SpecError(f"{where}: operands", len(load.operand_shapes), "2 in an addition on the vector unit")
    if len(set(load.operand_bits)) != 1:
        raise SpecError(f"{where}: bits of the operands", load.operand_bits, "one width, that of the hardware")
    if load.operand_bits[0] not in (1, 2, 4, 8, 16):
        raise SpecError(f"{where}: a_bits", load.operand_bits[0], "1, 2, 4, 8 or 16: no element may straddle a beat")
    if parameters.narrow is not None:
        raise SpecError(f"{where}: input", "requantized", "as stored: the hardware has no requantizer at its input")
    if parameters.requant.multiplier.shape[1:] not in ((), (1, 1)):
        raise SpecError(f"{where}: divisor", "by pixel", "one divisor for all pixels", "count_include_pad=1")
    if parameters.table is not None:
        raise SpecError(f"{where}: activation", layer.activation, "one that is a clamp")
    for bits, zero in zip(load.operand_bits, parameters.input_zero, strict=False):
        if not -(1 << bits) <= zero < 1 << bits:
            raise SpecError(f"{where}: zero point", zero, f"{bits + 1} bits")


def _refuse_empty_windows(layer: Layer, lo: Int64, hi: Int64) -> None:
    """Raise SpecError where a window sees padding alone: it has no maximum."""
    for axis, dim, extent, window in ((0, P, layer.H, layer.R), (1, Q, layer.W, layer.S)):
        first = np.arange(lo[dim], hi[dim]) * layer.stride[axis] - layer.padding[axis]
        reached = first[:, None] + np.arange(window) * layer.dilation[axis]
        if not ((reached >= 0) & (reached < extent)).any(axis=1).all():
            raise SpecError(f"layer {layer.name}: padding", layer.padding, "no window of padding alone in a maximum")


def _describe_operand(
    layer: Layer, name: str, shape: tuple[int, int, int, int], slab: Slab, origin: tuple[int, int], at: int
) -> dict[str, int]:
    """Return the fields of an operand whose slab begins at element ``at`` of the bank, from row, column ``origin`` on."""
    bits, shared = slab.bits, slab.shared
    for what, value in (("unit", slab.unit_bits), ("slot", slab.slot_bits), ("lead", slab.lead_bits)):
        if value % bits and slab.stream_bits:
            raise SpecError(f"layer {layer.name}: {what} of a row, bits", value, f"a multiple of {bits}")
    unit, slot = slab.unit_bits // bits, slab.slot_bits // bits if shared > 1 else 0
    plane = slab.units * unit
    image = plane * slab.planes
    if shape[2] == shape[3] == 1:  # a vector: one row of channels
        plane = 1
    pools = layer.op != "add"
    (down, right), apart = layer.stride if pools else (1, 1), layer.dilation[0]
    if not pools:  # what has one element along a dimension gives it to all
        down, right = int(shape[2] > 1), int(shape[3] > 1)

    def move(rows: int) -> tuple[int, int]:
        units, slots = divmod(rows, shared)
        return units * unit + slots * slot, slots * slot

    first, first_slot = move(slab.lead_rows + origin[0])
    first += at + (slab.lead_bits // bits if slab.stream_bits else 0) + origin[1]
    (by_row, row_slot), (by_kernel, kernel_slot) = move(down), move(apart)
    wrap = 1 << ADDRESS_BITS
    fields = {
        f"{name}_first": first % wrap, f"{name}_first_slot": first_slot, f"{name}_n": image * (shape[0] > 1) % wrap,
        f"{name}_g": plane * (shape[1] > 1) % wrap, f"{name}_p": by_row % wrap, f"{name}_p_slot": row_slot,
        f"{name}_span": shared * slot if shared > 1 else 1, f"{name}_skip": unit - shared * slot if shared > 1 else 0,
    }  # fmt: skip
    if name == "b":
        return fields | {"b_right": right}
    fields |= {"a_r": by_kernel % wrap, "a_r_slot": kernel_slot, "right": right, "down": down}
    return fields | {"right_apart": layer.dilation[1], "down_apart": apart}


def pack_fields(fields: Mapping[str, int], layout: data.StructLayout, where: str) -> int:
    """Return a struct of plain integers as one; SpecError where a value does not fit, ValueError where names differ."""
    if set(fields) != set(layout.members):
        raise ValueError(f"{where}: fields {sorted(set(fields) ^ set(layout.members))}")
    word = 0
    for name, field in layout:
        shape = Shape.cast(field.shape)  # type: ignore[arg-type]
        low = -(1 << shape.width - 1) if shape.signed else 0
        high = (1 << shape.width - shape.signed) - 1
        if not low <= fields[name] <= high:
            raise SpecError(f"{where}.{name}", fields[name], f"{low} to {high}")
        word |= fields[name] % (1 << shape.width) << field.offset
    return word


def unpack_fields(word: int, layout: data.StructLayout) -> dict[str, int]:
    """Return the integers of a struct of plain integers."""
    found = {}
    for name, field in layout:
        shape = Shape.cast(field.shape)  # type: ignore[arg-type]
        value = word >> field.offset & (1 << shape.width) - 1
        found[str(name)] = value - (1 << shape.width) if shape.signed and value >> shape.width - 1 else value
    return found


def list_windows(tile: Mapping[str, int]) -> Iterator[list[tuple[int, int, bool]]]:
    """Yield the window of each element of a tile in order: places of operand a and b in the bank, and whether a is no padding."""
    ends = [range(tile[f"{digit}_end"] + 1) for digit in reversed(DIGITS)]
    for n in ends[0]:
        for g in ends[1]:
            for p in ends[2]:
                for q in ends[3]:
                    yield [_locate(tile, n, g, p, q, r, s) for r in ends[4] for s in ends[5]]


def _locate(tile: Mapping[str, int], n: int, g: int, p: int, q: int, r: int, s: int) -> tuple[int, int, bool]:
    y, x = (
        tile["y"] + p * tile["down"] + r * tile["down_apart"],
        tile["x"] + q * tile["right"] + s * tile["right_apart"],
    )
    places = []
    for name, right, rows, moves in (
        ("a", q * tile["right"] + s * tile["right_apart"], r, ("p", "r")),
        ("b", q * tile["b_right"], 0, ("p",)),
    ):
        place, slot = tile[f"{name}_first"] + n * tile[f"{name}_n"] + g * tile[f"{name}_g"], tile[f"{name}_first_slot"]
        for move, count in zip(moves, (p, rows), strict=False):
            for _ in range(count):
                place, slot = place + tile[f"{name}_{move}"], slot + tile[f"{name}_{move}_slot"]
                if slot >= tile[f"{name}_span"]:
                    place, slot = place + tile[f"{name}_skip"], slot - tile[f"{name}_span"]
        places.append((place + right) % (1 << ADDRESS_BITS))
    return places[0], places[1], 0 <= x < tile["columns"] and 0 <= y < tile["rows"]


def take_element(beats: Sequence[int], place: int, bits: int, beat_bits: int, is_signed: int) -> int:
    """Return element ``place`` of a bank."""
    per_beat = beat_bits // bits
    value = beats[place // per_beat] >> place % per_beat * bits & (1 << bits) - 1
    return value - (1 << bits) if is_signed and value >> bits - 1 else value
