# ruff: noqa: E501, PT012  (whole texts; the block has to fail in its middle)
"""Report modules on a report put together by hand: rows, text, explanations, plots, loop nests, units, files."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from hwsim.core.errors import InputError, UnknownName
from hwsim.core.rows import build_dict, build_flat_rows
from hwsim.core.stats import STALLS
from hwsim.report.explain import METRICS, STALL_MEANING, explain
from hwsim.report.files import check_writable, open_atomically, open_folder_atomically
from hwsim.report.plots import CYCLE_COLORS, draw_cycles, draw_energy, draw_roofline, find_bandwidth
from hwsim.report.text import format_comparison, format_report, list_differences, shorten
from hwsim.report.units import format_bits, format_digits, format_si
from tests.cli.fake import make_report


@pytest.fixture(scope="module")
def report():
    return make_report(5)


def test_dict_is_plain_json(report):
    found = build_dict(report)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found == report.to_dict()
    assert [row["name"] for row in found["layers"]] == [layer.name for layer in report.network.layers]


def test_rows_have_every_stall_and_a_mapping_or_none(report):
    rows = build_dict(report)["layers"]
    assert all(tuple(row["stall_cycles"]) == STALLS for row in rows)
    assert [row["mapping"] is None for row in rows] == [row["op"] == "flatten" for row in rows]


def test_frame_has_the_flat_rows(report):
    frame = report.to_frame()
    rows = build_flat_rows(report)
    assert list(frame.columns) == list(rows[0])
    assert frame["cycles"].sum() == report.cycles
    assert frame["energy_pj_by.dram"].sum() == pytest.approx(build_dict(report)["totals"]["energy_pj_by"]["dram"])
    assert frame["traffic.dram.O.write_bits"].dtype.kind == "i"


def test_text_holds_every_layer_with_cycles_and_says_which_are_left_out(report):
    text = format_report(report)
    for cost in report.layers:
        assert (f" {cost.name} " in text) == bool(cost.cycles)
    assert "without cycles of their own: 1 flatten" in text
    assert "unverified   rows" in text
    assert "area         0.200 mm2, without vector (unknown)" in text


@pytest.mark.parametrize("width", [60, 80, 100, 120, 140, 200])
def test_table_fits_the_terminal_and_never_cuts_a_figure(report, width):
    lines = format_report(report, width=width).splitlines()
    table = lines[: next(i for i, line in enumerate(lines) if line.startswith("without cycles"))]
    assert max(len(line) for line in table) <= width
    assert "…" not in "\n".join(table)
    for cost in report.layers:
        assert not cost.cycles or f"{cost.cycles:,}" in "\n".join(table)


def test_colour_is_asked_for(report):
    assert "\x1b[" in format_report(report, color=True)
    assert "\x1b[" not in format_report(report)


def test_square_brackets_in_names_are_text():
    assert "[red]x" in format_report(_rename(make_report(1), "[red]x"))


def _rename(report, name):
    from dataclasses import replace

    return replace(report, layers=tuple(replace(c, name=name) if i == 0 else c for i, c in enumerate(report.layers)))


def test_comparison_tells_what_differs(report):
    from dataclasses import replace

    other = replace(
        make_report(3, "big"),
        clock_hz=2e9,
        provenance=replace(report.provenance, preset="big", energy_table="another, 28 nm, 0.9 V"),
    )
    text = format_comparison([report, other])
    assert f"{other.cycles / report.cycles:.2f}x" in text
    assert list_differences([report, other]) == [
        "energy tables differ: made up, 45 nm, 0.9 V; another, 28 nm, 0.9 V",
        "clocks differ: 1.00 GHz, 2.00 GHz",
    ]
    assert list_differences([report, report]) == []


def test_explained_terms_add_up(report):
    cost = report.layers[0]
    text = explain(report, cost.name, "cycles")
    counts = [int(line.split()[1].replace(",", "")) for line in text.splitlines()[1:] if " cycles" in line]
    assert sum(counts[:-1]) == counts[-1] == cost.cycles
    text = explain(report, cost.name, "energy")
    values = [float(line.split("=")[1].split("pJ")[0].replace(",", "")) for line in text.splitlines() if " x " in line]
    assert sum(values) == pytest.approx(cost.energy_pj, abs=0.1 * len(values))
    assert all(term.source in text for term in cost.energy)
    assert "unverified" in text


def test_explain_covers_every_stall():
    assert tuple(STALL_MEANING) == STALLS
    assert tuple(CYCLE_COLORS) == ("compute", *STALLS)


def test_explain_sums_terms_over_the_network(report):
    text = explain(report, "total", "energy")
    total = sum(dict(c.energy_by_component()).get("dram", 0.0) for c in report.layers)
    assert f"{total:,.1f} pJ" in text
    assert explain(report, "total", "traffic").count("\n") == 7


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("layer", ["flatten", "fc", "total"])
def test_every_metric_of_every_layer_has_an_answer(report, layer, metric):
    assert explain(report, layer, metric).startswith(f"{layer}: {metric}")


def test_explain_names_what_is_near(report):
    with pytest.raises(UnknownName) as caught:
        explain(report, "fcc", "cycles")
    assert str(caught.value) == "unknown layer 'fcc': did you mean fc?"
    with pytest.raises(UnknownName) as caught:
        explain(report, "fc", "trafic")
    assert str(caught.value) == "unknown metric 'trafic': did you mean traffic?"


def test_roofline_shows_every_layer_with_macs_under_labelled_axes(report):
    axes = draw_roofline(report).axes[0]
    points = [point for group in axes.collections for point in group.get_offsets()]
    expected = sorted(
        (
            8 * c.stats.macs / (c.stats.moved_bits("dram", "read") + c.stats.moved_bits("dram", "write")),
            c.stats.macs / c.cycles,
        )
        for c in report.layers
        if c.stats.macs
    )
    np.testing.assert_allclose(sorted(map(tuple, points)), expected)
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_xlabel() == "arithmetic intensity, MAC / byte of DRAM traffic"
    assert axes.get_ylabel() == "achieved rate, GMAC/s"
    assert axes.get_title(loc="left") == "chain w4a8 on toy small: roofline"
    assert find_bandwidth(report) == 8e9
    roofs = {line.get_label(): (line.get_xdata(), line.get_ydata()) for line in axes.get_lines()}
    assert list(roofs["memory: 8.00 GB/s"][1]) == pytest.approx([x * 8 for x in roofs["memory: 8.00 GB/s"][0]])
    assert list(roofs["64 MAC/cycle: 64.0 GMAC/s"][1]) == [64, 64]


def test_labels_of_the_roofline_do_not_overlap():
    from matplotlib.text import Text

    figure = draw_roofline(make_report(58))
    figure.canvas.draw()
    boxes = [Text.get_window_extent(text, figure.canvas.get_renderer()) for text in figure.axes[0].texts]
    assert len(boxes) >= 5
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]


@pytest.mark.parametrize("draw", [draw_cycles, draw_energy])
@pytest.mark.parametrize("convs", [1, 58, 120])
def test_bars_add_up_to_the_total_and_stay_readable(draw, convs):
    report = make_report(convs)
    figure = draw(report)
    axes = figure.axes[0]
    assert axes.get_xlabel()
    rows = len(axes.get_yticks())
    assert rows == min(convs + 1, 80)
    assert figure.get_size_inches()[1] >= 0.19 * rows
    width = sum(bar.get_width() for bar in axes.patches)
    label = axes.get_xlabel()
    scale = {"µJ": 1e6, "nJ": 1e3, "thousand cycles": 1e3, "mJ": 1e9, "million cycles": 1e6}
    scale = next(value for name, value in scale.items() if name in label)
    total = report.cycles if draw is draw_cycles else report.energy_pj
    assert width * scale == pytest.approx(total)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (1, "1.00 s"),
        (0.00123, "1.23 ms"),
        (999.6, "1.00 ks"),
        (1.5e13, "15.0 Ts"),
        (2e-15, "0.00200 ps"),
        (-0.5, "-500 ms"),
    ],
)
def test_si_prefixes(value, text):
    assert format_si(value, "s") == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1234.5, "1,234"), (12.34, "12.3"), (0.05333, "0.0533"), (0.1, "0.100"), (1e9, "1.00e+09"), (2e-9, "2.00e-09")]
)  # fmt: skip
def test_digits(value, text):
    assert format_digits(value) == text


@pytest.mark.parametrize(
    ("bits", "text"),
    [(8, "1 B"), (4, "0.500 B"), (8192, "1.00 KiB"), (8 * 3 << 20, "3.00 MiB"), (8 << 40, "1,024 GiB")],
)
def test_bits_as_bytes(bits, text):
    assert format_bits(bits) == text


def test_shortened_names_keep_both_ends():
    assert shorten("features.12.conv.1.0", 12) == "featu..v.1.0"
    assert shorten("short", 12) == "short"


def test_files_appear_whole_or_not_at_all(tmp_path):
    with pytest.raises(ZeroDivisionError), open_atomically(tmp_path / "a.txt") as path:
        path.write_text("half")
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []
    with open_atomically(tmp_path / "a.txt") as path:
        path.write_text("whole")
        assert os.listdir(tmp_path) == [path.name]
    assert (tmp_path / "a.txt").read_text() == "whole"
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_folders_appear_whole_or_not_at_all(tmp_path, error):
    with pytest.raises(error), open_folder_atomically(tmp_path / "out") as staging:
        (staging / "a").write_text("half")
        raise error
    assert os.listdir(tmp_path) == []


def test_writable_is_checked_without_a_trace(tmp_path):
    check_writable(tmp_path / "deep" / "er", folder=True)
    check_writable(tmp_path / "file", folder=False)
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").write_text("")
    for path, folder in (("file", True), ("file/x", True), (".", False), ("none/x", False), ("file/x", False)):
        with pytest.raises(InputError):
            check_writable(tmp_path / path, folder=folder)
