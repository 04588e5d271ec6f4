"""Times and accesses of a layer on the row-stationary array.

Source: Chen et al., Eyeriss (ISCA 2016, JSSC 2017). A *set* of R x e elements makes e output rows: element (i, j) convolves row i
of a filter with the input row under output row j, and the R partial sums of a column are added up the array. An element holds
p filters and q channels, so it makes p q S products for each output column from p q S weights and q S inputs in its
registers. Sets of r neighbouring groups of channels stand one above the other, their columns chained; further sets take other
blocks of p filters (t of them, inputs shared), other groups, other strips of e rows and other images (weights shared), in this
order, as far as the array goes. R larger than the array is folded, e balanced over the strips, p, q and r over their extents.

A tile runs, outer to inner::

    for each batch of groups, batch of filter blocks, batch of channels, fold of the filter's rows      a round
        gap: load the weights, ``w_port_words`` a cycle, while the last sums of the round before leave
        for each batch of strips and images                                                            a run
            first: deliver the first windows, ``i_port_words`` a cycle
            for each output column                                                                     a step
                at once: p q S products in every element; inputs of the next column; for each sum of the column before
                a word of ``o_port_words`` filters is read from obuf, added to, and written

A step takes the longest of the three, all elements wait for one another at its end; a narrower batch takes as long as a full
one. Sums leave in order: a column's are read and written one step behind its products, those of a run's last column in the
first step of the next run, of a round's last in the gap, of a tile's last in the ``tail`` (sums, chain, pipeline). A round's
first run begins when the array is empty. In a cycle ``wbuf`` gives ``w_port_words`` elements, ``ibuf`` ``i_port_words``, ``obuf``
reads one word and writes one. Zeros outside the tensor are made by the sender and take their cycles. Operands of any width
take a word of 16 bits on buses and in registers: fewer bits save storage, traffic and energy, not time.

``obuf`` holds words of ``o_port_words`` filters of a group: with one filter a group (depthwise) the rest of the word is empty.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from hwsim.archs.eyeriss.choose import choose_arrangement
from hwsim.archs.eyeriss.schedule import Arrangement, Counts, count_tile, describe_filter
from hwsim.core.actions import Action
from hwsim.core.datapath import Datapath, ExecTimes, Totals, Workload
from hwsim.core.mapping import Boxes, Int64, Mapping
from hwsim.core.psums import count_word_slots, list_word_places
from hwsim.core.tile_sums import sum_fields

if TYPE_CHECKING:
    from hwsim.archs.eyeriss.spec import Eyeriss

_choose = lru_cache(maxsize=4096)(choose_arrangement)


class EyerissDatapath(Datapath):
    """One layer on the row-stationary array."""

    def __init__(self, workload: Workload, arch: Eyeriss) -> None:
        super().__init__(workload)
        self.arch = arch
        self.window = describe_filter(self.layer, arch)
        self.how: Arrangement = _choose(self.layer.shape_key(), arch)

    def quantum(self) -> tuple[int, int, int, int, int, int]:
        """Return the sizes of the arrangement: whole blocks of filters, channels that stand on the array, strips."""
        layer, how = self.layer, self.how
        return (1, 1, min(int(how.p), layer.K), min(int(how.q * how.r), layer.C), min(int(how.e), layer.P), 1)

    def count_tiles(self, size: Int64) -> Counts:
        """Return what tiles of ``size[tiles, 6]`` take."""
        return count_tile(tuple(size.T), self.window, self.arch, self.how)

    def exec_times(self, boxes: Boxes) -> ExecTimes:
        """Return the times of tiles; loading weights and first windows is fill."""
        found = self.count_tiles(boxes.size)
        return ExecTimes(found.cycles, found.fill, found.drain)

    def sum_tiles(self, tiles: Int64) -> Totals:
        """Return sums over all tiles."""
        sums, fmt = sum_fields(self.layer, tiles, self.count_tiles), self.workload.fmt
        psums = (2 * sums.o_writes - self.layer.out_elements) * self.arch.shell.psum_bits
        return Totals(sums.cycles, sums.w_reads * fmt.w_bits, sums.i_reads * fmt.a_bits, psums)

    def psum_slots(self, size: Int64) -> Int64:
        """Return the accumulators of whole words of ``o_port_words`` filters of a group."""
        return count_word_slots(size, self.arch.o_port_words)

    def psum_places(self, size: Int64) -> Int64:
        """Return where elements n, g, k, p, q stand: by group, block of filters, pixel."""
        return list_word_places(size, self.arch.o_port_words)

    def count_actions(self, mapping: Mapping) -> tuple[Action, ...]:
        """Return products, accesses of the elements' registers, words on the network, accesses of buffers."""
        fmt, psum, macs = self.workload.fmt, self.arch.shell.psum_bits, self.layer.macs
        found = sum_fields(self.layer, np.array([mapping.tile], np.int64), self.count_tiles)
        count = {name: int(total[0]) for name, total in zip(Counts._fields, found, strict=True)}
        outputs = self.layer.out_elements
        return (
            Action(component="mac", verb="mac", count=macs, bits=(fmt.w_bits, fmt.a_bits, psum)),
            Action(component="array", verb="add", count=count["hops"], bits=(psum,)),
            Action(component="weights", verb="rf", count=macs + count["w_writes"], bits=(fmt.w_bits,)),
            Action(component="inputs", verb="rf", count=macs + count["i_writes"], bits=(fmt.a_bits,)),
            Action(component="sums", verb="rf", count=2 * macs, bits=(psum,)),
            Action(component="network", verb="noc", count=count["w_writes"], bits=(fmt.w_bits,)),
            Action(component="network", verb="noc", count=count["i_writes"], bits=(fmt.a_bits,)),
            Action(
                component="network", verb="noc", count=count["hops"] + 2 * count["o_writes"] - outputs, bits=(psum,)
            ),
            Action(component="wbuf", verb="read", count=count["w_reads"] * fmt.w_bits),
            Action(component="ibuf", verb="read", count=count["i_reads"] * fmt.a_bits),
            Action(component="obuf", verb="write", count=count["o_writes"] * psum),
            Action(component="obuf", verb="read", count=(count["o_writes"] - outputs) * psum),
        )

    def peak_macs_per_cycle(self) -> float:
        """Return the number of elements."""
        return float(self.arch.rows * self.arch.cols)
