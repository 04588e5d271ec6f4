"""Bench of the store unit: ``obuf`` and a memory's channels around it, random tiles, and what they must leave in memory."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.instruction_word import WORD_BITS, describe_layout, pack_table, split_words
from accel_rtl.machine import Machine
from accel_rtl.shell.parameters import choose_fields, find_limits, pack_parameters
from accel_rtl.shell.shifts import LEFT_BITS, reduce_to_shifts
from accel_rtl.shell.store import LIMIT_BITS, StoreUnit, describe_spill, describe_store
from hwsim.core.layer import Layer
from hwsim.core.program import INSTRUCTION, SPILL, STORE, STORE_O
from hwsim.core.shell import Memory, Shell
from hwsim.engine.execute_parameters import LayerParameters, Requantizer
from hwsim.engine.execute_tile import cut_output
from hwsim.engine.image import list_run_bits, write_slab
from hwsim.engine.kernel_lower import describe
from hwsim.engine.lower import stored_bits


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """An accelerator as the store unit knows it."""

    columns: int = 4
    bits: int = 8
    beat: int = 64
    words: int = 256
    psum_bits: int = 32
    shifts: bool = False

    @property
    def arch(self):
        word = self.columns * self.psum_bits
        shell = Shell(
            wbuf_bits=4096, ibuf_bits=4096, obuf_bits=2 * self.words * word, psum_bits=self.psum_bits,
            stage_bits=self.words * word, store_lanes=1, vector_lanes=1,
        )  # fmt: skip
        memory = Memory(bits_per_cycle=self.beat, align_bits=self.beat)
        return SimpleNamespace(shell=shell, memory=memory, shifts_only=self.shifts)

    @property
    def unit(self) -> StoreUnit:
        return StoreUnit(machine=Machine.from_arch(self.arch, self.columns, self.bits))


class StoreBench(wiring.Component):
    """The unit, one memory of both banks for each column, and answers to writes a cycle behind their last beat."""

    def __init__(self, unit: StoreUnit) -> None:
        self.spec, self.unit = unit, unit.create()
        machine = unit.machine
        axi = self.unit.axi
        self.axi = {name: getattr(axi, name) for name in ("awaddr", "awlen", "awuser", "awcache", "awvalid")}
        self.axi |= {name: getattr(axi, name) for name in ("wdata", "wstrb", "wlast", "wvalid")}
        inputs = {"start": 1, "instruction": WORD_BITS, "extra": WORD_BITS, "o_write": 1}
        inputs |= {"o_place": 1 + machine.word_bits, "o_data": machine.columns * machine.psum_bits}
        inputs |= {"write_valid": 1, "write_address": len(self.unit.write_address), "write_data": WORD_BITS}
        inputs |= {"awready": 1, "wready": 1, "answers": 1}
        super().__init__(
            {name: In(width) for name, width in inputs.items()}
            | {name: In(signed(width)) for name, width in LIMIT_BITS.items()}
            | {f"seen_{name}": Out(len(value)) for name, value in self.axi.items()}
            | {"done": Out(1), "d_enable": Out(1), "fault": Out(1)}
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit = unit = self.unit
        machine, axi = self.spec.machine, self.unit.axi
        m.d.comb += [
            unit.start.eq(self.start),
            unit.instruction.eq(data.View(describe_layout(), self.instruction)),
            unit.extra.eq(self.extra),
            *(getattr(unit, name).eq(getattr(self, name)) for name in (*LIMIT_BITS, "write_valid", "write_address")),
            unit.write_data.eq(self.write_data),
            axi.awready.eq(self.awready),
            axi.wready.eq(self.wready),
            *(getattr(self, f"seen_{name}").eq(value) for name, value in self.axi.items()),
            *(getattr(self, name).eq(getattr(unit, name)) for name in ("done", "d_enable", "fault")),
        ]
        asked, came, answered = Signal(16), Signal(16), Signal(16)
        m.d.comb += axi.bvalid.eq(self.answers & (asked != answered) & (came != answered))
        m.d.sync += [
            asked.eq(asked + (axi.awvalid & axi.awready)),
            came.eq(came + (axi.wvalid & axi.wready & axi.wlast)),
            answered.eq(answered + (axi.bvalid & axi.bready)),
        ]
        for k in range(machine.columns):
            m.submodules[f"obuf{k}"] = column = memory.Memory(
                shape=machine.psum_bits, depth=2 << machine.word_bits, init=[]
            )
            write, read = column.write_port(), column.read_port()
            m.d.comb += [
                write.en.eq(self.o_write),
                write.addr.eq(self.o_place),
                write.data.eq(self.o_data.word_select(k, machine.psum_bits)),
                read.en.eq(unit.d_enable),
                read.addr.eq(Cat(unit.d_word, unit.d_bank)),
                unit.d_data[k].eq(read.data),
            ]
        return m


@dataclass(frozen=True, eq=False, kw_only=True)
class Tile:
    """A tile to be stored or spilled: its place in memory, its accumulators, what it must leave there.

    ``wanted`` and ``written``: bits of all moved units behind the store, and which of them the unit may write.
    """

    layer: Layer
    box: tuple[np.ndarray, np.ndarray]
    place: str
    record: np.void
    extra: int
    bank: np.ndarray
    parameters: LayerParameters
    wanted: np.ndarray
    written: np.ndarray
    elements: int


def find_places(place: str, columns: int, size) -> list[tuple[int, int]]:
    """Return (word, column) of each element in the order n, g, k, p, q, as `accel_rtl.machine.PLACES` says."""
    n, g, k, _, p, q = (int(extent) for extent in size)
    pixels, found = n * p * q, []
    for a in range(n):
        for b in range(g):
            for c in range(k):
                for y in range(p):
                    for x in range(q):
                        pixel = (a * p + y) * q + x
                        if place == "filters":
                            found.append(((b * -(-k // columns) + c // columns) * pixels + pixel, c % columns))
                        elif place == "pixels":
                            found.append(((b * -(-pixels // columns) + pixel // columns) * k + c, pixel % columns))
                        else:
                            found.append(divmod(len(found), columns))
    return found


def draw_parameters(rng: np.random.Generator, channels: int, bits: int, shifts: bool = False) -> LayerParameters:
    """Return a requantization with every corner: ties, all multipliers (powers of two alone), any zero point, a clamp."""
    signed_out = rng.random() < 0.5
    low = -(1 << bits - 1) if signed_out else 0
    high = low + (1 << bits) - 1
    clamp = tuple(sorted(int(v) for v in rng.integers(low, high + 1, 2))) if rng.random() < 0.3 else (low, high)
    shape = (channels if rng.random() < 0.8 else 1, 1, 1)
    shift = rng.integers(0, 63, shape) if rng.random() < 0.3 else rng.integers(24, 40, shape)
    multiplier = rng.integers(0, 1 << 31, shape)
    if shifts:
        multiplier = 1 << np.minimum(rng.integers(0, 31, shape), shift + LEFT_BITS)
    requant = Requantizer(
        multiplier=multiplier, shift=shift, zero_point=int(rng.integers(low, high + 1)), low=low,
        high=high,
    )  # fmt: skip
    bias = rng.integers(-(1 << 20), 1 << 20, channels)
    none = np.zeros(0, np.int64)
    return LayerParameters(
        input_signed=(True,), input_zero=(0,), narrow=None, weight_signed=True, weight_zero=none, factors=none,
        factor_shift=0, lookup=None, bias=bias, requant=requant, clamp=clamp, table=None, out_signed=signed_out,
    )  # fmt: skip


def draw_layer(rng: np.random.Generator, place: str) -> Layer:
    """Return a layer of few outputs: vectors and images, of several groups and images."""
    groups = int(rng.choice([1, 1, 2, 3, 7]))
    if place == "linear":
        groups, filters = int(rng.choice([1, 3, 9, 20])), 1
    else:
        filters = int(rng.choice([1, 2, 3, 5, 8, 13]))
    p, q = ((1, 1), (1, 9), (7, 1), (3, 3), (4, 6), (5, 17), (2, 40))[rng.integers(7)]
    n = int(rng.choice([1, 1, 2, 3]))
    return Layer(name="layer", op="conv", inputs=("x",), N=n, G=groups, K=filters, C=2, P=p, Q=q, H=p, W=q, R=1, S=1)


def draw_box(rng: np.random.Generator, layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Return any part of the output."""
    dims = [layer.N, layer.G, layer.K, layer.C, layer.P, layer.Q]
    lo = [int(rng.integers(0, extent)) if rng.random() < 0.5 else 0 for extent in dims]
    hi = [int(rng.integers(first + 1, extent + 1)) for first, extent in zip(lo, dims, strict=True)]
    if rng.random() < 0.4:
        lo, hi = [0] * 6, dims
    if hi[1] - lo[1] > 1:  # several groups go with all of their filters
        lo[2], hi[2] = 0, dims[2]
    return np.array(lo), np.array(hi)


