"""DRAM as clients see it: bursts go into queues, steps are taken in the order of time over all channels.

What a step of a channel decides stands in `hwsim.engine.kernel_dram_channel`, with the arrays of the state.
"""

from __future__ import annotations

from hwsim.core.jit import kernel
from hwsim.engine.kernel_dram_channel import (
    IN_BANKS,
    LENGTH,
    MOVE_OK,
    MOVE_TIME,
    N_WRITE,
    NEVER,
    NEXT,
    Q_BANK,
    Q_ROW,
    Q_TAG,
    READS,
    V_BA_MASK,
    V_BA_SHIFT,
    V_BANK_QUEUE,
    V_BG_MASK,
    V_BG_SHIFT,
    V_CH_MASK,
    V_CH_SHIFT,
    V_CHANNELS,
    V_GROUP_BANKS,
    V_GROUPS,
    V_RA_MASK,
    V_RA_SHIFT,
    V_RANKS,
    V_READ_DONE,
    V_READ_QUEUE,
    V_RO_MASK,
    V_RO_SHIFT,
    V_WRITE_DONE,
    V_WRITE_QUEUE,
    WRITES,
    Ints,
    step_channel,
)


@kernel
def dram_accepts(v: Ints, chan: Ints, address: int, is_write: int) -> bool:
    """Return whether the queue that a burst at byte ``address`` would join has a place."""
    c = (address >> v[V_CH_SHIFT]) & v[V_CH_MASK]
    if is_write:
        return chan[c, WRITES] < v[V_WRITE_QUEUE]
    return chan[c, READS] < v[V_READ_QUEUE]


@kernel
def dram_enqueue(
    v: Ints, chan: Ints, bank: Ints, queue: Ints, time: int, address: int, is_write: int, tag: int
) -> None:
    """Put a burst into its queue at clock ``time``; the caller has asked `dram_accepts`.

    All steps before ``time`` have been taken; those at ``time`` may follow or have been taken. The queue must have a
    place. ``tag`` (>= 0) comes back from `dram_issue`.
    """
    c = (address >> v[V_CH_SHIFT]) & v[V_CH_MASK]
    if chan[c, READS] + chan[c, WRITES] + chan[c, IN_BANKS] == 0:
        while chan[c, NEXT] < time:
            step_channel(v, chan, bank, queue, c)
    side = 1 if is_write else 0
    rank = (address >> v[V_RA_SHIFT]) & v[V_RA_MASK]
    group = (address >> v[V_BG_SHIFT]) & v[V_BG_MASK]
    b = (address >> v[V_BA_SHIFT]) & v[V_BA_MASK]
    b += v[V_GROUP_BANKS] * (group + v[V_GROUPS] * (rank + v[V_RANKS] * c))
    n = chan[c, READS + side]
    queue[c, side, n, Q_BANK] = b
    queue[c, side, n, Q_ROW] = (address >> v[V_RO_SHIFT]) & v[V_RO_MASK]
    queue[c, side, n, Q_TAG] = tag
    chan[c, READS + side] = n + 1
    if side == 1 or bank[b, LENGTH] < v[V_BANK_QUEUE]:
        chan[c, MOVE_TIME] = min(chan[c, MOVE_TIME], max(time, chan[c, MOVE_OK]))
        chan[c, NEXT] = min(chan[c, NEXT], chan[c, MOVE_TIME])


@kernel
def dram_next_decision(v: Ints, chan: Ints) -> int:
    """Return the clock of the next step of any channel that holds bursts, or `NEVER`."""
    best = NEVER
    for c in range(v[V_CHANNELS]):
        if chan[c, NEXT] < best and chan[c, READS] + chan[c, WRITES] + chan[c, IN_BANKS] > 0:
            best = chan[c, NEXT]
    return best


@kernel
def dram_issue(v: Ints, chan: Ints, bank: Ints, queue: Ints) -> tuple[int, int]:
    """Take the step that `dram_next_decision` names (the lowest channel first).

    Returns
    -------
    tag, finish : the burst whose column command this step issued and the clock after its last beat; (-1, -1) if none.
    """
    best, c = NEVER, v[V_CHANNELS]  # c is no literal: numba would compile the callees once more for it
    for i in range(v[V_CHANNELS]):
        if chan[i, NEXT] < best and chan[i, READS] + chan[i, WRITES] + chan[i, IN_BANKS] > 0:
            best, c = chan[i, NEXT], i
    if best == NEVER:
        return -1, -1
    writes = chan[c, N_WRITE]
    tag = step_channel(v, chan, bank, queue, c)
    if tag < 0:
        return -1, -1
    if chan[c, N_WRITE] > writes:
        return tag, best + v[V_WRITE_DONE]
    return tag, best + v[V_READ_DONE]


@kernel
def dram_settle(v: Ints, chan: Ints, bank: Ints, queue: Ints, time: int) -> None:
    """Take the refreshes that idle channels owe before clock ``time``, so that the counts hold up to it."""
    for c in range(v[V_CHANNELS]):
        while chan[c, NEXT] < time and chan[c, READS] + chan[c, WRITES] + chan[c, IN_BANKS] == 0:
            step_channel(v, chan, bank, queue, c)


@kernel
def run_trace(
    v: Ints,
    chan: Ints,
    bank: Ints,
    queue: Ints,
    arrival: Ints,
    address: Ints,
    is_write: Ints,
    accepted: Ints,
    finish: Ints,
) -> None:
    """Replay bursts in order, at most one per clock, each not before its arrival and not before its queue has a place.

    Parameters
    ----------
    v, chan, bank, queue : state
    arrival, address, is_write : int64 [n]; clock, byte address, 0 or 1.
    accepted, finish : int64 [n], filled: clock of the enqueue, clock after the last beat on the data bus.
    """
    n = arrival.shape[0]
    i = inject = 0 * n  # no literals, see dram_issue
    while True:
        now = dram_next_decision(v, chan)
        if i < n and dram_accepts(v, chan, address[i], is_write[i]):
            at = max(inject, arrival[i])
            if at <= now:
                dram_enqueue(v, chan, bank, queue, at, address[i], is_write[i], i)
                accepted[i] = at
                inject = at + 1
                i += 1
                continue
        if now == NEVER:
            return
        tag, done = dram_issue(v, chan, bank, queue)
        if tag >= 0:
            finish[tag] = done
        inject = max(inject, now + 1)  # a place freed by a step is offered in the next clock
