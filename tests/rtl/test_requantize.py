"""Requantizers against `hwsim.quant.requant`: random, corner and tie values, and against exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from tests.extras import require

require("amaranth", "pyosys", "g++")

from accel_rtl.blocks.requantize import Requantize
from cosim.batch import BatchModel
from hwsim.core.errors import SpecError
from hwsim.quant.requant import quantize_multiplier

LIMITS = (
    (0, -128, 127),
    (-128, -128, 127),
    (127, -128, 127),
    (0, 0, 255),
    (255, 0, 255),
    (17, 17, 90),
    (-256, -256, 255),
    (255, -256, 255),
)
TOP = 2**31 - 1


def draw_elements(spec: Requantize, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return accumulators of every size, many of them on a tie or next to one, and real multipliers."""
    size = (count, spec.lanes)
    acc = rng.integers(-TOP, TOP, size) >> rng.integers(0, 31, size)
    acc[:7, 0] = [TOP, -TOP - 1, 0, 1, -1, -TOP, 2]
    bias = np.where(rng.random(size) < 0.5, 0, rng.integers(-TOP, TOP, size) >> rng.integers(1, 31, size))
    bias[np.abs(acc + bias) > TOP] = 0
    if spec.mode == "shift":
        shift = rng.integers(-spec.left_bits, 12, size)
        shift[rng.random(size) < 0.1] = 62
        return {"acc": acc, "bias": bias, "shift": shift}
    bits = spec.multiplier_bits
    multiplier, shift = quantize_multiplier(2.0 ** rng.uniform(-20, 3, size), min(24, bits))
    # Powers of two make ties, 0 and the largest multiplier are corners.
    tie = rng.random(size) < 0.4
    multiplier[tie], shift[tie] = 1 << rng.integers(0, bits, tie.sum()), rng.integers(0, bits + 8, tie.sum())
    edge = rng.random(size) < 0.1
    multiplier[edge] = rng.choice([0, 1, (1 << bits) - 1], edge.sum())
    shift[rng.random(size) < 0.05] = 62
    return {"acc": acc, "bias": bias, "multiplier": multiplier, "shift": shift}


def name_ports(elements: dict[str, np.ndarray], port: str) -> dict[str, np.ndarray]:
    return {f"{port}.{name}": value for name, value in elements.items()}


SPECS = (
    Requantize(lanes=2, rounding="half_even", tag_bits=5),
    Requantize(rounding="half_away"),
    Requantize(mode="shift", rounding="half_even", lanes=2),
    Requantize(mode="shift", rounding="half_away"),
    Requantize(multiplier_bits=16, acc_bits=32, rounding="half_even"),
)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.mode}-{s.rounding}-{s.multiplier_bits}")
def test_equals_the_functional_model(spec: Requantize) -> None:
    rng = np.random.default_rng(7)
    model = BatchModel(spec.create())
    count = 100_000 // len(LIMITS)
    latency = spec.latency_cycles
    for zero_point, low, high in LIMITS:
        elements = draw_elements(spec, count + latency, rng)
        valid = rng.integers(0, 2, count + latency)
        stimulus = {**name_ports(elements, "i"), "i_valid": valid, "limits.zero_point": zero_point}
        if spec.tag_bits:
            stimulus["i.tag"] = np.arange(count + latency)
        out = model.run({**stimulus, "limits.low": low, "limits.high": high})
        expected = spec.compute(**elements, zero_point=zero_point, low=low, high=high)
        np.testing.assert_array_equal(out["o.stored"][latency:], expected[:count])
        np.testing.assert_array_equal(out["o_valid"][latency:], valid[:count])
        assert not out["o_valid"][:latency].any()
        if spec.tag_bits:
            np.testing.assert_array_equal(out["o.tag"][latency:], np.arange(count) % 32)


@pytest.mark.parametrize("rounding", ["half_even", "half_away"])
def test_ties_by_hand(rounding: str) -> None:
    spec = Requantize(mode="shift", rounding=rounding)
    acc = np.arange(-9, 10)
    out = BatchModel(spec.create()).run(
        {"i.acc": np.append(acc, np.zeros(5)).astype(int)[:, None], "i.shift": np.full((24, 1), 1), "i_valid": 1,
         "limits.low": -128, "limits.high": 127}
    )  # fmt: skip
    halves = [Fraction(int(a), 2) for a in acc]
    away = [math.floor(abs(h) + Fraction(1, 2)) * (1 if h > 0 else -1) for h in halves]
    expected = [round(h) for h in halves] if rounding == "half_even" else away
    assert out["o.stored"][5:, 0].tolist() == expected


@pytest.mark.parametrize("accept", [1.0, 0.5, 0.1])
def test_stream_keeps_order_and_bits_under_back_pressure(accept: float) -> None:
    spec = Requantize(tag_bits=16)
    rng = np.random.default_rng(3)
    cycles = 20_000
    elements = draw_elements(spec, cycles, rng)
    valid = np.ones(cycles, np.int64) if accept == 1.0 else rng.integers(0, 2, cycles)
    ready = (rng.random(cycles) < accept).astype(np.int64)
    limits = {"zero_point": 5, "low": -128, "high": 127}
    out = BatchModel(spec.create_stream()).run(
        {
            **name_ports(elements, "i__payload"), "i__valid": valid, "o__ready": ready, "i__payload.tag": np.arange(cycles),
            **name_ports({k: np.array(v) for k, v in limits.items()}, "limits"),
        }
    )  # fmt: skip
    taken = np.flatnonzero(valid & out["i__ready"])
    given = np.flatnonzero(ready & out["o__valid"])
    expected = spec.compute(**elements, **limits)[taken]
    np.testing.assert_array_equal(out["o__payload.stored"][given], expected[: len(given)])
    np.testing.assert_array_equal(out["o__payload.tag"][given], taken[: len(given)] % 65536)
    assert len(taken) - len(given) <= spec.latency_cycles + 2
    if accept == 1.0:  # an element a cycle
        assert len(taken) == cycles
        assert given[0] == spec.latency_cycles + 1


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(SpecError, match=r"requantize\.acc_bits: got 40, expected a product of at most 63 bits"):
        Requantize(acc_bits=40)
    with pytest.raises(SpecError, match=r"requantize\.acc: got 2147483648, expected sums of 32 bits"):
        Requantize().compute([TOP], 0, bias=[1], zero_point=0, low=0, high=1)
