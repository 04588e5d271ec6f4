"""Layers of distances: one scale for weights and inputs, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hwsim.core.errors import HwsimError, InputError, SpecError
from hwsim.core.layer import Layer
from hwsim.core.tensors import LayerTensors
from hwsim.quant.adder import quantize_adder

LAYER = Layer(name="a", op="gemm", inputs=("x",), K=2, C=2, attrs=(("operator", "add"),))
FLOATS = LayerTensors(
    weight=np.array([[0.5, -3.0], [1.0, 0.0]], np.float32).reshape(2, 2, 1, 1),
    bias=np.array([2.0, -1.0], np.float32),
    factor=np.array([0.5, 0.25], np.float32),
)


@pytest.mark.parametrize(
    ("span", "w_bits", "a_bits", "scale"),
    [
        ((-8.0, 1.0), 8, 8, 8 / 127),  # the input's least value decides
        ((-1.0, 8.0), 8, 8, 8 / 127),
        ((0.0, 1.0), 8, 8, 3 / 127),  # the weights decide
        ((-1.0, 1.0), 4, 8, 3 / 7),
        ((-1.0, 1.0), 8, 2, 1.0),
    ],
)
def test_the_larger_need_decides_for_weights_and_inputs(span, w_bits, a_bits, scale):
    quant, held = quantize_adder(LAYER, FLOATS, span, w_bits, a_bits)
    assert (quant.scale, quant.bits, quant.zero_point, quant.signed) == (
        pytest.approx(scale, rel=1e-6),
        a_bits,
        0,
        True,
    )
    assert held.w_scale.tolist() == [np.float32(quant.scale)]
    np.testing.assert_array_equal(held.weight.ravel(), np.rint(np.array([0.5, -3, 1, 0]) / quant.scale))
    np.testing.assert_array_equal(held.bias, np.rint(np.array([2 / 0.5, -1 / 0.25]) / quant.scale))
    rounded = quantize_adder(LAYER, FLOATS, span, w_bits, a_bits, power_of_two=True)[0].scale
    assert rounded == 2.0 ** np.ceil(np.log2(scale))


@pytest.mark.parametrize(
    ("found", "span", "bits", "error", "text"),
    [
        (None, (0, 1), 8, HwsimError, "layer a: it has no weights"),
        (replace(FLOATS, w_scale=np.ones(1, np.float32)), (0, 1), 8, HwsimError, "layer a: it has no float weights"),
        (replace(FLOATS, bias=np.array([np.nan, 0])), (0, 1), 8, InputError, "layer a: bias holds NaN or infinity"),
        (FLOATS, (0, np.inf), 8, InputError, "layer a: range of its input holds NaN or infinity"),
        (replace(FLOATS, factor=np.array([1.0, 0.0])), (0, 1), 8, InputError, "layer a: a factor is not positive"),
        (FLOATS, (0, 1), 1, SpecError, "layer a.w_bits: got 1, expected an integer from 2 to 16"),
    ],
)
def test_what_cannot_be_is_told(found, span, bits, error, text):
    with pytest.raises(error) as caught:
        quantize_adder(LAYER, found, span, bits, 8)
    assert str(caught.value) == text
