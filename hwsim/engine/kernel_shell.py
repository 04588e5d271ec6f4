"""The cycle engine: one kernel that times a Program on the shell, in accelerator cycles.

What decides the time of an instruction
---------------------------------------
1. It is *ready* when its queue's previous instruction has ended and one token of each semaphore in ``wait`` is there. It
   takes the tokens then, and *starts* ``issue_cycles`` later. Each semaphore's tokens come from one queue, in order.
2. ``EXEC`` ends ``cycles`` after its start. Its tokens are given at the end, but for ``O_READY``: that one is given ``tail``
   cycles later (results leave the engine while the next tile runs); tiles' results leave in order, one cycle apart at least.
3. A load asks for the memory at its start; a store or a spill ``cycles`` behind its start (it is staged first). What moves
   nothing ends at its start (a store ``cycles`` behind it).
4. Flat memory. A port serves transfers in the order in which they ask (of several in one cycle loads first), one at a time, a beat
   of ``bits_per_cycle`` bits a cycle. The first beat moves ``latency_cycles`` behind the request of a load,
   ``WRITE_LATENCY_CYCLES`` behind that of a store, or when the port is free. A transfer ends with its last beat.
5. DRAM. See `hwsim.engine.kernel_port` for what happens between the port and the controller, `hwsim.engine.kernel_dram` for the
   controller. The layer ends when every write is in the memory.
6. At equal times the order is: unit starts (load, exec, store, second load), then requests of stores, then the memory.

Cycles of the exec unit are accounted for once: see the slots of ``account``.
"""

from __future__ import annotations

import numpy as np

from hwsim.core.jit import kernel
from hwsim.engine.kernel_dram import dram_issue, dram_next_decision
from hwsim.engine.kernel_dram_channel import REFRESH_CYCLES, V_RANKS
from hwsim.engine.kernel_port import (
    CLOCKS,
    CYCLES,
    DRAM,
    FIELDS,
    FOREVER,
    LATENCY,
    LATEST,
    OFFER,
    PORT,
    POSTED,
    SPLIT,
    WRITE_LATENCY,
    begin_transfer,
    clock_of,
    cycle_of,
    find_end,
    run_memory,
)
from hwsim.engine.kernel_port import (
    ISSUE as ISSUE_CYCLES,
)

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
    wait = int(table[i]["wait"])
    t = unit_free[q]
    cause = -1
    s = -1
    while wait > 0:
        s += 1
        bit = wait & 1
        wait >>= 1
        if bit:
            if taken[s] >= given[s]:
                return FOREVER, s
            token = times[s, taken[s]]
            if token > t:
                t = token
                cause = s
    return t, cause


@kernel
def give_tokens(mask: int, end: int, result: int, times: np.ndarray, given: np.ndarray) -> None:
    """Give a token to every semaphore of ``mask`` at ``end``; O_READY (bit 6) at ``result``."""
    for s in range(8):
        if mask >> s & 1:
            at = result if s == 6 else end
            times[s, given[s]] = at
            given[s] += 1


@kernel
def count_refreshes(memory: np.ndarray, v: np.ndarray, chan: np.ndarray) -> int:
    """Return the cycles of all refreshes so far, of the mean rank of the mean channel."""
    total = 0
    for c in range(chan.shape[0]):
        total += chan[c, REFRESH_CYCLES]
    return total * memory[CYCLES] // (memory[CLOCKS] * chan.shape[0] * v[V_RANKS])


