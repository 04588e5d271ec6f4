"""The ShuffleNetV2 that single-path one-shot search found; names as in its own state dict.

Blocks 0, 1, 2 are ShuffleNetV2 units with a kernel of 3, 5, 7, block 3 is the Xception-like unit of three separable
convolutions. The units take their input's even channels as they are and work on the odd ones, so the shuffle stands in front.
"""

from __future__ import annotations

from hwsim.nets.builder import NetBuilder
from hwsim.nets.registry import NetEntry

REPEATS = (4, 4, 8, 4)
WIDTHS = (64, 160, 320, 640)
ARCHITECTURE = (2, 1, 0, 1, 2, 0, 2, 0, 2, 0, 2, 3, 0, 0, 0, 0, 3, 2, 3, 3)
"""Choice of block by unit (README)."""
XCEPTION = 3
KERNELS = (3, 5, 7, 3)


def _separate(net: NetBuilder, x: str, name: str, first: int, channels: int, kernel: int, stride: int = 1) -> str:
    """Lay a depthwise and a 1x1 convolution, numbered from ``first``; normalization folds into both."""
    x = net.depthwise(x, f"{name}.{first}", kernel, stride=stride, padding=kernel // 2)
    return net.conv(x, f"{name}.{first + 2}", channels, 1, activation="relu")


def _lay_unit(net: NetBuilder, x: str, name: str, channels: int, choice: int, stride: int) -> str:
    kernel, middle = KERNELS[choice], channels // 2
    if stride == 1:
        half = net.shape(x)[1] // 2
        x = net.shuffle(x, f"{name}.shuffle", half)
        left = net.slice_channels(x, f"{name}.left", 0, half)
        right = net.slice_channels(x, f"{name}.right", half, 2 * half)
    else:
        half = net.shape(x)[1]
        left = _separate(net, x, f"{name}.branch_proj", 0, half, kernel, stride)
        right = x
    main = f"{name}.branch_main"
    if choice == XCEPTION:
        right = _separate(net, right, main, 0, middle, kernel, stride)
        right = _separate(net, right, main, 5, middle, kernel)
        right = _separate(net, right, main, 10, channels - half, kernel)
    else:
        right = net.conv(right, f"{main}.0", middle, 1, activation="relu")
        right = _separate(net, right, main, 3, channels - half, kernel, stride)
    return net.concat((left, right), f"{name}.cat")


def _lay(net: NetBuilder) -> None:
    x = net.conv(net.input((3, 224, 224)), "first_conv.0", 16, 3, stride=2, padding=1, activation="relu")
    unit = 0
    for channels, repeats in zip(WIDTHS, REPEATS, strict=True):
        for place in range(repeats):
            x = _lay_unit(net, x, f"features.{unit}", channels, ARCHITECTURE[unit], 1 if place else 2)
            unit += 1
    x = net.conv(x, "conv_last.0", 1024, 1, activation="relu")
    net.fc(net.flatten(net.global_avgpool(x, "globalpool")), "classifier.0", 1000)


NETWORKS = (
    NetEntry(
        name="spos_shufflenet",
        title="ShuffleNetV2 of single-path one-shot search, ImageNet 224x224",
        source="Guo et al., arXiv 1904.00420; megvii-model/SinglePathOneShot (MIT), src/Evaluation/template",
        lay=_lay,
        aliases=("spos",),
    ),
)
