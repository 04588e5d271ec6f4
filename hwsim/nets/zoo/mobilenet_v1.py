"""MobileNetV1 1.0, names as in TensorFlow-Slim: SAME padding, ReLU6, the classifier a 1x1 convolution."""

from __future__ import annotations

from hwsim.nets.builder import SAME, NetBuilder
from hwsim.nets.registry import NetEntry

# Output channels and stride of the thirteen separable convolutions: table 1 of the paper.
_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)


def _lay(net: NetBuilder) -> None:
    x = net.input((3, 224, 224))
    x = net.conv(x, "Conv2d_0", 32, 3, stride=2, padding=SAME, activation="relu6")
    for index, (channels, stride) in enumerate(_BLOCKS, start=1):
        x = net.depthwise(x, f"Conv2d_{index}_depthwise", 3, stride=stride, padding=SAME, activation="relu6")
        x = net.conv(x, f"Conv2d_{index}_pointwise", channels, 1, activation="relu6")
    x = net.global_avgpool(x, "AvgPool_1a")
    x = net.conv(x, "Conv2d_1c_1x1", 1000, 1)
    net.flatten(x)


NETWORKS = (
    NetEntry(
        name="mobilenet_v1",
        title="MobileNetV1 1.0, ImageNet 224x224",
        source="Howard et al., arXiv 1704.04861, table 1; padding of tensorflow/models slim",
        lay=_lay,
        aliases=("mobilenet",),
    ),
)
