"""What every architecture keeps: found by discovery, so a new one is held to it by being there.

On a fixed set of small layers: multiply-accumulates conserved, cycles at or above both roofs, sums that add up, the same figures
again (in a fresh process too), fewer bits never dearer, larger buffers never moving more, round trips, sources.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest

from hwsim.archs.registry import decode_arch, encode_arch, find_arch, list_archs
from hwsim.core.errors import SpecError
from hwsim.core.jsonio import from_json, to_json
from hwsim.core.mapping import TIES
from hwsim.core.network import Network, TensorSpec
from hwsim.core.report import Report
from hwsim.core.tensors import ActQuant, LayerTensors, Tensors
from hwsim.engine.lower import prepare_lowering
from hwsim.pipeline.layer import run_layer
from hwsim.pipeline.prices import choose_prices
from hwsim.pipeline.simulate import simulate
from mappers.objective import OBJECTIVES, Objective
from mappers.search import find_mapping, measure
from tests.contract.architecture_cases import (
    DEFAULTS,
    ENTRIES,
    LAYERS,
    bind,
    check_layer,
    count_moved,
    cut,
    double_buffers,
    draw_data,
    list_formats,
    measure_costs,
)
from tests.execute_cases import ORIGIN, Case, execute_case
from tests.naive_cases import conv, workload_of

TRAFFIC = Objective(name="energy", read_pj=1.0, write_pj=1.0)
"""Minimizes the bits that move between memory and buffers."""


def list_widest(name):
    """Yield every layer that an architecture takes, with its widest format."""
    for layer in LAYERS:
        formats = list_formats(name, layer)
        if formats:
            yield layer, formats[0]


def list_pairs(formats):
    """Yield pairs of formats of which the first has fewer bits in one place and more in none."""
    for less in formats:
        for more in formats:
            if less != more and less[0] <= more[0] and less[1] <= more[1]:
                yield less, more


# What each entry says of itself.


def test_no_entry_of_the_registry_is_broken():
    assert [entry.error for entry in list_archs() if entry.error] == []
    assert len(ENTRIES) == len(set(ENTRIES)) >= 9
    assert all("small" in entry.presets for entry in list_archs())


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_has_sources_and_names_what_is_unverified(name):
    arch = find_arch(name)
    assert arch.title
    assert arch.source
    for path in arch.unverified:
        value = arch
        for part in path.split("."):
            assert is_dataclass(value)
            assert part in {field.name for field in fields(value)}, f"{name}: no field {path}"
            value = getattr(value, part)
    assert decode_arch(encode_arch(arch)) == arch
    prices = choose_prices(arch, None)
    assert all(item.source and item.area_um2 is not None for item in prices.price_area())
    assert arch.operators
    assert set(arch.scales) <= {"multiplier", "shift"}
    assert "dense" in arch.codecs


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_takes_every_kind_of_layer_at_some_format(name):
    assert [layer.name for layer, _ in list_widest(name)] == [layer.name for layer in LAYERS]


@pytest.mark.parametrize("name", DEFAULTS)
def test_bits_that_an_entry_has_not_take_one_line_that_names_the_layer(name):
    arch, layer = find_arch(name), LAYERS[1]
    refused = 0
    for w_bits in range(1, 17):
        for a_bits in (1, 2, 3, 8, 9, 16):
            said = refuse(arch, workload_of(layer, w_bits, a_bits))
            refused += bool(said)
            assert not said or (layer.name in said and "\n" not in said)
    assert refused or (16, 16) in list_formats(name, layer)


def refuse(arch, load) -> str:
    """Return why an architecture refuses a workload, or nothing."""
    try:
        arch.check(load)
    except SpecError as error:
        return str(error)
    return ""


# One layer.


@pytest.mark.parametrize("name", ENTRIES)
def test_cycles_lie_above_both_roofs_and_all_sums_add_up(name):
    """At the widest and at the narrowest format that each layer is taken at."""
    arch = find_arch(name)
    prices = choose_prices(arch, None)
    for layer in LAYERS:
        formats = list_formats(name, layer)
        for fmt in {formats[0], formats[-1]}:
            datapath = bind(arch, layer, *fmt)
            mapping = find_mapping(datapath, arch)
            assert mapping.proven or arch.memory.kind == "dram"
            stats = check_layer(arch, datapath, mapping, prices)
            assert stats.cycles == mapping.value
            again, _ = run_layer(bind(arch, layer, *fmt), arch, mapping)
            assert again == stats
            assert find_mapping(bind(arch, layer, *fmt), arch) == mapping


@pytest.mark.parametrize("name", ENTRIES)
def test_actions_move_what_the_traffic_says(name):
    """Bits of buffers and memory are the same in the actions, which are priced, and in the traffic, which is shown."""
    arch = find_arch(name)
    for layer, fmt in list_widest(name):
        datapath = bind(arch, layer, *fmt)
        stats, _ = run_layer(datapath, arch, find_mapping(datapath, arch))
        for level in ("dram", "wbuf", "ibuf", "obuf", "sbuf"):
            shown = [(x.read_bits, x.write_bits) for x in stats.traffic if x.level == level]
            counted = [
                sum(a.count for a in stats.actions if (a.component, a.verb) == (level, verb))
                for verb in ("read", "write")
            ]
            if arch.memory.kind == "flat" or level != "dram":
                assert (sum(r for r, _ in shown), sum(w for _, w in shown)) == tuple(counted), f"{layer.name}: {level}"
        written = sum(x.write_bits for x in stats.traffic if x.level == "dram" and x.operand == "O")
        assert written >= layer.out_elements * 8
        stored = datapath.weight_storage_bits()
        assert sum(x.read_bits for x in stats.traffic if x.operand == "W" and x.level == "dram") >= stored


TINY = (
    conv(name="layer", size=(5, 6), window=(3, 3), stride=(2, 1), padding=(1, 1, 1, 1), K=5, C=6),
    conv(name="layer", size=(4, 5), window=(3, 3), padding=(1, 0, 1, 1), G=7, K=1, C=1),
    conv(name="layer", size=(3, 3), G=2, K=3, C=4, N=2),
    replace(LAYERS[-1], name="layer", N=3, K=8, C=20),
)


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("layer", TINY, ids=["conv", "depthwise", "grouped", "fc"])
def test_programs_compute_every_product(name, layer):
    """The Program of a mapped layer, executed bit for bit, leaves the functional model's output: every product is there once."""
    arch = find_arch(name)
    if not arch.computes_integers:
        pytest.skip("its values are those of the float model")
    rng = np.random.default_rng(11)
    for w_bits, a_bits in list_formats(name, layer)[:2]:
        load = workload_of(layer, w_bits, a_bits, out_bits=8)
        data, stored = draw_data(arch, load)
        weight = rng.integers(-(1 << (w_bits - 1)), 1 << (w_bits - 1), (layer.G * layer.K, layer.C, layer.R, layer.S))
        if w_bits == 1:
            weight = 2 * weight + 1
        if stored is not None:
            weight = stored.integers
        held = LayerTensors(weight=weight.astype(np.int16), w_scale=np.ones(1, np.float32), w_bits=max(w_bits, 8))
        scale = 1.0 / (layer.C * layer.R * layer.S << max(0, w_bits - 4))
        quants = {"x": ActQuant(scale=scale, bits=a_bits), "layer": ActQuant(scale=1.0, bits=8)}
        network = Network(
            name="one",
            inputs=(TensorSpec(name="x", shape=layer.in_shape),),
            layers=(layer,),
            outputs=("layer",),
            source="",
        )
        wide = replace(arch, shell=replace(arch.shell, psum_bits=48)) if a_bits + w_bits > 16 else arch
        datapath = wide.bind(load, data if arch.needs_data else None)
        case = Case(
            network, Tensors(layers={"layer": held}, activations=quants, origin=ORIGIN), {"x": data.activation}, load, wide,
            find_mapping(datapath, wide),
        )  # fmt: skip
        after, wanted = execute_case(case, datapath, "program", fill=0xA6)
        np.testing.assert_array_equal(after, wanted)


