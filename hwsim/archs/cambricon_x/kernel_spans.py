"""Kernels of Cambricon-X: cycles and stored bits of tiles from the entries that each filter has in each span.

The machine and its points of waiting are defined in `hwsim.archs.cambricon_x.datapath`.
"""

from __future__ import annotations

import numpy as np

from hwsim.core.jit import kernel


@kernel
def count_tile(entries: np.ndarray, tile: np.ndarray, filters: int, machine: np.ndarray, found: np.ndarray) -> None:
    """Fill what a tile takes.

    Parameters
    ----------
    entries : int32 [filters of all groups, spans]
    tile : int64 [6]
        First and one past the last group, filter of a group, span.
    filters : int
        Filters of a group.
    machine : int64 [3]
        Groups of a set, processing elements, multipliers of one.
    found : int64 [3], filled
        Cycles of one output pixel, entries, segments stored.
    """
    set_groups, elements, multipliers = machine[0], machine[1], machine[2]
    cycles, stored, segments = 0, 0, 0
    for g0 in range(tile[0], tile[1], set_groups):
        g1 = min(g0 + set_groups, tile[1])
        for k0 in range(tile[2], tile[3], elements):
            k1 = min(k0 + elements, tile[3])
            for span in range(tile[4], tile[5]):
                most = 0
                for g in range(g0, g1):
                    for k in range(k0, k1):
                        count = entries[g * filters + k, span]
                        stored += count
                        segments += 1
                        most = max(most, count)
                cycles += max(1, -(-most // multipliers))
    found[0], found[1], found[2] = cycles, stored, segments


@kernel
def count_cuts(
    entries: np.ndarray,
    cuts: np.ndarray,
    groups: int,
    filters: int,
    machine: np.ndarray,
    widths: np.ndarray,
    found: np.ndarray,
) -> None:
    """Fill what all tiles of each cut take together.

    Parameters
    ----------
    entries : int32 [groups * filters, spans]
    cuts : int64 [cuts, 3]
        Groups, filters and spans of a tile.
    machine : int64 [3]
        As in `count_tile`.
    widths : int64 [3]
        Bits of an entry, of a segment's number of entries, of an alignment unit.
    found : int64 [cuts, 5], filled
        Cycles of one output pixel, entries, stored bits of the largest tile, aligned bits of all tiles, of the first.
    """
    tile = np.zeros(6, np.int64)
    one = np.zeros(3, np.int64)
    spans = entries.shape[1]
    for i in range(cuts.shape[0]):
        found[i, :] = 0
        for g in range(0, groups, cuts[i, 0]):
            for k in range(0, filters, cuts[i, 1]):
                for span in range(0, spans, cuts[i, 2]):
                    tile[0], tile[1] = g, min(g + cuts[i, 0], groups)
                    tile[2], tile[3] = k, min(k + cuts[i, 1], filters)
                    tile[4], tile[5] = span, min(span + cuts[i, 2], spans)
                    count_tile(entries, tile, filters, machine, one)
                    bits = one[1] * widths[0] + one[2] * widths[1]
                    moved = -(-bits // widths[2]) * widths[2]
                    found[i, 0] += one[0]
                    found[i, 1] += one[1]
                    found[i, 2] = max(found[i, 2], bits)
                    found[i, 3] += moved
                    if g == 0 and k == 0 and span == 0:
                        found[i, 4] = moved
