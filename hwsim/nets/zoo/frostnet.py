"""FrostNet large, base and small at width 1.0, names as in clovaai/frostnet's state dict.

A block squeezes its input by a 1x1 convolution, joins the result in front of the input, expands, filters depthwise and
projects (the cascade, "CAS"); where the squeeze would leave fewer than 8 channels it is a plain inverted residual.
"""

from __future__ import annotations

from functools import partial

from hwsim.nets.builder import NetBuilder, round_channels
from hwsim.nets.registry import NetEntry

Row = tuple[int, int, int, int, int]

# Kernel, output channels, expansion e, squeeze r, stride; one tuple a stage (clovaai/frostnet 0d553865, frostnet.py).
_LARGE: tuple[tuple[Row, ...], ...] = (
    ((3, 16, 1, 1, 1), (3, 24, 6, 4, 2), (3, 24, 3, 4, 1)),
    ((5, 40, 6, 4, 2), (3, 40, 3, 4, 1)),
    (
        (5, 80, 6, 4, 2),
        (5, 80, 3, 4, 1),
        (5, 80, 3, 4, 1),
        (5, 96, 6, 4, 1),
        (5, 96, 3, 4, 1),
        (3, 96, 3, 4, 1),
        (3, 96, 3, 4, 1),
    ),
    ((5, 192, 6, 2, 2), (5, 192, 6, 4, 1), (5, 192, 6, 4, 1), (5, 192, 3, 4, 1), (5, 192, 3, 4, 1)),
    ((5, 320, 6, 2, 1),),
)
_BASE: tuple[tuple[Row, ...], ...] = (
    ((3, 16, 1, 1, 1), (5, 24, 6, 4, 2), (3, 24, 3, 4, 1)),
    ((5, 40, 3, 4, 2), (5, 40, 3, 4, 1)),
    ((5, 80, 3, 4, 2), (3, 80, 3, 4, 1), (5, 96, 3, 2, 1), (3, 96, 3, 4, 1), (5, 96, 3, 4, 1), (5, 96, 3, 4, 1)),
    ((5, 192, 6, 2, 2), (5, 192, 3, 2, 1), (5, 192, 3, 2, 1), (5, 192, 3, 2, 1)),
    ((5, 320, 6, 2, 1),),
)
_SMALL: tuple[tuple[Row, ...], ...] = (
    ((3, 16, 1, 1, 1), (5, 24, 3, 4, 2), (3, 24, 3, 4, 1)),
    ((5, 40, 3, 4, 2),),
    ((5, 80, 3, 4, 2), (5, 80, 3, 4, 1), (3, 80, 3, 4, 1), (5, 96, 3, 2, 1), (5, 96, 3, 4, 1), (5, 96, 3, 4, 1)),
    ((5, 192, 6, 4, 2), (5, 192, 6, 4, 1), (5, 192, 6, 4, 1)),
    ((5, 320, 6, 2, 1),),
)


def _lay_block(net: NetBuilder, x: str, name: str, row: Row) -> str:
    kernel, channels, expansion, squeeze, stride = row
    in_channels = net.shape(x)[1]
    y = x
    if expansion != 1:
        if in_channels // squeeze >= 8:
            width = round_channels(in_channels // squeeze)
            y = net.conv(x, f"{name}.squeeze_conv.conv.0", width, 1, activation="relu")
            y = net.concat((y, x), f"{name}.cat")
        y = net.conv(y, f"{name}.conv1.conv.0", expansion * net.shape(y)[1], 1, activation="relu")
    y = net.depthwise(y, f"{name}.conv2.conv.0", kernel, stride=stride, padding=(kernel - 1) // 2, activation="relu")
    y = net.conv(y, f"{name}.reduce_conv.conv.0", channels, 1)
    return net.add((x, y), f"{name}.add") if stride == 1 and channels == in_channels else y


def _lay(net: NetBuilder, stages: tuple[tuple[Row, ...], ...]) -> None:
    x = net.input((3, 224, 224))
    x = net.conv(x, "conv1.conv.0", 32, 3, stride=2, padding=1, activation="relu")
    for stage, rows in enumerate(stages, start=1):
        for block, row in enumerate(rows):
            x = _lay_block(net, x, f"layer{stage}.{block}", row)
    x = net.conv(x, "last_layer.conv.0", 1280, 1, activation="relu")
    x = net.global_avgpool(x, "classifier.0")
    x = net.conv(x, "classifier.2", 1000, 1)
    net.flatten(x)


SOURCE = "clovaai/frostnet (MIT), frostnet.py at 0d553865"

NETWORKS = (
    NetEntry(
        name="frostnet_large",
        title="FrostNet large 1.0, ImageNet 224x224",
        source=SOURCE,
        lay=partial(_lay, stages=_LARGE),
    ),
    NetEntry(
        name="frostnet_base",
        title="FrostNet base 1.0, ImageNet 224x224",
        source=SOURCE,
        lay=partial(_lay, stages=_BASE),
    ),
    NetEntry(
        name="frostnet_small",
        title="FrostNet small 1.0, ImageNet 224x224",
        source=SOURCE,
        lay=partial(_lay, stages=_SMALL),
    ),
)
