"""The vector unit: every result and every cycle of random tiles, as the simulator's engine has them.

``HWSIM_RTL_TILES`` runs more layers a case (150 by default).
"""

from __future__ import annotations

import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.extras import require

require("amaranth", "pyosys", "g++")

from accel_rtl.emit import emit_verilog
from accel_rtl.lint import lint_verilog
from accel_rtl.shell.vector import LATENCY_CYCLES, VectorUnit, describe_vector, list_vector_header
from accel_rtl.shell.vector_descriptor import ADDITION, TILE_LAYOUT, pack_fields, unpack_fields
from cosim.batch import BatchModel
from hwsim.core.datapath import VECTOR_PIPELINE_CYCLES
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.mapping import list_boxes
from hwsim.core.shell import Memory
from tests.naive_cases import conv
from tests.rtl.vector_bench import VectorBench, VectorTile, draw_operands, draw_tiles, machine_of

LAYERS = int(os.environ.get("HWSIM_RTL_TILES", "150"))
CASES = {
    "8 bits": machine_of(),
    "4 bits, narrow beats, three columns": machine_of(beat=32, a_bits=4, columns=3),
    "1 bit": machine_of(beat=64, a_bits=1, columns=8),
    "16 bits, wide beats, one column": machine_of(beat=128, a_bits=16, columns=1, psum=40),
    "an element a beat": machine_of(beat=8, a_bits=8, columns=4, beats=1024),
    "8 bits, shifters": machine_of(requantizer="shift"),
}
POOLED_CYCLES = 7
IDLE = LATENCY_CYCLES + 1


