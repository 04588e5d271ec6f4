"""DRAM controller and banks as an event-driven machine over flat arrays; time in memory clocks.

What is decided when
--------------------
Every channel has its own controller, banks and buses. A burst (`dram_enqueue`) first waits in the channel's read queue
or write buffer; from there it moves to the queue of its bank, and from there its column command is issued. All that
happens in the *steps* of the channel. A step at clock ``t`` sees the bursts that arrived at or before ``t`` and nothing
else; steps are taken in the order of time (`dram_next_decision` names the next, `dram_issue` takes it), so a loop that
interleaves them with other events is causal and deterministic. A step at ``t`` does, in this order:

1. Command. At most one command per channel and clock. Candidates: for each bank the oldest read and the oldest write
   whose row is open; an activation where the row is closed; a precharge where the oldest burst of the bank misses the
   open row and either no younger one hits it or ``hit_cap`` columns were served since the activation. Among the
   candidates whose timing constraints hold at ``t`` the banks take turns, beginning behind the last one served (bank
   number = rank, bank group, bank); within a bank the older goes first. Each row stays open until then (open page).
2. Transfer. At most one burst moves to its bank's queue: the oldest that finds a place there, of the reads, or, while
   draining, of the writes. It can be served from ``t + 1``. A drain begins when the write buffer is full, or when no
   bank queue holds a burst and more than ``write_low`` writes or no reads wait; it ends when as many writes as waited
   at its beginning have moved.

Refresh: each rank is due every tREFI, the ranks staggered. From the due clock on, the rank takes no new column or
activation; its open banks are precharged as soon as they may be, then all are refreshed for tRFC. These commands go
before others. While a channel holds no burst its refreshes are made up at the next enqueue (or `dram_settle`), with the
same result as if they had been taken one by one.

A read is finished with the last beat on the bus, a write likewise; a client may take a write as done when it was
accepted (posted). Constraints: tRCD tRP tRAS tRC tRRD_S/L tFAW tCCD_S/L tWTR_S/L tRTW tWR tRTP tRTRS tREFI tRFC and
the occupation of the data bus.

Not modelled: data; merging or forwarding of bursts of equal address, and order between a read and a write of the same
address (clients order them); per-bank refresh, power-down, self-refresh, temperature; the separate row and column
command buses of HBM and the two-clock commands of LPDDR4; the controller's own pipeline beyond one clock from queue to
bank; the path between the client and the controller.

State
-----
Four int64 arrays of `hwsim.engine.dram.new_state`: ``v`` [parameters], ``chan`` [channel, field], ``bank``
[channel * banks, field and queue], ``queue`` [channel, read or write, place, field].
"""

from __future__ import annotations

import numpy as np

from hwsim.core.jit import kernel

NEVER = 1 << 62

# Commands in chan[:, KIND].
NONE, READ, WRITE, ACTIVATE, PRECHARGE, REFRESH, REFRESH_DUE = 0, 1, 2, 3, 4, 5, 6

# Places in v; hwsim.core.dram_parts.VECTOR_FIELDS has the same order (a test compares them).
(
    V_CHANNELS,
    V_RANKS,
    V_GROUPS,
    V_GROUP_BANKS,
    V_CH_SHIFT,
    V_CH_MASK,
    V_RA_SHIFT,
    V_RA_MASK,
    V_BG_SHIFT,
    V_BG_MASK,
    V_BA_SHIFT,
    V_BA_MASK,
    V_RO_SHIFT,
    V_RO_MASK,
    V_READ_DONE,
    V_WRITE_DONE,
    V_RR_L,
    V_RR_S,
    V_RR_O,
    V_RW,
    V_RW_O,
    V_WR_L,
    V_WR_S,
    V_WR_O,
    V_WW_L,
    V_WW_S,
    V_WW_O,
    V_RCD,
    V_RP,
    V_RAS,
    V_RC,
    V_RRD_L,
    V_RRD_S,
    V_FAW,
    V_RTP,
    V_WTP,
    V_REFI,
    V_RFC,
    V_READ_QUEUE,
    V_WRITE_QUEUE,
    V_BANK_QUEUE,
    V_WRITE_LOW,
    V_HIT_CAP,
) = range(43)

