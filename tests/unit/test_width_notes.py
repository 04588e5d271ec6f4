"""Bits that an engine rounds up: which it computes at, that these are the cycles, and the note of the layers where it happens."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from hwsim.archs.registry import find_arch
from hwsim.core.layer import Layer
from hwsim.core.policy import LayerFormat, Policy
from hwsim.pipeline.simulate import simulate
from hwsim.report.explain import explain
from hwsim.report.text import format_report
from tests.naive_cases import workload_of

LAYER = Layer(
    name="layer", op="conv", inputs=("x",), K=24, C=20, P=6, Q=6, R=3, S=3, H=6, W=6, padding=(1, 1, 1, 1),
)  # fmt: skip
WIDTHS = {
    "bitfusion": {(3, 3): (4, 4), (1, 5): (2, 8), (9, 2): (16, 2), (4, 8): (4, 8)},
    "palquant": {(3, 3): (4, 4), (1, 8): (2, 8), (4, 2): (4, 2)},
    "mpic": {(2, 8): (8, 8), (8, 4): (8, 8), (4, 4): (4, 4)},
    "systolic": {(4, 8): (8, 8), (8, 8): (8, 8)},
    "diannao": {(4, 8): (8, 8)},
    "eyeriss": {(8, 8): (16, 16), (16, 16): (16, 16)},
    "nasa": {(8, 4): (8, 8)},
    "bismo": {(3, 5): (3, 5)},
}


@pytest.mark.parametrize("name", WIDTHS)
def test_the_engine_takes_the_cycles_of_the_widths_it_names(name):
    arch = find_arch(name, "small")
    tile = np.array([[1, 1, LAYER.K, LAYER.C, LAYER.P, LAYER.Q]])
    for (w, a), wanted in WIDTHS[name].items():
        load, wider = workload_of(LAYER, w, a), workload_of(LAYER, *wanted)
        assert arch.choose_widths(load) == arch.choose_widths(wider) == wanted
        for bits in product((w, wanted[0]), (a, wanted[1])):
            if name == "mpic" and bits[0] != bits[1]:
                continue  # registers are loaded at the operands' own widths, multiplied at the wider
            assert arch.bind(workload_of(LAYER, *bits)).sum_tiles(tile).busy == arch.bind(wider).sum_tiles(tile).busy


def test_layers_that_are_rounded_up_carry_a_note_and_no_others():
    policy = Policy(default=LayerFormat(w_bits=4, a_bits=4), layers=(("conv2d_1", LayerFormat(w_bits=3, a_bits=5)),))
    report = simulate("resnet8", "bitfusion-small", policy=policy)
    note = "the engine computes w3a5 at its next widths, w4a8"
    assert {cost.name: cost.notes for cost in report.layers if cost.w_bits and cost.notes} == {"conv2d_1": (note,)}
    assert f"layer note   {note} (conv2d_1)" in format_report(report)
    assert f"note: {note}" in explain(report, "conv2d_1", "cycles")
    assert not [cost for cost in simulate("resnet8", "bismo-small", policy=policy).layers if cost.w_bits and cost.notes]
