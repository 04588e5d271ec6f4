"""Groups of a policy: the network is widened before it runs, and then has one format without groups for each layer."""

from __future__ import annotations

from dataclasses import replace

from hwsim.core.errors import SpecError
from hwsim.core.network import Network
from hwsim.core.policy import LayerFormat, Policy
from hwsim.core.tensors import Tensors

KEPT_BITS = 8
"""Bits of the layers that are not grouped. PalQuant leaves them in floating point; 8 bits is this project's choice."""


def widen_by_policy(
    network: Network, tensors: Tensors | None, policy: Policy
) -> tuple[Network, Tensors | None, Policy]:
    """Return network, tensors and policy as they run: widened where the policy's default has groups, else as they are.

    The first and the last layers, which are not grouped, have 8 bits unless the policy names them; layers that are added have the
    policy's default. Tensors of the narrow network do not fit the widened one: they are dropped, and a note of the network says so.

    Raises
    ------
    SpecError
        Layers differ in their groups, or the network cannot be widened (`hwsim.nets.group_parallel.widen_groups`).
    UnknownName
        The policy names a layer that the widened network has not.
    """
    groups = policy.default.groups
    for name, fmt in policy.layers:
        if fmt.groups not in (1, groups):
            expected = (
                f"those of the whole network ({groups})" if groups > 1 else "none: groups are the whole network's"
            )
            raise SpecError(
                f"policy for layer {name}: groups", fmt.groups, expected, f"w2a2g{fmt.groups} widens the network"
            )
    if groups == 1:
        return network, tensors, policy
    from hwsim.nets.group_parallel import list_kept_layers, widen_groups

    wide = widen_groups(network, groups)
    policy.check(wide)
    named = {name: replace(fmt, groups=1) for name, fmt in policy.layers}
    kept = {
        name: LayerFormat(w_bits=KEPT_BITS, a_bits=KEPT_BITS, scale=policy.default.scale)
        for name in list_kept_layers(network)
    }
    policy = Policy(default=replace(policy.default, groups=1), layers=tuple((kept | named).items()))
    notes = [f"not grouped and unless named by the policy at {KEPT_BITS} bits: {', '.join(kept)}"]
    if tensors is not None:
        notes.append("weights of the network as it was do not fit the widened one and are not used")
    return replace(wide, notes=(*wide.notes, *notes)), None, policy
