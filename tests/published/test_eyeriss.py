"""`eyeriss` beside the chip's measured frames a second and DNN-Chip-Predictor's equations.

The chip: Chen et al., JSSC 2017: 35 frames a second on the convolutions of AlexNet at batch 4, 0.7 on VGG-16's at batch 3, 200 MHz.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from hwsim.archs.registry import find_arch
from hwsim.core.layer import Layer
from hwsim.nets.load import load_network
from hwsim.pipeline.simulate import simulate
from hwsim.published.eyeriss import PREDICTOR, Operation, predict

W16 = "w16a16"
FRAMES = {"alexnet_grouped": (4, 35.0), "vgg16": (3, 0.7)}


def simulate_convs(network: str, arch, batch: int = 1):
    """Return (layer, its report) of the convolutions of a network at 16 bits."""
    layers = {layer.name: layer for layer in load_network(network).network.layers if layer.op == "conv"}
    report = simulate(network, arch, policy=W16, batch=batch)
    return [(layers[row.name], row) for row in report.layers if row.name in layers]


def describe(layer: Layer) -> Operation:
    """Return one group of a convolution as the equations see it."""
    return Operation(
        kind="conv", C=layer.C, M=layer.K, H=layer.H, W=layer.W, E=layer.P, F=layer.Q, kernel=layer.R, stride=layer.stride[0]
    )  # fmt: skip


def frames_per_second(network: str) -> float:
    arch, (batch, _) = find_arch("eyeriss:paper"), FRAMES[network]
    return batch * arch.clock_hz / sum(row.stats.cycles for _, row in simulate_convs(network, arch, batch))


def test_alexnet_runs_as_fast_as_the_chip():
    """33.7 against 35, nothing fitted: sums of 32 bits, not 16, and fixed parts of the buffer cost what the mapper gains."""
    assert frames_per_second("alexnet_grouped") == pytest.approx(35, rel=0.06)


def test_vgg16_runs_faster_than_the_chip():
    """1.4 against 0.7: from memory the chip loses half of its time in the widest layers (CONV1_2, CONV2); why is not known here."""
    assert 0.7 < frames_per_second("vgg16") < 1.5


def test_alexnet_takes_the_steps_of_the_equations():
    """Conv2 to conv5 have the steps of the equations; on top come weights, first windows, issue, first load, last store."""
    arch = find_arch("eyeriss:predictor")
    for layer, row in simulate_convs("alexnet_grouped", arch)[1:]:
        cycles = layer.G * predict(describe(layer)).cycles
        assert row.stats.compute_cycles == cycles
        assert cycles < row.stats.cycles < 1.08 * cycles
        fill = dict(row.stats.stall_cycles)["fill"]
        assert row.stats.cycles - cycles - fill < 0.015 * cycles


def test_first_layer_lies_above_the_equations():
    """Theirs have 11 strips of 5 rows and use 165 elements; here sums of 55 columns limit a tile to 16 filters of 7 rows: 154."""
    layer, row = simulate_convs("alexnet_grouped", find_arch("eyeriss:predictor"))[0]
    assert 1 < row.stats.cycles / predict(describe(layer)).cycles < 1.2


@pytest.mark.parametrize(
    "name", ["layer1.0.conv1", "layer2.0.conv2", "layer3.0.conv2", "layer3.1.conv1", "layer4.0.conv1"]
)
def test_resnet18_lies_below_the_equations_where_they_may_not_use_all_elements(name):
    """With the limit moved by one, 168 elements may work, and the steps are equal."""
    found = {layer.name: (layer, row) for layer, row in simulate_convs("resnet18", find_arch("eyeriss:predictor"))}
    layer, row = found[name]
    operation = describe(layer)
    assert row.stats.cycles < 0.65 * predict(operation).cycles
    all_elements = replace(PREDICTOR, elements=PREDICTOR.elements + 1)
    assert row.stats.compute_cycles == predict(operation, all_elements).cycles
