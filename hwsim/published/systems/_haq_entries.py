"""HAQ's released latency table entry by entry: the cycle simulation beside it, and what each difference consists of.

The closed form of `hwsim.published.haq` stands for the table, of which it gives every entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hwsim.published.claims import Table
from hwsim.published.haq import BATCH, MOST_BITS, count_cycles, describe
from hwsim.published.systems._run import describe_load, find_prices, list_mac_layers, price_layer

if TYPE_CHECKING:
    from hwsim.core.layer import Layer
    from hwsim.core.stats import LayerCost

Array = npt.NDArray[np.int64]
ARCH, NETWORK = "bismo-cloud", "mobilenet_v2"
OBJECTIVE = "least-cycles"
"""Mappings that take the least cycles: a table of latencies knows no energy."""
KINDS = ("first", "expansion", "depthwise", "projection", "last", "fc")
PARTS = ("array", "tiles", "operands", "outputs", "issue")
"""What an entry's difference is the sum of, see `Entries.parts`."""
QUANTILES = (0, 5, 25, 50, 75, 95, 100)
FAR = 0.1
"""Entries that far above the table are looked into."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entries:
    """Cycles of every entry, int64 [layers, weight bits, activation bits].

    Parameters
    ----------
    table : ndarray
        HAQ's.
    simulated : ndarray
        Of the layer in the network at uniform bits: its input and output are stored at ``a`` bits.
    parts : ndarray
        ``simulated - table`` by ``PARTS``, int64 [parts, layers, w, a]. ``array``: the engine alone, an image a tile, less the
        table; ``tiles``: the engine at the tiles that fit the buffers, less that; ``operands``: it waits for weights and inputs,
        the load before the first tile among them; ``outputs``: it waits for a bank of ``obuf``, and what is left to requantize
        and write behind its last tile; ``issue``: instructions are started.
    stores, moved : ndarray
        Cycles to requantize and write a layer's outputs, one behind the other; bits that the outputs take in memory.
    busy : ndarray
        Cycles of the engine.
    kinds : tuple of str
        Of the layers, of ``KINDS``.
    """

    table: Array
    simulated: Array
    parts: Array
    stores: Array
    moved: Array
    busy: Array
    kinds: tuple[str, ...]

    @property
    def off(self) -> npt.NDArray[np.float64]:
        """Relative differences."""
        return np.asarray(self.simulated / self.table - 1)


def name_kind(layer: Layer, number: int, count: int) -> str:
    """Return a layer's kind, of ``KINDS``."""
    if layer.is_depthwise:
        return "depthwise"
    if number == 0:
        return "first"
    if number >= count - 2:
        return "fc" if layer.P * layer.Q == 1 else "last"
    return "expansion" if layer.K > layer.C else "projection"


@cache
def simulate_entries() -> Entries:
    """Return every entry of MobileNetV2's table; layers of one shape are simulated once."""
    layers, bits = list_mac_layers(NETWORK, BATCH), range(1, MOST_BITS + 1)
    known: dict[tuple[object, int, int], tuple[int, ...]] = {}
    rows = []
    for layer in layers:
        product = describe(layer, BATCH)
        for w in bits:
            for a in bits:
                key = (layer.shape_key(), w, a)
                if key not in known:
                    known[key] = _price_entry(layer, w, a, count_cycles(product, w, a))
                rows.append(known[key])
    found = np.array(rows, np.int64).T.reshape(-1, len(layers), MOST_BITS, MOST_BITS)
    table, simulated, stores, moved, busy = found[:5]
    kinds = tuple(name_kind(layer, number, len(layers)) for number, layer in enumerate(layers))
    return Entries(
        table=table, simulated=simulated, stores=stores, moved=moved, busy=busy, parts=found[5:], kinds=kinds
    )  # fmt: skip


def _price_entry(layer: Layer, w: int, a: int, table: int) -> tuple[int, ...]:
    """Return table, simulation, stores, moved bits, busy cycles, and the parts of the difference."""
    cost = price_layer(layer.shape_key(), ARCH, w, a, a, OBJECTIVE)
    stats, stalls = cost.stats, dict(cost.stats.stall_cycles)
    busy = stats.compute_cycles + stalls["fill"]
    moved, stores = _count_stores(layer, cost)
    alone = count_engine(layer, w, a)
    operands = stalls["weights"] + stalls["inputs"]
    outputs = stalls["output_buffer"] + stalls["memory"] + stalls["drain"]
    rest = stats.cycles - busy - operands - outputs
    return (table, stats.cycles, stores, moved, busy, alone - table, busy - alone, operands, outputs, rest)


