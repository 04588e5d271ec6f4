"""BitFusion's equations: cycles, stalls and DRAM traffic of a layer under its own exhaustive search.

Source: Sharma et al., Bit Fusion (ISCA 2018), and the simulator released with it (hsharma35/bitfusion: ``accelerator.py``,
``optimizer.py``, no licence: restated here from its equations, checked against the results that it ships). An array of N x M fusion
units, each of sixteen 2-bit bricks: a unit multiplies ``pf = floor(p_max / a) floor(p_max / w)`` pairs a cycle, bits below p_min
counted as p_min.

For a tile of b images, ow x oh pixels, ic and oc channels::

    compute = b ow oh kh kw ceil(oc / M) ceil(ic / (N pf))      first layer: b ow oh ceil(oc / M) ceil(ic k^2 / (N pf))
    weights = ceil(k^2 ic / (N pf)) N pf oc w
    inputs  = ((ow - 1) S + K)((oh - 1) S + K) ic b a           first layer: ow oh k^2 ic b a
    outputs = ow oh ceil(oc / M) M b 32

each of which has to fit half its buffer. A tensor is moved once for every step of the loops around it, but for loops, from the
innermost out, that it does not depend on, or with which it still fits its half. First tiles in and last outputs out are latency,
all other traffic hides behind compute where it can. All 120 orders, power-of-two tiles; fewest cycles, then least energy.

Outputs are read as well as written for every tile, and count as DRAM reads: as released.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from hwsim.published.kernel_bitfusion import search

OUT_BITS = 32
BATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """An array and its buffers.

    Parameters
    ----------
    rows, cols : int
        N x M fusion units.
    wbuf_bytes, ibuf_bytes, obuf_bytes : int
        Buffers, both halves.
    port_bits : int
        DRAM bits a cycle.
    most_bits, least_bits : int
        Of a fusion unit.
    """

    rows: int = 16
    cols: int = 32
    wbuf_bytes: int = 64 * 1024
    ibuf_bytes: int = 32 * 1024
    obuf_bytes: int = 16 * 1024
    port_bits: int = 192
    most_bits: int = 8
    least_bits: int = 2

    def count_products(self, a_bits: int, w_bits: int) -> int:
        """Return the products of a fusion unit in a cycle."""
        return (self.most_bits // max(a_bits, self.least_bits)) * (self.most_bits // max(w_bits, self.least_bits))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A layer: kernel, output width, stride, channels, bits; ``im2col`` for the first layer of a network."""

    kernel: int
    out: int
    stride: int
    in_channels: int
    out_channels: int
    a_bits: int
    w_bits: int
    im2col: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Energies of the 16 x 32 array, nJ: core a cycle, buffers and DRAM a bit (seeds: synthesis and CACTI at 45 nm)."""

    core: float = 235.104e-3
    wbuf_read: float = 0.021e-3
    wbuf_write: float = 0.029e-3
    ibuf_read: float = 0.059e-3
    ibuf_write: float = 0.114e-3
    obuf_read: float = 0.033e-3
    obuf_write: float = 0.073e-3
    dram: float = 15e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a layer takes: cycles, of these stalls, bits read from and written to DRAM, energy in nJ, tilings tried.

    ``weight_bits`` are those of the reads that are weights; outputs are read as often as written, the rest are inputs.
    """

    cycles: int
    stall_cycles: int
    dram_read_bits: int
    dram_write_bits: int
    weight_bits: int
    energy_nj: float
    tried: int


def count_layer(shape: Shape, machine: Machine, batch: int = BATCH, prices: Prices | None = None) -> Counts:
    """Return the counts of a layer under the fastest tiling.

    Raises
    ------
    ValueError
        No tiling fits the buffers.
    """
    cost = prices or Prices()
    layer = (shape.kernel, shape.out, shape.stride, shape.in_channels, shape.out_channels, batch, shape.a_bits, shape.w_bits,
             int(shape.im2col))  # fmt: skip
    array = (machine.rows, machine.cols, machine.wbuf_bytes, machine.ibuf_bytes, machine.obuf_bytes, machine.port_bits,
             machine.count_products(shape.a_bits, shape.w_bits), OUT_BITS)  # fmt: skip
    price = (cost.core, cost.wbuf_read, cost.wbuf_write, cost.ibuf_read, cost.ibuf_write, cost.obuf_read, cost.obuf_write,
             cost.dram)  # fmt: skip
    orders = np.array(list(permutations(range(5))), np.int64)
    best, energy = np.zeros(5, np.int64), np.zeros(1)
    tried = search(np.array(layer, np.int64), np.array(array, np.int64), np.array(price), orders, best, energy)
    if not tried:
        raise ValueError(f"no tiling of {shape} fits {machine}")
    cycles, stalls, reads, writes, weights = (int(x) for x in best)
    return Counts(
        cycles=cycles, stall_cycles=stalls, dram_read_bits=reads, dram_write_bits=writes, weight_bits=weights,
        energy_nj=float(energy[0]), tried=tried,
    )  # fmt: skip
