"""The Booth cell and line against plain multiplication, every activation, cycle by cycle."""

from __future__ import annotations

import numpy as np
import pytest

from tests.extras import require

require("amaranth", "pyosys", "g++")

from accel_rtl.blocks.booth import BoothCell, BoothLine
from cosim.batch import BatchModel
from hwsim.archs.smartdeal.kernel_rows import count_digits
from hwsim.core.errors import SpecError

CORNERS = (-128, -127, -85, -64, -2, -1, 0, 1, 2, 64, 85, 126, 127)


def run_cell(spec: BoothCell, activations: np.ndarray, weights: np.ndarray, gaps: np.ndarray) -> tuple[list[int], int]:
    """Multiply pair after pair, each its own sum, after ``gaps`` idle cycles; return the sums and the cycles of the digits."""
    cost = np.array([spec.count_cycles(int(a)) for a in activations])
    load = np.cumsum(
        np.concatenate([[0], cost[:-1]]) + gaps
    )  # a cell takes the next in the last cycle of the one before
    cycles = int(load[-1] + cost[-1]) + 8
    stimulus = {name: np.zeros(cycles, np.int64) for name in ("load", "activation", "weight", "close")}
    stimulus["load"][load] = 1
    stimulus["activation"][load] = activations
    stimulus["close"][load[1:]] = 1
    stimulus["close"][load[-1] + cost[-1]] = 1
    for at, length, weight in zip(load, cost, weights, strict=True):
        stimulus["weight"][at + 1 : at + 1 + length] = weight
    out = BatchModel(spec.create()).run(stimulus)
    # The digits of what is loaded at t fill t + 1 .. t + cost: ``last`` is low in all of them but the last.
    expected = np.ones(cycles, np.int64)
    for at, length in zip(load, cost, strict=True):
        expected[at + 1 : at + length] = 0
    np.testing.assert_array_equal(out["last"], expected)
    closed = np.flatnonzero(stimulus["close"])
    np.testing.assert_array_equal(np.flatnonzero(out["sum_valid"]), closed + 3)
    return out["sum"][closed + 3].tolist(), int(cost.sum())


def test_every_activation_times_corner_weights() -> None:
    spec = BoothCell()
    pairs = [(a, w) for a in range(-256, 256) for w in CORNERS]
    activations, weights = np.array(pairs).T
    sums, _ = run_cell(spec, activations, weights, np.zeros(len(pairs), np.int64))
    assert sums == (activations * weights).tolist()


def test_random_pairs_with_gaps() -> None:
    rng = np.random.default_rng(1)
    count = 100_000
    activations, weights = rng.integers(-256, 256, count), rng.integers(-128, 128, count)
    gaps = np.where(rng.random(count) < 0.3, rng.integers(0, 4, count), 0)
    sums, cycles = run_cell(BoothCell(), activations, weights, gaps)
    assert sums == (activations * weights).tolist()
    assert 1.0 < cycles / count < 5.0


def test_digits_are_those_the_simulator_counts() -> None:
    spec = BoothCell()
    table = np.zeros(1024, np.uint8)
    count_digits(table)
    assert [spec.count_cycles(a) for a in range(-256, 256)] == np.maximum(table[256:768], 1).tolist()
    for a in range(-256, 256):
        digits = spec.recode(a)
        assert sum(d * 4**i for i, d in enumerate(digits)) == a
        assert set(digits) <= {-2, -1, 0, 1, 2}


@pytest.mark.parametrize(("macs", "activation_bits", "psum_bits"), [(1, 9, 32), (4, 9, 32), (3, 5, 14)])
def test_line_waits_for_its_slowest_cell(macs: int, activation_bits: int, psum_bits: int) -> None:
    spec = BoothLine(cell=BoothCell(activation_bits=activation_bits, psum_bits=psum_bits), macs=macs)
    rng = np.random.default_rng(macs)
    elements, half = 6000, 1 << activation_bits - 1
    activations = rng.integers(-half, half, (elements, macs)) * (rng.random((elements, macs)) < 0.8)
    weights = rng.integers(-128, 128, elements)
    starts = np.unique(np.concatenate([[0], rng.integers(1, elements, 700)]))  # first element of each sum
    cost = np.array([spec.count_cycles(row) for row in activations.tolist()])
    idle = np.where(rng.random(elements) < 0.2, rng.integers(1, 5, elements), 0)
    taken = np.cumsum(np.concatenate([[0], cost[:-1]]) + idle)
    cycles = int(taken[-1] + cost[-1]) + 8
    valid, close = np.zeros(cycles, np.int64), np.zeros(cycles, np.int64)
    a, w = np.zeros((cycles, macs), np.int64), np.zeros(cycles, np.int64)
    # Offered from the last cycle of what is before it, or some cycles later.
    valid[taken], a[taken], w[taken] = 1, activations, weights
    ends = np.concatenate([taken[starts[1:]], [taken[-1] + cost[-1]]])
    close[ends] = 1
    out = BatchModel(spec.create()).run(
        {"i__valid": valid, "i__payload.activation": a, "i__payload.weight": w, "close": close}
    )
    assert out["i__ready"][taken].all()
    busy = np.ones(cycles, np.int64)
    for at, length in zip(taken, cost, strict=True):
        busy[at + 1 : at + length] = 0
    np.testing.assert_array_equal(out["i__ready"], busy)
    np.testing.assert_array_equal(np.flatnonzero(out["sum_valid"]), ends + 3)
    spans = zip(starts, [*starts[1:], elements], strict=True)
    expected = [spec.compute(activations[lo:hi], weights[lo:hi]) for lo, hi in spans]
    np.testing.assert_array_equal(out["sum"][ends + 3], expected)


def test_sum_of_nothing_is_zero_and_reset_forgets() -> None:
    model = BatchModel(BoothCell().create())
    stimulus = {name: np.zeros(24, np.int64) for name in ("load", "close", "rst")}
    stimulus["load"][0] = stimulus["close"][2] = stimulus["close"][5] = stimulus["load"][8] = 1
    stimulus["rst"][10] = 1
    stimulus["close"][15] = 1
    out = model.run({**stimulus, "activation": 1, "weight": 7})
    assert out["sum"][[5, 8, 18]].tolist() == [7, 0, 0]
    assert out["sum_valid"].nonzero()[0].tolist() == [5, 8, 18]


def test_widths_are_checked() -> None:
    with pytest.raises(SpecError, match=r"booth\.activation_bits: got 1, expected an integer from 2 to 17"):
        BoothCell(activation_bits=1)
    with pytest.raises(SpecError, match=r"booth\.activation: got 256"):
        BoothCell().recode(256)
