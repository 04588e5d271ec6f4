"""BitFusion: fusion units of 2-bit bricks against Eyeriss."""

from __future__ import annotations

import csv
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from hwsim.published.bitfusion import BATCH, OUT_BITS, Counts, Prices, Shape, count_layer
from hwsim.published.bitfusion_networks import EYERISS_CYCLES, MACHINES, NETWORKS
from hwsim.published.claims import Row, System, find_reference, leave_out, skip_row
from hwsim.published.systems._run import find_geomean, find_prices, price_layer

if TYPE_CHECKING:
    from hwsim.core.layer import Layer
    from hwsim.core.stats import LayerCost

PAPER = "Bit Fusion, ISCA 2018, arXiv 1712.01507"
SWEEP = "hsharma35/bitfusion (no licence), results of its sweep"
TABLE = ("tables", "bitfusion_16x32_192.csv")
SIZE = "16x32@192"
TOTALS = {
    "16x32@192": (37_666_491, 1_317_523, 3_293_704, 410_352, 2_822_491, 49_079_982, 394_583, 337_175),
    "16x32@4096": (28_489_980, 780_548, 1_771_847, 225_419, 1_032_402, 39_539_122, 131_079, 103_063),
    "16x64@4096": (15_358_775, 391_448, 886_404, 121_226, 516_932, 19_770_278, 65_612, 52_053),
    "16x128@4096": (7_680_678, 295_262, 445_254, 136_741, 292_340, 9_900_698, 32_872, 26_545),
    "16x256@4096": (5_302_970, 308_908, 350_159, 169_541, 247_976, 7_196_506, 17_472, 14_697),
}
"""Cycles by network, in the order of `NETWORKS`, batch 16."""
EYERISS_NJ = {
    "AlexNet": 205_352_719, "SVHN": 44_620_518, "CIFAR10": 171_223_329, "LeNet-5": 4_905_476, "VGG-7": 91_246_401,
    "RESNET-18": 314_328_247, "RNN": 6_464_261, "LSTM": 5_165_507,
}  # fmt: skip
"""Energy of Eyeriss by network: of the layers and poolings in hsharma35/bitfusion, ``results/eyeriss_results.csv``, the
sum of (ALU + 0.15 DRAM + Buffer + Array + RF) 3.2e-3 nJ, as its scripts weigh the columns."""


class Parts(NamedTuple):
    """DRAM bits of a network."""

    weights: int
    inputs: int
    outputs_read: int
    outputs_written: int


class Sums(NamedTuple):
    """A network, ours: cycles, of these compute, DRAM bits, energy in nJ, what of it DRAM and buffers take."""

    cycles: int
    compute: int
    dram: Parts
    energy_nj: float
    dram_nj: float
    buffers_nj: float


@cache
def count_network(name: str, size: str = SIZE, prices: Prices | None = None) -> tuple[Counts, ...]:
    """Return the counts of a network's layers under the equations; ``prices``: not the default ones."""
    return tuple(count_layer(shape, MACHINES[size], prices=prices) for shape in NETWORKS[name].values())


def make_layer(shape: Shape) -> Layer:
    """Return the layer of a shape: padding is part of the input, as in the equations."""
    from hwsim.core.layer import Layer

    size = (shape.out - 1) * shape.stride + shape.kernel
    return Layer(
        name="layer", op="conv", inputs=("x",), N=BATCH, K=shape.out_channels, C=shape.in_channels, P=shape.out, Q=shape.out,
        R=shape.kernel, S=shape.kernel, H=size, W=size, stride=(shape.stride, shape.stride),
    )  # fmt: skip


@cache
def simulate_network(name: str, wide: bool = True) -> Sums:
    """Return a network's sums on `bitfusion` E; ``wide``: outputs of 32 bits, else of the next layer's."""
    costs: list[LayerCost] = [
        price_layer(make_layer(s), "bitfusion-E", s.w_bits, s.a_bits, OUT_BITS if wide else s.a_bits)
        for s in NETWORKS[name].values()
    ]
    return Sums(
        cycles=sum(x.cycles for x in costs),
        compute=sum(x.stats.compute_cycles for x in costs),
        dram=count_dram(costs),
        energy_nj=sum(x.energy_pj for x in costs) / 1e3,
        dram_nj=sum(x.energy_by_component()["dram"] for x in costs) / 1e3,
        buffers_nj=sum(x.energy_by_component()[key] for x in costs for key in ("wbuf", "ibuf", "obuf")) / 1e3,
    )


