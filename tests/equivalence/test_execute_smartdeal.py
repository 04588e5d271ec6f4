"""Programs on decomposed weights: the rebuild engines' weights come out of the bits of the tiles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.registry import find_arch
from hwsim.archs.smartdeal.spec import DEPTHWISE
from hwsim.core.datapath import LayerData, Workload
from hwsim.core.layer import Layer
from hwsim.core.mapping import ORDERS, Mapping
from hwsim.core.policy import LayerFormat
from hwsim.core.shell import Memory
from hwsim.core.tensors import ActQuant, LayerTensors, Tensors
from tests.execute_cases import ORIGIN, execute_case, make_case
from tests.naive_cases import conv


@st.composite
def decomposed_cases(draw):
    """A layer, its decomposition, and any tiling, also one that cuts steps of channels and blocks of filters."""
    kind = draw(st.sampled_from(["3x3", "1x1", "gemm", "grouped", "depthwise", "5x5"]))
    size = (draw(st.integers(2, 6)), draw(st.integers(2, 6)))
    sizes = {"N": draw(st.integers(1, 2)), "K": draw(st.integers(1, 6)), "C": draw(st.sampled_from([3, 8, 11, 66]))}
    if kind == "gemm":
        layer = Layer(name="layer", op="gemm", inputs=("x",), **sizes)
    elif kind == "1x1":
        layer = conv(size=size, stride=(1, draw(st.integers(1, 2))), **sizes)
    else:
        side = 5 if kind == "5x5" else 3
        sizes |= {"G": 3, "K": 2} if kind == "grouped" else {"G": 7, "K": 1, "C": 1} if kind == "depthwise" else {}
        padding = tuple(draw(st.integers(side // 2, side - 1)) for _ in range(4))
        layer = conv(size=size, window=(side, side), padding=padding, stride=(draw(st.integers(1, 2)), 1), **sizes)
    assert layer is not None
    arch = find_arch("smartdeal", "small")
    arch = replace(
        arch, lines=draw(st.sampled_from([2, 4])), line_rows=draw(st.sampled_from([3, 12])),
        depthwise=draw(st.sampled_from(DEPTHWISE)), shell=replace(arch.shell, ibuf_bits=1 << 20, obuf_bits=1 << 20),
        memory=Memory(bits_per_cycle=draw(st.sampled_from([8, 64])), align_bits=draw(st.sampled_from([0, 8, 128]))),
    )  # fmt: skip
    tile = [draw(st.integers(-(-extent // 3), extent)) for extent in
            (layer.N, layer.G, layer.K, layer.C, layer.P, layer.Q)]  # fmt: skip
    tile[2:4] = (layer.K, layer.C) if tile[1] > 1 else tile[2:4]
    rng = np.random.default_rng(draw(st.integers(0, 1 << 20)))
    weight = rng.normal(0, 0.3, (layer.G * layer.K, layer.C, layer.R, layer.S)).astype(np.float32)
    weight[rng.random(weight.shape[:3]) < draw(st.sampled_from([0.0, 0.5, 0.97]))] = 0
    codec = draw(st.sampled_from(["native", "native", "dense"]))
    quants = {
        "x": ActQuant(scale=0.02, zero_point=draw(st.integers(-128, 127))),
        "layer": ActQuant(scale=0.3, zero_point=draw(st.integers(-128, 127))),
    }
    load = Workload(layer=layer, fmt=LayerFormat(codec=codec), out_bits=8, operand_bits=(8,),
                    operand_shapes=(layer.in_shape,))  # fmt: skip
    stored = arch.store_weights(load, weight)
    integers = stored.integers if stored else rng.integers(-127, 128, weight.shape).astype(np.int8)
    held = LayerTensors(weight=integers, w_scale=np.full(len(weight), 0.01, np.float32), w_bits=8,
                        bias=rng.integers(-999, 999, len(weight)).astype(np.int32))  # fmt: skip
    inputs = {"x": rng.integers(-128, 128, layer.in_shape).astype(np.int8)}
    tensors = Tensors(layers={"layer": held}, activations=quants, origin=ORIGIN)
    case = make_case(load, tensors, inputs, arch, Mapping(tile=tuple(tile), order=draw(st.sampled_from(ORDERS))))
    data = LayerData(activation=inputs["x"], zero_point=quants["x"].zero_point, codec=stored.codec if stored else None)
    return case, data


@pytest.mark.parametrize("order", ["program", "time"])
def test_programs_on_decomposed_weights_leave_what_the_functional_model_stores(order):
    seen = set()

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(decomposed_cases())
    def check(drawn):
        case, data = drawn
        datapath = case.arch.bind(case.workload, data)
        after, wanted = execute_case(case, datapath, order, fill=0x3C)
        np.testing.assert_array_equal(after, wanted)
        seen.add((datapath.rows.decomposed, case.mapping.tile[3] < case.layer.C))

    check()
    assert len(seen) == 4, "decomposed and dense layers, cut along C and not"
