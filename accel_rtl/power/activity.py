"""What a netlist's nets do under a stimulus: simulated exactly, gate by gate, 64 independent streams at once.

Registers begin at 0 and memories are empty. Two counts are kept: of settled values, a net changing once a cycle at most; and,
where asked for, with every cell a unit of time behind its inputs. The second one holds the glitches of paths of different length,
all of them: real cells swallow those that are shorter than their own delay. What a placed netlist does lies between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from accel_rtl.power.kernel_netlist import run_cycles, settle
from accel_rtl.power.mapped import Functions, Int64, Macro, MappedNetlist, Uint64
from hwsim.core.errors import HwsimError, InputError

LANES = 64
RESET, RESET_CYCLES = "rst", 3
"""Port of the reset, and how long it is held."""
_FULL = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Activity:
    """Counts over all streams and counted cycles.

    Parameters
    ----------
    cycles : int
        Counted cycles times streams.
    timed : bool
        Whether row 1 of the counts is there.
    toggles, rises : ndarray int64 [2, nets]
        Changes, and changes to 1. Row 0: of settled values, row 1: with what is in between.
    shares : ndarray int64 [2, 2, cell inputs]
        Falls and rises of a cell's output that came with a change of this input.
    states, state_first : ndarray int64
        Cycles that each register passed in each state of its inputs and (highest bit) its output.
    reads, writes : int
        Of memory macros.
    """

    cycles: int
    timed: bool
    toggles: Int64
    rises: Int64
    shares: Int64
    states: Int64
    state_first: Int64
    reads: int
    writes: int


@dataclass(slots=True, eq=False)
class Simulation:
    """A netlist that runs; `step` and `run` move it on.

    Parameters
    ----------
    netlist : MappedNetlist
    lanes : int
        Streams that count, 1 to 64.
    timed : bool
        Count with cells that take time as well.
    """

    netlist: MappedNetlist
    lanes: int = LANES
    timed: bool = True
    cycles: int = 0
    _values: Uint64 = field(init=False)
    _arrays: tuple[Any, ...] = field(init=False)
    _ports: tuple[Int64, Int64] = field(init=False)
    _counts: tuple[Int64, Int64, Int64, Int64] = field(init=False)
    _state_first: Int64 = field(init=False)
    _memories: list[Uint64] = field(init=False)
    _held: list[list[Uint64]] = field(init=False)
    _accesses: list[int] = field(init=False)

    def __post_init__(self) -> None:
        netlist = self.netlist
        nets, cells, registers = netlist.nets, netlist.cells, netlist.registers
        self._values = np.zeros(nets, np.uint64)
        self._values[1] = _FULL
        settle(cells.out, cells.first, cells.inputs, cells.truth, self._values)
        sizes = 2 << np.diff(registers.first)
        self._state_first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._counts = (
            np.zeros((2, nets), np.int64), np.zeros((2, nets), np.int64), np.zeros((2, 2, cells.inputs.size), np.int64),
            np.zeros(int(self._state_first[-1]), np.int64),
        )  # fmt: skip
        self._arrays = (
            cells.out, cells.first, cells.inputs, cells.truth, *_list_readers(nets, cells), registers.out, registers.first,
            registers.inputs, registers.truth, self._state_first,
        )  # fmt: skip
        inputs = [net for port in netlist.inputs.values() for net in port]
        outputs = [net for port in netlist.outputs.values() for net in port]
        for macro in netlist.macros:
            inputs += [net for _, _, data in macro.reads for net in data]
            for address, enable, _ in macro.reads:
                outputs += [*address, enable]
            for address, mask, data in macro.writes:
                outputs += [*address, *mask, *data]
        self._ports = np.array(inputs, np.int64), np.array(outputs, np.int64)
        self._memories = [np.zeros((macro.words, macro.width), np.uint64) for macro in netlist.macros]
        self._held = [[np.zeros(macro.width, np.uint64) for _ in macro.reads] for macro in netlist.macros]
        self._accesses = [0, 0]

    @property
    def input_bits(self) -> int:
        """Bits of all ports that are set: the columns of `run`'s stimulus."""
        return sum(map(len, self.netlist.inputs.values()))

    def run(self, stimulus: Uint64, counted: bool = True) -> Uint64:
        """Run cycles; return what the outputs show in each, uint64 ``[T, output bits]``.

        Parameters
        ----------
        stimulus : ndarray uint64 [T, input bits]
            Ports in the netlist's order, bit 0 first; a bit of a word is a stream.
        counted : bool
            The first cycle of a simulation must not be: registers come from nowhere.
        """
        if not self.netlist.macros:
            return self._run(np.ascontiguousarray(stimulus), counted)
        rows = [
            self._run(np.concatenate([row, *(w for held in self._held for w in held)])[None], counted)
            for row in stimulus
        ]
        return np.concatenate(rows)

    def reset(self) -> None:
        """Pass the cycles of a reset, uncounted, all other inputs 0; the next cycle begins from it."""
        row = np.concatenate(
            [spread_alike(int(name == RESET), len(nets)) for name, nets in self.netlist.inputs.items()]
            or [np.zeros(0, np.uint64)]
        )
        self.run(np.broadcast_to(row, (RESET_CYCLES, row.size)), counted=False)

    def step(self, ports: Mapping[str, Uint64], counted: bool = True) -> dict[str, Uint64]:
        """Run one cycle; ports not named are 0. Returns the outputs, a word a bit."""
        row = np.zeros((1, self.input_bits), np.uint64)
        at = 0
        for name, nets in self.netlist.inputs.items():
            if name in ports:
                row[0, at : at + len(nets)] = ports[name]
            at += len(nets)
        return self.split(self.run(row, counted)[0])

    def split(self, row: Uint64) -> dict[str, Uint64]:
        """Return a row of `run`'s outputs by port, ``[..., bits]``."""
        found, at = {}, 0
        for name, nets in self.netlist.outputs.items():
            found[name] = row[..., at : at + len(nets)]
            at += len(nets)
        return found

    def report(self) -> Activity:
        """Return the counts so far."""
        toggles, rises, shares, states = self._counts
        return Activity(
            cycles=self.cycles * self.lanes, timed=self.timed, toggles=toggles, rises=rises, shares=shares, states=states,
            state_first=self._state_first, reads=self._accesses[0], writes=self._accesses[1],
        )  # fmt: skip

    @property
    def _mask(self) -> np.uint64:
        """The bits of a word that are streams that count."""
        return _FULL >> np.uint64(LANES - self.lanes)

    def _run(self, stimulus: Uint64, counted: bool) -> Uint64:
        in_nets, out_nets = self._ports
        outputs = np.empty((len(stimulus), out_nets.size), np.uint64)
        given: list[Any] = [stimulus, in_nets, out_nets, *self._arrays, self._mask, int(counted), int(self.timed)]
        given += [self._values, *self._counts, outputs]
        run_cycles(*given)
        self.cycles += len(stimulus) * counted
        if self.netlist.macros:
            self._access(outputs[0, sum(map(len, self.netlist.outputs.values())) :], counted)
        return outputs

    def _access(self, seen: Uint64, counted: bool) -> None:
        """Serve the macros: a read gives the word before the cycle's write, and stays until the next read."""
        at = 0

        def take(count: int) -> Uint64:
            nonlocal at
            at += count
            return seen[at - count : at]

        for number, macro in enumerate(self.netlist.macros):
            memory = self._memories[number]
            for k, (address, _, _) in enumerate(macro.reads):
                word, enable = take(len(address)), take(1)[0]
                if self._agree(macro, enable[None]):
                    self._held[number][k] = memory[self._find_word(macro, word)].copy()
                    self._accesses[0] += self.lanes * counted
            for address, mask, _ in macro.writes:
                word, wanted, data = take(len(address)), take(len(mask)), take(macro.width)
                if wanted.any():
                    row = memory[self._find_word(macro, word)]
                    row[:] = (row & ~wanted) | (data & wanted)
                    self._accesses[1] += self.lanes * counted

    def _find_word(self, macro: Macro, address: Uint64) -> int:
        return self._agree(macro, address) % macro.words

    def _agree(self, macro: Macro, bits: Uint64) -> int:
        """Return an integer that all counted streams have alike."""
        bits = bits & self._mask
        if ((bits != 0) & (bits != self._mask)).any():
            raise HwsimError(f"memory {macro.name}: streams ask for different words")
        return sum(1 << k for k, bit in enumerate(bits) if bit)


