"""Blocks of an accelerator whose energy can be simulated: their component, what drives it, what an operation of theirs is.

The component is the block as its specification creates it, synthesized by itself. Stimuli come from a network's layers, each in
the tiles of its mapping, or (where one value of a block is like another) from a uniform draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.lib import wiring

from accel_rtl.accelerator import find_engine
from accel_rtl.blocks.mac import Mac
from accel_rtl.blocks.requantize import Requantize
from accel_rtl.blocks.systolic_array import SystolicArray
from accel_rtl.emit import emit_rtlil
from accel_rtl.machine import EngineSpec
from accel_rtl.netlist import Synthesis
from accel_rtl.power.activity import LANES, Simulation
from accel_rtl.power.energy import SLEW_NS, Energy, price_activity
from accel_rtl.power.liberty import Library
from accel_rtl.power.mapped import MappedNetlist, map_to_cells
from accel_rtl.power.stimuli import Elements, Stimulus, drive_array, drive_mac, drive_requantize
from accel_rtl.shell.store import StoreUnit
from accel_rtl.shell.vector import VectorUnit
from accel_rtl.synth import PERIOD_PS
from hwsim.core.arch import Arch
from hwsim.core.errors import HwsimError, SpecError

OPERATIONS = {
    "store.requantize": "element", "store": "element", "vector": "result", "engine.unit.array": "product",
    "engine.unit.array.cell": "product",
}  # fmt: skip
"""Blocks that have a stimulus, and their operation."""
DRAWN = LANES * 256
"""Elements of a uniform draw."""
SUMS, DEPTH = 5, 64
"""Sums, and products of each, of a uniform draw: the first sum does not count."""
IDLE_CYCLES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Energy of a block under one stimulus.

    Parameters
    ----------
    name : str
        The layer, or what was drawn.
    operations, whole : int
        Simulated operations in the counted cycles; of the whole layer.
    cycles : int
        Counted, times streams.
    compared : int
        Results that were held to the block's definition, all equal.
    settled, timed : Energy
        Of a cycle: every net once a cycle at most; with every cell a unit of time behind its inputs.
    reads, writes : float
        Of SRAM macros, an operation.
    """

    name: str
    operations: int
    whole: int
    cycles: int
    compared: int
    settled: Energy
    timed: Energy
    reads: float
    writes: float

    @property
    def cycles_per_operation(self) -> float:
        """Cycles that an operation takes here."""
        return self.cycles / self.operations


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """A block, synthesized.

    Parameters
    ----------
    name : str
    arch : Arch
    engine : EngineSpec
    spec : object
        Its specification.
    synthesis : Synthesis
    netlist : MappedNetlist
    library : Library
    """

    name: str
    arch: Arch
    engine: EngineSpec
    spec: Any
    synthesis: Synthesis
    netlist: MappedNetlist
    library: Library


def map_block(arch: Arch, name: str, liberty: Path) -> Block:
    """Return a block of an accelerator in standard cells.

    Raises
    ------
    SpecError
        A block that has no stimulus.
    InputError
        No library, or one without power tables.
    HwsimError
        The architecture has no RTL; Yosys failed.
    """
    engine = find_engine(arch)
    spec = find_spec(engine, name)
    component: wiring.Component = spec.create()
    synthesis, netlist, library = map_to_cells(emit_rtlil(component), liberty)
    return Block(
        name=name, arch=arch, engine=engine, spec=spec, synthesis=synthesis, netlist=netlist, library=library
    )  # fmt: skip


def find_spec(engine: EngineSpec, name: str) -> Any:
    """Return the specification of a block that has a stimulus."""
    machine, unit = engine.machine, getattr(engine, "engine", None)
    array = getattr(unit, "array", None)
    if name == "store":
        return StoreUnit(machine=machine)
    if name == "store.requantize":
        return StoreUnit(machine=machine).requantize
    if name == "vector" and machine.beat_bits <= 64:
        return VectorUnit(machine, engine.tile_words)
    if isinstance(array, SystolicArray) and array.stationary == "sums":
        if name == "engine.unit.array":
            return array
        if name == "engine.unit.array.cell" or name.startswith("engine.unit.array.cell_"):
            return array.create_cell(0)
    raise SpecError("--block", name, f"a block that has a stimulus: {', '.join(OPERATIONS)} (arrays whose sums stay)")


