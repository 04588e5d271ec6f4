"""Combinations of dataflows by name."""

from __future__ import annotations

from itertools import product

import pytest

from hwsim.archs.nasa.spec import PRESETS
from hwsim.core.errors import SpecError
from hwsim.pipeline.nasa_map import AutoMapping
from mappers.nasa_choose import Combination

RANKED = tuple(
    Combination(dataflows=(("clp", clp), ("slp", slp), ("alp", "rs")), cycles=1 + place, energy_pj=1.0)
    for place, (clp, slp) in enumerate(product(("os", "rs"), ("ws", "rs")))
)
FOUND = AutoMapping(arch=PRESETS["small"], ranked=RANKED, rows=(), interval_cycles=1)


def test_the_best_of_what_is_left_open():
    assert FOUND.find() is RANKED[0]
    assert FOUND.find(slp="rs") is RANKED[1]
    assert FOUND.find(clp="rs", slp="ws", alp="rs") is RANKED[2]


@pytest.mark.parametrize("dataflows", [{"clp": "is"}, {"alp": "ws"}, {"dlp": "rs"}])
def test_what_was_not_tried_is_refused(dataflows):
    with pytest.raises(SpecError, match=r"expected one of 4 combinations such as clp os, slp ws, alp rs"):
        FOUND.find(**dataflows)
