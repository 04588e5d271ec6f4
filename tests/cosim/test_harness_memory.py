"""The harness's memory in C++ against the memory model in Python, in every cycle."""

from __future__ import annotations

import ctypes
import random
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_uint64, c_void_p

import numpy as np
import pytest

from tests.extras import require

require("amaranth", "pyosys", "g++")

from accel_rtl.blocks.read_dma import REQUEST_CYCLES, RETURN_CYCLES
from accel_rtl.blocks.write_dma import ANSWER_CYCLES, LEAST_STORE_CYCLES
from cosim.harness.library import build_memory
from cosim.harness.model import _Master, _Slave
from cosim.memory_model import AxiMemory, FlatTiming, Master, Request, WriteBeat

BYTES = 1 << 15


@pytest.fixture(scope="module")
def library():
    found = ctypes.CDLL(str(build_memory()))
    found.memory_create.restype = c_void_p
    found.memory_create.argtypes = [c_void_p, c_uint64, c_uint64, POINTER(c_int64), c_int64]
    found.memory_step.argtypes = [c_void_p, POINTER(_Master), POINTER(_Slave)]
    found.memory_idle.argtypes = found.memory_error.argtypes = found.memory_destroy.argtypes = [c_void_p]
    found.memory_error.restype, found.memory_idle.restype = c_char_p, c_int
    return found


class Both:
    """Both memories, stepped together."""

    def __init__(self, library, size: int, latency: int, stress: int = -1) -> None:
        rng = np.random.default_rng(latency)
        self.library, self.size = library, size
        self.image = rng.integers(0, 256, BYTES, np.uint8)
        self.model = AxiMemory(bytearray(self.image.tobytes()), 8 * size, FlatTiming(latency))
        timing = (c_int64 * 5)(latency, LEAST_STORE_CYCLES, REQUEST_CYCLES, RETURN_CYCLES, ANSWER_CYCLES)
        self.handle = library.memory_create(self.image.ctypes.data, BYTES, size, timing, stress)
        self.slave = _Slave(arready=1, awready=1)

    def step(self, master: Master) -> None:
        record = _Master(rready=master.rready, bready=master.bready)
        for name in ("ar", "aw"):
            request = getattr(master, name)
            if request:
                setattr(record, f"{name}_valid", 1)
                setattr(record, name, (request.address, request.beats, request.user, request.posted))
        if master.w:
            record.w_valid, record.w_last = 1, master.w.last
            ctypes.memmove(record.w_data, master.w.data.to_bytes(self.size, "little"), self.size)
            ctypes.memmove(record.w_strobe, master.w.strobe.to_bytes(16, "little"), 16)
        self.library.memory_step(self.handle, byref(record), byref(self.slave))

    def seen(self):
        s = self.slave
        data = int.from_bytes(bytes(s.r_data[: self.size]), "little") if s.r_valid else None
        return bool(s.arready), data, bool(s.r_valid and s.r_last), bool(s.awready), bool(s.wready), bool(s.b_valid)

    def wanted(self):
        now = self.model.drives
        read = (now.r.data, now.r.last) if now.r else (None, False)
        return now.arready, *read, now.awready, now.wready, now.b

    def close(self) -> None:
        self.library.memory_destroy(self.handle)


