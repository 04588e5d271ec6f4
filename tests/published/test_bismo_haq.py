"""`bismo-cloud` against HAQ's released latency table: MobileNetV2, batch 16, 53 layers x 8 x 8 bits.

The engine alone, an image a tile, differs from the table by the order of planes within a tile's first words; the whole
simulation besides by what the table leaves out: the load before a layer's first tile, the requantization and transfer behind its
last, tiles that ``obuf`` makes smaller than an image, and issue.
"""

from __future__ import annotations

import numpy as np
import pytest

from hwsim.archs.registry import find_arch
from hwsim.core.layer import Layer
from hwsim.core.mapping import CYCLES_TIE
from hwsim.core.policy import LayerFormat, Policy
from hwsim.nets.load import load_network
from hwsim.pipeline.layer import run_layer
from hwsim.pipeline.prices import choose_prices
from hwsim.pipeline.simulate import simulate
from hwsim.published.haq import BATCH, UNIFORM
from hwsim.published.systems.haq import STRATEGY, make_policy
from mappers.search import find_mapping
from tests.naive_cases import workload_of
from tests.reference import reference

BITS = range(1, 9)


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    return np.load(reference("haq", "qmobilenetv2_imagenet100_batch16_latency_table.npy"))


@pytest.fixture(scope="module")
def layers() -> tuple[Layer, ...]:
    return tuple(layer.with_batch(BATCH) for layer in load_network("mobilenetv2").network.layers if layer.kind == "mac")


def run_engine(layer: Layer, w: int, a: int) -> int:
    """Return the cycles of the engine with an image a tile."""
    datapath = find_arch("bismo-cloud").bind(workload_of(layer, w, a))
    whole = np.array([[layer.N, layer.G, layer.K, layer.C, layer.P, layer.Q]])
    return int(datapath.count_tiles(whole).cycles[0])


def test_engine_entry_by_entry(table, layers):
    memory: dict[tuple, int] = {}

    def look_up(layer: Layer, w: int, a: int) -> int:
        key = (layer.shape_key(), w, a)
        if key not in memory:
            memory[key] = run_engine(layer, w, a)
        return memory[key]

    found = np.array([[[look_up(layer, w, a) for a in BITS] for w in BITS] for layer in layers])
    off = np.abs(found / table - 1)
    assert (off == 0).mean() > 0.5
    assert (off < 0.01).mean() > 0.99
    assert off.mean() < 0.0015
    assert off.max() < 0.015
    for w, a in UNIFORM:
        assert found[:, w - 1, a - 1].sum() == pytest.approx(UNIFORM[w, a], rel=1.5e-3)


def simulate_macs(policy: Policy, objective: str = "cycles") -> int:
    report = simulate("mobilenetv2", "bismo-cloud", policy=policy, batch=BATCH, objective=objective)
    return sum(row.stats.cycles for row in report.layers if row.w_bits)


MISSED = {(3, 3): 1.011, (1, 1): 1.034}
"""Where the least cycles are more than 1 % above. At 3 bits rows of 14 and 28 pixels take half as much again in memory, for their
alignment; 1 bit, where requantizing and writing, one behind the other, take longer than the array, HAQ does not choose from."""


@pytest.mark.parametrize(("bits", "total"), UNIFORM.items())
def test_uniform_totals_of_the_simulation(bits, total):
    """Never below the table; the sizes of ``bismo-cloud`` follow from rules stated in its preset, none from these figures."""
    policy = Policy(default=LayerFormat(w_bits=bits[0], a_bits=bits[1]))
    least = simulate_macs(policy, "least-cycles")
    assert total < least < total * MISSED.get(bits, 1.01)
    assert least > total * 1.01 or bits not in MISSED
    assert least <= simulate_macs(policy) < least * (1 + CYCLES_TIE)


def test_entries_of_the_simulation(table, layers):
    """The distribution over layers and bits, and what the largest differences are: transfers as long as the array's work."""
    arch = find_arch("bismo-cloud")
    prices = choose_prices(arch, None)
    memory: dict[tuple, tuple[float, float]] = {}

    def look_up(layer: Layer, w: int, a: int) -> tuple[float, float]:
        """Return cycles, and the share that the array or one of the ports is at work."""
        key = (layer.shape_key(), w, a)
        if key not in memory:
            datapath = arch.bind(workload_of(layer, w, a, a))
            mapping = find_mapping(datapath, arch, prices.make_objective("cycles", datapath))
            stats, _ = run_layer(datapath, arch, mapping)
            moved = {x.operand: (x.read_bits + x.write_bits) / 256 for x in stats.traffic if x.level == "dram"}
            busy = float(datapath.sum_tiles(np.array([mapping.tile])).busy[0])
            store = moved["O"] + layer.out_elements / arch.shell.store_lanes
            memory[key] = stats.cycles, max(busy, store, moved["I"], moved["W"]) / stats.cycles
        return memory[key]

    widths = (1, 4, 8)
    found = np.array([[[look_up(layer, w, a) for a in widths] for w in widths] for layer in layers])
    pick = [w - 1 for w in widths]
    off = found[..., 0] / table[:, pick][:, :, pick] - 1
    assert np.quantile(off, [0.05, 0.5, 0.95]) == pytest.approx([0.001, 0.014, 0.15], abs=0.02)
    assert (off < 0.05).mean() > 0.79
    assert off.min() > -0.07
    assert (found[..., 1] > 0.75).all()
    depthwise = [layer.is_depthwise for layer in layers]
    assert np.abs(off[depthwise]).max() < 0.07


def test_released_strategy(table, layers):
    chosen = sum(int(table[row, w - 1, a - 1]) for row, (w, a) in enumerate(STRATEGY))
    assert chosen / UNIFORM[8, 8] == pytest.approx(0.5964, abs=1e-4)
    policy = make_policy(STRATEGY)
    assert [name for name, _ in policy.layers] == [layer.name for layer in layers]
    assert simulate_macs(policy) / simulate_macs(Policy()) == pytest.approx(0.596, abs=0.002)
