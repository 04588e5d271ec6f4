"""A systolic exec engine with its memories around it, and random tiles for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from amaranth.hdl import Module, signed
from amaranth.lib.memory import Memory as Ram
from amaranth.sim import Simulator

from accel_rtl.systolic.descriptor import describe_tile
from accel_rtl.systolic.engine import SystolicEngineUnit
from accel_rtl.systolic.spec import SystolicEngine
from hwsim.archs.systolic.datapath import SystolicDatapath
from hwsim.archs.systolic.spec import Systolic
from hwsim.core.datapath import Workload
from hwsim.core.layer import Layer
from hwsim.core.mapping import Boxes, C, G, K, N, P, Q, list_boxes
from hwsim.core.policy import LayerFormat
from hwsim.core.shell import Memory, Shell
from hwsim.engine.execute_tile import find_input_box
from hwsim.engine.image import cut_slab, write_slab

BEATS, WORDS = 256, 1024


def arch_of(
    rows: int, cols: int, flow: str, overlap: str, w: int = 8, a: int = 8, psum: int = 32, beat: int = 64
) -> Systolic:
    """Return a small accelerator."""
    shell = Shell(
        wbuf_bits=2 * BEATS * beat, ibuf_bits=2 * BEATS * beat, obuf_bits=2 * WORDS * psum * cols, psum_bits=psum
    )
    return Systolic(
        preset="test", rows=rows, cols=cols, dataflow=flow, fold_overlap=overlap, w_width=w, a_width=a, shell=shell,
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


class Harness:
    """Engine and memories; `run` gives tiles to it."""

    def __init__(self, arch: Systolic) -> None:
        self.arch, self.spec = arch, SystolicEngine.from_arch(arch)
        spec = self.spec
        self.engine = SystolicEngineUnit(spec)
        self.top = m = Module()
        m.submodules.engine = e = self.engine
        beats = 1 << (spec.input_address_bits + 1)
        self.ibuf = [Ram(shape=spec.beat_bits, depth=beats, init=[]) for _ in range(spec.lanes)]
        self.wbuf = [
            Ram(shape=spec.beat_bits, depth=2 << spec.weight_address_bits, init=[]) for _ in range(spec.weight_banks)
        ]
        self.obuf = [
            Ram(shape=signed(spec.psum_bits), depth=2 << spec.output_address_bits, init=[]) for _ in range(spec.cols)
        ]
        for i, ram in enumerate(self.ibuf):
            m.submodules[f"ibuf_{i}"] = ram
            port = ram.read_port()
            m.d.comb += [port.addr.eq(e.i_address[i] + (e.i_bank[i] << spec.input_address_bits))]
            m.d.comb += [port.en.eq(e.i_enable[i]), e.i_beat[i].eq(port.data)]
        for i, ram in enumerate(self.wbuf):
            m.submodules[f"wbuf_{i}"] = ram
            port = ram.read_port()
            m.d.comb += [port.addr.eq(e.w_address[i] + (e.w_bank << spec.weight_address_bits))]
            m.d.comb += [port.en.eq(e.w_enable), e.w_beat[i].eq(port.data)]
        for j, ram in enumerate(self.obuf):
            m.submodules[f"obuf_{j}"] = ram
            read, write = ram.read_port(), ram.write_port()
            high = spec.output_address_bits
            m.d.comb += [
                read.addr.eq(e.o_read_address[j] + (e.o_read_bank[j] << high)), read.en.eq(e.o_read_enable[j]),
                e.o_read_data[j].eq(read.data),
                write.addr.eq(e.o_write_address[j] + (e.o_write_bank[j] << high)), write.en.eq(e.o_write_enable[j]),
                write.data.eq(e.o_write_data[j]),
            ]  # fmt: skip
        self.sim = Simulator(m)
        self.sim.add_clock(1e-8)

    def read_results(self, ctx: Any, tile: Tile) -> np.ndarray:
        """Return the accumulators of a tile as they stand in ``obuf``."""
        n, g, k, p, q = tile.wanted.shape
        cols, pixels, base = self.spec.cols, p * q, tile.fields["o_bank"] << self.spec.output_address_bits
        found = np.zeros((n, g, k, pixels), np.int64)
        for at in np.ndindex(found.shape):
            image, group, filt, pixel = at
            pixel += image * pixels
            if self.spec.dataflow == "is":
                column, word = pixel % cols, (group * -(-n * pixels // cols) + pixel // cols) * k + filt
            else:
                column, word = filt % cols, (group * -(-k // cols) + filt // cols) * n * pixels + pixel
            found[at] = ctx.get(self.obuf[column].data[base + word])
        return found.reshape(tile.wanted.shape)

    def run(self, tiles: list[Tile], gaps: list[int]) -> int:
        """Run tiles, ``gaps`` idle cycles behind each; check cycles and results of all. Return the cycles."""
        engine, total = self.engine, 0
        due: list[tuple[int, Tile, np.ndarray]] = []  # cycle in which a tile's results have to stand
        sums: dict[int, np.ndarray] = {}

        def check(ctx: Any, now: int) -> None:
            while due and due[0][0] <= now:
                _, tile, wanted = due.pop(0)
                np.testing.assert_array_equal(self.read_results(ctx, tile), wanted, tile.label)

        async def bench(ctx: Any) -> None:
            nonlocal total
            now = 0
            for tile, gap in zip(tiles, gaps, strict=True):
                self._fill(ctx, tile)
                ctx.set(engine.tile, tile.fields)
                ctx.set(engine.start, 1)
                for cycle in range(tile.cycles):
                    check(ctx, now)
                    done = ctx.get(engine.done)
                    assert done == (cycle == tile.cycles - 1), (tile.label, cycle, tile.cycles)
                    await ctx.tick()
                    now += 1
                    ctx.set(engine.start, 0)
                bank = tile.fields["o_bank"]
                sums[bank] = tile.wanted + (0 if tile.fields["first"] else sums[bank])
                due[:] = [entry for entry in due if entry[1].fields["o_bank"] != bank or entry[0] <= now]
                due.append((now + tile.tail, tile, sums[bank]))
                for _ in range(gap):
                    check(ctx, now)
                    assert not ctx.get(engine.done)
                    await ctx.tick()
                    now += 1
            while due:
                check(ctx, now)
                await ctx.tick()
                now += 1
            total = now

        self.sim.reset()
        self.sim.add_testbench(bench)
        self.sim.run()
        return total

    def _fill(self, ctx: Any, tile: Tile) -> None:
        spec = self.spec
        base = tile.fields["i_bank"] << spec.input_address_bits
        for ram in self.ibuf:
            for at, beat in enumerate(tile.ibuf):
                ctx.set(ram.data[base + at], beat)
        base = tile.fields["w_bank"] << spec.weight_address_bits
        for at, beat in enumerate(tile.wbuf):
            ctx.set(self.wbuf[at % spec.weight_banks].data[base + at // spec.weight_banks], beat)


def to_beats(bits: np.ndarray, beat: int) -> list[int]:
    """Return a stream of bits as integers of ``beat`` bits."""
    padded = np.pad(bits, (0, -bits.size % beat)).reshape(-1, beat)
    return [int("".join("01"[bit] for bit in row[::-1]), 2) for row in padded]


def draw_layer(rng: np.random.Generator, most: int) -> Layer:
    """Return a convolution of any kind: kernel 1-5, stride 1-3, padding, dilation, groups, depthwise; or a gemm."""
    while True:
        if rng.random() < 0.1:
            n, c, k = (int(v) for v in rng.integers(1, 9, 3))
            return Layer(name="gemm", op="gemm", inputs=("x",), N=n, C=c, K=k)
        window, stride = rng.integers(1, 6, 2), rng.integers(1, 4, 2)
        dilation, size = rng.integers(1, 3, 2), rng.integers(1, 9, 2)
        padding = rng.integers(0, 4, 4) * (rng.random() < 0.7)
        reach = [int(size[a] + padding[a] + padding[a + 2] - dilation[a] * (window[a] - 1) - 1) for a in (0, 1)]
        if min(reach) < 0:
            continue
        p, q = (reach[a] // int(stride[a]) + 1 for a in (0, 1))
        kind = rng.random()
        g, k, c = (
            (1, *rng.integers(1, 6, 2))
            if kind < 0.6
            else rng.integers(1, 4, 3)
            if kind < 0.8
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


def draw_values(rng: np.random.Generator, low: int, high: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return integers: any, or extreme ones alone."""
    kind = rng.integers(4)
    if kind == 0:
        return np.full(shape, low if rng.random() < 0.5 else high)
    if kind == 1:
        return np.where(rng.random(shape) < 0.5, low, high)
    return rng.integers(low, high + 1, shape)


