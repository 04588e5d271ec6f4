"""Node scaling against the ratios that the paper's polynomials and area table give."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy_models import scale_area, scale_energy
from hwsim.core.errors import SpecError

NODES = st.floats(7, 130)
SUPPLIES = st.floats(0.6, 1.3)

# Stillmaker and Baas 2017, area factors from the node of the row to the node of the column, two digits.
NODES_NM = (130, 90, 65, 45, 32, 20, 16, 14, 10, 7)
AREA_ROWS = {
    130: (1, 0.44, 0.23, 0.16, 0.072, 0.033, 0.03, 0.027, 0.016, 0.0092),
    65: (4.3, 1.9, 1, 0.66, 0.31, 0.14, 0.13, 0.12, 0.068, 0.039),
    32: (14, 6.1, 3.3, 2.2, 1, 0.46, 0.41, 0.38, 0.22, 0.13),
    7: (110, 48, 25, 17, 7.8, 3.6, 3.2, 2.9, 1.7, 1),
}


@pytest.mark.parametrize(
    ("from_nm", "from_v", "to_nm", "to_v", "ratio"),
    [
        (45, 0.9, 28, 0.9, 0.507),
        (65, 0.9, 28, 0.9, 0.404),
        (65, 0.9, 45, 0.9, 0.80),
        (40, 0.9, 28, 0.9, 0.588),
        (45, 0.9, 16, 0.9, 0.187),
        (45, 0.9, 7, 0.9, 0.102),
        (45, 0.9, 16, 0.8, 0.142),
        (45, 0.9, 7, 0.7, 0.057),
        (65, 1.1, 28, 0.9, 0.254),
    ],
)
def test_energy_ratio(from_nm, from_v, to_nm, to_v, ratio):
    digits = len(str(ratio).split(".")[1])
    assert scale_energy(1.0, from_nm, from_v, to_nm, to_v) == pytest.approx(ratio, abs=0.6 * 10**-digits)


@pytest.mark.parametrize(("from_nm", "to_nm", "ratio"), [(45, 28, 0.38), (65, 28, 0.25), (65, 45, 0.66)])
def test_area_ratio(from_nm, to_nm, ratio):
    assert scale_area(1.0, from_nm, to_nm) == pytest.approx(ratio, abs=0.007)


@pytest.mark.parametrize("from_nm", AREA_ROWS)
def test_area_factors_of_other_rows_follow_within_their_rounding(from_nm):
    for to_nm, factor in zip(NODES_NM, AREA_ROWS[from_nm], strict=True):
        assert scale_area(1.0, from_nm, to_nm) == pytest.approx(factor, rel=0.07)


@given(NODES, SUPPLIES, NODES, SUPPLIES)
def test_there_and_back_is_the_identity(from_nm, from_v, to_nm, to_v):
    there = scale_energy(1.0, from_nm, from_v, to_nm, to_v)
    assert scale_energy(there, to_nm, to_v, from_nm, from_v) == pytest.approx(1.0)
    assert scale_area(scale_area(1.0, from_nm, to_nm), to_nm, from_nm) == pytest.approx(1.0)


@given(NODES, NODES, SUPPLIES)
def test_a_smaller_node_never_costs_more_at_the_same_supply(a, b, vdd):
    small, large = sorted((a, b))
    assert scale_energy(1.0, large, vdd, small, vdd) <= 1 + 1e-12
    assert scale_area(1.0, large, small) <= 1 + 1e-12


@given(NODES, SUPPLIES, SUPPLIES)
def test_a_lower_supply_never_costs_more(node, a, b):
    low, high = sorted((a, b))
    assert scale_energy(1.0, node, high, node, low) <= 1 + 1e-12


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((1.0, 180, 0.9, 45, 0.9), "node_nm: got 180, expected a node from 7 to 130 nm"),
        ((1.0, 45, 0.9, float("nan"), 0.9), "node_nm: got nan, expected a node from 7 to 130 nm"),
        ((1.0, 45, 0.9, 28, 0.2), "vdd_v: got 0.2, expected a supply from 0.6 to 1.3 V"),
    ],
)
def test_out_of_range_is_named(args, text):
    with pytest.raises(SpecError) as error:
        scale_energy(*args)
    assert str(error.value) == text