def count_dram(costs: list[LayerCost]) -> Parts:
    """Return the DRAM bits of layers, ours; partial sums count with the outputs."""
    weights, inputs, read = (
        sum(cost.stats.moved_bits("dram", "read", operand) for cost in costs) for operand in ("W", "I", "")
    )
    written = sum(cost.stats.moved_bits("dram", "write") for cost in costs)
    return Parts(weights=weights, inputs=inputs, outputs_read=read - weights - inputs, outputs_written=written)


def compare_rows() -> Row:
    """Return how many rows of the sweep the equations give."""
    claim = "released sweep, 16 x 32 units at 192 bits a cycle: layers whose cycles, stalls, DRAM reads and writes are all equal"
    path = find_reference(*TABLE)
    if path is None:
        return skip_row(claim, SWEEP, *TABLE)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    equal = 0
    for row in rows:
        found = count_layer(NETWORKS[row["network"]][row["layer"]], MACHINES[SIZE], int(row["batch"]))
        wanted = [int(row[key]) for key in ("cycles", "stall_cycles", "dram_read_bits", "dram_write_bits")]
        equal += wanted == [found.cycles, found.stall_cycles, found.dram_read_bits, found.dram_write_bits]
    return Row(
        claim=claim, source=SWEEP, unit="layers", claimed=len(rows), equations=equal,
        why="the simulation is held against the sums by network below",
    )  # fmt: skip


def count_their_dram(name: str) -> tuple[Parts, int]:
    """Return the DRAM bits of a network under the equations, and how many of them are outputs read before there are any."""
    counts = count_network(name)
    weights, written = sum(x.weight_bits for x in counts), sum(x.dram_write_bits for x in counts)
    inputs = sum(x.dram_read_bits for x in counts) - weights - written
    return Parts(weights, inputs, written, written), sum(
        make_layer(shape).out_elements * OUT_BITS for shape in NETWORKS[name].values()
    )


def explain_dram(ours: Parts, theirs: Parts, useless: int) -> str:
    """Return where two networks' DRAM bits differ, the largest difference first."""
    names = ("weights", "inputs", "outputs read", "outputs written")
    parts = sorted(zip(names, ours, theirs, strict=True), key=lambda part: -abs(part[1] - part[2]))
    texts = [
        f"{name} {own / 1e6:,.0f} against {other / 1e6:,.0f}"
        + (f" ({useless / 1e6:,.0f} of these before the first partial sum is there)" if name == "outputs read" else "")
        for name, own, other in parts
    ]
    return f"DRAM {sum(ours) / 1e6:,.0f} Mbit against {sum(theirs) / 1e6:,.0f}: " + ", ".join(texts)


def compare_networks() -> list[Row]:
    """Return cycles by network."""
    rows = []
    for name, total in zip(NETWORKS, TOTALS[SIZE], strict=True):
        counts = count_network(name)
        ours = simulate_network(name)
        compute = sum(x.cycles - x.stall_cycles for x in counts)
        why = explain_dram(ours.dram, *count_their_dram(name))
        if compute != ours.compute:
            why += f"; compute {ours.compute:,} cycles against {compute:,}: ragged tiles count whole"
        rows.append(
            Row(
                claim=f"{name}, batch {BATCH}, 16 x 32 units at 192 bits a cycle", source=SWEEP, unit="cycles", claimed=total,
                equations=sum(x.cycles for x in counts), simulated=ours.cycles, why=why,
            )
        )  # fmt: skip
    return rows


def compare_sizes() -> Row:
    """Return the totals of the other sizes of the sweep."""
    equal = sum(
        sum(counts.cycles for counts in count_network(name, size)) == total
        for size, totals in TOTALS.items()
        for name, total in zip(NETWORKS, totals, strict=True)
    )
    return Row(
        claim="the sweep's five sizes x eight networks: sums of cycles that are equal", source=SWEEP, unit="sums", claimed=40,
        equations=equal,
    )  # fmt: skip


def sum_energies(prices: Prices | None = None) -> dict[str, float]:
    """Return each network's energy under the equations, in nJ: the sum over its layers; ``prices``: not the default ones."""
    return {name: sum(counts.energy_nj for counts in count_network(name, prices=prices)) for name in NETWORKS}


