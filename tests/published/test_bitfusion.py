"""BitFusion's equations and search against the results that it ships, row by row, and its headline figures."""

import csv
from dataclasses import fields, replace
from math import exp, log

import pytest

from hwsim.core.datapath import Datapath
from hwsim.published.bitfusion import Machine, Prices, Shape, count_layer
from hwsim.published.bitfusion_networks import ENERGY_GAINS, EYERISS_CYCLES, MACHINES, NETWORKS
from hwsim.published.systems._run import describe_load, find_prices, price_layer
from hwsim.published.systems.bitfusion import (
    EYERISS_NJ,
    TOTALS,
    Parts,
    compare_gains,
    compare_networks,
    count_their_dram,
    explain_dram,
    make_layer,
    simulate_network,
    split_their_energy,
    sum_energies,
)
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


@pytest.mark.parametrize("name", NETWORKS)
def test_parts_of_the_dram_traffic_sum_to_it(name: str) -> None:
    theirs, useless = count_their_dram(name)
    counts = [count_layer(shape, MACHINES["16x32@192"]) for shape in NETWORKS[name].values()]
    assert sum(theirs) == sum(x.dram_read_bits + x.dram_write_bits for x in counts)
    # weights move at least once
    weights = sum(s.kernel**2 * s.in_channels * s.out_channels * s.w_bits for s in NETWORKS[name].values())
    assert theirs.weights >= weights
    assert simulate_network(name).dram.weights >= weights
    assert theirs.outputs_read == theirs.outputs_written >= useless
    costs = [price_layer(make_layer(s), "bitfusion-E", s.w_bits, s.a_bits, 32) for s in NETWORKS[name].values()]
    moved = sum(x.stats.moved_bits("dram", side) for x in costs for side in ("read", "write"))
    assert sum(simulate_network(name).dram) == moved


def test_the_largest_difference_is_named_first() -> None:
    ours, theirs = Parts(10**6, 5 * 10**6, 0, 7 * 10**6), Parts(2 * 10**6, 2 * 10**6, 9 * 10**6, 9 * 10**6)
    assert explain_dram(ours, theirs, 8 * 10**6) == (
        "DRAM 13 Mbit against 22: outputs read 0 against 9 (8 of these before the first partial sum is there), "
        "inputs 5 against 2, outputs written 7 against 9, weights 1 against 2"
    )
    (row,) = [one for one in compare_networks() if one.claim.startswith("AlexNet")]
    assert "(675 of these before the first partial sum" in row.why  # of 2,958 Mbit; inputs are the larger part
    assert row.why.index("inputs") < row.why.index("outputs read")


def test_buffers_cost_what_the_authors_price_them_at() -> None:
    """The authors' CACTI and ours on parts of 128 B, 2 KB and 512 B; ours in two banks of half the size."""
    units = find_prices("bitfusion-E").make_objective("energy", _bind_layer())
    theirs = Prices()
    for name in ("wbuf", "ibuf", "obuf"):
        for verb in ("read", "write"):
            ratio = getattr(units, f"{name}_{verb}_pj") / (1e3 * getattr(theirs, f"{name}_{verb}"))
            assert 0.4 < ratio < 1.3, (name, verb)
    assert units.wbuf_read_pj == pytest.approx(1e3 * theirs.wbuf_read, rel=0.02)


def test_what_explains_the_simulated_gain() -> None:
    """With the authors' DRAM bits and buffers in place of ours what is left is the core: theirs costs all units at work."""
    theirs = sum_energies()
    ratios = []
    for name in NETWORKS:
        ours, (dram, buffers) = simulate_network(name), split_their_energy(name)
        assert dram == pytest.approx(sum(count_their_dram(name)[0]) * Prices().dram)
        assert ours.dram_nj == pytest.approx(sum(ours.dram) * Prices().dram, rel=1e-6)
        assert 2.5 < buffers / ours.buffers_nj < 7, name
        ratios.append(theirs[name] / (ours.energy_nj - ours.dram_nj - ours.buffers_nj + dram + buffers))
    assert all(0.99 < ratio < 1.07 for ratio in ratios), ratios


def _bind_layer() -> Datapath:
    shape = next(iter(NETWORKS["RNN"].values()))
    return find_prices("bitfusion-E").arch.bind(describe_load(make_layer(shape), shape.w_bits, shape.a_bits, 32))


def test_a_layer_that_fits_no_buffer() -> None:
    wide = Shape(kernel=65, out=1, stride=1, in_channels=1, out_channels=1, a_bits=8, w_bits=8)
    with pytest.raises(ValueError, match="no tiling"):
        count_layer(wide, Machine(ibuf_bytes=64))
