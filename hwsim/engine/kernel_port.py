"""Transfers between the accelerator's memory port and the DRAM controller: what the read and the write DMA ask for, and when.

``memory`` is the vector of `hwsim.engine.run.describe_memory`; the rules are those of docs/model.md, "The memory". A transfer is
cut twice: into AXI bursts, which end with their run and at multiples of ``2 ** BLOCK_SHIFT`` beats, and into the bursts of the
part that its runs touch, each run for itself.

A burst of the part carries the number, within its transfer, of its first beat (loads) or of its AXI burst (stores). Beats of R and
answers of B come in order, one a cycle: the last of n comes max(c + n - 1 - number) where c is the cycle in which a burst is
there. So their order of coming need not be known.
"""

from __future__ import annotations

import numpy as np

from hwsim.core.jit import kernel
from hwsim.engine.kernel_dram import dram_accepts, dram_enqueue, dram_issue, dram_next_decision

FOREVER = 1 << 61

# Places in ``memory``.
(DRAM, LATENCY, WRITE_LATENCY, PORT, SPLIT, ISSUE, BURST, CLOCKS, CYCLES, WIDTH, BLOCK_SHIFT, REQUEST, RETURN) = range(
    13
)

# Fields of a transfer under way, one row per queue. The instruction, the cycle in which it asks; clock of the next offer (or
# FOREVER) and offers before it in that clock; whether it waits for a place; bursts under way; max of cycle - number.
NOW, ASK, OFFER, OFFERED, HELD, OPEN, LATEST = range(7)
# The burst that comes next: its number in the memory, one past the last of its run, the number that it carries.
NEXT, STOP, NUMBER = range(7, 10)
# The run: first bit, first beat; beats and AXI bursts of the runs before it; indices of the three levels.
FIRST, FIRST_BEAT, BEATS, REQUESTS, AT0, AT1, AT2 = range(10, 17)
FIELDS = 17
POSTED = 1
"""Row of the exec queue, which moves nothing: LATEST is the clock in which the last posted write is in the memory."""


@kernel
def clock_of(memory: np.ndarray, cycle: int) -> int:
    """Return the first memory clock at or behind the beginning of a cycle."""
    return (cycle * memory[CLOCKS] + memory[CYCLES] - 1) // memory[CYCLES]


@kernel
def cycle_of(memory: np.ndarray, clock: int) -> int:
    """Return the first cycle at or behind a memory clock."""
    return (clock * memory[CYCLES] + memory[CLOCKS] - 1) // memory[CLOCKS]


@kernel
def enter_run(table: np.ndarray, memory: np.ndarray, transfer: np.ndarray, q: int) -> None:
    """Point the transfer of queue ``q`` at the first burst of its present run."""
    i = transfer[q, NOW]
    first = table[i]["address"] + transfer[q, AT2] * table[i]["stride2"]
    first += transfer[q, AT1] * table[i]["stride1"] + transfer[q, AT0] * table[i]["stride0"]
    transfer[q, FIRST] = first
    transfer[q, FIRST_BEAT] = first // memory[PORT]
    transfer[q, NEXT] = first // memory[BURST]
    transfer[q, STOP] = (first + table[i]["run_bits"] - 1) // memory[BURST] + 1


@kernel
def aim(table: np.ndarray, memory: np.ndarray, transfer: np.ndarray, q: int) -> None:
    """Set the number that the next burst carries, and the clock from which it may be offered on."""
    i = transfer[q, NOW]
    burst = transfer[q, NEXT] * memory[BURST]
    if q == 2:  # with its last beat
        at = min(burst + memory[BURST], transfer[q, FIRST] + table[i]["run_bits"]) - 1
    else:
        at = max(burst, transfer[q, FIRST])
    place = at // memory[PORT]
    beat = transfer[q, BEATS] + place - transfer[q, FIRST_BEAT]
    shift = memory[BLOCK_SHIFT]
    request = transfer[q, REQUESTS] + (place >> shift) - (transfer[q, FIRST_BEAT] >> shift)
    due = transfer[q, ASK] + memory[REQUEST]
    if q == 2:
        due += beat + 1
        transfer[q, NUMBER] = request
    else:
        due += request
        transfer[q, NUMBER] = beat
    clock = clock_of(memory, due)
    if clock > transfer[q, OFFER]:
        transfer[q, OFFER] = clock
        transfer[q, OFFERED] = 0


