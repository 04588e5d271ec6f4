"""Times and buffer accesses of a layer on DianNao, in closed form.

Source: Chen et al., DianNao (ASPLOS 2014). The neural functional unit takes a row of ``inputs`` activations from NBin (`ibuf`) and
of ``outputs * inputs`` weights from SB (`wbuf`) a cycle, multiplies (NFU-1), adds the products of each output in a tree and to
its partial sum (NFU-2). NFU-3, the transfer function, is the shell's store unit.

Loops of a tile, outermost first: groups, blocks of ``outputs`` filters, pixels (n, p, q), places of the window (r, s), blocks of
``inputs`` channels. The innermost two are the cycles, *steps*, of a pixel:

    steps = R S ceil(C / inputs)          busy = G ceil(K / outputs) N P Q steps

C is the tile's. A step takes channels of one place of the window: layers of fewer channels than ``inputs`` (the first one;
depthwise layers, which have one, and one filter, a group) leave lanes unused, as in the paper. A fully connected layer is a window
of one place. The partial sums of a pixel stay in registers during its steps and go to a row of NBout (`obuf`) behind the last
one; a tile along C but the first adds them to what stands there.

Steps follow one another without a gap, over tiles too; what a result passes behind its last step is the ``tail``. Every product has
its own weight: SB is read for each of them, NBin once for all outputs; unused lanes are not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hwsim.core.actions import Action
from hwsim.core.datapath import Datapath, ExecTimes, Totals, Workload, list_buffer_accesses
from hwsim.core.mapping import Boxes, C, G, Int64, K, Mapping, N, P, Q
from hwsim.core.psums import count_word_slots, list_word_places
from hwsim.core.tile_sums import count_tiles, sum_over_tiles

if TYPE_CHECKING:
    from hwsim.archs.diannao.spec import DianNao

PIPELINE_CYCLES = 6
"""Registers of a step besides the levels of the adder tree: addresses, both buffers' words, NFU-1, partial sum, `obuf` read and
written; no RTL yet (unverified)."""


class DianNaoDatapath(Datapath):
    """One layer on DianNao."""

    def __init__(self, workload: Workload, arch: DianNao) -> None:
        super().__init__(workload)
        self.arch = arch
        self.window = self.layer.R * self.layer.S

    def quantum(self) -> tuple[int, int, int, int, int, int]:
        """Return the unit's own sizes: filters by outputs, channels by inputs."""
        return (1, 1, self.arch.outputs, min(self.arch.inputs, self.layer.C), 1, 1)

    def finest_quantum(self) -> tuple[int, int, int, int, int, int]:
        """Return single filters and channels."""
        return (1, 1, 1, 1, 1, 1)

    def count_steps(self, channels: Int64) -> Int64:
        """Return the cycles of one output pixel with so many channels in its tile."""
        return np.asarray(self.window * -(-channels // self.arch.inputs))

    def exec_times(self, boxes: Boxes) -> ExecTimes:
        """Return the times of tiles."""
        size = boxes.size
        pixels = size[:, N] * size[:, P] * size[:, Q]
        busy = size[:, G] * -(-size[:, K] // self.arch.outputs) * pixels * self.count_steps(size[:, C])
        tail = np.full(len(boxes), (self.arch.inputs - 1).bit_length() + PIPELINE_CYCLES, np.int64)
        return ExecTimes(busy, np.zeros(len(boxes), np.int64), tail)

    def psum_slots(self, size: Int64) -> Int64:
        """Return the accumulators of whole rows of NBout, one of all outputs."""
        return count_word_slots(size, self.arch.outputs)

    def psum_places(self, size: Int64) -> Int64:
        """Return where elements n, g, k, p, q stand: by group, block of filters, pixel."""
        return list_word_places(size, self.arch.outputs)

    def sum_tiles(self, tiles: Int64) -> Totals:
        """Return sums over all tiles."""
        lay, fmt, ones = self.layer, self.workload.fmt, np.ones(len(tiles), np.int64)
        blocks = sum_over_tiles(lay.K, tiles[:, K], lambda k: -(-k // self.arch.outputs))
        steps = sum_over_tiles(lay.C, tiles[:, C], self.count_steps)
        pixels = lay.N * lay.P * lay.Q
        writes = lay.out_elements * count_tiles(lay, tiles)[:, C]
        return Totals(
            np.asarray(lay.G * blocks * pixels * steps * ones, np.int64),
            np.asarray(lay.macs * fmt.w_bits * ones, np.int64),
            np.asarray(lay.G * pixels * lay.C * self.window * blocks * fmt.a_bits * ones, np.int64),
            np.asarray((2 * writes - lay.out_elements) * self.arch.shell.psum_bits, np.int64),
        )

    def count_actions(self, mapping: Mapping) -> tuple[Action, ...]:
        """Return multiply-accumulates (an adder of tree or sum for each product) and buffer accesses."""
        lay, fmt, psum = self.layer, self.workload.fmt, self.arch.shell.psum_bits
        sums = self.sum_tiles(np.array([mapping.tile], np.int64))
        return (
            Action(component="mac", verb="mac", count=lay.macs, bits=(fmt.w_bits, fmt.a_bits, psum)),
            *list_buffer_accesses(sums, lay.out_elements, psum),
        )

    def peak_macs_per_cycle(self) -> float:
        """Return the multipliers."""
        return float(self.arch.outputs * self.arch.inputs)
