"""A mapping: how a layer is cut into tiles and in which order they run."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt

from hwsim.core.check import require_choice, require_int
from hwsim.core.layer import Layer

Int64 = npt.NDArray[np.int64]

TILE_DIMS = "NGKCPQ"
"""Dimensions that are tiled, in the order of every tile array; R and S are never cut."""
N, G, K, C, P, Q = range(6)
CYCLES_TIE = 0.005
"""By cycles, mappings whose cycles exceed the least by no more than this share count as equally fast."""
TIES = {"cycles": CYCLES_TIE, "least-cycles": 0.0}
"""Of objectives that count cycles alone: the share by which a mapping of less energy may be slower than the fastest."""
ORDERS = tuple("".join(order) for order in permutations("MKC"))
"""Loop orders, outer to inner; ``M`` is the pixel block N, P, Q in that order. Groups are the outermost loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """Tile sizes and loop order of one layer, with what the search knows about them.

    Parameters
    ----------
    tile : tuple of int
        Tile sizes along ``TILE_DIMS``.
    order : str
        One of ``ORDERS``.
    objective : str
        What was minimized: ``cycles``, ``least-cycles``, ``energy`` or ``edp``.
    value, lower_bound : float
        The objective's value, and the bound below which no mapping of the space lies. By cycles the value may exceed it by
        ``CYCLES_TIE``: of mappings as fast, one of least energy is taken.
    evaluated, candidates : int
        Mappings timed, and mappings in the search space.
    """

    tile: tuple[int, int, int, int, int, int]
    order: str
    objective: str = "given"
    value: float = 0.0
    lower_bound: float = 0.0
    evaluated: int = 0
    candidates: int = 0

    def __post_init__(self) -> None:
        for dim, size in zip(TILE_DIMS, self.tile, strict=True):
            require_int(f"mapping.tile.{dim}", size, 1)
        require_choice("mapping.order", self.order, ORDERS)

    @property
    def proven(self) -> bool:
        """Whether no mapping of the search space is better, by cycles: better by more than ``CYCLES_TIE``."""
        return self.value <= self.lower_bound * (1 + TIES.get(self.objective, 0.0))

    @property
    def tie(self) -> str:
        """What follows *proven best* in reports: the share that less energy may have cost, if any."""
        tie = TIES.get(self.objective, 0.0)
        return f" within {100 * tie:g} %" if tie else ""

    def tile_counts(self, layer: Layer) -> tuple[int, ...]:
        """Number of tiles along each of ``TILE_DIMS``."""
        return tuple(-(-getattr(layer, dim) // size) for dim, size in zip(TILE_DIMS, self.tile, strict=True))


@dataclass(frozen=True, slots=True)
class Boxes:
    """Tiles as half-open boxes.

    Attributes
    ----------
    lo, hi : ndarray int64 [tiles, 6]
        First index and one past the last along ``TILE_DIMS``.
    """

    lo: Int64
    hi: Int64

    @property
    def size(self) -> Int64:
        """Extent of each box, int64 [tiles, 6]."""
        return self.hi - self.lo

    def __len__(self) -> int:
        return int(self.lo.shape[0])


def list_boxes(layer: Layer, tile: tuple[int, ...]) -> Boxes:
    """Return every tile of a layer, row-major over the tile indices along ``TILE_DIMS``."""
    dims = np.array([getattr(layer, dim) for dim in TILE_DIMS], np.int64)
    sizes = np.array(tile, np.int64)
    counts = -(-dims // sizes)
    index = np.indices(tuple(counts.tolist())).reshape(6, -1).T.astype(np.int64)
    lo = index * sizes
    return Boxes(lo, np.minimum(lo + sizes, dims))
