"""The cycle engine: one kernel that times a Program on the shell, in accelerator cycles.

What decides the time of an instruction
---------------------------------------
1. It is *ready* when its queue's previous instruction has ended and one token of each semaphore in ``wait`` is there. It
   takes the tokens then, and *starts* ``issue_cycles`` later. Each semaphore's tokens come from one queue, in order.
2. ``EXEC`` ends ``cycles`` after its start. Its tokens are given at the end, but for ``O_READY``: that one is given ``tail``
   cycles later (results leave the engine while the next tile runs); tiles' results leave in order, one cycle apart at least.
3. Flat memory. A load asks for its port at start + latency, a store at its start; ports serve in the order of *ready* (load
   before store before the second load queue in one cycle), one transfer at a time, one beat of ``bits_per_cycle`` bits a
   cycle. A load ends with its last beat. A store ends with its last beat, or when its requantization is through.
4. DRAM. A transfer is cut into bursts of the part: every burst that a run touches, in the order of the runs. From its
   start a transfer offers one burst per memory clock while the controller has a place; bursts of different queues share
   the controller (see kernel_dram). A load ends when its last burst is read and not before its beats fit through the port;
   a store when its last burst was accepted (posted) and requantization is through; a spill of partial sums when its last
   burst is written. The layer ends when every write is in the memory.
5. At equal times the order is: unit starts (load, exec, store, second load), offers of bursts (same order), controller.

Cycles of the exec unit are accounted for once: see the slots of ``account``.
"""

from __future__ import annotations

import numpy as np

from hwsim.core.jit import kernel
from hwsim.engine.kernel_dram import dram_accepts, dram_enqueue, dram_issue, dram_next_decision

FOREVER = 1 << 61
COMPUTE, FILL, DRAIN, WEIGHTS, INPUTS, OUTPUT_BUFFER, MEMORY, REFRESH, ISSUE, SPARE = range(10)
DONE, DEADLOCK = 0, 1


@kernel
def find_ready(
    table: np.ndarray,
    queues: np.ndarray,
    length: np.ndarray,
    position: np.ndarray,
    unit_free: np.ndarray,
    times: np.ndarray,
    taken: np.ndarray,
    given: np.ndarray,
    q: int,
) -> tuple[int, int]:
    """Return when the head of queue ``q`` is ready and which semaphore it waited for (-1: none), or FOREVER."""
    if position[q] >= length[q]:
        return FOREVER, -1
    i = queues[q, position[q]]
    wait = table[i]["wait"]
    t = unit_free[q]
    cause = -1
    for s in range(8):
        if wait >> s & 1:
            if taken[s] >= given[s]:
                return FOREVER, s
            token = times[s, taken[s]]
            if token > t:
                t = token
                cause = s
    return t, cause


@kernel
def give_tokens(mask: int, end: np.ndarray, result: int, times: np.ndarray, given: np.ndarray) -> None:
    """Give a token to every semaphore of ``mask`` at ``end``; O_READY (bit 6) at ``result``."""
    for s in range(8):
        if mask >> s & 1:
            at = result if s == 6 else end
            times[s, given[s]] = at
            given[s] += 1


