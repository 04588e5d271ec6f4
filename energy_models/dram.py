"""Energy of the memory behind the accelerator: named parts, the flat figure of an energy table, an SRAM on the same chip.

A part is one TOML file in ``energy_models/dram_parts``; its name is that of the timing in `hwsim.core.dram_parts`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from energy_models.table import EnergyTable
from hwsim.core.errors import UnknownName

PARTS = Path(__file__).parent / "dram_parts"


@dataclass(frozen=True, slots=True, kw_only=True)
class DramEnergy:
    """Energy of one memory.

    Parameters
    ----------
    name : str
    read_pj_per_bit, write_pj_per_bit : float
        Energy of a transferred bit, row activation left out, pJ.
    activate_pj : float
        Activation and precharge of one row, pJ; 0 for flat memory, whose figure per bit has it inside.
    standby_mw, refresh_mw : float or None
        Active standby and mean refresh power of one channel and rank, mW; None when unknown.
    refresh_interval_ns : float
        Mean time between refreshes of one channel and rank, ns; 0 when unknown.
    copies : int
        Channels times ranks.
    source, certainty, note : str
        Where the figures come from; ``verified``, ``derived`` (from supply currents), ``memory`` or ``unverified``; what they
        leave out.
    """

    name: str
    read_pj_per_bit: float
    write_pj_per_bit: float
    activate_pj: float = 0.0
    standby_mw: float | None = None
    refresh_mw: float | None = None
    refresh_interval_ns: float = 0.0
    copies: int = 1
    source: str
    certainty: str
    note: str = ""

    @property
    def refresh_pj(self) -> float | None:
        """Energy of one refresh command: mean power times interval (mW x ns = pJ); None when unknown."""
        if self.refresh_mw is None or not self.refresh_interval_ns:
            return None
        return self.refresh_mw * self.refresh_interval_ns


def list_dram_parts() -> tuple[str, ...]:
    """Return the names of the parts whose energy is known."""
    return tuple(sorted(path.stem for path in PARTS.glob("*.toml")))


@functools.cache
def dram_energy(part_name: str) -> DramEnergy:
    """Return the energy of a named part.

    Raises
    ------
    UnknownName
    """
    import tomllib

    if part_name not in list_dram_parts():
        raise UnknownName("DRAM part", part_name, list_dram_parts())
    return DramEnergy(name=part_name, **tomllib.loads((PARTS / f"{part_name}.toml").read_text(encoding="utf-8")))


def flat_dram(table: EnergyTable) -> DramEnergy:
    """Return the energy of ``flat`` memory: the table's pJ per bit, with activation, standby and refresh inside."""
    return DramEnergy(
        name=f"flat ({table.name})",
        read_pj_per_bit=table.dram.read_pj_per_bit,
        write_pj_per_bit=table.dram.write_pj_per_bit,
        standby_mw=0.0,
        refresh_mw=0.0,
        source=table.dram.source,
        certainty=table.dram.confidence,
        note="row activation, standby and refresh are inside the figure per bit",
    )


def on_chip_memory(table: EnergyTable, capacity_bits: int, width_bits: int, device: str | None = None) -> DramEnergy:
    """Return the energy of a memory on the same chip: one SRAM macro at the table's node, its leakage as standby."""
    from energy_models.sram import sram_cost

    cost = sram_cost(table.node_nm, device or table.device, capacity_bits, width_bits)
    return DramEnergy(
        name=f"on-chip SRAM of {capacity_bits // 8192} KiB",
        read_pj_per_bit=cost.read_pj_per_bit,
        write_pj_per_bit=cost.write_pj_per_bit,
        standby_mw=cost.leak_mw,
        refresh_mw=0.0,
        source=cost.source,
        certainty="verified",
        note=cost.note,
    )
