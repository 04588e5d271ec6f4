"""The systolic exec engine: every sum in ``obuf`` and every cycle of random tiles, as the simulator says.

``HWSIM_RTL_TILES`` runs more layers a case (6 by default).
"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from tests.extras import require

require("amaranth")

from accel_rtl.systolic.descriptor import describe_tile
from accel_rtl.systolic.spec import SystolicEngine
from hwsim.archs.systolic.datapath import SystolicDatapath, list_weight_order
from hwsim.archs.systolic.spec import PRESETS
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.mapping import list_boxes
from tests.naive_cases import workload_of
from tests.rtl.systolic_bench import Harness, arch_of, draw_tiles, make_tile

LAYERS = int(os.environ.get("HWSIM_RTL_TILES", "6"))
FLOWS, OVERLAPS = ("os", "ws", "is"), ("none", "skewed")


def draw_run(rng: np.random.Generator, arch, layers: int) -> tuple[list, list[int]]:
    """Return tiles of several layers, and the idle cycles behind each; banks of operands in turn.

    A bank is filled again as the next tile but one starts: at least 4 - cols cycles behind the end of the tile that reads it.
    """
    tiles = [tile for _ in range(layers) for tile in draw_tiles(rng, arch, 1200)]
    for i, tile in enumerate(tiles):
        tile.fields["w_bank"] = tile.fields["i_bank"] = i % 2
    gaps = [int(gap) for gap in rng.choice([0, 0, 0, 1, 3, 20], len(tiles))]
    for i in range(1, len(tiles)):
        gaps[i] = max(gaps[i], 4 - arch.cols - gaps[i - 1] - tiles[i].cycles)
    return tiles, gaps


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize(("rows", "cols"), [(2, 3), (4, 4), (1, 1), (3, 2), (1, 4), (5, 1)])
def test_tiles_give_the_exact_sums_in_the_cycles_of_the_model(flow, overlap, rows, cols):
    arch = arch_of(rows, cols, flow, overlap)
    tiles, gaps = draw_run(np.random.default_rng([rows, cols, FLOWS.index(flow)]), arch, LAYERS)
    Harness(arch).run(tiles, gaps)


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize(
    "widths", [(1, 1, 32, 32), (2, 4, 24, 16), (4, 2, 20, 32), (16, 16, 48, 64), (8, 16, 40, 16), (16, 1, 40, 128), (8, 8, 32, 8)]
)  # fmt: skip
def test_widths_of_weights_activations_sums_and_beats(flow, widths):
    arch = arch_of(2, 3, flow, "skewed", *widths)
    tiles, gaps = draw_run(np.random.default_rng([*widths, FLOWS.index(flow)]), arch, max(3, LAYERS // 2))
    Harness(arch).run(tiles, gaps)


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (2, 2)])
def test_sums_of_the_same_place_may_follow_in_every_cycle(flow, rows, cols):
    """One pixel, one filter, thirty tiles along C: the sum is taken from the pipeline.

    All tiles have the same operands: on one cell a tile is over before its banks have been read, so they must not change.
    """
    arch = arch_of(rows, cols, flow, "skewed")
    layer = Layer(name="gemm", op="gemm", inputs=("x",), N=1, C=30, K=1)
    x, w = np.full((1, 30, 1, 1), -117), np.full((1, 30, 1, 1), 93)
    datapath, boxes = SystolicDatapath(workload_of(layer), arch), list_boxes(layer, (1, 1, 1, 1, 1, 1))
    tiles = [make_tile(arch, datapath, boxes, i, x, w, 5, True, 0) for i in range(30)]
    tiles = [replace(tile, ibuf=[0x8B8B8B8B8B8B8B8B]) for tile in tiles]
    Harness(arch).run(tiles, [0] * 30)


@pytest.mark.parametrize("flow", FLOWS)
def test_a_cycle_before_the_tail_the_last_sum_is_not_there(flow):
    """The constant of the pipeline is the smallest one."""
    arch = arch_of(2, 3, flow, "none")
    layer = Layer(name="gemm", op="gemm", inputs=("x",), N=6, C=4, K=6)
    datapath, boxes = SystolicDatapath(workload_of(layer), arch), list_boxes(layer, (6, 1, 6, 4, 1, 1))
    tile = make_tile(arch, datapath, boxes, 0, np.full((6, 4, 1, 1), 3), np.full((6, 4, 1, 1), 5), 0, True, 0)
    Harness(arch).run([tile], [0])
    with pytest.raises(AssertionError, match="Arrays are not equal"):
        Harness(arch).run([replace(tile, tail=tile.tail - 1)], [0])


@pytest.mark.parametrize("flow", FLOWS)
def test_weight_order_lists_every_weight_once(flow):
    arch = arch_of(2, 3, flow, "none")
    order = list_weight_order(arch, 2, 5, 7)
    assert sorted(order.tolist()) == list(range(70))
    first = {"os": [0, 7, 14, 1, 8, 15], "ws": [1, 8, 15, 0, 7, 14], "is": [0, 1, 7, 8, 14, 15]}[flow]
    assert order[:6].tolist() == first


def test_presets_of_the_simulator_can_be_built():
    spec = SystolicEngine.from_arch(PRESETS["small"])
    assert (spec.weight_banks, spec.lanes, spec.obuf_words) == (2, 8, 512)
    assert spec.tail_cycles == 16


def test_what_the_engine_cannot_run_is_refused():
    arch = arch_of(2, 3, "os", "none")
    layer = Layer(name="big", op="gemm", inputs=("x",), N=1025, C=1, K=1)
    datapath, boxes = SystolicDatapath(workload_of(layer), arch), list_boxes(layer, (1025, 1, 1, 1, 1, 1))
    with pytest.raises(
        SpecError, match=r"layer big: accumulators of a column = 1025: expected at most 1024|at most 1024"
    ):
        describe_tile(datapath, arch, (boxes.lo[0], boxes.hi[0]))
    narrow = SystolicDatapath(workload_of(replace(layer, N=1), w_bits=4), arch)
    with pytest.raises(SpecError, match="stored w_bits, a_bits"):
        describe_tile(narrow, arch, (boxes.lo[0], boxes.lo[0] + 1))
    with pytest.raises(SpecError, match=r"systolic_engine\.a_bits"):
        SystolicEngine(rows=2, cols=2, dataflow="os", a_bits=3)
    with pytest.raises(SpecError, match=r"systolic_engine\.beat_bits"):
        SystolicEngine(rows=2, cols=2, dataflow="os", beat_bits=48)
