"""What is drawn for co-simulation covers what accelerators build, and is a function of seed and number."""

from __future__ import annotations

import numpy as np
import pytest

from tests.extras import require

require("amaranth", "pyosys")

from cosim.random_layers import MOST_MACS, MOST_OUTPUTS, draw_job, draw_layer
from hwsim.core.program import SPILL
from tests.cosim.accelerators import make_arch


@pytest.fixture(scope="module")
def drawn():
    arch = make_arch("systolic-os")
    return [draw_job(arch, 5, number) for number in range(150)]


def test_a_draw_is_repeated_by_its_seed_and_number(drawn):
    arch = make_arch("systolic-os")
    for number in (0, 7, 149):
        again, other = draw_job(arch, 5, number), draw_job(arch, 6, number)
        assert again.text == drawn[number].text
        assert again.job.program == drawn[number].job.program
        assert again.job.image.tobytes() == drawn[number].job.image.tobytes()
        assert other.job.image.tobytes() != again.job.image.tobytes()


def test_shapes_cover_the_hardware():
    layers = [layer for layer in (draw_layer(np.random.default_rng((1, i))) for i in range(3000)) if layer]
    convs = [layer for layer in layers if layer.op == "conv"]
    assert {layer.op for layer in layers} == {"conv", "gemm", "maxpool", "avgpool", "add"}
    assert {layer.R for layer in convs} == {layer.S for layer in convs} == set(range(1, 8))
    assert {layer.stride[0] for layer in convs} == {layer.dilation[0] for layer in convs} == {1, 2, 3}
    assert any(layer.is_depthwise for layer in convs)
    assert any(layer.G > 1 < layer.C for layer in convs)
    assert any(layer.R != layer.S for layer in convs)
    assert any(len(set(layer.padding)) > 2 for layer in convs)
    assert max(layer.macs for layer in layers) <= MOST_MACS
    assert max(layer.out_elements for layer in convs) <= MOST_OUTPUTS


def test_mappings_spill_and_cut_raggedly(drawn):
    assert sum(bool((one.job.table["op"] == SPILL).any()) for one in drawn) >= 5
    assert {one.text[-3:] for one in drawn} == {"MKC", "MCK", "KMC", "KCM", "CMK", "CKM"}
    assert sum(len(one.job.table) > 20 for one in drawn) > 30


def test_contents_reach_the_outputs(drawn):
    outputs = [one.job.output.read(one.job.wanted) for one in drawn]
    assert sum(len(np.unique(output)) > 20 for output in outputs) > len(outputs) // 4
    for content in ("zeros", "extremes", "sparse", "narrow", "random"):
        assert any(f" {content}, tile" in one.text for one in drawn)