@kernel
def run_shell(
    table: np.ndarray,
    memory: np.ndarray,
    tokens: np.ndarray,
    v: np.ndarray,
    chan: np.ndarray,
    bank: np.ndarray,
    queue: np.ndarray,
    ready: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    account: np.ndarray,
) -> int:
    """Time a Program.

    Parameters
    ----------
    table : INSTRUCTION records [n]
    memory : int64 [13]
        See `hwsim.engine.run.describe_memory`.
    tokens : int64 [8]
        Tokens at start.
    v, chan, bank, queue : int64
        State of the DRAM model (any small arrays with flat memory).
    ready, start, end : int64 [n], filled
    account : int64 [10], filled
        Cycles by cause: compute, fill, drain, weights, inputs, output buffer, memory, refresh, issue; last: total cycles.

    Returns
    -------
    int
        0, or 1 if the Program never ends (no instruction can start).
    """
    n = table.shape[0]
    dram, split, issue = memory[DRAM] == 1, memory[SPLIT] == 1, memory[ISSUE_CYCLES]
    queues = np.empty((4, n), np.int64)
    length = np.zeros(4, np.int64)
    position = np.zeros(4, np.int64)
    unit_free = np.zeros(4, np.int64)
    port_free = np.zeros(3, np.int64)
    times = np.zeros((8, n + 4), np.int64)
    given = np.zeros(8, np.int64)
    taken = np.zeros(8, np.int64)
    active = np.full(4, -1, np.int64)  # instructions whose end is not known yet, one a queue
    transfer = np.zeros((4, FIELDS), np.int64)
    for i in range(n):
        q = table[i]["queue"]
        queues[q, length[q]] = i
        length[q] += 1
    for s in range(8):
        given[s] = tokens[s]
        transfer[s // 2, OFFER] = FOREVER
    for slot in range(10):
        account[slot] = 0
    done = 0
    exec_end, result_end, last_end = 0, 0, 0
    store_asks = FOREVER  # flat memory: when the store under way will ask
    refreshed, looked = 0, True  # cycles of refreshes up to the end of the last EXEC, and whether that was looked at
    while done < n:
        best_q, best_t, best_cause = -1, FOREVER, -1
        for q in (0, 1, 2, 3):
            if active[q] < 0:
                t, cause = find_ready(table, queues, length, position, unit_free, times, taken, given, q)
                if t < best_t:
                    best_q, best_t, best_cause = q, t, cause
        e = FOREVER
        q = best_q
        if dram:
            until = FOREVER if best_q < 0 else clock_of(memory, best_t)
            if not looked:
                until = min(until, clock_of(memory, exec_end))
            through = run_memory(table, memory, v, chan, bank, queue, until, transfer)
            if through >= 0:
                q = through
                e = find_end(memory, transfer, q)
            elif not looked and exec_end <= best_t:
                refreshed, looked = count_refreshes(memory, v, chan), True
                continue
        elif store_asks - issue < best_t:
            q = 2
            port = 2 if split else 0
            e = max(store_asks + memory[WRITE_LATENCY], port_free[port]) - (-table[active[q]]["bits"] // memory[PORT])
            port_free[port] = e
            store_asks = FOREVER
        if e < FOREVER:
            i = active[q]
            active[q] = -1
        elif best_q < 0:
            return DEADLOCK
        else:
            i = queues[q, position[q]]
            position[q] += 1
            for s in range(8):
                if table[i]["wait"] >> s & 1:
                    taken[s] += 1
            begin = best_t + issue
            ready[i] = best_t
            start[i] = begin
            if q == 1:
                gap = best_t - unit_free[1]
                if dram:
                    pause = min(gap, count_refreshes(memory, v, chan) - refreshed)
                    account[REFRESH] += pause
                    gap -= pause
                    looked = False
                if best_cause == 0:
                    account[WEIGHTS] += gap
                elif best_cause == 2:
                    account[INPUTS] += gap
                elif best_cause == 5:
                    account[OUTPUT_BUFFER] += gap
                else:
                    account[MEMORY] += gap
                account[ISSUE] += issue
                account[FILL] += table[i]["fill"]
                account[COMPUTE] += table[i]["cycles"] - table[i]["fill"]
                e = begin + table[i]["cycles"]
                exec_end = e
                result_end = max(result_end + 1, e + table[i]["tail"])
            else:
                ask = begin + (table[i]["cycles"] if q == 2 else 0)
                if table[i]["bits"] == 0:
                    e = ask
                elif dram:
                    active[q] = i
                    begin_transfer(table, memory, transfer, q, i, ask)
                    continue
                elif q == 2:
                    active[q] = i
                    store_asks = ask
                    continue
                else:
                    op = table[i]["op"]
                    port = min(op, 2) if split else 0
                    e = max(ask + memory[LATENCY], port_free[port]) - (-table[i]["bits"] // memory[PORT])
                    port_free[port] = e
        end[i] = e
        unit_free[q] = e
        last_end = max(last_end, e)
        give_tokens(table[i]["signal"], e, result_end, times, given)
        done += 1
    while dram:
        if dram_next_decision(v, chan) >= FOREVER:
            break
        tag, at = dram_issue(v, chan, bank, queue)
        if tag >= 0:
            transfer[POSTED, LATEST] = max(transfer[POSTED, LATEST], at)
    if dram:
        last_end = max(last_end, cycle_of(memory, transfer[POSTED, LATEST]))
    last_end = max(last_end, result_end)
    account[DRAIN] += result_end - exec_end
    account[MEMORY] += last_end - result_end
    account[SPARE] = last_end
    return DONE
