"""What an architecture says about one layer: times of tiles, storage of weights, counts of actions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hwsim.core import storage
from hwsim.core.bits import Bits
from hwsim.core.layer import Layer
from hwsim.core.mapping import Boxes, C, G, Int64, K, Mapping, N, P, Q
from hwsim.core.policy import LayerFormat
from hwsim.core.tile_sums import list_tile_sizes, sum_over_sizes

if TYPE_CHECKING:
    from hwsim.core.actions import Action
    from hwsim.core.tensors import Array

VECTOR_PIPELINE_CYCLES = 13
"""Cycles behind an EXEC of the vector unit until its last results stand in ``obuf``: the stages of `accel_rtl.shell.vector`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A layer at its number formats: all that its cost depends on, but for data.

    Parameters
    ----------
    layer : Layer
        The layer.
    fmt : LayerFormat
        Its policy.
    out_bits : int
        Bits of a stored output element.
    operand_bits : tuple of int
        Bits of each activation operand as stored; the first is the input of a MAC layer.
    operand_shapes : tuple
        Shapes of the activation operands, ``[N, C, H, W]`` each.
    """

    layer: Layer
    fmt: LayerFormat
    out_bits: int
    operand_bits: tuple[int, ...]
    operand_shapes: tuple[tuple[int, int, int, int], ...]

    def key(self) -> Workload:
        """Return the workload without its name: equal keys have equal costs where no data matters."""
        from dataclasses import replace

        return replace(self, layer=self.layer.shape_key())


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWeights:
    """Weights in a codec, as they are stored and used (not hashable, never stored).

    Parameters
    ----------
    integers : ndarray
        What the datapath multiplies by, ``[G*K, C, R, S]``.
    scale : ndarray float64 [G*K]
        Real value of one unit, per filter.
    codec : object
        The stored form, as the architecture's own datapath reads it.
    bits : int
        Bits of an integer.
    grid : str
        Which integers the stored form holds: ``all``; ``powers`` of two and zero; ``odd``; a ``table``'s.
    """

    integers: Array
    scale: Array
    codec: Any
    bits: int = 8
    grid: str = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerData:
    """Real tensors of a layer, for datapaths whose time depends on data (not hashable, never stored).

    Parameters
    ----------
    activation : ndarray
        Integer input activations as stored, ``[N, G*C, H, W]``.
    zero_point : int
        Stored integer that stands for zero.
    codec : object
        `StoredWeights.codec`, or None for dense weights.
    """

    activation: Array
    zero_point: int = 0
    codec: Any = None


@dataclass(frozen=True, slots=True)
class ExecTimes:
    """Times of tiles in the exec unit, cycles.

    Attributes
    ----------
    busy, fill, tail : ndarray int64 [tiles]
        Cycles that the engine is occupied; of these, cycles of pipeline fill; cycles after that until the results stand in
        ``obuf`` while the engine is free for the next tile.
    """

    busy: Int64
    fill: Int64
    tail: Int64


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all tiles of a layer, for many candidate tilings at once.

    Attributes
    ----------
    busy : ndarray int64 [candidates]
        Exec cycles.
    wbuf_read_bits, ibuf_read_bits, psum_bits : ndarray int64 [candidates]
        Bits that the engine reads from ``wbuf`` and ``ibuf``, and bits of partial sums it reads and writes in ``obuf``.
    """

    busy: Int64
    wbuf_read_bits: Int64
    ibuf_read_bits: Int64
    psum_bits: Int64


