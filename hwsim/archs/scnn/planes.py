"""How SCNN cuts the plane of a layer: blocks of outputs, and the parts of their inputs that the elements have."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hwsim.core.layer import Layer
from hwsim.core.mapping import Int64


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One direction of the plane of a layer.

    Parameters
    ----------
    outputs, inputs, window : int
        P or Q; H or W; R or S (for a gemm the images are P = 1, Q = N, H = 1, W = N).
    stride, padding, dilation : int
    elements : int
        Processing elements along it.
    """

    outputs: int
    inputs: int
    window: int
    stride: int
    padding: int
    dilation: int
    elements: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One direction of the plane, cut into blocks of ``block`` outputs.

    Parameters
    ----------
    axis : Axis
    block : int
        Outputs of a block; the last one may be smaller.
    part : int
        Inputs of an element.
    used : int
        Elements with inputs in any block.
    reach : int
        Most outputs that the inputs of one element meet.
    incoming : int
        Most outputs that reach a column of ``obuf``, counted once for each element that they come from.
    handed, taken : int
        Outputs that the elements hand over, sums over elements and blocks; those that the columns of ``obuf`` take, which are more
        where an output meets no input (all padding): its column takes a zero, once.
    """

    axis: Axis
    block: int
    part: int
    used: int
    reach: int
    incoming: int
    handed: int
    taken: int

    @property
    def count(self) -> int:
        """Blocks."""
        return -(-self.axis.outputs // self.block)

    @property
    def own(self) -> int:
        """Outputs of a block that a column of ``obuf`` holds: the first ones on the first."""
        return -(-self.block // self.axis.elements)

    def list_outputs(self, index: int) -> tuple[int, int]:
        """Return the first and one past the last output of a block."""
        return index * self.block, min((index + 1) * self.block, self.axis.outputs)

    def list_inputs(self, index: int) -> tuple[int, int]:
        """Return the first and one past the last input that a block sees, clipped to the tensor."""
        return find_inputs(self.axis, *self.list_outputs(index))

    def count_inputs(self) -> tuple[int, int]:
        """Return the inputs that the block with the most sees, and the sum over all blocks."""
        return _count_inputs(self.axis, self.block)

    def classify(self, index: int) -> tuple[Int64, Int64]:
        """Return the class of every input, int64 [inputs], and the places of the window that meet an output, int64 [classes].

        A place is a bit: input i meets output (i + padding - place * dilation) / stride where that is whole and in the block.
        """
        axis, (first, last) = self.axis, self.list_outputs(index)
        place = np.arange(axis.window)
        away = np.arange(axis.inputs)[:, None] + axis.padding - place * axis.dilation
        meets = (away % axis.stride == 0) & (away // axis.stride >= first) & (away // axis.stride < last)
        seen, kind = np.unique((meets << place).sum(axis=1), return_inverse=True)
        return kind.ravel().astype(np.int64), seen.astype(np.int64)


def find_inputs(axis: Axis, first: int, last: int) -> tuple[int, int]:
    """Return the inputs that outputs ``first .. last - 1`` see, clipped to the tensor; empty where all is padding."""
    low = first * axis.stride - axis.padding
    high = (last - 1) * axis.stride - axis.padding + axis.dilation * (axis.window - 1) + 1
    low = min(max(low, 0), axis.inputs)
    return low, min(max(high, low), axis.inputs)


@lru_cache(maxsize=4096)
def _count_inputs(axis: Axis, block: int) -> tuple[int, int]:
    spans = (find_inputs(axis, first, min(first + block, axis.outputs)) for first in range(0, axis.outputs, block))
    seen = [high - low for low, high in spans]
    return max(seen), sum(seen)


@lru_cache(maxsize=4096)
def cut_axis(axis: Axis, block: int) -> Cut:
    """Return a direction cut into blocks of ``block`` outputs: the inputs of a block are shared out evenly."""
    spans = []
    for first in range(0, axis.outputs, block):
        last = min(first + block, axis.outputs)
        spans.append((first, last, *find_inputs(axis, first, last)))
    part = max(1, -(-max(high - low for _, _, low, high in spans) // axis.elements))
    used = max(1, max(-(-(high - low) // part) for _, _, low, high in spans))
    own = -(-block // axis.elements)
    reach, incoming, handed, taken = 1, 1, 0, 0
    for first, last, low, high in spans:
        met = np.zeros(last - first, np.int64)
        for start in range(low, high, part):
            end = min(start + part, high) - 1
            least = max(first, -(-(start + axis.padding - axis.dilation * (axis.window - 1)) // axis.stride))
            most = min(last - 1, (end + axis.padding) // axis.stride)
            if most < least:
                continue
            reach = max(reach, most - least + 1)
            met[least - first : most + 1 - first] += 1
        arrivals = np.maximum(met, 1)
        incoming = max(incoming, int(np.add.reduceat(arrivals, np.arange(0, last - first, own)).max()))
        handed += int(met.sum())
        taken += int(arrivals.sum())
    return Cut(axis=axis, block=block, part=part, used=used, reach=reach, incoming=incoming, handed=handed, taken=taken)


def find_axes(layer: Layer, pe_rows: int, pe_cols: int) -> tuple[Axis, Axis]:
    """Return both directions of a layer's plane."""
    if layer.op == "gemm":
        plain = {"window": 1, "stride": 1, "padding": 0, "dilation": 1}
        return (
            Axis(outputs=1, inputs=1, elements=pe_rows, **plain),
            Axis(outputs=layer.N, inputs=layer.N, elements=pe_cols, **plain),
        )
    rows, cols = (
        Axis(
            outputs=outputs, inputs=inputs, window=window, stride=layer.stride[i], padding=layer.padding[i],
            dilation=layer.dilation[i], elements=elements,
        )
        for i, (outputs, inputs, window, elements) in enumerate(
            ((layer.P, layer.H, layer.R, pe_rows), (layer.Q, layer.W, layer.S, pe_cols))
        )
    )  # fmt: skip
    return rows, cols


def list_blocks(outputs: int) -> list[int]:
    """Return the sizes of blocks that are tried, largest first: ``outputs`` in 1, 2, 3, 4, 6, 8, 12, 16 ... parts."""
    parts = [share for power in range(outputs.bit_length()) for share in (1 << power, 3 << power) if share <= outputs]
    return sorted({-(-outputs // share) for share in (*parts, outputs)}, reverse=True)


def choose_pitch(reach: int) -> int:
    """Return the accumulators of a row of an element: the next 2 modulo 4, so that four neighbours of a square differ modulo 4."""
    return reach + (2 - reach) % 4 if reach > 1 else 1
