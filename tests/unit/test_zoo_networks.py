"""Structure of the zoo's graphs: residuals, joins, shapes, activations, names."""

from __future__ import annotations

from collections import Counter

import pytest

from hwsim.core.network import Network
from hwsim.nets.registry import find_network, list_networks

NAMES = [entry.name for entry in list_networks()]

# Operators without weights, from each paper's figure: additions one a residual, joins one a fire, unit or cascade.
STRUCTURE = {
    "resnet18": {"add": 8, "maxpool": 1, "avgpool": 1, "flatten": 1},
    "resnet34": {"add": 16, "maxpool": 1, "avgpool": 1, "flatten": 1},
    "resnet50": {"add": 16, "maxpool": 1, "avgpool": 1, "flatten": 1},
    "resnet20_cifar10": {"add": 9, "avgpool": 1, "flatten": 1},
    "resnet56_cifar10": {"add": 27, "avgpool": 1, "flatten": 1},
    # One normalization before each block and one behind the last cannot be folded into a convolution.
    "resnet164_cifar10": {"add": 54, "scale": 55, "avgpool": 1, "flatten": 1},
    "mobilenet_v1": {"avgpool": 1, "flatten": 1},
    "mobilenet_v2": {"add": 10, "avgpool": 1, "flatten": 1},
    "mobilenet_v3_large": {"add": 10, "mul": 8, "avgpool": 9, "flatten": 1},
    "mobilenet_v3_small": {"add": 6, "mul": 9, "avgpool": 10, "flatten": 1},
    "efficientnet_lite0": {"add": 9, "avgpool": 1, "flatten": 1},
    "squeezenet1_0": {"concat": 8, "maxpool": 3, "avgpool": 1, "flatten": 1},
    "squeezenet1_1": {"concat": 8, "maxpool": 3, "avgpool": 1, "flatten": 1},
    "shufflenet_v2_x1_0": {"concat": 16, "shuffle": 16, "slice": 26, "maxpool": 1, "avgpool": 1, "flatten": 1},
    "vgg16": {"maxpool": 5, "flatten": 1},
    "alexnet_grouped": {"maxpool": 3, "lrn": 2, "flatten": 1},
    "resnet8": {"add": 3, "avgpool": 1, "flatten": 1, "softmax": 1},
    "ds_cnn": {"avgpool": 1, "flatten": 1, "softmax": 1},
    "mlp_300_100": {},
}
CLASSES = {
    "resnet8": 10,
    "ds_cnn": 12,
    "mobilenet_v1_0.25_96": 2,
    "autoencoder": 640,
    "vgg_small": 10,
    "mlp_300_100": 10,
}


@pytest.mark.parametrize("name", STRUCTURE)
def test_graph_keeps_every_operator_without_weights(name: str) -> None:
    net = find_network(name)
    assert Counter(layer.op for layer in net.layers if layer.kind != "mac") == STRUCTURE[name]


@pytest.mark.parametrize("name", NAMES)
def test_graph_is_one_piece_and_ends_in_its_classes(name: str) -> None:
    net = find_network(name)
    assert net.outputs == (net.layers[-1].name,)
    unread = [tensor for tensor, users in net.consumers.items() if not users]
    assert unread == [net.layers[-1].name]
    classes = CLASSES.get(name, 10 if "cifar10" in name else 1000)
    assert net.shape_of(net.outputs[0]) == (1, classes, 1, 1)
    assert net.source


@pytest.mark.parametrize("name", NAMES)
def test_batch_scales_macs_and_nothing_else(name: str) -> None:
    net = find_network(name)
    batched = net.with_batch(3)
    assert (batched.macs, batched.weights) == (3 * net.macs, net.weights)


def test_macs_of_resnet18_from_first_principles() -> None:
    net = find_network("resnet18")
    expected = {
        "conv1": 112 * 112 * 64 * 7 * 7 * 3,
        "layer1.0.conv1": 56 * 56 * 64 * 3 * 3 * 64,
        "layer2.0.conv1": 28 * 28 * 128 * 3 * 3 * 64,
        "layer2.0.downsample.0": 28 * 28 * 128 * 64,
        "layer2.0.conv2": 28 * 28 * 128 * 3 * 3 * 128,
        "layer3.1.conv2": 14 * 14 * 256 * 3 * 3 * 256,
        "layer4.0.conv1": 7 * 7 * 512 * 3 * 3 * 256,
        "fc": 512 * 1000,
    }
    assert {name: net.layer(name).macs for name in expected} == expected


def test_residual_of_resnet18_reads_both_branches_and_activates_after_the_sum() -> None:
    net = find_network("resnet18")
    plain, strided = net.layer("layer1.1.add"), net.layer("layer2.0.add")
    assert plain.inputs == ("layer1.1.conv2", "layer1.0.add")
    assert strided.inputs == ("layer2.0.conv2", "layer2.0.downsample.0")
    assert net.layer("layer2.0.downsample.0").inputs == ("layer1.1.add",)
    assert [net.layer(f"layer1.0.{part}").activation for part in ("conv1", "conv2", "add")] == ["relu", "none", "relu"]


