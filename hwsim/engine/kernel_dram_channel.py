"""A DRAM channel, its controller and banks, as an event-driven machine over flat arrays; time in memory clocks.

What is decided when
--------------------
Every channel has its own controller, banks and buses. A burst (`hwsim.engine.kernel_dram.dram_enqueue`) first waits in the
channel's read queue or write buffer; from there it moves to the queue of its bank, and from there its column command is issued.
All that happens in the *steps* of the channel. A step at clock ``t`` sees the bursts that arrived at or before ``t`` and nothing
else; steps are taken in the order of time (`dram_next_decision` names the next, `dram_issue` takes it), so a loop that
interleaves them with other events is causal and deterministic. A step at ``t`` does, in this order:

1. Command. At most one command per channel and clock. Candidates: for each bank the oldest read and the oldest write
   whose row is open; an activation where the row is closed; a precharge where the oldest burst of the bank misses the
   open row and either no younger one hits it or ``hit_cap`` columns were served since the activation. Among the
   candidates whose timing constraints hold at ``t`` the banks take turns, beginning behind the last one served (bank
   number = rank, bank group, bank); within a bank the older goes first. Each row stays open until then (open page).
   Past ``hit_cap`` the younger hits still compete with the precharge, which each of them delays by tRTP or tWR: a row
   that is streamed is not torn, and a miss waits at most for the bursts that hit the row.
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

Ints = np.ndarray  # int64, contiguous
NEVER = 1 << 62

# Commands in chan[:, KIND].
NONE, READ, WRITE, ACTIVATE, PRECHARGE, REFRESH, REFRESH_DUE = 0, 1, 2, 3, 4, 5, 6

# Places in v; hwsim.core.dram_parts.VECTOR_FIELDS has the same order (a test compares them).
V_CHANNELS, V_RANKS, V_GROUPS, V_GROUP_BANKS, V_CH_SHIFT, V_CH_MASK, V_RA_SHIFT, V_RA_MASK = range(8)
V_BG_SHIFT, V_BG_MASK, V_BA_SHIFT, V_BA_MASK, V_RO_SHIFT, V_RO_MASK, V_READ_DONE, V_WRITE_DONE = range(8, 16)
V_RR_L, V_RR_S, V_RR_O, V_RW, V_RW_O, V_WR_L, V_WR_S, V_WR_O, V_WW_L, V_WW_S, V_WW_O = range(16, 27)
V_RCD, V_RP, V_RAS, V_RC, V_RRD_L, V_RRD_S, V_FAW, V_RTP, V_WTP, V_REFI, V_RFC = range(27, 38)
V_READ_QUEUE, V_WRITE_QUEUE, V_BANK_QUEUE, V_WRITE_LOW, V_HIT_CAP = range(38, 43)

# Fields of a channel: the next step; the command chosen for it (clock, kind, bank or rank); the next transfer; queues.
NEXT, PICK_TIME, KIND, PICK, MOVE_TIME, MOVE_OK, DRAINING, READS, WRITES, IN_BANKS, TURN = range(11)
# Counts since new_state, for the energy model; REFRESH_CYCLES sums, over refreshes, due clock to the end of tRFC.
N_ACTIVATE, N_PRECHARGE, N_REFRESH, N_READ, N_WRITE, REFRESH_CYCLES = range(11, 17)
# Per rank: the due clock, whether a refresh waits, the last four activations and the place of the oldest.
RANK_AT, RANK_FIELDS, DUE, WAITS, FAW_AT, FAW_I = 17, 7, 0, 1, 2, 6
MAX_RANKS = 4
# Per rank and bank group: the earliest read, write, activation.
GROUP_AT, GROUP_FIELDS, READ_OK, WRITE_OK, RRD_OK = RANK_AT + MAX_RANKS * RANK_FIELDS, 3, 0, 1, 2

# Fields of a bank; ROW_KIND is the row command it wants; READ_I, WRITE_I are the places of the oldest hits, or -1;
# OF_RANK, OF_GROUP are where the fields of its rank and of its bank group begin in the channel's row.
OPEN_ROW, HITS, COLUMN_OK, PRE_OK, ACT_OK, LENGTH, READ_I, WRITE_I, ROW_KIND, OF_RANK, OF_GROUP, ENTRY_AT = range(12)
ENTRY_FIELDS, E_ROW, E_WRITE, E_TAG = 3, 0, 1, 2
# Fields of a burst in a queue.
Q_FIELDS, Q_BANK, Q_ROW, Q_TAG = 3, 0, 1, 2


@kernel
def _review_bank(v: Ints, bank: Ints, b: int) -> None:
    """Find the bank's oldest hits and the row command that it wants."""
    n, row = bank[b, LENGTH], bank[b, OPEN_ROW]
    bank[b, READ_I] = -1
    bank[b, WRITE_I] = -1
    bank[b, ROW_KIND] = NONE
    if n == 0:
        return
    if row < 0:
        bank[b, ROW_KIND] = ACTIVATE
        return
    for i in range(n):
        at = ENTRY_AT + i * ENTRY_FIELDS
        if bank[b, at + E_ROW] == row:
            which = WRITE_I if bank[b, at + E_WRITE] else READ_I
            if bank[b, which] < 0:
                bank[b, which] = i
    if bank[b, ENTRY_AT + E_ROW] != row and (
        (bank[b, READ_I] < 0 and bank[b, WRITE_I] < 0) or bank[b, HITS] >= v[V_HIT_CAP]
    ):
        bank[b, ROW_KIND] = PRECHARGE


