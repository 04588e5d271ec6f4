"""The provenance of a report: where every figure comes from and what is not modelled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hwsim.core.arch import Arch
from hwsim.core.jsonio import to_json
from hwsim.core.mapping import TIES
from hwsim.core.network import Network
from hwsim.core.policy import Policy
from hwsim.core.report import Provenance
from hwsim.core.stats import LayerCost
from hwsim.core.version import VERSION
from hwsim.pipeline.prices import Prices

NOT_MODELLED = (
    "latency is the sum of the layers': no prefetch across layers, no fusion",
    "concatenation, reshaping, shuffles and padding are address generation and take no cycles",
    "energy of control, clock tree, wires, accumulator registers and logic leakage is not modelled",
)


BORROWED = re.compile(r"(\w+) borrowed from (\w+)")
"""How a price says that its table lacks the operator (see `energy_models.ops`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where tensors come from."""

    seed: int
    weights: str = ""
    activations: str = ""
    needs_data: bool = False


def write_provenance(
    network: Network, arch: Arch, policy: Policy, prices: Prices, objective: str, rows: Sequence[LayerCost],
    sources: Sources, unknowns: Sequence[str],
) -> Provenance:  # fmt: skip
    """Return the provenance of a report."""
    mapped = [row.mapping for row in rows if row.mapping]
    proven = sum(mapping.proven for mapping in mapped)
    searched = sum(mapping.candidates for mapping in mapped)
    tie = TIES.get(objective, 0.0)
    goal = f"{objective}, by energy within {100 * tie:g} %" if tie else objective
    mapper = f"branch and bound by {goal}: {proven} of {len(mapped)} layers proven best of {searched:,} mappings"
    unverified = [f"arch {arch.name}: {name}" for name in arch.unverified]
    if prices.table.unverified:
        unverified.append(f"energy table {prices.table.name}")
    return Provenance(
        version=VERSION,
        arch=arch.name,
        preset=arch.preset,
        arch_fields=to_json(arch),
        network=network.name,
        network_source=network.source,
        policy=policy.short,
        mapper=mapper,
        energy_table=prices.table.label,
        memory=arch.memory.label,
        weights=sources.weights or "none: cycles and energy of this architecture do not depend on their values",
        activations=sources.activations or "none: cycles and energy of this architecture do not depend on their values",
        seed=sources.seed,
        clock_source=f"{arch.clock_hz / 1e6:g} MHz, {'unverified' if 'clock_hz' in arch.unverified else 'assumed'}"
        + (f" ({arch.source})" if arch.source else ""),
        unverified=tuple(unverified),
        notes=(*NOT_MODELLED, *_list_borrowed(rows), *(f"no price: {what}" for what in unknowns), *network.notes),
    )


def _list_borrowed(rows: Sequence[LayerCost]) -> list[str]:
    """Return which unit energies come from another table than the chosen one."""
    found = {match for row in rows for t in row.energy for match in BORROWED.findall(f"{t.source}; {t.note}")}
    return [f"energy of {op} is borrowed from table {table}, scaled to this node" for op, table in sorted(found)]
