"""The bit-serial array's closed forms against a machine that feeds words and counts bits, cycle by cycle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.bismo.spec import PRESETS, Bismo
from hwsim.core.layer import Layer
from hwsim.core.mapping import TILE_DIMS, list_boxes
from tests.naive_bismo import Machine, multiply
from tests.naive_cases import workload_of


def make_arch(machine: Machine) -> Bismo:
    return replace(
        PRESETS["small"], preset="small+", rows=machine.rows, cols=machine.cols, word_bits=machine.word,
        depth_words=machine.depth,
    )  # fmt: skip


def count(machine: Machine, layer: Layer, w: int, a: int):
    """Return the model's counts of a layer as one tile."""
    datapath = make_arch(machine).bind(workload_of(layer, w, a))
    times = datapath.exec_times(list_boxes(layer, tuple(getattr(layer, dim) for dim in TILE_DIMS)))
    tile = np.array([[getattr(layer, dim) for dim in TILE_DIMS]])
    return int(times.busy[0]), int(times.fill[0]), datapath.count_tiles(tile)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    pixels=st.integers(1, 13), filters=st.integers(1, 13), depth=st.integers(1, 60), w=st.integers(2, 4), a=st.integers(1, 4),
    rows=st.integers(1, 4), cols=st.integers(1, 4), words=st.sampled_from([16, 17, 40]), seed=st.integers(0, 99),
)  # fmt: skip
def test_steps_take_the_cycles_of_the_model(pixels, filters, depth, w, a, rows, cols, words, seed):
    machine, rng = Machine(rows, cols, 8, words), np.random.default_rng(seed)
    left = rng.integers(0, 1 << a, (pixels, depth))
    right = rng.integers(-(1 << (w - 1)), 1 << (w - 1), (filters, depth))
    product, cycles, written = multiply(left, right, a, w, machine)
    np.testing.assert_array_equal(product, left @ right.T)
    layer = Layer(name="layer", op="gemm", inputs=("x",), N=pixels, K=filters, C=depth)
    busy, fill, counts = count(machine, layer, w, a)
    assert busy == cycles
    slices = -(-depth // 8)
    assert busy - fill == -(-pixels // rows) * -(-filters // cols) * slices * w * a
    assert int(counts.results[0]) == written


@pytest.mark.parametrize(("w", "a"), [(1, 1), (2, 3), (8, 1), (1, 8), (5, 5), (16, 16)])
def test_one_unit_takes_a_step_for_each_pair_of_planes(w, a):
    layer = Layer(name="layer", op="gemm", inputs=("x",), N=1, K=1, C=8)
    busy, _, _ = count(Machine(1, 1, 8, 1024), layer, w, a)
    assert busy == w * a


def test_images_and_sets_follow_one_another():
    """Depthwise 3x3: 16 bits a channel, so a word of 64 bits holds 4; 10 channels are 2 whole sets and one of 2."""
    machine = Machine(4, 4, 64, 256)

    def layer(n, g):
        return Layer(name="layer", op="conv", inputs=("x",), N=n, G=g, P=5, Q=3, R=3, S=3, H=7, W=5)

    four, two = (count(machine, layer(1, g), 3, 2)[0] for g in (4, 2))
    assert count(machine, layer(3, 10), 3, 2)[0] == 3 * (2 * four + two)
    left, right = np.ones((15, 64), np.int64), np.ones((4, 64), np.int64)
    assert four == multiply(left, right, 2, 3, machine)[1]
    assert two == multiply(left, right[:2], 2, 3, machine)[1]


def test_pixels_of_different_images_share_no_tile_of_rows():
    machine = Machine(4, 4, 64, 256)
    images = Layer(name="layer", op="conv", inputs=("x",), N=4, P=1, Q=5, H=1, W=5, K=3, C=64)
    one = replace(images, N=1)
    assert count(machine, images, 4, 4)[0] == 4 * count(machine, one, 4, 4)[0]
    vectors = Layer(
        name="layer", op="gemm", inputs=("x",), N=4, K=3, C=64
    )  # but images are rows where there is one pixel
    assert count(machine, vectors, 4, 4)[0] < 4 * count(machine, replace(vectors, N=1), 4, 4)[0]
