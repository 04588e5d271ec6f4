"""NASA: networks of convolutions, shifts and additions on three chunks."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from hwsim.published.claims import Row, System, leave_out

if TYPE_CHECKING:
    from hwsim.pipeline.nasa_map import AutoMapping

PAPER = "NASA, ICCAD 2022, arXiv 2210.13361"
PLUS = "NASA+, IEEE TCAS-I 2023"
REPOSITORY = "GATECH-EIC/NASA, alpha_gen.py (space AddAll)"
COUNTS = {"multiply": (42.46, 0.950), "add": (23.27, 0.138), "shift": (43.84, 1.956)}
"""Operations and parameters in millions of the stored network, counted by scripts apart from the zoo: not published."""
PLOTTED = {"OnlyConv": 0.5086, "AddAll": 0.5147}
"""Energies of CIFAR-10 networks, unit unstated (plot_scatter.py)."""
NETWORK = "nasa-cifar10"


@cache
def map_hybrid() -> AutoMapping:
    """Return the searched network on three chunks under the auto-mapper."""
    from hwsim.archs.nasa.spec import PRESETS
    from hwsim.nets.load import load_network
    from hwsim.pipeline.nasa_map import auto_map

    loaded = load_network(NETWORK)
    return auto_map(loaded.network, PRESETS["paper"], policy=loaded.policy)


@cache
def map_convolutions() -> AutoMapping:
    """Return the same shapes, convolutions of 8 bits all, on 168 multiplying elements: the chunks' area."""
    from hwsim.archs.nasa.spec import PRESETS, Nasa
    from hwsim.archs.overrides import override
    from hwsim.core.policy import LayerFormat, Policy
    from hwsim.nets.load import load_network
    from hwsim.pipeline.nasa_map import auto_map

    alone = {
        "clp_rows": 12,
        "clp_cols": 14,
        "slp_rows": 1,
        "slp_cols": 1,
        "alp_rows": 1,
        "alp_cols": 1,
        "clp_share": 98,
    }
    arch = override(PRESETS["paper"], {name: str(value) for name, value in alone.items()})
    assert isinstance(arch, Nasa)
    policy = Policy(default=LayerFormat(w_bits=8, a_bits=8, operator="multiply"))
    return auto_map(load_network(NETWORK).network, arch, policy=policy)


def compare_counts() -> list[Row]:
    """Return the stored network's operations and parameters."""
    from hwsim.nets.load import load_network

    layers = load_network(NETWORK).network.mac_layers
    rows = []
    for operator, (operations, parameters) in COUNTS.items():
        own = [layer for layer in layers if layer.operator == operator]
        for what, counted, found in (
            ("operations", operations, sum(layer.macs for layer in own)),
            ("parameters", parameters, sum(layer.weights for layer in own)),
        ):
            rows.append(
                Row(
                    claim=f"stored network, CIFAR-10: {what} of {operator} layers", source=REPOSITORY, unit="M",
                    equations=round(found / 1e6, 2 if what == "operations" else 3),
                    why=f"not published; counted from the stored choices apart from the zoo: {counted:g} M",
                )
            )  # fmt: skip
    return rows


def compare_chunks() -> list[Row]:
    """Return balance, pipeline, dataflows and energy."""
    from hwsim.nets.load import load_network
    from mappers.nasa_allot import allot_pes

    loaded = load_network(NETWORK)
    shares = allot_pes(loaded.network, loaded.policy).chunks
    ratios = [share.elements / share.operations for share in shares]
    hybrid, plain = map_hybrid(), map_convolutions()
    rows_only = hybrid.find(clp="rs", slp="rs", alp="rs")
    ran = [one for one in hybrid.ranked if not one.refused]
    busy: dict[str, int] = {}
    memory = 0.0
    for row in hybrid.rows:
        busy[row.engine] = busy.get(row.engine, 0) + row.cycles
        memory += row.energy_by_component().get("dram", 0.0)
    chunks = ", ".join(f"{name} {cycles:,}" for name, cycles in busy.items())
    return [
        Row(
            claim="elements over operations, the same for three chunks in the area of 168 multiply-accumulates: largest over least",
            source=f"{PAPER} (from memory)", certainty="unverified", unit="x", claimed=1.0, equations=max(ratios) / min(ratios),
            why="arrays are whole: " + ", ".join(f"{share.name} {share.rows} x {share.cols}" for share in shares),
        ),
        Row(
            claim="layers of different kinds in pipeline: cycles from frame to frame over those of a frame alone", source=PAPER,
            unit="x", equations=1 / 3, simulated=hybrid.interval_cycles / hybrid.best.cycles,
            why=f"equations: three chunks equally busy; simulated: {chunks} cycles a frame",
        ),
        Row(
            claim="the auto-mapper against row stationary everywhere: energy-delay product",
            source=f"{PAPER} (from memory)", unit="x",
            simulated=rows_only.product / hybrid.best.product if not rows_only.refused else None,
            why=rows_only.refused
            or f"the best of {len(ran)} combinations that run is {hybrid.best.label}, the worst has "
            f"{ran[-1].product / ran[0].product:.2f}x its product; the paper shows a machine, of sizes not published, on which row "
            "stationary everywhere does not fit",
        ),
        Row(
            claim="energy of the searched network over that of convolutions alone, CIFAR-10", unit="x",
            source="GATECH-EIC/NASA, plot_scatter.py", claimed=PLOTTED["AddAll"] / PLOTTED["OnlyConv"],
            simulated=hybrid.best.energy_pj / plain.best.energy_pj,
            why="theirs is another searched network, ours the same shapes as convolutions of 8 bits; "
            f"{memory / hybrid.best.energy_pj:.0%} of ours is DRAM, and shift layers have activations of 16 bits",
        ),
        Row(
            claim="the same: energy times cycles from frame to frame", source=PAPER, unit="x",
            simulated=hybrid.best.energy_pj * hybrid.interval_cycles / (plain.best.energy_pj * plain.interval_cycles),
            why="no claim is on CIFAR-10; at the same shapes "
            f"cheaper operators gain {plain.interval_cycles / hybrid.interval_cycles:.2f}x in cycles and DRAM takes it back",
        ),
    ]  # fmt: skip


def reproduce() -> tuple[Row, ...]:
    """Return NASA's rows."""
    return (
        *compare_counts(),
        *compare_chunks(),
        leave_out(
            "energy-delay product up to 65.1 % lower on CIFAR-100 at comparable accuracy", f"{PLUS}, abstract",
            "networks and machines behind it are not published; the only searched network stored is CIFAR-10's",
        ),
        leave_out(
            "95.24 % on CIFAR-10 (convolutions alone 94.947 %)", "GATECH-EIC/NASA, plot.py", "takes search and training"
        ),
    )  # fmt: skip


SYSTEM = System(
    name="nasa", title="multiply, shift and add on three chunks", source=f"{PAPER}; GATECH-EIC/NASA", reproduce=reproduce,
    archs=("nasa",), order=5,
)  # fmt: skip