@kernel
def begin_transfer(table: np.ndarray, memory: np.ndarray, transfer: np.ndarray, q: int, i: int, ask: int) -> None:
    """Let instruction ``i`` of queue ``q`` ask for its bits in cycle ``ask``."""
    for field in range(FIELDS):
        transfer[q, field] = 0
    transfer[q, NOW] = i
    transfer[q, ASK] = ask
    enter_run(table, memory, transfer, q)
    aim(table, memory, transfer, q)


@kernel
def go_on(table: np.ndarray, memory: np.ndarray, transfer: np.ndarray, q: int) -> None:
    """Go from the burst that was offered to the next; behind the last one OFFER is FOREVER."""
    i = transfer[q, NOW]
    transfer[q, OFFERED] += 1
    if transfer[q, OFFERED] == memory[WIDTH]:
        transfer[q, OFFERED] = 0
        transfer[q, OFFER] += 1
    transfer[q, NEXT] += 1
    if transfer[q, NEXT] == transfer[q, STOP]:
        last = (transfer[q, FIRST] + table[i]["run_bits"] - 1) // memory[PORT]
        shift = memory[BLOCK_SHIFT]
        transfer[q, BEATS] += last + 1 - transfer[q, FIRST_BEAT]
        transfer[q, REQUESTS] += (last >> shift) + 1 - (transfer[q, FIRST_BEAT] >> shift)
        transfer[q, AT0] += 1
        if transfer[q, AT0] == table[i]["count0"]:
            transfer[q, AT0] = 0
            transfer[q, AT1] += 1
            if transfer[q, AT1] == table[i]["count1"]:
                transfer[q, AT1] = 0
                transfer[q, AT2] += 1
                if transfer[q, AT2] == table[i]["count2"]:
                    transfer[q, OFFER] = FOREVER
                    return
        enter_run(table, memory, transfer, q)
    aim(table, memory, transfer, q)


@kernel
def is_through(transfer: np.ndarray, q: int) -> bool:
    """Return whether all that the end of the transfer waits for is decided."""
    return transfer[q, OPEN] == 0 and transfer[q, OFFER] == FOREVER and transfer[q, HELD] == 0


@kernel
def find_end(memory: np.ndarray, transfer: np.ndarray, q: int) -> int:
    """Return the cycle in which a transfer that is through ends."""
    count = transfer[q, REQUESTS] if q == 2 else transfer[q, BEATS]
    return transfer[q, LATEST] + count - 1 + memory[RETURN]


@kernel
def run_memory(
    table: np.ndarray,
    memory: np.ndarray,
    v: np.ndarray,
    chan: np.ndarray,
    bank: np.ndarray,
    queue: np.ndarray,
    until: int,
    transfer: np.ndarray,
) -> int:
    """Let the memory work up to, not including, clock ``until``.

    Returns
    -------
    int
        The queue whose transfer is through, which ended the work early; -1: none.
    """
    while True:
        q, offer = -1, FOREVER
        for k in (0, 2, 3):
            if transfer[k, OFFER] < offer:
                q, offer = k, transfer[k, OFFER]
        decision = dram_next_decision(v, chan)
        if min(offer, decision) >= until:
            return -1
        if offer <= decision:
            address = transfer[q, NEXT] * memory[BURST] // 8
            write = 1 if q == 2 else 0
            if not dram_accepts(v, chan, address, write):
                transfer[q, HELD] = offer + 1  # never 0
                transfer[q, OFFER] = FOREVER
                continue
            number = transfer[q, NUMBER]
            if write == 1 and table[transfer[q, NOW]]["op"] != 5:
                transfer[q, LATEST] = max(transfer[q, LATEST], cycle_of(memory, offer + 1) - number)
                dram_enqueue(v, chan, bank, queue, offer, address, write, POSTED)
            else:
                transfer[q, OPEN] += 1
                dram_enqueue(v, chan, bank, queue, offer, address, write, number * 4 + q)
            go_on(table, memory, transfer, q)
        else:
            tag, at = dram_issue(v, chan, bank, queue)
            for k in (0, 2, 3):
                if transfer[k, HELD] > 0:
                    transfer[k, OFFER] = transfer[k, HELD] - 1
                    transfer[k, HELD] = 0
                    if decision >= transfer[k, OFFER]:
                        transfer[k, OFFER] = decision + 1
                        transfer[k, OFFERED] = 0
            if tag < 0:
                continue
            q = tag % 4
            if q == POSTED:
                transfer[q, LATEST] = max(transfer[q, LATEST], at)
                continue
            transfer[q, OPEN] -= 1
            transfer[q, LATEST] = max(transfer[q, LATEST], cycle_of(memory, at) - tag // 4)
        if is_through(transfer, q):
            return q
