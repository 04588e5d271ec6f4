"""The eight networks of BitFusion's evaluation, as its released simulator runs them, and its Eyeriss baseline.

Source: hsharma35/bitfusion, ``src/benchmarks/benchmarks.py`` (shapes, bits) and the results it ships (Eyeriss cycles), as
recorded in the project's table of sources. Repeated layers have one entry each.
"""

from __future__ import annotations

from hwsim.published.bitfusion import Machine, Shape


def _conv(k: int, out: int, cin: int, cout: int, a: int, w: int, stride: int = 1, first: bool = False) -> Shape:
    return Shape(kernel=k, out=out, stride=stride, in_channels=cin, out_channels=cout, a_bits=a, w_bits=w, im2col=first)


def _fc(inputs: int, outputs: int, a: int, w: int) -> Shape:
    return _conv(1, 1, inputs, outputs, a, w)


def _alexnet() -> dict[str, Shape]:
    layers: dict[str, Shape] = {}
    for tower in "ab":
        layers |= {
            f"conv1_{tower}": _conv(11, 55, 3, 96, 8, 8, 4, True), f"conv2_{tower}": _conv(5, 27, 96, 256, 4, 4),
            f"conv3_{tower}": _conv(3, 13, 512, 384, 4, 4), f"conv4_{tower}": _conv(3, 13, 384, 384, 4, 4),
            f"conv5_{tower}": _conv(3, 13, 384, 256, 4, 4),
        }  # fmt: skip
    return layers | {"fc1": _fc(18432, 8192, 4, 4), "fc2": _fc(8192, 8192, 4, 4), "fc3": _fc(8192, 1000, 8, 8)}


def _qnn(widths: tuple[int, int, int], first: tuple[int, int], bits: int) -> dict[str, Shape]:
    """SVHN and CIFAR10: three pairs of 3x3 convolutions with poolings between them, then three fully connected layers."""
    a, b, c = widths
    layers = {"conv0": _conv(3, 32, 3, a, *first, first=True)}
    for i, (out, cin, cout) in enumerate(((32, a, a), (16, a, b), (16, b, b), (8, b, c), (8, c, c)), 1):
        layers[f"conv{i}"] = _conv(3, out, cin, cout, bits, bits)
    inputs = 16 * c
    return layers | {
        f"fc{6 + i}": _fc(n, m, bits, bits) for i, (n, m) in enumerate(((inputs, 1024), (1024, 1024), (1024, 10)))
    }


def _vgg7() -> dict[str, Shape]:
    layers: dict[str, Shape] = {}
    for tower in "ab":
        layers |= {
            f"conv1_{tower}": _conv(3, 32, 3, 128, 2, 2, 1, True), f"conv2_{tower}": _conv(3, 16, 128, 256, 2, 2),
            f"conv3_{tower}": _conv(3, 8, 256, 512, 2, 2),
        }  # fmt: skip
    return layers | {"fc1": _fc(8192, 1024, 2, 2)}


def _resnet18() -> dict[str, Shape]:
    layers = {"conv1_a": _conv(7, 112, 3, 128, 8, 8, 2, True)}
    cin = 128
    for stage, (width, out) in enumerate(((128, 56), (256, 28), (512, 14), (1024, 7)), 2):
        for block in (1, 2):
            layers[f"module{stage}/conv{stage}_{block}_a"] = _conv(1, out, cin, width, 4, 4)
            layers[f"module{stage}/conv{stage}_{block}_b"] = _conv(3, out, width, width, 4, 4)
            cin = width
    return layers


NETWORKS: dict[str, dict[str, Shape]] = {
    "AlexNet": _alexnet(),
    "SVHN": _qnn((64, 128, 256), (8, 1), 1),
    "CIFAR10": _qnn((128, 256, 512), (8, 8), 2),
    "LeNet-5": {"conv0": _conv(5, 32, 1, 32, 2, 2, 1, True), "conv1": _conv(5, 16, 32, 64, 2, 2),
                "fc1": _fc(4096, 512, 2, 2), "fc2": _fc(512, 10, 2, 2)},
    "VGG-7": _vgg7(),
    "RESNET-18": _resnet18(),
    "RNN": {"matmul": _fc(4096, 4096, 4, 4)},
    "LSTM": {"matmul": _fc(3600, 3600, 4, 4)},
}  # fmt: skip
EYERISS_CYCLES = {
    "AlexNet": 70_286_336, "SVHN": 11_296_768, "CIFAR10": 44_153_856, "LeNet-5": 1_117_696, "VGG-7": 21_625_856,
    "RESNET-18": 95_485_952, "RNN": 1_048_576, "LSTM": 820_800,
}  # fmt: skip
ENERGY_GAINS = {
    "AlexNet": 1.56, "SVHN": 10.58, "CIFAR10": 14.79, "LeNet-5": 4.30, "VGG-7": 9.87, "RESNET-18": 1.86, "RNN": 5.15,
    "LSTM": 4.79,
}  # fmt: skip
KIB = 1024
MACHINES = {
    "16x32@192": Machine(),
    **{
        f"16x{cols}@4096": Machine(
            cols=cols, wbuf_bytes=2 * cols * KIB, ibuf_bytes=cols * KIB, obuf_bytes=cols // 2 * KIB, port_bits=4096
        )
        for cols in (32, 64, 128, 256)
    },
}
"""By array and port. The sweep's buffers grow with the columns: the only sizes (powers of two) that give its totals."""
