"""Scaling of dynamic energy and area between technology nodes.

Source of every constant: A. Stillmaker and B. Baas, "Scaling equations for the accurate prediction of CMOS device performance
from 180 nm to 7 nm", Integration 58 (2017) 74-81: energy polynomials in the supply voltage, and the table of area factors.
Between listed nodes both are interpolated linearly in the node. Leakage is no dynamic energy and is never scaled here.
"""

from __future__ import annotations

import math

from hwsim.core.errors import SpecError

CITATION = "Stillmaker and Baas 2017"

# node_nm: (a2, a1, a0) of the energy factor a2*V^2 + a1*V + a0.
_ENERGY_POLYNOMIALS: dict[float, tuple[float, float, float]] = {
    130: (7.171, -6.709, 2.904),
    90: (4.762, -4.781, 2.092),
    65: (3.755, -4.398, 1.975),
    45: (1.103, -0.362, 0.2767),
    32: (0.9559, -0.7823, 0.471),
    20: (0.373, -0.1582, 0.04104),
    16: (0.2958, -0.1241, 0.03024),
    14: (0.2363, -0.09675, 0.02239),
    10: (0.2068, -0.09311, 0.02375),
    7: (0.1776, -0.09097, 0.02447),
}
# Area relative to 45 nm: the 45 nm row of the table. The other rows are the same ratios rounded to two digits.
_AREA_FACTORS: dict[float, float] = {
    130: 6.4,
    90: 2.8,
    65: 1.5,
    45: 1.0,
    32: 0.46,
    20: 0.21,
    16: 0.19,
    14: 0.17,
    10: 0.1,
    7: 0.059,
}
_NODES = tuple(sorted(_ENERGY_POLYNOMIALS))
SMALLEST_NODE_NM, LARGEST_NODE_NM = _NODES[0], _NODES[-1]
LOWEST_V, HIGHEST_V = 0.6, 1.3
"""Supply range: above the lower end every polynomial rises with the voltage (the 65 nm one has its minimum at 0.59 V)."""


def scale_energy(pj: float, from_nm: float, from_v: float, to_nm: float, to_v: float) -> float:
    """Return a dynamic energy of one node and supply as it would be at another.

    Parameters
    ----------
    pj : float
        Energy at ``from_nm`` and ``from_v``, pJ.
    from_nm, to_nm : float
        Nodes, 7 to 130 nm.
    from_v, to_v : float
        Supplies, 0.6 to 1.3 V.

    Raises
    ------
    SpecError
        Node or supply out of range.
    """
    return pj * energy_ratio(from_nm, from_v, to_nm, to_v)


def energy_ratio(from_nm: float, from_v: float, to_nm: float, to_v: float) -> float:
    """Return the factor of `scale_energy`."""
    return _energy_factor(to_nm, to_v) / _energy_factor(from_nm, from_v)


def scale_area(um2: float, from_nm: float, to_nm: float) -> float:
    """Return an area of one node as it would be at another, nodes 7 to 130 nm.

    Raises
    ------
    SpecError
        Node out of range.
    """
    return um2 * area_ratio(from_nm, to_nm)


def area_ratio(from_nm: float, to_nm: float) -> float:
    """Return the factor of `scale_area`."""
    return _interpolate_node(_AREA_FACTORS, to_nm) / _interpolate_node(_AREA_FACTORS, from_nm)


def _energy_factor(node_nm: float, vdd_v: float) -> float:
    if not LOWEST_V <= vdd_v <= HIGHEST_V:
        raise SpecError("vdd_v", vdd_v, f"a supply from {LOWEST_V} to {HIGHEST_V} V")
    values = {node: (a2 * vdd_v + a1) * vdd_v + a0 for node, (a2, a1, a0) in _ENERGY_POLYNOMIALS.items()}
    return _interpolate_node(values, node_nm)


def _interpolate_node(values: dict[float, float], node_nm: float) -> float:
    if not (math.isfinite(node_nm) and SMALLEST_NODE_NM <= node_nm <= LARGEST_NODE_NM):
        raise SpecError("node_nm", node_nm, f"a node from {SMALLEST_NODE_NM} to {LARGEST_NODE_NM} nm")
    if node_nm in values:
        return values[node_nm]
    low = max(node for node in _NODES if node < node_nm)
    high = min(node for node in _NODES if node > node_nm)
    share = (node_nm - low) / (high - low)
    return values[low] * (1 - share) + values[high] * share
