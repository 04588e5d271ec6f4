"""The tables of a network's layers, side by side in flat arrays, as `hwsim.search.kernel_lookup` reads them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt

from hwsim.core.mapping import Int64
from hwsim.search.kernel_lookup import find_peaks, sum_counts, sum_energies
from hwsim.search.store import Entry
from hwsim.search.structure import MOST_AXES, PricedLayer, Structure

Float64 = npt.NDArray[np.float64]
Int8 = npt.NDArray[np.int8]
Build = Callable[[Int64], None]
"""Called with the places of entries that are missing; fills them or raises."""
AXIS_BITS = 4
MOST_BITS = 1 << AXIS_BITS
COMPENSATED = int(sys.version_info >= (3, 12))
"""Whether Python's ``sum`` of floats carries the rounding error along (python/cpython#100425)."""


class OutOfRange(Exception):
    """Bits that are not 1 to 16."""


class Tables:
    """Prices of every layer by the slots that it depends on; zero cycles where a price is not known yet.

    Parameters
    ----------
    structure : Structure
        No layer of more than ``MOST_AXES`` axes.
    stored : sequence of int
        Bits at which the accelerator stores activations of 1 to ``MOST_BITS`` bits.
    """

    def __init__(self, structure: Structure, stored: Sequence[int]) -> None:
        self.structure = structure
        self._stored = np.array(stored, np.int64)
        sizes = [MOST_BITS ** len(one.axes) for one in structure.layers]
        self.bases = np.cumsum([0, *sizes])[:-1].astype(np.int64)
        total = sum(sizes)
        self.cycles, self.weight_bits = np.zeros(total, np.int64), np.zeros(total, np.int64)
        self.energy_pj = np.zeros(total, np.float64)
        self._wanted = np.zeros(total, np.uint8)
        pairs: dict[tuple[int, int], int] = {}
        rows = [self._describe(one, pairs) for one in structure.layers]
        self._layers = np.array([(base, *row) for base, row in zip(self.bases, rows, strict=True)], np.uint64)
        heavy = [i for i, one in enumerate(structure.layers) if one.layer.kind == "mac"]
        self._with_weights = np.ascontiguousarray(self._layers[heavy])
        self._slots = (
            np.cumsum([0, *(len(parts) for parts in structure.widest)]).astype(np.uint64),
            np.array([self._place(slot) for parts in structure.widest for slot in parts], np.uint64),
            np.array(list(pairs), np.uint64).reshape(-1, 2),
        )
        tensors = [(elements, self._place(slot)) for elements, slot in structure.tensors]
        self._tensors = np.array(tensors, np.int64).reshape(-1, 2)
        self._events = np.array(structure.events, np.int64)

    def _place(self, slot: int) -> int:
        """Return where the kernel keeps a slot: activation bits behind the pairs of all MAC layers."""
        macs = len(self.structure.macs)
        return macs + slot // 2 if slot < 2 * macs else slot

    def _describe(self, one: PricedLayer, pairs: dict[tuple[int, int], int]) -> tuple[int, int]:
        """Return where the kernel keeps a layer's first two axes, and the others."""
        spare = self.structure.zero_slot

        def place(x: int, y: int) -> int:
            if y == spare:
                return self._place(x)
            return spare + 1 + pairs.setdefault((self._place(x), self._place(y)), len(pairs))

        first, second, third, fourth = (*one.axes, spare, spare, spare)[:MOST_AXES]
        both = first // 2 if one.layer.kind == "mac" else place(first, second)
        return both, place(third, fourth)

    def sum_cycles(self, policies: Int8, default: int, build: Build) -> Int64:
        """Return cycles of policies, int64 [policies].

        Parameters
        ----------
        policies : int8 [policies, columns]
        default : int
            The policies' default of activation bits.
        build : callable

        Raises
        ------
        OutOfRange
        """
        return self._sum_counts(policies, default, build, self._layers, self.cycles)

    def sum_weight_bits(self, policies: Int8, default: int, build: Build) -> Int64:
        """Return the stored bits of all weights, int64 [policies]; as `sum_cycles`."""
        return self._sum_counts(policies, default, build, self._with_weights, self.weight_bits)

    def _sum_counts(
        self, policies: Int8, default: int, build: Build, layers: npt.NDArray[np.uint64], table: Int64
    ) -> Int64:
        sums = np.empty(len(policies), np.int64)
        before = (policies.view(np.uint8), default - 1, *self._slots, layers)
        while self._check(sum_counts(*before, self.cycles, table, self._wanted, sums)):
            build(self._take_wanted())
        return sums

    def sum_energies(self, policies: Int8, default: int, build: Build) -> Float64:
        """Return energies in pJ, float64 [policies]; as `sum_cycles`."""
        sums = np.empty(len(policies), np.float64)
        before = (
            policies.view(np.uint8),
            default - 1,
            *self._slots,
            self._layers,
            COMPENSATED,
            self.cycles,
            self.energy_pj,
        )
        while self._check(sum_energies(*before, self._wanted, sums)):
            build(self._take_wanted())
        return sums

    def find_peaks(self, policies: Int8, default: int) -> Int64:
        """Return the largest sums of live activations, bits, int64 [policies]."""
        peaks = np.empty(len(policies), np.int64)
        before = (policies.view(np.uint8), default - 1, *self._slots)
        self._check(find_peaks(*before, self._tensors, self._stored, self._events, peaks))
        return peaks

    def _check(self, status: int) -> int:
        if status < 0:
            self._take_wanted()
            raise OutOfRange
        return int(status)

    def _take_wanted(self) -> Int64:
        places = np.flatnonzero(self._wanted)
        self._wanted[places] = 0
        return places

    def decode(self, place: int) -> tuple[int, tuple[int, ...]]:
        """Return the layer's number and the values of its axes, 1 to 16, of an entry."""
        number = int(np.searchsorted(self.bases, place, side="right")) - 1
        rest = place - int(self.bases[number])
        values = []
        for _ in self.structure.layers[number].axes:
            values.append((rest & (MOST_BITS - 1)) + 1)
            rest >>= AXIS_BITS
        return number, tuple(values)

    def fill(self, place: int, entry: Entry) -> None:
        """Write one entry."""
        if entry.cycles <= 0:
            raise ValueError(f"a layer of {entry.cycles} cycles")
        self.cycles[place], self.energy_pj[place], self.weight_bits[place] = entry

    def list_reachable(
        self, number: int, w_bits: tuple[int, ...], a_bits: tuple[int, ...], default: int
    ) -> Iterator[int]:
        """Yield the entries of a layer that policies of these bits can ask for."""
        one = self.structure.layers[number]
        values = [self._list_values(slot, w_bits, a_bits, default) for slot in one.axes]
        for chosen in product(*values):
            if self._is_possible(dict(zip(one.axes, chosen, strict=True))):
                yield int(self.bases[number]) + sum((value - 1) << (AXIS_BITS * k) for k, value in enumerate(chosen))

    def _list_values(
        self, slot: int, w_bits: tuple[int, ...], a_bits: tuple[int, ...], default: int
    ) -> tuple[int, ...]:
        first = self.structure.default_slot
        if slot < first:
            return a_bits if slot % 2 else w_bits
        if slot == first:
            return (default,)
        if first in self.structure.widest[slot - first - 1]:
            return tuple(sorted({max(default, bits) for bits in a_bits}))
        return a_bits

    def _is_possible(self, values: dict[int, int]) -> bool:
        """Return whether no slot is less than one that it is the widest of."""
        first = self.structure.default_slot
        for slot, value in values.items():
            if slot > first and any(values.get(part, 1) > value for part in self.structure.widest[slot - first - 1]):
                return False
        return True