# Fields of a channel: the next step; the command chosen for it (clock, kind, bank or rank); the next transfer; queues.
NEXT, PICK_TIME, KIND, PICK, MOVE_TIME, MOVE_OK, DRAINING, READS, WRITES, IN_BANKS, TURN = range(11)
# Counts since new_state, for the energy model; REFRESH_CYCLES sums, over refreshes, due clock to the end of tRFC.
N_ACTIVATE, N_PRECHARGE, N_REFRESH, N_READ, N_WRITE, REFRESH_CYCLES = range(11, 17)
# Per rank: the due clock, whether a refresh waits, the last four activations and the place of the oldest.
RANK_AT, RANK_FIELDS, DUE, WAITS, FAW_AT, FAW_I = 17, 7, 0, 1, 2, 6
MAX_RANKS = 4
# Per rank and bank group: the earliest read, write, activation.
GROUP_AT, GROUP_FIELDS, READ_OK, WRITE_OK, RRD_OK = RANK_AT + MAX_RANKS * RANK_FIELDS, 3, 0, 1, 2

# Fields of a bank; ROW_KIND is the row command it wants; READ_I, WRITE_I are the places of the oldest hits, or -1.
OPEN_ROW, HITS, COLUMN_OK, PRE_OK, ACT_OK, LENGTH, READ_I, WRITE_I, ROW_KIND, ENTRY_AT = range(10)
ENTRY_FIELDS, E_ROW, E_WRITE, E_TAG = 3, 0, 1, 2
# Fields of a burst in a queue.
Q_FIELDS, Q_BANK, Q_ROW, Q_TAG = 3, 0, 1, 2


@kernel
def _review_bank(v, bank, b):
    """Find the bank's oldest hits and the row command that it wants."""
    state = bank[b]
    n, row = state[LENGTH], state[OPEN_ROW]
    state[READ_I] = -1
    state[WRITE_I] = -1
    state[ROW_KIND] = NONE
    if n == 0:
        return
    if row < 0:
        state[ROW_KIND] = ACTIVATE
        return
    for i in range(n):
        at = ENTRY_AT + i * ENTRY_FIELDS
        if state[at + E_ROW] == row:
            which = WRITE_I if state[at + E_WRITE] else READ_I
            if state[which] < 0:
                state[which] = i
    if state[ENTRY_AT + E_ROW] != row and (
        (state[READ_I] < 0 and state[WRITE_I] < 0) or state[HITS] >= v[V_HIT_CAP]
    ):
        state[ROW_KIND] = PRECHARGE


@kernel
def _choose_refresh(v, chan, bank, c, floor):
    """Choose among the refresh commands of all ranks at ``floor`` or later."""
    ch = chan[c]
    per_rank = v[V_GROUPS] * v[V_GROUP_BANKS]
    first = c * v[V_RANKS] * per_rank
    best, kind, pick = NEVER, NONE, -1
    for r in range(v[V_RANKS]):
        at = RANK_AT + r * RANK_FIELDS
        if ch[at + WAITS] == 0:
            time = max(ch[at + DUE], floor)
            if time < best:
                best, kind, pick = time, REFRESH_DUE, r
            continue
        close, close_time, time = -1, NEVER, floor
        for b in range(r * per_rank, (r + 1) * per_rank):
            state = bank[first + b]
            if state[OPEN_ROW] < 0:
                time = max(time, state[ACT_OK])
            elif max(floor, state[PRE_OK]) < close_time:
                close, close_time = b, max(floor, state[PRE_OK])
        if close >= 0:
            if close_time < best:
                best, kind, pick = close_time, PRECHARGE, close
        elif time < best:
            best, kind, pick = time, REFRESH, r
    ch[PICK_TIME] = best
    ch[KIND] = kind
    ch[PICK] = pick


