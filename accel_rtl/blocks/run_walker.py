"""Walks the runs of an instruction and cuts them into AXI4 bursts, one a cycle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from amaranth.hdl import Cat, Module, Mux, Signal, Value, ValueLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.blocks.axi import BEAT_BITS, CACHE, MOST_BEATS, PAGE_BYTES, drive_address
from accel_rtl.blocks.skid import SkidBuffer
from hwsim.core.check import require_int
from hwsim.core.errors import SpecError

LEVELS = "012"


class Burst(NamedTuple):
    """One burst: first byte, beats, and whether it is the first and the last of its transfer."""

    address: int
    beats: int
    first: bool
    last: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWalker:
    """A walker over count2 x count1 x count0 runs of ``run`` beats.

    Bursts never cross a multiple of `block_beats`, the smaller of 4 KiB and 256 beats: so they obey both limits of AXI4, and all
    but the first burst of a run begin at a block.

    Parameters
    ----------
    beat_bits : int
        Width of the data bus, 8 to 1024, a power of two.
    address_bits : int
        Width of a byte address.
    beat_count_bits, run_count_bits : int
        Widths of the counters of beats (of a run, of a transfer) and of runs (of each level).
    """

    beat_bits: int
    address_bits: int = 32
    beat_count_bits: int = 24
    run_count_bits: int = 24

    def __post_init__(self) -> None:
        if self.beat_bits not in BEAT_BITS:
            raise SpecError("run_walker.beat_bits", self.beat_bits, f"one of {', '.join(map(str, BEAT_BITS))}")
        require_int("run_walker.address_bits", self.address_bits, 13, 64)
        require_int("run_walker.beat_count_bits", self.beat_count_bits, 10, 32)
        require_int("run_walker.run_count_bits", self.run_count_bits, 1, 32)

    @property
    def beat_shift(self) -> int:
        """Bits of a byte address that lie inside a beat."""
        return (self.beat_bits // 8).bit_length() - 1

    @property
    def beat_address_bits(self) -> int:
        """Width of an address in beats."""
        return self.address_bits - self.beat_shift

    @property
    def block_beats(self) -> int:
        """Beats between two boundaries that no burst crosses."""
        return min(PAGE_BYTES // (self.beat_bits // 8), MOST_BEATS)

    @property
    def transfer_shape(self) -> data.StructLayout:
        """What a transfer is: ``address``, ``stride0..2``, ``run`` and ``beats`` (of all runs) in beats, ``count0..2`` in runs."""
        fields: dict[str, Any] = {"address": self.beat_address_bits, "run": self.beat_count_bits}
        for level in LEVELS:
            fields |= {f"count{level}": self.run_count_bits, f"stride{level}": self.beat_address_bits}
        return data.StructLayout(fields | {"beats": self.beat_count_bits})

    @property
    def burst_shape(self) -> data.StructLayout:
        """What a burst is: ``address`` in beats, ``length`` in beats less one, ``first`` and ``last`` of the transfer."""
        return data.StructLayout({"address": self.beat_address_bits, "length": 8, "first": 1, "last": 1})

    def encode(self, record: Any) -> dict[str, int]:
        """Return the fields of `transfer_shape` of an instruction (a record of `hwsim.core.program.INSTRUCTION`).

        Raises
        ------
        SpecError
            The instruction moves nothing, or a field is no whole number of beats or does not fit its width.
        """
        fields = {}
        for name, source in {"beats": "bits", "address": "address", "run": "run_bits"}.items():
            fields[name] = self._count_beats(source, int(record[source]))
        for level in LEVELS:
            runs = int(record[f"count{level}"])
            stride = int(record[f"stride{level}"]) if runs > 1 else 0
            fields |= {f"count{level}": runs, f"stride{level}": self._count_beats(f"stride{level}", stride)}
        for name, value in fields.items():
            width = self.transfer_shape[name].width
            if value >> width or (value == 0 and not name.startswith(("address", "stride"))):
                raise SpecError(f"instruction.{name}", value, f"1 to {(1 << width) - 1}")
        return fields

    def assign_word(self, transfer: Any, word: Any) -> list[Any]:
        """Return the assignments of a transfer from an instruction word, whose addresses, strides and lengths are in bits."""
        shift = self.beat_bits.bit_length() - 1
        sources = {"beats": "bits", "run": "run_bits"}
        return [
            transfer[name].eq(word[sources.get(name, name)] >> (0 if name.startswith("count") else shift))
            for name, _ in self.transfer_shape
        ]

    def _count_beats(self, name: str, bits: int) -> int:
        if bits % self.beat_bits:
            raise SpecError(f"instruction.{name}", bits, f"a multiple of the beat, {self.beat_bits} bits")
        return bits // self.beat_bits

    def compute(self, transfer: Mapping[str, int]) -> list[Burst]:
        """Return the bursts of a transfer given as `encode` does, in order."""
        bursts = []
        for start in self._list_runs(transfer):
            at, end = start, start + transfer["run"]
            while at < end:
                stop = min(end, (at // self.block_beats + 1) * self.block_beats)
                bursts.append(Burst((at << self.beat_shift) % (1 << self.address_bits), stop - at, False, False))
                at = stop
        bursts[0] = bursts[0]._replace(first=True)
        bursts[-1] = bursts[-1]._replace(last=True)
        return bursts

    def _list_runs(self, transfer: Mapping[str, int]) -> Iterator[int]:
        for a in range(transfer["count2"]):
            for b in range(transfer["count1"]):
                for c in range(transfer["count0"]):
                    yield (
                        transfer["address"]
                        + a * transfer["stride2"]
                        + b * transfer["stride1"]
                        + c * transfer["stride0"]
                    )

    def create(self) -> RunWalkerComponent:
        """Return the component."""
        return RunWalkerComponent(self)


class RunWalkerComponent(wiring.Component):
    """See `RunWalker`.

    Ports
    -----
    start : in, 1
        Pulse: begin the transfer. Only while ``busy`` is low.
    transfer : in, `RunWalker.transfer_shape`
        Stands from ``start`` to the last burst; every count and ``run`` at least 1.
    bursts : out, stream of `RunWalker.burst_shape`
    busy : out, 1
        Bursts are left; equals ``bursts.valid``.

    Latency 1 cycle from ``start`` to the first burst; one burst a cycle. Stall: the burst stays. ``bursts.valid`` and the state
    behind the payload are registers; the next state depends on ``bursts.ready``. Reset: idle.
    """

    def __init__(self, spec: RunWalker) -> None:
        self._spec = spec
        super().__init__(
            {
                "start": In(1),
                "transfer": In(spec.transfer_shape),
                "bursts": Out(stream.Signature(spec.burst_shape)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spec = self._spec
        block_bits = spec.block_beats.bit_length() - 1
        at = Signal(spec.beat_address_bits)
        span = Signal(spec.beat_count_bits + 1)  # beats from the begin of this block to the end of the run, less one
        first = Signal()
        follow = [
            Signal(spec.beat_address_bits, name=f"follow{level}") for level in LEVELS
        ]  # the next run of each level
        more = [Signal(spec.run_count_bits, name=f"more{level}") for level in LEVELS]  # runs behind this one
        some = [Signal(name=f"some{level}") for level in LEVELS]  # whether there are any
        blocks = span[block_bits:]
        ends = Signal()
        last = Signal()
        out = self.bursts.payload
        m.d.comb += [
            self.bursts.valid.eq(self.busy),
            ends.eq(~blocks.any()),
            out.address.eq(at),
            out.length.eq((Mux(ends, span[:block_bits], spec.block_beats - 1) - at[:block_bits])[:block_bits]),
            out.first.eq(first),
            last.eq(ends & ~some[0] & ~some[1] & ~some[2]),
            out.last.eq(last),
        ]
        with m.If(self.start):
            m.d.sync += [self.busy.eq(1), first.eq(1)]
        with m.Elif(self.busy & self.bursts.ready):
            m.d.sync += first.eq(0)
            with m.If(~ends):
                m.d.sync += [at.eq((at[block_bits:] + 1) << block_bits), blocks.eq(blocks - 1)]
            with m.Elif(last):
                m.d.sync += self.busy.eq(0)
        base = self._step_run(m, self.busy & self.bursts.ready & ends, follow, more, some)
        with m.If(self.start | (self.busy & self.bursts.ready & ends)):
            m.d.sync += [at.eq(base), span.eq(self.transfer.run - 1 + base[:block_bits])]
        return m

    def _step_run(
        self, m: Module, ended: Value, follow: list[Signal], more: list[Signal], some: list[Signal]
    ) -> Signal:
        """Go to the first run, or to the next one of the innermost level that has one; one adder a level."""
        t = self.transfer
        base = Signal.like(follow[0])
        level = Signal(2)
        m.d.comb += [base.eq(follow[2]), level.eq(2)]
        with m.If(self.start):
            m.d.comb += [base.eq(t.address), level.eq(3)]
        with m.Elif(some[0]):
            m.d.comb += [base.eq(follow[0]), level.eq(0)]
        with m.Elif(some[1]):
            m.d.comb += [base.eq(follow[1]), level.eq(1)]
        with m.If(self.start | ended):
            for i in range(3):
                with m.If(level >= i if i else 1):
                    runs = Mux(level == i, more[i], t[f"count{i}"])
                    m.d.sync += [follow[i].eq(base + t[f"stride{i}"]), more[i].eq(runs - 1), some[i].eq(runs != 1)]
        return base


def queue_requests(
    m: Module, spec: RunWalker, burst: Any, beats: Value, axi: Any, prefix: str, cache: ValueLike = CACHE
) -> Any:
    """Put a skid buffer between bursts and an address channel of AXI.

    Parameters
    ----------
    burst : View of `RunWalker.burst_shape`
        What enters.
    beats : Value
        What AxUSER carries on the first burst of a transfer.
    axi, prefix
        The interface, and ``ar`` or ``aw``.
    cache : Value
        AxCACHE; stands for the whole transfer, until its last burst was taken from the buffer.

    Returns
    -------
    stream interface
        The buffer's input: the caller connects ``valid`` and ``ready``, the payload is connected.
    """
    entry = Cat(burst.address, burst.length, Mux(burst.first, beats, 0))
    m.submodules[f"{prefix}_skid"] = skid = SkidBuffer(width_bits=len(entry)).create()
    m.d.comb += skid.i.payload.eq(entry)
    address, rest = skid.o.payload[: spec.beat_address_bits], skid.o.payload[spec.beat_address_bits :]
    m.d.comb += drive_address(
        axi, prefix, address=address, length=rest[:8], user=rest[8:], valid=skid.o.valid, cache=cache
    )
    m.d.comb += skid.o.ready.eq(getattr(axi, f"{prefix}ready"))
    return skid.i
