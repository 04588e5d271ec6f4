"""The commands end to end, on a small network: forms of output, files, comparison, explanations."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re

import pytest

from hwsim.core.stats import STALLS
from tests.extras import load_optional

SMALL = ("--net", "resnet8", "--arch", "systolic:small")
LAYER_KEYS = {
    *("name", "op", "macs", "cycles", "compute_cycles", "stall_cycles", "energy_pj", "energy_pj_by", "dram_read_bits"),
    *("dram_write_bits", "weight_bits", "act_bits", "utilization", "bound", "w_bits", "a_bits", "out_bits", "traffic"),
    *("mapping", "notes", "peak_macs_per_cycle", "peak_buffer_bits", "instructions"),
}
TOTAL_KEYS = {
    *(
        "batch",
        "clock_hz",
        "macs",
        "cycles",
        "compute_cycles",
        "stall_cycles",
        "latency_s",
        "fps",
        "throughput_fps",
        "energy_pj",
        "energy_pj_by",
    ),
    *(
        "edp",
        "power_w",
        "tops",
        "tops_per_w",
        "utilization",
        "area_um2",
        "dram_read_bits",
        "dram_write_bits",
        "weight_bits",
    ),
    *("act_bits", "peak_activation_bits", "peak_buffer_bits", "instructions"),
}


def test_json_is_alone_on_stdout_and_has_the_stable_keys(hwsim):
    found = hwsim("run", *SMALL, "--json")
    report = json.loads(found.out)
    assert (found.code, found.err) == (0, "")
    assert set(report) == {"schema", "layers", "totals", "area", "provenance"}
    assert all(set(row) == LAYER_KEYS for row in report["layers"])
    assert set(report["totals"]) == TOTAL_KEYS
    assert {"version", "arch", "preset", "mapper", "energy_table", "memory", "seed", "weights"} <= set(
        report["provenance"]
    )


def test_json_totals_are_the_sums_of_the_rows(hwsim):
    report = json.loads(hwsim("run", *SMALL, "--json", "--memory", "lpddr4-3200").out)
    rows, totals = report["layers"], report["totals"]
    for key in ("macs", "cycles", "compute_cycles", "dram_read_bits", "dram_write_bits", "weight_bits", "act_bits"):
        assert totals[key] == sum(row[key] for row in rows), key
    assert totals["stall_cycles"] == {name: sum(row["stall_cycles"][name] for row in rows) for name in STALLS}
    for row in (*rows, totals):
        assert row["cycles"] == row["compute_cycles"] + sum(row["stall_cycles"].values())
        assert row["energy_pj"] == pytest.approx(sum(row["energy_pj_by"].values()), rel=1e-12)
    assert totals["energy_pj"] == pytest.approx(sum(row["energy_pj"] for row in rows), rel=1e-12)
    assert totals["latency_s"] == totals["cycles"] / totals["clock_hz"]
    assert totals["edp"] == pytest.approx(totals["energy_pj"] * 1e-12 * totals["latency_s"])


def test_csv_has_one_line_a_layer_with_the_json_values(hwsim):
    rows = list(csv.DictReader(io.StringIO(hwsim("run", *SMALL, "--csv").out)))
    layers = json.loads(hwsim("run", *SMALL, "--json").out)["layers"]
    assert [row["name"] for row in rows] == [row["name"] for row in layers]
    assert [int(row["cycles"]) for row in rows] == [row["cycles"] for row in layers]
    assert [int(row["stall_cycles.inputs"]) for row in rows] == [row["stall_cycles"]["inputs"] for row in layers]
    first = next(item for item in layers[0]["traffic"] if (item["level"], item["operand"]) == ("dram", "W"))
    assert int(rows[0]["traffic.dram.W.read_bits"]) == first["read_bits"]


def test_two_runs_print_the_same(hwsim):
    first = hwsim("run", *SMALL, "--json")
    assert first.code == 0
    assert first.out == hwsim("run", *SMALL, "--json").out


def test_table_is_plain_when_piped_and_shares_add_up(hwsim):
    found = hwsim("run", *SMALL)
    totals = json.loads(hwsim("run", *SMALL, "--json").out)["totals"]
    assert "\x1b" not in found.out
    assert f"{totals['cycles']:,} = compute" in found.out
    assert "resnet8, w8a8, on systolic small" in found.out
    line = " ".join(found.out[found.out.index("\ncycles ") : found.out.index("\nlatency ")].split())
    shares = [float(share) for share in re.findall(r"(?:compute|\+ \w+) ([\d.]+) %", line)]
    assert sum(shares) == pytest.approx(100, abs=0.5)


def test_set_changes_the_machine_and_marks_the_preset(hwsim):
    one = json.loads(hwsim("run", *SMALL, "--json").out)
    other = json.loads(hwsim("run", *SMALL, "--json", "--set", "rows=16", "--set", "dataflow=ws").out)
    assert (one["provenance"]["preset"], other["provenance"]["preset"]) == ("small", "small+")
    assert one["totals"]["cycles"] != other["totals"]["cycles"]


def test_config_file_gives_the_machine_it_was_written_from(hwsim, tmp_path):
    text = hwsim("show", "arch", "systolic:small", "--set", "rows=4", "--memory", "ddr4-2400", "--toml").out
    (tmp_path / "mine.toml").write_text(text)
    by_file = hwsim("run", "--net", "resnet8", "--config", tmp_path / "mine.toml", "--json")
    by_options = hwsim("run", *SMALL, "--set", "rows=4", "--memory", "ddr4-2400", "--json")
    assert by_file.out == by_options.out
    assert hwsim("run", *SMALL, "--config", tmp_path / "mine.toml").code == 2


def test_output_folder_holds_all_files(hwsim, tmp_path):
    assert hwsim("run", *SMALL, "-o", tmp_path / "new" / "out", "--json").code == 0
    folder = tmp_path / "new" / "out"
    names = {"report.json", "layers.csv", "roofline.png", "energy.png", "cycles.png"}
    assert {item.name for item in folder.iterdir()} == names
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in names if name.endswith(".png"))
    assert json.loads((folder / "report.json").read_text())["provenance"]["network"] == "resnet8"
    assert os.listdir(tmp_path / "new") == ["out"]


def test_output_folder_that_exists_keeps_other_files(hwsim, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    (tmp_path / "report.json").write_text("old")
    assert hwsim("run", *SMALL, "-o", tmp_path).code == 0
    assert (tmp_path / "mine.txt").read_text() == "keep"
    assert json.loads((tmp_path / "report.json").read_text())["schema"] == 1
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize("exists", [False, True])
def test_a_failure_while_writing_leaves_nothing_half_written(hwsim, tmp_path, monkeypatch, exists):
    folder = tmp_path / "out"
    if exists:
        folder.mkdir()
        (folder / "report.json").write_text("old")

    def fail(_report):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hwsim.report.plots.draw_cycles", fail)
    found = hwsim("run", *SMALL, "-o", folder)
    assert (found.code, found.err) == (2, f"hwsim: error: {folder}: cannot be written: No space left on device\n")
    assert os.listdir(tmp_path) == (["out"] if exists else [])
    if exists:
        assert os.listdir(folder) == ["report.json"]
        assert (folder / "report.json").read_text() == "old"


@pytest.mark.parametrize("option", ["-o", "--trace"])
def test_an_unwritable_place_is_told_before_the_simulation(hwsim, tmp_path, monkeypatch, option):
    monkeypatch.setattr("hwsim.pipeline.simulate", lambda **_: pytest.fail("simulated"))
    monkeypatch.setattr("hwsim.pipeline.simulate_traced", lambda **_: pytest.fail("simulated"))
    (tmp_path / "file").write_text("")
    found = hwsim("run", *SMALL, option, tmp_path / "file" / "trace.json")
    assert found.code == 2
    assert found.err.startswith(f"hwsim: error: {tmp_path / 'file' / 'trace.json'}: ")
    assert found.err.count("\n") == 1


def test_trace_file_is_a_chrome_trace(hwsim, tmp_path):
    assert hwsim("run", *SMALL, "--trace", tmp_path / "t.json").code == 0
    assert hwsim("run", *SMALL, "--trace", tmp_path / "t.json.gz").code == 0
    plain = (tmp_path / "t.json").read_text()
    assert gzip.decompress((tmp_path / "t.json.gz").read_bytes()).decode() == plain
    assert len(json.loads(plain)["traceEvents"]) > 100


def test_show_mapping_prints_a_loop_nest(hwsim):
    name = json.loads(hwsim("run", *SMALL, "--json").out)["layers"][0]["name"]
    one = hwsim("show", "mapping", *SMALL, "--layer", name)
    assert one.code == 0
    assert one.out.startswith(f"# {name}: conv N1 G1 ")
    assert "exec N1" in one.out
    assert one.out.strip() in hwsim("run", *SMALL, "--show-mapping").out


def test_compare_shows_ratios_to_the_first(hwsim):
    args = ("compare", "--net", "resnet8", "--arch", "systolic:small,systolic:base")
    found = json.loads(hwsim(*args, "--json").out)
    rows = {row["metric"]: row for row in found["compare"]}
    cycles = [report["totals"]["cycles"] for report in found["reports"]]
    assert rows["cycles"]["values"] == cycles
    assert rows["cycles"]["ratios"] == [1.0, cycles[1] / cycles[0]]
    text = hwsim(*args).out
    assert f"{cycles[1] / cycles[0]:.2f}x" in text
    assert "clocks differ: " in text


@pytest.mark.parametrize("metric", ["cycles", "energy", "traffic", "utilization", "area", "latency"])
def test_explain_has_an_answer_for_every_metric(hwsim, metric):
    found = hwsim("explain", "total", metric, *SMALL)
    assert found.code == 0
    assert found.out.startswith(f"total: {metric}  (systolic small, resnet8, w8a8)\n")
    assert found.out.count("\n") >= 3


def test_list_has_all_kinds(hwsim):
    found = json.loads(hwsim("list", "--json").out)
    assert set(found) == {"archs", "nets", "tables", "memories"}
    assert "systolic" in [entry["name"] for entry in found["archs"]]
    assert "small" in next(entry for entry in found["archs"] if entry["name"] == "systolic")["presets"]
    assert [entry["name"] for entry in found["memories"]] == ["flat", "lpddr4-3200", "ddr4-2400", "hbm2"]
    assert hwsim("list", "nets").out.startswith("nets:\n")


@pytest.mark.parametrize(
    "args", [("arch", "systolic"), ("net", "resnet8"), ("table", "horowitz45"), ("table", "horowitz45@28")]
)
def test_show(hwsim, args):
    found = hwsim("show", *args)
    assert (found.code, found.err) == (0, "")
    assert "source" in found.out


def test_image_files_reach_the_network(hwsim, tmp_path):
    import numpy as np

    np.save(tmp_path / "wrong.npy", np.zeros((3, 5, 5), np.float32))
    np.save(tmp_path / "nan.npy", np.full((3, 32, 32), np.nan))
    np.save(tmp_path / "good.npy", np.zeros((3, 32, 32), np.float32))
    (tmp_path / "broken.npy").write_bytes(b"no array")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for name, text in [
        ("wrong.npy", "shape (1, 3, 5, 5) does not fit the input"),
        ("nan.npy", "not finite"),
        ("broken.npy", "no array"),
        ("broken.png", "no picture"),
    ]:
        found = hwsim("run", *SMALL, "--image", tmp_path / name)
        assert found.code == 2, name
        assert text in found.err
    assert hwsim("run", *SMALL, "--image", tmp_path / "good.npy").code == 0


def test_a_picture_is_scaled_and_normalized(tmp_path):
    image = load_optional("PIL.Image")
    import numpy as np

    from hwsim.commands._image import read_image
    from hwsim.nets.registry import find_network

    image.new("RGB", (100, 60), (255, 0, 0)).save(tmp_path / "red.png")
    found = read_image(str(tmp_path / "red.png"), find_network("resnet8"))
    (array,) = found.values()
    assert array.shape == (1, 3, 32, 32)
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    np.testing.assert_allclose(array[0, :, 5, 7], expected, rtol=1e-5)
