"""A report put together by hand: what the report modules are tested on, without the simulator."""

from __future__ import annotations

import random

from hwsim.core.actions import EnergyTerm
from hwsim.core.layer import Layer
from hwsim.core.mapping import Mapping
from hwsim.core.network import Network, TensorSpec
from hwsim.core.report import AreaItem, Provenance, Report
from hwsim.core.stats import STALLS, LayerCost, LayerStats, Traffic

ARCH_FIELDS = (
    '{"preset":"small","memory":{"kind":"flat","part":"","latency_cycles":32,'
    '"bits_per_cycle":64,"channels":"shared","align_bits":0}}'
)
COMPONENTS = (("dram", "read", "bit"), ("wbuf", "read", "bit"), ("mac", "mac", "op"), ("leakage", "static", "cycle"))


def make_network(convs: int = 5) -> Network:
    """Return a chain: convolutions, then flatten (no cycles) and a gemm."""
    layers, source = [], "image"
    for i in range(convs):
        name = f"stage{i // 8}.block{i % 8}.conv"
        channels = 3 if i == 0 else 16
        layers.append(
            Layer(
                name=name,
                op="conv",
                inputs=(source,),
                K=16,
                C=channels,
                P=8,
                Q=8,
                R=3,
                S=3,
                H=8,
                W=8,
                padding=(1, 1, 1, 1),
            )
        )
        source = name
    layers.append(Layer(name="flatten", op="flatten", inputs=(source,), G=1024))
    layers.append(Layer(name="fc", op="gemm", inputs=("flatten",), K=10, C=1024))
    return Network(
        name="chain",
        inputs=(TensorSpec(name="image", shape=(1, 3, 8, 8)),),
        layers=tuple(layers),
        outputs=("fc",),
        source="made up",
    )


def make_stats(macs: int, seed: int) -> LayerStats:
    """Return counts that add up: compute, stalls, traffic."""
    draw = random.Random(seed)
    compute = max(1, macs // 64)
    stalls = tuple((name, draw.choice((0, compute // draw.choice((1, 3, 7, 20))))) for name in STALLS)
    return LayerStats(
        cycles=compute + sum(count for _, count in stalls),
        compute_cycles=compute,
        stall_cycles=stalls,
        macs=macs,
        peak_macs_per_cycle=64.0,
        traffic=(
            Traffic(level="dram", operand="W", read_bits=draw.randrange(1000, 100_000)),
            Traffic(level="dram", operand="I", read_bits=draw.randrange(1000, 100_000)),
            Traffic(level="dram", operand="O", write_bits=draw.randrange(1000, 100_000)),
            Traffic(level="wbuf", operand="W", read_bits=8 * macs, write_bits=5000),
        ),
        actions=(),
        instructions=12,
        peak_buffer_bits=(("wbuf", 4096 + seed), ("ibuf", 2048), ("obuf", 1024)),
    )


def make_cost(layer: Layer, seed: int) -> LayerCost:
    """Return one row."""
    if layer.kind != "mac":
        stats = LayerStats(
            cycles=0, compute_cycles=0, stall_cycles=(), macs=0, peak_macs_per_cycle=0.0, traffic=(), actions=()
        )
        return LayerCost(
            name=layer.name,
            op=layer.op,
            w_bits=0,
            a_bits=8,
            out_bits=8,
            weight_bits=0,
            act_bits=0,
            stats=stats,
            energy=(),
        )
    stats = make_stats(layer.macs, seed)
    counts = (stats.moved_bits("dram", "read"), stats.moved_bits("wbuf", "read"), stats.macs, stats.cycles)
    energy = tuple(
        EnergyTerm(
            component=component, verb=verb, count=count, unit=unit, unit_pj=pj, energy_pj=count * pj,
            source=f"table of {component}", note="unverified" if component == "leakage" else "",
        )
        for (component, verb, unit), count, pj in zip(COMPONENTS, counts, (20.0, 0.05, 0.2, 1.5), strict=True)
    )  # fmt: skip
    return LayerCost(
        name=layer.name,
        op=layer.op,
        w_bits=4,
        a_bits=8,
        out_bits=8,
        weight_bits=4 * layer.weights,
        act_bits=8 * layer.out_elements,
        stats=stats,
        energy=energy,
        mapping=Mapping(
            tile=(1, 1, 8, layer.C, 4, layer.Q) if layer.op == "conv" else (1, 1, 10, 512, 1, 1), order="KMC"
        ),
        notes=("a note",) if layer.op == "gemm" else (),
    )


def make_report(convs: int = 5, preset: str = "small") -> Report:
    """Return a report of a chain of convolutions."""
    network = make_network(convs)
    return Report(
        network=network,
        batch=1,
        clock_hz=1e9,
        layers=tuple(make_cost(layer, seed) for seed, layer in enumerate(network.layers)),
        area=(
            AreaItem(name="array", area_um2=120_000.0, source="table of operators"),
            AreaItem(name="wbuf", area_um2=80_000.0, source="CACTI"),
            AreaItem(name="vector", area_um2=None, source="nothing known"),
        ),
        peak_activation_bits=16_384,
        provenance=Provenance(
            version="0.1.0", arch="toy", preset=preset, arch_fields=ARCH_FIELDS, network="chain", network_source="made up",
            policy="w4a8", mapper="given", energy_table="made up, 45 nm, 0.9 V", memory="flat, 64 bits/cycle shared, latency 32",
            weights="synthetic, normal, seed 0", activations="synthetic", seed=0, clock_source="made up",
            unverified=("rows",), notes=("no prefetch across layers",),
        ),
    )  # fmt: skip
