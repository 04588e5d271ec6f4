"""Words of ``obuf`` as beats, in order: what a spill sends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from hwsim.core.check import require_int
from hwsim.core.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class SpillReader:
    """A reader of whole words.

    Parameters
    ----------
    columns, psum_bits : int
        Accumulators of a word and their width.
    word_bits : int
        Width of a word's place.
    beat_bits : int
        Divides a word.
    """

    columns: int
    psum_bits: int
    word_bits: int
    beat_bits: int

    def __post_init__(self) -> None:
        require_int("spill_reader.columns", self.columns, 1, 1024)
        if self.columns * self.psum_bits % self.beat_bits:
            raise SpecError("spill_reader.beat_bits", self.beat_bits, f"a divisor of {self.columns * self.psum_bits}")

    @property
    def word_beats(self) -> int:
        """Beats of a word."""
        return self.columns * self.psum_bits // self.beat_bits

    @property
    def held_words(self) -> int:
        """Words that may be asked for and not yet sent: a word's place returns two cycles behind the read, at the earliest."""
        return 3 if self.word_beats == 1 else 2

    def compute(self, words: Sequence[Sequence[int]]) -> list[int]:
        """Return the beats of words, each a sequence of accumulators, column 0 lowest."""
        beats = []
        for word in words:
            bits = sum((value & ((1 << self.psum_bits) - 1)) << k * self.psum_bits for k, value in enumerate(word))
            beats += [bits >> k * self.beat_bits & ((1 << self.beat_bits) - 1) for k in range(self.word_beats)]
        return beats

    def create(self) -> SpillReaderComponent:
        """Return the component."""
        return SpillReaderComponent(self)


class SpillReaderComponent(wiring.Component):
    """See `SpillReader`.

    Ports
    -----
    start : in, 1
        Pulse: begin. Only while nothing is left of the words before.
    words_end : in
        Words less one; taken with ``start``.
    enable, word : out
        Read of a word.
    word_data : in, signed(psum_bits) [columns]
        The word, in the cycle behind ``enable``.
    o : out, stream of beat_bits

    Latency: the first read is asked for 1, the first beat is there 3 cycles behind ``start``; then a beat a cycle. Stall: the beat
    stands, words under way wait in a FIFO of `SpillReader.held_words`; ``enable`` depends on counters alone. Reset: idle.
    """

    def __init__(self, spec: SpillReader) -> None:
        self._spec = spec
        super().__init__(
            {
                "start": In(1),
                "words_end": In(spec.word_bits),
                "enable": Out(1),
                "word": Out(spec.word_bits),
                "word_data": In(signed(spec.psum_bits)).array(spec.columns),
                "o": Out(stream.Signature(spec.beat_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spec = self._spec
        m.submodules.words = words = fifo.SyncFIFO(width=spec.columns * spec.psum_bits, depth=spec.held_words)
        reading, came, goes = Signal(), Signal(), Signal()
        end, room = Signal(spec.word_bits), Signal(range(spec.held_words + 1), init=spec.held_words)
        beat = Signal(range(max(2, spec.word_beats)))
        m.d.comb += [
            self.enable.eq(reading & (room != 0)),
            words.w_en.eq(came),
            words.w_data.eq(Cat(*self.word_data)),
            self.o.valid.eq(words.r_rdy),
            self.o.payload.eq(words.r_data.word_select(beat, spec.beat_bits)),
            goes.eq(self.o.valid & self.o.ready & (beat == spec.word_beats - 1)),
            words.r_en.eq(goes),
        ]
        m.d.sync += [came.eq(self.enable), room.eq(room - self.enable + goes)]
        with m.If(self.start):
            m.d.sync += [reading.eq(1), self.word.eq(0), end.eq(self.words_end)]
        with m.Elif(self.enable):
            m.d.sync += [self.word.eq(self.word + 1), reading.eq(self.word != end)]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += beat.eq(beat + 1)
            with m.If(goes):
                m.d.sync += beat.eq(0)
        return m
