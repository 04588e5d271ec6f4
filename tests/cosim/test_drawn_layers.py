"""Layers, tiles and tensors that hypothesis draws, on the compiled model of whole accelerators: every bit and every cycle.

Unlike `cosim.random_layers` it draws dilations that differ by axis, and shrinks what fails.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, reject, settings
from hypothesis import strategies as st

from tests.extras import require

require("amaranth", "pyosys", "g++")

from cosim.harness.model import open_harness
from cosim.plan import Ask, judge
from cosim.random_layers import MOST_MACS, compile_drawn, fit_mapping
from hwsim.core.errors import HwsimError
from hwsim.core.layer import Layer
from hwsim.core.mapping import ORDERS, TILE_DIMS
from hwsim.engine.execute import Hazard
from tests.cosim.accelerators import make_arch, tell

pytestmark = pytest.mark.slow

EXAMPLES = 60
MOST_PADDING = 4
CONTENTS = ("random", "zeros", "extremes")
CORNER = Layer(
    name="layer", op="conv", inputs=("x",), G=2, K=5, C=3, H=9, W=11, R=3, S=2, P=4, Q=5, stride=(1, 2), dilation=(3, 1),
    padding=(1, 0, 0, 0),
)  # fmt: skip
RAGGED = (1, 1, 4, 2, 3, 2)
"""Stride and dilation by axis, in tiles that divide no dimension."""


@st.composite
def windows(draw, most):
    """Draw one axis: size, window, stride, dilation, padding on both sides, output."""
    window, stride = draw(st.integers(1, most)), draw(st.integers(1, 3))
    dilation = 1 if most < 7 else draw(st.integers(1, 3))
    reach = dilation * (window - 1)
    before, after = (draw(st.integers(0, min(window - 1, MOST_PADDING))) for _ in "ab")
    size = draw(st.integers(max(1, reach + 1 - before - after), reach + 10))
    return size, window, stride, dilation, before, after, (size + before + after - reach - 1) // stride + 1


@st.composite
def layers(draw):
    """Draw a convolution, grouped or depthwise or neither, or a pooling."""
    op = draw(st.sampled_from(("conv", "conv", "grouped", "depthwise", "maxpool", "avgpool")))
    pools = op in ("maxpool", "avgpool")
    (h, r, *y), (w, s, *x) = draw(windows(3 if pools else 7)), draw(windows(3 if pools else 7))
    n = draw(st.integers(1, 2))
    g = {"conv": 1, "grouped": draw(st.integers(2, 3))}.get(op) or draw(st.integers(1, 6))
    dims = dict(zip("NGHWRSPQ", (n, g, h, w, r, s, y[-1], x[-1]), strict=True))
    if op in ("conv", "grouped"):
        room = max(1, MOST_MACS // math.prod(dims[dim] for dim in "NGRSPQ"))
        dims["C"] = draw(st.integers(1, min(10, room)))
        dims["K"] = draw(st.integers(1, min(12, max(1, room // dims["C"]))))
    return Layer(
        name="layer", op=op if pools else "conv", inputs=("x",), **dims, stride=(y[0], x[0]), dilation=(y[1], x[1]),
        padding=(y[2], x[2], y[3], x[3]), activation=draw(st.sampled_from(("none", "relu"))),
        attrs=(("count_include_pad", 1),) if op == "avgpool" else (),
    )  # fmt: skip


@st.composite
def cases(draw):
    """Draw a layer, the cut of its tiles, their order, the contents of both operands and the seed of their values."""
    layer = draw(layers())
    cuts = [draw(st.integers(-(-getattr(layer, dim) // 3), getattr(layer, dim))) for dim in TILE_DIMS]
    order, contents = draw(st.sampled_from(ORDERS)), [draw(st.sampled_from(CONTENTS)) for _ in "xw"]
    return layer, cuts, order, contents, draw(st.integers(0, 2**32 - 1))


@pytest.mark.parametrize("name", ["systolic-os", "systolic-ws", "systolic-is", "smartdeal"])
def test_drawn_layers_equal_the_simulator(name):
    arch = make_arch(name)
    harness, ran = open_harness(arch), []

    @settings(max_examples=EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(cases())
    @example((CORNER, RAGGED, "MKC", ("extremes", "extremes"), 1))
    @example((CORNER, RAGGED, "CKM", ("zeros", "random"), 2))
    def check(case):
        layer, cuts, order, (content, weight_content), seed = case
        try:
            job, text = compile_drawn(
                np.random.default_rng(seed), arch, layer, content,
                lambda datapath: fit_mapping(datapath, arch, cuts, order), weight_content,
            )  # fmt: skip
        except (HwsimError, Hazard):  # a tiling that does not fit, a sum that overflows
            reject()
        result = judge(Ask(job=job, reset=True), harness.run(job, reset=True), name, text)
        ran.append((layer, text, len(job.table)))
        assert not tell([result])
        assert (result.equal_elements, result.cycles) == (result.elements, result.expected_cycles)

    check()
    drawn = [layer for layer, _, _ in ran]
    assert len(ran) >= EXAMPLES
    assert any(layer.dilation[0] != layer.dilation[1] and min(layer.R, layer.S) > 1 for layer in drawn)
    assert any(layer.stride[0] != layer.stride[1] for layer in drawn)
    assert any(len(set(layer.padding)) > 2 for layer in drawn)
    assert any(layer.G > 1 for layer in drawn)
    assert any("extremes on extremes" in text for _, text, _ in ran)
    assert any("zeros" in text for _, text, _ in ran)
    assert any(instructions > 20 for _, _, instructions in ran)
