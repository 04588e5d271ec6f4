"""The shell that every architecture shares: buffers, memory, issue. See also `hwsim.core.program`."""

from __future__ import annotations

from dataclasses import dataclass

from hwsim.core.check import require_choice, require_int
from hwsim.core.errors import SpecError

KIB = 8 * 1024
"""Bits of a kibibyte, of a mebibyte: capacities are in bits."""
MIB = 1024 * KIB
MEMORY_KINDS = ("flat", "dram")
CHANNELS = ("shared", "per-operand")
BANKS = 2
"""Banks of each scratchpad: one fills while the other is used."""
BUFFERS = ("wbuf", "ibuf", "obuf", "sbuf")
"""The scratchpads, and the store unit's staging buffer of one bank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Off-chip memory as the accelerator sees it.

    ``flat``: a transfer takes ``latency_cycles`` and then one beat of ``bits_per_cycle`` bits a cycle; on a shared channel
    the beats of loads and stores exclude each other, served in order of request. ``dram``: a bank model of a named part
    behind a port of ``bits_per_cycle`` (see `hwsim.engine.dram`).

    Parameters
    ----------
    kind : str
        ``flat`` or ``dram``.
    part : str
        Name of the DRAM part, for ``dram``.
    latency_cycles : int
        Accelerator cycles from a read request to its first beat (``flat``); for a write they are
        `hwsim.core.program.WRITE_LATENCY_CYCLES`.
    bits_per_cycle : int
        Width of the port, bits per accelerator cycle. A port wider than ``align_bits`` moves several neighbouring units in a beat;
        ``flat`` fills every beat of a transfer but its last (scattered units are packed on their way).
    channels : str
        ``shared``: one port for everything. ``per-operand``: weights, inputs and outputs have a port each.
    align_bits : int
        Every row of a stored activation plane and every weight tile starts at a multiple of it, whatever the port's width;
        0: a beat of the port.
    on_chip_bits : int
        Capacity of an on-chip SRAM in its place (``flat``): a microcontroller's own memory, priced as one macro. 0: off chip.
    """

    kind: str = "flat"
    part: str = ""
    latency_cycles: int = 32
    bits_per_cycle: int = 64
    channels: str = "shared"
    align_bits: int = 64
    on_chip_bits: int = 0

    def __post_init__(self) -> None:
        require_choice("memory.kind", self.kind, MEMORY_KINDS)
        require_choice("memory.channels", self.channels, CHANNELS)
        require_int("memory.latency_cycles", self.latency_cycles, 0, 1 << 20)
        require_int("memory.bits_per_cycle", self.bits_per_cycle, 1, 1 << 20)
        require_int("memory.align_bits", self.align_bits, 0, 1 << 20)
        require_int("memory.on_chip_bits", self.on_chip_bits, 0, 1 << 33)
        if self.kind == "dram":
            if self.on_chip_bits:
                raise SpecError("memory.on_chip_bits", self.on_chip_bits, "0 with dram")
            from hwsim.core.dram_parts import find_part

            find_part(self.part)
            if self.alignment_bits % 8:
                raise SpecError("memory.align_bits", self.alignment_bits, "a multiple of 8 with dram")

    @property
    def alignment_bits(self) -> int:
        """Alignment of rows and tiles in bits."""
        return self.align_bits or self.bits_per_cycle

    @property
    def label(self) -> str:
        """What reports print."""
        if self.kind == "dram":
            return f"dram {self.part}, {self.bits_per_cycle}-bit port"
        place = f"on-chip SRAM of {self.on_chip_bits // KIB} KiB, " if self.on_chip_bits else ""
        return f"flat, {place}{self.bits_per_cycle} bits/cycle {self.channels}, latency {self.latency_cycles}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """Scratchpads and fixed costs of the decoupled load, exec and store units.

    Parameters
    ----------
    wbuf_bits, ibuf_bits, obuf_bits : int
        Capacity of a scratchpad, both banks together.
    wbuf_port_bits, ibuf_port_bits, obuf_port_bits : int
        Width of a scratchpad word: sets the energy of an access, not its time.
    psum_bits : int
        Width of an accumulator in ``obuf``.
    stage_bits : int
        Capacity of the store unit's staging buffer ``sbuf``, one bank: a tile is requantized into it and then written to
        memory. 0: a quarter of ``obuf``, half of one bank.
    issue_cycles : int
        Cycles from an instruction's last token to its start.
    vector_lanes : int
        Elements a cycle of pooling, addition and other elementwise work.
    store_lanes : int
        Elements a cycle that the store unit requantizes.
    """

    wbuf_bits: int
    ibuf_bits: int
    obuf_bits: int
    wbuf_port_bits: int = 64
    ibuf_port_bits: int = 64
    obuf_port_bits: int = 64
    psum_bits: int = 32
    stage_bits: int = 0
    issue_cycles: int = 2
    vector_lanes: int = 16
    store_lanes: int = 16

    def __post_init__(self) -> None:
        for field in ("wbuf_bits", "ibuf_bits", "obuf_bits"):
            require_int(f"shell.{field}", getattr(self, field), 64)
        for field in ("wbuf_port_bits", "ibuf_port_bits", "obuf_port_bits"):
            require_int(f"shell.{field}", getattr(self, field), 1, 1 << 16)
        require_int("shell.psum_bits", self.psum_bits, 8, 64)
        require_int("shell.stage_bits", self.stage_bits, 0)
        require_int("shell.issue_cycles", self.issue_cycles, 0, 1 << 10)
        require_int("shell.vector_lanes", self.vector_lanes, 1, 1 << 16)
        require_int("shell.store_lanes", self.store_lanes, 1, 1 << 16)

    @property
    def staging_bits(self) -> int:
        """Capacity of the store unit's staging buffer."""
        return self.stage_bits or max(1, self.obuf_bits // 4)

    def bank_bits(self, buffer: str) -> int:
        """Capacity of one bank of ``wbuf``, ``ibuf`` or ``obuf``, of ``sbuf`` as a whole."""
        if buffer == "sbuf":
            return self.staging_bits
        return int(getattr(self, f"{buffer}_bits")) // BANKS
