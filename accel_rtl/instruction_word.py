"""The hardware's instruction word: a record of `hwsim.core.program.INSTRUCTION` in 512 bits.

Eight lanes of 64 bits; no field lies across two of them, so that a port of 64 bits or more sees each field in one beat.
Least significant first, as all of memory. Bits that no field claims are zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hwsim.core.errors import SpecError
from hwsim.core.program import EXEC, INSTRUCTION, LOAD, LOAD_SECOND, OPCODES, SEMAPHORES, STORE

if TYPE_CHECKING:
    from amaranth.lib.data import FlexibleLayout

LANE_BITS = 64
LANES = 8
WORD_BITS = LANE_BITS * LANES
WORD_BYTES = WORD_BITS // 8


@dataclass(frozen=True, slots=True, kw_only=True)
class WordField:
    """Place of one field in the word.

    Parameters
    ----------
    name : str
        As in ``INSTRUCTION``; ``empty`` is the hardware's own.
    first_bit, width_bits : int
        Where it lies.
    signed : bool
        Two's complement.
    most : int
        Largest legal value where the width would allow more; 0: what the width allows.
    """

    name: str
    first_bit: int
    width_bits: int
    signed: bool = False
    most: int = 0

    @property
    def range(self) -> tuple[int, int]:
        """Least and largest value."""
        if self.signed:
            return -(1 << self.width_bits - 1), (1 << self.width_bits - 1) - 1
        return 0, self.most or (1 << self.width_bits) - 1


def _place(*lanes: tuple[tuple[str, int], ...]) -> tuple[WordField, ...]:
    most = {"queue": STORE, "op": len(OPCODES) - 1}
    fields = []
    for lane, row in enumerate(lanes):
        at = lane * LANE_BITS
        for name, width in row:
            fields.append(
                WordField(name=name, first_bit=at, width_bits=width, signed=name == "tile", most=most.get(name, 0))
            )
            at += width
    return tuple(fields)


FIELDS = _place(
    # 7 bits are left free before the tile: it starts at bit 32
    (
        ("queue", 2), ("op", 3), ("bank", 3), ("wait", len(SEMAPHORES)), ("signal", len(SEMAPHORES)), ("empty", 1),
        ("", 7), ("tile", 32),
    ),
    (("cycles", 32), ("fill", 32)),
    (("bits", 40), ("tail", 24)),
    (("address", 40), ("count0", 24)),
    (("run_bits", 40), ("count1", 24)),
    (("stride0", 40), ("count2", 24)),
    (("stride1", 40),),
    (("stride2", 40),),
)  # fmt: skip
"""All fields, in the order of their bits; the nameless one is free."""
NAMED = tuple(field for field in FIELDS if field.name)


def describe_layout() -> FlexibleLayout:
    """Return the word as an Amaranth layout with a member for every field."""
    from amaranth.hdl import signed, unsigned
    from amaranth.lib.data import Field, FlexibleLayout

    shapes = {f.name: Field((signed if f.signed else unsigned)(f.width_bits), f.first_bit) for f in NAMED}
    return FlexibleLayout(WORD_BITS, shapes)


def find_empty(table: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """Return which instructions have no work: they end where they start.

    Those are loads of no bits, stores of no bits that requantize nothing, and ``EXEC`` of no cycles.
    """
    no_cycles = table["cycles"] == 0
    no_bits = table["bits"] == 0
    load = (table["queue"] == LOAD) | (table["queue"] == LOAD_SECOND)
    return np.where(load, no_bits, np.where(table["queue"] == EXEC, no_cycles, no_bits & no_cycles))


def check_table(table: npt.NDArray[np.void]) -> None:
    """Check that every value fits its field.

    Raises
    ------
    SpecError
        A value outside of its field's range; a second load queue, which the hardware does not have.
    """
    for field in NAMED:
        if field.name == "empty":
            continue
        values = table[field.name].astype(np.int64)
        low, high = field.range
        wrong = np.flatnonzero((values < low) | (values > high))
        if len(wrong):
            hint = "the hardware has one memory port: memory.channels = shared" if field.name == "queue" else ""
            raise SpecError(f"program[{wrong[0]}].{field.name}", int(values[wrong[0]]), f"{low} to {high}", hint)


def pack_table(table: npt.NDArray[np.void]) -> bytes:
    """Return the words of an instruction table, ``WORD_BYTES`` each, as they lie in memory.

    Parameters
    ----------
    table : ndarray [instructions]
        Of dtype ``INSTRUCTION``.

    Raises
    ------
    SpecError
        See `check_table`.
    """
    check_table(table)
    lanes = np.zeros((len(table), LANES), "<u8")
    for field in NAMED:
        values = find_empty(table) if field.name == "empty" else table[field.name]
        mask = np.uint64((1 << field.width_bits) - 1)
        lane, shift = divmod(field.first_bit, LANE_BITS)
        lanes[:, lane] |= (values.astype(np.int64).astype(np.uint64) & mask) << np.uint64(shift)
    return lanes.tobytes()


def unpack_table(words: bytes) -> npt.NDArray[np.void]:
    """Return the instruction table of packed words, the inverse of `pack_table`.

    Raises
    ------
    SpecError
        Not whole words.
    """
    if len(words) % WORD_BYTES:
        raise SpecError("words", len(words), f"a multiple of {WORD_BYTES} bytes")
    lanes = np.frombuffer(words, "<u8").reshape(-1, LANES)
    table = np.zeros(len(lanes), INSTRUCTION)
    for field in NAMED:
        if field.name == "empty":
            continue
        lane, shift = divmod(field.first_bit, LANE_BITS)
        values = (lanes[:, lane] >> np.uint64(shift)) & np.uint64((1 << field.width_bits) - 1)
        signed = values.astype(np.int64)
        if field.signed:
            signed -= (signed >> field.width_bits - 1) << field.width_bits
        table[field.name] = signed
    return table


def split_words(words: bytes) -> tuple[int, ...]:
    """Return packed words as integers of ``WORD_BITS`` bits."""
    return tuple(int.from_bytes(words[at : at + WORD_BYTES], "little") for at in range(0, len(words), WORD_BYTES))


def read_field(word: int, name: str) -> int:
    """Return one field of a word."""
    field = _BY_NAME[name]
    value = word >> field.first_bit & ((1 << field.width_bits) - 1)
    return value - (1 << field.width_bits) if field.signed and value >> field.width_bits - 1 else value


_BY_NAME = {field.name: field for field in NAMED}