def split_their_energy(name: str) -> tuple[float, float]:
    """Return what of a network's energy under the equations DRAM and buffers take, in nJ; the rest is the core."""
    prices, counts = Prices(), count_network(name)
    dram = sum(x.dram_read_bits + x.dram_write_bits for x in counts) * prices.dram
    core = sum(x.cycles - x.stall_cycles for x in counts) * prices.core
    return dram, sum(x.energy_nj for x in counts) - dram - core


def explain_energy(found: dict[str, Sums]) -> str:
    """Return what of our energies is DRAM, what their DRAM and buffers instead of ours make of the gain, the prices of a bit."""
    from energy_models.pricing import price_buffer

    ours, theirs = find_prices("bitfusion-E"), Prices()
    wbuf = price_buffer(ours.buffers["wbuf"], ours.table).read_pj_per_bit
    shares = [100 * x.dram_nj / x.energy_nj for x in found.values()]
    bit_nj = sum(x.dram_nj for x in found.values()) / sum(sum(x.dram) for x in found.values())
    gains = []
    for name, x in found.items():
        dram, buffers = split_their_energy(name)
        with_dram = x.energy_nj - x.dram_nj + dram
        gains.append((EYERISS_NJ[name] / with_dram, EYERISS_NJ[name] / (with_dram - x.buffers_nj + buffers)))
    moved, both = (find_geomean(pair[i] for pair in gains) for i in (0, 1))
    return (
        f"DRAM ({bit_nj * 1e3:.3g} pJ a bit here, {theirs.dram * 1e3:.3g} there) is {min(shares):.0f} to {max(shares):.0f} % of "
        f"the energy here: with their DRAM bits instead of ours (rows above) it is {moved:.2f}x, with the energy of their buffers "
        f"too {both:.2f}x: theirs read two operands for every product, ours an input once for all columns; "
        f"a bit read from WBUF, priced in both "
        f"as the parts that it is split into, is {wbuf:.3f} pJ here, {theirs.wbuf_read * 1e3:.3f} there"
    )


def compare_gains() -> list[Row]:
    """Return the headline: speed and energy against Eyeriss."""
    wide, narrow = ({name: simulate_network(name, kind) for name in NETWORKS} for kind in (True, False))
    speed = [find_geomean(EYERISS_CYCLES[n] / found[n].cycles for n in NETWORKS) for found in (wide, narrow)]
    theirs = sum_energies()
    energy = find_geomean(EYERISS_NJ[n] / wide[n].energy_nj for n in NETWORKS)
    baseline = "Eyeriss as the repository's own results have it"
    return [
        Row(
            claim="speed against Eyeriss, geometric mean of eight networks", source=f"{PAPER}, abstract; {SWEEP}", unit="x",
            claimed=3.9, equations=find_geomean(EYERISS_CYCLES[n] / t for n, t in zip(NETWORKS, TOTALS[SIZE], strict=True)),
            simulated=speed[0],
            why=f"{baseline}; fewer cycles by network as above; with outputs at the next layer's bits instead of 32 it is "
            f"{speed[1]:.2f}x",
        ),
        Row(
            claim="energy against Eyeriss, geometric mean of eight networks", source=f"{PAPER}, abstract; {SWEEP}", unit="x",
            claimed=5.1, equations=find_geomean(EYERISS_NJ[n] / theirs[n] for n in NETWORKS), simulated=energy,
            why="Eyeriss's energies are quoted, sums of the repository's own results; BitFusion's are recomputed, layer by layer; "
            + explain_energy(wide),
        ),
    ]  # fmt: skip


def reproduce() -> tuple[Row, ...]:
    """Return BitFusion's rows."""
    return (
        compare_rows(),
        *compare_networks(),
        compare_sizes(),
        *compare_gains(),
        leave_out(
            "against Stripes and GPUs (TitanX, TX2)", f"{PAPER} (from notes)",
            "no equations of Stripes are at hand, and GPU figures are measurements of others' hardware", "unverified",
        ),
    )  # fmt: skip


SYSTEM = System(
    name="bitfusion", title="bit-level fusion: sixteen 2-bit bricks a unit", source=f"{PAPER}; hsharma35/bitfusion",
    reproduce=reproduce, archs=("bitfusion",), order=2,
)  # fmt: skip
