"""The store unit against the simulator's own images: every bit, every byte strobe, every cycle."""

from __future__ import annotations

import numpy as np
import pytest

from tests.extras import require

require("amaranth", "pyosys", "g++")

from accel_rtl.blocks.read_dma import REQUEST_CYCLES
from accel_rtl.shell.vector_descriptor import unpack_fields
from cosim.batch import BatchModel
from hwsim.core.program import (
    SHIFT_STORE_PIPELINE_CYCLES,
    SPILL,
    SPILL_PIPELINE_CYCLES,
    STORE_PIPELINE_CYCLES,
    WRITE_LATENCY_CYCLES,
)
from tests.rtl import store_bench as bench
from tests.rtl.store_bench import Sizes

SIZES = (
    Sizes(),
    Sizes(columns=3, beat=32, bits=4),
    Sizes(columns=8, beat=128, bits=16),
    Sizes(columns=1, beat=32, bits=1),
    Sizes(columns=5, beat=32, bits=8),
    Sizes(columns=6, beat=64, bits=2),
    Sizes(columns=7, beat=16, bits=8, psum_bits=16),
    Sizes(columns=2, beat=64, bits=16),
    Sizes(columns=4, shifts=True),
    Sizes(columns=3, beat=32, bits=16, shifts=True),
)


