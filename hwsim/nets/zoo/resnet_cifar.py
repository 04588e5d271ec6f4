"""ResNet for CIFAR-10: 20 and 56 with 1x1 shortcuts, and the pre-activation bottleneck ResNet-164."""

from __future__ import annotations

from functools import partial

from hwsim.nets.builder import NetBuilder
from hwsim.nets.registry import NetEntry
from hwsim.nets.zoo.resnet import lay_basic_block


def _lay_basic(net: NetBuilder, blocks: int) -> None:
    x = net.input((3, 32, 32))
    x = net.conv(x, "conv1", 16, 3, padding=1, activation="relu")
    for stage in range(3):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            x = lay_basic_block(net, x, f"layer{stage + 1}.{block}", 16 << stage, stride)
    x = net.flatten(net.global_avgpool(x, "avgpool"))
    net.fc(x, "fc", 10)


def _lay_preact_bottleneck(net: NetBuilder, x: str, name: str, width: int, stride: int) -> str:
    """Lay normalization, 1x1, 3x3, 1x1; the shortcut takes the input before its normalization.

    The first normalization follows an addition, so no convolution can absorb it: it stays as a ``scale`` layer.
    """
    y = net.scale(x, f"{name}.bn1", activation="relu")
    y = net.conv(y, f"{name}.conv1", width, 1, activation="relu")
    y = net.conv(y, f"{name}.conv2", width, 3, stride=stride, padding=1, activation="relu")
    y = net.conv(y, f"{name}.conv3", 4 * width, 1)
    if stride != 1 or net.shape(x)[1] != 4 * width:
        x = net.conv(x, f"{name}.downsample.0", 4 * width, 1, stride=stride)
    return net.add((y, x), f"{name}.add")


def _lay_preact(net: NetBuilder, blocks: int) -> None:
    x = net.input((3, 32, 32))
    x = net.conv(x, "conv1", 16, 3, padding=1)
    for stage in range(3):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            x = _lay_preact_bottleneck(net, x, f"layer{stage + 1}.{block}", 16 << stage, stride)
    x = net.scale(x, "bn", activation="relu")
    x = net.flatten(net.global_avgpool(x, "avgpool"))
    net.fc(x, "fc", 10)


PAPER = "He et al., CVPR'16, arXiv 1512.03385, section 4.2, with 1x1 shortcuts (option B)"

NETWORKS = (
    NetEntry(
        name="resnet20_cifar10",
        title="ResNet-20 with 1x1 shortcuts, CIFAR-10 32x32",
        source=PAPER,
        lay=partial(_lay_basic, blocks=3),
        aliases=("resnet20",),
    ),
    NetEntry(
        name="resnet56_cifar10",
        title="ResNet-56 with 1x1 shortcuts, CIFAR-10 32x32",
        source=PAPER,
        lay=partial(_lay_basic, blocks=9),
        aliases=("resnet56",),
    ),
    NetEntry(
        name="resnet164_cifar10",
        title="ResNet-164, pre-activation bottlenecks, CIFAR-10 32x32",
        source="He et al., ECCV'16, arXiv 1603.05027; shortcuts as in Eric-mingjie/network-slimming (MIT)",
        lay=partial(_lay_preact, blocks=18),
        aliases=("resnet164",),
    ),
)