def multiply_naively(layer: Layer, x: np.ndarray, w: np.ndarray, lo: Any, hi: Any) -> np.ndarray:
    """Return the sums of a tile ``[n, g, k, p, q]`` from x ``[N, G*C, H, W]`` (less its zero point) and w ``[G*K, C, R, S]``."""
    out = np.zeros([int(hi[d] - lo[d]) for d in (N, G, K, P, Q)], np.int64)
    channels = np.arange(lo[C], hi[C])
    for n, g, k, p, q in np.ndindex(out.shape):
        group = int(lo[G]) + g
        for r in range(layer.R):
            for s in range(layer.S):
                row = (int(lo[P]) + p) * layer.stride[0] - layer.padding[0] + r * layer.dilation[0]
                col = (int(lo[Q]) + q) * layer.stride[1] - layer.padding[1] + s * layer.dilation[1]
                if 0 <= row < layer.H and 0 <= col < layer.W:
                    pixel = x[int(lo[N]) + n, group * layer.C + channels, row, col]
                    out[n, g, k, p, q] += pixel @ w[group * layer.K + int(lo[K]) + k, channels, r, s]
    return out


def draw_tiles(rng: np.random.Generator, arch: Systolic, most: int) -> list[Tile]:
    """Return some tiles of a random layer in the order of a Program: those along C one behind the other."""
    while True:
        layer = draw_layer(rng, most)
        workload = Workload(
            layer=layer, fmt=LayerFormat(w_bits=arch.w_width, a_bits=arch.a_width), out_bits=8,
            operand_bits=(arch.a_width,), operand_shapes=(layer.in_shape,),
        )  # fmt: skip
        datapath = SystolicDatapath(workload, arch)
        whole = rng.random() < 0.4
        tile = [int(rng.integers(1, getattr(layer, d) + 1)) for d in "NGKCPQ"]
        if whole:
            tile = [getattr(layer, d) for d in "NGKCPQ"]
        if tile[G] > 1:
            tile[K], tile[C] = layer.K, layer.C
        boxes = list_boxes(layer, tuple(tile))
        signed_input = bool(rng.random() < 0.6)
        low = -(1 << (arch.a_width - 1)) if signed_input else 0
        x = draw_values(rng, low, low + (1 << arch.a_width) - 1, layer.in_shape)
        zero = int(rng.choice([0, low, low + (1 << arch.a_width) - 1]))
        w_low = -(1 << (arch.w_width - 1))
        shape = (layer.G * layer.K, layer.C, layer.R, layer.S)
        w = 2 * rng.integers(0, 2, shape) - 1 if arch.w_width == 1 else draw_values(rng, w_low, -w_low - 1, shape)
        chosen = [i for i in range(len(boxes)) if boxes.lo[i, C] == 0]
        at = int(rng.choice(chosen))
        same = [d for d in range(6) if d != C]
        picks = [i for i in range(len(boxes)) if (boxes.lo[i, same] == boxes.lo[at, same]).all()][:3]
        bank, tiles = int(rng.integers(2)), []
        for i in picks:
            made = make_tile(arch, datapath, boxes, i, x, w, zero, signed_input, bank)
            if made is None:
                break
            tiles.append(made)
        if tiles:
            return tiles


