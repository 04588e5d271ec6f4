"""The index selector against a plain search through the flags."""

from __future__ import annotations

import numpy as np
import pytest

from tests.extras import require

require("amaranth", "pyosys", "g++")

from accel_rtl.blocks.index_select import IndexSelect
from cosim.batch import BatchModel


@pytest.mark.parametrize("rows", [1, 2, 12, 37])
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_gives_the_rows_with_both_flags_without_a_gap(rows: int, stall: float) -> None:
    rng = np.random.default_rng(rows)
    spec = IndexSelect(rows=rows)
    cycles = 20_000
    density = rng.choice([0.0, 0.1, 0.5, 0.9, 1.0], (cycles, 2, 1))
    flags = rng.random((cycles, 2, rows)) < density
    words = (flags * (1 << np.arange(rows, dtype=np.int64))).sum(axis=2)
    ready = (rng.random(cycles) >= stall).astype(np.int64)
    valid = (rng.random(cycles) >= stall).astype(np.int64)
    out = BatchModel(spec.create()).run(
        {
            "i__valid": valid,
            "i__payload.coefficients": words[:, 0],
            "i__payload.activations": words[:, 1],
            "o__ready": ready,
        }
    )
    taken = np.flatnonzero(valid & out["i__ready"])
    given = np.flatnonzero(out["o__valid"] & ready)
    items = list(zip(*(out[f"o__payload.{k}"][given].tolist() for k in ("row", "some", "last")), strict=True))
    expected = [item for at in taken for item in spec.compute(flags[at, 0].tolist(), flags[at, 1].tolist())]
    assert items == expected[: len(items)]
    assert len(expected) - len(items) <= 2 * rows + 2
    if not stall:  # an item in every cycle from the second on
        assert given.tolist() == list(range(1, cycles))


def test_first_row_comes_a_cycle_after_the_flags_and_stands() -> None:
    model = BatchModel(IndexSelect(rows=4).create())
    out = model.run(
        {
            "i__valid": [1, 0, 0, 0, 0, 0, 0],
            "i__payload.coefficients": 0b1110,
            "i__payload.activations": 0b1011,
            "o__ready": [0, 0, 0, 1, 1, 1, 0],
        }
    )
    assert out["o__valid"].tolist() == [0, 1, 1, 1, 1, 0, 0]
    assert out["o__payload.row"].tolist()[1:5] == [1, 1, 1, 3]
    assert out["o__payload.last"].tolist()[1:5] == [0, 0, 0, 1]
