"""Programs of the mixed-precision arrays executed bit for bit, places of their accumulators, their sums over tiles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.bismo.spec import PRESETS as BISMO
from hwsim.archs.bitfusion.spec import PRESETS as BITFUSION
from tests.execute_cases import cases_on, check_program
from tests.tile_checks import check_places, check_sums, tiled

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


@settings(max_examples=120, deadline=None, derandomize=True)
@given(cases_on(mixed_archs))
def test_the_output_is_the_functional_model_s(case):
    check_program(case)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(tiled(mixed_archs(BISMO["small"])))
def test_sums_over_tiles_are_those_of_single_tiles(case):
    datapath, mapping = case
    times, _ = check_sums(datapath, mapping)
    assert (times.fill < np.maximum(times.busy, 1)).all()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(tiled(mixed_archs(BISMO["small"])))
def test_accumulators_take_places_of_their_own(case):
    datapath, mapping = case
    check_places(datapath, mapping.tile)