def _count_stores(layer: Layer, cost: LayerCost) -> tuple[int, int]:
    """Return the bits that the outputs take in memory, and the cycles to requantize and to write them."""
    arch = find_prices(ARCH).arch
    moved = cost.stats.moved_bits("dram", "write", "O")
    return moved, -(-moved // arch.memory.bits_per_cycle) + -(-layer.out_elements // arch.shell.store_lanes)


def count_engine(layer: Layer, w: int, a: int) -> int:
    """Return the cycles of the engine alone, an image a tile."""
    whole = np.array([[layer.N, layer.G, layer.K, layer.C, layer.P, layer.Q]], np.int64)
    return int(find_prices(ARCH).arch.bind(describe_load(layer, w, a, a)).sum_tiles(whole).busy[0])


def list_groups(entries: Entries) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Yield a group's name and which entries are in it, bool [layers, w, a]."""
    everything = np.ones(entries.table.shape, bool)
    kinds, bits = np.array(entries.kinds), np.arange(1, MOST_BITS + 1)
    yield "all", everything
    for kind in KINDS:
        yield kind, everything & (kinds == kind)[:, None, None]
    for width in bits:
        yield f"w{width}", everything & (bits == width)[:, None]
    for width in bits:
        yield f"a{width}", everything & (bits == width)


def build_table(source: str) -> Table:
    """Return the distribution of the differences, and what the means consist of."""
    entries = simulate_entries()
    off, parts = 100 * entries.off, 100 * entries.parts / entries.table
    rows: list[tuple[str | float, ...]] = []
    for name, inside in list_groups(entries):
        quantiles = (float(x) for x in np.percentile(off[inside], QUANTILES))
        near = (100 * float((np.abs(off[inside]) < limit).mean()) for limit in (1, 5))
        means = (float(part[inside].mean()) for part in parts)
        rows.append((name, int(inside.sum()), *quantiles, *near, float(off[inside].mean()), *means))
    spans = ("least", *(f"{q} %" for q in QUANTILES[1:-1]), "most")
    return Table(
        title=f"difference of {ARCH} from the table, % of an entry, by kind of layer and by bits",
        heads=("entries", "number", *spans, "in 1 %", "in 5 %", "mean", *PARTS),
        rows=tuple(rows), source=source, why=explain_entries(entries),
    )  # fmt: skip


def explain_entries(entries: Entries) -> str:
    """Return what the parts are, and what the entries far from the table have in common."""
    alone = 100 * entries.parts[0] / entries.table
    bits = np.arange(1, MOST_BITS + 1)
    far = entries.off > FAR
    late = far & (entries.stores > entries.busy)
    few = far & (np.minimum.outer(bits, bits) <= 2)
    waits = 100 * entries.parts[2:4][:, far].sum() / (entries.simulated - entries.table)[far].sum()
    return (
        "the mean is the sum of the five columns behind it. Array: the engine alone, an image a tile, "
        f"{100 * (alone == 0).mean():.0f} % of the entries equal, {np.abs(alone).mean():.2f} % off on average, by the order of "
        "planes within a tile's first words. Tiles: those that fit the buffers, in place of images; smaller ones may fill the "
        "operand memories better. Operands: waits for weights and inputs, the load before a layer's first tile among them. "
        "Outputs: waits for a bank of obuf, and what is left to requantize and write behind the last tile. The table knows none "
        "of the last four. "
        f"Of the {far.sum()} entries more than {100 * FAR:.0f} % above it, {few.sum()} have an operand of 1 or 2 bits; waits for "
        f"operands and outputs make {waits:.0f} % of their excess; in {late.sum()} of them requantizing and writing, one behind "
        f"the other, take longer than the array. {tell_extreme(entries, 'most')}. {tell_extreme(entries, 'least')}"
    )


def tell_extreme(entries: Entries, which: str) -> str:
    """Return where the largest or the least difference stands and what it consists of."""
    at = (np.argmax if which == "most" else np.argmin)(entries.off)
    row, w, a = (int(x) for x in np.unravel_index(at, entries.off.shape))
    layer = list_mac_layers(NETWORK, BATCH)[row]
    shares = zip(PARTS, 100 * entries.parts[:, row, w, a] / entries.table[row, w, a], strict=True)
    told = ", ".join(f"{name} {share:+.1f}" for name, share in shares if abs(share) >= 0.05)
    rows = entries.moved[row, w, a] / (layer.out_elements * (a + 1))
    return (
        f"The {which}, {100 * entries.off[row, w, a]:+.1f} %, is {layer.name} ({entries.kinds[row]}) at w{w + 1}a{a + 1}: {told}; "
        f"its rows of {layer.Q} outputs take {rows:.2f} times their bits in memory"
    )