def test_names_of_resnet18_are_torchvisions() -> None:
    expected = ["conv1"]
    for stage in (1, 2, 3, 4):
        expected += [f"layer{stage}.0.conv1", f"layer{stage}.0.conv2"]
        expected += [f"layer{stage}.0.downsample.0"] * (stage > 1)
        expected += [f"layer{stage}.1.conv1", f"layer{stage}.1.conv2"]
    assert [layer.name for layer in find_network("resnet18").mac_layers] == [*expected, "fc"]


@pytest.mark.parametrize(
    ("net", "names"),
    [
        ("resnet50", ("layer1.0.conv3", "layer1.0.downsample.0", "layer4.2.conv2", "fc")),
        ("mobilenet_v2", ("features.0.0", "features.1.conv.0.0", "features.1.conv.1", "features.2.conv.2")),
        ("mobilenet_v3_large", ("features.1.block.1.0", "features.4.block.2.fc1", "features.16.0", "classifier.3")),
        ("vgg16", ("features.0", "features.5", "features.28", "classifier.6")),
        ("vgg16_cifar10", ("features.0", "features.3", "features.7", "features.40", "classifier")),
        ("alexnet", ("features.10", "classifier.1")),
        ("squeezenet1_0", ("features.3.squeeze", "features.12.expand3x3", "classifier.1")),
        ("shufflenet_v2_x0_5", ("conv1.0", "stage2.0.branch1.2", "stage4.3.branch2.5", "conv5.0", "fc")),
        ("frostnet_large", ("layer2.1.squeeze_conv.conv.0", "layer5.0.reduce_conv.conv.0", "classifier.2")),
    ],
)
def test_layer_names_are_those_of_the_original_state_dict(net: str, names: tuple[str, ...]) -> None:
    layers = {layer.name for layer in find_network(net).mac_layers}
    assert set(names) <= layers


def test_resnet50_versions_differ_only_in_where_a_block_strides() -> None:
    v15, v1 = find_network("resnet50"), find_network("resnet50_v1")
    assert [v15.layer(f"layer2.0.conv{i}").stride for i in (1, 2, 3)] == [(1, 1), (2, 2), (1, 1)]
    assert [v1.layer(f"layer2.0.conv{i}").stride for i in (1, 2, 3)] == [(2, 2), (1, 1), (1, 1)]
    assert v15.weights == v1.weights
    # What the stride's place costs: the 1x1 at the first block of stages 2 to 4 on four times the positions.
    saved = sum(
        (size * size - size * size // 4) * (4 * width // 2) * width for size, width in ((56, 128), (28, 256), (14, 512))
    )
    assert v15.macs - v1.macs == saved


def test_squeeze_excite_scales_channels_by_a_gate() -> None:
    net = find_network("mobilenet_v3_large")
    gate = net.layer("features.4.block.2.mul")
    assert gate.inputs == ("features.4.block.1.0", "features.4.block.2.fc2")
    assert net.shape_of(gate.inputs[1]) == (1, 72, 1, 1)
    assert net.layer(gate.inputs[1]).activation == "hard_sigmoid"
    assert net.layer("features.4.block.2.fc1").K == 24  # 72 / 4 = 18, rounded to a multiple of 8, at most 10 % down


def test_shuffle_unit_splits_joins_and_shuffles() -> None:
    net = find_network("shufflenet_v2_x1_0")
    left, right = net.layer("stage2.1.left"), net.layer("stage2.1.right")
    assert dict(left.attrs) == {"start": 0, "stop": 58}
    assert dict(right.attrs) == {"start": 58, "stop": 116}
    assert net.layer("stage2.1.cat").inputs == ("stage2.1.left", "stage2.1.branch2.5")
    assert net.layer("stage2.1.shuffle").attr("groups") == 2
    assert net.layer("stage2.1.branch2.3").activation == "none"


def test_frostnet_cascade_joins_the_squeezed_input_in_front() -> None:
    net = find_network("frostnet_large")
    assert net.layer("layer2.1.cat").inputs == ("layer2.1.squeeze_conv.conv.0", "layer2.0.reduce_conv.conv.0")
    # 24 channels / 4 leave fewer than 8: a plain inverted residual.
    assert "layer1.2.cat" not in {layer.name for layer in net.layers}
    assert find_plain_blocks(net) == {"layer1.0", "layer1.1", "layer1.2", "layer2.0"}


def find_plain_blocks(net: Network) -> set[str]:
    blocks = {".".join(layer.name.split(".")[:2]) for layer in net.layers if layer.name.startswith("layer")}
    return {block for block in blocks if f"{block}.cat" not in {layer.name for layer in net.layers}}


def test_originals_padding_is_kept() -> None:
    assert find_network("efficientnet_lite0").layer("_conv_stem").padding == (0, 0, 1, 1)
    assert find_network("efficientnet_lite0").layer("_blocks.3._depthwise_conv").padding == (1, 1, 2, 2)
    assert find_network("mobilenet_v2").layer("features.0.0").padding == (1, 1, 1, 1)
    # 3x3 windows two apart over 54 leave a row over: a rounding pooling has the missing one at the bottom and right.
    pool = find_network("squeezenet1_0").layer("features.6")
    assert (pool.H, pool.P, pool.padding) == (54, 27, (0, 0, 1, 1))
