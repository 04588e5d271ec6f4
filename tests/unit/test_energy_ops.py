"""Operator prices against the published figures, and the rules for what is not published."""

import csv

import pytest

from energy_models import list_tables, load_table, price_op, rescale_table
from energy_models.ops import BOOTH_SELECT
from energy_models.table import parse_table
from hwsim.core.errors import InputError, SpecError, UnknownName
from tests.reference import reference

HOROWITZ = [
    ("add", (8,), 0.03, 36),
    ("add", (16,), 0.05, 67),
    ("add", (32,), 0.1, 137),
    ("mult", (8, 8), 0.2, 282),
    ("mult", (32, 32), 3.1, 3495),
    ("shift", (8,), 0.024, 34),
    ("shift", (16,), 0.057, 73),
    ("shift", (32,), 0.13, 157),
    ("fp_add", (16,), 0.4, 1360),
    ("fp_add", (32,), 0.9, 4184),
    ("fp_mult", (16,), 1.1, 1640),
    ("fp_mult", (32,), 3.7, 7700),
]


def test_shipped_tables_are_found():
    assert set(list_tables()) >= {"horowitz45", "smartexchange28", "bitfusion45", "eyeriss65", "aladdin40"}


@pytest.mark.parametrize(("op", "bits", "pj", "um2"), HOROWITZ)
def test_horowitz_points_are_exact(op, bits, pj, um2):
    priced = price_op(load_table("horowitz45"), op, *bits)
    assert (priced.energy_pj, priced.area_um2, priced.note) == (pj, um2, "")


