"""The functional side of a Program: executes it, instruction by instruction, on a bit-accurate memory image.

What each instruction does
--------------------------
=========  ===========================================================================================================
LOAD_W     the bits of its runs, in order, become the content of bank ``bank`` of ``wbuf``
LOAD_I     the same for ``ibuf``. The operands of a tile make a set, one LOAD_I each, the last of which gives ``I_READY``: the
           first of a set empties the bank, the others append
LOAD_P     the bits of its run become the content of bank ``bank`` of ``obuf``; without bits it only sets the bank aside
EXEC       adds its tile's products, from the bits in its banks of ``wbuf`` and ``ibuf``, to the accumulators in its bank
           of ``obuf``; the first tile along C writes them instead. Accumulators stand where `Datapath.psum_places` says,
           ``psum_bits`` each, two's complement; places between them are zero. The bank remembers the tile
STORE      requantizes the accumulators of the bank's tile and writes the tile's elements. Other bits of its alignment units
           (neighbouring tiles, padding) keep their value: writes are masked by the byte; where a row ends inside one, its
           rest becomes zero
SPILL      writes the accumulators as they stand, unused places too, filled with zero bits to whole alignment units
=========  ===========================================================================================================

Order
-----
``program``: one instruction after the other. ``time``: as the cycle engine timed them, at the worst moments: a load reads
memory as it starts and its bank is unusable from its start to its end; an EXEC reads its banks as it starts, and they must hold
what they would hold in program order and be left alone until it ends; its results stand in ``obuf`` only ``tail`` cycles later;
stores read as they start and reach the memory as they end. Any use of a bank against this is a `Hazard`: equal images in both
orders prove that the tokens protect the data.

Not executed: operators in float32 (softmax, lrn); see `hwsim.engine.execute_parameters.is_executable`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hwsim.core.arch import Arch
from hwsim.core.bits import Bits, bits_to_integers, integers_to_bits
from hwsim.core.check import require_choice
from hwsim.core.datapath import Datapath
from hwsim.core.errors import HwsimError
from hwsim.core.mapping import C, G, Int64, K, Mapping, N, P, Q, list_boxes
from hwsim.core.program import EXECUTE, I_READY, LOAD_I, LOAD_P, LOAD_W, OPCODES, SPILL, STORE_O, Program, Timeline
from hwsim.engine.execute_parameters import LayerParameters
from hwsim.engine.execute_tile import Engine, cut_output
from hwsim.engine.image import Image, list_run_bits, write_rows

EXECUTION_ORDERS = ("program", "time")
BUFFERS = ("wbuf", "ibuf", "obuf")
BEGIN, FINISH, SETTLE = range(3)
_FILLS = {LOAD_W: "wbuf", LOAD_I: "ibuf", LOAD_P: "obuf"}


class Hazard(RuntimeError):
    """An instruction used a bank that another had not filled, had not finished with or had overwritten: a bug of the Program."""


@dataclass(slots=True)
class Bank:
    """One bank of a scratchpad while a Program runs."""

    bits: Bits = field(default_factory=lambda: np.zeros(0, np.uint8))
    writer: int = -1
    tile: int = -1
    users: set[int] = field(default_factory=set)
    unsettled: set[int] = field(default_factory=set)


def execute_program(
    program: Program,
    datapath: Datapath,
    arch: Arch,
    mapping: Mapping,
    image: Image,
    parameters: LayerParameters,
    order: str = "program",
    timeline: Timeline | None = None,
) -> Image:
    """Execute a Program and return the memory image behind it; ``image`` is left alone.

    Parameters
    ----------
    program : Program
        Of ``datapath``'s layer under ``mapping``.
    datapath : Datapath
        The layer, its formats, and how its weights are stored.
    arch : Arch
        Shell and memory: accumulators, capacities, alignment.
    mapping : Mapping
        Cuts the tiles that EXEC names by index.
    image : ndarray uint8
        Memory before the layer, e.g. from `hwsim.engine.image.build_image`.
    parameters : LayerParameters
        Zero points, biases, multipliers, clamps.
    order : str
        ``program`` or ``time``, see the module.
    timeline : Timeline, optional
        For ``time``; by default that of the cycle engine.

    Raises
    ------
    Hazard
        Banks are used in an order in which data are lost; a tile overflows its bank.
    HwsimError
        A partial sum does not fit ``psum_bits``.
    """
    require_choice("execute.order", order, EXECUTION_ORDERS)
    machine = _Machine(program.table, datapath, arch, mapping, image, parameters)
    if order == "program":
        for i in range(len(program)):
            for phase in (BEGIN, FINISH, SETTLE):
                machine.step(i, phase)
    else:
        if timeline is None:
            from hwsim.engine.run import time_program

            timeline = time_program(program, arch)[1]
        for i, phase in list_events(program.table, timeline):
            machine.step(i, phase)
    return np.packbits(machine.memory, bitorder="little")


def list_events(table: npt.NDArray[np.void], timeline: Timeline) -> list[tuple[int, int]]:
    """Return (instruction, phase) in the order of time; what happens in the same cycle, in program order."""
    events = []
    for i, (start, end, tail) in enumerate(
        zip(timeline.start.tolist(), timeline.end.tolist(), table["tail"].tolist(), strict=True)
    ):
        events += [(start, i, BEGIN), (end, i, FINISH), (end + tail, i, SETTLE)]
    return [(i, phase) for _, i, phase in sorted(events)]


class _Machine:
    """Memory, banks and what each instruction does to them."""

    def __init__(
        self,
        table: npt.NDArray[np.void],
        datapath: Datapath,
        arch: Arch,
        mapping: Mapping,
        image: Image,
        parameters: LayerParameters,
    ) -> None:
        self.table, self.datapath, self.arch, self.parameters = table, datapath, arch, parameters
        self.memory = np.unpackbits(image, bitorder="little")
        self.boxes = list_boxes(datapath.layer, mapping.tile)
        self.align = arch.memory.alignment_bits
        self.engine = Engine(datapath=datapath, parameters=parameters, boxes=self.boxes, align=self.align)
        self.banks = {name: (Bank(), Bank()) for name in BUFFERS}
        self.expected = find_writers(table, self.boxes.lo[:, C] == 0)
        self.spilled: dict[int, int] = {}
        self.held: dict[int, Bits] = {}
        self.added: dict[int, Int64] = {}
        self.in_set = False

    def step(self, i: int, phase: int) -> None:
        """Begin or finish instruction ``i``, or let the results of an EXEC settle."""
        op = int(self.table[i]["op"])
        if op == EXECUTE:
            (self._begin_exec, self._finish_exec, self._settle_exec)[phase](i)
        elif phase != SETTLE:
            if op in _FILLS:
                (self._begin_load, self._finish_load)[phase](i)
            else:
                (self._begin_store, self._finish_store)[phase](i)

    def _begin_load(self, i: int) -> None:
        record, buffer = self.table[i], _FILLS[int(self.table[i]["op"])]
        bank = self.banks[buffer][record["bank"]]
        if bank.users or bank.unsettled:
            raise self._hazard(i, f"{buffer} bank {record['bank']} is in use by {self._name(bank)}")
        if buffer != "ibuf" or not self.in_set:
            bank.bits = np.zeros(0, np.uint8)
        if buffer == "ibuf":
            self.in_set = not record["signal"] >> I_READY & 1
        address = int(record["address"])
        if buffer == "obuf" and record["bits"] and self.spilled.get(address, -1) != self.expected[i].get("memory"):
            raise self._hazard(i, f"no partial sums of its tile stand at {address}")
        bank.users.add(i)
        bank.writer, bank.tile = -1, -1
        self.held[i] = self._read_memory(i)

    def _finish_load(self, i: int) -> None:
        record, buffer = self.table[i], _FILLS[int(self.table[i]["op"])]
        bank = self.banks[buffer][record["bank"]]
        bank.bits = np.concatenate([bank.bits, self.held.pop(i)])
        self._check_room(i, buffer, bank.bits.size)
        bank.users.remove(i)
        bank.writer = i

    def _begin_exec(self, i: int) -> None:
        tile = int(self.table[i]["tile"])
        for buffer, bank in self._exec_banks(i).items():
            wanted = self.expected[i].get(buffer)
            if wanted is not None and bank.writer != wanted:
                raise self._hazard(i, f"{buffer} does not hold what instruction {wanted} puts there")
            if any(int(self.table[user]["op"]) != EXECUTE for user in bank.users):
                raise self._hazard(i, f"{buffer} is in use by {self._name(bank)}")
            bank.users.add(i)
        banks = self._exec_banks(i)
        wbuf = banks["wbuf"].bits if "wbuf" in banks else np.zeros(0, np.uint8)
        self.added[i] = self.engine.compute(tile, wbuf, banks["ibuf"].bits).ravel()
        banks["obuf"].unsettled.add(i)

    def _finish_exec(self, i: int) -> None:
        tile, banks, width = int(self.table[i]["tile"]), self._exec_banks(i), self.arch.shell.psum_bits
        for bank in banks.values():
            bank.users.remove(i)
        bank = banks["obuf"]
        total = self.added.pop(i)
        if self.boxes.lo[tile, C] > 0:
            total = total + self._gather(bank.bits, tile)
        if total.size and not -(1 << (width - 1)) <= int(total.min()) <= int(total.max()) < 1 << (width - 1):
            raise HwsimError(f"layer {self.datapath.layer.name}: a partial sum does not fit {width} bits")
        bank.bits = self._spread(total, tile)
        self._check_room(i, "obuf", bank.bits.size)
        bank.writer, bank.tile = i, tile

    def _settle_exec(self, i: int) -> None:
        self._exec_banks(i)["obuf"].unsettled.remove(i)

    def _begin_store(self, i: int) -> None:
        bank = self.banks["obuf"][self.table[i]["bank"]]
        if bank.users or bank.unsettled or bank.writer != self.expected[i]["obuf"]:
            raise self._hazard(i, f"obuf bank {self.table[i]['bank']} does not hold a finished tile")
        bank.users.add(i)
        self.held[i] = bank.bits

    def _finish_store(self, i: int) -> None:
        record = self.table[i]
        bank = self.banks["obuf"][record["bank"]]
        bank.users.remove(i)
        where, psums = list_run_bits(record), self.held.pop(i)
        if record["op"] == SPILL:
            self.memory[where] = np.pad(psums, (0, where.size - psums.size))
            self.spilled[int(record["address"])] = i
            return
        lo, hi = self.boxes.lo[bank.tile], self.boxes.hi[bank.tile]
        stream = self.memory[where]
        if stream.size > self.arch.shell.staging_bits:
            raise self._hazard(
                i, f"it moves {stream.size} bits, the staging buffer holds {self.arch.shell.staging_bits}"
            )
        values = self._requantize(self._gather(psums, bank.tile), lo, hi)
        write_rows(cut_output(self.datapath, lo, hi, self.align), values, stream, self.align)
        self.memory[where] = stream

    def _requantize(self, psums: Int64, lo: Int64, hi: Int64) -> Int64:
        """Return stored integers ``[n, g*k, p, q]`` of a tile from its accumulators."""
        params, layer, size = self.parameters, self.datapath.layer, hi - lo
        first = int(lo[G]) * layer.K + int(lo[K])
        channels = slice(first, first + int(size[G] * size[K]))
        acc = psums.reshape(size[N], size[G] * size[K], size[P], size[Q]) + params.bias[channels, None, None]
        stored = params.requant.apply(acc, channels, slice(lo[P], hi[P]), slice(lo[Q], hi[Q]))
        if params.table is not None:
            stored = params.table[stored - params.requant.low]
        return np.clip(stored, *params.clamp)

    def _spread(self, psums: Int64, tile: int) -> Bits:
        """Return a bank's bits from the accumulators of a tile in the order n, g, k, p, q."""
        size = self.boxes.size[tile]
        slots = np.zeros(int(self.datapath.psum_slots(size[None])[0]), np.int64)
        slots[self.datapath.psum_places(size)] = psums
        return integers_to_bits(slots, self.arch.shell.psum_bits).ravel()

    def _gather(self, bits: Bits, tile: int) -> Int64:
        """Return the accumulators of a tile in the order n, g, k, p, q from a bank's bits."""
        size, width = self.boxes.size[tile], self.arch.shell.psum_bits
        slots = bits[: int(self.datapath.psum_slots(size[None])[0]) * width].reshape(-1, width)
        return np.asarray(bits_to_integers(slots, True)[self.datapath.psum_places(size)], np.int64)

    def _exec_banks(self, i: int) -> dict[str, Bank]:
        return {name: self.banks[name][bank] for name, bank in list_exec_banks(self.table[i]).items()}

    def _read_memory(self, i: int) -> Bits:
        where = list_run_bits(self.table[i])
        if where.size != self.table[i]["bits"]:
            raise self._hazard(i, f"its runs hold {where.size} bits, it moves {self.table[i]['bits']}")
        return self.memory[where]

    def _check_room(self, i: int, buffer: str, bits: int) -> None:
        room = self.arch.shell.bank_bits(buffer)
        if bits > room:
            raise self._hazard(i, f"its tile takes {bits} bits of {buffer}, a bank holds {room}")

    def _name(self, bank: Bank) -> str:
        return ", ".join(f"{OPCODES[self.table[user]['op']]} {user}" for user in sorted(bank.users | bank.unsettled))

    def _hazard(self, i: int, what: str) -> Hazard:
        return Hazard(f"layer {self.datapath.layer.name}: instruction {i}, {OPCODES[self.table[i]['op']]}: {what}")


