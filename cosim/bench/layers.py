"""The cocotb test: runs the plan of the request that the environment names, writes results beside it."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import cocotb

from cosim.bench.accelerator import Bench
from cosim.bench.launch import REQUEST_VARIABLE, RESULT, Reply, Request
from hwsim.core.errors import HwsimError


@cocotb.test()
async def run_plan(dut: Any) -> None:
    """Run every job of the plan; what it found, or why it stopped, is the reply."""
    path = Path(os.environ[REQUEST_VARIABLE])
    request: Request = pickle.loads(path.read_bytes())
    bench = Bench(dut, request.arch, request.registers)
    await bench.start()
    reply = Reply()
    outcome: Any = None
    plan = request.source.plan()
    try:
        while True:
            ask = next(plan) if outcome is None else plan.send(outcome)
            reply.last = ask
            outcome = await bench.run(ask)
    except StopIteration as end:
        reply.results = end.value
    except HwsimError as error:
        reply.error = str(error)
    path.with_name(RESULT).write_bytes(pickle.dumps(reply))
