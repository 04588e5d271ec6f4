"""AlexNet: the original with two groups and local response normalization at 227x227, and torchvision's at 224x224."""

from __future__ import annotations

from hwsim.nets.builder import NetBuilder
from hwsim.nets.registry import NetEntry


def _lay_grouped(net: NetBuilder) -> None:
    """Lay the paper's net, named as in Caffe's bvlc_alexnet: normalization before pooling, three layers in groups.

    The normalization's constants are Caffe's (bias 1 where the paper has 2).
    """
    x = net.input((3, 227, 227))
    x = net.conv(x, "conv1", 96, 11, stride=4, activation="relu")
    x = net.lrn(x, "norm1", size=5, alpha=1e-4, beta=0.75, bias=1.0)
    x = net.maxpool(x, "pool1", 3, stride=2)
    x = net.conv(x, "conv2", 256, 5, padding=2, groups=2, activation="relu")
    x = net.lrn(x, "norm2", size=5, alpha=1e-4, beta=0.75, bias=1.0)
    x = net.maxpool(x, "pool2", 3, stride=2)
    x = net.conv(x, "conv3", 384, 3, padding=1, activation="relu")
    x = net.conv(x, "conv4", 384, 3, padding=1, groups=2, activation="relu")
    x = net.conv(x, "conv5", 256, 3, padding=1, groups=2, activation="relu")
    x = net.flatten(net.maxpool(x, "pool5", 3, stride=2))
    x = net.fc(x, "fc6", 4096, activation="relu")
    x = net.fc(x, "fc7", 4096, activation="relu")
    net.fc(x, "fc8", 1000)


def _lay_torchvision(net: NetBuilder) -> None:
    x = net.input((3, 224, 224))
    x = net.conv(x, "features.0", 64, 11, stride=4, padding=2, activation="relu")
    x = net.maxpool(x, "features.2", 3, stride=2)
    x = net.conv(x, "features.3", 192, 5, padding=2, activation="relu")
    x = net.maxpool(x, "features.5", 3, stride=2)
    x = net.conv(x, "features.6", 384, 3, padding=1, activation="relu")
    x = net.conv(x, "features.8", 256, 3, padding=1, activation="relu")
    x = net.conv(x, "features.10", 256, 3, padding=1, activation="relu")
    x = net.flatten(net.maxpool(x, "features.12", 3, stride=2))
    x = net.fc(x, "classifier.1", 4096, activation="relu")
    x = net.fc(x, "classifier.4", 4096, activation="relu")
    net.fc(x, "classifier.6", 1000)


NETWORKS = (
    NetEntry(
        name="alexnet",
        title="AlexNet as in torchvision (no groups), ImageNet 224x224",
        source="Krizhevsky, arXiv 1404.5997; torchvision.models.alexnet (BSD-3-Clause)",
        lay=_lay_torchvision,
    ),
    NetEntry(
        name="alexnet_grouped",
        title="AlexNet with two groups, ImageNet 227x227",
        source="Krizhevsky et al., NIPS'12; BVLC/caffe models/bvlc_alexnet",
        lay=_lay_grouped,
        aliases=("alexnet_227", "bvlc_alexnet"),
    ),
)