# Bits.


@pytest.mark.parametrize("name", ENTRIES)
def test_with_the_same_mapping_fewer_bits_never_cost_more(name):
    """Engine cycles, bits moved, the energy of every kind of action; cycles of the whole layer with a port for each operand.

    Outputs have the activations' bits, as those of a network have.

    With a port each and sums that stay on chip a layer's times are sums and maxima of its instructions' times, so they fall with
    them. On a port that loads and stores share, what is ready sooner may ask for it in another order, and end later.
    """
    arch = find_arch(name)
    arch = replace(arch, memory=replace(arch.memory, channels="per-operand"))
    prices = choose_prices(arch, None)
    for layer in LAYERS:
        formats = list_formats(name, layer)
        mapping = cut(layer, 2)
        found = {fmt: measure_costs(arch, bind(arch, layer, *fmt, fmt[1]), mapping, prices) for fmt in formats}
        for less, more in list_pairs(formats):
            where = f"{layer.name} at {less} and {more}"
            found[less].check_below(found[more], where)
            assert found[less].cycles <= found[more].cycles, where


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("goal", OBJECTIVES)
def test_with_the_best_mapping_fewer_bits_never_cost_more(name, goal):
    """What is minimized falls with the bits; by cycles the least cycles do, within whose tie energy decides."""
    arch = find_arch(name)
    prices = choose_prices(arch, None)
    for layer in LAYERS:
        formats = list_formats(name, layer)
        least = {}
        for fmt in formats:
            datapath = bind(arch, layer, *fmt)
            found = find_mapping(datapath, arch, prices.make_objective(goal, datapath))
            assert found.value <= found.lower_bound * (1 + TIES.get(goal, 0.0))
            least[fmt] = found.lower_bound
        for less, more in list_pairs(formats):
            assert least[less] <= least[more] * (1 + 1e-12), f"{layer.name} by {goal} at {less} and {more}"


