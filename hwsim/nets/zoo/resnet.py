"""ResNet for ImageNet: basic blocks (18, 34) and bottlenecks (50), names as in torchvision's state dict.

He et al., "Deep residual learning for image recognition", CVPR'16. ResNet-50 v1 is the paper's: a bottleneck that
halves the map strides in its first 1x1; v1.5 (torchvision) strides in its 3x3.
"""

from __future__ import annotations

from functools import partial

from hwsim.nets.builder import NetBuilder
from hwsim.nets.registry import NetEntry

PAPER = "He et al., CVPR'16, arXiv 1512.03385, table 1"
TORCHVISION = "torchvision.models.resnet (BSD-3-Clause)"


def lay_basic_block(net: NetBuilder, x: str, name: str, channels: int, stride: int) -> str:
    """Lay two 3x3 convolutions and a shortcut, a 1x1 convolution where the shape changes."""
    y = net.conv(x, f"{name}.conv1", channels, 3, stride=stride, padding=1, activation="relu")
    y = net.conv(y, f"{name}.conv2", channels, 3, padding=1)
    if stride != 1 or net.shape(x)[1] != channels:
        x = net.conv(x, f"{name}.downsample.0", channels, 1, stride=stride)
    return net.add((y, x), f"{name}.add", activation="relu")


def _lay_bottleneck(net: NetBuilder, x: str, name: str, width: int, stride: int, stride_in_first: bool) -> str:
    first, second = (stride, 1) if stride_in_first else (1, stride)
    y = net.conv(x, f"{name}.conv1", width, 1, stride=first, activation="relu")
    y = net.conv(y, f"{name}.conv2", width, 3, stride=second, padding=1, activation="relu")
    y = net.conv(y, f"{name}.conv3", 4 * width, 1)
    if stride != 1 or net.shape(x)[1] != 4 * width:
        x = net.conv(x, f"{name}.downsample.0", 4 * width, 1, stride=stride)
    return net.add((y, x), f"{name}.add", activation="relu")


def _lay(net: NetBuilder, depths: tuple[int, ...], bottleneck: bool = False, stride_in_first: bool = False) -> None:
    x = net.input((3, 224, 224))
    x = net.conv(x, "conv1", 64, 7, stride=2, padding=3, activation="relu")
    x = net.maxpool(x, "maxpool", 3, stride=2, padding=1)
    for stage, depth in enumerate(depths):
        for block in range(depth):
            name, stride = f"layer{stage + 1}.{block}", 2 if stage and not block else 1
            if bottleneck:
                x = _lay_bottleneck(net, x, name, 64 << stage, stride, stride_in_first)
            else:
                x = lay_basic_block(net, x, name, 64 << stage, stride)
    x = net.flatten(net.global_avgpool(x, "avgpool"))
    net.fc(x, "fc", 1000)


_DEPTH_34 = (3, 4, 6, 3)

NETWORKS = (
    NetEntry(
        name="resnet18",
        title="ResNet-18, ImageNet 224x224",
        source=f"{PAPER}; {TORCHVISION}",
        lay=partial(_lay, depths=(2, 2, 2, 2)),
    ),
    NetEntry(
        name="resnet34",
        title="ResNet-34, ImageNet 224x224",
        source=f"{PAPER}; {TORCHVISION}",
        lay=partial(_lay, depths=_DEPTH_34),
    ),
    NetEntry(
        name="resnet50",
        title="ResNet-50 v1.5 (stride in the 3x3), ImageNet 224x224",
        source=TORCHVISION,
        lay=partial(_lay, depths=_DEPTH_34, bottleneck=True),
        aliases=("resnet50_v1.5",),
    ),
    NetEntry(
        name="resnet50_v1",
        title="ResNet-50 v1 (stride in the 1x1), ImageNet 224x224",
        source=PAPER,
        lay=partial(_lay, depths=_DEPTH_34, bottleneck=True, stride_in_first=True),
        aliases=("resnet50_v1.0",),
    ),
)