def plan(layers: list[list[VectorTile]], machine, rng: np.random.Generator):
    """Return the stimulus of layers one behind the other, and the first cycle of each tile."""
    rows: list[dict[str, int]] = []
    starts: list[tuple[VectorTile, int]] = []
    for tiles in layers:
        header = {f"header.{name}": value for name, value in tiles[0].header.items()}
        for bank, tile in enumerate(tiles):
            for at, beat in enumerate(tile.beats):
                rows.append(
                    {**header, "fill": 1, "fill_address": at + (bank << machine.ibuf_address_bits), "fill_data": beat}
                )
        for tile in tiles:
            rows += [header] * int(rng.choice([0, 0, 1, 5]))
            if "start" in rows[-1]:
                rows.append(header)
            rows[-1] = rows[-1] | {"tile": tile.tile}
            starts.append((tile, len(rows)))
            rows.append({**header, "start": 1, "tile": tile.tile})
            rows += [header] * (tile.cycles - 1)
        rows += [header] * IDLE
    names = {name for row in rows for name in row}
    stimulus = {}
    for name in names:
        values = [row.get(name, 0) for row in rows]
        width = {"tile": 512, "fill_data": machine.beat_bits}.get(name, 0)
        if width > 64:
            values = [[value >> 32 * k & 0xFFFFFFFF for k in range(-(-width // 32))] for value in values]
        elif width == 64:
            values = np.array(values, np.uint64).view(np.int64)
        stimulus[name] = np.asarray(values, np.int64)
    return stimulus, starts, len(rows)


@pytest.mark.parametrize("case", CASES)
def test_results_and_cycles_are_the_engines(case):
    machine = CASES[case]
    rng = np.random.default_rng(list(CASES).index(case))
    layers = [draw_tiles(rng, machine) for _ in range(LAYERS)]
    stimulus, starts, cycles = plan(layers, machine, rng)
    shown = BatchModel(VectorBench(machine)).run(stimulus, cycles)
    done = np.zeros(cycles, int)
    done[[first + tile.cycles - 1 for tile, first in starts]] = 1
    np.testing.assert_array_equal(shown["done"], done)
    written = np.flatnonzero(shown["write"])
    at = 0
    for tile, first in starts:
        mine = written[at : at + len(tile.wanted)]
        at += len(tile.wanted)
        assert shown["value"][mine].tolist() == tile.wanted, tile.label
        places = np.arange(len(tile.wanted))
        assert (shown["write"][mine] == 1 << places % machine.columns).all(), tile.label
        assert (shown["word"][mine] == places // machine.columns).all(), tile.label
        fields = unpack_fields(tile.tile, TILE_LAYOUT)
        assert (shown["bank"][mine] == fields["o_bank"]).all(), tile.label
        window = tile.cycles // len(tile.wanted)
        latency = LATENCY_CYCLES if tile.header["operation"] == ADDITION else POOLED_CYCLES
        assert mine.tolist() == (first + (places + 1) * window - 1 + latency).tolist(), tile.label
        check_reads(shown, tile, first, fields["i_bank"] << machine.ibuf_address_bits)
    assert at == len(written)


def check_reads(shown, tile: VectorTile, first: int, base: int) -> None:
    """No beat is read but those that were loaded, and none later than three cycles behind the last busy one."""
    span = slice(first + 3, first + 3 + tile.cycles)
    for k in range(2):
        on = shown["read"][span] >> k & 1 == 1
        places = shown[f"read_{k}"][span][on] - base
        assert ((places >= 0) & (places < len(tile.beats))).all(), tile.label


@pytest.mark.parametrize("case", CASES)
def test_compute_gives_the_engines_results(case):
    machine = CASES[case]
    rng = np.random.default_rng(100 + list(CASES).index(case))
    unit = VectorUnit(machine)
    for _ in range(20):
        for tile in draw_tiles(rng, machine):
            assert unit.compute(tile.header, tile.tile, tile.beats) == tile.wanted, tile.label


def test_no_result_is_under_way_behind_a_reset():
    machine = CASES["8 bits"]
    stimulus = {"start": [0, 1] + [0] * 39, "rst": [0] * 5 + [1] + [0] * 35, "tile": np.zeros((41, 16), np.int64)}
    fields = dict.fromkeys(TILE_LAYOUT.members, 0) | {"steps": 19, "q_end": 19, "a_span": 1, "b_span": 1}
    word = pack_fields(fields, TILE_LAYOUT, "tile")
    stimulus["tile"][:2] = [word >> 32 * k & 0xFFFFFFFF for k in range(16)]
    shown = BatchModel(VectorBench(machine)).run(stimulus)
    assert not shown["done"].any()
    assert not shown["write"][6:].any()


def describe(layer: Layer, shapes=None, **changes):
    """Return the descriptor of a whole layer on the first case."""
    machine = CASES["8 bits"]
    datapath, params, _ = draw_operands(np.random.default_rng(0), machine, layer, shapes or (layer.in_shape,))
    boxes = list_boxes(layer, tuple(getattr(layer, dim) for dim in "NGKCPQ"))
    arch = SimpleNamespace(memory=Memory(bits_per_cycle=64))
    return describe_vector(datapath, arch, (boxes.lo[0], boxes.hi[0]), (0, 0, 0), replace(params, **changes))


def test_what_cannot_run_is_refused_by_name():
    shape = (1, 2, 4, 4)
    with pytest.raises(SpecError, match=r"layer m: op: got .mul., expected one of maxpool, avgpool, add"):
        describe(Layer(name="m", op="mul", inputs=("a", "b"), G=2, P=4, Q=4), (shape, shape))
    with pytest.raises(SpecError, match="layer s: operands: got 3"):
        describe(Layer(name="s", op="add", inputs=("a", "b", "c"), G=2, P=4, Q=4), (shape, shape, shape))
    empty = conv(op="maxpool", size=(2, 2), window=(1, 1), padding=(1, 1, 0, 0), G=1)
    with pytest.raises(SpecError, match="no window of padding alone"):
        describe(empty)
    wide = conv(op="avgpool", size=(4, 4), window=(2, 2), G=1)
    with pytest.raises(SpecError, match="zero point: got 512"):
        describe(wide, input_zero=(512,))
    by_pixel = np.ones((1, 3, 3), np.int64)
    params = draw_operands(np.random.default_rng(0), CASES["8 bits"], wide, (wide.in_shape,))[1]
    with pytest.raises(SpecError, match=r"divisor: got .by pixel."):
        describe(wide, requant=replace(params.requant, multiplier=by_pixel))
    with pytest.raises(SpecError, match=r"tile\.s_end"):
        describe(conv(op="avgpool", size=(1, 2000), window=(1, 2000), G=1))


def test_descriptors_name_missing_fields_and_keep_signs():
    fields = dict.fromkeys(TILE_LAYOUT.members, 0) | {"x": -3, "a_first": 77}
    assert unpack_fields(pack_fields(fields, TILE_LAYOUT, "tile"), TILE_LAYOUT) == fields
    del fields["x"]
    with pytest.raises(ValueError, match="x"):
        pack_fields(fields, TILE_LAYOUT, "tile")


def test_header_holds_the_factors_of_both_operands():
    layer = Layer(name="a", op="add", inputs=("a", "b"), G=2, P=3, Q=3)
    datapath, params, _ = draw_operands(np.random.default_rng(3), CASES["8 bits"], layer, ((1, 2, 3, 3), (1, 2, 1, 1)))
    header = list_vector_header(
        datapath, replace(params, factors=np.array([5, -7]), factor_shift=9, input_zero=(1, -2))
    )
    assert (header["factor_a"], header["factor_b"], header["factor_shift"]) == (5, -7, 9)
    assert (header["is_vector"], header["operation"], header["a_zero"], header["b_zero"]) == (1, ADDITION, 1, -2)


def test_unit_refuses_banks_and_accumulators_beyond_its_fields():
    with pytest.raises(SpecError, match="ibuf_beats"):
        VectorUnit(machine_of(beats=1 << 20))
    with pytest.raises(SpecError, match="psum_bits"):
        VectorUnit(machine_of(psum=16, beat=16))


@pytest.mark.parametrize("case", ["8 bits", "16 bits, wide beats, one column"])
def test_verilog_is_clean_under_lint(case):
    require("verilator")
    assert lint_verilog(emit_verilog(VectorUnit(CASES[case]).create())) == ()


def test_latency_is_the_simulators_constant():
    assert VECTOR_PIPELINE_CYCLES == LATENCY_CYCLES