@kernel
def _choose_refresh(v: Ints, chan: Ints, bank: Ints, c: int, floor: int) -> None:
    """Choose among the refresh commands of all ranks at ``floor`` or later."""
    per_rank = v[V_GROUPS] * v[V_GROUP_BANKS]
    first = c * v[V_RANKS] * per_rank
    best, kind, pick = NEVER, NONE, -1
    for r in range(v[V_RANKS]):
        at = RANK_AT + r * RANK_FIELDS
        if chan[c, at + WAITS] == 0:
            time = max(chan[c, at + DUE], floor)
            if time < best:
                best, kind, pick = time, REFRESH_DUE, r
            continue
        close, close_time, time = -1, NEVER, floor
        for b in range(r * per_rank, (r + 1) * per_rank):
            s = first + b
            if bank[s, OPEN_ROW] < 0:
                time = max(time, bank[s, ACT_OK])
            elif max(floor, bank[s, PRE_OK]) < close_time:
                close, close_time = b, max(floor, bank[s, PRE_OK])
        if close >= 0:
            if close_time < best:
                best, kind, pick = close_time, PRECHARGE, close
        elif time < best:
            best, kind, pick = time, REFRESH, r
    chan[c, PICK_TIME] = best
    chan[c, KIND] = kind
    chan[c, PICK] = pick


