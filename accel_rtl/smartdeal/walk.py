"""Order of passes: which is prepared, which runs, and where the pixels of the prepared one stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.smartdeal.spec import COORDINATE, COUNT, PLACE_PARTS

if TYPE_CHECKING:
    from accel_rtl.smartdeal.spec import SmartDealEngine

LOOPS = ("passes", "step", "column", "row", "image", "block", "group")
"""Innermost first."""
ADDRESSES = ("step", "column", "row", "image", "group")
"""Loops that move addresses, innermost first; a block begins again."""


def describe_pass(spec: SmartDealEngine) -> data.StructLayout:
    """Return what a prepared pass looks like to loaders and decoders.

    ``bank`` of the stores; ``basis`` bank; ``step_first``: first pass of a step; ``chunks_end``, ``rows``, ``total``: chunks less
    one, rows of the last, of all; ``tile_last``: its last row is the last of the filter; ``pixels``, ``slices``: that there are;
    ``x``, ``y``, ``slot``, ``address``: place of the group's first pixel, with what the step adds.
    """
    return data.StructLayout(
        {
            "bank": 1, "basis": 1, "step_first": 1, "chunks_end": unsigned(spec.entry_bits), "rows": range(spec.lines + 1),
            "total": range(spec.pass_rows + 1), "tile_last": 1, "pixels": range(spec.macs + 1), "slices": range(spec.slices + 1),
            "x": COORDINATE, **spec.place_shapes,
        }
    )  # fmt: skip


def describe_close(spec: SmartDealEngine) -> data.StructLayout:
    """Return what the results of a pixel group need: where they go, and which there are."""
    word = unsigned(spec.machine.word_bits)
    return data.StructLayout(
        {"word": word, "bank": 1, "first": 1, "pixels": range(spec.macs + 1), "slices": range(spec.slices + 1)}
    )


class PassWalk(wiring.Component):
    """Counters of the loops; steps of the pipeline prepare, run.

    Latency: ``begin`` comes with ``start``, and again in the cycle in which both stages are through. ``pass_`` stands from the
    cycle after ``begin`` on. Reset: idle. There is no stall.

    Members
    -------
    start, tile : In
        As of the engine.
    prepared, ran : In
        Loaders and decoders, lines are through with what began last; stand until the next ``begin``.
    ending : In
        Lines are through: ``ran`` comes in the next cycle.
    begin : Out
        A step begins.
    prepares, runs : Out
        In the cycle of ``begin``: whether this step prepares a pass; runs one.
    rewind, advance, reset_streams : Out
        In the cycle of ``begin``: the prepared pass's streams begin where its block's began; at the next block; anew.
    pass_ : Out
        `describe_pass` of the prepared pass.
    run_bank, run_basis : Out
        Banks of the running pass; from the cycle after ``begin`` on.
    close, closing : Out
        The running pixel group is through, before this cycle; its `describe_close`.
    done : Out
        Last busy cycle.
    """

    def __init__(self, spec: SmartDealEngine) -> None:
        self.spec = spec
        super().__init__(
            {
                "start": In(1), "tile": In(spec.layout), "prepared": In(1), "ran": In(1), "ending": In(1), "begin": Out(1),
                "prepares": Out(1), "runs": Out(1), "rewind": Out(1), "advance": Out(1), "reset_streams": Out(1),
                "pass_": Out(describe_pass(spec)), "run_bank": Out(1), "run_basis": Out(1),
                "close": Out(1), "closing": Out(describe_close(spec)), "done": Out(1),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m, tile = Module(), self.tile
        counts = {name: Signal(COUNT, name=f"{name}_count") for name in LOOPS}
        last = {name: Signal(name=f"{name}_last") for name in LOOPS}  # a count is at its end: a register beside it
        wraps = self._advance(m, counts, last)
        self._move(m, wraps)
        group_last = wraps["step"]
        m.d.comb += [
            self.rewind.eq(group_last & ~wraps["image"]),
            self.advance.eq(wraps["image"]),
            self.reset_streams.eq(self.start),
            self.pass_.step_first.eq(counts["passes"] == 0),
            self.pass_.tile_last.eq(last["passes"] & last["step"]),
            self.pass_.chunks_end.eq(self._choose(last, "chunks_end", tile.full_end)),
            self.pass_.rows.eq(self._choose(last, "rows", self.spec.lines)),
            self.pass_.total.eq(self._choose(last, "total", self.spec.pass_rows)),
            self.pass_.pixels.eq(Mux(last["column"], tile.pixels, self.spec.macs)),
            self.pass_.slices.eq(Mux(last["block"], tile.slices, self.spec.slices)),
        ]  # fmt: skip
        group_first = (counts["passes"] == 0) & (counts["step"] == 0)
        self._pipeline(m, wraps["group"], wraps["passes"], group_first, group_last)
        return m

    def _choose(self, last: dict[str, Signal], field: str, full: Value | int) -> Value:
        """Return a field of the step's last pass, or that of a full one."""
        ragged = Mux(last["step"], self.tile[f"last_{field}"], self.tile[field])
        return Mux(last["passes"], ragged, full)

    def _advance(self, m: Module, counts: dict[str, Signal], last: dict[str, Signal]) -> dict[str, Signal]:
        """Count at each begin; return for each loop whether it and all inside it are at their ends."""
        tile = self.tile
        wraps: dict[str, Signal] = {}
        inner: Value | int = 1
        for name in LOOPS:
            end = tile[f"{name}_end"]
            again, next_ends = end == 0, counts[name] + 1 == end
            if name == "passes":  # a step's last pass may be another one in the last step
                ragged = tile.last_passes_end
                step_ends = Mux(last["step"], tile.step_end == 0, counts["step"] + 1 == tile.step_end)
                first = Mux(tile.step_end == 0, ragged == 0, end == 0)
                again = Mux(step_ends, ragged == 0, end == 0)
                next_ends = Mux(last["step"], counts[name] + 1 == ragged, next_ends)
            else:
                first = again
            wraps[name] = Signal(name=f"{name}_wraps")
            m.d.comb += wraps[name].eq(last[name] & inner)
            with m.If(self.start):
                m.d.sync += [counts[name].eq(0), last[name].eq(first)]
            with m.Elif(self.begin & inner):
                m.d.sync += counts[name].eq(Mux(last[name], 0, counts[name] + 1))
                m.d.sync += last[name].eq(Mux(last[name], again, next_ends))
            inner = wraps[name]
        return wraps

    def _move(self, m: Module, wraps: dict[str, Signal]) -> None:
        """Keep the place at which each loop began; the loop that moves gives its new place to those inside it."""
        tile, shapes = self.tile, self.spec.place_shapes
        kept = {name: Signal(shapes["address"], name=f"{name}_place") for name in ADDRESSES}
        y, slot, x = (
            Signal(shape, name=name)
            for name, shape in (("y", shapes["y"]), ("slot", shapes["slot"]), ("x", COORDINATE))
        )
        m.d.comb += [
            self.pass_.x.eq(x),
            self.pass_.y.eq(y),
            self.pass_.slot.eq(slot),
            self.pass_.address.eq(kept["step"]),
        ]
        # which loop moves: the innermost one that is not at its end; passes move nothing
        moved = Signal(shapes["address"])
        slot_sum = Signal(self.spec.slot_bits + 1)
        beyond = Signal()
        m.d.comb += [slot_sum.eq(slot + tile.row_slot), beyond.eq(slot_sum >= tile.span)]
        begins = [tile[f"begin_{part}"] for part in PLACE_PARTS]

        def give(loop: str) -> None:
            for name in ADDRESSES[: ADDRESSES.index(loop) + 1]:
                m.d.sync += kept[name].eq(moved)

        def restart(rows: bool) -> None:
            m.d.sync += x.eq(tile.begin_x)
            if rows:
                m.d.sync += [y.eq(begins[0]), slot.eq(begins[1])]

        with m.If(self.start):
            m.d.comb += moved.eq(begins[2])
            give("group")
            restart(True)
        with m.Elif(self.begin & wraps["block"]):
            m.d.comb += moved.eq(kept["group"] + tile.group_address)
            give("group")
            restart(True)
        with m.Elif(self.begin & wraps["image"]):  # the next block
            m.d.comb += moved.eq(kept["group"])
            give("image")
            restart(True)
        with m.Elif(self.begin & wraps["row"]):
            m.d.comb += moved.eq(kept["image"] + tile.image_address)
            give("image")
            restart(True)
        with m.Elif(self.begin & wraps["column"]):
            m.d.comb += moved.eq(kept["row"] + tile.row_address + Mux(beyond, tile.skip, 0))
            give("row")
            restart(False)
            m.d.sync += [y.eq(y + tile.row_y), slot.eq(Mux(beyond, slot_sum - tile.span, slot_sum))]
        with m.Elif(self.begin & wraps["step"]):
            m.d.comb += moved.eq(kept["column"] + tile.column_address)
            give("column")
            m.d.sync += x.eq(x + tile.column_x)
        with m.Elif(self.begin & wraps["passes"]):
            m.d.comb += moved.eq(kept["step"] + tile.step_address)
            give("step")

    def _pipeline(self, m: Module, tile_last: Value, step_last: Value, group_first: Value, group_last: Value) -> None:
        """Join the stages: what is prepared runs next."""
        spec, tile = self.spec, self.tile
        preparing, running, more = Signal(), Signal(), Signal()
        run_last = Signal()
        age, step_done = Signal(range(spec.macs + 1)), Signal()
        bank, basis, word = Signal(), Signal(), Signal(spec.machine.word_bits)
        running_group = Signal(describe_close(spec))
        old_enough, ended = ~run_last | (age >= spec.macs), Signal()
        m.d.comb += [
            more.eq(~tile_last),
            step_done.eq(preparing & self.prepared & ((self.ran & old_enough) | ~running)),
            self.begin.eq(self.start | step_done),
            self.prepares.eq(self.start | (step_done & more)),
            self.runs.eq(step_done),
            self.done.eq(running & ~preparing & self.ending & (age >= spec.macs - 1)),
            self.close.eq((step_done & running & run_last) | ended),
            self.closing.eq(running_group),
            self.closing.word.eq(word),
            self.pass_.bank.eq(bank),
            self.pass_.basis.eq(basis),
        ]
        m.d.sync += ended.eq(self.done)
        m.d.sync += age.eq(Mux(age >= spec.macs, age, age + 1))
        with m.If(self.begin):
            m.d.sync += [preparing.eq(self.prepares), running.eq(self.runs), bank.eq(~bank), self.run_bank.eq(bank)]
            m.d.sync += [self.run_basis.eq(basis), run_last.eq(group_last)]
            m.d.sync += [
                running_group.bank.eq(tile.o_bank), running_group.first.eq(tile.first),
                running_group.pixels.eq(self.pass_.pixels), running_group.slices.eq(self.pass_.slices),
            ]  # fmt: skip
            with m.If(self.start | step_last):
                m.d.sync += basis.eq(~basis)
            with m.If(self.runs & group_first):
                m.d.sync += age.eq(1)
        with m.If(self.done):
            m.d.sync += running.eq(0)
        with m.If(self.start):
            m.d.sync += word.eq(0)
        with m.Elif(self.close):
            m.d.sync += word.eq(word + running_group.pixels)
