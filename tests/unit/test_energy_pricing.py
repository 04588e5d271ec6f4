"""Pricing of counts and of area: every term by hand, sums exact, nothing silently zero."""

import itertools
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy_models import BufferSpec, dram_energy, load_table, price_actions, price_area, rescale_table, sram_cost
from energy_models.pricing import QUANTUM_PJ
from hwsim.core.actions import Action, AreaPart
from hwsim.core.errors import SpecError

TABLE = load_table("horowitz45")
BUFFERS = {
    "wbuf": BufferSpec(capacity_bits=1 << 19, width_bits=64, banks=2),
    "obuf": BufferSpec(capacity_bits=1 << 18, width_bits=128),
}
ACTIONS = (
    Action(component="mac", verb="mac", count=1_000_003, bits=(8, 4, 32)),
    Action(component="booth", verb="op", count=77, bits=(8, 24)),
    Action(component="vector", verb="compare", count=11, bits=(8,)),
    Action(component="wbuf", verb="read", count=640, bits=()),
    Action(component="obuf", verb="write", count=12_800, bits=()),
    Action(component="rf", verb="write", count=999, bits=()),
    Action(component="dram", verb="read", count=4096, bits=()),
    Action(component="dram", verb="activate", count=2, bits=()),
)


def price(actions=ACTIONS, dram=None, cycles=1000, table=TABLE, **options):
    return price_actions(actions, table, BUFFERS, dram, cycles, 500e6, **options)


def find_term(priced, component, verb):
    (term,) = (term for term in priced.terms if (term.component, term.verb) == (component, verb))
    return term


def near(value):
    return pytest.approx(value, rel=1e-9, abs=QUANTUM_PJ)


def test_operation_is_count_times_unit():
    term = find_term(price(), "mac", "mac")
    assert term.unit_pj == near(0.1 + 0.1)
    assert term.energy_pj == near(1_000_003 * 0.2)
    assert term.unit == "op"
    assert term.note == "mac = mult 8x4 + add 32; mult 8x4 scaled from 8x8 by product of widths"
    assert term.source.startswith("horowitz45: Horowitz ISSCC 2014")


def test_verb_op_means_the_components_own_operator():
    assert find_term(price(), "booth", "op").note.startswith("booth_digit = add 24 + 0.55 add 10")


def test_buffer_access_is_priced_per_bit_of_one_bank():
    bank = sram_cost(45, "itrs-lstp", 1 << 18, 64)
    term = find_term(price(), "wbuf", "read")
    assert term.unit == "bit"
    assert term.energy_pj == near(10 * bank.read_pj)
    out = sram_cost(45, "itrs-lstp", 1 << 18, 128)
    assert find_term(price(), "obuf", "write").energy_pj == near(100 * out.write_pj)


def test_every_bank_leaks_over_all_cycles():
    bank = sram_cost(45, "itrs-hp", 1 << 18, 64)
    term = find_term(price(device="itrs-hp"), "leakage", "wbuf")
    assert (term.count, term.unit) == (1000, "cycle")
    assert term.energy_pj == near(2 * bank.leak_mw * 1e-3 * 1000 / 500e6 * 1e12)


def test_flat_memory_takes_the_tables_figure():
    priced = price()
    assert find_term(priced, "dram", "read").energy_pj == 4096 * 20
    assert find_term(priced, "dram", "activate").energy_pj == 0
    assert not [term for term in priced.terms if term.component == "dram_static"]
    assert priced.unknowns == ()


def test_dram_part_prices_bits_rows_and_time():
    priced = price(dram=dram_energy("lpddr4-3200"))
    assert find_term(priced, "dram", "read").energy_pj == near(4096 * 8.47)
    assert find_term(priced, "dram", "activate").energy_pj == near(2 * 1205)
    assert find_term(priced, "dram_static", "standby").energy_pj == near(37.9e-3 * 2e-6 * 1e12)
    assert find_term(priced, "dram_static", "refresh").energy_pj == near(5.7e-3 * 2e-6 * 1e12)


def test_all_ranks_stand_by():
    priced = price(dram=dram_energy("ddr4-2400"))
    assert find_term(priced, "dram_static", "standby").energy_pj == near(2 * 0.422 * 2e-6 * 1e12)


def test_counted_refreshes_replace_their_mean_power():
    part = dram_energy("lpddr4-3200")
    priced = price((*ACTIONS, Action(component="dram", verb="refresh", count=5, bits=())), dram=part)
    assert find_term(priced, "dram", "refresh").energy_pj == near(5 * 5.7e-3 * 3903.75e-9 * 1e12)
    assert [term.verb for term in priced.terms if term.component == "dram_static"] == ["standby"]


def test_unknown_power_is_named_not_zero():
    priced = price(dram=dram_energy("hbm2"))
    assert priced.unknowns == ("standby power of hbm2: unknown", "refresh power of hbm2: unknown")
    counted = price((Action(component="dram", verb="refresh", count=5, bits=()),), dram=dram_energy("hbm2"))
    assert "energy of dram refresh: unknown for hbm2" in counted.unknowns


