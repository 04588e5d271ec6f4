"""An accelerator is a value: the shell, the memory, and the fields that its own architecture adds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from hwsim.core.check import require_int, require_positive
from hwsim.core.datapath import Datapath, LayerData, StoredWeights, VectorDatapath, Workload
from hwsim.core.errors import SpecError
from hwsim.core.program import SHIFT_STORE_PIPELINE_CYCLES, STORE_PIPELINE_CYCLES
from hwsim.core.shell import Memory, Shell
from hwsim.core.storage import check_codec

if TYPE_CHECKING:
    from hwsim.core.actions import AreaPart, EngineMemory
    from hwsim.core.tensors import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Arch(ABC):
    """Base of every architecture; each adds its own fields and says how a layer runs on it.

    Parameters
    ----------
    preset : str
        Name of the preset it was derived from; ``+`` behind it says that fields were overridden.
    shell, memory : Shell, Memory
        What all architectures share.
    clock_hz : float
        Clock.
    node_nm : int
        Technology node of logic and buffers.
    energy_table : str
        Name of the default energy table.
    sram_device : str
        CACTI device type of the buffers: ``itrs-lstp`` or ``itrs-hp``.
    unverified : tuple of str
        Fields of this preset that could not be checked against their source; printed in the report.
    source : str
        Where the preset's figures come from.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    operators: ClassVar[tuple[str, ...]] = ("multiply",)
    """Operators of `hwsim.core.policy` that the engine has."""
    codecs: ClassVar[tuple[str, ...]] = ("dense",)
    """Weight codecs that it reads; ``native`` is always one."""
    scales: ClassVar[tuple[str, ...]] = ("multiplier", "shift")
    """Kinds of requantization that it has, the one that ``native`` means first. A store unit with a multiplier does both."""
    mixes_channels: ClassVar[bool] = False
    """Whether the output channels of a layer may differ in bits."""

    preset: str
    shell: Shell
    memory: Memory
    clock_hz: float
    node_nm: int = 45
    energy_table: str = "horowitz45"
    sram_device: str = "itrs-lstp"
    unverified: tuple[str, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        require_positive("arch.clock_hz", self.clock_hz)
        require_int("arch.node_nm", self.node_nm, 7, 180)
        if self.sram_device not in ("itrs-lstp", "itrs-hp"):
            raise SpecError("arch.sram_device", self.sram_device, "itrs-lstp or itrs-hp")

    @property
    def needs_data(self) -> bool:
        """Whether cycles depend on the values of weights and activations."""
        return False

    @property
    def ibuf_copies(self) -> int:
        """Copies of ``ibuf`` that the design takes, all written together: lanes that read an element of their own each."""
        return 1

    def buffer_macros(self, name: str) -> int:
        """Return the memories of equal size that a scratchpad (``wbuf``, ``ibuf``, ``obuf``) is split into, each in two banks.

        Each has a port of the shell's ``<name>_port_bits``; an access reaches one. One by default.
        """
        return 1

    @property
    def computes_integers(self) -> bool:
        """Whether its Programs compute the integers of the functional model, bit for bit; not those of floating point."""
        return True

    @property
    def shifts_only(self) -> bool:
        """Whether the store and the vector unit have shifters in place of multipliers."""
        return "multiplier" not in self.scales

    @property
    def store_pipeline_cycles(self) -> int:
        """Cycles from the start of a STORE to its request to the memory, besides those of its elements."""
        return SHIFT_STORE_PIPELINE_CYCLES if self.shifts_only else STORE_PIPELINE_CYCLES

    @property
    def is_built(self) -> bool:
        """Whether it is cut as hardware is generated: one element a cycle in the vector and the store unit."""
        return self.shell.vector_lanes == self.shell.store_lanes == 1

    def check(self, workload: Workload) -> None:
        """Raise SpecError when the engine cannot run the workload: names layer, value and what would be accepted."""
        fmt, layer = workload.fmt, workload.layer
        where = f"policy for layer {layer.name}"
        for field, given, accepted in (
            ("operator", fmt.operator, ("native", *self.operators)),
            ("codec", fmt.codec, ("native", *self.codecs)),
            ("scale", fmt.scale, ("native", *self.scales)),
        ):
            if given not in accepted:
                hint = "--arch smartdeal runs decomposed weights" if given == "decomposed" else ""
                raise SpecError(f"{where}: {field}", given, f"{' or '.join(accepted[1:])} on {self.name}", hint)
        if fmt.groups > 1:
            raise SpecError(f"{where}: groups", fmt.groups, "1: the network is widened before it is run")
        if fmt.channel_bits:
            if not self.mixes_channels:
                raise SpecError(
                    f"{where}: channel_bits", fmt.channel_bits, f"one width for all channels on {self.name}"
                )
            filters = sum(count for _, count in fmt.channel_bits)
            if filters != layer.G * layer.K:
                raise SpecError(
                    f"{where}: channel_bits", f"{filters} filters", f"{layer.G * layer.K}, those of the layer"
                )
        check_codec(workload)
        self.check_mac(workload)

    @abstractmethod
    def check_mac(self, workload: Workload) -> None:
        """Raise SpecError when the engine has not the workload's bits or shape; operator, codec and scale are checked before."""

    @abstractmethod
    def bind_mac(self, workload: Workload, data: LayerData | None) -> Datapath:
        """Return the datapath of a convolution or gemm; ``data`` is there when `needs_data`."""

    @abstractmethod
    def list_area(self) -> tuple[AreaPart, ...]:
        """Return the logic of the engine, buffers left out (the shell adds those and its vector unit)."""

    def list_memories(self) -> tuple[EngineMemory, ...]:
        """Return the engine's own memories, the shell's scratchpads left out; none by default."""
        return ()

    def choose_widths(self, workload: Workload) -> tuple[int, int]:
        """Return the bits of weights and activations at which the engine computes a layer; those of its format, or wider ones."""
        return workload.fmt.w_bits, workload.fmt.a_bits

    def choose_stored_bits(self, bits: int) -> int:
        """Return the bits at which an activation is stored and moved that a policy gives ``bits`` bits; those, or wider ones."""
        return bits

    def engine_of(self, workload: Workload) -> str:
        """Return the name of the engine that runs a layer where there are several, which work on different frames at a time."""
        return ""

    def part_for(self, workload: Workload) -> Arch:
        """Return the accelerator as the engine of a layer has it: where several share the buffers, with its share of them."""
        return self

    def store_weights(self, workload: Workload, weight: Array) -> StoredWeights | None:
        """Return float weights ``[G*K, C, R, S]`` in the architecture's own codec, or None where they stay dense integers."""
        return None

    def bind(self, workload: Workload, data: LayerData | None = None) -> Datapath:
        """Return the datapath of any layer with arithmetic: the engine for MACs, the shell's vector unit for the rest.

        Its workload has activations as they are stored (`choose_stored_bits`).
        """
        given = (*workload.operand_bits, workload.out_bits)
        stored = tuple(map(self.choose_stored_bits, given))
        if stored != given:
            workload = replace(workload, operand_bits=stored[:-1], out_bits=stored[-1])
        if workload.layer.kind == "mac":
            self.check(workload)
            return self.bind_mac(workload, data)
        return VectorDatapath(workload, self.shell.vector_lanes)
