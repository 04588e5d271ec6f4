"""The chunks' closed forms against machines that carry, keep and combine elements cycle by cycle."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.nasa.spec import CHUNKS, DATAFLOWS, PRESETS
from hwsim.core.datapath import Workload
from hwsim.core.mapping import ORDERS, TILE_DIMS, Mapping, list_boxes
from hwsim.core.policy import LayerFormat
from tests.execute_cases import cases, check_program
from tests.naive_cases import conv, mappings
from tests.naive_nasa import Chunk, refer
from tests.naive_windows import Window, small_layers, tilings, windows
from tests.tile_checks import check_places, check_sums

OPERATORS = st.sampled_from(tuple(CHUNKS))
BITS = {"multiply": (8, 8), "shift": (6, 16), "add": (6, 6)}


@st.composite
def archs(draw, base=None):
    """The accelerator with one small array of any shape and dataflow for all operators."""
    base = base or PRESETS["small"]
    rows, cols, dataflow = draw(st.integers(1, 7)), draw(st.integers(1, 7)), draw(st.sampled_from(DATAFLOWS))
    fields = {"rows": rows, "cols": cols, "dataflow": dataflow}
    own = {f"{chunk}_{field}": value for chunk in CHUNKS.values() for field, value in fields.items()}
    return replace(PRESETS["small"], preset="small+", shell=base.shell, memory=base.memory, **own)


def workload_of(layer, operator="multiply", bits=None, out_bits=8):
    w, a = bits or BITS[operator]
    fmt = LayerFormat(w_bits=w, a_bits=a, operator=operator)
    return Workload(layer=layer, fmt=fmt, out_bits=out_bits, operand_bits=(a,), operand_shapes=(layer.in_shape,))


def run_tile(window, operator, chunk, datapath, lo, hi) -> Chunk:
    """Return the machine behind one tile."""
    machine = Chunk(window, operator, chunk.rows, chunk.cols)
    box = {dim: range(lo[i], hi[i]) for i, dim in enumerate(TILE_DIMS)}
    if chunk.dataflow == "rs":
        machine.run_rs(box, datapath.rows.rows)
    elif chunk.dataflow == "os":
        machine.run_os(box)
    else:
        machine.run_stationary(box, chunk.dataflow)
    return machine


@settings(max_examples=250, deadline=None, derandomize=True)
@given(data=st.data(), window=windows(small_layers(4000)), arch=archs(), operator=OPERATORS)
def test_a_machine_takes_the_cycles_and_accesses_of_the_model_and_makes_the_results(data, window, arch, operator):
    datapath = arch.bind(workload_of(window.layer, operator))
    tile = data.draw(tilings(window.layer))
    boxes = list_boxes(window.layer, tile)
    times, counts = datapath.exec_times(boxes), datapath.count_tiles(boxes.size)
    sums, stood = Counter(), 0
    for i, (lo, hi) in enumerate(zip(boxes.lo.tolist(), boxes.hi.tolist(), strict=True)):
        machine = run_tile(window, operator, datapath.chunk, datapath, lo, hi)
        assert int(times.busy[i]) == machine.cycles
        assert int(times.fill[i]) == machine.fill
        for name in ("w_reads", "i_reads", "w_writes", "i_writes", "o_writes", "tree"):
            assert int(getattr(counts, name)[i]) == getattr(machine, name), name
        sums.update(machine.sums)
        stood += machine.sum_accesses
    registers = [x for x in datapath.count_actions(Mapping(tile=tile, order="MKC")) if x.component == "sum"]
    assert sum(x.count for x in registers if x.verb == "register") == stood
    assert {key: value for key, value in sums.items() if value} == {
        key: value for key, value in refer(window, operator).items() if value
    }


CORNERS = {
    "sums of a column leave one by one": (conv(size=(4, 5), window=(1, 2), G=9), 6, 2),
    "channels stand above each other": (conv(size=(6, 6), window=(3, 3), G=11), 6, 3),
    "new columns come in gaps": (conv(size=(9, 11), window=(2, 3), dilation=(1, 2), C=5, K=3), 5, 2),
    "new columns are skipped": (conv(size=(7, 11), window=(1, 2), stride=(2, 3), C=4, K=3), 4, 3),
    "loads outlast runs, whole sets": (conv(size=(1, 1), C=8, K=9), 4, 3),
    "loads outlast runs, a ragged set": (conv(size=(1, 2), C=10, K=8), 4, 3),
    "filters taller than the array": (conv(size=(6, 5), window=(3, 2), C=3, K=4), 2, 5),
    "parts of filters, depthwise": (conv(size=(6, 5), window=(5, 3), padding=(2, 1, 2, 1), G=5), 3, 4),
}
"""Layers and arrays for what drawn ones seldom meet, row stationary above all."""


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("corner", CORNERS)
def test_corners_of_the_schedules(corner, dataflow):
    layer, rows, cols = CORNERS[corner]
    own = {f"clp_{field}": value for field, value in (("rows", rows), ("cols", cols), ("dataflow", dataflow))}
    datapath = replace(PRESETS["small"], **own).bind(workload_of(layer))
    rng = np.random.default_rng(1)
    x, w = (rng.integers(-9, 10, shape) for shape in (layer.in_shape, (layer.G * layer.K, layer.C, layer.R, layer.S)))
    for cut in (1, 2):
        tile = [getattr(layer, dim) for dim in TILE_DIMS]
        tile[4] = -(-tile[4] // cut)
        boxes = list_boxes(layer, tuple(tile))
        times, counts = datapath.exec_times(boxes), datapath.count_tiles(boxes.size)
        for i, (lo, hi) in enumerate(zip(boxes.lo.tolist(), boxes.hi.tolist(), strict=True)):
            machine = run_tile(Window(layer, x, w), "multiply", datapath.chunk, datapath, lo, hi)
            assert (int(times.busy[i]), int(times.fill[i])) == (machine.cycles, machine.fill)
            for name in ("w_reads", "i_reads", "w_writes", "i_writes", "o_writes", "tree"):
                assert int(getattr(counts, name)[i]) == getattr(machine, name), name


@st.composite
def tiled(draw):
    """A datapath and a tiling of its layer."""
    layer, operator = draw(small_layers()), draw(OPERATORS)
    datapath = draw(archs()).bind(workload_of(layer, operator))
    return datapath, Mapping(tile=draw(tilings(layer)), order=draw(st.sampled_from(ORDERS)))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(tiled())
def test_sums_over_tiles_are_those_of_single_tiles(case):
    datapath, mapping = case
    layer = datapath.layer
    times, _ = check_sums(datapath, mapping)
    assert (times.fill < times.busy).all()
    assert int(times.busy.sum()) * datapath.peak_macs_per_cycle() >= layer.macs
    found = {(x.component, x.verb): x.count for x in datapath.count_actions(mapping)}
    operation = {"multiply": "mult", "shift": "shift", "add": "add"}[datapath.chunk.operator]
    assert found["mac", operation] == found["sum", "add"] == layer.macs


@settings(max_examples=200, deadline=None, derandomize=True)
@given(tiled())
def test_accumulators_take_places_of_their_own(case):
    datapath, mapping = case
    places = check_places(datapath, mapping.tile)
    along_c = np.array(mapping.tile)
    along_c[3] = 1
    np.testing.assert_array_equal(datapath.psum_places(along_c), places)


@st.composite
def programs(draw):
    """A drawn case on these chunks, its weights as the operator has them."""
    case = draw(cases())
    arch, layer = draw(archs(case.arch)), case.layer
    operator = draw(OPERATORS) if layer.kind == "mac" else "multiply"
    if layer.kind != "mac" or operator == "multiply":
        return replace(case, arch=arch)
    own = replace(layer, attrs=tuple(sorted((*layer.attrs, ("operator", operator)))))
    held, fmt = case.tensors.layers["layer"], replace(case.workload.fmt, operator=operator)
    quants = dict(case.tensors.activations)
    if operator == "shift":
        bits = min(held.w_bits, 6)
        exponent = np.abs(held.weight.astype(np.int64)) % ((1 << (bits - 1)) - 1)
        power = np.where(held.weight % 7 == 0, 0, np.where(held.weight % 2 == 0, 1, -1) << np.minimum(exponent, 14))
        held = replace(held, weight=power.astype(np.int16), w_zero=None, w_bits=bits)
        fmt = replace(fmt, w_bits=bits)
    else:
        read = quants.get("layer:in", quants["x"])
        held = replace(held, w_scale=np.array([read.scale], np.float32), w_zero=None)
        low = -(1 << (held.w_bits - 1))
        held = replace(held, weight=np.clip(held.weight.astype(np.int64), low, -low - 1).astype(np.int8))
    workload = replace(case.workload, layer=own, fmt=fmt)
    tensors = replace(case.tensors, layers={"layer": held})
    return replace(case, arch=arch, workload=workload, tensors=tensors, network=replace(case.network, layers=(own,)))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(programs())
def test_the_output_is_the_functional_model_s(case):
    check_program(case)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(arch=archs(), layer=small_layers(), data=st.data())
def test_fewer_bits_take_no_longer_and_move_no_more(arch, layer, data):
    mapping = data.draw(mappings(layer))
    wide, narrow = (arch.bind(workload_of(layer, bits=bits)) for bits in ((8, 8), (4, 3)))
    totals = [one.sum_tiles(np.array([mapping.tile])) for one in (narrow, wide)]
    assert int(totals[0].busy[0]) == int(totals[1].busy[0])
    assert int(totals[0].wbuf_read_bits[0]) * 2 == int(totals[1].wbuf_read_bits[0])
