# ruff: noqa: E501  (whole texts of errors)
"""Starting: what is imported, how errors look, which exit codes there are."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest

HEAVY = ("numba", "pandas", "matplotlib", "onnx", "llvmlite", "scipy")
ARCHS = "systolic"


@pytest.mark.parametrize("args", [["--help"], ["list"], ["run", "--help"], ["list", "archs", "--json"]], ids=" ".join)
def test_light_commands_import_nothing_heavy(python, args):
    found = python(
        "import sys\nfrom hwsim.cli import main\n"
        f"code = main({args!r})\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\nsys.exit(code)"
    )
    assert (found.returncode, found.stderr.strip()) == (0, "[]")


def test_help_does_not_even_import_numpy(python):
    found = python(
        "import sys\nfrom hwsim.cli import main\nmain(['--help'])\nprint('numpy' in sys.modules, file=sys.stderr)"
    )
    assert found.stderr.strip() == "False"


def test_help_takes_less_than_three_tenths_of_a_second(python):
    took = []
    for _ in range(3):
        begin = time.perf_counter()
        python("from hwsim.cli import main\nmain(['--help'])")
        took.append(time.perf_counter() - begin)
    bare = time.perf_counter()
    python("pass")
    assert min(took) - (time.perf_counter() - bare) < 0.3


def test_help_names_every_command(hwsim):
    found = hwsim("--help")
    assert found.code == 0
    assert {"run", "compare", "list", "show", "explain"} <= set(re.findall(r"^    (\w+)", found.out, re.M))


def test_version(hwsim):
    from importlib.metadata import version

    found = hwsim("--version")
    assert (found.code, found.out) == (0, f"hwsim {version('hwsim')}\n")


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["rnu"], "unknown command 'rnu': did you mean run?"),
        (["run"], "the following arguments are required: --net (see hwsim run --help)"),
        (["run", "--net", "resnet81", "--arch", "systolic:small"], "unknown net 'resnet81': did you mean resnet"),
        (["run", "--net", "resnet8", "--arch", "systlic"], "unknown architecture 'systlic': did you mean systolic?"),
        (["run", "--net", "resnet8", "--preset", "smal"], "unknown preset of systolic 'smal': did you mean small?"),
        (["run", "--net", "resnet8", "--energy-table", "horowits45"], "unknown energy table 'horowits45': did you mean horowitz45?"),
        (["show", "table", "eyeris65"], "unknown energy table 'eyeris65': did you mean eyeriss65?"),
        (["show", "net", "reznet18"], "unknown net 'reznet18': did you mean resnet"),
        (["explain", "conv1", "cycels", "--net", "resnet8"], "unknown metric 'cycels': did you mean cycles?"),
        (["explain", "cnv1", "cycles", "--net", "resnet18"], "unknown layer 'cnv1': did you mean conv1"),
        (["run", "--net", "resnet8", "--set", "row=4"], "field of systolic: got 'row', expected one of its fields (did you mean rows?)"),
        (["run", "--net", "resnet8", "--set", "rows"], "--set: got 'rows', expected name=value (for example --set rows=16)"),
        (["run", "--net", "resnet8", "--set", "rows=1", "--set", "rows=2"], "--set: got 'rows=2', expected rows once"),
        (["run", "--net", "resnet8", "--set", "rows=4.5"], "systolic.rows: got '4.5', expected an integer"),
        (["run", "--net", "resnet8", "--set", "rows=0"], "systolic.rows: got 0, expected an integer from 1 to 4096"),
        (["run", "--net", "resnet8", "--set", "dataflow=xs"], "systolic.dataflow: got 'xs', expected one of os, ws, is"),
        (["run", "--net", "resnet8", "--memory", "hbm"], "--memory: got 'hbm', expected one of flat, lpddr4-3200, ddr4-2400, hbm2 (did you mean hbm2?)"),
        (["run", "--net", "resnet8", "--policy", "w99a8"], "policy.w_bits: got 99, expected an integer from 1 to 16"),
        (["run", "--net", "resnet8", "--policy", "cnv1=w4a4"], "unknown layer in the policy 'cnv1': did you mean "),
        (["run", "--net", "resnet8", "--policy", "w16a16"], "--set w_width=16)"),
        (["run", "--net", "nowhere.onnx"], "nowhere.onnx: "),
        (["run", "--net", "resnet8", "--trace", "trace.txt"], "--trace: got 'trace.txt', expected a file name that ends in .json or .json.gz"),
        (["run", "--net", "resnet8", "--config", "no.toml"], "no.toml: No such file or directory"),
        (["run", "--net", "resnet8", "--batch", "0"], "argument --batch: '0' is not an integer from 1 to 4096 (see hwsim run --help)"),
        (["run", "--net", "resnet8", "--image", "nothing.npy"], "nothing.npy: No such file or directory"),
        (["compare", "--net", "resnet8", "--arch", "systolic"], "--arch: got 'systolic', expected two or more architectures joined by commas"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_user_errors_take_one_line_and_exit_2(hwsim, args, text):
    found = hwsim(*args)
    assert found.code == 2
    assert found.out == ""
    assert found.err.startswith("hwsim: error: ")
    assert text in found.err
    assert found.err.count("\n") == 1


def test_a_buffer_too_small_names_the_buffer_and_the_lever(hwsim):
    found = hwsim("run", "--net", "resnet8", "--arch", "systolic:small", "--set", "wbuf_bits=64")
    assert found.code == 2
    assert re.fullmatch(r"hwsim: error: layer \S+: the smallest tile needs [\d,]+ bits of wbuf, .*\n", found.err)


def test_a_bug_takes_one_line_and_exits_1(hwsim, monkeypatch):
    def fail(**_options):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("hwsim.pipeline.simulate", fail)
    found = hwsim("run", "--net", "resnet8")
    assert found.code == 1
    assert found.err == ("hwsim: internal error: RuntimeError: two lines (a bug; HWSIM_DEBUG=1 shows the traceback)\n")


def test_debug_shows_the_traceback(hwsim, monkeypatch):
    monkeypatch.setenv("HWSIM_DEBUG", "1")
    found = hwsim("show", "table", "nothing")
    assert found.code == 2
    assert "Traceback (most recent call last)" in found.err
    assert "hwsim: error: unknown energy table" in found.err


INTERRUPTED = """
import signal, sys
import hwsim.pipeline
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit an ignored one
def wait(**options):
    print("waiting", file=sys.stderr, flush=True)
    signal.pause()
hwsim.pipeline.simulate = wait
from hwsim.cli import main
sys.exit(main(["run", "--net", "resnet8", "-o", sys.argv[1]]))
"""


@pytest.mark.skipif(not hasattr(signal, "pause"), reason="no signals to wait for")
def test_interrupt_exits_130_with_one_line_and_leaves_nothing(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path / "out")],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "hwsim: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_leaves_is_no_error():
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = subprocess.run(
        [sys.executable, "-c", "import sys\nfrom hwsim.cli import main\nsys.exit(main(['list']))"],
        stdout=write_end, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
    )  # fmt: skip
    os.close(write_end)
    assert (process.returncode, process.stderr) == (141, "")
