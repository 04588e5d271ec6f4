"""Prices of many policies at once: for every layer a look-up in its table, by the bits that the layer depends on.

Bits are kept in slots of eight bits, less one. In order:

- for every MAC layer its weight bits plus 16 times its activation bits;
- the activation bits of every MAC layer;
- the policy's default of activation bits, the bits of tensors that several layers or the default decide (each the most of some
  slots), and a slot that is always zero;
- pairs: a slot plus 16 times another.

A layer's table has an axis of 16 values for each precision that it depends on, at most four: one or two slots of the above are
the place in it. Everything is unsigned: an index that cannot be negative needs no check.
"""

from __future__ import annotations

import numpy as np

from hwsim.core.jit import kernel


@kernel
def fill_slots(
    policies: np.ndarray,
    i: int,
    default: int,
    starts: np.ndarray,
    parts: np.ndarray,
    pairs: np.ndarray,
    slots: np.ndarray,
) -> bool:
    """Fill the slots of policy ``i``; return whether its bits are 1 to 16.

    Loops are short and do one thing each, so that they are compiled to vector instructions.

    Parameters
    ----------
    policies : uint8 [policies, columns]
        Weight and activation bits of every MAC layer in turn.
    default : int
        The policy's default of activation bits, less one.
    starts, parts : uint64 [tensors + 1], [...]
        Where the slots begin that the bits of each tensor are the most of.
    pairs : uint64 [pairs, 2]
        Slots of the pairs.
    slots : uint8, filled
    """
    columns = policies.shape[1]
    macs = columns // 2
    over = np.uint8(0)
    for j in range(columns):
        over = np.uint8(over | np.uint8(policies[i, j] - 1))
    if over > 15:
        return False
    for m in range(macs):
        slots[m] = np.uint8(policies[i, 2 * m] - 1) | np.uint8(np.uint8(policies[i, 2 * m + 1] - 1) << 4)
    for m in range(macs):
        slots[macs + m] = np.uint8(policies[i, 2 * m + 1] - 1)
    slots[columns] = default
    tensors = starts.shape[0] - 1
    for e in range(tensors):
        widest = np.uint8(0)
        for k in range(starts[e], starts[e + 1]):
            widest = max(widest, slots[parts[k]])
        slots[columns + 1 + e] = widest
    first = columns + 2 + tensors
    for p in range(pairs.shape[0]):
        slots[first + p] = slots[pairs[p, 0]] + (slots[pairs[p, 1]] << 4)
    return True


@kernel
def find_place(layers: np.ndarray, n: int, slots: np.ndarray) -> int:
    """Return the entry of layer ``n`` at the bits in ``slots``: see `sum_counts`."""
    return layers[n, 0] + np.uint64(slots[layers[n, 1]]) + (np.uint64(slots[layers[n, 2]]) << np.uint64(8))


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
    policies, default, starts, parts, pairs
        See `fill_slots`.
    layers : uint64 [layers, 3]
        Where the table of each begins, the slot of its first two axes, the slot of the others.
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
        Unknown entries met; -1 where bits are out of range.
    """
    slots = np.zeros(policies.shape[1] + starts.shape[0] + 1 + pairs.shape[0], np.uint8)
    unknown = 0
    for i in range(policies.shape[0]):
        if not fill_slots(policies, i, default, starts, parts, pairs, slots):
            return -1
        total = 0
        for n in range(layers.shape[0]):
            at = find_place(layers, n, slots)
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
    slots = np.zeros(policies.shape[1] + starts.shape[0] + 1 + pairs.shape[0], np.uint8)
    unknown = 0
    for i in range(policies.shape[0]):
        if not fill_slots(policies, i, default, starts, parts, pairs, slots):
            return -1
        total, lost = 0.0, 0.0
        for n in range(layers.shape[0]):
            at = find_place(layers, n, slots)
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
    stored: np.ndarray,
    events: np.ndarray,
    peaks: np.ndarray,
) -> int:
    """Find the largest sum of live tensors while the layers run in order, bits, for every policy; see `sum_counts`.

    Parameters
    ----------
    tensors : int64 [tensors, 2]
        Elements, and the slot of the bits of an element.
    stored : int64 [16]
        Bits at which an element of so many bits, less one, is stored.
    events : int64 [events]
        In order: t + 1 where tensor t comes to life, -(t + 1) where it is needed no more.
    peaks : int64 [policies], filled

    Returns
    -------
    int
        0, or -1 where bits are out of range.
    """
    slots = np.zeros(policies.shape[1] + starts.shape[0] + 1 + pairs.shape[0], np.uint8)
    for i in range(policies.shape[0]):
        if not fill_slots(policies, i, default, starts, parts, pairs, slots):
            return -1
        live, most = 0, 0
        for e in range(events.shape[0]):
            t = abs(events[e]) - 1
            size = tensors[t, 0] * stored[slots[tensors[t, 1]]]
            if events[e] > 0:
                live += size
                most = max(most, live)
            else:
                live -= size
        peaks[i] = most
    return 0
