"""NASA's stored network against counts of its repository's shapes; what the chunks, their allotment and the auto-mapper claim."""

from __future__ import annotations

from itertools import product

import pytest

from energy_models import load_table
from hwsim.archs.nasa.spec import CHUNKS, DATAFLOWS, PRESETS
from hwsim.archs.overrides import override
from hwsim.core.errors import HwsimError, SpecError
from hwsim.core.network import Network
from hwsim.core.policy import LayerFormat, Policy
from hwsim.nets.builder import NetBuilder
from hwsim.nets.load import load_network
from hwsim.nets.registry import find_network
from hwsim.nets.zoo.nasa import lay_pair
from hwsim.pipeline import simulate
from hwsim.pipeline.nasa_map import auto_map
from mappers.nasa_allot import allot_pes, list_counts, measure_element, shape_array
from mappers.nasa_choose import pick_points, rank_dataflows

PAPER = PRESETS["paper"]


def count(network: Network, operator: str) -> tuple[str, str]:
    own = [layer for layer in network.mac_layers if layer.operator == operator]
    return f"{sum(x.macs for x in own) / 1e6:.2f}", f"{sum(x.weights for x in own) / 1e6:.3f}"


def test_the_stored_network_has_the_operations_and_parameters_of_its_repository():
    network = find_network("nasa-cifar10")
    assert count(network, "multiply") == ("42.46", "0.950")
    assert count(network, "add") == ("23.27", "0.138")
    assert count(network, "shift") == ("43.84", "1.956")
    assert network.layer("header").out_shape == (1, 1504, 4, 4)
    assert len(network.mac_layers) == 3 * 22 + 3
    imagenet = find_network("nasa-imagenet")
    assert [count(imagenet, x)[1] for x in ("add", "shift")] == ["0.138", "1.956"]
    assert imagenet.layer("header").out_shape == (1, 1504, 14, 14)


def test_it_comes_with_its_own_bits():
    loaded = load_network("nasa-cifar10")
    assert loaded.policy is not None
    report = simulate("nasa-cifar10", "nasa")
    rows = {row.name: row for row in report.layers}
    for layer in loaded.network.mac_layers:
        bits = {"multiply": (8, 8), "shift": (6, 16), "add": (6, 6)}[layer.operator]
        assert (rows[layer.name].w_bits, rows[layer.name].a_bits) == bits
        assert rows[layer.name].engine == CHUNKS[layer.operator]
    with pytest.raises(
        SpecError, match=r"layer stage1\.2\.expand: w_bits: got 8, expected 2 to 6 bits with the operator add"
    ):
        simulate("nasa-cifar10", "nasa", policy="w8a8")
    assert load_network("resnet8").policy is None


def test_a_pair_is_a_shift_layer_and_an_adder_layer():
    net = NetBuilder("pair", "written here")
    lay_pair(net, net.input((3, 9, 9)), "a", 8, 3, stride=2, padding=1)
    first, second = net.finish().mac_layers
    assert (first.operator, second.operator) == ("shift", "add")
    assert first.out_shape == second.out_shape == (1, 8, 5, 5)
    shiftadd = find_network("shiftaddnet20")
    assert len(shiftadd.mac_layers) == 2 + 2 * (18 + 2)


