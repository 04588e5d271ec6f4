"""SqueezeNet 1.0 and 1.1: fire modules, poolings that round up; names as in torchvision's state dict."""

from __future__ import annotations

from functools import partial

from hwsim.nets.builder import NetBuilder
from hwsim.nets.registry import NetEntry

# Squeeze and expand channels of the eight fire modules (torchvision).
_FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))


def _lay_fire(net: NetBuilder, x: str, name: str, squeeze: int, expand: int) -> str:
    x = net.conv(x, f"{name}.squeeze", squeeze, 1, activation="relu")
    left = net.conv(x, f"{name}.expand1x1", expand, 1, activation="relu")
    right = net.conv(x, f"{name}.expand3x3", expand, 3, padding=1, activation="relu")
    return net.concat((left, right), f"{name}.cat")


def _lay(net: NetBuilder, channels: int, kernel: int, pool_after: tuple[int, ...]) -> None:
    x = net.input((3, 224, 224))
    x = net.conv(x, "features.0", channels, kernel, stride=2, activation="relu")
    x = net.maxpool(x, "features.2", 3, stride=2, ceil_mode=True)
    module = 3
    for index, (squeeze, expand) in enumerate(_FIRES, start=1):
        x = _lay_fire(net, x, f"features.{module}", squeeze, expand)
        module += 1
        if index in pool_after:
            x = net.maxpool(x, f"features.{module}", 3, stride=2, ceil_mode=True)
            module += 1
    x = net.conv(x, "classifier.1", 1000, 1, activation="relu")
    net.flatten(net.global_avgpool(x, "classifier.3"))


SOURCE = "Iandola et al., arXiv 1602.07360; torchvision.models.squeezenet (BSD-3-Clause)"

NETWORKS = (
    NetEntry(
        name="squeezenet1_0",
        title="SqueezeNet 1.0, ImageNet 224x224",
        source=SOURCE,
        lay=partial(_lay, channels=96, kernel=7, pool_after=(3, 7)),
        aliases=("squeezenet",),
    ),
    NetEntry(
        name="squeezenet1_1",
        title="SqueezeNet 1.1, ImageNet 224x224",
        source=SOURCE,
        lay=partial(_lay, channels=64, kernel=3, pool_after=(2, 4)),
    ),
)
