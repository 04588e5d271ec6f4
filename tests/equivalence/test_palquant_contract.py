"""What the low-bit array promises besides what all do: larger buffers are never slower, groups fill its lanes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hwsim.archs.registry import find_arch, list_presets
from hwsim.core.layer import Layer
from hwsim.core.mapping import CYCLES_TIE
from hwsim.pipeline import simulate
from hwsim.pipeline.layer import run_layer
from mappers.search import find_mapping
from tests.contract.architecture_cases import LAYERS, double_buffers
from tests.naive_cases import conv, workload_of

PRESETS = [f"palquant:{preset}" for preset in list_presets("palquant")]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_larger_buffers_never_take_longer(layer):
    arch = find_arch("palquant:small")
    best = []
    for one in (arch, double_buffers(double_buffers(arch))):
        datapath = one.bind(workload_of(layer, 4, 4))
        best.append(run_layer(datapath, one, find_mapping(datapath, one))[0].cycles)
    assert best[1] <= best[0] * (1 + CYCLES_TIE)


def count_busy(arch, layer: Layer, bits: int = 2) -> int:
    tile = np.array([[layer.N, layer.G, layer.K, layer.C, layer.P, layer.Q]])
    return int(arch.bind(workload_of(layer, bits, bits)).sum_tiles(tile).busy[0])


def test_channels_of_a_depthwise_layer_lie_side_by_side():
    """Four segments of 16 lanes, a window of nine each, times four blocks of columns: sixteen channels at once."""
    arch = find_arch("palquant")
    layer = conv(size=(10, 10), window=(3, 3), G=96)
    alone = replace(arch, preset="base+", segment_lanes=arch.rows, column_blocks=1)
    assert count_busy(alone, layer) == 96 * 64
    assert count_busy(arch, layer) == 96 * 64 // 16


def test_groups_share_lanes_that_one_of_them_leaves_idle():
    """ResNet-18's first stage on 256 lanes: a window of 576 takes three steps, two groups of it five, four groups nine."""
    arch = replace(find_arch("palquant"), preset="base+", rows=256, cols=32)
    pixels = 56 * 56
    for groups, steps in ((1, 3), (2, 5), (4, 9)):
        layer = conv(size=(56, 56), window=(3, 3), padding=(1, 1, 1, 1), G=groups, K=64, C=64)
        assert count_busy(arch, layer) == pixels * 2 * steps


@pytest.mark.parametrize("name", ["resnet8", "mobilenet_v2"])
def test_networks_run_on_every_preset(name):
    for preset in PRESETS:
        report = simulate(name, preset, policy="w2a2")
        assert report.cycles > 0
        assert all(row.mapping.proven for row in report.layers if row.mapping)
