"""Networks of mixed operators: NASA's searched one, and ShiftAddNet's pairs of a shift and an adder layer.

NASA's blocks are 1x1 expansion, depthwise k x k, 1x1 projection, all of one operator. Each comes with the bits that
GATECH-EIC/NASA trains it at: convolutions 8, shift layers 6 for weights (sign and exponent) and 16 for activations, adder layers 6.
"""

from __future__ import annotations

from functools import partial

from hwsim.core.policy import LayerFormat
from hwsim.nets.builder import NetBuilder
from hwsim.nets.registry import NetEntry

STEM, HEADER = 16, 1504
DEPTHS = (1, 4, 4, 4, 4, 4, 1)
CHANNELS = (16, 24, 32, 64, 112, 184, 352)
STRIDES = (1, 1, 2, 2, 1, 2, 1)
"""Blocks, output channels and first stride of each stage (GATECH-EIC/NASA, ``config_search.py``)."""
SEARCHED = (
    "k3_e6", "k5_e3", "k3_e3", "add_k5_e3", "add_k5_e3", "k5_e3", "add_k5_e3", "add_k3_e3", "add_k3_e3", "k5_e6", "add_k3_e6",
    "add_k3_e6", "shift_k3_e3", "k3_e6", "shift_k3_e6", "shift_k3_e3", "k3_e3", "k5_e6", "shift_k3_e3", "shift_k5_e6",
    "shift_k5_e6", "shift_k5_e6",
)  # fmt: skip
"""The network that the repository stores (``alpha_gen.py``): operator, window k and expansion e of its 22 blocks."""
NASA_FORMATS = (
    ("multiply", LayerFormat(w_bits=8, a_bits=8)),
    ("shift", LayerFormat(w_bits=6, a_bits=16, operator="shift")),
    ("add", LayerFormat(w_bits=6, a_bits=6, operator="add")),
)


def lay_pair(
    net: NetBuilder,
    x: str,
    name: str,
    channels: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int = 0,
    activation: str = "none",
) -> str:
    """Append ShiftAddNet's pair: a shift layer, then an adder layer of the same window on its result.

    The shift layer takes stride and change of channels, the adder layer keeps the shape (You et al., NeurIPS 2020, arXiv
    2010.12785). Layers are named ``name.shift`` and ``name.add``.
    """
    y = net.conv(x, f"{name}.shift", channels, kernel, stride=stride, padding=padding, operator="shift")
    return net.conv(
        y, f"{name}.add", channels, kernel, padding=kernel // 2 if padding else 0, activation=activation, operator="add"
    )


def _read_choice(choice: str) -> tuple[str, int, int]:
    """Return operator, window and expansion of e.g. ``add_k5_e3``."""
    *operator, kernel, expansion = choice.split("_")
    return (operator or ["multiply"])[0], int(kernel[1:]), int(expansion[1:])


def lay_block(net: NetBuilder, x: str, name: str, choice: str, channels: int, stride: int) -> str:
    """Append one searched block; the shortcut is there where shape and channels stay."""
    operator, kernel, expansion = _read_choice(choice)
    inner = net.shape(x)[1] * expansion
    y = net.conv(x, f"{name}.expand", inner, 1, activation="relu", operator=operator)
    y = net.depthwise(
        y, f"{name}.depthwise", kernel, stride=stride, padding=kernel // 2, activation="relu", operator=operator
    )
    y = net.conv(y, f"{name}.project", channels, 1, operator=operator)
    return net.add((x, y), f"{name}.sum") if stride == 1 and net.shape(x)[1] == channels else y


def _lay_searched(net: NetBuilder, side: int, stem_stride: int, classes: int) -> None:
    x = net.input((3, side, side))
    x = net.conv(x, "stem", STEM, 3, stride=stem_stride, padding=1, activation="relu")
    blocks = iter(SEARCHED)
    for stage, (depth, channels, stride) in enumerate(zip(DEPTHS, CHANNELS, STRIDES, strict=True)):
        for block in range(depth):
            x = lay_block(net, x, f"stage{stage}.{block}", next(blocks), channels, stride if block == 0 else 1)
    x = net.conv(x, "header", HEADER, 1, activation="relu")
    x = net.flatten(net.global_avgpool(x, "avgpool"))
    net.fc(x, "fc", classes)


def _lay_shiftaddnet(net: NetBuilder, blocks: int) -> None:
    x = net.input((3, 32, 32))
    x = net.conv(x, "conv1", 16, 3, padding=1, activation="relu")
    for stage in range(3):
        for block in range(blocks):
            name, channels, stride = f"layer{stage + 1}.{block}", 16 << stage, 2 if stage and not block else 1
            y = lay_pair(net, x, f"{name}.conv1", channels, 3, stride=stride, padding=1, activation="relu")
            y = lay_pair(net, y, f"{name}.conv2", channels, 3, padding=1)
            if stride != 1 or net.shape(x)[1] != channels:
                x = lay_pair(net, x, f"{name}.downsample", channels, 1, stride=stride)
            x = net.add((y, x), f"{name}.sum", activation="relu")
    x = net.flatten(net.global_avgpool(x, "avgpool"))
    net.fc(x, "fc", 10)


NASA = "GATECH-EIC/NASA, config_search.py, operations.py, alpha_gen.py (space AddAll); You et al., ICCAD'22, arXiv 2210.13361"

NETWORKS = (
    NetEntry(
        name="nasa-cifar10",
        title="NASA's stored searched network (convolution, shift, adder), CIFAR-10 32x32",
        source=NASA,
        lay=partial(_lay_searched, side=32, stem_stride=1, classes=10),
        aliases=("nasa",),
        formats=NASA_FORMATS,
    ),
    NetEntry(
        name="nasa-imagenet",
        title="the same blocks with ImageNet's stem, 224x224",
        source=NASA,
        lay=partial(_lay_searched, side=224, stem_stride=2, classes=1000),
        formats=NASA_FORMATS,
    ),
    NetEntry(
        name="shiftaddnet20-cifar10",
        title="ShiftAddNet on ResNet-20's shapes, a shift and an adder layer for each convolution but the first, CIFAR-10 32x32",
        source="You et al., ShiftAddNet, NeurIPS'20, arXiv 2010.12785, on He et al., CVPR'16, section 4.2; 1x1 shortcuts too",
        lay=partial(_lay_shiftaddnet, blocks=3),
        aliases=("shiftaddnet20",),
        formats=NASA_FORMATS,
    ),
)