def test_chunks_work_on_different_frames():
    report = simulate("nasa-cifar10", "nasa")
    busy = {name: sum(row.cycles for row in report.layers if row.engine == name) for name in CHUNKS.values()}
    assert sum(busy.values()) == report.cycles
    assert report.interval_cycles == max(*busy.values(), report.port_cycles)
    assert report.throughput_fps == pytest.approx(report.clock_hz / report.interval_cycles)
    moved = sum(row.stats.moved_bits("dram", way) for row in report.layers for way in ("read", "write"))
    assert report.port_cycles == -(-moved // PAPER.memory.bits_per_cycle)
    assert report.fps < report.throughput_fps < 3 * report.fps
    plain = simulate("resnet8", "nasa")
    assert plain.throughput_fps == plain.fps


@pytest.mark.parametrize(
    "operations", [(100, 100, 100), (97, 13, 60), (1000, 1, 1), (5, 0, 0), (0, 0, 7), (3, 4000, 1000)]
)
@pytest.mark.parametrize("elements", [3.2, 7, 20, 41])
def test_the_allotment_is_the_best_of_all(operations, elements, monkeypatch):
    """Against every triple of arrays under the budget."""
    table = load_table(PAPER.energy_table)
    areas = [measure_element(PAPER, operator, table) for operator in CHUNKS]
    budget = elements * max(areas)
    found_operations = dict(zip(CHUNKS, operations, strict=True))
    monkeypatch.setattr("mappers.nasa_allot.count_operations", lambda *_: found_operations)
    found = allot_pes(find_network("resnet8"), None, budget)
    assert found.area_um2 <= budget * (1 + 1e-12)
    best = min(
        max(o / n for o, n in zip(operations, counts, strict=True))
        for counts in product(list_counts(60), repeat=3)
        if sum(n * area for n, area in zip(counts, areas, strict=True)) <= budget
    )
    assert found.steps == pytest.approx(best, rel=1e-12)
    for chunk in found.chunks:
        fewer = [n for n in list_counts(60) if n < chunk.elements]
        assert not fewer or chunk.operations / fewer[-1] > found.steps  # no smaller array would do
        assert chunk.rows <= chunk.cols <= 2 * chunk.rows


def test_arrays_are_as_square_as_their_count_allows():
    assert [shape_array(n) for n in (1, 2, 12, 168, 50)] == [(1, 1), (1, 2), (3, 4), (12, 14), (5, 10)]
    naive = sorted({r * c for r in range(1, 15) for c in range(r, 2 * r + 1) if r * c <= 100})
    assert list_counts(100) == naive
    assert all(r <= c <= 2 * r for r, c in map(shape_array, list_counts(3000)))


def test_the_paper_s_preset_is_the_allotment_of_its_network():
    network = find_network("nasa-cifar10")
    found = allot_pes(network, load_network("nasa-cifar10").policy)
    assert {(c.name, c.rows, c.cols) for c in found.chunks} == {(c.name, c.rows, c.cols) for c in PAPER.chunks}
    assert found.budget_um2 == pytest.approx(168 * measure_element(PAPER, "multiply", load_table("horowitz45")))
    ratios = [chunk.elements / chunk.operations for chunk in found.chunks]
    assert max(ratios) / min(ratios) < 1.04  # N / O of the three
    assert 0.97 < found.area_um2 / found.budget_um2 <= 1


def test_a_budget_too_small_for_three_elements_is_told():
    with pytest.raises(
        SpecError, match=r"nasa.area_budget_um2: got 5000, expected at least 9,\d\d\d, one element each \(clp 3,"
    ):
        allot_pes(find_network("nasa-cifar10"), None, 5000)
    with pytest.raises(SpecError, match="area_budget_um2"):
        allot_pes(find_network("nasa-cifar10"), None, -1)


POINTS = (
    ((4, 9.0), (5, 3.0), (9, 2.5)),
    ((10, 10.0),),
    ((1, 8.0), (7, 1.0)),
    ((3, 3.0), (4, 2.0), (6, 1.9)),
    ((20, 1.0), (2, 40.0), (8, 8.0)),
)  # fmt: skip


@pytest.mark.parametrize("layers", [POINTS, POINTS[:1], POINTS[1:2], POINTS[2:], tuple(reversed(POINTS)) + POINTS[:3]])
def test_the_least_product_of_sums_is_found(layers):
    picks = pick_points(layers)
    got = [points[i] for points, i in zip(layers, picks, strict=True)]
    best = min(sum(c for c, _ in way) * sum(e for _, e in way) for way in product(*layers))
    assert sum(c for c, _ in got) * sum(e for _, e in got) == pytest.approx(best)


def test_combinations_that_do_not_run_stand_last_with_the_reason():
    costs = {
        "clp": {"rs": "no room", "os": {"a": [(10, 5.0)], "b": [(2, 2.0)]}},
        "slp": {"rs": {"c": [(3, 3.0)]}, "ws": {"c": [(4, 1.0)]}},
    }
    ranked = rank_dataflows(costs)
    assert [one.label for one in ranked[:2]] == ["clp os, slp ws", "clp os, slp rs"]
    assert ranked[0].product == 16 * 8.0
    assert [one.refused for one in ranked] == ["", "", "no room", "no room"]


def test_the_auto_mapper_s_best_is_that_of_all_simulations():
    """64 combinations of dataflows on a network of all operators, each simulated by itself."""
    net = NetBuilder("mixed", "written here")
    x = net.conv(net.input((3, 16, 16)), "first", 16, 3, padding=1, activation="relu")
    y = lay_pair(net, x, "pair", 16, 3, padding=1)
    y = net.depthwise(y, "depthwise", 3, padding=1, operator="shift")
    y = net.add((x, y), "sum")
    net.conv(y, "last", 24, 1, operator="add")
    network = net.finish()
    layers = tuple(
        (layer.name, LayerFormat(w_bits=6, a_bits=16 if layer.operator == "shift" else 6))
        for layer in network.mac_layers if layer.operator != "multiply"
    )  # fmt: skip
    policy, arch = Policy(layers=layers), PRESETS["small"]
    found = auto_map(network, arch, policy=policy)
    assert len(found.ranked) == 64
    assert not any(one.refused for one in found.ranked)
    for one in found.ranked[::9]:
        report = simulate(
            network,
            override(arch, {f"{c}_dataflow": flow for c, flow in one.dataflows}),
            policy=policy,
            objective="edp",
        )
        assert report.cycles == one.cycles
        assert report.energy_pj == pytest.approx(one.energy_pj, rel=1e-12)
    best = simulate(network, found.arch, policy=policy, objective="edp")
    assert best.edp == pytest.approx(found.edp, rel=1e-12)
    assert best.interval_cycles == found.interval_cycles
    assert len({round(one.energy_pj) for one in found.ranked}) == len(
        found.ranked
    )  # every dataflow has energies of its own
    assert {row.name for row in found.rows} == {layer.name for layer in network.layers}
    more = auto_map(network, arch, policy=policy, objectives=("edp", "cycles", "energy"))
    assert more.best.product <= found.best.product


def test_all_row_stationary_may_not_fit_where_others_do():
    """Whole rows have to stand in a chunk's share of the buffers: 224 columns of 16-bit inputs do not, part of a row does."""
    net = NetBuilder("wide", "written here")
    net.conv(net.input((4, 24, 224)), "rows", 8, 3, padding=1, operator="shift")
    network = net.finish()
    policy = Policy(layers=(("rows", LayerFormat(w_bits=6, a_bits=16)),))
    arch = override(PRESETS["small"], {"ibuf_bits": 3 << 14})
    found = auto_map(network, arch, policy=policy)
    assert found.find(slp="rs").refused.startswith("layer rows: the smallest tile needs")
    assert "bits of ibuf, one bank holds 8,192" in found.find(slp="rs").refused
    assert {dict(one.dataflows)["slp"] for one in found.ranked if not one.refused} == set(DATAFLOWS) - {"rs"}
    assert found.find(slp="rs") is found.ranked[-1]
    tiny = override(arch, {"ibuf_bits": 3 * 64, "wbuf_bits": 3 * 64})
    with pytest.raises(
        HwsimError, match="no dataflow of a chunk of nasa runs all of its layers: rs: layer rows: the smallest tile"
    ):
        auto_map(network, tiny, policy=policy)
