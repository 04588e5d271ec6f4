"""Pruned weights and run-length indexed storage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.core.errors import SpecError
from hwsim.quant.runs import RunFormat, prune_weights
from tests.naive_cambricon_x import list_steps


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    length=st.integers(1, 90), share=st.sampled_from([0.0, 0.05, 0.3, 1.0]), index_bits=st.integers(1, 5), bits=st.integers(2, 16),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_what_is_packed_comes_out_again(length, share, index_bits, bits, seed):
    rng = np.random.default_rng(seed)
    fmt = RunFormat(weight_bits=bits, index_bits=index_bits, count_bits=length.bit_length())
    row = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), length).astype(np.int16)
    row[rng.random(length) >= share] = 0
    runs, weights = fmt.list_entries(row)
    assert list(zip(runs.tolist(), weights.tolist(), strict=True)) == list_steps(row.tolist(), fmt.longest_run)
    packed = fmt.pack(row)
    assert packed.size == fmt.count_bits + len(runs) * (bits + index_bits)
    again, end = fmt.unpack(np.concatenate([np.ones(3, np.uint8), packed, np.ones(5, np.uint8)]), 3, length)
    np.testing.assert_array_equal(again, row)
    assert end == 3 + packed.size


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 5),
    length=st.integers(1, 70),
    segment=st.integers(1, 40),
    index_bits=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_entries_of_segments_are_counted(rows, length, segment, index_bits, seed):
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-1, 2, (rows, length)).astype(np.int8) * (rng.random((rows, length)) < 0.2)
    fmt = RunFormat(weight_bits=8, index_bits=index_bits, count_bits=8)
    wanted = [
        [len(list_steps(row[at : at + segment].tolist(), fmt.longest_run)) for at in range(0, length, segment)]
        for row in matrix
    ]
    np.testing.assert_array_equal(fmt.count_entries(matrix.astype(np.int8), segment), wanted)


def test_the_largest_weights_are_kept():
    weight = np.random.default_rng(1).normal(size=(8, 5, 3, 3)).astype(np.float32)
    found = prune_weights(weight, 16, 0.3)
    kept = found.integers != 0
    assert kept.sum() == round(0.3 * weight.size)
    assert np.abs(weight[kept]).min() > np.abs(weight[~kept]).max()
    real = found.integers * found.scale.reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(real[kept], weight[kept], atol=float(found.scale.max()))
    assert found.density == kept.mean()


def test_nothing_and_everything_may_be_kept():
    weight = np.random.default_rng(1).normal(size=(4, 6, 1, 1)).astype(np.float32)
    assert prune_weights(weight, 8, 0.0).density == 0
    assert prune_weights(weight, 16, 1.0).density == 1
    with pytest.raises(SpecError, match=r"density: got 1.5, expected a share from 0 to 1"):
        prune_weights(weight, 8, 1.5)
    with pytest.raises(SpecError, match="bits: got 1, expected an integer from 2 to 16"):
        prune_weights(weight, 1, 0.5)


def test_fewer_bits_never_store_more():
    weight = np.random.default_rng(2).normal(size=(6, 40)).astype(np.float32).reshape(6, 40, 1, 1)
    sizes = []
    for bits in range(2, 17):
        found = prune_weights(weight, bits, 0.4)
        fmt = RunFormat(weight_bits=bits, index_bits=3, count_bits=6)
        sizes.append(int(fmt.count_entries(found.integers.reshape(6, 40), 40).sum()) * fmt.entry_bits)
    assert sizes == sorted(sizes)