def _list_readers(nets: int, cells: Functions) -> tuple[Int64, Int64]:
    """Return the cells that read each net, and where those of each net begin."""
    owner = np.repeat(np.arange(len(cells)), np.diff(cells.first))
    order = np.argsort(cells.inputs, kind="stable")
    first = np.searchsorted(cells.inputs[order], np.arange(nets + 1))
    return first.astype(np.int64), owner[order].astype(np.int64)


def spread(values: npt.ArrayLike, bits: int) -> Uint64:
    """Return integers ``[..., streams]`` as words ``[..., bits]``: bit k of stream s is bit s of word k."""
    array = np.asarray(values)
    if array.shape[-1] > LANES:
        raise InputError("stimulus", [f"{array.shape[-1]} streams, at most {LANES}"])
    full = np.zeros((*array.shape[:-1], LANES), np.int64)
    full[..., : array.shape[-1]] = array
    cut = (full[..., None, :] >> np.arange(bits)[:, None]) & 1
    packed = np.packbits(cut.astype(np.uint8), axis=-1, bitorder="little")
    return packed.view("<u8")[..., 0].astype(np.uint64)


def spread_alike(value: int, bits: int) -> Uint64:
    """Return an integer of any size, alike in all streams, as words ``[bits]``."""
    return np.array([_FULL if value >> k & 1 else np.uint64(0) for k in range(bits)], np.uint64)


