"""Kernels of SCNN: products scattered to accumulator banks with queues, counted on real tensors.

The machine and its points of waiting are defined in `hwsim.archs.scnn.datapath`. Sets of banks are bit masks; the lengths of all
queues of an element stand in five of them, bit b of mask j being bit j of the length of queue b.
"""

from __future__ import annotations

import numpy as np

from hwsim.archs.scnn.kernel_words import MOST_BANKS, empty_words, fill_words, run_words
from hwsim.core.jit import kernel


@kernel
def find_banks(
    start: int,
    end: int,
    place: np.ndarray,
    filters: np.ndarray,
    bank: np.ndarray,
    banks: int,
    lanes: int,
    bits: np.ndarray,
) -> int:
    """Fill the bank, as a mask, that each entry reaches from an activation at place 0; 0 for a zero that bridges.

    Returns the most products of a vector of ``lanes`` entries at one bank, all of them having an output.
    """
    deepest = 0
    for first in range(start, end, lanes):
        last = min(first + lanes, end)
        hit, twice = 0, 0
        for e in range(first, last):
            bit = 0
            if filters[e] >= 0:
                bit = 1 << ((filters[e] + bank[place[e]]) & (banks - 1))
            bits[e - start] = bit
            twice |= hit & bit
            hit |= bit
        if hit and deepest == 0:
            deepest = 1
        if twice:
            for e in range(first, last):
                same = 0
                for other in range(first, last):
                    if bits[other - start] & bits[e - start]:
                        same += 1
                deepest = max(deepest, same)
    return deepest