def draw_transfer(rng: random.Random, size: int) -> list[Request]:
    """Return the bursts of a transfer."""
    bursts = []
    for _ in range(rng.choice((1, 1, 2, 5))):
        beats = rng.randint(1, 12)
        page = rng.randrange(BYTES // 4096)
        bursts.append((page * 4096 + rng.randrange(4096 // size - beats) * size, beats))
    total = sum(beats for _, beats in bursts)
    return [Request(at, beats, 0 if i else total, rng.random() < 0.5) for i, (at, beats) in enumerate(bursts)]


@pytest.mark.parametrize(("size", "latency"), [(1, 4), (8, 32), (16, 11), (128, 5)])
def test_flat_memory_answers_as_the_model_in_every_cycle(library, size, latency):
    rng = random.Random(size + latency)
    both = Both(library, size, latency)
    ar, aw, w, master = [], [], [], Master()
    reads = writes = 0
    for _ in range(4000):
        assert both.seen() == both.wanted()
        drives = both.model.drives
        if master.ar and drives.arready:
            ar.pop(0)
        if master.aw and drives.awready:
            aw.pop(0)
        if master.w and drives.wready:
            w.pop(0)
        both.step(master)
        both.model.step(master)
        if not ar and rng.random() < 0.05:
            ar = draw_transfer(rng, size)
            reads += 1
        if not aw and not w and rng.random() < 0.05:
            aw = draw_transfer(rng, size)
            writes += 1
            for burst in aw:
                w += [
                    WriteBeat(rng.getrandbits(8 * size), rng.getrandbits(size), i == burst.beats - 1)
                    for i in range(burst.beats)
                ]
        master = Master(
            ar[0] if ar else None, rng.random() < 0.9, aw[0] if aw else None, w[0] if w else None, rng.random() < 0.9
        )
    assert reads > 30
    assert writes > 30
    assert both.image.tobytes() == bytes(both.model.image)
    assert both.library.memory_error(both.handle) == b""
    both.close()


@pytest.mark.parametrize(("request_", "text"), [
    (Request(8, 0, 1), b"too long or crosses"),
    (Request(4096 - 8, 2, 2), b"too long or crosses"),
    (Request(4, 1, 1), b"no multiple of a beat"),
    (Request(BYTES - 8, 1, 1), b""),
    (Request(BYTES, 1, 1), b"outside a memory of 32768 bytes"),
    (Request(8, 2, 1), b"beyond the beats announced"),
    (Request(8, 2, 0), b"0 beats are left"),
])  # fmt: skip
def test_broken_bursts_are_named(library, request_, text):
    for name in ("ar", "aw"):
        both = Both(library, 8, 8)
        both.step(Master(**{name: request_}))
        error = both.library.memory_error(both.handle)
        assert (text in error and name.encode() in error) if text else not error
        both.close()


def test_a_changed_offer_is_named(library):
    both = Both(library, 8, 8)
    beats = [WriteBeat(1, 255, True), WriteBeat(2, 255, True)]
    both.step(Master(w=beats[0]))
    both.step(Master(w=beats[1]))
    assert b"w changed before it was taken" in both.library.memory_error(both.handle)
    both.close()


@pytest.mark.parametrize("seed", range(6))
def test_random_waits_lose_nothing(library, seed):
    both = Both(library, 8, 4, stress=seed)
    rng = random.Random(seed)
    wanted, got, data, answers = [], [], [], 0
    ar = aw = None
    w: list[WriteBeat] = []
    for _ in range(6000):
        now = both.seen()
        if now[1] is not None:
            got.append(now[1])
        answers += now[5]
        both.step(Master(ar, True, aw, w[0] if w else None, True))
        if ar and now[0]:
            wanted += [
                int.from_bytes(both.image[ar.address + 8 * i :][:8].tobytes(), "little") for i in range(ar.beats)
            ]
            ar = None
        if w and now[4]:
            w.pop(0)
        if aw and now[3]:
            aw = None
        if ar is None and len(got) == len(wanted):
            ar = Request(8 * rng.randrange(100), 3, 3)
        if aw is None and not w and answers == len(data):
            data.append((4096 + 8 * len(data), rng.getrandbits(64)))
            aw, w = Request(data[-1][0], 1, 1), [WriteBeat(data[-1][1], 255, True)]
    assert both.library.memory_error(both.handle) == b""
    assert len(got) > 100
    assert got == wanted[: len(got)]
    for at, value in data[:-1]:
        assert both.image[at : at + 8].tobytes() == value.to_bytes(8, "little")
    both.close()