@kernel
def count_bursts(rec: np.ndarray, burst: int) -> int:
    """Return the bursts of ``burst`` bits that an instruction's runs touch."""
    total = 0
    for a in range(rec["count2"]):
        for b in range(rec["count1"]):
            for c in range(rec["count0"]):
                start = rec["address"] + a * rec["stride2"] + b * rec["stride1"] + c * rec["stride0"]
                total += -(-(start + rec["run_bits"]) // burst) - start // burst
    return total


@kernel
def run_shell(
    table: np.ndarray,
    memory: np.ndarray,
    tokens: np.ndarray,
    v: np.ndarray,
    chan: np.ndarray,
    bank: np.ndarray,
    queue: np.ndarray,
    refresh_at: int,
    ready: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    account: np.ndarray,
) -> int:
    """Time a Program.

    Parameters
    ----------
    table : INSTRUCTION records [n]
    memory : int64 [9]
        1 for dram, latency, bits_per_cycle, 1 for a port per operand, issue_cycles, burst bits, memory clocks per
        accelerator cycle as numerator and denominator, channels of the part.
    tokens : int64 [8]
        Tokens at start.
    v, chan, bank, queue : int64
        State of the DRAM model (any small arrays with flat memory).
    refresh_at : int
        Place of the refresh cycles in ``chan``.
    ready, start, end : int64 [n], filled
    account : int64 [10], filled
        Cycles by cause: compute, fill, drain, weights, inputs, output buffer, memory, refresh, issue; last: total cycles.

    Returns
    -------
    int
        0, or 1 if the Program never ends (no instruction can start).
    """
    n = table.shape[0]
    dram = memory[0] == 1
    latency, port_bits, split, issue = memory[1], memory[2], memory[3] == 1, memory[4]
    burst, num, den, parts = memory[5], memory[6], memory[7], memory[8]
    queues = np.empty((4, n), np.int64)
    length = np.zeros(4, np.int64)
    position = np.zeros(4, np.int64)
    unit_free = np.zeros(4, np.int64)
    port_free = np.zeros(3, np.int64)
    times = np.zeros((8, n + 4), np.int64)
    given = np.zeros(8, np.int64)
    taken = np.zeros(8, np.int64)
    # transfers under way, one per queue: instruction, bursts left to offer and to finish, next offer, last finish, runs
    active = np.full(4, -1, np.int64)
    left = np.zeros(4, np.int64)
    open_bursts = np.zeros(4, np.int64)
    offer = np.full(4, FOREVER, np.int64)
    blocked = np.zeros(4, np.bool_)
    finish = np.zeros(4, np.int64)
    cursor = np.zeros((4, 4), np.int64)
    posted = np.zeros(4, np.int64)
    for i in range(n):
        q = table[i]["queue"]
        queues[q, length[q]] = i
        length[q] += 1
    for s in range(8):
        given[s] = tokens[s]
    for slot in range(10):
        account[slot] = 0
    done = 0
    exec_end, result_end, last_end = 0, 0, 0
    refresh_seen = 0
    while done < n:
        best_q, best_t, best_cause = -1, FOREVER, -1
        for q in (0, 1, 2, 3):
            if active[q] < 0:
                t, cause = find_ready(table, queues, length, position, unit_free, times, taken, given, q)
                if t < best_t:
                    best_q, best_t, best_cause = q, t, cause
        if dram:
            unit_clock = FOREVER if best_q < 0 else -(-best_t * num // den)
            offer_q, offer_t = -1, FOREVER
            for q in (0, 2, 3):
                if active[q] >= 0 and left[q] > 0 and not blocked[q] and offer[q] < offer_t:
                    offer_q, offer_t = q, offer[q]
            decision = dram_next_decision(v, chan)
            if not (unit_clock <= offer_t and unit_clock <= decision and best_q >= 0):
                if offer_q >= 0 and offer_t <= decision:
                    i = active[offer_q]
                    write = 1 if offer_q == 2 else 0
                    base = table[i]["address"] + cursor[offer_q, 2] * table[i]["stride2"]
                    base += cursor[offer_q, 1] * table[i]["stride1"] + cursor[offer_q, 0] * table[i]["stride0"]
                    address = (base // burst + cursor[offer_q, 3]) * burst // 8
                    if not dram_accepts(v, chan, address, write):
                        blocked[offer_q] = True
                        continue
                    tag = offer_q if write == 0 or table[i]["op"] == 5 else 4
                    dram_enqueue(v, chan, bank, queue, offer_t, address, write, tag)
                    if tag == 4:
                        posted[offer_q] = offer_t + 1
                        open_bursts[offer_q] -= 1
                    left[offer_q] -= 1
                    offer[offer_q] = offer_t + 1
                    cursor[offer_q, 3] += 1
                    if cursor[offer_q, 3] >= -(-(base + table[i]["run_bits"]) // burst) - base // burst:
                        cursor[offer_q, 3] = 0
                        cursor[offer_q, 0] += 1
                        if cursor[offer_q, 0] == table[i]["count0"]:
                            cursor[offer_q, 0] = 0
                            cursor[offer_q, 1] += 1
                            if cursor[offer_q, 1] == table[i]["count1"]:
                                cursor[offer_q, 1] = 0
                                cursor[offer_q, 2] += 1
                    if open_bursts[offer_q] > 0:
                        continue
                    q, finish[offer_q] = offer_q, posted[offer_q]
                elif decision < FOREVER:
                    tag, at = dram_issue(v, chan, bank, queue)
                    for q in (0, 2, 3):
                        if blocked[q]:
                            blocked[q] = False
                            offer[q] = max(offer[q], decision + 1)
                    if tag == 4:
                        last_end = max(last_end, -(-at * den // num))
                    if tag < 0 or tag == 4:
                        continue
                    q = tag
                    open_bursts[q] -= 1
                    finish[q] = max(finish[q], at)
                    if open_bursts[q] > 0:
                        continue
                else:
                    return DEADLOCK
                i = active[q]
                e = max(-(-finish[q] * den // num), start[i] + -(-table[i]["bits"] // port_bits))
                if q == 2:
                    e = max(e, start[i] + table[i]["cycles"])
                end[i] = e
                unit_free[q] = e
                active[q] = -1
                last_end = max(last_end, e)
                give_tokens(table[i]["signal"], e, e, times, given)
                done += 1
                continue
        if best_q < 0:
            return DEADLOCK
        q = best_q
        i = queues[q, position[q]]
        position[q] += 1
        for s in range(8):
            if table[i]["wait"] >> s & 1:
                taken[s] += 1
        ready[i] = best_t
        begin = best_t + issue
        start[i] = begin
        if q == 1:
            gap = best_t - unit_free[1]
            if gap > 0:
                if dram:
                    total = 0
                    for c in range(parts):
                        total += chan[c, refresh_at]
                    pause = min(gap, (total - refresh_seen) // parts * den // num)
                    account[REFRESH] += pause
                    gap -= pause
                if best_cause == 0:
                    account[WEIGHTS] += gap
                elif best_cause == 2:
                    account[INPUTS] += gap
                elif best_cause == 5:
                    account[OUTPUT_BUFFER] += gap
                else:
                    account[MEMORY] += gap
            if dram:
                refresh_seen = 0
                for c in range(parts):
                    refresh_seen += chan[c, refresh_at]
            account[ISSUE] += issue
            e = begin + table[i]["cycles"]
            account[FILL] += table[i]["fill"]
            account[COMPUTE] += table[i]["cycles"] - table[i]["fill"]
            exec_end = e
            result_end = max(result_end + 1, e + table[i]["tail"])
            give_tokens(table[i]["signal"], e, result_end, times, given)
        elif table[i]["bits"] == 0:
            e = begin + (table[i]["cycles"] if q == 2 else 0)
            give_tokens(table[i]["signal"], e, e, times, given)
        elif dram:
            active[q] = i
            left[q] = count_bursts(table[i], burst)
            open_bursts[q] = left[q]
            offer[q] = -(-begin * num // den)
            finish[q] = 0
            for d in range(4):
                cursor[q, d] = 0
            continue
        else:
            port = 0
            if split:
                op = table[i]["op"]
                port = 0 if op == 0 else (1 if op == 1 else 2)
            beats = -(-table[i]["bits"] // port_bits)
            data = max(begin + (latency if q != 2 else 0), port_free[port])
            port_free[port] = data + beats
            e = data + beats
            if q == 2:
                e = max(e, begin + table[i]["cycles"])
            give_tokens(table[i]["signal"], e, e, times, given)
        end[i] = e
        unit_free[q] = e
        last_end = max(last_end, e)
        done += 1
    while dram:
        if dram_next_decision(v, chan) >= FOREVER:
            break
        tag, at = dram_issue(v, chan, bank, queue)
        if tag >= 0:
            last_end = max(last_end, -(-at * den // num))
    last_end = max(last_end, result_end)
    account[DRAIN] += result_end - exec_end
    account[MEMORY] += last_end - result_end
    account[SPARE] = last_end
    return DONE
