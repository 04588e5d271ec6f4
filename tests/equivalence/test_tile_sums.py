"""Sums by tile size, and places of partial sums in words, against every tile and every output taken one by one."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.core.datapath import Totals, list_buffer_accesses
from hwsim.core.layer import Layer
from hwsim.core.mapping import TILE_DIMS, list_boxes
from hwsim.core.psums import count_word_slots, list_outputs, list_word_places
from hwsim.core.tile_sums import count_tiles, find_distinct, list_extents, list_tile_sizes, sum_over_sizes

SIZES = st.tuples(*[st.integers(1, 5)] * len(TILE_DIMS))
SOME_DIMS = st.lists(st.sampled_from(TILE_DIMS), min_size=1, unique=True).map("".join)


def make_layer(sizes) -> Layer:
    """Return a layer of these extents along ``TILE_DIMS``."""
    dims = dict(zip(TILE_DIMS, sizes, strict=True))
    return Layer(name="layer", op="conv", inputs=("x",), H=dims["P"], W=dims["Q"], **dims)


def list_sizes(layer: Layer, tile, dims: str) -> list[tuple[int, ...]]:
    """Return the sizes along ``dims`` of every tile of a layer that is cut along these alone."""
    spans = []
    for dim in dims:
        extent, step = getattr(layer, dim), tile[TILE_DIMS.index(dim)]
        spans.append([min(step, extent - first) for first in range(0, extent, step)])
    return list(product(*spans))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(extents=SIZES, tilings=st.lists(SIZES, min_size=1, max_size=4), dims=SOME_DIMS)
def test_sizes_of_tiles_are_those_of_every_tile(extents, tilings, dims):
    """Tiles larger than the layer stand for all of it."""
    layer, tiles = make_layer(extents), np.array(tilings)
    found = list_tile_sizes(layer, tiles, dims)
    for i, tile in enumerate(tilings):
        mine = found.owner == i
        sizes = map(tuple, found.size[mine].tolist())
        many = dict(zip(sizes, found.count[mine].tolist(), strict=True))
        assert many == Counter(list_sizes(layer, tile, dims))
        assert len(many) == mine.sum()
    total = sum_over_sizes(
        layer, tiles, dims, lambda *sizes: sum(size * (3 + at) ** 2 for at, size in enumerate(sizes))
    )
    wanted = [
        sum(sum(size * (3 + at) ** 2 for at, size in enumerate(one)) for one in list_sizes(layer, tile, dims))
        for tile in tilings
    ]
    assert total.tolist() == wanted


@settings(max_examples=50, deadline=None, derandomize=True)
@given(extents=SIZES, tile=SIZES)
def test_tiles_are_counted_and_told_apart(extents, tile):
    layer = make_layer(extents)
    assert tuple(list_extents(layer)) == extents
    size = list_boxes(layer, tile).size
    assert int(count_tiles(layer, np.array([tile])).prod()) == len(size)
    distinct, back = find_distinct(layer, size)
    assert len({tuple(row) for row in distinct.tolist()}) == len(distinct)
    np.testing.assert_array_equal(distinct[back], size)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(size=SIZES, columns=st.integers(1, 4), of_pixels=st.booleans())
def test_words_are_filled_block_by_block(size, columns, of_pixels):
    n_size, g_size, k_size, _, p_size, q_size = size
    pixels = list(product(range(n_size), range(p_size), range(q_size)))
    filters = list(range(k_size))
    across, along = (pixels, filters) if of_pixels else (filters, pixels)
    places, slots = {}, 0
    for g in range(g_size):
        for first in range(0, len(across), columns):
            for other in along:
                for column, one in enumerate(across[first : first + columns]):
                    k, (n, p, q) = (other, one) if of_pixels else (one, other)
                    places[n, g, k, p, q] = slots + column
                slots += columns
    outputs = list(zip(*(index.tolist() for index in list_outputs(np.array(size))), strict=True))
    assert outputs == sorted(places)
    assert list_word_places(np.array(size), columns, of_pixels).tolist() == [places[one] for one in outputs]
    assert count_word_slots(np.array([size]), columns, of_pixels).tolist() == [slots]


def test_outputs_are_written_by_every_tile_that_adds_to_them_and_read_by_all_but_the_first():
    """Ten outputs of 32 bits, three tiles along the channels: thirty writes, twenty reads."""
    sums = Totals(*(np.array([value]) for value in (0, 700, 90, (30 + 20) * 32)))
    accesses = {(one.component, one.verb): one.count for one in list_buffer_accesses(sums, 10, 32)}
    assert accesses == {
        ("wbuf", "read"): 700,
        ("ibuf", "read"): 90,
        ("obuf", "write"): 30 * 32,
        ("obuf", "read"): 20 * 32,
    }
