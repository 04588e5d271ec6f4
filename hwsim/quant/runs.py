"""Pruned weights, and their storage as nonzero weights with the runs of zeros in front of them.

A row of weights is cut into segments. Of a segment its number of *entries* is stored, then each entry: the zeros that stand in
front of it, counted from the entry before or from the segment's start, and the weight. A gap longer than the index can tell is
bridged by entries of weight zero, which are multiplied like others. Zeros behind the last nonzero weight are not stored.

Sources: relative indexes with fillers, Han et al., EIE (ISCA 2016); SCNN (ISCA 2017) and Cambricon-X's step indexes (MICRO 2016)
are of this kind; widths of the fields are the architecture's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwsim.core.bits import Bits, bits_to_integers, integers_to_bits
from hwsim.core.check import require_int
from hwsim.core.errors import SpecError
from hwsim.core.tensors import Array
from hwsim.quant.uniform import quantize_weights

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PrunedWeights:
    """Integer weights of a layer, the small ones removed.

    Parameters
    ----------
    integers : ndarray int8 or int16
        ``[filters of all groups, C, R, S]``.
    scale : ndarray float32 [filters]
        Real value of one unit.
    bits : int
        Of a weight.
    """

    integers: Array
    scale: npt.NDArray[np.float32]
    bits: int

    @property
    def density(self) -> float:
        """Share of weights that are not zero."""
        return np.count_nonzero(self.integers) / self.integers.size


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFormat:
    """Widths of what is stored.

    Parameters
    ----------
    weight_bits, index_bits, count_bits : int
        Of a weight, of the run of zeros in front of it, of a segment's number of entries.
    """

    weight_bits: int
    index_bits: int
    count_bits: int

    @property
    def longest_run(self) -> int:
        """Zeros that an index can tell."""
        return (1 << self.index_bits) - 1

    @property
    def entry_bits(self) -> int:
        """Bits of an entry."""
        return self.weight_bits + self.index_bits

    def count_entries(self, rows: Array, segment: int) -> npt.NDArray[np.int32]:
        """Return the entries of every segment of ``rows[rows, elements]``, int32 ``[rows, segments]``."""
        from hwsim.quant.kernel_runs import count_entries

        rows = np.ascontiguousarray(rows)
        found = np.zeros((rows.shape[0], -(-rows.shape[1] // segment)), np.int32)
        count_entries(rows, segment, self.longest_run, found)
        return found

    def list_entries(self, segment: Array) -> tuple[Int64, Int64]:
        """Return the runs and the weights of one segment's entries."""
        from hwsim.quant.kernel_runs import list_entries

        runs, weights = np.zeros((2, len(segment)), np.int64)
        count = list_entries(np.ascontiguousarray(segment), self.longest_run, runs, weights)
        return runs[:count], weights[:count]

    def pack(self, segment: Array) -> Bits:
        """Return the bits of one segment: number of entries, then run and weight of each, least significant bit first."""
        runs, weights = self.list_entries(segment)
        entries = np.concatenate(
            [integers_to_bits(runs, self.index_bits), integers_to_bits(weights, self.weight_bits)], axis=1
        )
        return np.concatenate([integers_to_bits(np.array(len(runs)), self.count_bits).ravel(), entries.ravel()])

    def unpack(self, bits: Bits, at: int, elements: int) -> tuple[Int64, int]:
        """Return the weights of the segment of ``elements`` that begins at bit ``at``, int64, and the bit behind it."""
        count = int(bits_to_integers(bits[at : at + self.count_bits], signed=False))
        at += self.count_bits
        end = at + count * self.entry_bits
        entries = bits[at:end].reshape(count, self.entry_bits)
        found = np.zeros(elements, np.int64)
        places = np.cumsum(bits_to_integers(entries[:, : self.index_bits], signed=False) + 1) - 1
        found[places] = bits_to_integers(entries[:, self.index_bits :], signed=True)
        return found, end


def prune_weights(weight: Array, bits: int, density: float) -> PrunedWeights:
    """Return a layer's weights with only the largest kept, quantized symmetrically by channel.

    Parameters
    ----------
    weight : ndarray
        ``[filters of all groups, C, R, S]``, floats.
    bits : int
        Of a weight, 2 to 16: one bit has no zero.
    density : float
        Share of the layer's weights that are kept, by magnitude, 0 to 1; ties with the smallest of them are kept too.

    Raises
    ------
    SpecError
        A density outside 0 to 1, or bits outside 2 to 16.
    """
    require_int("bits", bits, 2, 16)
    if not 0 <= density <= 1:
        raise SpecError("density", density, "a share from 0 to 1")
    kept = np.asarray(weight, np.float32)
    removed = kept.size - round(density * kept.size)
    if removed:
        magnitude = np.abs(kept)
        least = np.partition(magnitude.ravel(), removed)[removed] if removed < kept.size else np.inf
        kept = np.where(magnitude >= least, kept, np.float32(0))
    found = quantize_weights(kept, bits)
    return PrunedWeights(integers=found.stored, scale=found.scale, bits=bits)
