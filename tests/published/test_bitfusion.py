"""BitFusion's equations and search against the results that it ships, row by row, and its headline figures."""

import csv
from dataclasses import fields, replace
from math import exp, log

import pytest

from hwsim.published.bitfusion import Machine, Prices, Shape, count_layer
from hwsim.published.bitfusion_networks import ENERGY_GAINS, EYERISS_CYCLES, MACHINES, NETWORKS
from hwsim.published.systems.bitfusion import EYERISS_NJ, TOTALS, compare_gains, sum_energies
from tests.reference import reference


def test_every_row_of_the_sweep() -> None:
    with reference("tables", "bitfusion_16x32_192.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(layers) for layers in NETWORKS.values()) == 61
    for row in rows:
        found = count_layer(NETWORKS[row["network"]][row["layer"]], MACHINES["16x32@192"], int(row["batch"]))
        wanted = [int(row[key]) for key in ("cycles", "stall_cycles", "dram_read_bits", "dram_write_bits")]
        assert [found.cycles, found.stall_cycles, found.dram_read_bits, found.dram_write_bits] == wanted, row


@pytest.mark.parametrize("name", TOTALS)
def test_totals_of_the_configurations(name: str) -> None:
    found = [sum(count_layer(s, MACHINES[name]).cycles for s in layers.values()) for layers in NETWORKS.values()]
    assert tuple(found) == TOTALS[name]


def test_headline_speedup_over_eyeriss() -> None:
    totals = dict(zip(NETWORKS, TOTALS["16x32@192"], strict=True))
    gains = [EYERISS_CYCLES[name] / totals[name] for name in NETWORKS]
    assert exp(sum(map(log, gains)) / len(gains)) == pytest.approx(3.925, abs=5e-4)


def test_headline_energy_over_eyeriss() -> None:
    """Recomputed energies against Eyeriss's, which are quoted: every gain that seeds.md section 1.6 lists, and their mean."""
    ours = sum_energies()
    gains = {name: EYERISS_NJ[name] / ours[name] for name in NETWORKS}
    assert gains == pytest.approx(ENERGY_GAINS, abs=5e-3)
    assert exp(sum(map(log, gains.values())) / len(gains)) == pytest.approx(5.121, abs=5e-4)
    (row,) = [one for one in compare_gains() if one.claim.startswith("energy against Eyeriss")]
    assert row.equations == pytest.approx(5.121, abs=5e-4)


@pytest.mark.parametrize("price", [field.name for field in fields(Prices)])
def test_every_price_moves_the_headline(price: str) -> None:
    ours = sum_energies(replace(Prices(), **{price: 2 * getattr(Prices(), price)}))
    gains = [EYERISS_NJ[name] / ours[name] for name in NETWORKS]
    assert exp(sum(map(log, gains)) / len(gains)) != pytest.approx(5.121, abs=5e-4)


def test_a_layer_that_fits_no_buffer() -> None:
    wide = Shape(kernel=65, out=1, stride=1, in_channels=1, out_channels=1, a_bits=8, w_bits=8)
    with pytest.raises(ValueError, match="no tiling"):
        count_layer(wide, Machine(ibuf_bytes=64))
