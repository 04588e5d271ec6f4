"""MobileNetV2 1.0: inverted residuals with linear bottlenecks, names as in torchvision's state dict."""

from __future__ import annotations

from hwsim.nets.builder import NetBuilder
from hwsim.nets.registry import NetEntry

# Expansion t, output channels c, repeats n, stride of the first s: table 2 of the paper.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _lay_block(net: NetBuilder, x: str, name: str, expansion: int, channels: int, stride: int) -> str:
    in_channels = net.shape(x)[1]
    y, at = x, 0
    if expansion != 1:
        y = net.conv(y, f"{name}.conv.0.0", expansion * in_channels, 1, activation="relu6")
        at = 1
    y = net.depthwise(y, f"{name}.conv.{at}.0", 3, stride=stride, padding=1, activation="relu6")
    y = net.conv(y, f"{name}.conv.{at + 1}", channels, 1)
    return net.add((x, y), f"{name}.add") if stride == 1 and channels == in_channels else y


def _lay(net: NetBuilder) -> None:
    x = net.input((3, 224, 224))
    x = net.conv(x, "features.0.0", 32, 3, stride=2, padding=1, activation="relu6")
    index = 1
    for expansion, channels, repeats, stride in _STAGES:
        for repeat in range(repeats):
            x = _lay_block(net, x, f"features.{index}", expansion, channels, 1 if repeat else stride)
            index += 1
    x = net.conv(x, f"features.{index}.0", 1280, 1, activation="relu6")
    x = net.flatten(net.global_avgpool(x, "avgpool"))
    net.fc(x, "classifier.1", 1000)


NETWORKS = (
    NetEntry(
        name="mobilenet_v2",
        title="MobileNetV2 1.0, ImageNet 224x224",
        source="Sandler et al., CVPR'18, arXiv 1801.04381, table 2; torchvision.models.mobilenetv2 (BSD-3-Clause)",
        lay=_lay,
    ),
)
