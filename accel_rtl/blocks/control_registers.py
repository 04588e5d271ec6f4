"""Control and status registers behind AXI4-Lite, and the register map as data: header and Markdown are written from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel_rtl.blocks.counters import COUNTERS
from hwsim.core.check import require_choice, require_int
from hwsim.core.errors import SpecError

DATA_BITS = 32
OKAY, SLVERR = 0, 2
"""Responses: AMBA AXI specification (ARM IHI 0022), table of RRESP and BRESP encodings."""
ACCESS = ("rw", "ro", "pulse", "constant")
IDENTITY = 0x4857_5349
"""``HWSI`` in ASCII."""
VERSION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterField:
    """Some bits of a register.

    Parameters
    ----------
    name : str
        Also the name of the component's port.
    first_bit, width_bits : int
        Where they lie.
    access : str
        ``rw``: host writes, hardware reads. ``ro``: hardware gives, host reads. ``pulse``: a one that is written is a pulse to the
        hardware; reads as 0. ``constant``: reads as ``value``.
    value : int
        After reset, or the constant.
    meaning : str
        One line.
    """

    name: str
    first_bit: int = 0
    width_bits: int = DATA_BITS
    access: str = "ro"
    value: int = 0
    meaning: str = ""

    def __post_init__(self) -> None:
        require_int(f"{self.name}.first_bit", self.first_bit, 0, DATA_BITS - 1)
        require_int(f"{self.name}.width_bits", self.width_bits, 1, DATA_BITS - self.first_bit)
        require_choice(f"{self.name}.access", self.access, ACCESS)
        require_int(f"{self.name}.value", self.value, 0, (1 << self.width_bits) - 1)

    @property
    def mask(self) -> int:
        """Its bits in the register."""
        return ((1 << self.width_bits) - 1) << self.first_bit


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """A word of 32 bits at a byte offset."""

    name: str
    offset: int
    fields: tuple[RegisterField, ...]

    def __post_init__(self) -> None:
        require_int(f"{self.name}.offset", self.offset, 0)
        if self.offset % (DATA_BITS // 8):
            raise SpecError(f"{self.name}.offset", self.offset, f"a multiple of {DATA_BITS // 8}")
        seen = 0
        for one in self.fields:
            if seen & one.mask:
                raise SpecError(f"{self.name}.{one.name}", one.first_bit, "bits that no other field has")
            seen |= one.mask


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterMap:
    """All registers of an accelerator.

    Parameters
    ----------
    name : str
        Prefix of the names in the header.
    registers : tuple of Register
        In order of their offsets.
    """

    name: str
    registers: tuple[Register, ...]

    def __post_init__(self) -> None:
        offsets = [register.offset for register in self.registers]
        if offsets != sorted(set(offsets)):
            raise SpecError(f"{self.name}.registers", offsets, "different offsets in rising order")
        names = [one.name for one in self.list_fields()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or len({register.name for register in self.registers}) < len(self.registers):
            raise SpecError(f"{self.name}.registers", twice, "no name twice")

    @property
    def address_bits(self) -> int:
        """Width of the address port."""
        return max(self.registers[-1].offset.bit_length(), 3)

    def list_fields(self) -> tuple[RegisterField, ...]:
        """Return every field."""
        return tuple(one for register in self.registers for one in register.fields)

    def find_offset(self, name: str) -> int:
        """Return the offset of a register by its name."""
        for register in self.registers:
            if register.name == name:
                return register.offset
        raise SpecError("register", name, "one of " + ", ".join(r.name for r in self.registers))

    def write_header(self) -> str:
        """Return a C header with offsets, masks, shifts and constants."""
        prefix = self.name.upper()
        lines = [f"#ifndef {prefix}_REGISTERS_H", f"#define {prefix}_REGISTERS_H", ""]
        for register in self.registers:
            head = f"{prefix}_{register.name.upper()}"
            lines.append(f"#define {head}_OFFSET 0x{register.offset:02X}u")
            for one in register.fields:
                if one.mask != (1 << DATA_BITS) - 1:
                    lines.append(f"#define {head}_{one.name.upper()}_MASK 0x{one.mask:08X}u")
                    lines.append(f"#define {head}_{one.name.upper()}_SHIFT {one.first_bit}")
                if one.access == "constant":
                    lines.append(f"#define {head}_{one.name.upper()}_VALUE 0x{one.value:X}u")
        return "\n".join([*lines, "", "#endif", ""])

    def write_markdown(self) -> str:
        """Return a Markdown table of all fields."""
        rows = ["| offset | register | bits | field | access | reset | meaning |", "|---|---|---|---|---|---|---|"]
        for register in self.registers:
            for one in register.fields:
                last = one.first_bit + one.width_bits - 1
                bits = f"{last}:{one.first_bit}" if last > one.first_bit else str(last)
                reset = f"0x{one.value:x}" if one.access in ("rw", "constant") else "-"
                row = (f"0x{register.offset:02x}", register.name, bits, one.name, one.access, reset, one.meaning)
                rows.append("| " + " | ".join(row) + " |")
        return "\n".join(rows) + "\n"


def describe_accelerator_map() -> RegisterMap:
    """Return the map of every generated accelerator; counters are pairs of words, to be read while it is idle."""
    whole = [
        ("identity", RegisterField(name="identity", access="constant", value=IDENTITY, meaning="the bytes ISWH")),
        ("version", RegisterField(name="version", access="constant", value=VERSION, meaning="of this map")),
    ]
    registers = [Register(name=name, offset=4 * k, fields=(one,)) for k, (name, one) in enumerate(whole)]
    start = RegisterField(name="start", width_bits=1, access="pulse", meaning="1 runs the program; ignored while busy")
    status = (
        RegisterField(name="busy", width_bits=1, meaning="a program runs"),
        RegisterField(name="done", first_bit=1, width_bits=1, meaning="the last program is through"),
        RegisterField(
            name="error",
            first_bit=2,
            width_bits=1,
            meaning="tokens or words of the program are wrong, or the memory answered with an error",
        ),
    )
    registers += [
        Register(name="control", offset=0x08, fields=(start,)),
        Register(name="status", offset=0x0C, fields=status),
    ]
    for offset, name, meaning in (
        (0x10, "program_address_low", "byte address of the first word, the header: a multiple of 64; low half"),
        (0x14, "program_address_high", "high half"),
        (0x18, "parameter_words", "words of 512 bits before the first instruction: header and channels"),
        (0x1C, "program_words", "words behind them: instructions and their descriptors"),
    ):
        one = RegisterField(name=name, access="rw", meaning=meaning)
        registers.append(Register(name=name, offset=offset, fields=(one,)))
    for k, name in enumerate(COUNTERS):
        for half, part in enumerate(("low", "high")):
            one = RegisterField(name=f"cycles_{name}_{part}", meaning=f"cycles: {name}, {part} half")
            registers.append(Register(name=one.name, offset=0x20 + 8 * k + 4 * half, fields=(one,)))
    return RegisterMap(name="hwsim", registers=tuple(registers))


def describe_axi_lite(address_bits: int) -> wiring.Signature:
    """Return AXI4-Lite as its master sees it (a slave has it as ``In``); names of members as in the specification."""
    members: dict[str, wiring.Member] = {}
    for channel in ("aw", "ar"):
        members |= {f"{channel}addr": Out(address_bits), f"{channel}prot": Out(3)}
        members |= {f"{channel}valid": Out(1), f"{channel}ready": In(1)}
    members |= {"wdata": Out(DATA_BITS), "wstrb": Out(DATA_BITS // 8), "wvalid": Out(1), "wready": In(1)}
    members |= {"bresp": In(2), "bvalid": In(1), "bready": Out(1)}
    members |= {"rdata": In(DATA_BITS), "rresp": In(2), "rvalid": In(1), "rready": Out(1)}
    return wiring.Signature(members)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRegisters:
    """An AXI4-Lite slave of a register map.

    Ports
        ``s_axi``: AXI4-Lite, 32 bits. A port for each field but constants: ``rw`` and ``pulse`` out, ``ro`` in.
    Latency
        A write reaches its field 2 cycles after the later one of its AW and W was accepted, with BVALID; a pulse lasts that
        one cycle. RVALID comes in the cycle behind AR; the data are those of the AR cycle.
    Throughput
        A write in 3 cycles, a read in 2. Every output is a register: no path from an input to an output.
    Reset
        ``rw`` fields have their ``value``, nothing is pending, ready signals high.
    Stall
        BVALID and RVALID hold until they are accepted; one AW, W and AR each is taken meanwhile at most. AW and W may come in
        any order. WSTRB is obeyed byte by byte. Where no register is, SLVERR answers; reads give 0.
    """

    map: RegisterMap = field(default_factory=describe_accelerator_map)

    def compute(self, accesses: Iterable[tuple[str, int, int, int]], given: dict[str, int]) -> list[tuple[int, int]]:
        """Return (response, data) of each access, one after the other.

        Parameters
        ----------
        accesses : iterable of (str, int, int, int)
            ``read`` or ``write``, byte address, data, strobes.
        given : dict
            Value of each ``ro`` field; 0 where it has none.
        """
        kept = {one.name: one.value for one in self.map.list_fields() if one.access in ("rw", "constant")}
        by_offset = {register.offset: register for register in self.map.registers}
        answers = []
        for kind, address, data, strobes in accesses:
            register = by_offset.get(address // 4 * 4)
            if register is None:
                answers.append((SLVERR, 0))
                continue
            word = 0
            lanes = sum(0xFF << 8 * k for k in range(4) if strobes >> k & 1)
            for one in register.fields:
                value = kept.get(one.name, given.get(one.name, 0) if one.access == "ro" else 0) << one.first_bit
                word |= value
                if kind == "write" and one.access == "rw":
                    kept[one.name] = ((value & ~lanes | data & lanes) & one.mask) >> one.first_bit
            answers.append((OKAY, word if kind == "read" else 0))
        return answers

    def create(self) -> wiring.Component:
        """Return the component."""
        return ControlRegistersComponent(self)


class ControlRegistersComponent(wiring.Component):
    """See `ControlRegisters`."""

    def __init__(self, spec: ControlRegisters) -> None:
        self.spec = spec
        members = {"s_axi": In(describe_axi_lite(spec.map.address_bits))}
        for one in spec.map.list_fields():
            if one.access == "rw":
                members[one.name] = Out(one.width_bits, init=one.value)
            elif one.access != "constant":
                members[one.name] = (In if one.access == "ro" else Out)(one.width_bits)
        super().__init__(members)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        self._write(m)
        self._read(m)
        return m

    def _write(self, m: Module) -> None:
        axi = self.s_axi
        index = Signal(self.spec.map.address_bits - 2)
        data, strobes = Signal(DATA_BITS), Signal(DATA_BITS // 8)
        act = Signal()
        # ready is low from the acceptance of AW or W until the write is through
        m.d.comb += act.eq(~axi.awready & ~axi.wready & ~axi.bvalid)
        awready, wready = Signal(init=1), Signal(init=1)
        m.d.comb += [axi.awready.eq(awready), axi.wready.eq(wready)]
        with m.If(axi.awvalid & awready):
            m.d.sync += [index.eq(axi.awaddr[2:]), awready.eq(0)]
        with m.If(axi.wvalid & wready):
            m.d.sync += [data.eq(axi.wdata), strobes.eq(axi.wstrb), wready.eq(0)]
        with m.If(axi.bvalid & axi.bready):
            m.d.sync += axi.bvalid.eq(0)
        for one in self.spec.map.list_fields():
            if one.access == "pulse":
                m.d.sync += getattr(self, one.name).eq(0)
        with m.If(act):
            m.d.sync += [axi.bvalid.eq(1), axi.bresp.eq(SLVERR), awready.eq(1), wready.eq(1)]
            lanes = Cat(strobe.replicate(8) for strobe in strobes)
            with m.Switch(index):
                for register in self.spec.map.registers:
                    with m.Case(register.offset // 4):
                        m.d.sync += axi.bresp.eq(OKAY)
                        for one in register.fields:
                            bits = slice(one.first_bit, one.first_bit + one.width_bits)
                            if one.access == "rw":
                                port = getattr(self, one.name)
                                m.d.sync += port.eq(port & ~lanes[bits] | data[bits] & lanes[bits])
                            elif one.access == "pulse":
                                m.d.sync += getattr(self, one.name).eq(data[bits] & lanes[bits])

    def _read(self, m: Module) -> None:
        axi = self.s_axi
        arready = Signal(init=1)
        m.d.comb += axi.arready.eq(arready)
        with m.If(axi.rvalid & axi.rready):
            m.d.sync += [axi.rvalid.eq(0), arready.eq(1)]
        # a tree of two-way multiplexers over all places, legal or not: half the logic of a switch over the legal ones
        by_index = {register.offset // 4: register for register in self.spec.map.registers}
        index = axi.araddr[2:]
        words: list[Value] = [
            Cat(self._join(by_index[k]), Const(OKAY, 2)) if k in by_index else Const(SLVERR << DATA_BITS, DATA_BITS + 2)
            for k in range(1 << len(index))
        ]
        for bit in index:
            words = [Mux(bit, high, low) for low, high in zip(words[::2], words[1::2], strict=True)]
        with m.If(axi.arvalid & arready):
            m.d.sync += [axi.rvalid.eq(1), arready.eq(0), Cat(axi.rdata, axi.rresp).eq(words[0])]

    def _join(self, register: Register) -> Value:
        word: Value = Const(0, DATA_BITS)
        for one in register.fields:
            value: Value = Const(0, 1)
            if one.access == "constant":
                value = Const(one.value, one.width_bits)
            elif one.access != "pulse":
                value = getattr(self, one.name)
            word = word | (value << one.first_bit)
        return word[:DATA_BITS]
