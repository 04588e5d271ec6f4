"""Depth of the queues: an instruction of a lowered Program stands at its queue's head when its unit and its tokens are there.

A model of the dispatcher (`accel_rtl.blocks.dispatch`: its `compute` is compared with it) follows the simulator's timeline: a word
a cycle in, a full queue stalls all. Programs are made as fast as Programs can be: one-cycle tiles, no latency to speak of,
boxes of padding that load nothing.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.extras import require

require("amaranth")

from accel_rtl.blocks.dispatch import Dispatch
from accel_rtl.instruction_word import pack_table, split_words
from hwsim.core.mapping import ORDERS, TILE_DIMS, Mapping
from hwsim.core.program import EXEC
from hwsim.engine.lower import lower_table, prepare_lowering
from hwsim.engine.run import time_table
from tests.naive_cases import conv, workload_of
from tests.rtl.accelerator_bench import arch_of

EXEC_WORDS, STORE_WORDS = 2, 1
PLACES = Dispatch().places


class Queues:
    """The dispatcher, told in each cycle which heads leave."""

    def __init__(self, queue: list[int], places: int, descriptor_words=(0, EXEC_WORDS, STORE_WORDS)) -> None:
        self.queue, self.places, self.descriptor_words = queue, places, descriptor_words
        self.inner: list[list[int]] = [[], [], []]
        self.first = [-1, -1, -1]  # an instruction that left its memory, its descriptor may be under way
        self.came: list[int] = []  # the cycle of each instruction's last word
        self.at, self.left, self.cycle, self.blocked = 0, 0, 0, False

    @property
    def heads(self) -> tuple[int | None, ...]:
        """What the units see."""
        return tuple(i if 0 <= i < len(self.came) and self.came[i] + 2 <= self.cycle else None for i in self.first)

    def step(self, leaves: tuple[bool, ...]) -> None:
        """Go to the next cycle."""
        full = [len(entries) >= self.places - 1 for entries in self.inner]  # one place is the head's
        for q in range(3):
            if self.first[q] < 0 or leaves[q]:
                self.first[q] = self.inner[q].pop(0) if self.inner[q] else -1
        more = self.at < len(self.queue)
        self.blocked = more and not self.left and full[self.queue[self.at]]
        if more and not self.blocked:
            if self.left:
                self.left -= 1
            else:
                self.inner[self.queue[self.at]].append(self.at)
                self.left = self.descriptor_words[self.queue[self.at]]
            if not self.left:
                self.came.append(self.cycle)
                self.at += 1
        self.cycle += 1


def find_late(table, timeline, places: int) -> list[int]:
    """Return the instructions that are not at their queue's head in the cycle in which they are ready."""
    queue, ready, leave = (np.asarray(x).tolist() for x in (table["queue"], timeline.ready, timeline.end - 1))
    queues, late = Queues(queue, places), []
    while queues.at < len(queue) and not queues.blocked:
        queues.step((False, False, False))
    for _ in range(2):
        queues.step((False, False, False))
    mine = [[i for i, q in enumerate(queue) if q == unit] for unit in range(3)]
    for cycle in range(max(leave) + 1):
        heads = queues.heads
        due = [mine[unit][0] if mine[unit] and ready[mine[unit][0]] == cycle else None for unit in range(3)]
        late += [i for i, head in zip(due, heads, strict=True) if i is not None and head != i]
        leaves = tuple(bool(mine[unit]) and leave[mine[unit][0]] == cycle for unit in range(3))
        if any(gone and heads[unit] is None for unit, gone in enumerate(leaves)):
            break  # far too late
        queues.step(leaves)
        for unit in range(3):
            if leaves[unit]:
                mine[unit].pop(0)
    return late


def draw_table(rng: np.random.Generator, arch):
    """Return a Program of many small tiles; half of them with tiles of one cycle."""
    while True:
        window, size = (tuple(int(v) for v in rng.integers(1, most, 2)) for most in (4, 8))
        dims = {"N": int(rng.integers(1, 3)), "G": int(rng.integers(1, 3))}
        op = str(rng.choice(["conv", "conv", "conv", "maxpool"]))
        if op == "conv":
            dims |= {"K": int(rng.integers(1, 5)), "C": int(rng.integers(1, 5))}
        padding = tuple(int(v) for v in rng.integers(0, 6, 4)) if op == "conv" else (0, 0, 0, 0)
        layer = conv(
            op=op,
            size=size,
            window=window,
            stride=tuple(int(v) for v in rng.integers(1, 4, 2)),
            padding=padding,
            **dims,
        )
        if layer is None:
            continue
        tile = {
            dim: int(rng.integers(1, 1 + -(-getattr(layer, dim) // int(rng.choice([1, 3, 9]))))) for dim in TILE_DIMS
        }
        if tile["G"] > 1:
            tile |= {"K": layer.K, "C": layer.C}
        mapping = Mapping(tile=tuple(tile[dim] for dim in TILE_DIMS), order=str(rng.choice(ORDERS)))
        datapath = arch.bind(workload_of(layer))
        table = lower_table(datapath, mapping, prepare_lowering(datapath, arch)).copy()
        if not 12 <= len(table) <= 400:
            continue
        if rng.random() < 0.5:
            runs = table["queue"] == EXEC
            table["cycles"][runs], table["fill"][runs], table["tail"][runs] = 1, 0, int(rng.integers(0, 12))
        return table


@pytest.mark.parametrize("issue_cycles", [1, 2])
def test_no_unit_waits_for_its_queue(issue_cycles):
    arch = arch_of("os", "skewed", 1, 1, bits_per_cycle=32, latency_cycles=4, issue_cycles=issue_cycles)
    shallow = 0
    for k in range(120):
        table = draw_table(np.random.default_rng([issue_cycles, k]), arch)
        timeline = time_table(table, arch)[1]
        assert find_late(table, timeline, PLACES) == [], k
        shallow += bool(find_late(table, timeline, 3))
    assert shallow > 10  # three places are too few for such Programs


@pytest.mark.parametrize("words", [(0, 2, 1), (0, 1, 1), (0, 0, 0), (1, 3, 2)])
@pytest.mark.parametrize("places", [2, 3, 8])
def test_the_model_is_the_dispatcher(places, words):
    rng = np.random.default_rng(places)
    table = draw_table(rng, arch_of())
    queue = table["queue"].tolist()
    entries = list(split_words(pack_table(table)))
    stream = [w for word, q in zip(entries, queue, strict=True) for w in (word, *range(100, 100 + words[q]))]
    model, seen, accepts = Queues(queue, places, words), [], []
    for _ in range(4 * len(stream)):
        heads = model.heads
        share = rng.random(3) < 0.4
        seen.append(heads)
        accepts.append(tuple(int(x) for x in share))
        model.step(tuple(bool(x) and head is not None for x, head in zip(share, heads, strict=True)))
    assert model.at == len(queue)
    whole = [sum(w << 512 * (k + 1) for k, w in enumerate(range(100, 100 + words[q]))) for q in queue]
    wanted = [tuple(None if i is None else entries[i] + whole[i] for i in heads) for heads in seen]
    found = Dispatch(places=places, descriptor_words=words).compute(stream, [(0, 0, 0), *accepts])
    assert found[1:] == wanted
