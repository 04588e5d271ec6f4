"""Eyeriss as DNN-Chip-Predictor's equations have it, in the form in which ShiftAddNAS prices its layers.

Sources: GATECH-EIC/DNN-Chip-Predictor, ``predictor_eyeriss_only``; GATECH-EIC/ShiftAddNAS (MIT), ``CV/retraining_hybrid``:
``hw_utils.py`` and its records (``hw_record/*/{conv,add,shift,linear,matmul}.csv``), which these equations give to the last
digit at DNN-Chip-Predictor's own limits.

Every dimension is cut into factors whose product is the dimension: M = M0 M1 M2 M3 filters, C = C0 C1 C2 C3 channels, E = E1 E3
output rows, N = N0 N3 images; 0 is in a processing element's registers, 1 over the array, 2 over passes out of the global buffer,
3 over DRAM. All tilings within the limits are counted; the one of least normalized energy plus latency is taken, of equals
the first in the order in which factors are listed (the largest first).

Known mistakes, repeated here: the hook that makes the layers knows no groups, so a depthwise layer counts as a dense one; DRAM
is 200 pJ while all on-chip levels are multiplied by 3.7; an add layer moves nothing but partial sums and registers; a product
whose row would be short (E1 = 1) is not allowed unless the layer is fully connected; a tiling may not take all of the 168
elements (the limit is exclusive); cycles leave out loading, fill, partial sums, the network's width and memory. A shift layer is
a third as long (10 of 32 bits).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from hwsim.core.errors import SpecError

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

UNIT_COMPUTE_PJ = {"conv": 3.7, "linear": 3.7, "shift": 0.13, "add": 0.9}
"""One operation at 32 bits, 45 nm (hw_utils.py, ``get_unit_energy``)."""
WORD_BITS = 16
"""Accesses are priced by words of 16 bits."""
ON_CHIP = 3.7
"""What one of Eyeriss' relative units is taken to be, pJ."""
RELATIVE = {"buffer": 6.0, "noc": 2.0, "noc_psum": 1.0, "registers": 1.0, "registers_w": 2.0}
"""An access relative to one of the registers, ISCA 2016 table IV; partial sums hop to the neighbour alone, weights lie in SRAM."""
DRAM_PJ = 200.0
OPERAND_BITS = 32
SHIFT_BITS = 10
"""Mean of 16-bit activations and 5-bit weights, rounded down."""
CLOCK_HZ = 250e6
MJ = 1e9
"""pJ in a mJ: records are in mJ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a tiling may not reach; ``psum_words`` alone it may."""

    elements: int
    ifmap_words: int
    filter_words: int
    psum_words: int
    buffer_words: int