def collect(words: Uint64, signed: bool = False) -> Int64:
    """Return words ``[..., bits]`` as integers ``[..., 64]``; 63 bits at most, or 64 signed ones."""
    packed = np.ascontiguousarray(words).astype("<u8")[..., None].view(np.uint8)
    cut = np.unpackbits(packed, axis=-1, bitorder="little").astype(np.int64)
    weights = np.int64(1) << np.arange(words.shape[-1])
    if signed:
        weights[-1] = -weights[-1]
    return np.asarray((cut * weights[:, None]).sum(axis=-2), np.int64)


def arrange(netlist: MappedNetlist, ports: Mapping[str, Uint64], cycles: int) -> Uint64:
    """Return the stimulus of `Simulation.run` from words ``[T, bits]`` or ``[bits]`` by port; those not named are 0.

    Raises
    ------
    InputError
        A port that the netlist has not, or of another width.
    """
    unknown = sorted(set(ports) - set(netlist.inputs))
    if unknown:
        raise InputError("stimulus", [f"port {name}: the netlist has none of that name" for name in unknown])
    parts = []
    for name, nets in netlist.inputs.items():
        given = ports.get(name, np.zeros(len(nets), np.uint64))
        if given.shape[-1] != len(nets):
            raise InputError("stimulus", [f"port {name}: {given.shape[-1]} bits, the netlist has {len(nets)}"])
        parts.append(np.broadcast_to(given, (cycles, len(nets))))
    return np.concatenate(parts, axis=1)


def join(fields: Sequence[Uint64]) -> Uint64:
    """Return words of fields that stand one behind the other, the first lowest; shapes are broadcast but for the bits."""
    shape = np.broadcast_shapes(*(field.shape[:-1] for field in fields))
    return np.concatenate([np.broadcast_to(field, (*shape, field.shape[-1])) for field in fields], axis=-1)
