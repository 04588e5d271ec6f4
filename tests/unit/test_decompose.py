"""The decomposition against its naive version, and where the right answer is known beforehand."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from hwsim.core.errors import SpecError
from hwsim.quant.decompose import (
    RESNET18_PRUNE_RATIOS,
    DecomposeOptions,
    StorageBits,
    decompose_layer,
    prune_rows,
)
from hwsim.quant.decompose_plan import (
    VEC_2_SHAPE,
    choose_kernel_shape,
    choose_vector_shape,
    decompose_plan,
    extend_vector_shape,
    slice_weights,
    tabulate_rows,
)
from tests.naive_decompose import decompose_rows, rebuild_weight


def draw(shape: tuple[int, ...], seed: int = 0, std: float = 0.05) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape) * std


def unfold_bases(result, f: int, s: int, ce: np.ndarray) -> np.ndarray:
    """Return the basis of plain coefficients ``ce``: the fold of each column's top power undone."""
    tops = np.abs(ce).max(axis=0)
    return result.basis_float[f, s] / np.where(tops > 0, tops, 1.0)[:, None]


# --- the plan ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", sorted(VEC_2_SHAPE))
def test_the_general_rule_reproduces_the_published_table(inputs):
    assert extend_vector_shape(inputs) == VEC_2_SHAPE[inputs] == choose_vector_shape(inputs)
    plan = decompose_plan((7, inputs, 1, 1), force=True)
    assert (plan.kind, plan.slices, plan.rows) == ("vector", *VEC_2_SHAPE[inputs])
    assert plan == decompose_plan((7, inputs), force=True)


@pytest.mark.parametrize(
    ("channels", "expected"),
    [(1, (1, 3)), (64, (1, 192)), (65, (2, 99)), (100, (2, 150)), (128, (2, 192)), (512, (8, 192))],
)
def test_3x3_slices_hold_whole_channels_in_at_most_192_rows(channels, expected):
    assert choose_kernel_shape(channels) == expected


def test_other_kernels_and_layers_that_cannot_save_stay_dense():
    for shape in [(64, 3, 7, 7), (8, 8, 5, 5), (64, 1, 10, 4), (8, 8, 1, 3)]:
        plan = decompose_plan(shape, force=True)
        assert plan.is_dense
        assert f"{shape[2]}x{shape[3]} kernel" in plan.reason
        assert tabulate_rows(plan).shape == (0, 5)
    for shape in [(32, 1, 3, 3), (8, 2, 3, 3), (96, 16, 1, 1)]:
        assert decompose_plan(shape).is_dense
        assert "decomposed with every row stored" in decompose_plan(shape).reason
        assert not decompose_plan(shape, force=True).is_dense
    for shape in [(32, 3, 3, 3), (144, 24, 1, 1)]:
        assert not decompose_plan(shape).is_dense
    assert [n for n in VEC_2_SHAPE if decompose_plan((1, n)).is_dense] == [16]


def test_depthwise_would_take_more_bits_than_dense():
    weight = draw((32, 1, 3, 3), std=0.3)
    forced = decompose_layer(weight, DecomposeOptions(force=True))
    assert forced.storage_bits == StorageBits(coefficient_bits=32 * 3 * 12, basis_bits=32 * 72, index_bits=32 * 3)
    assert forced.compression_vs_int8 < 1
    assert decompose_layer(weight).storage_bits == StorageBits(dense_bits=32 * 72)


def test_plan_is_hashable_and_needs_no_numba():
    assert len({decompose_plan((4, 64, 3, 3)), decompose_plan((4, 64, 3, 3))}) == 1
    code = "import sys; import hwsim.quant.decompose, hwsim.quant.decompose_plan; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_rows_out_of_range_are_an_error():
    plan = decompose_plan((4, 100, 1, 1))
    assert plan.locate_row(33).channel_count == 1
    with pytest.raises(IndexError):
        plan.locate_row(34)


