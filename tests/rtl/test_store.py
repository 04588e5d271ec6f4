"""The store unit against the simulator's own images: every bit, every byte strobe, every cycle."""

from __future__ import annotations

import numpy as np
import pytest

from tests.rtl.tools import require

require("amaranth")

from accel_rtl.shell.parameters import ParameterRam
from accel_rtl.shell.vector_descriptor import unpack_fields
from hwsim.core.program import SPILL
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


@pytest.mark.parametrize("sizes", SIZES, ids=lambda s: f"{s.columns}x{s.psum_bits}-{s.bits}of{s.beat}")
def test_compute_gives_the_bits_and_strobes_of_the_image(sizes):
    rng = np.random.default_rng(sizes.columns)
    unit = sizes.unit
    for tile in draw_tiles(rng, sizes, 60)[0]:
        walk = unpack_fields(tile.extra, unit.walk.layout)
        words = ParameterRam().compute(bench.pack_parameter_words(tile))
        beats = unit.compute(walk, tile.bank, words, tuple(bench.limits_of(tile).values()))
        size = sizes.beat // 8
        data = b"".join(value.to_bytes(size, "little") for value, _ in beats)
        strobes = b"".join(strobe.to_bytes(-(-size // 8), "little") for _, strobe in beats)
        found = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
        lanes = np.unpackbits(np.frombuffer(strobes, np.uint8), bitorder="little").reshape(len(beats), -1)[:, :size]
        np.testing.assert_array_equal(np.repeat(lanes.ravel(), 8), tile.written)
        np.testing.assert_array_equal(found, tile.wanted)