# Buffers.


@pytest.mark.parametrize("name", ENTRIES)
def test_larger_buffers_never_move_more(name):
    arch = find_arch(name)
    larger = double_buffers(arch)
    for layer, fmt in list_widest(name):
        small, large = bind(arch, layer, *fmt), bind(larger, layer, *fmt)
        best = find_mapping(small, arch, TRAFFIC)
        again = find_mapping(large, larger, TRAFFIC)
        assert again.value <= best.value
        before, after = run_layer(small, arch, best)[0], run_layer(large, larger, best)[0]
        assert count_moved(before) == count_moved(after) == best.value


# Whole networks.


@pytest.mark.parametrize("name", DEFAULTS)
def test_reports_add_up_and_go_round_as_json(name):
    report = simulate(make_network(), name, seed=3)
    assert report.cycles == sum(row.stats.cycles for row in report.layers)
    assert report.energy_pj == pytest.approx(sum(term.energy_pj for row in report.layers for term in row.energy))
    again = from_json(to_json(report), Report)
    assert again == report
    assert set(report.provenance.unverified) >= {
        f"arch {find_arch(name).name}: {field}" for field in find_arch(name).unverified
    }
    assert simulate(make_network(), name, seed=3) == report


def make_network() -> Network:
    """Return a first layer, a depthwise one, a point-wise one and a classifier."""
    from hwsim.nets.builder import NetBuilder

    net = NetBuilder("contract", source="made up")
    x = net.conv(net.input((3, 12, 12)), "first", 8, 3, stride=2, padding=1, activation="relu")
    x = net.conv(x, "depthwise", 8, 3, padding=1, groups=8, activation="relu")
    x = net.conv(x, "point", 16, 1)
    net.fc(net.flatten(net.avgpool(x, "pool", 6, stride=6)), "fc", 10)
    return net.finish()


DIGEST = """
import json, sys
from hwsim.core.jsonio import to_json
from hwsim.pipeline.simulate import simulate
from tests.contract.test_architectures import DEFAULTS, make_network
print(json.dumps({name: to_json(simulate(make_network(), name, seed=3)) for name in DEFAULTS}))
"""


def test_a_fresh_process_finds_the_same():
    done = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(done.stdout)
    assert found == {name: to_json(simulate(make_network(), name, seed=3)) for name in DEFAULTS}


@pytest.mark.parametrize("goal", OBJECTIVES)
def test_the_value_of_a_mapping_is_what_the_cycle_engine_says(goal):
    arch = find_arch(DEFAULTS[0])
    datapath = bind(arch, LAYERS[1], *list_formats(DEFAULTS[0], LAYERS[1])[0])
    ready = prepare_lowering(datapath, arch)
    objective = choose_prices(arch, None).make_objective(goal, datapath)
    mapping = find_mapping(datapath, arch, objective)
    assert measure(datapath, arch, objective, mapping, ready)[0] == mapping.value