@kernel
def fill_masks(
    count: int, place: np.ndarray, bits: np.ndarray, lanes: int, deepest: int, meets: np.ndarray, live: np.ndarray,
    masks: np.ndarray,
) -> int:  # fmt: skip
    """Fill the banks that each vector of weights reaches from an activation at place 0, for the classes of activations there are.

    Parameters
    ----------
    count : int
        Entries of the segment.
    place : int16 [entries]
        Place in the window.
    bits : int64 [entries]
        From `find_banks`, as are ``lanes`` and ``deepest``.
    meets : uint8 [window, classes]
        Whether an activation of the class meets an output there.
    live : int64 [classes there are]
    masks : int64 [vectors, classes, lanes], filled
        Entry j, up to ``deepest``: banks with more than j products.

    Returns
    -------
    int
        Most products of a vector and an activation at one bank.
    """
    found = 0
    for vector in range(-(-count // lanes)):
        first = vector * lanes
        last = min(first + lanes, count)
        for i in range(live.shape[0]):
            cls = live[i]
            for level in range(max(1, deepest)):
                masks[vector, cls, level] = 0
            for e in range(first, last):
                if meets[place[e], cls]:
                    level = 0
                    while masks[vector, cls, level] & bits[e]:
                        level += 1
                    masks[vector, cls, level] |= bits[e]
                    found = max(found, level + 1)
    return found


@kernel
def run_elements(
    rotation: np.ndarray, kind: np.ndarray, bounds: np.ndarray, masks: np.ndarray, vectors: int, deepest: int,
    shape: np.ndarray, queues: np.ndarray, cycles: np.ndarray, turn: int,
) -> int:  # fmt: skip
    """Let all elements multiply their activations of a channel with the weights of a segment.

    Parameters
    ----------
    rotation, kind : int64 [activations]
        Bank of an activation's place, and its class.
    bounds : int64 [elements used + 1]
        First activation of each element.
    masks, vectors, deepest
        From `fill_masks`.
    shape : int64 [14]
        As in `measure_block`.
    queues : int64 [elements used, 5], changed
        Lengths of the queues of each element, bit by bit.
    cycles : int32 [elements used, blocks of channels], added to at ``turn``

    Returns
    -------
    int
        Not 0 where a queue is not empty.
    """
    each, banks, stop = shape[1], shape[11], shape[12]
    full = (1 << banks) - 1
    flat, row, levels = masks.reshape(-1), masks.shape[1] * masks.shape[2], masks.shape[2]
    busy = 0
    for pe in range(bounds.shape[0] - 1):
        first, last = bounds[pe], bounds[pe + 1]
        q0, q1, q2, q3, q4 = queues[pe, 0], queues[pe, 1], queues[pe, 2], queues[pe, 3], queues[pe, 4]
        if last - first <= 1 and deepest <= 1 and (q0 | q1 | q2 | q3 | q4) == 0:
            cycles[pe, turn] += vectors * (last - first)  # no bank gets two products
            continue
        spent = 0
        for at in range(first, last, each):
            end = min(at + each, last)
            for vector in range(vectors):
                if deepest <= 1 and (q0 | q1 | q2 | q3 | q4) == 0:
                    hit, twice = 0, 0
                    for a in range(at, end):
                        i = np.uint64(a)  # no test for a negative index
                        r = rotation[i]
                        m = flat[np.uint64(vector * row + kind[i] * levels)]
                        m = (m << r | m >> (banks - r)) & full
                        twice |= hit & m
                        hit |= m
                    if twice == 0:
                        spent += 1
                        continue
                issued = False
                while not issued:
                    long = q4
                    if stop <= 8:
                        long |= q3
                    if stop <= 4:
                        long |= q2
                    if stop <= 2:
                        long |= q1
                    if stop <= 1:
                        long |= q0
                    if long == 0:
                        issued = True
                        for a in range(at, end):
                            i = np.uint64(a)
                            r, low = rotation[i], vector * row + kind[i] * levels
                            for level in range(deepest):
                                m = flat[np.uint64(low + level)]
                                if m == 0:
                                    break  # nor are there banks with more products
                                c = (m << r | m >> (banks - r)) & full
                                q0, c = q0 ^ c, q0 & c
                                q1, c = q1 ^ c, q1 & c
                                q2, c = q2 ^ c, q2 & c
                                q3, c = q3 ^ c, q3 & c
                                q4 ^= c
                    spent += 1
                    b = q0 | q1 | q2 | q3 | q4
                    q0, b = q0 ^ b, b & ~q0
                    q1, b = q1 ^ b, b & ~q1
                    q2, b = q2 ^ b, b & ~q2
                    q3, b = q3 ^ b, b & ~q3
                    q4 ^= b
        queues[pe, 0], queues[pe, 1], queues[pe, 2], queues[pe, 3], queues[pe, 4] = q0, q1, q2, q3, q4
        busy |= q0 | q1 | q2 | q3 | q4
        cycles[pe, turn] += spent
    return busy


@kernel
def empty_queues(queues: np.ndarray, banks: int, cycles: np.ndarray, turn: int) -> None:
    """Let all queues run empty: adds the longest of each element to its cycles; as in `run_elements`."""
    for pe in range(queues.shape[0]):
        left, longest = (1 << banks) - 1, 0
        for j in range(4, -1, -1):
            both = left & queues[pe, j]
            if both:
                left = both
                longest |= 1 << j
            queues[pe, j] = 0
        cycles[pe, turn] += longest


@kernel
def list_activations(
    x: np.ndarray, part: np.ndarray, shape: np.ndarray, row_kind: np.ndarray, col_kind: np.ndarray, classes_across: int,
    rotation: np.ndarray, kind: np.ndarray, bounds: np.ndarray, seen: np.ndarray,
) -> int:  # fmt: skip
    """Fill the nonzero activations of one channel, ``x[H, W]``, element by element; return how many an element has at most.

    ``rotation``, ``kind`` [activations]: bank of its place, class. ``bounds`` [elements used + 1]: first one of each element.
    ``seen`` [classes]: how many of each class. The others as in `measure_block`.
    """
    many, most = 0, 0
    seen[:] = 0
    for i in range(part[6]):
        y0 = part[0] + i * part[4]
        for j in range(part[7]):
            x0 = part[2] + j * part[5]
            begin = many
            bounds[i * part[7] + j] = many
            for y in range(y0, min(y0 + part[4], part[1])):
                for col in range(x0, min(x0 + part[5], part[3])):
                    if x[y, col]:
                        spot = (y + shape[4]) // shape[2] * shape[9] + (col + shape[5]) // shape[3]
                        rotation[many] = spot * shape[10] & (shape[11] - 1)
                        kind[many] = row_kind[y] * classes_across + col_kind[col]
                        seen[kind[many]] += 1
                        many += 1
            most = max(most, many - begin)
    bounds[part[6] * part[7]] = many
    return most


@kernel
def measure_lists(start: np.ndarray, place: np.ndarray) -> tuple[int, int]:
    """Return the most entries of a segment of weights, and the places of the window that there are."""
    most, window = 0, 0
    for i in range(start.shape[0] - 1):
        most = max(most, start[i + 1] - start[i])
    for e in range(start[start.shape[0] - 1]):
        window = max(window, place[e] + 1)
    return most, window


@kernel
def describe_window(
    shape: np.ndarray,
    row_seen: np.ndarray,
    col_seen: np.ndarray,
    bank: np.ndarray,
    meets: np.ndarray,
    open_to: np.ndarray,
) -> None:
    """Fill for each place of the window its bank, and which classes of activations meet an output there.

    ``bank`` int64 [window]; ``meets`` uint8 [window, classes]; ``open_to`` uint64 of its shape, all bits where they meet.
    The others as in `measure_block`.
    """
    across = col_seen.shape[0]
    for w in range(bank.shape[0]):
        r, s = w // shape[8], w % shape[8]
        bank[w] = -(r * shape[6] // shape[2] * shape[9] + s * shape[7] // shape[3]) * shape[10] & (shape[11] - 1)
        for cls in range(meets.shape[1]):
            meets[w, cls] = row_seen[cls // across] >> r & col_seen[cls % across] >> s & 1
            open_to[w, cls] = ~np.uint64(0) if meets[w, cls] else np.uint64(0)


@kernel
def list_classes(seen: np.ndarray, meets: np.ndarray, live: np.ndarray, among: np.ndarray, reach: np.ndarray) -> int:
    """Fill the classes that a channel's activations have; return how many.

    ``live`` [classes there are], ``among`` [classes]: number of the class, and its place in ``live``. ``reach`` [window]:
    activations that meet an output there.
    """
    count = 0
    for cls in range(seen.shape[0]):
        if seen[cls]:
            live[count], among[cls] = cls, count
            count += 1
    for w in range(reach.shape[0]):
        reach[w] = 0
        for i in range(count):
            reach[w] += seen[live[i]] * meets[w, live[i]]
    return count


@kernel
def count_products(first: int, last: int, place: np.ndarray, filters: np.ndarray, reach: np.ndarray) -> int:
    """Return the products of nonzero weights ``first:last`` that have an output; ``reach`` is from `list_classes`."""
    kept = 0
    for e in range(first, last):
        if filters[e] >= 0:
            kept += reach[place[e]]
    return kept


@kernel
def measure_block(
    x: np.ndarray, start: np.ndarray, place: np.ndarray, filters: np.ndarray, part: np.ndarray, shape: np.ndarray,
    row_kind: np.ndarray, col_kind: np.ndarray, row_seen: np.ndarray, col_seen: np.ndarray, cycles: np.ndarray,
    sums: np.ndarray,
) -> None:  # fmt: skip
    """Fill the cycles of every element for one image and one block of the plane.

    Parameters
    ----------
    x : uint8 [G, C, H, W]
        1 where the activation is not zero.
    start, place, filters
        From `list_weights`.
    part : int64 [8]
        First and one past the last input row and column that the block sees; rows and columns of an element's part; elements
        along rows and columns that are used.
    shape : int64 [14]
        0, 1: weights and activations of a vector; 2 to 7: stride, padding top left, dilation, y and x each; 8: columns of the
        window; 9: accumulators of a row; 10: filters of a group; 11: banks; 12: length of a queue at which multiplying stops; 13:
        channels of a block of channels.
    row_kind, col_kind : int64 [H], [W]
        Class of each input row and column.
    row_seen, col_seen : int64 [classes]
        Rows (columns) of the window, as bits, in which an activation of the class meets an output.
    cycles : int32 [G, groups of filters, elements used, blocks of channels], filled
        Cycles, until the queues are empty.
    sums : int64 [5], added to
        Pairs of entry and nonzero activation; those of a nonzero weight with an output; nonzero activations read; entries read
        by elements, once for each vector of activations; activations read by elements, once for each vector of entries.
    """
    groups, channels = x.shape[0], x.shape[1]
    blocks, used = cycles.shape[1], cycles.shape[2]
    banks, lanes, across = shape[11], shape[0], col_seen.shape[0]
    classes = row_seen.shape[0] * across
    most_entries, window = measure_lists(start, place)
    bank, meets = np.zeros(window, np.int64), np.zeros((window, classes), np.uint8)
    open_to, lengths = np.zeros((window, classes), np.uint64), np.zeros((blocks, used), np.uint64)
    describe_window(shape, row_seen, col_seen, bank, meets, open_to)
    narrow, most_vectors = banks <= MOST_BANKS, -(-most_entries // lanes)
    masks, words = np.zeros((most_vectors, classes, lanes), np.int64), np.zeros((most_vectors, classes + 1), np.uint64)
    bits, reach = np.zeros(most_entries, np.int64), np.zeros(window, np.int64)
    seen, live, among = np.zeros(classes, np.int64), np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    queues, waiting = np.zeros((blocks, used, 5), np.int64), np.zeros(blocks, np.int64)
    rotation = np.zeros((part[1] - part[0]) * (part[3] - part[2]), np.int64)
    kind, bounds, reads = np.zeros_like(rotation), np.zeros(used + 1, np.int64), np.zeros(used, np.int64)
    cycles[:] = 0
    for g in range(groups):
        for c in range(channels):
            most = list_activations(x[g, c], part, shape, row_kind, col_kind, across, rotation, kind, bounds, seen)
            many, turn, vectors_read = bounds[used], c // shape[13], 0
            count = list_classes(seen, meets, live, among, reach)
            if narrow:
                for a in range(many):
                    kind[a] = among[kind[a]]
            for pe in range(used):
                reads[pe] = -(-(bounds[pe + 1] - bounds[pe]) // shape[1])
                vectors_read += reads[pe]
            for block in range(blocks):
                segment = (g * blocks + block) * channels + c
                first, last = start[segment], start[segment + 1]
                entries, vectors = last - first, -(-(last - first) // lanes)
                if many > 0 and entries > 0:
                    sums[0] += many * entries
                    sums[1] += count_products(first, last, place, filters, reach)
                    sums[2] += many
                    sums[3] += vectors_read * entries
                    sums[4] += many * vectors
                    if narrow:
                        alone = fill_words(first, last, place, filters, bank, banks, lanes, open_to, live, count, words)
                        waiting[block] = run_words(
                            rotation, kind, bounds, reads, words, vectors, alone, count, shape, block, turn, lengths,
                            cycles[g],
                        )  # fmt: skip
                    else:
                        deepest = find_banks(first, last, place, filters, bank, banks, lanes, bits)
                        if most > 1 or deepest > 1 or waiting[block]:
                            deepest = fill_masks(
                                entries, place[first:], bits, lanes, deepest, meets, live[:count], masks
                            )
                        waiting[block] = run_elements(
                            rotation, kind, bounds, masks, vectors, deepest, shape, queues[block], cycles[g, block], turn
                        )  # fmt: skip
                ends = c % shape[13] == shape[13] - 1 or c == channels - 1
                if waiting[block] and ends and narrow:
                    empty_words(block, turn, lengths, cycles[g])
                elif waiting[block] and ends:
                    empty_queues(queues[block], banks, cycles[g, block], turn)
                if ends:
                    waiting[block] = 0
