"""One layer through mapper, lowering and cycle engine: its counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hwsim.core.actions import Action
from hwsim.core.arch import Arch
from hwsim.core.datapath import Datapath
from hwsim.core.mapping import Mapping
from hwsim.core.program import LOAD_I, LOAD_P, LOAD_W, SPILL, STORE_O, LayerTrace, Program
from hwsim.core.stats import LayerStats, Traffic
from hwsim.engine.lower import lower_table, prepare_lowering
from hwsim.engine.run import Run, time_table

MULTIPLIER_BITS = 31
"""Bits of the requantization multiplier (`hwsim.quant.requant.quantize_multiplier`)."""


def run_layer(datapath: Datapath, arch: Arch, mapping: Mapping) -> tuple[LayerStats, LayerTrace]:
    """Return the counts of a layer under a mapping, and its Program with the time of every instruction."""
    table = lower_table(datapath, mapping, prepare_lowering(datapath, arch))
    run, timeline = time_table(table, arch)
    moved = {op: int(table["bits"][table["op"] == op].sum()) for op in (LOAD_W, LOAD_I, STORE_O, SPILL, LOAD_P)}
    engine = datapath.count_actions(mapping)
    stats = LayerStats(
        cycles=run.cycles,
        compute_cycles=run.compute_cycles,
        stall_cycles=run.stall_cycles,
        macs=datapath.layer.macs,
        peak_macs_per_cycle=datapath.peak_macs_per_cycle(),
        traffic=_list_traffic(moved, engine, datapath, arch),
        actions=(*engine, *_shell_actions(moved, datapath, arch, run)),
        instructions=len(table),
        peak_buffer_bits=_peak_buffers(table, datapath, arch, mapping),
    )
    return stats, LayerTrace(datapath.layer.name, Program(instructions=table.tobytes()), timeline, run.cycles)


def _sum_engine(engine: tuple[Action, ...], component: str, verb: str) -> int:
    return sum(action.count for action in engine if (action.component, action.verb) == (component, verb))


def _list_traffic(
    moved: dict[int, int], engine: tuple[Action, ...], datapath: Datapath, arch: Arch
) -> tuple[Traffic, ...]:
    """Return bits by level and operand: memory, then each buffer, what the engine reads and writes included."""
    written_back = datapath.layer.out_elements * arch.shell.psum_bits
    is_mac = datapath.layer.kind == "mac"
    psum_read, psum_write = _sum_engine(engine, "obuf", "read"), _sum_engine(engine, "obuf", "write")
    return (
        Traffic(level="dram", operand="W", read_bits=moved[LOAD_W]),
        Traffic(level="dram", operand="I", read_bits=moved[LOAD_I]),
        Traffic(level="dram", operand="O", write_bits=moved[STORE_O]),
        Traffic(level="dram", operand="psum", read_bits=moved[LOAD_P], write_bits=moved[SPILL]),
        Traffic(
            level="wbuf",
            operand="W",
            read_bits=_sum_engine(engine, "wbuf", "read"),
            write_bits=moved[LOAD_W] + _sum_engine(engine, "wbuf", "write"),
        ),
        Traffic(
            level="ibuf",
            operand="I",
            read_bits=_sum_engine(engine, "ibuf", "read"),
            write_bits=moved[LOAD_I] + _sum_engine(engine, "ibuf", "write"),
        ),
        Traffic(level="obuf", operand="O", read_bits=written_back, write_bits=0 if is_mac else written_back),
        Traffic(
            level="obuf", operand="psum", read_bits=psum_read + moved[SPILL], write_bits=psum_write + moved[LOAD_P]
        ),
        Traffic(level="sbuf", operand="O", read_bits=moved[STORE_O], write_bits=moved[STORE_O]),
    )


def _shell_actions(moved: dict[int, int], datapath: Datapath, arch: Arch, run: Run) -> tuple[Action, ...]:
    """Return what the shell did: transfers, write-back, requantization."""
    layer, psum = datapath.layer, arch.shell.psum_bits
    written_back = layer.out_elements * psum
    dram_read = run.dram_read_bits or moved[LOAD_W] + moved[LOAD_I] + moved[LOAD_P]
    dram_write = run.dram_write_bits or moved[STORE_O] + moved[SPILL]
    actions = [
        Action(component="dram", verb="read", count=dram_read),
        Action(component="dram", verb="write", count=dram_write),
        Action(component="wbuf", verb="write", count=moved[LOAD_W]),
        Action(component="ibuf", verb="write", count=moved[LOAD_I]),
        Action(component="obuf", verb="read", count=written_back + moved[SPILL]),
        Action(component="obuf", verb="write", count=moved[LOAD_P]),
        Action(component="sbuf", verb="write", count=moved[STORE_O]),
        Action(component="sbuf", verb="read", count=moved[STORE_O]),
        *count_write_back(datapath, arch),
    ]
    if run.activates:
        actions.append(Action(component="dram", verb="activate", count=run.activates))
        actions.append(Action(component="dram", verb="refresh", count=run.refreshes))
    return tuple(action for action in actions if action.count or action.verb == "refresh")


def count_write_back(datapath: Datapath, arch: Arch) -> tuple[Action, ...]:
    """Return what every mapping does to hand the results over: requantization, and the vector unit's writes to ``obuf``."""
    layer, psum = datapath.layer, arch.shell.psum_bits
    requant = Action(component="requant", verb="op", count=layer.out_elements, bits=(psum, MULTIPLIER_BITS))
    if arch.shifts_only:
        requant = Action(component="requant", verb="shift", count=layer.out_elements, bits=(psum,))
    if layer.kind == "mac":
        return (requant,)
    return (Action(component="obuf", verb="write", count=layer.out_elements * psum), requant)


def _peak_buffers(
    table: npt.NDArray[np.void], datapath: Datapath, arch: Arch, mapping: Mapping
) -> tuple[tuple[str, int], ...]:
    """Return the largest tile that a bank of each buffer holds, bits."""
    weights = table["bits"][table["op"] == LOAD_W]
    inputs = table["bits"][table["op"] == LOAD_I].reshape(-1, len(datapath.workload.operand_bits)).sum(axis=1)
    stores = table["bits"][table["op"] == STORE_O]
    slots = datapath.psum_slots(np.array([mapping.tile], np.int64))
    return (
        ("wbuf", int(weights.max(initial=0))),
        ("ibuf", int(inputs.max(initial=0))),
        ("obuf", int(slots[0]) * arch.shell.psum_bits),
        ("sbuf", int(stores.max(initial=0))),
    )
