"""The order in which a tile is stored: for each element its place in ``obuf``, its channel and its place in a beat of memory.

Elements go by image, channel, row and column. Two sets of counters run beside each other, without multiplication or division:

- *where it comes from*: a column and a word of ``obuf``. Four events lead to the next element: a *step* within a plane of a
  channel, the next *plane*, the first plane of the next *group*, the next *image*. Each event has a move: it begins at the
  place of the present element or (``back``) of the first one of its plane; the column stays, goes on by one or returns to
  zero; to the word ``wrap`` is added where the column went on from the last one to zero, ``plain`` elsewhere.
- *where it goes*: rows of ``columns_end + 1`` elements, ``rows_end + 1`` of them a plane (a one-pixel tensor has one row, all
  of its channels). A beat ends with its last place, and with a row unless further rows share the unit
  (`hwsim.engine.image`): rows of a plane stand in slots ``slot_begin``, .. ``slot_end``, 0, .., the first one begins at
  ``place_begin``, one in slot 0 at ``place_lead``, each further one ``place_step`` behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwsim.core.check import require_int

EVENTS = ("step", "plane", "group", "image")
STAY, ON, ZERO = range(3)
COUNT_BITS = 16


class Element(NamedTuple):
    """One element: word and column of its accumulator, channel, place in its beat, whether it ends beat and tile."""

    word: int
    column: int
    channel: int
    place: int
    flush: bool
    last: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreWalk:
    """A walker over tiles.

    Parameters
    ----------
    columns : int
        Of ``obuf``.
    places : int
        Elements of a beat, a power of two.
    slots : int
        Rows that share a beat at most, a power of two.
    word_bits, channel_bits : int
        Widths of a word's place and of the number of a channel.
    """

    columns: int
    places: int
    slots: int
    word_bits: int
    channel_bits: int

    def __post_init__(self) -> None:
        require_int("store_walk.columns", self.columns, 1, 1024)
        require_int("store_walk.places", self.places, 1, 1024)
        require_int("store_walk.slots", self.slots, 1, 128)
        require_int("store_walk.word_bits", self.word_bits, 1, 24)

    @property
    def place_bits(self) -> int:
        """Width of a place in a beat."""
        return max(1, (self.places - 1).bit_length())

    @property
    def column_bits(self) -> int:
        """Width of a column."""
        return max(1, (self.columns - 1).bit_length())

    @property
    def layout(self) -> data.StructLayout:
        """Of a tile: see the module. ``*_end``: counts less one. ``is_row``: a one-pixel tensor, every element is a plane."""
        slot_bits = max(1, (self.slots - 1).bit_length())
        fields: dict[str, int] = {f"{name}_end": COUNT_BITS for name in ("columns", "rows", "images")}
        fields |= {"planes_end": self.channel_bits, "groups_end": self.channel_bits, "is_row": 1}
        fields |= {"channel": self.channel_bits, "slot_begin": slot_bits, "slot_end": slot_bits}
        fields |= dict.fromkeys(("place_begin", "place_lead", "place_step"), self.place_bits)
        for event in EVENTS:
            fields |= {f"{event}_back": 1, f"{event}_turn": 2}
            fields |= {f"{event}_plain": self.word_bits, f"{event}_wrap": self.word_bits}
        return data.StructLayout(fields)

    def compute(self, tile: Mapping[str, int]) -> Iterator[Element]:
        """Yield the elements of a tile in order."""
        word = column = base_word = base_column = 0
        shape = [tile[f"{name}_end"] + 1 for name in ("images", "groups", "planes")]
        pixels = 1 if tile["is_row"] else (tile["rows_end"] + 1) * (tile["columns_end"] + 1)
        packed = self._pack(tile)
        for index in range(shape[0] * shape[1] * shape[2] * pixels):
            rest, ends = index + 1, 0
            for extent in (pixels, shape[2], shape[1]):
                if rest % extent:
                    break
                ends, rest = ends + 1, rest // extent
            last = index + 1 == shape[0] * shape[1] * shape[2] * pixels
            channel = index // pixels % (shape[1] * shape[2]) + tile["channel"]
            place, flush = next(packed)
            yield Element(word, column, channel, place, flush or last, last)
            event = EVENTS[ends]
            wraps = tile[f"{event}_turn"] == ON and column == self.columns - 1
            start = (base_word, base_column) if tile[f"{event}_back"] else (word, column)
            word = (start[0] + tile[f"{event}_wrap" if wraps else f"{event}_plain"]) % (1 << self.word_bits)
            column = (start[1], 0 if wraps else column + 1, 0)[tile[f"{event}_turn"]]
            if ends:
                base_word, base_column = word, column

    def _pack(self, tile: Mapping[str, int]) -> Iterator[tuple[int, bool]]:
        while True:
            slot, place = tile["slot_begin"], tile["place_begin"]
            for row in range(tile["rows_end"] + 1):
                for column in range(tile["columns_end"] + 1):
                    at = (place + column) % self.places
                    shares = slot != tile["slot_end"] and row != tile["rows_end"]
                    yield at, at == self.places - 1 or (column == tile["columns_end"] and not shares)
                again = slot == tile["slot_end"]
                slot, place = (0, tile["place_lead"]) if again else (slot + 1, place + tile["place_step"])

    def create(self) -> StoreWalkComponent:
        """Return the component."""
        return StoreWalkComponent(self)


class StoreWalkComponent(wiring.Component):
    """See `StoreWalk`.

    Ports
    -----
    start : in, 1
        Pulse: begin a tile. Only while ``valid`` is low.
    tile : in, `StoreWalk.layout`
        Stands from ``start`` to the last element.
    valid : out, 1
        An element is there.
    word, column, channel, place, flush, last : out
        See `Element`.

    Latency 1 cycle from ``start`` to the first element, then one a cycle. Nothing stalls it. All but ``flush`` and ``last`` are
    registers. Reset: idle.
    """

    def __init__(self, spec: StoreWalk) -> None:
        self._spec = spec
        super().__init__(
            {
                "start": In(1), "tile": In(spec.layout), "valid": Out(1), "word": Out(spec.word_bits),
                "column": Out(spec.column_bits), "channel": Out(spec.channel_bits), "place": Out(spec.place_bits),
                "flush": Out(1), "last": Out(1),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        tile = self.tile
        column_last = self._count(m, "columns", self.valid)
        row_ends = self.valid & column_last
        row_last = self._count(m, "rows", row_ends)
        plane_ends = Signal()
        m.d.comb += plane_ends.eq(self.valid & (tile.is_row | (column_last & row_last)))
        plane_last = self._count(m, "planes", plane_ends)
        group_ends = plane_ends & plane_last
        group_last = self._count(m, "groups", group_ends)
        image_ends = Signal()
        m.d.comb += image_ends.eq(group_ends & group_last)
        image_last = self._count(m, "images", image_ends)
        m.d.comb += self.last.eq(image_ends & image_last)
        with m.If(self.start):
            m.d.sync += self.valid.eq(1)
        with m.Elif(self.last):
            m.d.sync += self.valid.eq(0)
        with m.If(self.start | image_ends):
            m.d.sync += self.channel.eq(tile.channel)
        with m.Elif(plane_ends):
            m.d.sync += self.channel.eq(self.channel + 1)
        self._step_source(m, plane_ends, Cat(plane_last, group_last))
        self._step_target(m, row_ends, row_last)
        return m

    def _count(self, m: Module, name: str, steps: Value) -> Signal:
        """Count down from ``{name}_end``; return whether the last is there."""
        end = self.tile[f"{name}_end"]
        left, last = Signal(len(end), name=f"{name}_left"), Signal(name=f"{name}_last")
        with m.If(self.start | (steps & last)):
            m.d.sync += [left.eq(end), last.eq(end == 0)]
        with m.Elif(steps):
            m.d.sync += [left.eq(left - 1), last.eq(left == 1)]
        return last

    def _step_source(self, m: Module, plane_ends: Value, lasts: Value) -> None:
        spec, tile = self._spec, self.tile
        base_word, base_column = Signal.like(self.word), Signal.like(self.column)
        at_edge = Signal()
        back, turn = Signal(), Signal(2)
        plain, wrap, word = (Signal(spec.word_bits, name=name) for name in ("plain", "wrap", "next_word"))
        column = Signal.like(self.column, name="next_column")
        move = {part: [tile[f"{event}_{part}"] for event in EVENTS] for part in ("back", "turn", "plain", "wrap")}

        def pick(values: list[Value]) -> Value:
            over = Mux(lasts[0], Mux(lasts[1], values[3], values[2]), values[1])
            return Mux(plane_ends, over, values[0])

        m.d.comb += [
            at_edge.eq(self.column == spec.columns - 1),
            back.eq(pick(move["back"])),
            turn.eq(pick(move["turn"])),
            plain.eq(pick(move["plain"])),
            wrap.eq(pick(move["wrap"])),
            word.eq(Mux(back, base_word, self.word) + Mux((turn == ON) & at_edge, wrap, plain)),
        ]
        with m.If(turn == STAY):
            m.d.comb += column.eq(Mux(back, base_column, self.column))
        with m.Elif((turn == ON) & ~at_edge):
            m.d.comb += column.eq(self.column + 1)
        with m.If(self.start):
            m.d.sync += [self.word.eq(0), self.column.eq(0), base_word.eq(0), base_column.eq(0)]
        with m.Elif(self.valid):
            m.d.sync += [self.word.eq(word), self.column.eq(column)]
            with m.If(plane_ends):
                m.d.sync += [base_word.eq(word), base_column.eq(column)]

    def _step_target(self, m: Module, row_ends: Value, row_last: Value) -> None:
        tile, place = self.tile, self.place
        slot, row_place = Signal.like(tile.slot_end), Signal.like(place)
        slot_last, next_place = Signal(), Signal.like(place, name="next_place")
        m.d.comb += [
            slot_last.eq(slot == tile.slot_end),
            next_place.eq(Mux(slot_last, tile.place_lead, row_place + tile.place_step)),
            self.flush.eq((place == self._spec.places - 1) | (row_ends & (slot_last | row_last)) | self.last),
        ]
        with m.If(self.start | (row_ends & row_last)):
            m.d.sync += [place.eq(tile.place_begin), row_place.eq(tile.place_begin), slot.eq(tile.slot_begin)]
        with m.Elif(row_ends):
            m.d.sync += [place.eq(next_place), row_place.eq(next_place), slot.eq(Mux(slot_last, 0, slot + 1))]
        with m.Elif(self.valid):
            m.d.sync += place.eq(Mux(place == self._spec.places - 1, 0, place + 1))
