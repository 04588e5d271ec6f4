"""``hwsim cosim`` end to end, and what it says of bad input."""

from __future__ import annotations

import json

import pytest

from tests.extras import require

require("amaranth", "pyosys", "g++")

import cosim.plan
from cosim.compare import compare_run
from hwsim.cli import main
from hwsim.core.errors import MissingExtra
from tests.cosim.accelerators import make_arch

SMALL = ("cosim", "--arch", "systolic:small", "--set", "rows=4", "--set", "cols=4")


@pytest.fixture
def hwsim(capsys):
    def run(*args):
        capsys.readouterr()
        code = main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def built():
    """The accelerator of `SMALL` can be built."""
    return make_arch("systolic-os")


@pytest.mark.slow
def test_random_layers_are_counted(hwsim, built):
    code, out, err = hwsim(*SMALL, "--many", 6, "--seed", 2)
    assert (code, err) == (0, "")
    assert out.startswith("6 layers, ")
    assert "0 mismatches" in out
    assert "ratio" in out


@pytest.mark.slow
def test_a_layer_of_a_network_is_a_table(hwsim, built):
    code, out, _ = hwsim(*SMALL, "--net", "resnet20", "--layer", "conv1")
    assert code == 0
    lines = out.splitlines()
    assert lines[1].split()[0] == "conv1"
    assert " of " in lines[1]
    assert lines[-1] == "1 of 1 layers equal in bits and cycles"
    code, out, _ = hwsim(*SMALL, "--net", "resnet20", "--layer", "conv1", "--json")
    found = json.loads(out)
    assert found["equal"] is True
    assert found["layers"][0]["cycles"] == found["layers"][0]["expected_cycles"]


@pytest.mark.slow
def test_a_mismatch_is_named_with_its_waves(hwsim, built, tmp_path, monkeypatch):
    def late(job, outcome, exact_cycles=True):
        outcome.end[3] += 1
        return compare_run(job, outcome, exact_cycles)

    monkeypatch.setattr(cosim.plan, "compare_run", late)
    path = tmp_path / "waves" / "first.vcd"
    code, out, err = hwsim(*SMALL, "--net", "resnet20", "--layer", "conv1", "--waves", path)
    assert code == 1
    assert "conv1: instruction 3, " in out
    assert "0 of 1 layers equal" in out
    assert str(path) in err
    text = path.read_text()
    assert "$enddefinitions" in text
    assert "trace_running" in text


@pytest.mark.parametrize(("args", "text"), [
    (("--net", "resnet20", "--layer", "conv9"), "unknown layer 'conv9'"),
    (("--many", "0"), "--many: got 0, expected at least 1"),
    (("--many", "2", "--layer", "conv1"), "--layer: got 'conv1', expected --net beside it"),
    (("--many", "2", "--set", "shell.store_lanes=4"), "shell.store_lanes: got 4, expected 1"),
    (("--many", "2", "--set", "memory.latency_cycles=2"), "memory.latency_cycles: got 2, expected at least 4"),
    ((), "one of the arguments --net --many is required"),
])  # fmt: skip
def test_bad_input_takes_one_line(hwsim, built, args, text):
    code, out, err = hwsim(*SMALL, *args)
    assert (code, out) == (2, "")
    assert text in err
    assert err.count("\n") == 1


def test_a_layer_that_the_hardware_has_not_is_refused(hwsim, built):
    code, _, err = hwsim(*SMALL, "--net", "mobilenet_v3_small", "--layer", "features.1.block.1.fc2")
    assert code == 2
    assert "expected a layer that the hardware runs" in err


def test_an_absent_simulator_names_the_extra(monkeypatch):
    from cosim.bench import build

    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"co-simulation needs cocotb: pip install 'hwsim\[rtl\]'"):
        build.find_tools()


def test_a_read_only_folder_takes_one_line(hwsim, built, monkeypatch):
    from cosim import emitted

    def refuse(*_):
        raise PermissionError(13, "Permission denied", "/nowhere")

    monkeypatch.setattr(emitted, "cached_folder", refuse)
    emitted.emit_accelerator.cache_clear()
    code, out, err = hwsim(*SMALL[:3], "--set", "rows=2", "--set", "cols=2", "--many", 1)
    emitted.emit_accelerator.cache_clear()
    assert (code, out) == (2, "")
    assert "generated hardware cannot be kept: Permission denied (/nowhere); XDG_CACHE_HOME names another folder" in err
