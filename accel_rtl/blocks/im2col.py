"""Address generator of the lanes of a systolic array: where each lane's element of its window stands in its copy of ``ibuf``.

A lane reads element (channel, kernel row, kernel column) of a pixel (image, output row, output column). Both are places in a
mixed radix, three digits each, lowest first: kernel (column, row, channel), pixel (column, row, image). With each place goes what
it adds to the element's input column x, input row y and address. So a lane needs additions and comparisons alone:

- a *unit* move goes to the next place (or, ``down``, to the one before); what it adds depends on how many digits wrap (0, 1, 2);
- a *jump* goes on by a number of places whose digits are given; what it adds depends on which of the two lower digits carry.

Rows that share an alignment unit break the linearity of addresses in y: the row's slot in its unit is kept apart, in elements
(0 <= slot < span), and where the slots of pixel and kernel reach ``span`` together, ``skip`` is added to the address.

Lane 0 walks by itself; each next lane takes the place that the lane before it had a cycle ago: of the operand that moves through
the lanes unchanged, of the one that belongs to the lane plus one. Addresses are in elements, modulo the size of a bank.

The hardware is `accel_rtl.blocks.im2col_unit`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amaranth.hdl import Shape, signed, unsigned
from amaranth.lib import data

from hwsim.core.check import require_int

if TYPE_CHECKING:
    from accel_rtl.blocks.im2col_unit import Im2colUnit

DIGITS = ("d0", "d1", "d2")
PARTS = ("x", "y", "slot", "address")
LAST = ("last0", "last1")
JUMP_STEPS = 5
"""Steps of a jump: lowest digit, middle digit, choice of what is added, sums, wrap of the slot."""
_CUTS = ((), (5,), (2, 5), (1, 3, 5), (1, 2, 3, 5), (1, 2, 3, 4, 5))
"""Behind which of the steps there are registers, by how many registers there are."""
AXES = ("pixel", "kernel")
LANE_CONTROL = data.StructLayout(
    {
        "valid": 1,  # an element is due
        "begin": 1,  # it begins a fold: the lane takes its own place
        "fixed": 2,  # lane 0's own place at begin, one of HOLD, RESET, JUMP
        "moving": 1,  # place of the passing operand at begin: 0 RESET, 1 JUMP; else a unit move
        "group": 2,  # address of the group at begin: HOLD, RESET, JUMP
        "clear": 1,  # these four travel along
        "last": 1,
        "set": 1,
        "row": 8,
    }
)
HOLD, RESET, JUMP = range(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Im2col:
    """Lanes of one array.

    Parameters
    ----------
    lanes : int
        Lanes; each is a cycle behind the one before it.
    own : str
        What belongs to a lane: ``pixel`` (the kernel moves) or ``kernel`` (the pixel moves).
    down : bool
        The kernel is walked downwards and jumps between folds; it begins at a place that is given.
    step : int
        Places that lane 0's own operand jumps from fold to fold (that of the digits it is given; here for `compute`).
    rise : int
        Places from where a kernel walked downwards begins a fold to where it begins the next.
    apart : int
        Least cycles from the begin of a fold to that of the next one of the tile.
    count_bits, coordinate_bits, slot_bits, address_bits : int
        Widths of digits; of x and y, signed; of a slot in its unit, in elements; of an address, in elements.
    """

    lanes: int
    own: str = "pixel"
    down: bool = False
    step: int = 1
    rise: int = 1
    apart: int = 1
    count_bits: int = 16
    coordinate_bits: int = 12
    slot_bits: int = 8
    address_bits: int = 16

    def __post_init__(self) -> None:
        require_int("im2col.lanes", self.lanes, 1, 256)
        require_int("im2col.apart", self.apart, 1)

    @property
    def moving(self) -> str:
        """The operand that moves through the lanes."""
        return "kernel" if self.own == "pixel" else "pixel"

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shapes of the parts of a place."""
        coordinate = signed(self.coordinate_bits)
        return {
            "x": coordinate,
            "y": coordinate,
            "slot": unsigned(self.slot_bits),
            "address": unsigned(self.address_bits),
        }

    @property
    def place(self) -> data.StructLayout:
        """A place: its digits, what it adds, whether its lower digits are the last ones of the way."""
        return data.StructLayout(
            dict.fromkeys(DIGITS, unsigned(self.count_bits)) | self.shapes | dict.fromkeys(LAST, 1)
        )

    @property
    def cuts(self) -> tuple[int, ...]:
        """Steps of a jump with registers behind them."""
        return _CUTS[min(self.apart - 1, JUMP_STEPS)]

    @property
    def layout(self) -> data.StructLayout:
        """Of a tile: see `fields`."""
        return data.StructLayout(dict(self.fields()))

    def list_jumps(self) -> tuple[str, ...]:
        """Return the operands that jump: lane 0's own, and a kernel walked downwards."""
        return (self.own, "kernel") if self.down else (self.own,)

    def fields(self) -> Iterator[tuple[str, Shape]]:
        """Yield name and shape of each field of a tile.

        ``{axis}_end0``, ``_end1``: radix less one of the lower digits; ``{axis}_count``: that of the highest. ``{axis}_begin_*``:
        first place (digits only downwards). ``{axis}_unit{wraps}_*``, ``{axis}_jump_d*``, ``{axis}_jump{carries}_*``: moves.
        ``span``, ``skip``: see the module. ``in_rows``, ``in_cols``: extent of what is stored; outside is padding. ``group``: from
        the addresses of a group to those of the next.
        """
        count = unsigned(self.count_bits)
        for axis in AXES:
            for name in ("end0", "end1", "count"):
                yield f"{axis}_{name}", count
            if axis == "kernel" and self.down:
                for digit in DIGITS:
                    yield f"{axis}_begin_{digit}", count
            if axis == "pixel" or self.down:
                for part in PARTS:
                    yield f"{axis}_begin_{part}", self.shapes[part]
            for wraps in range(3):
                for part in self.list_unit_parts(wraps):
                    yield f"{axis}_unit{wraps}_{part}", self.shapes[part]
            if axis in self.list_jumps():
                for digit in DIGITS:
                    yield f"{axis}_jump_{digit}", count
                for carries in range(4):
                    for part in PARTS:
                        yield f"{axis}_jump{carries}_{part}", self.shapes[part]
        yield "span", unsigned(self.slot_bits)
        yield "skip", unsigned(self.address_bits)
        yield "in_rows", unsigned(self.coordinate_bits - 1)
        yield "in_cols", unsigned(self.coordinate_bits - 1)
        yield "group", unsigned(self.address_bits)

    @staticmethod
    def list_unit_parts(wraps: int) -> tuple[str, ...]:
        """Return what a unit move adds to: the row stays where no digit wraps."""
        return PARTS if wraps else ("x", "address")

    def compute(self, tile: dict[str, int], lane: int, fold: int, element: int, group: int = 0) -> tuple[bool, int]:
        """Return whether an element is stored, and its address.

        Parameters
        ----------
        tile : dict
            Fields of the tile.
        lane, fold, element, group : int
            Lane; fold along the lanes' own operand; element of the stream (downwards: of a walk that begins at the fold's highest
            place, in which case ``element`` is the kernel's place itself).
        """
        own = fold * self.step + lane
        places = {self.own: own, self.moving: element}
        x = y = slot = address = 0
        for axis in AXES:
            digits = list(_split(places[axis], tile[f"{axis}_end0"] + 1, tile[f"{axis}_end1"] + 1))
            if digits[2] >= tile[f"{axis}_count"]:
                return False, 0
            at = self._follow(tile, axis, digits)
            x, y, slot, address = x + at[0], y + at[1], slot + at[2], address + at[3]
        inside = 0 <= x < tile["in_cols"] and 0 <= y < tile["in_rows"]
        address += group * tile["group"] + (tile["skip"] if slot >= tile["span"] else 0)
        return inside, address % (1 << self.address_bits)

    def _follow(self, tile: dict[str, int], axis: str, digits: list[int]) -> list[int]:
        """Return what a place adds: the moves, as they are given, from the first place to it, or back from it."""
        at = [0] * 4 if axis == "kernel" else [tile[f"{axis}_begin_{part}"] for part in PARTS]
        ends = tile[f"{axis}_end0"], tile[f"{axis}_end1"]
        down = self.down and axis == "kernel"
        walked, goal = (digits, [0, 0, 0]) if down else ([0, 0, 0], digits)
        while walked != goal:
            low, mid, high = walked
            if down:
                wraps = 0 if low else 1 if mid else 2
                walked = [[low - 1, mid, high], [ends[0], mid - 1, high], [*ends, high - 1]][wraps]
            else:
                wraps = 0 if low < ends[0] else 1 if mid < ends[1] else 2
                walked = [[low + 1, mid, high], [0, mid + 1, high], [0, 0, high + 1]][wraps]
            for i, part in enumerate(PARTS):
                at[i] += (-1 if down else 1) * tile.get(f"{axis}_unit{wraps}_{part}", 0)
            turns = at[2] // tile["span"]
            at[2] -= turns * tile["span"]
            at[3] += turns * tile["skip"]
        return at

    def create(self) -> Im2colUnit:
        """Return the hardware."""
        from accel_rtl.blocks.im2col_unit import Im2colUnit

        return Im2colUnit(self)


def _split(place: int, radix0: int, radix1: int) -> tuple[int, int, int]:
    return place % radix0, place // radix0 % radix1, place // radix0 // radix1