# --- the fit ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "std", "threshold"),
    [
        ((3, 20, 3, 3), 0.05, 4e-3),
        ((2, 70, 3, 3), 0.02, 4e-3),
        ((2, 12, 3, 3), 0.05, 0.0),
        ((4, 24, 1, 1), 0.1, 4e-3),
        ((2, 700, 1, 1), 0.03, 1e-3),
        ((2, 100), 40.0, 4e-3),
    ],
)
def test_kernel_equals_the_naive_version(shape, std, threshold):
    weight = draw(shape, seed=5, std=std)
    result = decompose_layer(weight, DecomposeOptions(threshold=threshold))
    rows = slice_weights(weight, result.plan)
    row_threshold = 5 * threshold if result.plan.kind == "kxk" else 0.0
    for f in range(shape[0]):
        for s in range(result.plan.slices):
            ce, b, codes = decompose_rows(rows[f, s], threshold, row_threshold)
            assert np.array_equal(result.codes[f, s], codes)
            np.testing.assert_allclose(unfold_bases(result, f, s, ce), b, rtol=0, atol=1e-9 * max(1.0, np.abs(b).max()))


@pytest.mark.parametrize("case", ["column", "rank1", "equal", "row", "constant", "rank2"])
def test_singular_slices_equal_the_naive_minimum_norm_solution(case):
    rng = np.random.default_rng(2)
    rows = {
        "column": rng.standard_normal((30, 3)) * [0.1, 0.0, 0.1],
        "rank1": np.outer(rng.standard_normal(30), [0.1, 0.2, -0.1]),
        "equal": np.repeat(rng.standard_normal((30, 1)) * 0.1, 3, axis=1),
        "row": np.vstack([[[0.1, -0.3, 0.2]], np.zeros((29, 3))]),
        "constant": np.full((30, 3), 0.25),
        "rank2": np.kron(rng.choice([0.25, -0.5, 0.125], (30, 1)), [1, 1, 0]) + np.kron(np.ones((30, 1)), [0, 0, 0.5]),
    }[case]
    weight = rows.reshape(1, 10, 3, 3)
    result = decompose_layer(weight)
    ce, b, codes = decompose_rows(rows, 4e-3, 2e-2)
    assert np.array_equal(result.codes[0, 0], codes)
    np.testing.assert_allclose(unfold_bases(result, 0, 0, ce), b, rtol=0, atol=1e-9)
    assert result.float_error == pytest.approx(np.linalg.norm(rows - ce @ b) / np.linalg.norm(rows), abs=1e-9)


def test_powers_of_two_times_a_diagonal_basis_are_recovered_exactly():
    rng = np.random.default_rng(0)
    for diagonal in ([1.0, 1.0, 1.0], [1.25, 0.875, 1.125]):
        ce = rng.choice([0, 0.25, -0.25, 0.125, -0.0625, 2**-5, 2**-8], (16 * 9 * 3, 3))
        weight = (ce * diagonal).reshape(16, 9, 3, 3)
        result = decompose_layer(weight, DecomposeOptions(threshold=1e-3, row_factor=0.0))
        assert result.float_error < 1e-15
        got = np.sign(result.codes) * np.exp2(np.abs(result.codes.astype(float)) - 7) * (result.codes != 0)
        tops = np.abs(ce).reshape(16, 1, 27, 3).max(axis=2)
        assert np.array_equal(got * tops[:, :, None, :], ce.reshape(16, 1, 27, 3))


def test_integers_are_exact_where_the_weights_are_sums_of_shifted_integers():
    """Weights that are B's rows times signs: nothing to round, so that integer and float form agree to the bit."""
    signs = np.random.default_rng(4).choice([-1.0, 0.0, 1.0], (4, 30, 3)) * (np.eye(3)[np.arange(30) % 3])
    signs[:, :3] = np.eye(3)
    weight = (signs * [127.0, 64.0, 3.0]).reshape(4, 10, 3, 3)
    result = decompose_layer(weight, DecomposeOptions(threshold=0.0, max_exponent=8))
    assert result.float_error < 1e-15
    assert np.array_equal(result.rebuilt_int8, weight.astype(np.int8))
    assert result.integer_error < 1e-15