def test_own_buffer_figure_of_a_table_holds_whatever_the_size():
    term = find_term(price(table=load_table("eyeriss65")), "wbuf", "read")
    assert term.energy_pj == 640 * 6 / 16
    assert term.note == "eyeriss65's own figure, whatever the buffer's size; unverified"


def test_uncertain_figures_say_so_in_their_term():
    priced = price(table=load_table("smartexchange28"))
    assert find_term(priced, "mac", "mac").note.endswith("unverified")
    assert find_term(priced, "dram", "read").note.endswith("unverified")


counts = st.integers(0, 10**10)  # 20 of them stay below 2.2 J, the bound within which sums are exact


@given(st.lists(st.tuples(st.sampled_from(range(len(ACTIONS))), counts), max_size=20), st.integers(0, 10**9))
def test_sums_are_exact_in_any_grouping(picks, cycles):
    actions = [
        Action(component=a.component, verb=a.verb, count=count // (1000 if a.verb == "activate" else 1), bits=a.bits)
        for a, count in ((ACTIONS[i], count) for i, count in picks)
    ]
    priced = price(actions, dram=dram_energy("lpddr4-3200"), cycles=cycles)
    energies = [term.energy_pj for term in priced.terms]
    total = priced.energy_pj
    assert total == math.fsum(energies) == sum(energies) == sum(reversed(energies))
    assert total == sum(pj for _, pj in priced.energy_pj_by)
    for term in priced.terms:
        assert term.energy_pj == pytest.approx(term.count * term.unit_pj, rel=1e-12, abs=QUANTUM_PJ / 2)


def test_order_of_actions_does_not_matter():
    totals = {price(order).energy_pj for order in itertools.islice(itertools.permutations(ACTIONS), 50)}
    assert len(totals) == 1


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (
            Action(component="ibuf", verb="read", count=1, bits=()),
            "action.component: got 'ibuf', expected a storage, one of dram, noc, obuf, register, rf, wbuf",
        ),
        (
            Action(component="dram", verb="open", count=1, bits=()),
            "action dram.verb: got 'open', expected one of read, write, activate, refresh",
        ),
    ],
)
def test_action_that_names_nothing_is_an_error(action, text):
    with pytest.raises(SpecError) as error:
        price((action,))
    assert str(error.value) == text


def test_unknown_operator_verb_lists_the_operators():
    with pytest.raises(
        SpecError, match=r"^action mac\.verb: got 'fma', expected read, write, op or an operator: add, "
    ):
        price((Action(component="mac", verb="fma", count=1, bits=(8,)),))


PARTS = (
    AreaPart(component="mac", op="mac", count=1024, bits=(8, 8, 32)),
    AreaPart(component="mac", op="register", count=1024, bits=(48,)),
    AreaPart(component="booth", op="op", count=8, bits=(8, 24)),
)


def test_area_is_parts_plus_macros():
    priced = price_area(PARTS, TABLE, BUFFERS)
    by_name = {term.name: term for term in priced.terms}
    assert by_name["mac mac 8x8x32"].area_um2 == 1024 * (282 + 137)
    assert by_name["mac register 48"].area_um2 == pytest.approx(1024 * 48 * 5.98 * 1.2623, rel=1e-3)
    assert "register borrowed from aladdin40, scaled 40 nm" in by_name["mac register 48"].note
    assert by_name["wbuf"].area_um2 == pytest.approx(2 * sram_cost(45, "itrs-lstp", 1 << 18, 64).area_um2)
    assert priced.area_um2 == sum(term.area_um2 for term in priced.terms)
    assert priced.unknowns == ()
    assert [item.name for item in priced.list_items()] == [term.name for term in priced.terms]


def test_area_that_a_table_lacks_is_borrowed_and_scaled():
    (term,) = price_area(PARTS[:1], load_table("smartexchange28"), {}).terms
    assert term.unit_um2 == pytest.approx((282 + 137) * 0.377, rel=2e-3)
    assert "mult borrowed from horowitz45, scaled 45 nm 0.9 V to 28 nm 0.9 V by 0.377" in term.note
    assert term.note.endswith("area memory")


def test_unknown_area_is_listed():
    priced = price_area((AreaPart(component="buffer", op="buffer", count=4, bits=(16,)),), load_table("eyeriss65"), {})
    assert priced.unknowns == ("buffer buffer 16",)
    assert priced.area_um2 == 0


def test_buffers_follow_the_table_to_another_node():
    small = price_area((), rescale_table(TABLE, 28), BUFFERS)
    assert small.terms[0].unit_um2 == sram_cost(28, "itrs-lstp", 1 << 18, 64).area_um2


def test_import_is_light():
    code = "import sys, energy_models; print(sorted({'numba', 'pandas', 'numpy', 'msgspec'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