PREDICTOR = Limits(elements=14 * 12, ifmap_words=12, filter_words=192, psum_words=16, buffer_words=65536)
"""DNN-Chip-Predictor, ``predictor_eyeriss_only/predictor.py``; also those of ShiftAddNAS's records: 206 of 206 equal."""
SHIFTADDNAS = Limits(elements=16 * 12, ifmap_words=12, filter_words=192 * 5, psum_words=16, buffer_words=65536)
"""ShiftAddNAS, ``hw_utils.py`` as released, at 32 bits: not what its records were made with (66 of 206 differ)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A layer as the equations see it: C x H x W in, M x E x F out, square kernels, groups unknown."""

    kind: str
    N: int = 1
    C: int
    M: int
    H: int = 1
    W: int = 1
    E: int = 1
    F: int = 1
    kernel: int = 1
    stride: int = 1

    @property
    def is_vector(self) -> bool:
        """Whether it is a product of vectors: rows need not be longer than one then."""
        return self.kind == "linear" or (self.H, self.W, self.E, self.F) == (1, 1, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the equations say of a layer.

    Parameters
    ----------
    compute_pj : float
        Energy of the operations.
    energy_mj, latency_s : float
        The whole.
    operands_mj : tuple of float
        Inputs, weights, outputs; computation left out.
    levels_mj : tuple of float
        Computation, DRAM, DRAM to buffer (0), buffer, network, registers.
    tiling : tuple of int
        N0 N3 M0 M1 M2 M3 C0 C1 C2 C3 E1 E3.
    cycles : int
        Steps of the array: latency at 250 MHz, for a shift layer before its shortening.
    """

    compute_pj: float
    energy_mj: float
    latency_s: float
    operands_mj: tuple[float, ...]
    levels_mj: tuple[float, ...]
    tiling: tuple[int, ...]
    cycles: int

    @property
    def row(self) -> tuple[float, ...]:
        """The columns of a record behind its index."""
        return (self.compute_pj, self.energy_mj, self.latency_s, *self.operands_mj, *self.levels_mj)


def predict(operation: Operation, limits: Limits = PREDICTOR) -> Record:
    """Return energy and latency of the best tiling of a layer.

    Raises
    ------
    SpecError
        No tiling keeps the limits.
    """
    tiles = list_tilings(operation, limits)
    if not len(tiles):
        raise SpecError("operation", operation, f"a tiling that keeps {limits}")
    units, unit_latency = price_units(operation.kind)
    accesses = count_accesses(operation, tiles)
    levels, operands, energy = _price(accesses, units)
    cycles = count_cycles(operation, tiles)
    latency = cycles * unit_latency
    metric = (energy - energy.min()) / energy.max() + (latency - latency.min()) / latency.max()
    best = int(np.argmin(metric))
    levels_mj, operands_mj = ([float(part[best]) for part in parts] for parts in (levels, operands))
    return Record(
        compute_pj=levels_mj[0] * MJ, energy_mj=float(energy[best]), latency_s=float(latency[best]),
        operands_mj=tuple(operands_mj), levels_mj=tuple(levels_mj), tiling=tuple(tiles[best].tolist()), cycles=int(cycles[best]),
    )  # type: ignore[arg-type]  # fmt: skip


def price_units(kind: str) -> tuple[dict[str, float], float]:
    """Return mJ an access by level (``compute``: an operation), and seconds a cycle."""
    bits = SHIFT_BITS if kind == "shift" else OPERAND_BITS
    words = bits / WORD_BITS
    units = {level: relative / MJ * ON_CHIP * words for level, relative in RELATIVE.items()}
    units |= {"compute": UNIT_COMPUTE_PJ[kind] / MJ, "dram": DRAM_PJ / MJ * words}
    if kind == "add":
        units |= {"dram": 0.0, "buffer": 0.0, "noc": 0.0}
    second = 1.0 / CLOCK_HZ
    return units, second / (OPERAND_BITS / bits) if kind == "shift" else second


def count_cycles(operation: Operation, tiles: Int64) -> Int64:
    """Return the steps of the array, int64 [tilings]: all but what is spread over elements (factors 1 and the kernel's rows)."""
    n0, n3, m0, _, m2, m3, c0, _, c2, c3, _, e3 = tiles.T
    return np.asarray(n3 * n0 * m3 * m2 * m0 * c3 * c2 * c0 * e3 * operation.F * operation.kernel, np.int64)


def count_accesses(operation: Operation, tiles: Int64) -> dict[str, Float64]:
    """Return accesses in words by level and operand (``i``, ``w``, ``o``), and operations (``compute``), float64 [tilings] each."""
    n0, n3, m0, m1, m2, m3, c0, c1, c2, c3, e1, e3 = tiles.T.astype(np.float64)
    op, r, s = operation, operation.kernel, operation.kernel
    inputs, weights, outputs = op.N * op.H * op.W * op.C, r * s * op.C * op.M, op.N * op.E * op.F * op.M
    ones = np.ones(len(tiles))
    return {
        "compute": ones * (outputs * r * s * op.C),
        "dram_i": m3 * inputs,
        "dram_w": n3 * e3 * weights,
        "dram_o": np.maximum(2 * c3 - 1, 1) * outputs,
        "buffer_i": m3 * m2 * inputs,
        "buffer_o": np.maximum(2 * c3 * (c2 - 1), 1) * outputs,
        "noc_i": m3 * m2 * m1 * r * op.E / op.H * inputs,
        "noc_w": n3 * e3 * e1 * weights,
        "noc_psum_o": np.maximum(c3 * c2 * (c1 * r - 1), 1) * outputs,
        "registers_i": m3 * m2 * m1 * r * op.E / op.H * m0 * s * op.F / op.W * inputs,
        "registers_w": n3 * e3 * e1 * op.F * n0 * weights,
        "registers_o": np.maximum(c3 * c2 * c1 * r * (c0 * s - 1) * 2, 1) * outputs,
    }


def _price(
    count: dict[str, Float64], unit: dict[str, float]
) -> tuple[tuple[Float64, ...], tuple[Float64, ...], Float64]:
    """Return mJ by level, by operand, and in all; summed in the records' order, which their last digits show."""
    zero = np.zeros_like(count["compute"])
    compute = count["compute"] * unit["compute"]
    dram = (count["dram_i"] + count["dram_w"] + count["dram_o"]) * unit["dram"]
    buffer = (count["buffer_i"] + count["buffer_o"]) * unit["buffer"]
    noc, noc_o = (count["noc_i"] + count["noc_w"]) * unit["noc"], count["noc_psum_o"] * unit["noc_psum"]
    registers = (count["registers_i"] + count["registers_o"]) * unit["registers"]
    registers_w = count["registers_w"] * unit["registers_w"]
    operands = (
        count["dram_i"] * unit["dram"] + count["buffer_i"] * unit["buffer"] + count["noc_i"] * unit["noc"]
        + count["registers_i"] * unit["registers"],
        count["dram_w"] * unit["dram"] + count["noc_w"] * unit["noc"] + registers_w,
        count["dram_o"] * unit["dram"] + count["buffer_o"] * unit["buffer"] + noc_o + count["registers_o"] * unit["registers"],
    )  # fmt: skip
    energy = compute + dram + zero + buffer + noc + noc_o + registers + registers_w
    return (compute, dram, zero, buffer, noc + noc_o, registers + registers_w), operands, energy


def list_tilings(operation: Operation, limits: Limits) -> Int64:
    """Return every tiling within the limits in the order in which they are tried, int64 [tilings, 12] (see `Record.tiling`)."""
    op, k, stride = operation, operation.kernel, operation.stride
    images, filters = np.array(_split(op.N, 2)), np.array(_split(op.M, 4))
    channels, rows = np.array(_split(op.C, 4)), np.array(_split(op.E, 2))
    filters = filters[filters[:, 0] <= limits.psum_words]
    channels = channels[(channels[:, 3] == 1) & (channels[:, 0] * k < limits.ifmap_words)]
    if not op.is_vector:
        rows = rows[rows[:, 0] != 1]
    sizes = [len(part) for part in (images, filters, channels, rows)]
    index = np.indices(sizes).reshape(4, -1)
    tiles = np.concatenate(
        [part[i] for part, i in zip((images, filters, channels, rows), index, strict=True)], axis=1
    ).astype(np.int64)
    n0, _, m0, m1, m2, _, c0, c1, _, _, e1, _ = tiles.T
    words = n0 * c1 * c0 * ((e1 - 1) * stride + k) * ((op.F - 1) * stride + k) + n0 * m2 * m1 * m0 * e1 * op.F
    return tiles[
        (m1 * c1 * e1 * k < limits.elements) & (m0 * c0 * k < limits.filter_words) & (words < limits.buffer_words)
    ]


def _split(number: int, parts: int) -> list[tuple[int, ...]]:
    """Return all ordered factorizations into so many parts, the first part largest first along its prime factors."""
    if parts == 1:
        return [(number,)]
    primes = _factorize(number)
    firsts = dict.fromkeys(int(np.prod(chosen)) for chosen in product(*((prime, 1) for prime in primes)))
    return [(first, *rest) for first in firsts for rest in _split(number // first, parts - 1)]


def _factorize(number: int) -> list[int]:
    """Return the prime factors, the smallest first; of 1 the 1."""
    found, prime = [], 2
    while prime * prime <= number:
        while number % prime == 0:
            found.append(prime)
            number //= prime
        prime += 1
    return [*found, number] if number > 1 or not found else found
