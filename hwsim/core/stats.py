"""What a layer did (LayerStats) and what it cost (LayerCost). Integers add up; ratios are derived."""

from __future__ import annotations

from dataclasses import dataclass

from hwsim.core.actions import Action, EnergyTerm
from hwsim.core.mapping import Mapping

STALLS = ("fill", "drain", "weights", "inputs", "output_buffer", "memory", "refresh", "issue")
"""Every cycle of a layer is compute or one of these.

``fill``: the engine's pipeline fills. ``drain``: results of the last tile leave the engine. ``weights``, ``inputs``: the engine
waits for a tile of them. ``output_buffer``: it waits for a bank of ``obuf``. ``memory``: it waits for partial sums to come back,
or has nothing left to do while the last stores are written. ``refresh``: part of such waits in which the DRAM refreshes.
``issue``: fixed cost of starting an instruction.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Bits moved at one level for one operand (``W``, ``I``, ``O`` outputs, ``psum``)."""

    level: str
    operand: str
    read_bits: int = 0
    write_bits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerStats:
    """Counts of one layer's run.

    Parameters
    ----------
    cycles : int
        From the first instruction to the end of the last.
    compute_cycles : int
        Cycles in which the engine computes (skew inside a systolic fold included).
    stall_cycles : tuple of (str, int)
        The other cycles, by cause, in the order of ``STALLS``; with ``compute_cycles`` they sum to ``cycles`` exactly.
    macs : int
        Multiply-accumulates of the layer.
    peak_macs_per_cycle : float
        Of the fully used engine at the layer's formats.
    traffic : tuple of Traffic
        Bits per level and operand.
    actions : tuple of Action
        What is priced.
    instructions : int
        Length of the Program.
    peak_buffer_bits : tuple of (str, int)
        Largest tile held by a bank of each buffer.
    """

    cycles: int
    compute_cycles: int
    stall_cycles: tuple[tuple[str, int], ...]
    macs: int
    peak_macs_per_cycle: float
    traffic: tuple[Traffic, ...]
    actions: tuple[Action, ...]
    instructions: int = 0
    peak_buffer_bits: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        total = self.compute_cycles + sum(count for _, count in self.stall_cycles)
        if total != self.cycles:
            raise ValueError(f"{total} cycles accounted for, {self.cycles} run")

    @property
    def utilization(self) -> float:
        """Multiply-accumulates over what the fully used engine could do in the same cycles."""
        peak = self.peak_macs_per_cycle * self.cycles
        return self.macs / peak if peak else 0.0

    @property
    def bound(self) -> str:
        """What bounds the layer: ``compute``, or the largest stall where stalls outweigh compute."""
        stalls = dict(self.stall_cycles)
        if not self.cycles:
            return "none"
        if 2 * self.compute_cycles >= self.cycles:
            return "compute"
        return max(stalls, key=lambda name: (stalls[name], name))

    def moved_bits(self, level: str, direction: str, operand: str = "") -> int:
        """Return the bits read (``read``) or written (``write``) at a level, over all operands where none is named."""
        return sum(
            getattr(t, f"{direction}_bits") for t in self.traffic if t.level == level and operand in ("", t.operand)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """One row of a report.

    Parameters
    ----------
    name, op : str
        The layer.
    w_bits, a_bits, out_bits : int
        Precision of weights (0 where there are none), input activations, outputs.
    weight_bits, act_bits : int
        Storage of its weights; of its input and output activations.
    stats : LayerStats
        Counts.
    energy : tuple of EnergyTerm
        Every term of the energy, with its source.
    mapping : Mapping or None
        Tiling and loop order; None for a layer without cycles.
    notes : tuple of str
        What to know about these figures.
    engine : str
        Which engine ran it, where there are several that work on different frames at a time (`hwsim.core.arch.Arch.engine_of`).
    """

    name: str
    op: str
    w_bits: int
    a_bits: int
    out_bits: int
    weight_bits: int
    act_bits: int
    stats: LayerStats
    energy: tuple[EnergyTerm, ...]
    mapping: Mapping | None = None
    notes: tuple[str, ...] = ()
    engine: str = ""

    @property
    def cycles(self) -> int:
        """Cycles of the layer."""
        return self.stats.cycles

    @property
    def energy_pj(self) -> float:
        """Energy of the layer in pJ, the sum of its terms in order."""
        return sum(term.energy_pj for term in self.energy)

    def energy_by_component(self) -> dict[str, float]:
        """Return pJ by component, in the order of the terms."""
        found: dict[str, float] = {}
        for term in self.energy:
            found[term.component] = found.get(term.component, 0.0) + term.energy_pj
        return found
