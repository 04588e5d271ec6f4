"""The SmartDeal engine with ``obuf`` around it, random tiles for it, and when and what they have to give."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory as Ram
from amaranth.lib.wiring import Out

from accel_rtl.smartdeal.descriptor import describe_tile
from accel_rtl.smartdeal.spec import SmartDealEngine
from cosim.batch import BatchModel
from hwsim.archs.smartdeal import timing
from hwsim.archs.smartdeal.datapath import SmartDealDatapath
from hwsim.archs.smartdeal.spec import SmartDeal
from hwsim.core.datapath import LayerData, Workload
from hwsim.core.layer import Layer
from hwsim.core.mapping import C, G, K, N, P, Q, list_boxes
from hwsim.core.policy import LayerFormat
from hwsim.core.shell import Memory, Shell
from hwsim.engine.execute_tile import find_input_box
from hwsim.engine.image import cut_slab, write_slab
from hwsim.quant.decompose import Decomposed, DecomposeOptions, decompose_layer
from tests.rtl.systolic_bench import draw_values, multiply_naively, to_beats

BEATS, WORDS = 512, 1024
GROUP_CYCLES = 4000
"""No tile takes longer: what is drawn is small."""


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
            np.stack([out[f"o_{name}__{k}"] for k in range(spec.slices)], axis=1) for name in ("bank", "address", "data")
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
            assert not enable[last + 1 : starts[i + 1] if i + 1 < len(tiles) else None].any(), (tile.label, "late write")
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


# --- when: the schedule of docs/rtl.md, row by row -------------------------------------------------------------------


def count_digits(value: int) -> int:
    """Return the nonzero radix-4 Booth digits of an activation less its zero point."""
    count, below = 0, 0
    for i in range(0, 10, 2):
        low, high = value >> i & 1, value >> i + 1 & 1
        count += low + below - 2 * high != 0
        below = high
    return count


DIGITS = {value: count_digits(value) for value in range(-256, 256)}


@dataclass(frozen=True, eq=False)
class Layout:
    """A layer's rows: ``rows`` (first channel, kernel row), weights of one, ``passes`` of steps as lists of ranges of rows."""

    rows: list[tuple[int, int]]
    weights: int
    steps: list[list[range]]
    by_kernel: bool
    rebuilt: bool


