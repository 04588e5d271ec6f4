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
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwsim.core.check import require_int

DIGITS = ("d0", "d1", "d2")
PARTS = ("x", "y", "slot", "address")
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
    rewind : int
        Places that a kernel walked downwards jumps between folds.
    count_bits, coordinate_bits, slot_bits, address_bits : int
        Widths of digits; of x and y, signed; of a slot in its unit, in elements; of an address, in elements.
    """

    lanes: int
    own: str = "pixel"
    down: bool = False
    step: int = 1
    rewind: int = 1
    count_bits: int = 16
    coordinate_bits: int = 12
    slot_bits: int = 8
    address_bits: int = 16

    def __post_init__(self) -> None:
        require_int("im2col.lanes", self.lanes, 1, 256)

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
        """A place: its digits, and what it adds."""
        return data.StructLayout(dict.fromkeys(DIGITS, unsigned(self.count_bits)) | self.shapes)

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
        return Im2colUnit(self)


def _split(place: int, radix0: int, radix1: int) -> tuple[int, int, int]:
    return place % radix0, place // radix0 % radix1, place // radix0 // radix1


class Im2colUnit(wiring.Component):
    """All lanes.

    Latency: the address of an element is there two cycles after its ``control`` (registered), in lane i another i cycles later;
    throughput: one a lane and cycle. Reset: nothing valid. There is no stall.

    Members
    -------
    tile : In
        `Im2col.layout`; as the first element's control comes and until lane ``lanes - 1`` has taken its last one.
    late : In
        The same a cycle later.
    control : In
        ``LANE_CONTROL``, lane 0's.
    address : Out [lanes]
        In elements.
    inside : Out [lanes]
        The element is stored: neither padding nor behind the end of pixels or channels.
    flags : Out [lanes]
        The element's control.
    """

    def __init__(self, spec: Im2col) -> None:
        self.spec = spec
        super().__init__(
            {
                "tile": In(spec.layout), "late": In(spec.layout), "control": In(LANE_CONTROL),
                "address": Out(spec.address_bits).array(spec.lanes), "inside": Out(1).array(spec.lanes),
                "flags": Out(LANE_CONTROL).array(spec.lanes),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        """Build the walks and what combines them."""
        m, spec = Module(), self.spec
        control, own, moving = self.control, None, None
        for i in range(spec.lanes):
            own_place, moving_place = (Signal(spec.place, name=f"{name}_{i}") for name in ("own", "moving"))
            if own is None or moving is None:
                self._walk_first(m, own_place, moving_place)
            else:
                m.d.sync += moving_place.eq(moving)
                with m.If(control.begin):
                    self._move_unit(m, f"own_{i}", spec.own, own, own_place, down=False)
            seen = Signal(LANE_CONTROL, name=f"seen_{i}")
            m.d.sync += seen.eq(control)
            self._combine(m, i, seen, own_place, moving_place)
            control, own, moving = seen, own_place, moving_place
        return m

    def _walk_first(self, m: Module, own: data.View, moving: data.View) -> None:
        """Build lane 0: resets, jumps, unit moves."""
        spec, control = self.spec, self.control
        base, at = Signal(spec.address_bits), Signal(spec.address_bits)
        with m.Switch(control.group):
            with m.Case(RESET):
                m.d.comb += at.eq(0)
            with m.Case(JUMP):
                m.d.comb += at.eq(base + self.tile.group)
            with m.Default():
                m.d.comb += at.eq(base)
        with m.If(control.begin):
            m.d.sync += base.eq(at)
            with m.Switch(control.fixed):
                with m.Case(RESET):
                    self._reset(m, spec.own, own, at)
                with m.Case(JUMP):
                    self._jump(m, "own_jump", spec.own, own)
            with m.If(control.moving):
                if spec.down:
                    self._jump(m, "moving_jump", spec.moving, moving)
            with m.Else():
                self._reset(m, spec.moving, moving, at)
        with m.Elif(control.valid):
            self._move_unit(m, "moving_unit", spec.moving, moving, moving, down=spec.down)

    def _reset(self, m: Module, axis: str, place: data.View, base: Value) -> None:
        begins = axis == "kernel" and self.spec.down
        for name in (*DIGITS, *PARTS):
            field = f"{axis}_begin_{name}"
            value = self.tile[field] if (begins or axis == "pixel") and field in self.spec.layout.members else 0
            m.d.sync += place[name].eq(value + base if name == "address" and axis == "kernel" else value)

    def _move_unit(self, m: Module, name: str, axis: str, source: data.View, place: data.View, down: bool) -> None:
        """Move to the next place, or the one before."""
        tile = self.tile
        ends = [tile[f"{axis}_end0"], tile[f"{axis}_end1"]]
        wraps = [Signal(name=f"{name}_wrap{i}") for i in range(2)]
        for i in range(2):
            m.d.comb += wraps[i].eq(source[f"d{i}"] == (0 if down else ends[i]))
            carried = wraps[0] if i else 1
            turned = Mux(wraps[i], ends[i] if down else 0, source[f"d{i}"] + (-1 if down else 1))
            m.d.sync += place[f"d{i}"].eq(Mux(carried, turned, source[f"d{i}"]))
        m.d.sync += place.d2.eq(Mux(wraps[0] & wraps[1], source.d2 + (-1 if down else 1), source.d2))
        added = {}
        for part in PARTS:
            added[part] = Signal(self.spec.shapes[part], name=f"{name}_{part}")
            field = [tile[f"{axis}_unit{n}_{part}"] if part in self.spec.list_unit_parts(n) else 0 for n in range(3)]
            m.d.comb += added[part].eq(Mux(wraps[0], Mux(wraps[1], field[2], field[1]), field[0]))
        self._add(m, source, place, added)

    def _jump(self, m: Module, name: str, axis: str, place: data.View) -> None:
        """Go on by the digits of a jump."""
        tile = self.tile
        carries: list[Signal] = []
        for i in range(2):
            total = Signal(self.spec.count_bits + 1, name=f"{name}_d{i}")
            carry = Signal(name=f"{name}_carry{i}")
            m.d.comb += total.eq(place[f"d{i}"] + tile[f"{axis}_jump_d{i}"] + (carries[0] if i else 0))
            m.d.comb += carry.eq(total > tile[f"{axis}_end{i}"])
            m.d.sync += place[f"d{i}"].eq(Mux(carry, total - tile[f"{axis}_end{i}"] - 1, total))
            carries.append(carry)
        m.d.sync += place.d2.eq(place.d2 + tile[f"{axis}_jump_d2"] + carries[1])
        added = {}
        for part in PARTS:
            added[part] = Signal(self.spec.shapes[part], name=f"{name}_{part}")
            with m.Switch(Cat(*carries)):
                for case in range(4):
                    with m.Case(case):
                        m.d.comb += added[part].eq(tile[f"{axis}_jump{case}_{part}"])
        self._add(m, place, place, added)

    def _add(self, m: Module, source: data.View, place: data.View, added: dict[str, Signal]) -> None:
        """Add a move; a slot behind the last one of its unit is one of the next unit."""
        for part in ("x", "y"):
            m.d.sync += place[part].eq(source[part] + added[part])
        slot = source.slot + added["slot"]
        beyond = slot >= self.tile.span
        m.d.sync += place.slot.eq(Mux(beyond, slot - self.tile.span, slot))
        m.d.sync += place.address.eq(source.address + added["address"] + Mux(beyond, self.tile.skip, 0))

    def _combine(self, m: Module, i: int, seen: data.View, own: data.View, moving: data.View) -> None:
        """Add kernel and pixel and compare with what is stored."""
        late, places = self.late, {self.spec.own: own, self.spec.moving: moving}
        x, y = own.x + moving.x, own.y + moving.y
        skip = Mux(own.slot + moving.slot >= late.span, late.skip, 0)
        known = [places[axis].d2 < late[f"{axis}_count"] for axis in AXES]
        m.d.sync += [
            self.address[i].eq(own.address + moving.address + skip),
            self.inside[i].eq(
                (x >= 0) & (x < late.in_cols) & (y >= 0) & (y < late.in_rows) & known[0] & known[1] & seen.valid
            ),
            self.flags[i].eq(seen),
        ]
