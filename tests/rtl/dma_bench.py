"""Bench of the data movers: both DMAs and three scratchpads in Amaranth's simulator, a memory model, all else in Python."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from accel_rtl.blocks.read_dma import ReadDma
from accel_rtl.blocks.run_walker import RunWalker
from accel_rtl.blocks.scratchpad import Scratchpad
from accel_rtl.blocks.write_dma import WriteDma
from cosim.memory_model import AxiMemory, Master, Request, WriteBeat
from hwsim.core.mapping import list_boxes
from hwsim.core.program import (
    EXECUTE,
    INITIAL_TOKENS,
    LOAD_I,
    LOAD_P,
    LOAD_W,
    QUEUES,
    SEMAPHORES,
    SPILL,
    STORE_O,
    Program,
)
from hwsim.engine.execute import execute_program
from hwsim.engine.execute_tile import cut_output
from hwsim.engine.image import build_image, list_run_bits, write_slab
from tests.execute_cases import lower_case, stored_weight
from tests.naive_shell import ORDER, Machine, Unit, end_one, start_one, take_requests

BUFFERS = {LOAD_W: "wbuf", LOAD_I: "ibuf", LOAD_P: "obuf"}


class Mover(wiring.Component):
    """Both DMAs; what is read goes to the buffer that ``buffer`` names, 0 to 2 as the opcodes of loads."""

    def __init__(self, beat_bits: int, words: int, word_beats: int = 1, bursts: int = 4) -> None:
        walker = RunWalker(beat_bits=beat_bits, address_bits=24)
        pad = Scratchpad(beat_bits=beat_bits, words=words, word_beats=word_beats, checked=True)
        self.read = ReadDma(walker=walker, offset_bits=pad.write_bits).create()
        self.write = WriteDma(walker=walker, bursts=bursts).create()
        self.pads = {name: pad.create() for name in BUFFERS.values()}
        self.pad = pad
        super().__init__({"buffer": In(2), "bank": In(1), "idle": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.read, m.submodules.write = self.read, self.write
        for i, (name, pad) in enumerate(self.pads.items()):
            m.submodules[name] = pad
            m.d.comb += [
                pad.write_valid.eq(self.read.write_valid & (self.buffer == i)),
                pad.write_bank.eq(self.bank),
                pad.write_offset.eq(self.read.write_offset),
                pad.write_data.eq(self.read.write_data),
            ]
        return m


@dataclass
class Job:
    """A Program's transfers with everything that they must move.

    ``loads`` and ``stores`` give the beats of instructions: data alone, and (data, strobe).
    """

    table: np.ndarray
    image: bytearray
    wanted: bytes
    loads: dict[int, list[int]]
    stores: dict[int, list[tuple[int, int]]]
    issue: int = 2


@dataclass
class Outcome:
    """When each instruction ran, what was wrong, memory behind it."""

    ready: dict[int, int] = field(default_factory=dict)
    start: dict[int, int] = field(default_factory=dict)
    end: dict[int, int] = field(default_factory=dict)
    image: bytearray = field(default_factory=bytearray)


def cut_beats(bits: np.ndarray, beat_bits: int) -> list[int]:
    """Return bits as integers of a beat, least significant first."""
    size = beat_bits // 8
    whole = np.packbits(bits, bitorder="little").tobytes()
    return [int.from_bytes(whole[at : at + size], "little") for at in range(0, len(whole), size)]


def cut_stores(bits: np.ndarray, mask: np.ndarray, beat_bits: int) -> list[tuple[int, int]]:
    """Return bits and which of them are written as (data, strobe) beats; strobes are of bytes."""
    written = mask.reshape(-1, 8).max(axis=1)
    strobes = [sum(int(bit) << i for i, bit in enumerate(row)) for row in written.reshape(-1, beat_bits // 8)]
    return list(zip(cut_beats(bits * np.repeat(written, 8), beat_bits), strobes, strict=True))


def make_job(case, datapath, beat_bits: int, fill: int = 0) -> Job:
    """Return the transfers of a case: the golden model's memory before and behind every instruction gives their bits."""
    ready, table, parameters = lower_case(case, datapath)
    operands = [case.inputs[name] for name in case.layer.inputs]
    image = build_image(datapath, case.mapping, ready, table, stored_weight(case), operands, fill)
    image = np.concatenate([image, np.zeros(-image.size % (beat_bits // 8), np.uint8)])
    boxes = list_boxes(datapath.layer, case.mapping.tile)
    loads, stores, now, tile = {}, {}, image, [-1, -1]
    for i, record in enumerate(table):
        op = int(record["op"])
        if op == EXECUTE:
            tile[int(record["bank"]) >> 2 & 1] = int(record["tile"])
        elif op in BUFFERS and record["bits"]:
            loads[i] = cut_beats(np.unpackbits(now, bitorder="little")[list_run_bits(record)], beat_bits)
        elif op not in BUFFERS:
            prefix = Program(instructions=table[: i + 1].tobytes())
            now = execute_program(prefix, datapath, case.arch, case.mapping, image, parameters)
            where = list_run_bits(record)
            mask = np.ones(where.size, np.uint8)
            if op == STORE_O:
                at = tile[int(record["bank"])]
                slab = cut_output(datapath, boxes.lo[at], boxes.hi[at], case.arch.memory.alignment_bits)
                mask[:] = 0
                elements = slab.images * slab.planes * slab.rows * slab.columns
                write_slab(slab, np.full(elements, -1), mask)
            stores[i] = cut_stores(np.unpackbits(now, bitorder="little")[where], mask, beat_bits)
    return Job(table, bytearray(image.tobytes()), now.tobytes(), loads, stores, case.arch.shell.issue_cycles)


def control(table, issue: int) -> Machine:
    """Return the units of the naive shell: they take and give tokens; the bench says when transfers end."""
    units = {name: Unit(deque(i for i, r in enumerate(table) if QUEUES[r["queue"]] == name)) for name in ORDER}
    tokens = dict(zip(SEMAPHORES, INITIAL_TOKENS, strict=True))
    return Machine(table, _Flat(), issue, units, tokens, (deque(), deque(), deque()))


@dataclass(frozen=True)
class _Flat:
    channels: str = "shared"
    latency_cycles: int = 0
    bits_per_cycle: int = 1


class Bench:
    """One simulator for many jobs of one width."""

    def __init__(self, beat_bits: int, words: int = 1024, word_beats: int = 1, bursts: int = 4) -> None:
        self.beat_bits = beat_bits
        self.dut = Mover(beat_bits, words, word_beats, bursts)
        self.walker = RunWalker(beat_bits=beat_bits, address_bits=24)
        self.used = False
        self.places: dict[int, int] = {}
        self.sim = Simulator(self.dut)
        self.sim.add_clock(1e-8)
        self.sim.add_testbench(self._run)

    def run(self, job: Job, make_memory, limit: int = 20_000, gaps=None) -> Outcome:
        """Run a job; ``make_memory`` makes the memory of an image; ``gaps()`` says when the stream of a store holds back."""
        self.job, self.make_memory, self.limit, self.gaps = job, make_memory, limit, gaps
        self.outcome = Outcome()
        if self.used:
            self.sim.reset()
        self.used = True
        self.sim.run()
        return self.outcome

    async def _run(self, ctx) -> None:
        job, dut, table = self.job, self.dut, self.job.table
        read, write = dut.read, dut.write
        memory: AxiMemory = self.make_memory(bytearray(job.image))
        units = control(table, job.issue)
        beats: list[tuple[int, int]] = []  # of the store under way: data, strobe; they stand there as its DMA starts
        place = 0
        offered = False  # an item once offered stays
        for t in range(self.limit):
            while end_one(units, t) or start_one(units, t):
                pass
            self._check_loads(ctx, units, t)
            if len(units.end) == len(table):
                break
            ctx.set(read.start, 0)
            ctx.set(write.start, 0)
            for transfer in take_requests(units, t):
                i = transfer.index
                fields = self.walker.encode(table[i])
                record = table[i]
                if record["queue"] == 0:
                    ctx.set(read.start, 1)
                    ctx.set(read.transfer, fields)
                    ctx.set(dut.buffer, int(record["op"]))
                    ctx.set(dut.bank, int(record["bank"]))
                    appends = record["op"] == LOAD_I and not record["wait"]
                    place = place if appends else 0
                    ctx.set(read.offset, place)
                    self.places[i] = place
                    if record["op"] == LOAD_I:
                        place += fields["beats"]
                else:
                    ctx.set(write.start, 1)
                    ctx.set(write.transfer, fields)
                    ctx.set(write.posted, int(record["op"]) != SPILL)
                    beats = list(job.stores[i])
            held = bool(beats) and not (self.gaps and self.gaps() and not offered)
            offered = held
            ctx.set(write.beats.valid, held)
            if held:
                ctx.set(write.beats.payload, {"data": beats[0][0], "strobe": beats[0][1]})
            drive(ctx, read.axi, write.axi, memory)
            if held and ctx.get(write.beats.ready):
                beats.pop(0)
                offered = False
            for name, done in (("load", read.done), ("store", write.done)):
                if ctx.get(done):
                    assert units.units[name].now is not None, f"cycle {t}: done of {name} without a transfer"
                    units.units[name].ends = t + 1
            memory.step(sample(ctx, read.axi, write.axi))
            await ctx.tick()
        else:
            raise AssertionError(f"nothing moves: {units.units}")
        assert memory.idle
        assert not beats
        self.outcome = Outcome(units.ready, units.start, units.end, memory.image)

    def _check_loads(self, ctx, units: Machine, t: int) -> None:
        for i, end in units.end.items():
            if end != t or i not in self.job.loads:
                continue
            record, pad = self.job.table[i], self.dut.pad
            lanes = self.dut.pads[BUFFERS[int(record["op"])]].lanes
            first = self.places[i] + (int(record["bank"]) << pad.write_bits)
            for j, wanted in enumerate(self.job.loads[i]):
                word, lane = divmod(first + j, pad.word_beats)
                assert ctx.get(lanes[lane].data[word]) == wanted, f"instruction {i}, beat {j}"


def drive(ctx, ar, aw, memory: AxiMemory) -> None:
    """Drive what the memory drives in this cycle."""
    now = memory.drives
    ctx.set(ar.arready, now.arready)
    ctx.set(ar.rvalid, now.r is not None)
    if now.r:
        ctx.set(ar.rdata, now.r.data)
        ctx.set(ar.rlast, now.r.last)
    ctx.set(aw.awready, now.awready)
    ctx.set(aw.wready, now.wready)
    ctx.set(aw.bvalid, now.b)


def sample(ctx, ar, aw) -> Master:
    """Return what the master drives in this cycle."""

    def request(axi, name):
        if not ctx.get(getattr(axi, f"{name}valid")):
            return None
        assert ctx.get(getattr(axi, f"{name}burst")) == 1
        address, beats, user, cache = (ctx.get(getattr(axi, name + part)) for part in ("addr", "len", "user", "cache"))
        assert cache >> 1 == 1
        return Request(address, beats + 1, user, bool(cache & 1))

    w = None
    if ctx.get(aw.wvalid):
        w = WriteBeat(ctx.get(aw.wdata), ctx.get(aw.wstrb), bool(ctx.get(aw.wlast)))
    return Master(request(ar, "ar"), bool(ctx.get(ar.rready)), request(aw, "aw"), w, bool(ctx.get(aw.bready)))
