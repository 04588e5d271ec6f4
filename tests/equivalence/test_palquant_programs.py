"""Programs of the native low-bit array executed bit for bit, places of its accumulators, its sums over tiles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.palquant.spec import PRESETS
from hwsim.core.datapath import Workload
from hwsim.core.mapping import TILE_DIMS, list_boxes
from hwsim.core.policy import LayerFormat
from tests.execute_cases import cases, execute_case
from tests.naive_cases import mappings, windowed_layers


@st.composite
def low_bit_archs(draw, base):
    """The array at a small size, on the shell and memory of ``base``."""
    rows, cols = draw(st.sampled_from([1, 2, 4, 8])), draw(st.sampled_from([1, 2, 4]))
    return replace(
        PRESETS["small"], preset="small+", shell=base.shell, memory=base.memory, rows=rows, cols=cols,
        native_bits=draw(st.sampled_from([2, 3, 4])), segment_lanes=draw(st.sampled_from([x for x in (1, 2, 4, 8) if x <= rows])),
        column_blocks=draw(st.sampled_from([x for x in (1, 2, 4) if x <= cols])),
    )  # fmt: skip


@st.composite
def low_bit_cases(draw):
    case = draw(cases())
    return replace(case, arch=draw(low_bit_archs(case.arch)))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(low_bit_cases())
def test_the_output_is_the_functional_model_s(case):
    after, wanted = execute_case(case, case.arch.bind(case.workload), "program", fill=0xA6)
    np.testing.assert_array_equal(after, wanted)


@st.composite
def tiled(draw):
    """A datapath and a tiling of its layer."""
    layer = draw(windowed_layers("conv", 6, 3))
    fmt = LayerFormat(w_bits=draw(st.integers(1, 16)), a_bits=draw(st.integers(1, 16)))
    workload = Workload(layer=layer, fmt=fmt, out_bits=8, operand_bits=(fmt.a_bits,), operand_shapes=(layer.in_shape,))
    return draw(low_bit_archs(PRESETS["small"])).bind(workload), draw(mappings(layer))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(tiled())
def test_sums_over_tiles_are_those_of_single_tiles(case):
    datapath, mapping = case
    layer, boxes = datapath.layer, list_boxes(datapath.layer, mapping.tile)
    totals = datapath.sum_tiles(np.array([mapping.tile, tuple(getattr(layer, dim) for dim in TILE_DIMS)]))
    times = datapath.exec_times(boxes)
    assert int(totals.busy[0]) == int(times.busy.sum())
    assert not times.fill.any()
    assert int(totals.busy[0]) * datapath.peak_macs_per_cycle() >= layer.macs
    psum = datapath.arch.shell.psum_bits
    actions = datapath.count_actions(mapping)
    moved = {(x.component, x.verb): x.count for x in actions if x.verb in ("read", "write")}
    assert moved["wbuf", "read"] == int(totals.wbuf_read_bits[0])
    assert moved["ibuf", "read"] == int(totals.ibuf_read_bits[0])
    assert moved["obuf", "read"] + moved["obuf", "write"] == int(totals.psum_bits[0])
    assert moved["obuf", "write"] - moved["obuf", "read"] == layer.out_elements * psum
    assert sum(x.count for x in actions if x.verb == "mult") == layer.macs * datapath.passes


@settings(max_examples=200, deadline=None, derandomize=True)
@given(tiled())
def test_accumulators_take_places_of_their_own_alike_in_every_tile_along_the_channels(case):
    datapath, mapping = case
    size = np.array(mapping.tile)
    places = datapath.psum_places(size)
    assert len(set(places.tolist())) == len(places) == np.prod(size[[0, 1, 2, 4, 5]])
    assert 0 <= places.min() <= places.max() < int(datapath.psum_slots(size[None])[0])
    ragged = size.copy()
    ragged[3] = 1
    if size[1] == 1:  # several groups come with all their channels
        np.testing.assert_array_equal(datapath.psum_places(ragged), places)