def find_operation(name: str) -> str:
    """Return what an operation of a block is called."""
    return OPERATIONS.get(name, "product")


def draw_stimulus(block: Block, seed: int) -> Stimulus:
    """Return a uniform draw for a block.

    Accumulators of 20 bits and biases of 16; multipliers of 31 bits with the highest set; shifts that leave 4 to 10 bits more or
    less; operands of 8 bits.

    Raises
    ------
    SpecError
        A block that only a network's layers drive.
    """
    rng, spec, name = np.random.default_rng(seed), block.spec, "uniform"
    if isinstance(spec, Requantize):
        shift = 12 + rng.integers(-3, 4, DRAWN) + (spec.multiplier_bits if spec.mode == "mulshift" else 0)
        elements = Elements(
            acc=rng.integers(-(1 << 19), 1 << 19, DRAWN), bias=rng.integers(-(1 << 15), 1 << 15, DRAWN),
            multiplier=rng.integers(1 << spec.multiplier_bits - 1, 1 << spec.multiplier_bits, DRAWN),
            shift=shift, limits=(0, -(1 << spec.out_bits - 1), (1 << spec.out_bits - 1) - 1),
        )  # fmt: skip
        return drive_requantize(spec, name, elements)
    if isinstance(spec, Mac):
        x, y = (rng.integers(-128, 128, (SUMS, LANES, DEPTH)) for _ in range(2))
        return drive_mac(spec, name, x, y)
    if isinstance(spec, SystolicArray):
        x, y = (rng.integers(-128, 128, (SUMS, LANES, count, DEPTH)) for count in (spec.rows, spec.cols))
        return drive_array(spec, name, x, y)
    raise SpecError("--block", block.name, "--net NAME beside it: only a network's layers drive it")


def measure(
    block: Block, stimulus: Stimulus, *, period_ps: float = PERIOD_PS, slew_ns: float = SLEW_NS, glitches: bool = True
) -> Measured:  # fmt: skip
    """Return a block's energy under a stimulus; HwsimError where the netlist does not give what the block's definition does."""
    simulation = Simulation(block.netlist, stimulus.lanes, glitches)
    simulation.reset()
    compared = stimulus.play(simulation)
    if not compared:
        raise HwsimError(f"{stimulus.name}: no result to compare")
    activity = simulation.report()
    settled, timed = (
        price_activity(
            block.netlist, block.library, activity, period_ps=period_ps, slew_ns=slew_ns, timed=bool(row) and glitches
        )
        for row in range(2)
    )
    return Measured(
        name=stimulus.name, operations=stimulus.operations, whole=stimulus.whole or stimulus.operations, cycles=activity.cycles,
        compared=compared, settled=settled, timed=timed, reads=activity.reads / stimulus.operations,
        writes=activity.writes / stimulus.operations,
    )  # fmt: skip


def measure_idle(block: Block, *, period_ps: float = PERIOD_PS, slew_ns: float = SLEW_NS) -> Energy:
    """Return the energy of a cycle in which nothing changes but the clock, behind a reset."""
    simulation = Simulation(block.netlist, 1, False)
    simulation.reset()
    rows = np.zeros((IDLE_CYCLES, simulation.input_bits), np.uint64)
    simulation.run(rows, counted=False)
    simulation.run(rows)
    return price_activity(block.netlist, block.library, simulation.report(), period_ps=period_ps, slew_ns=slew_ns)


def sum_up(found: Sequence[Measured]) -> Measured:
    """Return the whole of several layers, each as often as its own operations are."""

    def join(which: str) -> Energy:
        parts = [getattr(one, which).scale(one.cycles_per_operation * one.whole) for one in found]
        return sum(parts[1:], parts[0])

    whole = sum(one.whole for one in found)
    cycles = sum(one.cycles_per_operation * one.whole for one in found)
    means = {
        name: sum(getattr(one, name) * one.whole for one in found) / whole for name in ("reads", "writes")
    }  # fmt: skip
    return Measured(
        name="total", operations=whole, whole=whole, cycles=round(cycles), compared=sum(one.compared for one in found),
        settled=join("settled").scale(1 / cycles), timed=join("timed").scale(1 / cycles), **means,
    )  # fmt: skip
