"""Small layers, accelerators, tensors and tilings of the SmartDeal engine, drawn by hypothesis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from hwsim.archs.smartdeal.datapath import SmartDealDatapath
from hwsim.archs.smartdeal.spec import DEPTHWISE, SmartDeal
from hwsim.core.datapath import LayerData, Workload
from hwsim.core.layer import Layer
from hwsim.core.mapping import TILE_DIMS
from hwsim.core.policy import LayerFormat
from hwsim.core.shell import Memory, Shell
from hwsim.quant.decompose import Decomposed, DecomposeOptions, decompose_layer
from tests.naive_cases import HUGE, conv, small, workload_of
from tests.naive_smartdeal import Machine


@dataclass
class Case:
    """One layer with its tensors on one accelerator."""

    layer: Layer
    arch: SmartDeal
    stored: np.ndarray
    zero_point: int
    weights: np.ndarray
    codec: Decomposed | None

    def datapath(self) -> SmartDealDatapath:
        """Bind the layer."""
        data = LayerData(activation=self.stored, zero_point=self.zero_point, codec=self.codec)
        datapath = self.arch.bind(self.workload, data)
        assert isinstance(datapath, SmartDealDatapath)
        return datapath

    @property
    def workload(self) -> Workload:
        """Workload at 8 bits."""
        if self.codec is not None:
            return workload_of(self.layer)
        base = workload_of(self.layer)
        return Workload(
            layer=self.layer,
            fmt=LayerFormat(codec="dense"),
            out_bits=8,
            operand_bits=(8,),
            operand_shapes=base.operand_shapes,
        )

    def machine(self) -> Machine:
        """Build the naive machine."""
        return Machine(self.layer, self.arch, self.stored, self.zero_point, self.weights, self.codec)


def make_arch(shell: Shell | None = None, memory: Memory | None = None, **fields) -> SmartDeal:
    """Return an accelerator with buffers that hold anything."""
    shell = shell or Shell(wbuf_bits=HUGE, ibuf_bits=HUGE, obuf_bits=HUGE)
    known = {"slices": 2, "lines": 3, "macs": 2, "line_rows": 2} | fields
    return SmartDeal(preset="test", shell=shell, memory=memory or Memory(), clock_hz=1e9, **known)


@st.composite
def archs(draw, **others) -> SmartDeal:
    """Engines of a few slices, lines and cells."""
    return make_arch(
        slices=draw(small(1, 4)), lines=draw(small(1, 5)), macs=draw(small(1, 4)), line_rows=draw(small(2, 5)),
        memory=Memory(bits_per_cycle=draw(st.sampled_from([1, 8, 24, 64, 256]))), clusters=draw(small(1, 2)),
        depthwise=draw(st.sampled_from(DEPTHWISE)), **others,
    )  # fmt: skip


KINDS = ("3x3", "1x1", "window", "grouped", "depthwise", "fc", "squeeze", "whole")
"""Shapes that the engine treats in a way of their own."""


@st.composite
def layers(draw, kind: str) -> Layer:
    """A small and ragged layer of a kind."""
    n = draw(small(1, 2))
    if kind == "fc":
        return Layer(
            name="layer", op="gemm", inputs=("x",), N=draw(small(1, 5)), K=draw(small(1, 6)), C=draw(small(1, 40))
        )
    if kind == "squeeze":
        return Layer(name="layer", op="conv", inputs=("x",), N=n, K=draw(small(1, 6)), C=draw(small(1, 40)))
    if kind == "1x1":
        size, stride = (draw(small(1, 3)), draw(small(1, 7))), (draw(small(1, 3)), draw(small(1, 3)))
        return conv(size=size, stride=stride, N=n, K=draw(small(1, 6)), C=draw(small(1, 16)))
    if kind == "whole":  # the window covers the input: one output pixel
        window = (draw(small(1, 3)), draw(small(1, 3)))
        return conv(size=window, window=window, N=1, K=draw(small(1, 5)), C=draw(small(1, 6)))
    window = (3, 3) if kind == "3x3" else (draw(st.sampled_from([1, 2, 3, 5, 7])), draw(st.sampled_from([1, 2, 3, 5])))
    dilation = (draw(small(1, 2)), draw(small(1, 2)))
    size = (draw(small(1, 5)), draw(small(1, 8)))
    padding = [draw(small(0, window[a % 2])) for a in range(4)]
    for axis in (0, 1):  # pad until the window fits
        missing = dilation[axis] * (window[axis] - 1) + 1 - size[axis] - padding[axis] - padding[axis + 2]
        padding[axis] += max(0, missing)
    dims = {"N": n, "K": draw(small(1, 5)), "C": draw(small(1, 6 if kind == "3x3" else 3))}
    if kind == "grouped":
        dims |= {"G": draw(small(2, 3)), "C": draw(small(1, 4)), "K": draw(small(1, 3))}
    if kind == "depthwise":
        dims |= {"G": draw(small(2, 7)), "C": 1, "K": draw(st.sampled_from([1, 1, 1, 2]))}
    stride = (draw(small(1, 3)), draw(small(1, 3)))
    return conv(size=size, window=window, stride=stride, padding=tuple(padding), dilation=dilation, **dims)


@st.composite
def cases(draw, kind: str | None = None, arch: SmartDeal | None = None, most_slots: int = 1500) -> Case:
    """A layer, an accelerator and tensors: weights decomposed, kept dense by the plan, or dense by policy; rows of zeros."""
    chosen = layers(kind or draw(st.sampled_from(KINDS)))
    layer = draw(chosen.filter(lambda one: one.out_elements * one.C * one.R <= most_slots))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    shape = (layer.G * layer.K, layer.C, layer.R, layer.S)
    real = rng.normal(size=shape) * draw(st.sampled_from([0.003, 0.05, 1.0]))
    codec, weights = None, rng.integers(-128, 128, shape).astype(np.int8)
    if draw(small(0, 5)) < 5:
        force = draw(st.booleans()) and not (layer.is_depthwise and layer.K == 1)  # spread layers have dense weights
        ratio = draw(st.sampled_from([0.0, 0.0, 0.5, 0.9, 1.0]))
        codec = decompose_layer(real, DecomposeOptions(prune_ratio=ratio, prune_group=2, force=force))
        weights = codec.rebuilt_int8
    signed = draw(st.booleans())
    low, high, dtype = (-128, 127, np.int8) if signed else (0, 255, np.uint8)
    zero = draw(st.sampled_from([low, high, 0, 3]))
    kind = draw(st.sampled_from(["zero", "extreme", "sparse", "sparse", "dense", "rows"]))
    size = layer.in_shape
    stored = rng.integers(low, high + 1, size)
    if kind == "zero":
        stored[:] = zero
    if kind == "extreme":
        stored = rng.choice([low, high], size)
    if kind == "sparse":
        stored[rng.random(size) < 0.8] = zero
    if kind == "rows":
        stored[np.broadcast_to(rng.random((*size[:3], 1)) < 0.6, size)] = zero
    return Case(layer, arch or draw(archs()), stored.astype(dtype), zero, weights, codec)


@st.composite
def tilings(draw, case: Case, datapath: SmartDealDatapath) -> tuple[int, ...]:
    """Sizes that are multiples of the quantum or the whole; several groups only with all of their channels."""
    sizes = []
    for dim, quantum in zip(TILE_DIMS, datapath.quantum(), strict=True):
        extent = getattr(case.layer, dim)
        sizes.append(min(extent, quantum * draw(small(1, -(-extent // quantum)))))
    if sizes[1] > 1:
        sizes[2], sizes[3] = case.layer.K, case.layer.C
    return tuple(sizes)