def list_exec_banks(record: np.void) -> dict[str, int]:
    """Return the banks that an EXEC uses."""
    return {name: int(record["bank"]) >> bit & 1 for bit, name in enumerate(BUFFERS)}


def find_writers(table: npt.NDArray[np.void], starts: npt.NDArray[np.bool_]) -> list[dict[str, int]]:
    """Return for each instruction which one it must find as the last writer of what it reads: that of program order.

    Parameters
    ----------
    table : INSTRUCTION records
    starts : ndarray bool [tiles]
        Whether a tile begins its accumulators: its EXEC reads none, unless a LOAD_P set the bank aside for it.
    """
    last: dict[tuple[str, int], int] = {}
    spills: dict[int, int] = {}
    has_weights = bool((table["op"] == LOAD_W).any())
    found: list[dict[str, int]] = []
    for i, record in enumerate(table):
        op, bank, wanted = int(record["op"]), int(record["bank"]), {}
        if op in _FILLS:
            if op == LOAD_P and record["bits"]:
                wanted["memory"] = spills[int(record["address"])]
            last[_FILLS[op], bank] = i
        elif op == EXECUTE:
            banks = list_exec_banks(record)
            for name in ("wbuf", "ibuf") if has_weights else ("ibuf",):
                wanted[name] = last[name, banks[name]]
            key = ("obuf", banks["obuf"])
            if not starts[record["tile"]] or table[last.get(key, i)]["op"] == LOAD_P:
                wanted["obuf"] = last[key]
            last[key] = i
        elif op in (STORE_O, SPILL):
            wanted["obuf"] = last["obuf", bank]
            if op == SPILL:
                spills[int(record["address"])] = i
        found.append(wanted)
    return found
