"""Programs of the native low-bit array executed bit for bit, places of its accumulators, its sums over tiles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.palquant.spec import PRESETS
from tests.execute_cases import cases_on, check_program
from tests.tile_checks import check_places, check_sums, tiled


@st.composite
def low_bit_archs(draw, base):
    """The array at a small size, on the shell and memory of ``base``."""
    rows, cols = draw(st.sampled_from([1, 2, 4, 8])), draw(st.sampled_from([1, 2, 4]))
    return replace(
        PRESETS["small"], preset="small+", shell=base.shell, memory=base.memory, rows=rows, cols=cols,
        native_bits=draw(st.sampled_from([2, 3, 4])), segment_lanes=draw(st.sampled_from([x for x in (1, 2, 4, 8) if x <= rows])),
        column_blocks=draw(st.sampled_from([x for x in (1, 2, 4) if x <= cols])),
    )  # fmt: skip


@settings(max_examples=120, deadline=None, derandomize=True)
@given(cases_on(low_bit_archs))
def test_the_output_is_the_functional_model_s(case):
    check_program(case)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(tiled(low_bit_archs(PRESETS["small"])))
def test_sums_over_tiles_are_those_of_single_tiles(case):
    datapath, mapping = case
    layer = datapath.layer
    times, _ = check_sums(datapath, mapping)
    assert not times.fill.any()
    assert int(times.busy.sum()) * datapath.peak_macs_per_cycle() >= layer.macs
    products = sum(x.count for x in datapath.count_actions(mapping) if x.verb == "mult")
    assert products == layer.macs * datapath.passes


@settings(max_examples=200, deadline=None, derandomize=True)
@given(tiled(low_bit_archs(PRESETS["small"])))
def test_accumulators_take_places_of_their_own_alike_in_every_tile_along_the_channels(case):
    datapath, mapping = case
    places = check_places(datapath, mapping.tile)
    size = np.array(mapping.tile)
    ragged = size.copy()
    ragged[3] = 1
    if size[1] == 1:  # several groups come with all their channels
        np.testing.assert_array_equal(datapath.psum_places(ragged), places)
