"""VGG for ImageNet (names as in torchvision's state dict), for CIFAR-10 with one fully connected layer, VGG-small.

The CIFAR-10 nets number their modules with a batch normalization behind each convolution (kuangliu/pytorch-cifar),
so that its state dict's normalizations fold by position.
"""

from __future__ import annotations

from functools import partial

from hwsim.nets.builder import NetBuilder
from hwsim.nets.registry import NetEntry

# Channels of the 3x3 convolutions, one tuple a stage; a 2x2 maximum stands behind each stage: table 1 of the paper.
_STAGES = {
    11: ((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2),
    16: ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3),
    19: ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4),
}
_SMALL = ((128,) * 2, (256,) * 2, (512,) * 2)


def _lay(
    net: NetBuilder,
    stages: tuple[tuple[int, ...], ...],
    size: int,
    modules_per_conv: int,
    head: tuple[tuple[str, int], ...],
) -> None:
    x, module = net.input((3, size, size)), 0
    for stage in stages:
        for channels in stage:
            x = net.conv(x, f"features.{module}", channels, 3, padding=1, activation="relu")
            module += modules_per_conv
        x = net.maxpool(x, f"features.{module}", 2, stride=2)
        module += 1
    x = net.flatten(x)
    for name, features in head[:-1]:
        x = net.fc(x, name, features, activation="relu")
    net.fc(x, *head[-1])


_HEAD = (("classifier.0", 4096), ("classifier.3", 4096), ("classifier.6", 1000))
_PAPER = "Simonyan and Zisserman, arXiv 1409.1556, table 1"

NETWORKS = (
    *(
        NetEntry(
            name=f"vgg{depth}",
            title=f"VGG-{depth}, ImageNet 224x224",
            source=f"{_PAPER}; torchvision.models.vgg (BSD-3-Clause)",
            lay=partial(_lay, stages=stages, size=224, modules_per_conv=2, head=_HEAD),
        )
        for depth, stages in _STAGES.items()
    ),
    *(
        NetEntry(
            name=f"vgg{depth}_cifar10",
            title=f"VGG-{depth} with one fully connected layer, CIFAR-10 32x32",
            source=f"{_PAPER}, convolutions; head of kuangliu/pytorch-cifar (MIT)",
            lay=partial(_lay, stages=stages, size=32, modules_per_conv=3, head=(("classifier", 10),)),
        )
        for depth, stages in _STAGES.items()
    ),
    NetEntry(
        name="vgg_small",
        title="VGG-small (2x128, 2x256, 2x512, fully connected 1024 and 10), CIFAR-10 32x32",
        source="convolutions of BinaryConnect's CIFAR-10 net (arXiv 1511.00363), one hidden layer of 1024; unverified",
        lay=partial(
            _lay, stages=_SMALL, size=32, modules_per_conv=3, head=(("classifier.0", 1024), ("classifier.3", 10))
        ),
    ),
)
