"""ShuffleNetV2 0.5x and 1.0x: channel split, concatenation and shuffle; names as in torchvision's state dict."""

from __future__ import annotations

from functools import partial

from hwsim.nets.builder import NetBuilder
from hwsim.nets.registry import NetEntry

_REPEATS = (4, 8, 4)
"""Units of stages 2 to 4, of every width (torchvision)."""


def _lay_unit(net: NetBuilder, x: str, name: str, channels: int, stride: int) -> str:
    half = channels // 2
    if stride == 1:
        left = net.slice_channels(x, f"{name}.left", 0, half)
        right = net.slice_channels(x, f"{name}.right", half, channels)
    else:
        left = net.depthwise(x, f"{name}.branch1.0", 3, stride=stride, padding=1)
        left = net.conv(left, f"{name}.branch1.2", half, 1, activation="relu")
        right = x
    right = net.conv(right, f"{name}.branch2.0", half, 1, activation="relu")
    right = net.depthwise(right, f"{name}.branch2.3", 3, stride=stride, padding=1)
    right = net.conv(right, f"{name}.branch2.5", half, 1, activation="relu")
    return net.shuffle(net.concat((left, right), f"{name}.cat"), f"{name}.shuffle", 2)


def _lay(net: NetBuilder, widths: tuple[int, int, int]) -> None:
    x = net.input((3, 224, 224))
    x = net.conv(x, "conv1.0", 24, 3, stride=2, padding=1, activation="relu")
    x = net.maxpool(x, "maxpool", 3, stride=2, padding=1)
    for stage, (channels, repeats) in enumerate(zip(widths, _REPEATS, strict=True), start=2):
        for unit in range(repeats):
            x = _lay_unit(net, x, f"stage{stage}.{unit}", channels, 1 if unit else 2)
    x = net.conv(x, "conv5.0", 1024, 1, activation="relu")
    x = net.flatten(net.global_avgpool(x, "avgpool"))
    net.fc(x, "fc", 1000)


SOURCE = "Ma et al., ECCV'18, arXiv 1807.11164; torchvision.models.shufflenetv2 (BSD-3-Clause)"

NETWORKS = (
    NetEntry(
        name="shufflenet_v2_x0_5",
        title="ShuffleNetV2 0.5x, ImageNet 224x224",
        source=SOURCE,
        lay=partial(_lay, widths=(48, 96, 192)),
        aliases=("shufflenet_v2_0.5",),
    ),
    NetEntry(
        name="shufflenet_v2_x1_0",
        title="ShuffleNetV2 1.0x, ImageNet 224x224",
        source=SOURCE,
        lay=partial(_lay, widths=(116, 232, 464)),
        aliases=("shufflenet_v2", "shufflenet_v2_1.0"),
    ),
)
