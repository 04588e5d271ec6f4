"""One layer on the chunk of its operator: times, buffer accesses, places of sums.

The loops inside a tile, ports and cycles of the four dataflows: `hwsim.archs.nasa.schedule`. Elements of the three chunks make, a
cycle each, from an activation x and a weight w:

========  ==============================================================  ==============================
multiply  x w                                                             a multiplier, an adder
shift     x shifted left by w's exponent, negated by its sign, 0 for its  a shifter, an adder
          code of zero (`hwsim.core.storage`)
add       -\\|x - w\\|: w's distance is subtracted from the sum             a subtracter, an adder-subtracter
========  ==============================================================  ==============================

Outside the tensor x is 0, as AdderNet pads: an adder layer's border pixels count -\\|w\\| there, no term is left out.

Registers behind a cycle of work (no RTL yet, unverified): two of a buffer's read, bus, operator, the tree that adds up a column's
rows, two of ``obuf``. Sums of a column come in a word of ``obuf``: by filters (``os``, ``ws``), by pixels (``is``), by blocks of
output rows (``rs``: a word holds, for one output column, e rows of h filters).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hwsim.archs.nasa.schedule import Counts, arrange_rows, count_flat, count_rows
from hwsim.core.actions import Action
from hwsim.core.datapath import Datapath, ExecTimes, Totals, Workload
from hwsim.core.mapping import Boxes, G, Int64, K, Mapping, N, P, Q
from hwsim.core.psums import count_word_slots, list_outputs, list_word_places
from hwsim.core.tile_sums import find_distinct, sum_fields

if TYPE_CHECKING:
    from hwsim.archs.nasa.spec import Nasa

PIPELINE_CYCLES = 6
"""Registers besides the tree's: see the module."""
LONG_NAMES = {"rs": "row stationary", "is": "input stationary", "ws": "weight stationary", "os": "output stationary"}


