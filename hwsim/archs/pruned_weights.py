"""What architectures of pruned weights share: how they store float weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwsim.core.datapath import StoredWeights, Workload

if TYPE_CHECKING:
    from hwsim.core.tensors import Array


def store_pruned(workload: Workload, weight: Array, density: float) -> StoredWeights:
    """Return the weights ``[G*K, C, R, S]`` pruned to a density, 0 to 1, by magnitude; a policy of dense weights prunes none."""
    from hwsim.quant.runs import prune_weights

    found = prune_weights(weight, workload.fmt.w_bits, 1.0 if workload.fmt.codec == "dense" else density)
    return StoredWeights(integers=found.integers, scale=found.scale, codec=found, bits=found.bits)
