"""Fields and presets of the core with vector instructions.

A policy names at most 16 bits, so float32 is a field of the core (`Simd.number`), not a format: such a core stores and moves 32
bits for each weight and activation and multiplies in floating point, whatever bits the policy says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from hwsim.core.arch import Arch
from hwsim.core.check import require_choice, require_int, require_power_of_two
from hwsim.core.datapath import Datapath, LayerData, Workload
from hwsim.core.errors import SpecError
from hwsim.core.shell import KIB, Memory, Shell
from hwsim.core.storage import find_codec

if TYPE_CHECKING:
    from hwsim.core.actions import AreaPart, EngineMemory

NUMBERS = ("int8", "fp32")
LANE_BITS = 32
"""An accumulator; a dot-product instruction adds four products of bytes into each."""
BYTE_BITS = 8
REGISTERS = 32
"""Vector registers of AArch64."""
CODEBOOK_BITS = (1, 2, 4)
"""Indices that fill a nibble: a table of 16 bytes is looked up by nibbles."""
INSTRUCTION_BITS = 32
"""Of AArch64."""
OTHER_REGISTERS = 4
"""The least that hold no sums: words of both sides, tables (a choice of this project)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simd(Arch):
    """A core: vector pipes, a load and store unit, caches in the place of the shell's scratchpads.

    Parameters
    ----------
    number : str
        ``int8``: dot-product instructions (SDOT). ``fp32``: fused multiply-add, the reference that quantization is compared with.
    vector_bits : int
        Of a vector register.
    vector_pipes : int
        Vector instructions a cycle.
    issue : int
        Instructions a cycle of any kind.
    memory_bits : int
        Bits a cycle that loads and stores move from and to the first cache.
    accumulators : int
        Registers that hold sums; of the others, ``filters`` and pixels of a step, tables.
    filters : int
        Filters of a register tile.
    accumulate_cycles : int
        From an accumulation to the next one into the same register.
    icache_bits, l1_bits : int
        Instruction cache, first data cache; the shell's scratchpads stand for the second one.
    """

    name: ClassVar[str] = "simd"
    title: ClassVar[str] = "core with vector instructions: int8 dot product, float32, codebook look-up"
    codecs: ClassVar[tuple[str, ...]] = ("dense", "codebook")

    number: str = "int8"
    vector_bits: int = 128
    vector_pipes: int
    issue: int
    memory_bits: int
    accumulators: int = 24
    filters: int = 8
    accumulate_cycles: int
    icache_bits: int
    l1_bits: int

    def __post_init__(self) -> None:
        super(Simd, self).__post_init__()
        require_choice("simd.number", self.number, NUMBERS)
        require_int("simd.vector_bits", self.vector_bits, 64, 2048)
        require_int("simd.vector_pipes", self.vector_pipes, 1, 16)
        require_int("simd.issue", self.issue, 1, 16)
        require_int("simd.memory_bits", self.memory_bits, 8, 1 << 14)
        for field in ("vector_bits", "memory_bits"):
            require_power_of_two(f"simd.{field}", getattr(self, field))
        require_int("simd.accumulators", self.accumulators, 1, REGISTERS - OTHER_REGISTERS)
        require_int("simd.filters", self.filters, 1, self.accumulators)
        require_int("simd.accumulate_cycles", self.accumulate_cycles, 1, 16)
        require_int("simd.icache_bits", self.icache_bits, 64)
        require_int("simd.l1_bits", self.l1_bits, 64)

    @property
    def lanes(self) -> int:
        """Accumulators of a register."""
        return self.vector_bits // LANE_BITS

    @property
    def step(self) -> int:
        """Products that an instruction adds into an accumulator."""
        return LANE_BITS // BYTE_BITS if self.number == "int8" else 1

    @property
    def computes_integers(self) -> bool:
        """Whether Programs compute integers: float32 is timed and priced, its values are those of the float model."""
        return self.number != "fp32"

    def check_mac(self, workload: Workload) -> None:
        """Raise SpecError for bytes that are none; a core of floating point takes every format."""
        fmt, where = workload.fmt, f"policy for layer {workload.layer.name}"
        looks_up = find_codec(fmt) == "codebook"
        if self.number == "fp32":
            if looks_up:
                raise SpecError(
                    f"{where}: codec", fmt.codec, "dense on a core of float32", "--arch simd looks codebooks up"
                )
            return
        if fmt.a_bits != BYTE_BITS:
            raise SpecError(f"{where}: a_bits", fmt.a_bits, f"{BYTE_BITS} bits: dot products take bytes")
        if looks_up and fmt.w_bits not in CODEBOOK_BITS:
            raise SpecError(f"{where}: w_bits", fmt.w_bits, "indices of 1, 2 or 4 bits with the codec codebook")
        if not looks_up and fmt.w_bits != BYTE_BITS:
            raise SpecError(f"{where}: w_bits", fmt.w_bits, f"{BYTE_BITS} bits, or the codec codebook with 1, 2 or 4")

    def bind_mac(self, workload: Workload, data: LayerData | None) -> Datapath:
        """Return the datapath of a convolution or gemm."""
        from hwsim.archs.simd.datapath import Float32Datapath, SimdDatapath

        return (Float32Datapath if self.number == "fp32" else SimdDatapath)(workload, self)

    def choose_stored_bits(self, bits: int) -> int:
        """Return the bits of a stored activation: 32 on a core of float32, those of the policy elsewhere."""
        return LANE_BITS if self.number == "fp32" else bits

    def list_area(self) -> tuple[AreaPart, ...]:
        """Return multipliers and adders of the vector pipes, and the vector registers; fetch and decode have no figure."""
        from hwsim.core.actions import AreaPart

        lanes = self.vector_pipes * self.lanes
        file = AreaPart(component="rf", op="register", count=REGISTERS, bits=(self.vector_bits,))
        if self.number == "fp32":
            parts = (
                AreaPart(component="pipes", op="fp_mult", count=lanes, bits=(LANE_BITS,)),
                AreaPart(component="pipes", op="fp_add", count=lanes, bits=(LANE_BITS,)),
            )
        else:
            parts = (
                AreaPart(component="pipes", op="mult", count=lanes * self.step, bits=(BYTE_BITS, BYTE_BITS)),
                AreaPart(component="pipes", op="add", count=lanes * self.step, bits=(LANE_BITS,)),
            )
        return (*parts, file)

    def list_memories(self) -> tuple[EngineMemory, ...]:
        """Return the instruction cache and the first data cache."""
        from hwsim.core.actions import EngineMemory

        width = INSTRUCTION_BITS * self.issue
        return (
            EngineMemory(name="icache", capacity_bits=self.icache_bits, width_bits=width),
            EngineMemory(name="l1", capacity_bits=self.l1_bits, width_bits=self.vector_bits),
        )


