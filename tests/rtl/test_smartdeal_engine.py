"""The SmartDeal exec engine: every sum in ``obuf`` and every cycle of random tiles, as the schedule and the simulator say.

``HWSIM_RTL_TILES`` runs more layers a case.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from tests.extras import require

require("amaranth", "pyosys", "g++")

from accel_rtl.emit import emit_verilog
from accel_rtl.lint import lint_verilog
from accel_rtl.smartdeal.build import build_engine
from accel_rtl.smartdeal.descriptor import describe_tile
from accel_rtl.smartdeal.spec import SmartDealEngine
from hwsim.archs.smartdeal.datapath import SmartDealDatapath
from hwsim.archs.smartdeal.spec import PRESETS, SmartDeal
from hwsim.core.datapath import LayerData, Workload
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.mapping import list_boxes
from hwsim.core.policy import LayerFormat
from tests.rtl.smartdeal_bench import Harness, Tile, arch_of
from tests.rtl.smartdeal_tiles import cut_tiles, draw_codec, draw_run, draw_values

LAYERS = int(os.environ.get("HWSIM_RTL_TILES", "120"))
SMALL, WIDE, FLAT, MANY = (2, 2, 2, 3), (4, 2, 3, 6, 128), (1, 1, 12, 4, 32), (4, 3, 4, 5)
"""Slices, lines, cells, entries of a line store and bits of a beat."""


@cache
def harness_of(shape: tuple[int, ...]) -> Harness:
    return Harness(arch_of(*shape))


@pytest.mark.parametrize("shape", [SMALL, WIDE, FLAT], ids=str)
def test_tiles_give_the_exact_sums_in_the_cycles_of_the_model(shape: tuple[int, ...]) -> None:
    harness = harness_of(shape)
    for seed in range(-(-LAYERS // 8)):
        tiles, gaps = draw_run(np.random.default_rng([*shape, seed]), harness.arch, 8)
        harness.run(tiles, gaps)


def draw_layer_tiles(rng: np.random.Generator, arch: SmartDeal, layer: Layer, rebuilt: bool) -> list[Tile]:
    """Return tiles of a layer, all of its channels in some order of banks."""
    shape = (layer.G * layer.K, layer.C, layer.R, layer.S)
    codec = draw_codec(rng, shape) if rebuilt else None
    weights = draw_values(rng, -128, 127, shape) if codec is None else codec.rebuilt_int8.astype(np.int64)
    return cut_tiles(rng, arch, layer, weights, codec)


CORNERS = {
    "one pixel": {"C": 7, "K": 3},
    "a vector with padding": {"C": 3, "K": 3, "R": 3, "S": 3, "padding": (1, 1, 1, 1)},
    "a row of four": {"C": 2, "K": 2, "S": 4, "W": 9, "Q": 6},
    "a column": {"C": 3, "K": 2, "R": 7, "H": 9, "P": 3},
    "far pixels": {"C": 5, "K": 3, "W": 13, "Q": 5, "stride": (1, 3)},
    "double stride": {"C": 4, "K": 3, "R": 3, "S": 3, "H": 7, "W": 11, "P": 3, "Q": 5, "stride": (2, 2)},
    "only padding": {"C": 2, "K": 2, "R": 3, "S": 3, "H": 1, "W": 1, "P": 3, "Q": 9, "padding": (2, 5, 2, 5)},
    "depthwise": {"G": 6, "R": 3, "S": 3, "H": 5, "W": 7, "P": 3, "Q": 5},
    "many channels": {"C": 70, "K": 3, "R": 3, "S": 3, "H": 3, "W": 3, "P": 1, "Q": 1},
    "many vectors": {"op": "gemm", "N": 7, "C": 20, "K": 5},
}  # fmt: skip


@pytest.mark.parametrize("corner", CORNERS)
def test_corners(corner: str) -> None:
    harness, rng = harness_of(SMALL), np.random.default_rng(len(corner))
    fields = {"op": "conv", "name": "layer", "inputs": ("x",)} | CORNERS[corner]
    layer = Layer(**fields)
    tiles: list[Tile] = []
    while len(tiles) < 12:
        tiles += draw_layer_tiles(rng, harness.arch, layer, rebuilt=bool(rng.random() < 0.5))
    for i, tile in enumerate(tiles):
        tile.fields["w_bank"] = tile.fields["i_bank"] = i % 2
    harness.run(tiles, [0] * len(tiles))


def test_bench_sees_what_is_wrong() -> None:
    """A cycle, a sum or a tail that is not what the hardware has fails."""
    harness = harness_of(SMALL)
    layer = Layer(op="conv", name="layer", inputs=("x",), C=4, K=2, W=6, Q=6)
    tile = draw_layer_tiles(np.random.default_rng(1), harness.arch, layer, rebuilt=True)[0]
    harness.run([tile], [0])
    late, early = replace(tile, cycles=tile.cycles + 1), replace(tile, cycles=tile.cycles - 1)
    for wrong in (late, early, replace(tile, tail=tile.tail - 1), replace(tile, wanted=tile.wanted + 1)):
        with pytest.raises(AssertionError):
            harness.run([wrong], [0])


def test_vector_unit_reads_two_beats_a_cycle() -> None:
    harness, beats = harness_of(SMALL), 50
    rng = np.random.default_rng(3)
    content = rng.integers(-(1 << 63), (1 << 63) - 1, beats)
    cycles = 3 * beats
    stimulus: dict[str, np.ndarray] = {
        name: np.zeros(cycles, np.int64) for name in ("i_write_valid", "i_write_offset", "i_write_data")
    }
    stimulus["i_write_valid"][:beats] = 1
    stimulus["i_write_offset"][:beats] = np.arange(beats)
    stimulus["i_write_data"][:beats] = content
    places = rng.integers(0, beats, (2, cycles))
    for port in range(2):
        stimulus[f"v_enable__{port}"] = (np.arange(cycles) >= beats).astype(np.int64)
        stimulus[f"v_address__{port}"] = places[port]
    out = harness.model.run(stimulus)
    for port in range(2):
        shown = out[f"v_beat__{port}"][beats + 1 :]
        np.testing.assert_array_equal(shown, content[places[port, beats:-1]])


@pytest.mark.parametrize("shape", [SMALL, FLAT, MANY], ids=str)
def test_verilog_is_clean(shape: tuple[int, ...]) -> None:
    require("verilator")
    assert not lint_verilog(emit_verilog(build_engine(arch_of(*shape)).create()))


def test_small_preset_can_be_built() -> None:
    engine = build_engine(PRESETS["small"])
    assert (engine.slices, engine.lines, engine.macs) == (4, 4, 4)
    assert engine.tile_words == 2
    assert not engine.pixel_columns


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clusters": 2}, "clusters: got 2"),
        ({"depthwise": "spread"}, "depthwise: got 'spread'"),
        ({"line_rows": 40}, "memory.bits_per_cycle: got 64"),
        ({"lines": 6, "slices": 4}, "memory.bits_per_cycle: got 64"),
    ],
)
def test_what_cannot_be_built_is_named(changes: dict, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build_engine(replace(arch_of(*SMALL), **changes))


def test_a_tile_beyond_obuf_is_named() -> None:
    arch = arch_of(*SMALL)
    layer = Layer(op="conv", name="layer", inputs=("x",), K=9, H=20, W=20, P=20, Q=20)
    workload = Workload(
        layer=layer, fmt=LayerFormat(codec="dense"), out_bits=8, operand_bits=(8,), operand_shapes=(layer.in_shape,)
    )
    data = LayerData(activation=np.zeros(layer.in_shape, np.int8), zero_point=0, codec=None)
    boxes = list_boxes(layer, tuple(getattr(layer, dim) for dim in "NGKCPQ"))
    with pytest.raises(SpecError, match="accumulators of a slice"):
        describe_tile(
            SmartDealEngine.from_arch(arch), SmartDealDatapath(workload, arch, data), (boxes.lo[0], boxes.hi[0])
        )
