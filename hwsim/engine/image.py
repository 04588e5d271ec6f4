"""Memory images: the bits that a Program loads and stores, laid out as `hwsim.core.program` says.

An image is a uint8 array of bytes. **Bit a of memory is bit a % 8 of byte a // 8**, bit 0 being the least significant: an AXI
beat of W bits at byte address b carries bits 8 b to 8 b + W - 1, data line i being bit 8 b + i. An element of ``bits`` bits takes
``bits`` neighbouring bits, least significant first, two's complement where its format is signed. Element i of a row begins at bit
``i * bits`` of its row; nothing is padded between the elements of a row, so elements may straddle bytes.

Activations: planes ``[N, channel]``, rows of a plane one after the other, each row a whole number of alignment units; of rows
shorter than half a unit as many share one as fit, each in a slot of whole bytes. A tensor of one pixel is one row of its channels.
Weights: tile by tile over G, K, C (`hwsim.engine.lower.list_weight_boxes`), each tile a whole number of alignment units, its
bits as `Datapath.pack_weights` says. Padding bits are never read as data and never written by a Program.

Not in memory: biases, multipliers, shifts, zero points, clamps and look-up tables. They stand in a table by channel beside the
instruction memory, written before the layer starts; their transfer costs no cycles and no traffic in the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hwsim.core.bits import Bits, bits_to_integers, integers_to_bits
from hwsim.core.program import LOAD_W
from hwsim.engine.lower import list_weight_boxes, rows_per_unit, stored_bits

if TYPE_CHECKING:
    from hwsim.core.datapath import Datapath
    from hwsim.core.mapping import Int64, Mapping
    from hwsim.engine.lower import Lowering

Image = npt.NDArray[np.uint8]
"""Bytes of memory."""
Shape = tuple[int, int, int, int]
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]
"""Half-open ranges of images, channels, rows and columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slab:
    """How the bits of a box of a stored tensor follow one another when its alignment units are moved in order.

    The stream is ``[images, planes, units, unit_bits]``. A unit holds ``shared`` rows in slots of ``slot_bits``. Row 0 of
    the box stands in slot ``lead_rows`` of the first unit of its plane, and its first element ``lead_bits`` into its slot.

    Parameters
    ----------
    images, planes, rows, columns : int
        Extent of the box as stored (a box of a one-pixel tensor is one row of channels).
    bits : int
        Of an element.
    lead_rows, lead_bits, slot_bits, shared, unit_bits : int
        See above.
    """

    images: int
    planes: int
    rows: int
    columns: int
    bits: int
    lead_rows: int
    lead_bits: int
    slot_bits: int
    shared: int
    unit_bits: int

    @property
    def units(self) -> int:
        """Units of a plane."""
        return -(-(self.lead_rows + self.rows) // self.shared)

    @property
    def stream_bits(self) -> int:
        """Bits moved; none for a box of padding alone."""
        return self.images * self.planes * self.units * self.unit_bits if self.rows and self.columns else 0


def cut_slab(shape: Shape, bits: int, align: int, box: Box | None = None) -> Slab:
    """Return the slab of a box of a stored tensor, of all of it by default.

    Parameters
    ----------
    shape : tuple of int
        ``[N, channels, height, width]`` of the tensor.
    bits, align : int
        Bits of an element; of an alignment unit.
    box : Box, optional
        What is moved; an empty range of rows or columns moves nothing.
    """
    (n0, n1), (ch0, ch1), (r0, r1), (c0, c1) = box or tuple((0, extent) for extent in shape)
    width = shape[3]
    if r1 <= r0 or c1 <= c0:
        r0, r1, c0, c1 = 0, 0, 0, 0
    elif shape[2] == width == 1:
        (c0, c1), (ch0, ch1), width = (ch0, ch1), (0, 1), shape[1]
    shared = int(rows_per_unit(width, bits, align))
    first = c0 * bits // align * align
    unit = -(-c1 * bits // align) * align - first
    slot = unit
    if shared > 1:
        first, unit, slot = 0, align, -(-width * bits // 8) * 8
    return Slab(
        images=n1 - n0, planes=ch1 - ch0, rows=r1 - r0, columns=c1 - c0, bits=bits, lead_rows=r0 % shared,
        lead_bits=c0 * bits - first, slot_bits=slot, shared=shared, unit_bits=unit,
    )  # fmt: skip


def write_slab(slab: Slab, values: npt.NDArray[Any], stream: Bits) -> None:
    """Write integers ``[images, planes, rows, columns]`` (any shape of as many elements) into the stream of a slab.

    ``stream`` holds ``slab.stream_bits`` bits; those outside the box keep their value.
    """
    if not slab.stream_bits:
        return
    view = _view_rows(slab, stream)
    row_bits = slab.columns * slab.bits
    cells = integers_to_bits(values, slab.bits).reshape(slab.images, slab.planes, slab.rows, row_bits)
    row = np.arange(slab.lead_rows, slab.lead_rows + slab.rows)
    for slot in range(slab.shared):
        mine = row % slab.shared == slot
        at = slot * slab.slot_bits + slab.lead_bits
        view[:, :, row[mine] // slab.shared, at : at + row_bits] = cells[:, :, mine]


def write_rows(slab: Slab, values: npt.NDArray[Any], stream: Bits, align: int) -> None:
    """Do what `write_slab` does, by whole bytes as hardware does: where a row ends inside a byte, the rest of it becomes zero.

    (An alignment that is no multiple of 8 bits is for the model only: its padding stays.)
    """
    write_slab(slab, values, stream)
    if align % 8:
        return
    written = np.zeros_like(stream)
    write_slab(slab, np.full(values.shape, -1), written)
    used = written.reshape(-1, 8).any(axis=1)
    stream &= written | np.repeat(~used, 8).astype(np.uint8)


def read_slab(slab: Slab, stream: Bits, signed: bool) -> npt.NDArray[np.int64]:
    """Return the integers of a slab's box, int64 ``[images, planes, rows, columns]``."""
    cells = np.zeros((slab.images, slab.planes, slab.rows, slab.columns * slab.bits), np.uint8)
    if slab.stream_bits:
        view = _view_rows(slab, stream)
        row = np.arange(slab.lead_rows, slab.lead_rows + slab.rows)
        for slot in range(slab.shared):
            mine = row % slab.shared == slot
            at = slot * slab.slot_bits + slab.lead_bits
            cells[:, :, mine] = view[:, :, row[mine] // slab.shared, at : at + cells.shape[3]]
    return bits_to_integers(cells.reshape(*cells.shape[:3], slab.columns, slab.bits), signed)


def _view_rows(slab: Slab, stream: Bits) -> Bits:
    if stream.size != slab.stream_bits:
        raise ValueError(f"the stream holds {stream.size} bits, its box takes {slab.stream_bits}")
    return stream.reshape(slab.images, slab.planes, slab.units, slab.unit_bits)


def read_bits(image: Image, first: int, count: int) -> Bits:
    """Return ``count`` bits of an image from bit ``first``, one an entry."""
    low, high = first // 8, -(-(first + count) // 8)
    if first < 0 or high > image.size:
        raise ValueError(f"bits {first} to {first + count} lie outside an image of {image.size * 8} bits")
    return np.unpackbits(image[low:high], bitorder="little")[first - 8 * low : first - 8 * low + count]


def write_bits(image: Image, first: int, bits: Bits) -> None:
    """Write bits into an image from bit ``first``; all others keep their value."""
    low, high = first // 8, -(-(first + bits.size) // 8)
    if first < 0 or high > image.size:
        raise ValueError(f"bits {first} to {first + bits.size} lie outside an image of {image.size * 8} bits")
    span = np.unpackbits(image[low:high], bitorder="little")
    span[first - 8 * low : first - 8 * low + bits.size] = bits
    image[low:high] = np.packbits(span, bitorder="little")


def store_tensor(image: Image, base_bits: int, array: npt.NDArray[Any], bits: int, align: int) -> None:
    """Write an activation tensor ``[N, channels, height, width]`` of integers by whole bytes (`write_rows`).

    Raises
    ------
    ValueError
        A value does not fit ``bits`` bits, signed or unsigned, or the tensor the image.
    """
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    if low < -(1 << (bits - 1)) or high >= 1 << (bits if low >= 0 else bits - 1):
        raise ValueError(f"values from {low} to {high} do not fit {bits} bits")
    slab = cut_slab(_shape_of(array), bits, align)
    stream = read_bits(image, base_bits, slab.stream_bits)
    write_rows(slab, array, stream, align)
    write_bits(image, base_bits, stream)


def load_tensor(
    image: Image, base_bits: int, shape: Shape, bits: int, align: int, signed: bool
) -> npt.NDArray[np.int64]:
    """Return an activation tensor of an image, int64 ``[N, channels, height, width]``."""
    slab = cut_slab(shape, bits, align)
    return read_slab(slab, read_bits(image, base_bits, slab.stream_bits), signed).reshape(shape)


def store_weights(image: Image, datapath: Datapath, mapping: Mapping, weight: npt.NDArray[Any], align: int) -> None:
    """Write the weights ``[G*K, C, R, S]`` of a layer tile by tile from bit 0; padding bits keep their value."""
    boxes = list_weight_boxes(datapath.layer, mapping.tile)
    wanted = datapath.weight_tile_bits(boxes)
    at = 0
    for lo, hi, count in zip(boxes.lo, boxes.hi, wanted.tolist(), strict=True):
        bits = datapath.pack_weights(weight, lo, hi)
        if bits.size != count:
            raise ValueError(f"the weights of tile {lo} to {hi} take {bits.size} bits, its Program moves {count}")
        write_bits(image, at, bits)
        at += -(-count // align) * align


def build_image(
    datapath: Datapath,
    mapping: Mapping,
    ready: Lowering,
    table: npt.NDArray[np.void],
    weight: npt.NDArray[Any] | None,
    operands: list[npt.NDArray[Any]],
    fill: int = 0,
) -> Image:
    """Return the memory of a layer before its Program runs: weights, operands, room for output and partial sums.

    Parameters
    ----------
    ready, table
        Of `hwsim.engine.lower`: where the tensors lie, and how far the instructions reach.
    weight : ndarray or None
        Stored integers ``[G*K, C, R, S]`` of a MAC layer.
    operands : list of ndarray
        Stored integers of each activation operand.
    fill : int
        Byte that stands wherever no data is.
    """
    align = int(ready.scalars[0])
    end = int(ready.out[5]) + stored_bits(datapath.layer.out_shape, datapath.workload.out_bits, align)
    image = np.full(-(-max(end, measure_table(table)) // 8), fill, np.uint8)
    if weight is not None and (table["op"] == LOAD_W).any():
        store_weights(image, datapath, mapping, weight, align)
    for row, array in zip(ready.operands, operands, strict=True):
        store_tensor(image, int(row[5]), array, int(row[4]), align)
    return image


def measure_table(table: npt.NDArray[np.void]) -> int:
    """Return one past the last bit that any instruction moves."""
    last = table["address"] + table["run_bits"]
    for level in "012":
        last = last + (table[f"count{level}"] - 1).clip(0) * table[f"stride{level}"]
    return int(last[table["bits"] > 0].max(initial=0))


def list_run_bits(record: np.void) -> Int64:
    """Return the addresses of the bits that an instruction moves, in the order in which they are moved, int64."""
    at = np.int64(record["address"])
    for level in "210":
        at = np.add.outer(at, np.arange(record[f"count{level}"], dtype=np.int64) * record[f"stride{level}"])
    return np.asarray(np.add.outer(at, np.arange(record["run_bits"], dtype=np.int64)).ravel(), np.int64)


def _shape_of(array: npt.NDArray[Any]) -> Shape:
    n, channels, height, width = array.shape
    return (n, channels, height, width)