def test_rounding_is_half_up_and_saturates():
    from hwsim.quant.kernel_decompose import rebuild_integers

    codes = np.array([[[1, 0, 0], [-1, 0, 0], [2, 0, 0], [7, 7, 7], [-7, -7, -7], [7, -6, 1]]], dtype=np.int8)
    basis = np.array([[[32, 31, -127], [127, 100, -5], [127, 100, 33]]], dtype=np.int8)
    out = np.zeros((1, 6, 3), dtype=np.int8)
    rebuild_integers(codes, basis, out)
    expected = [[rebuild_weight(list(map(int, row)), basis[0].tolist(), k) for k in range(3)] for row in codes[0]]
    assert out[0].tolist() == expected
    assert out[0, 0].tolist() == [1, 0, -2]
    assert out[0, 1].tolist() == [0, 0, 2]
    assert out[0, 3].tolist() == [127, 127, -99]
    assert out[0, 4].tolist() == [-128, -128, 99]


@pytest.mark.parametrize("shape", [(8, 32, 3, 3), (8, 200, 1, 1)])
def test_error_does_not_grow_with_a_smaller_threshold(shape):
    """Each theta ends in another local optimum of the alternating fit, so that neighbours may cross; 0.005 is twice the
    largest crossing over 200 seeds of these two shapes (0.0023). Over the decades of theta the order is strict."""
    for seed in range(5):
        weight = draw(shape, seed=seed)
        errors = [
            decompose_layer(weight, DecomposeOptions(threshold=t)).float_error
            for t in (0.1, 3e-2, 1e-2, 4e-3, 1e-3, 1e-4)
        ]
        for larger, smaller in pairwise(errors):
            assert smaller <= larger + 0.005
        assert errors[0] > errors[1] > errors[2] > errors[-1]


def test_larger_threshold_stores_fewer_rows():
    weight = draw((8, 64, 3, 3), std=0.013)
    stored = [
        decompose_layer(weight, DecomposeOptions(threshold=t)).storage_bits.total_bits for t in (0, 1e-3, 4e-3, 8e-3)
    ]
    assert stored == sorted(stored, reverse=True)
    assert stored[0] > stored[2]


def test_no_iterations_is_plain_rounding_to_powers_of_two():
    weight = draw((1, 5, 3, 3))
    result = decompose_layer(weight, DecomposeOptions(max_iterations=0))
    ce, _, codes = decompose_rows(weight.reshape(-1, 3), 4e-3, 2e-2, rounds=0)
    assert np.array_equal(result.codes[0, 0], codes)
    assert not result.iterations.any()
    assert np.abs(ce).max() <= 2 * np.abs(weight).max()


def test_coefficients_are_limited_to_32():
    weight = draw((2, 10, 3, 3), std=1000.0)
    result = decompose_layer(weight)
    ce, b, codes = decompose_rows(weight[0].reshape(-1, 3), 4e-3, 2e-2)
    assert np.abs(ce).max() == 32
    assert np.array_equal(result.codes[0, 0], codes)
    np.testing.assert_allclose(unfold_bases(result, 0, 0, ce), b, rtol=1e-9)


# --- edges ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 8, 3, 3), (4, 50, 1, 1), (4, 50), (4, 3, 5, 5)])
def test_zero_tensors_store_no_coefficients(shape):
    result = decompose_layer(np.zeros(shape, dtype=np.float32))
    assert not result.rebuilt_int8.any()
    assert (result.float_error, result.integer_error) == (0.0, 0.0)
    assert np.all(result.scale == 1.0)
    if not result.plan.is_dense:
        assert result.storage_bits == StorageBits(index_bits=4 * result.plan.row_count)
        assert result.zero_row_fraction == 1.0


