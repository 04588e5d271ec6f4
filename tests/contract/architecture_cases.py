"""What the contract suite runs: every architecture of the registry with its presets, a fixed set of small layers, formats."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from energy_models.pricing import QUANTUM_PJ
from hwsim.archs.registry import find_arch, list_archs
from hwsim.core.arch import Arch
from hwsim.core.datapath import Datapath, LayerData, StoredWeights, Workload
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.mapping import TILE_DIMS, Mapping
from hwsim.core.stats import LayerStats
from hwsim.pipeline.layer import run_layer
from hwsim.pipeline.prices import Prices
from tests.naive_cases import workload_of

ENTRIES = tuple(f"{entry.name}:{preset}" for entry in list_archs() for preset in entry.presets)
DEFAULTS = tuple(f"{entry.name}:{entry.default}" for entry in list_archs())
LAYERS = (
    Layer(name="first", op="conv", inputs=("x",), K=16, C=3, P=16, Q=16, R=3, S=3, H=33, W=33, stride=(2, 2)),
    Layer(name="conv", op="conv", inputs=("x",), K=24, C=16, P=10, Q=10, R=3, S=3, H=10, W=10, padding=(1, 1, 1, 1)),
    Layer(name="strided", op="conv", inputs=("x",), N=2, K=20, C=12, P=5, Q=5, R=3, S=3, H=11, W=11, stride=(2, 2)),
    Layer(name="point", op="conv", inputs=("x",), K=40, C=70, P=7, Q=7, H=7, W=7),
    Layer(name="depthwise", op="conv", inputs=("x",), G=40, P=8, Q=8, R=3, S=3, H=8, W=8, padding=(1, 1, 1, 1)),
    Layer(name="grouped", op="conv", inputs=("x",), G=3, K=8, C=8, P=6, Q=6, R=3, S=3, H=8, W=8),
    Layer(name="fc", op="gemm", inputs=("x",), N=4, K=40, C=300),
)
GRID = (
    (16, 16),
    (8, 8),
    (8, 6),
    (8, 4),
    (6, 8),
    (6, 6),
    (4, 8),
    (4, 4),
    (3, 4),
    (4, 2),
    (3, 3),
    (2, 4),
    (2, 2),
    (1, 2),
    (1, 1),
)
"""Weight and activation bits that are tried, the widest first."""
NARROWEST = 4
"""Where time depends on activations they are drawn at so many bits, and shifted left at more: the same digits in more bits."""


@cache
def list_formats(name: str, layer: Layer) -> tuple[tuple[int, int], ...]:
    """Return the formats of the grid at which an architecture takes a layer."""
    arch, found = find_arch(name), []
    for w_bits, a_bits in GRID:
        try:
            arch.check(workload_of(layer, w_bits, a_bits))
        except SpecError:
            continue
        if not arch.needs_data or (a_bits >= NARROWEST and a_bits % 2 == 0):
            found.append((w_bits, a_bits))
    return tuple(found)


def draw_data(arch: Arch, load: Workload) -> tuple[LayerData, StoredWeights | None]:
    """Return real tensors of a layer: a third of the activations are zero, as behind a ReLU."""
    layer = load.layer
    rng = np.random.default_rng(7)
    real = rng.standard_t(5, (layer.G * layer.K, layer.C, layer.R, layer.S)).astype(np.float32) * np.float32(0.05)
    stored = arch.store_weights(load, real)
    narrow = rng.integers(0, 1 << (NARROWEST - 1), layer.in_shape) * (rng.random(layer.in_shape) > 1 / 3)
    activation = narrow << max(0, load.fmt.a_bits - NARROWEST)
    return LayerData(activation=activation.astype(np.int16), codec=stored.codec if stored else None), stored


def bind(arch: Arch, layer: Layer, w_bits: int, a_bits: int, out_bits: int = 8) -> Datapath:
    """Return the datapath of a layer, on drawn tensors where time depends on them."""
    load = workload_of(layer, w_bits, a_bits, out_bits)
    return arch.bind(load, draw_data(arch, load)[0] if arch.needs_data else None)


def cut(layer: Layer, parts: int) -> Mapping:
    """Return a mapping that cuts rows, and filters and channels where the groups allow it."""
    dims = {dim: getattr(layer, dim) for dim in TILE_DIMS}
    tile = dims | {"P": -(-layer.P // parts)}
    if layer.G == 1:
        tile |= {"K": -(-layer.K // (8 * parts)) * 8, "C": -(-layer.C // parts)}
    return Mapping(tile=tuple(max(1, min(tile[dim], dims[dim])) for dim in TILE_DIMS), order="MKC")


def double_buffers(arch: Arch) -> Arch:
    """Return an architecture with scratchpads of twice the size."""
    shell = arch.shell
    grown = {f"{name}_bits": 2 * getattr(shell, f"{name}_bits") for name in ("wbuf", "ibuf", "obuf")}
    return replace(arch, preset=f"{arch.preset}+", shell=replace(shell, **grown, stage_bits=2 * shell.staging_bits))


def count_moved(stats: LayerStats) -> int:
    """Return the bits between memory and buffers."""
    return sum(x.read_bits + x.write_bits for x in stats.traffic if x.level == "dram")


def price_actions(prices: Prices, stats: LayerStats) -> dict[tuple[str, str], float]:
    """Return the energy of a layer by component and verb, what passes with time left out."""
    costs: dict[tuple[str, str], float] = {}
    for term in prices.price_layer(stats)[0]:
        if term.component not in ("leakage", "dram_static"):
            key = term.component, term.verb
            costs[key] = costs.get(key, 0.0) + term.energy_pj
    return costs


@dataclass(frozen=True)
class Costs:
    """What a layer takes under a mapping: cycles of the engine, bits moved, energy by component and verb."""

    busy: int
    moved: int
    energy: dict[tuple[str, str], float]
    cycles: int

    def check_below(self, more: Costs, where: str) -> None:
        """Hold these costs to be no higher than others; cycles of the whole layer are left out."""
        assert self.busy <= more.busy, where
        assert self.moved <= more.moved, where
        assert sum(self.energy.values()) <= sum(more.energy.values()) * (1 + 1e-12), where
        assert all(cost <= more.energy.get(key, 0) * (1 + 1e-12) for key, cost in self.energy.items()), where


def measure_costs(arch: Arch, datapath: Datapath, mapping: Mapping, prices: Prices) -> Costs:
    """Return what a layer takes under a mapping."""
    stats, _ = run_layer(datapath, arch, mapping)
    busy = int(datapath.sum_tiles(np.array([mapping.tile])).busy[0])
    return Costs(busy, count_moved(stats), price_actions(prices, stats), stats.cycles)


def check_layer(arch: Arch, datapath: Datapath, mapping: Mapping, prices: Prices) -> LayerStats:
    """Hold one layer's run to both roofs, its sums to their parts, its prices to have sources; return its stats."""
    macs, ports = datapath.layer.macs, 3 if arch.memory.channels == "per-operand" else 1
    stats, trace = run_layer(datapath, arch, mapping)
    assert stats.macs == macs
    assert stats.cycles == trace.cycles
    assert stats.cycles == stats.compute_cycles + sum(cycles for _, cycles in stats.stall_cycles)
    assert all(cycles >= 0 for _, cycles in stats.stall_cycles)
    if not arch.needs_data:  # where zeros are skipped, the peak is that of dense work
        assert stats.compute_cycles * datapath.peak_macs_per_cycle() >= macs
    if arch.memory.kind == "flat":
        assert stats.cycles * arch.memory.bits_per_cycle * ports >= count_moved(stats)
    assert all(bits <= arch.shell.bank_bits(name) for name, bits in stats.peak_buffer_bits)
    terms, unknown = prices.price_layer(stats)
    assert not unknown
    for term in terms:
        assert term.source
        assert term.energy_pj >= 0
        assert abs(term.energy_pj - term.count * term.unit_pj) <= QUANTUM_PJ + 1e-12 * term.energy_pj
    return stats
