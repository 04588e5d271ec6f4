"""The systolic array's closed forms against a machine of single cells that really multiplies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.systolic.datapath import PIPELINE_CYCLES
from hwsim.archs.systolic.spec import PRESETS
from hwsim.core.layer import Layer
from hwsim.core.mapping import list_boxes
from tests.naive_cases import workload_of
from tests.naive_systolic import cut_folds, multiply, pad, run_output_stationary, run_stationary

SIDES = st.integers(1, 5)


def model_times(rows: int, cols: int, flow: str, overlap: str, m: int, k: int, n: int) -> tuple[int, int, int]:
    """Return busy, fill and tail that the model says of the product as one tile; the tail without the hardware's pipeline."""
    arch = replace(PRESETS["small"], preset="small+", rows=rows, cols=cols, dataflow=flow, fold_overlap=overlap)
    layer = Layer(name="layer", op="gemm", inputs=("x",), N=m, C=k, K=n)
    times = arch.bind(workload_of(layer)).exec_times(list_boxes(layer, (m, 1, n, k, 1, 1)))
    return int(times.busy[0]), int(times.fill[0]), int(times.tail[0]) - PIPELINE_CYCLES[flow]


def draw_operands(m: int, k: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return operands without zeros, so that a missing product shows."""
    rng = np.random.default_rng(m * 10_000 + k * 100 + n)
    return rng.integers(1, 100, (m, k)), rng.integers(1, 100, (k, n))


@pytest.mark.parametrize("flow", ["os", "ws", "is"])
@pytest.mark.parametrize("overlap", ["none", "skewed"])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(rows=SIDES, cols=SIDES, m=st.integers(1, 11), k=st.integers(1, 11), n=st.integers(1, 11))
def test_cells_finish_in_the_cycles_of_the_model(flow, overlap, rows, cols, m, k, n):
    a, b = draw_operands(m, k, n)
    outcome = multiply(rows, cols, flow, overlap, a, b)
    np.testing.assert_array_equal(outcome.product, a @ b)
    busy, _, tail = model_times(rows, cols, flow, overlap, m, k, n)
    assert outcome.busy == busy
    assert outcome.stands == busy + tail


@pytest.mark.parametrize("overlap", ["none", "skewed"])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(rows=SIDES, cols=SIDES, m=st.integers(1, 6), k=st.integers(1, 6), n=st.integers(1, 6))
def test_a_tile_may_enter_while_the_results_of_the_last_one_leave(overlap, rows, cols, m, k, n):
    """Two output stationary tiles, the second from the cycle in which the first one's exec ends."""
    a, b = draw_operands(m, k, n)
    busy, _, tail = model_times(rows, cols, "os", overlap, m, k, n)
    first, second = (cut_folds(rows, cols, "os", a, b, overlap, start=start) for start in (0, busy))
    padded = -(-m // rows) * rows  # rows of the first tile that a ragged fold leaves empty
    a = np.concatenate([pad(a, padded, k), a])
    second = [replace(fold, where=(fold.where[0] + padded, fold.where[1])) for fold in second]
    outcome = run_output_stationary(rows, cols, first + second, (padded + m, n))
    np.testing.assert_array_equal(outcome.product, a @ b)
    assert outcome.busy == 2 * busy
    assert outcome.stands == 2 * busy + tail


@pytest.mark.parametrize(
    ("flow", "overlap", "expected"),
    [
        ("os", "none", (4 * 9, 0, 4)),  # 2 x 2 folds of T = 5: 5 + 4 + 2 - 2
        ("os", "skewed", (4 * 5 + 4, 4, 4)),  # T > R_a: 5 a fold, one skew of 4 + 2 - 2
        ("ws", "none", (2 * 2 * (7 + 8), 0, 0)),  # ceil(5 / 4) ceil(3 / 2) folds of 7 + 2 * 4 + 2 - 2
        ("ws", "skewed", (4 * 7 + 8, 8, 0)),
        ("is", "none", (2 * 4 * (3 + 8), 0, 0)),  # ceil(5 / 4) ceil(7 / 2) folds of T = 3
        ("is", "skewed", (7 * 4 + 3 + 8, 8, 0)),  # T < R_a: 4 a fold, 3 for the last
    ],
)
def test_closed_forms_by_hand(flow, overlap, expected):
    """7 x 5 by 5 x 3 on 4 rows and 2 columns."""
    assert model_times(4, 2, flow, overlap, 7, 5, 3) == expected


def test_output_stationary_folds_closer_than_the_model_says_cannot_be_built():
    """T = 2 on 4 rows: skewed folds follow in max(T, R_a) = 4 cycles; with 3 the shadow registers collide."""
    folds = cut_folds(4, 2, "os", np.ones((8, 2), int), np.ones((2, 2), int), "skewed")
    assert [fold.start for fold in folds] == [0, 4]
    closer = [replace(fold, start=3 * i) for i, fold in enumerate(folds)]
    with pytest.raises(AssertionError, match=r"before its value has left|before the last one has left"):
        run_output_stationary(4, 2, closer, (8, 2))


def test_weight_stationary_folds_closer_than_the_model_says_cannot_be_built():
    """T = 2 on 4 rows: four weights have to enter each column a fold, one a cycle."""
    folds = cut_folds(4, 2, "ws", np.ones((2, 8), int), np.ones((8, 2), int), "skewed")
    assert [fold.start for fold in folds] == [0, 4]
    closer = [replace(fold, start=3 * i) for i, fold in enumerate(folds)]
    with pytest.raises(AssertionError, match="enter a column at once"):
        run_stationary(4, 2, 2, closer, (2, 2))


def test_one_set_of_stationary_registers_is_not_enough_for_skewed_folds():
    folds = cut_folds(4, 2, "ws", np.ones((5, 8), int), np.ones((8, 2), int), "skewed")
    with pytest.raises(AssertionError, match="an operand is overwritten while in use"):
        run_stationary(4, 2, 1, folds, (5, 2))
