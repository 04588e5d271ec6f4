"""Energy and area of an accelerator's layers, from its own energy table."""

from __future__ import annotations

from dataclasses import dataclass

from energy_models import (
    BufferSpec,
    DramEnergy,
    EnergyTable,
    PricedActions,
    dram_energy,
    load_table,
    on_chip_memory,
    price_actions,
    price_area,
    rescale_table,
)
from hwsim.core.actions import Action, AreaPart, EnergyTerm
from hwsim.core.arch import Arch
from hwsim.core.datapath import Datapath
from hwsim.core.mapping import Mapping
from hwsim.core.report import AreaItem
from hwsim.core.shell import BANKS, BUFFERS
from hwsim.core.stats import LayerStats
from hwsim.pipeline.layer import MULTIPLIER_BITS, count_write_back
from mappers.objective import Objective

STORAGE = ("dram", *BUFFERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What things cost on one accelerator.

    Parameters
    ----------
    arch : Arch
        The accelerator.
    table : EnergyTable
        Its energy table, at its node.
    dram : DramEnergy or None
        Its DRAM part, or its memory on the same chip; None for flat memory, priced by the table.
    """

    arch: Arch
    table: EnergyTable
    dram: DramEnergy | None

    @property
    def buffers(self) -> dict[str, BufferSpec]:
        """The scratchpads by name, the store unit's staging buffer (its word is a beat of the memory), the engine's memories.

        A scratchpad's banks are those of all macros that it is split into.
        """
        shell = self.arch.shell
        scratchpads = {
            name: BufferSpec(
                capacity_bits=getattr(shell, f"{name}_bits"),
                width_bits=getattr(shell, f"{name}_port_bits"),
                banks=BANKS * self.arch.buffer_macros(name),
                copies=self.arch.ibuf_copies if name == "ibuf" else 1,
            )
            for name in ("wbuf", "ibuf", "obuf")
        }
        staging = BufferSpec(capacity_bits=shell.staging_bits, width_bits=self.arch.memory.bits_per_cycle)
        own = {
            memory.name: BufferSpec(
                capacity_bits=memory.capacity_bits, width_bits=memory.width_bits, banks=memory.macros, ports="1r1w"
            )
            for memory in self.arch.list_memories()
        }
        return scratchpads | {"sbuf": staging} | own

    def price_layer(self, stats: LayerStats) -> tuple[tuple[EnergyTerm, ...], tuple[str, ...]]:
        """Return the energy of a layer term by term, and what could not be priced."""
        priced = self._price(stats.actions, stats.cycles)
        return priced.terms, priced.unknowns

    def price_area(self) -> tuple[AreaItem, ...]:
        """Return the area part by part: engine, vector unit, requantizers, buffers, a memory on the chip."""
        shell, memory, buffers = self.arch.shell, self.arch.memory, self.buffers
        if memory.on_chip_bits:
            buffers["memory"] = BufferSpec(capacity_bits=memory.on_chip_bits, width_bits=memory.bits_per_cycle)
        psum = shell.psum_bits
        op, bits = ("shift", (psum,)) if self.arch.shifts_only else ("op", (psum, MULTIPLIER_BITS))
        parts = (
            *self.arch.list_area(),
            AreaPart(component="vector", op="add", count=shell.vector_lanes, bits=(16,)),
            AreaPart(component="requant", op=op, count=shell.store_lanes, bits=bits),
        )
        return price_area(parts, self.table, buffers, device=self.arch.sram_device).list_items()

    def make_objective(self, name: str, datapath: Datapath) -> Objective:
        """Return what the mapper minimizes, with this accelerator's unit energies."""
        reads = tuple(Action(component=c, verb=v, count=1) for c in STORAGE for v in ("read", "write"))
        if self.dram is not None:
            reads += tuple(Action(component="dram", verb=v, count=1) for v in ("activate", "refresh"))
        unit: dict[tuple[str, str], float] = {}
        static = 0.0
        for term in self._price(reads, 1).terms:
            if term.component in STORAGE:
                unit[term.component, term.verb] = term.unit_pj
            else:
                static += term.unit_pj
        return Objective(
            name=name,
            read_pj=unit["dram", "read"],
            write_pj=unit["dram", "write"],
            activate_pj=unit.get(("dram", "activate"), 0.0),
            refresh_pj=unit.get(("dram", "refresh"), 0.0),
            static_pj_per_cycle=static,
            fixed_pj=self._price_fixed(datapath),
            **{f"{b}_{v}_pj": unit[b, v] for b in BUFFERS for v in ("read", "write")},
        )

    def _price_fixed(self, datapath: Datapath) -> float:
        """Energy that every mapping of the layer costs: the engine's operations, storage left out."""
        whole = Mapping(tile=tuple(getattr(datapath.layer, dim) for dim in "NGKCPQ"), order="MKC")
        fixed = [a for a in datapath.count_actions(whole) if a.component not in STORAGE]
        fixed += count_write_back(datapath, self.arch)
        return sum(
            term.energy_pj
            for term in self._price(tuple(fixed), 0).terms
            if term.component not in ("leakage", "dram_static")
        )

    def _price(self, actions: tuple[Action, ...], cycles: int) -> PricedActions:
        return price_actions(
            actions, self.table, self.buffers, self.dram, cycles, self.arch.clock_hz, device=self.arch.sram_device
        )


def choose_prices(arch: Arch, table_name: str | None) -> Prices:
    """Return the prices of an accelerator: its own table or a named one, scaled to its node where that differs.

    Raises
    ------
    UnknownName
        No such table.
    """
    table = rescale_table(load_table(table_name or arch.energy_table), arch.node_nm)
    memory, dram = arch.memory, None
    if memory.kind == "dram":
        dram = dram_energy(memory.part)
    elif memory.on_chip_bits:
        dram = on_chip_memory(table, memory.on_chip_bits, memory.bits_per_cycle, arch.sram_device)
    return Prices(arch=arch, table=table, dram=dram)
