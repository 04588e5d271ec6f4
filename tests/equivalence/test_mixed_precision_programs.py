"""Programs of the mixed-precision arrays executed bit for bit, places of their accumulators, their sums over tiles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.bismo.spec import PRESETS as BISMO
from hwsim.archs.bitfusion.spec import PRESETS as BITFUSION
from tests.execute_cases import cases, check_program
from tests.naive_cases import mappings, windowed_layers, workload_of
from tests.tile_checks import check_places, check_sums

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
    check_program(case)


@st.composite
def tiled(draw):
    """A datapath and a tiling of its layer."""
    layer = draw(windowed_layers("conv", 6, 3))
    workload = workload_of(layer, draw(st.integers(1, 16)), draw(st.integers(1, 16)))
    return draw(mixed_archs(BISMO["small"])).bind(workload), draw(mappings(layer))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(tiled())
def test_sums_over_tiles_are_those_of_single_tiles(case):
    datapath, mapping = case
    times, _ = check_sums(datapath, mapping)
    assert (times.fill < np.maximum(times.busy, 1)).all()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(tiled())
def test_accumulators_take_places_of_their_own(case):
    datapath, mapping = case
    check_places(datapath, mapping.tile)