GUIDE = (
    "Arm Cortex-{} Software Optimization Guide and Technical Reference Manual, from memory: {}; energies at 22 nm, the finest "
    "node that the SRAM figures reach"
)
UNVERIFIED = (
    "vector_pipes", "issue", "memory_bits", "accumulate_cycles", "icache_bits", "l1_bits", "shell.wbuf_bits", "shell.ibuf_bits",
    "shell.obuf_bits", "shell.vector_lanes", "shell.store_lanes", "memory.bits_per_cycle", "memory.latency_cycles", "clock_hz",
    "node_nm",
)  # fmt: skip
"""No guide could be read here; caches are shared out, memory and clock chosen by this project."""


def _share_out(cache_kib: int, port_bits: int, lanes: int) -> Shell:
    """Return a cache as buffers, three eighths each of weights and of inputs, a quarter of outputs."""
    side, outputs = cache_kib * KIB * 3 // 8, cache_kib * KIB // 4
    return Shell(
        wbuf_bits=side, ibuf_bits=side, obuf_bits=outputs, wbuf_port_bits=port_bits, ibuf_port_bits=port_bits,
        obuf_port_bits=port_bits, vector_lanes=lanes, store_lanes=lanes,
    )  # fmt: skip


A76 = Simd(
    preset="a76", vector_pipes=2, issue=4, memory_bits=256, accumulate_cycles=1, icache_bits=64 * KIB, l1_bits=64 * KIB,
    shell=_share_out(512, 128, 16),
    memory=Memory(bits_per_cycle=64, latency_cycles=240),
    clock_hz=2.4e9, node_nm=22,
    source=GUIDE.format("A76", "SDOT and FMLA on both vector pipes, two loads a cycle"),
    unverified=UNVERIFIED,
)  # fmt: skip
"""Two vector pipes, two loads of 128 bits a cycle, four instructions; the second-level cache of 512 KiB as buffers."""
A55 = Simd(
    preset="a55", vector_pipes=1, issue=2, memory_bits=64, accumulate_cycles=1, icache_bits=32 * KIB, l1_bits=32 * KIB,
    shell=_share_out(128, 64, 8),
    memory=Memory(bits_per_cycle=64, latency_cycles=180),
    clock_hz=1.8e9, node_nm=22,
    source=GUIDE.format("A55", "two 64-bit pipes, 64 bits loaded a cycle"),
    unverified=UNVERIFIED,
)  # fmt: skip
"""In order, two instructions a cycle; two pipes of 64 bits make one of 128, loads move 64 bits a cycle; 128 KiB behind."""


def _as_float(core: Simd, cycles: int) -> Simd:
    """Return the same core with float32 in place of bytes; ``cycles`` between accumulations."""
    return replace(core, preset=f"{core.preset}-fp32", number="fp32", accumulate_cycles=cycles)


PRESETS = {
    "a76": A76,
    "a76-fp32": _as_float(A76, 2),
    "a55": A55,
    "a55-fp32": _as_float(A55, 4),
    "small": Simd(
        preset="small", vector_pipes=1, issue=1, memory_bits=64, vector_bits=64, accumulate_cycles=1, icache_bits=4 * KIB,
        l1_bits=4 * KIB,
        shell=Shell(wbuf_bits=32 * KIB, ibuf_bits=16 * KIB, obuf_bits=32 * KIB, vector_lanes=1, store_lanes=1),
        memory=Memory(bits_per_cycle=64),
        clock_hz=100e6,
        source="choices of this project: sized for an ECP5-85K, an instruction a cycle, two lanes",
        unverified=("clock_hz",),
    ),
}  # fmt: skip
DEFAULT = "a76"
