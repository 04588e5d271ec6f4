"""Every energy table and DRAM part, found by discovery, keeps the promises that the pricing relies on."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from energy_models import RULES, list_dram_parts, list_tables, load_table, price_actions, price_op, rescale_table
from energy_models.dram import dram_energy, flat_dram
from energy_models.pricing import DEFAULT_OPS, BufferSpec
from energy_models.table import CONFIDENCES, EXACT_OPS
from hwsim.core.actions import Action
from hwsim.core.errors import SpecError

TABLES = list_tables()
ALWAYS_PRICED = (
    "mac",
    "mult",
    "add",
    "shift",
    "shift_add",
    "booth_digit",
    "requant",
    "vector",
    "compare",
    "register",
    "rf",
)
WIDTHS = st.integers(1, 64)


@pytest.mark.parametrize("name", TABLES)
def test_every_figure_has_a_source_and_a_certainty(name):
    table = load_table(name)
    assert table.sources
    assert table.dram.source
    for entry in table.entries:
        assert entry.source, entry.label
        assert entry.confidence in CONFIDENCES
        assert entry.area_confidence in CONFIDENCES


@pytest.mark.parametrize("name", TABLES)
def test_unverified_table_marks_every_price(name):
    table = load_table(name)
    marks = {price_op(table, op, *(8,) * len(RULES[op].operands)).confidence for op in ALWAYS_PRICED}
    if table.unverified:
        assert marks == {"unverified"}
        assert table.label.endswith(", unverified")
    else:
        assert "unverified" not in table.label


@pytest.mark.parametrize("name", TABLES)
def test_listed_figures_are_returned_untouched(name):
    table = load_table(name)
    for entry in table.entries:
        bits = (*entry.bits, 32) if entry.op == "mac" else entry.bits
        priced = price_op(table, entry.op, *bits)
        assert priced.energy_pj == entry.energy_pj
        assert priced.note == ""
        if entry.area_um2 is not None:
            assert priced.area_um2 == entry.area_um2
            assert priced.area_note == ""


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("op", ALWAYS_PRICED)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_fewer_bits_never_cost_more(name, op, data):
    table = load_table(name)
    small = data.draw(st.tuples(*[WIDTHS] * len(RULES[op].operands)))
    large = tuple(data.draw(st.integers(bits, 64)) for bits in small)
    cheap, dear = price_op(table, op, *small), price_op(table, op, *large)
    assert 0 < cheap.energy_pj <= dear.energy_pj * (1 + 1e-12)
    assert 0 < cheap.area_um2 <= dear.area_um2 * (1 + 1e-12)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("op", ALWAYS_PRICED)
def test_a_figure_that_is_not_the_tables_own_says_so(name, op):
    table = load_table(name)
    priced = price_op(table, op, *(7,) * len(RULES[op].operands))  # a width that no table lists
    assert priced.note
    assert priced.source
    own = {entry.source for entry in table.entries}
    foreign = [source for source in priced.source.split("; ") if not any(source in text for text in own)]
    assert bool(foreign) == (" borrowed from " in f" {priced.note}")


@pytest.mark.parametrize("name", TABLES)
def test_lenders_exist_and_do_not_name_themselves(name):
    table = load_table(name)
    assert set(table.borrows) <= set(TABLES) - {name}


@pytest.mark.parametrize("name", TABLES)
def test_scaling_there_and_back_returns_the_table(name):
    table = load_table(name)
    back = rescale_table(rescale_table(table, 22, 0.8), table.node_nm, table.vdd_v)
    for ours, theirs in zip(table.entries, back.entries, strict=True):
        assert theirs.energy_pj == pytest.approx(ours.energy_pj, rel=1e-12)
    assert back.dram == table.dram


@pytest.mark.parametrize("name", TABLES)
def test_every_default_operator_and_storage_is_priced(name):
    table = load_table(name)
    widths = {"mac": (8, 8, 32), "booth_digit": (8, 32), "requant": (32, 16)}
    actions = [Action(component=c, verb="op", count=3, bits=widths.get(op, (8,))) for c, op in DEFAULT_OPS.items()]
    actions += [Action(component=c, verb=v, count=64) for c in ("dram", "wbuf", "rf") for v in ("read", "write")]
    priced = price_actions(actions, table, {"wbuf": BufferSpec(capacity_bits=1 << 19, width_bits=64)}, None, 10, 1e9)
    assert len(priced.terms) == len(actions) + 1  # and the buffer's leakage
    assert all(term.energy_pj > 0 and term.source for term in priced.terms[:-1])


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("op", EXACT_OPS)
def test_listed_only_operators_are_never_interpolated(name, op):
    with pytest.raises(SpecError, match=rf"^energy table {name}: got '{op} 7"):
        price_op(load_table(name), op, *(7,) * len(RULES[op].operands))


@pytest.mark.parametrize("part", list_dram_parts())
def test_dram_part_is_timed_too_and_counts_the_same_ranks(part):
    from hwsim.core.dram_parts import find_part

    energy, timing = dram_energy(part), find_part(part)
    assert energy.copies == timing.channels * timing.ranks
    assert energy.read_pj_per_bit > 0
    assert energy.write_pj_per_bit > 0
    assert energy.activate_pj > 0
    assert energy.source
    if energy.refresh_interval_ns:
        assert energy.refresh_interval_ns == pytest.approx(timing.tREFI * timing.tck_ps / 1000, rel=1e-3)


def test_every_timed_dram_part_has_an_energy():
    from hwsim.core.dram_parts import PARTS

    assert {part.name for part in PARTS} <= set(list_dram_parts())


@pytest.mark.parametrize("name", TABLES)
def test_flat_dram_holds_everything_in_the_figure_per_bit(name):
    flat = flat_dram(load_table(name))
    assert flat.activate_pj == flat.standby_mw == flat.refresh_mw == 0
    assert math.isfinite(flat.read_pj_per_bit)
