"""The layers of ShiftAddNAS's two stored networks, in the order of its records.

Source: GATECH-EIC/ShiftAddNAS (MIT), ``CV/retraining_hybrid``: ``boss_models.py`` and ``boss_models_Q.py`` (encodings),
``boss_candidates`` (blocks), ``cal_energy.py`` (which sizes a record's layer has). Stages of 64, 128, 256 and 512 channels,
bottlenecks of four times as many; a block is 0 attention, 1 convolution, 2 add, 3 shift. Depthwise positional layers are
recorded as if they were dense.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hwsim.published.eyeriss import Operation

ENCODINGS = {
    "bossnet_T0_mix_v3_distilled": ((1, 1), (1, 1, 1, 1), (3, 1, 0, 2, 2), (0, 0, 1, 0, 0)),
    "bossnet_T0_mix_v4_distilled_Q": ((1, 1), (1, 3, 1, 1), (3, 1, 0, 3, 3), (0, 0, 1, 0, 0)),
}
CHANNELS = (64, 128, 256, 512)
HEADS = (1, 2, 4, 8)
HEAD_CHANNELS = 64
EXPANSION = 4
SQUEEZE = 16
"""Channels of a squeeze-and-excitation layer over those of its inside."""
CLASSES = 1000
KINDS = {1: "conv", 2: "add", 3: "shift"}


@dataclass
class _Lists:
    """Operations by the file in which they are recorded."""

    found: dict[str, list[Operation]] = field(
        default_factory=lambda: {name: [] for name in ("conv", "add", "shift", "linear", "matmul")}
    )

    def conv(self, kind: str, channels: int, filters: int, size: int, kernel: int = 1, stride: int = 1) -> None:
        """Record a layer of a square input with so-called same padding."""
        out = -(-size // stride)
        self.found[kind].append(Operation(
            kind=kind, C=channels, M=filters, H=size, W=size, E=out, F=out, kernel=kernel, stride=stride
        ))  # fmt: skip

    def product(self, name: str, rows: int, inputs: int, outputs: int) -> None:
        """Record a matrix product."""
        self.found[name].append(Operation(kind="linear", N=rows, C=inputs, M=outputs))


def list_operations(network: str, size: int = 224) -> dict[str, list[Operation]]:
    """Return the layers of a network by record file (``conv``, ``add``, ``shift``, ``linear``, ``matmul``) for square images."""
    lists = _Lists()
    lists.conv("conv", 3, CHANNELS[0], size, 7, 2)
    inside, size = CHANNELS[0], -(-size // 4)
    for stage, code, stride in _list_blocks(ENCODINGS[network]):
        lay = _lay_attention if code == 0 else _lay_bottleneck
        lay(lists, stage, code, inside, size, stride)
        inside, size = CHANNELS[stage] * EXPANSION, -(-size // stride)
    for _ in range(2):
        lists.product("linear", 1, inside, CLASSES)
    return lists.found


def _list_blocks(encoding: tuple[tuple[int, ...], ...]) -> Iterator[tuple[int, int, int]]:
    """Yield stage, code and stride of each block."""
    for stage, codes in enumerate(encoding):
        for at, code in enumerate(codes):
            yield stage, code, 2 if at == 0 and stage > 0 else 1


def _lay_bottleneck(lists: _Lists, stage: int, code: int, inside: int, size: int, stride: int) -> None:
    """Shortcut, point, depthwise recorded as dense, 3 x 3, point; squeeze and excitation always by convolutions."""
    width, outside, kind, out = CHANNELS[stage], CHANNELS[stage] * EXPANSION, KINDS[code], -(-size // stride)
    if (stride == 2 or inside != outside) and kind != "add":
        lists.conv(kind, inside, outside, out)
    lists.conv(kind, inside, width, size)
    lists.conv(kind, width, width, size, 3, stride)
    lists.conv(kind, width, width, out, 3)
    lists.conv(kind, width, outside, out)
    lists.conv("conv", outside, outside // SQUEEZE, 1)
    lists.conv("conv", outside // SQUEEZE, outside, 1)


def _lay_attention(lists: _Lists, stage: int, code: int, inside: int, size: int, stride: int) -> None:
    """Shortcut, point, depthwise recorded as dense, queries with keys and values, two products of each head, point."""
    heads, outside, out = HEADS[stage], CHANNELS[stage] * EXPANSION, -(-size // stride)
    width, pixels = heads * HEAD_CHANNELS, out * out
    if stride == 2 or inside != outside:
        lists.conv("conv", inside, outside, out)
    lists.conv("conv", inside, width, size)
    lists.conv("conv", width, width, size, 3, stride)
    lists.conv("conv", width, 3 * width, out)
    lists.product("matmul", heads * pixels, HEAD_CHANNELS, pixels)
    lists.product("matmul", heads * HEAD_CHANNELS, pixels, pixels)
    lists.conv("conv", width, outside, out)