def cut_layer(layer: Layer, arch: SmartDeal, codec: Decomposed | None) -> Layout:
    """Return the rows and passes of a layer."""
    rebuilt = codec is not None and not codec.plan.is_dense
    by_kernel = layer.R * layer.S > 1
    weights = layer.S if by_kernel else 3
    rows = [(c, r) for c in range(layer.C) for r in range(layer.R)] if by_kernel else [(c, 0) for c in range(0, layer.C, 3)]
    held = arch.lines * (arch.line_rows // -(-weights // 3))
    if rebuilt:
        assert codec is not None
        unit = codec.plan.rows
    else:
        unit = max(1, held // layer.R) * layer.R if by_kernel else held
    steps = [
        [range(at, min(at + held, first + unit, len(rows))) for at in range(first, min(first + unit, len(rows)), held)]
        for first in range(0, len(rows), unit)
    ]
    return Layout(rows, weights, steps, by_kernel, rebuilt)


def time_tile(
    layer: Layer, arch: SmartDeal, cut: Layout, x: np.ndarray, active: np.ndarray, lo: Any, hi: Any
) -> tuple[int, int]:
    """Return busy and fill cycles; x ``[N, G*C, H, W]`` less its zero point, active ``[G*K, rows]``."""
    gemm, lines, macs = layer.op == "gemm", arch.lines, arch.macs
    pixels = (
        [[[(n, 0, 0) for n in range(lo[N], hi[N])]]]
        if gemm
        else [[[(n, p, q) for q in range(lo[Q], hi[Q])] for p in range(lo[P], hi[P])] for n in range(lo[N], hi[N])]
    )
    per_row = cut.weights
    fast = not gemm and layer.stride[1] < 3
    if fast and cut.by_kernel and cut.weights <= 3 and layer.dilation[1] == 1:
        per_row = 1
    if not fast:
        per_row *= min(macs, layer.N if gemm else layer.Q)
    channels = range(lo[C], hi[C])
    steps = [step for step in cut.steps if cut.rows[step[0].start][0] in channels]
    prepares, runs = [], []
    for g in range(lo[G], hi[G]):
        for block in range(lo[K], hi[K], arch.slices):
            filters = [g * layer.K + k for k in range(block, min(block + arch.slices, hi[K]))]
            for row in itertools.chain.from_iterable(pixels):
                for first in range(0, len(row), macs):
                    group = row[first : first + macs]
                    costs: dict[int, int] = {}
                    took = []
                    for step in steps:
                        for i, one in enumerate(step):
                            chunks = -(-len(one) // lines)
                            decode = chunks + (4 if i == 0 else 0) if cut.rebuilt else len(one) * -(-cut.weights // 3)
                            prepares.append(
                                max(chunks * per_row + timing.LOAD_PIPELINE, decode + timing.DECODE_PIPELINE)
                            )
                            slowest = 0
                            for at in one:
                                costs[at] = cost_row(layer, cut, x, g, cut.rows[at], group)
                            for f in filters:
                                for line in range(lines):
                                    mine = range(one.start + line, one.stop, lines)
                                    slowest = max(slowest, sum(costs[at] for at in mine if active[f, at]))
                            took.append(slowest + timing.RUN_PIPELINE)
                    runs.append(took)
    # steps; a pixel group lasts macs cycles at least
    busy, at = prepares[0], 1
    for took in runs:
        spent = 0
        for i, run in enumerate(took):
            step = max(run, prepares[at] if at < len(prepares) else 0)
            at += 1
            if i == len(took) - 1:
                step = max(step, macs - spent)
            spent += step
        busy += spent
    return busy, prepares[0]


def cost_row(layer: Layer, cut: Layout, x: np.ndarray, g: int, row: tuple[int, int], group: list[Any]) -> int:
    """Return the cycles of a row at a pixel group: 0 where all activations are zero."""
    total, some = 0, False
    for weight in range(cut.weights):
        slowest = 1
        for n, p, q in group:
            c, s = (row[0], weight) if cut.by_kernel else (row[0] + weight, 0)
            y = p * layer.stride[0] - layer.padding[0] + row[1] * layer.dilation[0]
            column = q * layer.stride[1] - layer.padding[1] + s * layer.dilation[1]
            if c < layer.C and 0 <= y < layer.H and 0 <= column < layer.W:
                value = int(x[n, g * layer.C + c, y, column])
                some |= value != 0
                slowest = max(slowest, DIGITS[value])
        total += slowest
    return total if some else 0


# --- what is drawn ----------------------------------------------------------------------------------------------------


def draw_layer(rng: np.random.Generator, most: int) -> Layer:
    """Return a convolution of any kind (kernel 1 to 7, stride 1 to 3, padding, dilation, groups, depthwise) or a gemm."""
    while True:
        if rng.random() < 0.1:
            n, c, k = (int(v) for v in rng.integers(1, 12, 3))
            return Layer(name="gemm", op="gemm", inputs=("x",), N=n, C=c, K=k)
        window = (rng.integers(1, 8), rng.integers(1, 8)) if rng.random() < 0.3 else (int(rng.choice([1, 3, 3, 5, 7])),) * 2
        stride, dilation = rng.integers(1, 4, 2), rng.integers(1, 3, 2)
        size = rng.integers(1, 11, 2)
        padding = rng.integers(0, 4, 4) * (rng.random() < 0.7)
        reach = [int(size[a] + padding[a] + padding[a + 2] - dilation[a] * (window[a] - 1) - 1) for a in (0, 1)]
        if min(reach) < 0:
            continue
        p, q = (reach[a] // int(stride[a]) + 1 for a in (0, 1))
        kind, deep = rng.random(), 30 if window[0] * window[1] == 1 else 12
        g, k, c = (
            (1, rng.integers(1, 10), rng.integers(1, deep))
            if kind < 0.7
            else rng.integers(1, 5, 3)
            if kind < 0.85
            else (rng.integers(2, 6), 1, 1)
        )
        layer = Layer(
            name="conv", op="conv", inputs=("x",), N=int(rng.integers(1, 3)), G=int(g), K=int(k), C=int(c), P=p, Q=q,
            R=int(window[0]), S=int(window[1]), H=int(size[0]), W=int(size[1]),
            stride=(int(stride[0]), int(stride[1])), padding=tuple(int(v) for v in padding),
            dilation=(int(dilation[0]), int(dilation[1])),
        )  # fmt: skip
        if layer.macs <= most:
            return layer


def draw_codec(rng: np.random.Generator, shape: tuple[int, ...]) -> Decomposed | None:
    """Return a decomposition with random coefficients and bases, or None where the kernel has none."""
    codec = decompose_layer(rng.normal(size=shape), DecomposeOptions(force=True), "layer")
    if codec.plan.is_dense:
        return None
    kind = rng.integers(4)
    codes = rng.integers(-7, 8, codec.codes.shape)
    if kind == 1:
        codes = np.where(rng.random(codes.shape) < 0.5, -7, 7)
    codes[rng.random(codes.shape[:3]) < rng.choice([0, 0.3, 0.9])] = 0
    codes[rng.random(codes.shape[:2]) < rng.choice([0, 0.5])] = 0
    flat = codes.reshape(len(codes), -1, 3)
    flat[:, codec.plan.row_count :] = 0
    if codec.plan.kind == "vector" and shape[1] % 3:  # weights beyond the channels are computed, not used
        pass
    basis = rng.integers(-128, 128, codec.basis.shape)
    if kind == 2:
        basis = np.where(rng.random(basis.shape) < 0.5, -128, 127)
    total = np.full(codes.shape, 32)
    for j in range(3):
        magnitude = np.abs(codes[..., j : j + 1])
        term = np.where(magnitude > 0, basis[:, :, None, j] * 2 ** np.maximum(magnitude - 1, 0), 0)
        total = total + np.where(codes[..., j : j + 1] < 0, -term, term)
    rows = np.clip(total // 64, -128, 127).reshape(len(codes), -1)
    weights = rows[:, : int(np.prod(shape[1:]))].reshape(shape).astype(np.int8)
    return replace(
        codec, codes=codes.astype(np.int8), basis=basis.astype(np.int8), row_mask=codes.any(axis=-1), rebuilt_int8=weights
    )


def draw_input(rng: np.random.Generator, shape: tuple[int, ...], low: int, zero: int) -> np.ndarray:
    """Return stored activations: any, extreme, few that are not zero, rows of zeros, zeros alone."""
    x = draw_values(rng, low, low + 255, shape)
    kind = rng.integers(6)
    if kind == 0:
        return np.full(shape, zero)
    if kind < 3:
        x = np.where(rng.random(shape) < 0.7, zero, x)
    if kind == 3:
        x = np.where(np.broadcast_to(rng.random((*shape[:3], 1)) < 0.5, shape), zero, x)
    return x


def draw_tiles(rng: np.random.Generator, arch: SmartDeal, most: int) -> list[Tile]:
    """Return some tiles of a random layer in the order of a Program: those along C one behind the other."""
    while True:
        layer = draw_layer(rng, most)
        shape = (layer.G * layer.K, layer.C, layer.R, layer.S)
        codec = draw_codec(rng, shape) if rng.random() < 0.7 else None
        if -(-layer.S // 3) > arch.line_rows:
            continue
        weights = draw_values(rng, -128, 127, shape) if codec is None else codec.rebuilt_int8.astype(np.int64)
        tiles = cut_tiles(rng, arch, layer, weights, codec)
        if tiles:
            return tiles


def cut_tiles(
    rng: np.random.Generator, arch: SmartDeal, layer: Layer, weights: np.ndarray, codec: Decomposed | None
) -> list[Tile]:
    """Return the tiles along C at one place of a layer with random activations."""
    is_signed = bool(rng.random() < 0.6)
    low = -128 if is_signed else 0
    zero = int(rng.choice([0, low, low + 255, low + 3]))
    x = draw_input(rng, layer.in_shape, low, zero)
    workload = Workload(
        layer=layer, fmt=LayerFormat(codec="dense") if codec is None else LayerFormat(), out_bits=8, operand_bits=(8,),
        operand_shapes=(layer.in_shape,),
    )  # fmt: skip
    stored = x.astype(np.int8 if is_signed else np.uint8)
    datapath = SmartDealDatapath(workload, arch, LayerData(activation=stored, zero_point=zero, codec=codec))
    sizes = []
    for dim, quantum in zip("NGKCPQ", datapath.quantum(), strict=True):
        extent = getattr(layer, dim)
        most = -(-extent // quantum)
        sizes.append(min(extent, quantum * int(rng.choice([most, rng.integers(1, most + 1)]))))
    if sizes[G] > 1:
        sizes[K], sizes[C] = layer.K, layer.C
    boxes = list_boxes(layer, tuple(sizes))
    at = int(rng.choice([i for i in range(len(boxes)) if boxes.lo[i, C] == 0]))
    same = [d for d in range(6) if d != C]
    picks = [i for i in range(len(boxes)) if (boxes.lo[i, same] == boxes.lo[at, same]).all()][:4]
    bank, tiles = int(rng.integers(2)), []
    for i in picks:
        made = make_tile(arch, datapath, (boxes.lo[i], boxes.hi[i]), x, weights, zero, is_signed, bank)
        if made is None:
            break
        tiles.append(made)
    return tiles


def make_tile(
    arch: SmartDeal, datapath: SmartDealDatapath, box: tuple[Any, Any], x: np.ndarray, weights: np.ndarray, zero: int,
    is_signed: bool, bank: int,
) -> Tile | None:  # fmt: skip
    """Return one tile, or None where it does not fit the buffers."""
    lo, hi = box
    layer, spec = datapath.layer, SmartDealEngine.from_arch(arch)
    area = find_input_box(layer, layer.in_shape, lo, hi)
    slab = cut_slab(layer.in_shape, 8, arch.memory.alignment_bits, area)
    stream = np.ones(slab.stream_bits, np.uint8)
    (n0, n1), (c0, c1), (r0, r1), (s0, s1) = area
    write_slab(slab, x[n0:n1, c0:c1, r0:r1, s0:s1], stream)
    beat = arch.memory.bits_per_cycle
    ibuf = to_beats(stream, beat)
    wbuf = to_beats(datapath.pack_weights(weights, lo, hi), beat)
    wanted = multiply_naively(layer, x - zero, weights, lo, hi)
    places = -(-wanted.shape[2] // arch.slices) * wanted[:, :, 0].size
    longest = max(wbuf[0] >> 16 * k & 0xFFFF for k in range(arch.slices)) if arch.slices * 16 <= beat else len(wbuf)
    if max(len(ibuf), len(wbuf)) > BEATS or places > WORDS or longest > spec.slice_beats:
        return None
    cut = cut_layer(layer, arch, datapath.codec)
    active = np.ones((layer.G * layer.K, len(cut.rows)), bool)
    if cut.rebuilt:
        assert datapath.codec is not None
        active = datapath.codec.row_mask.reshape(len(active), -1)[:, : len(cut.rows)]
    busy, _ = time_tile(layer, arch, cut, x - zero, active, lo.tolist(), hi.tolist())
    if busy > GROUP_CYCLES:
        return None
    fields = describe_tile(spec, datapath, box, (0, 0, bank), zero, is_signed)
    return Tile(fields, ibuf, wbuf, wanted, busy, spec.tail_cycles, f"{layer} box {lo} {hi} zero {zero} {is_signed}")


def draw_run(rng: np.random.Generator, arch: SmartDeal, layers: int, most: int = 4000) -> tuple[list[Tile], list[int]]:
    """Return tiles of several layers, and the least idle cycles behind each; banks of operands in turn."""
    tiles = [tile for _ in range(layers) for tile in draw_tiles(rng, arch, most)]
    for i, tile in enumerate(tiles):
        tile.fields["w_bank"] = tile.fields["i_bank"] = i % 2
    return tiles, [int(gap) for gap in rng.choice([0, 0, 0, 1, 3, 20], len(tiles))]
