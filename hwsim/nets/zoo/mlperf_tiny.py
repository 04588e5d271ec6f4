"""The four networks of MLPerf Tiny: layers named as Keras names them in mlcommons/tiny's scripts, SAME padding."""

from __future__ import annotations

from hwsim.nets.builder import SAME, NetBuilder
from hwsim.nets.registry import NetEntry


def _lay_resnet8(net: NetBuilder) -> None:
    """Lay the image classification net with 16 filters: that of the released ``pretrainedResnet`` files."""
    x = net.input((3, 32, 32))
    x = net.conv(x, "conv2d", 16, 3, padding=SAME, activation="relu")
    index = 1
    for stage, stride in enumerate((1, 2, 2)):
        channels = 16 << stage
        y = net.conv(x, f"conv2d_{index}", channels, 3, stride=stride, padding=SAME, activation="relu")
        y = net.conv(y, f"conv2d_{index + 1}", channels, 3, padding=SAME)
        index += 2
        if stride != 1:
            x = net.conv(x, f"conv2d_{index}", channels, 1, stride=stride, padding=SAME)
            index += 1
        x = net.add((x, y), f"add_{stage}" if stage else "add", activation="relu")
    x = net.flatten(net.global_avgpool(x, "average_pooling2d"))
    net.softmax(net.fc(x, "dense", 10), "softmax")


def _lay_ds_cnn(net: NetBuilder) -> None:
    x = net.input((1, 49, 10))
    x = net.conv(x, "conv2d", 64, (10, 4), stride=2, padding=SAME, activation="relu")
    for index in range(4):
        suffix = f"_{index}" if index else ""
        x = net.depthwise(x, f"depthwise_conv2d{suffix}", 3, padding=SAME, activation="relu")
        x = net.conv(x, f"conv2d_{index + 1}", 64, 1, activation="relu")
    x = net.flatten(net.global_avgpool(x, "average_pooling2d"))
    net.softmax(net.fc(x, "dense", 12), "softmax")


# Output channels of the pointwise and stride of the depthwise convolution (vww_model.py).
_VWW_BLOCKS = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *((128, 1),) * 5, (256, 2), (256, 1))


def _lay_vww(net: NetBuilder) -> None:
    x = net.input((3, 96, 96))
    x = net.conv(x, "conv2d", 8, 3, stride=2, padding=SAME, activation="relu")
    for index, (channels, stride) in enumerate(_VWW_BLOCKS):
        suffix = f"_{index}" if index else ""
        x = net.depthwise(x, f"depthwise_conv2d{suffix}", 3, stride=stride, padding=SAME, activation="relu")
        x = net.conv(x, f"conv2d_{index + 1}", channels, 1, activation="relu")
    x = net.flatten(net.global_avgpool(x, "average_pooling2d"))
    net.softmax(net.fc(x, "dense", 2), "softmax")


def _lay_autoencoder(net: NetBuilder) -> None:
    x = net.fc(net.input((640,)), "dense", 128, activation="relu")
    for index, features in enumerate((128, 128, 128, 8, 128, 128, 128, 128), start=1):
        x = net.fc(x, f"dense_{index}", features, activation="relu")
    net.fc(x, "dense_9", 640)


_SOURCE = "mlcommons/tiny (Apache-2.0) at 1afd2c98, benchmark/training/"

NETWORKS = (
    NetEntry(
        name="resnet8",
        title="MLPerf Tiny image classification: ResNet-8, CIFAR-10 32x32",
        source=f"{_SOURCE}image_classification, 16 filters",
        lay=_lay_resnet8,
        aliases=("mlperf_tiny_resnet8", "resnet8_cifar10"),
    ),
    NetEntry(
        name="ds_cnn",
        title="MLPerf Tiny keyword spotting: DS-CNN, 49x10 spectrogram",
        source=f"{_SOURCE}keyword_spotting",
        lay=_lay_ds_cnn,
        aliases=("mlperf_tiny_ds_cnn", "kws"),
    ),
    NetEntry(
        name="mobilenet_v1_0.25_96",
        title="MLPerf Tiny visual wake words: MobileNetV1 0.25, 96x96",
        source=f"{_SOURCE}visual_wake_words",
        lay=_lay_vww,
        aliases=("mobilenet_v1_0.25", "mlperf_tiny_mobilenet_v1", "vww"),
    ),
    NetEntry(
        name="autoencoder",
        title="MLPerf Tiny anomaly detection: autoencoder 640-128x4-8-128x4-640",
        source=f"{_SOURCE}anomaly_detection",
        lay=_lay_autoencoder,
        aliases=("mlperf_tiny_autoencoder", "ad01", "ad"),
    ),
)
