"""The provenance of a report: where every figure comes from and what is not modelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hwsim.core.arch import Arch
from hwsim.core.jsonio import to_json
from hwsim.core.network import Network
from hwsim.core.policy import Policy
from hwsim.core.report import Provenance
from hwsim.core.stats import LayerCost
from hwsim.core.version import VERSION
from hwsim.pipeline.prices import Prices

NOT_MODELLED = (
    "latency is the sum of the layers': no prefetch across layers, no fusion",
    "concatenation, reshaping, shuffles and padding are address generation and take no cycles",
    "energy of control, clock tree, wires and logic leakage is not modelled",
)


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
    mapper = f"branch and bound by {objective}: {proven} of {len(mapped)} layers proven best of {searched:,} mappings"
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
        notes=(*NOT_MODELLED, *(f"no price: {what}" for what in unknowns), *network.notes),
    )
