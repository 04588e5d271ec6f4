"""The space of mappings that is searched: canonical tilings and loop orders."""

from __future__ import annotations

from itertools import product

import numpy as np

from hwsim.core.datapath import Datapath, count_tiles
from hwsim.core.layer import Layer
from hwsim.core.mapping import ORDERS, TILE_DIMS, Int64

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


def list_tilings(datapath: Datapath) -> Int64:
    """Return every canonical tiling of a layer, int64 [candidates, 6] along N G K C P Q.

    Canonical: several groups in a tile only with all of their channels; several images only whole ones; part of a row
    only one row at a time. Others would cut what lies together in memory without any reuse in return.
    """
    layer = datapath.layer
    sizes = [
        list_sizes(getattr(layer, dim), quantum) for dim, quantum in zip(TILE_DIMS, datapath.quantum(), strict=True)
    ]
    tilings = []
    quantum = datapath.quantum()
    pixels = [(n, layer.P, layer.Q) for n in sizes[0] if n > 1]
    if quantum[0] == 1 or layer.N == 1:
        pixels += [(1, p, layer.Q) for p in sizes[4]]
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
