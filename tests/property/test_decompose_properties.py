"""What holds for every weight tensor: the cut is a bijection, the storage is a count, the integers are the format's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.quant.decompose import DecomposeOptions, decompose_layer, prune_rows
from hwsim.quant.decompose_plan import (
    MAX_SLICE_ROWS,
    decompose_plan,
    extend_vector_shape,
    join_slices,
    slice_weights,
    tabulate_rows,
)
from tests.naive_decompose import rebuild_weight

shapes = st.one_of(
    st.tuples(st.integers(1, 3), st.integers(1, 200), st.just(3), st.just(3)),
    st.tuples(st.integers(1, 3), st.integers(1, 2500), st.just(1), st.just(1)),
    st.tuples(st.integers(1, 3), st.integers(1, 2500)),
)


@given(shape=shapes)
@settings(max_examples=150, deadline=None)
def test_cut_is_a_bijection_and_every_row_says_what_it_covers(shape):
    plan = decompose_plan(shape, force=True)
    weight = np.arange(1, np.prod(shape) + 1, dtype=np.float64).reshape(shape)
    rows = slice_weights(weight, plan)
    assert rows.shape == (shape[0], plan.slices, plan.rows, 3)
    assert plan.rows <= MAX_SLICE_ROWS
    assert np.count_nonzero(rows) == weight.size
    assert np.array_equal(join_slices(rows, plan, shape), weight)
    assert sum(plan.count_rows(s) for s in range(plan.slices)) == plan.row_count
    four = weight.reshape(*shape, 1, 1) if len(shape) == 2 else weight
    table = tabulate_rows(plan)
    assert len(table) == plan.row_count
    for row, (slice_index, row_in_slice, channel, count, kernel_row) in enumerate(table):
        place = plan.locate_row(row)
        assert (slice_index, row_in_slice, channel, count, kernel_row) == (
            place.slice_index,
            place.row_in_slice,
            place.channel,
            place.channel_count,
            place.kernel_row,
        )
        assert row_in_slice < plan.count_rows(slice_index)
        got = rows[-1, slice_index, row_in_slice]
        if plan.kind == "kxk":
            assert count == 1
            assert np.array_equal(got, four[-1, channel, kernel_row])
        else:
            assert np.array_equal(got[:count], four[-1, channel : channel + count, 0, 0])
            assert not got[count:].any()
    assert not rows.any(axis=3)[:, plan.slices - 1, plan.count_rows(plan.slices - 1) :].any()


@given(inputs=st.integers(1, 60_000))
@settings(max_examples=300, deadline=None)
def test_vector_shape_holds_all_inputs_in_the_fewest_slices(inputs):
    slices, rows = extend_vector_shape(inputs)
    assert rows <= MAX_SLICE_ROWS
    assert slices * rows * 3 >= inputs
    assert slices == 1 or (slices - 1) * MAX_SLICE_ROWS * 3 < inputs
    assert slices * (rows - 1) * 3 < inputs


@given(
    shape=st.one_of(
        st.tuples(st.integers(1, 4), st.integers(1, 80), st.just(3), st.just(3)),
        st.tuples(st.integers(1, 4), st.integers(1, 700), st.just(1), st.just(1)),
        st.tuples(st.integers(1, 4), st.integers(1, 3), st.just(5), st.just(5)),
    ),
    seed=st.integers(0, 2**32 - 1),
    magnitude=st.sampled_from([1e-30, 1e-3, 0.05, 1.0, 300.0, 1e30]),
    zeros=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    threshold=st.sampled_from([0.0, 1e-3, 4e-3, 0.1]),
    force=st.booleans(),
)
@settings(max_examples=120, deadline=None)
def test_storage_is_counted_and_integers_follow_the_format(shape, seed, magnitude, zeros, threshold, force):
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal(shape) * magnitude * (rng.random(shape) >= zeros)
    result = decompose_layer(weight, DecomposeOptions(threshold=threshold, force=force))
    assert result.rebuilt_int8.shape == shape
    assert result.rebuilt_int8.dtype == np.int8
    assert np.all(result.scale > 0)
    assert np.isfinite([result.float_error, result.integer_error]).all()
    plan, bits = result.plan, result.storage_bits
    if plan.is_dense:
        assert bits.total_bits == 8 * weight.size
        return
    coefficients = bases = index = 0
    rebuilt = np.zeros((shape[0], plan.slices, plan.rows, 3), dtype=int)
    for f in range(shape[0]):
        for s in range(plan.slices):
            stored = 0
            for r in range(plan.count_rows(s)):
                index += 1
                codes = [int(c) for c in result.codes[f, s, r]]
                assert all(-7 <= c <= 7 for c in codes)
                assert bool(result.row_mask[f, s, r]) == any(codes)
                stored += any(codes)
                basis = [[int(b) for b in row] for row in result.basis[f, s]]
                rebuilt[f, s, r] = [rebuild_weight(codes, basis, k) for k in range(3)]
            assert not result.codes[f, s, plan.count_rows(s) :].any()
            coefficients += 4 * 3 * stored
            bases += 8 * 9 * (stored > 0)
    assert (bits.coefficient_bits, bits.basis_bits, bits.index_bits, bits.dense_bits) == (coefficients, bases, index, 0)
    assert np.array_equal(join_slices(rebuilt, plan, shape), result.rebuilt_int8)
    if not force:
        assert result.compression_vs_int8 > 1
    assert result.compression_vs_fp32 == pytest.approx(32 * weight.size / bits.total_bits)


@given(seed=st.integers(0, 2**32 - 1), shape=st.sampled_from([(2, 16, 3, 3), (2, 96, 1, 1)]))
@settings(max_examples=40, deadline=None)
def test_integer_form_is_within_the_derived_distance_of_the_float_form(seed, shape):
    """A basis element is off by half a unit, three coefficients are at most 1 each, the shift rounds by half: 2 units.

    Saturation adds nothing beyond: every float weight lies within +-127 units by the choice of the scale.
    """
    weight = np.random.default_rng(seed).standard_normal(shape) * 0.1
    result = decompose_layer(weight)
    values = np.sign(result.codes) * np.exp2(np.abs(result.codes.astype(float)) - 7) * (result.codes != 0)
    float_form = join_slices(values @ result.basis_float, result.plan, shape)
    scale = result.scale.reshape(-1, 1, 1, 1)
    assert np.abs(float_form / scale).max() <= 127 + 1e-9
    assert np.abs(float_form / scale - result.rebuilt_int8).max() <= 2 + 1e-9
    relative = np.linalg.norm(weight - float_form) / np.linalg.norm(weight)
    assert result.float_error == pytest.approx(relative, rel=1e-9)


@given(seed=st.integers(0, 2**32 - 1), ratio=st.floats(0, 1), group=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_pruning_zeroes_the_weakest_rows_of_each_group(seed, ratio, group):
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((37, 5, 3, 3))
    pruned = prune_rows(weight, ratio, group)
    kept = pruned.any(axis=3)
    assert np.array_equal(pruned[kept], weight[kept])
    for start in range(0, 37, group):
        mask = kept[start : start + group].reshape(-1, 15)
        assert np.all(mask == mask[0])
        assert 15 - mask[0].sum() == int(ratio * 15 + 1e-9)
        norms = np.abs(weight[start : start + group]).sum(axis=(0, 3)).ravel()
        if mask[0].any() and not mask[0].all():
            assert norms[mask[0]].min() >= norms[~mask[0]].max()
