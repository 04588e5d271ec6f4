"""The zoo against figures that others published: layers, multiply-accumulates, weights, parameters, shapes."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from hwsim.core.layer import Layer
from hwsim.nets.registry import find_network, list_networks
from tests.reference import reference

# name: layers with weights, MACs in millions, weights in millions (convolutions and fully connected layers, no bias).
# Source: seeds.md, section 6, computed there by separate shape scripts; each figure as it is printed there.
TABLE = {
    "resnet18": (21, "1814.07", "11.679"),
    "resnet34": (37, "3663.76", "21.780"),
    "resnet50": (54, "4089.18", "25.503"),
    "resnet50_v1": (54, "3857.97", "25.503"),
    "mobilenet_v1": (28, "568.74", "4.209"),
    "mobilenet_v2": (53, "300.77", "3.470"),
    "mobilenet_v3_large": (64, "216.59", "5.451"),
    "mobilenet_v3_small": (54, "56.51", "2.526"),
    "efficientnet_lite0": (50, "385.19", "4.609"),
    "frostnet_large": (70, "430.8", "5.76"),
    "frostnet_base": (62, "362.9", "4.96"),
    "frostnet_small": (54, "315.3", "4.82"),
    "vgg11": (11, "7609.09", "132.85"),
    "vgg16": (16, "15470.26", "138.34"),
    "vgg19": (19, "19632.06", "143.65"),
    "vgg11_cifar10": (9, "152.77", "9.22"),
    "vgg16_cifar10": (14, "313.20", "14.72"),
    "vgg19_cifar10": (17, "398.14", "20.02"),
    "vgg_small": (8, "615.92", "12.97"),
    "alexnet_grouped": (8, "724.41", "60.95"),  # the table prints 60.96: see test_grouped_alexnet_...
    "alexnet": (8, "714.19", "61.09"),
    "squeezenet1_0": (26, "818.92", "1.244"),
    "squeezenet1_1": (26, "349.15", "1.232"),
    "shufflenet_v2_x0_5": (57, "40.48", "1.358"),
    "shufflenet_v2_x1_0": (57, "144.91", "2.261"),
    "spos_shufflenet": (
        83,
        "323",
        "3.5",
    ),  # megvii-model/SinglePathOneShot, src/Evaluation: 323M FLOPs, 3.5M parameters
    "resnet164_cifar10": (167, "247.65", "1.679"),
    "resnet20_cifar10": (22, "40.81", ".271"),
    "resnet56_cifar10": (58, "125.75", ".852"),
    "mlp_300_100": (3, ".266", ".266"),
    "resnet8": (10, "12.50", ".0774"),
    "ds_cnn": (10, "2.657", None),
    "mobilenet_v1_0.25_96": (28, "7.490", ".2081"),
    "autoencoder": (10, ".2642", ".2642"),
}

ELSEWHERE = {"nasa-cifar10", "nasa-imagenet", "shiftaddnet20-cifar10"}
"""Networks whose counts other tests hold: `tests.published.test_nasa_network`."""

# Exact parameter counts, biases and normalization included: ``num_params`` of torchvision's published weights
# (pytorch.org/vision/stable/models); EfficientNet-lite0 as counted for timm's model.
PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "mobilenet_v2": 3_504_872,
    "mobilenet_v3_large": 5_483_032,
    "mobilenet_v3_small": 2_542_856,
    "vgg11": 132_863_336,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "alexnet": 61_100_840,
    "squeezenet1_0": 1_248_424,
    "squeezenet1_1": 1_235_496,
    "shufflenet_v2_x0_5": 1_366_792,
    "shufflenet_v2_x1_0": 2_278_604,
    "efficientnet_lite0": 4_652_008,
}
PLAIN = ("vgg", "alexnet", "squeezenet")  # families without batch normalization: every layer has a bias


def millions_as_printed(value: int, printed: str) -> str:
    """Return ``value`` in millions with the decimals that ``printed`` has."""
    decimals = len(printed.partition(".")[2])
    text = f"{value / 1e6:.{decimals}f}"
    return text.lstrip("0") if printed.startswith(".") else text


def count_beside_weights(net: str, layer: Layer) -> int:
    """Return the parameters of a layer beyond its weights: a bias, or scale and offset of its normalization."""
    channels = layer.out_shape[1]
    has_bias = layer.op == "gemm" or net.startswith(PLAIN) or layer.name.endswith((".fc1", ".fc2"))
    return channels if has_bias else 2 * channels


@pytest.mark.parametrize("name", TABLE)
def test_layers_macs_and_weights_equal_the_published_table(name: str) -> None:
    layers, macs, weights = TABLE[name]
    net = find_network(name)
    assert len(net.mac_layers) == layers
    assert millions_as_printed(net.macs, macs) == macs
    if weights is not None:
        assert millions_as_printed(net.weights, weights) == weights


def test_grouped_alexnet_has_60_95_million_weights_where_the_table_prints_60_96() -> None:
    convolutions = 96 * 3 * 121 + 256 * 48 * 25 + 384 * 256 * 9 + 384 * 192 * 9 + 256 * 192 * 9
    weights = convolutions + 9216 * 4096 + 4096 * 4096 + 4096 * 1000
    biases = 96 + 256 + 384 + 384 + 256 + 4096 + 4096 + 1000
    assert find_network("alexnet_grouped").weights == weights == 60_954_656
    # The parameter count usually cited for the net (BVLC/caffe's bvlc_alexnet) is weights and biases.
    assert weights + biases == 60_965_224


def test_every_network_of_the_zoo_is_in_the_table() -> None:
    assert {entry.name for entry in list_networks()} == set(TABLE) | ELSEWHERE


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_equal_those_of_the_published_weights(name: str) -> None:
    net = find_network(name)
    assert net.weights + sum(count_beside_weights(name, layer) for layer in net.mac_layers) == PARAMETERS[name]


def test_resnet18_equals_scale_sims_topology_row_by_row() -> None:
    with reference("scalesim", "resnet18_topology.csv").open() as file:
        rows = [[int(cell) for cell in row[1:8]] for row in list(csv.reader(file))[1:] if row and row[0].strip()]
    layers = find_network("resnet18").mac_layers
    ours = [[x.H, x.W, x.R, x.S, x.C, x.K, x.stride[0]] for x in layers]
    assert rows[0] == ours[0]
    assert rows[-1] == ours[-1]
    # The topology leaves the order within a block open; its rows stand for the same convolutions.
    assert sorted(rows) == sorted(ours)


def test_mobilenet_v2_and_resnet50_have_the_layers_that_haq_counts() -> None:
    # mit-han-lab/haq (MIT), lib/simulator/lookup_tables: one entry a layer; its shape is (53, 8, 8).
    table = np.load(reference("haq", "qmobilenetv2_imagenet100_batch16_latency_table.npy"))
    net = find_network("mobilenet_v2")
    assert table.shape[0] == len(net.mac_layers)
    # The table's cycles cannot undercut 16 images x binary products / (16 x 16 units x 256 bits).
    for row, layer in zip(table, net.mac_layers, strict=True):
        assert row[7, 7] >= 16 * layer.macs * 64 / (16 * 16 * 256)