@kernel
def _choose(v: Ints, chan: Ints, bank: Ints, c: int, floor: int) -> None:
    """Choose the channel's next command, at ``floor`` or later, as the module's text defines it."""
    _choose_refresh(v, chan, bank, c, floor)
    best, kind, pick = chan[c, PICK_TIME], chan[c, KIND], chan[c, PICK]
    banks = v[V_RANKS] * v[V_GROUPS] * v[V_GROUP_BANKS]
    first = c * banks
    b = chan[c, TURN]
    left = banks if chan[c, IN_BANKS] > 0 and best > floor else 0
    while left > 0:
        left -= 1
        b += 1
        if b >= banks:
            b = 0
        s = first + b
        if bank[s, LENGTH] == 0:
            continue
        rank_at = bank[s, OF_RANK]
        if chan[c, rank_at + WAITS] != 0:
            continue
        group_at = bank[s, OF_GROUP]
        if bank[s, ROW_KIND] == PRECHARGE:
            time = max(floor, bank[s, PRE_OK])
            if time < best:
                best, kind, pick = time, PRECHARGE, b
        elif bank[s, ROW_KIND] == ACTIVATE:
            time = max(floor, bank[s, ACT_OK], chan[c, group_at + RRD_OK])
            time = max(time, chan[c, rank_at + FAW_AT + chan[c, rank_at + FAW_I]] + v[V_FAW])
            if time < best:
                best, kind, pick = time, ACTIVATE, b
        read_i, write_i = bank[s, READ_I], bank[s, WRITE_I]
        if read_i >= 0:
            time = max(floor, bank[s, COLUMN_OK], chan[c, group_at + READ_OK])
            if time < best:
                best, kind, pick = time, READ, b
        if write_i >= 0:
            time = max(floor, bank[s, COLUMN_OK], chan[c, group_at + WRITE_OK])
            if time < best or (time == best and pick == b and kind == READ and write_i < read_i):
                best, kind, pick = time, WRITE, b
        if best == floor:
            break
    chan[c, PICK_TIME] = best
    chan[c, KIND] = kind
    chan[c, PICK] = pick


@kernel
def _issue_column(v: Ints, chan: Ints, bank: Ints, c: int, t: int) -> int:
    """Issue the chosen read or write; return its tag."""
    b = chan[c, PICK]
    is_write = chan[c, KIND] == WRITE
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
        chan[c, at + READ_OK] = max(chan[c, at + READ_OK], t + read_gap)
        chan[c, at + WRITE_OK] = max(chan[c, at + WRITE_OK], t + write_gap)
    b += c * v[V_RANKS] * groups * v[V_GROUP_BANKS]
    bank[b, PRE_OK] = max(bank[b, PRE_OK], t + to_pre)
    bank[b, HITS] += 1
    place = bank[b, WRITE_I] if is_write else bank[b, READ_I]
    tag = bank[b, ENTRY_AT + place * ENTRY_FIELDS + E_TAG]
    bank[b, LENGTH] -= 1
    for i in range(ENTRY_AT + place * ENTRY_FIELDS, ENTRY_AT + bank[b, LENGTH] * ENTRY_FIELDS):
        bank[b, i] = bank[b, i + ENTRY_FIELDS]
    _review_bank(v, bank, b)
    chan[c, IN_BANKS] -= 1
    chan[c, N_WRITE if is_write else N_READ] += 1
    return tag


@kernel
def _issue_row(v: Ints, chan: Ints, bank: Ints, c: int, t: int) -> None:
    """Issue the chosen activation, precharge or refresh."""
    kind, b = chan[c, KIND], chan[c, PICK]
    groups = v[V_GROUPS]
    per_rank = groups * v[V_GROUP_BANKS]
    first = c * v[V_RANKS] * per_rank
    if kind == REFRESH:
        at = RANK_AT + b * RANK_FIELDS
        for i in range(b * per_rank, (b + 1) * per_rank):
            bank[first + i, ACT_OK] = t + v[V_RFC]
        chan[c, N_REFRESH] += 1
        chan[c, REFRESH_CYCLES] += t + v[V_RFC] - chan[c, at + DUE]
        chan[c, at + DUE] += v[V_REFI]
        chan[c, at + WAITS] = 0
        return
    s = first + b
    if kind == PRECHARGE:
        bank[s, OPEN_ROW] = -1
        bank[s, HITS] = 0
        bank[s, ACT_OK] = max(bank[s, ACT_OK], t + v[V_RP])
        chan[c, N_PRECHARGE] += 1
    else:
        bank[s, OPEN_ROW] = bank[s, ENTRY_AT + E_ROW]
        bank[s, ACT_OK] = t + v[V_RC]
        bank[s, COLUMN_OK] = t + v[V_RCD]
        bank[s, PRE_OK] = t + v[V_RAS]
        own_group = b // v[V_GROUP_BANKS]
        rank = own_group // groups
        for g in range(rank * groups, (rank + 1) * groups):
            at = GROUP_AT + g * GROUP_FIELDS + RRD_OK
            chan[c, at] = max(chan[c, at], t + (v[V_RRD_L] if g == own_group else v[V_RRD_S]))
        at = RANK_AT + rank * RANK_FIELDS
        chan[c, at + FAW_AT + chan[c, at + FAW_I]] = t
        chan[c, at + FAW_I] = (chan[c, at + FAW_I] + 1) % 4
        chan[c, N_ACTIVATE] += 1
    _review_bank(v, bank, first + b)


