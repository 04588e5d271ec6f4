"""Sums over all tiles of a layer, of many candidate tilings at once: exact, by size instead of tile by tile.

Along a dimension all tiles are as large as the candidate says but the last, which may be ragged. So a tiling has at most two
sizes a dimension; of each combination of them there are known many tiles. What depends on the size of a tile alone is computed
once a combination.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple, TypeVar

import numpy as np

from hwsim.core.layer import Layer
from hwsim.core.mapping import TILE_DIMS, Int64

Fields = TypeVar("Fields", bound=NamedTuple)


@dataclass(frozen=True, slots=True)
class TileSizes:
    """The sizes that the tiles of candidates have, one an entry.

    Attributes
    ----------
    candidates : int
        Tilings.
    owner, count : ndarray int64 [entries]
        Which candidate has tiles of this size, and how many (one at least).
    size : ndarray int64 [entries, dims]
        Extents along the dimensions asked for.
    """

    candidates: int
    owner: Int64
    count: Int64
    size: Int64

    def add_up(self, value: Int64) -> Int64:
        """Return the sum over all tiles of each candidate, int64 [candidates]; ``value`` int64 [entries] is that of one tile."""
        total = np.zeros(self.candidates, np.int64)
        np.add.at(total, self.owner, value * self.count)
        return total


def list_extents(layer: Layer, dims: str = TILE_DIMS) -> Int64:
    """Return the extents of a layer along dimensions, int64 [dims]."""
    return np.array([getattr(layer, dim) for dim in dims], np.int64)


def list_tile_sizes(layer: Layer, tiles: Int64, dims: str = TILE_DIMS) -> TileSizes:
    """Return every combination of full and ragged sizes of each candidate.

    Parameters
    ----------
    layer : Layer
        What is cut.
    tiles : ndarray int64 [candidates, 6]
        Tile sizes along ``TILE_DIMS``; larger ones than the layer stand for all of it.
    dims : str
        Dimensions that count, of ``TILE_DIMS``; tiles are those of the layer cut along these alone.
    """
    extents = list_extents(layer, dims)
    sizes = np.minimum(tiles[:, [TILE_DIMS.index(dim) for dim in dims]], extents)
    full, rest = extents // sizes, extents % sizes
    cut = np.flatnonzero(rest.any(axis=0))
    owners, counts, found = [], [], []
    for chosen in product((False, True), repeat=len(cut)):
        ragged = np.zeros(len(dims), bool)
        ragged[cut] = chosen
        count = np.where(ragged, rest > 0, full).prod(axis=1)
        there = np.flatnonzero(count)
        owners.append(there)
        counts.append(count[there])
        found.append(np.where(ragged, rest, sizes)[there])
    return TileSizes(len(tiles), np.concatenate(owners), np.concatenate(counts), np.concatenate(found))


def sum_over_sizes(layer: Layer, tiles: Int64, dims: str, value: Callable[..., Int64]) -> Int64:
    """Return the sum over the tiles along ``dims`` of ``value(*sizes)``, int64 [candidates]; ``tiles`` as `list_tile_sizes` says.

    ``value`` takes an int64 array for each of ``dims``, and returns one of their shape.
    """
    sizes = list_tile_sizes(layer, tiles, dims)
    return sizes.add_up(value(*sizes.size.T))


def sum_fields(layer: Layer, tiles: Int64, value: Callable[[Int64], Fields]) -> Fields:
    """Return the sums over all tiles of each candidate of the fields of ``value``: int64 [candidates] each.

    ``value`` takes sizes along ``TILE_DIMS``, int64 [entries, 6], and returns a named tuple of int64 [entries].
    """
    sizes = list_tile_sizes(layer, tiles)
    found = value(sizes.size)
    return found._make(sizes.add_up(one) for one in found)


def sum_over_tiles(extent: int, tile: Int64, value: Any) -> Int64:
    """Return the sum over the tiles of one dimension of ``value(size)``.

    Parameters
    ----------
    extent : int
        Size of the dimension.
    tile : ndarray int64 [candidates]
        Tile sizes.
    value : callable
        From an int64 array of sizes to an array of the same shape; called with the full and the ragged size.
    """
    full = extent // tile
    rest = extent - full * tile
    return full * value(np.minimum(tile, extent)) + np.where(rest > 0, value(np.maximum(rest, 1)), 0)


def count_tiles(layer: Layer, tiles: Int64) -> Int64:
    """Return the number of tiles along each dimension, int64 [candidates, 6]."""
    return -(-list_extents(layer) // tiles)


def find_distinct(layer: Layer, size: Int64) -> tuple[Int64, Int64]:
    """Return the different rows of ``size[tiles, 6]``, int64 [distinct, 6], and which of them each tile is, int64 [tiles]."""
    # a number stands for a size: numbers are sorted faster than rows
    key = np.ravel_multi_index(tuple(size.T - 1), tuple(list_extents(layer)))
    _, first, back = np.unique(key, return_index=True, return_inverse=True)
    return size[first], back
