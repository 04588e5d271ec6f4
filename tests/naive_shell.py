"""Obviously right shell: one Python loop over cycles, units that look at their queue each cycle, flat memory.

Written from the docstrings of `hwsim.core.program` and `hwsim.engine.kernel_shell`; it shares no code with the kernel and never
looks ahead: a token appears in the cycle in which it is given, a port serves one beat a cycle.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hwsim.core.program import LOAD_I, LOAD_W, QUEUES, SEMAPHORES
from hwsim.core.stats import STALLS

FREE_BANKS = 2
"""Tokens of a buffer's ``_FREE`` semaphore at first: its two banks. No tile is ready then."""
WRITE_CYCLES = 5
"""From a store's request to its first beat: 3 to the first data, 1 to the answer, 1 back (`accel_rtl.blocks.write_dma`)."""
ORDER = ("load", "exec", "store", "load_w")
"""Who starts first within a cycle."""
CAUSE = {"W_READY": "weights", "I_READY": "inputs", "P_READY": "memory", "O_FREE": "output_buffer"}
"""What a wait of the exec unit is called, by the semaphore whose token came last (several at once: the first of these)."""
ACCOUNT = ("compute", *STALLS)


@dataclass
class Unit:
    """One unit: the instructions still to run, the one under way, and the cycle at which it ends once that is known."""

    todo: deque[int]
    now: int | None = None
    ends: int | None = None


@dataclass
class Transfer:
    """Beats of an instruction still to move: it asks for its port in cycle ``asks``, they may move from ``from_cycle`` on."""

    index: int
    asks: int
    from_cycle: int
    beats: int


@dataclass
class Machine:
    """Everything that changes from cycle to cycle, and what is recorded."""

    table: object
    memory: object
    issue: int
    units: dict[str, Unit]
    tokens: dict[str, int]
    ports: tuple[deque[Transfer], ...]
    asking: list[Transfer] = field(default_factory=list)
    coming: list[int] = field(default_factory=list)
    last_result: int = -1
    waited: int = 0
    missing: str = ""
    ready: dict[int, int] = field(default_factory=dict)
    start: dict[int, int] = field(default_factory=dict)
    end: dict[int, int] = field(default_factory=dict)
    account: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ACCOUNT, 0))
    cycles: int = 0


def run_naive(table, memory, issue_cycles: int, limit: int = 50_000) -> Machine:
    """Run an instruction table cycle by cycle; ``memory`` is a flat `Memory`."""
    queue_of = [QUEUES[rec["queue"]] for rec in table]
    units = {name: Unit(deque(i for i, queue in enumerate(queue_of) if queue == name)) for name in ORDER}
    tokens = {name: FREE_BANKS if name.endswith("_FREE") else 0 for name in SEMAPHORES}
    m = Machine(table, memory, issue_cycles, units, tokens, (deque(), deque(), deque()))
    t = 0
    while len(m.end) < len(table):
        assert t < limit, "the program never ends"
        while end_one(m, t) or start_one(m, t):  # until nothing more happens in this cycle
            pass
        if len(m.end) < len(table):
            account_cycle(m, t)
            move_beats(m, t)
            t += 1
    exec_end = max((m.end[i] for i, queue in enumerate(queue_of) if queue == "exec"), default=0)
    m.cycles = max(t, m.last_result)
    m.account["drain"] = m.last_result - exec_end
    m.account["memory"] += m.cycles - m.last_result
    return m


def end_one(m: Machine, t: int) -> bool:
    """End an instruction whose last cycle has passed, or let a result arrive in obuf; say whether anything happened."""
    if m.coming and m.coming[0] <= t:
        m.coming.pop(0)
        m.tokens["O_READY"] += 1
        return True
    for unit in m.units.values():
        if unit.ends is not None and unit.ends <= t:
            rec = m.table[unit.now]
            m.end[unit.now] = t
            if unit is m.units["exec"]:
                m.last_result = max(t + int(rec["tail"]), m.last_result + 1)
            for k, name in enumerate(SEMAPHORES):
                if rec["signal"] >> k & 1 and name == "O_READY":
                    m.coming.append(m.last_result)
                elif rec["signal"] >> k & 1:
                    m.tokens[name] += 1
            unit.now = unit.ends = None
            return True
    return False


def start_one(m: Machine, t: int) -> bool:
    """Start the first unit that is free and finds its tokens; say whether one did."""
    for name, unit in m.units.items():
        if unit.now is not None or not unit.todo:
            continue
        i = unit.todo[0]
        rec = m.table[i]
        wanted = [s for k, s in enumerate(SEMAPHORES) if rec["wait"] >> k & 1]
        if any(m.tokens[s] == 0 for s in wanted):
            continue
        for s in wanted:
            m.tokens[s] -= 1
        unit.now = unit.todo.popleft()
        m.ready[i], m.start[i] = t, t + m.issue
        if name == "exec":
            unit.ends = m.start[i] + int(rec["cycles"])
            m.account[CAUSE.get(m.missing, "memory")] += m.waited
            m.waited = 0
        elif rec["bits"] == 0:
            unit.ends = m.start[i] + (int(rec["cycles"]) if name == "store" else 0)
        else:
            asks = m.start[i] + (int(rec["cycles"]) if name == "store" else 0)
            latency = WRITE_CYCLES if name == "store" else m.memory.latency_cycles
            beats = -(-int(rec["bits"]) // m.memory.bits_per_cycle)
            m.asking.append(Transfer(i, asks, asks + latency, beats))
        return True
    return False


def find_port(memory, rec) -> int:
    """Return the port of a transfer: one for all, or one each for weights, inputs, and outputs with partial sums."""
    if memory.channels == "shared":
        return 0
    return {LOAD_W: 0, LOAD_I: 1}.get(int(rec["op"]), 2)


def take_requests(m: Machine, t: int) -> list[Transfer]:
    """Return, and forget, the transfers that ask in cycle ``t``: loads, then stores."""
    now = [transfer for transfer in m.asking if transfer.asks == t]
    m.asking = [transfer for transfer in m.asking if transfer.asks != t]
    return sorted(now, key=lambda transfer: QUEUES[m.table[transfer.index]["queue"]] == "store")


def move_beats(m: Machine, t: int) -> None:
    """Queue who asks now, and move one beat on each port; a transfer ends behind its last beat."""
    for transfer in take_requests(m, t):
        m.ports[find_port(m.memory, m.table[transfer.index])].append(transfer)
    for port in m.ports:
        if port and port[0].from_cycle <= t:
            port[0].beats -= 1
            if port[0].beats == 0:
                i = port.popleft().index
                next(u for u in m.units.values() if u.now == i).ends = t + 1


def account_cycle(m: Machine, t: int) -> None:
    """Write down what the exec unit does in cycle ``t``; a wait is named when it is over."""
    unit = m.units["exec"]
    if unit.now is not None:
        at = t - m.start[unit.now]
        m.account["issue" if at < 0 else "fill" if at < m.table[unit.now]["fill"] else "compute"] += 1
    elif unit.todo:
        m.waited += 1
        wait = m.table[unit.todo[0]]["wait"]
        m.missing = next(s for s in CAUSE if wait >> SEMAPHORES.index(s) & 1 and m.tokens[s] == 0)
