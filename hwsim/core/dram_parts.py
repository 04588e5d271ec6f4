"""DRAM parts by name: organisation and timing of one memory, and the controller that drives it.

All timings are counts of the memory clock. Sources: [D3] DRAMsim3 configurations ``DDR4_8Gb_x8_2400.ini`` and
``HBM2_8Gb_x128.ini`` (umd-memsys/DRAMsim3); [DS] DRAMSys ``JEDEC_8Gb_LPDDR4-3200_16bit.json`` (tukl-msd/DRAMSys).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from hwsim.core.errors import SpecError, UnknownName

MAPPING_FIELDS = ("ro", "ra", "ba", "bg", "co", "ch")
# Bank groups just above the burst, so that a stream takes turns among them (tCCD_S, not tCCD_L); then the channel.
DEFAULT_MAPPING = "rorabacochbg"
MAX_RANKS, MAX_BANK_QUEUE = 4, 64

# The order of timing_vector; the kernels name the same places.
VECTOR_FIELDS = (
    *("channels", "ranks", "groups", "group_banks"),
    *("ch_shift", "ch_mask", "ra_shift", "ra_mask", "bg_shift", "bg_mask", "ba_shift", "ba_mask"),
    *("ro_shift", "ro_mask"),
    *("read_done", "write_done"),
    *("rr_l", "rr_s", "rr_o", "rw", "rw_o", "wr_l", "wr_s", "wr_o", "ww_l", "ww_s", "ww_o"),
    *("rcd", "rp", "ras", "rc", "rrd_l", "rrd_s", "faw", "rtp", "wtp", "refi", "rfc"),
    *("read_queue", "write_queue", "bank_queue", "write_low", "hit_cap"),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DramController:
    """Queue sizes of the controller, per channel, and its two thresholds; one policy for every part.

    The values are those of DRAMsim3's controller (``trans_queue_size``, ``cmd_queue_size`` of its configurations; the
    thresholds 8 and 4 stand in its ``controller.cc`` and ``command_queue.cc``).
    """

    read_queue: int = 32
    write_queue: int = 32
    bank_queue: int = 8
    write_low: int = 8
    hit_cap: int = 4

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            low, high = (0, 1 << 30) if field.name == "write_low" else (1, 1 << 30)
            if field.name == "bank_queue":
                high = MAX_BANK_QUEUE
            if not isinstance(value, int) or not low <= value <= high:
                raise SpecError(f"dram.controller.{field.name}", value, f"an integer from {low} to {high}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DramPart:
    """One DRAM memory: ``channels`` independent channels of ``ranks`` ranks of ``banks`` banks.

    Parameters
    ----------
    name : str
    tck_ps : int
        Memory clock period in picoseconds.
    burst_bytes, burst_cycles : int
        Bytes of one column access and the clocks that it holds the data bus.
    channels, ranks, banks, bank_groups, rows, row_bytes : int
        Organisation; ``banks`` counts all banks of a rank, ``row_bytes`` and ``rows`` are per bank and channel. Each
        is a power of two. Addresses beyond the capacity wrap.
    tCL, tCWL : int
        Column command to the first beat, read and write.
    tRTW : int
        Read command to write command of the same rank; ``tWTR`` and ``tWR`` count from the end of the written burst.
    tRTRS : int
        Gap between bursts of different ranks.
    mapping : str
        Address fields from the highest to the lowest bit, two letters each: ``ro`` row, ``ra`` rank, ``ba`` bank, ``bg``
        bank group, ``co`` column, ``ch`` channel. The burst's own bytes stand below them.
    sources : tuple of str
        Where the figures come from.

    Raises
    ------
    SpecError
    """

    name: str
    tck_ps: int
    burst_bytes: int
    burst_cycles: int
    channels: int
    ranks: int
    banks: int
    bank_groups: int
    rows: int
    row_bytes: int
    tCL: int
    tCWL: int
    tRCD: int
    tRP: int
    tRAS: int
    tRC: int
    tRRD_S: int
    tRRD_L: int
    tFAW: int
    tCCD_S: int
    tCCD_L: int
    tWTR_S: int
    tWTR_L: int
    tRTW: int
    tWR: int
    tRTP: int
    tRTRS: int
    tREFI: int
    tRFC: int
    mapping: str = DEFAULT_MAPPING
    controller: DramController = DramController()
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in ("name", "mapping", "controller", "sources"):
                continue
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 1 << 32:
                raise SpecError(f"dram.{field.name}", value, "a positive integer below 2**32")
        for name in ("burst_bytes", "channels", "ranks", "banks", "bank_groups", "rows", "row_bytes"):
            value = getattr(self, name)
            if value & (value - 1):
                raise SpecError(f"dram.{name}", value, "a power of two")
        _check_relations(self)

    @property
    def peak_bits_per_second(self) -> int:
        """Bits per second of the data buses of all channels."""
        return self.channels * self.burst_bytes * 8 * 10**12 // (self.burst_cycles * self.tck_ps)

    @property
    def clock_hz(self) -> float:
        """Frequency of the memory clock."""
        return 1e12 / self.tck_ps

    @property
    def capacity_bytes(self) -> int:
        """Bytes of all channels."""
        return self.channels * self.ranks * self.banks * self.rows * self.row_bytes


def _check_relations(part: DramPart) -> None:
    if part.bank_groups > part.banks:
        raise SpecError("dram.bank_groups", part.bank_groups, f"at most banks = {part.banks}")
    if part.ranks > MAX_RANKS:
        raise SpecError("dram.ranks", part.ranks, f"at most {MAX_RANKS}")
    if part.row_bytes < part.burst_bytes:
        raise SpecError("dram.row_bytes", part.row_bytes, f"at least burst_bytes = {part.burst_bytes}")
    for short, long in (("tRRD_S", "tRRD_L"), ("tCCD_S", "tCCD_L"), ("tWTR_S", "tWTR_L"), ("tRAS", "tRC")):
        if getattr(part, long) < getattr(part, short):
            raise SpecError(f"dram.{long}", getattr(part, long), f"at least {short} = {getattr(part, short)}")
    busy = part.tRFC + part.tRC + part.tCWL + part.burst_cycles + part.tWR + part.banks * part.ranks
    if part.tREFI <= busy:
        raise SpecError("dram.tREFI", part.tREFI, f"more than {busy}, the longest time that one refresh takes")
    mapping = part.mapping
    fields = [mapping[i : i + 2] for i in range(0, len(mapping), 2)]
    if sorted(fields) != sorted(MAPPING_FIELDS):
        raise SpecError(
            "dram.mapping", mapping, "each of ro ra ba bg co ch once, highest first", f"e.g. {DEFAULT_MAPPING}"
        )


# tRTW = tCL + burst + gap - tCWL: the written burst begins when the bus is free and turned round.
PARTS = (
    DramPart(
        name="lpddr4-3200",  # one x16 channel, 8 Gb die of two channels
        tck_ps=625,
        burst_bytes=32,  # 16 beats of 16 bits [DS]
        burst_cycles=8,
        channels=1,
        ranks=1,
        banks=8,
        bank_groups=1,
        rows=32768,  # 4 Gb per channel / (8 banks * 2048 B) [DS]
        row_bytes=2048,
        tCL=34,  # RL 28 + the latest tDQSCK, 6 [DS]
        tCWL=14,  # [DS]
        tRCD=29,
        tRP=29,  # per bank; 34 for all banks at once, which the controller does not use [DS]
        tRAS=68,
        tRC=97,
        tRRD_S=16,
        tRRD_L=16,
        tFAW=64,
        tCCD_S=8,
        tCCD_L=8,
        tWTR_S=16,
        tWTR_L=16,
        tRTW=30,  # 34 + 8 + 2 - 14; the gap of 2 is the write preamble, unverified
        tWR=29,
        tRTP=12,
        tRTRS=2,  # unverified; of no effect with one rank
        tREFI=6246,
        tRFC=448,  # all banks [DS]
        sources=("DRAMSys JEDEC_8Gb_LPDDR4-3200_16bit.json",),
    ),
    DramPart(
        name="ddr4-2400",  # one 64-bit channel of two ranks of eight 8 Gb x8 devices, 16 GiB
        tck_ps=833,  # 1 / 1200 MHz
        burst_bytes=64,  # 8 beats of 64 bits [D3]
        burst_cycles=4,
        channels=1,
        ranks=2,  # channel_size 16384 MB / 8192 MB per rank [D3]
        banks=16,
        bank_groups=4,
        rows=65536,
        row_bytes=8192,
        tCL=17,  # this and all below [D3]
        tCWL=12,
        tRCD=17,
        tRP=17,
        tRAS=39,
        tRC=56,
        tRRD_S=4,
        tRRD_L=6,
        tFAW=26,
        tCCD_S=4,
        tCCD_L=6,
        tWTR_S=3,
        tWTR_L=9,
        tRTW=10,  # 17 + 4 + 1 - 12
        tWR=18,
        tRTP=9,
        tRTRS=1,
        tREFI=9360,
        tRFC=420,
        sources=("DRAMsim3 DDR4_8Gb_x8_2400.ini",),
    ),
    DramPart(
        name="hbm2",  # one stack of eight 128-bit channels (legacy mode), 8 GiB
        tck_ps=1000,
        burst_bytes=64,  # 4 beats of 128 bits [D3]
        burst_cycles=2,
        channels=8,
        ranks=1,
        banks=16,
        bank_groups=4,
        rows=32768,
        row_bytes=2048,
        tCL=14,  # this and all below [D3]
        tCWL=4,
        tRCD=14,
        tRP=14,
        tRAS=34,
        tRC=48,
        tRRD_S=4,
        tRRD_L=6,
        tFAW=30,
        tCCD_S=1,  # the burst of 2 clocks prevails
        tCCD_L=2,
        tWTR_S=6,
        tWTR_L=8,
        tRTW=14,  # 14 + 2 + 2 - 4
        tWR=16,
        tRTP=6,  # the longer of tRTP_S 4 and tRTP_L 6
        tRTRS=2,  # [D3] has no entry, its default; of no effect with one rank but in tRTW
        tREFI=3900,
        tRFC=260,
        sources=("DRAMsim3 HBM2_8Gb_x128.ini",),
    ),
)


def find_part(name: str) -> DramPart:
    """Return the preset part ``name``.

    Raises
    ------
    UnknownName
    """
    for part in PARTS:
        if part.name == name:
            return part
    raise UnknownName("DRAM part", name, [part.name for part in PARTS])


def locate_fields(part: DramPart) -> dict[str, tuple[int, int]]:
    """Return shift and mask of each address field of ``part.mapping``."""
    sizes = {
        "ch": part.channels,
        "ra": part.ranks,
        "bg": part.bank_groups,
        "ba": part.banks // part.bank_groups,
        "co": part.row_bytes // part.burst_bytes,
        "ro": part.rows,
    }
    shift = part.burst_bytes.bit_length() - 1
    places = {}
    for i in range(len(part.mapping) - 2, -2, -2):
        field = part.mapping[i : i + 2]
        places[field] = (shift, sizes[field] - 1)
        shift += sizes[field].bit_length() - 1
    return places


def timing_vector(part: DramPart) -> np.ndarray:
    """Return what the kernels know of a part: int64, one entry per name of `VECTOR_FIELDS`.

    Gaps are between commands: ``rw`` read to write, ``wr`` write to read and so on; ``_l`` in the same bank group, ``_s``
    in another one of the rank, ``_o`` in another rank; ``wtp`` write to precharge.
    """
    burst = part.burst_cycles
    places = locate_fields(part)
    ccd_l, ccd_s = max(burst, part.tCCD_L), max(burst, part.tCCD_S)
    written = part.tCWL + burst
    values = {
        "channels": part.channels,
        "ranks": part.ranks,
        "groups": part.bank_groups,
        "group_banks": part.banks // part.bank_groups,
        "read_done": part.tCL + burst,
        "write_done": written,
        "rr_l": ccd_l,
        "rr_s": ccd_s,
        "rr_o": burst + part.tRTRS,
        "ww_l": ccd_l,
        "ww_s": ccd_s,
        "ww_o": burst,
        "rw": part.tRTW,
        "rw_o": part.tCL + burst + part.tRTRS - part.tCWL,
        "wr_l": written + part.tWTR_L,
        "wr_s": written + part.tWTR_S,
        "wr_o": max(1, written + part.tRTRS - part.tCL),
        "rcd": part.tRCD,
        "rp": part.tRP,
        "ras": part.tRAS,
        "rc": part.tRC,
        "rrd_l": part.tRRD_L,
        "rrd_s": part.tRRD_S,
        "faw": part.tFAW,
        "rtp": part.tRTP,
        "wtp": written + part.tWR,
        "refi": part.tREFI,
        "rfc": part.tRFC,
        **{field.name: getattr(part.controller, field.name) for field in dataclasses.fields(part.controller)},
    }
    for field in ("ch", "ra", "bg", "ba", "ro"):
        values[f"{field}_shift"], values[f"{field}_mask"] = places[field]
    return np.array([values[name] for name in VECTOR_FIELDS], dtype=np.int64)
