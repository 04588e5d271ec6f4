"""Weights with zeros in the form in which architectures of pruned weights are given them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hwsim.core.datapath import LayerData
from hwsim.quant.runs import PrunedWeights
from tests.execute_cases import Case


def hold(integers: np.ndarray, bits: int = 8) -> PrunedWeights:
    """Return integers ``[filters, ...]`` as pruned weights of scale 1."""
    return PrunedWeights(integers=integers.astype(np.int8), scale=np.ones(len(integers), np.float32), bits=bits)


def prune_case(case: Case, share: float) -> tuple[Case, LayerData | None]:
    """Return a case whose weights have 8 bits and about ``share`` of zeros, and its data; a layer without weights as it is."""
    if case.layer.kind != "mac":
        return case, None
    held = case.tensors.layers["layer"]
    weight = np.clip(held.weight.astype(np.int64), -127, 127)
    weight[np.random.default_rng(7).random(weight.shape) < share] = 0
    held = replace(held, weight=weight.astype(np.int8), w_zero=None, w_bits=8)
    workload = replace(case.workload, fmt=replace(case.workload.fmt, w_bits=8))
    case = replace(case, tensors=replace(case.tensors, layers={"layer": held}), workload=workload)
    return case, LayerData(activation=case.inputs["x"], codec=hold(weight))
