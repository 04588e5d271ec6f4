"""Tiles below an engine's own sizes: where nothing else fits the buffers, and never such as are timed as more than they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hwsim.archs.registry import find_arch
from hwsim.core.errors import Infeasible
from hwsim.core.mapping import list_boxes
from hwsim.engine.lower import prepare_lowering
from mappers.objective import Objective
from mappers.search import build_space, find_mapping
from tests.equivalence.test_scnn_products import bind
from tests.naive_cases import conv, workload_of
from tests.naive_windows import Window

FIVES = conv(size=(27, 27), window=(5, 5), padding=(2,) * 4, K=192, C=64)
THREES = conv(size=(56, 56), window=(3, 3), padding=(1,) * 4, K=64, C=64)


@pytest.mark.parametrize(
    ("name", "layer", "w", "a"),
    [
        ("bitfusion:E", THREES, 16, 2), ("bitfusion:E", THREES, 16, 1), ("diannao:paper", FIVES, 8, 8),
        ("diannao:paper", FIVES, 16, 16),
    ],
)  # fmt: skip
def test_layers_whose_smallest_own_tile_fits_no_bank_run_with_part_of_the_engine(name, layer, w, a):
    arch = find_arch(name)
    datapath = arch.bind(workload_of(layer, w, a, a))
    found = find_mapping(datapath, arch)
    own = [min(size, getattr(layer, dim)) for size, dim in zip(datapath.quantum(), "NGKCPQ", strict=True)]
    assert any(size < least for size, least in zip(found.tile, own, strict=True))
    busy = int(datapath.exec_times(list_boxes(layer, found.tile)).busy.sum())
    assert int(datapath.sum_tiles(np.array([found.tile])).busy[0]) == busy
    assert busy * datapath.peak_macs_per_cycle() >= layer.macs
    assert found.proven


def test_sizes_below_the_engine_s_own_are_not_searched_where_these_fit():
    arch = find_arch("bitfusion:E")
    datapath = arch.bind(workload_of(THREES, 16, 4, 4))
    _, _, k, c, _, _ = datapath.quantum()
    tilings = build_space(datapath, arch, Objective(), prepare_lowering(datapath, arch)).tilings
    assert (tilings[:, 2] % k == 0).all()
    assert ((tilings[:, 3] % c == 0) | (tilings[:, 3] == THREES.C)).all()


def test_what_fits_not_even_so_is_refused():
    arch = find_arch("diannao:paper")
    arch = replace(arch, shell=replace(arch.shell, ibuf_bits=256))
    with pytest.raises(Infeasible, match="ibuf"):
        find_mapping(arch.bind(workload_of(FIVES)), arch)


@pytest.mark.parametrize("objective", ["cycles", "energy", "edp"])
def test_blocks_of_scnn_are_searched_whole(objective):
    """A part of one is timed as all of it; its products, and what they read, would be counted once."""
    rng = np.random.default_rng(5)
    layer = conv(size=(28, 28), window=(3, 3), padding=(1,) * 4, K=16, C=16)
    arch = find_arch("scnn:small")
    weights = rng.integers(-127, 128, (16, 16, 3, 3)) * (rng.random((16, 16, 3, 3)) < 0.35)
    datapath = bind(arch, Window(layer, rng.integers(0, 100, layer.in_shape), weights))
    assert datapath.rows.block > 1
    goal = Objective(name=objective, static_pj_per_cycle=1.0, fixed_pj=1.0)
    space = build_space(datapath, arch, goal, prepare_lowering(datapath, arch))
    assert ((space.tilings[:, 4] % datapath.rows.block == 0) | (space.tilings[:, 4] == layer.P)).all()
    assert ((space.tilings[:, 5] % datapath.cols.block == 0) | (space.tilings[:, 5] == layer.Q)).all()