def draw_tiles(rng, sizes, count, spills=0.0):
    """Return tiles one behind the other in memory, and its bits before."""
    tiles, base = [], 0
    while len(tiles) < count:
        place = str(rng.choice(["filters", "pixels", "linear"]))
        spill = place != "linear" and rng.random() < spills
        tile = bench.make_tile(rng, sizes, place, base, spill)
        if tile is not None:
            tiles.append(tile)
            base += -(-bench.tensor_bits(tile, sizes) // 4096) * 4096 + int(rng.integers(0, 40)) * sizes.beat
    return tiles, rng.integers(0, 2, base, np.uint8)


@pytest.mark.parametrize(
    "sizes", SIZES, ids=lambda s: f"{s.columns}x{s.psum_bits}-{s.bits}of{s.beat}{'-shifts' * s.shifts}"
)
def test_compute_gives_the_bits_and_strobes_of_the_image(sizes):
    rng = np.random.default_rng(sizes.columns)
    unit = sizes.unit
    for tile in draw_tiles(rng, sizes, 60)[0]:
        walk = unpack_fields(tile.extra, unit.walk.layout)
        words = unit.parameters.compute(bench.pack_parameter_words(tile, sizes.shifts))
        beats = unit.compute(walk, tile.bank, words, tuple(bench.limits_of(tile).values()))
        size = sizes.beat // 8
        data = b"".join(value.to_bytes(size, "little") for value, _ in beats)
        strobes = b"".join(strobe.to_bytes(-(-size // 8), "little") for _, strobe in beats)
        found = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
        lanes = np.unpackbits(np.frombuffer(strobes, np.uint8), bitorder="little").reshape(len(beats), -1)[:, :size]
        np.testing.assert_array_equal(np.repeat(lanes.ravel(), 8), tile.written)
        np.testing.assert_array_equal(found, tile.wanted)


class Drive:
    """Inputs of many tiles, one behind the other."""

    def __init__(self, sizes: Sizes, rng) -> None:
        self.sizes, self.machine, self.rng = sizes, sizes.unit.machine, rng
        self.rows: list[dict[str, object]] = []
        self.starts: list[int] = []

    def add(self, tile, patience: int = 1) -> None:
        """Write parameters and a bank, then start the tile and leave it time."""
        words = bench.pack_parameter_words(tile, self.sizes.shifts)
        bank = int(tile.record["bank"]) << self.machine.word_bits
        limit = (1 << self.sizes.psum_bits) - 1
        held = bench.limits_of(tile) | {"instruction": bench.pack_instruction(tile), "extra": tile.extra}
        for word in range(max(len(words), len(tile.bank))):
            row = dict(held)
            if word < len(words):
                row |= {"write_valid": 1, "write_address": word, "write_data": words[word]}
            if word < len(tile.bank):
                packed = sum((int(v) & limit) << k * self.sizes.psum_bits for k, v in enumerate(tile.bank[word]))
                row |= {"o_write": 1, "o_place": bank | word, "o_data": packed}
            self.rows.append(row)
        self.rows.append(held)
        self.starts.append(len(self.rows))
        beats = int(tile.record["bits"]) // self.sizes.beat
        runs = int(tile.record["count0"]) * int(tile.record["count1"]) * int(tile.record["count2"])
        self.rows.append(held | {"start": 1})
        self.rows += [held] * (tile.elements + 20 + patience * (beats + runs + 20))

    def stimulus(self, model) -> dict[str, np.ndarray]:
        """Return the inputs as a model takes them."""
        found = {}
        for port in model.inputs:
            if port.name in ("rst", "awready", "wready", "answers"):
                continue
            values = [row.get(port.name, 0) for row in self.rows]
            if port.width <= 64:
                found[port.name] = np.array([v - (1 << 64) if v >> 63 == 1 else v for v in values], np.int64)
            else:
                size = -(-port.width // 32) * 4
                raw = b"".join(v.to_bytes(size, "little") for v in values)
                found[port.name] = np.frombuffer(raw, "<u4").reshape(len(values), -1).astype(np.int64)
        return found


def as_integers(values) -> list[int]:
    """Return integers of a port of any width."""
    if values.ndim == 1:
        return [int(v) & ((1 << 64) - 1) for v in values]
    return [sum(int(v) << 32 * k for k, v in enumerate(row)) for row in values]


class Written:
    """What a run wrote: bursts and beats with their cycles."""

    def __init__(self, out, stimulus, beat: int) -> None:
        ready = {name: np.broadcast_to(stimulus[name], len(out["done"])) for name in ("awready", "wready")}
        self.aw = np.flatnonzero(out["seen_awvalid"] & ready["awready"])
        self.w = np.flatnonzero(out["seen_wvalid"] & ready["wready"])
        self.done = np.flatnonzero(out["done"])
        self.bursts = [
            [int(out[f"seen_{name}"][at]) for name in ("awaddr", "awlen", "awuser", "awcache")] for at in self.aw
        ]
        data, strobes = (as_integers(out[f"seen_{name}"][self.w]) for name in ("wdata", "wstrb"))
        self.beats = list(zip(data, strobes, out["seen_wlast"][self.w].tolist(), strict=True))
        self.beat = beat

    def apply(self, memory: np.ndarray) -> None:
        """Write all of it into the bits of a memory, watching bursts."""
        image, left, size = bytearray(np.packbits(memory, bitorder="little").tobytes()), 0, self.beat // 8
        beats = iter(self.beats)
        for address, length, user, _ in self.bursts:
            assert bool(user) == (left == 0)
            left += (user or 0) - (length + 1)
            assert address // 4096 == (address + (length + 1) * size - 1) // 4096
            for i in range(length + 1):
                value, strobe, last = next(beats)
                assert last == (i == length)
                for byte in range(size):
                    if strobe >> byte & 1:
                        image[address + i * size + byte] = value >> 8 * byte & 255
        assert left == 0
        assert next(beats, None) is None
        memory[:] = np.unpackbits(np.frombuffer(bytes(image), np.uint8), bitorder="little")[: memory.size]


@pytest.fixture(scope="module")
def models():
    """Compiled benches by sizes."""
    held: dict[Sizes, BatchModel] = {}

    def find(sizes: Sizes) -> BatchModel:
        if sizes not in held:
            held[sizes] = BatchModel(bench.StoreBench(sizes.unit))
        return held[sizes]

    return find


def run_tiles(model, sizes, tiles, memory, rng, stress: int = 0):
    """Run tiles on a memory that is never behind, or holds back at random; return all that was seen and driven."""
    drive = Drive(sizes, rng)
    for tile in tiles:
        drive.add(tile, 1 + 6 * stress)
    stimulus = drive.stimulus(model)
    count = len(drive.rows)
    for name in ("awready", "wready", "answers"):
        stimulus[name] = (rng.random(count) < 1 / (1 + stress)).astype(np.int64) if stress else np.ones(count, np.int64)
    out = model.run(stimulus, count)
    assert not out["fault"].any()
    return drive, Written(out, stimulus, sizes.beat)


@pytest.mark.parametrize(
    "sizes", SIZES, ids=lambda s: f"{s.columns}x{s.psum_bits}-{s.bits}of{s.beat}{'-shifts' * s.shifts}"
)
def test_hardware_stores_and_spills_every_bit_in_the_cycles_of_the_simulator(models, sizes):
    rng = np.random.default_rng(100 + sizes.columns)
    tiles, memory = draw_tiles(rng, sizes, 50, spills=0.2)
    drive, seen = run_tiles(models(sizes), sizes, tiles, memory, rng)
    wanted = memory.copy()
    for tile in tiles:
        bench.apply_tile(tile, wanted)
    seen.apply(memory)
    np.testing.assert_array_equal(memory, wanted)
    assert len(seen.done) == len(tiles)
    for tile, start, done in zip(tiles, drive.starts, seen.done, strict=True):
        spills = tile.record["op"] == SPILL
        cycles = (
            SPILL_PIPELINE_CYCLES
            if spills
            else tile.elements + (SHIFT_STORE_PIPELINE_CYCLES if sizes.shifts else STORE_PIPELINE_CYCLES)
        )
        beats = int(tile.record["bits"]) // sizes.beat
        assert done + 1 == start + cycles + WRITE_LATENCY_CYCLES + beats
        first = np.searchsorted(seen.aw, start)
        assert seen.aw[first] == start + cycles + REQUEST_CYCLES
        assert seen.bursts[first][2:] == [beats, 2 if spills else 3]


@pytest.mark.parametrize(
    "sizes", SIZES[:3], ids=lambda s: f"{s.columns}x{s.psum_bits}-{s.bits}of{s.beat}{'-shifts' * s.shifts}"
)
@pytest.mark.parametrize("stress", [1, 3])
def test_back_pressure_loses_nothing(models, sizes, stress):
    rng = np.random.default_rng(stress)
    tiles, memory = draw_tiles(rng, sizes, 30, spills=0.4)
    _, seen = run_tiles(models(sizes), sizes, tiles, memory, rng, stress)
    wanted = memory.copy()
    for tile in tiles:
        bench.apply_tile(tile, wanted)
    assert len(seen.done) == len(tiles)
    seen.apply(memory)
    np.testing.assert_array_equal(memory, wanted)