@kernel
def _choose(v, chan, bank, c, floor):
    """Choose the channel's next command, at ``floor`` or later, as the module's text defines it."""
    _choose_refresh(v, chan, bank, c, floor)
    ch = chan[c]
    best, kind, pick = ch[PICK_TIME], ch[KIND], ch[PICK]
    per_rank = v[V_GROUPS] * v[V_GROUP_BANKS]
    banks = v[V_RANKS] * per_rank
    first = c * banks
    b = ch[TURN]
    left = banks if ch[IN_BANKS] > 0 and best > floor else 0
    while left > 0:
        left -= 1
        b += 1
        if b >= banks:
            b = 0
        state = bank[first + b]
        if state[LENGTH] == 0:
            continue
        rank_at = RANK_AT + b // per_rank * RANK_FIELDS
        if ch[rank_at + WAITS] != 0:
            continue
        group_at = GROUP_AT + b // v[V_GROUP_BANKS] * GROUP_FIELDS
        if state[ROW_KIND] == PRECHARGE:
            time = max(floor, state[PRE_OK])
            if time < best:
                best, kind, pick = time, PRECHARGE, b
        elif state[ROW_KIND] == ACTIVATE:
            time = max(floor, state[ACT_OK], ch[group_at + RRD_OK])
            time = max(time, ch[rank_at + FAW_AT + ch[rank_at + FAW_I]] + v[V_FAW])
            if time < best:
                best, kind, pick = time, ACTIVATE, b
        read_i, write_i = state[READ_I], state[WRITE_I]
        if read_i >= 0:
            time = max(floor, state[COLUMN_OK], ch[group_at + READ_OK])
            if time < best:
                best, kind, pick = time, READ, b
        if write_i >= 0:
            time = max(floor, state[COLUMN_OK], ch[group_at + WRITE_OK])
            if time < best or (time == best and pick == b and kind == READ and write_i < read_i):
                best, kind, pick = time, WRITE, b
        if best == floor:
            break
    ch[PICK_TIME] = best
    ch[KIND] = kind
    ch[PICK] = pick


@kernel
def _issue_column(v, chan, bank, c, t):
    """Issue the chosen read or write; return its tag."""
    ch = chan[c]
    b = ch[PICK]
    is_write = ch[KIND] == WRITE
    groups = v[V_GROUPS]
    own_group = b // v[V_GROUP_BANKS]
    own_rank = own_group // groups
    to_read_l, to_read_s, to_read_o = v[V_RR_L], v[V_RR_S], v[V_RR_O]
    to_write_l, to_write_s, to_write_o = v[V_RW], v[V_RW], v[V_RW_O]
    to_pre = v[V_RTP]
    if is_write:
        to_read_l, to_read_s, to_read_o = v[V_WR_L], v[V_WR_S], v[V_WR_O]
        to_write_l, to_write_s, to_write_o = v[V_WW_L], v[V_WW_S], v[V_WW_O]
        to_pre = v[V_WTP]
    for g in range(v[V_RANKS] * groups):
        read_gap, write_gap = to_read_s, to_write_s
        if g == own_group:
            read_gap, write_gap = to_read_l, to_write_l
        elif g // groups != own_rank:
            read_gap, write_gap = to_read_o, to_write_o
        at = GROUP_AT + g * GROUP_FIELDS
        ch[at + READ_OK] = max(ch[at + READ_OK], t + read_gap)
        ch[at + WRITE_OK] = max(ch[at + WRITE_OK], t + write_gap)
    b += c * v[V_RANKS] * groups * v[V_GROUP_BANKS]
    state = bank[b]
    state[PRE_OK] = max(state[PRE_OK], t + to_pre)
    state[HITS] += 1
    place = state[WRITE_I] if is_write else state[READ_I]
    tag = state[ENTRY_AT + place * ENTRY_FIELDS + E_TAG]
    state[LENGTH] -= 1
    for i in range(ENTRY_AT + place * ENTRY_FIELDS, ENTRY_AT + state[LENGTH] * ENTRY_FIELDS):
        state[i] = state[i + ENTRY_FIELDS]
    _review_bank(v, bank, b)
    ch[IN_BANKS] -= 1
    ch[N_WRITE if is_write else N_READ] += 1
    return tag