def draw_accumulators(rng: np.random.Generator, count: int, psum_bits: int) -> np.ndarray:
    top = 1 << psum_bits - 1
    wide = rng.integers(-top, top, count) >> rng.integers(1, psum_bits, count)
    return np.where(rng.random(count) < 0.05, rng.choice([0, 1, -1, top >> 1, -top >> 1], count), wide)


def make_tile(rng: np.random.Generator, sizes: Sizes, place: str, base: int, spill: bool = False) -> Tile | None:
    """Return a random tile whose output tensor begins at bit ``base``; None where it does not fit or is refused."""
    layer = draw_layer(rng, place)
    box = draw_box(rng, layer)
    lo, hi = box
    size = hi - lo
    datapath = SimpleNamespace(layer=layer, workload=SimpleNamespace(out_bits=sizes.bits))
    places = find_places(place, sizes.columns, size)
    most = max(word for word, _ in places) + 1
    first = int(lo[5]) if layer.P * layer.Q > 1 else int(lo[1] * layer.K + lo[2])
    last = int(hi[5]) if layer.P * layer.Q > 1 else first + int(size[1] * size[2])
    whole = layer.Q if layer.P * layer.Q > 1 else layer.G * layer.K
    inside = first * sizes.bits % 8 or (last * sizes.bits % 8 and last != whole)
    if most > sizes.words or (inside and not spill):
        return None
    bank = draw_accumulators(rng, sizes.words * sizes.columns, sizes.psum_bits).reshape(sizes.words, sizes.columns)
    parameters = draw_parameters(rng, layer.out_shape[1], sizes.bits, sizes.shifts)
    table = np.zeros(1, INSTRUCTION)
    table["queue"], table["op"], table["bank"] = STORE, SPILL if spill else STORE_O, rng.integers(2)
    table["tile"] = -1
    if spill:
        moved = bank[: -(-len(places) // sizes.columns) if place == "linear" else count_naively(place, sizes, size)]
        raw = moved.astype("<i8").reshape(-1, 1).view(np.uint8)
        wanted = np.unpackbits(raw, axis=1, bitorder="little")[:, : sizes.psum_bits].ravel()
        table["address"], table["bits"], table["run_bits"] = base, wanted.size, wanted.size
        table["count0"] = table["count1"] = table["count2"] = 1
        extra = describe_spill(datapath, sizes.arch, box, place, sizes.columns)
        return Tile(layer=layer, box=box, place=place, record=table[0], extra=extra, bank=bank, parameters=parameters,
                    wanted=wanted, written=np.ones(wanted.size, bool), elements=0)  # fmt: skip
    channel = int(lo[1] * layer.K + lo[2])
    ends = (lo[0], hi[0], channel, channel + size[1] * size[2], lo[4], hi[4], lo[5], hi[5])
    shape = np.array(layer.out_shape)
    describe(table, 0, shape, sizes.bits, base, sizes.beat, *(int(end) for end in ends))
    if table["bits"][0] > sizes.arch.shell.stage_bits:
        return None
    extra = describe_store(datapath, sizes.arch, box, place, sizes.columns)
    psums = np.array([bank[word, column] for word, column in places])
    channels = slice(channel, channel + int(size[1] * size[2]))
    acc = psums.reshape(size[0], -1, size[4], size[5]) + parameters.bias[channels, None, None]
    stored = parameters.requant.apply(acc, channels, slice(lo[4], hi[4]), slice(lo[5], hi[5]))
    slab = cut_output(datapath, lo, hi, sizes.beat)
    wanted, mask = np.zeros((2, slab.stream_bits), np.uint8)
    write_slab(slab, np.clip(stored, *parameters.clamp), wanted)
    write_slab(slab, np.full(stored.size, -1), mask)
    written = np.repeat(mask.reshape(-1, 8).any(axis=1), 8)
    return Tile(layer=layer, box=box, place=place, record=table[0], extra=extra, bank=bank, parameters=parameters,
                wanted=wanted, written=written, elements=len(places))  # fmt: skip


def count_naively(place: str, sizes: Sizes, size) -> int:
    """Return words of a tile, unused ones of its last block included."""
    n, g, k, _, p, q = (int(extent) for extent in size)
    if place == "filters":
        return g * -(-k // sizes.columns) * n * p * q
    return g * -(-(n * p * q) // sizes.columns) * k


def tensor_bits(tile: Tile, sizes: Sizes) -> int:
    """Return the bits that a tile's tensor (or its spill) takes in memory."""
    if tile.record["op"] == SPILL:
        return int(tile.record["bits"])
    return stored_bits(tile.layer.out_shape, sizes.bits, sizes.beat)


def apply_tile(tile: Tile, memory_bits: np.ndarray) -> None:
    """Store a tile as it must be stored."""
    where = list_run_bits(tile.record)
    memory_bits[where[tile.written]] = tile.wanted[tile.written]


def pack_parameter_words(tile: Tile, shifts: bool = False) -> tuple[int, ...]:
    """Return the words of the parameter memory."""
    parameters = reduce_to_shifts("layer", tile.parameters) if shifts else tile.parameters
    return split_words(pack_parameters(tile.layer, parameters, choose_fields("shift" if shifts else "mulshift")))


def pack_instruction(tile: Tile) -> int:
    """Return the instruction word."""
    return split_words(pack_table(np.array([tile.record])))[0]


def limits_of(tile: Tile) -> dict[str, int]:
    """Return what the header says."""
    return dict(zip(LIMIT_BITS, find_limits(tile.parameters), strict=True))
