"""Operators of the functional model against loops in plain Python."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from hwsim.core.errors import HwsimError
from hwsim.core.layer import Layer
from hwsim.engine import functional_ops
from hwsim.engine.functional_ops import (
    apply_activation,
    apply_lrn,
    apply_softmax,
    clamp_limits,
    convolve_float,
    convolve_integer,
    count_window,
    move_elements,
    pool_max,
    pool_sum,
)


def make_conv(**dims):
    defaults = {"N": 1, "G": 1, "K": 1, "C": 1, "R": 1, "S": 1, "H": 1, "W": 1}
    dims = defaults | dims
    stride, padding = dims.get("stride", (1, 1)), dims.get("padding", (0, 0, 0, 0))
    dilation = dims.get("dilation", (1, 1))
    out = [
        (dims["HW"[i]] + padding[i] + padding[i + 2] - dilation[i] * (dims["RS"[i]] - 1) - 1) // stride[i] + 1
        for i in (0, 1)
    ]
    return Layer(**({"name": "layer", "op": "conv", "inputs": ("x",), "P": out[0], "Q": out[1]} | dims))


def naive_convolve(x, weight, layer):
    out = np.zeros((len(x), layer.G * layer.K, layer.P, layer.Q), object)
    ranges = [range(n) for n in (*out.shape, layer.C, layer.R, layer.S)]
    for n, k, p, q, c, r, s in itertools.product(*ranges):
        h = p * layer.stride[0] + r * layer.dilation[0] - layer.padding[0]
        w = q * layer.stride[1] + s * layer.dilation[1] - layer.padding[1]
        if 0 <= h < layer.H and 0 <= w < layer.W:
            group = k // layer.K
            out[n, k, p, q] += x[n, group * layer.C + c, h, w].item() * weight[k, c, r, s].item()
    return out


SHAPES = {
    "plain": make_conv(K=3, C=4, R=3, S=3, H=6, W=5, padding=(1, 1, 1, 1)),
    "pointwise": make_conv(K=5, C=7, H=4, W=3),
    "pointwise_strided": make_conv(K=5, C=7, H=5, W=4, stride=(2, 2)),
    "strided_rectangular": make_conv(K=2, C=3, R=5, S=2, H=9, W=8, stride=(2, 3)),
    "asymmetric_padding": make_conv(K=2, C=3, R=3, S=3, H=5, W=5, stride=(2, 2), padding=(0, 1, 2, 3)),
    "dilated": make_conv(K=2, C=2, R=3, S=2, H=9, W=7, dilation=(2, 3), padding=(2, 0, 1, 1)),
    "grouped": make_conv(G=3, K=2, C=4, R=3, S=3, H=5, W=5, padding=(1, 1, 1, 1)),
    "depthwise": make_conv(G=6, R=3, S=3, H=6, W=5, padding=(1, 0, 1, 2), stride=(2, 1)),
    "depthwise_dilated": make_conv(G=4, R=2, S=3, H=7, W=7, dilation=(3, 2)),
    "depthwise_multiplier": make_conv(G=3, K=2, R=3, S=3, H=5, W=4),
    "one_position": make_conv(K=3, C=2, R=4, S=4, H=4, W=4),
    "gemm": Layer(name="layer", op="gemm", inputs=("x",), K=4, C=9),
    "batch_of_three": make_conv(N=3, K=2, C=2, R=2, S=2, H=4, W=4),
}


@pytest.mark.parametrize("name", SHAPES)
def test_integer_convolution_equals_seven_loops(name):
    layer, rng = SHAPES[name], np.random.default_rng(1)
    x = rng.integers(-128, 128, layer.in_shape).astype(np.int8)
    weight = rng.integers(-128, 128, (layer.G * layer.K, layer.C, layer.R, layer.S)).astype(np.int8)
    assert np.array_equal(convolve_integer(x, weight, layer), naive_convolve(x, weight, layer))


@pytest.mark.parametrize("name", SHAPES)
def test_small_chunks_change_nothing(name, monkeypatch):
    layer, rng = SHAPES[name], np.random.default_rng(2)
    x = rng.integers(-128, 128, layer.in_shape).astype(np.int8)
    weight = rng.integers(-128, 128, (layer.G * layer.K, layer.C, layer.R, layer.S)).astype(np.int8)
    whole = convolve_integer(x, weight, layer)
    monkeypatch.setattr(functional_ops, "CHUNK_ELEMENTS", 7)
    assert np.array_equal(convolve_integer(x, weight, layer), whole)


@pytest.mark.parametrize("name", ["plain", "dilated", "grouped", "depthwise", "gemm"])
def test_float_convolution_is_within_rounding_of_seven_loops(name):
    layer, rng = SHAPES[name], np.random.default_rng(3)
    x = rng.standard_normal(layer.in_shape).astype(np.float32)
    weight = rng.standard_normal((layer.G * layer.K, layer.C, layer.R, layer.S)).astype(np.float32)
    magnitude = naive_convolve(np.abs(x), np.abs(weight), layer).astype(np.float64)
    depth = layer.C * layer.R * layer.S
    bound = (depth + 1) * 2.0**-24 * magnitude  # Higham, Accuracy and Stability, eq. 3.5: gamma_n of float32
    error = np.abs(convolve_float(x, weight, layer) - naive_convolve(x, weight, layer).astype(np.float64))
    assert np.all(error <= bound)


@pytest.mark.parametrize(
    ("depth", "x_value", "w_value"),
    [
        (1024, -128, -128),  # the sum is exactly 2**24: one span of float32
        (1025, -128, -128),  # just above: two spans
        (3000, 127, -127),  # three spans
        (9000, -128, -128),  # too many spans: float64
        (4096, -32768, -32768),  # 16 bits: float64
    ],
)
def test_sums_are_exact_on_both_sides_of_float32(depth, x_value, w_value):
    layer = Layer(name="layer", op="gemm", inputs=("x",), K=2, C=depth)
    x = np.full((1, depth, 1, 1), x_value, np.int32)
    weight = np.full((2, depth, 1, 1), w_value, np.int32)
    weight[1, -1] = 1
    x[0, 0] = 1
    total = (depth - 2) * x_value * w_value
    expected = [total + w_value + x_value * w_value, total + w_value + x_value]
    assert convolve_integer(x, weight, layer).ravel().tolist() == expected


def test_random_long_sums_equal_int64_arithmetic():
    rng = np.random.default_rng(4)
    for depth in (900, 2000, 5000):
        layer = make_conv(K=8, C=depth, H=3, W=3)
        x = rng.integers(-128, 128, layer.in_shape)
        weight = rng.integers(-127, 128, (8, depth, 1, 1))
        expected = np.einsum("kc,nchw->nkhw", weight[:, :, 0, 0], x)
        assert np.array_equal(convolve_integer(x, weight, layer), expected)


def test_accumulators_beyond_53_bits_are_refused():
    layer = Layer(name="wide", op="gemm", inputs=("x",), K=1, C=2)
    big = np.full((1, 2, 1, 1), 1 << 27)
    with pytest.raises(HwsimError, match="layer wide: its accumulators exceed 53 bits"):
        convolve_integer(big, big, layer)


POOLS = {
    "plain": {"R": 2, "S": 2, "H": 6, "W": 4, "stride": (2, 2)},
    "overlapping_padded": {"R": 3, "S": 3, "H": 7, "W": 6, "stride": (2, 2), "padding": (1, 1, 1, 1)},
    "rounded_up": {"R": 3, "S": 2, "H": 6, "W": 5, "stride": (2, 2), "padding": (0, 0, 1, 1)},
    "global": {"R": 5, "S": 4, "H": 5, "W": 4},
}


def naive_windows(x, layer):
    for n, c, p, q in itertools.product(range(len(x)), range(layer.G), range(layer.P), range(layer.Q)):
        found = []
        for r, s in itertools.product(range(layer.R), range(layer.S)):
            h, w = p * layer.stride[0] + r - layer.padding[0], q * layer.stride[1] + s - layer.padding[1]
            if 0 <= h < layer.H and 0 <= w < layer.W:
                found.append(x[n, c, h, w].item())
        yield (n, c, p, q), found


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("include", [0, 1])
def test_pooling_equals_loops(name, include):
    shared = make_conv(op="avgpool", G=3, attrs=(("count_include_pad", include),), **POOLS[name])
    x = np.random.default_rng(5).integers(-128, 0, (2, 3, shared.H, shared.W)).astype(np.int8)
    top, total, counts = pool_max(x, shared), pool_sum(x, shared), count_window(shared)
    for (n, c, p, q), found in naive_windows(x, shared):
        assert top[n, c, p, q] == max(found)  # negative values: a padding of zeros would win
        assert total[n, c, p, q] == sum(found)
        assert counts[p, q] == (shared.R * shared.S if include else len(found))
    assert top.dtype == np.int8


def make_move(op, shape, attrs=(), **dims):
    return Layer(name="m", op=op, inputs=("x",), G=shape[0], P=shape[1], Q=shape[2], attrs=tuple(attrs), **dims)


def test_moves_equal_index_arithmetic():
    x = np.arange(2 * 6 * 2 * 3).reshape(2, 6, 2, 3)
    shuffled = move_elements(make_move("shuffle", (6, 2, 3), [("groups", 2)]), [x])
    for group, index in itertools.product(range(2), range(3)):
        assert np.array_equal(shuffled[:, index * 2 + group], x[:, group * 3 + index])
    flat = move_elements(make_move("flatten", (36, 1, 1)), [x])
    assert np.array_equal(flat[1].ravel(), x[1].ravel())
    part = move_elements(make_move("slice", (2, 2, 3), [("start", 1), ("stop", 3)]), [x])
    assert np.array_equal(part, x[:, 1:3])
    moved = move_elements(make_move("transpose", (3, 6, 2), [("perm", (0, 3, 1, 2))]), [x])
    assert moved[1, 2, 4, 1] == x[1, 4, 1, 2]
    joined = move_elements(make_move("concat", (12, 2, 3)), [x, x + 100])
    assert np.array_equal(joined[:, 6:], x + 100)
    padded = move_elements(make_move("pad", (6, 4, 6), padding=(2, 1, 0, 2)), [x], -1)
    assert np.array_equal(padded[:, :, 2:, 1:4], x)
    assert (padded == -1).sum() == padded.size - x.size
    assert move_elements(make_move("identity", (6, 2, 3)), [x]) is x


def test_a_move_without_its_attribute_is_an_error_that_names_the_layer():
    x = np.zeros((1, 6, 1, 1))
    with pytest.raises(HwsimError, match=r"^layer m: a transpose needs a permutation in its attribute perm, got None"):
        move_elements(make_move("transpose", (6, 1, 1)), [x])
    with pytest.raises(HwsimError, match=r"^layer m: 6 channels cannot be shuffled in 4 groups"):
        move_elements(make_move("shuffle", (6, 1, 1), [("groups", 4)]), [x])
    with pytest.raises(HwsimError, match=r"the operator add moves no elements"):
        move_elements(make_move("add", (6, 1, 1)), [x])


FORMULAS = {
    "relu": lambda v: max(v, 0),
    "relu6": lambda v: min(max(v, 0), 6),
    "leaky_relu": lambda v: v if v > 0 else 0.2 * v,
    "sigmoid": lambda v: 1 / (1 + math.exp(-v)),
    "tanh": math.tanh,
    "hard_sigmoid": lambda v: min(max(0.2 * v + 0.5, 0), 1),
    "hard_swish": lambda v: v * min(max(v + 3, 0), 6) / 6,
    "silu": lambda v: v / (1 + math.exp(-v)),
    "gelu": lambda v: v * 0.5 * (1 + math.erf(v / math.sqrt(2))),
    "clip": lambda v: min(max(v, -1.5), 2.5),
    "none": lambda v: v,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_activation_equals_its_formula(name):
    attrs = {"leaky_relu": (("alpha", 0.2),), "clip": (("high", 2.5), ("low", -1.5))}.get(name, ())
    layer = Layer(name="a", op="activation", inputs=("x",), activation=name, attrs=attrs)
    x = np.linspace(-9, 9, 73)
    assert np.allclose(apply_activation(x, layer), [FORMULAS[name](v) for v in x], rtol=1e-12, atol=1e-15)
    assert (clamp_limits(layer) is not None) == (name in ("none", "relu", "relu6", "clip"))


def test_softmax_and_local_response_normalization_equal_their_formulas():
    rng = np.random.default_rng(6)
    x = rng.standard_normal((2, 7, 2, 2)).astype(np.float32) * 3
    layer = Layer(
        name="l", op="lrn", inputs=("x",), G=7, attrs=(("alpha", 0.3), ("beta", 0.6), ("bias", 1.5), ("size", 4))
    )
    lrn, softmax = apply_lrn(x, layer), apply_softmax(x, layer)
    for n, c, h, w in itertools.product(range(2), range(7), range(2), range(2)):
        # ONNX: channels from c - floor((size - 1) / 2) to c + ceil((size - 1) / 2)
        near = [float(x[n, i, h, w]) ** 2 for i in range(max(0, c - 1), min(7, c + 3))]
        assert lrn[n, c, h, w] == pytest.approx(x[n, c, h, w] / (1.5 + 0.3 / 4 * sum(near)) ** 0.6, rel=1e-5)
        total = sum(math.exp(float(v)) for v in x[n, :, h, w])
        assert softmax[n, c, h, w] == pytest.approx(math.exp(float(x[n, c, h, w])) / total, rel=1e-5)
