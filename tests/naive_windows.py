"""A layer with its integers, read element by element, and the convolution that every machine has to arrive at."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from hypothesis import strategies as st

from hwsim.core.layer import Layer
from hwsim.core.mapping import TILE_DIMS
from tests.naive_cases import conv, small, windowed_layers


@dataclass(frozen=True, eq=False)
class Window:
    """A layer and its integers: ``x[N, G*C, H, W]`` less the zero point, ``w[G*K, C, R, S]``."""

    layer: Layer
    x: np.ndarray
    w: np.ndarray

    def activation(self, n: int, g: int, c: int, p: int, q: int, r: int, s: int) -> int:
        """Return what the window of output (p, q) sees at (r, s): 0 outside the tensor."""
        layer = self.layer
        y = p * layer.stride[0] - layer.padding[0] + r * layer.dilation[0]
        col = q * layer.stride[1] - layer.padding[1] + s * layer.dilation[1]
        if not (0 <= y < layer.H and 0 <= col < layer.W):
            return 0
        return int(self.x[n, g * layer.C + c, y, col])

    def weight(self, g: int, k: int, c: int, r: int, s: int) -> int:
        """Return one weight."""
        return int(self.w[g * self.layer.K + k, c, r, s])

    def convolve(self) -> Counter:
        """Return the layer's results by (n, filter of all groups, p, q)."""
        layer, found = self.layer, Counter()
        for n, g, k, p, q in product(*(range(getattr(layer, dim)) for dim in "NGKPQ")):
            found[n, g * layer.K + k, p, q] = sum(
                self.activation(n, g, c, p, q, r, s) * self.weight(g, k, c, r, s)
                for c, r, s in product(range(layer.C), range(layer.R), range(layer.S))
            )
        return found


@st.composite
def small_layers(draw, most_macs: int = 12000):
    """Layers of every kind: windows of all strides, paddings and dilations, 1x1, depthwise, grouped, fully connected."""
    kind = draw(st.sampled_from(["window", "window", "point", "depthwise", "fc"]))
    if kind == "fc":
        layer = Layer(
            name="layer", op="gemm", inputs=("x",), N=draw(small(1, 4)), K=draw(small(1, 9)), C=draw(small(1, 40))
        )
    elif kind == "window":
        layer = draw(windowed_layers("conv", 7, 3))
    elif kind == "point":
        dims = {"N": draw(small(1, 2)), "K": draw(small(1, 9)), "C": draw(small(1, 20))}
        layer = conv(size=(draw(small(1, 4)), draw(small(1, 7))), stride=(1, draw(small(1, 2))), **dims)
    else:
        side = draw(st.sampled_from([3, 5]))
        layer = conv(
            size=(draw(small(1, 6)), draw(small(1, 6))),
            window=(side, side),
            padding=(side // 2,) * 4,
            G=draw(small(2, 9)),
        )
    while layer.macs > most_macs:
        layer = replace(layer, N=1, K=-(-layer.K // 2), C=-(-layer.C // 2), G=-(-layer.G // 2))
    return layer


@st.composite
def windows(draw, layers=None, density: float | None = None, bits: int = 8):
    """A layer with activations and weights, some of them zero."""
    layer = draw(small_layers() if layers is None else layers)
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    top = (1 << (bits - 1)) - 1
    x = rng.integers(-top, top + 1, layer.in_shape)
    w = rng.integers(-top, top + 1, (layer.G * layer.K, layer.C, layer.R, layer.S))
    for array in (x, w):
        share = draw(st.sampled_from([0.0, 0.5, 0.9, 1.0])) if density is None else 1 - density
        array[rng.random(array.shape) < share] = 0
    return Window(layer, x, w)


@st.composite
def tilings(draw, layer: Layer, quantum=(1, 1, 1, 1, 1, 1)):
    """Tile sizes, multiples of a quantum or the whole; several groups only with all of their filters and channels."""
    tile = [
        min(getattr(layer, dim), step * draw(small(1, -(-getattr(layer, dim) // step))))
        for dim, step in zip(TILE_DIMS, quantum, strict=True)
    ]
    if tile[1] > 1:
        tile[2:4] = layer.K, layer.C
    return tuple(tile)
