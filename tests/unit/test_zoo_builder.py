"""The builder's shapes and paddings, and the registry's names."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hwsim.core.errors import SpecError, UnknownName
from hwsim.nets.builder import SAME, NetBuilder, round_channels
from hwsim.nets.registry import find_network, list_networks, normalize_name


def start(shape: tuple[int, ...]) -> tuple[NetBuilder, str]:
    net = NetBuilder("test", "written here")
    return net, net.input(shape)


@pytest.mark.parametrize("size", range(5, 16))
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (2, 2), (3, 1), (3, 2), (5, 2), (4, 3), (2, 3)])
def test_same_padding_gives_one_output_a_stride_and_puts_the_odd_row_last(size: int, kernel: int, stride: int) -> None:
    net, x = start((4, size, size + 1))
    net.conv(x, "conv", 8, kernel, stride=stride, padding=SAME)
    layer = net.finish().layer("conv")
    assert layer.out_shape[2:] == (-(-size // stride), -(-(size + 1) // stride))
    top, left, bottom, right = layer.padding
    assert bottom - top in (0, 1)
    assert right - left in (0, 1)
    # No row of padding more than the last window needs.
    assert bottom == 0 or (layer.P - 1) * stride + kernel == size + top + bottom


@pytest.mark.parametrize("size", range(5, 16))
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 3, 1), (2, 3, 0), (5, 3, 2), (4, 3, 1)]
)
def test_rounding_pool_counts_each_window_that_starts_on_data(
    size: int, kernel: int, stride: int, padding: int
) -> None:
    net, x = start((4, size, size))
    net.maxpool(x, "pool", kernel, stride=stride, padding=padding, ceil_mode=True)
    layer = net.finish().layer("pool")
    # Naively: step until a window has covered the end of the data and its padding, keep those that start before the
    # data's end.
    starts, at = [-padding], -padding
    while at + kernel < size + padding:
        at += stride
        starts.append(at)
    starts = [at for at in starts if at < size]
    assert layer.P == layer.Q == len(starts)
    assert layer.padding[:2] == (padding, padding)
    assert layer.padding[2] == max(padding, starts[-1] + kernel - size)


def test_layer_dimensions_are_those_of_the_call() -> None:
    net, x = start((6, 9, 7))
    y = net.conv(x, "grouped", 8, (3, 5), stride=(2, 1), padding=(1, 2, 1, 2), groups=2, dilation=(2, 1))
    z = net.depthwise(y, "dw", 3, padding=1, activation="relu6")
    net.fc(net.flatten(z), "fc", 5)
    network = net.finish()
    layer = network.layer("grouped")
    assert (layer.G, layer.K, layer.C, layer.P, layer.Q) == (2, 4, 3, 4, 7)
    assert network.layer("dw").is_depthwise
    assert network.layer("dw").out_shape == (1, 8, 4, 7)
    assert network.layer("fc").C == 8 * 4 * 7
    assert network.outputs == ("fc",)


def test_unread_tensors_become_outputs_unless_named() -> None:
    net, x = start((4, 8, 8))
    net.conv(x, "a", 4, 1)
    net.conv(x, "b", 4, 1)
    assert net.finish().outputs == ("a", "b")
    assert net.finish(["b"]).outputs == ("b",)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda net, x: net.conv(x, "c", 8, 3, groups=4),
            "layer c.groups: got 4, expected a divisor of 6 and 8 channels",
        ),
        (lambda net, x: net.fc(x, "f", 3), "layer f.inputs: got (1, 6, 9, 9), expected a vector (flatten it first)"),
        (lambda net, x: net.shuffle(x, "s", 4), "layer s.groups: got 4, expected a divisor of 6 channels"),
        (lambda net, x: net.slice_channels(x, "s", 2, 7), "layer s: got (2, 7), expected 0 <= start < stop <= 6"),
        (lambda net, x: net.conv(x, "c", 8, 3, padding="valid"), "padding: got 'valid', expected a number, four"),
    ],
)
def test_impossible_layer_is_an_error_that_names_it(call: object, message: str) -> None:
    net, x = start((6, 9, 9))
    with pytest.raises(SpecError) as caught:
        call(net, x)
    assert str(caught.value).startswith(message)


def test_channels_round_to_eight_and_lose_at_most_a_tenth() -> None:
    assert [round_channels(c) for c in (3, 8, 11, 12, 18, 60, 240)] == [8, 8, 16, 16, 24, 64, 240]


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("ResNet-18", "resnet18"),
        ("mobilenetv2", "mobilenet_v2"),
        ("MobileNet_V2", "mobilenet_v2"),
        ("resnet50 v1.5", "resnet50"),
        ("squeezenet1.1", "squeezenet1_1"),
        ("VGG-16-CIFAR10", "vgg16_cifar10"),
        ("vww", "mobilenet_v1_0.25_96"),
    ],
)
def test_a_network_answers_to_its_spellings(spelling: str, name: str) -> None:
    assert find_network(spelling).name == name
    assert find_network(spelling) is find_network(name)


def test_unknown_network_suggests_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"^unknown net 'resnet19': did you mean .*resnet18"):
        find_network("resnet19")


def test_no_two_networks_share_a_name() -> None:
    keys = [normalize_name(name) for entry in list_networks() for name in {entry.name, *entry.aliases}]
    assert len(keys) == len(set(keys))
    assert all(entry.title and entry.source for entry in list_networks())


def test_listing_imports_no_array_library() -> None:
    script = (
        "import sys; from hwsim.nets.registry import find_network, list_networks; list_networks();"
        "find_network('resnet18'); print(*{'numpy', 'numba', 'pandas', 'onnx'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
