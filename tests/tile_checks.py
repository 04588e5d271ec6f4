"""What holds of every datapath and tiling: sums are those of single tiles, accumulators have places of their own."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from hwsim.core.datapath import Datapath, ExecTimes
from hwsim.core.mapping import TILE_DIMS, Boxes, Mapping, list_boxes
from tests.naive_cases import mappings, windowed_layers, workload_of


@st.composite
def tiled(draw, archs):
    """A datapath of an accelerator from ``archs``, a layer at any bits, and a tiling of it."""
    layer = draw(windowed_layers("conv", 6, 3))
    workload = workload_of(layer, draw(st.integers(1, 16)), draw(st.integers(1, 16)))
    return draw(archs).bind(workload), draw(mappings(layer))


def check_sums(datapath: Datapath, mapping: Mapping) -> tuple[ExecTimes, dict[tuple[str, str], int]]:
    """Hold `sum_tiles` to the tiles one by one, and the accesses of `count_actions` to `sum_tiles`.

    Returns
    -------
    times, moved
        The tiles' times; bits by memory and verb (``read``, ``write``).
    """
    layer = datapath.layer
    whole = tuple(getattr(layer, dim) for dim in TILE_DIMS)
    times = datapath.exec_times(list_boxes(layer, mapping.tile))
    totals = datapath.sum_tiles(np.array([mapping.tile, whole]))
    assert int(totals.busy[0]) == int(times.busy.sum())
    assert int(totals.busy[1]) == int(datapath.exec_times(Boxes(np.zeros((1, 6), np.int64), np.array([whole]))).busy[0])
    assert (times.fill >= 0).all()
    assert (times.fill <= times.busy).all()
    moved = {(x.component, x.verb): x.count for x in datapath.count_actions(mapping) if x.verb in ("read", "write")}
    assert moved["wbuf", "read"] == int(totals.wbuf_read_bits[0])
    assert moved["ibuf", "read"] == int(totals.ibuf_read_bits[0])
    assert moved["obuf", "read"] + moved["obuf", "write"] == int(totals.psum_bits[0])
    assert moved["obuf", "write"] - moved["obuf", "read"] == layer.out_elements * datapath.arch.shell.psum_bits
    return times, moved


def check_places(datapath: Datapath, tile: tuple[int, ...]) -> np.ndarray:
    """Hold the places of a tile's accumulators to be different ones of those that it takes; return them."""
    size = np.array(tile)
    places = datapath.psum_places(size)
    assert len(set(places.tolist())) == len(places) == np.prod(size[[0, 1, 2, 4, 5]])
    assert 0 <= places.min() <= places.max() < int(datapath.psum_slots(size[None])[0])
    return places
