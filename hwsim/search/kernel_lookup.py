"""Prices of many policies at once: for every layer a look-up in its table, by the bits that the layer depends on.

Bits are kept in slots, less one, all of them unsigned (an index that cannot be negative needs no check): first the activation
bits of every MAC layer; then the policy's default of activations, the bits of tensors that several layers or the default
decide, each the most of some slots, and a slot that is always zero; then for every MAC layer its weight bits plus 16 times its
activation bits; last other such pairs of slots. A layer's table has an axis of 16 values for each precision that it depends on,
at most four.
"""

from __future__ import annotations

import numpy as np

from hwsim.core.jit import kernel


@kernel
def fill_slots(
    row: np.ndarray, default: int, starts: np.ndarray, parts: np.ndarray, pairs: np.ndarray, slots: np.ndarray
) -> int:
    """Fill the slots of one policy; return the first column that is not 1 to 16, or -1.

    Parameters
    ----------
    row : int8 [columns]
        Weight and activation bits of every MAC layer in turn.
    default : int
        The policy's default of activation bits, less one.
    starts, parts : uint64 [tensors + 1], [...]
        Where the slots begin that the bits of each tensor are the most of.
    pairs : uint64 [pairs, 2]
        Slots of the other pairs.
    slots : uint64, filled
    """
    macs = row.shape[0] // 2
    tensors = starts.shape[0] - 1
    first = macs + tensors + 2
    over = 0
    for i in range(macs):
        w, a = np.int64(row[2 * i]) - 1, np.int64(row[2 * i + 1]) - 1
        over |= w | a
        slots[i] = a
        slots[first + i] = w + 16 * a
    if over < 0 or over > 15:
        for j in range(2 * macs):
            if row[j] < 1 or row[j] > 16:
                return j
    slots[macs] = default
    for e in range(tensors):
        widest = np.uint64(0)
        for k in range(starts[e], starts[e + 1]):
            widest = max(widest, slots[parts[k]])
        slots[macs + 1 + e] = widest
    for p in range(pairs.shape[0]):
        slots[first + macs + p] = slots[pairs[p, 0]] + (slots[pairs[p, 1]] << np.uint64(4))
    return -1


@kernel
def sum_counts(
    policies: np.ndarray,
    default: int,
    starts: np.ndarray,
    parts: np.ndarray,
    pairs: np.ndarray,
    layers: np.ndarray,
    guard: np.ndarray,
    table: np.ndarray,
    wanted: np.ndarray,
    sums: np.ndarray,
) -> int:
    """Sum one integer over the layers, for every policy.

    Parameters
    ----------
    policies : int8 [policies, columns]
        Bits, 1 to 16.
    default, starts, parts, pairs
        See `fill_slots`.
    layers : uint64 [layers, 4]
        Where the table of each begins; the pair or slot of its first two axes, the slots of the third and the fourth (that of
        zero where it has fewer).
    guard : int64 [entries]
        Cycles: above zero where the entry is known.
    table : int64 [entries]
        What is summed.
    wanted : uint8 [entries], set to 1
        Entries that are not known.
    sums : int64 [policies], filled

    Returns
    -------
    int
        Unknown entries met; where bits are out of range -1 less the place of the first, counted through ``policies``.
    """
    columns = policies.shape[1]
    slots = np.zeros(columns + starts.shape[0] + 1 + pairs.shape[0], np.uint64)
    unknown = 0
    for i in range(policies.shape[0]):
        bad = fill_slots(policies[i], default, starts, parts, pairs, slots)
        if bad >= 0:
            return -1 - (i * columns + bad)
        total = 0
        for n in range(layers.shape[0]):
            third = slots[layers[n, 2]] << np.uint64(8)
            at = layers[n, 0] + slots[layers[n, 1]] + third + (slots[layers[n, 3]] << np.uint64(12))
            count = table[at]
            if count <= 0 and guard[at] <= 0:
                wanted[at] = 1
                unknown += 1
            total += count
        sums[i] = total
    return unknown


@kernel
def sum_energies(
    policies: np.ndarray,
    default: int,
    starts: np.ndarray,
    parts: np.ndarray,
    pairs: np.ndarray,
    layers: np.ndarray,
    compensated: int,
    guard: np.ndarray,
    table: np.ndarray,
    wanted: np.ndarray,
    sums: np.ndarray,
) -> int:
    """Sum energies over the layers in their order, for every policy; see `sum_counts`.

    Parameters
    ----------
    compensated : int
        1 where Python's ``sum`` of floats carries the rounding error along (Neumaier), which it does from 3.12 on: a report's total
        is such a sum.
    table, sums : float64
    """
    columns = policies.shape[1]
    slots = np.zeros(columns + starts.shape[0] + 1 + pairs.shape[0], np.uint64)
    unknown = 0
    for i in range(policies.shape[0]):
        bad = fill_slots(policies[i], default, starts, parts, pairs, slots)
        if bad >= 0:
            return -1 - (i * columns + bad)
        total, lost = 0.0, 0.0
        for n in range(layers.shape[0]):
            third = slots[layers[n, 2]] << np.uint64(8)
            at = layers[n, 0] + slots[layers[n, 1]] + third + (slots[layers[n, 3]] << np.uint64(12))
            energy = table[at]
            if energy <= 0.0 and guard[at] <= 0:
                wanted[at] = 1
                unknown += 1
            both = total + energy
            if compensated == 1:
                if abs(total) >= abs(energy):
                    lost += (total - both) + energy
                else:
                    lost += (energy - both) + total
            total = both
        sums[i] = total + lost if lost != 0.0 else total
    return unknown


@kernel
def find_peaks(
    policies: np.ndarray,
    default: int,
    starts: np.ndarray,
    parts: np.ndarray,
    pairs: np.ndarray,
    tensors: np.ndarray,
    events: np.ndarray,
    peaks: np.ndarray,
) -> int:
    """Find the largest sum of live tensors while the layers run in order, bits, for every policy; see `sum_counts`.

    Parameters
    ----------
    tensors : int64 [tensors, 2]
        Elements, and the slot of the bits of an element.
    events : int64 [events]
        In order: t + 1 where tensor t comes to life, -(t + 1) where it is needed no more.
    peaks : int64 [policies], filled

    Returns
    -------
    int
        0, or as `sum_counts` where bits are out of range.
    """
    columns = policies.shape[1]
    slots = np.zeros(columns + starts.shape[0] + 1 + pairs.shape[0], np.uint64)
    for i in range(policies.shape[0]):
        bad = fill_slots(policies[i], default, starts, parts, pairs, slots)
        if bad >= 0:
            return -1 - (i * columns + bad)
        live, most = 0, 0
        for e in range(events.shape[0]):
            t = abs(events[e]) - 1
            size = tensors[t, 0] * (np.int64(slots[tensors[t, 1]]) + 1)
            if events[e] > 0:
                live += size
                most = max(most, live)
            else:
                live -= size
        peaks[i] = most
    return 0
