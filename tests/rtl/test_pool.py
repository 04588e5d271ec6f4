"""The vector lanes against the functional model's pooling and addition, and against plain windows."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from tests.extras import require

require("amaranth", "pyosys", "g++")

from accel_rtl.blocks.pool import Operation, VectorLanes
from cosim.batch import BatchModel
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.network import Network, TensorSpec
from hwsim.core.tensors import ActQuant, Origin, Tensors
from hwsim.engine.functional_integer import IntegerModel
from hwsim.engine.functional_ops import count_window
from hwsim.quant.requant import combine_scales, quantize_multiplier

LANES = 4


@cache
def build(rounding: str) -> tuple[VectorLanes, BatchModel]:
    spec = VectorLanes(lanes=LANES, rounding=rounding)
    return spec, BatchModel(spec.create())


def run_lanes(
    rounding: str,
    operation: Operation,
    elements: dict[str, np.ndarray],
    first: np.ndarray,
    last: np.ndarray,
    setting: dict[str, int],
    gaps: float = 0.0,
) -> np.ndarray:
    """Send elements ``[count, lanes]``, cycles of nothing between them; return the results ``[windows, lanes]``."""
    spec, model = build(rounding)
    rng = np.random.default_rng(11)
    at = np.arange(len(first)) + np.cumsum(rng.random(len(first)) < gaps)
    cycles = int(at[-1]) + spec.latency_cycles + 1
    stimulus: dict[str, np.ndarray | int] = {}
    for name, value in {**elements, "first": first, "last": last, "valid": np.ones(len(first), int)}.items():
        port = "i_valid" if name == "valid" else f"i.{name}"
        # Between elements the ports hold whatever comes: 1 everywhere but for ``valid``.
        filled = np.full((cycles, *value.shape[1:]), 0 if name == "valid" else 1, np.int64)
        filled[at] = value
        stimulus[port] = filled
    stimulus |= {f"setting.{name}": value for name, value in setting.items()}
    out = model.run({**stimulus, "setting.operation": operation.value})
    given = np.flatnonzero(out["o_valid"])
    np.testing.assert_array_equal(given, at[last == 1] + spec.latency_cycles)
    return out["o"][given]


@pytest.mark.parametrize("rounding", ["half_even", "half_away"])
@pytest.mark.parametrize("operation", list(Operation))
def test_random_windows(operation: Operation, rounding: str) -> None:
    spec, _ = build(rounding)
    rng = np.random.default_rng(operation.value)
    windows = 100_000 // LANES // 5
    length = np.ones(windows, int) if operation is Operation.ADD else rng.integers(1, 10, windows)
    ends = np.cumsum(length)
    count = int(ends[-1])
    first, last = np.zeros(count, int), np.zeros(count, int)
    first[ends - length], last[ends - 1] = 1, 1
    size = (count, LANES)
    take = (rng.random(size) < 0.7) | (last == 1)[:, None]
    elements = {
        "a": rng.choice([rng.integers(-128, 128, size), rng.choice([-128, 127], size)]),
        "b": rng.integers(-128, 128, size),
        "take": take.astype(int) if operation is not Operation.ADD else np.ones(size, int),
        "multiplier": rng.choice([1, 1 << 30, (1 << 31) - 1, -(1 << 20), 3 << 9], size),
        "shift": rng.choice([0, 1, 10, 30, 33, 62], size),
    }
    setting = {"zero_a": 90, "zero_b": 7, "multiplier_b": -(1 << 29), "zero_point": -5, "low": -100, "high": 127}
    out = run_lanes(rounding, operation, elements, first, last, setting, gaps=0.2)
    scales = {name: elements[name][ends - 1] for name in ("multiplier", "shift")}
    if operation is Operation.ADD:
        expected = spec.compute(operation, elements["a"], elements["b"], **scales, **setting)
    else:
        longest = np.zeros((2, windows, LANES, 9), np.int64)
        for k in range(9):
            where = np.minimum(ends - length + k, ends - 1)
            longest[0, ..., k] = elements["a"][where]
            longest[1, ..., k] = elements["take"][where] * (k < length)[:, None]
        expected = spec.compute(operation, longest[0], 0, longest[1], **scales, **setting)
    np.testing.assert_array_equal(out, expected)


def run_model(
    layer: Layer, inputs: list[np.ndarray], quants: list[ActQuant], out: ActQuant, rounding: str
) -> np.ndarray:
    """Return what the functional model stores."""
    names = layer.inputs
    formats = {**dict(zip(names, quants, strict=True)), layer.name: out}
    tensors = Tensors(layers={}, activations=formats, origin=Origin(kind="synthetic", description=""))
    shape = (1, layer.G, layer.H, layer.W)
    specs = tuple(TensorSpec(name=name, shape=shape) for name in names)
    network = Network(name="one", inputs=specs, layers=(layer,), outputs=(layer.name,), source="test")
    model = IntegerModel(network, tensors, "mulshift", rounding)
    return np.asarray(model.execute(layer, list(inputs))).astype(np.int64)


def windows_of(x: np.ndarray, layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Return elements of windows and whether each is inside the image, both ``[channels, P, Q, R * S]``."""
    top, left, bottom, right = layer.padding
    pads = ((0, 0), (top, bottom), (left, right))
    padded, inside = np.pad(x[0].astype(np.int64), pads), np.pad(np.ones_like(x[0], np.int64), pads)
    view = (
        (part[:, r : r + layer.stride[0] * layer.P : layer.stride[0], s : s + layer.stride[1] * layer.Q : layer.stride[1]])
        for part in (padded, inside) for r in range(layer.R) for s in range(layer.S)
    )  # fmt: skip
    stacked = [part[:, : layer.P, : layer.Q] for part in view]
    half = len(stacked) // 2
    return np.stack(stacked[:half], -1), np.stack(stacked[half:], -1)


