"""The cocotb test of `tests.cosim.test_reset`: outputs are known after reset, a reset amid a layer leaves nothing behind."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge

from cosim.bench.accelerator import Bench
from cosim.bench.launch import REQUEST_VARIABLE, RESULT
from cosim.plan import Ask

SHARES = (0.1, 0.5, 0.8)
"""Of a layer's cycles, behind which it is cut off by a reset."""


def list_unknown(dut, names) -> list[str]:
    """Return those of some ports that have a bit that is not 0 or 1."""
    return [name for name in names if not getattr(dut, name).value.is_resolvable]


async def watch(dut, outputs, found: dict[str, int]) -> None:
    """Count the cycles in which an output is unknown.

    What stands beside a valid that is low may be; so may bytes of memory that nothing wrote, in a spill or without a strobe: what
    of them matters is compared with the simulator.
    """
    channels = ("m_axi_mem_ar", "m_axi_mem_aw", "m_axi_mem_w", "m_axi_prog_ar", "s_axi_ctrl_r", "s_axi_ctrl_b")
    while True:
        await FallingEdge(dut.clk)
        for name in list_unknown(dut, [name for name in outputs if name != "m_axi_mem_wdata"]):
            channel = next((one for one in channels if name.startswith(one)), "")
            valid = f"{channel}valid"
            beside = channel and not name.endswith(("valid", "ready")) and valid in outputs
            if not beside or str(getattr(dut, valid).value) != "0":
                found[name] = found.get(name, 0) + 1


@cocotb.test()
async def run_plan(dut) -> None:
    path = Path(os.environ[REQUEST_VARIABLE])
    arch, registers, jobs, inputs, outputs = pickle.loads(path.read_bytes())
    for name in inputs:
        getattr(dut, name).value = 0
    bench = Bench(dut, arch, registers)
    await bench.start()
    await RisingEdge(dut.clk)
    await FallingEdge(dut.clk)
    reply = {"after reset": list_unknown(dut, outputs), "unknown": {}, "outcomes": []}
    cocotb.start_soon(watch(dut, outputs, reply["unknown"]))
    for job, share in zip(jobs, SHARES * len(jobs), strict=False):
        cut = cocotb.start_soon(bench.run(Ask(job=job)))
        while not int(dut.trace_running.value):
            await RisingEdge(dut.clk)
        await ClockCycles(dut.clk, max(1, int(share * job.run.cycles)))
        reply["cut while running"] = reply.get("cut while running", 0) + int(dut.trace_running.value)
        cut.cancel()
        reply["outcomes"].append(await bench.run(Ask(job=job, reset=True)))
    path.with_name(RESULT).write_bytes(pickle.dumps(reply))
