"""Programs of the mixed-precision arrays executed bit for bit, places of their accumulators, their sums over tiles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.bismo.spec import PRESETS as BISMO
from hwsim.archs.bitfusion.spec import PRESETS as BITFUSION
from hwsim.core.datapath import Workload
from hwsim.core.mapping import TILE_DIMS, list_boxes
from hwsim.core.policy import LayerFormat
from tests.execute_cases import cases, execute_case
from tests.naive_cases import mappings, windowed_layers

SIDES = st.integers(1, 5)


@st.composite
def mixed_archs(draw, base):
    """Either array at a small size, on the shell and memory of ``base``."""
    fields = {"rows": draw(SIDES), "cols": draw(SIDES), "shell": base.shell, "memory": base.memory, "preset": "small+"}
    if draw(st.booleans()):
        return replace(BITFUSION["small"], **fields)
    return replace(
        BISMO["small"], **fields, word_bits=draw(st.sampled_from([8, 32, 64])), depth_words=draw(st.sampled_from([16, 24, 99]))
    )  # fmt: skip


@st.composite
def mixed_cases(draw):
    case = draw(cases())
    return replace(case, arch=draw(mixed_archs(case.arch)))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(mixed_cases())
def test_the_output_is_the_functional_model_s(case):
    after, wanted = execute_case(case, case.arch.bind(case.workload), "program", fill=0xA6)
    np.testing.assert_array_equal(after, wanted)


@st.composite
def tiled(draw):
    """A datapath and a tiling of its layer."""
    layer = draw(windowed_layers("conv", 6, 3))
    fmt = LayerFormat(w_bits=draw(st.integers(1, 16)), a_bits=draw(st.integers(1, 16)))
    workload = Workload(layer=layer, fmt=fmt, out_bits=8, operand_bits=(fmt.a_bits,), operand_shapes=(layer.in_shape,))
    arch = draw(mixed_archs(BISMO["small"]))
    return arch.bind(workload), draw(mappings(layer))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(tiled())
def test_sums_over_tiles_are_those_of_single_tiles(case):
    datapath, mapping = case
    boxes = list_boxes(datapath.layer, mapping.tile)
    times = datapath.exec_times(boxes)
    assert (times.fill >= 0).all()
    assert (times.fill < np.maximum(times.busy, 1)).all()
    totals = datapath.sum_tiles(np.array([mapping.tile, tuple(getattr(datapath.layer, dim) for dim in TILE_DIMS)]))
    assert int(totals.busy[0]) == int(times.busy.sum())
    psum = datapath.arch.shell.psum_bits
    moved = {(x.component, x.verb): x.count for x in datapath.count_actions(mapping) if x.verb in ("read", "write")}
    assert moved["wbuf", "read"] == int(totals.wbuf_read_bits[0])
    assert moved["ibuf", "read"] == int(totals.ibuf_read_bits[0])
    assert moved["obuf", "read"] + moved["obuf", "write"] == int(totals.psum_bits[0])
    assert moved["obuf", "write"] - moved["obuf", "read"] == datapath.layer.out_elements * psum


@settings(max_examples=150, deadline=None, derandomize=True)
@given(tiled())
def test_accumulators_take_places_of_their_own(case):
    datapath, mapping = case
    size = np.array(mapping.tile)
    places = datapath.psum_places(size)
    assert len(set(places.tolist())) == len(places) == np.prod(size[[0, 1, 2, 4, 5]])
    assert 0 <= places.min() <= places.max() < int(datapath.psum_slots(size[None])[0])
