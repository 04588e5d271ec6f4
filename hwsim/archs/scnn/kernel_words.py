"""Kernels of SCNN for elements of at most 8 banks: all queues of an element stand in one word, a byte each.

They do what `run_elements` of `hwsim.archs.scnn.kernel_products` does with masks, which hold more banks. With fewer than 8 the
bytes stand there several times, so that turning the word turns the banks.
"""

from __future__ import annotations

import numpy as np

from hwsim.core.jit import kernel

MOST_BANKS = 8
"""Bytes of a word."""


@kernel
def fill_words(
    first: int, last: int, place: np.ndarray, filters: np.ndarray, bank: np.ndarray, banks: int, lanes: int,
    meets: np.ndarray, live: np.ndarray, many: int, words: np.ndarray,
) -> bool:  # fmt: skip
    """Fill the products that each vector of weights brings to the banks from an activation at place 0, a byte a bank.

    Parameters
    ----------
    first, last : int
        First and one past the last entry of the segment.
    place, filters : int16 [entries of all segments]
        From `list_weights`.
    bank : int64 [window]
        Bank that filter 0 reaches at a place of the window.
    banks, lanes : int
        At most `MOST_BANKS`; entries of a vector.
    meets : uint64 [window, classes]
        All ones where an activation of the class meets an output there, else 0.
    live, many : int64 [classes], int
        Classes there are, first in the array; how many.
    words : uint64 [vectors, classes or more], filled
        Those of the classes there are, in their order; then 0, of an activation that is not there.

    Returns
    -------
    bool
        Whether no vector brings two products to a bank.
    """
    whole = ~np.uint64(0)
    found, several, again = np.uint64(0), ~(whole // np.uint64(255)), whole // (whole >> np.uint64(64 - 8 * banks))
    for vector in range(-(-(last - first) // lanes)):
        begin = first + vector * lanes
        for i in range(many + 1):
            words[vector, i] = 0
        for e in range(begin, min(begin + lanes, last)):
            if filters[e] >= 0:
                w = place[e]
                one = again << np.uint64(8 * ((filters[e] + bank[w]) & (banks - 1)))
                for i in range(many):
                    words[vector, i] += one & meets[w, live[i]]
        for i in range(many):
            found |= words[vector, i]
    return (found & several) == 0


@kernel
def run_words(
    rotation: np.ndarray, kind: np.ndarray, bounds: np.ndarray, reads: np.ndarray, words: np.ndarray, vectors: int,
    alone: bool, many: int, shape: np.ndarray, block: int, turn: int, lengths: np.ndarray, cycles: np.ndarray,
) -> bool:  # fmt: skip
    """Let all elements multiply their activations of a channel with the weights of a segment.

    Parameters
    ----------
    rotation, kind : int64 [activations]
        Bank of an activation's place, and its class among those there are.
    bounds, reads : int64 [elements used + 1], [elements used]
        First activation of each element; its vectors of activations.
    words, vectors, alone
        From `fill_words`.
    many : int
        Classes there are.
    shape : int64 [14]
        As in `measure_block` of `hwsim.archs.scnn.kernel_products`.
    block, turn : int
        Group of filters and block of channels.
    lengths : uint64 [groups of filters, elements used], changed
        Lengths of the queues of each element: never more than those at which multiplying stops and the products of a cycle.
    cycles : int32 [groups of filters, elements used, blocks of channels], added to

    Returns
    -------
    bool
        Whether a queue is not empty.
    """
    each, stop = shape[1], shape[12]
    seven, byte, word_bits, turns = np.uint64(7), np.uint64(8), np.uint64(64), np.uint64(63)
    ones = ~np.uint64(0) // np.uint64(255)
    below, long = ones * np.uint64(127), ones * np.uint64(256 - stop)
    busy = False
    for pe in range(bounds.shape[0] - 1):
        first, last, queues = bounds[pe], bounds[pe + 1], lengths[block, pe]
        if last - first <= 1 and alone and queues == 0:
            cycles[block, pe, turn] += vectors * (last - first)
            continue
        spent = vectors * reads[pe]
        for at in range(first, last, each):
            end = min(at + each, last)
            b, two = min(at + 1, last - 1), end - at > 1
            low_a, low_b = kind[at], kind[b] if two else many
            left_a, left_b = byte * np.uint64(rotation[at]), byte * np.uint64(rotation[b])
            right_a, right_b = (word_bits - left_a) & turns, (word_bits - left_b) & turns
            for vector in range(vectors):
                word_a, word_b = words[vector, low_a], words[vector, low_b]
                come = (word_a << left_a | word_a >> right_a) + (word_b << left_b | word_b >> right_b)
                if each > 2:
                    for i in range(at + 2, end):
                        left = byte * np.uint64(rotation[i])
                        word = words[vector, kind[i]]
                        come += word << left | word >> ((word_bits - left) & turns)
                while queues & long:
                    queues -= ((queues + below) >> seven) & ones  # one of each queue that has any
                    spent += 1
                queues += come
                queues -= ((queues + below) >> seven) & ones
        lengths[block, pe] = queues
        busy = busy or queues != 0
        cycles[block, pe, turn] += spent
    return busy


@kernel
def empty_words(block: int, turn: int, lengths: np.ndarray, cycles: np.ndarray) -> None:
    """Let all queues run empty: adds the longest of each element to its cycles; ``lengths``, ``cycles`` as in `run_words`."""
    for pe in range(lengths.shape[1]):
        longest, rest = np.uint64(0), lengths[block, pe]
        while rest:
            longest = max(longest, rest & np.uint64(255))
            rest >>= np.uint64(8)
        lengths[block, pe] = 0
        cycles[block, pe, turn] += np.int32(longest)
