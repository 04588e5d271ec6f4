"""Order and time of the folds of a tile on a systolic array."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwsim.core.check import require_choice, require_int

FOLD_CONTROL = data.StructLayout(
    {
        "begin": 1,  # first cycle of a fold
        "stream": 1,  # an element of the stream is due
        "stream_end": 1,  # its last
        "fill": 1,  # an operand that stays is due (the first R_a cycles)
        "tile_first": 1,  # first fold of the tile
        "group_first": 1,  # first fold of a group
        "row_first": 1,  # first row fold of a column fold
        "row_last": 1,  # last row fold of a column fold
        "col_last": 1,  # last column fold of a group
        "set": 1,  # alternates from fold to fold
    }
)
"""What happens in a cycle; all but the first four hold through a fold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldSequencer:
    """Groups outermost, column folds, row folds innermost.

    Parameters
    ----------
    rows, cols : int
        The array.
    stays : bool
        An operand stays (``ws``, ``is``): filling takes ``rows`` cycles before the stream.
    overlap : str
        ``none``: a fold enters when the one before it has left; ``skewed``: right behind it.
    count_bits : int
        Width of every count.
    """

    rows: int
    cols: int
    stays: bool = False
    overlap: str = "none"
    count_bits: int = 16

    def __post_init__(self) -> None:
        require_int("fold_sequencer.rows", self.rows, 1, 4096)
        require_int("fold_sequencer.cols", self.cols, 1, 4096)
        require_choice("fold_sequencer.overlap", self.overlap, ("none", "skewed"))
        require_int("fold_sequencer.count_bits", self.count_bits, 1, 32)

    @property
    def skew(self) -> int:
        """Cycles of a fold beyond its stream."""
        return (2 * self.rows if self.stays else self.rows) + self.cols - 2

    @property
    def least_cycles(self) -> int:
        """Least cycles from the begin of a fold to that of the next."""
        return self.count_cycles(1, False)

    @property
    def layout(self) -> data.StructLayout:
        """Of a tile: each count less one."""
        return data.StructLayout(dict.fromkeys(("group_end", "col_end", "row_end", "stream_end"), self.count_bits))

    def count_cycles(self, stream: int, last: bool) -> int:
        """Return the cycles of a fold, of the last one of its tile or another."""
        if last or self.overlap == "none":
            return stream + self.skew
        return max(stream, self.rows)

    def compute(self, groups: int, col_folds: int, row_folds: int, stream: int) -> Iterator[dict[str, int]]:
        """Yield ``FOLD_CONTROL`` for each busy cycle of a tile; ``set`` counts from the tile's first fold."""
        fold = 0
        for group in range(groups):
            for col in range(col_folds):
                for row in range(row_folds):
                    last = group == groups - 1 and col == col_folds - 1 and row == row_folds - 1
                    for phase in range(self.count_cycles(stream, last)):
                        yield {
                            "begin": int(phase == 0),
                            "stream": int(phase < stream),
                            "stream_end": int(phase == stream - 1),
                            "fill": int(phase < self.rows),
                            "tile_first": int(fold == 0),
                            "group_first": int(col == row == 0),
                            "row_first": int(row == 0),
                            "row_last": int(row == row_folds - 1),
                            "col_last": int(col == col_folds - 1),
                            "set": fold % 2,
                        }
                    fold += 1

    def create(self) -> FoldSequencerUnit:
        """Return the hardware."""
        return FoldSequencerUnit(self)


class FoldSequencerUnit(wiring.Component):
    """Order and time of folds.

    Latency: the control of a tile's cycle c is there c + 1 cycles after its ``start``. ``done`` is high in the tile's last busy
    cycle (in that of ``start`` itself if it takes one cycle), and the next ``start`` may come in the cycle after it. Reset: idle.
    There is no stall.

    Members
    -------
    start : In
        First busy cycle of a tile.
    tile : In
        `FoldSequencer.layout`, from ``start`` to ``done``.
    control : Out
        ``FOLD_CONTROL``, registered; nothing begins and nothing is due while idle.
    done : Out
    """

    def __init__(self, spec: FoldSequencer) -> None:
        self.spec = spec
        super().__init__({"start": In(1), "tile": In(spec.layout), "control": Out(FOLD_CONTROL), "done": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """Build counters and their comparisons."""
        m, spec, tile, control = Module(), self.spec, self.tile, self.control
        running, parity = Signal(), Signal()
        phase = Signal(spec.count_bits + 1)
        # counters of the cycle: those of the registers, or zero as a tile starts
        at_phase = Signal.like(phase)
        counts = {name: Signal(spec.count_bits, name=name) for name in ("row", "col", "group")}
        at = {name: Signal(spec.count_bits, name=f"at_{name}") for name in counts}
        m.d.comb += at_phase.eq(Mux(self.start, 0, phase))
        m.d.comb += [at[name].eq(Mux(self.start, 0, counts[name])) for name in counts]
        ends = {name: Signal(name=f"{name}_ends") for name in counts}
        m.d.comb += [ends[name].eq(at[name] == tile[f"{name}_end"]) for name in counts]
        active, last, fold_ends = Signal(), Signal(), Signal()
        final = tile.stream_end + spec.skew
        m.d.comb += [active.eq(self.start | running), last.eq(ends["row"] & ends["col"] & ends["group"])]
        if spec.overlap == "none":
            m.d.comb += fold_ends.eq(at_phase == final)
        else:
            least = Mux(tile.stream_end > spec.rows - 1, tile.stream_end, spec.rows - 1)
            m.d.comb += fold_ends.eq(at_phase == Mux(last, final, least))
        if spec.skew:  # the end is seen a cycle ahead, so that what follows begins with a register
            ended = Signal()
            m.d.sync += ended.eq(active & last & (at_phase == tile.stream_end + (spec.skew - 1)))
            m.d.comb += self.done.eq(ended)
        else:
            m.d.comb += self.done.eq(active & fold_ends & last)
        m.d.sync += [running.eq(active & ~self.done), phase.eq(Mux(fold_ends, 0, at_phase + 1))]
        m.d.sync += [counts[name].eq(at[name]) for name in counts]
        with m.If(active & fold_ends):
            m.d.sync += [parity.eq(~parity), counts["row"].eq(Mux(ends["row"], 0, at["row"] + 1))]
            with m.If(ends["row"]):
                m.d.sync += counts["col"].eq(Mux(ends["col"], 0, at["col"] + 1))
                with m.If(ends["col"]):
                    m.d.sync += counts["group"].eq(at["group"] + 1)
        first = {name: at[name] == 0 for name in at}
        m.d.sync += [
            control.begin.eq(active & (at_phase == 0)),
            control.stream.eq(active & (at_phase <= tile.stream_end)),
            control.stream_end.eq(active & (at_phase == tile.stream_end)),
            control.fill.eq(active & (at_phase < spec.rows)),
            control.tile_first.eq(first["row"] & first["col"] & first["group"]),
            control.group_first.eq(first["row"] & first["col"]),
            control.row_first.eq(first["row"]),
            control.row_last.eq(ends["row"]),
            control.col_last.eq(ends["col"]),
            control.set.eq(parity),
        ]
        return m
