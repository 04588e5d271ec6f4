"""Control registers over AXI4-Lite against their model, and the map as data."""

from __future__ import annotations

import numpy as np
import pytest

from tests.extras import require

require("amaranth")

from amaranth.sim import Simulator

from accel_rtl.blocks.control_registers import (
    OKAY,
    SLVERR,
    VERSION,
    ControlRegisters,
    Register,
    RegisterField,
    RegisterMap,
    describe_accelerator_map,
)
from accel_rtl.blocks.counters import COUNTERS
from hwsim.core.errors import SpecError


def draw_accesses(rng, registers: RegisterMap, count: int):
    """Return reads and writes of registers and of places between and behind them."""
    top = 1 << registers.address_bits
    return [
        (
            str(rng.choice(["read", "write"])),
            int(rng.choice([r.offset for r in registers.registers])) if rng.random() < 0.8 else int(rng.integers(top)),
            int(rng.integers(1 << 32)),
            int(rng.choice([15, 15, int(rng.integers(16))])),
        )
        for _ in range(count)
    ]


def test_registers_over_axi_with_stalls():
    spec = ControlRegisters()
    registers = spec.create()
    axi = registers.s_axi
    rng = np.random.default_rng(3)
    given = {f.name: int(rng.integers(1 << f.width_bits)) for f in spec.map.list_fields() if f.access == "ro"}
    accesses = draw_accesses(rng, spec.map, 200)
    answers, starts = [], 0

    async def send(ctx, channel, **payload):
        for name, value in payload.items():
            ctx.set(getattr(axi, name), value)
        ctx.set(getattr(axi, f"{channel}valid"), 1)
        await ctx.tick().until(getattr(axi, f"{channel}ready"))
        ctx.set(getattr(axi, f"{channel}valid"), 0)

    async def receive(ctx, channel, *names):
        await ctx.tick().repeat(int(rng.integers(1, 4)))
        ctx.set(getattr(axi, f"{channel}ready"), 1)
        values = await ctx.tick().sample(*(getattr(axi, name) for name in names)).until(getattr(axi, f"{channel}valid"))
        ctx.set(getattr(axi, f"{channel}ready"), 0)
        return values

    async def drive(ctx):
        for name, value in given.items():
            ctx.set(getattr(registers, name), value)
        for kind, address, data, strobes in accesses:
            if kind == "read":
                await send(ctx, "ar", araddr=address)
                response, word = await receive(ctx, "r", "rresp", "rdata")
                answers.append((response, word))
                continue
            halves = [("aw", {"awaddr": address}), ("w", {"wdata": data, "wstrb": strobes})]
            for channel, payload in halves if rng.random() < 0.5 else halves[::-1]:
                await send(ctx, channel, **payload)
            response, *_ = await receive(ctx, "b", "bresp")
            answers.append((response, 0))

    async def count_starts(ctx):
        nonlocal starts
        async for _, _, start in ctx.tick().sample(registers.start):
            starts += start

    sim = Simulator(registers)
    sim.add_clock(1e-8)
    sim.add_testbench(drive)
    sim.add_process(count_starts)
    sim.run()
    assert answers == spec.compute(accesses, given)
    control = spec.map.find_offset("control")
    assert starts == sum(k == "write" and a // 4 == control // 4 and d & s & 1 for k, a, d, s in accesses)
    assert {response for response, _ in answers} == {OKAY, SLVERR}


def test_map_of_the_accelerator():
    accelerator = describe_accelerator_map()
    offsets = {register.name: register.offset for register in accelerator.registers}
    assert offsets["control"] == 0x08
    assert offsets["cycles_total_low"] == 0x20 + 8 * COUNTERS.index("total")
    header, table = accelerator.write_header(), accelerator.write_markdown()
    for register in accelerator.registers:
        assert f"#define HWSIM_{register.name.upper()}_OFFSET 0x{register.offset:02X}u\n" in header
        assert f"| 0x{register.offset:02x} | {register.name} |" in table
    assert "#define HWSIM_STATUS_DONE_MASK 0x00000002u\n#define HWSIM_STATUS_DONE_SHIFT 1\n" in header
    assert f"#define HWSIM_VERSION_VERSION_VALUE 0x{VERSION:X}u\n" in header
    assert "| 0x0c | status | 1 | done | ro | - | the last program is through |\n" in table
    assert len(table.splitlines()) == 2 + len(accelerator.list_fields())


def register(name, offset):
    return Register(name=name, offset=offset, fields=())


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: RegisterField(name="f", access="wo"), "f.access: got 'wo', expected one of rw, ro, pulse, constant"),
        (lambda: RegisterField(name="f", first_bit=30, width_bits=3), "f.width_bits: got 3, expected an integer from 1 to 2"),
        (lambda: Register(name="r", offset=2, fields=()), "r.offset: got 2, expected a multiple of 4"),
        (
            lambda: Register(name="r", offset=0, fields=(RegisterField(name="f"), RegisterField(name="g", width_bits=1))),
            "r.g: got 0, expected bits that no other field has",
        ),
        (
            lambda: RegisterMap(name="m", registers=(register("r", 4), register("s", 0))),
            "m.registers: got [4, 0], expected different offsets in rising order",
        ),
        (lambda: describe_accelerator_map().find_offset("x"), None),
    ],
)  # fmt: skip
def test_a_wrong_map_is_refused(build, text):
    with pytest.raises(SpecError) as error:
        build()
    assert text is None or str(error.value) == text