@kernel
def _move_burst(v: Ints, chan: Ints, bank: Ints, queue: Ints, c: int, t: int) -> bool:
    """Move the oldest burst that finds a place from its queue to its bank; return whether one moved."""
    chan[c, MOVE_TIME] = NEVER
    writes = chan[c, WRITES]
    if chan[c, DRAINING] == 0 and (
        writes >= v[V_WRITE_QUEUE] or (chan[c, IN_BANKS] == 0 and (writes > v[V_WRITE_LOW] or chan[c, READS] == 0))
    ):
        chan[c, DRAINING] = writes
    side = 1 if chan[c, DRAINING] > 0 else 0
    count = READS + side
    n = chan[c, count]
    i = 0
    while i < n and bank[queue[c, side, i, Q_BANK], LENGTH] >= v[V_BANK_QUEUE]:
        i += 1
    if i == n:
        return False
    b = queue[c, side, i, Q_BANK]
    at = ENTRY_AT + bank[b, LENGTH] * ENTRY_FIELDS
    bank[b, at + E_ROW] = queue[c, side, i, Q_ROW]
    bank[b, at + E_WRITE] = side
    bank[b, at + E_TAG] = queue[c, side, i, Q_TAG]
    bank[b, LENGTH] += 1
    _review_bank(v, bank, b)
    chan[c, IN_BANKS] += 1
    n -= 1
    chan[c, count] = n
    more = False
    for j in range(i, n):
        for f in range(Q_FIELDS):
            queue[c, side, j, f] = queue[c, side, j + 1, f]
        more = more or bank[queue[c, side, j, Q_BANK], LENGTH] < v[V_BANK_QUEUE]
    if side == 1:
        chan[c, DRAINING] -= 1
        more = more or chan[c, DRAINING] == 0
    else:
        more = more or chan[c, WRITES] >= v[V_WRITE_QUEUE]
    chan[c, MOVE_OK] = t + 1
    if more:
        chan[c, MOVE_TIME] = t + 1
    return True


@kernel
def step_channel(v: Ints, chan: Ints, bank: Ints, queue: Ints, c: int) -> int:
    """Take the channel's next step; return the tag of the burst whose column was issued, or -1."""
    t = chan[c, NEXT]
    tag = -1
    changed = False
    if chan[c, PICK_TIME] <= t:
        kind = chan[c, KIND]
        changed = True
        if kind == REFRESH_DUE:  # takes no clock: a command and a transfer may follow in another step at t
            chan[c, RANK_AT + chan[c, PICK] * RANK_FIELDS + WAITS] = 1
            _choose(v, chan, bank, c, t)
            chan[c, NEXT] = min(chan[c, PICK_TIME], chan[c, MOVE_TIME])
            return tag
        if kind in (READ, WRITE):
            tag = _issue_column(v, chan, bank, c, t)
            chan[c, TURN] = chan[c, PICK]
            chan[c, MOVE_TIME] = t
        else:
            if kind != REFRESH:
                chan[c, TURN] = chan[c, PICK]
            _issue_row(v, chan, bank, c, t)
    if chan[c, MOVE_TIME] <= t:
        changed = _move_burst(v, chan, bank, queue, c, t) or changed
    if changed:
        _choose(v, chan, bank, c, t + 1)
    chan[c, NEXT] = min(chan[c, PICK_TIME], chan[c, MOVE_TIME])
    return tag
