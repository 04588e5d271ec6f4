"""The space of mappings that is searched: canonical tilings and loop orders."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import lcm

import numpy as np

from hwsim.core.datapath import Datapath
from hwsim.core.layer import Layer
from hwsim.core.mapping import ORDERS, TILE_DIMS, C, G, Int64, K, Q
from hwsim.core.tile_sums import count_tiles, list_tile_sizes
from hwsim.engine.lower import count_byte_elements

ORDER_CODES = np.array([["MKC".index(loop) for loop in order] for order in ORDERS], np.int64)
"""Loop orders as the kernels take them, int64 [6, 3]."""


def list_sizes(extent: int, quantum: int) -> list[int]:
    """Return tile sizes of one dimension: ``extent`` cut into 1, 2, 3, 4, 6, 8, 12 ... equal parts, rounded up to the quantum."""
    sizes = {extent}
    parts = 1
    while parts <= extent:
        for count in (parts, parts * 3 // 2):
            size = -(-extent // max(count, 1))
            sizes.add(min(extent, -(-size // quantum) * quantum))
        parts *= 2
    sizes.add(min(extent, quantum))
    return sorted(sizes, reverse=True)


def choose_quantum(datapath: Datapath, finest: bool = False) -> tuple[int, ...]:
    """Return what tile sizes are multiples of: the engine's quantum, and whole bytes of outputs that share a stored row."""
    layer, bits = datapath.layer, datapath.workload.out_bits
    quantum = list(datapath.finest_quantum() if finest else datapath.quantum())
    if layer.P == layer.Q == 1:  # stored as one row of channels
        quantum[K] = lcm(quantum[K], count_byte_elements(bits))
        quantum[G] = lcm(quantum[G], count_byte_elements(layer.K * bits))
    else:
        quantum[Q] = lcm(quantum[Q], count_byte_elements(bits))
    return tuple(quantum)


def sum_output_tiles(layer: Layer, tilings: Int64, value: Callable[[Int64], Int64]) -> Int64:
    """Return the sum over the output tiles of each tiling, int64 [candidates], of ``value(size)``; C is left whole.

    Parameters
    ----------
    tilings : int64 [candidates, 6]
    value : callable
        From sizes, int64 [sizes, 6], to int64 [sizes].
    """
    whole = tilings.copy()
    whole[:, C] = layer.C
    sizes = list_tile_sizes(layer, whole)
    return sizes.add_up(value(sizes.size))


def list_tilings(datapath: Datapath, finest: bool = False) -> Int64:
    """Return every canonical tiling of a layer, int64 [candidates, 6] along N G K C P Q.

    Canonical: several groups in a tile only with all of their channels; several images only whole ones; part of a row
    only one row at a time. Others would cut what lies together in memory without any reuse in return. No output tile ends
    inside a byte.

    Parameters
    ----------
    finest : bool
        Cut below the engine's quantum, where nothing at it fits the buffers.
    """
    layer = datapath.layer
    quantum = choose_quantum(datapath, finest)
    sizes = [list_sizes(getattr(layer, dim), step) for dim, step in zip(TILE_DIMS, quantum, strict=True)]
    tilings = []
    pixels = [(n, layer.P, layer.Q) for n in sizes[0] if n > 1]
    if quantum[0] == 1 or layer.N == 1:
        pixels += [(1, p, layer.Q) for p in sizes[4]]
        if datapath.splits_rows:
            pixels += [(1, 1, q) for q in sizes[5] if q < layer.Q]
    channels = [(g, layer.K, layer.C) for g in sizes[1] if g > 1]
    if quantum[1] == 1 or layer.G == 1:
        channels += [(1, k, c) for k, c in product(sizes[2], sizes[3])]
    for (n, p, q), (g, k, c) in product(pixels, channels):
        tilings.append((n, g, k, c, p, q))
    return np.array(tilings, np.int64)


def select_orders(layer: Layer, tilings: Int64) -> np.ndarray:
    """Return which orders differ for each tiling, bool [candidates, 6]: a loop of one step may stand anywhere."""
    counts = count_tiles(layer, tilings)
    loops = np.stack([counts[:, 0] * counts[:, 4] * counts[:, 5], counts[:, 2], counts[:, 3]], axis=1) > 1
    chosen = np.zeros((len(tilings), len(ORDERS)), bool)
    for pattern in product((False, True), repeat=3):
        rows = (loops == pattern).all(axis=1)
        seen: set[str] = set()
        for index, order in enumerate(ORDERS):
            key = "".join(loop for loop in order if pattern["MKC".index(loop)])
            if key not in seen:
                seen.add(key)
                chosen[rows, index] = True
    return chosen
