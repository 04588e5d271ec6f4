"""The command `reproduce`."""

from __future__ import annotations

import json

import pytest

from hwsim.commands.reproduce import (
    build_dict,
    format_claimed,
    format_difference,
    format_figure,
    format_system,
    list_cells,
    list_reasons,
)
from hwsim.published.claims import Row, System, Table

ROWS = (
    Row(claim="a sum", source="paper", unit="cycles", claimed=1000, equations=1000, simulated=1010, why="issue"),
    Row(claim="a second sum", source="paper", unit="cycles", claimed=2000, equations=2000, simulated=2020, why="issue"),
    Row(claim="a range", source="its table 3", certainty="unverified", unit="x", claimed=1.95, claimed_least=1.4, simulated=1.5),
    Row(claim="accuracy", source="paper", status="out of reach", why="takes training"),
)  # fmt: skip
SYSTEM = System(name="one", title="a system", source="paper", reproduce=lambda: ROWS)


def test_lists_systems(hwsim):
    found = hwsim("reproduce")
    assert (found.code, found.err) == (0, "")
    assert found.out.splitlines()[0].startswith("haq")
    names = [one["name"] for one in json.loads(hwsim("reproduce", "--json").out)["systems"]]
    assert {"bitfusion", "survey"} <= set(names)


def test_unknown_system_takes_one_line(hwsim):
    found = hwsim("reproduce", "haqq")
    assert (found.code, found.out) == (2, "")
    assert found.err == "hwsim: error: unknown system 'haqq': did you mean haq?\n"


def test_text_and_json_hold_the_same_rows(hwsim):
    data = json.loads(hwsim("reproduce", "mqbench", "--json").out)["systems"]
    text = hwsim("reproduce", "mqbench").out
    assert [system["name"] for system in data] == ["mqbench"]
    rows = data[0]["rows"]
    assert {
        "claim",
        "source",
        "certainty",
        "unit",
        "claimed",
        "equations",
        "simulated",
        "rtl",
        "difference",
        "why",
        "status",
    } <= set(rows[0])
    for number, row in enumerate(rows, 1):
        assert f"\n{number:>3}   {row['claim'][:20]}" in text
    assert "source: MQBench" in text


def test_hardware_is_named_where_it_is_there_and_not_run_unless_asked(hwsim):
    rows = json.loads(hwsim("reproduce", "mqbench", "--json").out)["systems"][0]["rows"]
    hardware = [row for row in rows if "generated Verilog" in row["claim"]]
    assert hardware
    assert all(row["status"] == "skipped" and "--rtl" in row["why"] for row in hardware)


def test_cells():
    assert list_cells(ROWS[0]) == ["cycles", "1,000", "1,000", "1,010", "-", "+1 %", "verified"]
    assert list_cells(ROWS[2]) == ["x", "1.4 to 1.95", "-", "1.5", "-", "in range", "unverified"]
    assert list_cells(ROWS[3])[-2:] == ["out of reach", "verified"]
    assert list_cells(Row(claim="a", source="b", equations=2.0))[-2:] == ["-", "-"]


def test_reasons_are_shared_by_neighbours():
    assert list_reasons(SYSTEM, ROWS) == [("1-2", "Issue."), ("3", "[its table 3]"), ("4", "Takes training.")]


@pytest.mark.parametrize("width", [None, 60, 120])
def test_a_table_leaves_out_columns_that_are_empty(width):
    text = format_system(SYSTEM, ROWS, width=width)
    assert text.splitlines()[0] == "one: a system"
    assert "RTL" not in text
    assert "equations" in text
    assert "equations" not in format_system(SYSTEM, ROWS[3:], width=width)
    assert max(map(len, text.splitlines())) <= max(width or 132, 100)


def test_tables_stand_behind_the_rows():
    table = Table(
        title="differences, %", heads=("layers", "number", "median"), rows=(("all", 1088, 0.25), ("first", 64, -0.04)),
        source="a file", why="issue alone",
    )  # fmt: skip
    lines = format_system(SYSTEM, ROWS, (table,)).splitlines()
    at = lines.index("differences, %")
    assert lines[at - 1] == ""
    assert [line.split() for line in lines[at + 1 :] if line.strip() and "─" not in line] == [
        ["layers", "number", "median"], ["all", "1,088", "0.2"], ["first", "64", "0.0"], ["[a", "file]", "Issue", "alone."],
    ]  # fmt: skip
    found = build_dict(SYSTEM, ROWS, (table,))
    assert found["tables"][0]["rows"] == (("all", 1088, 0.25), ("first", 64, -0.04))
    assert "tables" not in build_dict(SYSTEM, ROWS)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "", "-"), (3392, "entries", "3,392"), (1.6772, "x", "1.677"), (0.9999631, "x", "0.999963"), (0.0415, "x", "0.0415"),
        (151.09, "ms", "151.1"), (1234.5, "images/s", "1,234"), (4.0, "x", "4"),
    ],
)  # fmt: skip
def test_figures(value, unit, text):
    assert format_figure(value, unit) == text


def test_differences():
    assert format_claimed(ROWS[2]) == "1.4 to 1.95"
    for claimed, simulated, text in (
        (2.0, 2.0, "="),
        (2.0, 3.0, "+50 %"),
        (200.0, 201.0, "+0.5 %"),
        (2.0, 1.0, "-50 %"),
    ):
        assert format_difference(Row(claim="a", source="b", claimed=claimed, simulated=simulated)) == text
