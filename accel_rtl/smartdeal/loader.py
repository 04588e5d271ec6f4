"""Loading of line stores: the rows of a pass out of ``ibuf``, a row of pixels' activations for each weight of a row of weights.

Stages, by cycle; t is the one in which an element (a row, a weight of a row, or a pixel of one) is due:

======  ===============================================================================================
t       counters
t + 1   column of the first pixel, its address; each line's row of the kernel
t + 2   both added
t + 3   a slot behind its unit's last one; beats of ``ibuf`` are read
t + 4   beats are there: turned
t + 5   zero point subtracted, padding 0
t + 6   written; flags of rows
======  ===============================================================================================

The first element is due in the cycle after ``begin``; ``done`` comes 7 cycles behind the last one: ``LOAD_PIPELINE`` counts from
``begin`` to the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.smartdeal.spec import (
    A_BITS,
    COORDINATE,
    ENTRY_WEIGHTS,
    KERNEL,
    OPERAND_BITS,
    PLACE_PARTS,
)
from accel_rtl.smartdeal.walk import describe_pass

if TYPE_CHECKING:
    from accel_rtl.smartdeal.spec import SmartDealEngine


def delay(m: Module, value: Any, shape: Any, cycles: int, name: str) -> Any:
    """Return a value some cycles later."""
    for i in range(cycles):
        later = Signal(shape, name=f"{name}_after{i + 1}")
        m.d.sync += later.eq(value)
        value = later
    return value


def turn(m: Module, ring: list[Value], start: Value, wanted: int, name: str) -> list[Value]:
    """Return ``wanted`` elements of a ring of a power of two from place ``start`` on."""
    for step in reversed(range((len(ring) - 1).bit_length())):
        kept = min(len(ring), wanted + (1 << step) - 1)
        turned = [Signal(A_BITS, name=f"{name}_{step}_{i}") for i in range(kept)]
        m.d.comb += [turned[i].eq(Mux(start[step], ring[(i + (1 << step)) % len(ring)], ring[i])) for i in range(kept)]
        ring = list(turned)
    return ring


class RowLoader(wiring.Component):
    """Loaders of all lines, in lockstep.

    Latency: see the module. Throughput: an element a line and cycle. Reset: idle. There is no stall.

    Members
    -------
    begin : In
        A pass is to be prepared: ``pass_`` stands from the next cycle on.
    tile, pass_ : In
    enable : Out, beat : Out [lines], data : In [lines]
        `InputCopies`.
    write : Out [3]
        Weights of the entry whose activations are written.
    entry : Out
        Which one.
    value : Out [lines]
        ``[3][macs]`` activations less the zero point.
    flags : Out [lines]
        By entry of the prepared pass: its row has a nonzero activation. Complete with ``done``.
    done : Out
        All of the pass is written; until the next ``begin``.
    """

    def __init__(self, spec: SmartDealEngine) -> None:
        self.spec = spec
        beats = spec.machine.beat_bits * spec.input_memories
        self.values = data.ArrayLayout(data.ArrayLayout(signed(OPERAND_BITS), spec.macs), ENTRY_WEIGHTS)
        wide = spec.address_bits - (spec.beat_elements - 1).bit_length()
        super().__init__(
            {
                "begin": In(1), "tile": In(spec.layout), "pass_": In(describe_pass(spec)),
                "enable": Out(1), "beat": Out(wide).array(spec.lines), "data": In(beats).array(spec.lines),
                "write": Out(ENTRY_WEIGHTS), "entry": Out(spec.entry_bits), "value": Out(self.values).array(spec.lines),
                "flags": Out(spec.line_rows).array(spec.lines), "done": Out(1),
            }
        )  # fmt: skip

    @property
    def control(self) -> data.StructLayout:
        """What goes along with an element.

        ``row_first``, ``row_last``: of a row; ``last``: of the pass; ``lines``: which have a row; ``tail``: the line whose row is
        the filter's last; ``weight``: place of the weight in its row; ``slot``: in its entry; ``pixel``.
        """
        spec = self.spec
        return data.StructLayout(
            {
                "valid": 1, "row_first": 1, "row_last": 1, "last": 1, "lines": spec.lines, "tail": spec.lines,
                "weight": KERNEL, "slot": 2, "entry": spec.entry_bits, "pixel": range(spec.macs), "write": 1,
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        """Build the stages."""
        m = Module()
        control, x_move, address_move = self._count(m)
        steps = [control]
        for i in range(6):
            later = Signal(self.control, name=f"control_{i + 1}")
            m.d.sync += later.eq(steps[-1])
            steps.append(later)
        good = self._place_columns(m, steps, x_move)
        address = Signal(self.spec.address_bits)
        m.d.sync += address.eq(self.pass_.address + address_move)
        self._write(m, steps)
        seen = Signal(self.spec.line_rows)
        rows = Signal(self.spec.line_rows)  # entries of the row so far
        entry = Signal(self.spec.line_rows)
        m.d.comb += [entry.eq(1 << steps[6].entry), rows.eq(entry | Mux(steps[6].row_first, 0, seen))]
        with m.If(steps[6].valid):
            m.d.sync += seen.eq(rows)
        started = delay(m, self.begin, 1, 1, "begin")
        for line in range(self.spec.lines):
            self._load_line(m, line, started, steps, address, good, rows)
        return m

    def _count(self, m: Module) -> tuple[Any, Signal, Signal]:
        """Count pixels, weights and chunks; return the element's control, and what its weight and pixel add to x and address."""
        spec, tile, p = self.spec, self.tile, self.pass_
        control = Signal(self.control)
        issue, chunk, weight = Signal(), Signal(spec.entry_bits), Signal(KERNEL)
        slot, entry, pixel = Signal(2), Signal(spec.entry_bits), Signal(range(spec.macs))
        x, x_weight = Signal(COORDINATE), Signal(COORDINATE)
        address, address_weight = Signal(spec.address_bits), Signal(spec.address_bits)
        pixel_last, weight_last, chunk_last = Signal(), Signal(), Signal()
        has = Signal(spec.lines)
        m.d.comb += [
            pixel_last.eq(~tile.scattered | (pixel == tile.pixels_end)),
            weight_last.eq(tile.whole | (weight == tile.weights_end)),
            chunk_last.eq(chunk == p.chunks_end),
            has.eq(Mux(chunk_last, Cat(p.rows > line for line in range(spec.lines)), (1 << spec.lines) - 1)),
            control.valid.eq(issue),
            control.row_first.eq((weight == 0) & (pixel == 0)),
            control.row_last.eq(issue & weight_last & pixel_last),
            control.last.eq(control.row_last & chunk_last),
            control.lines.eq(has),
            control.tail.eq(
                Mux(chunk_last & p.tile_last & tile.channels, Cat(p.rows == line + 1 for line in range(spec.lines)), 0)
            ),
            control.weight.eq(weight), control.slot.eq(slot), control.entry.eq(entry), control.pixel.eq(pixel),
            control.write.eq(issue & pixel_last),
        ]  # fmt: skip
        with m.If(self.begin):
            m.d.sync += [issue.eq(1), chunk.eq(0), entry.eq(0)]
        with m.Elif(control.last):
            m.d.sync += issue.eq(0)
        with m.If(self.begin | control.row_last):
            m.d.sync += [pixel.eq(0), weight.eq(0), slot.eq(0)]
            m.d.sync += [x.eq(0), x_weight.eq(0), address.eq(0), address_weight.eq(0)]
        with m.Elif(pixel_last):
            following, next_address = Signal(COORDINATE), Signal(spec.address_bits)
            m.d.comb += [following.eq(x_weight + tile.weight_x), next_address.eq(address_weight + tile.weight_address)]
            m.d.sync += [pixel.eq(0), weight.eq(weight + 1), slot.eq(Mux(slot == ENTRY_WEIGHTS - 1, 0, slot + 1))]
            m.d.sync += [x.eq(following), x_weight.eq(following)]
            m.d.sync += [address.eq(next_address), address_weight.eq(next_address)]
        with m.Else():
            m.d.sync += [pixel.eq(pixel + 1), x.eq(x + tile.pixel_x), address.eq(address + tile.pixel_address)]
        with m.If(issue & ~self.begin):
            with m.If(control.row_last):
                m.d.sync += [chunk.eq(chunk + 1), entry.eq(entry + 1)]
            with m.Elif(pixel_last & (slot == ENTRY_WEIGHTS - 1)):
                m.d.sync += entry.eq(entry + 1)
        return control, x, address

    def _place_columns(self, m: Module, steps: list[Any], x_move: Signal) -> list[list[Signal]]:
        """Return, as of t + 5, which activations of an entry count: stored, of a pixel and a weight that there are."""
        spec, tile = self.spec, self.tile
        x = Signal(COORDINATE)
        m.d.sync += x.eq(self.pass_.x + x_move)
        stored = [Signal(name=f"stored_{i}") for i in range(spec.window)]
        for i, inside in enumerate(stored):
            column = Signal(COORDINATE, name=f"column_{i}")
            m.d.comb += column.eq(x + i)
            m.d.sync += inside.eq((column >= 0) & (column < tile.in_cols))
        good = []
        for s in range(ENTRY_WEIGHTS):
            wanted = (tile.weights_end >= s) | ~tile.whole if s else 1
            good.append([Signal(name=f"good_{s}_{k}") for k in range(spec.macs)])
            for k in range(spec.macs):
                here = self._pick(stored, s, k) & (k < self.pass_.pixels) & wanted
                early = Signal(name=f"early_{s}_{k}")
                m.d.sync += early.eq(here)
                m.d.sync += good[s][k].eq(delay(m, early, 1, 1, f"early_{s}_{k}"))
        return good

    def _pick(self, window: list[Any], s: int, k: int) -> Value:
        """Return the element of the window that weight s of the entry multiplies at pixel k."""
        tile = self.tile
        first = Mux(tile.scattered, window[0], Mux(tile.double, window[2 * k], window[k]))
        return Mux(tile.whole, Mux(tile.double, window[2 * k + s], window[k + s]), first) if s else first

    def _load_line(
        self,
        m: Module,
        line: int,
        started: Value,
        steps: list[Any],
        address: Value,
        good: list[list[Signal]],
        rows: Value,
    ) -> None:
        spec, tile = self.spec, self.tile
        place = self._walk_rows(m, line, started, steps[1])
        # t + 2
        y, slot = Signal(COORDINATE, name=f"y_{line}"), Signal(spec.slot_bits + 1, name=f"slot_{line}")
        at = Signal(spec.address_bits, name=f"at_{line}")
        m.d.sync += [
            y.eq(self.pass_.y + place["y"]),
            slot.eq(self.pass_.slot + place["slot"]),
            at.eq(address + place["address"]),
        ]
        # t + 3
        read, inside = Signal(spec.address_bits, name=f"read_{line}"), Signal(name=f"inside_{line}")
        tail = steps[2].tail[line] & (steps[2].weight > tile.last_weights)
        m.d.sync += read.eq(at + Mux(slot >= tile.span, tile.skip, 0))
        m.d.sync += inside.eq((y >= 0) & (y < tile.in_rows) & steps[2].lines[line] & ~tail)
        within = (spec.beat_elements - 1).bit_length()
        m.d.comb += self.beat[line].eq(read >> within)
        # t + 4
        width = (spec.beat_elements * spec.input_memories - 1).bit_length()
        start = delay(m, read[:width], width, 1, f"start_{line}")
        beats = self.data[line]
        ring: list[Value] = [beats[i : i + A_BITS] for i in range(0, len(beats), A_BITS)]
        turned = turn(m, ring, start, spec.window, f"turned_{line}")
        window = [Signal(A_BITS, name=f"window_{line}_{i}") for i in range(spec.window)]
        m.d.sync += [held.eq(element) for held, element in zip(window, turned, strict=True)]
        # t + 5
        inside = delay(m, inside, 1, 2, f"inside_{line}")
        value, counted = self._subtract(m, line, steps[5], window, inside, good)
        m.d.comb += self.value[line].eq(value)
        # t + 6
        control, some, any_ = steps[6], Signal(name=f"some_{line}"), Signal(name=f"any_{line}")
        m.d.comb += any_.eq(counted.any() | (some & ~control.row_first))
        with m.If(control.valid):
            m.d.sync += some.eq(any_)
        with m.If(started):
            m.d.sync += self.flags[line].eq(0)
        with m.Elif(control.row_last & any_):
            m.d.sync += self.flags[line].eq(self.flags[line] | rows)

    def _walk_rows(self, m: Module, line: int, started: Value, control: Any) -> dict[str, Signal]:
        """Return what the line's kernel row adds, as of t + 1: each next row of the line is ``lines`` further."""
        spec, tile = self.spec, self.tile
        kernel = Signal(KERNEL, name=f"kernel_{line}")
        place = {part: Signal(spec.place_shapes[part], name=f"{part}_of_{line}") for part in PLACE_PARTS}
        carry, slot = Signal(name=f"carry_{line}"), Signal(spec.slot_bits + 1, name=f"slots_of_{line}")
        beyond = Signal(name=f"beyond_{line}")

        def move(part: str) -> Value:
            return Mux(carry, tile[f"move1_{part}"], tile[f"move0_{part}"])

        m.d.comb += [
            carry.eq(kernel >= tile.carry_from), slot.eq(place["slot"] + move("slot")), beyond.eq(slot >= tile.span)
        ]  # fmt: skip
        with m.If(started & self.pass_.step_first):
            m.d.sync += kernel.eq(tile[f"line{line}_kernel"])
            m.d.sync += [place[part].eq(tile[f"line{line}_{part}"]) for part in PLACE_PARTS]
        with m.Elif(control.row_last):
            m.d.sync += [
                kernel.eq(Mux(carry, kernel - tile.kernel_back, kernel + tile.kernel_move)),
                place["y"].eq(place["y"] + move("y")),
                place["slot"].eq(Mux(beyond, slot - tile.span, slot)),
                place["address"].eq(place["address"] + move("address") + Mux(beyond, tile.skip, 0)),
            ]
        return place

    def _subtract(
        self, m: Module, line: int, control: Any, window: list[Signal], inside: Value, good: list[list[Signal]]
    ) -> tuple[Any, Value]:
        """Return an entry's activations, as of t + 6, and which of those that came last are not zero."""
        spec, tile = self.spec, self.tile
        value = Signal(self.values, name=f"value_{line}")
        counted = Signal(ENTRY_WEIGHTS * spec.macs, name=f"counted_{line}")
        for s in range(ENTRY_WEIGHTS):
            for k in range(spec.macs):
                stored = Signal(A_BITS, name=f"stored_{line}_{s}_{k}")
                ok = Signal(name=f"ok_{line}_{s}_{k}")
                wide = Cat(stored, stored[-1] & tile.input_signed).as_signed()
                here = ~tile.scattered | (control.pixel == k)
                m.d.comb += [stored.eq(self._pick(window, s, k)), ok.eq(good[s][k] & inside)]
                m.d.sync += counted[s * spec.macs + k].eq(ok & here & (wide != tile.input_zero))
                with m.If(~tile.scattered | here | (control.pixel == 0)):
                    m.d.sync += value[s][k].eq(Mux(ok & here, wide - tile.input_zero, 0))
        return value, counted

    def _write(self, m: Module, steps: list[Any]) -> None:
        tile, last = self.tile, steps[6]
        m.d.comb += self.enable.eq(steps[3].valid)
        for s in range(ENTRY_WEIGHTS):
            m.d.comb += self.write[s].eq(last.write & (tile.whole | (last.slot == s)))
        m.d.comb += self.entry.eq(last.entry)
        with m.If(self.begin):
            m.d.sync += self.done.eq(0)
        with m.Elif(last.last):
            m.d.sync += self.done.eq(1)
