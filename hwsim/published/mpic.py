"""MPIC's table of products a cycle, and how PLiNIO prices layers with it.

Sources: eml-eda/plinio (Apache-2.0), ``plinio/cost/mpic_latency.py`` and ``mpic_energy.py``; the table is that of Ottavi et al., A
Mixed-Precision RISC-V Processor for Extreme-Edge DNN Inference (arXiv 2010.04073), measured on convolution kernels whole: gathering
inputs and requantizing included.

Cycles are the products of each width over the table's entry; channels of 0 bits are pruned and cost nothing. Left out: memory,
ragged blocks of channels, depthwise kernels, layers without products. A bias counts as one product for each output, as there
(`count_products`).
"""

from __future__ import annotations

from collections.abc import Mapping

from hwsim.core.errors import SpecError

PRODUCTS_PER_CYCLE = {
    2: {2: 6.5, 4: 4.0, 8: 2.2},
    4: {2: 3.9, 4: 3.5, 8: 2.1},
    8: {2: 2.5, 4: 2.3, 8: 2.1},
}
"""By bits of an activation, then of a weight."""
CLOCK_HZ = 250e6
POWER_MW = (5.30 + 5.39 + 5.46 + 5.38) / 4
"""Mean of four measured powers: 5.3825 mW."""
CLAIMED_MEMORY_CUT, CLAIMED_ENERGY_CUT = 0.63, 0.27
"""At most, of bits by channel over bits by layer at the same accuracy, MLPerf Tiny (Risso et al., channel-wise mixed precision)."""


def count_products(filters: int, inputs: int, window: int, pixels: int, bias: bool = False) -> int:
    """Return the products of a layer, of a depthwise one with ``inputs`` 1: ``filters`` times ``inputs`` a window place."""
    return filters * (inputs * window + bias) * pixels


def count_cycles(products: Mapping[int, int], a_bits: int) -> float:
    """Return the cycles of a layer.

    Parameters
    ----------
    products : mapping
        Bits of weights to how many products have such: 0, 2, 4 or 8.
    a_bits : int
        Bits of activations: 2, 4 or 8.

    Raises
    ------
    SpecError
        Bits that the table has not.
    """
    if a_bits not in PRODUCTS_PER_CYCLE:
        raise SpecError("a_bits", a_bits, "2, 4 or 8")
    table = PRODUCTS_PER_CYCLE[a_bits]
    strange = sorted(set(products) - {0, *table})
    if strange:
        raise SpecError("w_bits", strange[0], "0, 2, 4 or 8")
    return sum(count / table[bits] for bits, count in products.items() if bits)


def price_energy_mj(cycles: float) -> float:
    """Return the energy of so many cycles, mJ."""
    return cycles / CLOCK_HZ * POWER_MW