def test_single_channel_and_single_filter_layers():
    for shape in [(1, 1, 3, 3), (1, 1, 1, 1), (1, 1)]:
        weight = draw(shape, std=0.3)
        for force in (False, True):
            result = decompose_layer(weight, DecomposeOptions(force=force))
            assert result.plan.is_dense != force
            assert result.integer_error < 0.2
    assert decompose_layer(np.full((1, 1), 0.3)).integer_error < 1e-15


def test_dense_weights_are_rounded_to_8_bits_per_channel():
    weight = draw((4, 3, 7, 7))
    result = decompose_layer(weight)
    scale = np.abs(weight).max(axis=(1, 2, 3)) / 127
    assert np.array_equal(result.rebuilt_int8, np.round(weight / scale.reshape(4, 1, 1, 1)).astype(np.int8))
    assert result.compression_vs_int8 == 1.0
    assert result.float_error == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
def test_bad_weights_name_the_tensor(bad):
    weight = draw((2, 4, 3, 3))
    weight[1, 2, 0, 1] = bad
    with pytest.raises(SpecError, match=r"^conv2\.weight: got .*1 of 72 are not, first at \(1, 2, 0, 1\)"):
        decompose_layer(weight, name="conv2.weight")


def test_bad_shapes_and_types_are_refused():
    with pytest.raises(SpecError, match=r"weight\.shape"):
        decompose_layer(np.zeros((2, 2, 2)))
    with pytest.raises(SpecError, match="at least one weight"):
        decompose_layer(np.zeros((0, 3, 3, 3)))
    with pytest.raises(SpecError, match="complex128"):
        decompose_layer(np.zeros((2, 3), dtype=complex), name="fc")
    with pytest.raises(SpecError, match=r"weight\.shape"):
        decompose_plan((4, 0, 3, 3))


@pytest.mark.parametrize(
    "field",
    [
        {"threshold": -1e-3},
        {"threshold": float("nan")},
        {"row_factor": float("inf")},
        {"tolerance": -1.0},
        {"max_iterations": -1},
        {"max_exponent": 200},
        {"prune_ratio": 1.5},
        {"prune_group": 0},
    ],
)
def test_options_out_of_range_are_refused(field):
    with pytest.raises(SpecError, match=rf"decompose\.{next(iter(field))}"):
        DecomposeOptions(**field)


# --- pruning ----------------------------------------------------------------------------------------------------------


def test_pruned_rows_become_zero_coefficient_rows():
    weight = draw((64, 16, 3, 3))
    pruned = decompose_layer(weight, DecomposeOptions(prune_ratio=0.5))
    rows = prune_rows(weight, 0.5).any(axis=3).reshape(64, 48)
    assert rows[:32].sum() == 32 * 24
    assert not np.array_equal(rows[0], rows[32])
    assert not pruned.row_mask.reshape(64, 48)[~rows].any()
    assert pruned.zero_row_fraction >= 0.5
    assert pruned.float_error > decompose_layer(weight).float_error


def test_1x1_layers_are_pruned_by_channel_triples():
    weight = draw((32, 10, 1, 1))
    weight[:, 3:6] *= 1e-3
    pruned = prune_rows(weight, 0.25)
    assert not pruned[:, 3:6].any()
    assert np.array_equal(np.delete(pruned, [3, 4, 5], axis=1), np.delete(weight, [3, 4, 5], axis=1))
    assert np.array_equal(prune_rows(weight.reshape(32, 10), 0.25), pruned.reshape(32, 10))


def test_pruning_checks_its_arguments_and_the_published_list_is_one_per_layer():
    assert len(RESNET18_PRUNE_RATIOS) == 21
    with pytest.raises(SpecError, match="prune_ratio"):
        prune_rows(np.zeros((2, 2)), -0.1)
    with pytest.raises(SpecError, match="prune_group"):
        prune_rows(np.zeros((2, 2)), 0.1, 0)
    with pytest.raises(SpecError, match=r"weight\.shape"):
        prune_rows(np.zeros(2), 0.1)
