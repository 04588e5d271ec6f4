"""The vector unit with a copy of ``ibuf`` for each operand, and random tiles of vector layers for it."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory as Ram
from amaranth.lib.wiring import In, Out

from accel_rtl.machine import Machine
from accel_rtl.shell.shifts import FACTOR_BITS, reduce_to_shifts
from accel_rtl.shell.vector import VectorUnit, describe_vector, list_vector_header
from accel_rtl.shell.vector_descriptor import header_layout
from hwsim.core.datapath import VectorDatapath, Workload
from hwsim.core.layer import Layer
from hwsim.core.mapping import Boxes, G, N, P, Q, list_boxes
from hwsim.core.policy import LayerFormat
from hwsim.core.shell import Memory
from hwsim.engine.execute_parameters import LayerParameters, Requantizer
from hwsim.engine.execute_tile import LOWEST, Engine, find_input_box
from hwsim.engine.image import cut_slab, write_slab
from tests.naive_cases import conv
from tests.rtl.systolic_bench import draw_values, to_beats


def machine_of(
    beat: int = 64, a_bits: int = 8, columns: int = 4, psum: int = 32, beats: int = 128, requantizer: str = "mulshift"
) -> Machine:
    """Return the sizes of a small accelerator."""
    return Machine(
        beat_bits=beat, a_bits=a_bits, psum_bits=psum, columns=columns, wbuf_beats=16, ibuf_beats=beats, obuf_words=256,
        stage_beats=16, issue_cycles=1, requantizer=requantizer,
    )  # fmt: skip


class VectorBench(wiring.Component):
    """The unit behind a memory of beats that the stimulus fills; what it reads and writes are outputs."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.unit = machine, VectorUnit(machine).create()
        address, columns = machine.ibuf_address_bits, machine.columns
        super().__init__(
            {
                "fill": In(1), "fill_address": In(address + 1), "fill_data": In(machine.beat_bits),
                "start": In(1), "tile": In(512), "header": In(header_layout()), "done": Out(1),
                "read": Out(2), "read_0": Out(address + 1), "read_1": Out(address + 1),
                "write": Out(columns), "bank": Out(1), "word": Out(machine.word_bits), "value": Out(signed(machine.psum_bits)),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.unit = unit = self.unit
        m.d.comb += [getattr(unit, name).eq(getattr(self, name)) for name in ("start", "tile")]
        m.d.comb += [unit.header.eq(self.header), self.done.eq(unit.done)]
        for k, shown in enumerate((self.read_0, self.read_1)):
            m.submodules[f"ibuf_{k}"] = ram = Ram(
                shape=self.machine.beat_bits, depth=2 << self.machine.ibuf_address_bits, init=[]
            )
            write, read = ram.write_port(), ram.read_port()
            place = unit.v_address[k] + (unit.v_bank << self.machine.ibuf_address_bits)
            m.d.comb += [
                write.en.eq(self.fill), write.addr.eq(self.fill_address), write.data.eq(self.fill_data),
                read.en.eq(unit.v_enable[k]), read.addr.eq(place), unit.v_beat[k].eq(read.data),
                shown.eq(place), self.read[k].eq(unit.v_enable[k]),
            ]  # fmt: skip
        for j in range(self.machine.columns):
            m.d.comb += self.write[j].eq(unit.o_write_enable[j])
        j = self.machine.columns - 1
        m.d.comb += [
            self.bank.eq(unit.o_write_bank[j]),
            self.word.eq(unit.o_write_address[j]),
            self.value.eq(unit.o_write_data[j]),
        ]
        return m


@dataclass(frozen=True, eq=False)
class VectorTile:
    """One EXEC: its descriptor, what its bank holds, what it has to write, and how long it is busy."""

    tile: int
    header: dict[str, int]
    beats: list[int]
    wanted: list[int]
    cycles: int
    label: str


def draw_pooling(rng: np.random.Generator) -> Layer | None:
    """Return a pooling: window 1-7, stride 1-3, dilation 1-2, padding below the reach of the window; or a global one."""
    op = str(rng.choice(["maxpool", "avgpool"]))
    n, g = int(rng.integers(1, 4)), int(rng.integers(1, 7))
    size = tuple(int(v) for v in rng.integers(1, 13, 2))
    if rng.random() < 0.2:
        return conv(op=op, size=size, window=size, N=n, G=g)
    window = tuple(int(v) for v in rng.integers(1, 8 if rng.random() < 0.3 else 4, 2))
    padding = tuple(int(rng.integers(0, window[axis % 2])) for axis in range(4))
    stride = tuple(int(v) for v in rng.integers(1, 4, 2))
    dilation = tuple(int(v) for v in rng.choice([1, 1, 2], 2))
    return conv(op=op, size=size, window=window, stride=stride, padding=padding, dilation=dilation, N=n, G=g)


def draw_addition(rng: np.random.Generator) -> tuple[Layer, tuple[tuple[int, int, int, int], ...]]:
    """Return an addition, and the shapes of its operands: one may have one image, channel, row or column for all."""
    n, g, p, q = (int(v) for v in rng.integers(1, (3, 9, 11, 11)))
    if rng.random() < 0.15:
        p = q = 1
    layer = Layer(name="add", op="add", inputs=("a", "b"), N=n, G=g, P=p, Q=q, H=p, W=q)
    shapes = [[n, g, p, q], [n, g, p, q]]
    if rng.random() < 0.4:
        broadcast = rng.random(4) < 0.5
        shapes[int(rng.integers(2))] = [
            1 if one else extent for one, extent in zip(broadcast, (n, g, p, q), strict=True)
        ]
    return layer, (tuple(shapes[0]), tuple(shapes[1]))


def draw_tiles(rng: np.random.Generator, machine: Machine, many: int = 2) -> list[VectorTile]:
    """Return tiles of one random layer, results as the simulator's engine gives them."""
    while True:
        if rng.random() < 0.4:
            layer, shapes = draw_addition(rng)
        else:
            pooled = draw_pooling(rng)
            if pooled is None:
                continue
            layer, shapes = pooled, (pooled.in_shape,)
        tile = [int(rng.integers(1, getattr(layer, dim) + 1)) for dim in "NGKCPQ"]
        if rng.random() < 0.4:
            tile = [getattr(layer, dim) for dim in "NGKCPQ"]
        datapath, params, tensors = draw_operands(rng, machine, layer, shapes)
        boxes = list_boxes(layer, tuple(tile))
        picks = sorted(rng.choice(len(boxes), min(many, len(boxes)), replace=False).tolist())
        made = [make_tile(machine, datapath, params, tensors, boxes, i, turn % 2) for turn, i in enumerate(picks)]
        if all(entry is not None for entry in made):
            return [entry for entry in made if entry is not None]


def draw_operands(
    rng: np.random.Generator, machine: Machine, layer: Layer, shapes: tuple[tuple[int, int, int, int], ...]
) -> tuple[VectorDatapath, LayerParameters, list[np.ndarray]]:
    """Return a layer's datapath, its parameters and its operands."""
    bits = machine.a_bits
    load = Workload(
        layer=layer, fmt=LayerFormat(w_bits=8, a_bits=bits), out_bits=bits, operand_bits=(bits,) * len(shapes),
        operand_shapes=shapes,
    )  # fmt: skip
    signs = tuple(bool(rng.random() < 0.5) for _ in shapes)
    lows = [-(1 << bits - 1) if sign else 0 for sign in signs]
    highs = [low + (1 << bits) - 1 for low in lows]
    zeros = tuple(int(rng.choice([0, low, high])) for low, high in zip(lows, highs, strict=True))
    factors = rng.integers(1, 1 << 31, 2) * rng.choice([-1, 1], 2) if layer.op == "add" else np.zeros(0, np.int64)
    if rng.random() < 0.3:
        factors = factors * 0 + (1 << 30)
    factor_shift = int(rng.choice([0, 1, 29, 30, 31, 34, 62, int(rng.integers(63))]))
    if machine.requantizer == "shift" and factors.size:
        factors = np.sign(factors) << rng.integers(0, 1 << FACTOR_BITS, 2) + min(int(rng.integers(16)), factor_shift)
    one = np.ones((1, 1, 1), np.int64)
    params = LayerParameters(
        input_signed=signs, input_zero=zeros, narrow=None, weight_signed=True, weight_zero=np.zeros(0, np.int64),
        factors=factors, factor_shift=factor_shift, lookup=None,
        bias=np.zeros(layer.G, np.int64), requant=Requantizer(multiplier=one, shift=one * 0, zero_point=0, low=-128, high=127),
        clamp=(-128, 127), table=None, out_signed=True,
    )  # fmt: skip
    tensors = [draw_values(rng, low, high, shape) for low, high, shape in zip(lows, highs, shapes, strict=True)]
    return VectorDatapath(load, 1), params, tensors


def make_tile(
    machine: Machine, datapath: VectorDatapath, params: LayerParameters, tensors: list[np.ndarray], boxes: Boxes, i: int,
    bank: int,
) -> VectorTile | None:  # fmt: skip
    """Return one tile, or None where it does not fit the buffers."""
    lo, hi, load = boxes.lo[i], boxes.hi[i], datapath.workload
    streams = []
    for shape, bits, tensor in zip(load.operand_shapes, load.operand_bits, tensors, strict=True):
        area = find_input_box(load.layer, shape, lo, hi)
        slab = cut_slab(shape, bits, machine.beat_bits, area)
        stream = np.ones(slab.stream_bits, np.uint8)
        write_slab(slab, tensor[tuple(slice(*span) for span in area)], stream)
        streams.append(stream)
    ibuf = np.concatenate(streams)
    size = hi - lo
    if ibuf.size > machine.ibuf_beats * machine.beat_bits or size.prod() > machine.obuf_words * machine.columns:
        return None
    engine = Engine(datapath=datapath, parameters=params, boxes=boxes, align=machine.beat_bits)
    wanted = engine.compute(i, np.zeros(0, np.uint8), ibuf)
    if wanted.min() == LOWEST:  # a window of padding alone
        return None
    assert wanted.shape == tuple(size[[N, G, P, Q]])
    arch = SimpleNamespace(memory=Memory(bits_per_cycle=machine.beat_bits, align_bits=machine.beat_bits))
    packed = reduce_to_shifts(load.layer.name, params) if machine.requantizer == "shift" else params
    return VectorTile(
        describe_vector(datapath, arch, (lo, hi), (0, bank, bank), params),  # type: ignore[arg-type]
        list_vector_header(datapath, packed), to_beats(ibuf, machine.beat_bits), [int(v) for v in wanted.ravel()],
        int(datapath.exec_times(Boxes(lo[None], hi[None])).busy[0]), f"{load.layer} box {lo} {hi} {load.operand_shapes} {params}",
    )  # fmt: skip