def test_horowitz_equals_the_reference_rows():
    ops = {"int_add": "add", "int_mult": "mult", "fp_add": "fp_add", "fp_mult": "fp_mult", "shift": "shift"}
    with reference("tables", "unit_energy.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["op"] in ops and row["tech"].startswith("45nm")]
    assert len(rows) == len(HOROWITZ)
    for row in rows:
        op, bits = ops[row["op"]], int(row["bits"])
        priced = price_op(load_table("horowitz45"), op, *((bits, bits) if op == "mult" else (bits,)))
        assert priced.energy_pj == float(row["energy_pJ"])
        assert priced.area_um2 == float(row["area_um2"])


def test_bitfusion_equals_the_synthesis_rows():
    table = load_table("bitfusion45")
    with reference("tables", "bitfusion_synth_per_pe_45nm.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["N"] == row["M"] == "4"]
    assert len(rows) == len(table.entries)
    for row in rows:
        high, low = int(row["max_bits"]), int(row["min_bits"])
        priced = price_op(table, "mac", high, low, 32) if high == low else price_op(table, "fusion_unit", high, low)
        assert priced.energy_pj == float(row["energy_pJ_per_cycle_per_PE"])
        assert priced.area_um2 == float(row["area_um2_per_PE"])


def test_smartexchange_mac_is_its_mult_and_add():
    table = load_table("smartexchange28")
    parts = price_op(table, "mult", 8, 8).energy_pj + price_op(table, "add", 8).energy_pj
    assert price_op(table, "mac", 8, 8, 8).energy_pj == pytest.approx(parts, rel=1e-12) == 0.143


def test_eyeriss_keeps_its_ratios():
    table = load_table("eyeriss65")
    mac = price_op(table, "mac", 16, 16, 32).energy_pj
    assert price_op(table, "rf", 16).energy_pj == mac
    assert price_op(table, "noc", 16).energy_pj == 2 * mac
    assert price_op(table, "buffer", 16).energy_pj == 6 * mac
    assert 16 * table.dram.read_pj_per_bit == 200 * mac


def test_eyeriss_anchor_is_horowitz_at_65_nm():
    scaled = rescale_table(load_table("horowitz45"), 65)
    assert price_op(scaled, "mac", 16, 16, 32).energy_pj == pytest.approx(1.1, rel=0.02)


@pytest.mark.parametrize(
    ("op", "bits", "pj", "note"),
    [
        ("mult", (8, 4), 0.1, "mult 8x4 scaled from 8x8 by product of widths"),
        ("mult", (2, 2), 0.0125, "mult 2x2 scaled from 8x8 by product of widths"),
        (
            "mult",
            (16, 16),
            0.2 + 2.9 * 192 / 960,
            "mult 16x16 interpolated between mult 8x8 and 32x32, linear in the product of widths",
        ),
        ("add", (24,), 0.075, "add 24 interpolated between add 16 and 32, linear in the bits"),
        ("add", (40,), 0.125, "add 40 extrapolated from add 16 and 32, linear in the bits"),
        ("add", (4,), 0.015, "add 4 scaled from 8 by bits"),
        ("mac", (8, 8, 32), 0.3, "mac = mult 8x8 + add 32"),
        ("shift_add", (16,), 0.107, "shift_add = shift 16 + add 16"),
        ("vector", (8,), 0.03, "vector = add 8"),
        ("requant", (32, 32), 3.23, "requant = mult 32x32 + shift 32"),
        ("booth_digit", (6, 32), 0.1 + BOOTH_SELECT * 0.03, "booth_digit = add 32 + 0.55 add 8"),
    ],
)
def test_rule_and_its_note(op, bits, pj, note):
    priced = price_op(load_table("horowitz45"), op, *bits)
    assert priced.energy_pj == pytest.approx(pj, rel=1e-12)
    assert priced.note == note


def test_borrowed_operator_is_scaled_and_named():
    priced = price_op(load_table("smartexchange28"), "shift", 16)
    assert priced.energy_pj == pytest.approx(0.057 * 0.507, rel=2e-3)
    assert priced.note == (
        "shift borrowed from horowitz45, scaled 45 nm 0.9 V to 28 nm 0.9 V by 0.507 (Stillmaker and Baas 2017)"
    )
    assert priced.area_um2 == pytest.approx(73 * 0.377, rel=2e-3)
    assert "scaled 45 nm 0.9 V to 28 nm 0.9 V by 0.377" in priced.area_note


def test_area_from_memory_is_marked_though_the_energy_is_verified():
    priced = price_op(load_table("horowitz45"), "mult", 8, 8)
    assert (priced.confidence, priced.area_confidence) == ("verified", "memory")


def test_name_at_node_scales_the_table():
    table = load_table("horowitz45@28nm")
    assert (table.name, table.node_nm) == ("horowitz45", 28)
    assert price_op(table, "mult", 8, 8).energy_pj == pytest.approx(0.2 * 0.507, rel=2e-3)
    assert table.label == (
        "horowitz45, 28 nm, 0.9 V, scaled from 45 nm 0.9 V by 0.507 in energy, 0.377 in area (Stillmaker and Baas 2017)"
    )
    assert load_table("horowitz45@45") is load_table("horowitz45")


def test_unknown_table_suggests_the_near_name():
    with pytest.raises(UnknownName) as error:
        load_table("horowitz")
    assert str(error.value) == "unknown energy table 'horowitz': did you mean horowitz45?"


def test_table_name_cannot_leave_the_folder():
    with pytest.raises(UnknownName):
        load_table("../tables/horowitz45")


@pytest.mark.parametrize(
    ("op", "bits", "text"),
    [
        ("mac", (8, 8), "mac.bits: got (8, 8), expected w_bits, a_bits, psum_bits, each from 1 to 1024"),
        ("add", (0,), "add.bits: got (0,), expected bits, each from 1 to 1024"),
        ("add", (2000,), "add.bits: got (2000,), expected bits, each from 1 to 1024"),
        (
            "buffer",
            (16,),
            "energy table aladdin40: got 'buffer 16', expected an operator that it lists or that follows from one: add 32,"
            " mult 32x32, shift 32, compare 32, register 1 (none of bitfusion45, from which it borrows, has it either)",
        ),
    ],
)
def test_price_error_names_table_and_operator(op, bits, text):
    with pytest.raises(SpecError) as error:
        price_op(load_table("aladdin40"), op, *bits)
    assert str(error.value) == text


def test_unknown_operator_suggests():
    with pytest.raises(UnknownName, match="unknown operator 'shift-add': did you mean shift_add"):
        price_op(load_table("aladdin40"), "shift-add", 8)


def test_node_suffix_must_be_a_number():
    with pytest.raises(SpecError, match="NAME@NODE"):
        load_table("horowitz45@tiny")


GOOD = """
title = "t"
node_nm = 45
vdd_v = 0.9
device = "itrs-lstp"
sram = "cacti"
sources = ["s"]
[dram]
read_pj_per_bit = 1
write_pj_per_bit = 1
source = "s"
confidence = "verified"
[[entries]]
op = "add"
bits = [8]
energy_pj = 1.0
source = "s"
confidence = "verified"
"""


def test_all_mistakes_of_a_table_file_are_listed():
    text = (
        GOOD.replace("node_nm = 45", "node_nm = -1").replace('op = "add"', 'op = "ad"').replace('source = "s"\nc', "c")
    )
    with pytest.raises(InputError) as error:
        parse_table(text + "energy = 3\n", "mine", "mine.toml")
    shown = str(error.value)
    assert shown.startswith("mine.toml: node_nm: got -1, expected a finite number above zero; ")
    assert "dram.source: got None, expected a str" in shown
    assert "entries[0].op: got 'ad', expected one of" in shown
    assert "entries[0].source: got None" in shown


def test_table_whose_price_falls_with_width_is_refused():
    row = '[[entries]]\nop = "add"\nbits = [16]\nenergy_pj = 0.5\nsource = "s"\nconfidence = "verified"\n'
    assert parse_table(GOOD, "mine", "mine.toml").entries[0].energy_pj == 1.0
    with pytest.raises(InputError, match="add 16: costs less than add 8"):
        parse_table(GOOD + row, "mine", "mine.toml")


@pytest.mark.parametrize("text", ["= =", "", 'entries = 3\ndram = "x"'])
def test_malformed_table_file_is_an_input_error(text):
    with pytest.raises(InputError, match=r"^mine\.toml: "):
        parse_table(text, "mine", "mine.toml")


def test_table_file_of_the_user(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert price_op(load_table(str(path)), "add", 4).energy_pj == 0.5
    with pytest.raises(InputError, match="No such file"):
        load_table(str(tmp_path / "absent.toml"))
