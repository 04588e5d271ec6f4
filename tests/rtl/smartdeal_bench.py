"""The SmartDeal engine with ``obuf`` around it: tiles in, every sum and every cycle checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.hdl import Cat, Module, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory as Ram
from amaranth.lib.wiring import Out

from accel_rtl.smartdeal.spec import SmartDealEngine
from cosim.batch import BatchModel
from hwsim.archs.smartdeal.spec import SmartDeal
from hwsim.core.shell import Memory, Shell

BEATS, WORDS = 512, 1024


def arch_of(slices: int, lines: int, macs: int, line_rows: int, beat: int = 64, psum: int = 32) -> SmartDeal:
    """Return a small accelerator."""
    shell = Shell(
        wbuf_bits=2 * BEATS * beat, ibuf_bits=2 * BEATS * beat, obuf_bits=2 * WORDS * psum * slices, psum_bits=psum,
        store_lanes=1, vector_lanes=1,
    )  # fmt: skip
    return SmartDeal(
        preset="test", slices=slices, lines=lines, macs=macs, line_rows=line_rows, clusters=1, depthwise="grouped", shell=shell,
        memory=Memory(bits_per_cycle=beat, align_bits=beat), clock_hz=1e8,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Tile:
    """One EXEC: what its banks hold, what it has to add, and when it ends."""

    fields: dict[str, Any]
    ibuf: list[int]
    wbuf: list[int]
    wanted: np.ndarray  # [n, g, k, p, q]
    cycles: int
    tail: int
    label: str


class EngineBench(wiring.Component):
    """The engine and ``obuf``; what is written comes out as well."""

    def __init__(self, spec: SmartDealEngine) -> None:
        self.spec = spec
        members = {
            name: member
            for name, member in spec.machine.describe_engine(spec.tile_words).members.items()
            if not name.startswith("o_")
        }
        slices, place = spec.slices, spec.machine.word_bits
        members |= {"o_enable": Out(slices), "o_bank": Out(1).array(slices), "o_address": Out(place).array(slices)}
        members |= {"o_data": Out(signed(spec.machine.psum_bits)).array(slices)}
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m, spec = Module(), self.spec
        m.submodules.engine = engine = spec.create()
        for name, member in spec.machine.describe_engine(spec.tile_words).members.items():
            if name.startswith("o_"):
                continue
            ours, theirs = getattr(self, name), getattr(engine, name)
            pairs = list(zip(ours, theirs, strict=True)) if member.dimensions else [(ours, theirs)]
            m.d.comb += [a.eq(b) if member.flow == Out else b.eq(a) for a, b in pairs]
        for k in range(spec.slices):
            ram = Ram(shape=signed(spec.machine.psum_bits), depth=2 << spec.machine.word_bits, init=[])
            m.submodules[f"obuf_{k}"] = ram
            read, write = ram.read_port(), ram.write_port()
            m.d.comb += [
                read.addr.eq(Cat(engine.o_read_address[k], engine.o_read_bank[k])), read.en.eq(engine.o_read_enable[k]),
                engine.o_read_data[k].eq(read.data),
                write.addr.eq(Cat(engine.o_write_address[k], engine.o_write_bank[k])), write.en.eq(engine.o_write_enable[k]),
                write.data.eq(engine.o_write_data[k]), self.o_enable[k].eq(engine.o_write_enable[k]),
                self.o_bank[k].eq(engine.o_write_bank[k]), self.o_address[k].eq(engine.o_write_address[k]),
                self.o_data[k].eq(engine.o_write_data[k]),
            ]  # fmt: skip
        return m


class Harness:
    """The compiled engine; `run` gives tiles to it."""

    def __init__(self, arch: SmartDeal) -> None:
        self.arch, self.spec = arch, SmartDealEngine.from_arch(arch)
        self.model = BatchModel(EngineBench(self.spec))

    def run(self, tiles: list[Tile], gaps: list[int]) -> int:
        """Run tiles, at least ``gaps`` idle cycles behind each; check cycles and results of all. Return the cycles.

        Banks of operands are filled while the tile before runs.
        """
        starts, writes, now, free = [], [], 0, 0
        for tile, gap in zip(tiles, gaps, strict=True):
            fill = max(len(tile.ibuf), len(tile.wbuf))
            writes.append(free)
            starts.append(max(now, free + fill))
            free, now = starts[-1] + 1, starts[-1] + tile.cycles + gap
        total = now + tiles[-1].tail + 40
        out = self.model.run(self._make_stimulus(tiles, starts, writes, total))
        self._check(out, tiles, starts)
        return total

    def _make_stimulus(self, tiles: list[Tile], starts: list[int], writes: list[int], total: int) -> dict[str, Any]:
        spec, beat = self.spec, self.spec.machine.beat_bits
        wide = beat > 64
        stimulus: dict[str, Any] = {name: np.zeros(total, np.int64) for name in ("start",)}
        stimulus["tile"] = np.zeros((total, spec.tile_words * 16), np.int64)
        for port, name in (("w", "wbuf"), ("i", "ibuf")):
            for field in ("valid", "bank", "offset"):
                stimulus[f"{port}_write_{field}"] = np.zeros(total, np.int64)
            stimulus[f"{port}_write_data"] = np.zeros((total, beat // 32) if wide else total, np.int64)
            for tile, at in zip(tiles, writes, strict=True):
                for i, value in enumerate(getattr(tile, name)):
                    stimulus[f"{port}_write_valid"][at + i] = 1
                    stimulus[f"{port}_write_bank"][at + i] = tile.fields[f"{port}_bank"]
                    stimulus[f"{port}_write_offset"][at + i] = i
                    if wide:
                        stimulus[f"{port}_write_data"][at + i] = _split(value, beat // 32)
                    else:
                        stimulus[f"{port}_write_data"][at + i] = value - (1 << 64) if value >> 63 else value
        for tile, at in zip(tiles, starts, strict=True):
            stimulus["start"][at] = 1
            word = int(spec.layout.const(tile.fields).as_bits())
            stimulus["tile"][at : at + tile.cycles] = _split(word, spec.tile_words * 16)
        return stimulus

    def _check(self, out: dict[str, np.ndarray], tiles: list[Tile], starts: list[int]) -> None:
        spec = self.spec
        ends = np.array([at + tile.cycles - 1 for tile, at in zip(tiles, starts, strict=True)])
        found = np.flatnonzero(out["done"])
        if not np.array_equal(found, ends):
            wrong = next(i for i in range(len(ends)) if i >= len(found) or found[i] != ends[i])
            took = found[wrong] - starts[wrong] + 1 if wrong < len(found) else None
            raise AssertionError(f"tile {wrong} took {took} cycles for {tiles[wrong].cycles}: {tiles[wrong].label}")
        obuf = np.zeros((2, spec.slices, WORDS), np.int64)
        cycle, sums = 0, {0: np.zeros(0), 1: np.zeros(0)}
        enable = out["o_enable"]
        bank, address, data = (
            np.stack([out[f"o_{name}__{k}"] for k in range(spec.slices)], axis=1)
            for name in ("bank", "address", "data")
        )
        for i, (tile, end) in enumerate(zip(tiles, ends.tolist(), strict=True)):
            last = end + tile.tail  # the write that is readable tail cycles behind the end is one cycle earlier
            for at in cycle + np.flatnonzero(enable[cycle : last + 1]):
                for k in range(spec.slices):
                    if enable[at] >> k & 1:
                        obuf[bank[at, k], k, address[at, k]] = data[at, k]
            cycle = last + 1
            side = tile.fields["o_bank"]
            sums[side] = tile.wanted + (0 if tile.fields["first"] else sums[side])
            assert not enable[last + 1 : starts[i + 1] if i + 1 < len(tiles) else None].any(), (
                tile.label,
                "late write",
            )
            np.testing.assert_array_equal(self._read(obuf[side], tile), sums[side], tile.label)

    def _read(self, obuf: np.ndarray, tile: Tile) -> np.ndarray:
        """Return the accumulators of a tile as they stand in a bank."""
        n, g, k, p, q = tile.wanted.shape
        pixels, columns = n * p * q, self.spec.slices
        found = np.zeros((n, g, k, p * q), np.int64)
        for at in np.ndindex(found.shape):
            image, group, filt, pixel = at
            word = (group * -(-k // columns) + filt // columns) * pixels + image * p * q + pixel
            found[at] = obuf[filt % columns, word]
        return found.reshape(tile.wanted.shape)


def _split(value: int, words: int) -> list[int]:
    return [value >> 32 * i & 0xFFFFFFFF for i in range(words)]
