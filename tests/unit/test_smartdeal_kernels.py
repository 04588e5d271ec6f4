"""Booth digits and rows of the SmartDeal kernels against their definitions; compiled and plain runs agree."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.smartdeal import datapath as module
from hwsim.archs.smartdeal import kernel_rows
from hwsim.core.mapping import list_boxes
from tests.naive_smartdeal_cases import cases
from tests.naive_smartdeal_stages import recode_booth


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    table = np.zeros(1024, np.uint8)
    kernel_rows.count_digits(table)
    return table


def test_recoded_digits_make_up_the_value():
    for value in range(-512, 512):
        found = recode_booth(value)
        assert set(found) <= {-2, -1, 0, 1, 2}
        assert sum(digit * 4**i for i, digit in enumerate(found)) == value


def test_digit_counts_are_those_of_the_recoding(digits):
    assert [sum(d != 0 for d in recode_booth(v)) for v in range(-512, 512)] == digits.tolist()


def test_digit_counts_known_by_hand(digits):
    known = {0: 0, 1: 1, 2: 2, 3: 2, -1: 1, -2: 1, 127: 2, -128: 1, 128: 2, 255: 2, -255: 2, 85: 4, 170: 5, -86: 4}
    assert {value: int(digits[value + 512]) for value in known} == known


def test_nine_bit_activations_have_at_most_five_digits_and_eight_bit_ones_four(digits):
    assert digits[512 - 255 : 512 + 256].max() == 5
    assert digits[512 - 128 : 512 + 128].max() == 4


def test_no_recoding_has_more_nonzero_digits_than_positions_allow(digits):
    """The least number of nonzero radix-4 digits in -2..2 is a lower bound of Booth's."""
    least = np.full(4**5 * 2, 99)
    for found in product((-2, -1, 0, 1, 2), repeat=5):
        value = sum(d * 4**i for i, d in enumerate(found))
        if -512 <= value < 512:
            least[value + 512] = min(least[value + 512], sum(d != 0 for d in found))
    assert (least[:1024] <= digits).all()


def measure_row(case, datapath, row: int, group: int, digits) -> tuple[int, int]:
    """Time and work of one row at one pixel group: the slowest cell of each weight, summed."""
    machine, layer, macs = case.machine(), case.layer, case.arch.macs
    if layer.op == "gemm":
        pixels = [(n, 0, 0) for n in range(layer.N)][group * macs : (group + 1) * macs]
    else:
        per_row = -(-layer.Q // macs)
        image, rest = divmod(group, layer.P * per_row)
        p, first = rest // per_row, rest % per_row * macs
        pixels = [(image, p, q) for q in range(first, min(first + macs, layer.Q))]
    counts = [
        [max(1, sum(d != 0 for d in recode_booth(machine.activation(place, pixel)))) for pixel in pixels]
        for place in machine.rows_of()[row].places
    ]
    if not any(machine.activation(place, pixel) for place in machine.rows_of()[row].places for pixel in pixels):
        return 0, 0
    return sum(max(cells) for cells in counts), sum(sum(cells) for cells in counts)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cases().filter(lambda case: case.layer.G == 1))
def test_rows_take_the_slowest_cell_of_each_weight(case):
    datapath = case.datapath()
    layer, table = case.layer, np.zeros(1024, np.uint8)
    kernel_rows.count_digits(table)
    columns = layer.N if layer.op == "gemm" else layer.Q
    groups = (1 if layer.op == "gemm" else layer.N * layer.P) * -(-columns // case.arch.macs)
    time = np.full((len(datapath.rows.channel), groups), -1, np.int32)
    work = np.full_like(time, -1)
    x = case.stored.astype(np.int16) - np.int16(case.zero_point)
    geometry = [layer.P, columns, *layer.stride, *layer.padding[:2], *layer.dilation, datapath.rows.width]
    if layer.op == "gemm":
        x, geometry[0] = np.ascontiguousarray(x.transpose(2, 1, 3, 0)), 1
    geometry += [case.arch.macs, datapath.rows.width_elements]
    rows = datapath.rows
    kernel_rows.measure_rows(
        x, table, rows.channel, rows.count, rows.kernel, np.array(geometry, np.int64), time, work
    )  # fmt: skip
    for row, group in product(range(time.shape[0]), range(groups)):
        assert (time[row, group], work[row, group]) == measure_row(case, datapath, row, group, table)


def summarize(case) -> tuple:
    """Return all that the kernels fill, as plain values."""
    datapath = case.datapath()
    times = datapath.exec_times(list_boxes(case.layer, tuple(getattr(case.layer, dim) for dim in "NGKCPQ")))
    arrays = (datapath.compute, datapath.prepare, datapath.sums, times.busy, times.fill, times.tail)
    return (*(array.tolist() for array in arrays), datapath.fingerprint())


@settings(max_examples=40, deadline=None, derandomize=True)
@given(cases())
def test_two_runs_agree(case):
    assert summarize(case) == summarize(case)


def test_compiled_and_plain_kernels_agree(monkeypatch):
    names = ("count_digits", "measure_rows", "measure_passes", "measure_spread", "time_tiles")

    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(cases(most_slots=200))
    def compare(case):
        compiled = summarize(case)
        with monkeypatch.context() as patch:
            for name in names:
                kernel = getattr(module.kernel_rows, name)
                patch.setattr(module.kernel_rows, name, getattr(kernel, "py_func", kernel))
            assert summarize(case) == compiled

    compare()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(cases(), st.integers(0, 1 << 20))
def test_fingerprint_follows_activations_and_zero_rows(case, where):
    before = case.datapath().fingerprint()
    changed = case.stored.copy()
    changed.flat[where % changed.size] ^= 1
    case.stored = changed
    assert case.datapath().fingerprint() != before
