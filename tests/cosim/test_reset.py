"""Reset: nothing that it leaves unset shows, on a simulator of four states and on one that begins with random values.

Initial values are taken out of the design before: registers are known by reset alone, memories and registers without a reset by
what was written into them.
"""

from __future__ import annotations

import contextlib
import pickle
import shutil
from dataclasses import replace
from functools import partial

import pytest

from tests.extras import require

require("amaranth", "pyosys", "cocotb", "g++")

from cocotb_tools.runner import get_runner

from accel_rtl.emit import VERILOG_RECIPE, run_yosys
from cosim.bench import build
from cosim.bench.launch import REQUEST_VARIABLE, RESULT
from cosim.compare import compare_run
from cosim.emitted import create_top, emit_accelerator, emit_accelerator_verilog
from cosim.random_layers import draw_job
from tests.cosim.accelerators import make_accelerator

pytestmark = pytest.mark.slow

STRIP = ("proc", "setattr -unset init w:*", "delete t:$meminit t:$meminit_v2")
SETTINGS = {"systolic": ("rows=1", "cols=2"), "smartdeal": ("slices=2", "lines=1", "macs=1")}
LEAST_CYCLES, MOST_CYCLES = 150, 1400
RANDOM_SEEDS = (1, 2)


def draw_layers(arch):
    """Return three layers: two convolutions, one for the vector unit."""
    wanted = ["conv", "conv", "vector"]
    found = []
    for number in range(200):
        drawn = draw_job(arch, 31, number)
        operator = drawn.text.split()[0]
        kind = "vector" if operator in ("add", "maxpool", "avgpool") else operator
        if kind in wanted and LEAST_CYCLES <= drawn.job.run.cycles <= MOST_CYCLES:
            wanted.remove(kind)
            found.append(drawn.job)
    assert not wanted
    return found


def write_bare(arch, folder):
    """Write an accelerator as Verilog without initial values."""
    (folder / "top.il").write_text(emit_accelerator(arch).text)
    commands = [
        "read_rtlil top.il",
        "hierarchy -check -top top",
        *STRIP,
        *VERILOG_RECIPE,
        "write_verilog -noattr top.v",
    ]
    run_yosys(commands, folder)
    text = (folder / "top.v").read_text()
    assert "initial" not in text
    return text


def run_reset(arch, simulate, folder, unknown="error"):
    """Run `reset_bench` on a built simulation; return what it replied, all outcomes compared."""
    top, jobs = create_top(arch), draw_layers(arch)
    ports = emit_accelerator(arch).ports
    names = [[port.name for port in ports if port.direction == way] for way in ("in", "out")]
    path = folder / "request.pickle"
    path.write_bytes(pickle.dumps((arch, top.register_map, jobs, *names)))
    with contextlib.suppress(SystemExit):
        simulate(
            test_module="tests.cosim.reset_bench", hdl_toplevel="top", hdl_toplevel_lang="verilog", test_dir=folder,
            log_file=folder / "log.txt",
            extra_env={REQUEST_VARIABLE: str(path), "COCOTB_ANSI_OUTPUT": "0", "COCOTB_RESOLVE_X": unknown},
        )  # fmt: skip
    answer = path.with_name(RESULT)
    assert answer.exists(), (folder / "log.txt").read_text()[-3000:]
    reply = pickle.loads(answer.read_bytes())
    assert reply["cut while running"] == len(jobs) == len(reply["outcomes"])
    for job, outcome in zip(jobs, reply["outcomes"], strict=True):
        assert [one.text for one in compare_run(job, outcome)] == []
    return reply


@pytest.fixture(params=SETTINGS)
def arch(request):
    """The smallest accelerator of an architecture."""
    return make_accelerator(request.param, SETTINGS[request.param])


def test_no_output_is_unknown_after_reset_on_icarus(arch, tmp_path):
    """Of four states: an output that depends on what no reset sets shows as X.

    ``awcache`` says whether the store at the head of the queue is a spill: it is unknown, beside a low ``awvalid``, until the first
    one comes.
    """
    if not shutil.which("iverilog"):
        pytest.skip("iverilog is not installed (optional): no X pass")
    write_bare(arch, tmp_path)
    runner = get_runner("icarus")
    runner.build(sources=[tmp_path / "top.v"], hdl_toplevel="top", build_dir=tmp_path, timescale=("1ns", "1ps"))
    for unknown in ("zeros", "ones"):  # what the memory takes for bytes that nothing wrote
        place = tmp_path / unknown
        place.mkdir()
        reply = run_reset(arch, partial(runner.test, build_dir=tmp_path), place, unknown)
        assert reply["after reset"] == ["m_axi_mem_awcache"]
        assert reply["unknown"] == {}


def test_no_bit_depends_on_random_initial_values(arch, tmp_path, monkeypatch):
    """Of two states: registers and memories begin with random values, other ones with each seed."""
    require("verilator")
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "--x-initial", "unique", "--x-assign", "unique"))
    bare = replace(emit_accelerator_verilog(arch), text=write_bare(arch, tmp_path))
    folder = build.build_simulation(bare)
    for seed in RANDOM_SEEDS:
        place = tmp_path / str(seed)
        place.mkdir()
        plusargs = ["+verilator+rand+reset+2", f"+verilator+seed+{seed}"]
        run_reset(arch, partial(get_runner("verilator").test, build_dir=folder, plusargs=plusargs), place)