@kernel
def _issue_row(v, chan, bank, c, t):
    """Issue the chosen activation, precharge or refresh."""
    ch = chan[c]
    kind, b = ch[KIND], ch[PICK]
    groups = v[V_GROUPS]
    per_rank = groups * v[V_GROUP_BANKS]
    first = c * v[V_RANKS] * per_rank
    if kind == REFRESH:
        at = RANK_AT + b * RANK_FIELDS
        for i in range(b * per_rank, (b + 1) * per_rank):
            bank[first + i, ACT_OK] = t + v[V_RFC]
        ch[N_REFRESH] += 1
        ch[REFRESH_CYCLES] += t + v[V_RFC] - ch[at + DUE]
        ch[at + DUE] += v[V_REFI]
        ch[at + WAITS] = 0
        return
    state = bank[first + b]
    if kind == PRECHARGE:
        state[OPEN_ROW] = -1
        state[HITS] = 0
        state[ACT_OK] = max(state[ACT_OK], t + v[V_RP])
        ch[N_PRECHARGE] += 1
    else:
        state[OPEN_ROW] = state[ENTRY_AT + E_ROW]
        state[ACT_OK] = t + v[V_RC]
        state[COLUMN_OK] = t + v[V_RCD]
        state[PRE_OK] = t + v[V_RAS]
        own_group = b // v[V_GROUP_BANKS]
        rank = own_group // groups
        for g in range(rank * groups, (rank + 1) * groups):
            at = GROUP_AT + g * GROUP_FIELDS + RRD_OK
            ch[at] = max(ch[at], t + (v[V_RRD_L] if g == own_group else v[V_RRD_S]))
        at = RANK_AT + rank * RANK_FIELDS
        ch[at + FAW_AT + ch[at + FAW_I]] = t
        ch[at + FAW_I] = (ch[at + FAW_I] + 1) % 4
        ch[N_ACTIVATE] += 1
    _review_bank(v, bank, first + b)


@kernel
def _move_burst(v, chan, bank, queue, c, t):
    """Move the oldest burst that finds a place from its queue to its bank; return whether one moved."""
    ch = chan[c]
    ch[MOVE_TIME] = NEVER
    writes = ch[WRITES]
    if ch[DRAINING] == 0 and (
        writes >= v[V_WRITE_QUEUE] or (ch[IN_BANKS] == 0 and (writes > v[V_WRITE_LOW] or ch[READS] == 0))
    ):
        ch[DRAINING] = writes
    side = 1 if ch[DRAINING] > 0 else 0
    count = READS + side
    bursts = queue[c, side]
    n = ch[count]
    i = 0
    while i < n and bank[bursts[i, Q_BANK], LENGTH] >= v[V_BANK_QUEUE]:
        i += 1
    if i == n:
        return False
    b = bursts[i, Q_BANK]
    state = bank[b]
    at = ENTRY_AT + state[LENGTH] * ENTRY_FIELDS
    state[at + E_ROW] = bursts[i, Q_ROW]
    state[at + E_WRITE] = side
    state[at + E_TAG] = bursts[i, Q_TAG]
    state[LENGTH] += 1
    _review_bank(v, bank, b)
    ch[IN_BANKS] += 1
    n -= 1
    ch[count] = n
    more = False
    for j in range(i, n):
        for f in range(Q_FIELDS):
            bursts[j, f] = bursts[j + 1, f]
        more = more or bank[bursts[j, Q_BANK], LENGTH] < v[V_BANK_QUEUE]
    if side == 1:
        ch[DRAINING] -= 1
        more = more or ch[DRAINING] == 0
    else:
        more = more or ch[WRITES] >= v[V_WRITE_QUEUE]
    ch[MOVE_OK] = t + 1
    if more:
        ch[MOVE_TIME] = t + 1
    return True


@kernel
def _step(v, chan, bank, queue, c):
    """Take the channel's next step; return the tag of the burst whose column was issued, or -1."""
    ch = chan[c]
    t = ch[NEXT]
    tag = -1
    changed = False
    if ch[PICK_TIME] <= t:
        kind = ch[KIND]
        changed = True
        if kind == REFRESH_DUE:  # takes no clock: a command and a transfer may follow in another step at t
            ch[RANK_AT + ch[PICK] * RANK_FIELDS + WAITS] = 1
            _choose(v, chan, bank, c, t)
            ch[NEXT] = min(ch[PICK_TIME], ch[MOVE_TIME])
            return tag
        if kind == READ or kind == WRITE:
            tag = _issue_column(v, chan, bank, c, t)
            ch[TURN] = ch[PICK]
            ch[MOVE_TIME] = t
        else:
            if kind != REFRESH:
                ch[TURN] = ch[PICK]
            _issue_row(v, chan, bank, c, t)
    if ch[MOVE_TIME] <= t:
        changed = _move_burst(v, chan, bank, queue, c, t) or changed
    if changed:
        _choose(v, chan, bank, c, t + 1)
    ch[NEXT] = min(ch[PICK_TIME], ch[MOVE_TIME])
    return tag


