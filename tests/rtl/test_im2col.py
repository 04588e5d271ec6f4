"""Addresses of windows: against the layout of memory images, and the hardware against its specification."""

from __future__ import annotations

import numpy as np
import pytest

from tests.extras import require

require("amaranth")

from amaranth.sim import Simulator

from accel_rtl.blocks.im2col import HOLD, JUMP, RESET, Im2col
from accel_rtl.systolic.descriptor import describe_windows
from accel_rtl.systolic.spec import SystolicEngine
from hwsim.archs.systolic.datapath import SystolicDatapath
from hwsim.core.bits import bits_to_integers
from hwsim.core.datapath import Workload
from hwsim.core.errors import SpecError
from hwsim.core.mapping import C, G, K, N, P, Q, list_boxes
from hwsim.core.policy import LayerFormat
from hwsim.engine.execute_tile import find_input_box
from hwsim.engine.image import cut_slab, write_slab
from tests.rtl.systolic_bench import arch_of, draw_layer

FLOWS = ("os", "ws", "is")


def draw_case(rng: np.random.Generator, flow: str, most: int = 3):
    """Return engine, datapath, box and fields of a random tile; 16-bit elements in units of 64 bits."""
    arch = arch_of(int(rng.integers(1, most + 1)), int(rng.integers(1, most + 1)), flow, "skewed", a=16)
    layer = draw_layer(rng, 900)
    load = Workload(
        layer=layer, fmt=LayerFormat(w_bits=8, a_bits=16), out_bits=8, operand_bits=(16,),
        operand_shapes=(layer.in_shape,),
    )  # fmt: skip
    tile = [int(rng.integers(1, getattr(layer, d) + 1)) for d in "NGKCPQ"]
    if tile[G] > 1:
        tile[K], tile[C] = layer.K, layer.C
    boxes = list_boxes(layer, tuple(tile))
    at = int(rng.integers(len(boxes)))
    lo, hi = boxes.lo[at], boxes.hi[at]
    spec = SystolicEngine.from_arch(arch).im2col
    return arch, SystolicDatapath(load, arch), (lo, hi), spec


def list_places(layer, size, depth: int, pixel: int):
    """Return (channel, r, s) and (n, p, q) of a place of the kernel and of the pixels."""
    kernel = (depth // (layer.R * layer.S), depth // layer.S % layer.R, depth % layer.S)
    pixels = int(size[P] * size[Q])
    return kernel, (pixel // pixels, pixel // int(size[Q]) % int(size[P]), pixel % int(size[Q]))


@pytest.mark.parametrize("flow", FLOWS)
def test_addresses_are_those_of_the_stored_elements(flow):
    rng, stored_ones = np.random.default_rng(5), 0
    for _ in range(60):
        arch, datapath, (lo, hi), spec = draw_case(rng, flow)
        layer, size = datapath.layer, hi - lo
        fields = describe_windows(datapath, arch, spec, lo, hi)
        x = np.arange(np.prod(layer.in_shape)).reshape(layer.in_shape)
        area = find_input_box(layer, layer.in_shape, lo, hi)
        slab = cut_slab(layer.in_shape, 16, 64, area)
        stream = np.ones(slab.stream_bits, np.uint8)
        write_slab(slab, x[tuple(slice(a, b) for a, b in area)], stream)
        elements = bits_to_integers(stream.reshape(-1, 16), False)
        pixels, deep = int(size[N] * size[P] * size[Q]), int(size[C]) * layer.R * layer.S
        for _ in range(40):
            group, depth, pixel = int(rng.integers(size[G])), int(rng.integers(deep + 2)), int(rng.integers(pixels + 2))
            own, other = (depth, pixel) if spec.own == "kernel" else (pixel, depth)
            lane = int(rng.integers(spec.step))
            if own < lane:
                continue
            fold, lane = divmod(own, spec.step)
            inside, address = spec.compute(fields, lane, fold, other, group)
            (c, r, s), (n, p, q) = list_places(layer, size, depth, pixel)
            row = (int(lo[P]) + p) * layer.stride[0] - layer.padding[0] + r * layer.dilation[0]
            col = (int(lo[Q]) + q) * layer.stride[1] - layer.padding[1] + s * layer.dilation[1]
            exists = depth < deep and pixel < pixels and 0 <= row < layer.H and 0 <= col < layer.W
            assert inside == exists
            if exists:
                stored_ones += 1
                assert elements[address] == x[lo[N] + n, (lo[G] + group) * layer.C + lo[C] + c, row, col]
    assert stored_ones > 250


def walk(spec: Im2col, flow: str, depth: int, pixels: int, groups: int, rows: int, cols: int):
    """Yield lane 0's control of each cycle with (group, fold of the lanes' own operand, place of the moving one) or None."""
    col_folds, row_folds = {
        "os": (2, -(-pixels // rows)), "ws": (2, -(-depth // rows)), "is": (-(-pixels // cols), -(-depth // rows)),
    }[flow]  # fmt: skip
    for group in range(groups):
        for col in range(col_folds):
            for row in range(row_folds):
                again = (RESET if group == 0 else JUMP) if col == row == 0 else HOLD
                if flow == "is":
                    fixed = HOLD if row else RESET if col == 0 else JUMP
                    places, fold = [row * rows + i for i in reversed(range(rows))], col
                else:
                    fixed, fold = JUMP if row else RESET, row
                    places = range(depth if flow == "os" else pixels)
                for i, place in enumerate(places):
                    begin = int(i == 0)
                    moving = int(begin and flow == "is" and row > 0)
                    control = {"valid": 1, "begin": begin, "fixed": fixed, "moving": moving, "group": again}
                    yield control, (group, fold, place)
                for _ in range(spec.lanes - len(places)):  # a fold begins at least as many cycles behind the last one
                    yield {"valid": 0, "begin": 0}, None


@pytest.mark.parametrize("flow", FLOWS)
def test_hardware_walks_as_specified(flow):
    """Arrays of up to 7 rows: jumps in one cycle to jumps in all their steps."""
    rng, cuts = np.random.default_rng(6), set()
    for case in range(16):
        arch, datapath, (lo, hi), spec = draw_case(rng, flow, 3 if case < 8 else 7)
        cuts.add(spec.cuts)
        size = hi - lo
        fields = describe_windows(datapath, arch, spec, lo, hi)
        depth, pixels = int(size[C]) * datapath.window, int(size[N] * size[P] * size[Q])
        steps = list(walk(spec, flow, depth, pixels, int(size[G]), arch.rows, arch.cols))
        unit = spec.create()

        async def bench(ctx, unit=unit, steps=steps, spec=spec, fields=fields):
            for name in ("early", "tile", "late"):
                ctx.set(getattr(unit, name), fields)
            await ctx.tick()
            for t in range(len(steps) + spec.lanes + 2):
                control = steps[t][0] if t < len(steps) else {"valid": 0, "begin": 0}
                ctx.set(unit.control, control)
                for lane in range(spec.lanes):
                    at = steps[t - 2 - lane][1] if 0 <= t - 2 - lane < len(steps) else None
                    inside, address = spec.compute(fields, lane, at[1], at[2], at[0]) if at else (False, 0)
                    assert ctx.get(unit.inside[lane]) == inside
                    if inside:
                        assert ctx.get(unit.address[lane]) == address
                await ctx.tick()

        sim = Simulator(unit)
        sim.add_clock(1e-8)
        sim.add_testbench(bench)
        sim.run()
    assert len(cuts) > 3


def test_lanes_out_of_range_are_refused():
    with pytest.raises(SpecError, match=r"im2col\.lanes"):
        Im2col(lanes=0)