def list_buffer_accesses(sums: Totals, out_elements: int, psum_bits: int) -> tuple[Action, ...]:
    """Return the accesses of ``wbuf``, ``ibuf`` and ``obuf`` by the engine, from the sums of one tiling.

    Every output is written once for each tile that adds to it, and read for each of them but the first.
    """
    from hwsim.core.actions import Action

    outputs, moved = out_elements * psum_bits, int(sums.psum_bits[0])
    return (
        Action(component="wbuf", verb="read", count=int(sums.wbuf_read_bits[0])),
        Action(component="ibuf", verb="read", count=int(sums.ibuf_read_bits[0])),
        Action(component="obuf", verb="write", count=(moved + outputs) // 2),
        Action(component="obuf", verb="read", count=(moved - outputs) // 2),
    )


class Datapath(ABC):
    """One layer on one architecture's engine.

    Parameters
    ----------
    workload : Workload
        The layer at its formats.
    """

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.layer: Layer = workload.layer

    def quantum(self) -> tuple[int, int, int, int, int, int]:
        """Return what tile sizes along N, G, K, C, P, Q should be multiples of (the last tile may be ragged)."""
        return (1, 1, 1, 1, 1, 1)

    def finest_quantum(self) -> tuple[int, int, int, int, int, int]:
        """Return the same where nothing fits the buffers so: smaller tiles leave part of the engine idle; by default none are."""
        return self.quantum()

    @property
    def splits_rows(self) -> bool:
        """Whether a tile may be part of one row of pixels, whatever the quantum's rows are."""
        return True

    @abstractmethod
    def exec_times(self, boxes: Boxes) -> ExecTimes:
        """Return the times of tiles."""

    @abstractmethod
    def sum_tiles(self, tiles: Int64) -> Totals:
        """Return the sums over all tiles of each candidate ``tiles[candidates, 6]``, exact."""

    @abstractmethod
    def count_actions(self, mapping: Mapping) -> tuple[Action, ...]:
        """Return what the engine did, memory and ``obuf`` write-back left out (the shell counts those)."""

    def weight_tile_bits(self, boxes: Boxes) -> Int64:
        """Return the stored bits of the weights of each tile, tables, index and basis included; see `hwsim.core.storage`."""
        if self.layer.kind != "mac":
            return np.zeros(len(boxes), np.int64)
        size, fmt = boxes.size, self.workload.fmt
        each = size[:, C] * self.layer.R * self.layer.S
        if fmt.channel_bits:
            total, lo, hi = storage.sum_filter_bits(self.layer, fmt), boxes.lo, boxes.hi
            up, down = (total[side, hi[:, K]] - total[side, lo[:, K]] for side in (hi[:, G], lo[:, G]))
            return np.asarray((up - down) * each)
        return np.asarray(size[:, G] * size[:, K] * each * fmt.w_bits + storage.count_table_bits(fmt))

    def largest_weight_tile(self, tiles: Int64) -> Int64:
        """Return the stored bits of the largest weight tile of each candidate ``tiles[candidates, 6]``."""
        return self.weight_tile_bits(Boxes(np.zeros_like(tiles), tiles))

    def sum_weight_tiles(self, tiles: Int64, align: int) -> tuple[Int64, Int64]:
        """Return moved bits of all weight tiles, each once and aligned, and of the first, for each candidate."""
        if self.layer.kind != "mac":
            zero = np.zeros(len(tiles), np.int64)
            return zero, zero
        lay, fmt = self.layer, self.workload.fmt
        if fmt.channel_bits:
            bits = storage.sum_filter_bits(lay, fmt)
            distinct, back = np.unique(tiles[:, [G, K, C]], axis=0, return_inverse=True)
            sums = [storage.sum_block_tiles(lay, bits, tuple(tile), align) for tile in distinct.tolist()]
            moved, first = np.array(sums, np.int64).T
            return np.ascontiguousarray(moved[back]), np.ascontiguousarray(first[back])
        unit, head = lay.R * lay.S * fmt.w_bits, storage.count_table_bits(fmt)

        def aligned(count: Int64) -> Int64:
            return -(-(count * unit + head) // align) * align

        total = sum_over_sizes(lay, tiles, "GKC", lambda g, k, c: aligned(g * k * c))
        return total, aligned(tiles[:, G] * tiles[:, K] * tiles[:, C])

    def weight_storage_bits(self) -> int:
        """Return the stored bits of all weights of the layer."""
        fmt, layer = self.workload.fmt, self.layer
        if layer.kind != "mac":
            return 0
        if fmt.channel_bits:
            return sum(bits * filters for bits, filters in fmt.channel_bits) * layer.C * layer.R * layer.S
        return layer.weights * fmt.w_bits + storage.count_table_bits(fmt)

    def psum_slots(self, size: Int64) -> Int64:
        """Return how many accumulators of ``obuf`` tiles of ``size[tiles, 6]`` take, unused ones of their words included.

        This is what a spill moves and what has to fit a bank. One for each element by default.
        """
        return np.asarray(size[:, N] * size[:, G] * size[:, K] * size[:, P] * size[:, Q], np.int64)

    def psum_places(self, size: Int64) -> Int64:
        """Return which accumulator of the bank each element of a tile of ``size[6]`` takes, int64 [elements].

        Elements are in the order n, g, k, p, q; accumulators in that of the words of ``obuf``, column 0 first. All places differ
        and are less than `psum_slots`. One behind the other by default.
        """
        return np.arange(int(size[N] * size[G] * size[K] * size[P] * size[Q]), dtype=np.int64)

    def most_weight_bits(self, align: int) -> int:
        """Return an upper bound of the bits that the weights take in memory, alignment of tiles included, however it is cut."""
        layer = self.layer
        tiles = layer.G * layer.K * layer.C if layer.kind == "mac" else 0
        return self.weight_storage_bits() + tiles * (align + storage.count_table_bits(self.workload.fmt))

    def pack_weights(self, weight: Array, lo: Int64, hi: Int64) -> Bits:
        """Return the stored bits of one weight tile, as many as `weight_tile_bits` says.

        By default in the order g, k, c, r, s, as `hwsim.core.storage` says.

        Parameters
        ----------
        weight : ndarray
            Integers of the layer that the engine multiplies by, ``[G*K, C, R, S]``; where channels differ in bits, filters in the
            order in which they are stored.
        lo, hi : ndarray int64 [6]
            The tile's box along ``TILE_DIMS``.
        """
        layer, fmt = self.layer, self.workload.fmt
        return storage.pack_tile(layer.name, fmt, weight, self.cut_weights(weight, lo, hi), self._list_bits(lo, hi))

    def cut_weights(self, weight: Array, lo: Int64, hi: Int64) -> Int64:
        """Return a tile of the weights ``[G*K, C, R, S]``, int64 [filters, elements]."""
        layer = self.layer
        blocks = np.asarray(weight).reshape(layer.G, layer.K, layer.C, layer.R, layer.S)
        tile = blocks[lo[G] : hi[G], lo[K] : hi[K], lo[C] : hi[C]].astype(np.int64)
        return tile.reshape(int((hi[G] - lo[G]) * (hi[K] - lo[K])), -1)

    def unpack_weights(self, bits: Bits, lo: Int64, hi: Int64, signed: bool) -> Int64:
        """Return the integers that the engine multiplies by, from the bits of one weight tile: int64 ``[g, k, c, R, S]``."""
        size = hi - lo
        values = storage.unpack_tile(self.workload.fmt, bits, self._list_bits(lo, hi), signed)
        if not values.size:  # pruned filters alone take no bits
            values = np.zeros(int(size[G] * size[K] * size[C]) * self.layer.R * self.layer.S, np.int64)
        return values.reshape(size[G], size[K], size[C], self.layer.R, self.layer.S)

    def _list_bits(self, lo: Int64, hi: Int64) -> Int64:
        """Return the bits of each filter of a tile, int64 [filters]."""
        return storage.list_filter_bits(self.layer, self.workload.fmt)[lo[G] : hi[G], lo[K] : hi[K]].ravel()

    def peak_macs_per_cycle(self) -> float:
        """Return the multiply-accumulates a cycle of the fully used engine at this layer's formats."""
        return 1.0

    def fingerprint(self) -> str:
        """Return what times depend on besides the workload: a digest of the data, empty where no data matters."""
        return ""

    def notes(self) -> tuple[str, ...]:
        """Return what a reader of this layer's figures should know."""
        return ()


class VectorDatapath(Datapath):
    """The shell's vector unit: pooling, addition and other elementwise work, ``lanes`` elements a cycle.

    Work per output element: one step for ``add``, ``mul``, ``activation`` (a look-up) and ``scale``; R*S for a pooling; three
    passes for ``softmax`` (maximum, exponential and sum, division) and ``size + 2`` for ``lrn`` (unverified: no RTL of these two).
    Results stand in ``obuf`` ``VECTOR_PIPELINE_CYCLES`` later, one behind the other in the order n, g, k, p, q.
    """

    def __init__(self, workload: Workload, lanes: int) -> None:
        super().__init__(workload)
        self.lanes = lanes

    def work_per_element(self) -> int:
        """Return the vector steps of one output element."""
        op = self.layer.op
        if op in ("maxpool", "avgpool"):
            return self.layer.R * self.layer.S
        if op == "softmax":
            return 3
        if op == "lrn":
            return int(self.layer.attr("size", 5)) + 2  # type: ignore[arg-type]
        return max(1, len(self.layer.inputs) - 1)

    def exec_times(self, boxes: Boxes) -> ExecTimes:
        """Return the times of tiles: elements times work over lanes, rounded up; the unit's pipeline behind them."""
        size = boxes.size
        elements = size[:, N] * size[:, G] * size[:, P] * size[:, Q]
        zero, tail = np.zeros(len(boxes), np.int64), np.full(len(boxes), VECTOR_PIPELINE_CYCLES, np.int64)
        return ExecTimes(self._count_cycles(elements), zero, tail)

    def _count_cycles(self, elements: Int64) -> Int64:
        return -(-elements * self.work_per_element() // self.lanes)

    def sum_tiles(self, tiles: Int64) -> Totals:
        """Return the sums over all tiles."""
        sizes = list_tile_sizes(self.layer, tiles, "NGPQ")
        busy = sizes.add_up(self._count_cycles(sizes.size.prod(axis=1)))
        zero = np.zeros(len(tiles), np.int64)
        reads = np.full(len(tiles), self._read_bits(), np.int64)
        return Totals(busy, zero, reads, zero)

    def _read_bits(self) -> int:
        """Bits read from ``ibuf``: every operand once, every window element of a pooling."""
        if self.layer.op in ("maxpool", "avgpool"):
            return self.layer.out_elements * self.layer.R * self.layer.S * self.workload.operand_bits[0]
        return sum(self.layer.out_elements * bits for bits in self.workload.operand_bits)

    def count_actions(self, mapping: Mapping) -> tuple[Action, ...]:
        """Return vector steps and buffer reads."""
        from hwsim.core.actions import Action

        bits = max(*self.workload.operand_bits, self.workload.out_bits)
        verb = "compare" if self.layer.op == "maxpool" else "op"
        return (
            Action(
                component="vector", verb=verb, count=self.layer.out_elements * self.work_per_element(), bits=(bits,)
            ),
            Action(component="ibuf", verb="read", count=self._read_bits(), bits=()),
        )

    def peak_macs_per_cycle(self) -> float:
        """Return 0: the vector unit multiplies no weights."""
        return 0.0
