"""MobileNetV3 large and small: inverted residuals with squeeze and excite, names as in torchvision's state dict."""

from __future__ import annotations

from functools import partial

from hwsim.nets.builder import NetBuilder, round_channels
from hwsim.nets.registry import NetEntry

Row = tuple[int, int, int, bool, str, int]

# Kernel, expanded channels, output channels, squeeze-excite, activation, stride: tables 1 and 2 of the paper.
_LARGE: tuple[Row, ...] = (
    (3, 16, 16, False, "relu", 1),
    (3, 64, 24, False, "relu", 2),
    (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2),
    (5, 120, 40, True, "relu", 1),
    (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hard_swish", 2),
    (3, 200, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 480, 112, True, "hard_swish", 1),
    (3, 672, 112, True, "hard_swish", 1),
    (5, 672, 160, True, "hard_swish", 2),
    (5, 960, 160, True, "hard_swish", 1),
    (5, 960, 160, True, "hard_swish", 1),
)
_SMALL: tuple[Row, ...] = (
    (3, 16, 16, True, "relu", 2),
    (3, 72, 24, False, "relu", 2),
    (3, 88, 24, False, "relu", 1),
    (5, 96, 40, True, "hard_swish", 2),
    (5, 240, 40, True, "hard_swish", 1),
    (5, 240, 40, True, "hard_swish", 1),
    (5, 120, 48, True, "hard_swish", 1),
    (5, 144, 48, True, "hard_swish", 1),
    (5, 288, 96, True, "hard_swish", 2),
    (5, 576, 96, True, "hard_swish", 1),
    (5, 576, 96, True, "hard_swish", 1),
)


def _lay_squeeze_excite(net: NetBuilder, x: str, name: str) -> str:
    channels = net.shape(x)[1]
    y = net.global_avgpool(x, f"{name}.avgpool")
    y = net.conv(y, f"{name}.fc1", round_channels(channels // 4), 1, activation="relu")
    y = net.conv(y, f"{name}.fc2", channels, 1, activation="hard_sigmoid")
    return net.mul((x, y), f"{name}.mul")


def _lay_block(net: NetBuilder, x: str, name: str, row: Row) -> str:
    kernel, expanded, channels, excite, activation, stride = row
    in_channels = net.shape(x)[1]
    y, at = x, 0
    if expanded != in_channels:
        y = net.conv(y, f"{name}.block.{at}.0", expanded, 1, activation=activation)
        at += 1
    y = net.depthwise(
        y, f"{name}.block.{at}.0", kernel, stride=stride, padding=(kernel - 1) // 2, activation=activation
    )
    if excite:
        at += 1
        y = _lay_squeeze_excite(net, y, f"{name}.block.{at}")
    y = net.conv(y, f"{name}.block.{at + 1}.0", channels, 1)
    return net.add((y, x), f"{name}.add") if stride == 1 and channels == in_channels else y


def _lay(net: NetBuilder, rows: tuple[Row, ...], last: int) -> None:
    x = net.input((3, 224, 224))
    x = net.conv(x, "features.0.0", 16, 3, stride=2, padding=1, activation="hard_swish")
    for index, row in enumerate(rows, start=1):
        x = _lay_block(net, x, f"features.{index}", row)
    x = net.conv(x, f"features.{len(rows) + 1}.0", 6 * net.shape(x)[1], 1, activation="hard_swish")
    x = net.flatten(net.global_avgpool(x, "avgpool"))
    x = net.fc(x, "classifier.0", last, activation="hard_swish")
    net.fc(x, "classifier.3", 1000)


SOURCE = "Howard et al., ICCV'19, arXiv 1905.02244, tables 1 and 2; torchvision.models.mobilenetv3 (BSD-3-Clause)"

NETWORKS = (
    NetEntry(
        name="mobilenet_v3_large",
        title="MobileNetV3-Large 1.0, ImageNet 224x224",
        source=SOURCE,
        lay=partial(_lay, rows=_LARGE, last=1280),
        aliases=("mobilenet_v3_l",),
    ),
    NetEntry(
        name="mobilenet_v3_small",
        title="MobileNetV3-Small 1.0, ImageNet 224x224",
        source=SOURCE,
        lay=partial(_lay, rows=_SMALL, last=1024),
        aliases=("mobilenet_v3_s",),
    ),
)