@pytest.mark.parametrize("rounding", ["half_even", "half_away"])
@pytest.mark.parametrize("op", ["maxpool", "avgpool"])
def test_pooling_equals_the_functional_model(op: str, rounding: str) -> None:
    rng = np.random.default_rng(2)
    layer = Layer(
        name="y",
        op=op,
        inputs=("x",),
        G=8,
        C=1,
        K=1,
        H=11,
        W=13,
        P=6,
        Q=7,
        R=3,
        S=3,
        stride=(2, 2),
        padding=(1, 1, 1, 1),
    )
    x = rng.integers(0, 256, (1, 8, 11, 13)).astype(np.uint8)
    source, target = ActQuant(scale=0.031, zero_point=9, signed=False), ActQuant(scale=0.023, zero_point=-20)
    stored = run_model(layer, [x], [source], target, rounding)
    counts = count_window(layer) if op == "avgpool" else np.ones((layer.P, layer.Q), np.int64)
    ratio = combine_scales(source.scale, divisor=np.float32(target.scale) * counts.astype(np.float32))
    multiplier, shift = quantize_multiplier(ratio, 31)
    a, take = windows_of(x, layer)
    # Lanes take neighbouring channels; a window's elements follow one another.
    order = a.reshape(2, LANES, -1, 9).transpose(0, 2, 3, 1).reshape(-1, LANES)
    taken = take.reshape(2, LANES, -1, 9).transpose(0, 2, 3, 1).reshape(-1, LANES)
    place = np.tile(np.repeat(np.arange(layer.P * layer.Q), 9), 2)
    scales = {"multiplier": multiplier.ravel()[place], "shift": shift.ravel()[place]}
    each = {name: np.repeat(value[:, None], LANES, 1) for name, value in scales.items()}
    k = np.arange(len(order)) % 9
    setting = {"zero_a": 9, "zero_point": -20, "low": -128, "high": 127}
    operation = Operation.MAX if op == "maxpool" else Operation.SUM
    out = run_lanes(
        rounding, operation, {"a": order, "b": order, "take": taken, **each}, (k == 0).astype(int), (k == 8).astype(int), setting
    )  # fmt: skip
    np.testing.assert_array_equal(out.reshape(2, -1, LANES).transpose(0, 2, 1).ravel(), stored.ravel())


@pytest.mark.parametrize("rounding", ["half_even", "half_away"])
@pytest.mark.parametrize("negate", [0, 1])
def test_addition_equals_the_functional_model(negate: int, rounding: str) -> None:
    rng = np.random.default_rng(4)
    layer = Layer(
        name="y", op="add", inputs=("a", "b"), G=4, C=1, K=1, H=40, W=50, P=40, Q=50, attrs=(("negate_second", negate),)
    )
    a, b = (rng.integers(-128, 128, (1, 4, 40, 50)).astype(np.int8) for _ in range(2))
    quants = [ActQuant(scale=0.07, zero_point=-3), ActQuant(scale=0.011, zero_point=100)]
    target = ActQuant(scale=0.05, zero_point=-128)
    stored = run_model(layer, [a, b], quants, target, rounding)
    ratios = [combine_scales(quant.scale, divisor=target.scale) for quant in quants]
    _, shift = quantize_multiplier(max(ratios), 31)
    factors = [int(np.rint(np.ldexp(np.float64(ratio), int(shift)))) for ratio in ratios]
    lanes = {"a": a.reshape(LANES, -1).T, "b": b.reshape(LANES, -1).T}
    count = len(lanes["a"])
    for name, value in {"multiplier": factors[0], "shift": int(shift), "take": 1}.items():
        lanes[name] = np.full((count, LANES), value)
    setting = {"zero_a": -3, "zero_b": 100, "zero_point": -128, "low": -128, "high": 127}
    setting["multiplier_b"] = -factors[1] if negate else factors[1]
    ones = np.ones(count, int)
    out = run_lanes(rounding, Operation.ADD, lanes, ones, ones, setting)
    np.testing.assert_array_equal(out.T.ravel(), stored.ravel())


def test_a_sum_too_wide_is_refused() -> None:
    with pytest.raises(SpecError, match=r"vector\.window: got 1048576, expected a sum whose product fits 63 bits"):
        VectorLanes(bits=16, window=1 << 20)