def make_tile(
    arch: Systolic, datapath: SystolicDatapath, boxes: Boxes, i: int, x: np.ndarray, w: np.ndarray, zero: int,
    signed_input: bool, bank: int,
) -> Tile | None:  # fmt: skip
    """Return one tile, or None where it does not fit the buffers."""
    lo, hi, layer = boxes.lo[i], boxes.hi[i], datapath.layer
    area = find_input_box(layer, layer.in_shape, lo, hi)
    slab = cut_slab(layer.in_shape, arch.a_width, arch.memory.alignment_bits, area)
    stream = np.ones(slab.stream_bits, np.uint8)
    (n0, n1), (c0, c1), (r0, r1), (s0, s1) = area
    write_slab(slab, x[n0:n1, c0:c1, r0:r1, s0:s1], stream)
    beat = arch.memory.bits_per_cycle
    ibuf = to_beats(stream, beat)
    wbuf = to_beats(datapath.pack_weights(w, lo, hi), beat)
    wanted = multiply_naively(layer, x - zero, w, lo, hi)
    if max(len(ibuf), len(wbuf)) > BEATS or wanted.size > WORDS:
        return None
    times = datapath.exec_times(Boxes(lo[None], hi[None]))
    fields = describe_tile(
        datapath, arch, (lo, hi), banks=(i % 2, i % 2, bank), input_zero=zero, input_signed=signed_input
    )
    return Tile(fields, ibuf, wbuf, wanted, int(times.busy[0]), int(times.tail[0]), f"{layer} box {lo} {hi}")


def with_array(arch: Systolic, **changes: Any) -> Systolic:
    """Return an accelerator with other fields."""
    return replace(arch, **changes)
