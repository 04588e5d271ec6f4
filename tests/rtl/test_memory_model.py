"""The memory model by itself: what it refuses, when it answers, and that held-back channels keep what they show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.extras import require

require("amaranth")

from accel_rtl.blocks import read_dma, write_dma
from accel_rtl.blocks.axi import BEAT_BITS
from accel_rtl.blocks.run_walker import RunWalker
from cosim.memory_dram import DramTiming
from cosim.memory_model import AxiMemory, FlatTiming, Master, ProtocolError, Request, Stress, WriteBeat, create_memory
from hwsim.archs.systolic.spec import PRESETS
from hwsim.core.errors import SpecError
from hwsim.core.program import WRITE_LATENCY_CYCLES
from hwsim.core.shell import Memory
from hwsim.engine import run
from hwsim.engine.kernel_port import BLOCK_SHIFT
from hwsim.engine.run import clock_ratio


def test_engine_and_hardware_have_the_same_pipelines():
    assert read_dma.REQUEST_CYCLES + 1 == write_dma.DATA_CYCLES == run.REQUEST_CYCLES
    assert read_dma.RETURN_CYCLES + 1 == run.RETURN_CYCLES
    assert write_dma.LEAST_STORE_CYCLES == WRITE_LATENCY_CYCLES


@pytest.mark.parametrize("beat_bits", BEAT_BITS)
def test_engine_and_hardware_cut_bursts_at_the_same_places(beat_bits):
    arch = replace(PRESETS["small"], memory=Memory(kind="dram", part="hbm2", bits_per_cycle=beat_bits))
    assert 1 << run.describe_memory(arch)[BLOCK_SHIFT] == RunWalker(beat_bits=beat_bits).block_beats


def make_memory(stress: Stress | None = None, latency: int = 6) -> AxiMemory:
    return AxiMemory(bytearray(range(256)) * 64, 64, FlatTiming(latency, 5), stress)


def test_flat_read_answers_in_the_cycle_of_its_latency_and_a_beat_a_cycle():
    memory = make_memory()
    shown = []
    for cycle in range(14):
        shown.append(memory.drives.r)
        memory.step(Master(ar=Request(16, 3, 3) if cycle == 2 else None))
    # the address on the bus in cycle 2 means a start in cycle 0; the first beat counts in cycle 6, one behind R
    assert [i for i, beat in enumerate(shown) if beat] == [5, 6, 7]
    assert shown[5].data.to_bytes(8, "little") == bytes(range(16, 24))
    assert [beat.last for beat in shown[5:8]] == [False, False, True]
    assert memory.idle


def test_flat_read_waits_for_the_store_before_it():
    memory = make_memory()
    shown = []
    beats = [WriteBeat(i, 255, i == 9) for i in range(10)]
    for cycle in range(30):
        w = beats[0] if beats and cycle > 2 else None
        shown.append(memory.drives)
        aw = Request(0, 10, 10) if cycle == 2 else None
        ar = Request(800, 1, 1) if cycle == 3 else None
        if w and memory.drives.wready:
            beats.pop(0)
        memory.step(Master(ar=ar, aw=aw, w=w))
    assert [i for i, drives in enumerate(shown) if drives.b] == [13]  # slot 5 to 14, less one for the answer's register
    assert [i for i, drives in enumerate(shown) if drives.r] == [14]  # slot 15
    assert memory.image[:24] == bytes([0] * 8 + [1] + [0] * 7 + [2] + [0] * 7)


def test_strobes_write_their_bytes_alone():
    memory = make_memory()
    for cycle in range(12):
        w = WriteBeat(0x1122334455667788, 0b10000010, True) if cycle >= 3 and not memory.answers and cycle < 4 else None
        memory.step(Master(aw=Request(8, 1, 1) if cycle == 2 else None, w=w))
    assert memory.image[8:16] == bytes([8, 0x77, 10, 11, 12, 13, 14, 0x11])


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([Request(0, 257, 257)], "too long"),
        ([Request(4088, 2, 2)], "crosses 4096"),
        ([Request(4, 1, 1)], "no multiple of a beat"),
        ([Request(16384, 1, 1)], "outside a memory of 16384"),
        ([Request(0, 1, 0)], "0 beats are left"),
        ([Request(0, 1, 2), Request(8, 1, 1)], "1 beats are left"),
        ([Request(0, 2, 1)], "beyond the beats announced"),
    ],
)
@pytest.mark.parametrize("channel", ["ar", "aw"])
def test_broken_requests_are_named(channel, requests, message):
    memory = make_memory()
    for request in requests[:-1]:
        memory.step(Master(**{channel: request}))
    with pytest.raises(ProtocolError, match=message):
        memory.step(Master(**{channel: requests[-1]}))


def test_wrong_wlast_and_changed_payload_are_named():
    memory = make_memory()
    memory.step(Master(aw=Request(0, 2, 2)))
    while not memory.drives.wready:
        memory.step(Master(w=WriteBeat(1, 255, True)))
    with pytest.raises(ProtocolError, match="wlast is True on beat 1 of 2"):
        memory.step(Master(w=WriteBeat(1, 255, True)))
    memory = make_memory()
    memory.step(Master(w=WriteBeat(1, 255, True)))  # not taken: no address is known
    with pytest.raises(ProtocolError, match="w changed"):
        memory.step(Master())


def test_stressed_channels_keep_what_they_show_until_it_is_taken():
    held = 0
    for seed in range(20):
        memory = make_memory(Stress(seed=seed))
        before, taken, got = None, False, 0
        sent = False
        for cycle in range(400):
            ready = cycle % 3 == 0
            now = memory.drives
            if before is not None and not taken:
                assert now.r == before
                held += 1
            before, taken = now.r, ready
            got += now.r is not None and ready
            ar = None if sent else Request(0, 8, 8)
            sent = sent or now.arready
            memory.step(Master(ar=ar, rready=ready))
        assert got == 8
        assert memory.idle
    assert held > 50


def test_memory_is_that_of_the_accelerator():
    arch = PRESETS["small"]
    flat = create_memory(arch, bytearray(64))
    assert isinstance(flat.timing, FlatTiming)
    assert (flat.timing.latency_cycles, flat.size) == (arch.memory.latency_cycles, 8)
    dram = create_memory(replace(arch, memory=Memory(kind="dram", part="ddr4-2400", bits_per_cycle=128)), bytearray(64))
    assert isinstance(dram.timing, DramTiming)
    assert dram.timing.controller.ratio == clock_ratio(833, arch.clock_hz)
    with pytest.raises(SpecError, match="per-operand"):
        create_memory(replace(arch, memory=Memory(channels="per-operand")), bytearray(64))
