"""The SmartDeal datapath against the machine of its docstring, cycle by cycle: what is computed, when, and what it moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.smartdeal import timing
from hwsim.archs.smartdeal.spec import PRESETS
from hwsim.core.layer import Layer
from hwsim.core.mapping import Boxes, Mapping, list_boxes
from hwsim.quant.decompose import DecomposeOptions, decompose_layer
from tests.naive_cases import conv
from tests.naive_smartdeal import convolve
from tests.naive_smartdeal_cases import KINDS, Case, cases, make_arch, tilings
from tests.naive_smartdeal_stages import Finished


def run_both(case: Case, tile=None) -> None:
    """Run every tile of a layer on the machine and compare times, products and counts."""
    datapath, layer = case.datapath(), case.layer
    tile = tile or tuple(getattr(layer, dim) for dim in "NGKCPQ")
    boxes = list_boxes(layer, tile)
    times = datapath.exec_times(boxes)
    out = np.zeros(layer.out_shape, np.int64)
    counts = Finished()
    for i, (lo, hi) in enumerate(zip(boxes.lo, boxes.hi, strict=True)):
        machine = case.machine()
        packed = "".join("01"[bit] for bit in datapath.pack_weights(case.weights, lo, hi))
        assert packed == machine.write_tile([int(v) for v in lo], [int(v) for v in hi])
        check_passes(datapath, lo, hi, machine)
        found = machine.run_tile(lo, hi)
        got = int(times.busy[i]), int(times.fill[i]), int(times.tail[i])
        assert got == (found.busy, found.fill, found.tail), f"tile {lo}..{hi}"
        for name in ("digits", "multiplied", "loaded", "decoded_bits", "row_store_bits"):
            setattr(counts, name, getattr(counts, name) + getattr(found, name))
        for (filter_, (n, p, q)), value in found.sums.items():
            out[n, filter_, p, q] += value
        written = {(f, n * layer.P * layer.Q + p * layer.Q + q) for f, (n, p, q) in found.sums}
        assert len(written) == (boxes.size[i, [0, 1, 2, 4, 5]]).prod(), "every result of the tile is written"
    if layer.op == "gemm":
        assert layer.out_shape[2:] == (1, 1)
    assert (out == convolve(layer, case.stored, case.zero_point, case.weights)).all()
    check_counts(case, datapath, counts, tile)
    total = datapath.sum_tiles(np.array([tile], np.int64))
    assert 0 < total.busy[0] <= times.busy.sum()


def check_passes(datapath, lo, hi, machine) -> None:
    """The passes that the datapath lists are those of the machine, and their cycles make up the tile's."""
    passes = datapath.list_passes(lo, hi)
    layer = datapath.layer
    wanted = []
    for step in machine.list_steps([int(v) for v in lo], [int(v) for v in hi]):
        (n, p, q), f = step.pixels[0], step.filters[0]
        place = (0, 0, n) if layer.op == "gemm" else (n, p, q)
        rows = step.rows[0].index, len(step.rows), step.starts_step, step.ends_group
        wanted.append((f // layer.K, f % layer.K, len(step.filters), *place, len(step.pixels), *rows))
    names = ["group", "filter", "filters", "image", "out_row", "column", "columns"]
    names += ["first_row", "rows", "starts_step", "ends_group"]
    assert passes[names].tolist() == wanted
    steps = machine.steps_of_filter()
    step_of_row = {rows[0].index: i for i, step in enumerate(steps) for rows in step}
    assert [step_of_row[row] for row in passes["first_row"].tolist()] == passes["step"].tolist()
    busy, since = int(passes[0]["prepare_cycles"]), 0
    for i, one in enumerate(passes):
        after = int(passes[i + 1]["prepare_cycles"]) if i + 1 < len(passes) else 0
        busy, since = busy + max(int(one["run_cycles"]), after), since + max(int(one["run_cycles"]), after)
        if one["ends_group"]:
            busy, since = busy + max(0, datapath.least - since), 0
    assert busy == datapath.exec_times(Boxes(lo[None], hi[None])).busy[0]


def check_counts(case: Case, datapath, counts: Finished, tile) -> None:
    """What the machine counted is what the datapath reports."""
    layer, arch = case.layer, case.arch
    totals = datapath.sum_tiles(np.array([tile], np.int64))
    assert totals.wbuf_read_bits[0] == counts.decoded_bits
    pixels = min(arch.macs, layer.N if layer.op == "gemm" else layer.Q)
    by_kernel = layer.R * layer.S > 1 or datapath.spread
    width = layer.S if by_kernel else 3
    if layer.op == "gemm" or layer.stride[1] > 2:
        elements = width * pixels
    elif by_kernel and width <= 3 and layer.dilation[1] == 1:
        elements = (pixels - 1) * layer.stride[1] + width
    else:
        elements = width * ((pixels - 1) * layer.stride[1] + 1)
    assert totals.ibuf_read_bits[0] == counts.loaded * elements * 8
    actions = datapath.count_actions(Mapping(tile=tile, order="MKC"))
    found = {(action.component, action.verb): action.count for action in actions}
    assert found.get(("booth", "booth_digit"), 0) == counts.digits
    row_bits = 12 if datapath.rows.decomposed else 8 * width
    assert found.get(("rf", "read"), 0) == counts.multiplied * (width * pixels * 9 + row_bits)
    stores = 1 if datapath.spread else arch.slices
    assert found["rf", "write"] == counts.loaded * stores * width * pixels * 9 + counts.row_store_bits
    rebuilt = counts.multiplied * 9 if datapath.rows.decomposed else 0
    assert found.get(("rebuild", "shift_add"), 0) == rebuilt


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=70, deadline=None, derandomize=True)
@given(data=st.data())
def test_tiles_of_drawn_layers(kind, data):
    case = data.draw(cases(kind))
    run_both(case, data.draw(tilings(case, case.datapath())))


def make_case(layer: Layer, arch, seed=0, zeros=0.5, dense=False, prune=0.3, zero_point=-128) -> Case:
    """Return a layer with activations of which some are zero."""
    rng = np.random.default_rng(seed)
    real = rng.normal(size=(layer.G * layer.K, layer.C, layer.R, layer.S)) * 0.05
    codec = None if dense else decompose_layer(real, DecomposeOptions(prune_ratio=prune))
    weights = rng.integers(-128, 128, real.shape).astype(np.int8) if codec is None else codec.rebuilt_int8
    stored = rng.integers(-128, 128, layer.in_shape)
    stored[rng.random(layer.in_shape) < zeros] = zero_point
    return Case(layer, arch, stored.astype(np.int8), zero_point, weights, codec)


def vector(inputs: int, outputs: int, n: int = 1) -> Layer:
    """Return a fully connected layer."""
    return Layer(name="layer", op="gemm", inputs=("x",), N=n, K=outputs, C=inputs)


FAMILIES = {
    "3x3": conv(size=(3, 9), window=(3, 3), padding=(1, 1, 1, 1), K=9, C=20),
    "3x3 of two slices": conv(size=(2, 5), window=(3, 3), padding=(1, 1, 1, 1), K=3, C=70),
    "3x3, stride 2": conv(size=(5, 19), window=(3, 3), padding=(0, 0, 1, 1), stride=(2, 2), K=5, C=7),
    "7x7 dense": conv(size=(7, 23), window=(7, 7), padding=(3, 3, 3, 3), stride=(2, 2), K=5, C=3),
    "5x5 dense": conv(size=(3, 9), window=(5, 5), padding=(2, 2, 2, 2), K=5, C=9),
    "1x1": conv(size=(2, 9), K=9, C=64),
    "1x1, ragged channels": conv(size=(2, 9), K=5, C=49),
    "1x1 of two slices": conv(size=(1, 5), K=3, C=580),
    "depthwise 3x3": conv(size=(4, 45), window=(3, 3), padding=(1, 1, 1, 1), G=70, C=1, K=1),
    "depthwise 5x5": conv(size=(5, 9), window=(5, 5), padding=(2, 2, 2, 2), stride=(2, 2), G=6, C=1, K=1),
    "depthwise 3x3 of two filters a channel": conv(size=(3, 9), window=(3, 3), padding=(1, 1, 1, 1), G=3, C=1, K=2),
    "grouped 3x3": conv(size=(3, 5), window=(3, 3), padding=(1, 1, 1, 1), G=2, C=6, K=5),
    "dilated 3x3": conv(size=(5, 9), window=(3, 3), padding=(2, 2, 2, 2), dilation=(2, 2), K=3, C=6),
    "fully connected": vector(130, 70),
    "fully connected, 11 images": vector(40, 9, 11),
    "squeeze-excite": Layer(name="layer", op="conv", inputs=("x",), N=2, K=9, C=60),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("preset", ["small", "paper"])
def test_layers_of_every_family_on_the_presets(family, preset):
    run_both(make_case(FAMILIES[family], PRESETS[preset]))


@pytest.mark.parametrize("stored", [-128, 127, 0])
@pytest.mark.parametrize("zero_point", [-128, 127, 0])
def test_constant_activations_at_every_zero_point(stored, zero_point):
    case = make_case(FAMILIES["3x3"], PRESETS["small"], zero_point=zero_point)
    run_both(replace(case, stored=np.full_like(case.stored, stored)))


def test_all_zero_activations_cost_the_preparation_of_every_pass():
    layer = conv(size=(2, 8), window=(3, 3), padding=(1, 1, 1, 1), K=8, C=64)
    case = make_case(layer, make_arch(slices=4, lines=4, macs=4, line_rows=8), zeros=1.0)
    times = case.datapath().exec_times(list_boxes(layer, (1, 1, 8, 64, 2, 8)))
    prepare = max(8 + timing.LOAD_PIPELINE, 8 + timing.DECODE_PIPELINE)
    first = max(8 + timing.LOAD_PIPELINE, 8 + 4 + timing.DECODE_PIPELINE)
    run, groups, passes = timing.RUN_PIPELINE, 2 * 2 * 2, -(-192 // 32)
    group = (passes - 1) * max(prepare, run) + max(first, run)
    assert times.busy[0] == first + groups * group - max(first, run) + run
    run_both(case)


def test_a_pixel_group_of_one_short_pass_waits_for_the_results_of_the_one_before():
    layer = conv(size=(1, 160), K=2, C=3)
    case = make_case(layer, make_arch(slices=2, lines=1, macs=40, line_rows=4), zeros=1.0, dense=True)
    times = case.datapath().exec_times(list_boxes(layer, (1, 1, 2, 3, 1, 160)))
    prepare = max(3 + timing.LOAD_PIPELINE, 1 + timing.DECODE_PIPELINE)
    least = max(40, prepare, timing.RUN_PIPELINE)
    assert (times.busy[0], times.fill[0]) == (prepare + 4 * least, prepare)
    assert times.tail[0] == 40 + timing.RESULT_PIPELINE
    run_both(case)


def test_passes_without_work_in_any_slice():
    """One row a pass; the middle passes meet zero activations alone."""
    arch = make_arch(slices=1, lines=1, macs=2, line_rows=1)
    wide = conv(size=(1, 2), window=(3, 3), padding=(1, 1, 1, 1), K=1, C=4)
    case = make_case(wide, arch, zeros=0.0, prune=0.0)
    stored = case.stored.copy()
    stored[:, 1:3] = case.zero_point
    run_both(replace(case, stored=stored))