@kernel
def dram_accepts(v, chan, address, is_write):
    """Return whether the queue that a burst at byte ``address`` would join has a place."""
    c = (address >> v[V_CH_SHIFT]) & v[V_CH_MASK]
    if is_write:
        return chan[c, WRITES] < v[V_WRITE_QUEUE]
    return chan[c, READS] < v[V_READ_QUEUE]


@kernel
def dram_enqueue(v, chan, bank, queue, time, address, is_write, tag):
    """Put a burst into its queue at clock ``time``; the caller has asked `dram_accepts`.

    All steps before ``time`` have been taken; those at ``time`` may follow or have been taken. The queue must have a
    place. ``tag`` (>= 0) comes back from `dram_issue`.
    """
    c = (address >> v[V_CH_SHIFT]) & v[V_CH_MASK]
    ch = chan[c]
    if ch[READS] + ch[WRITES] + ch[IN_BANKS] == 0:
        while ch[NEXT] < time:
            _step(v, chan, bank, queue, c)
    side = 1 if is_write else 0
    rank = (address >> v[V_RA_SHIFT]) & v[V_RA_MASK]
    group = (address >> v[V_BG_SHIFT]) & v[V_BG_MASK]
    b = (address >> v[V_BA_SHIFT]) & v[V_BA_MASK]
    b += v[V_GROUP_BANKS] * (group + v[V_GROUPS] * (rank + v[V_RANKS] * c))
    n = ch[READS + side]
    queue[c, side, n, Q_BANK] = b
    queue[c, side, n, Q_ROW] = (address >> v[V_RO_SHIFT]) & v[V_RO_MASK]
    queue[c, side, n, Q_TAG] = tag
    ch[READS + side] = n + 1
    if side == 1 or bank[b, LENGTH] < v[V_BANK_QUEUE]:
        ch[MOVE_TIME] = min(ch[MOVE_TIME], max(time, ch[MOVE_OK]))
        ch[NEXT] = min(ch[NEXT], ch[MOVE_TIME])


@kernel
def dram_next_decision(v, chan):
    """Return the clock of the next step of any channel that holds bursts, or `NEVER`."""
    best = NEVER
    for c in range(v[V_CHANNELS]):
        if chan[c, NEXT] < best and chan[c, READS] + chan[c, WRITES] + chan[c, IN_BANKS] > 0:
            best = chan[c, NEXT]
    return best


@kernel
def dram_issue(v, chan, bank, queue):
    """Take the step that `dram_next_decision` names (the lowest channel first).

    Returns
    -------
    tag, finish : the burst whose column command this step issued and the clock after its last beat; (-1, -1) if none.
    """
    best, c = NEVER, -1
    for i in range(v[V_CHANNELS]):
        if chan[i, NEXT] < best and chan[i, READS] + chan[i, WRITES] + chan[i, IN_BANKS] > 0:
            best, c = chan[i, NEXT], i
    if c < 0:
        return -1, -1
    writes = chan[c, N_WRITE]
    tag = _step(v, chan, bank, queue, c)
    if tag < 0:
        return -1, -1
    if chan[c, N_WRITE] > writes:
        return tag, best + v[V_WRITE_DONE]
    return tag, best + v[V_READ_DONE]


@kernel
def dram_settle(v, chan, bank, queue, time):
    """Take the refreshes that idle channels owe before clock ``time``, so that the counts hold up to it."""
    for c in range(v[V_CHANNELS]):
        while chan[c, NEXT] < time and chan[c, READS] + chan[c, WRITES] + chan[c, IN_BANKS] == 0:
            _step(v, chan, bank, queue, c)


@kernel
def run_trace(v, chan, bank, queue, arrival, address, is_write, accepted, finish):
    """Replay bursts in order, at most one per clock, each not before its arrival and not before its queue has a place.

    Parameters
    ----------
    v, chan, bank, queue : state
    arrival, address, is_write : int64 [n]; clock, byte address, 0 or 1.
    accepted, finish : int64 [n], filled: clock of the enqueue, clock after the last beat on the data bus.
    """
    n = arrival.shape[0]
    i, inject = 0, np.int64(0)
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
