"""Rebuild engines against the integer rule of the stored format, coefficient by coefficient and cycle by cycle."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.extras import require

require("amaranth", "pyosys", "g++")

from accel_rtl.blocks.rebuild import RebuildEngine, RebuildPair
from cosim.batch import BatchModel


def rebuild_naive(nibbles: list[int], basis: list[list[int]]) -> list[int]:
    """The rule of the format, word by word."""
    found = []
    for k in range(len(basis)):
        total = 0
        for nibble, row in zip(nibbles, basis, strict=True):
            magnitude, sign = nibble & 7, -1 if nibble & 8 else 1
            total += sign * row[k] * 2 ** (magnitude - 1) if magnitude else 0
        found.append(max(-128, min(127, (total + 32) // 64)))
    return found


def write_bases(stimulus: dict[str, np.ndarray], bases: np.ndarray) -> int:
    """Write both banks, row by row, in the first cycles; return how many."""
    places = list(itertools.product(range(2), range(bases.shape[1])))
    for at, (bank, index) in enumerate(places):
        stimulus["write"][at], stimulus["write_bank"][at], stimulus["write_index"][at] = 1, bank, index
        stimulus["row"][at] = bases[bank, index]
    return len(places)


def make_stimulus(cycles: int, size: int) -> dict[str, np.ndarray]:
    names = ("write", "write_bank", "write_index", "i__valid", "i__payload.bank", "o__ready")
    stimulus = {name: np.zeros(cycles, np.int64) for name in names}
    stimulus["row"] = np.zeros((cycles, size), np.int64)
    stimulus["i__payload.nibbles"] = np.zeros((cycles, size), np.int64)
    return stimulus


@pytest.mark.parametrize("size", [3, 2])
@pytest.mark.parametrize(("offer", "accept"), [(1.0, 1.0), (0.5, 0.5), (1.0, 0.2)])
def test_pair_rebuilds_rows_in_order_under_any_stall(size: int, offer: float, accept: float) -> None:
    rng = np.random.default_rng(size)
    spec = RebuildPair(engine=RebuildEngine(size=size))
    bases = rng.integers(-127, 128, (2, size, size))
    bases[0, 0], bases[1, 1] = 127, -127
    cycles = 100_000
    stimulus = make_stimulus(cycles, size)
    begin = write_bases(stimulus, bases)
    stimulus["i__valid"][begin:] = rng.random(cycles - begin) < offer
    stimulus["i__payload.nibbles"][:] = rng.integers(0, 16, (cycles, size)) * (rng.random((cycles, size)) < 0.8)
    stimulus["i__payload.nibbles"][:40] = rng.choice([0, 7, 15, 8], (40, size))
    stimulus["i__payload.bank"][:] = rng.integers(0, 2, cycles)
    stimulus["o__ready"][:] = rng.random(cycles) < accept
    out = BatchModel(spec.create()).run(stimulus)
    taken = np.flatnonzero(stimulus["i__valid"] & out["i__ready"])
    given = np.flatnonzero(stimulus["o__ready"] & out["o__valid"])
    nibbles, bank = stimulus["i__payload.nibbles"][taken], stimulus["i__payload.bank"][taken]
    expected = spec.compute(nibbles, bank, bases)
    np.testing.assert_array_equal(out["o__payload"][given], expected[: len(given)])
    assert 0 <= len(taken) - len(given) <= 2
    assert (given >= taken[: len(given)] + size).all()
    naive = [rebuild_naive(n, bases[b].tolist()) for n, b in zip(nibbles[:500].tolist(), bank, strict=False)]
    assert expected[:500].tolist() == naive
    if offer == accept == 1.0:  # the first after S cycles; two engines, each S cycles and one in which its row is taken
        assert given[0] == taken[0] + size
        assert len(given) == pytest.approx((cycles - begin) * 2 / (size + 1), abs=4)


def test_every_row_of_coefficients_on_one_engine() -> None:
    spec = RebuildEngine()
    rng = np.random.default_rng(5)
    nibbles = np.array(list(itertools.product(range(16), repeat=3)))
    bases = np.stack([np.full((3, 3), 127), rng.integers(-127, 128, (3, 3))])
    period = spec.latency_cycles + 1
    cycles = 2 * len(nibbles) * period + 4
    stimulus = make_stimulus(cycles, 3)
    at = np.arange(2 * len(nibbles)) * period
    stimulus["i__valid"][at] = 1
    stimulus["i__payload.nibbles"][at] = np.concatenate([nibbles, nibbles])
    stimulus["i__payload.bank"][at] = np.repeat([0, 1], len(nibbles))
    banks = {f"banks.{b}.{j}": bases[b, j][None].repeat(cycles, 0) for b in range(2) for j in range(3)}
    given = {k: stimulus[k] for k in ("i__valid", "i__payload.nibbles", "i__payload.bank")}
    out = BatchModel(spec.create()).run({**given, **banks, "o__ready": 1})
    expected = np.concatenate([spec.compute(nibbles, basis) for basis in bases])
    np.testing.assert_array_equal(np.flatnonzero(out["o__valid"]), at + spec.latency_cycles)
    np.testing.assert_array_equal(out["o__payload"][at + spec.latency_cycles], expected)


def test_consumer_that_holds_each_row_for_three_cycles_never_waits() -> None:
    spec = RebuildPair()
    cycles = 3000
    stimulus = make_stimulus(cycles, 3)
    begin = write_bases(stimulus, np.full((2, 3, 3), 64))
    stimulus["i__valid"][begin:] = 1
    first = begin + 3
    stimulus["o__ready"][first + 2 :: 3] = 1
    out = BatchModel(spec.create()).run(stimulus)
    assert out["o__valid"][first + 2 :: 3].all()


def test_accumulators_are_as_wide_as_the_format_says() -> None:
    assert RebuildEngine().acc_bits == 16
