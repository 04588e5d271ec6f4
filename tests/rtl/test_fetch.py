"""The fetch unit: every word once and in its place, bursts that obey AXI, a word a cycle, and none beyond the program."""

from __future__ import annotations

import random

import pytest

from tests.extras import require

require("amaranth")

from amaranth.sim import Simulator

from accel_rtl.instruction_word import WORD_BITS, WORD_BYTES
from accel_rtl.program_image import HEADER_FIELDS
from accel_rtl.shell.fetch import Fetch
from cosim.memory_model import AxiMemory, FlatTiming, Master, Request, Stress
from hwsim.core.errors import SpecError


class Bench:
    """Reads program images from a memory; ``takes()`` says when the stream's reader is ready."""

    def __init__(self, spec: Fetch) -> None:
        self.spec, self.dut = spec, spec.create()
        self.sim = Simulator(self.dut)
        self.sim.add_clock(1e-8)
        self.sim.add_testbench(self._run)
        self.used = False

    def run(self, image, base, counts, memory, takes=lambda: True, limit=20_000):
        """Return (parameter writes, program words by cycle, bursts, header)."""
        self.job = image, base, counts, memory, takes, limit
        self.writes, self.words, self.bursts, self.faults = [], [], [], 0
        if self.used:
            self.sim.reset()
        self.used = True
        self.sim.run()

    async def _run(self, ctx) -> None:
        dut, axi = self.dut, self.dut.axi
        _, base, (parameters, words), memory, takes, limit = self.job
        ctx.set(dut.address, base)
        ctx.set(dut.parameter_words, parameters)
        ctx.set(dut.program_words, words)
        ctx.set(dut.start, 1)
        for t in range(limit):
            if len(self.words) == words and len(self.writes) == parameters - 1 and t > 10:
                break
            now = memory.drives
            ctx.set(axi.arready, now.arready)
            ctx.set(axi.rvalid, now.r is not None)
            if now.r:
                ctx.set(axi.rdata, now.r.data)
            ctx.set(dut.o.ready, int(takes()))
            assert ctx.get(axi.rready)
            ar = None
            if ctx.get(axi.arvalid):
                assert (ctx.get(axi.arburst), ctx.get(axi.arsize)) == (1, 6)
                ar = Request(ctx.get(axi.araddr), ctx.get(axi.arlen) + 1, 0)
                if now.arready:
                    self.bursts.append((ar.address, ar.beats))
            if ctx.get(dut.write_valid):
                self.writes.append((ctx.get(dut.write_address), ctx.get(dut.write_data)))
            if ctx.get(dut.o.valid) and ctx.get(dut.o.ready):
                self.words.append((t, ctx.get(dut.o.payload.as_value())))
            # as the transfer announces no length, every burst is one of its own
            memory.step(Master(ar=ar._replace(user=ar.beats) if ar else None))
            await ctx.tick()
            ctx.set(dut.start, 0)
        else:
            raise AssertionError(f"{len(self.words)} of {words} words, {len(self.writes)} writes")
        await ctx.tick().repeat(4)
        assert memory.idle
        assert ctx.get(dut.prefetched)
        self.header = {name: ctx.get(dut.header[name]) for name, _, _ in HEADER_FIELDS}


@pytest.fixture(scope="module")
def bench():
    """One simulator for all."""
    return Bench(Fetch())


def make_image(seed: int, words: int) -> bytearray:
    """Return random words."""
    return bytearray(random.Random(seed).randbytes(words * WORD_BYTES))


def read_word(image: bytearray, base: int, k: int) -> int:
    """Return a word of a program."""
    at = base + k * WORD_BYTES
    return int.from_bytes(image[at : at + WORD_BYTES], "little")


def check(bench, image, base, parameters, words) -> None:
    """Compare all that was read with the image."""
    assert bench.writes == [(k, read_word(image, base, 1 + k)) for k in range(parameters - 1)]
    assert [word for _, word in bench.words] == [read_word(image, base, parameters + k) for k in range(words)]
    assert bench.bursts == list(bench.spec.compute(base, parameters + words))
    header, at = read_word(image, base, 0), 0
    for name, bits, is_signed in HEADER_FIELDS:
        value = header >> at & ((1 << bits) - 1)
        assert bench.header[name] == value - (1 << bits if is_signed and value >> bits - 1 else 0), name
        at += bits
    assert at <= WORD_BITS


@pytest.mark.parametrize(
    ("base", "parameters", "words"), [(0, 1, 1), (64 * 13, 5, 200), (4096 - 64, 9, 90), (0, 300, 3), (128, 1, 0)]
)
def test_every_word_comes_once_and_none_beyond(bench, base, parameters, words):
    """The memory ends where the program ends: what is read beyond is a ProtocolError."""
    image = make_image(words, base // WORD_BYTES + parameters + words)
    bench.run(image, base, (parameters, words), AxiMemory(bytearray(image), WORD_BITS, FlatTiming(5)))
    check(bench, image, base, parameters, words)


@pytest.mark.parametrize("seed", range(4))
def test_a_stream_and_a_memory_that_hold_back_lose_nothing(bench, seed):
    rng = random.Random(seed)
    base, parameters, words = 64 * rng.randrange(64), rng.randint(1, 40), rng.randint(1, 300)
    share = rng.choice([0.05, 0.3, 0.9])
    image = make_image(seed, base // WORD_BYTES + parameters + words)
    memory = AxiMemory(bytearray(image), WORD_BITS, FlatTiming(4), Stress(seed=seed))
    bench.run(image, base, (parameters, words), memory, lambda: rng.random() < share)
    check(bench, image, base, parameters, words)


@pytest.mark.parametrize("latency", [4, 20, 40])
def test_a_word_a_cycle_as_long_as_the_memory_gives_one(bench, latency):
    image = make_image(3, 401)
    bench.run(image, 0, (1, 400), _Pipelined(bytearray(image), latency))
    cycles = [t for t, _ in bench.words]
    assert cycles == list(range(cycles[0], cycles[0] + 400))


class _Pipelined(AxiMemory):
    """A memory that answers each address after a latency, however many are under way; a word a cycle."""

    def __init__(self, image: bytearray, latency: int) -> None:
        super().__init__(image, WORD_BITS, _AfterLatency(latency))


class _AfterLatency(FlatTiming):
    def __init__(self, latency: int) -> None:
        super().__init__(latency)
        self.due: list[int] = []

    def request_read(self, cycle: int, request: Request) -> None:
        self.due += [cycle + self.latency_cycles - 3] * request.beats

    def gives_read(self, cycle: int) -> bool:
        given = bool(self.due) and cycle >= self.due[0]
        if given:
            self.due.pop(0)
        return given


def test_sizes_that_cannot_be_built_are_refused():
    with pytest.raises(SpecError, match=r"fetch\.burst_words: got 12, expected a power of two"):
        Fetch(burst_words=12)
    with pytest.raises(SpecError, match=r"fetch\.words: got 31, expected an integer from 32 to 1024"):
        Fetch(words=31)
