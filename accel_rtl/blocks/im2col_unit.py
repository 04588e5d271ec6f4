"""Hardware of `accel_rtl.blocks.im2col`.

A jump is known as soon as the place that it starts from: it is computed behind every fold's begin, in as many registered steps as
the next one leaves time for. With each place goes whether its lower digits are the last ones of the way, so that a unit move
begins with its choice; what moves add less ``span`` and with ``skip`` stands in registers, so that it ends with one.
"""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.blocks.im2col import AXES, DIGITS, JUMP, LANE_CONTROL, LAST, PARTS, RESET, Im2col


class Im2colUnit(wiring.Component):
    """All lanes.

    Latency: the address of an element is there two cycles after its ``control`` (registered), in lane i another i cycles later;
    throughput: one a lane and cycle. Reset: nothing valid. There is no stall.

    Members
    -------
    tile : In
        `Im2col.layout`; as the first element's control comes and until lane ``lanes - 1`` has taken its last one.
    early : In
        The same a cycle earlier.
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
                "tile": In(spec.layout), "early": In(spec.layout), "late": In(spec.layout), "control": In(LANE_CONTROL),
                "address": Out(spec.address_bits).array(spec.lanes), "inside": Out(1).array(spec.lanes),
                "flags": Out(LANE_CONTROL).array(spec.lanes),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        """Build the walks and what combines them."""
        m, spec = Module(), self.spec
        known = self._prepare(m)
        control, own, moving = self.control, None, None
        for i in range(spec.lanes):
            own_place, moving_place = (Signal(spec.place, name=f"{name}_{i}") for name in ("own", "moving"))
            if own is None or moving is None:
                self._walk_first(m, known, own_place, moving_place)
            else:
                m.d.sync += moving_place.eq(moving)
                with m.If(control.begin):
                    self._move_unit(m, known, f"own_{i}", spec.own, own, own_place)
            seen = Signal(LANE_CONTROL, name=f"seen_{i}")
            m.d.sync += seen.eq(control)
            self._combine(m, i, seen, own_place, moving_place)
            control, own, moving = seen, own_place, moving_place
        return m

    def _goes_down(self, axis: str) -> bool:
        return self.spec.down and axis == "kernel"

    def _prepare(self, m: Module) -> dict[str, Signal]:
        """Return what moves need of a tile besides its fields, in registers: see `_move_unit` and `_jump`."""
        spec, tile = self.spec, self.early
        back = signed(spec.slot_bits + 1)
        values: dict[str, tuple[Shape, Value]] = {}
        for axis in AXES:
            for i in range(2):
                end = tile[f"{axis}_end{i}"]
                begins_last = tile[f"kernel_begin_d{i}"] == 0 if self._goes_down(axis) else end == 0
                values[f"{axis}_begins_last{i}"] = unsigned(1), begins_last
                values[f"{axis}_single{i}"] = unsigned(1), end == 0
                values[f"{axis}_near{i}"] = unsigned(spec.count_bits), end - 1
                if axis in spec.list_jumps():
                    values[f"{axis}_turn{i}"] = signed(spec.count_bits + 1), tile[f"{axis}_jump_d{i}"] - end - 1
            for wraps in (1, 2):
                unit = f"{axis}_unit{wraps}"
                values[f"{unit}_back"] = back, tile[f"{unit}_slot"] - tile.span
                values[f"{unit}_over"] = unsigned(spec.address_bits), tile[f"{unit}_address"] + tile.skip
        known = {name: Signal(shape, name=f"known_{name}") for name, (shape, _) in values.items()}
        m.d.sync += [known[name].eq(value) for name, (_, value) in values.items()]
        return known

    def _walk_first(self, m: Module, known: dict[str, Signal], own: data.View, moving: data.View) -> None:
        """Build lane 0: resets, jumps, unit moves."""
        spec, control = self.spec, self.control
        base, at, raised = Signal(spec.address_bits), Signal(spec.address_bits), Signal(spec.address_bits)
        m.d["sync" if spec.apart > 1 else "comb"] += raised.eq(base + self.tile.group)
        with m.Switch(control.group):
            with m.Case(RESET):
                m.d.comb += at.eq(0)
            with m.Case(JUMP):
                m.d.comb += at.eq(raised)
            with m.Default():
                m.d.comb += at.eq(base)
        jumped = self._jump(m, known, "own_jump", spec.own, own)
        begun = Signal(spec.place)  # where a kernel walked downwards began the fold
        risen = self._jump(m, known, "moving_jump", "kernel", begun) if spec.down else None
        with m.If(control.begin):
            m.d.sync += base.eq(at)
            with m.Switch(control.fixed):
                with m.Case(RESET):
                    m.d.sync += own.eq(self._reset(known, spec.own, at))
                with m.Case(JUMP):
                    m.d.sync += own.eq(jumped)
            again = self._reset(known, spec.moving, at)
            if risen is None:
                m.d.sync += moving.eq(again)
            else:
                with m.If(control.moving):
                    m.d.sync += [moving.eq(risen), begun.eq(risen)]
                with m.Else():
                    m.d.sync += [moving.eq(again), begun.eq(again)]
        with m.Elif(control.valid):
            self._move_unit(m, known, "moving_unit", spec.moving, moving, moving)

    def _reset(self, known: dict[str, Signal], axis: str, base: Value) -> Value:
        """Return the first place of an axis."""
        begins, values = self._goes_down(axis), []
        for name, shape in self.spec.place.members.items():
            field = f"{axis}_begin_{name}"
            value: Value = Const(0, Shape.cast(shape))
            if name in LAST:
                value = known[f"{axis}_begins_{name}"]
            elif (begins or axis == "pixel") and field in self.spec.layout.members:
                value = self.tile[field]
            if name == "address" and axis == "kernel":
                value = (value + base)[: self.spec.address_bits]
            values.append(value)
        return self.spec.place(Cat(values))

    def _move_unit(
        self, m: Module, known: dict[str, Signal], name: str, axis: str, source: data.View, place: data.View
    ) -> None:
        """Move to the next place, or the one before; a slot behind the last one of its unit is one of the next unit."""
        tile, down = self.tile, self._goes_down(axis)
        wraps, carried = [source.last0, source.last1], [Const(1), source.last0]
        for i in range(2):
            digit, end = source[f"d{i}"], tile[f"{axis}_end{i}"]
            turned = Mux(wraps[i], end if down else 0, digit + (-1 if down else 1))
            near = digit == (1 if down else known[f"{axis}_near{i}"])
            m.d.sync += place[f"d{i}"].eq(Mux(carried[i], turned, digit))
            m.d.sync += place[LAST[i]].eq(Mux(carried[i], Mux(wraps[i], known[f"{axis}_single{i}"], near), wraps[i]))
        m.d.sync += place.d2.eq(Mux(wraps[0] & wraps[1], source.d2 + (-1 if down else 1), source.d2))

        def choose(part: str, fields: Mapping[str, Value]) -> Value:
            return Mux(wraps[1], fields[f"{axis}_unit2_{part}"], fields[f"{axis}_unit1_{part}"])

        fields = {key: tile[key] for key, _ in self.spec.fields()}
        for part in ("x", "y"):
            still = fields[f"{axis}_unit0_x"] if part == "x" else 0
            m.d.sync += place[part].eq(source[part] + Mux(wraps[0], choose(part, fields), still))
        back = Signal(signed(self.spec.slot_bits + 1), name=f"{name}_back")
        beyond = Signal(name=f"{name}_beyond")
        m.d.comb += [back.eq(source.slot + choose("back", known)), beyond.eq(wraps[0] & (back >= 0))]
        within = Mux(wraps[0], source.slot + choose("slot", fields), source.slot)
        m.d.sync += place.slot.eq(Mux(beyond, back, within))
        near_address = source.address + Mux(wraps[0], choose("address", fields), fields[f"{axis}_unit0_address"])
        m.d.sync += place.address.eq(Mux(beyond, source.address + choose("over", known), near_address))

    def _jump(self, m: Module, known: dict[str, Signal], name: str, axis: str, place: data.View) -> Value:
        """Return the place that a jump leads to, `Im2col.cuts` registers behind the one that it starts from."""
        spec, late = self.spec, self.late
        count = spec.count_bits

        def keep(step: int, what: str, value: Value) -> Signal:
            kept = Signal(value.shape(), name=f"{name}_{what}")
            m.d["sync" if step in spec.cuts else "comb"] += kept.eq(value)
            return kept

        digits: list[Value] = []
        carries: list[Value] = []
        for i in range(2):
            step, carry = 1 + i, carries[0] if i else Const(0, 1)
            turned = (place[f"d{i}"] + known[f"{axis}_turn{i}"] + carry)[: count + 2].as_signed()
            total = (place[f"d{i}"] + late[f"{axis}_jump_d{i}"] + carry)[:count]
            carries = [keep(step, f"carry{k}_{step}", value) for k, value in enumerate([*carries, turned >= 0])]
            digits = [keep(step, f"d{k}_{step}", value) for k, value in enumerate(digits)]
            digits.append(keep(step, f"d{i}", Mux(turned >= 0, turned[:count], total)))
        added = {}
        for part in PARTS:
            chosen = Signal(spec.shapes[part], name=f"{name}_chosen_{part}")
            with m.Switch(Cat(*carries)):
                for case in range(4):
                    with m.Case(case):
                        m.d.comb += chosen.eq(late[f"{axis}_jump{case}_{part}"])
            added[part] = keep(3, f"added_{part}", chosen)
        digits.append((place.d2 + late[f"{axis}_jump_d2"] + carries[1])[:count])
        digits = [keep(3, f"d{i}_3", digit) for i, digit in enumerate(digits)]
        ends = [0 if self._goes_down(axis) else late[f"{axis}_end{i}"] for i in range(2)]
        last = [keep(4, f"last{i}_4", digits[i] == ends[i]) for i in range(2)]
        digits = [keep(4, f"d{i}_4", digit) for i, digit in enumerate(digits)]
        sums = {part: keep(4, f"{part}_4", place[part] + added[part]) for part in PARTS}
        beyond = sums["slot"] >= late.span
        sums["slot"] = Mux(beyond, sums["slot"] - late.span, sums["slot"])
        sums["address"] = sums["address"] + Mux(beyond, late.skip, 0)
        found = dict(zip((*DIGITS, *LAST), (*digits, *last), strict=True)) | sums
        parts = [
            keep(5, f"next_{key}", found[key][: Shape.cast(shape).width]) for key, shape in spec.place.members.items()
        ]
        return spec.place(Cat(parts))

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
