"""Layers that add up distances, ``-sum |x - w|``: weights and inputs as integers of one scale.

A distance is a number of neither scale where the two differ, so the larger need decides for both (AdderNet's quantizers share one
scale as well: Wang et al., AdderNet and its Minimalist Hardware Design, arXiv 2101.10015). What a normalization does to the sum by
channel stands in ``LayerTensors.factor``, as the weights cannot take it in.
"""

from __future__ import annotations

import numpy as np

from hwsim.core.check import require_int
from hwsim.core.errors import HwsimError, InputError
from hwsim.core.layer import Layer
from hwsim.core.tensors import ActQuant, LayerTensors
from hwsim.quant.uniform import LARGEST_BIAS


def quantize_adder(
    layer: Layer,
    found: LayerTensors | None,
    span: tuple[float, float],
    w_bits: int,
    a_bits: int,
    power_of_two: bool = False,
) -> tuple[ActQuant, LayerTensors]:
    """Quantize an adder layer.

    Parameters
    ----------
    layer : Layer
        With the operator ``add``.
    found : LayerTensors
        Float weights, factor and bias.
    span : tuple of float
        Smallest and largest real value of its input.
    w_bits, a_bits : int
        2 to 16 each.
    power_of_two : bool
        The scale rounded up to a power of two.

    Returns
    -------
    ActQuant, LayerTensors
        Format in which the layer reads its input, signed around zero; integer weights at its scale, int32 biases.

    Raises
    ------
    HwsimError
        It has no weights, or integer ones.
    InputError
        Numbers that are not finite, a factor that is not positive.
    """
    require_int(f"layer {layer.name}.w_bits", w_bits, 2, 16)
    require_int(f"layer {layer.name}.a_bits", a_bits, 2, 16)
    if found is None or found.w_scale is not None:
        raise HwsimError(f"layer {layer.name}: it has no {'float ' if found else ''}weights")
    factor = np.ones(1) if found.factor is None else np.asarray(found.factor, np.float64)
    arrays = {"weight": found.weight, "bias": found.bias, "factor": factor, "range of its input": np.array(span)}
    problems = [
        f"{name} holds NaN or infinity" for name, a in arrays.items() if a is not None and not np.isfinite(a).all()
    ]
    if not problems and (factor <= 0).any():
        problems.append("a factor is not positive")
    if problems:
        raise InputError(f"layer {layer.name}", problems)
    levels = (1 << (w_bits - 1)) - 1
    scale = max(max(-span[0], span[1]) / ((1 << (a_bits - 1)) - 1), float(np.abs(found.weight).max()) / levels)
    scale = scale or 1.0
    scale = float(np.float32(np.exp2(np.ceil(np.log2(scale))) if power_of_two else scale))
    stored = np.clip(np.rint(np.asarray(found.weight, np.float64) / scale), -levels, levels).astype(
        np.int8 if w_bits <= 8 else np.int16
    )
    bias = None
    if found.bias is not None:
        whole = np.rint(np.asarray(found.bias, np.float64) / (factor * scale))
        bias = np.clip(whole, -LARGEST_BIAS, LARGEST_BIAS).astype(np.int32)
    tensors = LayerTensors(
        weight=stored, bias=bias, w_scale=np.array([scale], np.float32), w_bits=w_bits, factor=found.factor
    )
    return ActQuant(scale=scale, bits=a_bits), tensors
