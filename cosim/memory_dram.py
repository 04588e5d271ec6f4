"""Timing of a DRAM part behind AXI, by the kernels of the cycle engine (`hwsim.engine.kernel_dram`).

What happens when, in accelerator cycles (a memory clock is ``denominator / numerator`` of one)
------------------------------------------------------------------------------------------------
* A burst of the part is offered from the cycle on behind the one in which its address was taken on AR, or its last beat on W: in
  order, in each memory clock as many of a direction as the part has channels, as long as the controller has a place.
* Where the first in order finds no place, the rest wait; it is offered again in the clock behind the controller's next step.
* Data of a burst of the part can be on R from the cycle in which it is read on; R keeps the order of the addresses, a beat a
  cycle.
* B of a bufferable burst can come from the cycle in which the last of its bursts was accepted on, that of others when it is
  written, and in neither case before the cycle behind its last W; a B a cycle.
* At equal clocks offers go before the controller, reads before writes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction

from cosim.memory_model import Request
from hwsim.core.dram_parts import find_part
from hwsim.engine import kernel_dram as kernels
from hwsim.engine.dram import DramState, new_state

READ, WRITE = range(2)


@dataclass(slots=True, eq=False)
class _Burst:
    """A burst of the part: when it may be offered, when it was accepted (clock behind), and when it is through."""

    address: int
    offers_at: int = -1
    accepted: int = -1
    finished: int = -1


@dataclass(slots=True)
class _Client:
    """Bursts of one direction that wait for the controller."""

    waiting: deque[_Burst] = field(default_factory=deque)
    next_offer: int = 0
    offered: int = 0  # in the clock ``next_offer``
    blocked: bool = False

    def delay(self, clock: int) -> None:
        """Offer nothing before ``clock``."""
        if clock > self.next_offer:
            self.next_offer, self.offered = clock, 0


class Controller:
    """Interleaves offers and the controller's steps in the order of time, up to where requests are known.

    Parameters
    ----------
    part : str
        Name of the DRAM part.
    ratio : Fraction
        Memory clocks per accelerator cycle (`hwsim.engine.run.clock_ratio`).
    """

    def __init__(self, part: str, ratio: Fraction) -> None:
        self.ratio = ratio
        self.burst_bytes, self.width = find_part(part).burst_bytes, find_part(part).channels
        self.state: DramState = new_state(find_part(part))
        self.clients = (_Client(), _Client())
        self.under_way: dict[int, _Burst] = {}
        self.count = 0

    def clock_of(self, cycle: int) -> int:
        """Return the first memory clock at or behind the beginning of a cycle."""
        return -(-cycle * self.ratio.numerator // self.ratio.denominator)

    def cycle_of(self, clock: int) -> int:
        """Return the first cycle at or behind a memory clock."""
        return -(-clock * self.ratio.denominator // self.ratio.numerator)

    def cut(self, request: Request, size: int) -> list[list[_Burst]]:
        """Return the bursts of the part that each beat, of ``size`` bytes, of an AXI burst touches."""
        step, end = self.burst_bytes, request.address + request.beats * size
        bursts = {number: _Burst(number * step) for number in range(request.address // step, (end - 1) // step + 1)}
        return [
            [bursts[number] for number in range(at // step, (at + size - 1) // step + 1)]
            for at in range(request.address, end, size)
        ]

    def queue(self, direction: int, cycle: int, bursts: list[_Burst]) -> None:
        """Let bursts be offered behind ``cycle``, those of one direction in the order of the calls; known ones are left out."""
        for burst in bursts:
            if burst.offers_at < 0:
                burst.offers_at = self.clock_of(cycle + 1)
                self.clients[direction].waiting.append(burst)

    def advance(self, cycle: int) -> None:
        """Do all that happens before the end of ``cycle``; every request of the cycles before it is known."""
        until = self.clock_of(cycle + 1)
        while True:
            direction, offer = self._find_offer()
            decision = int(kernels.dram_next_decision(self.state.v, self.state.chan))
            if offer is not None and offer <= decision:
                if offer >= until:
                    return
                self._offer(direction, offer)
            elif decision < until:
                self._decide(decision)
            else:
                return

    def _find_offer(self) -> tuple[int, int | None]:
        found: tuple[int, int | None] = (READ, None)
        for direction in (READ, WRITE):
            client = self.clients[direction]
            if client.waiting and not client.blocked:
                at = max(client.next_offer, client.waiting[0].offers_at)
                if found[1] is None or at < found[1]:
                    found = (direction, at)
        return found

    def _offer(self, direction: int, clock: int) -> None:
        client, (v, chan, bank, queue) = self.clients[direction], self.state
        burst = client.waiting[0]
        client.delay(clock)
        if not kernels.dram_accepts(v, chan, burst.address, direction):
            client.blocked = True
            return
        client.waiting.popleft()
        kernels.dram_enqueue(v, chan, bank, queue, clock, burst.address, direction, self.count)
        self.under_way[self.count] = burst
        self.count += 1
        burst.accepted = clock + 1
        client.offered += 1
        if client.offered == self.width:
            client.delay(clock + 1)

    def _decide(self, clock: int) -> None:
        tag, finished = kernels.dram_issue(*self.state)
        for client in self.clients:
            if client.blocked:
                client.blocked = False
                client.delay(clock + 1)
        if tag >= 0:
            self.under_way.pop(int(tag)).finished = int(finished)


class DramTiming:
    """A `cosim.memory_model.Timing` of one interface of a DRAM.

    Parameters
    ----------
    controller : Controller
    beat_bits : int
        Width of the data bus.
    """

    def __init__(self, controller: Controller, beat_bits: int) -> None:
        self.controller, self.size = controller, beat_bits // 8
        self.reads: deque[list[_Burst]] = deque()
        self.answers: deque[tuple[list[_Burst], bool]] = deque()
        self.unwritten: deque[list[_Burst]] = deque()
        self.taken = 0

    def request_read(self, cycle: int, request: Request) -> None:
        for bursts in self.controller.cut(request, self.size):
            self.controller.queue(READ, cycle, bursts)
            self.reads.append(bursts)

    def request_write(self, cycle: int, request: Request) -> None:
        beats = self.controller.cut(request, self.size)
        self.answers.append(([burst for beat in beats for burst in beat], request.posted))
        following: list[_Burst] = []
        done = []  # for each beat the bursts whose last it is
        for bursts in reversed(beats):
            done.append([burst for burst in bursts if burst not in following])
            following = bursts
        self.unwritten.extend(reversed(done))
        self._match_data(cycle)

    def take_data(self, cycle: int) -> None:
        self.taken += 1
        self._match_data(cycle)

    def _match_data(self, cycle: int) -> None:
        while self.taken and self.unwritten:
            self.taken -= 1
            self.controller.queue(WRITE, cycle, self.unwritten.popleft())

    def gives_read(self, cycle: int) -> bool:
        self.controller.advance(cycle)
        if not self._are_past([burst.finished for burst in self.reads[0]], cycle):
            return False
        self.reads.popleft()
        return True

    def takes_write(self, cycle: int) -> bool:
        return True  # data wait in front of the controller

    def answers_write(self, cycle: int) -> bool:
        self.controller.advance(cycle)
        bursts, posted = self.answers[0]
        if not self._are_past([burst.accepted if posted else burst.finished for burst in bursts], cycle):
            return False
        self.answers.popleft()
        return True

    def _are_past(self, clocks: list[int], cycle: int) -> bool:
        return min(clocks) >= 0 and self.controller.cycle_of(max(clocks)) <= cycle