class NasaDatapath(Datapath):
    """One layer on a chunk."""

    def __init__(self, workload: Workload, arch: Nasa) -> None:
        super().__init__(workload)
        self.arch = arch
        self.chunk = arch.chunk(workload.fmt.operator)
        self.window = self.layer.R * self.layer.S
        self.rows = arrange_rows(self.layer, self.chunk) if self.chunk.dataflow == "rs" else None

    def quantum(self) -> tuple[int, int, int, int, int, int]:
        """Return the array's own sizes; ``rs`` takes whole rows of outputs, as many as it has columns for."""
        layer, chunk, rows = self.layer, self.chunk, self.rows
        if rows is not None:
            if rows.depthwise:
                return (1, min(rows.across, layer.G), 1, 1, rows.rows, layer.Q)
            return (1, 1, min(rows.across, layer.K), min(rows.above, layer.C), rows.rows, layer.Q)
        channels = 1 if chunk.dataflow == "os" else min(max(1, chunk.rows // self.window), layer.C)
        return (1, 1, 1 if chunk.dataflow == "is" else min(chunk.cols, layer.K), channels, 1, 1)

    def count_tiles(self, size: Int64) -> Counts:
        """Return what tiles of ``size[tiles, 6]`` take."""
        distinct, back = find_distinct(self.layer, size)
        if self.rows is None:
            found = count_flat(self.layer, self.chunk, distinct)
        else:
            found = count_rows(self.layer, self.chunk, self.rows, distinct)
        return Counts(*(one[back] for one in found))

    def exec_times(self, boxes: Boxes) -> ExecTimes:
        """Return the times of tiles: the first load is fill, the way through tree and buffer is tail."""
        found = self.count_tiles(boxes.size)
        drain = self.chunk.rows if self.chunk.dataflow == "os" else (self.chunk.rows - 1).bit_length()
        return ExecTimes(found.cycles, found.fill, np.full(len(boxes), PIPELINE_CYCLES + drain, np.int64))

    def sum_tiles(self, tiles: Int64) -> Totals:
        """Return sums over all tiles."""
        sums, fmt = sum_fields(self.layer, tiles, self.count_tiles), self.workload.fmt
        psums = (2 * sums.o_writes - self.layer.out_elements) * self.arch.shell.psum_bits
        return Totals(sums.cycles, sums.w_reads * fmt.w_bits, sums.i_reads * fmt.a_bits, psums)

    def psum_slots(self, size: Int64) -> Int64:
        """Return the accumulators of whole words of all columns."""
        cols, rows = self.chunk.cols, self.rows
        if rows is None:
            return count_word_slots(size, cols, of_pixels=self.chunk.dataflow == "is")
        filters = -(-size[:, G] // rows.across) if rows.depthwise else size[:, G] * -(-size[:, K] // rows.across)
        return np.asarray(size[:, N] * filters * -(-size[:, P] // rows.rows) * size[:, Q] * cols, np.int64)

    def psum_places(self, size: Int64) -> Int64:
        """Return where elements n, g, k, p, q stand: by group, block of columns, and what runs along it."""
        cols, rows = self.chunk.cols, self.rows
        if rows is None:
            return list_word_places(size, cols, of_pixels=self.chunk.dataflow == "is")
        n, g, k, p, q = list_outputs(size)
        one = g if rows.depthwise else k
        blocks = -(-size[G] // rows.across) if rows.depthwise else size[G] * -(-size[K] // rows.across)
        block = one // rows.across + (0 if rows.depthwise else g * -(-size[K] // rows.across))
        word = ((n * blocks + block) * -(-size[P] // rows.rows) + p // rows.rows) * size[Q] + q
        return np.asarray(word * cols + one % rows.across * rows.rows + p % rows.rows, np.int64)

    def count_actions(self, mapping: Mapping) -> tuple[Action, ...]:
        """Return the elements' operations, registers read at each and written by loads, registers of sums, buffer accesses."""
        fmt, psum, macs = self.workload.fmt, self.arch.shell.psum_bits, self.layer.macs
        sums = sum_fields(self.layer, np.array([mapping.tile], np.int64), self.count_tiles)
        writes, outputs, stood = int(sums.o_writes[0]), self.layer.out_elements, self._count_sums(sums)
        work = {
            "multiply": (Action(component="mac", verb="mult", count=macs, bits=(fmt.w_bits, fmt.a_bits)),),
            "shift": (Action(component="mac", verb="shift", count=macs, bits=(fmt.a_bits,)),),
            "add": (Action(component="mac", verb="add", count=macs, bits=(max(fmt.w_bits, fmt.a_bits) + 1,)),),
        }[self.chunk.operator]
        held = ((int(sums.w_writes[0]), fmt.w_bits), (int(sums.i_writes[0]), fmt.a_bits))
        return (
            *work,
            Action(component="sum", verb="add", count=macs, bits=(psum,)),
            Action(component="array", verb="register", count=macs, bits=(fmt.w_bits + fmt.a_bits,)),
            *(Action(component="array", verb="register", count=count, bits=(bits,)) for count, bits in held if count),
            *((Action(component="sum", verb="register", count=stood, bits=(psum,)),) if stood else ()),
            Action(component="wbuf", verb="read", count=int(sums.w_reads[0]) * fmt.w_bits),
            Action(component="ibuf", verb="read", count=int(sums.i_reads[0]) * fmt.a_bits),
            Action(component="obuf", verb="write", count=writes * psum),
            Action(component="obuf", verb="read", count=(writes - outputs) * psum),
        )

    def _count_sums(self, sums: Counts) -> int:
        """Return reads and writes of the registers that sums stand in or pass, of one tiling.

        An element that keeps a sum (``os``, ``rs``) reads and writes it at each operation; done ones of ``os`` are written to the
        shadow registers and read there; a register of a column's tree is written and read with each sum that passes.
        """
        kept = 2 * self.layer.macs if self.chunk.dataflow in ("os", "rs") else 0
        shadows = 2 * int(sums.o_writes[0]) if self.chunk.dataflow == "os" else 0
        return kept + shadows + 2 * int(sums.tree[0])

    def peak_macs_per_cycle(self) -> float:
        """Return the elements of the chunk."""
        return float(self.chunk.rows * self.chunk.cols)

    def notes(self) -> tuple[str, ...]:
        """Return which chunk runs the layer."""
        return (f"on {self.chunk.name} ({self.chunk.operator}), {LONG_NAMES[self.chunk.dataflow]}",)
